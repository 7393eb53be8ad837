//! What objects depend on, or belong to: the keys by which caches find them when that changes, or count them.

use kube::Resource;

use crate::{
    crd::{
        AccessPolicy, Account, ApiToken, Instance, RestartTarget,
        instance::EndpointName,
        subject::{SubjectKind, Who},
    },
    outside::store::Keys,
};

/// What an object depends on, or belongs to. Two texts are a namespace and a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Depends<'a> {
    /// A namespace: the object is in it.
    Home(&'a str),
    /// An Instance: the object is for it.
    Instance(&'a str, &'a str),
    /// A Secret, by a name that the token uses.
    Secret(&'a str, &'a str),
    /// The account that a token acts as, by its name.
    Account(&'a str, &'a str),
    /// The account that a token is bound to, by its uid.
    Bound(&'a str),
    /// A subject: it owns the token, or is a member of the policy.
    Subject(&'a str),
    /// All accounts of a namespace, or one of them: a member of the policy.
    AccountsOf(&'a str),
    /// A workload of a namespace that the token has restarted.
    Restarted(&'a str, &'a RestartTarget),
    /// A Service or Ingress of this name, which the Instance made or refers to.
    Exposed(&'a str, &'a str),
}

/// The keys of a token.
pub fn of_token(token: &ApiToken, keys: &mut Keys<'_>) {
    let home = home(token);
    keys.add(&Depends::Home(home));
    keys.add(&Depends::Account(home, token.account_name().0));
    for instance in token.instances() {
        keys.add(&Depends::Instance(instance.namespace_or(home), instance.name.as_str()));
    }
    for secret in token.secret_names().into_iter().flatten() {
        keys.add(&Depends::Secret(home, secret));
    }
    for target in &token.spec.restart {
        keys.add(&Depends::Restarted(home, target));
    }
    if let Some(owner) = &token.spec.owner {
        keys.add(&Depends::Subject(owner.as_str()));
    }
    let Some(status) = &token.status else { return };
    if let Some(seen) = status.owner.as_ref().and_then(|owner| owner.subject.as_deref()) {
        keys.add(&Depends::Subject(seen));
    }
    if let Some(account) = &status.account {
        keys.add(&Depends::Bound(&account.uid));
    }
}

/// The keys of an account.
pub fn of_account(account: &Account, keys: &mut Keys<'_>) {
    let (home, instance) = (home(account), &account.spec.instance_ref);
    keys.add(&Depends::Home(home));
    keys.add(&Depends::Instance(instance.namespace_or(home), instance.name.as_str()));
}

/// The keys of a policy.
pub fn of_policy(policy: &AccessPolicy, keys: &mut Keys<'_>) {
    keys.add(&Depends::Instance(home(policy), policy.spec.instance_ref.name.as_str()));
    for member in &policy.spec.members {
        keys.add(&Depends::Subject(member.as_str()));
        let account = Who::of(member.as_str()).filter(|who| who.kind == SubjectKind::Account);
        if let Some((namespace, _)) = account.and_then(|who| who.namespaced()) {
            keys.add(&Depends::AccountsOf(namespace));
        }
    }
}

/// The keys of an Instance.
pub fn of_instance(instance: &Instance, keys: &mut Keys<'_>) {
    let home = home(instance);
    for endpoint in EndpointName::ALL {
        keys.add(&Depends::Exposed(home, &instance.exposed_name(endpoint)));
    }
    if let Some(manager) = instance.manager_service() {
        keys.add(&Depends::Exposed(home, manager.name.as_str()));
    }
}

/// The Instance itself, as others depend on it.
pub fn instance(instance: &Instance) -> Depends<'_> {
    Depends::Instance(home(instance), instance.metadata.name.as_deref().unwrap_or_default())
}

fn home(object: &impl Resource) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}
