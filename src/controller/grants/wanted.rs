//! Builds the Roles and RoleBindings that follow from an object. Every rule names its objects.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject as RbacSubject};
use kube::Resource;

use crate::{
    access::{Grantee, Rules, givers, grantees, may_lend},
    crd::{Account, ApiToken, Instance, give, name, subject::SubjectKind},
    outside::rights::Right,
};

/// The API group of Roles and RoleBindings.
const RBAC: &str = "rbac.authorization.k8s.io";

/// The most subjects of a RoleBinding. With names of the greatest length it has half of the size that etcd stores. An
/// Instance has so few members and users of teams that nine RoleBindings are enough for a Role.
const MOST_BOUND: usize = 2000;

/// A right: a Role, and the RoleBindings to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Granted {
    /// The Role.
    pub role: Role,
    /// The RoleBindings. The first one has the name of the Role.
    pub bindings: Vec<RoleBinding>,
}

impl Granted {
    /// The name of the Role.
    pub fn name(&self) -> &str {
        self.role.metadata.name.as_deref().unwrap_or_default()
    }

    /// The names of the RoleBindings.
    pub fn bound(&self) -> impl Iterator<Item = &str> {
        self.bindings.iter().map(|binding| binding.metadata.name.as_deref().unwrap_or_default())
    }

    /// Grants `rule` to the grantees, by objects in the namespace of `owner`.
    fn new(owner: &impl Resource<DynamicType = ()>, name: String, rule: PolicyRule, grantees: Vec<Grantee>) -> Self {
        let subjects: Vec<_> = grantees.into_iter().map(subject).collect();
        let binding = |(index, subjects): (usize, &[RbacSubject])| {
            let role_ref = RoleRef { api_group: RBAC.into(), kind: "Role".into(), name: name.clone() };
            let mut binding = RoleBinding { role_ref, subjects: Some(subjects.to_vec()), ..RoleBinding::default() };
            give(&mut binding, owner);
            binding.metadata.name = Some(name::bound(&name, index));
            binding
        };
        let bindings = subjects.chunks(MOST_BOUND).enumerate().map(binding).collect();
        let mut role = Role { rules: Some(vec![rule]), ..Role::default() };
        give(&mut role, owner);
        role.metadata.name = Some(name);
        Self { role, bindings }
    }
}

fn subject(grantee: Grantee) -> RbacSubject {
    let known =
        |kind: &str, name| RbacSubject { api_group: Some(RBAC.into()), kind: kind.into(), name, namespace: None };
    match grantee {
        Grantee::User(name) => known("User", name),
        Grantee::Group(name) => known("Group", name),
        Grantee::ServiceAccount(namespace, name) => {
            RbacSubject { api_group: None, namespace: Some(namespace), ..known("ServiceAccount", name) }
        }
    }
}

/// The rights of the members of an Instance: a member may give its role and the weaker ones.
pub fn of_instance(instance: &Instance, rules: &Rules) -> Vec<Granted> {
    let own = instance.metadata.name.as_deref().unwrap_or_default();
    let granted = givers(instance, rules).into_iter().map(|givers| {
        let roles = givers.gives.iter().map(|role| format!("{own}:{role}")).collect();
        let called = name::granted("instance", &[own, &givers.role]);
        Granted::new(instance, called, Right::GIVE_ROLE.rule(roles), givers.grantees)
    });
    granted.collect()
}

/// The right of the owner of an account of `instance` to use it. The account of one token alone gives no right: the
/// owner of that token changes the token instead.
pub fn of_account(account: &Account, instance: &Instance, rules: &Rules) -> Option<Granted> {
    let owner = account.spec.owner.as_ref().filter(|owner| may_lend(rules, owner.as_str()))?;
    let grantees = grantees(instance, rules, owner.as_str());
    if grantees.is_empty() || belongs_to_a_token(account) {
        return None;
    }
    let own = account.metadata.name.clone().unwrap_or_default();
    let called = name::granted("account", &[&own]);
    Some(Granted::new(account, called, Right::USE_ACCOUNT.rule(vec![own]), grantees))
}

fn belongs_to_a_token(account: &Account) -> bool {
    let kind = ApiToken::kind(&());
    account.metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true) && owner.kind == kind)
}

/// The right of `owner`, a user, to read these Secrets of a token. Another owner gets none: neither a team nor a group
/// answers for one value.
pub fn of_token(
    token: &ApiToken,
    owner: &str,
    secrets: Vec<String>,
    instance: &Instance,
    rules: &Rules,
) -> Option<Granted> {
    let is_user = owner.starts_with(&format!("{}:", SubjectKind::User.as_str()));
    let grantees = grantees(instance, rules, owner);
    if !is_user || secrets.is_empty() || grantees.is_empty() {
        return None;
    }
    let called = name::granted("token", &[token.metadata.name.as_deref().unwrap_or_default()]);
    Some(Granted::new(token, called, Right::READ_VALUE.rule(secrets), grantees))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn object<T: DeserializeOwned>(kind: &str, name: &str, spec: Value) -> T {
        let metadata = json!({"name": name, "namespace": "a", "uid": "u"});
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    /// The Instance `eem`.
    pub(crate) fn instance(spec: Value) -> Instance {
        object("Instance", "eem", spec)
    }

    /// The right to use the account `ci` of the Instance with the uid `u`.
    pub(crate) fn granted() -> Granted {
        let account = object("ServiceAccount", "ci", json!({"instanceRef": {"name": "eem"}, "owner": "user:alice"}));
        let instance = instance(json!({"members": [{"subject": "user:alice", "role": "viewer"}]}));
        of_account(&account, &instance, &Rules::of(&instance).unwrap()).unwrap()
    }

    /// A right without its metadata: the rule, and the subjects.
    fn content(granted: &Granted) -> Value {
        let [binding] = &granted.bindings[..] else { panic!("{:?}", granted.bindings) };
        json!([granted.role.rules, binding.subjects])
    }

    #[test]
    fn a_member_may_give_its_role_by_objects_of_its_instance() {
        let members = json!([
            {"subject": "user:alice", "role": "contributor"}, {"subject": "group:ops", "role": "contributor"},
            {"subject": "serviceaccount:ci/builder", "role": "contributor"},
        ]);
        let instance = instance(json!({"ceiling": "Members", "members": members}));
        let all = of_instance(&instance, &Rules::of(&instance).unwrap());
        let [granted] = &all[..] else { panic!("{all:?}") };
        let role = serde_json::to_value(&granted.role).unwrap();
        let owner = json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "name": "eem", "uid": "u", "controller": true,
        });
        assert_eq!(role["metadata"]["ownerReferences"], json!([owner]));
        assert_eq!(
            (&role["metadata"]["name"], &role["metadata"]["namespace"], &role["metadata"]["labels"]),
            (
                &json!("tokenry:instance:eem:contributor"),
                &json!("a"),
                &json!({"app.kubernetes.io/managed-by": "tokenry", "tokenry.dev/owner-uid": "u"})
            )
        );
        let binding = &granted.bindings[0];
        assert_eq!(binding.metadata, granted.role.metadata);
        let role_ref = json!({"apiGroup": RBAC, "kind": "Role", "name": "tokenry:instance:eem:contributor"});
        assert_eq!(serde_json::to_value(&binding.role_ref).unwrap(), role_ref);
        assert_eq!(
            content(granted),
            json!([
                [{
                    "apiGroups": ["tokenry.dev"], "resources": ["roles"], "verbs": ["assign"],
                    "resourceNames": ["eem:viewer", "eem:contributor"],
                }],
                [
                    {"apiGroup": RBAC, "kind": "User", "name": "alice"},
                    {"apiGroup": RBAC, "kind": "Group", "name": "ops"},
                    {"kind": "ServiceAccount", "namespace": "ci", "name": "builder"},
                ],
            ])
        );
    }

    #[test]
    fn many_grantees_are_bound_by_several_bindings_that_fit_into_etcd() {
        let long = |nth: usize| format!("{nth:0253}");
        let team = |team: usize| json!({"name": format!("t{team}"), "users": (0..256).map(|nth| long(256 * team + nth)).collect::<Vec<_>>()});
        let members = |team: usize| json!({"subject": format!("team:t{team}"), "role": "viewer"});
        let all = |of: &dyn Fn(usize) -> Value| (0..64).map(of).collect::<Vec<_>>();
        let instance = instance(json!({"ceiling": "Members", "teams": all(&team), "members": all(&members)}));
        let granted = of_instance(&instance, &Rules::of(&instance).unwrap());
        let [granted] = &granted[..] else { panic!("{} roles", granted.len()) };
        let numbered = (2..10).map(|number| format!("tokenry:instance:eem:viewer:{number}"));
        assert!(granted.bound().eq([granted.name().to_owned()].into_iter().chain(numbered)));
        let mut bound = std::collections::BTreeSet::new();
        for binding in &granted.bindings {
            assert_eq!(binding.role_ref.name, granted.name());
            assert!(serde_json::to_string(binding).unwrap().len() < 768 * 1024);
            bound.extend(binding.subjects.iter().flatten().map(|subject| subject.name.clone()));
        }
        assert!(bound.into_iter().eq((0..64 * 256).map(long)));
    }

    #[test]
    fn an_owner_may_use_its_account_and_a_team_by_its_users() {
        let members = json!([{"subject": "team:t", "role": "viewer"}]);
        let instance = instance(json!({"teams": [{"name": "t", "users": ["bob"]}], "members": members}));
        let rules = Rules::of(&instance).unwrap();
        let granted = |owner: Value| {
            let mut account: Account = object("ServiceAccount", "ci", json!({"instanceRef": {"name": "eem"}}));
            account.spec.owner = serde_json::from_value(owner).unwrap();
            of_account(&account, &instance, &rules)
        };
        let rule = json!([{
            "apiGroups": ["tokenry.dev"], "resources": ["serviceaccounts"], "verbs": ["use"], "resourceNames": ["ci"],
        }]);
        let bob = json!([{"apiGroup": RBAC, "kind": "User", "name": "bob"}]);
        assert_eq!(content(&granted(json!("team:t")).unwrap()), json!([rule, bob]));
        assert_eq!(granted(json!("user:bob")).unwrap().name(), "tokenry:account:ci");
        for none in [json!(null), json!("team:none"), json!("account:a/b"), json!("user:carol")] {
            assert_eq!(granted(none), None);
        }
        let mut own: Account =
            object("ServiceAccount", "ci", json!({"instanceRef": {"name": "eem"}, "owner": "user:bob"}));
        let token: ApiToken = object("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}}));
        own.metadata.owner_references = token.controller_owner_ref(&()).map(|owner| vec![owner]);
        assert_eq!(of_account(&own, &instance, &rules), None, "the account of one token");
    }

    #[test]
    fn a_user_may_read_the_secrets_of_its_token_and_nobody_else_may() {
        let (instance, token) =
            (instance(json!({})), object::<ApiToken>("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})));
        let rules = Rules::of(&instance).unwrap();
        let granted = |owner: &str, secrets: &[&str]| {
            of_token(&token, owner, secrets.iter().map(|name| (*name).to_owned()).collect(), &instance, &rules)
        };
        let rule =
            json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["ci", "new"]}]);
        let alice = json!([{"apiGroup": RBAC, "kind": "User", "name": "alice"}]);
        assert_eq!(content(&granted("user:alice", &["ci", "new"]).unwrap()), json!([rule, alice]));
        assert_eq!(granted("user:alice", &[]), None, "a rule without names would be about all Secrets");
        for other in ["group:ops", "team:t", "serviceaccount:a/b", "account:a/b", "user:system:serviceaccount:a:b"] {
            assert_eq!(granted(other, &["ci"]), None, "{other}");
        }
    }
}
