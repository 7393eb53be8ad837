//! Commands that run to their end: kubectl and helm.

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use crate::{Error, program};

/// Runs helm without a cluster, as for `helm template`. Returns its output, or else its error. With a cluster, use
/// [`Cluster::helm`].
pub fn helm(args: &[&str]) -> Result<String, String> {
    // The developer's own files and cluster must not change the result.
    let (home, kubeconfig) = (Path::new("/nonexistent"), Path::new("/dev/null"));
    let mut helm = client("helm", home, kubeconfig).map_err(|error| error.to_string())?;
    run(helm.args(args), "")
}

/// The kubeconfig of a cluster, for client programs.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Cluster {
    /// The cluster of the current context of `kubeconfig`. `home` is a folder for the programs' caches.
    pub fn new(kubeconfig: impl Into<PathBuf>, home: impl Into<PathBuf>) -> Self {
        Self { kubeconfig: kubeconfig.into(), home: home.into() }
    }

    /// Runs kubectl. Returns its output, or else its error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        self.kubectl_with_input(args, "")
    }

    /// Runs kubectl with `input` as standard input, as for `apply -f -`.
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String, String> {
        self.run("kubectl", args, input)
    }

    /// Runs helm. Returns its output, or else its error.
    pub fn helm(&self, args: &[&str]) -> Result<String, String> {
        self.run("helm", args, "")
    }

    /// Runs Helm 3. Returns its output, or else its error.
    pub fn helm3(&self, args: &[&str]) -> Result<String, String> {
        self.run("helm3", args, "")
    }

    fn run(&self, name: &str, args: &[&str], input: &str) -> Result<String, String> {
        let mut command = client(name, &self.home, &self.kubeconfig).map_err(|error| error.to_string())?;
        run(command.args(args), input)
    }
}

/// A client program for the cluster of `kubeconfig`. From the environment it gets only `PATH`, so that nothing else
/// changes its behavior. `home` is the folder of its caches.
fn client(name: &str, home: &Path, kubeconfig: &Path) -> Result<Command, Error> {
    let mut command = Command::new(program(name)?);
    command
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", home)
        .env("KUBECONFIG", kubeconfig);
    Ok(command)
}

/// Runs the command with `input` as standard input. Returns its output, or else its error.
fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // A separate thread writes the input, so that neither side waits for the other when both pipes are full. A
        // program need not read its input, so an error here is no failure.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    })
    .map_err(|error| format!("cannot read from {:?}: {error}", command.get_program()))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
