//! The rules of an Instance for requests and tokens, in a form for quick look-ups.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use jiff::{SignedDuration, Timestamp};

use super::{
    action::{Target, by_method},
    bearer::{Bearer, Reach},
    default_role::{self, DefaultRole},
    fingerprint,
    former::FormerOwners,
    header::{self, IDENTITY},
    path::{Path, Reading},
    policy::{CountedName, Names},
    roles::{Members, Roles, Standing, group_names},
    unguarded,
};
use crate::{
    crd::{
        Fault, Instance, Reason,
        fault::parsed,
        instance::{ANY_ALONE_RULE, Api, Authorization, Ceiling, EncodedSlash, OnOwnerRemoved},
        permission::{ANY, NamedBy, Scope, ScopeName, ScopeNameForm},
        subject::{SubjectKind, Who},
        text::{Form, Text, is},
    },
    token::duration::after,
};

/// The organization or project that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// The request names none.
    Nothing,
    /// The request names this one.
    One(&'a str),
    /// The request names more than one, or the name cannot be read.
    Unclear,
}

impl<'a> Named<'a> {
    /// The name in a text. A text that cannot be a name is not clear. For example, an API may read the first name of a
    /// list.
    fn of(text: &'a str) -> Self {
        if is::<ScopeNameForm>(text) { Self::One(text) } else { Self::Unclear }
    }

    /// The name. `None` if there is no name, or if it is not clear.
    pub fn one(self) -> Option<&'a str> {
        match self {
            Self::One(name) => Some(name),
            Self::Nothing | Self::Unclear => None,
        }
    }
}

/// A request, in the form that access judges.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path. `None`: not known, or it cannot be normalised.
    pub path: Option<Path>,
    /// Its query. Empty: there is none, or it is not known.
    pub query: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

/// The rules of an Instance for requests and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Its name.
    pub name: String,
    /// The rule by which requests are authorized.
    pub authorization: Authorization,
    /// The reaction to tokens without a living owner.
    pub on_owner_removed: OnOwnerRemoved,
    /// A digest of the requests that it excludes, and of the way in which it reads requests.
    pub requests: String,
    pub(super) roles: Roles,
    /// The organizations that requests may name.
    pub(super) organizations: Reach,
    excluded: Vec<(Target, String)>,
    pub(super) unguarded: Vec<Target>,
    encoded_slash: EncodedSlash,
    actions: Vec<(Target, String)>,
    organization_from: Option<NamedBy>,
    project_from: Option<NamedBy>,
    groups_max_age: Option<SignedDuration>,
    ceiling: Ceiling,
    pub(super) members: Members,
    pub(super) default_role: Option<DefaultRole>,
    former: FormerOwners,
}

/// The member of a policy that means every token with a user as owner.
const EVERY_USER: &str = "user:*";

/// The message of an exclusion that has no message.
const EXCLUDED: &str = "no token may make this request";

impl Rules {
    /// The rules of an Instance.
    ///
    /// # Errors
    /// A field does not have its required form, or it names a role that does not exist. The Instance then lets nobody
    /// in.
    pub fn of(instance: &Instance) -> Result<Self, Vec<Fault>> {
        let spec = &instance.spec;
        let api = spec.api.clone().unwrap_or_default();
        let roles = Roles::of(&spec.roles);
        let faults = faults(instance, &roles);
        if !faults.is_empty() {
            return Err(faults);
        }
        let excluded = api.excluded.iter().map(|excluded| {
            let message = excluded.message.clone().unwrap_or_else(|| EXCLUDED.into());
            (Target::new(&excluded.methods, &excluded.paths), message)
        });
        let unguarded = api.unguarded.iter().map(|open| Target::new(&open.methods, &open.paths));
        let actions = api.actions.iter().map(|rule| (Target::new(&rule.methods, &rule.paths), rule.action.to_string()));
        let minimum = spec.tokens.minimum_role.as_ref().and_then(|role| roles.rank(role.as_str()));
        Ok(Self {
            name: instance.metadata.name.clone().unwrap_or_default(),
            authorization: api.authorization,
            on_owner_removed: spec.tokens.on_owner_removed,
            requests: fingerprint::of_requests(&api),
            organizations: Reach::of_instance(instance),
            excluded: excluded.collect(),
            unguarded: unguarded.collect(),
            encoded_slash: api.encoded_slash,
            actions: actions.collect(),
            organization_from: api.organization_from,
            project_from: api.project_from,
            groups_max_age: spec.tokens.groups_max_age.as_ref().and_then(|age| age.parse().ok()),
            ceiling: spec.ceiling,
            members: Members::of(&roles, &spec.members, &spec.teams, minimum),
            default_role: spec.tokens.default_role.as_ref().and_then(|named| DefaultRole::of(named, &roles)),
            former: FormerOwners::of(&spec.former_owners),
            roles,
        })
    }

    /// The request as the Instance reads it. A path with an encoded slash is not known, unless the Instance keeps such
    /// slashes.
    pub(super) fn read<'a>(&self, request: &'a Request<'_>) -> Cow<'a, Request<'a>> {
        let Request { method, ref path, query, headers } = *request;
        let has_slash = path.as_ref().is_some_and(|path| !path.splitting().is_empty());
        match self.encoded_slash {
            EncodedSlash::Refuse if has_slash => Cow::Owned(Request { method, path: None, query, headers }),
            EncodedSlash::Refuse | EncodedSlash::Keep => Cow::Borrowed(request),
        }
    }

    /// The message of the exclusion that covers a request. `None` if there is no such exclusion. Every reading of the
    /// path is checked, including those of other servers.
    pub(super) fn exclusion(&self, method: &str, path: &Path) -> Option<&str> {
        let covers = |target: &Target| {
            target.covers(method, path.read()) || path.others().any(|other| target.covers(method, other))
        };
        self.excluded.iter().find(|(target, _)| covers(target)).map(|(_, message)| &**message)
    }

    /// The action of a request. `None` if the Instance names actions, and the request matches none of them.
    pub(super) fn action(&self, method: &str, path: Option<&Path>) -> Option<&str> {
        self.action_of(method, path.map(Path::read))
    }

    fn action_of(&self, method: &str, path: Option<&Reading>) -> Option<&str> {
        if self.actions.is_empty() {
            return Some(by_method(method));
        }
        self.actions
            .iter()
            .find(|(target, _)| path.is_some_and(|path| target.covers(method, path)))
            .map(|(_, action)| &**action)
    }

    /// The further actions of a request, by servers that separate segments at an encoded slash.
    pub(super) fn split_actions<'a>(&'a self, request: &'a Request<'_>) -> impl Iterator<Item = &'a str> {
        let readings = request.path.iter().flat_map(Path::splitting);
        readings.filter_map(|reading| self.action_of(request.method, Some(reading)))
    }

    /// True if some servers read the path of a request as a different action, organization or project. The action
    /// counts only if `by_action` is true. For the actions by servers that separate segments at an encoded slash, see
    /// [`Rules::split_actions`].
    pub(super) fn is_ambiguous(&self, request: &Request<'_>, by_action: bool) -> bool {
        let Some(path) = &request.path else { return false };
        let counted = [&self.organization_from, &self.project_from].map(|from| from.as_ref()?.path_segment);
        let other_action =
            |other: &Reading| self.action_of(request.method, Some(other)) != self.action(request.method, Some(path));
        let other_name = |other: &Reading| {
            let numbers = counted.iter().flatten().map(|number| usize::try_from(*number).unwrap_or_default());
            { numbers }.any(|number| other.segment(number) != path.segment(number))
        };
        by_action && path.keeping().iter().any(other_action) || path.others().any(other_name)
    }

    /// The header of a request that some servers confuse with another one. Only two kinds of headers count: those that
    /// name the organization or project, and identity headers.
    pub(super) fn look_alike<'a>(&self, request: &Request<'a>) -> Option<&'a str> {
        let judged = [&self.organization_from, &self.project_from].into_iter().flatten().flat_map(|from| &from.header);
        let identity = IDENTITY;
        let identity = identity.each_ref().map(HeaderName::as_str);
        header::look_alike(request.headers, judged.map(|header| header.as_str()).chain(identity))
    }

    /// True if an exclusion is limited to some methods.
    pub(super) fn excludes_by_method(&self) -> bool {
        self.excluded.iter().any(|(target, _)| target.is_by_method())
    }

    /// The organization that a request names.
    pub(super) fn organization<'a>(&self, request: &'a Request<'_>) -> Named<'a> {
        named(self.organization_from.as_ref(), request)
    }

    /// The project that a request names.
    pub(super) fn project<'a>(&self, request: &'a Request<'_>) -> Named<'a> {
        named(self.project_from.as_ref(), request)
    }

    /// The cause for which no request can name an organization within `reach`. `None`: a request can, or need not name
    /// one.
    pub fn unnamed_organization(&self, reach: &Reach) -> Option<Unnamed> {
        let listed = matches!(reach, Reach::Listed(_)).then(|| reach.and(&self.organizations));
        Unnamed::of(self.organization_from.as_ref(), listed.as_ref().unwrap_or(reach))
    }

    /// The cause for which no request can name a project within `reach`. `None`: a request can, or need not name one.
    pub fn unnamed_project(&self, reach: &Reach) -> Option<Unnamed> {
        Unnamed::of(self.project_from.as_ref(), reach)
    }

    /// True if a decision depends on the path of the request.
    pub fn needs_path(&self) -> bool {
        let by_segment = |from: &Option<NamedBy>| from.as_ref().is_some_and(|from| from.path_segment.is_some());
        let listed = !self.excluded.is_empty() || !self.actions.is_empty();
        listed
            || self.authorization == Authorization::Roles
            || by_segment(&self.organization_from)
            || by_segment(&self.project_from)
    }

    /// True if anything that is asked about a request depends on its path. Otherwise the path need not be parsed.
    pub fn reads_path(&self) -> bool {
        self.needs_path() || !self.unguarded.is_empty()
    }

    /// The end of the time in which groups stamped at `at` count. `None`: they count forever.
    pub fn groups_hold_until(&self, at: Timestamp) -> Option<Timestamp> {
        Some(after(at, self.groups_max_age?))
    }

    /// The organizations in a scope that the Instance does not list.
    pub fn unlisted<'a>(&self, scope: Option<&'a Scope>) -> Vec<&'a str> {
        unlisted(&self.organizations, scope)
    }

    /// True if the Instance has a role with this name.
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.rank(name).is_some()
    }

    /// True if the Instance has both roles, and `role` permits more than `other`.
    pub fn is_stronger(&self, role: &str, other: &str) -> bool {
        self.roles.rank(role).zip(self.roles.rank(other)).is_some_and(|(role, other)| role > other)
    }

    /// The names of its roles, weakest first.
    pub fn role_names(&self) -> impl Iterator<Item = &str> {
        self.roles.names()
    }

    /// True if `spec.formerOwners` lists this owner.
    pub fn has_left(&self, owner: &str) -> bool {
        self.former.has(owner)
    }

    /// The owner of a bearer that `spec.formerOwners` lists, or such an owner of an account behind it. `None`: nobody
    /// behind the bearer has left.
    pub fn former_owner<'a>(&self, bearer: &'a Bearer<'_>) -> Option<&'a str> {
        self.former.of_bearer(bearer)
    }

    /// The roles that the owner of a token holds in the Instance. An owner that has left holds none. Without
    /// `ceiling: Members` its token needs no role of its owner, but is refused unless the Instance keeps such tokens.
    pub fn standing(&self, bearer: &Bearer<'_>) -> Standing<'_> {
        let groups = if bearer.fresh { &bearer.groups[..] } else { &[] };
        let left = self.former_owner(bearer).is_some();
        match (self.ceiling, bearer.owner.as_deref().filter(|_| bearer.owner().is_some())) {
            (Ceiling::None, _) if left && self.on_owner_removed != OnOwnerRemoved::Keep => Standing::Holds(Vec::new()),
            (Ceiling::None, _) => Standing::Free,
            (Ceiling::Members, None) => Standing::Nobody,
            (Ceiling::Members, Some(_)) if left => Standing::Holds(Vec::new()),
            (Ceiling::Members, Some(owner)) => Standing::Holds(self.members.holdings(owner, groups)),
        }
    }

    /// True if a token of this owner would be refused, because the owner is no member. Groups and other accounts may
    /// lend a role. False for owners that may have it from them.
    pub fn refuses_owner(&self, owner: &str) -> bool {
        let is_account = Who::of(owner).is_none_or(|who| who.kind == SubjectKind::Account);
        self.ceiling == Ceiling::Members && !is_account && (self.has_left(owner) || self.members.lend_nothing_to(owner))
    }

    /// True if the owner holds no role now, but would hold one if its groups had been stamped recently.
    pub(super) fn is_stale(&self, bearer: &Bearer<'_>) -> bool {
        let lends = |standing| matches!(standing, Standing::Holds(held) if !held.is_empty());
        !lends(self.standing(bearer)) && lends(self.standing(&Bearer { fresh: true, ..bearer.clone() }))
    }

    /// All names by which a policy can mean a token: those of the token, of its account, and of its owner.
    ///
    /// Groups that were stamped too long ago count only in statements that deny. If the owner is an account, its name
    /// also counts only in statements that deny, because the uid of that account is not known. So do all names of an
    /// owner that has left.
    pub(super) fn names<'a>(&'a self, bearer: &'a Bearer<'_>) -> Names<'a> {
        let full = |kind: SubjectKind, home: &str, name: &str| [kind.as_str(), ":", home, "/", name].concat();
        let (owner, left) = (bearer.owner(), self.former_owner(bearer).is_some());
        let uncertain = bearer.owner.as_deref().filter(|_| owner.is_some_and(|who| who.kind == SubjectKind::Account));
        let counted = |name: Cow<'a, str>, permits: bool| {
            let permits = permits && uncertain != Some(&*name);
            CountedName { name, permits }
        };
        let objects = [(SubjectKind::Token, &bearer.token), (SubjectKind::Account, &bearer.account)];
        let mut others: Vec<_> =
            objects.iter().map(|(kind, named)| counted(full(*kind, &named.namespace, "*").into(), true)).collect();
        if let (Some(who), Some(owner)) = (owner, bearer.owner.as_deref()) {
            others.extend(self.members.names(owner).map(|name| counted(name.into(), !left)));
            others.extend(group_names(&bearer.groups).map(|name| counted(name.into(), !left && bearer.fresh)));
            others.extend((who.kind == SubjectKind::User).then(|| counted(EVERY_USER.into(), !left)));
        }
        let [token, account] = objects.map(|(kind, named)| full(kind, &named.namespace, &named.name));
        let joined = joined(bearer);
        let objects = [(token, &*bearer.token_uid), (account, &*bearer.account_uid)];
        Names { objects: objects.into(), others, joined: joined.collect() }
    }
}

/// The policies that the bearer names. They are policies of its own Instance, and not of a further one, even if they
/// have the same names. The account that was made for a token only narrows the token, so its policies permit nothing.
fn joined<'a>(bearer: &'a Bearer<'_>) -> impl Iterator<Item = CountedName<'a>> {
    let own = bearer.policies.iter().map(|name| (name, true));
    let all = own.chain(bearer.account_policies.iter().map(|name| (name, !bearer.own_account)));
    all.filter(|_| bearer.at_home).map(|(name, permits)| CountedName { name: name.as_str().into(), permits })
}

/// The organizations in a scope that are not among `known`.
fn unlisted<'a>(known: &Reach, scope: Option<&'a Scope>) -> Vec<&'a str> {
    let listed = scope.and_then(|scope| scope.listed.as_deref()).unwrap_or_default();
    listed.iter().map(ScopeName::as_str).filter(|name| !known.covers(Some(name))).collect()
}

/// The cause for which no request can name an organization, or a project, within a reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// The Instance reads none from requests.
    Unread,
    /// The reach has none.
    Empty,
}

impl Unnamed {
    fn of(from: Option<&NamedBy>, reach: &Reach) -> Option<Self> {
        match reach {
            Reach::All => None,
            Reach::Listed(_) if from.is_none() => Some(Self::Unread),
            Reach::Listed(names) => names.is_empty().then_some(Self::Empty),
        }
    }
}

/// The organization or project that a request names, at the place that `from` gives. A header that occurs twice is not
/// clear.
fn named<'a>(from: Option<&NamedBy>, request: &'a Request<'_>) -> Named<'a> {
    let Some(from) = from else { return Named::Nothing };
    if let Some(number) = from.path_segment {
        let number = usize::try_from(number).unwrap_or_default();
        let segment = request.path.as_ref().and_then(|path| path.segment(number));
        return segment.map_or(Named::Nothing, Named::of);
    }
    let Some(header) = &from.header else { return Named::Unclear };
    let mut values = request.headers.get_all(header.as_str()).iter();
    match (values.next(), values.next()) {
        (None, _) => Named::Nothing,
        (Some(value), None) => match value.to_str() {
            Ok("") => Named::Nothing,
            Ok(text) => Named::of(text),
            Err(_) => Named::Unclear,
        },
        (Some(_), Some(_)) => Named::Unclear,
    }
}

/// All faults of an Instance: fields without their required form, duplicates, and roles that do not exist.
fn faults(instance: &Instance, roles: &Roles) -> Vec<Fault> {
    let spec = &instance.spec;
    let mut faults = Vec::new();
    organizations(instance, &mut faults);
    let mut seen = std::collections::BTreeSet::new();
    for (index, role) in spec.roles.iter().enumerate() {
        let path = format!("spec.roles[{index}]");
        form(&role.name, format!("{path}.name"), &mut faults);
        if !seen.insert(role.name.as_str()) {
            faults.push(Fault::invalid(
                format!("{path}.name"),
                format!("names role {} twice; remove one of them", role.name),
            ));
        }
        forms(&role.actions, &format!("{path}.actions"), &mut faults);
    }
    api_faults(&spec.api.clone().unwrap_or_default(), &mut faults);
    for (index, member) in spec.members.iter().enumerate() {
        let path = format!("spec.members[{index}]");
        form(&member.subject, format!("{path}.subject"), &mut faults);
        known(roles, member.role.as_str(), format!("{path}.role"), &mut faults);
    }
    for (index, team) in spec.teams.iter().enumerate() {
        form(&team.name, format!("spec.teams[{index}].name"), &mut faults);
        forms(&team.users, &format!("spec.teams[{index}].users"), &mut faults);
    }
    parsed(spec.tokens.groups_max_age.as_ref(), "spec.tokens.groupsMaxAge", &mut faults);
    spec.tokens.minimum_role.iter().for_each(|role| {
        known(roles, role.as_str(), "spec.tokens.minimumRole".into(), &mut faults);
    });
    default_role::faults(spec, roles, &mut faults);
    forms(&spec.former_owners, "spec.formerOwners", &mut faults);
    faults
}

/// The fault of an identity header that names the organization or project. The API never sees the caller's own.
const OVERWRITTEN: &str =
    "is an identity header, which the proxy overwrites for the API; name a header of callers, such as X-Organization";

/// Adds the faults of the rules for requests.
fn api_faults(api: &Api, faults: &mut Vec<Fault>) {
    for (index, rule) in api.actions.iter().enumerate() {
        let path = format!("spec.api.actions[{index}]");
        form(&rule.action, format!("{path}.action"), faults);
        forms(&rule.methods, &format!("{path}.methods"), faults);
        forms(&rule.paths, &format!("{path}.paths"), faults);
    }
    for (index, rule) in api.excluded.iter().enumerate() {
        let path = format!("spec.api.excluded[{index}]");
        forms(&rule.methods, &format!("{path}.methods"), faults);
        forms(&rule.paths, &format!("{path}.paths"), faults);
    }
    unguarded::check(&api.unguarded, faults);
    for (index, place) in api.credentials.iter().enumerate() {
        let path = format!("spec.api.credentials[{index}]");
        form(&place.header, format!("{path}.header"), faults);
        place.scheme.iter().for_each(|scheme| form(scheme, format!("{path}.scheme"), faults));
        if api.credentials[..index].iter().any(|other| other.meets(place)) {
            let message = "gives a header and scheme twice; a header without a scheme includes all its schemes";
            faults.push(Fault::invalid(path, message));
        }
    }
    for (from, path) in [(&api.organization_from, "organizationFrom"), (&api.project_from, "projectFrom")] {
        let unclear = from.as_ref().is_some_and(|from| from.header.is_some() == from.path_segment.is_some());
        if unclear {
            faults.push(Fault::invalid(format!("spec.api.{path}"), "give exactly one of header and pathSegment"));
        }
        for header in from.iter().flat_map(|from| &from.header) {
            let path = format!("spec.api.{path}.header");
            if IDENTITY.iter().any(|identity| identity.as_str().eq_ignore_ascii_case(header.as_str())) {
                faults.push(Fault::invalid(path.clone(), OVERWRITTEN));
            }
            form(header, path, faults);
        }
    }
}

/// Adds the faults of the list of organizations, and of members that list others.
fn organizations(instance: &Instance, faults: &mut Vec<Fault>) {
    const PATH: &str = "spec.organizations";
    let spec = &instance.spec;
    forms(&spec.organizations, PATH, faults);
    if spec.organizations.len() > 1 && spec.organizations.iter().any(|name| name.as_str() == ANY) {
        faults.push(Fault::invalid(PATH, ANY_ALONE_RULE));
    }
    let known = Reach::of_instance(instance);
    for (index, member) in spec.members.iter().enumerate() {
        let names = unlisted(&known, member.organizations.as_ref());
        if !names.is_empty() {
            let path = format!("spec.members[{index}].organizations.listed");
            let message = format!(
                "lists {}, but {PATH} of the Instance does not; add each of them there, or remove it here",
                names.join(", ")
            );
            faults.push(Fault::new(Reason::OrganizationUnknown, path, message));
        }
    }
}

fn form<F: Form>(text: &Text<F>, path: String, faults: &mut Vec<Fault>) {
    if let Err(rule) = text.checked() {
        faults.push(Fault::invalid(path, rule));
    }
}

pub(super) fn forms<F: Form>(texts: &[Text<F>], path: &str, faults: &mut Vec<Fault>) {
    texts.iter().enumerate().for_each(|(index, text)| form(text, format!("{path}[{index}]"), faults));
}

pub(super) fn known(roles: &Roles, role: &str, path: String, faults: &mut Vec<Fault>) {
    if roles.rank(role).is_none() {
        let names: Vec<_> = roles.names().collect();
        let message = format!("there is no role {role}; give one of {}, or add it to spec.roles", names.join(", "));
        faults.push(Fault::new(Reason::RoleMissing, path, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The faults of an Instance that the schema did not reject.
    fn told(spec: Value) -> Vec<String> {
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "eem"}, "spec": spec});
        let faults = Rules::of(&serde_json::from_value(object).unwrap()).err().unwrap_or_default();
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_fault_is_named_with_its_field() {
        let of = |listed: &[&str]| json!({"subject": "user:a", "role": "viewer", "organizations": {"listed": listed}});
        for (spec, fault) in [
            (
                json!({"roles": [{"name": "a"}, {"name": "a"}]}),
                "spec.roles[1].name: names role a twice; remove one of them",
            ),
            (json!({"roles": [{"name": "a", "actions": ["read"]}]}), "spec.roles[0].actions[0]: must be an action"),
            (json!({"api": {"excluded": [{"paths": ["eem"]}]}}), "spec.api.excluded[0].paths[0]: must be a path"),
            (
                json!({"api": {"unguarded": [{"paths": ["/a"]}, {"paths": ["/a", "/**"]}]}}),
                "spec.api.unguarded[1]: has a path of wildcards that ends with **, such as /**, and no methods",
            ),
            (
                json!({"api": {"unguarded": [{"methods": [], "paths": ["/*/*/**"]}]}}),
                "spec.api.unguarded[0]: has a path of wildcards",
            ),
            (json!({"api": {"unguarded": [{"paths": ["login"]}]}}), "spec.api.unguarded[0].paths[0]: must be a path"),
            (
                json!({"api": {"unguarded": [{"methods": ["get"], "paths": ["/**"]}]}}),
                "spec.api.unguarded[0].methods[0]: must be a method",
            ),
            (json!({"api": {"actions": [{"action": "a", "paths": ["/"]}]}}), "spec.api.actions[0].action: must be"),
            (json!({"api": {"organizationFrom": {}}}), "spec.api.organizationFrom: give exactly one of"),
            (
                json!({"api": {"organizationFrom": {"header": "X-TOKENRY-Organization"}}}),
                "spec.api.organizationFrom.header: is an identity header",
            ),
            (
                json!({"api": {"projectFrom": {"header": "X-Forwarded-User"}}}),
                "spec.api.projectFrom.header: is an identity header",
            ),
            (json!({"api": {"credentials": [{"header": "a b"}]}}), "spec.api.credentials[0].header: must be the name"),
            (
                json!({"api": {"credentials": [{"header": "a", "scheme": "é"}]}}),
                "spec.api.credentials[0].scheme: must be an authentication scheme",
            ),
            (
                json!({"api": {"credentials": [{"header": "a"}, {"header": "A", "scheme": "b"}]}}),
                "spec.api.credentials[1]: gives a header and scheme twice",
            ),
            (json!({"members": [{"subject": "user:a", "role": "b"}]}), "spec.members[0].role: there is no role b"),
            (json!({"organizations": ["a b"]}), "spec.organizations[0]: must be * or a name"),
            (json!({"organizations": ["a", "*"]}), "spec.organizations: * means any organization"),
            (
                json!({"organizations": ["a", "b"], "members": [of(&["a"]), of(&["c", "a", "d"])]}),
                "spec.members[1].organizations.listed: lists c, d, but spec.organizations of the Instance does not",
            ),
            (json!({"members": [of(&["eem"]), of(&["c"])]}), "spec.members[1].organizations.listed: lists c, but"),
            (json!({"teams": [{"name": "t", "users": ["a\r"]}]}), "spec.teams[0].users[0]: must be the name of a user"),
            (json!({"tokens": {"minimumRole": "b"}}), "spec.tokens.minimumRole: there is no role b"),
            (json!({"tokens": {"defaultRole": "b"}}), "spec.tokens.defaultRole: there is no role b"),
            (json!({"tokens": {"defaultRole": "B"}}), "spec.tokens.defaultRole: must be Owner, or the name of a role"),
            (json!({"tokens": {"defaultRole": "Owner"}}), "spec.tokens.defaultRole: Owner needs ceiling: Members"),
            (json!({"formerOwners": ["user:a", "group:b"]}), "spec.formerOwners[1]: must be user:NAME or"),
        ] {
            let told = told(spec.clone());
            assert!(matches!(&told[..], [only] if only.starts_with(fault)), "{spec}: {told:?}");
        }
        let any = json!({"organizations": ["*"], "members": [of(&["a"])]});
        let all = json!({"members": [{"subject": "user:a", "role": "viewer", "organizations": {"all": true}}]});
        let owner = json!({"ceiling": "Members", "tokens": {"defaultRole": "Owner"}});
        let viewer = json!({"tokens": {"defaultRole": "viewer"}, "formerOwners": ["user:a", "serviceaccount:ci/b"]});
        for good in [json!({}), json!({"organization": "c", "members": [of(&["c"])]}), any, all, owner, viewer] {
            assert_eq!(told(good.clone()), Vec::<String>::new(), "{good}");
        }
        let open = json!([{"methods": ["OPTIONS"], "paths": ["/**"]}, {"paths": ["/", "/*", "/a/**"]}]);
        assert_eq!(told(json!({"api": {"unguarded": open}})), Vec::<String>::new());
    }
}
