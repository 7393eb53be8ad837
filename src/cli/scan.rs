//! `tokenry scan`: finds tokens in files, offline.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use clap::{Args, ValueEnum};
use serde_json::Value;
use walkdir::WalkDir;
use zeroize::Zeroizing;

use super::{
    Error, client,
    output::{self, MAX_LINE, complain, counted},
    sarif::{self, SarifFinding},
    screen::{Progress, remark, say},
};
use crate::{outside::foreign::written, token::format};

/// The longest part of a line that is read at once, in bytes.
const PART: usize = 1 << 20;
/// The bytes at the end of a part that are searched again with the next part, so that no token is cut.
const OVERLAP: usize = 4096;

/// The byte order marks of UTF-16.
const MARKS: [[u8; 2]; 2] = [[0xff, 0xfe], [0xfe, 0xff]];

/// The id of the only rule of `scan`.
const RULE: &str = "tokenry/token";

#[derive(Args)]
pub(crate) struct Scan {
    /// Files and folders; `-` is standard input; `.git` folders are left out
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Form of the output
    #[arg(long, short, default_value = "text")]
    output: FindingsForm,
}

/// The form of the findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FindingsForm {
    /// One line for each token: FILE:LINE:COLUMN and the public id
    Text,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// A token in a file. Its value is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    line: usize,
    /// The column, in characters from 1.
    column: usize,
    /// The public id. `None`: the token is encoded in base64 twice, or as a part of a longer text.
    id: Option<String>,
}

impl Scan {
    /// Prints the findings. Success means that there are none.
    pub(crate) fn main(self) -> Result<(), Error> {
        let mut found = Vec::new();
        let mut files = ScannedFiles::default();
        let searched = client::block_on(async { self.search(&mut found, &mut files) });
        let ScannedFiles { read, unread } = files;
        unread.iter().for_each(|error| complain(&error.to_string()));
        match self.output {
            FindingsForm::Text => found.iter().for_each(|finding| say(&written(&finding.told(), MAX_LINE))),
            FindingsForm::Sarif => output::object(&log(&found), output::ObjectForm::Json)?,
        }
        searched?;
        let files = counted(read, "file");
        if found.is_empty() {
            return match unread.len() {
                0 => {
                    remark(&format!("no token in {files}"));
                    Ok(())
                }
                unread => Err(Error::Local(format!(
                    "no token in {files}, but {} could not be read, as said above; let your user read all, or give \
                     the paths without them",
                    counted(unread, "other")
                ))),
            };
        }
        let tokens = counted(found.len(), "token");
        remark(&format!("{tokens} in {files}: rotate with --previous 0s, or revoke"));
        let ids: BTreeSet<_> = found.iter().filter_map(|finding| finding.id.as_deref()).collect();
        match Vec::from_iter(ids)[..] {
            [] => {}
            [id] => remark(&lookup(id)),
            _ => remark(&lookup("ID")),
        }
        Err(Error::No)
    }

    /// Searches all paths. After a path that does not exist, `found` and `files` have those before it.
    fn search(&self, found: &mut Vec<Finding>, files: &mut ScannedFiles) -> Result<(), Error> {
        let progress = Progress::of_files("scanning", &self.paths);
        for path in &self.paths {
            match path.as_os_str() == "-" {
                true => files.add(search("standard input", io::stdin().lock(), found), &progress),
                false => walk(path, found, files, &progress)?,
            }
        }
        Ok(())
    }
}

/// The number of files that were searched, and the errors of files and folders that could not be read.
#[derive(Default)]
struct ScannedFiles {
    read: usize,
    unread: Vec<Error>,
}

impl ScannedFiles {
    /// Adds a file. The scan continues after one that cannot be read.
    fn add(&mut self, searched: Result<(), Error>, progress: &Progress) {
        match searched {
            Ok(()) => self.read += 1,
            Err(error) => self.unread.push(error),
        }
        progress.now(&format!("scanning, {} so far", counted(self.read, "file")));
    }
}

impl Finding {
    fn told(&self) -> String {
        let of = self.id.as_ref().map_or_else(|| "a token in base64".to_owned(), |id| format!("a token with id {id}"));
        format!("{}:{}:{}: {of}", self.file, self.line, self.column)
    }
}

/// The advice on a value, by its public id.
fn lookup(id: &str) -> String {
    format!("find its ApiToken by the id: kubectl tokenry list -A --id {id}")
}

/// Searches a file, or all files of a folder.
fn walk(path: &Path, found: &mut Vec<Finding>, files: &mut ScannedFiles, progress: &Progress) -> Result<(), Error> {
    if let Err(error) = path.metadata()
        && error.kind() == io::ErrorKind::NotFound
    {
        return Err(Error::unreadable(path, error));
    }
    let is_kept = |entry: &walkdir::DirEntry| entry.file_name() != ".git";
    for entry in WalkDir::new(path).sort_by_file_name().into_iter().filter_entry(is_kept) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                files.add(Err(Error::local("cannot scan", error)), progress);
                continue;
            }
        };
        // A path that the user names may be a link, or a pipe of the shell.
        if entry.file_type().is_file() || entry.depth() == 0 && !path.is_dir() {
            let name = entry.path().display().to_string();
            let file =
                File::open(entry.path()).map_err(|error| Error::local(format_args!("cannot read {name}"), error));
            files.add(file.and_then(|file| search(&name, BufReader::new(file), found)), progress);
        }
    }
    Ok(())
}

/// Searches text line by line. Bytes that are no text separate tokens.
fn search(file: &str, mut text: impl BufRead, found: &mut Vec<Finding>) -> Result<(), Error> {
    let (mut bytes, mut line, mut before) = (Zeroizing::new(Vec::new()), 1, 0);
    loop {
        let read = text.by_ref().take(PART as u64).read_until(b'\n', &mut bytes);
        let read = read.map_err(|error| Error::local(format_args!("cannot read {file}"), error))?;
        let ends = read == 0 || bytes.ends_with(b"\n");
        // A token that begins behind this place is found with the next part.
        let cut = if ends { bytes.len() } else { bytes.len().saturating_sub(OVERLAP) };
        let (mut places, passed) = places(&bytes, cut);
        places.iter_mut().for_each(|(column, _)| *column += before);
        if bytes.contains(&0) {
            let mut further = in_utf16(&bytes, cut);
            further.retain(|(_, id)| places.iter().all(|(_, other)| other != id));
            // Each character of the text is two of the parts before.
            places.extend(further.into_iter().map(|(column, id)| (before / 2 + column, id)));
        }
        let finding = |(column, id)| Finding { file: file.to_owned(), line, column, id };
        found.extend(places.into_iter().map(finding));
        if read == 0 {
            return Ok(());
        }
        bytes.drain(..cut);
        (line, before) = if ends { (line + 1, 0) } else { (line, before + passed) };
    }
}

/// The tokens that begin before `cut`, each with its column and its public id. The number is that of the characters
/// before `cut`.
fn places(bytes: &[u8], cut: usize) -> (Vec<(usize, Option<String>)>, usize) {
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    let most = Zeroizing::new(String::from_utf8_lossy(&bytes[..cut]).into_owned());
    let limit = if cut == bytes.len() { usize::MAX } else { most.len() };
    let places = format::find(&text).into_iter().filter(|place| place.start < limit);
    let places = places.map(|place| (text[..place.start].chars().count() + 1, public_id(&text[place])));
    (places.collect(), most.chars().count())
}

/// The tokens in UTF-16, as Windows PowerShell writes it with `>`. Each byte of ASCII has a zero beside it there.
fn in_utf16(bytes: &[u8], cut: usize) -> Vec<(usize, Option<String>)> {
    let ascii = |bytes: &[u8]| bytes.iter().copied().filter(|byte| *byte != 0).collect::<Vec<_>>();
    let (all, before) = (Zeroizing::new(ascii(bytes)), Zeroizing::new(ascii(&bytes[..cut])));
    let mark = if MARKS.iter().any(|mark| all.starts_with(mark)) { MARKS[0].len() } else { 0 };
    places(&all[mark..], before.len().saturating_sub(mark)).0
}

/// The public id of the token that a word holds, or encodes in base64, as a Secret does. No word has the padding.
fn public_id(word: &str) -> Option<String> {
    plain_id(word).or_else(|| {
        let decoded = Zeroizing::new(STANDARD_NO_PAD.decode(word).ok()?);
        plain_id(str::from_utf8(&decoded).ok()?)
    })
}

/// The public id of the plain token within a word.
fn plain_id(word: &str) -> Option<String> {
    let starts = word.char_indices().map(|(at, _)| at);
    starts.filter_map(|at| word.get(at..)).find_map(|rest| {
        let ends = rest.match_indices('_').nth(1)?.0 + 1 + format::SECRET + format::CHECKSUM;
        format::id(rest.get(..ends)?).ok().map(str::to_owned)
    })
}

/// The findings as SARIF.
fn log(found: &[Finding]) -> Value {
    let results = found.iter().map(|finding| SarifFinding {
        rule: RULE.into(),
        file: &finding.file,
        line: finding.line as u64,
        column: finding.column as u64,
        message: finding.id.iter().fold(finding.told(), |told, id| format!("{told}; {}", lookup(id))),
    });
    sarif::log(&[(RULE.to_owned(), "A token of Tokenry is in a file".to_owned())].into(), &results.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_token_in_a_very_long_line_is_found_once_wherever_it_begins() {
        let token = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        for begin in [PART - OVERLAP - 1, PART - OVERLAP, PART - 20, PART - 1, PART, 2 * PART - 20] {
            let text = format!("{} {}\n{}", " ".repeat(begin - 1), token.expose(), token.expose());
            let places: Vec<_> = found(&text).iter().map(|finding| (finding.line, finding.column)).collect();
            assert_eq!(places, [(1, begin + 1), (2, 1)], "{begin}");
        }
    }

    fn found(text: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        search("f", text.as_bytes(), &mut found).unwrap();
        found
    }

    #[test]
    fn a_token_is_found_by_its_line_and_column_and_never_repeated() {
        let token = format::assemble("eem", &"i".repeat(16), &"s".repeat(43));
        let encoded = STANDARD.encode(token.expose());
        let twice = STANDARD.encode(&encoded);
        let findings = found(&format!("a: 1\nß TOKEN={} # x\n{encoded}\n{twice}\n", token.expose()));
        let told: Vec<_> = findings.iter().map(Finding::told).collect();
        let id = "a token with id iiiiiiiiiiiiiiii";
        assert_eq!(told, [&format!("f:2:9: {id}"), &format!("f:3:1: {id}"), "f:4:1: a token in base64"]);
        let wrong = token.expose().replace("ss", "st");
        assert_eq!(found(&wrong), [], "a look-alike has another checksum");
        let sarif = log(&findings).to_string();
        assert!(!sarif.contains(token.expose()) && !sarif.contains(&encoded), "{sarif}");
        assert!(sarif.contains(r#""startLine":2"#), "{sarif}");
    }

    #[test]
    fn a_token_in_utf_16_is_found_at_its_place() {
        let token = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        let encoded = STANDARD.encode(token.expose());
        for (mark, order) in [("\u{feff}", u16::to_le_bytes as fn(u16) -> [u8; 2]), ("", u16::to_be_bytes)] {
            let text = format!("{mark}a {}\r\nTOKEN={}\r\n{encoded}\r\n", token.expose(), token.expose());
            let bytes: Vec<u8> = text.encode_utf16().flat_map(order).collect();
            let mut found = Vec::new();
            search("f", &*bytes, &mut found).unwrap();
            let told: Vec<_> = found.iter().map(Finding::told).collect();
            let id = "a token with id iiiiiiiiiiiiiiii";
            assert_eq!(told, ["f:1:3", "f:2:7", "f:3:1"].map(|place| format!("{place}: {id}")));
        }
        let mixed = format!("\0 {}\n", token.expose());
        assert_eq!(found(&mixed).len(), 1, "a zero hides no token, and none is told twice");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_no_file_without_tokens() {
        // A folder opens, and refuses each read.
        let folder = BufReader::new(File::open(".").unwrap());
        let refused = search("f", folder, &mut Vec::new()).unwrap_err();
        assert!(refused.code() == 6 && refused.to_string().starts_with("cannot read f: "), "{refused}");
    }
}
