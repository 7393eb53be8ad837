//! Checks of the admission policies, and of the stamps that they set.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    CheckVisit,
    difference::difference,
    finding::{CheckResult, CheckedPart, Results},
    programs::Program,
    samples,
};
use crate::{
    admission::{Options, exempted, mutating, validating},
    cli::screen::Health,
    crd::{GROUP, name::ORGANIZATION},
    outside::{Forbidder, Why, survey::Survey},
};

/// The API of admission policies.
pub(super) const PATH: &str = "/apis/admissionregistration.k8s.io/v1";
/// The kinds of validating policies, and their resources.
const VALIDATING: [(&str, &str); 2] = [
    ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
    ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
];
/// The kinds of mutating policies, and their resources. Older API servers do not serve them.
const MUTATING: [(&str, &str); 2] = [
    ("MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
    ("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"),
];
/// The end of the name of the policy on tokens. The rest is the prefix of a release.
const OF_TOKENS: &str = "-apitokens";

/// The next step if a policy is missing.
const INSTALL: &str = "install the chart with admission.enabled=true, or run `tokenry admission | kubectl apply -f -`";
/// The next step if nothing stamps owners.
const STAMP: &str = "on Kubernetes 1.36 or newer install the chart with admission.stamps=auto; on older versions each \
    token names its owner";

/// The policies and bindings that the API server has: the specs, by kind and name.
#[derive(Default)]
struct Installed(BTreeMap<(String, String), Value>);

/// Checks that the policies exist, are those of this program and are in force, and that owners are stamped.
pub(super) async fn check(visit: &CheckVisit<'_>) -> Vec<CheckResult> {
    let mut results = Results::of(CheckedPart::Admission);
    let mut selects_all = true;
    match Installed::read(visit.survey).await {
        Ok(installed) => selects_all = installed.judge(visit, &mut results),
        Err((why, resource)) => {
            let right = format!("list {resource}.admissionregistration.k8s.io");
            results.unseen("the admission policies exist and are bound", &why, &right);
        }
    }
    in_force(visit, selects_all, &mut results).await;
    stamped(visit, &mut results).await;
    results.done()
}

impl Installed {
    /// Reads all policies and bindings. An error names the resource too.
    async fn read(survey: &Survey) -> Result<Self, (Why, &'static str)> {
        let mut all = Self::default();
        for (kind, resource) in VALIDATING.into_iter().chain(MUTATING) {
            let list = match survey.object(&format!("{PATH}/{resource}")).await {
                Ok(list) => list,
                Err(Why::Gone) => continue,
                Err(why) => return Err((why, resource)),
            };
            for item in list["items"].as_array().into_iter().flatten() {
                let name = item["metadata"]["name"].as_str().unwrap_or_default();
                all.0.insert((kind.to_owned(), name.to_owned()), item["spec"].clone());
            }
        }
        Ok(all)
    }

    fn spec(&self, kind: &str, name: &str) -> &Value {
        self.0.get(&(kind.to_owned(), name.to_owned())).unwrap_or(&Value::Null)
    }

    /// The prefixes of the releases whose policies are installed.
    fn releases(&self) -> Vec<&str> {
        let is_ours = |spec: &Value| spec["matchConstraints"]["resourceRules"][0]["apiGroups"][0] == GROUP;
        let policies = self.0.iter().filter(|((kind, _), spec)| kind == VALIDATING[0].0 && is_ours(spec));
        policies.filter_map(|((_, name), _)| name.strip_suffix(OF_TOKENS)).collect()
    }

    /// The prefixes of the policies for this operator. Each release for one namespace has policies for its own
    /// operator. If no policy names this operator, the prefixes of all.
    fn releases_for(&self, operator: &str) -> Vec<&str> {
        let status = |release: &str| self.spec(VALIDATING[0].0, &format!("{release}-status")).to_string();
        let all = self.releases();
        let own: Vec<_> = all.iter().copied().filter(|it| status(it).contains(&format!("'{operator}'"))).collect();
        if own.is_empty() { all } else { own }
    }

    /// Judges the policies of the release. Returns true if they apply in all namespaces.
    fn judge(&self, visit: &CheckVisit<'_>, results: &mut Results) -> bool {
        let users = users(visit);
        let releases = self.releases_for(&users[0]);
        let none = releases.is_empty().then(|| "the API server has no admission policies of Tokenry".to_owned());
        let (mut missing, mut differing) = (Vec::from_iter(none), Vec::new());
        let mut selects_all = true;
        for release in releases {
            let options = ["true", "false"].map(|required| self.options(&users, release, required));
            selects_all &= options[0].namespaces == json!({});
            let judged = options.map(|options| self.compare(&options));
            let (absent, other) = judged.into_iter().min_by_key(|(_, other)| other.len()).unwrap_or_default();
            missing.extend(absent);
            differing.extend(other);
        }
        results.add("the admission policies exist and are bound", missing, (Health::Failed, INSTALL));
        let hint = "upgrade the chart, or apply the output of `tokenry admission`";
        results.add("the admission policies are those of this program", differing, (visit.otherwise, hint));
        selects_all
    }

    /// The options with which the policies of a release were made.
    fn options(&self, [operator, verifier]: &[String; 2], release: &str, required: &str) -> Options {
        let (policy, binding) = (VALIDATING[0].0, VALIDATING[1].0);
        let tokens = format!("{release}{OF_TOKENS}");
        let condition = &self.spec(policy, &tokens)["matchConditions"][0]["expression"];
        let selector = self.spec(binding, &tokens)["matchResources"]["namespaceSelector"].clone();
        Options {
            name: release.to_owned(),
            operator: operator.clone(),
            verifier: verifier.clone(),
            exempt: exempted(condition.as_str().unwrap_or_default()),
            require_owner: required.to_owned(),
            namespaces: if selector.is_null() { json!({}) } else { selector },
        }
    }

    /// The policies and bindings that are missing, and those that differ. A binding that differs may let everything
    /// through, so it counts as missing. Stamps may be missing as a whole.
    fn compare(&self, options: &Options) -> (Vec<String>, Vec<String>) {
        let (mut missing, mut differing) = (Vec::new(), Vec::new());
        let stamps = mutating(options);
        let has_stamps = stamps.iter().any(|wanted| !self.served(wanted).is_null());
        for wanted in validating(options).into_iter().chain(stamps.into_iter().filter(|_| has_stamps)) {
            let named = format!("{} {}", word(&wanted["kind"]), word(&wanted["metadata"]["name"]));
            let served = self.served(&wanted);
            if served.is_null() {
                missing.push(format!("{named} does not exist"));
            } else if let Some(place) = difference(&wanted["spec"], served) {
                let is_binding = named.contains("Binding ");
                (if is_binding { &mut missing } else { &mut differing })
                    .push(format!("{named} differs at spec.{place}"));
            }
        }
        (missing, differing)
    }

    fn served(&self, wanted: &Value) -> &Value {
        self.spec(word(&wanted["kind"]), word(&wanted["metadata"]["name"]))
    }
}

/// The user names of the operator and of the verifier.
fn users(visit: &CheckVisit<'_>) -> [String; 2] {
    [Program::Operator, Program::Verifier]
        .map(|program| format!("system:serviceaccount:{}:{}", visit.system, visit.account(program)))
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The spec of a token that is never created.
fn rehearsed() -> Value {
    json!({"instanceRef": {"name": "tokenry-check"}})
}

/// Checks by a dry run that the policies refuse a write that they have to refuse from every user.
async fn in_force(visit: &CheckVisit<'_>, selects_all: bool, results: &mut Results) {
    let wanted = format!("the admission policies are in force in namespace {}", visit.namespace);
    let forged = json!({"generateName": "tokenry-check-", "labels": {format!("{ORGANIZATION}tokenry-check"): ""}});
    match visit.survey.rehearse(visit.namespace, forged, rehearsed()).await {
        Err(Why::Forbidden(text)) if matches!(Forbidder::of(&text), Forbidder::Policy(_)) => {
            results.add(wanted, Vec::new(), (Health::Failed, ""));
        }
        Ok(_) => {
            let wrong = "a dry run with a forged label was accepted; the policies have to refuse it".to_owned();
            let (health, hint) = if selects_all {
                (
                    Health::Failed,
                    "wait some seconds after an installation; else look at the policies and their bindings",
                )
            } else {
                (Health::Warning, "the value admission.namespaceSelector may leave the namespace out")
            };
            results.add(wanted, vec![wrong], (health, hint));
        }
        Err(why) => results.unseen(wanted, &shown(why), &creating(visit)),
    }
}

/// Checks that the API server stamps the requester as the owner of new tokens. The operator knows it, and else a dry
/// run shows it.
async fn stamped(visit: &CheckVisit<'_>, results: &mut Results) {
    let wanted = "the API server stamps the owner of a token";
    let missing = || vec!["a token without spec.owner gets no owner".to_owned()];
    let metrics = visit.pods(Program::Operator).filter_map(|pod| pod.probed.as_ref().ok());
    let known = { metrics }.find_map(|probed| samples::number(&probed.metrics, "tokenry_stamped"));
    if let Some(known) = known {
        let wrong = if known > 0.0 { Vec::new() } else { missing() };
        return results.add(wanted, wrong, (Health::Warning, STAMP));
    }
    let plain = json!({"generateName": "tokenry-check-"});
    match visit.survey.rehearse(visit.namespace, plain, rehearsed()).await {
        Ok(made) => {
            let wrong = if made["spec"]["owner"].is_null() { missing() } else { Vec::new() };
            results.add(wanted, wrong, (Health::Warning, STAMP));
        }
        Err(Why::Forbidden(text)) if matches!(Forbidder::of(&text), Forbidder::Policy(_)) => {
            results.add(wanted, missing(), (Health::Warning, STAMP));
        }
        Err(why) => results.unseen(wanted, &shown(why), &creating(visit)),
    }
}

/// The permission that a dry run needs.
fn creating(visit: &CheckVisit<'_>) -> String {
    format!("create apitokens.{GROUP} in namespace {}", visit.namespace)
}

/// A refusal by something other than the authorizer is shown in its own words.
fn shown(why: Why) -> Why {
    match why {
        Why::Forbidden(text) if !matches!(Forbidder::of(&text), Forbidder::Authorizer(_)) => Why::Invalid(text),
        why @ (Why::Stale
        | Why::Invalid(_)
        | Why::Forbidden(_)
        | Why::Unauthenticated(_)
        | Why::Gone
        | Why::Unavailable(_)) => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policies of a release `x`, as the API server has them.
    fn installed(options: &Options) -> Installed {
        let all = validating(options).into_iter().chain(mutating(options));
        let named = |object: Value| {
            let key = (word(&object["kind"]).to_owned(), word(&object["metadata"]["name"]).to_owned());
            (key, object["spec"].clone())
        };
        Installed(all.map(named).collect())
    }

    fn options() -> Options {
        Options {
            name: "x".into(),
            operator: "system:serviceaccount:tokenry-system:tokenry-operator".into(),
            verifier: "system:serviceaccount:tokenry-system:tokenry-verifier".into(),
            exempt: vec![String::new(), "admin".into()],
            require_owner: "false".into(),
            namespaces: json!({"matchLabels": {"a": "b"}}),
        }
    }

    #[test]
    fn the_options_of_a_release_are_read_from_its_policies() {
        let (all, wanted) = (installed(&options()), options());
        assert_eq!(all.releases(), ["x"]);
        let found = all.options(&[wanted.operator.clone(), wanted.verifier.clone()], "x", "false");
        assert_eq!((&found.exempt, &found.namespaces), (&wanted.exempt, &wanted.namespaces));
        assert_eq!(all.compare(&found), (Vec::new(), Vec::new()));
    }

    #[test]
    fn the_policies_of_a_release_beside_it_are_not_those_of_this_operator() {
        let beside = Options {
            name: "y".into(),
            operator: "system:serviceaccount:team-b:tokenry-operator".into(),
            verifier: "system:serviceaccount:team-b:tokenry-verifier".into(),
            ..options()
        };
        let mut all = installed(&options());
        all.0.extend(installed(&beside).0);
        assert_eq!(all.releases_for(&options().operator), ["x"]);
        assert_eq!(all.releases_for(&beside.operator), ["y"]);
        assert_eq!(all.releases_for("system:serviceaccount:team-c:tokenry-operator"), ["x", "y"]);
    }

    #[test]
    fn a_policy_that_is_missing_or_bound_otherwise_is_told_from_one_that_is_older() {
        let mut all = installed(&options());
        let key = |kind: &str, name: &str| (format!("ValidatingAdmissionPolicy{kind}"), format!("x-{name}"));
        all.0.remove(&key("", "status"));
        all.0.get_mut(&key("Binding", "apitokens")).unwrap()["validationActions"] = json!(["Audit"]);
        all.0.get_mut(&key("", "serviceaccounts")).unwrap()["validations"][0]["expression"] = json!("true");
        let (missing, differing) = all.compare(&options());
        assert_eq!(
            missing,
            [
                "ValidatingAdmissionPolicyBinding x-apitokens differs at spec.validationActions[0]",
                "ValidatingAdmissionPolicy x-status does not exist",
            ]
        );
        assert_eq!(
            differing,
            ["ValidatingAdmissionPolicy x-serviceaccounts differs at spec.validations[0].expression"]
        );
    }
}
