//! A regular check of two facts: users can create tokens, and the API server stamps the requester on them.
//!
//! A MutatingAdmissionPolicy stamps tokens. The API server can apply such a policy only once it knows the kind, and it
//! refreshes its list of kinds every five seconds. Until then it refuses each create and update of a token with 503.
//! This affects the first seconds after the CRDs are installed, and the first seconds after the API server starts.
//!
//! The operator's own writes would not show this, because the operator is exempt from stamps. So the operator creates
//! an account as a dry run. A separate policy marks this account, and the API server delays that policy in the same
//! way. The operator is not ready before the dry run is answered, so `helm install --wait` returns when users can apply
//! tokens. If the answer lacks the mark, nothing stamps tokens.

use std::{sync::Mutex, time::Duration};

use futures::{Stream, stream};
use tokio::sync::watch;

use super::Caches;
use crate::outside::{Refusal, Why, Writer, metrics::Metrics};

/// The pause before the next check while the API server cannot stamp yet.
const SOON: Duration = Duration::from_millis(500);
/// The pause after the first check that saw no stamp. Policies take effect some moments after their installation.
const DOUBTED: Duration = Duration::from_secs(5);
/// The pause after two checks in a row saw no stamp, or after a ready operator got no answer.
const MISSING: Duration = Duration::from_secs(20);
/// The time for which a result may be written into statuses.
const FRESH: Duration = Duration::from_secs(10);
/// The pause after a check that saw a stamp.
const FOUND: Duration = Duration::from_secs(5 * 60);

/// The result of the last check.
pub struct Stamping {
    answered: Mutex<Result<(), String>>,
    /// True if tokens are stamped; none except for some seconds after a check. So an operator with an old result cannot
    /// overwrite the newer result of another operator.
    stamped: watch::Sender<Option<bool>>,
}

impl Default for Stamping {
    fn default() -> Self {
        Self { answered: Mutex::new(Err(held_up("not asked yet"))), stamped: watch::Sender::default() }
    }
}

impl Stamping {
    /// Succeeds once users can create tokens.
    ///
    /// # Errors
    /// The API server cannot stamp yet. The text has the class of the API server's answer.
    pub fn missing(&self) -> Result<(), String> {
        self.answered.lock().expect("nobody panics here").clone()
    }

    /// True if tokens are stamped; none if the last check is too old.
    pub fn seen(&self) -> Option<bool> {
        *self.stamped.borrow()
    }

    /// A stream with one item for each fresh result.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        let heard = self.stamped.subscribe();
        stream::unfold(heard, async |mut heard| heard.changed().await.ok().map(|()| ((), heard)))
    }

    /// Runs the check in `namespace` for ever, from the moment the caches are synced. The check goes on after the first
    /// answer, because policies can be installed and removed at any time.
    pub async fn watched(&self, caches: &Caches, writer: &Writer, metrics: &Metrics, namespace: &str) {
        caches.synced().await;
        let (mut seen, mut said) = (None, None);
        loop {
            let pause = match writer.rehearse(namespace).await {
                Err(Refusal { why: why @ (Why::Unavailable(_) | Why::Unauthenticated(_)), .. }) => {
                    self.unanswered(&why)
                }
                answer => {
                    *self.answered.lock().expect("nobody panics here") = Ok(());
                    let before = std::mem::replace(&mut seen, answer.ok());
                    let certain = seen != Some(false) || before == seen;
                    if certain { self.told(seen, &mut said, metrics).await } else { DOUBTED }
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Handles a check without an answer: the API server cannot stamp yet, is away, or does not accept the credentials.
    /// A ready operator stays ready. The text for `/readyz` leaves out the API server's message, because it can name
    /// objects.
    fn unanswered(&self, why: &Why) -> Duration {
        let (mut answered, now) = (self.answered.lock().expect("nobody panics here"), Err(held_up(why.way())));
        if *answered == now || answered.is_ok() {
            tracing::debug!(%why, "the API server cannot stamp tokens now");
        } else {
            tracing::info!(%why, "the API server cannot stamp tokens yet; waiting");
        }
        if answered.is_ok() {
            return MISSING;
        }
        *answered = now;
        SOON
    }

    /// Logs a result that differs from the one before, and publishes it. After any other refusal the result is unknown
    /// and nothing is published: such a refusal affects users' tokens only, and users see it themselves.
    async fn told(&self, seen: Option<bool>, said: &mut Option<bool>, metrics: &Metrics) -> Duration {
        let Some(stamped) = seen else { return FOUND };
        metrics.stamped(stamped);
        let news = said.replace(stamped) != seen;
        if news && stamped {
            tracing::info!("the API server stamps the requester on each new token");
        } else if news {
            tracing::warn!(
                "nothing stamps the requester on tokens: install the chart with admission.stamps=auto or always on \
                 Kubernetes 1.36 or newer"
            );
        }
        self.stamped.send_replace(seen);
        tokio::time::sleep(FRESH).await;
        // The end of that time is no news for listeners.
        self.stamped.send_if_modified(|seen| {
            *seen = None;
            false
        });
        if stamped { FOUND } else { MISSING }
    }
}

fn held_up(why: &str) -> String {
    format!("waiting until the API server can stamp tokens: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_answer_nobody_is_ready_and_readyz_quotes_no_message() {
        let stamping = Stamping::default();
        for (why, way) in [
            (Why::Unavailable("webhook of events/ci".into()), "the API server is not available"),
            (Why::Unauthenticated("Unauthorized".into()), "unauthenticated"),
        ] {
            assert_eq!(stamping.unanswered(&why), SOON);
            assert_eq!(stamping.missing(), Err(format!("waiting until the API server can stamp tokens: {way}")));
        }
        *stamping.answered.lock().unwrap() = Ok(());
        assert_eq!(stamping.unanswered(&Why::Unauthenticated("Unauthorized".into())), MISSING);
        assert_eq!(stamping.missing(), Ok(()), "an operator that is ready stays ready");
    }
}
