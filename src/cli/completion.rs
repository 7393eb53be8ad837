//! `tokenry completion`, and the answers to shells that complete a command line.

use std::{env, ffi::OsString, io, iter, path::Path, process};

use clap::Args;
use clap_complete::{CompleteEnv, CompletionCandidate, Shell, engine::complete, env::Shells};

use super::{Error, command, output::put};

/// The variable by which a script asks this program. Its value is the name of the shell.
const ASKED: &str = "TOKENRY_COMPLETE";
/// The name of the program, for scripts.
const PROGRAM: &str = "tokenry";
/// The name under which kubectl asks for the words of its plugin.
const BY_KUBECTL: &str = "kubectl_complete-tokenry";
/// The last line for kubectl: these are all words, and no file is one (cobra's `ShellCompDirectiveNoFileComp`).
const NO_FILES: &str = ":4";

/// The way to load the script in each shell.
const LOADING: &str = "\
Load the script in each new shell:
  echo 'source <(tokenry completion bash)' >> ~/.bashrc
  echo 'source <(tokenry completion zsh)' >> ~/.zshrc
  tokenry completion fish > ~/.config/fish/completions/tokenry.fish
  echo 'eval (tokenry completion elvish | slurp)' >> ~/.config/elvish/rc.elv
  tokenry completion powershell >> $PROFILE

In ~/.zshrc, the line has its place below that with compinit.

The script completes the command tokenry. kubectl completes `kubectl tokenry` itself, once it finds this program \
under the name kubectl_complete-tokenry in a folder of the PATH:
  ln -s \"$(command -v kubectl-tokenry)\" ~/.local/bin/kubectl_complete-tokenry";

/// Options of `completion`. Names of tokens and of other objects come from the cluster.
#[derive(Args)]
#[command(after_help = LOADING)]
pub(crate) struct Completion {
    /// Shell of the script
    shell: Shell,
}

impl Completion {
    pub(crate) fn main(self) -> Result<(), Error> {
        let (shells, mut script) = (Shells::builtins(), Vec::new());
        let unknown = || Error::Usage(format!("no script for {}", self.shell));
        let shell = shells.completer(&self.shell.to_string()).ok_or_else(unknown)?;
        let written = shell.write_registration(ASKED, PROGRAM, PROGRAM, PROGRAM, &mut script);
        written.map_err(|error| Error::local("cannot write the script", error))?;
        put(&String::from_utf8_lossy(&script));
        Ok(())
    }
}

/// Answers a shell or kubectl that completes a command line. The process ends then.
pub(crate) fn answer() {
    CompleteEnv::with_factory(command).var(ASKED).bin(PROGRAM).completer(PROGRAM).complete();
    let mut words = env::args_os();
    if words.next().is_some_and(|name| is_called(&name, BY_KUBECTL)) {
        let candidates = candidates(words.collect()).unwrap_or_default();
        candidates.iter().for_each(|candidate| put(&for_kubectl(candidate)));
        put(&format!("{NO_FILES}\n"));
        process::exit(0);
    }
}

/// True if the program was called by this name.
pub(crate) fn is_called(path: &OsString, name: &str) -> bool {
    Path::new(path).file_stem().is_some_and(|stem| stem == name)
}

/// The words that can replace the last of these words.
fn candidates(words: Vec<OsString>) -> io::Result<Vec<CompletionCandidate>> {
    let words: Vec<_> = iter::once(PROGRAM.into()).chain(words).collect();
    let last = words.len() - 1;
    complete(&mut command(), words, last, env::current_dir().ok().as_deref())
}

/// A word and its description, as kubectl reads them.
fn for_kubectl(candidate: &CompletionCandidate) -> String {
    let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.lines().next().map_or_else(String::new, |line| format!("\t{line}"));
    format!("{}{help}\n", candidate.get_value().to_string_lossy())
}
