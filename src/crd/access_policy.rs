//! `AccessPolicy`: permits or denies actions in addition to roles. It can change at any time, and no new value is
//! needed.

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
    printcolumn(name = "Members", type_ = "integer", json_path = ".status.counts.members"),
    printcolumn(name = "Statements", type_ = "integer", json_path = ".status.counts.statements"),
    printcolumn(name = "Dangling", type_ = "integer", json_path = ".status.counts.dangling"),
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
    /// The Instance whose requests the policy is about, in the same namespace. It cannot change.
    pub instance_ref: LocalInstanceRef,
    /// The members: the subjects whose tokens the policy is about. A token or an account can also name the policy
    /// itself, in its `spec.policies`. A user, a group or a team means the tokens that it
    /// owns. `user:*` means every token that a user owns. If omitted or empty, the policy is about no other token.
    ///
    /// In a statement that permits, the name of a token or account means one object. It is the one with that name when
    /// the policy is written, or else the first one created later. `status.members` lists it. If the object is deleted
    /// and created again, change the spec of the policy to mean the new object. In a statement that denies, the name
    /// means every object with that name, now and later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_MEMBERS))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub members: Vec<PolicyMember>,
    /// The actions that the members may and may not do. If several statements match a request, a statement that denies
    /// wins.
    #[schemars(length(min = 1, max = 32))]
    pub statements: Vec<Statement>,
}

/// A reference to an Instance in the same namespace.
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
    /// Allow: the statement permits. Deny: the statement denies, even if something else permits.
    pub effect: Effect,
    /// A role of the Instance. The statement covers the actions of this role and of all weaker roles. Give either
    /// `role` or `actions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// The actions, such as `clusters:create`, `*:read` or `*`. Give either `role` or `actions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub actions: Vec<ActionPattern>,
    /// The projects in which the statement applies. If omitted or empty, it applies in all projects, and to requests
    /// that name no project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub projects: Vec<ScopeName>,
}

/// The effect of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Effect {
    /// The statement permits.
    Allow,
    /// The statement denies, even if something else permits.
    Deny,
}

/// The status of a policy, which the operator writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicyStatus {
    /// The fields of the status that exist and cannot be read. If there are any, `conditions` is the only other field
    /// that is filled. This field is set while the object is read, and never written.
    #[serde(default, skip_serializing_if = "super::never_written")]
    #[schemars(skip)]
    pub unreadable: Vec<String>,
    /// The generation of the spec that this status describes. The default -1 means that the operator has not seen the
    /// object yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted` and `Ready` are always present. `Reconciling` and `Stalled` (see kstatus) are present only while they
    /// are true. The same holds for `DanglingMember`, which says that a member matches nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The numbers of members and statements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<MemberCounts>,
    /// The token or account that each listed name means in a statement that permits. There is one entry for each name
    /// that an object has had since the policy was written. An entry stays when its object is deleted, so a new object
    /// with the same name gets no permissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MEMBERS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["member".into()]))]
    pub members: Option<Vec<BoundMember>>,
    /// Fields that this release does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub others: Others,
}

/// The numbers of a policy's members and statements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct MemberCounts {
    /// The entries of `spec.members`. Tokens and accounts that name the policy themselves do not count.
    pub members: i64,
    /// The entries of `spec.statements`.
    pub statements: i64,
    /// The members that match no object. The condition `DanglingMember` names them.
    pub dangling: i64,
}

/// The token or account that a listed name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundMember {
    /// The name as in `spec.members`: `token:NAMESPACE/NAME` or `account:NAMESPACE/NAME`.
    pub member: String,
    /// The uid of the object.
    pub uid: String,
    /// The creator of the object, as a subject. If omitted, the creator is not known, because the API server did not
    /// stamp it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// The most members of a policy.
pub const MAX_MEMBERS: usize = 256;
