//! The Secret that delivers a token, and its form in the operator's memory: every value replaced by its digest.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::token::Digest;

/// The type of every Secret that Tokenry writes. A type of our own can never be a
/// `kubernetes.io/service-account-token`.
pub const TYPE: &str = "tokenry.dev/api-token";
/// Key of the plaintext.
pub const TOKEN: &str = "token";
/// Key of the public id of the plaintext.
pub const TOKEN_ID: &str = "token-id";
/// Key of the URI of the Admin API; empty where the Instance has no endpoint.
pub const ENDPOINT: &str = "endpoint";
/// Key of the organization that API requests name.
pub const ORGANIZATION: &str = "organization";
/// Key of the kind of service, for a service binding.
pub const TYPE_KEY: &str = "type";
/// Key of who provides the service, for a service binding.
pub const PROVIDER: &str = "provider";
/// Key of the host of the Admin API, for a service binding.
pub const HOST: &str = "host";
/// Key of the port of the Admin API, for a service binding.
pub const PORT: &str = "port";
/// Key of the URI of the Admin API, for a service binding.
pub const URI: &str = "uri";

/// A Secret whose values were turned into digests while it was read: no value of any Secret stays in memory. It is
/// listed, watched and read as core's Secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, Resource)]
#[resource(inherit = "Secret")]
pub struct SealedSecret {
    /// As of any object.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The type of the Secret.
    #[serde(default, rename = "type")]
    pub type_: Option<String>,
    /// Whether its data can be changed no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// The digest of each value; a value that is not base64 has none.
    #[serde(default)]
    pub data: BTreeMap<String, Sealed>,
}

/// The digest of one value of a Secret.
///
/// It is written as `sha256:` and the digest, or as null where there is none. Base64 has no colon, so what is written
/// so can be told from a value and read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed(Option<Digest>);

/// How a digest is told from a value.
const SEAL: &str = "sha256:";

impl Sealed {
    /// Seals a value that is known.
    pub fn of(value: impl AsRef<[u8]>) -> Self {
        Self(Some(Digest::of(value)))
    }

    /// The digest, if the value could be read.
    pub fn digest(&self) -> Option<Digest> {
        self.0
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.map(|digest| format!("{SEAL}{digest}")).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Seal)
    }
}

/// Reads whatever stands there and repeats none of it, not in an error either.
struct Seal;

impl<'de> de::Visitor<'de> for Seal {
    type Value = Sealed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a base64 text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Sealed, E> {
        Ok(Sealed(match text.strip_prefix(SEAL) {
            Some(digest) => digest.parse().ok(),
            None => STANDARD.decode(text).ok().map(|value| Digest::of(Zeroizing::new(value))),
        }))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Sealed, E> {
        Ok(Sealed(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Sealed, E> {
        Ok(Sealed(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Sealed, E> {
        Ok(Sealed(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Sealed, E> {
        Ok(Sealed(None))
    }

    fn visit_unit<E>(self) -> Result<Sealed, E> {
        Ok(Sealed(None))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Sealed, A::Error> {
        while items.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(Sealed(None))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Sealed, A::Error> {
        while entries.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
        Ok(Sealed(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_become_digests_on_arrival() {
        let secret: SealedSecret = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "type": TYPE, "metadata": {"name": "a"}, "data": {"token": "YWJj"},
        }))
        .unwrap();
        assert_eq!(secret.data[TOKEN].digest(), Some(Digest::of("abc")));
        assert!(!format!("{secret:?}").contains("YWJj"));
        let sealed = serde_json::to_value(&secret).unwrap();
        assert_eq!(sealed["data"][TOKEN], format!("sha256:{}", Digest::of("abc")));
        assert_eq!(serde_json::from_value::<SealedSecret>(sealed).unwrap(), secret, "and is read again as it was");
    }

    #[test]
    fn a_value_of_any_form_is_read_and_never_repeated() {
        for odd in [
            json!("not base64 !"),
            json!(7),
            json!(-7),
            json!(1.5),
            json!(true),
            json!(null),
            json!(["s"]),
            json!({"s": "t"}),
        ] {
            let secret: SealedSecret = serde_json::from_value(json!({ "data": { "token": odd } })).unwrap();
            assert_eq!(secret.data[TOKEN].digest(), None);
        }
    }
}
