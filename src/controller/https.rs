//! Finds out which guards can ask the verifier by HTTPS, so that none goes over to it too early. Passes over Instances
//! read the result.
//!
//! ```text
//! ConfigMap with the CA ─▶ a handshake with the verifier succeeds ─┐
//! Secret with that CA in the namespace of a guard of Traefik ──────┼▶ the guard goes over to HTTPS
//! BackendTLSPolicy of the verifier, for the guards of Gateways ────┘
//! ```

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::{sync::watch, time::sleep};

use super::{Caches, Rooms};
use crate::{
    crd::{endpoint::Guard, instance::Scheme, secret::CA},
    exposure::{
        HttpsPort, VerifierService,
        https::HttpsNeeds,
        loose::{AlphaBackendTlsPolicy, BackendTlsPolicy},
    },
    outside::{Clock, Reader, Refusal, clock::jumps, greeting::greets},
};

/// Interval of the looks.
const LOOK: Duration = Duration::from_secs(2);
/// Number of looks from one read of objects to the next.
const READ: u32 = 5;
/// Number of looks at the beginning that read each time, while the verifier does not answer. It takes five minutes.
const EAGER: u32 = 150;
/// Maximum number of Secrets that one look reads.
const MOST: usize = 50;

/// The state of everything that guards by HTTPS need, in all namespaces.
#[derive(Default)]
pub struct ByHttps {
    seen: watch::Sender<HttpsSeen>,
}

/// The findings of the lookout, as in [`HttpsNeeds`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct HttpsSeen {
    reached: Result<(), String>,
    /// The namespaces with the Secret of the CA.
    supplied: BTreeSet<String>,
    has_policy: Option<bool>,
}

impl Default for HttpsSeen {
    fn default() -> Self {
        Self { reached: Err("it was not tried".to_owned()), supplied: BTreeSet::new(), has_policy: None }
    }
}

impl ByHttps {
    /// The state for an Instance in `namespace`.
    pub fn needs(&self, namespace: &str) -> HttpsNeeds {
        let HttpsSeen { reached, supplied, has_policy } = &*self.seen.borrow();
        HttpsNeeds { reached: reached.clone(), has_secret: supplied.contains(namespace), has_policy: *has_policy }
    }

    /// A stream with one item for each change.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        let heard = self.seen.subscribe();
        stream::unfold(heard, async |mut heard| heard.changed().await.ok().map(|()| ((), heard)))
    }

    fn tell(&self, seen: &HttpsSeen) {
        self.seen.send_if_modified(|before| {
            let is_news = before != seen;
            before.clone_from(seen);
            is_news
        });
    }
}

/// Looks at everything that guards by HTTPS need.
pub struct Lookout {
    verifier: VerifierService,
    https: HttpsPort,
    caches: Arc<Caches>,
    reader: Reader,
    clock: Arc<dyn Clock>,
    by_https: Arc<ByHttps>,
}

impl Lookout {
    /// The lookout of an operator. `None` if its guards have no choice.
    pub fn of(rooms: &Rooms) -> Option<Self> {
        let verifier = rooms.exposure.verifier.clone().filter(|verifier| verifier.first() == Some(Scheme::Http))?;
        Some(Self {
            https: verifier.https.clone()?,
            verifier,
            caches: rooms.caches.clone(),
            reader: rooms.reader.clone(),
            clock: rooms.clock.clone(),
            by_https: rooms.by_https.clone(),
        })
    }

    /// Looks for ever.
    pub async fn keep(self) {
        let mut jumps = Box::pin(jumps(self.clock.clone()));
        let (mut seen, mut said, mut looks) = (HttpsSeen::default(), None, 0_u32);
        loop {
            let why = self.look(&mut seen, looks).await.err().map(|refusal| refusal.to_string());
            if let Some(why) = why.as_ref().filter(|_| why != said) {
                tracing::warn!(why, "cannot find out which guards can ask the verifier by HTTPS, trying again");
            }
            said = why;
            self.by_https.tell(&seen);
            looks = looks.wrapping_add(1);
            tokio::select! {
                () = sleep(LOOK) => {}
                _ = jumps.next() => looks = 0,
            }
        }
    }

    /// One look. An error leaves the rest as it was seen before.
    async fn look(&self, seen: &mut HttpsSeen, looks: u32) -> Result<(), Refusal> {
        let by_policy = !self.guarded(&[Guard::EnvoyGateway, Guard::ExternalAuth]).is_empty();
        // Guards that need no policy go on if it cannot be read.
        let mut policy = Ok(());
        if by_policy && looks.is_multiple_of(READ) {
            policy = self.has_policy().await.map(|has| seen.has_policy = Some(has));
        }
        let by_secret = self.guarded(&[Guard::Traefik]);
        seen.supplied.retain(|namespace| by_secret.contains(namespace));
        let unsupplied: Vec<_> = by_secret.difference(&seen.supplied).take(MOST).cloned().collect();
        let is_asked = by_policy || !by_secret.is_empty();
        let waits = !unsupplied.is_empty() || (is_asked && seen.reached.is_err());
        let reads = looks.is_multiple_of(READ) || (seen.reached.is_err() && looks < EAGER);
        if !(waits && reads) {
            return policy;
        }
        let Some(bundle) = self.bundle().await? else {
            seen.reached = Err(format!("ConfigMap {}/{} has no {CA}", self.verifier.namespace, self.https.ca));
            return policy;
        };
        // One answer is enough, because a guard does not go back.
        if seen.reached.is_err() {
            seen.reached = self.reach(&bundle).await;
        }
        for namespace in unsupplied {
            if self.is_supplied(&namespace, &bundle).await? {
                seen.supplied.insert(namespace);
            }
        }
        policy
    }

    /// The namespaces with an endpoint that one of these guards guards.
    fn guarded(&self, guards: &[Guard]) -> BTreeSet<String> {
        let instances = &self.caches.instances;
        let is_one = |guard: Option<Guard>| guard.is_some_and(|guard| guards.contains(&guard));
        let is_guarded = |namespace: &str, name: &str| {
            let instance = instances.get(namespace, name);
            instance.is_some_and(|it| it.endpoints().any(|endpoint| is_one(endpoint.guarding())))
        };
        let all = instances.all_names().into_iter().filter_map(|name| Some((name.namespace?, name.name)));
        all.filter(|(namespace, name)| is_guarded(namespace, name)).map(|(namespace, _)| namespace).collect()
    }

    /// True if the Service of the verifier has its BackendTLSPolicy, in any version.
    async fn has_policy(&self) -> Result<bool, Refusal> {
        let VerifierService { namespace, name, .. } = &self.verifier;
        let is_there = self.reader.recent::<BackendTlsPolicy>(namespace, name).await?.is_some();
        Ok(is_there || self.reader.recent::<AlphaBackendTlsPolicy>(namespace, name).await?.is_some())
    }

    /// The certificates that guards trust. `None` before there are any.
    async fn bundle(&self) -> Result<Option<String>, Refusal> {
        let found = self.reader.recent::<ConfigMap>(&self.verifier.namespace, &self.https.ca).await?;
        Ok(found.and_then(|found| found.data?.remove(CA)))
    }

    /// Tries the verifier at the address that guards ask.
    async fn reach(&self, bundle: &str) -> Result<(), String> {
        match self.verifier.at(Scheme::Https) {
            Some(port) => greets(&port.authority(), bundle).await,
            None => Ok(()),
        }
    }

    /// True if the Secret in this namespace has these certificates. It may have more.
    async fn is_supplied(&self, namespace: &str, bundle: &str) -> Result<bool, Refusal> {
        let found = self.reader.authority(namespace, &self.https.ca_secret).await?;
        let ca = found.and_then(|found| found.ca()).unwrap_or_default();
        Ok(String::from_utf8_lossy(&ca).contains(bundle.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn passes_hear_of_each_change_and_a_namespace_knows_its_own_secret_alone() {
        let (by_https, mut seen) = (ByHttps::default(), HttpsSeen::default());
        let mut changes = Box::pin(by_https.changes());
        by_https.tell(&seen);
        assert_eq!(changes.next().now_or_never(), None, "nothing has changed");
        let before = by_https.needs("a");
        assert_eq!((before.reached.is_err(), before.has_secret, before.has_policy), (true, false, None));
        seen.supplied.insert("a".to_owned());
        by_https.tell(&seen);
        assert_eq!(changes.next().now_or_never(), Some(Some(())));
        assert_eq!(["a", "b"].map(|namespace| by_https.needs(namespace).has_secret), [true, false]);
    }
}
