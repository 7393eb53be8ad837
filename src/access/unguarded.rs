//! Decides if a request without a token is let through unjudged (`spec.api.unguarded`).
//!
//! Such a request reaches the API without any identity. So it counts only if every server reads it in the same way, and
//! as the entry has it. Any doubt means that the request is judged.

use super::{
    action::Target,
    header,
    rules::{Request, Rules, forms},
};
use crate::crd::{Fault, permission::Unguarded};

/// The reason why a request is judged, although the Instance may let others through unjudged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Guarded {
    /// The path cannot be normalised, or the proxy did not name path and method.
    #[error("its method or path is not known, or the path cannot be normalised")]
    Unknown,
    /// No entry covers the request.
    #[error("no entry of spec.api.unguarded covers it, letter for letter")]
    Uncovered,
    /// Some servers read the path differently.
    #[error("some servers read its path as another one")]
    Ambiguous,
    /// A header or the query can ask for another method or path.
    #[error("a header or its query can ask for another method or path")]
    Overriding,
    /// Some servers confuse a header with an identity header, or with one that names the organization or project.
    #[error("some servers confuse one of its headers with another one")]
    LookAlike,
}

impl Rules {
    /// Checks that a request without a token is let through unjudged. The caller checks that it carries no token.
    ///
    /// # Errors
    /// The request is judged. The error is the first reason.
    pub fn unguarded(&self, request: &Request<'_>) -> Result<(), Guarded> {
        if self.unguarded.is_empty() {
            return Err(Guarded::Uncovered);
        }
        let path = request.path.as_ref().filter(|_| !request.method.is_empty()).ok_or(Guarded::Unknown)?;
        // Some servers do not undo percent-encoding before they match a path.
        let readings = [path.read(), path.written()];
        let covers = |target: &Target| readings.iter().all(|reading| target.covers_exactly(request.method, reading));
        if !self.unguarded.iter().any(covers) {
            return Err(Guarded::Uncovered);
        }
        if path.others().any(|other| other != path.read()) {
            return Err(Guarded::Ambiguous);
        }
        let (headers, query) = (request.headers, request.query);
        let renamed = header::names_another_method(headers, request.method) || header::rewrites(headers, path, query);
        if renamed || header::can_override(headers, query) {
            return Err(Guarded::Overriding);
        }
        if self.look_alike(request).is_some() { Err(Guarded::LookAlike) } else { Ok(()) }
    }
}

/// Adds the faults of `spec.api.unguarded`.
pub(super) fn check(entries: &[Unguarded], faults: &mut Vec<Fault>) {
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("spec.api.unguarded[{index}]");
        forms(&entry.methods, &format!("{path}.methods"), faults);
        forms(&entry.paths, &format!("{path}.paths"), faults);
        if entry.is_everything() {
            faults.push(Fault::invalid(path, Unguarded::RULE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Path, properties::world};
    use http::{HeaderMap, HeaderName};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn rules(api: Value) -> Rules {
        world(&json!({ "api": api }), &json!([]), &json!({}), &json!({})).rules
    }

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn asked(rules: &Rules, method: &str, target: &str, headers: &[(&str, &str)]) -> Result<(), Guarded> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        rules.unguarded(&Request { method, path: Path::parse(path).ok(), query, headers: &map(headers) })
    }

    #[test]
    fn only_a_request_that_every_server_reads_alike_is_let_through_unjudged() {
        let unguarded = json!([{"paths": ["/login/**", "/users/*/photo"]}, {"methods": ["GET"], "paths": ["/health"]}]);
        let rules = rules(json!({"unguarded": unguarded, "organizationFrom": {"header": "X-Organization"}}));
        let ground = |method, target| asked(&rules, method, target, &[]);
        for (method, target) in [
            ("POST", "/login"),
            ("ODD", "/login/callback/?code=a%2Fb"),
            ("GET", "/users/a.b/photo"),
            ("GET", "/health"),
            ("HEAD", "/health"),
            ("GET", "/login/gr%C3%BCn"),
            ("GET", "/users/%61/photo"),
            ("GET", "https://shop.example.com/login"),
        ] {
            assert_eq!(ground(method, target), Ok(()), "{method} {target}");
        }
        for (method, target, why) in [
            ("POST", "/health", Guarded::Uncovered),
            ("get", "/health", Guarded::Uncovered),
            ("GET", "/LOGIN", Guarded::Uncovered),
            ("GET", "/%6Cogin", Guarded::Uncovered),
            ("GET", "/users/a/phot%6F", Guarded::Uncovered),
            ("GET", "/users/a/b/photo", Guarded::Uncovered),
            ("GET", "/", Guarded::Uncovered),
            ("", "/login", Guarded::Unknown),
            ("GET", "/login/../orders", Guarded::Unknown),
            ("GET", "/login;a/x", Guarded::Unknown),
            ("GET", "*", Guarded::Unknown),
            ("GET", "//login", Guarded::Ambiguous),
            ("GET", "/login//x", Guarded::Ambiguous),
            ("GET", "/login/x.", Guarded::Ambiguous),
            ("GET", "/login/%20x", Guarded::Ambiguous),
            ("GET", "/login/adm%C4%B1n", Guarded::Ambiguous),
            ("GET", "/users/a%2Fb/photo", Guarded::Ambiguous),
            ("GET", "/login?_method=GET", Guarded::Overriding),
            ("POST", "/login?_method", Guarded::Overriding),
        ] {
            assert_eq!(ground(method, target), Err(why), "{method} {target}");
        }
    }

    #[test]
    fn a_header_that_can_change_the_request_or_who_makes_it_means_that_it_is_judged() {
        let api = json!({"unguarded": [{"paths": ["/login"]}], "organizationFrom": {"header": "X-Organization"}});
        let rules = rules(api);
        for (name, value, why) in [
            ("x-http-method-override", "GET", Guarded::Overriding),
            ("x_http_method", "", Guarded::Overriding),
            ("x-original-url", "/orders", Guarded::Overriding),
            ("x-original-uri", "/orders", Guarded::Overriding),
            ("x_forwarded_uri", "/orders", Guarded::Overriding),
            ("x-original-method", "DELETE", Guarded::Overriding),
            ("x_forwarded_method", "DELETE", Guarded::Overriding),
            ("x_tokenry_subject", "a", Guarded::LookAlike),
            ("x-forwarded_user", "a", Guarded::LookAlike),
            ("x_organization", "a", Guarded::LookAlike),
        ] {
            assert_eq!(asked(&rules, "GET", "/login", &[(name, value)]), Err(why), "{name}");
        }
        let harmless = [("x-tokenry-subject", "a"), ("x-organization", "a"), ("x-original-url", "https://a.b/login")];
        assert_eq!(asked(&rules, "GET", "/login", &harmless), Ok(()), "the proxy overwrites identity headers");
        let usual = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/login?a=b"), ("x-original-method", "GET")];
        assert_eq!(asked(&rules, "GET", "/login?a=b", &usual), Ok(()), "the proxy names the request itself");
    }

    #[test]
    fn without_an_entry_every_request_is_judged_and_options_can_be_open_everywhere() {
        let none = rules(json!({}));
        assert_eq!(asked(&none, "GET", "/login", &[]), Err(Guarded::Uncovered));
        let preflight = rules(json!({"unguarded": [{"methods": ["OPTIONS"], "paths": ["/**"]}]}));
        assert_eq!(asked(&preflight, "OPTIONS", "/orders/1", &[]), Ok(()));
        assert_eq!(asked(&preflight, "GET", "/orders/1", &[]), Err(Guarded::Uncovered));
    }

    proptest! {
        #![proptest_config(crate::token::cases::so_many(2048))]

        #[test]
        fn what_is_let_through_has_one_reading_that_an_entry_covers(
            target in "(/|%2[fFeE5]|%6[1c]|[.]{1,2}|[a-bA-B%; é．]|//|login){0,8}", method in "GET|HEAD|POST|get",
            name in "x[-_]http[-_]method|x-original-ur[li]|x-(original|forwarded)-method|x[-_]tokenry[-_]role|accept",
            value in "GET|/a|",
        ) {
            let rules = rules(json!({"unguarded": [{"methods": ["GET"], "paths": ["/a/**", "/login/*"]}]}));
            if asked(&rules, &method, &target, &[(&name, &value)]).is_err() {
                return Ok(());
            }
            let path = Path::parse(&target).unwrap();
            prop_assert!(path.others().all(|other| other == path.read()) && path.splitting().is_empty(), "{}", target);
            let first = target.split('/').find(|segment| !segment.is_empty()).unwrap_or_default();
            prop_assert!(["a", "login"].contains(&first), "{}", target);
            let written = path.to_string();
            prop_assert!(written == "/a" || written.starts_with("/a/") || written.starts_with("/login/"), "{}", target);
            prop_assert!(["GET", "HEAD"].contains(&&*method), "{}", method);
            let is_target = name.starts_with("x-original-ur");
            let is_method = ["x-original-method", "x-forwarded-method"].contains(&&*name);
            let harmless = name == "accept" || name == "x-tokenry-role" || (is_target || is_method) && value.is_empty();
            let own = is_target && value == "/a" && written == "/a" || is_method && value == method;
            prop_assert!(harmless || own, "{} {}", name, value);
        }
    }
}
