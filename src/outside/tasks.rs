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
}

impl Tasks {
    /// An empty set. Cancelling `stop` tells the tasks to finish.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, pulse: Pulse::default(), finishing: Set::new(), endless: Set::new() }
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

    /// Waits until every finishing task has finished.
    ///
    /// # Errors
    /// A task ended or panicked before `stop` was cancelled.
    pub async fn join(mut self) -> io::Result<()> {
        loop {
            tokio::select! {
                Some(ended) = self.endless.join_next() => return Err(early(ended)),
                ended = self.finishing.join_next() => match ended {
                    None => return Ok(()),
                    Some(Ok(Ok(_))) if self.stop.is_cancelled() => {}
                    Some(ended) => return Err(early(ended)),
                },
            }
        }
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
    use std::future::pending;

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
