//! One line of log for every decision.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

use super::{check::Verdict, index::Key};
use crate::token::format;

/// The longest path that is written down, in bytes.
const MAX_PATH: usize = 1024;
/// The longest name of an object.
const MAX_NAME: usize = 253;

/// Where a proxy says what the caller asked for: Traefik and Caddy, and nginx as the README sets it up.
const METHOD: &str = "x-forwarded-method";
const URI: &str = "x-forwarded-uri";

/// What the caller asked for, as far as the proxy says. For people to read: nothing is decided by it.
#[derive(Debug)]
pub struct Asked {
    method: String,
    path: String,
}

impl Asked {
    /// From the request of a proxy; `rest` is what it appended to the path, as Envoy does.
    pub fn of(headers: &HeaderMap, method: &Method, rest: &str) -> Self {
        let said = |name: &str| headers.get(name)?.to_str().ok();
        let method = said(METHOD).unwrap_or(method.as_str());
        let uri = said(URI).map_or_else(|| format!("/{rest}"), str::to_owned);
        Self { method: told(method, 32), path: told(&path(&uri), MAX_PATH) }
    }
}

/// The path of a URI or of a path with a query, which may hold secrets.
fn path(uri: &str) -> String {
    let whole = uri.parse::<Uri>().map_or_else(|_| uri.to_owned(), |uri| uri.path().to_owned());
    whole.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// `text` at most so long and without any token, written plainly or with escapes.
fn told(text: &str, length: usize) -> String {
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    let text = match format::redact(&decoded) {
        Cow::Owned(redacted) => redacted.escape_debug().to_string(),
        Cow::Borrowed(_) => text.to_owned(),
    };
    text[..text.floor_char_boundary(length)].to_owned()
}

/// Writes the line.
pub fn write(instance: &Key, asked: &Asked, verdict: &Verdict) {
    let identity = verdict.identity.as_ref();
    let pair = |key: &Key| format!("{}/{}", told(&key.namespace, MAX_NAME), told(&key.name, MAX_NAME));
    tracing::info!(
        target: "tokenry::audit",
        account = identity.map_or("", |identity| &identity.subject),
        token = identity.map_or_else(String::new, |identity| pair(&identity.token)),
        token_id = identity.map_or("", |identity| &identity.id),
        instance = pair(instance),
        method = asked.method,
        path = asked.path,
        status = verdict.cause.status().as_u16(),
        reason = verdict.cause.as_str(),
        "decided"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&'static str, &str)], rest: &str) -> (String, String) {
        let headers = headers.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let asked = Asked::of(&headers, &Method::GET, rest);
        (asked.method, asked.path)
    }

    #[test]
    fn what_the_caller_asked_for_is_taken_from_where_the_proxy_says_it() {
        let forwarded = [("x-forwarded-method", "POST"), ("x-forwarded-uri", "/eem/topics?key=1")];
        assert_eq!(asked(&forwarded, ""), ("POST".into(), "/eem/topics".into()));
        let whole = [("x-forwarded-method", "PUT"), ("x-forwarded-uri", "https://a.example.com/x?y")];
        assert_eq!(asked(&whole, ""), ("PUT".into(), "/x".into()));
        assert_eq!(asked(&[], "eem/topics"), ("GET".into(), "/eem/topics".into()));
    }

    #[test]
    fn a_token_in_a_path_and_a_query_that_is_no_uri_stay_out() {
        let token = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        for written in [token.expose().to_owned(), token.expose().replace('_', "%5F")] {
            assert_eq!(asked(&[("x-forwarded-uri", &format!("/x/{written}"))], "").1, "/x/[token]");
        }
        assert!(!asked(&[("x-forwarded-method", token.expose())], "").0.contains('s'));
        assert_eq!(asked(&[("x-forwarded-uri", "/a b?secret")], "").1, "/a b");
    }

    #[test]
    fn a_long_path_is_cut() {
        assert_eq!(asked(&[], &"x".repeat(5000)).1.len(), MAX_PATH);
    }
}
