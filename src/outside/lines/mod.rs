//! A bounded queue of lines, and its one writer. A line costs its copy: the writer writes many lines at once, and
//! nobody waits for it unless the queue is full.
//!
//! ```text
//! push ──▶ queue ──▶ write ──▶ Sink: standard output, OTLP
//! full: false,       one task: gathers, writes,
//! or wait            tries again, ends when closed and empty
//! ```

mod otlp;
mod text;

use std::{
    fmt,
    io::{self, Write},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use otlp::Otlp;
use text::TextSink;

/// Maximum size of the waiting lines, in bytes. Lines whose writers left have as much room beyond it. A line has about
/// 500 bytes.
const MOST: usize = 4 * 1024 * 1024;
/// Size of the waiting lines from which the writer waits for no more lines, in bytes. It is that of a pipe. More lines
/// would also displace the index from the caches of the processors.
const ENOUGH: usize = 64 * 1024;
/// How long the writer waits for more lines, so that it writes many at once.
const GATHER: Duration = Duration::from_millis(20);
/// Delay after a failed write.
const AGAIN: Duration = Duration::from_secs(1);
/// How long lines may still be written after the queue was closed.
const GRACE: Duration = Duration::from_secs(5);

/// A bounded queue of lines. Each line ends in a line feed.
pub struct LineQueue {
    queue: Mutex<WaitingLines>,
    most: usize,
    /// Wakes the writer: the queue has a first line.
    begun: Notify,
    /// Wakes the writer while it gathers lines: there are enough, or the queue is half full.
    pressing: Notify,
    /// Wakes all that wait for room.
    room: Notify,
    /// Wakes all when the queue is closed.
    closed: CancellationToken,
}

/// The lines that wait, one after the other.
#[derive(Default)]
struct WaitingLines {
    bytes: Vec<u8>,
    count: u64,
    /// The number of lines that the writer has taken and not written yet.
    taken: u64,
    /// True once no further line may enter.
    is_closed: bool,
}

impl Default for LineQueue {
    fn default() -> Self {
        Self::holding(MOST)
    }
}

impl LineQueue {
    /// An empty queue for lines of at most this size together, in bytes, and as much for those whose writers left.
    pub(crate) fn holding(most: usize) -> Self {
        let [begun, pressing, room] = [0; 3].map(|_| Notify::new());
        Self { queue: Mutex::default(), most, begun, pressing, room, closed: CancellationToken::new() }
    }

    /// Queues a line. False if there is no room, or if the queue is closed: the line is then lost.
    pub fn push(&self, line: &[u8]) -> bool {
        self.push_within(line, self.most)
    }

    /// The same for the line of a caller that left, so it cannot wait. Such lines have as much room again.
    pub fn push_beyond(&self, line: &[u8]) -> bool {
        self.push_within(line, self.most * 2)
    }

    /// Queues a line if all lines together then have at most `most` bytes.
    fn push_within(&self, line: &[u8], most: usize) -> bool {
        let mut queue = self.queue();
        let (before, enough) = (queue.bytes.len(), ENOUGH.min(self.most / 2));
        let after = before + line.len();
        if queue.is_closed || after > most {
            return false;
        }
        queue.bytes.extend_from_slice(line);
        queue.count += 1;
        drop(queue);
        if before == 0 {
            self.begun.notify_one();
        }
        if before <= enough && after > enough {
            self.pressing.notify_one();
        }
        true
    }

    /// Queues a line, and waits for room if there is none. False if the queue is closed: the line is then lost.
    pub async fn push_patiently(&self, line: &[u8]) -> bool {
        loop {
            let mut room = pin!(self.room.notified());
            // Listens before it looks, so that no room is missed.
            room.as_mut().enable();
            if self.push(line) {
                return true;
            }
            tokio::select! {
                () = room => {}
                () = self.closed.cancelled() => return false,
            }
        }
    }

    /// A value that closes the queue when it is dropped. The writer then writes the waiting lines and ends.
    pub fn closing(self: &Arc<Self>) -> Closing {
        Closing(self.clone())
    }

    /// Writes lines to `sink` until the queue is closed and empty, but at most for five seconds after it was closed. A
    /// failed write is repeated every second. `lost` gets each number of lost lines. The sink refused these for good,
    /// or they were not written in the end.
    pub async fn write(&self, mut sink: Sink, lost: impl Fn(u64)) {
        let mut writing = pin!(async {
            let mut bytes = Vec::new();
            while self.take(&mut bytes).await {
                self.put(&mut sink, &mut bytes, &lost).await;
            }
        });
        tokio::select! {
            () = &mut writing => return,
            () = self.closed.cancelled() => {}
        }
        if timeout(GRACE, writing).await.is_ok() {
            return;
        }
        let rest = {
            let queue = self.queue();
            queue.count + queue.taken
        };
        tracing::warn!(lost = rest, "the audit log could not be written to its end");
        lost(rest);
    }

    /// Waits for lines, and swaps them for the empty `bytes`. False if the queue is closed and empty.
    async fn take(&self, bytes: &mut Vec<u8>) -> bool {
        while self.queue().bytes.is_empty() {
            tokio::select! {
                () = self.begun.notified() => {}
                // A line that came before the end is still there.
                () = self.closed.cancelled() => break,
            }
        }
        tokio::select! {
            () = sleep(GATHER) => {}
            () = self.pressing.notified() => {}
            () = self.closed.cancelled() => {}
        }
        let mut queue = self.queue();
        std::mem::swap(&mut queue.bytes, bytes);
        queue.taken = std::mem::take(&mut queue.count);
        drop(queue);
        self.room.notify_waiters();
        !bytes.is_empty()
    }

    /// Writes all of `bytes`, however often that fails.
    async fn put(&self, sink: &mut Sink, bytes: &mut Vec<u8>, lost: &impl Fn(u64)) {
        let mut is_told = false;
        while !bytes.is_empty() {
            let written = sink.put(bytes).await;
            self.queue().taken = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            match written {
                Ok(refused) => lost(refused),
                Err(error) => {
                    if !is_told {
                        tracing::warn!(%error, "cannot write the audit log, trying again");
                    }
                    is_told = true;
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// The waiting lines.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.queue().bytes.clone()).unwrap()
    }

    fn queue(&self) -> MutexGuard<'_, WaitingLines> {
        self.queue.lock().expect("nobody panics here")
    }
}

/// Closes a queue when it is dropped.
pub struct Closing(Arc<LineQueue>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.queue().is_closed = true;
        self.0.closed.cancel();
    }
}

/// The place to which lines are written.
pub struct Sink(SinkKind);

enum SinkKind {
    Text(TextSink),
    Otlp(Box<Otlp>),
}

impl Sink {
    /// Standard output.
    ///
    /// # Errors
    /// The thread that writes cannot be started.
    pub fn stdout() -> io::Result<Self> {
        Self::text(Box::new(io::stdout()))
    }

    /// Any writer. A write may block.
    ///
    /// # Errors
    /// The thread that writes cannot be started.
    pub fn text(to: Box<dyn Write + Send>) -> io::Result<Self> {
        TextSink::new(to).map(|text| Self(SinkKind::Text(text)))
    }

    /// The collector that the standard variables `OTEL_EXPORTER_OTLP_*` name, by OTLP over gRPC. `endpoint` replaces
    /// the one of `OTEL_EXPORTER_OTLP_ENDPOINT`. Each line has to be a JSON object.
    ///
    /// # Errors
    /// A variable is not valid.
    pub fn otlp(endpoint: Option<&str>) -> Result<Self, String> {
        Otlp::new(endpoint).map(|otlp| Self(SinkKind::Otlp(Box::new(otlp))))
    }

    /// Writes some of `bytes`, and removes them. Returns the number of lines that are lost among them. After an error,
    /// `bytes` are those that were not written.
    async fn put(&mut self, bytes: &mut Vec<u8>) -> io::Result<u64> {
        match &mut self.0 {
            SinkKind::Text(text) => text.put(bytes).await.map(|()| 0),
            SinkKind::Otlp(otlp) => otlp.put(bytes).await,
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            SinkKind::Text(_) => "Sink(text)",
            SinkKind::Otlp(_) => "Sink(OTLP)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    };

    /// Gives each write to the test, and waits for the result that the test gives back.
    struct Held(mpsc::Sender<Vec<u8>>, mpsc::Receiver<io::Result<usize>>);

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.1.recv().map_err(io::Error::other)?
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue with a writer, and the test's end of its sink.
    fn held(most: usize) -> (Arc<LineQueue>, tokio::task::JoinHandle<u64>, End) {
        let lines = Arc::new(LineQueue::holding(most));
        let ((told, writes), (results, wanted)) = (mpsc::channel(), mpsc::channel());
        let sink = Sink::text(Box::new(Held(told, wanted))).unwrap();
        let writer = lines.clone();
        let write = async move {
            let lost = AtomicU64::default();
            writer.write(sink, |lines| _ = lost.fetch_add(lines, Ordering::Relaxed)).await;
            lost.into_inner()
        };
        (lines, tokio::spawn(write), End(writes, results))
    }

    struct End(mpsc::Receiver<Vec<u8>>, mpsc::Sender<io::Result<usize>>);

    impl End {
        /// The text of the next write.
        fn next(&self) -> String {
            let wait = Duration::from_secs(60);
            String::from_utf8(self.0.recv_timeout(wait).expect("nothing is written")).unwrap()
        }

        fn answer(&self, result: io::Result<usize>) {
            self.1.send(result).unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_lines_are_written_at_once_and_all_of_them_before_the_end() {
        let (lines, writer, end) = held(1000);
        let closing = lines.closing();
        for line in ["a\n", "b\n", "c\n"] {
            assert!(lines.push(line.as_bytes()));
        }
        assert_eq!(end.next(), "a\nb\nc\n");
        assert!(lines.push(b"d\n"));
        end.answer(Ok(2));
        assert_eq!(end.next(), "b\nc\n", "the rest of a write in part");
        end.answer(Ok(4));
        drop(closing);
        assert_eq!(end.next(), "d\n");
        end.answer(Ok(2));
        assert_eq!(writer.await.unwrap(), 0);
        assert!(!lines.push(b"late\n") && !lines.push_patiently(b"late\n").await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_queue_takes_no_line_and_one_that_waits_enters_when_there_is_room() {
        let (lines, _writer, end) = held(8);
        assert!(lines.push(b"12345\n"));
        assert_eq!(end.next(), "12345\n", "more than half is written at once");
        assert!(lines.push(b"abcdef\n"));
        assert!(!lines.push(b"x\n"));
        let waiting = tokio::spawn({
            let lines = lines.clone();
            async move { lines.push_patiently(b"patient\n").await }
        });
        while !waiting.is_finished() && !lines.push(b"") {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished(), "the queue is full");
        end.answer(Ok(6));
        assert_eq!(end.next(), "abcdef\n");
        assert!(waiting.await.unwrap(), "the lines were taken, which makes room");
        end.answer(Ok(7));
        assert_eq!(end.next(), "patient\n");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_failed_write_is_repeated_and_loses_nothing() {
        let (lines, writer, end) = held(100);
        let closing = lines.closing();
        assert!(lines.push(b"ab\n"));
        assert_eq!(end.next(), "ab\n");
        end.answer(Ok(1));
        assert_eq!(end.next(), "b\n");
        end.answer(Err(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(end.next(), "b\n");
        drop(closing);
        end.answer(Ok(2));
        assert_eq!(writer.await.unwrap(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lines_that_cannot_be_written_do_not_delay_the_end_beyond_the_grace_and_are_counted() {
        let (lines, writer, end) = held(100);
        assert!(lines.push(b"a\n"));
        assert_eq!(end.next(), "a\n");
        assert!(lines.push(b"b\n") && lines.push(b"c\n"));
        drop(lines.closing());
        assert_eq!(writer.await.unwrap(), 3, "the one that hangs in its write, and two that wait");
    }
}
