//! The message TokenReview of the Kubernetes API, as an API server sends it to a webhook.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    crd::GROUP,
    verifier::{Category, Cause, Credential, Flaw, Identity, Verdict, index::Key},
};

const KIND: &str = "TokenReview";
/// The versions in which a review is answered.
const VERSIONS: [&str; 2] = ["authentication.k8s.io/v1", "authentication.k8s.io/v1beta1"];
/// The field of `extra` with the public id of the presented generation. API servers write it into their audit logs.
const TOKEN_ID: &str = "tokenry.dev/token-id";

/// The audience of the tokens of an Instance: `tokenry.dev/<namespace>/<name>`.
pub(crate) fn audience(instance: &Key) -> String {
    format!("{GROUP}/{}/{}", instance.namespace, instance.name)
}

/// A question about a token. It has no `Debug`, because it holds a plaintext. Its other fields are not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenQuestion {
    api_version: String,
    kind: String,
    spec: JsonObject<TokenQuestionSpec>,
}

#[derive(Deserialize)]
struct TokenQuestionSpec {
    #[serde(default)]
    token: Zeroizing<String>,
    #[serde(default)]
    audiences: Option<Vec<String>>,
}

/// The fields in an object of JSON. A derived reader takes an array of them too, which the API of Kubernetes does not.
struct JsonObject<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(FieldsVisitor(PhantomData))
    }
}

struct FieldsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldsVisitor<T> {
    type Value = JsonObject<T>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, fields: M) -> Result<Self::Value, M::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(JsonObject)
    }
}

impl TokenQuestion {
    /// Reads a question.
    ///
    /// # Errors
    /// The body is no such question.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Flaw> {
        let JsonObject::<Self>(question) = serde_json::from_slice(body).map_err(|_| Flaw::Unreadable)?;
        let is_known = question.kind == KIND && VERSIONS.contains(&&*question.api_version);
        is_known.then_some(question).ok_or(Flaw::Unreadable)
    }

    /// The token, if the question is about tokens of this Instance. A question that names no audience is about them.
    ///
    /// # Errors
    /// The question names other audiences, or no token.
    pub(crate) fn credential(&self, instance: &Key) -> Result<Credential<'_>, Cause> {
        let TokenQuestionSpec { token, audiences } = &self.spec.0;
        let asked = audiences.as_deref().unwrap_or_default();
        if !asked.is_empty() && !asked.contains(&audience(instance)) {
            return Err(Cause::OtherAudience);
        }
        if token.is_empty() { Err(Cause::Missing) } else { Ok(Credential::Written(token)) }
    }

    /// The answer, in the version of the question. It always names the audience, as an answer without one would be
    /// valid for the API server. It names an error only if the verifier cannot decide.
    pub(crate) fn answer(&self, instance: &Key, verdict: &Verdict) -> Value {
        let mut status = json!({"authenticated": false});
        match (verdict.cause.category(), &verdict.identity) {
            (Category::Allowed, Some(identity)) => {
                let (user, audiences) = (user(instance, identity), [audience(instance)]);
                status = json!({"authenticated": true, "user": user, "audiences": audiences});
            }
            (Category::Unavailable, _) => {
                status["error"] = json!(format!("the verifier cannot decide now: {}", verdict.cause));
            }
            (Category::Allowed, None)
            | (Category::NotAuthenticated | Category::NotPermitted | Category::Flawed(_), _) => {}
        }
        let metadata = json!({"creationTimestamp": null});
        json!({"apiVersion": self.api_version, "kind": KIND, "metadata": metadata, "spec": {}, "status": status})
    }
}

/// The user that a token is. Each of its groups begins with `tokenry.dev:`, so none is a group of Kubernetes itself.
fn user(instance: &Key, identity: &Identity) -> Value {
    let of = |key: &Key| format!("{}/{}", key.namespace, key.name);
    let role = identity.role.as_ref().map(|role| format!("{GROUP}:role:{role}"));
    let groups = [format!("{GROUP}:{}", identity.subject), format!("{GROUP}:instance:{}", of(instance))];
    json!({
        "username": format!("token:{}", of(&identity.token)),
        "uid": identity.uid.to_string(),
        "groups": groups.into_iter().chain(role).collect::<Vec<_>>(),
        "extra": {TOKEN_ID: [&*identity.id]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(audiences: Value) -> TokenQuestion {
        let spec = json!({"token": "t", "audiences": audiences});
        let body = json!({"apiVersion": VERSIONS[0], "kind": KIND, "spec": spec});
        TokenQuestion::read(body.to_string().as_bytes()).unwrap_or_else(|flaw| panic!("{flaw:?}"))
    }

    #[test]
    fn a_question_for_other_audiences_is_about_no_token_and_one_for_none_is_about_the_instance() {
        let cause = |audiences| question(audiences).credential(&Key::new("a", "eem")).err();
        let mine = "tokenry.dev/a/eem";
        for asked in [json!([mine]), json!(["https://kubernetes", mine]), json!([]), json!(null)] {
            assert_eq!(cause(asked.clone()), None, "{asked}");
        }
        for asked in [json!([""]), json!(["tokenry.dev/a/other"]), json!(["tokenry.dev/a/eem/"]), json!(["*"])] {
            assert_eq!(cause(asked.clone()), Some(Cause::OtherAudience), "{asked}");
        }
    }

    #[test]
    fn what_is_no_such_question_is_refused() {
        let with = |key: &str, value: Value| {
            let mut body = json!({"apiVersion": VERSIONS[0], "kind": KIND, "spec": {"token": "t"}});
            body[key] = value;
            TokenQuestion::read(body.to_string().as_bytes()).err()
        };
        assert_eq!(with("status", json!({"authenticated": true})), None);
        for (key, value) in [
            ("apiVersion", json!("authentication.k8s.io/v2")),
            ("apiVersion", json!("v1")),
            ("kind", json!("SubjectAccessReview")),
            ("apiVersion", Value::Null),
            ("spec", Value::Null),
            ("spec", json!({"token": ["s3cret"]})),
            ("spec", json!(["s3cret"])),
        ] {
            assert_eq!(with(key, value.clone()), Some(Flaw::Unreadable), "{key} {value}");
        }
        let listed = json!([VERSIONS[0], KIND, {"token": "s3cret"}]).to_string();
        let followed = json!({"apiVersion": VERSIONS[0], "kind": KIND, "spec": {}}).to_string() + "{}";
        let twice = r#"{"spec": {"token": "s3cret", "token": "s3cret"}}"#;
        for body in ["", "{", "[]", &listed, &followed, twice] {
            assert!(TokenQuestion::read(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..256), text in ".{0,64}") {
            let _ = TokenQuestion::read(&body);
            let named = json!({"apiVersion": VERSIONS[1], "kind": KIND, "spec": {"token": text, "audiences": [text]}});
            let question = TokenQuestion::read(named.to_string().as_bytes());
            prop_assert!(question.is_ok_and(|question| question.credential(&Key::new("a", "eem")).is_err()));
        }
    }
}
