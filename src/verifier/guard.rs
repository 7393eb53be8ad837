//! Tests that this verifier cannot write records. A process that can write a digest can mint a token.
//!
//! The permission to write `status.use` is a permission to write the whole status. Only the admission policies restrict
//! the verifier to `status.use`. So the verifier regularly tries to write a record, as a dry run. It is not ready while
//! the API server would accept that write.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use super::{Door, known::Known};
use crate::outside::{Extent, Why, Writer};

/// The interval between two tests. There is no event when policies or permissions change, so the test is repeated. Each
/// test adds a refused request to the API server's audit log, so the test is rare.
const EVERY: Duration = Duration::from_mins(10);
/// The interval while the write would be accepted. It is short, because the policies may be installed soon.
const UNGUARDED: Duration = Duration::from_secs(10);
/// The interval while there is no result, for example because no token exists to test with.
const SOON: Duration = Duration::from_secs(1);

/// The reason why this verifier is not ready while its write would be accepted.
pub(crate) const MISSING: &str = "AdmissionMissing: this verifier could write records, and so mint tokens; install the \
     admission policies (chart value admission.enabled, or tokenry admission), or remove its permission to patch \
     apitokens/status";

/// Repeats the test forever, with a token of each namespace of the scope, and tells the door its result. Each namespace
/// may have other permissions and policies. In the scope of all namespaces, it is one token of any of them.
pub(crate) async fn watch(known: Arc<Known>, door: Arc<Door>, writer: Writer, scope: Extent) {
    loop {
        let tokens = scope.namespaces().into_iter().filter_map(|namespace| known.any_token(namespace));
        let tests = tokens.map(async |token| {
            let answer = writer.forge(&token.namespace, &token.name).await;
            verdict(answer.map_err(|refusal| refusal.why))
        });
        let found = together(&join_all(tests).await);
        found.into_iter().for_each(|guarded| door.set_guarded(guarded));
        let wait = match found {
            Some(true) => EVERY,
            Some(false) => UNGUARDED,
            None => SOON,
        };
        tokio::time::sleep(wait).await;
    }
}

/// The result of several tests. One write that would be accepted is enough.
fn together(found: &[Option<bool>]) -> Option<bool> {
    if found.contains(&Some(false)) {
        return Some(false);
    }
    (!found.is_empty() && !found.contains(&None)).then_some(true)
}

/// True if the write was refused, false if it would be accepted. `None` if the answer does not show either.
fn verdict(answer: Result<(), Why>) -> Option<bool> {
    match answer {
        Ok(()) => Some(false),
        Err(Why::Forbidden(_) | Why::Invalid(_)) => Some(true),
        Err(Why::Stale | Why::Gone | Why::Unauthenticated(_) | Why::Unavailable(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_namespace_without_a_guard_is_enough_to_be_unguarded() {
        for (found, all) in [
            (&[][..], None),
            (&[Some(true)], Some(true)),
            (&[Some(true), Some(false)], Some(false)),
            (&[None, Some(false)], Some(false)),
            (&[Some(true), None], None),
        ] {
            assert_eq!(together(found), all, "{found:?}");
        }
    }

    #[test]
    fn only_a_refusal_says_that_it_is_guarded() {
        assert_eq!(verdict(Ok(())), Some(false));
        assert_eq!(verdict(Err(Why::Forbidden(String::new()))), Some(true));
        assert_eq!(verdict(Err(Why::Gone)), None);
        assert_eq!(verdict(Err(Why::Unauthenticated(String::new()))), None, "no policy has judged the write");
        assert_eq!(verdict(Err(Why::Unavailable(String::new()))), None);
    }
}
