//! Limits of the metadata of an object, so that its status always fits too. etcd stores at most 1.5 MiB per object.

use super::{
    AdmissionPolicy, Rule,
    cel::{FINALIZERS, named, quoted},
    marks,
};
use crate::crd::name;

/// Maximum length of all owner references together, in characters.
const REFERENCES: usize = 16 * 1024;
/// Maximum length of all managed fields together, in characters.
const MANAGED: usize = 128 * 1024;

/// The policy on the size of metadata. It applies to all users that are not exempt. It also applies to updates that
/// other policies ignore, because every user with permission to change an object could fill its metadata.
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

/// The limit of a metadata field. An object that already exceeds the limit can still be changed, revoked and deleted,
/// as long as the field does not grow.
struct Bound {
    field: &'static str,
    /// CEL: the size of the field in `object` or `oldObject`.
    size: fn(object: &str, field: &str) -> String,
    most: usize,
    unit: &'static str,
}

/// The limits of all metadata fields that users can fill. Finalizers are counted only, because each has at most 317
/// characters. Managed fields are limited too, because users can send managed fields with any content.
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

/// CEL: the number of entries, without Tokenry's own. So there is always room for stamps, and for the annotation that
/// confirms a deletion.
fn marks(object: &str, field: &str) -> String {
    let all = format!("{object}.metadata.?{field}");
    let ours: &[&str] = if field == "annotations" { &name::JUDGED } else { &[name::OWNER_UID] };
    let ours = ours.iter().map(|key| format!(" - ({all}[?{}].hasValue() ? 1 : 0)", quoted(key)));
    let organizations = (field == "labels").then(|| format!(" - {}", marks::count(object, &all)));
    format!("size({all}.orValue({{}})){}", ours.chain(organizations).collect::<String>())
}

/// CEL: the number of entries of a list.
fn count(object: &str, field: &str) -> String {
    format!("size({object}.metadata.?{field}.orValue([]))")
}

/// CEL: the number of characters of a list that is formatted as text.
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

/// CEL: true if the field sets of all managers are unchanged. This comparison is cheaper than a count of all
/// characters.
const SAME_MANAGED: &str = "object.metadata.?managedFields.orValue([]).map(m, m.?fieldsV1) \
    == oldObject.metadata.?managedFields.orValue([]).map(m, m.?fieldsV1)";
/// CEL: the number of characters by which the managed fields may grow when a token is revoked. The revocation can
/// come from a new field manager.
const REVOKING: &str = "(object.spec.?revoked.orValue(false) && !oldObject.spec.?revoked.orValue(false) ? 1024 : 0)";
