//! What wakes a token: itself, and whatever it depends on.

use std::sync::Arc;

use futures::stream::{BoxStream, SelectAll, select_all};
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

use crate::{
    controller::{
        Rooms,
        depends::{self, Depends},
        kind::is_news_of_instance,
        run::{each, every, mapped, names},
    },
    crd::{
        AccessPolicy, Account, ApiToken, Instance, SealedSecret,
        subject::{SubjectKind, Who},
    },
    outside::{
        clock::jumps,
        watch::{CoreAccount, NamespaceMeta},
    },
};

/// Names the tokens that something has happened to: to themselves, or to what they depend on. Several can use one
/// account, and several can wait for one Secret's name.
pub fn triggers(rooms: &Arc<Rooms>) -> SelectAll<BoxStream<'static, ObjectRef<ApiToken>>> {
    let caches = &rooms.caches;
    let (secrets, accounts, instances, namespaces) = (rooms.clone(), rooms.clone(), rooms.clone(), rooms.clone());
    let (policies, users) = (rooms.clone(), rooms.clone());
    select_all([
        each(caches.tokens.touched()),
        mapped(caches.secrets.touched(), move |secret: &SealedSecret| {
            let (home, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
            tokens(&secrets, &Depends::Secret(&home, &name))
        }),
        mapped(caches.accounts.touched(), move |account: &Account| {
            let (home, name) = (account.namespace().unwrap_or_default(), account.name_any());
            let owned = tokens(&accounts, &Depends::Subject(&of_account(SubjectKind::Account, account)));
            [tokens(&accounts, &Depends::Account(&home, &name)), owned].concat()
        }),
        mapped(caches.instances.touched_in(is_news_of_instance), move |instance: &Instance| {
            tokens(&instances, &depends::instance(instance))
        }),
        mapped(caches.policies.touched(), move |policy: &AccessPolicy| {
            let home = policy.namespace().unwrap_or_default();
            tokens(&policies, &Depends::Instance(&home, policy.spec.instance_ref.name.as_str()))
        }),
        mapped(caches.users.touched(), move |user: &CoreAccount| {
            tokens(&users, &Depends::Subject(&of_account(SubjectKind::ServiceAccount, user)))
        }),
        mapped(caches.namespaces.touched(), move |namespace: &NamespaceMeta| {
            tokens(&namespaces, &Depends::Home(&namespace.name_any()))
        }),
        every(jumps(rooms.clock.clone()), caches.tokens.store()),
    ])
}

/// The subject of an account, whichever kind it is.
fn of_account(kind: SubjectKind, account: &impl Resource) -> String {
    Who { kind, name: &format!("{}/{}", account.namespace().unwrap_or_default(), account.name_any()) }.to_string()
}

fn tokens(rooms: &Rooms, key: &Depends<'_>) -> Vec<ObjectRef<ApiToken>> {
    names(rooms.caches.tokens.by(key))
}
