//! Whether users can make tokens yet, and whether anything stamps who makes them.
//!
//! What stamps a token waits for the API server's own list of kinds, which it looks at every five seconds: for so long
//! after the definitions came, and after the server began, whoever makes or changes a token is refused with 503. The
//! operator is exempt from stamps. So it tries to make an account, without any effect. A policy that marks what is
//! tried is held up just as long, and the operator is not ready until then: `helm install --wait` returns when tokens
//! can be applied. An account that comes back without the mark says that nothing stamps.

use std::{sync::Mutex, time::Duration};

use futures::{Stream, stream};
use tokio::sync::watch;

use super::Caches;
use crate::outside::{Refusal, Why, Writer, metrics::Metrics};

/// How soon it is tried again while the API server cannot stamp yet.
const SOON: Duration = Duration::from_millis(500);
/// How soon after it was seen that nothing stamps: policies are in force some moments after they were installed.
const DOUBTED: Duration = Duration::from_secs(5);
/// How soon after that was seen twice, or nothing was answered.
const MISSING: Duration = Duration::from_secs(20);
/// For how long what was seen goes into statuses.
const FRESH: Duration = Duration::from_secs(10);
/// How soon after it was seen that they are stamped.
const FOUND: Duration = Duration::from_secs(5 * 60);

/// What is known of it.
pub struct Stamping {
    answered: Mutex<Result<(), String>>,
    /// Whether tokens are stamped; nothing but for some seconds after it was looked at. Of several operators none then
    /// undoes by what it saw long ago what another has just said.
    stamped: watch::Sender<Option<bool>>,
}

impl Default for Stamping {
    fn default() -> Self {
        Self { answered: Mutex::new(Err(held_up("not asked yet"))), stamped: watch::Sender::default() }
    }
}

impl Stamping {
    /// What is still missing before tokens can be made, if anything is.
    ///
    /// # Errors
    /// The API server cannot stamp yet; what it said.
    pub fn missing(&self) -> Result<(), String> {
        self.answered.lock().expect("nobody panics here").clone()
    }

    /// Whether tokens are stamped, where that was just seen.
    pub fn seen(&self) -> Option<bool> {
        *self.stamped.borrow()
    }

    /// Tells whenever it was seen.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        let heard = self.stamped.subscribe();
        stream::unfold(heard, async |mut heard| heard.changed().await.ok().map(|()| ((), heard)))
    }

    /// Tries it in `namespace` once the definitions are there: until it is answered, and then from time to time, as
    /// policies can be installed and removed at any time.
    pub async fn watched(&self, caches: &Caches, writer: &Writer, metrics: &Metrics, namespace: &str) {
        caches.synced().await;
        let (mut seen, mut said) = (None, None);
        loop {
            let pause = match writer.rehearse(namespace).await {
                Err(Refusal { why: Why::Unavailable(why), .. }) => self.unanswered(&why),
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

    /// The API server cannot stamp yet, or is away. Once ready, an operator stays so.
    fn unanswered(&self, why: &str) -> Duration {
        tracing::debug!(%why, "the API server cannot stamp tokens now");
        let mut answered = self.answered.lock().expect("nobody panics here");
        if answered.is_ok() {
            return MISSING;
        }
        *answered = Err(held_up(why));
        SOON
    }

    /// Says once what has come to be otherwise. Any other refusal leaves it open: only users' tokens are held up, and
    /// their makers are told why.
    async fn told(&self, seen: Option<bool>, said: &mut Option<bool>, metrics: &Metrics) -> Duration {
        let Some(stamped) = seen else { return FOUND };
        metrics.stamped(stamped);
        let news = said.replace(stamped) != seen;
        if news && stamped {
            tracing::info!("the API server stamps who makes a token");
        } else if news {
            tracing::warn!(
                "nothing stamps who makes a token: install the chart with admission.stamps=auto or always on Kubernetes 1.36 or newer"
            );
        }
        self.stamped.send_replace(seen);
        tokio::time::sleep(FRESH).await;
        // Nobody has to hear of that.
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
