//! The rights of RBAC that follow from an object. Each right is a Role, with a RoleBinding of the same name,
//! or with several if it has many grantees.
//!
//! ```text
//! Kind::grants ─▶ read ─▶ plan ─▶ write ─▶ told
//! pure            reads   pure    writes   pure
//! ```

mod plan;
mod sweep;
mod wanted;

use std::{collections::BTreeMap, sync::Arc};

use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    Rooms,
    depends::Depends,
    kind::{Kind, Settled, Wake},
    run::mapped,
};
use crate::{
    crd::{Conditions, EventName, Reason, condition::GRANTS_MISSING, name},
    outside::{Cache, Refusal, Store, Why, events::Note, watch::Object},
};
use plan::{Move, Part, Plan, Sight, Sights, is_ours, made_for, plan};
use sweep::is_known;

pub use sweep::sweep;
pub use wanted::{Granted, of_account, of_instance, of_token};

/// The message of the condition `GrantsMissing` while the operator grants nothing.
const OFF: &str = "grants are off: the operator neither grants nor withdraws rights; earlier Roles stay until they are \
    deleted";

/// The result of the work on the rights that follow from an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing was looked at. The rights stay as they are.
    Untouched,
    /// The operator grants nothing, and the object asks for rights.
    Off,
    /// The rights are as wanted.
    Done,
    /// An object has changed since it was read. The next pass reads it again.
    Changed,
    /// This Role or RoleBinding exists and belongs to somebody else: its kind and its name.
    Foreign(&'static str, String),
    /// The API server refused a request, or did not answer.
    Refused(Refusal),
}

impl Upkeep {
    /// The refusal of the API server, if there is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Untouched | Self::Off | Self::Done | Self::Changed | Self::Foreign(..) => None,
        }
    }
}

/// Brings the rights that follow from `object` to the `wanted` ones. `None`: they stay as they are. Nothing follows
/// from an object that is being deleted.
pub async fn keep<K: Kind>(rooms: &Rooms, object: &K, wanted: Option<Vec<Granted>>) -> Upkeep {
    let (Some(wanted), Some(namespace)) = (wanted, object.namespace()) else { return Upkeep::Untouched };
    let home = rooms.caches.namespaces.get("", &namespace);
    if home.is_some_and(|home| home.metadata.deletion_timestamp.is_some()) {
        return Upkeep::Untouched;
    }
    if !rooms.grants {
        return if K::SAYS_GRANTS_OFF && !wanted.is_empty() { Upkeep::Off } else { Upkeep::Done };
    }
    let wanted = if object.meta().deletion_timestamp.is_some() { Vec::new() } else { wanted };
    let names: Vec<_> = wanted.iter().map(Granted::name).collect();
    let bound: Vec<_> = wanted.iter().flat_map(Granted::bound).collect();
    let owner = Owner { namespace: &namespace, uid: object.meta().uid.as_deref().unwrap_or_default() };
    let caches = &rooms.caches;
    let read =
        tokio::try_join!(owner.sights(rooms, &caches.roles, &names), owner.sights(rooms, &caches.bindings, &bound));
    match read {
        Ok((roles, bindings)) => write(rooms, plan(&wanted, &roles, &bindings)).await,
        Err(refusal) => of_refusal(refusal),
    }
}

/// The object by which rights are granted.
struct Owner<'a> {
    namespace: &'a str,
    uid: &'a str,
}

impl Owner<'_> {
    /// The objects that belong to the owner, and the objects under these names. A name that the cache does not know is
    /// read past the cache: an object without our label may have it.
    async fn sights<K: Part>(&self, rooms: &Rooms, cache: &Cache<K>, names: &[&str]) -> Result<Sights<K>, Refusal> {
        let ours = |object: &K| is_ours(object, self.namespace, self.uid);
        let known = cache.by(&Depends::Granted(self.uid)).filter(|object| ours(object));
        let mut sights: BTreeMap<_, _> = known.map(|object| (object.name_any(), Sight::Ours(object))).collect();
        for name in names {
            if sights.contains_key(*name) {
                continue;
            }
            let is_abandoned = |object: &K| made_for(object).is_some_and(|uid| !is_known(&rooms.caches, uid));
            let sight = match rooms.reader.recent::<K>(self.namespace, name).await? {
                None => Sight::Absent,
                Some(object) if ours(&object) => Sight::Ours(Arc::new(object)),
                Some(object) if is_abandoned(&object) => Sight::Abandoned(Arc::new(object)),
                Some(_) => Sight::Foreign,
            };
            sights.insert((*name).to_owned(), sight);
        }
        Ok(sights)
    }
}

/// Carries out a plan. A RoleBinding is written only after its Role, and deleted before it. A failure holds up no other
/// right. The result is the first failure.
async fn write(rooms: &Rooms, plan: Plan) -> Upkeep {
    let mut all = Vec::new();
    for binding in &plan.unwanted_bindings {
        all.push(removed(rooms, &**binding).await);
    }
    for role in &plan.unwanted_roles {
        all.push(removed(rooms, &**role).await);
    }
    for (role, bindings) in &plan.rights {
        all.extend(written(rooms, role, bindings).await);
    }
    let failed = |upkeep: &Upkeep| !matches!(upkeep, Upkeep::Done | Upkeep::Changed);
    let first = all.iter().position(failed).or_else(|| all.iter().position(|upkeep| *upkeep == Upkeep::Changed));
    first.map_or(Upkeep::Done, |first| all.swap_remove(first))
}

/// Carries out the writes for one right. RoleBindings that are removed or not ours come first, and then no Role is
/// written. With that Role, they would give the right to their own subjects.
async fn written(rooms: &Rooms, role: &Move<Role>, bindings: &[Move<RoleBinding>]) -> Vec<Upkeep> {
    let (cleared, kept): (Vec<_>, Vec<_>) =
        bindings.iter().partition(|binding| matches!(binding, Move::Remove(_) | Move::Bar(_)));
    let mut all = Vec::new();
    for &binding in &cleared {
        all.push(taken(rooms, binding).await);
    }
    all.push(match role {
        Move::Write(..) if !cleared.is_empty() => Upkeep::Changed,
        Move::Keep | Move::Write(..) | Move::Remove(_) | Move::Bar(_) => taken(rooms, role).await,
    });
    if all.iter().all(|upkeep| *upkeep == Upkeep::Done) {
        for &binding in &kept {
            all.push(taken(rooms, binding).await);
        }
    }
    // A right may come late, but it must not stay with a subject that has lost it.
    if all.iter().any(|upkeep| upkeep.refusal().is_some()) {
        for object in kept.into_iter().filter_map(plan::outdated) {
            removed(rooms, object).await;
        }
    }
    all
}

async fn taken<K: Part>(rooms: &Rooms, planned: &Move<K>) -> Upkeep {
    match planned {
        Move::Keep => Upkeep::Done,
        Move::Write(wanted, standing, _) => match rooms.writer.apply(wanted, standing).await {
            Ok(_) => Upkeep::Done,
            Err(refusal) => of_refusal(refusal),
        },
        // The next pass creates it anew.
        Move::Remove(object) => {
            let removed = removed(rooms, &**object).await;
            if removed == Upkeep::Done { Upkeep::Changed } else { removed }
        }
        Move::Bar(name) => Upkeep::Foreign(K::CALLED, name.clone()),
    }
}

async fn removed<K: Part>(rooms: &Rooms, object: &K) -> Upkeep {
    rooms.writer.delete(object).await.map_or_else(of_refusal, |()| Upkeep::Done)
}

fn of_refusal(refusal: Refusal) -> Upkeep {
    match refusal.why {
        Why::Stale | Why::Gone => Upkeep::Changed,
        Why::Invalid(_) | Why::Forbidden(_) | Why::Unauthenticated(_) | Why::Unavailable(_) => Upkeep::Refused(refusal),
    }
}

/// The result of a pass with the condition `GrantsMissing`, its event and the next try.
pub fn told<K: Kind>(object: &K, upkeep: &Upkeep, now: Timestamp, settled: Settled<K::Status>) -> Settled<K::Status> {
    let Settled { mut status, mut notes, mut wake } = settled;
    let before = std::mem::take(K::conditions(&mut status));
    let mut conditions = Conditions::from(Some(&before), object.meta().generation, now);
    let mut try_again = |at| {
        let again = Wake { at, why: "another try to grant" };
        wake = Some(wake.map_or(again, |wake| wake.min(again)));
    };
    let failed = match upkeep {
        Upkeep::Untouched => None,
        Upkeep::Done => {
            conditions.remove(GRANTS_MISSING);
            None
        }
        Upkeep::Off => {
            conditions.set(GRANTS_MISSING, true, Reason::GrantsOff, OFF);
            None
        }
        Upkeep::Changed => {
            try_again(now);
            None
        }
        Upkeep::Foreign(kind, name) => Some((Reason::GrantForeign, &**name, foreign(kind, name))),
        Upkeep::Refused(refusal) => Some((Reason::GrantFailed, refusal.why.way(), format!("{refusal}; trying again"))),
    };
    if let Some((reason, way, text)) = failed {
        let text = conditions.failing(GRANTS_MISSING, reason, way, text);
        conditions.set(GRANTS_MISSING, true, reason, &*text);
        if conditions.changed(GRANTS_MISSING) {
            notes.push(Note::warning(EventName::of(reason), reason, text));
        }
        try_again(conditions.retry(GRANTS_MISSING));
    }
    *K::conditions(&mut status) = conditions.into_vec();
    Settled { status, notes, wake }
}

fn foreign(kind: &str, name: &str) -> String {
    format!("a {kind} {name} exists and is not Tokenry's for this object; delete it")
}

/// The names of the objects in `store` from which a touched Role or RoleBinding follows.
pub fn granting<G: Object, K: Kind>(cache: &Cache<G>, store: Store<K>) -> BoxStream<'static, ObjectRef<K>> {
    mapped(cache.touched(), move |granted: &G| {
        let uid = granted.meta().labels.as_ref().and_then(|labels| labels.get(name::OWNER_UID));
        uid.map(|uid| store.names(&Depends::Uid(uid))).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{Instance, instance::InstanceStatus};
    use jiff::SignedDuration;
    use serde_json::json;

    fn instance() -> Instance {
        let metadata = json!({"name": "eem", "namespace": "a", "uid": "u", "generation": 2});
        let object =
            json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": metadata, "spec": {}});
        serde_json::from_value(object).unwrap()
    }

    fn after(status: InstanceStatus, upkeep: &Upkeep, seconds: i64) -> (Settled<InstanceStatus>, Timestamp) {
        let now = Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        (told(&instance(), upkeep, now, Settled { status, notes: Vec::new(), wake: None }), now)
    }

    fn said(status: &InstanceStatus) -> Vec<(&str, &str)> {
        status.conditions.iter().map(|said| (&*said.type_, &*said.reason)).collect()
    }

    #[test]
    fn what_is_not_granted_is_told_while_that_is_so() {
        let refused = |text: &str| Upkeep::Refused(Refusal::because(Why::Forbidden(text.into())));
        let (first, now) = after(InstanceStatus::default(), &refused("a"), 0);
        assert_eq!(said(&first.status), [("GrantsMissing", "GrantFailed")]);
        assert_eq!(first.notes.len(), 1);
        assert_eq!(first.wake.unwrap().at, now + SignedDuration::from_secs(2));
        let (second, _) = after(first.status.clone(), &refused("b"), 9);
        assert_eq!((&second.status, second.notes.len()), (&first.status, 0), "the same failure is told once");
        let (untouched, _) = after(first.status.clone(), &Upkeep::Untouched, 9);
        assert_eq!((untouched.status, untouched.wake), (first.status.clone(), None));
        let (foreign, _) = after(first.status, &Upkeep::Foreign("Role", "tokenry:instance:eem:viewer".into()), 9);
        assert_eq!(said(&foreign.status), [("GrantsMissing", "GrantForeign")]);
        let (done, _) = after(foreign.status, &Upkeep::Done, 9);
        assert_eq!((said(&done.status), done.wake), (vec![], None));
    }

    #[test]
    fn that_grants_are_off_is_told_without_an_event_and_without_another_try() {
        let (off, _) = after(InstanceStatus::default(), &Upkeep::Off, 0);
        assert_eq!((said(&off.status), off.notes, off.wake), (vec![("GrantsMissing", "GrantsOff")], vec![], None));
    }

    #[test]
    fn an_old_view_is_looked_at_again_at_once() {
        let (changed, now) = after(InstanceStatus::default(), &Upkeep::Changed, 0);
        assert_eq!((said(&changed.status), changed.wake.unwrap().at), (vec![], now));
    }
}
