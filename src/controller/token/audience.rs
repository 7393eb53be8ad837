//! The further Instances that accept a token. Acceptance is decided once, after the audience is added to the spec.
//!
//! ```text
//!  named in the spec ──▶ accepted by a pass without faults ──▶ stays accepted, also when faults come later
//!                                        └──▶ closed: the spec drops it, the Instance is deleted or replaced,
//!                                             or the Instance no longer admits the namespace
//! ```

use super::{terms::CheckedTerms, world::World};
use crate::{
    access,
    crd::{Instance, api_token::AcceptedAudience},
};

/// The audiences that are accepted after this pass.
pub(crate) fn accepted(world: &World, terms: &CheckedTerms) -> Vec<AcceptedAudience> {
    let stood = world.before().audiences.as_ref();
    // A status of an earlier release has no audiences. That release accepted all audiences of the spec.
    let older = stood.is_none() && world.records.ever_published();
    let keeps =
        |audience: &AcceptedAudience| terms.is_ok() || older || stood.is_some_and(|stood| stood.contains(audience));
    let named = world.audiences.iter().flatten().filter(|instance| is_open(world, instance));
    named.filter_map(|instance| audience(instance)).filter(keeps).collect()
}

/// True if an Instance is not being deleted and admits tokens of this namespace.
fn is_open(world: &World, instance: &Instance) -> bool {
    instance.metadata.deletion_timestamp.is_none() && access::admits(instance, world.home())
}

fn audience(instance: &Instance) -> Option<AcceptedAudience> {
    let meta = &instance.metadata;
    Some(AcceptedAudience { name: meta.name.clone()?, namespace: meta.namespace.clone()?, uid: meta.uid.clone()? })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, served};
    use super::*;
    use crate::controller::book::Ruled;
    use serde_json::{Value, json};
    use std::sync::Arc;

    /// A served token that names an Instance of this uid and spec as an audience.
    fn naming(uid: &str, spec: Value) -> World {
        let mut instance = fixture::instance(spec);
        instance.metadata.name = Some("strict".into());
        instance.metadata.uid = Some(uid.into());
        let world = served().with_spec(&json!({"audiences": [{"name": "strict"}]}));
        world.and(|world| world.audiences = vec![Some(Ruled::new(Arc::new(instance)))])
    }

    fn uids(world: &World) -> Vec<String> {
        accepted(world, &world.terms()).into_iter().map(|audience| audience.uid).collect()
    }

    fn settled(world: World) -> World {
        let audiences = accepted(&world, &world.terms());
        world.with_status(|status| status.audiences = Some(audiences))
    }

    fn none(world: World) -> World {
        world.with_status(|status| status.audiences = Some(Vec::new()))
    }

    #[test]
    fn an_audience_is_accepted_only_while_nothing_is_wrong_with_the_token() {
        let asks = json!({"tokens": {"requireDescription": true}});
        assert_eq!(uids(&none(naming("s", json!({})))), ["s"]);
        assert_eq!(uids(&none(naming("s", asks.clone()))), [""; 0]);
        let described = none(naming("s", asks)).with_spec(&json!({"description": "nightly"}));
        assert_eq!(uids(&described), ["s"]);
    }

    #[test]
    fn an_audience_that_is_not_accepted_shortens_nothing() {
        let strict = json!({"tokens": {"requireDescription": true, "lifetime": {"default": "1h", "max": "1h"}}});
        let end = |world: &World| world.records.served().unwrap().end();
        let named = none(naming("s", strict.clone()));
        assert_eq!(end(&named), served().records.served().unwrap().end());
        let accepted = settled(naming("s", json!({})));
        let strict = accepted.and(|world| world.audiences = naming("s", strict).audiences.clone());
        assert!(end(&strict) < end(&named));
    }

    #[test]
    fn what_was_accepted_stays_whatever_fault_comes_later_and_closes_when_it_goes() {
        let world = settled(none(naming("s", json!({}))));
        let faulty = world.clone().with_spec(&json!({"expiry": {"after": "400d"}}));
        assert_eq!(uids(&faulty), ["s"]);
        let another = naming("t", json!({})).audiences.clone();
        assert_eq!(uids(&faulty.clone().and(|world| world.audiences = another)), [""; 0], "another of this name");
        assert_eq!(uids(&faulty.clone().and(|world| world.audiences = vec![None])), [""; 0]);
        assert_eq!(uids(&faulty.clone().and(|world| world.audiences = Vec::new())), [""; 0], "not named any more");
        let change =
            |change: fn(&mut Instance)| faulty.clone().and(|world| world.audiences[0].as_mut().unwrap().change(change));
        let going = change(|instance| instance.metadata.deletion_timestamp = Some(fixture::time(0)));
        assert_eq!(uids(&going), [""; 0]);
        let elsewhere = change(|instance| instance.metadata.namespace = Some("elsewhere".into()));
        assert_eq!(uids(&elsewhere), [""; 0], "it admits its own namespace alone");
    }

    #[test]
    fn what_an_earlier_release_has_let_in_stays() {
        let faulty = naming("s", json!({"tokens": {"requireDescription": true}}));
        let older = faulty.with_status(|status| status.audiences = None);
        assert_eq!(uids(&older), ["s"]);
    }
}
