//! The triggers of passes over tokens: changes of the token, and changes of objects that it depends on.

use std::{collections::HashSet, sync::Arc};

use futures::stream::{BoxStream, SelectAll, select_all};
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

use crate::{
    controller::{
        Caches, Rooms,
        depends::Depends,
        grants::granting,
        run::{each, every, mapped, referring},
    },
    crd::{
        AccessPolicy, Account, ApiToken, SealedSecret,
        subject::{SubjectKind, Who},
    },
    outside::{
        clock::jumps,
        reference,
        watch::{CoreAccount, NamespaceMeta},
    },
};

/// The names of tokens that need a pass, because the token or an object that it depends on has changed. Several tokens
/// can use one account, and several can wait for the name of one Secret.
pub fn triggers(rooms: &Arc<Rooms>) -> SelectAll<BoxStream<'static, ObjectRef<ApiToken>>> {
    // Each cache is named here, so that a new cache does not compile before it is considered here.
    let Caches {
        instances,
        accounts,
        policies,
        users,
        tokens,
        secrets,
        services: _,
        exposing: _,
        namespaces,
        roles,
        bindings,
    } = &*rooms.caches;
    let [of_secrets, of_accounts, of_policies, of_users, of_namespaces] = std::array::from_fn(|_| rooms.clone());
    select_all([
        each(tokens.touched()),
        mapped(secrets.touched(), move |secret: &SealedSecret| {
            let (home, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
            by(&of_secrets, &Depends::Secret(&home, &name))
        }),
        mapped(accounts.touched(), move |account: &Account| behind(&of_accounts, account)),
        referring(instances, tokens.store()),
        mapped(policies.touched(), move |policy: &AccessPolicy| {
            let home = policy.namespace().unwrap_or_default();
            by(&of_policies, &Depends::Instance(&home, policy.spec.instance_ref.name.as_str()))
        }),
        mapped(users.touched(), move |user: &CoreAccount| {
            by(&of_users, &Depends::Subject(&of_account(SubjectKind::ServiceAccount, user)))
        }),
        mapped(namespaces.touched(), move |namespace: &NamespaceMeta| {
            by(&of_namespaces, &Depends::Home(&namespace.name_any()))
        }),
        granting(roles, tokens.store()),
        granting(bindings, tokens.store()),
        every(jumps(rooms.clock.clone()), tokens.store()),
    ])
}

/// The tokens that an account is behind: that act as it, that it owns, or that another account is behind which it owns.
fn behind(rooms: &Rooms, account: &Account) -> Vec<ObjectRef<ApiToken>> {
    let mut accounts = vec![reference(account)];
    let mut tokens = Vec::new();
    let (mut at, mut known) = (0, HashSet::from([accounts[0].clone()]));
    while let Some(account) = accounts.get(at) {
        let (home, name) = (account.namespace.as_deref().unwrap_or_default(), &*account.name);
        let subject = Who { kind: SubjectKind::Account, name: &format!("{home}/{name}") }.to_string();
        let owned = Depends::Subject(&subject);
        tokens.extend([by(rooms, &Depends::Account(home, name)), by(rooms, &owned)].concat());
        // Accounts can own each other.
        accounts.extend(rooms.caches.accounts.names(&owned).into_iter().filter(|owned| known.insert(owned.clone())));
        at += 1;
    }
    tokens
}

/// The subject of an account of either kind.
fn of_account(kind: SubjectKind, account: &impl Resource) -> String {
    Who { kind, name: &format!("{}/{}", account.namespace().unwrap_or_default(), account.name_any()) }.to_string()
}

fn by(rooms: &Rooms, key: &Depends<'_>) -> Vec<ObjectRef<ApiToken>> {
    rooms.caches.tokens.names(key)
}
