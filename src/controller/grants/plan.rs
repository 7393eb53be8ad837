//! Decides on the writes that bring Roles and RoleBindings to the wanted state.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    NamespaceResourceScope,
    api::rbac::v1::{Role, RoleBinding},
};
use kube::{Resource, ResourceExt};
use serde::Serialize;

use super::wanted::Granted;
use crate::{
    crd::{belongs, name},
    outside::{Expected, watch::Object},
};

/// A Role or a RoleBinding.
pub(super) trait Part: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize {
    /// The name of the kind.
    const CALLED: &'static str;

    /// True if both objects grant the same, apart from their metadata.
    fn grants_like(&self, other: &Self) -> bool;

    /// True if an update can turn the object into `wanted`.
    fn can_become(&self, wanted: &Self) -> bool;
}

impl Part for Role {
    const CALLED: &'static str = "Role";

    fn grants_like(&self, other: &Self) -> bool {
        self.rules == other.rules
    }

    fn can_become(&self, _: &Self) -> bool {
        true
    }
}

impl Part for RoleBinding {
    const CALLED: &'static str = "RoleBinding";

    fn grants_like(&self, other: &Self) -> bool {
        self.role_ref == other.role_ref && self.subjects == other.subjects
    }

    // The API server refuses a change of `roleRef`.
    fn can_become(&self, wanted: &Self) -> bool {
        self.role_ref == wanted.role_ref
    }
}

/// The object under a name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sight<K> {
    /// No object has this name.
    Absent,
    /// The object belongs to the owner.
    Ours(Arc<K>),
    /// Tokenry created the object for an owner that is gone.
    Abandoned(Arc<K>),
    /// The object belongs to somebody else.
    Foreign,
}

/// The objects by name: those that belong to the owner, and those under a wanted name.
pub(super) type Sights<K> = BTreeMap<String, Sight<K>>;

/// The write for an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Move<K> {
    /// No write.
    Keep,
    /// Creates the object, or changes it if it is still as it was read. The last field is the object as it was read.
    Write(K, Expected, Option<Arc<K>>),
    /// Deletes the object.
    Remove(Arc<K>),
    /// No write is possible: the name is taken.
    Bar(String),
}

/// All writes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The RoleBindings that are not wanted any more.
    pub(super) unwanted_bindings: Vec<Arc<RoleBinding>>,
    /// The Roles that are not wanted any more.
    pub(super) unwanted_roles: Vec<Arc<Role>>,
    /// The writes for each wanted right.
    pub(super) rights: Vec<(Move<Role>, Vec<Move<RoleBinding>>)>,
}

/// The plan that brings the objects in `roles` and `bindings` to the `wanted` ones.
pub(super) fn plan(wanted: &[Granted], roles: &Sights<Role>, bindings: &Sights<RoleBinding>) -> Plan {
    let role_names: BTreeSet<_> = wanted.iter().map(Granted::name).collect();
    let binding_names: BTreeSet<_> = wanted.iter().flat_map(Granted::bound).collect();
    Plan {
        unwanted_bindings: unwanted(&binding_names, bindings),
        unwanted_roles: unwanted(&role_names, roles),
        rights: wanted.iter().map(|granted| right(granted, roles.get(granted.name()), bindings)).collect(),
    }
}

/// The writes for one right.
fn right(
    granted: &Granted,
    role: Option<&Sight<Role>>,
    bindings: &Sights<RoleBinding>,
) -> (Move<Role>, Vec<Move<RoleBinding>>) {
    type Writing<'a> = &'a dyn Fn(Option<&Sight<RoleBinding>>, &RoleBinding) -> Move<RoleBinding>;
    let each =
        |of: Writing<'_>| granted.bindings.iter().map(|wanted| of(bindings.get(&wanted.name_any()), wanted)).collect();
    if role == Some(&Sight::Foreign) {
        let unbound = |sight: Option<&Sight<RoleBinding>>, _: &RoleBinding| removed(sight);
        return (Move::Bar(granted.name().to_owned()), each(&unbound));
    }
    if granted.bound().any(|name| bindings.get(name) == Some(&Sight::Foreign)) {
        let barred = |sight: Option<&Sight<RoleBinding>>, wanted: &RoleBinding| match sight {
            Some(Sight::Foreign) => Move::Bar(wanted.name_any()),
            Some(Sight::Ours(_) | Sight::Abandoned(_) | Sight::Absent) | None => Move::Keep,
        };
        // With a Role, a RoleBinding of somebody else would give the right to its own subjects.
        return (removed(role), each(&barred));
    }
    (moved(role, &granted.role), each(&moved))
}

/// The RoleBinding that must go if its right cannot be written: it has subjects that are not wanted any more.
pub(super) fn outdated(planned: &Move<RoleBinding>) -> Option<&RoleBinding> {
    let Move::Write(wanted, _, Some(object)) = planned else { return None };
    let keeps = |subject| wanted.subjects.iter().flatten().any(|wanted| wanted == subject);
    let goes = object.subjects.iter().flatten().any(|subject| !keeps(subject));
    goes.then_some(&**object)
}

fn unwanted<K>(wanted: &BTreeSet<&str>, sights: &Sights<K>) -> Vec<Arc<K>> {
    let others = sights.iter().filter(|(name, _)| !wanted.contains(&***name));
    let ours = others.filter_map(|(_, sight)| match sight {
        Sight::Ours(object) => Some(object.clone()),
        Sight::Absent | Sight::Foreign | Sight::Abandoned(_) => None,
    });
    ours.collect()
}

/// The removal of a Role that must not be bound, or of a RoleBinding that must not lead to a Role.
fn removed<K>(sight: Option<&Sight<K>>) -> Move<K> {
    match sight {
        Some(Sight::Ours(object) | Sight::Abandoned(object)) => Move::Remove(object.clone()),
        Some(Sight::Absent | Sight::Foreign) | None => Move::Keep,
    }
}

fn moved<K: Part>(sight: Option<&Sight<K>>, wanted: &K) -> Move<K> {
    match sight {
        None | Some(Sight::Absent) => Move::Write(wanted.clone(), Expected::Absent, None),
        Some(Sight::Foreign) => Move::Bar(wanted.name_any()),
        Some(Sight::Abandoned(object)) => Move::Remove(object.clone()),
        Some(Sight::Ours(object)) if !object.can_become(wanted) => Move::Remove(object.clone()),
        Some(Sight::Ours(object)) if object.grants_like(wanted) && is_held(&**object, wanted) => Move::Keep,
        Some(Sight::Ours(object)) => Move::Write(wanted.clone(), Expected::seen(&**object), Some(object.clone())),
    }
}

/// True if `object` has the labels and the owner of `wanted`. It may have more of them.
fn is_held(object: &impl ResourceExt, wanted: &impl ResourceExt) -> bool {
    let has = |(key, value): (&String, &String)| object.labels().get(key) == Some(value);
    let uid = wanted.labels().get(name::OWNER_UID).map_or("", String::as_str);
    wanted.labels().iter().all(has) && belongs(object, uid)
}

/// True if Tokenry created `object` for the owner with this uid, in its namespace.
pub(super) fn is_ours(object: &impl ResourceExt, namespace: &str, uid: &str) -> bool {
    object.namespace().as_deref() == Some(namespace) && made_for(object) == Some(uid)
}

/// The uid of the owner for which Tokenry created `object`: by its name and labels. Another controller must not own it.
pub(super) fn made_for(object: &impl ResourceExt) -> Option<&str> {
    let label = |key: &str| object.labels().get(key).map(String::as_str);
    let uid = label(name::OWNER_UID).filter(|uid| !uid.is_empty())?;
    let mut controllers = object.owner_references().iter().filter(|owner| owner.controller == Some(true));
    let is_ours = object.name_any().starts_with(name::GRANTED)
        && label(name::MANAGED_BY) == Some(name::MANAGER)
        && controllers.all(|owner| owner.uid == uid);
    is_ours.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::{super::wanted::tests::granted as wanted, *};
    use k8s_openapi::api::rbac::v1::Subject as RbacSubject;

    fn parts() -> (Role, RoleBinding) {
        let Granted { role, mut bindings } = wanted();
        (role, bindings.remove(0))
    }

    fn sights<K: Part>(sight: Sight<K>) -> Sights<K> {
        [(wanted().name().to_owned(), sight)].into()
    }

    fn ours<K: Part>(object: K) -> Sight<K> {
        assert!(is_ours(&object, "a", "u") || object.labels().is_empty());
        Sight::Ours(Arc::new(object))
    }

    fn pair(role: Sight<Role>, binding: Sight<RoleBinding>) -> (Move<Role>, Move<RoleBinding>) {
        let (role, mut bindings) = plan(&[wanted()], &sights(role), &sights(binding)).rights.remove(0);
        assert_eq!(bindings.len(), 1);
        (role, bindings.remove(0))
    }

    #[test]
    fn what_is_as_wanted_is_kept_and_what_is_missing_is_written() {
        let (role, binding) = parts();
        assert_eq!(pair(ours(role.clone()), ours(binding.clone())), (Move::Keep, Move::Keep));
        let new = (Move::Write(role, Expected::Absent, None), Move::Write(binding, Expected::Absent, None));
        assert_eq!(pair(Sight::Absent, Sight::Absent), new);
    }

    #[test]
    fn whatever_someone_changed_is_mended() {
        let (role, binding) = parts();
        let changes: [fn(&mut Role); 4] = [
            |role| role.rules.as_mut().unwrap()[0].verbs.push("delete".into()),
            |role| role.rules.as_mut().unwrap().push(Default::default()),
            |role| role.rules = None,
            |role| role.metadata.owner_references = None,
        ];
        for change in changes {
            let mut changed = role.clone();
            change(&mut changed);
            let (mended, _) = pair(ours(changed), ours(binding.clone()));
            assert!(matches!(mended, Move::Write(wanted, Expected::Seen { .. }, _) if wanted == role));
        }
        let mut others = binding.clone();
        others.subjects.as_mut().unwrap()[0].name = "bob".into();
        assert!(matches!(pair(ours(role.clone()), ours(others)).1, Move::Write(wanted, ..) if wanted == binding));
        let mut marked = role;
        marked.metadata.annotations = Some([("note".to_owned(), "a".to_owned())].into());
        marked.metadata.labels.as_mut().unwrap().insert("team".into(), "a".into());
        assert_eq!(pair(ours(marked), ours(binding)), (Move::Keep, Move::Keep), "other metadata is free");
    }

    #[test]
    fn a_binding_with_a_subject_that_lost_the_right_must_go_if_the_right_cannot_be_written() {
        let (role, binding) = parts();
        let subjects = |change: fn(&mut Vec<RbacSubject>)| {
            let mut other = binding.clone();
            change(other.subjects.as_mut().unwrap());
            outdated(&pair(ours(role.clone()), ours(other)).1).is_some()
        };
        assert!(subjects(|subjects| subjects.push(RbacSubject { name: "bob".into(), ..subjects[0].clone() })));
        assert!(!subjects(|subjects| subjects.clear()), "a subject that comes is no reason");
        assert!(!subjects(|_| ()));
        assert_eq!(outdated(&pair(Sight::Absent, Sight::Absent).1), None);
    }

    #[test]
    fn a_binding_to_another_role_is_made_anew() {
        let (role, mut binding) = parts();
        binding.role_ref.name = "cluster-admin".into();
        assert!(matches!(pair(ours(role), ours(binding)).1, Move::Remove(_)));
    }

    #[test]
    fn what_belongs_to_someone_else_is_never_touched_and_bound_to_by_nothing() {
        let (role, binding) = parts();
        let name = wanted().name().to_owned();
        assert_eq!(pair(Sight::Foreign, Sight::Foreign), (Move::Bar(name.clone()), Move::Keep));
        assert!(matches!(pair(Sight::Foreign, ours(binding.clone())), (Move::Bar(_), Move::Remove(_))));
        assert_eq!(pair(Sight::Absent, Sight::Foreign), (Move::Keep, Move::Bar(name.clone())));
        let unarmed = (Move::Remove(Arc::new(role.clone())), Move::Bar(name));
        assert_eq!(pair(ours(role.clone()), Sight::Foreign), unarmed, "no Role gives a right to subjects of others");
        let change = |change: fn(&mut Role)| {
            let mut other = role.clone();
            change(&mut other);
            is_ours(&other, "a", "u")
        };
        assert!(change(|_| ()) && change(|role| role.metadata.owner_references = None));
        assert!(!change(|role| role.metadata.name = Some("viewer".into())));
        assert!(!change(|role| role.metadata.labels = None));
        assert!(!change(|role| _ = role.labels_mut().insert(name::OWNER_UID.into(), "v".into())));
        assert!(!change(|role| _ = role.labels_mut().insert(name::MANAGED_BY.into(), "Helm".into())));
        assert!(!change(|role| role.metadata.owner_references.as_mut().unwrap()[0].uid = "v".into()));
        assert!(!is_ours(&role, "b", "u"), "another namespace");
    }

    #[test]
    fn what_an_owner_that_is_gone_left_behind_is_made_anew() {
        let (role, binding) = parts();
        let left = (Sight::Abandoned(Arc::new(role.clone())), Sight::Abandoned(Arc::new(binding.clone())));
        let removed = (Move::Remove(Arc::new(role.clone())), Move::Remove(Arc::new(binding.clone())));
        assert_eq!(pair(left.0, left.1), removed);
        let left = Sight::Abandoned(Arc::new(role.clone()));
        assert!(matches!(pair(left, Sight::Foreign), (Move::Remove(_), Move::Bar(_))));
        let left = Sight::Abandoned(Arc::new(binding));
        assert!(matches!(pair(Sight::Foreign, left), (Move::Bar(_), Move::Remove(_))));
        let other = sights(Sight::Abandoned(Arc::new(role)));
        assert!(plan(&[], &other, &BTreeMap::new()).unwanted_roles.is_empty(), "the sweep deletes it");
    }

    #[test]
    fn what_is_wanted_no_more_is_removed() {
        let (role, binding) = parts();
        let plan = plan(&[], &sights(ours(role.clone())), &sights(ours(binding.clone())));
        assert_eq!(plan.unwanted_roles, [Arc::new(role)]);
        assert_eq!(plan.unwanted_bindings, [Arc::new(binding)]);
        assert!(plan.rights.is_empty());
    }

    #[test]
    fn a_further_binding_is_written_removed_and_barred_like_the_first() {
        let mut two = wanted();
        let mut further = two.bindings[0].clone();
        further.metadata.name = Some(name::bound(two.name(), 1));
        two.bindings.push(further.clone());
        let (role, first) = parts();
        let sighted = |sight: Sight<RoleBinding>| {
            let mut all = sights(ours(first.clone()));
            all.insert(further.name_any(), sight);
            all
        };
        let roles = sights(ours(role.clone()));
        let rights = |sight| plan(&[two.clone()], &roles, &sighted(sight)).rights.remove(0);
        let written = Move::Write(further.clone(), Expected::Absent, None);
        assert_eq!(rights(Sight::Absent), (Move::Keep, vec![Move::Keep, written]));
        let barred = Move::Bar(further.name_any());
        assert_eq!(rights(Sight::Foreign), (Move::Remove(Arc::new(role.clone())), vec![Move::Keep, barred]));
        let fewer = plan(&[wanted()], &roles, &sighted(ours(further.clone())));
        assert_eq!(fewer.unwanted_bindings, [Arc::new(further)]);
        assert_eq!(fewer.rights, [(Move::Keep, vec![Move::Keep])]);
    }
}
