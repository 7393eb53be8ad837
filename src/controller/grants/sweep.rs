//! Deletes Roles and RoleBindings of objects that are gone.
//!
//! Kubernetes' garbage collector deletes them together with their owner. With `--cascade=orphan` it removes their owner
//! reference instead, and no pass of a deleted object follows.

use std::{collections::HashSet, io, sync::Arc, time::Duration};

use futures::{
    StreamExt, future,
    stream::{self, BoxStream, FuturesUnordered},
};
use kube::ResourceExt;
use tokio_util::sync::CancellationToken;

use super::plan::{Part, made_for};
use crate::{
    controller::{Caches, Rooms, depends::Depends},
    crd::belongs,
    outside::{Cache, watch::Object},
};

/// The pause before a deletion. In this time a new owner comes into the caches, and a pass puts a lost owner reference
/// back.
const PAUSE: Duration = Duration::from_secs(30);

/// Deletes abandoned Roles and RoleBindings until `stop` is cancelled. Call this before the caches are filled.
pub fn sweep(rooms: Arc<Rooms>, stop: CancellationToken) -> impl Future<Output = io::Result<()>> + Send + 'static {
    let uids = doubted(&rooms.caches);
    async move {
        stop.run_until_cancelled(swept_for_ever(&rooms, uids)).await;
        Ok(())
    }
}

async fn swept_for_ever(rooms: &Rooms, mut uids: BoxStream<'static, String>) {
    rooms.caches.synced().await;
    let (mut waiting, mut met) = (FuturesUnordered::new(), HashSet::new());
    loop {
        tokio::select! {
            Some(uid) = uids.next() => if met.insert(uid.clone()) {
                waiting.push(later(uid));
            },
            Some(uid) = waiting.next() => {
                // A request that hangs is given up.
                let done = tokio::time::timeout(PAUSE, is_swept(rooms, &uid)).await;
                if done.unwrap_or_default() {
                    met.remove(&uid);
                } else {
                    waiting.push(later(uid));
                }
            },
            else => future::pending().await,
        }
    }
}

/// The uid, after the pause.
async fn later(uid: String) -> String {
    tokio::time::sleep(PAUSE).await;
    uid
}

/// The uids of owners that may be gone: of each Role and RoleBinding without an owner reference, and of each deleted
/// object.
fn doubted(caches: &Caches) -> BoxStream<'static, String> {
    let Caches { instances, accounts, tokens, roles, bindings, .. } = caches;
    stream::select_all([orphans(roles), orphans(bindings), gone(instances), gone(accounts), gone(tokens)]).boxed()
}

fn orphans<K: Part>(cache: &Cache<K>) -> BoxStream<'static, String> {
    cache.touched().filter_map(|object| future::ready(orphan(&*object).map(str::to_owned))).boxed()
}

fn gone<K: Object>(cache: &Cache<K>) -> BoxStream<'static, String> {
    let store = cache.store();
    // Only creations and deletions.
    let touched = cache.touched_in(|_, _| false).filter_map(|object| future::ready(object.uid()));
    touched.filter(move |uid| future::ready(store.names(&Depends::Uid(uid)).is_empty())).boxed()
}

/// The uid of the owner, if Tokenry created the object and the object has no reference to that owner.
fn orphan(object: &impl Part) -> Option<&str> {
    made_for(object).filter(|uid| !belongs(object, uid))
}

/// True if a cache has an Instance, an account or a token with this uid.
pub(super) fn is_known(caches: &Caches, uid: &str) -> bool {
    let key = Depends::Uid(uid);
    let Caches { instances, accounts, tokens, .. } = caches;
    !(instances.names(&key).is_empty() && accounts.names(&key).is_empty() && tokens.names(&key).is_empty())
}

/// Deletes the orphans of an owner that is gone: the RoleBindings before the Roles. False if one of them remains.
async fn is_swept(rooms: &Rooms, uid: &str) -> bool {
    if is_known(&rooms.caches, uid) {
        return true;
    }
    // A standby only forgets the owners whose orphans are gone.
    let bindings = all_deleted(rooms, &rooms.caches.bindings, uid).await;
    bindings && all_deleted(rooms, &rooms.caches.roles, uid).await
}

async fn all_deleted<K: Part>(rooms: &Rooms, cache: &Cache<K>, uid: &str) -> bool {
    let mut all = true;
    for object in cache.by(&Depends::Granted(uid)).filter(|object| orphan(&**object) == Some(uid)) {
        if !rooms.lead.holds() {
            return false;
        }
        let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        match rooms.writer.delete(&*object).await {
            Ok(()) => tracing::info!("deleted the {} {name}: its owner is gone", K::CALLED),
            Err(refusal) => {
                tracing::warn!("the owner of the {} {name} is gone: {refusal}; trying again", K::CALLED);
                all = false;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{super::wanted::tests::granted, *};
    use crate::crd::name;

    #[test]
    fn only_what_tokenry_made_and_nothing_owns_is_an_orphan() {
        let role = granted().role;
        assert_eq!(orphan(&role), None, "the garbage collector deletes it");
        let mut lost = role;
        lost.metadata.owner_references = None;
        assert_eq!(orphan(&lost), Some("u"));
        for (key, value) in [(name::MANAGED_BY, Some("Helm")), (name::OWNER_UID, Some("")), (name::OWNER_UID, None)] {
            let mut other = lost.clone();
            match value {
                Some(value) => _ = other.labels_mut().insert(key.into(), value.into()),
                None => _ = other.labels_mut().remove(key),
            }
            assert_eq!(orphan(&other), None, "{key}: {value:?}");
        }
        let mut renamed = lost.clone();
        renamed.metadata.name = Some("viewer".into());
        assert_eq!(orphan(&renamed), None);
        lost.metadata.owner_references = granted().role.metadata.owner_references;
        lost.metadata.owner_references.as_mut().unwrap()[0].uid = "v".into();
        assert_eq!(orphan(&lost), None, "another controller owns it");
    }
}
