//! The output of commands: printed text and written files.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process,
};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use super::{
    Error,
    screen::{remark, usage},
};
use crate::outside::foreign::written;

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

fn pretty(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string_pretty(value).map_err(|error| Error::local("cannot serialize an object as JSON", error))
}

/// Makes a directory, and those above it, unless it exists.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|error| Error::local(format_args!("cannot make {}", dir.display()), error))
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

fn yaml(object: &impl Serialize) -> Result<String, Error> {
    serde_saphyr::to_string(object).map_err(|error| Error::local("cannot serialize an object as YAML", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_documents_and_a_file_that_cannot_be_written_is_named() {
        assert_eq!(documents(&[json!({"a": 1}), json!({"b": 2})]).unwrap(), "---\na: 1\n---\nb: 2\n");
        let told = write_one(Path::new("/nowhere/a.yaml"), &json!({})).unwrap_err().to_string();
        assert!(told.starts_with("cannot write /nowhere/a.yaml: "), "{told}");
    }
}
