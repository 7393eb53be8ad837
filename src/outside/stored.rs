//! How a store keeps an object: whole, or packed as text, which takes a fraction of the memory.

use std::{marker::PhantomData, sync::Arc};

use kube::{Resource, runtime::reflector::ObjectRef};
use serde::{Serialize, de::DeserializeOwned};

use super::location::Location;

/// Ends each of the names before the object. No name in Kubernetes contains it.
const END: u8 = 0;

/// Texts that most objects contain. Each is written as one byte below a space, as JSON has no such byte. The longer of
/// two texts with the same beginning comes first.
const WORDS: [&str; 31] = [
    r#""apiVersion":"tokenry.dev/v1alpha1","kind":"ApiToken","metadata":{"#,
    r#""apiVersion":"tokenry.dev/v1alpha1","#,
    r#""creationTimestamp":"20"#,
    r#""labels":{"app.kubernetes.io/managed-by":"tokenry","tokenry.dev/owner-uid":""#,
    r#""annotations":{"tokenry.dev/generation":""#,
    r#"","tokenry.dev/token-id":""#,
    r#""namespace":""#,
    r#""name":""#,
    r#""ownerReferences":["#,
    r#""controller":true,"kind":"ApiToken","name":""#,
    r#""resourceVersion":""#,
    r#""uid":""#,
    r#""spec":{"instanceRef":{"name":""#,
    r#""serviceAccountRef":{"name":""#,
    r#""active":true,"revoked":false"#,
    r#""conditions":["#,
    r#""lastTransitionTime":"20"#,
    r#""message":"the spec is valid and what it refers to exists""#,
    r#""message":"the served value is accepted""#,
    r#""observedGeneration":"#,
    r#""reason":"Accepted","status":"True","type":"Accepted""#,
    r#""reason":"Active","status":"True","type":""#,
    r#""records":[{"generation":"#,
    r#""generation":"#,
    r#""createdAt":"20"#,
    r#""publishedAt":"20"#,
    r#""expiresAt":"20"#,
    r#""effective":{"role":null,"actions":["*"],"organizations":["#,
    r#""policy":{"confirmDelete":false,"immutable":false,"regenerate":false}"#,
    r#""type":"tokenry.dev/api-token","data":{"#,
    r#"":"sha256:"#,
];

/// Packs an object. Returns `None` if the parsed object would differ.
pub(super) type Pack<K> = fn(&K) -> Option<Packed<K>>;

/// An object in a store.
pub(super) enum Stored<K> {
    /// The object itself.
    Whole(Arc<K>),
    /// The object as text.
    Packed(Packed<K>),
}

/// An object as JSON, in which [`WORDS`] are replaced by bytes. It is parsed at each use. The namespace, the name and
/// the uid come before the JSON, so they need no parsing.
pub(super) struct Packed<K>(Arc<[u8]>, PhantomData<fn() -> K>);

impl<K> Clone for Packed<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<K> Clone for Stored<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Whole(object) => Self::Whole(object.clone()),
            Self::Packed(packed) => Self::Packed(packed.clone()),
        }
    }
}

impl<K: Resource + DeserializeOwned> Stored<K> {
    /// The object.
    pub(super) fn open(&self) -> Arc<K> {
        match self {
            Self::Whole(object) => object.clone(),
            Self::Packed(packed) => Arc::new(packed.open()),
        }
    }

    /// The namespace and the name of the object.
    pub(super) fn location(&self) -> Location<'_> {
        match self {
            Self::Whole(object) => Location::of(&**object),
            Self::Packed(packed) => packed.names().0,
        }
    }

    /// The uid of the object, or an empty text.
    pub(super) fn uid(&self) -> &str {
        match self {
            Self::Whole(object) => object.meta().uid.as_deref().unwrap_or_default(),
            Self::Packed(packed) => packed.names().1,
        }
    }
}

impl<K: Resource<DynamicType = ()> + DeserializeOwned> Stored<K> {
    /// A reference to the object.
    pub(super) fn reference(&self) -> ObjectRef<K> {
        self.location().reference()
    }
}

impl<K: Resource + DeserializeOwned> Packed<K> {
    /// Packs an object. Returns `None` if the parsed object would differ: for example, `Time` is written without
    /// fractions of a second.
    pub(super) fn of(object: &K) -> Option<Self>
    where
        K: Serialize + PartialEq,
    {
        let Location { namespace, name } = Location::of(object);
        let mut bytes = Vec::new();
        for text in [namespace, name, object.meta().uid.as_deref().unwrap_or_default()] {
            bytes.extend(text.bytes().filter(|byte| *byte != END));
            bytes.push(END);
        }
        shorten(&serde_json::to_string(object).ok()?, &mut bytes);
        let packed = Self(bytes.into(), PhantomData);
        packed.read().filter(|read| read == object).map(|_| packed)
    }

    fn open(&self) -> K {
        self.read().expect("it was parsed once when it was packed")
    }

    fn read(&self) -> Option<K> {
        serde_json::from_slice(&lengthened(self.parts().nth(3)?)).ok()
    }

    fn names(&self) -> (Location<'_>, &str) {
        let mut texts = self.parts().map(|text| std::str::from_utf8(text).unwrap_or_default());
        let mut next = || texts.next().unwrap_or_default();
        (Location { namespace: next(), name: next() }, next())
    }

    /// The namespace, the name, the uid, and the object.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.splitn(4, |byte| *byte == END)
    }
}

/// Appends `json` to `bytes` and replaces each word by its byte. All words begin with a quotation mark.
fn shorten(json: &str, bytes: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(quote) = rest.find('"') {
        let (before, at) = rest.split_at(quote);
        bytes.extend(before.as_bytes());
        rest = match (1..).zip(WORDS).find(|(_, word)| at.starts_with(word)) {
            Some((byte, word)) => {
                bytes.push(byte);
                &at[word.len()..]
            }
            None => {
                bytes.push(b'"');
                &at[1..]
            }
        };
    }
    bytes.extend(rest.as_bytes());
}

/// The JSON from which `shorten` made `bytes`.
fn lengthened(bytes: &[u8]) -> Vec<u8> {
    let mut json = Vec::with_capacity(2 * bytes.len());
    for byte in bytes {
        match usize::from(*byte).checked_sub(1).and_then(|nth| WORDS.get(nth)) {
            Some(word) => json.extend(word.as_bytes()),
            None => json.push(*byte),
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::crd::{Account, ApiToken, SealedSecret, UNREADABLE};

    fn packed<K>(object: Value) -> Packed<K>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let whole = Arc::new(serde_json::from_value::<K>(object).unwrap());
        let packed = Packed::of(&*whole).unwrap();
        let (whole, stored) = (Stored::Whole(whole), Stored::Packed(packed.clone()));
        assert_eq!(stored.open(), whole.open());
        assert_eq!((stored.location(), stored.uid()), (whole.location(), whole.uid()));
        assert_eq!(stored.reference(), whole.reference());
        packed
    }

    fn token(status: Value) -> Value {
        json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken",
            "metadata": {
                "namespace": "events", "name": "ci", "uid": "u", "resourceVersion": "7", "annotations": {"a": "\u{0}"},
            },
            "spec": {"instanceRef": {"name": "eem"}, "secret": {"data": {"a": "{{ token }}\n"}}}, "status": status,
        })
    }

    #[test]
    fn whatever_is_packed_comes_back_as_it_was() {
        let record = json!({
            "generation": 1, "id": "0123456789abcdef", "sha256": "0".repeat(64), "state": "Active",
            "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2027-01-01T00:00:00Z",
        });
        let used = json!([{"generation": 1, "firstUsedAt": "2026-01-01T00:00:00.123456Z", "lastUsedAt": "odd"}]);
        for status in [
            json!(null),
            json!({"records": [record], "use": used, "ofALaterRelease": {"deep": [null, 1e3, 1.0, u64::MAX]}}),
        ] {
            packed::<ApiToken>(token(status));
        }
        packed::<ApiToken>(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {},
            "spec": {"instanceRef": {"name": "eem"}},
        }));
        packed::<Account>(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ServiceAccount",
            "metadata": {"namespace": "events", "name": "ci"}, "spec": {"instanceRef": {"name": "eem"}}, "status": {"conditions": [], "later": [1]},
        }));
    }

    #[test]
    fn a_packed_secret_holds_no_value() {
        let secret = json!({
            "metadata": {"namespace": "events", "name": "ci", "uid": "u"}, "type": "tokenry.dev/api-token",
            "data": {"token": "YWJj", "odd": 7},
        });
        let packed = packed::<SealedSecret>(secret);
        let text = String::from_utf8_lossy(&packed.0).into_owned();
        let digest = crate::token::Digest::of("abc").to_string();
        assert!(text.contains(&digest) && !text.contains("YWJj") && !text.contains("abc\""), "{text}");
    }

    #[test]
    fn each_word_is_one_byte_and_none_hides_another() {
        for (nth, word) in WORDS.iter().enumerate() {
            assert!(word.starts_with('"') && nth + 1 < usize::from(b' '), "{word}");
            assert!(WORDS[..nth].iter().all(|before| !word.starts_with(before)), "{word} is never reached");
            let mut bytes = Vec::new();
            shorten(&format!("{{{word}ä{word}"), &mut bytes);
            assert_eq!(bytes, [b"{", &[nth as u8 + 1][..], "ä".as_bytes(), &[nth as u8 + 1]].concat(), "{word}");
            assert_eq!(lengthened(&bytes), format!("{{{word}ä{word}").into_bytes());
        }
    }

    #[test]
    fn what_would_not_come_back_as_it_was_is_not_packed() {
        let fine = token(json!({"expiresAt": "2027-01-01T00:00:00Z"}));
        let finer = token(json!({"expiresAt": "2027-01-01T00:00:00.5Z"}));
        let packed = |object| Packed::of(&serde_json::from_value::<ApiToken>(object).unwrap());
        assert!(packed(fine).is_some() && packed(finer).is_none());
        // The list of unreadable fields is never written.
        assert!(packed(token(json!({UNREADABLE: ["records"], "conditions": []}))).is_none());
        // Kubernetes never accepts such a name.
        let mut odd = token(json!(null));
        odd["metadata"]["name"] = "a\u{0}b".into();
        let odd: Packed<ApiToken> = packed(odd).unwrap();
        assert_eq!(odd.open().metadata.name.as_deref(), Some("a\u{0}b"));
    }
}
