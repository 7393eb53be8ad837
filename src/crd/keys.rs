//! Keys that users choose for a Secret: keys of its data, labels and annotations.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{
    GROUP, name, secret,
    text::{is_subdomain, is_word},
};
use crate::token::template;

/// The most labels of a Secret that users choose. Also the most annotations, and the most further keys.
pub const MOST: usize = 32;
/// The longest value of an annotation, in characters.
pub const ANNOTATION: usize = 4096;
/// The most bytes of all annotations that users choose, keys and values together. It is the API server's limit, less
/// the room for Tokenry's own annotations.
pub const ANNOTATIONS: usize = 256 * 1024 - 40 * 1024;
/// The most bytes of all templates of data, keys and sources together. With this limit the object fits into etcd, even
/// if everything else has its greatest length.
pub const DATA: usize = 256 * 1024;
/// The longest key of data, and the longest prefix of a label's or annotation's key.
const LONG: usize = 253;
/// The longest name of a label or annotation, and the longest value of a label.
const SHORT: usize = 63;

/// The message for an invalid key of data.
pub const DATA_RULE: &str =
    "a key is up to 253 letters, digits, '-', '_' and '.', does not begin with '..' and is not '.'";
/// The message for a key of data that is always in the Secret.
pub const OURS_RULE: &str = "token, token-id, endpoint and organization are always in the Secret; choose another key";
/// The message for a key of data that the requested service binding uses.
pub const BINDING_RULE: &str = "serviceBinding sets type, provider, host, port and uri; choose another key";
/// The message for an invalid key of a label or annotation.
pub const QUALIFIED_RULE: &str =
    "a key is a name of up to 63 letters, digits, '-', '_' and '.', such as team, or example.com/team";
/// The message for a key of a label or annotation that is reserved for Tokenry.
pub const RESERVED_RULE: &str =
    "tokenry.dev/… and app.kubernetes.io/managed-by are reserved for Tokenry; choose another key";
/// The message for an invalid value of a label.
pub const LABEL_RULE: &str =
    "a label's value is up to 63 letters, digits, '-', '_' and '.', the first and the last a letter or digit";

const QUALIFIED: &str =
    "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
const LABEL: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// The keys that are always in the Secret.
pub const OURS: [&str; 4] = [secret::TOKEN, secret::TOKEN_ID, secret::ENDPOINT, secret::ORGANIZATION];
/// The keys of a service binding (servicebinding.io).
pub const BINDING: [&str; 5] = [secret::TYPE_KEY, secret::PROVIDER, secret::HOST, secret::PORT, secret::URI];

/// True if `key` is a valid key of a Secret's data.
pub fn is_data(key: &str) -> bool {
    let all = key.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c));
    (1..=LONG).contains(&key.len()) && all && key != "." && !key.starts_with("..")
}

/// True if `key` is a valid key of a label or annotation.
pub fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        None => is_short(key),
        Some((prefix, name)) => prefix.len() <= LONG && is_subdomain(prefix) && is_short(name),
    }
}

/// True if `key` is reserved for Tokenry.
pub fn is_reserved(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(prefix, _)| prefix);
    key == name::MANAGED_BY || domain == GROUP || domain.ends_with(&format!(".{GROUP}"))
}

/// True if `value` is a valid value of a label.
pub fn is_label(value: &str) -> bool {
    value.is_empty() || is_short(value)
}

fn is_short(text: &str) -> bool {
    text.len() <= SHORT && is_word(text)
}

/// The schema of `data`.
pub fn data_schema(_: &mut SchemaGenerator) -> Schema {
    let ours = OURS.map(|key| format!("'{key}'")).join(", ");
    json_schema!({
        "type": "object",
        "maxProperties": MOST,
        "additionalProperties": { "type": "string", "maxLength": template::LONGEST },
        "x-kubernetes-validations": [
            {
                "rule": format!(
                    "self.all(key, size(key) <= {LONG} && key.matches('^[-._a-zA-Z0-9]+$') && key != '.' && !key.startsWith('..'))"
                ),
                "message": DATA_RULE,
            },
            { "rule": format!("self.all(key, !(key in [{ours}]))"), "message": OURS_RULE },
        ],
    })
}

/// The schema of `labels`.
pub fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    let value = json_schema!({
        "type": "string",
        "maxLength": SHORT,
        "x-kubernetes-validations": [{ "rule": format!("self.matches('{LABEL}')"), "message": LABEL_RULE }],
    });
    qualified(&value)
}

/// The schema of `annotations`.
pub fn annotations_schema(_: &mut SchemaGenerator) -> Schema {
    qualified(&json_schema!({ "type": "string", "maxLength": ANNOTATION }))
}

fn qualified(value: &Schema) -> Schema {
    let parts =
        format!("size(key.split('/')[0]) <= {LONG} && size(key.split('/')[key.split('/').size() - 1]) <= {SHORT}");
    let reserved = format!("key == '{}' || key.startsWith('{GROUP}/') || key.contains('.{GROUP}/')", name::MANAGED_BY);
    json_schema!({
        "type": "object",
        "maxProperties": MOST,
        "additionalProperties": value,
        "x-kubernetes-validations": [
            { "rule": format!("self.all(key, key.matches('{QUALIFIED}') && {parts})"), "message": QUALIFIED_RULE },
            { "rule": format!("self.all(key, !({reserved}))"), "message": RESERVED_RULE },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_data_is_what_the_api_server_takes() {
        for good in ["client.env", "TOKEN", "a", ".env", "a..b", "-", &"a".repeat(253)] {
            assert!(is_data(good), "{good}");
        }
        for bad in ["", ".", "..", "..a", "a b", "a/b", "é", "a\n", &"a".repeat(254)] {
            assert!(!is_data(bad), "{bad}");
        }
    }

    #[test]
    fn a_key_of_a_label_or_annotation_is_what_the_api_server_takes() {
        for good in
            ["team", "example.com/team", "a/b", "A_b.c", "1/2", &format!("{}/{}", "a".repeat(253), "b".repeat(63))]
        {
            assert!(is_qualified(good), "{good}");
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a/b/c",
            "-a",
            "a-",
            "Example.com/a",
            "a..b/c",
            ".a/b",
            "é",
            "a b",
            &"a".repeat(64),
            &format!("{}/a", "a".repeat(254)),
        ] {
            assert!(!is_qualified(bad), "{bad}");
        }
    }

    #[test]
    fn keys_of_our_own_are_reserved_and_those_of_others_are_not() {
        for ours in ["tokenry.dev/generation", "x.tokenry.dev/a", "app.kubernetes.io/managed-by"] {
            assert!(is_reserved(ours), "{ours}");
        }
        for others in ["tokenry.dev", "nottokenry.dev/a", "app.kubernetes.io/name", "example.com/tokenry.dev"] {
            assert!(!is_reserved(others), "{others}");
        }
    }

    #[test]
    fn a_labels_value_is_short_or_empty() {
        for good in ["", "a", "a.b_c-d", &"a".repeat(63)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["-a", "a.", "a b", "é", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
    }
}
