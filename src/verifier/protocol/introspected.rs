//! The messages of token introspection (RFC 7662), and the caller that asks.

use std::sync::Arc;

use http::{HeaderMap, header::AUTHORIZATION};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::review::audience;
use crate::{
    crd::GROUP,
    outside::{Permit, reviewer::Unreviewed},
    verifier::{Cause, Flaw, Identity, index::Key, origin::single},
};

/// The Kubernetes token of the caller: the only bearer credential in the only `Authorization` header.
///
/// # Errors
/// There is no bearer credential, or more than one, or none that is clear (RFC 6750, section 3.1).
pub(crate) fn caller(headers: &HeaderMap) -> Result<&str, Flaw> {
    if !headers.contains_key(AUTHORIZATION) {
        return Err(Flaw::CallerMissing);
    }
    let sent = single(headers, AUTHORIZATION).and_then(|sent| sent.to_str().ok());
    let sent = sent.ok_or(Flaw::CallerUnclear)?;
    let (scheme, token) = sent.split_once(' ').unwrap_or((sent, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(Flaw::CallerMissing);
    }
    let token = token.trim_matches(' ');
    if token.is_empty() || token.contains([' ', ',']) { Err(Flaw::CallerUnclear) } else { Ok(token) }
}

/// Checks that the review of a caller permits its question. `caller` becomes the name that the review gives it.
///
/// # Errors
/// The caller lacks the right or is nobody, or was not reviewed.
pub(crate) fn permitted(review: Result<Permit, Unreviewed>, caller: &mut Option<Arc<str>>) -> Result<(), Cause> {
    let (name, permitted) = match review {
        Ok(Permit::Granted(name)) => (Some(name), Ok(())),
        Ok(Permit::Lacking(name)) => (Some(name), Err(Flaw::CallerForbidden.into())),
        Ok(Permit::Unproven) => (None, Err(Flaw::CallerUnproven.into())),
        Err(Unreviewed::Crowded) => (None, Err(Cause::Crowded)),
        Err(Unreviewed::Failed(_)) => (None, Err(Flaw::ReviewFailed.into())),
    };
    *caller = name;
    permitted
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
        told["scope"] = json!(role.as_str());
    }
    if let Some(end) = identity.ends_at {
        told["exp"] = json!(end.as_second());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    #[test]
    fn a_caller_has_one_bearer_token() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            let value = |text: &&str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
            values.iter().for_each(|text| _ = headers.append(AUTHORIZATION, value(text)));
            caller(&headers).map(str::to_owned)
        };
        for value in ["Bearer t", "bearer  t "] {
            assert_eq!(of(&[value]).as_deref(), Ok("t"), "{value}");
        }
        for values in [&[][..], &["Basic t"], &["t"], &[""]] {
            assert_eq!(of(values), Err(Flaw::CallerMissing), "{values:?}");
        }
        for values in [
            &["Bearer"][..],
            &["Bearer "],
            &["Bearer é"],
            &["Bearer t u"],
            &["Bearer t,Bearer u"],
            &["Bearer t", "Bearer t"],
            &["Basic t", "Bearer t"],
        ] {
            assert_eq!(of(values), Err(Flaw::CallerUnclear), "{values:?}");
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
