//! Checks of the CustomResourceDefinitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    difference::difference,
    finding::{CheckResult, CheckedPart, Results},
};
use crate::{
    cli::screen::Health,
    crd,
    outside::{Why, survey::Survey},
};

/// The collection of all definitions.
pub(super) const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// The permission to read a definition.
const RIGHT: &str = "get customresourcedefinitions.apiextensions.k8s.io";
/// The version in which objects are stored.
const STORED: &str = "v1alpha1";

/// Checks that the kinds are served, by the definitions of this program. `otherwise`: the health if they differ.
pub(super) async fn check(survey: &Survey, otherwise: Health) -> Vec<CheckResult> {
    let mut results = Results::of(CheckedPart::Definitions);
    let (mut unserved, mut differing, mut old, mut refused) = (Vec::new(), Vec::new(), Vec::new(), None);
    for wanted in crd::definitions() {
        match survey.object(&format!("{PATH}/{}", wanted.name_any())).await {
            Ok(served) => {
                unserved.extend(unestablished(&wanted, &served));
                differing.extend(differs(&wanted, &served));
                old.extend(stored(&wanted, &served));
            }
            Err(Why::Gone) => unserved.push(format!("CustomResourceDefinition {} does not exist", wanted.name_any())),
            Err(why) => refused = Some(why),
        }
    }
    let served = "the kinds of Tokenry are served";
    let install = "install the chart with crds.enabled=true, or run `tokenry crds | kubectl apply --server-side -f -`";
    if let Some(why) = refused {
        // Discovery is open to every user.
        let all = survey.object(&format!("/apis/{}/{STORED}", crd::GROUP)).await;
        let missing = all.map_or_else(|why| vec![why.to_string()], |all| undiscovered(&all));
        results.add(served, missing, (Health::Failed, install));
        results.unseen("the definitions are those of this program", &why, RIGHT);
        return results.done();
    }
    results.add(served, unserved, (Health::Failed, install));
    let upgrade = "upgrade the chart, or run `tokenry crds | kubectl apply --server-side -f -`";
    results.add("the definitions are those of this program", differing, (otherwise, upgrade));
    let migrate = "write each object again, then remove the old version from status.storedVersions";
    results.add(format!("objects are stored as {STORED} alone"), old, (Health::Warning, migrate));
    results.done()
}

/// A condition that keeps the API server from serving the kind.
fn unestablished(wanted: &CustomResourceDefinition, served: &Value) -> Option<String> {
    let conditions: Vec<&Value> = served["status"]["conditions"].as_array().into_iter().flatten().collect();
    let holds = |type_: &str| conditions.iter().any(|one| one["type"] == type_ && one["status"] == "True");
    let failing = ["NamesAccepted", "Established"].into_iter().find(|type_| !holds(type_))?;
    let told = conditions.iter().find(|one| one["type"] == failing).and_then(|one| one["message"].as_str());
    let why = told.map(|told| format!(": {told}")).unwrap_or_default();
    Some(format!("CustomResourceDefinition {} is not {failing}{why}", wanted.name_any()))
}

/// The place where a served definition is not that of this program.
pub(super) fn differs(wanted: &CustomResourceDefinition, served: &Value) -> Option<String> {
    let place = difference(&json!({"spec": json!(wanted)["spec"]}), served)?;
    Some(format!("CustomResourceDefinition {} differs at {place}", wanted.name_any()))
}

/// The versions other than the current one in which some objects may be stored.
fn stored(wanted: &CustomResourceDefinition, served: &Value) -> Option<String> {
    let versions = served["status"]["storedVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let old: Vec<_> = versions.filter(|version| *version != STORED).collect();
    (!old.is_empty()).then(|| format!("{} may be stored as {}", wanted.name_any(), old.join(", ")))
}

/// The kinds that discovery does not list.
fn undiscovered(all: &Value) -> Vec<String> {
    let listed: Vec<&str> =
        all["resources"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
    let missing = { crd::definitions().into_iter() }.filter(|wanted| !listed.contains(&&*wanted.spec.names.plural));
    missing.map(|wanted| format!("{} is not served", wanted.name_any())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_judged_by_its_conditions_its_schema_and_its_stored_versions() {
        let wanted = &crd::definitions()[0];
        let mut served = json!(wanted);
        served["status"] = json!({
            "conditions": [
                {"type": "NamesAccepted", "status": "True"},
                {"type": "Established", "status": "False", "message": "soon"},
            ],
            "storedVersions": ["v1alpha1", "v1"],
        });
        assert_eq!(differs(wanted, &served), None);
        let name = wanted.name_any();
        assert_eq!(
            unestablished(wanted, &served),
            Some(format!("CustomResourceDefinition {name} is not Established: soon"))
        );
        assert_eq!(stored(wanted, &served), Some(format!("{name} may be stored as v1")));
        served["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["more"] = json!({});
        let told = differs(wanted, &served).unwrap();
        assert!(told.ends_with("differs at spec.versions[0].schema.openAPIV3Schema.properties.more"), "{told}");
    }

    #[test]
    fn discovery_shows_the_kinds_that_are_missing() {
        let all = json!({"resources": [{"name": "apitokens"}, {"name": "apitokens/status"}, {"name": "instances"}]});
        assert_eq!(
            undiscovered(&all),
            ["accesspolicies.tokenry.dev is not served", "serviceaccounts.tokenry.dev is not served"]
        );
    }
}
