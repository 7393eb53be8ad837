//! Where an object lives.

use kube::Resource;

/// Where an object lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location<'a> {
    /// Its namespace; empty for an object of the cluster.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Location<'a> {
    /// Where `object` lives.
    pub(super) fn of(object: &'a impl Resource) -> Self {
        let meta = object.meta();
        let text = |field: &'a Option<String>| field.as_deref().unwrap_or_default();
        Self { namespace: text(&meta.namespace), name: text(&meta.name) }
    }
}
