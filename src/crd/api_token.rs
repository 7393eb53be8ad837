//! `ApiToken`: a long-lived identity. Tokenry creates its values, delivers them, rotates them and revokes them.

use std::{collections::BTreeMap, str::FromStr};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Instance, InstanceRef, MaintenanceWindow, ObjectName, Others, Reason, RestartTarget, Subject,
    account::yes,
    is_false, keys,
    permission::{RoleName, Scope, ScopeName},
    schema::compared,
    workload::{MAX_RESTARTED, Restart},
};
use crate::token::{
    Moment, Record,
    duration::{Delay, Duration},
};

/// The spec of a token: its rights, its lifetime and its delivery.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tokenry.dev",
    version = "v1alpha1",
    kind = "ApiToken",
    namespaced,
    status = "ApiTokenStatus",
    derive = "PartialEq",
    shortname = "apitok",
    category = "tokenry",
    label("servicebinding.io/provisioned-service", "true"),
    doc = "An API access token. Tokenry creates its values, delivers them in a Secret, rotates them on schedule and revokes them.",
    selectable = ".spec.instanceRef.name",
    selectable = ".spec.owner",
    selectable = ".spec.serviceAccountRef.name",
    selectable = ".status.secretName",
    selectable = ".status.organization",
    printcolumn(name = "Valid", type_ = "string", json_path = ".status.conditions[?(@.type==\"Valid\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Valid\")].reason"),
    printcolumn(name = "Account", type_ = "string", json_path = ".status.account.name"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        priority = 1
    ),
    printcolumn(name = "Rotates", type_ = "string", json_path = ".status.rotatesAt", priority = 1),
    printcolumn(name = "Ends", type_ = "string", json_path = ".spec.expiry.at", priority = 1),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName", priority = 1),
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceRef.name", priority = 1),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner", priority = 1),
    printcolumn(name = "Role", type_ = "string", json_path = ".status.effective.role", priority = 1),
    printcolumn(name = "Organizations", type_ = "string", json_path = ".status.effective.organizations", priority = 1),
    printcolumn(name = "Last used", type_ = "date", json_path = ".status.use[-1:].lastUsedAt", priority = 1),
    printcolumn(name = "Display name", type_ = "string", json_path = ".spec.displayName", priority = 1),
    printcolumn(name = "Description", type_ = "string", json_path = ".spec.description", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.serviceAccountRef) == has(oldSelf.serviceAccountRef)").message(ACCOUNT_FIXED),
    validation = Rule::new("!oldSelf.?revoked.orValue(false) || self.?revoked.orValue(false)")
        .message("revoked is final: make another ApiToken"),
    validation = Rule::new(unchanged_when_immutable())
        .message("immutable is true: only revoked, revocationReason and, if the Instance allows it, regenerate may change; make another ApiToken"),
    validation = Rule::new(refused_while_in_use(&shorter_than_lifetime("self.rotation.overlap", 2, "<=")))
        .message("rotation.overlap must not be longer than half of expiry.after, so that two overlaps fit into a lifetime"),
    validation = Rule::new(shorter_than_lifetime("self.rotation.schedule.every", 1, "<"))
        .message("rotation.schedule.every must be shorter than expiry.after, or the token expires before it is replaced"),
    validation = Rule::new(shorter_than_lifetime("self.rotation.schedule.beforeExpiry", 1, "<"))
        .message("rotation.schedule.beforeExpiry must be shorter than expiry.after"),
    validation = Rule::new(
        "!has(self.rotation) || !has(self.rotation.schedule) || !has(self.rotation.schedule.beforeExpiry) || \
         !has(self.expiry) || !has(self.expiry.never) || !self.expiry.never")
        .message("rotation.schedule.beforeExpiry is not allowed with expiry.never: true; give every or cron"),
    validation = Rule::new(
        "!has(self.restart) || size(self.restart) == 0 || !has(self.secret) || !has(self.secret.delivery) || \
         self.secret.delivery != 'Once'")
        .message("restart is not allowed with secret.delivery: Once: a workload that starts later finds no Secret; remove one of the two"),
    validation = Rule::new("!has(self.revocationReason) || (has(self.revoked) && self.revoked)")
        .message("revocationReason is allowed with revoked: true only; remove it, or set revoked: true"),
)]
pub struct ApiTokenSpec {
    /// The Instance whose Admin API accepts the token. It cannot change.
    #[x_kube(validation = Rule::new(SAME)
        .message("instanceRef is fixed for life: make another ApiToken for another Instance"))]
    pub instance_ref: InstanceRef,
    /// The account that the token acts as: a ServiceAccount of tokenry.dev in the same namespace. It cannot change. If
    /// omitted, Tokenry creates an account with the name of the token, and deletes it together with the token. List the
    /// tokens of an account by `kubectl get apitok --field-selector spec.serviceAccountRef.name=ci`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(SAME).message(ACCOUNT_FIXED))]
    pub service_account_ref: Option<AccountRef>,
    /// Further Instances that accept the token. The token must satisfy the token policy, the members and the exclusions
    /// of each of them. The shortest of their limits applies. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_AUDIENCES))]
    pub audiences: Vec<InstanceRef>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub display_name: Option<String>,
    /// The purpose of the token, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The owner of the token, as a subject. If the Instance has `ceiling: Members`, the token never has more rights
    /// than its owner has there. If omitted, the user that creates the token becomes its owner, if the API server
    /// stamps creators. Otherwise the owner of the account is the owner. List the tokens of an owner by
    /// `kubectl get apitok --field-selector spec.owner=user:alice@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Subject>,
    /// The strongest role of the token. The token never has a stronger role than its account. If omitted, the token has
    /// the role of its account. If `serviceAccountRef` is omitted too, the token has the role of the Instance's
    /// `tokens.defaultRole`, or no role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// The organizations that the token may act for, among those of its account. At most 16 can be listed. Each of them
    /// must be one that `spec.organizations` of every Instance of the token lists. If omitted, all of the account's.
    /// List the tokens of an organization by `kubectl get apitok -A -l organization.tokenry.dev/shop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "organizations_schema")]
    pub organizations: Option<Scope>,
    /// The projects that the token may act in, among those of its account. If omitted or empty, all of the account's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub projects: Vec<ScopeName>,
    /// AccessPolicies of which the token is a member, by name, in addition to those that list it. They are policies of
    /// the Instance in `instanceRef`. To add or remove a name, a user needs the permission to `assign`
    /// `policies.tokenry.dev/INSTANCE:POLICY` in the Instance's namespace. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_POLICIES))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub policies: Vec<ObjectName>,
    /// True: the spec cannot change any more, except `revoked` and `revocationReason`. `regenerate` can change if the
    /// Instance's `tokens.immutable.regenerate` allows it. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub immutable: bool,
    /// True: the token is accepted. False: it is refused until this field is true again. Default: true.
    #[serde(default = "yes")]
    pub active: bool,
    /// True: every generation is refused, at once and forever. The Secret is deleted, or emptied if `secret.onRevoke`
    /// is Keep. Default: false.
    #[serde(default)]
    pub revoked: bool,
    /// The reason for the revocation, for `status.revocation`. It is allowed with `revoked: true` only. If omitted,
    /// Manual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<StatedReason>,
    /// The lifetime of the token, or of each of its generations. If omitted, each generation has the Instance's default
    /// lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
    /// The rules for replacing a generation by the next one. If omitted, the defaults of `schedule`, `windows` and
    /// `overlap` apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// A request for a new generation now, once. If omitted, there is no such request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regenerate: Option<Regenerate>,
    /// The Secret that delivers the value. If omitted, a Secret with the name of the token, without further keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretTemplate>,
    /// Workloads to restart each time a new value is published, because they read the Secret only when they start.
    /// While one of them does not exist, no value is created. An entry that is added later takes effect with the next
    /// value. If omitted, no workload is restarted. A workload that reads the mounted file needs no restart. It is not
    /// allowed if values are shown once: with `secret.delivery: Once`, or if an Instance has `tokens.delivery: Once`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_RESTARTED))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub restart: Vec<RestartTarget>,
}

impl ApiTokenSpec {
    /// A token of this Instance, with the default of every other field.
    pub fn of(instance_ref: InstanceRef) -> Self {
        let spec = serde_json::json!({ "instanceRef": instance_ref });
        serde_json::from_value(spec).expect("every other field has a default")
    }
}

/// A rule that rejects a change of the field it belongs to. It sees neither the first value nor the removal.
const SAME: &str = "self == oldSelf";
/// The message of the rules on `serviceAccountRef`.
const ACCOUNT_FIXED: &str = "serviceAccountRef is fixed for life: make another ApiToken for another account";

/// The most policies that a token or an account can name.
pub const MAX_POLICIES: usize = 8;
/// The most further Instances that can accept a token.
pub const MAX_AUDIENCES: usize = 8;

/// The most Instances of a token: its own, and its audiences.
const MAX_RULES: usize = 1 + MAX_AUDIENCES;
/// The most organizations that a token can list. Admission checks the permission to revoke for each of them.
pub const MAX_ORGANIZATIONS: usize = 16;

/// The schema of a token's organizations: a [`Scope`] with a shorter list.
fn organizations_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut scope = Scope::json_schema(generator);
    let listed = scope.pointer_mut("/properties/listed").and_then(Value::as_object_mut);
    listed.expect("a scope has a list").insert("maxItems".into(), MAX_ORGANIZATIONS.into());
    scope
}

/// The fields of an immutable token that cannot change: all but `revoked`, `revocationReason` and `regenerate`.
/// Admission rejects a change of `regenerate` unless the Instance allows it.
const IMMUTABLE: [&str; 16] = [
    "instanceRef",
    "serviceAccountRef",
    "audiences",
    "displayName",
    "description",
    "owner",
    "role",
    "organizations",
    "projects",
    "policies",
    "immutable",
    "active",
    "expiry",
    "rotation",
    "secret",
    "restart",
];

/// A rule that rejects a change of the fields in [`IMMUTABLE`] once `immutable` is true.
fn unchanged_when_immutable() -> String {
    let same = |field: &&str| {
        format!("has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})")
    };
    let all: Vec<_> = IMMUTABLE.iter().map(same).collect();
    format!("!has(oldSelf.immutable) || !oldSelf.immutable || ({})", all.join(" && "))
}

/// A rule that holds a duration field, `times` over, below the lifetime where it and `expiry.after` are given.
fn shorter_than_lifetime(field: &str, times: i32, comparison: &str) -> String {
    let mut parents = String::new();
    for (at, _) in field.match_indices('.').skip(1) {
        parents += &format!("!has({}) || ", &field[..at]);
    }
    let compared = compared(field, times, comparison, "self.expiry.after");
    format!("{parents}!has({field}) || !has(self.expiry) || !has(self.expiry.after) || {compared}")
}

/// The rule, with an exception for a token that is revoked or suspended. So a token that an older release accepted can
/// still be ended.
fn refused_while_in_use(rule: &str) -> String {
    format!("{rule} || (has(self.revoked) && self.revoked) || (has(self.active) && !self.active)")
}

/// A reference to an account: a ServiceAccount of tokenry.dev.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountRef {
    /// Name of the account, in the token's namespace.
    pub name: ObjectName,
}

/// The lifetime of the token, or of each of its generations. Give at most one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "[has(self.after), has(self.at), has(self.never) && self.never].filter(given, given).size() <= 1")
    .message("give at most one of after, at and never"))]
pub struct Expiry {
    /// The lifetime of each generation, counted from its creation, for example `90d`. The most is the Instance's
    /// maximum. A change applies to the next generation. Existing generations keep their expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// The end of the token as a whole. From then on no generation is valid, and no further one is created.
    ///
    /// Without a `rotation.schedule`, a value lives until this time, and nothing replaces it. That holds from the
    /// Instance's maximum lifetime before this time on. Values that are created earlier have the default lifetime, and
    /// are renewed. With a schedule, each value has the default lifetime.
    ///
    /// If nothing renews a token, a time further away than the maximum lifetime is a fault before the first value.
    /// Later it is no fault, and the published value ends at its own expiry. Ask for another value by `regenerate`.
    ///
    /// An earlier time shortens existing generations. A later time applies to the next generation. A time that is
    /// already in the past when the operator first sees it is a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// True: generations never expire. The Instance must allow this. Nothing renews them then, unless
    /// `rotation.schedule` has `every` or `cron`. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub never: bool,
}

/// The rules for replacing a generation by the next one. If omitted, the defaults of `schedule`, `windows` and
/// `overlap` apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rotation {
    /// The time at which the next generation is due. If omitted, it is due when a third of the lifetime is left. It is
    /// never due if values are shown once, or if the Instance has `tokens.rotation.default: Never`. A value that lives
    /// until `expiry.at` is not replaced either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<RotationSchedule>,
    /// Maintenance windows of the token. A due rotation waits for one of them, and for one of the Instance's windows if
    /// there are any. It waits until only an overlap is left before the expiry. If omitted, only the Instance's windows
    /// count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub windows: Vec<MaintenanceWindow>,
    /// How long the predecessor stays valid after its successor is published, for example `24h`. The most is half of
    /// the lifetime. A rotation is due at least this long before the expiry, and waits until the previous overlap is
    /// over. If omitted, the Instance's default, or less if the schedule leaves no room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Duration>,
}

/// The time at which the next generation is due. Give exactly one of `every`, `cron`, `beforeExpiry` and `never`.
///
/// A generation is due up to a twentieth of the interval earlier, so that tokens that were created together do not
/// rotate together. With `cron` it is due up to five minutes later instead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.every), has(self.cron), has(self.beforeExpiry), has(self.never) && self.never] \
         .filter(given, given).size() == 1")
        .message("give exactly one of every, cron, beforeExpiry and never, or leave schedule out"),
    validation = Rule::new("!has(self.timeZone) || has(self.cron)").message("timeZone is allowed with cron only; remove timeZone"),
)]
pub struct RotationSchedule {
    /// How long after the publish of the served generation the next one is due, for example `30d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// The calendar of the rotations: minute, hour, day of month, month and day of week as in crontab(5), for example
    /// `0 3 * * SUN`. The next generation is due at the first such time after the served one was published. The
    /// schedule follows local time: a daily schedule runs once a day, even on days when clocks go forward or back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub cron: Option<String>,
    /// The time zone of `cron`, by its name in the IANA database, for example `Europe/Berlin`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
    /// How long before the expiry of the served generation the next one is due, for example `30d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_expiry: Option<Duration>,
    /// True: a new generation is created only on request, by `regenerate`. Otherwise the served one expires. The
    /// condition `ExpiringSoon` announces this. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub never: bool,
}

/// A request for a new generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Regenerate {
    /// Any text that names the request, for example `leak-2026-11-22`. Each new text is one request for one new
    /// generation.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// The end of all older generations. It never extends their expiry. You can change this field later under the same
    /// id. It then counts from the publish of the generation that answered the request: `after: 0s` ends all older
    /// generations at once. If omitted, the generation served until then ends after the overlap, and earlier ones keep
    /// their own end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
}

/// The end of all older generations. Give exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.after) != has(self.at)")
    .message("give exactly one of after and at, or leave previous out"))]
pub struct Previous {
    /// How long after the publish of the new value older generations end, for example `2h`. `0s` means at once. The
    /// most is the Instance's maximum overlap. A generation that expires earlier keeps its expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Delay>,
    /// The time at which older generations end. A time in the past means as soon as the new value is published. A time
    /// after the expiry of the served generation is a fault. So is a time further away than the Instance's maximum
    /// overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
}

/// The Secret that delivers the value. If omitted, a Secret with the name of the token, without further keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.claimWithin) || !has(self.delivery) || self.delivery == 'Once'")
        .message("claimWithin is allowed with delivery: Once only; remove it, or set delivery: Once"),
    validation = Rule::new("!has(self.claimedBy) || !has(self.delivery) || self.delivery == 'Once'")
        .message("claimedBy is allowed with delivery: Once only; remove it, or set delivery: Once"),
    validation = Rule::new(no_binding_key()).message(keys::BINDING_RULE),
)]
pub struct SecretTemplate {
    /// The name of the Secret. If omitted, the name of the token. If the name changes, a new value is published in a
    /// Secret with the new name, once no overlap is running. The Secret with the old name is then deleted. With
    /// `delivery: Once`, a change takes effect with the next value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ObjectName>,
    /// Labels of the Secret, in addition to Tokenry's own. A label that you remove here is removed from the Secret.
    /// Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "keys::labels_schema")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Secret, in addition to Tokenry's own. An annotation that you remove here is removed from the
    /// Secret. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "keys::annotations_schema")]
    pub annotations: BTreeMap<String, String>,
    /// Further keys of the Secret, each with a template for its value, for example `TOKEN={{ token }}`. A key that you
    /// remove here is removed from the Secret. All keys and templates together have at most 256 KiB. Default: none.
    ///
    /// A template can name `token`, `token_id`, `endpoint`, `organization`, `account`, `name` (of the token) and
    /// `namespace`. It can join them by `~` and choose by `{% if %}`. It can use the filters `b64encode`, `tojson` (a
    /// JSON string) and `urlencode`.
    ///
    /// A key whose template names `token` or `token_id` contains the value. If its template changes, or another value
    /// in it, a new token value is needed. The new value is published once no overlap is running. With `delivery:
    /// Once`, the change takes effect with the next value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "keys::data_schema")]
    pub data: BTreeMap<String, String>,
    /// Adds the keys of a Service Binding (servicebinding.io): `type`, `provider`, and `host`, `port` and `uri` of the
    /// Admin API. The last three are empty if the Instance has no endpoint. `{}` adds the keys with their defaults. If
    /// omitted, the Secret has no such keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_binding: Option<ServiceBinding>,
    /// How long the Secret exists. If omitted, Once if an Instance of the token has `tokens.delivery: Once`, and Retain
    /// otherwise.
    ///
    /// Retain: it exists as long as the token. If it is deleted or damaged, it is restored.
    ///
    /// Once: each value is shown once. The Secret is deleted when it is annotated with `tokenry.dev/claimed` and the id
    /// of the value, when it is changed, or when `claimWithin` is over. A deleted Secret is not restored. If you change
    /// this field to Once and `claimWithin` is already over for the value, the Secret is deleted at once. If you remove
    /// this field, the published value keeps its delivery (`status.delivery`), and the change takes effect with the
    /// next value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryMode>,
    /// How long a value can wait to be claimed, counted from its publish, for example `15m`. It is allowed with
    /// `delivery: Once` only. If omitted, 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_within: Option<Duration>,
    /// The event that claims a value, besides the end of `claimWithin`. Annotation: somebody annotates the Secret.
    /// FirstUse: the verifier notes the first request with the value that it lets in, or somebody annotates the Secret.
    /// A refused request claims nothing. It is allowed with `delivery: Once` only. If omitted, Annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_by: Option<ClaimedBy>,
    /// The effect on the Secret when the token is revoked or ends. Delete: the Secret is deleted. Keep: the Secret
    /// stays, for workloads that cannot start without it, and its values are emptied. Default: Delete.
    #[serde(default)]
    pub on_revoke: OnRevoke,
}

fn no_binding_key() -> String {
    let binding = keys::BINDING.map(|key| format!("'{key}'")).join(", ");
    format!("!has(self.serviceBinding) || !has(self.data) || self.data.all(key, !(key in [{binding}]))")
}

/// The description of the service in a Service Binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceBinding {
    /// The type of the service. If omitted, `api-token`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub type_: Option<String>,
    /// The provider of the service. If omitted, `tokenry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub provider: Option<String>,
}

/// The time for which the Secret exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeliveryMode {
    /// The Secret exists as long as the token.
    Retain,
    /// The Secret exists until its value is claimed.
    Once,
}

/// The event that claims a value which is shown once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimedBy {
    /// The annotation `tokenry.dev/claimed` on the Secret.
    Annotation,
    /// The first request with the value that the verifier lets in, or the annotation.
    FirstUse,
}

/// The effect of the end of a token on its Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnRevoke {
    /// The Secret is deleted.
    #[default]
    Delete,
    /// The Secret stays, and its values are emptied.
    Keep,
}

/// The status of a token. The operator writes all of it except `use`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenStatus {
    /// The fields of the status that exist and cannot be read. If there are any, `conditions` is the only other field
    /// that is filled. This field is set while the object is read, and never written.
    #[serde(default, skip_serializing_if = "super::never_written")]
    #[schemars(skip)]
    pub unreadable: Vec<String>,
    /// The generation of the spec that this status describes. The default -1 means that the operator has not seen the
    /// object yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions of the token.
    ///
    /// `Valid`: the token's own Instance would accept some request with the served value. `Ready`: the state that the
    /// spec asks for is reached (see kstatus). A token that was suspended, revoked or ended as asked for is Ready. Both
    /// have the same reason, which is the state of the token in one word.
    ///
    /// `Accepted`: the spec is valid, and all objects that it refers to exist. `Published`: the Secret holds the value
    /// on record, or has shown it with `delivery: Once`. `Restarted`: the workloads in `spec.restart` were restarted.
    /// It is present only if there are any. `Permitted`: the token has some permission. It is present only if the
    /// Instance checks permissions.
    ///
    /// Present only while they are true: `Reconciling` and `Stalled` (see kstatus), `LimitedByAccount`, `OwnerStale`,
    /// and `ExpiringSoon`. `ExpiringSoon` means that the served generation is about to expire, and nothing renews it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The valid generations, the last two that expired, and all that were revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub records: Vec<Record>,
    /// The highest generation number so far. A number is never used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_generation: Option<i64>,
    /// The account that the token is bound to. It never changes. A token that waits is bound to the account that it
    /// names, as soon as that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<BoundAccount>,
    /// Name of the Secret that delivers the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Name of another Secret that may hold a value. While `spec.secret.name` changes, it is the Secret with the new
    /// name. After that it is the Secret with the old name, until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_secret_name: Option<String>,
    /// The Secret, for a Service Binding (servicebinding.io, Provisioned Service).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// The own organization of the token's Instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The URI of the Admin API, as the token last knew it. While the Instance has no such endpoint, a new value is
    /// published with this URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The Instances of `spec.audiences` that the operator has accepted. The operator decides on each one when it is
    /// added. Only these, and the token's own Instance, accept the token. If omitted, all of `spec.audiences`
    /// count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_AUDIENCES))]
    pub audiences: Option<Vec<AcceptedAudience>>,
    /// The permissions that the token has now, and the causes that limit them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// Digests of the rules of the token's Instances, as the operator last saw them: of its own Instance, and of those
    /// in `audiences`. If one changes, the Event PermissionsChanged reports it. Empty: there is no Instance without
    /// faults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_RULES))]
    pub rules: Vec<SeenRules>,
    /// The owner of the token, as the operator last saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<SeenOwner>,
    /// The Instance's rules for changing the token. Admission policies read them here, because they cannot read the
    /// Instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<MirroredPolicy>,
    /// The expiry of the served generation. If omitted, no generation is served, or it never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The time at which the served generation will be replaced. If omitted, no replacement is scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotates_at: Option<Time>,
    /// The last request by `regenerate.id` that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regeneration: Option<Regeneration>,
    /// The restart of the workloads in `spec.restart` for the last published generation, or for a later change of
    /// `endpoint` or `ca.crt`. If omitted, there are no such workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Once: the served value is shown once, whatever the Instance demands later. If omitted, its Secret exists as long
    /// as the token, or there is no value yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryMode>,
    /// For a value that is shown once: how the served value was claimed or lost. If omitted, the value waits to be
    /// claimed, or no value is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// The reason and the time of the end of the token. The end is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
    /// The fields that the operator does not write: `use`, and fields that this release does not know.
    #[serde(flatten)]
    #[schemars(with = "Used")]
    pub others: Others,
}

impl ApiTokenStatus {
    /// The use of each generation. Empty if it cannot be read.
    pub fn used(&self) -> Vec<Use> {
        self.others.read::<Used>().used
    }
}

/// The part of a token's status that the verifier writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Used {
    /// The use of each generation. Only the verifier writes it: the first use at once, later ones at most once an hour.
    #[serde(default, rename = "use", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["generation".into()]))]
    pub used: Vec<Use>,
}

/// A reference to an account by name and uid. The uid distinguishes it from a later account with the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct BoundAccount {
    /// Name of the account.
    pub name: String,
    /// Uid of the account.
    pub uid: String,
}

/// An Instance of `spec.audiences`, by name and uid. The uid distinguishes it from a later Instance with the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedAudience {
    /// Name of the Instance.
    pub name: String,
    /// Namespace of the Instance.
    pub namespace: String,
    /// Uid of the Instance.
    pub uid: String,
}

/// The use of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// The generation.
    pub generation: i64,
    /// The first use.
    pub first_used_at: Time,
    /// The last use, to within an hour.
    pub last_used_at: Time,
}

/// The permissions that a token has now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Effective {
    /// The effective role: the weakest of the account's role, the token's role, and the owner's role if the Instance
    /// has `ceiling: Members`. For a token that names no role, the Instance's `tokens.defaultRole` can take its place.
    /// Null: the token has no role. Policies can still permit actions.
    // `None` is written as null here, as in all fields of this type, because a status is merged.
    #[serde(default)]
    pub role: Option<String>,
    /// The permitted actions, by role and by policies. `*` if every valid token may make all requests that are not
    /// excluded. At most 64 are listed.
    #[serde(default)]
    pub actions: Vec<String>,
    /// The policies that permit some of these actions, by name. At most 32 are listed. Empty: no policy permits any.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub policies: Vec<String>,
    /// The organizations that the token may act for, among those that its own Instance lists. Null: any.
    #[serde(default)]
    pub organizations: Option<Vec<String>>,
    /// The projects that the token may act in. Null: all.
    #[serde(default)]
    pub projects: Option<Vec<String>>,
    /// The causes that give the token fewer permissions than its spec asks for. Empty: there are none.
    #[serde(default)]
    pub limited_by: Vec<LimitedBy>,
}

/// A cause that gives a token fewer permissions than it or its account asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum LimitedBy {
    /// The roles of its owner in the Instance's `members`.
    Owner,
    /// The role, organizations or projects of its account.
    Account,
    /// A policy that denies.
    Policy,
}

/// The rules of an Instance for a token, as digests. They show a change, but no content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeenRules {
    /// Name of the Instance.
    pub name: String,
    /// Namespace of the Instance.
    pub namespace: String,
    /// Digest of the requests that the Instance excludes, and of the way in which it reads requests.
    pub requests: String,
    /// Digest of the token's rights in the Instance, by roles, members and policies.
    pub rights: String,
}

/// An owner, as the operator last saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SeenOwner {
    /// The owner, as a subject. Null: there is none.
    #[serde(default)]
    pub subject: Option<String>,
    /// The stamp with the owner's groups. Null: there is none.
    #[serde(default)]
    pub stamp: Option<String>,
    /// The time at which the operator first saw the stamp. Null: there is no stamp.
    #[serde(default)]
    pub stamped_at: Option<Time>,
    /// True: the owner is an account that does not exist. Default: false.
    #[serde(default)]
    pub gone: bool,
}

/// An Instance's rules for changing or deleting its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct MirroredPolicy {
    /// True: a deletion must be confirmed by annotation.
    #[serde(default)]
    pub confirm_delete: bool,
    /// True: the token is immutable, even if its own spec does not say so.
    #[serde(default)]
    pub immutable: bool,
    /// True: `regenerate` may change even if the token is immutable.
    #[serde(default)]
    pub regenerate: bool,
}

/// A reference to the Secret, for a Service Binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Binding {
    /// Name of the Secret.
    pub name: String,
}

/// The answer to a request by `regenerate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Regeneration {
    /// The id of the request.
    pub id: String,
    /// The generation that was published for the request.
    pub generation: i64,
}

/// The end of a value that is shown once. It cannot be shown again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Claim {
    /// The generation that was claimed or lost.
    pub generation: i64,
    /// How the Secret was removed. Claimed: a user claimed the value, or the verifier let in a request with it under
    /// `claimedBy: FirstUse`. Unclaimed: the time for claiming it was over. Removed: somebody else deleted or changed
    /// the Secret.
    pub outcome: ClaimOutcome,
    /// The time at which the operator noticed the claim, the end of the time for it, or the removal.
    pub at: Time,
}

/// How the Secret of a value that is shown once was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimOutcome {
    /// A user claimed the value, or the verifier let in a request with it under `claimedBy: FirstUse`.
    Claimed,
    /// The time for claiming the value was over.
    Unclaimed,
    /// The Secret was deleted or changed by somebody else.
    Removed,
}

/// The end of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Revocation {
    /// The reason for the end of the token.
    pub reason: RevocationReason,
    /// The time at which the operator noticed the end of the token.
    pub at: Time,
    /// The requester that set `spec.revoked`, as a subject. If omitted, the token ended for another reason, or the API
    /// server does not stamp requesters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// For `OwnerRemoved`: the owner, and why it counts as removed, as it was at the end of the token. Later changes of
    /// the Instance, the owner or the account do not change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generations that were valid until the end of the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<i64>,
}

/// The reason for the end of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RevocationReason {
    /// `spec.revoked` was set.
    Manual,
    /// `spec.revoked` was set, and `spec.revocationReason` says that a value was compromised.
    Compromised,
    /// The time in `spec.expiry.at` has passed.
    Expired,
    /// The account that the token was bound to was deleted.
    AccountDeleted,
    /// The owner was removed, or holds too weak a role in the Instance.
    OwnerRemoved,
}

/// The reason for `revoked`: Manual or Compromised. If omitted, Manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StatedReason {
    /// The token is no longer needed, or any other reason.
    Manual,
    /// A value was compromised, for example leaked.
    Compromised,
}

impl FromStr for StatedReason {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "Manual" => Ok(Self::Manual),
            "Compromised" => Ok(Self::Compromised),
            _ => Err("give Manual or Compromised"),
        }
    }
}

impl From<StatedReason> for RevocationReason {
    fn from(stated: StatedReason) -> Self {
        match stated {
            StatedReason::Manual => Self::Manual,
            StatedReason::Compromised => Self::Compromised,
        }
    }
}

impl From<RevocationReason> for Reason {
    fn from(reason: RevocationReason) -> Self {
        match reason {
            RevocationReason::Manual | RevocationReason::Compromised => Self::Revoked,
            RevocationReason::Expired => Self::Expired,
            RevocationReason::AccountDeleted => Self::AccountDeleted,
            RevocationReason::OwnerRemoved => Self::OwnerRemoved,
        }
    }
}

impl ApiToken {
    /// The name of the Secret that delivers the value.
    pub fn secret_name(&self) -> &str {
        let given = self.spec.secret.as_ref().and_then(|secret| secret.name.as_ref());
        given.map_or_else(|| self.metadata.name.as_deref().unwrap_or_default(), ObjectName::as_str)
    }

    /// All Instances that should accept the token: its own, and further ones.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceRef> {
        [&self.spec.instance_ref].into_iter().chain(&self.spec.audiences)
    }

    /// True if `instance` should accept the token.
    pub fn opens(&self, instance: &Instance) -> bool {
        let home = self.metadata.namespace.as_deref().unwrap_or_default();
        self.instances().any(|reference| reference.means(instance, home))
    }

    /// The effect of the end of the token on its Secret.
    pub fn on_revoke(&self) -> OnRevoke {
        self.spec.secret.as_ref().map_or(OnRevoke::Delete, |secret| secret.on_revoke)
    }

    /// The owner that the status notes.
    pub fn noted_owner(&self) -> Option<&str> {
        self.status.as_ref()?.owner.as_ref()?.subject.as_deref()
    }

    /// The end of the token as a whole. `None`: it has none, or the time cannot be read.
    pub fn until(&self) -> Option<Timestamp> {
        self.spec.expiry.as_ref()?.at.as_ref()?.parse().ok()
    }

    /// The names of all Secrets that hold a value, or should hold one: the wanted Secret, the one with the served
    /// value, and another one.
    pub fn secret_names(&self) -> [Option<&str>; 3] {
        let status = self.status.as_ref();
        let served = status.and_then(|status| status.secret_name.as_deref());
        [Some(self.secret_name()), served, status.and_then(|status| status.other_secret_name.as_deref())]
    }

    /// The name of the account that the token acts as. The second part is true if the spec names no account, because
    /// Tokenry then creates one.
    pub fn account_name(&self) -> (&str, bool) {
        match &self.spec.service_account_ref {
            Some(named) => (named.name.as_str(), false),
            None => (self.metadata.name.as_deref().unwrap_or_default(), true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::schema::tests::fields;
    use std::collections::BTreeSet;

    #[test]
    fn an_immutable_token_keeps_every_field_but_its_end_and_regenerate() {
        let others = ["revoked", "revocationReason", "regenerate"];
        let known = IMMUTABLE.into_iter().chain(others).map(str::to_owned);
        assert_eq!(known.collect::<BTreeSet<_>>(), fields::<ApiTokenSpec>());
    }
}
