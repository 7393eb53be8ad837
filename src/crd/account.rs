//! `ServiceAccount` of `tokenry.dev` (short name `tsa`): the account that tokens act as. It is not core's
//! ServiceAccount.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    InstanceRef, ObjectName, Others, Subject,
    api_token::MAX_POLICIES,
    permission::{RoleName, Scope, ScopeName},
};

/// A non-interactive account that tokens act as. Every action made with a token is logged under it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tokenry.dev",
    version = "v1alpha1",
    kind = "ServiceAccount",
    root = "Account",
    plural = "serviceaccounts",
    namespaced,
    status = "AccountStatus",
    derive = "PartialEq",
    shortname = "tsa",
    category = "tokenry",
    doc = "A non-interactive account that API tokens act as. It is not the core kind of the same name.",
    selectable = ".spec.instanceRef.name",
    selectable = ".spec.owner",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceRef.name"),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "Tokens", type_ = "integer", json_path = ".status.tokens.active"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner", priority = 1),
    printcolumn(name = "Display name", type_ = "string", json_path = ".spec.displayName", priority = 1),
    printcolumn(name = "Description", type_ = "string", json_path = ".spec.description", priority = 1),
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
    .message("instanceRef is fixed for life: make another account for another Instance")
    .field_path(".instanceRef"))]
pub struct AccountSpec {
    /// The Instance whose Admin API the account acts on. It cannot change.
    pub instance_ref: InstanceRef,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub display_name: Option<String>,
    /// The purpose of the account, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The owner of the account, as a subject. Tokens of the account that name no owner have this owner. If omitted,
    /// the account has no owner. List the accounts of an owner by
    /// `kubectl get tsa --field-selector spec.owner=user:alice@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Subject>,
    /// The strongest role of the account's tokens, one of the Instance's roles. A change takes effect at once, and no
    /// new value is needed. If omitted, the tokens have no role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// The organizations that the account may act for, among those that the Instance lists. If omitted, all that the
    /// owner may act for. Server-side apply treats this field as one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub organizations: Option<Scope>,
    /// The projects that the account may act in. If omitted or empty, all projects. Server-side apply treats this list
    /// as one value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub projects: Vec<ScopeName>,
    /// AccessPolicies of which the account's tokens are members, by name, in addition to those that list it. They are
    /// policies of the Instance in `instanceRef`. To add or remove a name, a user needs the permission to `assign`
    /// `policies.tokenry.dev/INSTANCE:POLICY` in the Instance's namespace. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_POLICIES))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub policies: Vec<ObjectName>,
    /// True: the account's tokens are accepted. False: all of them are refused until this field is true again.
    /// Default: true.
    #[serde(default = "yes")]
    pub active: bool,
}

pub(super) fn yes() -> bool {
    true
}

/// The status of an account, which the operator writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountStatus {
    /// The fields of the status that exist and cannot be read. If there are any, `conditions` is the only other field
    /// that is filled. This field is set while the object is read, and never written.
    #[serde(default, skip_serializing_if = "super::never_written")]
    #[schemars(skip)]
    pub unreadable: Vec<String>,
    /// The generation of the spec that this status describes. The default -1 means that the operator has not seen the
    /// object yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted` and `Ready` are always present. An account with `active: false` is Ready too. `Reconciling` and
    /// `Stalled` (see kstatus) are present only while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The number of tokens that act as the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenCount>,
    /// The Instance's rules for deleting the account. Admission policies read them here, because they cannot read the
    /// Instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<MirroredAccountPolicy>,
    /// The last use of any of the account's tokens, to within an hour, at the time of the last count. If omitted, no
    /// token was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
    /// Fields that this release does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub others: Others,
}

/// An Instance's rules for deleting its accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirroredAccountPolicy {
    /// True: a deletion must be confirmed by annotation.
    #[serde(default)]
    pub confirm_delete: bool,
}

/// A number of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenCount {
    /// The tokens whose condition `Valid` is true.
    pub active: i64,
    /// All tokens, including those that have ended.
    pub total: i64,
    /// The time of the count. The count is updated at most once a minute.
    pub at: Time,
}

impl AsRef<Self> for TokenCount {
    fn as_ref(&self) -> &Self {
        self
    }
}
