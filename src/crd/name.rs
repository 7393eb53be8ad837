//! Names that users give, and names, labels and annotations that we give.

use super::text::{Form, Text, is_subdomain};
use crate::token::Digest;

/// The field manager of every write, and the value of [`MANAGED_BY`].
pub const MANAGER: &str = "tokenry";
/// The field manager of the verifier, for the little that it writes.
pub const VERIFIER: &str = "tokenry-verifier";
/// Label on every object that Tokenry makes (recommended Kubernetes labels).
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label that holds the uid of the owner: its name can be longer than a label's value.
pub const OWNER_UID: &str = "tokenry.dev/owner-uid";
/// Annotation on the Secret: the generation that it holds.
pub const GENERATION: &str = "tokenry.dev/generation";
/// Annotation on the Secret: the id of the generation that it holds.
pub const TOKEN_ID: &str = "tokenry.dev/token-id";
/// Annotation that a user puts on a Secret whose value is shown once: the id of the generation that was claimed.
pub const CLAIMED: &str = "tokenry.dev/claimed";
/// Annotation on the Secret: the labels, annotations and further keys that it was given, so that one that is asked for
/// no more can be told from one of somebody else.
pub const GIVEN: &str = "tokenry.dev/given";
/// Annotation on a token: who made it, as a subject. Stamped by the API server once.
pub const CREATED_BY: &str = "tokenry.dev/created-by";
/// Annotation on a token: the groups of its owner, when the owner last changed it. Stamped by the API server: the
/// resourceVersion that the token had, then a line for each group.
pub const OWNER_GROUPS: &str = "tokenry.dev/owner-groups";
/// Annotation on a token that is about to be deleted, where its Instance asks for that: its description, once more.
pub const CONFIRM_DELETE: &str = "tokenry.dev/confirm-delete";
/// Annotation that an owner changes to say that it still is who it was, so that its groups are stamped anew. Its value
/// is free.
pub const CONFIRMED: &str = "tokenry.dev/confirmed";
/// The annotations of ours that users and stamps put on what they make: a change of one of them is judged as a change
/// of the spec is. They are asked for by name, as a rule that looks at each annotation takes time by the square of
/// their number.
pub const JUDGED: [&str; 4] = [CREATED_BY, OWNER_GROUPS, CONFIRM_DELETE, CONFIRMED];
/// The most annotations, and the most labels, that a token, an account or a policy may be given: beside them a status
/// always fits.
pub const MOST_MARKS: usize = 256;
/// How the names of accounts begin that the operator tries to make, without any effect, to learn whether tokens are
/// stamped.
pub const REHEARSAL: &str = "rehearsal-";
/// Annotation that the API server puts on such an account where the policies that stamp are installed.
pub const REHEARSED: &str = "tokenry.dev/rehearsed";
/// Annotation on what an Instance makes: the digest of what was applied, so that a removed key shows as a change.
pub const APPLIED: &str = "tokenry.dev/applied";

/// The longest name of an object (RFC 1123 subdomain).
const SUBDOMAIN: usize = 253;
/// The longest name of a Service (RFC 1035 label).
const LABEL: usize = 63;
/// Characters of a digest that tell two shortened names apart.
const TAIL: usize = 10;

/// The name of a Kubernetes object: an RFC 1123 subdomain of at most 253 characters.
pub type ObjectName = Text<ObjectNameForm>;

/// The form of the name of a Kubernetes object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectNameForm {}

impl Form for ObjectNameForm {
    const MAX: usize = SUBDOMAIN;
    const PATTERN: &'static str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    const RULE: &'static str = "must be a name of lower-case letters, digits, '-' and '.', such as eem or ci.example";

    fn holds(text: &str) -> bool {
        is_subdomain(text)
    }
}

/// The name of the Service or Ingress for an endpoint of an Instance: `<instance>-<endpoint>`.
///
/// A Service's name is an RFC 1035 label, an Instance's may be longer, hold dots or begin with a digit. Then the name
/// is cut and ends in a digest, so that two Instances never mean the same one.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_stays_readable() {
        assert_eq!(exposed("eem", "admin"), "eem-admin");
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
