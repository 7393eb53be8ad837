//! The namespace and name of an object.

use kube::Resource;

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
}
