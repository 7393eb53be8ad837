//! `Instance`: one deployment of the product whose Admin API the tokens open.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    MaintenanceWindow, ObjectName, Others, Subject,
    account::TokenCount,
    permission::{ActionRule, AuthScheme, Exclusion, HeaderName, NamedBy, Role, RoleName, Scope},
    schema::compared,
    subject::{TeamName, UserName},
};
use crate::token::duration::Duration;

/// The product, how its Admin API is reached, and what every token of it obeys. All of it may be left out: `spec: {}`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tokenry.dev",
    version = "v1alpha1",
    kind = "Instance",
    namespaced,
    status = "InstanceStatus",
    derive = "PartialEq",
    shortname = "inst",
    category = "tokenry",
    doc = "One deployment of the product whose Admin API the tokens open.",
    selectable = ".spec.organization",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Organization", type_ = "string", json_path = ".status.organization"),
    printcolumn(name = "Tokens", type_ = "integer", json_path = ".status.tokens.active"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoints[?(@.name==\"admin\")].uri"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct InstanceSpec {
    /// The value that every API request names; letters, digits, '.', '_' and '-'. Left out: the Instance's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')")
        .message("must be letters, digits, '.', '_' and '-', with a letter or digit first and last, such as eem"))]
    pub organization: Option<String>,
    /// What serves the Admin API, and how it is reached. Left out: Tokenry exposes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<Manager>,
    /// What requests to the Admin API are, and which of them tokens may make. Left out: every valid token may make any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// The roles, weakest first; each includes those before it. Left out: `viewer` with `*:read`, `contributor` with
    /// `*:read` and `*:write`, and `admin` with `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub roles: Vec<Role>,
    /// Who is in which team. Left out: there are no teams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub teams: Vec<Team>,
    /// What a token never allows more than. None: nothing limits it but its own and its account's role. Members: what
    /// its owner holds in `members` now. Default: None.
    #[serde(default)]
    pub ceiling: Ceiling,
    /// Who holds which role. With `ceiling: Members`, left out and empty both mean nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub members: Vec<Member>,
    /// What every token of this Instance obeys.
    #[serde(default)]
    pub tokens: TokenPolicy,
}

/// What requests to the Admin API are, and which of them tokens may make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Api {
    /// Who may do what. Authenticated: every valid token may do what is not excluded and not denied by a policy. Roles:
    /// what its role or a policy permits, and nothing else. Default: Authenticated.
    #[serde(default)]
    pub authorization: Authorization,
    /// Where a caller may put its token. A request with a credential in two of these places is refused: proxy and API
    /// could each take another. Left out: `Authorization` with the scheme `Bearer`, `Token` or `Api-Key`, and
    /// `api-token`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a.header.lowerAscii() == b.header.lowerAscii() && \
        (!has(a.scheme) || !has(b.scheme) || a.scheme.lowerAscii() == b.scheme.lowerAscii())))")
        .message("names a place twice; a header without a scheme is one place with any scheme"))]
    pub credentials: Vec<CredentialPlace>,
    /// Which requests are which action; the first that matches says so. One that matches none is no action, and only
    /// `*` permits it. Left out: GET, HEAD and OPTIONS are `api:read`, all others `api:write`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub actions: Vec<ActionRule>,
    /// Requests that no token may make, whatever its role. Left out: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub excluded: Vec<Exclusion>,
    /// Where a request names its organization. Left out: it names none, and is refused where the token may act for some
    /// only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_from: Option<NamedBy>,
    /// Where a request names its project. Left out: it names none, and is refused where the token may act in some only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_from: Option<NamedBy>,
}

/// A place where a caller may put its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialPlace {
    /// In this header.
    pub header: HeaderName,
    /// Behind this scheme and a space (RFC 9110, 11.4), in capital or small letters. Left out: the header holds nothing
    /// but the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<AuthScheme>,
}

impl CredentialPlace {
    /// Whether one credential could be in both places.
    pub fn meets(&self, other: &Self) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let schemes = self.scheme.as_ref().zip(other.scheme.as_ref());
        same(self.header.as_str(), other.header.as_str())
            && schemes.is_none_or(|(one, other)| same(one.as_str(), other.as_str()))
    }
}

/// Who may do what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Authorization {
    /// Every valid token may do what is not excluded and not denied.
    #[default]
    Authenticated,
    /// A token may do what its role or a policy permits.
    Roles,
}

/// A team: users under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Team {
    /// Its name.
    pub name: TeamName,
    /// The names of its users, as the API server knows them. Left out: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub users: Vec<UserName>,
}

/// What a token never allows more than.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Ceiling {
    /// Its own role and its account's.
    #[default]
    None,
    /// Besides, what its owner holds in `members`.
    Members,
}

/// Who holds a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Who.
    pub subject: Subject,
    /// Which role, one of the Instance's.
    pub role: RoleName,
    /// In which organizations. Left out: in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organizations: Option<Scope>,
}

/// What serves the Admin API, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.endpoints) || size(self.endpoints) == 0 || has(self.service)")
    .message("manager.service is needed: name the Service that serves the Admin API, or leave endpoints out"))]
pub struct Manager {
    /// The Service that serves the Admin API, in the Instance's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ManagerService>,
    /// The ways in, by name. Today there is one, `admin`. Left out: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 1))]
    pub endpoints: Vec<Endpoint>,
}

/// The Service that serves the Admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManagerService {
    /// Its name.
    pub name: ObjectName,
    /// The port of it that serves the API. Default: 443.
    #[serde(default = "https_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// What is spoken there. Default: https.
    #[serde(default)]
    pub scheme: Scheme,
}

fn https_port() -> i32 {
    443
}

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    #[default]
    Https,
}

impl Scheme {
    /// As a URI writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URI of this scheme need not name.
    pub fn default_port(self) -> i32 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// One way in to the Admin API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("(has(self.type) && self.type != 'external') || has(self.host)")
        .message("host is needed: the DNS name that an external endpoint is reached by"),
    validation = Rule::new(led_to_if_external())
        .message("ingress is needed for an external endpoint; {} takes the cluster's default class"),
    validation = Rule::new(not_led_to_if_internal())
        .message("an internal endpoint has neither host nor ingress: remove them, or make it external"),
)]
pub struct Endpoint {
    /// Its name.
    pub name: EndpointName,
    /// From where it is reached: external, internal, or disabled, which also refuses every token. Left out: external.
    // The schema gives no default within a list: whoever applies the list again would see it as changed for ever.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<EndpointType>,
    /// The DNS name that an external endpoint is reached by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<ObjectName>,
    /// The Ingress of an external endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressTemplate>,
}

/// A rule that an external endpoint has a way in.
fn led_to_if_external() -> String {
    let has = WayIn::ALL.map(|way| format!("has(self.{})", way.field()));
    format!("(has(self.type) && self.type != 'external') || {}", has.join(" || "))
}

/// A rule that an internal endpoint has none.
fn not_led_to_if_internal() -> String {
    let lacks = ["host"].into_iter().chain(WayIn::ALL.map(WayIn::field)).map(|field| format!("!has(self.{field})"));
    format!("!has(self.type) || self.type != 'internal' || ({})", lacks.collect::<Vec<_>>().join(" && "))
}

impl Endpoint {
    /// From where it is reached.
    pub fn reach(&self) -> EndpointType {
        self.type_.unwrap_or_default()
    }

    /// What leads there from outside the cluster. Nothing: the endpoint is not reached from there, or does not say how.
    pub fn way_in(&self) -> Option<WayIn> {
        let is_external = self.reach() == EndpointType::External;
        WayIn::ALL.into_iter().find(|way| is_external && self.asks_for(*way))
    }

    /// Whether it has the field that asks for this way in.
    pub fn asks_for(&self, way: WayIn) -> bool {
        match way {
            WayIn::Ingress => self.ingress.is_some(),
        }
    }

    /// Whether the way in ends TLS towards the caller.
    pub fn is_tls(&self) -> bool {
        match self.way_in() {
            Some(WayIn::Ingress) => self.ingress.as_ref().is_some_and(|ingress| ingress.tls.is_some()),
            None => false,
        }
    }
}

listed! {
    /// What leads to an endpoint from outside the cluster: a field of [`Endpoint`], and the object that is made for it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum WayIn {
        /// An Ingress.
        Ingress,
    }
}

impl WayIn {
    /// The field of an endpoint that asks for it.
    pub fn field(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
        }
    }

    /// The API group and the resource of the object. Whoever asks for it has to be allowed to create such objects.
    pub fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::Ingress => ("networking.k8s.io", "ingresses"),
        }
    }
}

listed! {
    /// The endpoints that there can be.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum EndpointName {
        /// The Admin API.
        Admin,
    }
}

impl EndpointName {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
        }
    }
}

/// From where an endpoint is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointType {
    /// From outside the cluster and from inside: a Service and an Ingress.
    #[default]
    External,
    /// From inside the cluster: a Service.
    Internal,
    /// From nowhere: neither, and every token is refused.
    Disabled,
}

/// The Ingress of an external endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressTemplate {
    /// Its class. Left out: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<ObjectName>,
    /// Annotations for it, such as a controller's settings. Left out: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// TLS towards the caller. Left out: plain HTTP, and the endpoint's URI begins with http.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<IngressTls>,
}

/// TLS towards the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressTls {
    /// The Secret that holds the certificate, of type kubernetes.io/tls. Left out: the Ingress controller's default
    /// certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<ObjectName>,
}

/// What every token of an Instance obeys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenPolicy {
    /// How long a generation is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// How long a predecessor stays valid after its successor is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// How often values may be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationFloor>,
    /// Whether a token has to say, in `spec.description`, what it is for. Default: false.
    #[serde(default)]
    pub require_description: bool,
    /// The weakest role that an owner has to hold in `members`. It has a meaning with `ceiling: Members` only. Left
    /// out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_role: Option<RoleName>,
    /// The most tokens that one owner may have, in all namespaces: those that have this Instance as an audience are
    /// counted, and those that ended are not. The earliest stand. Left out: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_per_owner: Option<i64>,
    /// What becomes of a token whose owner is gone, or holds no role that may own tokens. Revoke: it ends, for ever.
    /// Suspend:
    /// it is refused until the owner is back. Keep: it stays, within what the owner holds. Default: Revoke.
    #[serde(default)]
    pub on_owner_removed: OnOwnerRemoved,
    /// How long the groups that were stamped on a token hold; then the owner has to change it, or its annotation
    /// `tokenry.dev/confirmed`. Left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_max_age: Option<Duration>,
    /// Whether deleting a token or an account needs its annotation `tokenry.dev/confirm-delete` to say what its
    /// description says, or its name where it has none.
    /// Default: false.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub confirm_delete: bool,
    /// Whether tokens may change once they are made. Left out: as each says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<Immutability>,
    /// How long after its end a token is deleted: one that was revoked, or expired with nothing to renew it. Deleted
    /// with an object that a repository holds, it is made again from there. Left out: ended tokens stay listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_after: Option<Duration>,
    /// When tokens may be rotated: a rotation that is due waits for one of these, and for one of the token's own where
    /// that has any, while the served generation then lasts for an overlap. Left out: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub windows: Vec<MaintenanceWindow>,
    /// Which namespaces tokens of this Instance may live in.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// First part of every plaintext: a lower-case letter, then up to 15 lower-case letters or digits. Left out: tkn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9]*$')")
        .message("must be a lower-case letter, then up to 15 lower-case letters or digits, such as eem"))]
    pub prefix: Option<String>,
}

/// Whether tokens may change once they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Immutability {
    /// True: every token is immutable, whatever it says itself. Default: false.
    #[serde(default)]
    pub always: bool,
    /// Whether `regenerate` of an immutable token may change. Default: Forbid.
    #[serde(default)]
    pub regenerate: Permission,
}

/// What becomes of a token whose owner is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnOwnerRemoved {
    /// It ends, for ever.
    #[default]
    Revoke,
    /// It is refused until the owner is back.
    Suspend,
    /// It stays.
    Keep,
}

/// How long a generation is valid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(default_within_max()).message("default must not be longer than max"))]
pub struct Lifetime {
    /// For tokens that do not say. Left out: 90d, or the maximum where that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Duration>,
    /// At most. A shorter one that is set later shortens generations that exist; a longer one extends none. Left out:
    /// 365d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
    /// Whether a token may ask for generations that never run out of time, by `expiry.never`. Set to Forbid later,
    /// those that exist get the maximum. Default: Forbid.
    #[serde(default)]
    pub never: Permission,
}

/// Whether something may be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Permission {
    /// It may.
    Allow,
    /// It may not.
    #[default]
    Forbid,
}

/// How long a predecessor stays valid after its successor is published.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(default_within_max()).message("default must not be longer than max"))]
pub struct Overlap {
    /// For tokens that do not say. Left out: 24h, or the maximum where that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Duration>,
    /// At most. Left out: 7d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// How often values may be renewed: each renewal costs the API server three writes of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationFloor {
    /// From one rotation to the next, at least, for example `10m`; jitter may take a twentieth of it, at most: it holds
    /// for `every`, `cron` and `beforeExpiry`, and for what follows from the lifetime where a token has no schedule,
    /// two thirds of it. A token that is to rotate more often has the fault RotationTooFrequent. Left out: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Duration>,
}

fn default_within_max() -> String {
    format!("!has(self.default) || !has(self.max) || {}", compared("self.default", 1, "<=", "self.max"))
}

/// Which namespaces tokens of an Instance may live in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
    .message("selector is needed when from is Selector, and has no meaning otherwise"))]
pub struct Namespaces {
    /// Same: the Instance's own. All: every one. Selector: those whose labels `selector` matches. Default: Same.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Selects namespaces by their labels; {} selects all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The Instance's own.
    #[default]
    Same,
    /// Every one.
    All,
    /// Those that a selector matches.
    Selector,
}

/// What the operator says of an Instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// The fields that are there and cannot be read: then nothing of the rest but `conditions` is here. It is never
    /// written.
    #[serde(default, skip_serializing_if = "super::never_written")]
    #[schemars(skip)]
    pub unreadable: Vec<String>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `EndpointsReady` and `Ready`. `Reconciling` and `Stalled`, as kstatus reads them, are there only
    /// while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The organization in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The ways in that stand, and those that are disabled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub endpoints: Vec<EndpointStatus>,
    /// How many tokens name it in `instanceRef`; those that it is only an audience of are not among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenCount>,
    /// Fields that this release does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub others: Others,
}

/// A way in that stands, or is disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointStatus {
    /// Its name.
    pub name: EndpointName,
    /// From where it is reached.
    #[serde(rename = "type")]
    pub type_: EndpointType,
    /// The URI that a client uses. Empty: the endpoint is disabled.
    pub uri: String,
}

impl InstanceStatus {
    /// How an endpoint stands, where it does.
    pub fn endpoint(&self, name: EndpointName) -> Option<&EndpointStatus> {
        self.endpoints.iter().find(|endpoint| endpoint.name == name)
    }
}

impl Instance {
    /// The value that every API request names.
    pub fn organization(&self) -> &str {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.organization.as_deref().unwrap_or(name)
    }

    /// The name of the objects of one of its endpoints.
    pub fn exposed_name(&self, endpoint: EndpointName) -> String {
        super::name::exposed(self.metadata.name.as_deref().unwrap_or_default(), endpoint.as_str())
    }

    /// The Service that serves the Admin API, where one is named.
    pub fn manager_service(&self) -> Option<&ManagerService> {
        self.spec.manager.as_ref()?.service.as_ref()
    }

    /// The endpoints asked for, but for disabled ones.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.all_endpoints().filter(|endpoint| endpoint.reach() != EndpointType::Disabled)
    }

    /// Whether an endpoint is disabled, so that no token is let in.
    pub fn is_disabled(&self) -> bool {
        self.all_endpoints().any(|endpoint| endpoint.reach() == EndpointType::Disabled)
    }

    /// The endpoints that are named, disabled ones included.
    pub fn all_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.spec.manager.iter().flat_map(|manager| &manager.endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_field_of_an_endpoint_is_a_way_in_or_leads_nowhere() {
        let schema = serde_json::to_value(schemars::schema_for!(Endpoint)).unwrap();
        let fields: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let others = ["name", "type", "host"];
        assert_eq!(WayIn::ALL.map(WayIn::field).into_iter().chain(others).collect::<BTreeSet<_>>(), fields);
    }
}
