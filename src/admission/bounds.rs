//! How much an object may hold besides its spec and status, so that a status always fits beside it (etcd takes 1.5
//! MiB).

use super::{
    AdmissionPolicy, Rule,
    cel::{FINALIZERS, named, quoted},
};
use crate::crd::name;

/// The most characters of owner references.
const REFERENCES: usize = 16 * 1024;
/// The most characters of managed fields.
const MANAGED: usize = 128 * 1024;

/// Of everybody but the operator, also where metadata is free: whoever may change an object could fill it.
pub(crate) fn policy() -> AdmissionPolicy {
    let bounds = bounds();
    let variables = bounds.iter().flat_map(|bound| {
        let Bound { field, size, .. } = bound;
        named([(&*format!("new_{field}"), size("object", field)), (&*format!("old_{field}"), size("oldObject", field))])
    });
    AdmissionPolicy {
        name: "metadata",
        resources: &["apitokens", "serviceaccounts", "instances", "accesspolicies"],
        operations: &["CREATE", "UPDATE"],
        variables: variables.collect(),
        rules: bounds.iter().map(Bound::rule).collect(),
    }
}

/// How much there may be in a field of the metadata. What holds more from before can still be changed, revoked and
/// deleted.
struct Bound {
    field: &'static str,
    /// How much there is in `object` or `oldObject`, in this field.
    size: fn(object: &str, field: &str) -> String,
    most: usize,
    unit: &'static str,
}

/// Every field that can be filled. A finalizer has at most 317 characters. Managed fields can be sent by users, and
/// hold anything.
fn bounds() -> [Bound; 5] {
    const THEM: &str = "of them";
    const CHARACTERS: &str = "characters in all";
    [
        Bound { field: "annotations", size: marks, most: name::MOST_MARKS, unit: THEM },
        Bound { field: "labels", size: marks, most: name::MOST_MARKS, unit: THEM },
        Bound { field: "finalizers", size: count, most: FINALIZERS, unit: THEM },
        Bound { field: "ownerReferences", size: written, most: REFERENCES, unit: CHARACTERS },
        Bound { field: "managedFields", size: written, most: MANAGED, unit: CHARACTERS },
    ]
}

/// The entries besides ours: what is stamped, and what confirms a deletion, always has room.
fn marks(object: &str, field: &str) -> String {
    let all = format!("{object}.metadata.?{field}");
    let ours: &[&str] = if field == "annotations" { &name::JUDGED } else { &[name::OWNER_UID] };
    let ours = ours.iter().map(|key| format!(" - ({all}[?{}].hasValue() ? 1 : 0)", quoted(key)));
    format!("size({all}.orValue({{}})){}", ours.collect::<String>())
}

/// The entries of a list.
fn count(object: &str, field: &str) -> String {
    format!("size({object}.metadata.?{field}.orValue([]))")
}

/// The characters of a list, written out.
fn written(object: &str, field: &str) -> String {
    format!("size('%s'.format([{object}.metadata.?{field}.orValue([])]))")
}

impl Bound {
    fn rule(&self) -> Rule {
        let Self { field, most, unit, .. } = self;
        let (new, old) = (format!("variables.new_{field}"), format!("variables.old_{field}"));
        let before = if *field == "managedFields" {
            format!("({SAME_MANAGED} || {new} <= {old} + {REVOKING})")
        } else {
            format!("{new} <= {old}")
        };
        Rule::new(
            format!("(oldObject != null && {before}) || {new} <= {most}"),
            format!("'metadata.{field}: at most {most} {unit}; remove some'"),
        )
    }
}

/// Whether the managed fields are the same but for their times, which is sooner found out than how many characters they
/// have.
const SAME_MANAGED: &str = "object.metadata.?managedFields.orValue([]).map(m, m.?fieldsV1) \
    == oldObject.metadata.?managedFields.orValue([]).map(m, m.?fieldsV1)";
/// How many characters more there may be where a token is revoked: who does that is a field manager, too.
const REVOKING: &str = "(object.spec.?revoked.orValue(false) && !oldObject.spec.?revoked.orValue(false) ? 1024 : 0)";
