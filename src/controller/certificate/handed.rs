//! The certificates that Traefik trusts. It reads them from a Secret in the namespace of the Middleware alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::sleep;

use super::{CertificateKeeper, Unkept, is_ours};
use crate::{
    crd::{
        endpoint::Guard,
        secret::{AUTHORITIES, CA},
    },
    outside::{Expected, Location},
};

/// Interval at which new namespaces are looked for.
const LOOK: Duration = Duration::from_secs(2);

/// The certificates that each namespace was given.
pub(super) type HandedOut = BTreeMap<String, String>;

impl CertificateKeeper {
    /// Gives the certificates to each namespace that needs them, for ever.
    pub(super) async fn hand_out(&self, bundle: &str, given: &mut HandedOut) {
        let mut said = None;
        loop {
            // Before the first list of Instances, no namespace is known.
            let knows_all = self.caches.missing().is_ok();
            match self.hand_out_once(bundle, given).await {
                Ok(()) if knows_all => _ = self.handed.send_replace(true),
                Ok(()) => {}
                Err(why) => {
                    let told = why.to_string();
                    if said.as_ref() != Some(&told) {
                        tracing::warn!(why = told, "cannot give Traefik the CA of the verifier, trying again");
                        said = Some(told);
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    async fn hand_out_once(&self, bundle: &str, given: &mut HandedOut) -> Result<(), Unkept> {
        let Some(name) = &self.ca_secret else { return Ok(()) };
        let namespaces = self.guarded();
        given.retain(|namespace, _| namespaces.contains(namespace));
        let mut failed = Ok(());
        for namespace in namespaces {
            if given.get(&namespace).is_some_and(|given| given == bundle) {
                continue;
            }
            match self.hand(&namespace, name, bundle).await {
                Ok(()) => _ = given.insert(namespace, bundle.to_owned()),
                Err(why) => failed = Err(why),
            }
        }
        failed
    }

    /// The namespaces with an endpoint that Traefik guards.
    fn guarded(&self) -> BTreeSet<String> {
        let instances = &self.caches.instances;
        let is_guarded = |namespace: &str, name: &str| {
            let instance = instances.get(namespace, name);
            instance.is_some_and(|it| it.endpoints().any(|endpoint| endpoint.guarding() == Some(Guard::Traefik)))
        };
        let all = instances.all_names().into_iter().filter_map(|name| Some((name.namespace?, name.name)));
        all.filter(|(namespace, name)| is_guarded(namespace, name)).map(|(namespace, _)| namespace).collect()
    }

    /// Writes the Secret of one namespace.
    async fn hand(&self, namespace: &str, name: &str, bundle: &str) -> Result<(), Unkept> {
        let found = self.reader.keys(namespace, name).await?;
        if found.as_ref().is_some_and(|found| !is_ours(&found.metadata.labels)) {
            return Err(Unkept::Foreign { kind: "Secret", name: format!("{namespace}/{name}") });
        }
        if found.as_ref().and_then(|found| found.text(CA)).is_some_and(|ca| *ca == bundle) {
            return Ok(());
        }
        let expected = found.as_ref().map_or(Expected::Absent, Expected::seen);
        let keys = BTreeMap::from([(CA, Some(bundle.to_owned().into()))]);
        let body = super::KeyBody { name, namespace, type_: AUTHORITIES, keys };
        self.writer.write_secret(&Location { namespace, name }, &expected, &body).await?;
        Ok(())
    }
}
