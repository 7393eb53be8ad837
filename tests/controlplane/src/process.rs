//! Child processes that end when this process ends, even if it is killed.
//!
//! A killed process runs no destructor, and a `static` is never dropped. So every child gets a *guard*: a shell that
//! waits on a pipe. Only this process holds the other end of the pipe. The kernel closes that end when this process is
//! gone, and then the guard kills the child. (`PR_SET_PDEATHSIG` is no alternative: it acts when the *thread* that
//! started the child ends.)

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// A shell script that waits for the end of its input and then kills its own process group. So it needs no process id
/// that could belong to another process by then.
const GUARD: &str = "read -r line; kill -s KILL 0";

/// A running program that ends when this value is dropped or when this process ends, even by
/// `SIGKILL`. Its output goes to a log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    guard: Child,
}

impl Process {
    /// Starts `command` without input, in a new process group. Its output is appended to the file `log`. Messages call
    /// the program `name`.
    pub fn start(name: &str, command: Command, log: &Path) -> io::Result<Self> {
        Self::start_with_input(name, command, log, Stdio::null())
    }

    /// Like [`Process::start`], with `input` as standard input.
    pub(crate) fn start_with_input(name: &str, mut command: Command, log: &Path, input: Stdio) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        command.stdin(input).stdout(output.try_clone()?).stderr(output);
        let mut guard = shell(GUARD).spawn()?;
        // The guard is started first, and the child is started in the guard's process group. So the child never runs
        // unguarded.
        let child = match command.process_group(guard.id().cast_signed()).spawn() {
            Ok(child) => child,
            Err(error) => {
                end(&mut guard);
                return Err(error);
            }
        };
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child, guard })
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id of the program, for signals. The id cannot be reused until [`Process::is_running`] or
    /// [`Process::exit_status`] has reported the end.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True until the program has ended.
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// The exit status. `None` while the program runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The output of the program so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Kills the program and all processes in its process group, and waits for the program's end.
    pub fn stop(&mut self) {
        end(&mut self.guard);
        // An error means that the child is already gone.
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A shell that runs `script` with a pipe as input, in a new process group. So Ctrl-C at a terminal does not end the
/// shell, which cleans up after this process.
pub(crate) fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script, "sh"])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Closes the input of a [`shell`] and waits for the shell's end.
fn end(shell: &mut Child) {
    // `wait` closes the input first. An error means that the shell has already ended.
    let _ = shell.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_a_program_ended_and_what_it_printed() {
        let log = std::env::temp_dir().join(format!("process-{}.log", std::process::id()));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut process = Process::start("failing", command, &log).unwrap();
        while process.is_running() {
            std::thread::yield_now();
        }
        assert_eq!(process.exit_status().unwrap().code(), Some(3));
        assert_eq!(process.log(), "out\nerr\n");
        std::fs::remove_file(log).unwrap();
    }
}
