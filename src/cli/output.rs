//! The output of commands: printed text and written files.

use std::{
    fmt::Display,
    fs,
    io::{self, Write},
    path::Path,
    process,
};

use clap::ValueEnum;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use serde_saphyr::DoubleQuoted;

use super::{
    Error,
    denial::in_a_line,
    screen::{remark, usage},
};
use crate::outside::foreign::{is_obeyed, written};

/// Maximum length of a printed line, in bytes.
pub(crate) const MAX_LINE: usize = 4096;

/// Prints a line that may contain text of other users. Control characters are escaped.
pub(crate) fn line(text: &str) {
    put(&format!("{}\n", written(text, MAX_LINE)));
}

/// Writes text to standard output. The process ends if nobody reads it any more, as in `tokenry list | head -1`.
pub(crate) fn put(text: &str) {
    let mut out = io::stdout().lock();
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    let failed = Error::unprinted(error);
    failed.told().iter().for_each(|told| complain(told));
    process::exit(failed.code().into());
}

/// Prints an error to standard error.
pub fn complain(text: &str) {
    remark(&format!("tokenry: {text}"));
}

/// Ends the process after an error of the command line, or after the help that a user asks for.
pub(crate) fn refuse(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    usage(error);
    process::exit(error.exit_code())
}

/// A number of things, in words.
pub(crate) fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Prints objects as documents of YAML.
pub(crate) fn print(objects: &[impl Serialize]) -> Result<(), Error> {
    put(&documents(objects)?);
    Ok(())
}

/// The form of a printed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObjectForm {
    /// YAML
    Yaml,
    /// JSON
    Json,
}

/// Prints one object.
pub(crate) fn object(object: &impl Serialize, form: ObjectForm) -> Result<(), Error> {
    match form {
        ObjectForm::Yaml => put(&yaml(object)?),
        ObjectForm::Json => put(&format!("{}\n", pretty(object)?)),
    }
    Ok(())
}

/// Prints objects as a JSON list of kind `List`, as kubectl does.
pub(crate) fn json(objects: &[impl Serialize]) -> Result<(), Error> {
    put(&format!("{}\n", pretty(&json!({"apiVersion": "v1", "kind": "List", "items": objects}))?));
    Ok(())
}

/// An object as JSON. Its texts may be those of other users, so the characters that a terminal obeys are escaped.
fn pretty(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Error::local("cannot serialize an object as JSON", error))?;
    let escape = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
    Ok(escaped(text, escape))
}

/// True if a terminal obeys a character that JSON and YAML leave as it is.
fn is_left(c: char) -> bool {
    c >= ' ' && is_obeyed(c)
}

fn escaped(text: String, escape: impl Fn(char) -> String) -> String {
    if !text.contains(is_left) {
        return text;
    }
    text.chars().map(|c| if is_left(c) { escape(c) } else { c.to_string() }).collect()
}

/// Makes a directory, and those above it, unless it exists.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir)
        .map_err(|error| Error::local(format_args!("cannot make {}", in_a_line(dir.display())), error))
}

/// Writes objects as documents of YAML into a file.
pub(crate) fn write(file: &Path, objects: &[impl Serialize]) -> Result<(), Error> {
    fs::write(file, documents(objects)?).map_err(|error| Error::unwritten(file, error))
}

/// Writes one object as YAML into a file.
pub(crate) fn write_one(file: &Path, object: &impl Serialize) -> Result<(), Error> {
    fs::write(file, yaml(object)?).map_err(|error| Error::unwritten(file, error))
}

fn documents(objects: &[impl Serialize]) -> Result<String, Error> {
    objects.iter().map(|object| yaml(object).map(|text| format!("---\n{text}"))).collect()
}

/// An object as YAML, escaped as its JSON is.
fn yaml(object: &impl Serialize) -> Result<String, Error> {
    let odd = |error: &dyn Display| Error::local("cannot serialize an object as YAML", error);
    let text = serde_saphyr::to_string(object).map_err(|error| odd(&error))?;
    if !text.contains(is_left) {
        return Ok(text);
    }
    let value = serde_json::to_value(object).map_err(|error| odd(&error))?;
    let text = serde_saphyr::to_string(&EscapableYaml(&value)).map_err(|error| odd(&error))?;
    Ok(escaped(text, |c| format!("\\U{:08x}", u32::from(c))))
}

/// A value of YAML whose texts can be escaped: YAML knows escapes within double quotes only.
struct EscapableYaml<'a>(&'a Value);

impl Serialize for EscapableYaml<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) if text.contains(is_left) => DoubleQuoted(text).serialize(serializer),
            Value::Array(all) => serializer.collect_seq(all.iter().map(EscapableYaml)),
            // No name of a field or of an annotation has such a character.
            Value::Object(all) => serializer.collect_map(all.iter().map(|(name, value)| (name, EscapableYaml(value)))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => self.0.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_escape_the_characters_that_a_terminal_obeys_and_say_the_same_text() {
        let text = "a\u{9b}2J\u{202e}b\u{7f}\u{e0041}\u{2028}\nü";
        for text in [text, "\u{202e}", "'\u{200b}' # \"\\u200b\"", "one\ntwo\u{2066}\n", "\u{9b}"] {
            let object = json!({"text": text, "all": [text, {"text": text}, 1, null, "plain"]});
            let (json, yaml) = (pretty(&object).unwrap(), yaml(&object).unwrap());
            assert!(!json.contains(is_left) && !yaml.contains(is_left), "{json:?} {yaml:?}");
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), object);
            assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), object, "{yaml}");
        }
        assert_eq!(pretty(&text).unwrap(), r#""a\u009b2J\u202eb\u007f\udb40\udc41\u2028\nü""#);
        assert_eq!(yaml(&text).unwrap(), "\"a\\x9B2J\\U0000202eb\\x7F\\U000e0041\\L\\nü\"\n");
    }

    #[test]
    fn objects_are_documents_and_a_file_that_cannot_be_written_is_named() {
        assert_eq!(documents(&[json!({"a": 1}), json!({"b": 2})]).unwrap(), "---\na: 1\n---\nb: 2\n");
        let told = write_one(Path::new("/nowhere/a.yaml"), &json!({})).unwrap_err().to_string();
        assert!(told.starts_with("cannot write /nowhere/a.yaml: "), "{told}");
    }
}
