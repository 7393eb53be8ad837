//! What a caller asks for, as far as the proxy says.

use http::{HeaderMap, Method};

use crate::access::{Path, Request};

/// Where a proxy says what the caller asked for: Traefik and Caddy, and nginx as the README sets it up.
const METHOD: &str = "x-forwarded-method";
const URI: &str = "x-forwarded-uri";

/// What a caller asks for. Where a proxy does not say it clearly, it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: Option<String>,
    /// The target: a path with its query, or a whole URI.
    pub target: Option<String>,
}

impl Asked {
    /// From the request of a proxy. `appended` is the caller's path and query where the proxy, as Envoy does, appends them to
    /// the path and takes the caller's method; then headers, which a caller may have sent itself, say nothing.
    pub fn of(headers: &HeaderMap, method: &Method, appended: Option<&str>) -> Self {
        match appended {
            Some(path) => Self { method: Some(method.to_string()), target: Some(path.to_owned()) },
            None => Self { method: only(headers, METHOD), target: only(headers, URI) },
        }
    }

    /// As access sees it.
    pub fn request<'a>(&'a self, headers: &'a HeaderMap) -> Request<'a> {
        let known = self.method.as_deref().zip(self.target.as_deref());
        let path = known.and_then(|(_, target)| Path::parse(target).ok());
        let query = self.target.as_deref().and_then(|target| target.split_once('?')).map_or("", |(_, query)| query);
        Request { method: self.method.as_deref().unwrap_or_default(), path, query, headers }
    }
}

/// The one value of a header; nothing where there are several or it is not ASCII.
fn only(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&'static str, &str)], appended: Option<&str>) -> (Option<String>, Option<String>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let asked = Asked::of(&map, &Method::GET, appended);
        (asked.method, asked.target)
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
}
