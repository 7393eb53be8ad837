//! Users at a command line: they run the program with their rights.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use super::judged::{EVERYBODY, User};

/// A command that ended.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl User<'_> {
    /// Runs a command as the user, without a terminal.
    pub async fn tokenry(&self, args: &[&str]) -> Done {
        self.tokenry_reading("", args).await
    }

    /// Runs a command as the user, without a terminal and with this text on standard input.
    pub async fn tokenry_reading(&self, input: &str, args: &[&str]) -> Done {
        let (command, input) = (self.command(args), input.to_owned());
        tokio::task::spawn_blocking(move || run(command, &input)).await.unwrap()
    }

    /// The command with these arguments, in the namespace of the user.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_in(self.home(), args)
    }

    /// The command with these arguments, in a namespace.
    pub fn command_in(&self, namespace: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args(args).args(["--namespace", namespace, "--as", &self.name]);
        let groups = self.groups.iter().map(String::as_str).chain([EVERYBODY]);
        groups.for_each(|group| _ = command.args(["--as-group", group]));
        command.env("KUBECONFIG", self.judged.world.plane.kubeconfig()).env_remove("NO_COLOR");
        command
    }
}

/// Runs a command to its end.
pub fn run(mut command: Command, input: &str) -> Done {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A command that reads nothing may have ended already.
    _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

impl Done {
    /// The output of a command that succeeded.
    pub fn well(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.out
    }

    /// The error output of a command that ended with this code, and printed nothing.
    pub fn failed(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.out.is_empty(), "{self:?}");
        &self.err
    }
}
