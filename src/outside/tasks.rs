//! Tasks that are all joined. A process with a dead task would look healthy and do nothing, so it has to end.

use std::io;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Pulse;

type Set = JoinSet<io::Result<&'static str>>;

/// The tasks of one process. Dropping this value aborts them.
pub struct Tasks {
    stop: CancellationToken,
    pulse: Pulse,
    finishing: Set,
    endless: Set,
    /// Cancelled once all finishing tasks have finished.
    finished: CancellationToken,
    last: Set,
}

impl Tasks {
    /// An empty set. Cancelling `stop` tells the tasks to finish.
    pub fn new(stop: CancellationToken) -> Self {
        let [finishing, endless, last] = [Set::new(), Set::new(), Set::new()];
        Self { stop, pulse: Pulse::default(), finishing, endless, finished: CancellationToken::new(), last }
    }

    /// True while all of them run.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Starts a task that finishes by itself once `stop` is cancelled.
    pub fn finishing(&mut self, name: &'static str, task: impl Future<Output = io::Result<()>> + Send + 'static) {
        let pulse = self.pulse();
        self.finishing.spawn(async move { pulse.of(name, task).await.map(|()| name) });
    }

    /// Starts a task that never ends. It is aborted once all finishing tasks have finished.
    pub fn endless(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let pulse = self.pulse();
        self.endless.spawn(async move {
            pulse.of(name, task).await;
            Ok(name)
        });
    }

    /// Starts a task that runs for longer than all finishing tasks. It finishes by itself once the token that it gets
    /// is cancelled.
    pub fn last<T>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> T)
    where
        T: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (pulse, task) = (self.pulse(), task(self.finished.clone()));
        self.last.spawn(async move { pulse.of(name, task).await.map(|()| name) });
    }

    /// Waits until every finishing task has finished, then for the end of all others.
    ///
    /// # Errors
    /// A task ended or panicked before its time.
    pub async fn join(mut self) -> io::Result<()> {
        loop {
            tokio::select! {
                Some(ended) = self.endless.join_next() => return Err(early(ended)),
                Some(ended) = self.last.join_next() => return Err(early(ended)),
                ended = self.finishing.join_next() => match ended {
                    None => break,
                    Some(Ok(Ok(_))) if self.stop.is_cancelled() => {}
                    Some(ended) => return Err(early(ended)),
                },
            }
        }
        self.endless.shutdown().await;
        self.finished.cancel();
        while let Some(ended) = self.last.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

fn early(ended: Result<io::Result<&'static str>, JoinError>) -> io::Error {
    match ended {
        Ok(Ok(name)) => io::Error::other(format!("{name} ended unexpectedly")),
        Ok(Err(error)) => error,
        Err(panic) => io::Error::other(panic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::pending,
        sync::{Arc, Mutex},
    };

    #[tokio::test]
    async fn all_finish_once_told_to() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        let told = stop.clone();
        tasks.finishing("a", async move {
            told.cancelled().await;
            Ok(())
        });
        tasks.endless("b", pending());
        stop.cancel();
        assert!(tasks.join().await.is_ok());
    }

    #[tokio::test]
    async fn the_last_task_ends_after_all_others() {
        let (stop, ended) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = Tasks::new(stop.clone());
        let (told, noted, held, at_the_end) = (stop.clone(), ended.clone(), Noted(ended.clone()), ended.clone());
        tasks.finishing("a", async move {
            told.cancelled().await;
            noted.lock().unwrap().push("finishing");
            Ok(())
        });
        tasks.endless("b", async move {
            let _held = held;
            pending().await
        });
        tasks.last("c", |finished| async move {
            finished.cancelled().await;
            at_the_end.lock().unwrap().push("last");
            Ok(())
        });
        stop.cancel();
        tasks.join().await.unwrap();
        assert_eq!(*ended.lock().unwrap(), ["finishing", "endless", "last"]);
    }

    /// Notes its drop.
    struct Noted(Arc<Mutex<Vec<&'static str>>>);

    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.lock().unwrap().push("endless");
        }
    }

    #[tokio::test]
    async fn a_last_task_that_ends_early_or_fails_ends_them_all() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.finishing("a", pending());
        tasks.last("c", |_| async { Err(io::Error::other("lost")) });
        assert_eq!(tasks.join().await.unwrap_err().to_string(), "lost");
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.last("c", |finished| async move {
            finished.cancelled().await;
            Err(io::Error::other("lost at the end"))
        });
        assert_eq!(tasks.join().await.unwrap_err().to_string(), "lost at the end");
    }

    #[tokio::test]
    async fn the_first_to_end_early_ends_them_all() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.finishing("a", pending());
        tasks.endless("b", async {});
        assert_eq!(tasks.join().await.unwrap_err().to_string(), "b ended unexpectedly");
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.finishing("a", async { panic!("of a test") });
        assert!(tasks.join().await.is_err());
    }
}
