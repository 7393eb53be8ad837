//! The certificates that Traefik trusts. It reads them from a Secret in the namespace of the Middleware alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use tokio::{sync::watch, time::sleep};

use super::{
    CertificateKeeper, Unkept,
    ledger::{Ledger, MOST},
    ownership::is_ours,
};
use crate::{
    crd::{
        EventName, Instance, Reason,
        endpoint::Guard,
        secret::{AUTHORITIES, CA},
    },
    outside::{
        Expected, Location, Refusal, Why,
        clock::jumps,
        events::{self, Note},
        issuer::share_a_certificate,
    },
};

/// Interval at which new namespaces are looked for.
const LOOK: Duration = Duration::from_secs(2);
/// Number of Secrets that are read and written at the same time.
const AT_ONCE: usize = 8;
/// Maximum number of failures of one look that are logged, each in a line. Further ones are counted.
const LOGGED: usize = 5;

/// A result: a namespace got the certificates, or cannot get them.
pub struct HandOut {
    pub(super) namespace: String,
    pub(super) is_given: bool,
}

/// True if Traefik guards an endpoint of this Instance.
pub(super) fn is_guarded(instance: &Instance) -> bool {
    instance.endpoints().any(|endpoint| endpoint.guarding() == Some(Guard::Traefik))
}

impl CertificateKeeper {
    /// Gives the certificates in `trusted` to each namespace that needs them, for ever.
    pub(super) async fn hand_out(&self, mut trusted: watch::Receiver<Option<Arc<str>>>) {
        let Some(name) = &self.ca_secret else { return std::future::pending().await };
        let (mut ledger, mut jumps) = (Ledger::default(), Box::pin(jumps(self.rooms.clock.clone())));
        loop {
            let bundle = trusted.borrow_and_update().clone();
            let is_full = match &bundle {
                Some(bundle) => self.look(name, bundle, &mut ledger).await,
                None => false,
            };
            if is_full {
                continue;
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                _ = jumps.next() => ledger.doubt(),
                Ok(()) = trusted.changed() => {}
            }
        }
    }

    /// Gives the certificates to the next namespaces. True if more namespaces wait.
    async fn look(&self, name: &str, bundle: &Arc<str>, ledger: &mut Ledger) -> bool {
        let guarded = self.guarded();
        let due = ledger.due(&guarded.keys().cloned().collect(), bundle);
        let is_full = due.len() == MOST;
        let hand = |namespace: String| async move {
            let handed = self.hand(&namespace, name, bundle).await;
            (namespace, handed)
        };
        let mut handing = stream::iter(due).map(hand).buffer_unordered(AT_ONCE);
        let mut failures = Vec::new();
        while let Some((namespace, handed)) = handing.next().await {
            // Another operator was faster. The next look reads again.
            if let Err(Unkept::Refused(Refusal { why: Why::Stale, .. })) = &handed {
                continue;
            }
            let given = handed.as_ref().map(|()| bundle.clone()).map_err(ToString::to_string);
            if !ledger.note(&namespace, given.clone()) {
                continue;
            }
            if let Err(why) = &handed {
                if let Unkept::ForeignTrust { .. } = why {
                    self.report(guarded.get(&namespace).into_iter().flatten(), why.to_string());
                }
                failures.push(why.to_string());
            }
            // Nobody receives it after the last Instance was served.
            let _ = self.results.send(HandOut { namespace, is_given: given.is_ok() });
        }
        log(&failures);
        is_full
    }

    /// Writes an Event about each of these Instances, which Traefik cannot guard by HTTPS.
    fn report<'a>(&self, instances: impl Iterator<Item = &'a Arc<Instance>>, why: String) {
        let note = Note::warning(EventName::EndpointBlocked, Reason::EndpointForeign, why);
        for instance in instances {
            self.rooms.events.publish(&note, &events::reference(&**instance));
        }
    }

    /// The namespaces with an endpoint that Traefik guards, and the Instances of these endpoints.
    fn guarded(&self) -> BTreeMap<String, Vec<Arc<Instance>>> {
        let instances = &self.rooms.caches.instances;
        let mut guarded = BTreeMap::<String, Vec<Arc<Instance>>>::new();
        for name in instances.all_names() {
            let namespace = name.namespace.unwrap_or_default();
            if let Some(instance) = instances.get(&namespace, &name.name).filter(|instance| is_guarded(instance)) {
                guarded.entry(namespace).or_default().push(instance);
            }
        }
        guarded
    }

    /// Writes the Secret of one namespace.
    async fn hand(&self, namespace: &str, name: &str, bundle: &str) -> Result<(), Unkept> {
        let found = self.rooms.reader.keys(namespace, name).await?;
        let ca = found.as_ref().and_then(|found| found.text(CA));
        if ca.as_ref().is_some_and(|ca| **ca == *bundle) {
            return Ok(());
        }
        let is_known = ca.is_some_and(|ca| share_a_certificate(&ca, bundle));
        if found.as_ref().is_some_and(|found| !is_ours(&found.metadata, is_known)) {
            let map = format!("{}/{}", self.order.place.namespace, self.authorities_name());
            return Err(Unkept::ForeignTrust { namespace: namespace.to_owned(), name: name.to_owned(), map });
        }
        let expected = found.as_ref().map_or(Expected::Absent, Expected::seen);
        let keys = BTreeMap::from([(CA, Some(bundle.to_owned().into()))]);
        let body = super::KeyBody { name, namespace, type_: AUTHORITIES, keys };
        self.rooms.writer.write_secret(&Location { namespace, name }, &expected, &body).await?;
        Ok(())
    }
}

fn log(failures: &[String]) {
    for why in failures.iter().take(LOGGED) {
        tracing::warn!(why, "cannot give Traefik the CA of the verifier, trying again");
    }
    if let Some(more) = failures.len().checked_sub(LOGGED).filter(|more| *more > 0) {
        tracing::warn!(more, "cannot give Traefik the CA of the verifier in further namespaces, trying again");
    }
}
