//! Decides if a request is let through unjudged, without any identity (`spec.api.unguarded` of its Instance).

use super::{
    Cause, Credential, Verdict,
    index::{Index, InstanceEntry, Key},
};
use crate::{
    access::{Guarded, Request, Step},
    token::format,
};

/// The reason why a request is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WhyJudged {
    /// The Instance lets nobody in: it does not exist, is being deleted, is disabled, or has faults.
    #[error("its endpoint is disabled, or the Instance is being deleted or has faults")]
    Closed,
    /// The Instance judges every such request.
    #[error(transparent)]
    Guarded(#[from] Guarded),
    /// The request carries a token, or may carry one.
    #[error("it may carry a token")]
    Token,
}

/// Checks that an Instance lets `request` through unjudged. `credential` is that of the question.
///
/// # Errors
/// The request is judged. The error is the first reason.
pub(crate) fn unguarded<E>(
    instance: Option<&InstanceEntry>,
    request: &Request<'_>,
    credential: &Result<Credential<'_>, E>,
) -> Result<(), WhyJudged> {
    let entry = instance.filter(|entry| !entry.deleting && !entry.disabled).ok_or(WhyJudged::Closed)?;
    entry.rules.as_ref().map_err(|_| WhyJudged::Closed)?.unguarded(request)?;
    // The credential may be from elsewhere than a header.
    let presented = credential.as_ref().is_ok_and(|found| format::id(found.text()).is_ok());
    if presented || entry.places.may_hold_a_token(request.headers) { Err(WhyJudged::Token) } else { Ok(()) }
}

/// Explains the verdict on a `request` without a token, by the one check on the way to it.
pub(crate) fn explain(index: &Index, instance: &Key, request: &Request<'_>) -> (Verdict, Vec<Step>) {
    let judged = unguarded(index.instance(instance), request, &Err(Cause::Missing));
    let text = match judged {
        Ok(()) => "lets the request through unjudged, by spec.api.unguarded".to_owned(),
        Err(why) => format!("judges the request, because {why}"),
    };
    let step = Step { passed: judged.is_ok(), text, object: format!("Instance {}", instance.name) };
    (judged.map_or(Cause::Missing, |()| Cause::Unguarded).into(), vec![step])
}

/// The step of an explanation for a token, where a request without one would be let through unjudged.
pub(crate) fn step(index: &Index, instance: &Key, request: &Request<'_>) -> Option<Step> {
    unguarded(index.instance(instance), request, &Err(Cause::Missing)).ok()?;
    let text = "lets such a request through unjudged without a token (spec.api.unguarded), and judges one with a token";
    Some(Step { passed: true, text: text.into(), object: format!("Instance {}", instance.name) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Path, crd::Instance, verifier::protocol::proxied};
    use http::{HeaderMap, Method, Uri};
    use serde_json::{Value, json};

    /// An index of an Instance `a/eem`.
    fn with(spec: Value, metadata: Value) -> Index {
        let mut object =
            json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": metadata, "spec": spec});
        object["metadata"]["namespace"] = json!("a");
        object["metadata"]["name"] = json!("eem");
        let mut index = Index::default();
        index.apply::<Instance>(serde_json::from_value(object).unwrap());
        index
    }

    fn asked(spec: Value, metadata: Value) -> Result<(), WhyJudged> {
        let headers = HeaderMap::new();
        let request = Request { method: "GET", path: Path::parse("/login").ok(), query: "", headers: &headers };
        unguarded(with(spec, metadata).instance(&Key::new("a", "eem")), &request, &Err(Cause::Missing))
    }

    #[test]
    fn an_instance_that_lets_nobody_in_lets_nothing_through() {
        let api = json!({"unguarded": [{"paths": ["/login"]}]});
        let with = |key: &str, value: Value| json!({"api": api, key: value});
        assert_eq!(asked(json!({"api": api}), json!({})), Ok(()));
        assert_eq!(asked(json!({}), json!({})), Err(WhyJudged::Guarded(Guarded::Uncovered)));
        let disabled = json!({"service": {"name": "x"}, "endpoints": [{"name": "admin", "type": "disabled"}]});
        assert_eq!(asked(with("manager", disabled), json!({})), Err(WhyJudged::Closed));
        let faulty = json!([{"subject": "alice", "role": "admin"}]);
        assert_eq!(asked(with("members", faulty), json!({})), Err(WhyJudged::Closed));
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(asked(json!({"api": api}), going), Err(WhyJudged::Closed));
        let everything = json!({"unguarded": [{"paths": ["/login", "/**"]}]});
        assert_eq!(asked(json!({"api": everything}), json!({})), Err(WhyJudged::Closed), "a fault");
    }

    #[test]
    fn an_instance_that_is_not_known_and_a_credential_from_elsewhere_mean_that_it_is_judged() {
        let headers = HeaderMap::new();
        let request = Request { method: "GET", path: Path::parse("/login").ok(), query: "", headers: &headers };
        let eem = Key::new("a", "eem");
        assert_eq!(unguarded(None, &request, &Err(Cause::Missing)), Err(WhyJudged::Closed));
        let index = with(json!({"api": {"unguarded": [{"paths": ["/login"]}]}}), json!({}));
        let value = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        let presents =
            |text: &str| unguarded(index.instance(&eem), &request, &Ok::<_, Cause>(Credential::Written(text)));
        assert_eq!([presents(value.expose()), presents("made up")], [Err(WhyJudged::Token), Ok(())]);
    }

    #[test]
    fn a_slash_behind_authorize_opens_no_other_request_of_a_proxy_that_names_it_in_headers() {
        let asked = |api: Value, target: &'static str, headers: &[(&'static str, &'static str)]| {
            let index = with(json!({ "api": api }), json!({}));
            let mut map = HeaderMap::new();
            headers.iter().for_each(|&(name, value)| {
                map.append(name, value.parse().unwrap());
            });
            let uri = Uri::from_static(target);
            let (instance, appended) = proxied::target(&uri);
            // The proxy asks with a method of its own.
            let wanted = proxied::requested(&map, &Method::GET, appended);
            unguarded(index.instance(&instance), &wanted.request(), &Err(Cause::Missing))
        };
        let judged = Err(WhyJudged::Guarded(Guarded::Overriding));
        for api in
            [json!({"unguarded": [{"paths": ["/"]}]}), json!({"unguarded": [{"methods": ["GET"], "paths": ["/**"]}]})]
        {
            for headers in [
                [("x-forwarded-method", "DELETE"), ("x-forwarded-uri", "/orders")],
                [("x-forwarded-method", "DELETE"), ("x-forwarded-uri", "/")],
                [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/orders")],
                [("x-original-method", "DELETE"), ("x-original-url", "https://shop.example.com/orders")],
            ] {
                let slash = "/v1/instances/a/eem/authorize/";
                assert_eq!(asked(api.clone(), slash, &headers), judged, "{api} {headers:?}");
            }
            let usual = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/?a=b")];
            assert_eq!(asked(api.clone(), "/v1/instances/a/eem/authorize?a=b", &usual), Ok(()), "{api}");
            assert_eq!(asked(api.clone(), "/v1/instances/a/eem/authorize/?a=b", &[]), Ok(()), "{api}: it is appended");
        }
    }
}
