//! The messages of token introspection (RFC 7662), and the caller that asks.

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{proxied::only, review::audience};
use crate::{
    crd::GROUP,
    verifier::{Identity, index::Key},
};

/// The reason why a question is not answered.
pub(crate) struct Problem {
    error: &'static str,
    description: &'static str,
    /// A header for the caller that goes with it.
    pub(crate) header: Option<[(HeaderName, &'static str); 1]>,
}

impl Problem {
    /// The body of the answer, in JSON.
    pub(crate) fn told(&self) -> String {
        json!({"error": self.error, "error_description": self.description}).to_string()
    }
}

/// Introspection is off.
pub(crate) const OFF: Problem = Problem {
    error: "unsupported",
    description: "the verifier runs without --introspection; set verifier.introspection.enabled=true of the chart",
    header: None,
};
/// The caller lacks the right.
pub(crate) const RIGHTLESS: Problem = Problem {
    error: "insufficient_scope",
    description: "the caller needs the verb introspect on instances.tokenry.dev of this namespace and name",
    header: None,
};
/// The caller does not prove itself.
pub(crate) const UNPROVEN: Problem = Problem {
    error: "invalid_token",
    description: "send one Kubernetes token for the audience tokenry.dev/verifier as Authorization: Bearer",
    header: Some([(WWW_AUTHENTICATE, r#"Bearer realm="kubernetes", error="invalid_token""#)]),
};
/// The form does not name one token.
pub(crate) const UNCLEAR: Problem =
    Problem { error: "invalid_request", description: "the form has to name one token", header: None };
/// Nothing can be decided now.
pub(crate) const UNDECIDED: Problem = Problem {
    error: "temporarily_unavailable",
    description: "the verifier or the API server cannot decide now; try again",
    header: Some([(RETRY_AFTER, "1")]),
};

/// The Kubernetes token of the caller: the only bearer credential in the only `Authorization` header.
pub(crate) fn caller(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only(headers, AUTHORIZATION)?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

/// The token that a form asks about. `None` if the form names no token or more than one. `token_type_hint` and all
/// other fields are ignored.
pub(crate) fn token(form: &[u8]) -> Option<Zeroizing<String>> {
    let fields = form_urlencoded::parse(form).filter(|(name, _)| name == "token");
    let mut tokens = fields.map(|(_, token)| Zeroizing::new(token.into_owned()));
    let only = tokens.next().filter(|token| !token.is_empty());
    only.filter(|_| tokens.next().is_none())
}

/// The answer about a token. Without an identity it says that the token is not active, and nothing more (section 2.2).
pub(crate) fn told(instance: &Key, identity: Option<&Identity>) -> Value {
    let Some(identity) = identity else { return json!({"active": false}) };
    let mut told = json!({
        "active": true,
        "iss": GROUP,
        "sub": identity.subject,
        "aud": audience(instance),
        "username": format!("token:{}/{}", identity.token.namespace, identity.token.name),
        "token_type": "Bearer",
        "jti": &*identity.id,
        "iat": identity.minted_at.as_second(),
    });
    if let Some(role) = &identity.role {
        told["scope"] = json!(role);
    }
    if let Some(end) = identity.ends_at {
        told["exp"] = json!(end.as_second());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_caller_has_one_bearer_token() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| _ = headers.append(AUTHORIZATION, value.parse().unwrap()));
            caller(&headers).map(str::to_owned)
        };
        for value in ["Bearer t", "bearer  t "] {
            assert_eq!(of(&[value]).as_deref(), Some("t"), "{value}");
        }
        for values in [&[][..], &["Bearer"], &["Bearer "], &["Basic t"], &["t"], &["Bearer t", "Bearer t"]] {
            assert_eq!(of(values), None, "{values:?}");
        }
    }

    #[test]
    fn a_form_names_one_token() {
        let of = |form: &str| token(form.as_bytes()).map(|token| token.to_string());
        assert_eq!(of("token=a%5Fb&token_type_hint=access_token&other=1").as_deref(), Some("a_b"));
        for form in ["", "token", "token=", "Token=a", "token=a&token=a", "token=a&token=", "token=&token=a"] {
            assert_eq!(of(form), None, "{form}");
        }
    }

    proptest! {
        #[test]
        fn no_form_panics_and_what_is_written_is_read(form in prop::collection::vec(any::<u8>(), 0..256), text in ".{1,64}") {
            let _ = token(&form);
            let form = form_urlencoded::Serializer::new(String::new()).append_pair("token", &text).finish();
            prop_assert_eq!(token(form.as_bytes()).map(|token| token.to_string()), Some(text));
        }
    }
}
