//! `tokenry lint`: the faults of manifests, without a cluster.

mod object;
mod report;
mod source;
mod tree;

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use jiff::Timestamp;

use super::{Error, client, output::counted, screen::Progress};
use crate::{
    controller::manifests::Manifests,
    outside::{Clock, SystemClock},
};
use object::{CreationRules, LintedObject, RawObject};
use report::Report;
use source::Source;

/// Words of Go templates that no template of a token has.
const TEMPLATED: [&str; 8] = ["{{ .", "{{.", "{{-", "{{ $", "{{ if ", "{{ range ", "{{ include ", "{{ end"];

/// The next step for a file that cannot be parsed, and looks like a template.
const TEMPLATE: &str = "; this looks like a Helm template, so render it first: \
                        `helm template CHART | kubectl tokenry lint -f -`";

#[derive(Args)]
#[command(group = ArgGroup::new("manifests").args(["paths", "files"]).required(true).multiple(true))]
pub(crate) struct Lint {
    /// Files or folders with manifests in YAML or JSON; - is standard input
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The same as PATH, as kubectl has it; may be given several times
    #[arg(long = "filename", short = 'f', value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Read the folders within a folder, too; `.git` folders are left out
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Namespace of the objects that name none
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// Form of the output
    #[arg(long, short, default_value = "text")]
    output: LintForm,
}

/// The form of the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LintForm {
    /// One line for each fault: FILE:LINE:COLUMN: error: the object, the field, the fault and its reason
    Text,
    /// The faults as JSON, with the checks that need a cluster
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

impl Lint {
    /// Prints the faults. Success means that there are none.
    pub(crate) fn main(self) -> Result<(), Error> {
        let report = client::block_on(async { self.report() })?;
        report.print(self.output)?;
        if report.faults.is_empty() { Ok(()) } else { Err(Error::No) }
    }

    /// Reads and judges all files. The progress is shown on standard error.
    fn report(&self) -> Result<Report, Error> {
        let (paths, mut sources) = (self.paths.iter().chain(&self.files), Vec::new());
        let progress = Progress::of_files("reading manifests", paths.clone());
        for path in paths {
            source::read(path, self.recursive, &mut sources)?;
            progress.now(&format!("reading manifests, {} so far", counted(sources.len(), "file")));
        }
        progress.now(&format!("checking {}", counted(sources.len(), "file")));
        Ok(lint(&sources, &self.namespace, SystemClock.now()))
    }
}

/// Judges all objects in the sources together. `namespace` is that of the objects that name none.
fn lint(sources: &[Source], namespace: &str, now: Timestamp) -> Report {
    let (mut report, rules, mut manifests) = (Report::default(), CreationRules::default(), Manifests::default());
    let mut files = Vec::new();
    for source in sources {
        let text = source.text.as_ref().map_err(|unparsed| report.add_unparsed(&source.name, unparsed));
        let Ok(text) = text else { continue };
        let (documents, mut unparsed) = tree::documents(text);
        if TEMPLATED.iter().any(|words| text.contains(words)) {
            unparsed.iter_mut().take(1).for_each(|first| first.message += TEMPLATE);
        }
        unparsed.iter().for_each(|unparsed| report.add_unparsed(&source.name, unparsed));
        files.push((&*source.name, documents));
    }
    let mut objects = Vec::new();
    for (file, documents) in &files {
        documents.iter().for_each(|document| RawObject::unfold(file, document, &mut objects));
    }
    let (ours, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(RawObject::is_judged);
    (report.checked, report.ignored) = (ours.len(), others.len());
    for (name, labels) in others.iter().filter_map(RawObject::namespace) {
        manifests.add_namespace(name, labels);
    }
    let judged: Vec<_> = ours.into_iter().map(|object| LintedObject::of(object, &rules, namespace)).collect();
    judged.iter().for_each(|judged| judged.show(&mut manifests));
    judged.iter().for_each(|judged| judged.tell(&manifests, now, &mut report));
    report.sort(sources);
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn of(files: &[(&str, &str)]) -> Report {
        let source = |(name, text): &(&str, &str)| Source { name: (*name).to_owned(), text: Ok((*text).to_owned()) };
        let sources: Vec<_> = files.iter().map(source).collect();
        lint(&sources, "events", "2027-01-01T00:00:00Z".parse().unwrap())
    }

    /// The faults in a file, each as `line:column reason path`.
    fn told(text: &str) -> Vec<String> {
        of(&[("f", text)]).faults.iter().map(report::LintFinding::brief).collect()
    }

    const TOKEN: &str =
        "apiVersion: tokenry.dev/v1alpha1\nkind: ApiToken\nmetadata: {name: ci}\nspec:\n  instanceRef: {name: eem}\n";
    const INSTANCE: &str = "---\napiVersion: tokenry.dev/v1alpha1\nkind: Instance\nmetadata: {name: eem}\nspec: {}\n";

    #[test]
    fn every_fault_has_the_place_of_its_field() {
        let wrong = "  rotation:\n    schedule:\n      cron: 0 3 * *\n      timezone: UTC\n";
        let faults = ["8:7 Invalid spec.rotation.schedule.cron", "9:7 Invalid spec.rotation.schedule.timezone"];
        assert_eq!(told(&format!("{TOKEN}{wrong}")), faults);
        assert_eq!(told(&format!("{TOKEN}  projects: a\n")), ["6:3 Invalid spec.projects"]);
        assert_eq!(told(TOKEN), [""; 0]);
        assert_eq!(told("a: [b\n"), ["1:4 Unparsed "]);
        let later = "---\na: [b\n---\n";
        let of_both = ["7:4 Unparsed ", "14:3 Invalid spec.projects"];
        assert_eq!(told(&format!("{TOKEN}{later}{TOKEN}  projects: a\n")), of_both);
    }

    #[test]
    fn a_fault_that_two_checks_find_is_told_once() {
        let overlap = "  expiry: {after: 1d}\n  rotation: {overlap: 20h}\n";
        assert_eq!(told(&format!("{TOKEN}{overlap}")), ["7:14 Invalid spec.rotation.overlap"]);
        let both = "  expiry: {after: 1d, at: \"2030-01-01T00:00:00Z\"}\n";
        assert_eq!(told(&format!("{TOKEN}{both}")), ["6:3 Invalid spec.expiry"]);
        let soon = "  expiry: {after: soon}\n";
        assert_eq!(told(&format!("{TOKEN}{soon}")), ["6:12 Invalid spec.expiry.after"]);
    }

    #[test]
    fn the_files_are_judged_together() {
        let report = of(&[("a", &format!("{TOKEN}  role: root\n")), ("b", INSTANCE)]);
        let faults: Vec<_> = report.faults.iter().map(|fault| (&*fault.file, fault.brief())).collect();
        assert_eq!(faults, [("a", "6:3 RoleMissing spec.role".to_owned())]);
        assert!(report.notes.is_empty(), "{report:?}");
        let unread = of(&[("a", &format!("{TOKEN}  projects: [blue]\n")), ("b", INSTANCE)]);
        let [fault] = &unread.faults[..] else { panic!("{unread:?}") };
        assert_eq!((&*fault.file, &*fault.brief()), ("a", "6:3 Invalid spec.projects"));
        assert!(fault.message.contains("set spec.api.projectFrom there"), "{fault:?}");
        let alone = of(&[("a", TOKEN)]);
        assert_eq!(alone.notes.len(), 1);
        assert!(alone.notes[0].message.contains("no manifest has Instance events/eem"), "{alone:?}");
        let faulty = of(&[("a", TOKEN), ("b", &INSTANCE.replace("spec: {}", "spec: {api: {authorization: A}}"))]);
        assert_eq!((faulty.faults.len(), &*faulty.faults[0].file, faulty.notes.len()), (1, "b", 1), "{faulty:?}");
        let told = "Instance events/eem cannot be read until its faults are corrected, so its limits, roles";
        assert!(faulty.notes[0].message.starts_with(told), "{faulty:?}");
    }

    #[test]
    fn lists_are_unfolded_and_other_kinds_ignored() {
        let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "core"}},
            {"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiTokenList", "items": [
                {"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "ci"}, "spec": {}}
            ]}]}"#;
        let report = of(&[("f", json)]);
        assert_eq!((report.checked, report.ignored), (1, 1));
        let faults: Vec<_> = report.faults.iter().map(report::LintFinding::brief).collect();
        assert_eq!(faults, ["4:104 Invalid spec.instanceRef"]);
    }

    #[test]
    fn objects_of_json_may_follow_each_other() {
        let object = |name: &str| {
            format!(r#"{{"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {{"name": "{name}"}}}}"#)
        };
        let third = format!("2:{} Invalid spec", object("b").len() + 2);
        let faults = ["1:1 Invalid spec", "2:1 Invalid spec", &third];
        assert_eq!(told(&format!("{}\n{} {}\n", object("a"), object("b"), object("c"))), faults);
        let rest = format!("{}\n---\n{TOKEN}  projects: a\n---\na: [b\n", object("a"));
        assert_eq!(told(&rest), ["1:1 Invalid spec", "8:3 Invalid spec.projects", "10:4 Unparsed "]);
    }

    #[test]
    fn a_byte_order_mark_before_a_document_hides_no_fault() {
        let marked = format!("\u{feff}{TOKEN}  projects: a\n---\n\u{feff}{TOKEN}  projects: a\n");
        assert_eq!(told(&marked), ["6:3 Invalid spec.projects", "13:3 Invalid spec.projects"]);
    }

    #[test]
    fn an_object_without_a_version_is_told_unless_its_list_names_it() {
        let bare = TOKEN.replace("apiVersion: tokenry.dev/v1alpha1\n", "");
        assert_eq!(told(&format!("---\n{bare}")), ["2:1 Invalid apiVersion"]);
        assert_eq!(told("kind: Deployment\nmetadata: {name: a}\n"), ["1:1 Invalid apiVersion"]);
        assert_eq!(told("kind: Kustomization\nresources: [a]\n---\nmetadata: {}\n"), [""; 0], "no manifests");
        let of = |list: &str, version: &str| {
            let item = "items:\n- metadata: {name: ci}\n  spec: {projects: a}\n";
            told(&format!("apiVersion: {version}\nkind: {list}\n{item}"))
        };
        let faults = ["5:3 Invalid spec.instanceRef", "5:10 Invalid spec.projects"];
        assert_eq!(of("ApiTokenList", "tokenry.dev/v1alpha1"), faults);
        assert_eq!(of("List", "v1"), ["4:3 Invalid apiVersion"]);
        assert_eq!(told("apiVersion: tokenry.dev/v1alpha1\nkind: ApiTokenList\nitems: [a]\n"), [""; 0]);
    }

    #[test]
    fn a_template_of_helm_has_a_hint() {
        let report = of(&[("f", "a: {{ .Values.a }}\n---\nb: {{ .Values.b }}\n")]);
        let hints = report.faults.iter().filter(|fault| fault.message.ends_with(TEMPLATE)).count();
        assert_eq!((hints, report.faults.len()), (1, 2), "{report:?}");
    }

    #[test]
    fn a_kind_or_version_that_does_not_exist_is_told() {
        let of =
            |version: &str, kind: &str| told(&TOKEN.replace("tokenry.dev/v1alpha1", version).replace("ApiToken", kind));
        assert_eq!(of("tokenry.dev/v1", "ApiToken"), ["1:1 Invalid apiVersion"]);
        assert_eq!(of("tokenry.dev", "ApiToken"), ["1:1 Invalid apiVersion"]);
        assert_eq!(of("tokenry.dev/v1alpha1", "APIToken"), ["2:1 Invalid kind"]);
        assert_eq!(of("other.dev/v1", "ApiToken"), [""; 0]);
        assert_eq!(told("a: b\n---\n- c\n---\nd\n"), [""; 0]);
        assert_eq!(told(&TOKEN.replace("{name: ci}", "{}")), ["3:1 Invalid metadata.name"]);
        assert_eq!(told(&TOKEN.replace("name: ci", "generateName: ci-")), [""; 0]);
        assert_eq!(told(&TOKEN.replace("{name: ci}", "ci")), ["3:1 Invalid metadata"]);
    }

    /// Each row: a reason of docs/troubleshooting.md, and manifests that have it.
    #[test]
    fn each_reason_that_the_manifests_prove_is_found() {
        let all: BTreeSet<_> = REASONS.iter().map(|(reason, _)| *reason).collect();
        for (reason, text) in REASONS {
            let report = of(&[("f", text)]);
            let found: Vec<_> = report.faults.iter().map(|fault| &*fault.reason).collect();
            assert!(found.contains(reason), "{reason}: {report:?}");
        }
        assert_eq!(all.len(), REASONS.len());
    }

    const REASONS: &[(&str, &str)] = &[
        ("Invalid", include_str!("reasons/invalid.yaml")),
        ("LifetimeExceeded", include_str!("reasons/lifetime-exceeded.yaml")),
        ("OverlapExceeded", include_str!("reasons/overlap-exceeded.yaml")),
        ("RotationTooFrequent", include_str!("reasons/rotation-too-frequent.yaml")),
        ("WindowsUnmet", include_str!("reasons/windows-unmet.yaml")),
        ("DescriptionMissing", include_str!("reasons/description-missing.yaml")),
        ("DeliveryNotAllowed", include_str!("reasons/delivery-not-allowed.yaml")),
        ("RoleMissing", include_str!("reasons/role-missing.yaml")),
        ("OrganizationUnknown", include_str!("reasons/organization-unknown.yaml")),
        ("OwnerRemoved", include_str!("reasons/owner-removed.yaml")),
        ("TooManyTokens", include_str!("reasons/too-many-tokens.yaml")),
        ("InstanceInvalid", include_str!("reasons/instance-invalid.yaml")),
        ("NamespaceNotAdmitted", include_str!("reasons/namespace-not-admitted.yaml")),
        ("AccountForeign", include_str!("reasons/account-foreign.yaml")),
        ("AccountMismatch", include_str!("reasons/account-mismatch.yaml")),
        ("HostTaken", include_str!("reasons/host-taken.yaml")),
    ];
}
