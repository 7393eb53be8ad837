//! The client of the cluster, and the runtime of the commands.
#![allow(clippy::disallowed_types, reason = "a client comes in here and goes to the rooms that use it")]

use std::{thread::available_parallelism, time::Duration};

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::outside::connect::{self, Login};

/// Minimum number of threads that run tasks. On a machine with fewer processors, the kernel still shares the time among
/// these threads. So a long computation does not stop other tasks and timers.
pub(crate) const THREADS: usize = 4;

/// A client of the cluster that kubectl would use.
pub(crate) async fn client() -> Result<Client, Error> {
    Ok(connect::client().await?)
}

/// A client of the cluster and the user that `login` names.
pub(crate) async fn client_as(login: &Login) -> Result<Client, Error> {
    Ok(connect::client_as(login).await?)
}

/// Runs a program until it ends, on a thread for each processor, and at least on `threads`. A stop signal of this
/// process cancels the token that the program gets.
pub(crate) fn run<T>(
    threads: usize,
    program: impl AsyncFnOnce(CancellationToken) -> Result<T, Error>,
) -> Result<T, Error> {
    let unheard = |error| Error::local("cannot listen for signals", error);
    block_on_threads(threads, async { connect::until_stopped(program).await.map_err(unheard)? })
}

/// Runs a future until it ends, on a new multi-threaded runtime.
pub(crate) fn block_on<T>(run: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    block_on_threads(THREADS, run)
}

fn block_on_threads<T>(threads: usize, run: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let threads = available_parallelism().map_or(threads, |processors| processors.get().max(threads));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.map_err(|error| Error::local("cannot start", error))?;
    let ended = runtime.block_on(run);
    // A look-up of a name may take minutes where DNS is away. Nothing waits for it.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}
