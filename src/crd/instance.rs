//! `Instance`: describes one API: its callers, their permissions, and the lifetime of their tokens.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    MaintenanceWindow, ObjectName, Others, Subject,
    account::TokenCount,
    permission::{
        ActionRule, AuthScheme, DefaultRoleName, Exclusion, HeaderName, ListedOrganization, NamedBy, Role, RoleName,
        Scope, Unguarded,
    },
    schema::compared,
    subject::{FormerOwner, TeamName, UserName},
};
use crate::token::duration::Duration;

pub use super::endpoint::{CaSource, Endpoint, EndpointName, EndpointType, Guard, NetworkPolicyTemplate, WayIn};

/// The spec of an Instance: the Admin API, its endpoint, and the rules for its tokens. All fields are optional.
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
    doc = "Describes one API: its callers, their permissions, and the lifetime of their tokens.",
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
#[x_kube(
    validation = Rule::new("!has(self.tokens) || !has(self.tokens.defaultRole) || \
    self.tokens.defaultRole != 'Owner' || (has(self.ceiling) && self.ceiling == 'Members')")
    .message("tokens.defaultRole: Owner needs ceiling: Members, as members say which roles an owner holds; name a role, or set ceiling")
    .field_path(".tokens.defaultRole"),
    validation = Rule::new(
        "!has(self.grants) || self.grants != 'Members' || (has(self.ceiling) && self.ceiling == 'Members')")
        .message("grants: Members is allowed with ceiling: Members only; set the ceiling, or leave grants out")
        .field_path(".grants"),
)]
pub struct InstanceSpec {
    /// The Instance's own organization, which Secrets and identity headers name. Letters, digits, '.', '_' and '-'. If
    /// omitted, the name of the Instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')")
        .message("must be letters, digits, '.', '_' and '-', with a letter or digit first and last, such as shop"))]
    pub organization: Option<String>,
    /// All organizations that requests may name. Requests that name another one are refused. The single entry `*`
    /// means any organization. `all` of a token, an account or a member means all of these. A member, token or account
    /// that lists another organization has the fault OrganizationUnknown. If omitted, the Instance's own organization
    /// alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("size(self) <= 1 || !('*' in self)").message(ANY_ALONE_RULE),
    )]
    pub organizations: Vec<ListedOrganization>,
    /// The Service of the Admin API, and its endpoint. If omitted, Tokenry exposes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<Manager>,
    /// The meaning of requests to the Admin API, and the rules for permitting them. If omitted, every valid token may
    /// make every request, within the limits of `ceiling` and of policies that deny.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// The roles, weakest first. Each role includes the roles before it. If omitted: `viewer` with `*:read`,
    /// `contributor` with `*:read` and `*:write`, and `admin` with `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub roles: Vec<Role>,
    /// The teams and their users. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub teams: Vec<Team>,
    /// The upper limit of a token's rights. None: only its own role and its account's role limit it. Members: the roles
    /// that its owner holds in `members` now limit it too. Default: None.
    #[serde(default)]
    pub ceiling: Ceiling,
    /// The members: subjects and the roles that they hold. With `ceiling: Members`, an omitted or empty list means that
    /// nobody holds a role. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub members: Vec<Member>,
    /// The users and core ServiceAccounts that have left: `user:NAME` or `serviceaccount:NAMESPACE/NAME`. Each of them
    /// counts as a removed owner at once. It does not matter if `members`, a team or a group gives it a role. Without
    /// `ceiling: Members` it counts too. A token also loses its owner if an account that it acts as, or that owns it,
    /// belongs to one of them. An account that owns such an account counts like it. `tokens.onOwnerRemoved` decides
    /// about these tokens. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub former_owners: Vec<FormerOwner>,
    /// The rights of RBAC that follow from `members`. Members: a member may give its role and the weaker ones to tokens
    /// and accounts. The owner of an account may use it, and a user may read the Secrets of its tokens. None: no rights
    /// follow. Members is allowed with `ceiling: Members` only. If omitted: Members with `ceiling: Members`, else None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Grants>,
    /// The rules for every token of this Instance.
    #[serde(default)]
    pub tokens: TokenPolicy,
}

/// The message for a list of organizations in which `*` is not alone.
pub const ANY_ALONE_RULE: &str = "* means any organization; give it alone, or give names";

/// The meaning of requests to the Admin API, and the rules for permitting them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Api {
    /// The rule for permitting requests. Authenticated: a valid token may make every request that is neither excluded
    /// nor denied by a policy. Roles: a token may make only requests that its role or a policy permits. Default:
    /// Authenticated.
    #[serde(default)]
    pub authorization: Authorization,
    /// The places where a request may carry its token. A request with a credential in two of these places is refused,
    /// because proxy and API could read different ones. If omitted: `Authorization` with the scheme `Bearer`, `Token`
    /// or `Api-Key`, and `api-token`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a.header.lowerAscii() == b.header.lowerAscii() && \
        (!has(a.scheme) || !has(b.scheme) || a.scheme.lowerAscii() == b.scheme.lowerAscii())))")
        .message("gives a header and scheme twice; a header without a scheme includes all its schemes"))]
    pub credentials: Vec<CredentialPlace>,
    /// The actions of requests. The first entry that matches a request gives its action. A request without a matching
    /// entry has no action, and only `*` permits it. If omitted, GET, HEAD and OPTIONS are `api:read`, and all others
    /// are `api:write`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub actions: Vec<ActionRule>,
    /// Requests that no token may make, even with the strongest role. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub excluded: Vec<Exclusion>,
    /// Requests that are let through unjudged, with every identity header empty, such as the API's own login. An entry
    /// counts only where every server reads the request alike. A request with a token is judged all the same, so
    /// `excluded` still refuses it. A request without a token is let through even if `excluded` covers it. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub unguarded: Vec<Unguarded>,
    /// The reading of an encoded slash (`%2F`) in a path. Refuse: servers read it differently, so the path is
    /// ambiguous. Keep: it is part of its segment, for an API that reads it so. Text must be on both sides of it, but
    /// neither `.` nor `..`. Default: Refuse.
    #[serde(default)]
    pub encoded_slash: EncodedSlash,
    /// The place where a request names its organization, one of `organizations`. If omitted, requests name none.
    /// Requests with a token that lists organizations are then refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_from: Option<NamedBy>,
    /// The place where a request names its project. If omitted, requests name none. Requests with a token that may act
    /// only in some projects are then refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_from: Option<NamedBy>,
}

/// A place where a request may carry its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialPlace {
    /// The name of the header.
    pub header: HeaderName,
    /// The authentication scheme before the token and a space (RFC 9110, 11.4). Capital and small letters are the same.
    /// With `Basic`, the token is the password (RFC 7617), and any user name is accepted. If omitted, the header holds
    /// only the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<AuthScheme>,
}

impl CredentialPlace {
    /// True if one credential can be in both places.
    pub fn meets(&self, other: &Self) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let schemes = self.scheme.as_ref().zip(other.scheme.as_ref());
        same(self.header.as_str(), other.header.as_str())
            && schemes.is_none_or(|(one, other)| same(one.as_str(), other.as_str()))
    }
}

/// The reading of an encoded slash in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EncodedSlash {
    /// Servers read it differently, so the path is ambiguous.
    #[default]
    Refuse,
    /// It is part of its segment.
    Keep,
}

/// The rule for permitting requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Authorization {
    /// Every valid token may make all requests that are neither excluded nor denied.
    #[default]
    Authenticated,
    /// A token may make only requests that its role or a policy permits.
    Roles,
}

/// A team: a name for several users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Team {
    /// Name of the team.
    pub name: TeamName,
    /// The names of the users, as the API server knows them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub users: Vec<UserName>,
}

/// The upper limit of a token's rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Ceiling {
    /// The token's own role and its account's role.
    #[default]
    None,
    /// In addition, the roles that the owner holds in `members`.
    Members,
}

/// The rights of RBAC that follow from `members`. Members: a member may give its role and the weaker ones to tokens and
/// accounts. The owner of an account may use it, and a user may read the Secrets of its tokens. None: no rights follow.
/// Members is allowed with `ceiling: Members` only. If omitted: Members with `ceiling: Members`, else None.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Grants {
    /// Members may give their roles, and owners may use their accounts and read their Secrets.
    Members,
    /// No rights follow from members.
    None,
}

/// A member: a subject that holds a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// The subject.
    pub subject: Subject,
    /// The role, one of the Instance's.
    pub role: RoleName,
    /// The organizations in which the subject holds the role. If omitted, all that the Instance lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organizations: Option<Scope>,
}

/// The Service of the Admin API, and its endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.endpoints) || size(self.endpoints) == 0 || has(self.service)")
    .message("manager.service is needed: name the Service that serves the Admin API, or leave endpoints out"))]
pub struct Manager {
    /// The Service that serves the Admin API, in the Instance's namespace. It is required if `endpoints` has an entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ManagerService>,
    /// The NetworkPolicy in front of the Pods of the Admin API. If omitted, as the defaults of its fields say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicyTemplate>,
    /// The endpoints of the Admin API, by name. The only name is `admin`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 1))]
    pub endpoints: Vec<Endpoint>,
}

/// The Service that serves the Admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManagerService {
    /// Name of the Service.
    pub name: ObjectName,
    /// The port of the Service that serves the API. Default: 443.
    #[serde(default = "https_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The protocol of the port: http or https. Default: https.
    #[serde(default)]
    pub scheme: Scheme,
}

fn https_port() -> i32 {
    443
}

/// The protocol of an endpoint.
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
    /// The scheme as in a URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The default port of the scheme, which a URI can omit.
    pub fn default_port(self) -> i32 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The rules for every token of an Instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenPolicy {
    /// The lifetime of a generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// How long a predecessor stays valid after its successor is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// The rules for renewing values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationPolicy>,
    /// Once: every value is shown once. A token without `secret.delivery` is then delivered once. A token with
    /// `Retain` has the fault DeliveryNotAllowed. So has a token whose Secret was published to stay: its Secret is
    /// kept, and it gets no new value. If omitted, `secret.delivery` of each token decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DemandedDelivery>,
    /// True: each token must have a `spec.description`. Default: false.
    #[serde(default)]
    pub require_description: bool,
    /// The role of a token that names neither a role nor an account: `Owner`, or one of the Instance's roles. Owner:
    /// the best role that its owner holds in `members` now, if the annotation `tokenry.dev/created-by` of the token
    /// names its owner. Otherwise the token has no role. Owner needs `ceiling: Members`. An Instance gives no default
    /// role to tokens that only list it in `audiences`. If omitted, such a token has no role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_role: Option<DefaultRoleName>,
    /// The weakest role in `members` that lets its holder own tokens. It has an effect with `ceiling: Members` only. If
    /// omitted, any role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_role: Option<RoleName>,
    /// The most tokens that one owner can have, in all namespaces. Tokens with this Instance in `audiences` count too.
    /// Tokens that have ended do not count. Tokens with a value come first, then older ones. The others get no new
    /// value, and have the fault TooManyTokens. If omitted, there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_per_owner: Option<i64>,
    /// The effect on a token when its owner is removed, is in `formerOwners`, or holds no role that may own tokens.
    /// Revoke: the token is revoked forever. Suspend: the token is refused until the owner is back. Keep: the token
    /// stays, with the owner's remaining rights. With `ceiling: Members` a former owner has none. Default: Revoke.
    #[serde(default)]
    pub on_owner_removed: OnOwnerRemoved,
    /// The effect on the tokens of an account that is deleted. They end with it in any case, and the verifier refuses
    /// them at once. Keep: an ended token stays listed. Delete: it is deleted. This also applies to tokens that ended
    /// with their account earlier. If a Git repository still holds a deleted token, it is created again. Default: Keep.
    #[serde(default)]
    pub on_account_deleted: OnAccountDeleted,
    /// The time for which the owner's groups count after they are stamped on a token. After that, the owner has to
    /// change the token, or its annotation `tokenry.dev/confirmed`. If omitted, they count forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_max_age: Option<Duration>,
    /// True: before a token or an account is deleted, its annotation `tokenry.dev/confirm-delete` must repeat its
    /// description. Without a description, it must repeat the name. Default: false.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub confirm_delete: bool,
    /// The rules for changing existing tokens. If omitted, `spec.immutable` of each token decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<Immutability>,
    /// How long after its end a token is deleted. A token ends when it is revoked, or when it expires and nothing
    /// renews it. If a Git repository still holds a deleted token, it is created again. If omitted, ended tokens are
    /// kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_after: Option<Duration>,
    /// Maintenance windows of all tokens. A due rotation waits for one of them, and for one of the token's own windows
    /// if there are any. It waits until only an overlap is left before the expiry. If omitted, rotations take place at
    /// any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub windows: Vec<MaintenanceWindow>,
    /// The namespaces in which tokens of this Instance can exist.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// The first part of every value: a lower-case letter, then up to 15 lower-case letters or digits. If omitted, tkn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9]*$')")
        .message("must be a lower-case letter, then up to 15 lower-case letters or digits, such as shop"))]
    pub prefix: Option<String>,
}

/// The rules for changing existing tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Immutability {
    /// True: every token is immutable, even if its own spec does not say so. Default: false.
    #[serde(default)]
    pub always: bool,
    /// Allow: `regenerate` of an immutable token can change. Forbid: it cannot. Default: Forbid.
    #[serde(default)]
    pub regenerate: Permission,
}

/// The effect on a token when its owner is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnOwnerRemoved {
    /// The token is revoked forever.
    #[default]
    Revoke,
    /// The token is refused until the owner is back.
    Suspend,
    /// The token stays.
    Keep,
}

/// The effect on the tokens of an account that is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnAccountDeleted {
    /// The ended tokens stay listed.
    #[default]
    Keep,
    /// The tokens are deleted.
    Delete,
}

/// The lifetime of a generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(default_within_max()).message("default must not be longer than max"))]
pub struct Lifetime {
    /// The lifetime of a generation if the token gives none. If omitted, 90d, or the maximum if that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Duration>,
    /// The longest lifetime of a generation. A shorter maximum that is set later shortens existing generations. A
    /// longer one extends none. If omitted, 365d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
    /// Allow: a token can ask for generations that never expire, by `expiry.never`. Forbid: it cannot. If this is
    /// changed to Forbid later, existing generations get the maximum lifetime. Default: Forbid.
    #[serde(default)]
    pub never: Permission,
}

/// A permission to ask for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Permission {
    /// It is allowed.
    Allow,
    /// It is forbidden.
    #[default]
    Forbid,
}

/// How long a predecessor stays valid after its successor is published.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(default_within_max()).message("default must not be longer than max"))]
pub struct Overlap {
    /// The overlap if the token gives none. If omitted, 24h, or the maximum if that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Duration>,
    /// The longest overlap. If omitted, 7d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// The rules for renewing values. Each renewal costs the API server three writes for a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationPolicy {
    /// The shortest time from one rotation to the next, for example `10m`. The random spread of rotations can shorten
    /// it by up to a twentieth. It applies to `every`, `cron` and `beforeExpiry`. For a token without a schedule it
    /// applies to two thirds of the lifetime. A token that would rotate more often has the fault RotationTooFrequent.
    /// If omitted, 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Duration>,
    /// The renewal of values if the token gives no `rotation.schedule`. Renew: a value is replaced when a third of its
    /// lifetime is left. Never: a new value is created only on request, by `regenerate`, and the old one expires. A
    /// change applies to existing tokens at once. A published value keeps its own expiry, even if `expiry.at` of the
    /// token is later. Default: Renew.
    #[serde(default)]
    pub default: RotationDefault,
}

/// The renewal of values if the token gives no schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RotationDefault {
    /// A value is replaced when a third of its lifetime is left.
    #[default]
    Renew,
    /// A new value is created only on request. The published value keeps its own expiry, even if `expiry.at` is later.
    Never,
}

/// A delivery that an Instance demands of every token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DemandedDelivery {
    /// Every value is shown once.
    Once,
}

fn default_within_max() -> String {
    format!("!has(self.default) || !has(self.max) || {}", compared("self.default", 1, "<=", "self.max"))
}

/// The namespaces in which tokens of an Instance can exist.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
    .message("selector is required if from is Selector, and not allowed otherwise"))]
pub struct Namespaces {
    /// Same: the Instance's own namespace. All: every namespace. Selector: namespaces whose labels match `selector`.
    /// Default: Same.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// A selector for namespaces by their labels. `{}` selects all. It is required if `from` is Selector, and not
    /// allowed otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A choice of namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The Instance's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// The namespaces that a selector matches.
    Selector,
}

/// The status of an Instance, which the operator writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// The fields of the status that exist and cannot be read. If there are any, `conditions` is the only other field
    /// that is filled. This field is set while the object is read, and never written.
    #[serde(default, skip_serializing_if = "super::never_written")]
    #[schemars(skip)]
    pub unreadable: Vec<String>,
    /// The generation of the spec that this status describes. The default -1 means that the operator has not seen the
    /// object yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `EndpointsReady` and `Ready` are always present. `Reconciling` and `Stalled` (see kstatus) are
    /// present only while they are true. The same holds for `StampsMissing`, which says that the API server does not
    /// stamp the creators of tokens, and for `GrantsMissing`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The organization of the Instance: `spec.organization`, or the name of the Instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The endpoints that exist, and those that are disabled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub endpoints: Vec<EndpointStatus>,
    /// The certificates by which clients verify the endpoints, as last read. Entries exist for endpoints with `ca`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub trust: Vec<Trust>,
    /// The number of tokens with this Instance in `instanceRef`. Tokens with this Instance only in `audiences` do not
    /// count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenCount>,
    /// Fields that this release does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub others: Others,
}

/// An endpoint that exists, or is disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointStatus {
    /// Name of the endpoint.
    pub name: EndpointName,
    /// The reach of the endpoint: external, internal or disabled.
    #[serde(rename = "type")]
    pub type_: EndpointType,
    /// The URI that a client uses. Empty: the endpoint is disabled.
    pub uri: String,
}

/// The certificates by which clients verify an endpoint. They stay while their Secret is missing or unusable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trust {
    /// Name of the endpoint.
    pub name: EndpointName,
    /// Name of the Secret that they were read from.
    pub secret_name: String,
    /// The certificates in PEM form.
    pub ca_bundle: String,
}

impl InstanceStatus {
    /// The certificates by which clients verify an endpoint. `None` if they were never read.
    pub fn trust(&self, name: EndpointName) -> Option<&Trust> {
        self.trust.iter().find(|trust| trust.name == name)
    }

    /// The status of an endpoint. `None` if the endpoint does not exist.
    pub fn endpoint(&self, name: EndpointName) -> Option<&EndpointStatus> {
        self.endpoints.iter().find(|endpoint| endpoint.name == name)
    }
}

impl Instance {
    /// The Instance's own organization.
    pub fn organization(&self) -> &str {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.organization.as_deref().unwrap_or(name)
    }

    /// True if rights of RBAC follow from the members. Nothing follows from an Instance that is being deleted.
    pub fn grants_rights(&self) -> bool {
        let stays = self.metadata.deletion_timestamp.is_none();
        stays && self.spec.ceiling == Ceiling::Members && self.spec.grants != Some(Grants::None)
    }

    /// The name of the objects that Tokenry creates for an endpoint.
    pub fn exposed_name(&self, endpoint: EndpointName) -> String {
        super::name::exposed(self.metadata.name.as_deref().unwrap_or_default(), endpoint.as_str())
    }

    /// The name of the objects for an endpoint that other namespaces must not be able to guess.
    pub fn unguessable_name(&self, endpoint: EndpointName) -> String {
        super::name::unguessable(&self.exposed_name(endpoint), self.metadata.uid.as_deref().unwrap_or_default())
    }

    /// The DNS name of the Service of an endpoint.
    pub fn exposed_host(&self, endpoint: EndpointName) -> String {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        format!("{}.{namespace}.svc", self.exposed_name(endpoint))
    }

    /// The Service that serves the Admin API. `None` if the spec names none.
    pub fn manager_service(&self) -> Option<&ManagerService> {
        self.spec.manager.as_ref()?.service.as_ref()
    }

    /// The endpoints of the spec, without disabled ones.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.all_endpoints().filter(|endpoint| endpoint.reach() != EndpointType::Disabled)
    }

    /// The DNS names of the external endpoints: the host of each, and the further ones of its HTTPRoute.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let external = self.endpoints().filter(|endpoint| endpoint.guarding().is_some());
        external.flat_map(|endpoint| {
            let further = endpoint.gateway.iter().flat_map(|gateway| &gateway.hostnames);
            endpoint.host.iter().chain(further).map(ObjectName::as_str)
        })
    }

    /// True if an endpoint is disabled, so that every token is refused.
    pub fn is_disabled(&self) -> bool {
        self.all_endpoints().any(|endpoint| endpoint.reach() == EndpointType::Disabled)
    }

    /// All endpoints of the spec, including disabled ones.
    pub fn all_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.spec.manager.iter().flat_map(|manager| &manager.endpoints)
    }
}
