//! The index keys of each kind. A key names something that the object depends on or belongs to. Caches find objects by
//! these keys when it changes, and count objects by them.

use k8s_openapi::api::core::v1::Service;
use kube::Resource;

use super::census;
use crate::{
    access::groups,
    crd::{
        AccessPolicy, Account, ApiToken, Instance, RestartTarget, name,
        subject::{SubjectKind, Who},
    },
    exposure::backends::Backends,
    outside::store::Keys,
};

/// Something that an object depends on or belongs to. Where a variant ends with two texts, they are a namespace and a
/// name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Depends<'a> {
    /// The uid of the object.
    Uid(&'a str),
    /// The uid of the object from which the Role or RoleBinding follows.
    Granted(&'a str),
    /// The namespace of the object.
    Home(&'a str),
    /// An Instance to which the object refers.
    Instance(&'a str, &'a str),
    /// The Instance of the token's `instanceRef`, without audiences.
    Own(&'a str, &'a str),
    /// A group that the token's owner was stamped with.
    Group(&'a str),
    /// The name of a Secret of the token.
    Secret(&'a str, &'a str),
    /// The account that a token acts as, by its name.
    Account(&'a str, &'a str),
    /// The account that a token is bound to, by its uid.
    Bound(&'a str),
    /// A subject that owns the token or the account, or that is a member of the policy.
    Subject(&'a str),
    /// A subject that owns the token, with the namespace and the name of an Instance that the token opens. Only tokens
    /// that have not ended have this key, because only they count for `tokens.maxPerOwner`.
    Counted(&'a str, &'a str, &'a str),
    /// The namespace of an account that is a member of the policy. A member can also mean all accounts of that
    /// namespace.
    AccountsOf(&'a str),
    /// A workload that the token's `spec.restart` names, in the token's namespace.
    Restarted(&'a str, &'a RestartTarget),
    /// A label in the selector of the Service, in the Service's namespace.
    Selecting(&'a str, &'a str, &'a str),
    /// A DNS name of the endpoint of the Instance.
    Host(&'a str),
    /// A Service to which the object leads.
    Backend(&'a str, &'a str),
}

/// The keys of a token, and the gist that counts use.
pub fn of_token(token: &ApiToken, keys: &mut Keys<'_>) {
    let home = home(token);
    keys.add(&Depends::Uid(uid(token)));
    keys.add(&Depends::Home(home));
    keys.add(&Depends::Account(home, token.account_name().0));
    let own = &token.spec.instance_ref;
    keys.add(&Depends::Own(own.namespace_or(home), own.name.as_str()));
    keys.gist(census::gist(token));
    for group in groups(token) {
        keys.add(&Depends::Group(&group));
    }
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
    counted(token, home, keys);
    let Some(status) = &token.status else { return };
    if let Some(noted) = token.noted_owner() {
        keys.add(&Depends::Subject(noted));
    }
    if let Some(account) = &status.account {
        keys.add(&Depends::Bound(&account.uid));
    }
}

/// The keys for `tokens.maxPerOwner`.
fn counted(token: &ApiToken, home: &str, keys: &mut Keys<'_>) {
    let Some(owner) = owner(token).filter(|_| lives(token)) else { return };
    for instance in token.instances() {
        keys.add(&Depends::Counted(owner, instance.namespace_or(home), instance.name.as_str()));
    }
}

/// The owner of a token, by its spec or else by the owner noted in its status.
pub fn owner(token: &ApiToken) -> Option<&str> {
    token.spec.owner.as_ref().map(|owner| owner.as_str()).or_else(|| token.noted_owner())
}

/// True if a token has not ended and is not being deleted.
pub fn lives(token: &ApiToken) -> bool {
    let ended = token.spec.revoked || token.status.as_ref().is_some_and(|status| status.revocation.is_some());
    !ended && token.metadata.deletion_timestamp.is_none()
}

/// The keys of an account.
pub fn of_account(account: &Account, keys: &mut Keys<'_>) {
    let (home, instance) = (home(account), &account.spec.instance_ref);
    keys.add(&Depends::Uid(uid(account)));
    keys.add(&Depends::Home(home));
    keys.add(&Depends::Instance(instance.namespace_or(home), instance.name.as_str()));
    if let Some(owner) = &account.spec.owner {
        keys.add(&Depends::Subject(owner.as_str()));
    }
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
    keys.add(&Depends::Uid(uid(instance)));
    for host in instance.hosts() {
        keys.add(&Depends::Host(host));
    }
    if instance.manager_service().is_some() {
        keys.add(&Depends::Home(home));
    }
}

/// The keys of a Service.
pub fn of_service(service: &Service, keys: &mut Keys<'_>) {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    for (key, value) in selector.into_iter().flatten() {
        keys.add(&Depends::Selecting(home(service), key, value));
    }
}

/// The keys of an object that exposes an endpoint, or may do so.
pub fn of_exposing(object: &impl Backends, keys: &mut Keys<'_>) {
    keys.add(&Depends::Home(home(object)));
    for (namespace, name) in object.backends() {
        keys.add(&Depends::Backend(&namespace, &name));
    }
}

/// The keys of a Role or a RoleBinding.
pub fn of_granted(granted: &impl Resource, keys: &mut Keys<'_>) {
    let labels = granted.meta().labels.as_ref();
    if let Some(uid) = labels.and_then(|labels| labels.get(name::OWNER_UID)) {
        keys.add(&Depends::Granted(uid));
    }
}

/// The key by which other objects depend on this Instance.
pub fn instance(instance: &Instance) -> Depends<'_> {
    Depends::Instance(home(instance), instance.metadata.name.as_deref().unwrap_or_default())
}

/// The key of the tokens of `owner` that count for this Instance's `tokens.maxPerOwner`.
pub fn counted_by<'a>(instance: &'a Instance, owner: &'a str) -> Depends<'a> {
    Depends::Counted(owner, home(instance), instance.metadata.name.as_deref().unwrap_or_default())
}

fn home(object: &impl Resource) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

fn uid(object: &impl Resource) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}
