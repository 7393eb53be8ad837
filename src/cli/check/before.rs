//! Checks before an installation.

use kube::ResourceExt;
use serde_json::Value;

use super::{
    admission::PATH as ADMISSION,
    definitions::{PATH as DEFINITIONS, differs},
    finding::{CheckResult, CheckedPart, Results},
    permissions::judge,
};
use crate::{
    cli::screen::Health,
    crd,
    exposure::PieceKind,
    operator::{CERTIFYING, ELECTING, GRANTING, RIGHTS, exposing_rights},
    outside::{
        Verb,
        rights::{Holder, Right, RightPlace},
        survey::Survey,
    },
    verifier,
};

const RBAC: &str = "rbac.authorization.k8s.io";
const POLICIES: &str = "admissionregistration.k8s.io";

/// The permissions by which a user installs the chart. Helm keeps a release in a Secret.
const INSTALLING: [Right; 14] = [
    Right::new(Verb::CREATE, "", "namespaces"),
    Right::new(Verb::CREATE, "apiextensions.k8s.io", "customresourcedefinitions"),
    Right::new(Verb::CREATE, RBAC, "clusterroles"),
    Right::new(Verb::CREATE, RBAC, "clusterrolebindings"),
    Right::new(Verb::CREATE, RBAC, "rolebindings"),
    Right::new(Verb::CREATE, POLICIES, "validatingadmissionpolicies"),
    Right::new(Verb::CREATE, POLICIES, "validatingadmissionpolicybindings"),
    Right::new(Verb::CREATE, POLICIES, "mutatingadmissionpolicies"),
    Right::new(Verb::CREATE, POLICIES, "mutatingadmissionpolicybindings"),
    Right::new(Verb::CREATE, "apps", "deployments"),
    Right::new(Verb::CREATE, "policy", "poddisruptionbudgets"),
    Right::new(Verb::CREATE, "", "services"),
    Right::new(Verb::CREATE, "", "serviceaccounts"),
    Right::new(Verb::CREATE, "", "secrets"),
];
/// The permissions by which a user gives others permissions that the user does not have.
const ESCALATING: [Right; 2] =
    [Right::new(Verb::ESCALATE, RBAC, "clusterroles"), Right::new(Verb::BIND, RBAC, "clusterroles")];

/// The kinds that the operator may create for endpoints, by default.
const USUAL_KINDS: [PieceKind; 3] = [PieceKind::HttpRoute, PieceKind::Ingress, PieceKind::NetworkPolicy];

/// The next step of a user with too few permissions.
const ADMINISTRATOR: &str = "let an administrator install the chart, with the rights of cluster-admin";

/// Checks that the chart can be installed in the namespace `system`.
pub(super) async fn check(survey: &Survey, system: &str) -> Vec<CheckResult> {
    let mut results = Results::of(CheckedPart::Installation);
    served(survey, &mut results).await;
    in_the_way(survey, &mut results).await;
    let answers = survey.review(&Holder::Myself, Some(system), &INSTALLING).await;
    judge(
        &mut results,
        format!("you may install the chart in namespace {system}"),
        &answers,
        (Health::Failed, ADMINISTRATOR),
    );
    let wanted = "you may give operator and verifier their rights".to_owned();
    let escalating = survey.review(&Holder::Myself, RightPlace::default(), &ESCALATING).await;
    if escalating.iter().all(|(_, held)| *held == Ok(true)) {
        results.add(wanted, Vec::new(), (Health::Failed, ""));
    } else {
        let mut answers = survey.review(&Holder::Myself, RightPlace::default(), &given()).await;
        answers.extend(survey.review(&Holder::Myself, Some(system), &[&CERTIFYING[..], &ELECTING].concat()).await);
        judge(&mut results, wanted, &answers, (Health::Failed, ADMINISTRATOR));
    }
    results.done()
}

/// The permissions in all namespaces that the chart gives by default. RBAC lets a user give only permissions that the
/// user has.
fn given() -> Vec<Right> {
    let exposing = USUAL_KINDS.into_iter().flat_map(exposing_rights);
    let fixed = [RIGHTS.needed, RIGHTS.useful, &GRANTING, verifier::RIGHTS.needed, verifier::RIGHTS.useful].concat();
    let mut all: Vec<Right> = Vec::new();
    for right in fixed.into_iter().chain(exposing) {
        if !all.contains(&right) {
            all.push(right);
        }
    }
    all
}

/// Checks that the API server serves admission policies.
async fn served(survey: &Survey, results: &mut Results) {
    let listed = survey.object(ADMISSION).await;
    for (kind, resource, health, hint) in [
        (
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            Health::Failed,
            "use Kubernetes 1.33 or newer, or install the chart with admission.enabled=false: then every user with \
             write access gives any role",
        ),
        (
            "MutatingAdmissionPolicy",
            "mutatingadmissionpolicies",
            Health::Warning,
            "Kubernetes 1.36 serves it; on older versions each token names its owner",
        ),
    ] {
        let wanted = format!("the API server has {kind}");
        match &listed {
            Ok(all) => {
                let is_there = all["resources"].as_array().into_iter().flatten().any(|one| one["name"] == resource);
                let wrong = (!is_there).then(|| format!("{kind} is not served as {POLICIES}/v1"));
                results.add(wanted, wrong.into_iter().collect(), (health, hint));
            }
            Err(why) => results.unseen(wanted, why, &format!("get {ADMISSION}")),
        }
    }
}

/// Checks that no definition of somebody else has the names of Tokenry's kinds.
async fn in_the_way(survey: &Survey, results: &mut Results) {
    let wanted = "no definition of another installation is in the way";
    let list = match survey.object(DEFINITIONS).await {
        Ok(list) => list,
        Err(why) => return results.unseen(wanted, &why, "list customresourcedefinitions.apiextensions.k8s.io"),
    };
    let all: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
    let hint = "helm names the steps that hand them over to its release; or install the chart with crds.enabled=false";
    results.add(wanted, all.iter().filter_map(|served| foreign(served)).collect(), (Health::Failed, hint));
    let shared = all.iter().filter_map(|served| shared(served)).collect();
    let hint = "write the whole name for kubectl, such as apitokens.tokenry.dev";
    results.add("no other kind has the short names of Tokenry's kinds", shared, (Health::Warning, hint));
}

/// A definition of our group that helm did not install, and so does not take over.
fn foreign(served: &Value) -> Option<String> {
    let name = served["metadata"]["name"].as_str()?;
    let ours = crd::definitions().into_iter().find(|wanted| wanted.name_any() == name)?;
    let of_helm = served["metadata"]["annotations"]["meta.helm.sh/release-name"].is_string();
    let state = if differs(&ours, served).is_some() { "another form than in this release" } else { "the same form" };
    (!of_helm).then(|| format!("CustomResourceDefinition {name} exists, in {state}, and belongs to no helm release"))
}

/// A definition of another group with names of our kinds.
fn shared(served: &Value) -> Option<String> {
    fn names(of: &Value) -> Vec<&str> {
        let short = of["shortNames"].as_array().into_iter().flatten();
        [&of["plural"], &of["singular"]].into_iter().chain(short).filter_map(Value::as_str).collect()
    }
    let (name, group) = (served["metadata"]["name"].as_str()?, served["spec"]["group"].as_str()?);
    let ours: Vec<Value> = crd::definitions().iter().map(|ours| serde_json::json!(ours.spec.names)).collect();
    let taken =
        names(&served["spec"]["names"]).into_iter().find(|name| ours.iter().any(|of| names(of).contains(name)))?;
    (group != crd::GROUP).then(|| format!("{taken} may mean {name} too"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_of_nobody_is_in_the_way_and_one_of_a_release_is_not() {
        let mut served = json!(crd::definitions()[0]);
        assert!(foreign(&served).unwrap().contains("the same form, and belongs to no helm release"));
        served["spec"]["scope"] = json!("Cluster");
        assert!(foreign(&served).unwrap().contains("another form than in this release"));
        served["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "tokenry"});
        assert_eq!(foreign(&served), None);
        assert_eq!(shared(&served), None, "a kind does not collide with itself");
    }

    #[test]
    fn the_rights_to_give_are_those_of_the_defaults_of_the_chart() {
        let values = include_str!("../../../charts/tokenry/values.yaml");
        assert!(values.contains("\n  kinds: [HTTPRoute, Ingress, NetworkPolicy]\n"));
        let told: Vec<_> = given().iter().map(ToString::to_string).collect();
        for right in [
            "create rolebindings.rbac.authorization.k8s.io",
            "watch instances.tokenry.dev",
            "patch apitokens.tokenry.dev/status",
            "create ingresses.networking.k8s.io",
        ] {
            assert_eq!(told.iter().filter(|told| *told == right).count(), 1, "{right}: {told:?}");
        }
    }

    #[test]
    fn a_short_name_of_another_kind_is_named() {
        let names = json!({"plural": "tests", "singular": "test", "shortNames": ["t", "apitok"]});
        let other = json!({"metadata": {"name": "tests.x.y"}, "spec": {"group": "x.y", "names": names}});
        assert_eq!(shared(&other).as_deref(), Some("apitok may mean tests.x.y too"));
    }
}
