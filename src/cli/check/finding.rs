//! The results of checks, and their forms of output.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{
    cli::{
        Error,
        output::{self, ObjectForm, put},
        screen::{self, Health},
    },
    outside::Why,
};

/// The part of an installation that a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckedPart {
    /// The API server.
    Cluster,
    /// The things that an installation needs, before it is there.
    Installation,
    /// The CustomResourceDefinitions.
    Definitions,
    /// The admission policies.
    Admission,
    /// The permissions of operator, verifier and user.
    Rights,
    /// The operator.
    Operator,
    /// The verifiers.
    Verifiers,
}

impl CheckedPart {
    #[cfg(test)]
    const ALL: [Self; 7] = [
        Self::Cluster,
        Self::Installation,
        Self::Definitions,
        Self::Admission,
        Self::Rights,
        Self::Operator,
        Self::Verifiers,
    ];

    /// The name of the part, which is also that of its section in the documentation.
    const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Installation => "installation",
            Self::Definitions => "definitions",
            Self::Admission => "admission",
            Self::Rights => "rights",
            Self::Operator => "operator",
            Self::Verifiers => "verifiers",
        }
    }

    /// The command that shows the documentation of the part.
    fn link(self) -> String {
        format!("kubectl tokenry docs check#{}", self.name())
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CheckResult {
    part: CheckedPart,
    /// The state that the check wants, as a sentence.
    wanted: String,
    /// The health of that state.
    pub(super) health: Health,
    /// The things that are wrong. Empty if all is well.
    wrong: Vec<String>,
    /// The next step. `None` if all is well.
    hint: Option<Hint>,
}

/// The next step after a check that is not fine.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hint {
    /// A step for this check.
    Step(String),
    /// The user lacks the right to make the check. The output for people says this step once.
    Administrator,
}

impl Hint {
    fn text(&self) -> &str {
        match self {
            Self::Step(step) => step,
            Self::Administrator => ADMINISTRATOR,
        }
    }
}

/// The results of the checks of one part.
pub(super) struct Results {
    part: CheckedPart,
    all: Vec<CheckResult>,
}

impl Results {
    /// No results yet.
    pub(super) fn of(part: CheckedPart) -> Self {
        Self { part, all: Vec::new() }
    }

    /// Adds a check. It is fine if nothing is wrong, and has the health `otherwise` if something is.
    pub(super) fn add(&mut self, wanted: impl Into<String>, wrong: Vec<String>, (otherwise, hint): (Health, &str)) {
        let is_fine = wrong.is_empty();
        let health = if is_fine { Health::Fine } else { otherwise };
        let hint = (!is_fine).then(|| Hint::Step(hint.to_owned()));
        self.all.push(CheckResult { part: self.part, wanted: wanted.into(), health, wrong, hint });
    }

    /// Adds a check that could not be made, because a request of the user failed. `right` is the permission that the
    /// request needs, such as `list pods in namespace tokenry-system`.
    pub(super) fn unseen(&mut self, wanted: impl Into<String>, why: &Why, right: &str) {
        let again = || Hint::Step("run the check again".to_owned());
        let hint = Some(if matches!(why, Why::Forbidden(_)) { Hint::Administrator } else { again() });
        let (wrong, health) = (vec![format!("not checked: {}", unseen(why, right))], Health::Warning);
        self.all.push(CheckResult { part: self.part, wanted: wanted.into(), health, wrong, hint });
    }

    /// The results.
    pub(super) fn done(self) -> Vec<CheckResult> {
        self.all
    }
}

/// The next step after checks that could not be made for want of a right.
const ADMINISTRATOR: &str = "`kubectl tokenry docs check#rights-of-a-user-that-checks` names the right for each check; or \
    let an administrator run this check";

/// The failure of a request that needs the permission `right`.
pub(crate) fn unseen(why: &Why, right: &str) -> String {
    match why {
        Why::Forbidden(_) => format!("you may not {right}"),
        Why::Stale | Why::Invalid(_) | Why::Unauthenticated(_) | Why::Gone | Why::Unavailable(_) => why.to_string(),
    }
}

/// The most things that are shown of those that are wrong with one check.
const SHOWN: usize = 3;

/// The form of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ResultsForm {
    /// All checks by their parts
    Table,
    /// All checks as JSON
    Json,
    /// Only checks that are not fine
    Short,
}

/// The worst health of all results.
pub(super) fn worst(results: &[CheckResult]) -> Health {
    results.iter().map(|result| result.health).max().unwrap_or(Health::Fine)
}

/// Prints the results. `command` makes the same checks. Success means that no check failed.
pub(super) fn print(results: &[CheckResult], form: ResultsForm, command: &str) -> Result<(), Error> {
    match form {
        ResultsForm::Json => output::object(&json(results), ObjectForm::Json)?,
        ResultsForm::Table => table(results),
        ResultsForm::Short => results.iter().filter(|result| result.health != Health::Fine).for_each(one),
    }
    if form != ResultsForm::Json && results.iter().any(|result| result.hint == Some(Hint::Administrator)) {
        screen::say(&format!("{ADMINISTRATOR}:\n  {command}"));
    }
    if worst(results) == Health::Failed { Err(Error::No) } else { Ok(()) }
}

fn json(results: &[CheckResult]) -> Value {
    let shown = |CheckResult { part, wanted, health, wrong, hint }: &CheckResult| {
        let mut shown = json!({"part": part.name(), "check": wanted, "health": health});
        if *health != Health::Fine {
            shown["wrong"] = json!(wrong);
            shown["hint"] = json!(hint.as_ref().map(Hint::text));
            shown["see"] = json!(part.link());
        }
        shown
    };
    json!({"health": worst(results), "checks": results.iter().map(shown).collect::<Vec<_>>()})
}

fn table(results: &[CheckResult]) {
    let mut last = None;
    for result in results {
        if last.replace(result.part) != Some(result.part) {
            let name = result.part.name();
            put(&format!("{}\n{}\n", screen::bold(name), "-".repeat(name.len())));
        }
        one(result);
        let is_end = results.iter().rfind(|other| other.part == result.part) == Some(result);
        if is_end {
            put("\n");
        }
    }
    let count = |health| results.iter().filter(|result| result.health == health).count();
    let (failed, warnings) = (count(Health::Failed), count(Health::Warning));
    let told = match (failed, warnings) {
        (0, 0) => "all is well".to_owned(),
        (0, warnings) => format!("nothing failed; warnings: {warnings}"),
        (failed, warnings) => format!("failed: {failed}; warnings: {warnings}"),
    };
    put(&format!("{}\n", screen::mark(worst(results), &told)));
}

/// Prints one result, and below it the things that are wrong.
fn one(CheckResult { part, wanted, health, wrong, hint }: &CheckResult) {
    put(&format!("{}\n", screen::mark(*health, wanted)));
    if *health != Health::Fine {
        let see = format!("see: {}", part.link());
        let (shown, rest) = wrong.split_at(wrong.len().min(SHOWN));
        let rest = (!rest.is_empty()).then(|| format!("and {} more, which --output json lists", rest.len()));
        let step = hint.iter().filter(|hint| **hint != Hint::Administrator).map(Hint::text);
        let below = shown.iter().chain(&rest).map(String::as_str).chain(step).chain([&*see]);
        below.for_each(|text| put(&format!("{}\n", screen::indented(text))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Vec<CheckResult> {
        let mut results = Results::of(CheckedPart::Operator);
        results.add("it runs", Vec::new(), (Health::Failed, "start it"));
        results.unseen("it is ready", &Why::Forbidden("m".into()), "get pods/proxy");
        results.done()
    }

    #[test]
    fn a_check_that_could_not_be_made_is_a_warning_that_names_the_missing_right() {
        let results = results();
        assert_eq!(worst(&results), Health::Warning);
        let told = json(&results);
        assert_eq!(told["checks"][0], json!({"part": "operator", "check": "it runs", "health": "fine"}));
        assert_eq!(told["checks"][1]["wrong"], json!(["not checked: you may not get pods/proxy"]));
        assert_eq!(told["checks"][1]["see"], "kubectl tokenry docs check#operator");
        assert!(print(&results, ResultsForm::Short, "").is_ok(), "a warning is no failure");
    }

    #[test]
    fn each_part_has_a_section_in_the_documentation() {
        let page = include_str!("../../../docs/how-to/check.md");
        for part in CheckedPart::ALL {
            assert!(page.lines().any(|line| line.to_lowercase() == format!("## {}", part.name())), "{part:?}");
        }
    }
}
