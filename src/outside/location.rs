//! The namespace and name of an object.

use kube::{Resource, runtime::reflector::ObjectRef};

/// The namespace and name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location<'a> {
    /// The namespace; empty for a cluster-scoped object.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
}

impl<'a> Location<'a> {
    /// The location of `object`.
    pub(super) fn of(object: &'a impl Resource) -> Self {
        let meta = object.meta();
        let text = |field: &'a Option<String>| field.as_deref().unwrap_or_default();
        Self { namespace: text(&meta.namespace), name: text(&meta.name) }
    }

    /// A reference to the object of kind `K` there. It has only the name, because controllers keep many references.
    pub(super) fn reference<K: Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        let name = ObjectRef::new(self.name);
        if self.namespace.is_empty() { name } else { name.within(self.namespace) }
    }
}

/// A reference to an object. It has only the name, because controllers keep many references.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectRef<K> {
    Location::of(object).reference()
}
