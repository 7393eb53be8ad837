//! The Secret that delivers a token. In the operator's memory each value is replaced by its digest.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::token::Digest;

/// The type of every Secret that Tokenry writes. A Secret with this type can never be a
/// `kubernetes.io/service-account-token`.
pub const TYPE: &str = "tokenry.dev/api-token";
/// Key of the plaintext.
pub const TOKEN: &str = "token";
/// Key of the public id of the plaintext.
pub const TOKEN_ID: &str = "token-id";
/// Key of the URI of the Admin API. The value is empty if the Instance has no endpoint.
pub const ENDPOINT: &str = "endpoint";
/// Key of the certificates by which clients verify the endpoint.
pub const CA: &str = "ca.crt";
/// The type of a Secret with a certificate and its private key.
pub const TLS: &str = "kubernetes.io/tls";
/// Key of the certificate in such a Secret.
pub const LEAF: &str = "tls.crt";
/// Key of the private key in such a Secret.
pub const KEY: &str = "tls.key";
/// The type of the Secret with the certificate authorities of the verifier.
pub const AUTHORITIES: &str = "tokenry.dev/certificate-authorities";
/// Key of the Instance's own organization.
pub const ORGANIZATION: &str = "organization";
/// Key of the type of the service, for a service binding.
pub const TYPE_KEY: &str = "type";
/// Key of the provider of the service, for a service binding.
pub const PROVIDER: &str = "provider";
/// Key of the host of the Admin API, for a service binding.
pub const HOST: &str = "host";
/// Key of the port of the Admin API, for a service binding.
pub const PORT: &str = "port";
/// Key of the URI of the Admin API, for a service binding.
pub const URI: &str = "uri";

/// A Secret whose values are turned into digests while it is read, so no value of any Secret stays in memory. It is
/// listed, watched and read like core's Secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, Resource)]
#[resource(inherit = "Secret")]
pub struct SealedSecret {
    /// The metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The type of the Secret.
    #[serde(default, rename = "type")]
    pub type_: Option<String>,
    /// True: the data of the Secret cannot change any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// The digest of each value. A value that is not base64 has no digest.
    #[serde(default)]
    pub data: BTreeMap<String, Sealed>,
}

/// A Secret of which only the type and the key `ca.crt` are kept while it is read. So a private key in it never stays
/// in memory, and neither do annotations, which can repeat it.
#[derive(Clone, Default, Deserialize, Resource)]
#[resource(inherit = "Secret")]
pub struct CaSecret {
    #[serde(skip)]
    metadata: ObjectMeta,
    /// The type of the Secret.
    #[serde(default, rename = "type")]
    pub type_: Option<String>,
    #[serde(default)]
    data: Option<CaData>,
}

/// The only key that is kept, in base64.
#[derive(Clone, Default, Deserialize)]
struct CaData {
    #[serde(default, rename = "ca.crt")]
    ca: Option<String>,
}

impl CaSecret {
    /// The bytes of `ca.crt`. `None` if there are none.
    pub fn ca(&self) -> Option<Vec<u8>> {
        let encoded = self.data.as_ref()?.ca.as_ref()?;
        STANDARD.decode(encoded).ok().filter(|bytes| !bytes.is_empty())
    }
}

/// The text of a key is not printed, because somebody can have put something else there.
impl fmt::Debug for CaSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaSecret").field("type", &self.type_).finish_non_exhaustive()
    }
}

/// A Secret with its values, which are erased when they are dropped. It is for the operator's own certificates alone.
#[derive(Clone, Default, Deserialize, Resource)]
#[resource(inherit = "Secret")]
pub struct KeySecret {
    /// The metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The type of the Secret.
    #[serde(default, rename = "type")]
    pub type_: Option<String>,
    /// The values, in base64.
    #[serde(default)]
    data: BTreeMap<String, Zeroizing<String>>,
}

impl KeySecret {
    /// The text of a key. `None` if there is none.
    pub fn text(&self, key: &str) -> Option<Zeroizing<String>> {
        let bytes = Zeroizing::new(STANDARD.decode(self.data.get(key)?.as_bytes()).ok()?);
        std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
    }
}

/// The values are not printed.
impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.data.keys().collect();
        f.debug_struct("KeySecret").field("keys", &keys).finish_non_exhaustive()
    }
}

/// The digest of one value of a Secret.
///
/// It is serialized as `sha256:` and the digest, or as null without a digest. Base64 has no colon, so the serialized
/// form can be distinguished from a value and read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed(Option<Digest>);

/// The prefix that distinguishes a digest from a value.
const SEAL: &str = "sha256:";

impl Sealed {
    /// Seals a known value.
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

/// Reads a value of any type, and repeats none of it, not even in an error.
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
    fn nothing_of_a_tls_secret_is_kept_but_its_type_and_its_certificates() {
        let note = json!({"note": "a2V5"});
        let secret: CaSecret = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "type": TLS, "metadata": {"name": "a", "annotations": note},
            "data": {"ca.crt": "YWJj", "tls.crt": "ZGVm", "tls.key": "a2V5"},
        }))
        .unwrap();
        assert_eq!((secret.type_.as_deref(), secret.ca().as_deref()), (Some(TLS), Some(&b"abc"[..])));
        assert_eq!(secret.metadata, ObjectMeta::default());
        assert_eq!(format!("{secret:?}"), r#"CaSecret { type: Some("kubernetes.io/tls"), .. }"#);
        for without in [json!({}), json!({"data": null}), json!({"data": {}}), json!({"data": {"ca.crt": ""}})] {
            assert_eq!(serde_json::from_value::<CaSecret>(without).unwrap().ca(), None);
        }
    }

    #[test]
    fn the_values_of_a_secret_of_certificates_are_read_and_not_printed() {
        let data = json!({"tls.key": "a2V5", "odd": "/w=="});
        let secret: KeySecret = serde_json::from_value(json!({"metadata": {"name": "a"}, "data": data})).unwrap();
        let text = |key| secret.text(key).map(|text| text.to_string());
        assert_eq!([text("tls.key"), text("odd"), text("tls.crt")], [Some("key".into()), None, None]);
        assert_eq!(format!("{secret:?}"), r#"KeySecret { keys: ["odd", "tls.key"], .. }"#);
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
