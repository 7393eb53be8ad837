//! The audit log: one line for every decision.

use http::Uri;

use super::{Asking, Cause, Verdict, index::Key};
use crate::outside::foreign::written;

/// The longest path in an audit line, in bytes. A longer path is cut.
const MAX_PATH: usize = 1024;
/// The longest method in an audit line, in bytes.
const MAX_METHOD: usize = 32;
/// The longest namespace or object name in an audit line, in bytes.
const MAX_NAME: usize = 253;
/// The longest owner in an audit line, in bytes.
const MAX_OWNER: usize = 512;

/// The path of a URI, or of a path with a query. The query is left out, because it may hold secrets.
fn path(uri: &str) -> String {
    let whole = uri.parse::<Uri>().map_or_else(|_| uri.to_owned(), |uri| uri.path().to_owned());
    whole.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn pair(key: &Key) -> String {
    format!("{}/{}", written(&key.namespace, MAX_NAME), written(&key.name, MAX_NAME))
}

/// Writes the audit line of one decision. A request that tests a guard is no decision about a caller, and comes again
/// and again, so its line has the level `debug`.
pub(crate) fn write(asking: &Asking<'_>, verdict: &Verdict) {
    if verdict.cause == Cause::Probe {
        let (instance, reason) = (&asking.instance, verdict.cause.as_str());
        tracing::debug!(target: "tokenry::audit", instance = pair(instance), status = 401, reason, "decided");
        return;
    }
    let (identity, request) = (verdict.identity.as_ref(), asking.request.as_ref());
    let owner = identity.and_then(|identity| identity.owner.as_deref());
    let (method, target) = request.map_or((None, None), |wanted| (wanted.method, wanted.target));
    tracing::info!(
        target: "tokenry::audit",
        account = identity.map_or("", |identity| &identity.subject),
        token = identity.map_or_else(String::new, |identity| pair(&identity.token)),
        token_id = identity.map_or("", |identity| &identity.id),
        owner = written(owner.unwrap_or_default(), MAX_OWNER),
        role = identity.and_then(|identity| identity.role.as_deref()).unwrap_or_default(),
        instance = pair(&asking.instance),
        method = written(method.unwrap_or_default(), MAX_METHOD),
        path = written(&path(target.unwrap_or_default()), MAX_PATH),
        status = verdict.cause.category().code(),
        reason = verdict.cause.as_str(),
        "decided"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::format;

    fn told(target: &str) -> String {
        written(&path(target), MAX_PATH)
    }

    #[test]
    fn a_path_is_written_without_host_and_query() {
        assert_eq!(told("/eem/topics?key=1"), "/eem/topics");
        assert_eq!(told("https://a.example.com/x?y"), "/x");
    }

    #[test]
    fn a_token_in_a_path_and_a_query_that_is_no_uri_stay_out() {
        let token = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        for target in [token.expose().to_owned(), token.expose().replace('_', "%5F")] {
            assert_eq!(told(&format!("/x/{target}")), "/x/[token]");
        }
        assert!(!written(token.expose(), MAX_METHOD).contains('s'));
        assert_eq!(told("/a b?secret"), "/a b");
    }

    #[test]
    fn a_long_path_is_cut() {
        assert_eq!(told(&format!("/{}", "x".repeat(5000))).len(), MAX_PATH);
    }
}
