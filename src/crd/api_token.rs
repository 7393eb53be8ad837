//! `ApiToken`: an identity over time, whose value Tokenry mints, delivers, rotates and takes away.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// What a token is and how it lives.
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
    doc = "An API access token: minted, delivered in a Secret, rotated on schedule and taken away when it should go.",
    selectable = ".spec.instanceRef.name",
    selectable = ".spec.owner",
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
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName", priority = 1),
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceRef.name", priority = 1),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner", priority = 1),
    printcolumn(name = "Role", type_ = "string", json_path = ".status.effective.role", priority = 1),
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
    validation = Rule::new("self.instanceRef == oldSelf.instanceRef")
        .message("instanceRef is fixed for life: make another ApiToken for another Instance")
        .field_path(".instanceRef"),
    validation = Rule::new(
        "has(self.serviceAccountRef) == has(oldSelf.serviceAccountRef) && \
         (!has(self.serviceAccountRef) || self.serviceAccountRef == oldSelf.serviceAccountRef)")
        .message("serviceAccountRef is fixed for life: make another ApiToken for another account"),
    validation = Rule::new("!(has(oldSelf.revoked) && oldSelf.revoked) || (has(self.revoked) && self.revoked)")
        .message("revoked is final: make another ApiToken"),
    validation = Rule::new(unchanged_when_immutable())
        .message("immutable is true: nothing but revoked may change; make another ApiToken"),
    validation = Rule::new(refused_while_in_use(&shorter_than_lifetime("self.rotation.overlap", 2, "<=")))
        .message("rotation.overlap must not be longer than half of expiry.after: a value is replaced so long before its end, and its \
                  own predecessor is valid for as long"),
    validation = Rule::new(shorter_than_lifetime("self.rotation.schedule.every", 1, "<"))
        .message("rotation.schedule.every must be shorter than expiry.after, or the token expires before it is replaced"),
    validation = Rule::new(shorter_than_lifetime("self.rotation.schedule.beforeExpiry", 1, "<"))
        .message("rotation.schedule.beforeExpiry must be shorter than expiry.after"),
    validation = Rule::new(
        "!has(self.expiry) || !has(self.expiry.never) || !self.expiry.never || !has(self.rotation) || \
         !has(self.rotation.schedule) || !has(self.rotation.schedule.beforeExpiry)")
        .message("rotation.schedule.beforeExpiry has no meaning where expiry.never is true"),
    validation = Rule::new(
        "!has(self.restart) || size(self.restart) == 0 || !has(self.secret) || !has(self.secret.delivery) || \
         self.secret.delivery != 'Once'")
        .message("restart has no meaning with secret.delivery: Once: a workload that starts later finds no Secret"),
    validation = Rule::new("!has(self.revocationReason) || (has(self.revoked) && self.revoked)")
        .message("revocationReason has a meaning with revoked: true only"),
)]
pub struct ApiTokenSpec {
    /// The Instance whose Admin API the token opens. Fixed for life.
    pub instance_ref: InstanceRef,
    /// The account that the token acts as: a ServiceAccount of tokenry.dev in the same namespace. Fixed for life. Left
    /// out: an account of the token's own name is made, and goes with the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<AccountRef>,
    /// Further Instances that accept the token, with its role there. The token policy, the members and the exclusions
    /// of each apply, and what ends first does. Left out: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_AUDIENCES))]
    pub audiences: Vec<InstanceRef>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub display_name: Option<String>,
    /// What the token is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Who answers for the token, as a subject. Where the Instance's `ceiling` is Members, the token never allows more
    /// than the owner holds there. Left out: who applies it first, where the API server can stamp that; else the
    /// account's owner. List the tokens of an owner by
    /// `kubectl get apitok --field-selector spec.owner=user:alice@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Subject>,
    /// The role that it has at most; it narrows the account's, and never widens it. Left out: the account's. For a
    /// token that names no account, the role of its own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// The organizations that it may act for, of those of the account. Left out: all of the account's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organizations: Option<Scope>,
    /// The projects that it may act in, of those of the account. Left out or empty: all of the account's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub projects: Vec<ScopeName>,
    /// True: nothing but `revoked` may change any more, and `regenerate` where the Instance's
    /// `tokens.immutable.regenerate` allows it. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub immutable: bool,
    /// Whether the token is accepted. False: refused until it is true again. Default: true.
    #[serde(default = "yes")]
    pub active: bool,
    /// True: every generation is refused at once and for ever, and the Secret is removed, or emptied as
    /// `secret.onRevoke` says. Default: false.
    #[serde(default)]
    pub revoked: bool,
    /// Why it was revoked, for `status.revocation`. It has a meaning with `revoked` only. Left out: Manual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<StatedReason>,
    /// How long the token, or each of its generations, is valid. Left out: each generation for the Instance's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
    /// When a generation is replaced by the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Asks for a new generation now, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regenerate: Option<Regenerate>,
    /// The Secret that delivers the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretTemplate>,
    /// Workloads that read the Secret only when they start, and so are restarted each time a new value was published.
    /// One that does not exist keeps any value from being minted. An entry that is added later counts from the next
    /// value on. Left out: none, as a workload that reads the mounted file needs no restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_RESTARTED))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub restart: Vec<RestartTarget>,
}

/// The most further Instances that a token can be for.
pub const MAX_AUDIENCES: usize = 8;

/// What may not change of a token that is immutable: all but its end, and `regenerate`, which admission holds to what
/// the Instance says.
const IMMUTABLE: [&str; 15] = [
    "instanceRef",
    "serviceAccountRef",
    "audiences",
    "displayName",
    "description",
    "owner",
    "role",
    "organizations",
    "projects",
    "immutable",
    "active",
    "expiry",
    "rotation",
    "secret",
    "restart",
];

/// A rule that holds every field but those that may always change, once `immutable` is true.
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

/// The rule, but for a token that is revoked or suspended: one that an older release let in can still be ended.
fn refused_while_in_use(rule: &str) -> String {
    format!("(has(self.revoked) && self.revoked) || (has(self.active) && !self.active) || {rule}")
}

/// Names an account: a ServiceAccount of tokenry.dev.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountRef {
    /// Name of the account, in the token's namespace.
    pub name: ObjectName,
}

/// How long the token, or each of its generations, is valid: at most one of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "[has(self.after), has(self.at), has(self.never) && self.never].filter(given, given).size() <= 1")
    .message("give at most one of after, at and never"))]
pub struct Expiry {
    /// Each generation, from its mint on, for example `90d`; at most the Instance's maximum. Read at each mint:
    /// generations that exist keep their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// The token as a whole, as in RFC 3339: no generation is valid from then on, and none follows. Until then each is
    /// valid for the Instance's default, or for its maximum where nothing replaces it: `rotation.schedule` says never,
    /// or is left out with `secret.delivery: Once`. An earlier time shortens
    /// generations that exist; a later one concerns the next. One that is over before the operator has seen it is a
    /// fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// True: generations never run out of time. The Instance has to allow it. Nothing renews them then, unless
    /// `rotation.schedule` has `every` or `cron`. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub never: bool,
}

/// When a generation is replaced by the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rotation {
    /// When the next generation is due. Left out: when a third of the lifetime is left; never where `secret.delivery`
    /// is Once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<RotationSchedule>,
    /// A rotation that is due waits for one of these, and for one of the Instance's where that has any, while the
    /// served generation then lasts for an overlap. Left out: it waits for none of the token's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub windows: Vec<MaintenanceWindow>,
    /// How long the predecessor stays valid after its successor is published, for example `24h`; at most half of the
    /// lifetime. A rotation is due at the latest so long before the expiry, and waits until the overlap of the one
    /// before is over. Left out:
    /// the Instance's default, or less where the schedule leaves no room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Duration>,
}

/// When the next generation is due: exactly one of `every`, `cron`, `beforeExpiry` and `never`. Up to a twentieth
/// earlier, so that tokens made together do not rotate together; with `cron` up to five minutes later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.every), has(self.cron), has(self.beforeExpiry), has(self.never) && self.never] \
         .filter(given, given).size() == 1")
        .message("give exactly one of every, cron, beforeExpiry and never, or leave schedule out"),
    validation = Rule::new("!has(self.timeZone) || has(self.cron)").message("timeZone has a meaning with cron only"),
)]
pub struct RotationSchedule {
    /// This long after the served generation was published, for example `30d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// At the first such moment after the served generation was published: minute, hour, day of month, month and day of
    /// week as in crontab(5), for example `0 3 * * SUN`. It goes by the clock on the wall: what is once a day is so too
    /// on the days on which clocks go forward or back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub cron: Option<String>,
    /// Time zone of `cron` in the IANA database, for example `Europe/Berlin`. Left out: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
    /// This long before the served generation expires, for example `30d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_expiry: Option<Duration>,
    /// True: only when `regenerate` asks. What is served then runs out of time; the condition `ExpiringSoon` says so
    /// before. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub never: bool,
}

/// Asks for a new generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Regenerate {
    /// Any text that says why, for example `leak-2026-11-22`. It asks once, whatever restarts; another text asks again.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// When the values of before end, all of them; never later than they would have anyway. It can be changed later,
    /// under the same id, and then counts from the publish of the generation that answered it: `after: 0s` ends all
    /// older ones at once. Left out: the value served so far ends after the overlap, and those before it keep their own
    /// end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
}

/// When the values of before end: exactly one of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.after) != has(self.at)")
    .message("give exactly one of after and at, or leave previous out"))]
pub struct Previous {
    /// This long after the new value is published, for example `2h`; `0s` is at once. At most the Instance's longest
    /// overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Delay>,
    /// At this time, as in RFC 3339. One that is over means as soon as the new value is published; one that is later
    /// than the value would have expired anyway is a fault, while a delay beyond that is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
}

/// The Secret that delivers the value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.claimWithin) || (has(self.delivery) && self.delivery == 'Once')")
        .message("claimWithin has a meaning with delivery: Once only"),
    validation = Rule::new(no_binding_key()).message(keys::BINDING_RULE),
)]
pub struct SecretTemplate {
    /// Its name. Left out: the token's name. Where it changes, a new value comes in a Secret of the new name, once no
    /// overlap is running; then that of the old name is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ObjectName>,
    /// Labels that it gets. Left out: none but Tokenry's own. One that is left out later is removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "keys::labels_schema")]
    pub labels: BTreeMap<String, String>,
    /// Annotations that it gets. Left out: none but Tokenry's own. One that is left out later is removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "keys::annotations_schema")]
    pub annotations: BTreeMap<String, String>,
    /// Further keys, each with a template that makes its value, for example `TOKEN={{ token }}`. A template can name
    /// `token`, `token_id`, `endpoint`, `organization`, `account`, `name` (of the token) and `namespace`, join them by
    /// `~`, choose by `{% if %}`, and use the filters `b64encode`, `tojson` (a JSON string) and `urlencode`. A change
    /// of one that names `token` or `token_id`, or of what it names, needs a new value: that comes once no overlap is
    /// running. Keys and templates come to 256 KiB together at the most. Left out: no further keys. One that is left
    /// out later is removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "keys::data_schema")]
    pub data: BTreeMap<String, String>,
    /// Asks for the keys of a Service Binding (servicebinding.io): `type`, `provider`, and of the Admin API `host`,
    /// `port` and `uri`, which are empty where the Instance has no endpoint. `{}` asks for them with their defaults.
    /// Left out: no such keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_binding: Option<ServiceBinding>,
    /// How long it is there. Retain: for as long as the token lives; it is repaired where it is damaged. Once: each
    /// value is shown once, until the Secret is annotated with `tokenry.dev/claimed` and the value's id, removed or
    /// changed, at the longest for `claimWithin`; it is not minted again for being absent. Changed to Once later, a
    /// value whose time is over goes at once. Default: Retain.
    #[serde(default)]
    pub delivery: DeliveryMode,
    /// With `delivery: Once`, how long a value may wait to be claimed, from its publish on, for example `15m`. Left
    /// out: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_within: Option<Duration>,
    /// What becomes of it when the token is revoked or ends. Delete: it is removed. Keep: it stays, for workloads that
    /// cannot start without it, and its values are emptied. Default: Delete.
    #[serde(default)]
    pub on_revoke: OnRevoke,
}

fn no_binding_key() -> String {
    let binding = keys::BINDING.map(|key| format!("'{key}'")).join(", ");
    format!("!has(self.serviceBinding) || !has(self.data) || self.data.all(key, !(key in [{binding}]))")
}

/// What a Service Binding is told of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceBinding {
    /// What kind of service it is. Left out: `api-token`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub type_: Option<String>,
    /// Who provides it. Left out: `tokenry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub provider: Option<String>,
}

/// How long the Secret is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeliveryMode {
    /// For as long as the token lives.
    #[default]
    Retain,
    /// Until its value was claimed.
    Once,
}

/// What becomes of the Secret of a token that was ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnRevoke {
    /// It is removed.
    #[default]
    Delete,
    /// It stays, and its values are emptied.
    Keep,
}

/// What the operator says of a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenStatus {
    /// The fields that are there and cannot be read: then nothing of the rest but `conditions` is here. It is never
    /// written.
    #[serde(default, skip_serializing_if = "super::never_written")]
    #[schemars(skip)]
    pub unreadable: Vec<String>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Valid`: some request with the served value would be answered 200, as the token's own Instance judges. `Ready`:
    /// what the spec asks for is reached, also that the token is suspended, revoked or ended at its time (kstatus).
    /// Both have the same reason, which says in one word how the token is. `Accepted`: the spec is valid and what it
    /// refers to exists. `Published`:
    /// the Secret holds the value on record. `Restarted`: there where `spec.restart` names a workload. There only while
    /// they are true: `Reconciling` and `Stalled`, as kstatus reads them, and `ExpiringSoon`, where the served
    /// generation is about to expire and nothing will renew it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The generations that are valid, the last two that expired, and all that were revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub records: Vec<Record>,
    /// The highest number a generation was given. A number is never given twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_generation: Option<i64>,
    /// The account that the token is bound to for life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<BoundAccount>,
    /// Name of the Secret that delivers the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Name of another Secret that may hold a value: the next one while the name changes, and then the one of the old
    /// name until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_secret_name: Option<String>,
    /// The Secret, for Service Binding (servicebinding.io, Provisioned Service).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// The organization of the Instance, which every API request names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The further Instances of `spec.audiences` that the operator has accepted, each decided when it was added:
    /// verifiers open these alone. Left out: an operator of an earlier release, for which all that the spec names
    /// count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_AUDIENCES))]
    pub audiences: Option<Vec<AcceptedAudience>>,
    /// What the token may do now, and what holds it to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// Who answers for it, as the operator last saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<SeenOwner>,
    /// What its Instance asks of those who change it, for admission, which sees no Instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<MirroredPolicy>,
    /// When the served generation expires. Left out: none is served, or it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the served generation will be replaced. Left out: nothing will replace it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotates_at: Option<Time>,
    /// The last `regenerate.id` that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regeneration: Option<Regeneration>,
    /// The restart of the workloads that `spec.restart` names, for the last published generation. Left out: none is
    /// named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// With `secret.delivery: Once`, what became of the served value. Left out: it waits to be claimed, or there is
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Why and when the token was ended, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
    /// What the operator does not write: `use`, and fields that this release does not know.
    #[serde(flatten)]
    #[schemars(with = "Used")]
    pub others: Others,
}

impl ApiTokenStatus {
    /// When each generation was used, as far as that can be read.
    pub fn used(&self) -> Vec<Use> {
        self.others.read::<Used>().used
    }
}

/// What the verifier says of a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Used {
    /// When each generation was used. The verifier writes it, and nobody else: the first use at once, later ones at
    /// most once an hour.
    #[serde(default, rename = "use", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["generation".into()]))]
    pub used: Vec<Use>,
}

/// An account, told from a later one of the same name by its uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct BoundAccount {
    /// Name of the account.
    pub name: String,
    /// Uid of the account.
    pub uid: String,
}

/// A further Instance that accepts a token, told from a later one of the same name by its uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedAudience {
    /// Name of the Instance.
    pub name: String,
    /// Namespace of the Instance.
    pub namespace: String,
    /// Uid of the Instance.
    pub uid: String,
}

/// When a generation was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// The generation.
    pub generation: i64,
    /// When it was used for the first time.
    pub first_used_at: Time,
    /// When it was used last, to within an hour.
    pub last_used_at: Time,
}

/// What a token may do now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Effective {
    /// Its role: the least of the account's, the token's and what the owner holds. Null: none.
    // Written as null where it is none, as are all fields here: a status is merged.
    #[serde(default)]
    pub role: Option<String>,
    /// The actions that it may do, by its role and by policies; `*` where every valid token may do what is not
    /// excluded.
    #[serde(default)]
    pub actions: Vec<String>,
    /// The organizations that it may act for. Null: all.
    #[serde(default)]
    pub organizations: Option<Vec<String>>,
    /// The projects that it may act in. Null: all.
    #[serde(default)]
    pub projects: Option<Vec<String>>,
    /// What holds it to less than was asked for, if anything does.
    #[serde(default)]
    pub limited_by: Vec<LimitedBy>,
}

/// What holds a token to less than it or its account asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum LimitedBy {
    /// What its owner holds in the Instance's `members`.
    Owner,
    /// The role, organizations or projects of its account.
    Account,
    /// A policy that denies.
    Policy,
}

/// An owner, as the operator saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SeenOwner {
    /// The owner. Null: none.
    #[serde(default)]
    pub subject: Option<String>,
    /// The stamp of the owner's groups. Null: none.
    #[serde(default)]
    pub stamp: Option<String>,
    /// When the stamp was first seen. Null: there is none.
    #[serde(default)]
    pub stamped_at: Option<Time>,
    /// Whether it is an account that does not exist. Default: false.
    #[serde(default)]
    pub gone: bool,
}

/// What an Instance asks of those who change or delete its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct MirroredPolicy {
    /// Whether a deletion has to be confirmed.
    #[serde(default)]
    pub confirm_delete: bool,
    /// Whether the token is immutable, whatever it says itself.
    #[serde(default)]
    pub immutable: bool,
    /// Whether `regenerate` may change all the same.
    #[serde(default)]
    pub regenerate: bool,
}

/// Where a Service Binding finds the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Binding {
    /// Name of the Secret.
    pub name: String,
}

/// The answer to a `regenerate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Regeneration {
    /// The id that asked.
    pub id: String,
    /// The generation that was published for it.
    pub generation: i64,
}

/// What became of a value that is shown once. It cannot be shown again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Claim {
    /// The generation that it is about.
    pub generation: i64,
    /// How it came that its Secret is gone.
    pub outcome: ClaimOutcome,
    /// When the operator saw it.
    pub at: Time,
}

/// How it came that a Secret whose value is shown once is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimOutcome {
    /// Someone claimed it.
    Claimed,
    /// Nobody claimed it in time.
    Unclaimed,
    /// Someone removed or changed it.
    Removed,
}

/// The end of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Revocation {
    /// Why.
    pub reason: RevocationReason,
    /// When the operator saw it.
    pub at: Time,
    /// The generations that were valid until then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<i64>,
}

/// Why a token was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RevocationReason {
    /// `spec.revoked` was set.
    Manual,
    /// `spec.revoked` was set, and `spec.revocationReason` says that a value fell into the wrong hands.
    Compromised,
    /// The time that `spec.expiry.at` gives is over.
    Expired,
    /// The account that the token was bound to is gone.
    AccountDeleted,
    /// Its owner is gone, or holds too little in the Instance.
    OwnerRemoved,
}

/// The reasons for a revocation that a user may state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StatedReason {
    /// It is not needed any more, or any other reason.
    Manual,
    /// A value fell into the wrong hands.
    Compromised,
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

    /// Whether each of its values is shown once.
    pub fn is_shown_once(&self) -> bool {
        self.spec.secret.as_ref().is_some_and(|secret| secret.delivery == DeliveryMode::Once)
    }

    /// Every Instance that is to accept it: its own, and further ones.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceRef> {
        [&self.spec.instance_ref].into_iter().chain(&self.spec.audiences)
    }

    /// Whether `instance` is to accept it.
    pub fn opens(&self, instance: &Instance) -> bool {
        let home = self.metadata.namespace.as_deref().unwrap_or_default();
        self.instances().any(|reference| reference.means(instance, home))
    }

    /// What becomes of its Secret when it is ended.
    pub fn on_revoke(&self) -> OnRevoke {
        self.spec.secret.as_ref().map_or(OnRevoke::Delete, |secret| secret.on_revoke)
    }

    /// When it ends as a whole.
    pub fn until(&self) -> Option<Timestamp> {
        self.spec.expiry.as_ref()?.at.as_ref()?.parse().ok()
    }

    /// The names of all Secrets that are or were to deliver a value: the one asked for, that of the served value, and
    /// another.
    pub fn secret_names(&self) -> [Option<&str>; 3] {
        let status = self.status.as_ref();
        let served = status.and_then(|status| status.secret_name.as_deref());
        [Some(self.secret_name()), served, status.and_then(|status| status.other_secret_name.as_deref())]
    }

    /// The name of the account that the token acts as, and whether it was left out, so that the account is the token's
    /// own.
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
    use std::collections::BTreeSet;

    #[test]
    fn an_immutable_token_keeps_every_field_but_its_end_and_regenerate() {
        let schema = serde_json::to_value(schemars::schema_for!(ApiTokenSpec)).unwrap();
        let fields: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let others = ["revoked", "revocationReason", "regenerate"];
        assert_eq!(IMMUTABLE.into_iter().chain(others).collect::<BTreeSet<_>>(), fields);
    }
}
