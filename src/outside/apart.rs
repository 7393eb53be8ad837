//! A future in a thread of its own. The kernel schedules that thread even while all other threads are busy, and the
//! other threads do not wait for it.

use std::{io, thread};

use tokio::{runtime, sync::oneshot};
use tokio_util::sync::CancellationToken;

/// Runs `task` in a new thread with this name, and waits for its end. Dropping this future drops `task`, and ends the
/// thread.
///
/// # Errors
/// The thread cannot be started, or `task` panicked.
pub async fn apart<T: Send + 'static>(name: &str, task: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let (stop, (tell, ended)) = (CancellationToken::new(), oneshot::channel());
    let _ends = stop.clone().drop_guard();
    thread::Builder::new().name(name.into()).spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let done = runtime.map(|runtime| runtime.block_on(stop.run_until_cancelled_owned(task)));
        // The send fails if the caller has dropped the future.
        let _ = tell.send(done);
    })?;
    let gone = || io::Error::other(format!("the thread of {name} panicked"));
    ended.await.map_err(|_| gone())??.ok_or_else(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    /// Tells when it is dropped.
    struct Told(Option<oneshot::Sender<String>>);

    impl Drop for Told {
        fn drop(&mut self) {
            let name = thread::current().name().unwrap_or_default().to_owned();
            let _ = self.0.take().unwrap().send(name);
        }
    }

    #[tokio::test]
    async fn it_runs_in_a_thread_of_its_own_and_a_panic_is_an_error() {
        let own = async { thread::current().name().map(str::to_owned) };
        assert_eq!(apart("a name", own).await.unwrap().as_deref(), Some("a name"));
        let error = apart("b", async { panic!("of a test") }).await.map(|(): ()| ()).unwrap_err();
        assert_eq!(error.to_string(), "the thread of b panicked");
    }

    #[tokio::test]
    async fn who_no_longer_waits_ends_it() {
        let (tell, told) = oneshot::channel();
        let held = Told(Some(tell));
        let waiting = tokio::spawn(apart("c", async move {
            let _held = held;
            pending::<()>().await;
        }));
        tokio::task::yield_now().await;
        waiting.abort();
        assert_eq!(told.await.unwrap(), "c");
    }
}
