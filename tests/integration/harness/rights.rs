//! Reviews of rights: the answer of the API server itself, which cannot be mistaken for a failed request.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use super::World;

/// A subject of requests: a user in groups.
pub fn asking(user: &str, groups: &[&str]) -> Value {
    json!({"user": user, "groups": groups})
}

impl World {
    /// True if the API server allows a verb on `resource.group/name` in this namespace. The resource can have a
    /// subresource, such as `apitokens/status`.
    pub async fn allows(&self, subject: &Value, verb: &str, (resource, group): (&str, &str), name: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let mut spec = subject.clone();
        spec["resourceAttributes"] = json!({
            "namespace": self.namespace, "verb": verb, "group": group, "resource": resource, "subresource": subresource,
            "name": name,
        });
        let review: SubjectAccessReview = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
    }

    /// Waits until the API server allows a verb, or until it does not. A right is in force, and withdrawn, some moments
    /// after the write of its RoleBinding.
    pub async fn await_right(&self, allowed: bool, subject: &Value, verb: &str, resource: (&str, &str), name: &str) {
        let what = format!("{subject} may {verb} {resource:?} {name}: {allowed}");
        let is_so = async || (self.allows(subject, verb, resource, name).await == allowed).then_some(());
        self.eventually(&what, is_so).await;
    }
}
