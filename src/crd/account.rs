//! `ServiceAccount` of `tokenry.dev` (short name `tsa`): the account that tokens act as. Not core's ServiceAccount.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    InstanceRef, Others, Subject,
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
    doc = "A non-interactive account that API tokens act as. Not to be confused with the core kind of the same name: its short name is tsa.",
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
    /// The Instance whose Admin API the account acts on. Fixed for life.
    pub instance_ref: InstanceRef,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub display_name: Option<String>,
    /// What the account is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Who answers for the account, as a subject: the owner of tokens of it that name none. Left out: nobody. List the
    /// accounts of an owner by `kubectl get tsa --field-selector spec.owner=user:alice@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Subject>,
    /// The role of its tokens, one of the Instance's. A change takes effect at once, without a new value. Left out:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// The organizations that it may act for. Left out: all that the owner may. Whoever sets it sets all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub organizations: Option<Scope>,
    /// The projects that it may act in. Left out or empty: all. Whoever sets it sets all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub projects: Vec<ScopeName>,
    /// Whether its tokens are accepted. False: all are refused until it is true again. Default: true.
    #[serde(default = "yes")]
    pub active: bool,
}

pub(super) fn yes() -> bool {
    true
}

/// What the operator says of an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountStatus {
    /// The fields that are there and cannot be read: then nothing of the rest but `conditions` is here. It is never
    /// written.
    #[serde(default, skip_serializing_if = "super::never_written")]
    #[schemars(skip)]
    pub unreadable: Vec<String>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted` and `Ready`: an account with `active: false` is Ready, too. `Reconciling` and `Stalled`, as kstatus
    /// reads them, are there only while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many tokens act as it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenCount>,
    /// What its Instance asks of those who delete it, for admission, which sees no Instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<MirroredAccountPolicy>,
    /// When one of its tokens was used last, to within an hour, as of the last count. Left out: none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
    /// Fields that this release does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub others: Others,
}

/// What an Instance asks of those who delete its accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirroredAccountPolicy {
    /// Whether a deletion has to be confirmed.
    #[serde(default)]
    pub confirm_delete: bool,
}

/// How many tokens there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenCount {
    /// Those whose condition `Valid` is true.
    pub active: i64,
    /// All of them, those that ended included.
    pub total: i64,
    /// When they were counted: at most once a minute.
    pub at: Time,
}

impl AsRef<Self> for TokenCount {
    fn as_ref(&self) -> &Self {
        self
    }
}
