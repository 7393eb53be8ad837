//! Lines to a file or a pipe, such as standard output.

use std::{
    io::{self, Write},
    sync::mpsc::{self, Sender},
    thread,
};

use tokio::sync::oneshot;

/// Bytes to write, and the sender of the rest: the bytes that were not written, with the error.
type Order = (Vec<u8>, oneshot::Sender<(Vec<u8>, io::Result<()>)>);

/// A writer in a thread of its own. A write may block for ever, for example in a pipe that nobody reads. Then the
/// thread hangs, but no task does, and the process can end.
pub(super) struct TextSink(Sender<Order>);

impl TextSink {
    /// A thread that writes to `to`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn new(mut to: Box<dyn Write + Send>) -> io::Result<Self> {
        let (send, orders) = mpsc::channel::<Order>();
        thread::Builder::new().name("audit".into()).spawn(move || {
            for (mut bytes, answer) in orders {
                let done = put(&mut *to, &mut bytes);
                // The send fails if the task no longer waits.
                let _ = answer.send((bytes, done));
            }
        })?;
        Ok(Self(send))
    }

    /// Writes `bytes`. After an error, `bytes` are those that were not written.
    pub(super) async fn put(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let (answer, done) = oneshot::channel();
        let gone = || io::Error::other("the thread of the audit log panicked");
        self.0.send((std::mem::take(bytes), answer)).map_err(|_| gone())?;
        let (rest, done) = done.await.map_err(|_| gone())?;
        *bytes = rest;
        done
    }
}

/// Writes and removes `bytes`, as far as possible.
fn put(to: &mut dyn Write, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut written = 0;
    let done = loop {
        match to.write(&bytes[written..]) {
            Ok(0) if written < bytes.len() => break Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
        if written == bytes.len() {
            break to.flush();
        }
    };
    bytes.drain(..written);
    done
}
