//! The findings of `lint`, and their forms.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{
    LintForm,
    source::Source,
    tree::{Position, Unparsed},
};
use crate::{
    cli::{
        Error,
        output::{self, MAX_LINE, counted},
        sarif::{self, SarifFinding},
        screen::{remark, say},
    },
    crd::Fault,
    outside::foreign::written,
};

/// The reason of a file that is neither YAML nor JSON. It is no [`Reason`](crate::crd::Reason), as no object has it.
const UNPARSED: &str = "Unparsed";
/// The longest text of a finding, in bytes.
const MAX_TEXT: usize = 4096;

/// Everything that `lint` found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) faults: Vec<LintFinding>,
    /// The checks that need a cluster.
    pub(super) notes: Vec<LintFinding>,
    /// The number of objects of our kinds.
    pub(super) checked: usize,
    /// The number of other objects.
    pub(super) ignored: usize,
}

/// A fault or a note, with its place.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LintFinding {
    pub(super) file: String,
    #[serde(flatten)]
    position: Position,
    /// The object, such as `ApiToken events/ci`. Empty for a file that cannot be parsed.
    object: String,
    /// The path of the field.
    path: String,
    pub(super) reason: String,
    pub(super) message: String,
}

impl LintFinding {
    fn of(file: &str, position: Position, object: &str, fault: &Fault) -> Self {
        let safe = |text: &str| written(text, MAX_TEXT).into_owned();
        Self {
            file: file.to_owned(),
            position,
            object: safe(object),
            path: safe(&fault.path),
            reason: fault.reason.to_string(),
            message: safe(&fault.message),
        }
    }

    /// The finding without its place.
    fn said(&self) -> String {
        let Self { object, path, reason, message, .. } = self;
        if object.is_empty() {
            format!("{message} [{reason}]")
        } else {
            format!("{object}: {path}: {message} [{reason}]")
        }
    }

    /// The line of a finding, as compilers write it.
    fn line(&self, severity: &str) -> String {
        let Position { line, column } = self.position;
        format!("{}:{line}:{column}: {severity}: {}", self.file, self.said())
    }

    /// Place, reason and path.
    #[cfg(test)]
    pub(super) fn brief(&self) -> String {
        format!("{}:{} {} {}", self.position.line, self.position.column, self.reason, self.path)
    }
}

impl Report {
    /// Adds a fault of an object.
    pub(super) fn add_fault(&mut self, file: &str, position: Position, object: &str, fault: &Fault) {
        self.faults.push(LintFinding::of(file, position, object, fault));
    }

    /// Adds a check that needs a cluster.
    pub(super) fn add_note(&mut self, file: &str, position: Position, object: &str, fault: &Fault) {
        self.notes.push(LintFinding::of(file, position, object, fault));
    }

    /// Adds a file that cannot be parsed.
    pub(super) fn add_unparsed(&mut self, file: &str, unparsed: &Unparsed) {
        self.faults.push(LintFinding {
            file: file.to_owned(),
            position: unparsed.position,
            object: String::new(),
            path: String::new(),
            reason: UNPARSED.to_owned(),
            message: written(&unparsed.message, MAX_TEXT).into_owned(),
        });
    }

    /// Sorts all findings by place, and the files as they were given.
    pub(super) fn sort(&mut self, sources: &[Source]) {
        let order: BTreeMap<_, _> = sources.iter().enumerate().map(|(index, source)| (&*source.name, index)).collect();
        let place = |finding: &LintFinding| (order.get(&*finding.file).copied(), finding.position);
        self.faults.sort_by_key(place);
        self.notes.sort_by_key(place);
    }

    /// Prints the faults. Notes and the summary go to standard error.
    pub(super) fn print(&self, form: LintForm) -> Result<(), Error> {
        match form {
            LintForm::Text => self.faults.iter().for_each(|fault| say(&written(&fault.line("error"), MAX_LINE))),
            LintForm::Json => output::object(self, output::ObjectForm::Json)?,
            LintForm::Sarif => output::object(&self.log(), output::ObjectForm::Json)?,
        }
        self.noted().iter().for_each(|line| remark(line));
        remark(&self.summary());
        Ok(())
    }

    /// The lines of the notes. Notes that say the same of several objects are one line.
    fn noted(&self) -> Vec<String> {
        let mut places = BTreeMap::<_, Vec<&LintFinding>>::new();
        for note in &self.notes {
            places.entry((&note.path, &note.message)).or_default().push(note);
        }
        let line = |notes: &Vec<&LintFinding>| match &notes[..] {
            [note] => note.line("note"),
            [note, others @ ..] => format!("{}; and {} more", note.line("note"), others.len()),
            [] => String::new(),
        };
        places.values().map(line).collect()
    }

    fn summary(&self) -> String {
        let count = |number, one| if number == 0 { format!("no {one}") } else { counted(number, one) };
        let ignored = match self.ignored {
            0 => String::new(),
            _ => format!("; {} of other kinds ignored", count(self.ignored, "object")),
        };
        format!("{} in {}{ignored}", count(self.faults.len(), "fault"), count(self.checked, "object"))
    }

    /// The faults as SARIF.
    fn log(&self) -> Value {
        let id = |reason: &str| format!("tokenry/{reason}");
        let about = |reason: &str| match reason {
            UNPARSED => "A file is neither YAML nor JSON".to_owned(),
            _ => format!("A manifest has a fault with the reason {reason}"),
        };
        let rules = self.faults.iter().map(|fault| (id(&fault.reason), about(&fault.reason))).collect();
        let results = self.faults.iter().map(|fault| SarifFinding {
            rule: id(&fault.reason),
            file: &fault.file,
            line: fault.position.line,
            column: fault.position.column,
            message: fault.said(),
        });
        sarif::log(&rules, &results.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report { checked: 2, ignored: 1, ..Report::default() };
        let position = Position { line: 3, column: 5 };
        report.add_fault("a.yaml", position, "ApiToken events/ci", &Fault::invalid("spec.role", "x\u{1b}[31m"));
        report.add_unparsed("b.yaml", &Unparsed { position, message: "unclosed quote".into() });
        report
    }

    #[test]
    fn a_line_is_as_compilers_write_it() {
        let lines: Vec<_> = report().faults.iter().map(|fault| fault.line("error")).collect();
        assert_eq!(
            lines,
            [
                "a.yaml:3:5: error: ApiToken events/ci: spec.role: x\\u{1b}[31m [Invalid]",
                "b.yaml:3:5: error: unclosed quote [Unparsed]"
            ]
        );
        assert_eq!(report().summary(), "2 faults in 2 objects; 1 object of other kinds ignored");
        assert_eq!(Report::default().summary(), "no fault in no object");
    }

    #[test]
    fn notes_that_say_the_same_are_one_line() {
        let (mut report, fault) = (Report::default(), Fault::invalid("spec.a", "m"));
        for line in 1..=3 {
            report.add_note("f", Position { line, column: 1 }, "ApiToken a/b", &fault);
        }
        assert_eq!(report.noted(), ["f:1:1: note: ApiToken a/b: spec.a: m [Invalid]; and 2 more"]);
    }

    #[test]
    fn json_and_sarif_have_the_same_places() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!((&json["faults"][0]["line"], &json["faults"][0]["column"]), (&3.into(), &5.into()));
        let log = report().log();
        let run = &log["runs"][0];
        assert_eq!(run["results"][0]["ruleId"], "tokenry/Invalid");
        assert_eq!(run["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"], 3);
        assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), 2);
    }
}
