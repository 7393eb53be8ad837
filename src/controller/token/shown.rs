//! The delivery of the served and the next value: `Retain`, or `Once` for a value that is shown once.
//!
//! ```text
//!  spec.secret  tokens.    status.
//!  .delivery    delivery   delivery  │ served  next
//!  ──────────────────────────────────┼───────────────────────────
//!  Once                              │ Once    Once
//!  Retain                            │ Retain  Retain
//!  Retain       Once                 │ noted   DeliveryNotAllowed
//!                                    │ noted   Retain
//!               Once       Once      │ Once    Once
//!               Once       none yet  │         Once
//!               Once       Retain    │ Retain  DeliveryNotAllowed
//! ```
//!
//! An Instance thus decides on a value when it is recorded, and never later. By then a workload may mount the Secret,
//! or a person may have copied the value.

use super::{observed::Observed, progress::Progress, world::World};
use crate::{
    controller::book::Ruled,
    crd::{
        Fault, Reason,
        api_token::DeliveryMode::{self, Once, Retain},
    },
    token::Records,
};

/// The values of a token that are shown once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownOnce {
    /// True if the served value is shown once.
    pub served: bool,
    /// True if the next value is shown once.
    pub next: bool,
    /// True if an Instance demands `Once`, and the spec or the published Secret says `Retain`.
    is_refused: bool,
}

impl ShownOnce {
    /// Derives the delivery from the spec, the Instances and the status.
    pub fn of(read: &Observed, records: &Records) -> Self {
        let said = read.token.spec.secret.as_ref().and_then(|secret| secret.delivery);
        let (noted, demanded) = (noted(read, records), demanding(read).is_some());
        let was = noted == Some(Once);
        let (served, next, is_refused) = match (said, demanded) {
            (Some(Once), _) => (true, true, false),
            (Some(Retain), false) => (false, false, false),
            (Some(Retain), true) => (was, false, true),
            (None, false) => (was, false, false),
            (None, true) => (noted != Some(Retain), noted != Some(Retain), noted == Some(Retain)),
        };
        Self { served, next, is_refused }
    }
}

/// The first Instance of the token, audiences included, that demands `Once`.
pub(crate) fn demanding(read: &Observed) -> Option<&Ruled> {
    let mut all = read.instance.iter().chain(read.audiences.iter().flatten());
    all.find(|instance| instance.spec.tokens.delivery.is_some())
}

/// The delivery of the value on record; none if there is no value yet. Without a note it is `Retain`. A Secret without
/// a record, as after a restore, counts as `Retain` too, because a workload may mount it.
fn noted(read: &Observed, records: &Records) -> Option<DeliveryMode> {
    let is_stored = || read.stored.values().any(|held| held.ours().is_some());
    let exists = records.ever_published() || is_stored();
    read.before().delivery.or(exists.then_some(Retain))
}

/// Adds the fault `DeliveryNotAllowed`.
pub(crate) fn faults(world: &World, faults: &mut Vec<Fault>) {
    let Some(instance) = demanding(world).filter(|_| world.shown_once.is_refused) else { return };
    let demand =
        format!("tokens.delivery of Instance {} is Once", instance.metadata.name.as_deref().unwrap_or_default());
    let message = if is_immutable(world) {
        format!("the token is immutable and stays as it is, but {demand}; make another ApiToken, or remove the demand")
    } else if noted(world, &world.records) == Some(Retain) {
        let name = &world.secrets.served.name;
        format!(
            "Secret {name} was published to stay, but {demand}; set delivery: Once, which removes the Secret once the \
             value is claimed or claimWithin is over"
        )
    } else {
        format!("Retain is not allowed, as {demand}; remove it, or set it to Once")
    };
    faults.push(Fault::new(Reason::DeliveryNotAllowed, "spec.secret.delivery", message));
}

/// True if `spec.secret` cannot change any more.
fn is_immutable(world: &World) -> bool {
    let mirrored = world.before().policy.as_ref().is_some_and(|policy| policy.immutable);
    world.token.spec.immutable || mirrored
}

/// The delivery to note in status after `progress`: that of the served value, or of the first one that is recorded.
/// Only `Once` is noted.
pub(crate) fn settled(world: &World, progress: &Progress, records: &Records) -> Option<DeliveryMode> {
    let ShownOnce { served, next, .. } = world.shown_once;
    let is_first = progress.recorded.is_some() && !world.records.ever_published();
    let once = if progress.published.is_some() || is_first { next } else { served };
    (once && !records.as_slice().is_empty()).then_some(Once)
}

#[cfg(test)]
mod tests {
    use super::super::{
        act::{Act, Decision},
        fixture::{self, ACCOUNT_UID, DAY, new, own_account, served},
        once::claim,
        secrets::Held,
        validate::validate,
    };
    use super::*;
    use crate::token::Schedule;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn demand() -> Value {
        json!({"tokens": {"delivery": "Once"}})
    }

    /// A token that says nothing about its delivery, published under the demand.
    fn demanded() -> World {
        let world = new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID))));
        world.with_instance(demand()).issued(1)
    }

    /// All faults, each as `reason path`.
    fn faults_of(world: &World) -> Vec<String> {
        let faults = validate(world).err().unwrap_or_default();
        faults.iter().map(|fault| format!("{} {}", fault.reason, fault.path)).collect()
    }

    const REFUSED: [&str; 1] = ["DeliveryNotAllowed spec.secret.delivery"];

    fn says(delivery: &str) -> Value {
        json!({"secret": {"delivery": delivery}})
    }

    /// The world after a pass that does nothing else.
    fn rested(world: World) -> World {
        let decision = world.decision();
        assert_eq!(decision.act, Act::Rest, "{decision:?}");
        world.settled(&Progress::none(decision))
    }

    #[test]
    fn a_token_that_says_nothing_is_shown_once_where_its_instance_demands_it() {
        let world = demanded();
        assert_eq!(world.status().delivery, Some(Once));
        let until = world.claim_by(world.records.served().unwrap());
        assert_eq!(until, Some(fixture::at(3600)), "without a secret in the spec, the default holds");
        assert_eq!(world.terms().unwrap().life.schedule, Schedule::Never);
        let over = world.clone().later(3600).decision();
        assert_eq!(over.reason, Reason::Claimed);
        assert_eq!(served().status().delivery, None);
    }

    #[test]
    fn what_is_recorded_first_is_noted_before_it_is_published() {
        let world = new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID)))).with_instance(demand());
        assert_eq!(world.clone().with_spec(&json!({"rotation": {"overlap": "0d"}})).rested().status.delivery, None);
        let recorded = world.minted(1);
        assert_eq!(world.settle(&recorded).status.delivery, Some(Once));
        let freed = world.settled(&recorded).with_instance(json!({}));
        let published = Progress { published: Some((1, freed.now)), ..Progress::none(freed.decision()) };
        assert_eq!(freed.settle(&published).status.delivery, None, "the publish decides");
    }

    #[test]
    fn a_demand_after_the_first_record_and_before_its_publish_is_met_by_the_next_value() {
        let world = new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID))));
        let progress = world.minted(1);
        let recorded = world.settled(&progress).with_instance(demand());
        assert_eq!(faults_of(&recorded), [] as [&str; 0], "nothing was published to stay");
        let next = recorded.later(10);
        assert!(matches!(next.decision().act, Act::Mint(())), "{:?}", next.decision());
        assert_eq!(next.issued(2).status().delivery, Some(Once));
    }

    #[test]
    fn an_immutable_token_is_told_the_ways_out_that_it_has() {
        let world = served().with_spec(&json!({"immutable": true})).with_instance(demand());
        let told = validate(&world).unwrap_err()[0].to_string();
        let rule = "spec.secret.delivery: the token is immutable and stays as it is, but tokens.delivery of Instance eem \
            is Once; make another ApiToken, or remove the demand";
        assert_eq!(told, rule);
    }

    #[test]
    fn a_token_that_says_retain_is_refused_where_once_is_demanded() {
        let world = new().with_instance(demand()).with_spec(&says("Retain"));
        assert_eq!(faults_of(&world), REFUSED);
        let told = validate(&world).unwrap_err()[0].to_string();
        let rule = "spec.secret.delivery: Retain is not allowed, as tokens.delivery of Instance eem is Once; remove \
            it, or set it to Once";
        assert_eq!(told, rule);
        assert!(validate(&new().with_instance(demand()).with_spec(&says("Once"))).is_ok());
        let kept = demanded().with_spec(&says("Retain"));
        assert_eq!(faults_of(&kept), REFUSED);
        assert_eq!(kept.later(3600).decision().reason, Reason::Claimed, "the fault keeps no value that was to go");
    }

    #[test]
    fn a_demand_that_comes_later_removes_no_secret_and_is_a_fault() {
        for spec in [json!({}), says("Retain")] {
            let world = served().with_spec(&spec).with_instance(demand());
            assert_eq!(faults_of(&world), REFUSED, "{spec}");
            let told = validate(&world).unwrap_err()[0].to_string();
            let rule = "spec.secret.delivery: Secret ci was published to stay, but tokens.delivery of Instance eem is \
                Once; set delivery: Once, which removes the Secret once the value is claimed or claimWithin is over";
            assert_eq!(told, rule);
            for days in [0, 30, 80, 100] {
                let later = world.clone().later(days * DAY);
                assert_eq!(later.decision(), Decision { reason: Reason::DeliveryNotAllowed, act: Act::Rest });
                assert_eq!(later.rested().status.delivery, None);
            }
            let freed = rested(world.clone()).with_instance(json!({}));
            assert_eq!(freed.decision(), Decision { reason: Reason::Active, act: Act::Rest });
            let agreed = world.later(DAY).with_spec(&says("Once"));
            assert_eq!(faults_of(&agreed), [""; 0]);
            assert_eq!(agreed.decision().reason, Reason::Claimed, "the user has asked for it");
        }
    }

    #[test]
    fn a_demand_that_goes_mints_nothing_and_counts_from_the_next_value_on() {
        let claimed = demanded().later(3600);
        let Act::Conceal(outcome) = claimed.decision().act else { panic!("{:?}", claimed.decision()) };
        let progress = Progress { claim: claim(&claimed, outcome), ..Progress::none(claimed.decision()) };
        let world = claimed.settled(&progress).serving(Held::Absent).with_instance(json!({}));
        for days in [0, 30, 80] {
            assert_eq!(rested(world.clone().later(days * DAY)).status().delivery, Some(Once));
        }
        let asked = world.clone().with_spec(&json!({"regenerate": {"id": "again"}})).issued(2);
        assert_eq!((asked.status().delivery, asked.status().claim), (None, None));
        assert_eq!(asked.terms().unwrap().life.schedule, Schedule::LastThird);
        let kept = world.with_spec(&says("Retain"));
        assert_eq!(kept.decision(), Decision { reason: Reason::SecretMissing, act: Act::Mint(()) }, "asked for");
    }

    #[test]
    fn a_secret_without_a_record_is_left_to_its_readers() {
        let lost = served().with_token(|token| token.status = None).with_instance(demand());
        assert_eq!(faults_of(&lost), REFUSED);
        let gone = lost.serving(Held::Absent);
        assert_eq!(faults_of(&gone), [""; 0]);
        assert!(gone.shown_once.next);
    }

    #[test]
    fn the_demand_of_an_audience_counts_too() {
        let strict = Ruled::new(Arc::new(fixture::instance(demand())));
        let audience = json!({"audiences": [{"name": "strict"}]});
        let world = new().with_spec(&audience).and(|world| world.audiences = vec![Some(strict)]);
        assert!(world.shown_once.next);
        assert_eq!(faults_of(&world.with_spec(&says("Retain"))), REFUSED);
    }

    #[test]
    fn a_demand_allows_no_restart_of_workloads() {
        let world = new().with_spec(&json!({"restart": [{"kind": "Deployment", "name": "exporter"}]}));
        assert_eq!(faults_of(&world), [""; 0]);
        assert_eq!(faults_of(&world.with_instance(demand())), ["Invalid spec.restart"]);
    }
}
