//! Temporary directories that are removed when the last process that uses them has ended.

use std::{
    fs::DirBuilder,
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Error, process::shell};

/// A shell script that waits for the end of its input and then removes the directory.
const JANITOR: &str = r#"read -r line; rm -rf -- "$1""#;

/// A new directory that only this user may read. It is removed when this value and every process with its
/// [`hold`](Directory::hold) are gone.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    hold: Option<OwnedFd>,
    janitor: Child,
}

impl Directory {
    pub(crate) fn create() -> Result<Self, Error> {
        let path = create_fresh()?;
        let failed = |source| Error::io("start a shell to remove", &path, source);
        let mut janitor = shell(JANITOR).arg(&path).spawn().map_err(failed)?;
        let hold = janitor.stdin.take().map(OwnedFd::from);
        Ok(Self { path, hold, janitor })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The standard input for a process that writes to the directory. The directory is removed only after this process
    /// has ended, so the process cannot create it again.
    pub(crate) fn hold(&self) -> io::Result<Stdio> {
        match &self.hold {
            Some(hold) => Ok(hold.try_clone()?.into()),
            None => Ok(Stdio::null()),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.hold = None;
        // An error means that the janitor has already ended.
        let _ = self.janitor.wait();
    }
}

fn create_fresh() -> Result<PathBuf, Error> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tokenry-controlplane-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::io("create the directory", &path, source)),
        }
    }
}
