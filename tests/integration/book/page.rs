//! A page, taken apart: its prose, and its blocks of YAML and of commands.

use super::Page;

/// A block in a fence.
pub struct Block {
    /// Its language.
    pub language: String,
    pub text: String,
}

/// A command of a block `console`, and the lines that it prints. No lines: the page does not show them.
pub struct Command {
    pub text: String,
    pub shown: Vec<String>,
}

impl Page {
    /// The blocks, in their order.
    pub fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut open) = (Vec::<Block>::new(), false);
        for line in self.text.lines() {
            match line.trim_start().strip_prefix("```") {
                Some(_) if open => open = false,
                Some(language) => {
                    open = true;
                    blocks.push(Block { language: language.to_owned(), text: String::new() });
                }
                None if open => {
                    let text = &mut blocks.last_mut().unwrap().text;
                    text.push_str(line);
                    text.push('\n');
                }
                None => {}
            }
        }
        assert!(!open, "{}: a fence is not closed", self.path);
        blocks
    }

    /// The lines outside of fences.
    pub fn prose(&self) -> Vec<&str> {
        let mut open = false;
        let mut lines = Vec::new();
        for line in self.text.lines() {
            if line.trim_start().starts_with("```") {
                open = !open;
                lines.push("");
            } else if !open {
                lines.push(line);
            }
        }
        lines
    }
}

impl Block {
    /// The commands of a block `console`.
    pub fn commands(&self) -> Vec<Command> {
        let mut commands = Vec::<Command>::new();
        for line in self.text.lines() {
            let goes_on = commands.last().is_some_and(|last| last.shown.is_empty() && is_open(&last.text));
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(text), _) => commands.push(Command { text: text.to_owned(), shown: Vec::new() }),
                (None, Some(last)) if goes_on => last.text = format!("{}\n{line}", last.text),
                (None, Some(last)) => last.shown.push(line.to_owned()),
                (None, None) => panic!("a block begins with output: {line}"),
            }
        }
        commands
    }

    /// The file that a block is saved as: its first line names it in a comment.
    pub fn file(&self) -> Option<&str> {
        self.text
            .lines()
            .next()?
            .strip_prefix("# ")
            .filter(|name| *name == "Caddyfile" || name.ends_with(".yaml") && !name.contains(' '))
    }
}

/// True for a command that continues in the next line.
fn is_open(command: &str) -> bool {
    command.ends_with('\\') || command.ends_with("&&")
}
