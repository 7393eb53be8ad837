//! A connection that reads little at a time, and nothing while the other end does not read its answers.
//!
//! So the memory of a connection stays small, whatever the caller sends. Otherwise a caller that reads nothing fills a
//! buffer with requests, and another one with their answers. A connection that sends all the time takes turns with the
//! others.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

/// The number of bytes that are read at a time. The server enlarges its buffer only after larger reads.
const AT_A_TIME: u64 = 4 * 1024;
/// The number of bytes from which a turn reads no more. A library may read all that is there before it looks at the
/// requests in it.
const A_TURN: u64 = 2 * AT_A_TIME;

/// The turns of a connection: each poll of its task is one.
#[derive(Clone, Default)]
pub(super) struct ReadTurns(Arc<AtomicU64>);

impl ReadTurns {
    /// Begins a turn.
    pub(super) fn begin(&self) {
        self.0.store(0, Relaxed);
    }
}

/// A connection that reads little at a time, and nothing while the other end does not read.
pub(super) struct Paced<S> {
    stream: Take<S>,
    turns: ReadTurns,
    /// True if the last write or flush waits for the other end.
    stuck: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Paced<S> {
    /// The task of the connection begins a turn of `turns` at each poll.
    pub(super) fn new(stream: S, turns: ReadTurns) -> Self {
        Self { stream: stream.take(AT_A_TIME), turns, stuck: false }
    }

    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(self.stream.get_mut())
    }

    /// Notes if a write waits. When none waits any more, the task reads again.
    fn noted<T>(&mut self, context: &Context<'_>, written: Poll<T>) -> Poll<T> {
        let was_stuck = std::mem::replace(&mut self.stuck, written.is_pending());
        if was_stuck && !self.stuck {
            context.waker().wake_by_ref();
        }
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stuck {
            return Poll::Pending;
        }
        let read = self.turns.0.load(Relaxed);
        if read >= A_TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.stream.set_limit(AT_A_TIME);
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.turns.0.store(read + AT_A_TIME - self.stream.limit(), Relaxed);
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(cx, bytes);
        self.noted(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(cx, parts);
        self.noted(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream().poll_flush(cx);
        self.noted(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;
    use std::{future::poll_fn, pin::pin};
    use tokio::io::{AsyncWriteExt, duplex};

    #[tokio::test]
    async fn a_read_is_small_and_so_is_a_turn_and_all_is_read_in_the_end() {
        let (mut near, far) = duplex(64 * 1024);
        let turns = ReadTurns::default();
        let mut paced = Paced::new(far, turns.clone());
        near.write_all(&[7; 10_000]).await.unwrap();
        drop(near);
        let mut buffer = [0; 64 * 1024];
        let mut sizes = Vec::new();
        loop {
            let read = poll!(pin!(paced.read(&mut buffer)));
            let Poll::Ready(read) = read else {
                sizes.push(0);
                turns.begin();
                continue;
            };
            match read.unwrap() {
                0 => break,
                size => sizes.push(size),
            }
        }
        assert_eq!(sizes, [4096, 4096, 0, 10_000 - 2 * 4096]);
    }

    #[tokio::test]
    async fn a_connection_that_sends_all_the_time_takes_turns_with_others() {
        let (near, far) = duplex(64 * 1024);
        let turns = ReadTurns::default();
        let (mut near, mut paced) = (near, Paced::new(far, turns.clone()));
        let mut buffer = [0; 64 * 1024];
        let mut reading = pin!(async { while paced.read(&mut buffer).await.unwrap() > 0 {} });
        let mut of_a_turn = pin!(poll_fn(|cx| {
            turns.begin();
            reading.as_mut().poll(cx)
        }));
        near.write_all(&[7; 64 * 1024]).await.unwrap();
        assert!(poll!(&mut of_a_turn).is_pending());
        let taken = near.write(&[7; 64 * 1024]).await.unwrap();
        assert_eq!(taken as u64, A_TURN, "the first turn made this much room");
        drop(near);
        of_a_turn.await;
    }

    #[tokio::test]
    async fn nothing_is_read_while_the_other_end_does_not_read_and_all_of_it_afterwards() {
        let (mut near, far) = duplex(16);
        near.write_all(b"question").await.unwrap();
        let (mut from, mut to) = tokio::io::split(Paced::new(far, ReadTurns::default()));
        let (mut asked, mut answer) = ([0; 8], [0; 20]);
        let mut writing = pin!(to.write_all(&[7; 20]));
        assert!(poll!(&mut writing).is_pending());
        {
            let mut reading = pin!(from.read_exact(&mut asked));
            assert!(poll!(&mut reading).is_pending(), "the other end has not read the answer");
            let (read, written, heard) = tokio::join!(near.read_exact(&mut answer), writing, reading);
            assert!(read.is_ok() && written.is_ok() && heard.is_ok());
        }
        assert_eq!((&asked, answer), (b"question", [7; 20]));
    }
}
