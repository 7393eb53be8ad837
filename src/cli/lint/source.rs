//! The texts that `lint` reads: files, folders and standard input.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use walkdir::{DirEntry, WalkDir};

use super::tree::{Position, Unparsed};
use crate::cli::{Error, denial::in_a_line};

/// The longest file that is read, in bytes.
const LONGEST: u64 = 32 << 20;
/// The ends of the names of files that are read in a folder, as kubectl has them.
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];
/// The name of standard input.
const STDIN: &str = "<stdin>";

/// A text with its name.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: Result<String, Unparsed>,
}

/// Reads a file, the files of a folder, or standard input for `-`.
///
/// # Errors
/// A file cannot be read or is too long, or a folder has no file that is read.
pub(super) fn read(path: &Path, recursive: bool, sources: &mut Vec<Source>) -> Result<(), Error> {
    if path.as_os_str() == "-" {
        return whole(STDIN, io::stdin().lock()).map(|source| sources.push(source));
    }
    if !path.is_dir() {
        return file(path).map(|source| sources.push(source));
    }
    let (before, depth) = (sources.len(), if recursive { usize::MAX } else { 1 });
    let is_kept = |entry: &DirEntry| entry.file_name() != ".git";
    for entry in WalkDir::new(path).max_depth(depth).sort_by_file_name().into_iter().filter_entry(is_kept) {
        let entry = entry.map_err(|error| Error::local("cannot lint", error))?;
        let ending = entry.path().extension().and_then(|ending| ending.to_str());
        // A link too, as all files of a mounted ConfigMap are.
        if entry.path().is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            sources.push(file(entry.path())?);
        }
    }
    if sources.len() > before {
        return Ok(());
    }
    let advice = if recursive { "" } else { "; give --recursive to look into its folders" };
    Err(Error::Usage(format!("{} has no file with the ending .json, .yaml or .yml{advice}", in_a_line(path.display()))))
}

fn file(path: &Path) -> Result<Source, Error> {
    let file = File::open(path).map_err(|error| Error::unreadable(path, error))?;
    whole(&path.display().to_string(), file)
}

/// Reads a text to its end.
fn whole(name: &str, reader: impl Read) -> Result<Source, Error> {
    let mut bytes = Vec::new();
    let read = reader.take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::local(format_args!("cannot read {}", in_a_line(name)), error))?;
    if bytes.len() as u64 > LONGEST {
        return Err(Error::Local(format!("{} is longer than {} MiB; split it", in_a_line(name), LONGEST >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let last = before.rsplit('\n').next().unwrap_or_default();
        let (line, column) = (before.matches('\n').count() + 1, last.chars().count() + 1);
        let position = Position { line: line as u64, column: column as u64 };
        Unparsed { position, message: "is not UTF-8; save the file in that encoding".into() }
    });
    Ok(Source { name: name.to_owned(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_told_with_its_place() {
        let source = whole("f", &b"a: b\nc\xc3\xa9: \xff"[..]).unwrap();
        let unparsed = source.text.unwrap_err();
        assert_eq!(unparsed.position, Position { line: 2, column: 5 });
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let told = whole("f", io::repeat(b'a')).unwrap_err().to_string();
        assert_eq!(told, "f is longer than 32 MiB; split it");
    }
}
