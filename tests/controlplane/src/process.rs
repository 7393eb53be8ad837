//! Child processes that end with this one, however it ends.
//!
//! A process that is killed runs no destructor, and a `static` is never dropped. So every child
//! gets a *guard*: a shell that waits on a pipe of which only this process holds the other end.
//! The kernel closes that end when this process is gone, and then the guard kills the child.
//! (`PR_SET_PDEATHSIG` would not do: it acts when the *thread* that started the child ends.)

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// Waits for the end of its input, then kills its process group, of which it is the leader: no
/// process id is involved that might by then belong to another process.
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
    /// Starts `command` without input, in a process group of its own. What it prints is appended
    /// to the file `log`; `name` is what messages call it.
    pub fn start(name: &str, command: Command, log: &Path) -> io::Result<Self> {
        Self::start_with_input(name, command, log, Stdio::null())
    }

    /// As [`Process::start`], with `input` as standard input.
    pub(crate) fn start_with_input(name: &str, mut command: Command, log: &Path, input: Stdio) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        command.stdin(input).stdout(output.try_clone()?).stderr(output);
        let mut guard = shell(GUARD).spawn()?;
        // The guard comes first and the child is started into its group, so that there is no
        // moment at which the child runs unguarded.
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

    /// The id of the program itself, for a signal. It is not given to another process while this
    /// value says that the program [is running](Process::is_running), or has not been asked.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// How the program ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What the program has printed so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Kills the program, and what it started in its process group, and waits until it is gone.
    pub fn stop(&mut self) {
        end(&mut self.guard);
        // Only a child that cannot be waited for at all fails here: it is gone.
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A shell that runs `script` with a pipe of ours as input, apart from our process group: Ctrl-C
/// at a terminal is for us, and must not end what cleans up after us.
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

/// Closes the input of a [`shell`] and waits until it has done what it waited for.
fn end(shell: &mut Child) {
    // `wait` closes the input first. An error means that there is nothing left to wait for.
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
