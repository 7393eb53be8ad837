use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

/// Why a program or a control plane is not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is none of those that [`program`](crate::program) lists.
    #[error("no program is called {name:?} here: see controlplane::program for those there are")]
    UnknownProgram {
        /// What was asked for.
        name: String,
    },
    /// The programs would have to be built, and there is no Go.
    #[error(
        "cannot build {programs}: there is no `go` on the PATH. Either install Go 1.26 or newer, \
         or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, \
         kube-controller-manager and kubectl, such as setup-envtest makes (helm and caddy are \
         taken from there too if they are in it)"
    )]
    NoGo {
        /// What would be built.
        programs: String,
    },
    /// Go failed to build the programs; it has said why on standard error.
    #[error(
        "go could not build the tools of {} ({status}): see its messages above. The first build \
         downloads modules, and needs Go 1.26 or newer and 3 GB of memory",
        module.display()
    )]
    Build {
        /// The module file.
        module: PathBuf,
        /// How go ended.
        status: ExitStatus,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificates of the control plane: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A server ended while it was waited for.
    #[error("{name} ended by itself ({status}) at the start. The end of its log:\n{log}")]
    Ended {
        /// The server.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The servers run, but do not answer as they should in time.
    #[error(
        "{path} was not answered with success within {} s (last: {last}). Either the machine is \
         overloaded, or {name} has trouble; the end of its log:\n{log}",
        deadline.as_secs()
    )]
    NotReady {
        /// What the API server was asked for.
        path: &'static str,
        /// How long.
        deadline: Duration,
        /// What the last answer was.
        last: String,
        /// The server that was started last.
        name: String,
        /// The last lines of its log.
        log: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
