//! Whether anything keeps this verifier from writing records: whoever can write a digest can mint.
//!
//! Its right to say when tokens were used is one to write their whole status; only the admission policies hold it to
//! its part. So it tries to write a record, without any effect, and is not ready while that would be done.

use std::{sync::Arc, time::Duration};

use super::{Door, known::Known};
use crate::outside::{Why, Writer};

/// How often it is tried: nobody tells when policies or rights change, and each try is a refused request in the API
/// server's audit log.
const EVERY: Duration = Duration::from_mins(10);
/// How soon again while it would be done: policies may have come.
const UNGUARDED: Duration = Duration::from_secs(10);
/// How soon again while there is no token to try it with.
const SOON: Duration = Duration::from_secs(1);

/// Why a verifier is not ready.
pub(crate) const MISSING: &str = "AdmissionMissing: this verifier could write records, and so mint; install the admission \
     policies (admission.enabled of the chart, or tokenry admission), or take its right to patch apitokens/status away";

/// Tries it now and then, for ever.
pub(crate) async fn watch(known: Arc<Known>, door: Arc<Door>, writer: Writer) {
    loop {
        let found = match known.any_token() {
            None => None,
            Some(token) => {
                let answer = writer.forge(&token.namespace, &token.name).await;
                verdict(answer.map_err(|refusal| refusal.why))
            }
        };
        found.into_iter().for_each(|guarded| door.set_guarded(guarded));
        let wait = match found {
            Some(true) => EVERY,
            Some(false) => UNGUARDED,
            None => SOON,
        };
        tokio::time::sleep(wait).await;
    }
}

/// Whether it was refused to do it; nothing where there is no telling.
fn verdict(answer: Result<(), Why>) -> Option<bool> {
    match answer {
        Ok(()) => Some(false),
        Err(Why::Forbidden(_) | Why::Invalid(_)) => Some(true),
        Err(Why::Stale | Why::Gone | Why::Unavailable(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_says_that_it_is_guarded() {
        assert_eq!(verdict(Ok(())), Some(false));
        assert_eq!(verdict(Err(Why::Forbidden(String::new()))), Some(true));
        assert_eq!(verdict(Err(Why::Gone)), None);
        assert_eq!(verdict(Err(Why::Unavailable(String::new()))), None);
    }
}
