//! Names that users choose, and names, labels and annotations that Tokenry chooses.

use super::text::{Form, Text, is_subdomain};
use crate::token::Digest;

/// The field manager of the operator's writes.
pub const MANAGER: &str = "tokenry";
/// The field manager of the verifier, for the few fields that it writes.
pub const VERIFIER: &str = "tokenry-verifier";
/// Label with the value `tokenry` on every object that Tokenry creates.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label with the uid of the token or Instance that the object belongs to.
pub const OWNER_UID: &str = "tokenry.dev/owner-uid";
/// Annotation on the Secret: the generation of its value.
pub const GENERATION: &str = "tokenry.dev/generation";
/// Annotation on the Secret: the id of its value.
pub const TOKEN_ID: &str = "tokenry.dev/token-id";
/// Annotation that a user sets on a Secret whose value is shown once: the id of the claimed value.
pub const CLAIMED: &str = "tokenry.dev/claimed";
/// Annotation on the Secret: the labels, annotations and further keys that Tokenry has set. When the spec no longer
/// asks for one of these, it is removed. Labels, annotations and keys of others are kept.
pub const GIVEN: &str = "tokenry.dev/given";
/// Annotation on a token or account: its creator, as a subject. The API server stamps it once.
pub const CREATED_BY: &str = "tokenry.dev/created-by";
/// Annotation on a token: the requester that revoked it, as a subject. The API server stamps it when `spec.revoked`
/// becomes true. It never changes.
pub const REVOKED_BY: &str = "tokenry.dev/revoked-by";
/// Annotation on a token: the owner's groups at the owner's last change of the token. The API server stamps it. The
/// first line is the previous resourceVersion of the token. One line for each group follows.
pub const OWNER_GROUPS: &str = "tokenry.dev/owner-groups";
/// Annotation that confirms the deletion of a token or account, if the Instance requires this. It repeats the
/// description of the object, or its name if it has no description.
pub const CONFIRM_DELETE: &str = "tokenry.dev/confirm-delete";
/// Annotation that an owner changes so that the owner's groups are stamped again. It can have any value.
pub const CONFIRMED: &str = "tokenry.dev/confirmed";
/// Prefix of the labels on a token, one for each organization in `spec.organizations.listed`. The organization follows
/// the slash, and the value is empty. The API server stamps them. An organization with more than 63 characters gets no
/// label.
pub const ORGANIZATION: &str = "organization.tokenry.dev/";
/// The annotations of Tokenry that users and stamps set. Admission checks a change of one of them like a change of the
/// spec. A rule names each of them, because a rule that loops over all annotations takes time by the square of their
/// number.
pub const JUDGED: [&str; 5] = [CREATED_BY, REVOKED_BY, OWNER_GROUPS, CONFIRM_DELETE, CONFIRMED];
/// The most annotations of a token, an account or a policy. Also the most labels. With this limit a status always fits
/// into the object.
pub const MOST_MARKS: usize = 256;
/// The prefix of the names of accounts that the operator creates by dry run, to find out if tokens are stamped.
pub const REHEARSAL: &str = "rehearsal-";
/// Annotation that the API server sets on the operator's trial account if it stamps tokens.
pub const REHEARSED: &str = "tokenry.dev/rehearsed";
/// Annotation on the objects of an Instance: the digest of the applied object. A key that is removed from the wanted
/// object changes the digest.
pub const APPLIED: &str = "tokenry.dev/applied";
/// Annotation on a way in: its guard.
pub const GUARDED_BY: &str = "tokenry.dev/guarded-by";
/// Annotation on an object of an endpoint that is about to be deleted: the time since which it leaves.
pub const LEAVING_SINCE: &str = "tokenry.dev/leaving-since";

/// The prefix of the names of all Roles and RoleBindings that Tokenry creates.
pub const GRANTED: &str = "tokenry:";

/// The longest name of an object (RFC 1123 subdomain).
const SUBDOMAIN: usize = 253;
/// The longest name of a Service (RFC 1035 label).
const LABEL: usize = 63;
/// The longest name of a Role that Tokenry creates.
const ROLE: usize = SUBDOMAIN - ":99".len();
/// The number of characters of a digest that distinguish two shortened names.
const TAIL: usize = 10;
/// The length of the longest name of a port.
const PORT: usize = 15;

/// The name of a Kubernetes object: an RFC 1123 subdomain of at most 253 characters.
pub type ObjectName = Text<ObjectNameForm>;

/// The form of the name of a Kubernetes object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectNameForm {}

impl Form for ObjectNameForm {
    const MAX: usize = SUBDOMAIN;
    const PATTERN: &'static str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    const RULE: &'static str = "must be a name of lower-case letters, digits, '-' and '.', such as shop or ci.example";

    fn holds(text: &str) -> bool {
        is_subdomain(text)
    }
}

/// The name of the Service or Ingress for an endpoint of an Instance: `<instance>-<endpoint>`.
///
/// The name of a Service is an RFC 1035 label. The name of an Instance can be longer, contain dots, or begin with a
/// digit. The name is then cut and ends in a digest, so that two Instances never have the same name here.
pub fn exposed(instance: &str, endpoint: &str) -> String {
    let plain = format!("{instance}-{endpoint}");
    let is_label = plain.len() <= LABEL && plain.starts_with(|c: char| c.is_ascii_lowercase()) && !plain.contains('.');
    if is_label {
        return plain;
    }
    let digest = Digest::of(&plain).to_string();
    let room = LABEL - "i-".len() - "-".len() - TAIL;
    let start: String = plain.replace('.', "-").chars().take(room).collect();
    format!("i-{}-{}", start.trim_end_matches('-'), &digest[..TAIL])
}

/// A name that other namespaces must not be able to guess: the name of the endpoint, and a digest of the uid of the
/// Instance.
pub fn unguessable(exposed: &str, uid: &str) -> String {
    let digest = Digest::of(uid).to_string();
    format!("{exposed}-{}", &digest[..TAIL + TAIL])
}

/// A name for the port of a Service that other namespaces must not be able to guess. It has the protocol, and a digest
/// of the uid of the Instance.
pub fn unguessable_port(protocol: &str, uid: &str) -> String {
    let digest = Digest::of(uid).to_string();
    format!("{protocol}-{}", &digest[..PORT - protocol.len() - "-".len()])
}

/// The name of the Role and of its first RoleBinding for an object: `tokenry:<kind>:<name>`, or
/// `tokenry:instance:<name>:<role>`. A longer name is cut and ends in a digest. There is room for the number that
/// [`bound`] adds.
pub fn granted(kind: &str, parts: &[&str]) -> String {
    let plain = format!("{GRANTED}{kind}:{}", parts.join(":"));
    if plain.len() <= ROLE {
        return plain;
    }
    let digest = Digest::of(&plain).to_string();
    let start: String = plain.chars().take(ROLE - ":".len() - TAIL).collect();
    format!("{start}:{}", &digest[..TAIL])
}

/// The name of the RoleBinding with this index to a Role: the name of the Role, then `<role>:2`, `<role>:3` and so on.
pub fn bound(role: &str, index: usize) -> String {
    if index == 0 { role.to_owned() } else { format!("{role}:{}", index + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_stays_readable() {
        assert_eq!(exposed("eem", "admin"), "eem-admin");
    }

    #[test]
    fn the_name_of_a_right_is_readable_and_bounded() {
        assert_eq!(granted("instance", &["eem", "viewer"]), "tokenry:instance:eem:viewer");
        let long = "a".repeat(253);
        let names = ["viewer", "admin"].map(|role| granted("instance", &[&long, role]));
        assert!(
            names.iter().all(|name| bound(name, 98).len() == SUBDOMAIN && name.starts_with("tokenry:instance:aaa")),
            "{names:?}"
        );
        assert_ne!(names[0], names[1]);
        let bound = [0, 1, 2].map(|index| bound("tokenry:instance:eem:viewer", index));
        let numbered = ["", ":2", ":3"].map(|number| format!("tokenry:instance:eem:viewer{number}"));
        assert_eq!(bound, numbered);
    }

    #[test]
    fn any_other_becomes_a_label_that_no_other_instance_has() {
        let long = "a".repeat(253);
        let names = [long.as_str(), &long[1..], "eem.example", "eem-example.", "9lives", "a--------"]
            .map(|i| exposed(i, "admin"));
        for name in &names {
            assert!(name.len() <= LABEL && name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
            assert!(!name.contains('.') && !name.ends_with('-'), "{name}");
        }
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
