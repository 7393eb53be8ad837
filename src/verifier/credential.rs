//! Finds the credential of a request, and rejects a request whose credential is not clear.

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use super::Cause;
use crate::{access::header::look_alike, crd::instance::CredentialPlace};

/// The longest header value that is read, in bytes.
const MAX: usize = 8 * 1024;

/// A place for a credential: a header, and optionally the scheme before the credential (RFC 9110, section 11.4).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot {
    header: HeaderName,
    scheme: Option<String>,
}

/// The places where an Instance takes a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places(Vec<Spot>);

impl Default for Places {
    /// The places of an Instance that names none: `Authorization` with `Bearer`, `Token` or `Api-Key`, and `api-token`.
    fn default() -> Self {
        let behind = |scheme: &str| Spot { header: AUTHORIZATION, scheme: Some(scheme.to_owned()) };
        let alone = Spot { header: HeaderName::from_static("api-token"), scheme: None };
        Self(vec![behind("Bearer"), behind("Token"), behind("Api-Key"), alone])
    }
}

impl Places {
    /// The places that an Instance names, or the default places if it names none. A name that cannot be a header is
    /// skipped: it is a fault, so the Instance lets nobody in.
    pub fn of(named: &[CredentialPlace]) -> Self {
        if named.is_empty() {
            return Self::default();
        }
        let spot = |place: &CredentialPlace| {
            let scheme = place.scheme.as_ref().map(|scheme| scheme.as_str().to_owned());
            Some(Spot { header: place.header.as_str().parse().ok()?, scheme })
        };
        Self(named.iter().filter_map(spot).collect())
    }
}

/// The one credential that a request carries.
///
/// # Errors
/// The request has no credential, or more than one. Two credentials are rejected even if they are equal, because a
/// proxy and the API behind it may each read a different one.
///
/// A header that can hold a credential is also rejected if it is too long or not ASCII. The same applies to a header
/// that some servers treat as such a header, for example `api_token`.
pub(crate) fn find<'a>(headers: &'a HeaderMap, places: &Places) -> Result<&'a str, Cause> {
    let mut found = None;
    for place in &places.0 {
        if look_alike(headers, place.header.as_str()).is_some() {
            return Err(Cause::LookAlike);
        }
        let Some(text) = text(headers, &place.header)? else { continue };
        let Some(credential) = place.scheme.as_ref().map_or(Some(text), |scheme| after(text, scheme)) else { continue };
        if found.replace(credential.trim_matches(' ')).is_some() {
            return Err(Cause::Several);
        }
    }
    found.ok_or(Cause::Missing)
}

fn text<'a>(headers: &'a HeaderMap, header: &HeaderName) -> Result<Option<&'a str>, Cause> {
    let mut values = headers.get_all(header).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Cause::Repeated);
    }
    first.map(readable).transpose()
}

fn readable(value: &HeaderValue) -> Result<&str, Cause> {
    if value.len() > MAX {
        return Err(Cause::Oversized);
    }
    // `to_str` also rejects control characters, except a tab.
    value.to_str().map_err(|_| Cause::NotAscii)
}

/// The text after `scheme`. `None` if the text has another scheme. The case of the scheme does not matter.
fn after<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = text.split_once(' ')?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn found(headers: &[(&'static str, &[u8])]) -> Result<String, Cause> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        find(&map, &Places::default()).map(str::to_owned)
    }

    fn named(places: serde_json::Value) -> Places {
        Places::of(&serde_json::from_value::<Vec<CredentialPlace>>(places).unwrap())
    }

    #[test]
    fn an_instance_names_its_own_places_and_no_other_is_looked_at() {
        let places = named(json!([{"header": "X-API-Key"}, {"header": "Authorization", "scheme": "AccessToken"}]));
        let of = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            find(&headers.collect(), &places).map(str::to_owned)
        };
        assert_eq!(of(&[("x-api-key", "t")]), Ok("t".into()));
        assert_eq!(of(&[("authorization", "accesstoken t")]), Ok("t".into()));
        assert_eq!(of(&[("authorization", "Bearer t")]), Err(Cause::Missing));
        assert_eq!(of(&[("authorization", "Bearer u"), ("api-token", "v"), ("x-api-key", "t")]), Ok("t".into()));
        assert_eq!(of(&[("x-api-key", "t"), ("authorization", "AccessToken t")]), Err(Cause::Several));
        assert_eq!(named(json!([])), Places::default());
    }

    #[test]
    fn every_place_is_looked_at() {
        for value in ["Bearer t", "bearer t", "Token t", "Api-Key t", "API-KEY  t "] {
            assert_eq!(found(&[("authorization", value.as_bytes())]), Ok("t".into()), "{value}");
        }
        assert_eq!(found(&[("api-token", b"t")]), Ok("t".into()));
    }

    #[test]
    fn none_and_other_schemes_are_missing() {
        assert_eq!(found(&[]), Err(Cause::Missing));
        assert_eq!(found(&[("authorization", b"Basic dTpw")]), Err(Cause::Missing));
        assert_eq!(found(&[("authorization", b"Bearer")]), Err(Cause::Missing));
    }

    #[test]
    fn two_are_refused_even_when_they_are_equal() {
        assert_eq!(found(&[("authorization", b"Bearer t"), ("api-token", b"t")]), Err(Cause::Several));
        assert_eq!(found(&[("api-token", b"t"), ("api-token", b"t")]), Err(Cause::Repeated));
        assert_eq!(found(&[("authorization", b"Bearer t"), ("authorization", b"Basic x")]), Err(Cause::Repeated));
    }

    #[test]
    fn what_some_server_takes_for_a_place_is_refused() {
        assert_eq!(found(&[("authorization", b"Bearer t"), ("api_token", b"u")]), Err(Cause::LookAlike));
        assert_eq!(found(&[("api_token", b"t")]), Err(Cause::LookAlike));
        assert_eq!(found(&[("authorization", b"Bearer t"), ("x_api_token", b"u")]), Ok("t".into()));
    }

    #[test]
    fn too_long_and_not_ascii_are_refused() {
        let long = [b'a'; MAX + 1];
        assert_eq!(found(&[("api-token", &long)]), Err(Cause::Oversized));
        assert_eq!(found(&[("api-token", &long[..MAX])]).map(|text| text.len()), Ok(MAX));
        assert_eq!(found(&[("authorization", "Bearer é".as_bytes())]), Err(Cause::NotAscii));
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        #[test]
        fn no_header_panics(value in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(AUTHORIZATION, value.clone());
                headers.append("api-token", value);
            }
            let _ = find(&headers, &Places::default());
        }
    }
}
