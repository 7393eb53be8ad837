//! `AccessPolicy`: who may do what besides what roles say, changed at any time without a new value.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ObjectName, Others,
    permission::{ActionPattern, RoleName, ScopeName},
    subject::PolicyMember,
};

/// Permits or denies its members some actions. It lives in the namespace of its Instance.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tokenry.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    plural = "accesspolicies",
    namespaced,
    status = "AccessPolicyStatus",
    derive = "PartialEq",
    shortname = "apol",
    category = "tokenry",
    doc = "Permits or denies API tokens some actions on an Instance of the same namespace.",
    selectable = ".spec.instanceRef.name",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceRef.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.instanceRef == oldSelf.instanceRef")
    .message("instanceRef is fixed for life: make another AccessPolicy for another Instance")
    .field_path(".instanceRef"))]
pub struct AccessPolicySpec {
    /// The Instance that it is about, in the same namespace. Fixed for life.
    pub instance_ref: LocalInstanceRef,
    /// Whom it is about. A user, a group and a team mean the tokens that they own; `user:*` means every token that a
    /// user owns. Where a statement permits, the name of a token or an account means the one that bears it when the
    /// policy is written, or else the first that bears it afterwards, as `status.members` says; write the policy again
    /// to mean another. Where a statement denies, a name means whoever bears it. Left out or empty: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_MEMBERS))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub members: Vec<PolicyMember>,
    /// What they may do, and what they may not: of two that match, the one that denies holds.
    #[schemars(length(min = 1, max = 32))]
    pub statements: Vec<Statement>,
}

/// Names an Instance of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalInstanceRef {
    /// Name of the Instance.
    pub name: ObjectName,
}

/// Permits or denies some actions: those of a role, or those that are listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.role) != (has(self.actions) && size(self.actions) > 0)")
    .message("give exactly one of role and actions"))]
pub struct Statement {
    /// Whether it permits or denies.
    pub effect: Effect,
    /// What this role of the Instance permits, and the roles before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// These actions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub actions: Vec<ActionPattern>,
    /// In these projects. Left out or empty: in all, and for requests that name none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub projects: Vec<ScopeName>,
}

/// Whether a statement permits or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Effect {
    /// It permits.
    Allow,
    /// It denies, whatever else permits.
    Deny,
}

/// What the operator says of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicyStatus {
    /// The fields that are there and cannot be read: then nothing of the rest but `conditions` is here. It is never
    /// written.
    #[serde(default, skip_serializing_if = "super::never_written")]
    #[schemars(skip)]
    pub unreadable: Vec<String>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted` and `Ready`. There only while they are true: `Reconciling` and `Stalled`, as kstatus reads them, and
    /// `DanglingMember`, where a member matches nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Which token or account each listed name means where a statement permits: one entry for each name that somebody
    /// has borne since the policy was written. It stays when that object is gone, so that nobody gets its rights by its
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MEMBERS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["member".into()]))]
    pub members: Option<Vec<BoundMember>>,
    /// Fields that this release does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub others: Others,
}

/// The token or account that a listed name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundMember {
    /// The name as it is listed: `token:NAMESPACE/NAME` or `account:NAMESPACE/NAME`.
    pub member: String,
    /// The uid of the object.
    pub uid: String,
    /// Who made the object, as a subject. Left out: nothing has stamped that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// The most members of a policy.
pub const MAX_MEMBERS: usize = 256;
