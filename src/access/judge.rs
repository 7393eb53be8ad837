//! The function that decides if a request is permitted.

use smol_str::SmolStr;

use super::{
    bearer::{Bearer, Reach},
    default_role::{WITHHELD, default_role, withholds},
    header,
    policies::Policies,
    policy::{Names, Policy},
    roles::{Holding, Rank, Standing},
    rules::{Named, Request, Rules},
};
use crate::crd::{access_policy::Effect, instance::Authorization};

/// The reason why a request is permitted or refused. If several reasons hold, [`judge`] gives the first one that it
/// checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ground {
    /// The path cannot be normalised, or some servers read it differently.
    PathRefused,
    /// The request asks for another method than its own.
    MethodRefused,
    /// Some servers confuse a header of the request with an identity header, or with a header that names the
    /// organization or project. Or they read another path from a header, such as `Script-Name`.
    HeaderRefused,
    /// No token may make the request.
    Excluded,
    /// The token names no owner, but the Instance has `ceiling: Members`.
    OwnerMissing,
    /// Only groups of the owner would permit the request, and they were stamped too long ago.
    OwnerStale,
    /// The owner has left, or holds no role in the Instance that may own tokens.
    OwnerRemoved,
    /// The request names no organization although one is needed, or the organization is not clear.
    OrganizationMissing,
    /// The request names an organization that the Instance does not list.
    OrganizationUnknown,
    /// The request names an organization that the token may not act for.
    OrganizationOutside,
    /// The request names no project although one is needed, or the project is not clear.
    ProjectMissing,
    /// The request names a project that the token may not act in.
    ProjectOutside,
    /// A policy denies the request.
    Denied,
    /// Every valid token may make the request.
    Authenticated,
    /// The role of the token permits the request.
    ByRole,
    /// A policy permits the request.
    ByPolicy,
    /// The token has neither a role nor a policy that permits anything.
    NoPermissions,
    /// Neither the role of the token nor a policy permits the request.
    NotPermitted,
}

impl Ground {
    /// The name of the reason, for metrics and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PathRefused => "PathRefused",
            Self::MethodRefused => "MethodRefused",
            Self::HeaderRefused => "HeaderRefused",
            Self::Excluded => "Excluded",
            Self::OwnerMissing => "OwnerMissing",
            Self::OwnerStale => "OwnerStale",
            Self::OwnerRemoved => "OwnerRemoved",
            Self::OrganizationMissing => "OrganizationMissing",
            Self::OrganizationUnknown => "OrganizationUnknown",
            Self::OrganizationOutside => "OrganizationOutside",
            Self::ProjectMissing => "ProjectMissing",
            Self::ProjectOutside => "ProjectOutside",
            Self::Denied => "Denied",
            Self::Authenticated => "Authenticated",
            Self::ByRole => "ByRole",
            Self::ByPolicy => "ByPolicy",
            Self::NoPermissions => "NoPermissions",
            Self::NotPermitted => "NotPermitted",
        }
    }

    /// The explanation for the bearer of a valid token.
    pub fn hint(self) -> &'static str {
        match self {
            Self::PathRefused => {
                "the path of the request is ambiguous; leave out encoded slashes, ;, //, .., trailing dots or \
                 spaces, and look-alikes of ASCII letters"
            }
            Self::MethodRefused => {
                "the request asks for another method than its own; send it with that method, and without \
                 X-HTTP-Method-Override, similar headers, or _method in the query"
            }
            Self::HeaderRefused => {
                "some servers confuse a header of the request with another one, such as X_Organization with \
                 X-Organization, or read a path from Script-Name; remove it"
            }
            Self::Excluded => "no token may make this request",
            Self::OwnerMissing => "the token has no owner; set spec.owner of the ApiToken",
            Self::OwnerStale => {
                "the groups of the token's owner were stamped too long ago; the owner must change the token, for \
                 example its annotation tokenry.dev/confirmed"
            }
            Self::OwnerRemoved => {
                "the owner of the token has left, or holds no role in this Instance that may own tokens"
            }
            Self::OrganizationMissing => "the request has to name one organization",
            Self::OrganizationUnknown => "spec.organizations of the Instance does not list this organization",
            Self::OrganizationOutside => "the token may not act for this organization",
            Self::ProjectMissing => "the request has to name one project",
            Self::ProjectOutside => "the token may not act in this project",
            Self::Denied => "a policy denies this",
            Self::Authenticated | Self::ByRole | Self::ByPolicy => "permitted",
            Self::NoPermissions => "the token has neither a role nor a policy",
            Self::NotPermitted => "neither the role of the token nor a policy permits this",
        }
    }

    /// True if the request is let in.
    pub fn allows(self) -> bool {
        matches!(self, Self::Authenticated | Self::ByRole | Self::ByPolicy)
    }
}

/// The decision on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The reason for the decision.
    pub ground: Ground,
    /// The effective role of the token in the organization that the request names. `None` if there is no such role.
    pub role: Option<SmolStr>,
    /// The organization that the request names. `None` if it names none, or if the organization is not clear.
    pub organization: Option<String>,
    /// The message of the exclusion that refuses the request, for the caller.
    pub message: Option<String>,
}

/// One check on the way to a decision, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// True if the check was passed.
    pub passed: bool,
    /// The result of the check.
    pub text: String,
    /// The object that the result comes from, such as `Instance eem`.
    pub object: String,
}

/// Records the checks on the way to a decision. `()` records nothing.
pub trait Trail {
    /// Records a check.
    fn add(&mut self, step: impl FnOnce() -> Step);
}

impl Trail for () {
    fn add(&mut self, _: impl FnOnce() -> Step) {}
}

impl Trail for Vec<Step> {
    fn add(&mut self, step: impl FnOnce() -> Step) {
        self.push(step());
    }
}

/// Decides if `bearer` may make `request`.
pub fn judge(
    rules: &Rules,
    policies: &Policies,
    bearer: &Bearer<'_>,
    request: &Request<'_>,
    trail: &mut impl Trail,
) -> Ruling {
    decide(rules, (policies, Policies::about), bearer, request, trail)
}

/// Policies, and a function that selects those that a decision looks at.
type Selected<'a> = (&'a Policies, for<'p> fn(&'p Policies, &Names<'_>) -> Vec<&'p Policy>);

/// Like [`judge`]. The decision looks at the policies that `policies` selects.
pub(super) fn decide(
    rules: &Rules,
    policies: Selected<'_>,
    bearer: &Bearer<'_>,
    request: &Request<'_>,
    trail: &mut impl Trail,
) -> Ruling {
    let read = rules.read(request);
    let request = &*read;
    let case = Case::of(rules, policies, bearer, request);
    let (mut ground, message) = case.decide(request, trail);
    if !ground.allows() && ground != Ground::OwnerStale && case.was_permitted(policies, request) {
        trail.add(|| {
            case.token(false, "groups of its owner would permit the request, but were stamped too long ago".into())
        });
        ground = Ground::OwnerStale;
    }
    let role = case.role().map(|rank| SmolStr::new(rules.roles.name(rank)));
    Ruling { ground, role, organization: case.organization.one().map(str::to_owned), message }
}

/// A request, and everything that the decision on it depends on.
#[derive(Clone)]
struct Case<'a> {
    rules: &'a Rules,
    /// The policies that can mean the bearer.
    policies: Vec<&'a Policy>,
    /// True if the Instance has any policy.
    has_policies: bool,
    bearer: &'a Bearer<'a>,
    organization: Named<'a>,
    project: Named<'a>,
    action: Option<&'a str>,
    standing: Standing<'a>,
    /// The names by which a policy means the bearer.
    names: Names<'a>,
}

impl<'a> Case<'a> {
    fn of(rules: &'a Rules, policies: Selected<'a>, bearer: &'a Bearer<'_>, request: &'a Request<'_>) -> Self {
        let (policies, select) = policies;
        let names = if policies.is_empty() { Names::default() } else { rules.names(bearer) };
        Self {
            rules,
            policies: select(policies, &names),
            has_policies: !policies.is_empty(),
            bearer,
            organization: rules.organization(request),
            project: rules.project(request),
            action: rules.action(request.method, request.path.as_ref()),
            standing: rules.standing(bearer),
            names,
        }
    }

    /// True if the request is refused only because the groups of the owner were stamped too long ago.
    fn was_permitted(&self, policies: Selected<'_>, request: &Request<'_>) -> bool {
        if self.bearer.fresh || self.bearer.groups.is_empty() {
            return false;
        }
        let fresh = Bearer { fresh: true, ..self.bearer.clone() };
        Case::of(self.rules, policies, &fresh, request).decide(request, &mut ()).0.allows()
    }

    /// Returns the first reason that holds. This order is the specification.
    fn decide(&self, request: &Request<'_>, trail: &mut impl Trail) -> (Ground, Option<String>) {
        if let Some((ground, found)) = self.unclear(request) {
            trail.add(|| self.instance(false, found));
            return (ground, None);
        }
        let exclusion = request.path.as_ref().and_then(|path| self.rules.exclusion(request.method, path));
        if let Some(message) = exclusion {
            trail.add(|| self.instance(false, format!("excluded for every token: {message}")));
            return (Ground::Excluded, Some(message.to_owned()));
        }
        if self.rules.is_ambiguous(request, self.is_by_action()) {
            trail.add(|| {
                self.instance(false, "some servers read its path as another one, which is judged differently".into())
            });
            return (Ground::PathRefused, None);
        }
        trail.add(|| self.instance(true, "not excluded".into()));
        let refused = self.owner(trail).or_else(|| self.organization(trail)).or_else(|| self.project(trail));
        let refused = refused.or_else(|| self.denied(trail));
        let ground = refused.or_else(|| self.permitted(trail)).unwrap_or_else(|| self.nothing(trail));
        let split = if ground.allows() { self.split(request, trail) } else { None };
        (split.unwrap_or(ground), None)
    }

    /// The refusal of a path with an encoded slash that some servers read as another action, if that one is refused.
    fn split(&self, request: &Request<'_>, trail: &mut impl Trail) -> Option<Ground> {
        let others = self.rules.split_actions(request).filter(|other| Some(*other) != self.action);
        let is_refused = |other: &&str| {
            let case = Case { action: Some(*other), ..self.clone() };
            case.denied(&mut ()).is_some() || case.permitted(&mut ()).is_none()
        };
        let other = { others }.find(is_refused)?;
        trail.add(|| {
            self.instance(false, format!("some servers split its path at an encoded slash, and {other} is refused"))
        });
        Some(Ground::PathRefused)
    }

    /// The reason why servers may read the request differently, and the result of the check. `None` if the request is
    /// clear.
    fn unclear(&self, request: &Request<'_>) -> Option<(Ground, String)> {
        if request.path.is_none() && self.rules.needs_path() {
            return Some((Ground::PathRefused, "the path of the request is not known, or cannot be normalised".into()));
        }
        let by_method = self.is_by_action() || self.rules.excludes_by_method();
        let overriding = || header::overriding(request.headers, request.query, request.method);
        if let Some(name) = by_method.then(overriding).flatten() {
            return Some((Ground::MethodRefused, format!("{name} asks for another method than {}", request.method)));
        }
        if let Some(name) = self.rules.look_alike(request) {
            return Some((Ground::HeaderRefused, format!("some servers confuse the header {name} with another one")));
        }
        let path = request.path.as_ref().filter(|_| self.rules.needs_path())?;
        let name = header::passed_on_rewrite(request.headers, path, request.query)?;
        Some((Ground::HeaderRefused, format!("some servers read another path from the header {name}")))
    }

    /// True if the decision depends on the action of the request.
    fn is_by_action(&self) -> bool {
        self.rules.authorization == Authorization::Roles || self.has_policies
    }

    /// The reason why the owner, or the lack of an owner, refuses the request.
    fn owner(&self, trail: &mut impl Trail) -> Option<Ground> {
        let owner = self.bearer.owner.as_deref().unwrap_or_default();
        match &self.standing {
            Standing::Free => None,
            Standing::Nobody => {
                trail.add(|| self.token(false, "names no owner, but the Instance has ceiling: Members".into()));
                Some(Ground::OwnerMissing)
            }
            Standing::Holds(held) if held.is_empty() && self.rules.is_stale(self.bearer) => {
                trail.add(|| {
                    self.token(
                        false,
                        format!("owner {owner} holds roles only through groups, which were stamped too long ago"),
                    )
                });
                Some(Ground::OwnerStale)
            }
            Standing::Holds(held) if held.is_empty() => {
                trail.add(|| {
                    let former = self.rules.former_owner(self.bearer);
                    let lacks = || format!("owner {owner} holds no role in spec.members that may own tokens");
                    self.instance(false, former.map_or_else(lacks, |former| format!("spec.formerOwners has {former}")))
                });
                Some(Ground::OwnerRemoved)
            }
            Standing::Holds(held) => {
                trail.add(|| {
                    let names = held.iter().map(|holding| self.rules.roles.name(holding.rank)).collect::<Vec<_>>();
                    self.instance(true, format!("owner {owner} holds {}", names.join(", ")))
                });
                None
            }
        }
    }

    /// The reason why the organization of the request is refused. The Instance does not list it, or the token or its
    /// owner may not act for it.
    fn organization(&self, trail: &mut impl Trail) -> Option<Ground> {
        let named = self.organization.one();
        if let Some(name) = named.filter(|_| !self.rules.organizations.covers(named)) {
            trail.add(|| self.instance(false, format!("spec.organizations does not list {name}")));
            return Some(Ground::OrganizationUnknown);
        }
        let within =
            self.bearer.organizations.covers(named) && self.here().is_none_or(|mut held| held.next().is_some());
        let ground = within_of(self.organization, within, [Ground::OrganizationMissing, Ground::OrganizationOutside]);
        trail.add(|| self.token(ground.is_none(), place("organization", named, ground.is_none())));
        ground
    }

    /// The reason why the project of the request is refused.
    fn project(&self, trail: &mut impl Trail) -> Option<Ground> {
        let named = self.project.one();
        let within = self.bearer.projects.covers(named);
        let ground = within_of(self.project, within, [Ground::ProjectMissing, Ground::ProjectOutside]);
        trail.add(|| self.token(ground.is_none(), place("project", named, ground.is_none())));
        ground
    }

    /// The refusal by a policy, if a policy denies the request.
    fn denied(&self, trail: &mut impl Trail) -> Option<Ground> {
        let policy = self.policy(Effect::Deny)?;
        trail.add(|| step(false, format!("AccessPolicy {}", policy.name), format!("denies {}", self.asked())));
        Some(Ground::Denied)
    }

    /// The reason why the request is permitted, if a role or a policy permits it.
    fn permitted(&self, trail: &mut impl Trail) -> Option<Ground> {
        if self.rules.authorization == Authorization::Authenticated {
            trail.add(|| self.instance(true, "every valid token may make requests that are not excluded".into()));
            return Some(Ground::Authenticated);
        }
        let by_role = self.role().filter(|&rank| self.rules.roles.actions(rank).include(self.action));
        if let Some(rank) = by_role {
            trail.add(|| {
                self.token(true, format!("effective role {} permits {}", self.rules.roles.name(rank), self.asked()))
            });
            return Some(Ground::ByRole);
        }
        trail.add(|| {
            let role = self.role().map_or("none", |rank| self.rules.roles.name(rank));
            self.token(false, format!("effective role {role} does not permit {}", self.asked()))
        });
        if withholds(self.rules, self.bearer) {
            trail.add(|| self.instance(false, format!("tokens.defaultRole gives no role: {WITHHELD}")));
        }
        let policy = self.policy(Effect::Allow)?;
        let held = self.here();
        let lent =
            held.is_none_or(|mut held| held.any(|held| self.rules.roles.actions(held.rank).include(self.action)));
        trail.add(|| {
            let cut = if lent { "" } else { ", but the owner of the token holds no role for this" };
            step(lent, format!("AccessPolicy {}", policy.name), format!("permits {}{cut}", self.asked()))
        });
        lent.then_some(Ground::ByPolicy)
    }

    /// The reason why the request is not permitted.
    fn nothing(&self, trail: &mut impl Trail) -> Ground {
        let any =
            self.role().is_some() || self.policies.iter().any(|policy| policy.is_about(&self.names, Effect::Allow));
        trail.add(|| {
            let text =
                if any { "nothing permits it" } else { "it has neither a role nor a policy that permits anything" };
            self.token(false, text.into())
        });
        if any { Ground::NotPermitted } else { Ground::NoPermissions }
    }

    /// The policy that decides with this effect. The bearer is a member of it, and a statement means the request. The
    /// first such policy by name is taken, so that their order does not matter.
    fn policy(&self, effect: Effect) -> Option<&Policy> {
        let means = |policy: &&&Policy| {
            policy.is_about(&self.names, effect)
                && policy.statements(effect).any(|said| said.means(&self.rules.roles, self.action, self.project.one()))
        };
        self.policies.iter().filter(means).min_by_key(|policy| &policy.name).copied()
    }

    /// The roles that the owner holds in the organization of the request. `None` if there is no owner, or if the
    /// Instance needs none.
    fn here(&self) -> Option<impl Iterator<Item = &Holding>> {
        let Standing::Holds(held) = &self.standing else { return None };
        Some(held.iter().copied().filter(|held| held.organizations.covers(self.organization.one())))
    }

    /// The effective role: the weakest of three. They are the account's role, the token's role, and the strongest role
    /// that the owner holds in the organization of the request.
    fn role(&self) -> Option<Rank> {
        let asked = asked_role(self.rules, self.bearer, &self.standing)?;
        match (&self.standing, self.here()) {
            (Standing::Free, _) => Some(asked),
            (_, Some(held)) => held.map(|held| held.rank).max().map(|held| held.min(asked)),
            (_, None) => None,
        }
    }

    fn asked(&self) -> &str {
        self.action.unwrap_or("a request that matches no action in spec.api.actions")
    }

    fn instance(&self, passed: bool, text: String) -> Step {
        step(passed, format!("Instance {}", self.rules.name), text)
    }

    fn token(&self, passed: bool, text: String) -> Step {
        step(passed, format!("ApiToken {}, ServiceAccount {}", self.bearer.token, self.bearer.account), text)
    }
}

/// The role that token and account ask for: the weaker of both. A token that names no account has its own role, the
/// default role of the Instance, or none. A role that the Instance does not have counts as none.
///
/// The account that was made for a token follows the token's role with a delay. Until it has a role, the token has the
/// weaker of its new role and the default role, which it had before.
pub(super) fn asked_role(rules: &Rules, bearer: &Bearer<'_>, standing: &Standing<'_>) -> Option<Rank> {
    let account = || rules.roles.rank(bearer.account_role.as_deref()?);
    match &bearer.token_role {
        // An account that was made for the token follows the token's role with a delay. So it must not give a role that
        // the token does not name. It can only narrow the default role.
        None if bearer.own_account => {
            let role = default_role(rules, bearer, standing)?;
            if bearer.account_role.is_none() { Some(role) } else { Some(role.min(account()?)) }
        }
        None => account(),
        Some(role) => {
            let named = rules.roles.rank(role)?;
            let unfollowed = bearer.own_account && bearer.account_role.is_none();
            let held = if unfollowed { default_role(rules, bearer, standing) } else { account() };
            Some(named.min(held?))
        }
    }
}

fn step(passed: bool, object: String, text: String) -> Step {
    Step { passed, text, object }
}

/// The reason why a named organization or project is refused: it is missing or outside. `None` if it is within reach.
fn within_of(named: Named<'_>, within: bool, [missing, outside]: [Ground; 2]) -> Option<Ground> {
    match named {
        Named::Unclear => Some(missing),
        _ if within => None,
        Named::Nothing => Some(missing),
        Named::One(_) => Some(outside),
    }
}

fn place(what: &str, named: Option<&str>, within: bool) -> String {
    match (named, within) {
        (Some(name), true) => format!("may act for {what} {name}"),
        (None, true) => format!("the request needs to name no {what}"),
        (Some(name), false) => format!("token, account and owner do not all reach {what} {name}"),
        (None, false) => format!("the request has to name one {what}"),
    }
}

impl Reach {
    /// The names, sorted. `None` for all.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        match self {
            Self::All => None,
            Self::Listed(names) => Some(names.iter().cloned().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Path, properties::world};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn grounds(instance: &Value, policies: &Value, token: &Value, account: &Value, asked: (&str, &str)) -> Ground {
        let world = world(instance, policies, token, account);
        let headers = http::HeaderMap::new();
        let request = Request { method: asked.0, path: Path::parse(asked.1).ok(), query: "", headers: &headers };
        judge(&world.rules, &world.policies(), &world.bearer, &request, &mut ()).ground
    }

    fn with_headers(instance: &Value, token: &Value, headers: &[(&'static str, &str)]) -> Ground {
        let world = world(instance, &json!([]), token, &json!({"role": "admin"}));
        let headers = headers.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let request = Request { method: "GET", path: Path::parse("/a/acme").ok(), query: "", headers: &headers };
        judge(&world.rules, &Policies::default(), &world.bearer, &request, &mut ()).ground
    }

    fn roles() -> Value {
        json!({"api": {"authorization": "Roles"}})
    }

    #[test]
    fn every_valid_token_may_what_is_not_excluded_where_nothing_else_is_said() {
        let excluded = json!({"api": {"excluded": [{"paths": ["/observer/**"]}]}});
        let none = json!({});
        assert_eq!(grounds(&none, &json!([]), &none, &none, ("POST", "/x/..%2fy")), Ground::Authenticated);
        assert_eq!(grounds(&excluded, &json!([]), &none, &none, ("POST", "/x")), Ground::Authenticated);
        assert_eq!(grounds(&excluded, &json!([]), &none, &none, ("POST", "/OBSERVER//a/")), Ground::Excluded);
        assert_eq!(grounds(&excluded, &json!([]), &none, &none, ("GET", "/x/..%2fobserver")), Ground::PathRefused);
        let admin = json!({"role": "admin"});
        let excluded = json!({"api": {"authorization": "Roles", "excluded": [{"paths": ["/observer/**"]}]}});
        assert_eq!(
            grounds(&excluded, &json!([]), &none, &admin, ("GET", "/observer")),
            Ground::Excluded,
            "an exclusion beats every role"
        );
    }

    #[test]
    fn by_roles_nothing_is_permitted_that_no_role_permits() {
        let none = json!({});
        let (viewer, contributor) = (json!({"role": "viewer"}), json!({"role": "contributor"}));
        assert_eq!(grounds(&roles(), &json!([]), &none, &none, ("GET", "/x")), Ground::NoPermissions);
        assert_eq!(grounds(&roles(), &json!([]), &none, &viewer, ("GET", "/x")), Ground::ByRole);
        assert_eq!(grounds(&roles(), &json!([]), &none, &viewer, ("POST", "/x")), Ground::NotPermitted);
        assert_eq!(
            grounds(&roles(), &json!([]), &viewer, &contributor, ("POST", "/x")),
            Ground::NotPermitted,
            "narrowed"
        );
        assert_eq!(
            grounds(&roles(), &json!([]), &contributor, &viewer, ("POST", "/x")),
            Ground::NotPermitted,
            "not widened"
        );
        assert_eq!(grounds(&roles(), &json!([]), &contributor, &none, ("GET", "/x")), Ground::NoPermissions);
        assert_eq!(
            grounds(&roles(), &json!([]), &none, &json!({"role": "root"}), ("GET", "/x")),
            Ground::NoPermissions
        );
    }

    #[test]
    fn the_first_action_that_matches_is_the_request_s() {
        let instance = json!({
            "api": {"authorization": "Roles", "actions": [
                {"action": "clusters:create", "methods": ["POST"], "paths": ["/eem/clusters"]},
                {"action": "clusters:read", "paths": ["/eem/clusters/**"]},
            ]},
            "roles": [{"name": "reader", "actions": ["*:read"]}, {"name": "all", "actions": ["*"]}],
        });
        let ground = |role, asked| grounds(&instance, &json!([]), &json!({}), &json!({"role": role}), asked);
        assert_eq!(ground("reader", ("POST", "/eem/clusters")), Ground::NotPermitted);
        assert_eq!(ground("reader", ("GET", "/eem/clusters/a")), Ground::ByRole);
        assert_eq!(ground("reader", ("GET", "/eem/other")), Ground::NotPermitted, "the request matches no action");
        assert_eq!(ground("all", ("GET", "/eem/other")), Ground::ByRole);
    }

    #[test]
    fn what_is_said_of_get_holds_for_head() {
        let api = json!({
            "authorization": "Roles", "excluded": [{"methods": ["GET"], "paths": ["/console"]}],
            "actions": [{"action": "topics:read", "methods": ["GET"], "paths": ["/topics"]}],
        });
        let instance = json!({"api": api, "roles": [{"name": "reader", "actions": ["topics:read"]}]});
        let ground = |asked| grounds(&instance, &json!([]), &json!({}), &json!({"role": "reader"}), asked);
        assert_eq!(["GET", "HEAD"].map(|method| ground((method, "/topics"))), [Ground::ByRole; 2]);
        assert_eq!(["GET", "HEAD"].map(|method| ground((method, "/console"))), [Ground::Excluded; 2]);
        assert_eq!(ground(("POST", "/topics")), Ground::NotPermitted);
    }

    #[test]
    fn a_path_that_some_server_takes_for_another_is_judged_by_both() {
        let api = json!({
            "authorization": "Roles", "excluded": [{"paths": ["/console/**"]}],
            "actions": [
                {"action": "keys:read", "paths": ["/topics/*/keys"]}, {"action": "admin:read", "paths": ["/admin"]},
                {"action": "topics:read", "paths": ["/topics/**"]}, {"action": "other:read", "paths": ["/**"]},
            ],
        });
        let roles = json!([{"name": "reader", "actions": ["topics:read", "other:read"]}]);
        let instance = json!({"api": api, "roles": roles});
        let ground = |path| grounds(&instance, &json!([]), &json!({}), &json!({"role": "reader"}), ("GET", path));
        for path in
            ["/console./keys", "/console%20", "/%EF%BD%83onsole", "/con\u{17f}ole", "//host/console", "/%20console"]
        {
            assert_eq!(ground(path), Ground::Excluded, "{path}");
        }
        for path in ["/topics//keys", "/admin.", "/adm\u{131}n", "/admin%20", "//host/admin"] {
            assert_eq!(ground(path), Ground::PathRefused, "{path}");
        }
        // All servers read these paths as requests that the role permits.
        for path in
            ["/topics//a", "/topics/a.", "/topics/%20a", "/topics/I\u{15f}\u{131}k", "/a.b/c.json", "/.well-known/x"]
        {
            assert_eq!(ground(path), Ground::ByRole, "{path}");
        }
    }

    #[test]
    fn an_encoded_slash_is_part_of_its_segment_where_the_instance_says_so() {
        let api = |slash: &str| {
            json!({
                "authorization": "Roles", "encodedSlash": slash, "excluded": [{"paths": ["/projects/*/keys/**"]}],
                "projectFrom": {"pathSegment": 4}, "actions": [
                    {"action": "projects:read", "paths": ["/projects/*"]},
                    {"action": "issues:read", "paths": ["/projects/*/issues"]},
                    {"action": "admin:write", "paths": ["/projects/*/admin"]},
                ],
            })
        };
        let roles = json!([{"name": "reader", "actions": ["*:read"]}]);
        let ground = |slash, path| {
            let instance = json!({"api": api(slash), "roles": roles});
            grounds(&instance, &json!([]), &json!({}), &json!({"role": "reader"}), ("GET", path))
        };
        for path in ["/projects/group%2Fname", "/projects/a%2fb", "/projects/a%2Fissues"] {
            assert_eq!(ground("Keep", path), Ground::ByRole, "{path}");
            assert_eq!(ground("Refuse", path), Ground::PathRefused, "{path}");
        }
        for (path, why) in [
            ("/projects/a%2Fkeys", Ground::Excluded),
            ("/projects%2Fa%2Fkeys/x", Ground::Excluded),
            ("/projects/a%2Fadmin", Ground::PathRefused),
            ("/projects/a%2F..%2Fadmin", Ground::PathRefused),
            ("/projects/a%2F", Ground::PathRefused),
            ("/projects/a%252Fb", Ground::PathRefused),
            ("/projects/a%5Cb", Ground::PathRefused),
            // Servers would count other segments.
            ("/projects/a%2Fb/issues", Ground::PathRefused),
            ("/projects/a%2Fb%2Fc", Ground::PathRefused),
            ("/projects/a%2Fb/other", Ground::PathRefused),
            ("/other/a%2Fb", Ground::NotPermitted),
        ] {
            assert_eq!(ground("Keep", path), why, "{path}");
        }
        assert_eq!(ground("Keep", "/projects/a/issues"), Ground::ByRole);
    }

    #[test]
    fn a_path_with_an_encoded_slash_is_permitted_only_if_the_action_of_its_parts_is_permitted_too() {
        let api = json!({"authorization": "Roles", "encodedSlash": "Keep", "actions": [
            {"action": "names:read", "paths": ["/names/*"]}, {"action": "all:write", "paths": ["/**"]},
        ]});
        let roles = json!([{"name": "reader", "actions": ["*:read"]}, {"name": "writer", "actions": ["*:write"]}]);
        let deny = json!([{"name": "d", "members": ["token:events/*"], "statements": [
            {"effect": "Deny", "actions": ["all:*"]},
        ]}]);
        let ground = |policies: &Value, role| {
            let instance = json!({"api": api, "roles": roles});
            grounds(&instance, policies, &json!({}), &json!({"role": role}), ("GET", "/names/a%2Fb"))
        };
        let none = json!([]);
        assert_eq!([ground(&none, "reader"), ground(&none, "writer")], [Ground::PathRefused, Ground::ByRole]);
        assert_eq!(ground(&deny, "writer"), Ground::PathRefused);
        let every = json!({"api": {"encodedSlash": "Keep"}});
        let token = json!({});
        assert_eq!(grounds(&every, &none, &token, &token, ("GET", "/names/a%2Fb")), Ground::Authenticated);
    }

    #[test]
    fn a_path_whose_segments_are_counted_names_the_same_to_all() {
        let instance = json!({"organizations": ["acme"], "api": {"organizationFrom": {"pathSegment": 2}}});
        let token = json!({"organizations": {"listed": ["acme"]}});
        let ground = |path| grounds(&instance, &json!([]), &token, &json!({}), ("GET", path));
        assert_eq!(["/a/acme", "/a/acme//x", "/a/acme/x."].map(ground), [Ground::Authenticated; 3]);
        assert_eq!(["//other/acme", "/a//acme", "//a/acme"].map(ground), [Ground::PathRefused; 3]);
    }

    /// The decision on a request with this query and these headers.
    fn asked(instance: &Value, policies: &Value, query: &str, headers: &[(&'static str, &str)]) -> Ground {
        let world = world(instance, policies, &json!({}), &json!({"role": "viewer"}));
        let headers = headers.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let request = Request { method: "GET", path: Path::parse("/x").ok(), query, headers: &headers };
        judge(&world.rules, &world.policies(), &world.bearer, &request, &mut ()).ground
    }

    #[test]
    fn who_asks_for_another_method_is_refused_where_methods_matter() {
        let other = [("x-http-method-override", "DELETE")];
        let ground = |instance, policies| asked(&instance, &policies, "", &other);
        let deny =
            json!([{"name": "p", "members": ["user:*"], "statements": [{"effect": "Deny", "actions": ["*:write"]}]}]);
        let by_method = json!({"api": {"excluded": [{"methods": ["DELETE"], "paths": ["/x"]}]}});
        assert_eq!(ground(roles(), json!([])), Ground::MethodRefused);
        assert_eq!(ground(json!({}), deny), Ground::MethodRefused);
        assert_eq!(ground(by_method, json!([])), Ground::MethodRefused);
        assert_eq!(ground(json!({}), json!([])), Ground::Authenticated, "the method does not matter here");
        assert_eq!(asked(&roles(), &json!([]), "a=b&_method=DELETE", &[]), Ground::MethodRefused);
        assert_eq!(asked(&roles(), &json!([]), "_method=get", &[("x-http-method", "GET")]), Ground::ByRole);
    }

    #[test]
    fn a_header_that_some_server_takes_for_one_that_is_read_is_refused() {
        let instance = json!({"organizations": ["acme"], "api": {"organizationFrom": {"header": "X-Organization"}}});
        let ground = |headers: &[(&'static str, &str)]| asked(&instance, &json!([]), "", headers);
        for name in ["x_organization", "x_tokenry_role", "x-tokenry_subject", "x_forwarded_user"] {
            assert_eq!(ground(&[(name, "a"), ("x-organization", "acme")]), Ground::HeaderRefused, "{name}");
        }
        assert_eq!(
            ground(&[("x-organization", "acme"), ("x_project", "a"), ("x-tokenry-role", "a")]),
            Ground::Authenticated
        );
    }

    #[test]
    fn a_header_from_which_some_server_reads_another_path_is_refused_where_paths_matter() {
        let excluded = json!({"api": {"excluded": [{"paths": ["/console/**"]}]}});
        let ground = |instance: &Value, name: &'static str| asked(instance, &json!([]), "", &[(name, "/y")]);
        for name in ["script-name", "SCRIPT_NAME", "x-script-name", "path-info", "x.rewrite-url", "x_original_url"] {
            assert_eq!([&excluded, &roles()].map(|rules| ground(rules, name)), [Ground::HeaderRefused; 2], "{name}");
            assert_eq!(ground(&json!({}), name), Ground::Authenticated, "{name}: the path does not matter here");
        }
        // A proxy removes these. If it asks about its caller in them, they name the request.
        for name in ["x-original-url", "x-rewrite-url", "x-original-uri", "x-forwarded-uri", "x-script"] {
            assert_eq!(ground(&excluded, name), Ground::Authenticated, "{name}");
        }
        assert_eq!(asked(&excluded, &json!([]), "", &[("script-name", "")]), Ground::Authenticated);
    }

    #[test]
    fn a_token_never_allows_more_than_its_owner_holds_now() {
        let members = |list: Value| json!({"api": {"authorization": "Roles"}, "ceiling": "Members", "members": list});
        let ground = |list, owner: Value, asked| {
            grounds(&members(list), &json!([]), &json!({"owner": owner}), &json!({"role": "admin"}), asked)
        };
        let viewer = json!([{"subject": "user:alice", "role": "viewer"}]);
        assert_eq!(ground(viewer.clone(), json!("user:alice"), ("GET", "/x")), Ground::ByRole);
        assert_eq!(ground(viewer.clone(), json!("user:alice"), ("POST", "/x")), Ground::NotPermitted);
        assert_eq!(ground(viewer.clone(), json!("user:bob"), ("GET", "/x")), Ground::OwnerRemoved);
        assert_eq!(ground(viewer, json!(null), ("GET", "/x")), Ground::OwnerMissing);
        assert_eq!(ground(json!([]), json!("user:alice"), ("GET", "/x")), Ground::OwnerRemoved, "empty means nobody");
    }

    #[test]
    fn a_policy_permits_within_the_ceiling_and_denies_whatever_permits() {
        let policy = |name: &str, members: Value, statement: Value| json!({"name": name, "members": members, "statements": [statement]});
        let allow = policy("a", json!(["token:events/ci"]), json!({"effect": "Allow", "actions": ["*:write"]}));
        let deny = policy("b", json!(["account:events/*"]), json!({"effect": "Deny", "actions": ["api:*"]}));
        let (none, viewer) = (json!({}), json!({"role": "viewer"}));
        assert_eq!(grounds(&roles(), &json!([allow]), &none, &none, ("POST", "/x")), Ground::ByPolicy);
        assert_eq!(grounds(&roles(), &json!([allow]), &none, &none, ("GET", "/x")), Ground::NotPermitted);
        assert_eq!(grounds(&roles(), &json!([allow, deny]), &none, &viewer, ("GET", "/x")), Ground::Denied);
        let members = json!({"api": {"authorization": "Roles"}, "ceiling": "Members", "members": [{"subject": "user:a", "role": "viewer"}]});
        let owned = json!({"owner": "user:a"});
        assert_eq!(grounds(&members, &json!([allow]), &owned, &none, ("POST", "/x")), Ground::NotPermitted);
        assert_eq!(
            grounds(&json!({}), &json!([deny]), &none, &none, ("GET", "/x")),
            Ground::Denied,
            "also without roles"
        );
        let other = policy(
            "c",
            json!(["token:events/other", "account:ci/*", "user:a"]),
            json!({"effect": "Allow", "role": "admin"}),
        );
        assert_eq!(grounds(&roles(), &json!([other]), &none, &none, ("GET", "/x")), Ground::NoPermissions);
        assert_eq!(
            grounds(&roles(), &json!([other]), &owned, &none, ("GET", "/x")),
            Ground::ByPolicy,
            "the tokens that a user owns"
        );
    }

    #[test]
    fn a_policy_is_about_the_tokens_that_name_it() {
        let policy = |name: &str, statement: Value| json!({"name": name, "members": [], "statements": [statement]});
        let readers = policy("readers", json!({"effect": "Allow", "actions": ["*:read"]}));
        let frozen = policy("frozen", json!({"effect": "Deny", "actions": ["*"]}));
        let both = json!([readers, frozen]);
        let named = |names: Value| json!({"policies": names});
        let (none, reads) = (json!({}), named(json!(["readers"])));
        let ground = |token: &Value, account: &Value| grounds(&roles(), &both, token, account, ("GET", "/x"));
        assert_eq!(ground(&none, &none), Ground::NoPermissions);
        assert_eq!(ground(&reads, &none), Ground::ByPolicy);
        assert_eq!(ground(&none, &reads), Ground::ByPolicy, "its account names the policy");
        assert_eq!(ground(&named(json!(["writers"])), &none), Ground::NoPermissions, "a policy that does not exist");
        assert_eq!(ground(&reads, &named(json!(["frozen"]))), Ground::Denied);
        let own = json!({"serviceAccountRef": null});
        assert_eq!(ground(&own, &reads), Ground::NoPermissions, "its own account can only narrow it");
        assert_eq!(ground(&json!({"serviceAccountRef": null, "policies": ["readers"]}), &none), Ground::ByPolicy);
        let held = json!({"api": {"authorization": "Roles"}, "ceiling": "Members", "members": [{"subject": "user:a", "role": "viewer"}]});
        let writers = policy("writers", json!({"effect": "Allow", "actions": ["*:write"]}));
        let token = json!({"owner": "user:a", "policies": ["writers"]});
        assert_eq!(
            grounds(&held, &json!([writers]), &token, &none, ("POST", "/x")),
            Ground::NotPermitted,
            "the ceiling"
        );
    }

    #[test]
    fn a_token_that_names_no_account_has_its_own_role_or_none() {
        let own = |role: Value| json!({"serviceAccountRef": null, "role": role});
        let (admin, none) = (json!({"role": "admin"}), json!({}));
        let ground = |token: &Value, account: &Value| grounds(&roles(), &json!([]), token, account, ("DELETE", "/x"));
        assert_eq!(ground(&own(json!("admin")), &admin), Ground::ByRole);
        assert_eq!(ground(&own(json!("viewer")), &admin), Ground::NotPermitted, "demoted, before its account follows");
        assert_eq!(ground(&own(Value::Null), &admin), Ground::NoPermissions, "the role of the account does not count");
        assert_eq!(
            ground(&own(json!("admin")), &json!({"role": "viewer"})),
            Ground::NotPermitted,
            "the account can narrow the token"
        );
        assert_eq!(ground(&none, &admin), Ground::ByRole, "one that names an account has its role");
    }

    #[test]
    fn who_bears_the_name_of_a_member_gets_nothing_by_it_unless_it_is_the_one_that_is_meant() {
        let of = |effect: &str, status: Value| {
            let spec = json!({"instanceRef": {"name": "eem"}, "members": ["token:events/ci"], "statements": [{"effect": effect, "actions": ["*"]}]});
            let metadata = json!({"name": "p", "namespace": "events", "generation": 2});
            let policy = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "AccessPolicy", "metadata": metadata, "spec": spec, "status": status});
            let policy = Arc::new(Policy::of(&serde_json::from_value(policy).unwrap()));
            let world = world(&roles(), &json!([]), &json!({"role": "viewer"}), &json!({"role": "viewer"}));
            let headers = http::HeaderMap::new();
            let request = Request { method: "DELETE", path: Path::parse("/x").ok(), query: "", headers: &headers };
            judge(&world.rules, &Policies::from_iter([policy]), &world.bearer, &request, &mut ()).ground
        };
        let meant =
            |uid: &str| json!({"observedGeneration": 2, "members": [{"member": "token:events/ci", "uid": uid}]});
        assert_eq!(of("Allow", meant("token-uid")), Ground::ByPolicy);
        assert_eq!(
            of("Allow", meant("earlier")),
            Ground::NotPermitted,
            "another token had the name when the policy was written"
        );
        assert_eq!(of("Allow", json!({"observedGeneration": 2, "members": []})), Ground::NotPermitted);
        assert_eq!(of("Allow", Value::Null), Ground::NotPermitted, "the operator has not bound the name yet");
        assert_eq!(
            of("Allow", json!({"observedGeneration": 2})),
            Ground::ByPolicy,
            "an operator of an earlier release"
        );
        assert_eq!(of("Allow", json!({"observedGeneration": 1})), Ground::NotPermitted, "the spec has changed since");
        for status in [meant("earlier"), Value::Null, json!({"observedGeneration": 2, "members": []})] {
            assert_eq!(of("Deny", status), Ground::Denied, "a name in a Deny means any object with that name");
        }
    }

    #[test]
    fn a_policy_that_is_being_deleted_permits_nothing_and_denies() {
        let of = |effect: &str| {
            let spec = json!({"instanceRef": {"name": "eem"}, "members": ["account:events/*"], "statements": [{"effect": effect, "actions": ["*"]}]});
            let metadata = json!({"name": "p", "namespace": "events", "deletionTimestamp": "2026-01-01T00:00:00Z"});
            let policy = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "AccessPolicy", "metadata": metadata, "spec": spec});
            let policy = Arc::new(Policy::of(&serde_json::from_value(policy).unwrap()));
            let world = world(&roles(), &json!([]), &json!({}), &json!({"role": "viewer"}));
            let headers = http::HeaderMap::new();
            let request = |method| Request { method, path: Path::parse("/x").ok(), query: "", headers: &headers };
            let policies = Policies::from_iter([policy]);
            ["DELETE", "GET"]
                .map(|method| judge(&world.rules, &policies, &world.bearer, &request(method), &mut ()).ground)
        };
        assert_eq!(of("Allow"), [Ground::NotPermitted, Ground::ByRole]);
        assert_eq!(of("Deny"), [Ground::Denied, Ground::Denied]);
    }

    #[test]
    fn every_user_means_the_tokens_that_a_user_owns() {
        let policy =
            json!([{"name": "p", "members": ["user:*"], "statements": [{"effect": "Allow", "actions": ["*"]}]}]);
        let ground = |owner: Value| grounds(&roles(), &policy, &json!({"owner": owner}), &json!({}), ("GET", "/x"));
        assert_eq!(ground(json!("user:José Núñez")), Ground::ByPolicy);
        for other in [json!("group:ops"), json!("serviceaccount:a/b"), json!("team:t"), Value::Null] {
            assert_eq!(ground(other.clone()), Ground::NoPermissions, "{other}");
        }
    }

    #[test]
    fn groups_that_are_stale_are_not_blamed_on_the_mapping() {
        let members = json!([{"subject": "group:ops", "role": "viewer"}]);
        let instance = json!({"api": {"authorization": "Roles"}, "ceiling": "Members", "members": members});
        let ground = |fresh, groups: &[&str]| {
            let mut world = world(&instance, &json!([]), &json!({"owner": "user:a"}), &json!({"role": "viewer"}));
            world.bearer.fresh = fresh;
            world.bearer.groups = groups.iter().map(|&group| group.to_owned()).collect::<Vec<_>>().into();
            let headers = http::HeaderMap::new();
            let request = Request { method: "GET", path: Path::parse("/x").ok(), query: "", headers: &headers };
            judge(&world.rules, &Policies::default(), &world.bearer, &request, &mut ()).ground
        };
        assert_eq!(ground(true, &["ops"]), Ground::ByRole);
        assert_eq!(ground(false, &["ops"]), Ground::OwnerStale);
        assert_eq!(
            ground(false, &["others"]),
            Ground::OwnerRemoved,
            "these groups would lend no role even if they were fresh"
        );
        assert!(Ground::OwnerStale.hint().contains("tokenry.dev/confirmed"));
    }

    #[test]
    fn groups_that_are_stale_for_a_part_of_what_is_asked_are_named_too() {
        let members = json!([{"subject": "user:a", "role": "viewer"}, {"subject": "group:ops", "role": "admin"}]);
        let instance = json!({"api": {"authorization": "Roles"}, "ceiling": "Members", "members": members});
        let ground = |fresh, method| {
            let mut world = world(&instance, &json!([]), &json!({"owner": "user:a"}), &json!({"role": "contributor"}));
            (world.bearer.fresh, world.bearer.groups) = (fresh, vec!["ops".into()].into());
            let headers = http::HeaderMap::new();
            let request = Request { method, path: Path::parse("/x").ok(), query: "", headers: &headers };
            let mut steps: Vec<Step> = Vec::new();
            let ground = judge(&world.rules, &Policies::default(), &world.bearer, &request, &mut steps).ground;
            (ground, steps.last().unwrap().text.clone())
        };
        assert_eq!(ground(false, "GET").0, Ground::ByRole, "the owner's own role is enough");
        assert_eq!(ground(true, "POST").0, Ground::ByRole);
        let told = "groups of its owner would permit the request, but were stamped too long ago";
        assert_eq!(ground(false, "POST"), (Ground::OwnerStale, told.into()));
        let grounds = [true, false].map(|fresh| ground(fresh, "PURGE").0);
        assert_eq!(grounds[0], Ground::ByRole);
        assert_eq!(grounds[1], Ground::OwnerStale);
    }

    #[test]
    fn projects_of_a_statement_hold_for_requests_that_name_one() {
        let instance = json!({"api": {"authorization": "Roles", "projectFrom": {"pathSegment": 1}}});
        let policy = |effect| json!([{"name": "a", "members": ["token:events/ci"], "statements": [{"effect": effect, "actions": ["*"], "projects": ["a"]}]}]);
        let (none, admin) = (json!({}), json!({"role": "admin"}));
        assert_eq!(grounds(&instance, &policy("Allow"), &none, &none, ("GET", "/a")), Ground::ByPolicy);
        assert_eq!(grounds(&instance, &policy("Allow"), &none, &none, ("GET", "/b")), Ground::NotPermitted);
        assert_eq!(grounds(&instance, &policy("Allow"), &none, &none, ("GET", "/")), Ground::NotPermitted);
        assert_eq!(grounds(&instance, &policy("Deny"), &none, &admin, ("GET", "/a")), Ground::Denied);
        assert_eq!(grounds(&instance, &policy("Deny"), &none, &admin, ("GET", "/b")), Ground::ByRole);
        assert_eq!(
            grounds(&instance, &policy("Deny"), &none, &admin, ("GET", "/")),
            Ground::Denied,
            "the request may be about that project"
        );
    }

    #[test]
    fn a_request_has_to_stay_within_organizations_and_projects() {
        let api = json!({"organizationFrom": {"header": "X-Organization"}, "projectFrom": {"header": "X-Project"}});
        let instance = json!({"organizations": ["acme", "other"], "api": api});
        let token = json!({"organizations": {"listed": ["acme"]}, "projects": ["p"]});
        let both = [("x-organization", "acme"), ("x-project", "p")];
        assert_eq!(with_headers(&instance, &token, &both), Ground::Authenticated);
        assert_eq!(with_headers(&instance, &token, &both[..1]), Ground::ProjectMissing);
        assert_eq!(with_headers(&instance, &token, &both[1..]), Ground::OrganizationMissing);
        assert_eq!(
            with_headers(&instance, &token, &[("x-organization", "other"), ("x-project", "p")]),
            Ground::OrganizationOutside
        );
        assert_eq!(
            with_headers(&instance, &token, &[("x-organization", "acme"), ("x-project", "q")]),
            Ground::ProjectOutside
        );
        assert_eq!(with_headers(&instance, &json!({}), &[]), Ground::Authenticated);
        let listed = json!({"organizations": {"listed": ["acme"]}});
        assert_eq!(
            with_headers(&json!({}), &listed, &both),
            Ground::OrganizationMissing,
            "the Instance does not say where a request names it"
        );
        let segment = json!({"organization": "acme", "api": {"organizationFrom": {"pathSegment": 2}}});
        assert_eq!(with_headers(&segment, &listed, &[]), Ground::Authenticated);
    }

    #[test]
    fn a_request_names_only_an_organization_that_its_instance_lists() {
        let ground = |more: Value, token: Value, named: &[&str]| {
            let mut instance = json!({"api": {"organizationFrom": {"header": "X-Organization"}}});
            instance.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let headers: Vec<_> = named.iter().map(|name| ("x-organization", *name)).collect();
            with_headers(&instance, &token, &headers)
        };
        let (own, named) = (json!({}), json!({"organization": "acme"}));
        let (two, any) = (json!({"organizations": ["north", "south"]}), json!({"organizations": ["*"]}));
        for token in [json!({}), json!({"organizations": {"all": true}})] {
            let ground = |more: &Value, named: &[&str]| ground(more.clone(), token.clone(), named);
            assert_eq!(ground(&own, &["eem"]), Ground::Authenticated, "left out, it is the name of the Instance");
            assert_eq!(ground(&own, &["acme"]), Ground::OrganizationUnknown);
            assert_eq!(ground(&named, &["acme"]), Ground::Authenticated);
            assert_eq!(ground(&named, &["eem"]), Ground::OrganizationUnknown);
            assert_eq!([&["north"], &["south"]].map(|named| ground(&two, named)), [Ground::Authenticated; 2]);
            assert_eq!(ground(&two, &["eem"]), Ground::OrganizationUnknown, "not even its own");
            assert_eq!(ground(&two, &["North"]), Ground::OrganizationUnknown, "case matters");
            assert_eq!(ground(&any, &["east"]), Ground::Authenticated);
            assert_eq!(ground(&two, &[]), Ground::Authenticated, "it names none");
        }
        let north = json!({"organizations": {"listed": ["north"]}});
        assert_eq!(ground(two.clone(), north.clone(), &["north"]), Ground::Authenticated);
        assert_eq!(ground(two.clone(), north.clone(), &["south"]), Ground::OrganizationOutside);
        assert_eq!(ground(two, north.clone(), &["east"]), Ground::OrganizationUnknown);
        assert_eq!(ground(own, north, &["north"]), Ground::OrganizationUnknown);
        assert!(Ground::OrganizationUnknown.hint().contains("spec.organizations"));
    }

    #[test]
    fn a_header_that_is_there_twice_names_nothing_that_can_be_relied_on() {
        let world = world(
            &json!({"api": {"organizationFrom": {"header": "X-Organization"}}}),
            &json!([]),
            &json!({}),
            &json!({}),
        );
        let mut headers = http::HeaderMap::new();
        headers.append("x-organization", "acme".parse().unwrap());
        headers.append("x-organization", "acme".parse().unwrap());
        let request = Request { method: "GET", path: None, query: "", headers: &headers };
        assert_eq!(
            judge(&world.rules, &Policies::default(), &world.bearer, &request, &mut ()).ground,
            Ground::OrganizationMissing
        );
    }

    #[test]
    fn a_name_is_denied_in_any_case_and_what_can_be_no_name_is_refused() {
        let named = |segment: &str| ["GET".to_owned(), format!("/p/{segment}/x")];
        let instance = json!({"api": {"authorization": "Roles", "projectFrom": {"pathSegment": 2}}});
        let deny = json!([{"name": "d", "members": ["token:events/*"], "statements": [
            {"effect": "Deny", "actions": ["*"], "projects": ["prod"]}, {"effect": "Allow", "role": "admin", "projects": ["prod", "test"]},
        ]}]);
        let ground = |segment: &str| {
            let [method, path] = named(segment);
            grounds(&instance, &deny, &json!({}), &json!({}), (&*method, &*path))
        };
        assert_eq!(ground("test"), Ground::ByPolicy);
        assert_eq!([ground("prod"), ground("PROD"), ground("Prod")], [Ground::Denied; 3]);
        assert_eq!(ground("TEST"), Ground::NotPermitted, "the case of a name matters in an Allow");
        for no_name in ["test,prod", "test prod", "-", "a*", "pr%C3%B6d"] {
            assert_eq!(ground(no_name), Ground::ProjectMissing, "{no_name}");
        }
    }

    #[test]
    fn an_owner_that_holds_a_role_in_one_organization_lends_it_there_only() {
        let instance = json!({
            "api": {"authorization": "Roles", "organizationFrom": {"pathSegment": 1}}, "ceiling": "Members",
            "organizations": ["acme", "other"],
            "members": [
                {"subject": "user:a", "role": "viewer"},
                {"subject": "user:a", "role": "admin", "organizations": {"listed": ["acme"]}},
            ],
        });
        let ground =
            |asked| grounds(&instance, &json!([]), &json!({"owner": "user:a"}), &json!({"role": "admin"}), asked);
        assert_eq!(ground(("POST", "/acme")), Ground::ByRole);
        assert_eq!(ground(("POST", "/other")), Ground::NotPermitted);
        assert_eq!(ground(("GET", "/other")), Ground::ByRole);
    }

    #[test]
    fn the_trail_names_what_each_object_says() {
        let world = world(&roles(), &json!([]), &json!({}), &json!({"role": "viewer"}));
        let headers = http::HeaderMap::new();
        let request = Request { method: "POST", path: Path::parse("/x").ok(), query: "", headers: &headers };
        let mut trail = Vec::new();
        judge(&world.rules, &Policies::default(), &world.bearer, &request, &mut trail);
        let told: Vec<_> = trail.iter().map(|step| format!("{} {}: {}", step.passed, step.object, step.text)).collect();
        assert_eq!(told[0], "true Instance eem: not excluded");
        assert_eq!(
            told[3],
            "false ApiToken events/ci, ServiceAccount events/ci: effective role viewer does not permit api:write"
        );
        assert!(told.last().unwrap().ends_with("nothing permits it"), "{told:?}");
    }
}
