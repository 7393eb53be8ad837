//! Finds the credential of a request, and rejects a request whose credential is not clear.

use std::{iter, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

use super::Cause;
use crate::{access::header::look_alike, crd::instance::CredentialPlace, token::format};

/// The most values of one header that are searched for a token, with at most [`MAX`] bytes together. Anybody can send
/// many, and each search has a cost.
const MAX_VALUES: usize = 4;
/// The scheme whose credential is a password in base64 (RFC 7617).
const BASIC: &str = "Basic";
/// The scheme of a challenge, if the Instance names no scheme.
const BEARER: &str = "Bearer";
/// The longest header value that is read, in bytes.
const MAX: usize = 8 * 1024;

/// A place for a credential: a header, and optionally the scheme before the credential (RFC 9110, section 11.4).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot {
    header: HeaderName,
    scheme: Option<String>,
}

impl Spot {
    fn is_basic(&self) -> bool {
        self.scheme.as_ref().is_some_and(|scheme| scheme.eq_ignore_ascii_case(BASIC))
    }
}

/// The text of a credential. It has no `Debug`, because it may be a plaintext.
pub enum Credential<'a> {
    /// A part of a header.
    Written(&'a str),
    /// The password of a header with the scheme `Basic`.
    Decoded(Zeroizing<String>),
}

impl Credential<'_> {
    /// The text.
    pub fn text(&self) -> &str {
        match self {
            Self::Written(text) => text,
            Self::Decoded(text) => text,
        }
    }
}

/// The places where an Instance takes a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    spots: Vec<Spot>,
    schemes: Arc<[String]>,
}

impl Default for Places {
    /// The places of an Instance that names none: `Authorization` with `Bearer`, `Token` or `Api-Key`, and `api-token`.
    fn default() -> Self {
        let behind = |scheme: &str| Spot { header: AUTHORIZATION, scheme: Some(scheme.to_owned()) };
        let alone = Spot { header: HeaderName::from_static("api-token"), scheme: None };
        let spots = vec![behind(BEARER), behind("Token"), behind("Api-Key"), alone];
        Self { spots, schemes: [BEARER.to_owned()].into() }
    }
}

impl Places {
    /// The places that an Instance names, or the default places if it names none. A place with an invalid name is
    /// skipped: it is a fault, so the Instance lets nobody in.
    pub fn of(named: &[CredentialPlace]) -> Self {
        if named.is_empty() {
            return Self::default();
        }
        let spot = |place: &CredentialPlace| {
            let scheme = place.scheme.as_ref().map(|scheme| scheme.checked().map(str::to_owned)).transpose().ok()?;
            Some(Spot { header: place.header.as_str().parse().ok()?, scheme })
        };
        let spots: Vec<_> = named.iter().filter_map(spot).collect();
        let schemes = spots.iter().filter(|spot| spot.header == AUTHORIZATION).filter_map(|spot| spot.scheme.clone());
        let mut schemes: Vec<_> = schemes.collect();
        if schemes.is_empty() {
            schemes.push(BEARER.to_owned());
        }
        Self { spots, schemes: schemes.into() }
    }

    /// The schemes that a challenge names: those of `Authorization` that the Instance lists, or else `Bearer`.
    pub fn schemes(&self) -> Arc<[String]> {
        self.schemes.clone()
    }

    /// True if a place of a request holds a token, or may hold one. Doubt counts as a token: a header that cannot be
    /// read, that is there many times, or that some servers confuse with a place. A token counts behind any scheme, and
    /// within other text.
    pub(crate) fn may_hold_a_token(&self, headers: &HeaderMap) -> bool {
        let seen = |at: usize, spot: &Spot| self.spots[..at].iter().any(|other| other.header == spot.header);
        let spots = self.spots.iter().enumerate().filter(|&(at, spot)| !seen(at, spot));
        { spots }.any(|(_, Spot { header, .. })| {
            let values = headers.get_all(header).iter().take(MAX_VALUES + 1).map(|value| readable(value).ok());
            let is_short = |values: &[&str]| values.iter().map(|value| value.len()).sum::<usize>() <= MAX;
            let clear = values.collect::<Option<Vec<_>>>();
            let clear = clear.filter(|values| values.len() <= MAX_VALUES && is_short(values));
            let carry = |values: Vec<&str>| values.iter().any(|value| format::carries(value)) || hides(&values);
            look_alike(headers, iter::once(header.as_str())).is_some() || clear.is_none_or(carry)
        })
    }
}

/// True if the values of a header carry a token among other characters. Some servers skip every character that is no
/// digit of base64.
fn hides(values: &[&str]) -> bool {
    let is_digit = |c: &char| c.is_ascii_alphanumeric() || "+/-_".contains(*c);
    let digits: String = values.iter().flat_map(|value| value.chars()).filter(is_digit).collect();
    format::carries(&Zeroizing::new(digits))
}

/// The one credential that a request carries.
///
/// # Errors
/// The request has no credential, or more than one. Two credentials are rejected even if they are equal, because a
/// proxy and the API behind it may each read a different one.
///
/// A header that can hold a credential is also rejected if it is too long or not ASCII. The same applies to a header
/// that some servers treat as such a header, for example `api_token`.
pub(crate) fn find<'a>(headers: &'a HeaderMap, places: &Places) -> Result<Credential<'a>, Cause> {
    let (mut found, mut read) = (None, None::<(&HeaderName, Option<&str>)>);
    let is_confused = look_alike(headers, places.spots.iter().map(|place| place.header.as_str())).is_some();
    for place in &places.spots {
        // Several places may be in one header, one after the other.
        let read_before = read.filter(|(header, _)| **header == place.header);
        let text = match read_before {
            Some((_, text)) => text,
            None if is_confused && look_alike(headers, iter::once(place.header.as_str())).is_some() => {
                return Err(Cause::LookAlike);
            }
            None => text(headers, &place.header)?,
        };
        read = Some((&place.header, text));
        let Some(text) = text else { continue };
        let Some(credential) = place.scheme.as_ref().map_or(Some(text), |scheme| after(text, scheme)) else { continue };
        if found.replace((place, credential.trim_matches(' '))).is_some() {
            return Err(Cause::Several);
        }
    }
    let (place, text) = found.ok_or(Cause::Missing)?;
    if place.is_basic() { password(text).ok_or(Cause::Malformed) } else { Ok(Credential::Written(text)) }
}

/// The password in the credentials of the scheme `Basic`: the text behind the first `:`. Only canonical base64 is read,
/// so that every server decodes the same text.
fn password(credentials: &str) -> Option<Credential<'static>> {
    let bytes = Zeroizing::new(STANDARD.decode(credentials).ok()?);
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let password = str::from_utf8(&bytes[colon + 1..]).ok()?;
    Some(Credential::Decoded(Zeroizing::new(password.to_owned())))
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
    let (start, rest) = text.split_at_checked(scheme.len())?;
    if start.eq_ignore_ascii_case(scheme) { rest.strip_prefix(' ') } else { None }
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
        find(&map, &Places::default()).map(|credential| credential.text().to_owned())
    }

    fn named(places: serde_json::Value) -> Places {
        Places::of(&serde_json::from_value::<Vec<CredentialPlace>>(places).unwrap())
    }

    #[test]
    fn an_instance_names_its_own_places_and_no_other_is_looked_at() {
        let places = named(json!([{"header": "X-API-Key"}, {"header": "Authorization", "scheme": "AccessToken"}]));
        let of = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            find(&headers.collect(), &places).map(|credential| credential.text().to_owned())
        };
        assert_eq!(of(&[("x-api-key", "t")]), Ok("t".into()));
        assert_eq!(of(&[("authorization", "accesstoken t")]), Ok("t".into()));
        assert_eq!(of(&[("authorization", "Bearer t")]), Err(Cause::Missing));
        assert_eq!(of(&[("authorization", "Bearer u"), ("api-token", "v"), ("x-api-key", "t")]), Ok("t".into()));
        assert_eq!(of(&[("x-api-key", "t"), ("authorization", "AccessToken t")]), Err(Cause::Several));
        assert_eq!(named(json!([])), Places::default());
    }

    fn token() -> String {
        format::assemble("tkn", &"i".repeat(16), &"s".repeat(43)).expose().to_owned()
    }

    /// The header of the user `user:password`, in canonical base64.
    fn basic(credentials: &[u8]) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    #[test]
    fn a_password_is_read_from_canonical_base64_and_any_user_may_have_it() {
        let places = named(json!([{"header": "Authorization", "scheme": "basic"}]));
        let of = |text: &str| {
            let headers = [(AUTHORIZATION, text.parse().unwrap())].into_iter().collect();
            find(&headers, &places).map(|credential| credential.text().to_owned())
        };
        for (credentials, password) in [
            (&b"ci:t"[..], "t"),
            (b":t", "t"),
            (b"ci:t:u", "t:u"),
            ("José:t".as_bytes(), "t"),
            (b"\xff:t", "t"),
            (b"ci:", ""),
        ] {
            assert_eq!(of(&basic(credentials)), Ok(password.into()), "{credentials:?}");
        }
        assert_eq!(of("bAsIc  Y2k6dA== "), Ok("t".into()), "case and spaces around it do not matter");
        // No colon, no padding, padding within, set trailing bits, the other alphabet, a space, no base64, no UTF-8.
        for odd in ["Y2k=", "Y2k6dA", "Y2k6dA=", "Y2==k6dA", "Y2k6dB==", "_-k6dA==", "Y2k6 dA==", "ci:t", "", "OoA="] {
            assert_eq!(of(&format!("Basic {odd}")), Err(Cause::Malformed), "{odd}");
        }
        assert_eq!(of("Bearer t"), Err(Cause::Missing));
        assert_eq!(named(json!([])).schemes()[..], ["Bearer"]);
    }

    #[test]
    fn a_challenge_names_the_schemes_that_the_instance_lists() {
        let schemes = |places| named(places).schemes().to_vec();
        let both =
            json!([{"header": "authorization", "scheme": "Bearer"}, {"header": "Authorization", "scheme": "Basic"}]);
        assert_eq!(schemes(both), ["Bearer", "Basic"]);
        assert_eq!(schemes(json!([{"header": "X-Key", "scheme": "Basic"}, {"header": "Authorization"}])), ["Bearer"]);
        assert_eq!(schemes(json!([{"header": "Authorization", "scheme": "a\r\nb"}])), ["Bearer"], "a fault");
    }

    #[test]
    fn any_doubt_if_a_request_carries_a_token_counts_as_one() {
        let may = |headers: &[(&'static str, &[u8])]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_bytes(value).unwrap());
            }
            Places::default().may_hold_a_token(&map)
        };
        let token = token();
        let within = [
            format!("Bearer {token}"),
            format!("bearer  {token} "),
            format!("Bearer x,{token}"),
            format!("Digest {token}"),
            basic(format!("ci:{token}").as_bytes()),
            basic(format!("ci:{token}").as_bytes()).trim_end_matches('=').to_owned(),
            token.clone(),
            // Some servers skip characters that are no digits of base64.
            basic(format!("ci:{token}").as_bytes()).replace('n', "n ").replace('d', "d.!"),
        ];
        for text in &within {
            assert!(may(&[("authorization", text.as_bytes())]), "{text}");
            assert!(may(&[("authorization", b"Basic dTpw"), ("authorization", text.as_bytes())]), "{text}");
            assert!(may(&[("authorization", b"Basic dTpw"), ("api-token", text.as_bytes())]), "{text}");
        }
        let halves = within[4].as_bytes().split_at(30);
        assert!(may(&[("authorization", halves.0), ("authorization", halves.1)]), "some servers join the values");
        let long = [b'a'; MAX + 1];
        assert!(may(&[("api-token", &long)]) && may(&[("authorization", "Bearer é".as_bytes())]));
        assert!(may(&[("api_token", b"x")]), "some servers take it for api-token");
        let many = [("api-token", &b"x"[..]); MAX_VALUES + 1];
        assert!(may(&many) && !may(&many[1..]), "only so many are searched");
        let halves = [("api-token", &[b'.'; MAX / 2][..]); 3];
        assert!(may(&halves) && !may(&halves[1..]), "only so much is searched");
        assert!(!may(&[]) && !may(&[("authorization", b"Basic dTpw")]) && !may(&[("x-key", token.as_bytes())]));
        assert!(!may(&[("authorization", b"Bearer a.b.c"), ("api-token", b"x")]));
        assert!(!may(&[("authorization", b"Basic dTpw"), ("authorization", b"Bearer a.b.c")]), "surely no token");
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

    fn password_of(credentials: &str) -> Option<String> {
        password(credentials).map(|found| found.text().to_owned())
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
            let _ = Places::default().may_hold_a_token(&headers);
        }

        #[test]
        fn no_credentials_of_a_user_panic_and_every_password_is_found(
            user in "[^:]{0,20}", password in ".{0,40}", odd in "[A-Za-z0-9+/=_-]{0,60}",
        ) {
            prop_assert_eq!(password_of(&STANDARD.encode(format!("{user}:{password}"))), Some(password));
            let _ = password_of(&odd);
        }

        #[test]
        fn each_credential_of_the_form_of_a_token_is_seen_as_one(user in "[^:]{0,20}", at in 0usize..5) {
            let (token, [bearer, token_scheme]) = (token(), ["Bearer", "Token"]);
            let header = ["authorization", "api-token"][usize::from(at == 3)];
            let text = match at {
                0 => format!("{bearer} {token}"),
                1 => format!("{token_scheme}   {token}"),
                2 => format!("api-key {token} "),
                3 => token,
                _ => basic(format!("{user}:{token}").as_bytes()),
            };
            let headers: HeaderMap = [(header.parse().unwrap(), text.parse().unwrap())].into_iter().collect();
            let places = named(json!([
                {"header": "Authorization", "scheme": "Bearer"}, {"header": "Authorization", "scheme": "Token"},
                {"header": "Authorization", "scheme": "Api-Key"}, {"header": "Authorization", "scheme": "Basic"},
                {"header": "api-token"},
            ]));
            prop_assert!(find(&headers, &places).is_ok_and(|found| format::id(found.text()).is_ok()));
            prop_assert!(places.may_hold_a_token(&headers));
        }
    }
}
