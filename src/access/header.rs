//! Headers that identify the caller to an API, and headers that some servers confuse with others.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::path::Path;

/// The account that makes the request.
pub const SUBJECT: HeaderName = HeaderName::from_static("x-tokenry-subject");
/// The public id of the presented value.
pub const TOKEN_ID: HeaderName = HeaderName::from_static("x-tokenry-token-id");
/// The effective role.
pub const ROLE: HeaderName = HeaderName::from_static("x-tokenry-role");
/// The organization of the Instance.
pub const ORGANIZATION: HeaderName = HeaderName::from_static("x-tokenry-organization");
/// The account that makes the request, in the header that many APIs read.
pub const USER: HeaderName = HeaderName::from_static("x-forwarded-user");

/// The id of the request, in a question and in its answer. Logs of proxies and of APIs have it, too.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every identity header.
pub const IDENTITY: [HeaderName; 5] = [SUBJECT, TOKEN_ID, ROLE, ORGANIZATION, USER];

/// Headers that some servers obey instead of the method.
pub(crate) const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// The query parameter that some servers obey instead of the method.
const OVERRIDE: &str = "_method";
/// Headers that some servers obey instead of the target of the request, or in which some proxies name that target.
pub(crate) const REWRITES: [&str; 4] = ["x-original-url", "x-rewrite-url", "x-original-uri", "x-forwarded-uri"];
/// Headers by which some servers take a part off the path, or replace it. `Script-Name` looks like the variable
/// `SCRIPT_NAME` of CGI and WSGI.
pub(crate) const MOUNTS: [&str; 3] = ["script-name", "x-script-name", "path-info"];
/// Headers in which some proxies name the method of the request.
pub(crate) const METHODS: [&str; 2] = ["x-original-method", "x-forwarded-method"];

/// The identity headers with `_` in place of dashes, in every mixture. Some servers read them as the identity headers.
pub fn underscored() -> &'static [String] {
    static ALL: LazyLock<Vec<String>> = LazyLock::new(|| {
        let join = |starts: Vec<String>, part: &str| -> Vec<String> {
            starts.iter().flat_map(|start| ["-", "_"].map(|sign| format!("{start}{sign}{part}"))).collect()
        };
        let mixtures = |name: &HeaderName| {
            let mut parts = name.as_str().split('-');
            let first = parts.next().unwrap_or_default().to_owned();
            parts.fold(vec![first], join)
        };
        IDENTITY.iter().flat_map(mixtures).filter(|name| name.contains('_')).collect()
    });
    &ALL
}

/// The first header that some servers confuse with one of the headers `names`. CGI and similar interfaces replace each
/// sign by `_`, so `X_Organization` and `X-Organization` look the same to an API.
pub fn look_alike<'a, 'n>(headers: &'a HeaderMap, names: impl Iterator<Item = &'n str> + Clone) -> Option<&'a str> {
    let differs = |header: &str, name: &str| folds_to(header, name) && !header.eq_ignore_ascii_case(name);
    // Both have the same length. By one look at the set of lengths, nearly all headers are out.
    let length = |text: &str| 1u64 << (text.len() % 64);
    let lengths = names.clone().map(length).fold(0, |set, one| set | one);
    let all = headers.keys().map(HeaderName::as_str);
    { all }.find(|header| lengths & length(header) != 0 && names.clone().any(|name| differs(header, name)))
}

/// The header or query parameter that asks for another method than `method`, the method of the request.
pub fn overriding<'a>(headers: &'a HeaderMap, query: &str, method: &str) -> Option<&'a str> {
    let differs = |value: &str| !value.is_empty() && !value.eq_ignore_ascii_case(method);
    let asks = |value: &HeaderValue| value.to_str().map_or(true, |value| differs(value.trim()));
    let header = headers.keys().find(|name| overrides(name) && headers.get_all(*name).iter().any(asks));
    let parameter = || parameters(query, OVERRIDE).any(|value| differs(value.trim()));
    header.map(HeaderName::as_str).or_else(|| parameter().then_some(OVERRIDE))
}

/// True if a header or the query can ask for another method, even if its value is the method of the request.
pub fn can_override(headers: &HeaderMap, query: &str) -> bool {
    headers.keys().any(overrides) || parameters(query, OVERRIDE).next().is_some()
}

/// True if a header names another method than `method`, the method of the request. A caller may have sent the header
/// that the verifier reads, while the proxy names the method in another one.
pub fn names_another_method(headers: &HeaderMap, method: &str) -> bool {
    named(headers, &METHODS).any(|(_, value)| value != method)
}

/// True if a header names another target than that of the request, or takes a part off its path. A caller may have
/// sent the header that the verifier reads, while the proxy names the target in another one.
pub fn rewrites(headers: &HeaderMap, path: &Path, query: &str) -> bool {
    rewriting(headers, path, query, |_| true).is_some()
}

/// The first header by which some servers read another target than that of the request, and that no proxy removes. A
/// proxy removes or overwrites those of `REWRITES`, but only under exactly these names.
pub fn passed_on_rewrite<'a>(headers: &'a HeaderMap, path: &Path, query: &str) -> Option<&'a str> {
    rewriting(headers, path, query, |name| !REWRITES.contains(&name))
}

/// The first header that names another target than that of the request, or takes a part off its path. Of those that
/// name a target, only headers with a name that `counts` are looked at.
fn rewriting<'a>(headers: &'a HeaderMap, path: &Path, query: &str, counts: impl Fn(&str) -> bool) -> Option<&'a str> {
    let is_own = |target: &str| {
        let asked = target.split_once('?').map_or("", |(_, query)| query);
        asked == query && Path::parse(target).is_ok_and(|other| other == *path)
    };
    let is_other = |value: &HeaderValue| !value.is_empty() && !value.to_str().is_ok_and(is_own);
    // Hardly any header has such a name, so values are looked at last.
    let rewrites = |name: &HeaderName| {
        let is_of = |wanted: &[&str]| wanted.iter().any(|wanted| folds_to(name.as_str(), wanted));
        let mut values = headers.get_all(name).iter();
        is_of(&MOUNTS) && values.any(|value| !value.is_empty())
            || is_of(&REWRITES) && counts(name.as_str()) && values.any(is_other)
    };
    headers.keys().find(|name| rewrites(name)).map(HeaderName::as_str)
}

/// All headers that some servers confuse with one of `wanted`, and their values. An empty value names nothing.
fn named<'a>(headers: &'a HeaderMap, wanted: &'a [&str]) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
    let is_it = |name: &HeaderName| wanted.iter().any(|wanted| folds_to(name.as_str(), wanted));
    headers.iter().filter(move |(name, value)| is_it(name) && !value.is_empty())
}

fn overrides(name: &HeaderName) -> bool {
    OVERRIDES.iter().any(|wanted| folds_to(name.as_str(), wanted))
}

/// True if two names differ only in case, and in characters that are neither letters nor digits.
pub(crate) fn folds_to(one: &str, other: &str) -> bool {
    let same = |(one, other): (u8, u8)| {
        one.eq_ignore_ascii_case(&other) || !one.is_ascii_alphanumeric() && !other.is_ascii_alphanumeric()
    };
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(same)
}

/// The decoded values of a query parameter. Without a `=`, the value is empty. Some servers separate parameters by `;`.
/// PHP replaces a dot or a space in a name by `_`.
fn parameters(query: &str, wanted: &str) -> impl Iterator<Item = String> {
    let named = query.split(['&', ';']).map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    // Decoding makes no name longer, so a shorter name cannot match.
    let named = named.filter(|(name, _)| name.len() >= wanted.len());
    // PHP ends a name at a NUL. Some servers read a second question mark as part of the name.
    let whole = |name: &str| decoded(name).split('\0').next().unwrap_or_default().to_owned();
    let bare = move |name: &str| whole(name).trim_start_matches(|c: char| c == '?' || c.is_whitespace()).to_owned();
    let is_it = move |name: &str| bare(name).replace(['.', ' '], "_").eq_ignore_ascii_case(wanted);
    named.filter(move |(name, _)| is_it(name)).map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::iter;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn each_mixture_of_signs_in_an_identity_header_is_a_look_alike_of_it() {
        let of = |name: &str| {
            let headers = map(&[(name, "a")]);
            IDENTITY.iter().filter(|one| look_alike(&headers, iter::once(one.as_str())).is_some()).count()
        };
        assert!(underscored().iter().all(|name| of(name) == 1), "{:?}", underscored());
        let distinct: std::collections::BTreeSet<_> = underscored().iter().collect();
        assert_eq!((distinct.len(), underscored().len()), (3 + 7 + 3 + 3 + 3, 19));
    }

    #[test]
    fn a_header_with_another_sign_is_a_look_alike() {
        let found = |name: &str| look_alike(&map(&[(name, "a")]), ["x-organization"].into_iter()).is_some();
        assert!(["X_Organization", "x.organization", "X~ORGANIZATION"].into_iter().all(found));
        assert!(!["X-Organization", "X-Organizations", "XOrganization", "X-0rganization"].into_iter().any(found));
    }

    #[test]
    fn what_asks_for_another_method_is_found() {
        let by = |headers: &[(&str, &str)], query: &str| overriding(&map(headers), query, "GET").map(str::to_owned);
        for name in ["x-http-method-override", "x-http-method", "x-method-override", "x_http_method_override"] {
            assert_eq!(by(&[(name, "DELETE")], ""), Some(name.into()));
            assert_eq!(by(&[(name, "get ")], ""), None, "{name} asks for the request's own");
            assert_eq!(by(&[(name, "")], ""), None);
        }
        assert_eq!(
            by(&[("x-http-method", "GET"), ("x-http-method-override", "PUT")], "").as_deref(),
            Some("x-http-method-override")
        );
        for query in [
            "_method=DELETE",
            "a=b&_METHOD=delete",
            "%5Fmethod=PU%54",
            "a;_method=PUT",
            ".method=PUT",
            "+_method=PUT",
            "_method%00x=PUT",
            "?_method=PUT",
        ] {
            assert_eq!(by(&[], query).as_deref(), Some("_method"), "{query}");
        }
        for query in ["", "_method", "_method=get", "method=DELETE", "a=_method=DELETE", "_methods=PUT"] {
            assert_eq!(by(&[], query), None, "{query}");
        }
    }

    #[test]
    fn what_can_ask_for_another_method_counts_whatever_it_says() {
        for name in ["X-HTTP-Method-Override", "x_http_method", "x-method.override"] {
            assert!(["DELETE", "GET", ""].iter().all(|value| can_override(&map(&[(name, value)]), "")), "{name}");
        }
        for query in ["_method", "a&_METHOD", "%5Fmethod&a=b", "_method=", "a=b&_METHOD=get", ".method=PUT"] {
            assert!(can_override(&map(&[]), query), "{query}");
        }
        for query in ["", "method=PUT", "method", "_methods", "a=_method"] {
            assert!(!can_override(&map(&[("x-http-methods", "PUT"), ("accept", "a")]), query), "{query}");
        }
    }

    #[test]
    fn a_header_that_asks_for_another_target_is_found() {
        let path = Path::parse("/login").unwrap();
        let found = |headers: &[(&str, &str)]| rewrites(&map(headers), &path, "a=b");
        for name in ["X-Original-URL", "x_rewrite_url", "X-Original-URI", "x_original_uri", "X-Forwarded-Uri"] {
            for other in ["/admin", "/login", "/login?a=c", "/login?a=b&c", "/login/x?a=b", "*", "/login%2Fx?a=b"] {
                assert!(found(&[(name, other)]), "{name} {other}");
            }
            // Some proxies name the target of the request there.
            let own = ["/login?a=b", "/login/?a=b", "https://shop.example.com/login?a=b", ""];
            assert!(own.iter().all(|own| !found(&[(name, own)])), "{name}");
        }
        assert!(found(&[("x-original-url", "/login?a=b"), ("x-rewrite-url", "/admin")]));
        assert!(
            found(&[("x-forwarded-uri", "/login?a=b"), ("x-original-uri", "/admin")]),
            "the proxy names another one"
        );
        assert!(!found(&[("x-original-path", "/admin"), ("accept", "a")]));
        for name in ["Script-Name", "SCRIPT_NAME", "X-Script-Name", "path_info"] {
            assert!(found(&[(name, "/login")]), "{name} takes a part off the path");
            assert!(!found(&[(name, "")]), "{name}");
        }
    }

    #[test]
    fn a_header_that_asks_for_another_target_and_that_no_proxy_removes_is_found() {
        let path = Path::parse("/login").unwrap();
        let found = |headers: &[(&str, &str)]| passed_on_rewrite(&map(headers), &path, "").map(str::to_owned);
        let exact = REWRITES.map(|name| (name, "/admin"));
        assert_eq!(found(&exact), None);
        for name in ["script-name", "script_name", "x.script-name", "path-info", "x.original-url", "x_rewrite_url"] {
            assert_eq!(found(&[&exact[..], &[(name, "/admin")]].concat()).as_deref(), Some(name));
            assert_eq!(found(&[(name, "")]), None, "{name}");
        }
        assert_eq!(found(&[("x_rewrite_url", "/login")]), None, "it names the target of the request");
    }

    #[test]
    fn a_header_that_names_another_method_is_found() {
        let found = |headers: &[(&str, &str)]| names_another_method(&map(headers), "GET");
        for name in ["X-Original-Method", "x_original_method", "X-Forwarded-Method", "x-forwarded_method"] {
            assert!(["DELETE", "HEAD", "get", "GET, DELETE"].iter().all(|other| found(&[(name, other)])), "{name}");
            assert!(!["GET", ""].iter().any(|own| found(&[(name, own)])), "{name}");
        }
        assert!(
            found(&[("x-forwarded-method", "GET"), ("x-original-method", "DELETE")]),
            "the proxy names another one"
        );
        assert!(!found(&[("x-original-methods", "DELETE"), ("accept", "a")]));
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        #[test]
        fn no_query_panics(query in "(_method|[=&;+.%]|%[0-9a-f]{2}|.){0,20}") {
            let _ = overriding(&HeaderMap::new(), &query, "GET");
        }
    }
}
