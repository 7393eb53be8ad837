//! Reads the caller's request from the request of a proxy, and words the answer that the proxy passes on. That is the
//! identity headers for the API, or the refusal for the caller.

use http::header::{ALLOW, AsHeaderName, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, uri::PathAndQuery};
use serde_json::{Value, json};

use crate::access::cut;
use crate::access::header::{ORGANIZATION, ROLE, SUBJECT, TOKEN_ID, USER};
use crate::verifier::{
    Answer, Category, Cause, Flaw, Identity, Protocol, Requested, Verdict,
    index::Key,
    origin::{REQUEST_ID, single},
};

/// The headers in which a proxy names the caller's method and URI. Traefik and Caddy send them, and so does nginx with
/// the configuration in the documentation.
const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// The headers in which ingress-nginx names the caller's method and URL. It always overwrites both.
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
/// The number of headers that have room at once: those of an identity, and those of each answer.
const ROOM: usize = 8;
/// The value of an identity header that has no value.
const EMPTY: HeaderValue = HeaderValue::from_static("");

/// The request that the caller wants to make. Some proxies, such as Envoy, append the caller's path and query to their
/// own path, and send the caller's method. `appended` is that path and query. The headers then do not name the request,
/// because the caller may have sent them.
pub(crate) fn requested<'a>(headers: &'a HeaderMap, method: &'a Method, appended: Option<&'a str>) -> Requested<'a> {
    match appended {
        Some(path) => Requested { method: Some(method.as_str()), target: Some(path), headers },
        None => Requested { method: only(headers, METHOD), target: only(headers, URI), headers },
    }
}

/// The request that the caller of ingress-nginx wants to make. Only a whole URL counts, because ingress-nginx sends no
/// other. Of the URL only path and query are judged: the caller may have sent any host.
pub(crate) fn original(headers: &HeaderMap) -> Requested<'_> {
    let is_whole = |url: &&str| ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    let target = only(headers, ORIGINAL_URL).filter(is_whole);
    Requested { method: only(headers, ORIGINAL_METHOD), target, headers }
}

/// The Instance that a path names, and the path and query that a proxy has appended, if any.
///
/// Nothing is decoded. Names contain nothing to decode, and the caller's path may not be valid text. A query alone
/// counts as nothing appended, because Caddy passes the query on, and a caller can put any slash into it.
pub(crate) fn target(uri: &Uri) -> (Key, Option<&str>) {
    let below = Below::of(uri.path());
    let instance = Key::new(below.namespace, below.name);
    let whole = uri.path_and_query().map_or("", PathAndQuery::as_str);
    // The slash before the rest belongs to it.
    let begins = below.rest.map(|rest| uri.path().len() - rest.len() - 1);
    (instance, begins.and_then(|at| whole.get(at..)))
}

/// The parts of a path below an Instance. A part that is missing is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Below<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// The segment that says the question, such as `authorize`.
    pub(crate) question: &'a str,
    /// The rest behind the slash after it. `None`: there is no such slash.
    pub(crate) rest: Option<&'a str>,
}

impl<'a> Below<'a> {
    /// The parts of a path that begins with `/v1/instances/`. The parts of another path are empty.
    pub(crate) fn of(path: &'a str) -> Self {
        let next = |path: &'a str| cut(path, b'/');
        let (namespace, rest) = next(path.strip_prefix("/v1/instances/").unwrap_or_default());
        let (name, rest) = next(rest.unwrap_or_default());
        let (question, rest) = next(rest.unwrap_or_default());
        Self { namespace, name, question, rest }
    }
}

/// True if the query asks for the answers of nginx, by `mode=nginx`. The query behind an appended path is that of the
/// caller, and counts for nothing.
pub(crate) fn is_nginx(uri: &Uri, appended: Option<&str>) -> bool {
    appended.is_none() && uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "mode=nginx"))
}

/// The only value of a header. `None` if the header is missing, occurs twice, or is not ASCII.
pub(crate) fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    single(headers, name)?.to_str().ok()
}

/// An answer in the words of HTTP, for every protocol that proxies speak.
pub(crate) struct Wording {
    /// The status code.
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The body, as JSON. Empty if there is none.
    pub(crate) body: String,
}

/// The answer in the words of HTTP. A 401 or 403 has a challenge for each scheme of the Instance. That of `Bearer` has
/// the error code of RFC 6750, section 3, except if the credential is missing or the guard is tested. No answer may be
/// cached, because it holds for one request only.
pub(crate) fn told(answer: &Answer) -> Wording {
    let Verdict { cause, identity: who, message } = answer.verdict();
    let challenge = |code| HeaderMap::from_iter([(WWW_AUTHENTICATE, challenge(answer, code))]);
    let (mut headers, body) = match cause.category() {
        Category::Allowed => (identified(who.as_ref()), None),
        Category::NotAuthenticated if matches!(cause, Cause::Missing | Cause::Probe) => (challenge(None), None),
        Category::NotAuthenticated => (challenge(Some("invalid_token")), Some(json!({"error": "invalid_token"}))),
        Category::NotPermitted => {
            let hint = message.as_deref().or(cause.hint(answer.protocol()));
            let body = json!({"error": "insufficient_scope", "error_description": hint});
            (challenge(Some("insufficient_scope")), Some(body))
        }
        Category::Unavailable => (later(), Some(json!({"error": "temporarily_unavailable"}))),
        Category::Flawed(flaw) => (flawed(flaw), Some(described(flaw, answer.protocol()))),
    };
    head(answer).into_iter().for_each(|(name, value)| _ = headers.insert(name, value));
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let body = body.map(|body| format!("{body}\n")).unwrap_or_default();
    Wording { status: cause.category().code(), headers, body }
}

/// Tells the caller to try again after a second.
fn later() -> HeaderMap {
    HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(1u16))])
}

/// The headers of the answer to a question with a flaw. A caller of introspection proves itself with a Kubernetes
/// token, so the realm of its challenge is not that of the Instance.
fn flawed(flaw: Flaw) -> HeaderMap {
    if flaw.is_challenged() {
        let challenge = challenges(&["Bearer".to_owned()], "kubernetes", flaw.error());
        return HeaderMap::from_iter([(WWW_AUTHENTICATE, challenge)]);
    }
    match flaw.code() {
        405 => HeaderMap::from_iter([(ALLOW, HeaderValue::from_static("POST"))]),
        503 => later(),
        _ => HeaderMap::new(),
    }
}

/// The body of the answer to a question with a flaw, for a person to read.
fn described(flaw: Flaw, protocol: Protocol) -> Value {
    let mut body = json!({"error_description": flaw.hint(protocol)});
    flaw.error().into_iter().for_each(|error| body["error"] = json!(error));
    body
}

/// All identity headers with their values. Every answer that lets a request in has all of them, with an empty value if
/// there is none. If a header were missing, some proxies would pass on the caller's own header.
pub(crate) fn identity(identity: Option<&Identity>) -> [(HeaderName, &str); 5] {
    let of = |field: fn(&Identity) -> &str| identity.map_or("", field);
    [
        (SUBJECT, of(|identity| &identity.subject)),
        (TOKEN_ID, of(|identity| &identity.id)),
        (ROLE, of(|identity| identity.role.as_deref().unwrap_or_default())),
        (ORGANIZATION, of(|identity| &identity.organization)),
        (USER, of(|identity| &identity.subject)),
    ]
}

/// The value of a header. Empty if it is not ASCII, or if HTTP does not allow it.
pub(crate) fn readable(value: &str) -> &str {
    if value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) { value } else { "" }
}

/// The identity headers in the words of HTTP.
fn identified(who: Option<&Identity>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(ROOM);
    for (name, value) in identity(who) {
        headers.insert(name, HeaderValue::from_str(value).unwrap_or(EMPTY));
    }
    headers
}

/// The headers of every answer of the door. They forbid caching, and name the request.
pub(crate) fn head(answer: &Answer) -> [(HeaderName, HeaderValue); 2] {
    [(CACHE_CONTROL, HeaderValue::from_static("no-store")), (REQUEST_ID, answer.request_id().header())]
}

/// A challenge for each scheme, all in one header, because nginx passes on only one. That of `Bearer` has the error
/// code, if there is one.
fn challenge(answer: &Answer, error: Option<&str>) -> HeaderValue {
    challenges(answer.schemes(), &answer.realm(), error)
}

fn challenges(schemes: &[String], realm: &str, error: Option<&str>) -> HeaderValue {
    let realm = realm.replace('\\', r"\\").replace('"', r#"\""#);
    let of = |scheme: &String| {
        let error = error.filter(|_| scheme.eq_ignore_ascii_case("Bearer"));
        let error = error.map(|code| format!(r#", error="{code}""#)).unwrap_or_default();
        format!(r#"{scheme} realm="{realm}"{error}"#)
    };
    let all: Vec<_> = schemes.iter().map(of).collect();
    HeaderValue::from_str(&all.join(", ")).unwrap_or(HeaderValue::from_static(r#"Bearer realm="tokenry""#))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&'static str, &str)], appended: Option<&str>) -> (Option<String>, Option<String>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let asked = requested(&map, &Method::GET, appended);
        (asked.method.map(str::to_owned), asked.target.map(str::to_owned))
    }

    #[test]
    fn a_value_that_is_no_ascii_is_left_empty() {
        let all = ["", "account:a/x", "a b\t~", "é", "a\nb", "\u{7f}"].map(readable);
        assert_eq!(all, ["", "account:a/x", "a b\t~", "", "", ""]);
    }

    #[test]
    fn what_the_caller_asked_for_is_taken_from_where_the_proxy_says_it() {
        let forwarded = [("x-forwarded-method", "POST"), ("x-forwarded-uri", "/eem/topics?key=1")];
        assert_eq!(asked(&forwarded, None), (Some("POST".into()), Some("/eem/topics?key=1".into())));
        assert_eq!(asked(&[], None), (None, None), "a subrequest has a method of its own");
    }

    #[test]
    fn where_the_path_is_appended_headers_say_nothing() {
        let sent = [("x-forwarded-method", "HEAD"), ("x-forwarded-uri", "/public")];
        assert_eq!(asked(&sent, Some("/secret")), (Some("GET".into()), Some("/secret".into())));
    }

    #[test]
    fn what_is_said_twice_is_not_known() {
        let twice = [("x-forwarded-uri", "/a"), ("x-forwarded-uri", "/b"), ("x-forwarded-method", "GET")];
        assert_eq!(asked(&twice, None), (Some("GET".into()), None));
    }

    #[test]
    fn each_scheme_has_a_challenge_and_that_of_bearer_says_the_error() {
        let of = |schemes: &[&str], error| {
            let schemes: Vec<_> = schemes.iter().map(|&scheme| scheme.to_owned()).collect();
            challenges(&schemes, "tokenry/a/b", error).to_str().unwrap().to_owned()
        };
        assert_eq!(of(&["Bearer"], Some("invalid_token")), r#"Bearer realm="tokenry/a/b", error="invalid_token""#);
        assert_eq!(of(&["Bearer", "Basic"], None), r#"Bearer realm="tokenry/a/b", Basic realm="tokenry/a/b""#);
        assert_eq!(of(&["Basic"], Some("invalid_token")), r#"Basic realm="tokenry/a/b""#);
        assert_eq!(of(&["odd\r\n"], None), r#"Bearer realm="tokenry""#);
        let quoted = challenges(&["Bearer".into()], r#"a"b\"#, None);
        assert_eq!(quoted, r#"Bearer realm="a\"b\\""#);
    }

    #[test]
    fn only_the_query_of_the_proxy_itself_asks_for_the_answers_of_nginx() {
        let of = |rest: &str| {
            let uri = format!("/v1/instances/a/eem/authorize{rest}").parse().unwrap();
            is_nginx(&uri, target(&uri).1)
        };
        for rest in ["?mode=nginx", "?a=b&mode=nginx", "?mode=nginx&mode=envoy"] {
            assert!(of(rest), "{rest}");
        }
        for rest in ["", "?", "?mode=", "?mode=nginx2", "?MODE=nginx", "?mode=%6eginx", "/?mode=nginx", "/x?mode=nginx"]
        {
            assert!(!of(rest), "{rest}");
        }
    }

    #[test]
    fn a_path_names_the_instance_and_what_is_behind() {
        let of = |path: &'static str| {
            let uri = Uri::from_static(path);
            let (instance, rest) = target(&uri);
            (instance.namespace, instance.name, rest.map(str::to_owned))
        };
        let eem = |rest: Option<&str>| ("a".into(), "eem".into(), rest.map(str::to_owned));
        assert_eq!(of("/v1/instances/a/eem/authorize"), eem(None));
        assert_eq!(of("/v1/instances/a/eem/authorize/"), eem(Some("/")));
        assert_eq!(of("/v1/instances/a/eem/authorize//x?a=/b"), eem(Some("//x?a=/b")));
        assert_eq!(of("/v1/instances/a/eem/authorize/x/%ff"), eem(Some("/x/%ff")));
        assert_eq!(of("/v1/instances/a/eem/authorize/x?a=/b&c=?"), eem(Some("/x?a=/b&c=?")));
        // A proxy passes on the caller's query. The query alone appends nothing.
        for query in ["?", "?a=b", "?a=/b", "?/b", "?a=/b/c?d/e"] {
            let uri: Uri = format!("/v1/instances/a/eem/authorize{query}").parse().unwrap();
            assert_eq!(target(&uri).1, None, "{query}");
        }
    }
}
