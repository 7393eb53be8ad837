//! The checks of an Instance that is no object yet.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{observe::World, validate::validate};
use crate::{
    controller::{book::Ruled, census},
    crd::{Fault, endpoint::ParentRef},
    exposure::{ExposureConfig, VerifierService, https::HttpsNeeds},
};

/// The faults of an Instance that is no object yet. `holder` is another Instance with one of its DNS names.
pub(crate) fn faults_of_manifest(instance: Ruled, holder: Option<String>, now: Timestamp) -> Vec<Fault> {
    let world = World {
        now,
        config: Arc::new(config(&instance)),
        instance,
        terminating: false,
        manager: None,
        pieces: BTreeMap::new(),
        network_policies: Vec::new(),
        serves_routes: false,
        answers: BTreeMap::new(),
        unsure: false,
        holder,
        bypasses: Vec::new(),
        tokens: census::count([], now),
        authorities: BTreeMap::new(),
        classes: None,
        carriers: BTreeMap::new(),
        unverifying: BTreeMap::new(),
        https: HttpsNeeds { reached: Ok(()), has_secret: true, has_policy: Some(true) },
        certificates: BTreeMap::new(),
        stamped: None,
    };
    validate(&world).err().unwrap_or_default()
}

/// The settings of a cluster that gives a manifest everything that it leaves out, except the way in. The way in decides
/// which guard fits.
fn config(instance: &Ruled) -> ExposureConfig {
    let name = "cluster".to_owned();
    let verifier =
        VerifierService { name: name.clone(), namespace: name.clone(), port: Some(80), address: None, https: None };
    let names_way = instance.endpoints().any(|endpoint| endpoint.way_in().is_some());
    let gateway = ParentRef { name: name.into(), namespace: None, section_name: None, port: None };
    let gateway = if names_way { vec![gateway] } else { Vec::new() };
    ExposureConfig { verifier: Some(verifier), gateway, ..ExposureConfig::default() }
}
