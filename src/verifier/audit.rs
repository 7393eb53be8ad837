//! One line of log for every decision.

use http::{HeaderMap, Method, Uri};

use super::{check::Verdict, index::Key};
use crate::token::format;

/// The longest path that is written down, in bytes.
const MAX_PATH: usize = 1024;

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
    pub fn of(headers: &HeaderMap, method: &Method, rest: Option<&str>) -> Self {
        let said = |name: &str| headers.get(name)?.to_str().ok();
        let method = said(METHOD).unwrap_or(method.as_str());
        let uri = said(URI).map_or_else(|| format!("/{}", rest.unwrap_or_default()), str::to_owned);
        Self { method: cut(method, 32), path: cut(&format::redact(&path(&uri)), MAX_PATH) }
    }
}

/// The path of a URI or of a path with a query, which may hold secrets.
fn path(uri: &str) -> String {
    let whole = uri.parse::<Uri>().map_or_else(|_| uri.to_owned(), |uri| uri.path().to_owned());
    whole.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn cut(text: &str, length: usize) -> String {
    text[..text.floor_char_boundary(length)].to_owned()
}

/// Writes the line.
pub fn write(instance: &Key, asked: &Asked, verdict: &Verdict) {
    let identity = verdict.identity.as_ref();
    tracing::info!(
        target: "tokenry::audit",
        account = identity.map_or("", |identity| &identity.subject),
        token = %identity.map_or_else(String::new, |identity| format!("{}/{}", identity.token.namespace, identity.token.name)),
        token_id = identity.map_or("", |identity| &identity.id),
        instance = %format!("{}/{}", instance.namespace, instance.name),
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

    fn asked(headers: &[(&'static str, &str)], rest: Option<&str>) -> (String, String) {
        let headers = headers.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let asked = Asked::of(&headers, &Method::GET, rest);
        (asked.method, asked.path)
    }

    #[test]
    fn what_the_caller_asked_for_is_taken_from_where_the_proxy_says_it() {
        let forwarded = [("x-forwarded-method", "POST"), ("x-forwarded-uri", "/eem/topics?key=1")];
        assert_eq!(asked(&forwarded, None), ("POST".into(), "/eem/topics".into()));
        let whole = [("x-forwarded-method", "PUT"), ("x-forwarded-uri", "https://a.example.com/x?y")];
        assert_eq!(asked(&whole, None), ("PUT".into(), "/x".into()));
        assert_eq!(asked(&[], Some("eem/topics")), ("GET".into(), "/eem/topics".into()));
    }

    #[test]
    fn a_token_in_a_path_and_a_query_that_is_no_uri_stay_out() {
        let token = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        let uri = format!("/x/{}", token.expose());
        assert_eq!(asked(&[("x-forwarded-uri", &uri)], None).1, "/x/[token]");
        assert_eq!(asked(&[("x-forwarded-uri", "/a b?secret")], None).1, "/a b");
    }

    #[test]
    fn a_long_path_is_cut() {
        assert_eq!(asked(&[], Some(&"x".repeat(5000))).1.len(), MAX_PATH);
    }
}
