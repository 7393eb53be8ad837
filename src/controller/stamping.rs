//! Whether users can make tokens yet.
//!
//! What stamps a token waits for the API server's own list of kinds, which it looks at every five seconds: for so long after the
//! definitions came, and after the server began, whoever makes or changes a token is refused with 503. The operator is exempt
//! from stamps. So it tries to make an account, without any effect, which a policy that changes nothing holds up just as long,
//! and is not ready until then: `helm install --wait` returns when tokens can be applied.

use std::{sync::Mutex, time::Duration};

use super::Caches;
use crate::outside::{Refusal, Writer};

/// How soon it is tried again.
const SOON: Duration = Duration::from_millis(500);

/// What is known of it.
pub struct Stamping(Mutex<Result<(), String>>);

impl Default for Stamping {
    fn default() -> Self {
        Self(Mutex::new(Err(held_up("not asked yet"))))
    }
}

impl Stamping {
    /// What is still missing, if anything is.
    ///
    /// # Errors
    /// The API server cannot stamp yet; what it said.
    pub fn missing(&self) -> Result<(), String> {
        self.0.lock().unwrap().clone()
    }

    /// Tries it in `namespace` until it is answered, once the definitions are there. Any other refusal is an answer: only
    /// users' tokens are held up, and their makers are told why.
    pub async fn awaited(&self, caches: &Caches, writer: &Writer, namespace: &str) {
        caches.synced().await;
        while let Err(Refusal::Unavailable(why)) = writer.rehearse(namespace).await {
            tracing::debug!(%why, "the API server cannot stamp tokens yet");
            *self.0.lock().unwrap() = Err(held_up(&why));
            tokio::time::sleep(SOON).await;
        }
        *self.0.lock().unwrap() = Ok(());
    }
}

fn held_up(why: &str) -> String {
    format!("waiting until the API server can stamp tokens: {why}")
}
