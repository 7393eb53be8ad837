//! The checks that mint a value, and the pauses before a mint. Repairs are in [`repair`](super::repair).

use super::{
    act::{Act, Never},
    decide::CHAIN,
    ending,
    life::is_never_replaced,
    outcome::{Outcome, Said},
    owner, repair,
    terms::{CheckedTerms, TokenTerms},
    world::World,
};
use crate::{
    crd::{Reason, condition::Conclusion, fault::first},
    token::schedule::{free_from, rotates_at},
};

/// The check `Invalid`: the spec has faults. Nothing is minted, and the records keep their times.
pub(crate) fn invalid(_: &World, terms: &CheckedTerms) -> Option<Act<Never>> {
    terms.is_err().then_some(Act::Rest)
}

/// The content of `Ready` for a faulty spec: all faults.
pub(crate) fn says_invalid(outcome: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    let faults = outcome.faults();
    (Conclusion::of(first(faults)), first(faults), owner::told(outcome.world, faults))
}

/// The check `EndpointAwaited`: no published generation is on record, and the endpoint of the token's Instance is not
/// known yet. A recorded value that is already in its Secret waits for nothing: the endpoint was written with it.
pub(crate) fn endpoint_awaited(world: &World, _: &TokenTerms) -> Option<Act> {
    awaits_endpoint(world).then_some(Act::Rest)
}

/// The content of `Ready` while the endpoint is awaited. The operator works on the endpoint, or reports its fault at
/// the Instance.
pub(crate) fn says_endpoint_awaited(outcome: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    let (world, wanted) = (outcome.world, &outcome.world.token.spec.instance_ref);
    let message = format!(
        "no value is published before the endpoint of Instance {}/{} is known; see its condition EndpointsReady",
        wanted.namespace_or(world.namespace()),
        wanted.name
    );
    (Conclusion::Working, Reason::EndpointAwaited, message)
}

/// True if the first value waits for the endpoint.
fn awaits_endpoint(world: &World) -> bool {
    let landed = || world.records.recorded().any(|record| world.secrets.holding(record).is_some());
    !world.records.ever_published() && world.lacks_endpoint() && !landed()
}

/// The check `PublishIncomplete`: a generation is on record, and its publish is unknown.
pub(crate) fn publish_incomplete(world: &World, _: &TokenTerms) -> Option<Act> {
    let records = &world.records;
    records.recorded().next()?;
    let landed = records.recorded().find(|record| world.secrets.holding(record).is_some());
    let waits = records.may_record_from(world.now).is_some_and(|from| world.now < from);
    Some(match landed {
        Some(record) => Act::Acknowledge(record.generation),
        None if waits => Act::Rest,
        None => Act::Mint(()),
    })
}

/// The check `PublishFailed`: the last publish was refused, and the next try waits. The message of the refusal is kept.
pub(crate) fn publish_failed(world: &World, _: &TokenTerms) -> Option<Act> {
    waits_to_retry(world).then_some(Act::Rest)
}

/// The check `RecordsLost`: our Secret holds a value, but the status has no record of one. Such a value is never
/// adopted.
pub(crate) fn records_lost(world: &World, _: &TokenTerms) -> Option<Act> {
    (!world.records.ever_published() && world.secrets.served.held.digest().is_some()).then_some(Act::Mint(()))
}

/// The check `FirstIssue`: no generation was ever published.
pub(crate) fn first_issue(world: &World, _: &TokenTerms) -> Option<Act> {
    (!world.records.ever_published()).then_some(Act::Mint(()))
}

/// The check `RegenerateAsked`: the spec asks for a new generation. It does not wait for the end of an overlap.
pub(crate) fn regenerate_asked(_: &World, terms: &TokenTerms) -> Option<Act> {
    terms.regenerate.as_ref().map(|_| Act::Mint(()))
}

/// The check `RotationDue`: the rotation of the served generation is due, or there is no served generation any more.
pub(crate) fn rotation_due(world: &World, terms: &TokenTerms) -> Option<Act> {
    let due = || rotates_at(&world.records, &terms.life, world.uid(), world.now);
    let is_due = world.records.served().is_none() || due().is_some_and(|due| due <= world.now);
    is_due.then_some(Act::Mint(()))
}

/// The check `SecretRenamed`: the spec gives another name for the Secret. The operator never reads a value back, so it
/// mints a new one. A value that is shown once stays in its Secret.
pub(crate) fn secret_renamed(world: &World, _: &TokenTerms) -> Option<Act> {
    (is_renamed(world) && !world.shown_once.served && is_free(world)).then_some(Act::Mint(()))
}

/// The check `TemplateChanged`: a key that contains the value has another template now. It can only be rendered with a
/// new value. A value that is shown once keeps its old keys.
pub(crate) fn template_changed(world: &World, terms: &TokenTerms) -> Option<Act> {
    let changed = terms.shape.has_changed_since(world.records.served()?);
    (changed && !world.shown_once.served && is_free(world)).then_some(Act::Mint(()))
}

/// True if the served value, which is in its Secret, is about to be replaced. This is the case if the first check that
/// holds with these terms mints. Repairs are left out.
pub(crate) fn is_about_to_replace(world: &World, terms: &TokenTerms) -> bool {
    let mut checks = CHAIN.iter().filter(|check| !check.reason.is_damage());
    checks.find_map(|check| check.act_by(world, terms)) == Some(Act::Mint(()))
}

/// True if this pass may mint a value, as far as it is known before the terms are checked. Some mints are due by the
/// terms alone, as after an Instance has shortened a lifetime. Then a first pass writes `status.rotatesAt`, and the
/// next pass answers true. So the answer is late by one pass at most.
pub(crate) fn may_mint(world: &World) -> bool {
    let records = &world.records;
    if ending::is_over(world) || world.pause.is_some() || awaits_endpoint(world) {
        return false;
    }
    if records.recorded().next().is_some() {
        return records.may_record_from(world.now).is_none_or(|from| from <= world.now);
    }
    if waits_to_retry(world) {
        return false;
    }
    let Some(served) = records.served() else {
        return world.asks_anew() || !(ending::has_run_out(world) && is_never_replaced(world));
    };
    let is_told = world.before().rotates_at.as_ref().is_some_and(|due| due.0 <= world.now);
    is_told || world.asks_anew() || repair::is_damaged(world, served)
}

/// True if this process minted a value only moments ago. So a status that was lost, or that cannot be trusted, does not
/// cause one mint after another. A mint by schedule or on request does not wait, if the status has a published record.
pub(crate) fn has_to_pause(world: &World, reason: Reason) -> bool {
    let asked = matches!(reason, Reason::RotationDue | Reason::RegenerateAsked) && world.records.ever_published();
    world.may_mint_from.is_some_and(|from| from > world.now) && !asked
}

/// True if the last publish was refused and the next try waits.
fn waits_to_retry(world: &World) -> bool {
    world.records.may_retry_from(world.now).is_some_and(|from| world.now < from)
}

/// True if the next value goes into a Secret of another name.
fn is_renamed(world: &World) -> bool {
    world.records.served().is_some() && world.secrets.next().name != world.secrets.served.name
}

/// True if no overlap is running for which a changed spec has to wait. Windows do not matter here.
fn is_free(world: &World) -> bool {
    free_from(&world.records).is_none_or(|free| free <= world.now)
}

#[cfg(test)]
mod tests {
    use super::super::{
        act::{Act, Decision},
        fixture::{self, ACCOUNT_UID, DAY, exposed, incomplete, new, own_account, served},
        progress::Progress,
        secrets::Held,
        world::World,
    };
    use crate::{
        controller::book::Ruled,
        crd::{
            Reason, SealedSecret,
            condition::{ACCEPTED, PUBLISHED, READY, RECONCILING, VALID},
            secret::{self, Sealed},
        },
    };
    use serde_json::json;
    use std::sync::Arc;

    const AWAITED: Decision = Decision { reason: Reason::EndpointAwaited, act: Act::Rest };
    const FIRST: Decision = Decision { reason: Reason::FirstIssue, act: Act::Mint(()) };
    const URI: &str = "https://eem-admin.events.svc";

    /// A new token, whose own account exists already.
    fn started() -> World {
        new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID))))
    }

    /// Generation 1 is served with this endpoint.
    fn at_home() -> World {
        started().at_endpoint(URI).issued(1)
    }

    /// The same world, in which the endpoint of the Instance does not exist any more.
    fn gone(world: World) -> World {
        world.with_instance_status(|status| status.endpoints.clear())
    }

    #[test]
    fn a_first_value_waits_for_the_endpoint_and_says_where_to_look() {
        let world = started().with_instance(exposed(json!({})));
        assert_eq!(world.decision(), AWAITED);
        let rested = world.rested();
        let said = |type_| fixture::judged(&rested.status, type_);
        assert_eq!(
            [ACCEPTED, PUBLISHED, READY, RECONCILING, VALID].map(said),
            [
                "Accepted=True/Accepted",
                "Published=False/EndpointAwaited",
                "Ready=False/EndpointAwaited",
                "Reconciling=True/EndpointAwaited",
                "Valid=False/EndpointAwaited",
            ]
        );
        let message = "no value is published before the endpoint of Instance events/eem is known; see its condition \
            EndpointsReady";
        assert_eq!(fixture::said(&rested.status, READY).message, message);
        assert_eq!((rested.status.records.len(), rested.status.endpoint, rested.wake), (0, None, None));
        assert_eq!(world.clone().at_endpoint(URI).decision(), FIRST);
        let elsewhere = new()
            .with_instance(exposed(json!({})))
            .with_spec(&json!({"instanceRef": {"namespace": "apis"}}))
            .rested()
            .status;
        assert!(fixture::said(&elsewhere, READY).message.contains("Instance apis/eem "));
    }

    #[test]
    fn a_status_that_does_not_describe_the_endpoint_of_now_counts_as_none() {
        let older = started().at_endpoint(URI).and(|world| {
            world.instance.as_mut().unwrap().change(|instance| instance.metadata.generation = Some(2));
        });
        assert_eq!(older.decision(), AWAITED);
        assert_eq!(started().at_endpoint("").decision(), AWAITED, "it was disabled until now");
        assert_eq!(gone(started().at_endpoint(URI)).decision(), AWAITED);
    }

    #[test]
    fn a_token_waits_for_no_endpoint_that_its_own_instance_does_not_ask_for() {
        assert_eq!(started().decision(), FIRST);
        let disabled = started().with_instance(exposed(json!({"type": "disabled"})));
        assert_eq!((disabled.decision(), disabled.endpoint()), (FIRST, ""));
        let left = started().at_endpoint(URI).and(|world| {
            world.instance.as_mut().unwrap().change(|instance| instance.spec.manager = None);
        });
        assert_eq!((left.decision(), left.endpoint()), (FIRST, ""), "the status is about to follow");
        let mut other = fixture::instance(exposed(json!({})));
        other.metadata.name = Some("other".into());
        let further = started().with_spec(&json!({"audiences": [{"name": "other"}]}));
        let further = further.and(|world| world.audiences = vec![Some(Ruled::new(Arc::new(other)))]);
        assert_eq!(further.decision(), FIRST);
    }

    #[test]
    fn what_is_on_record_without_a_publish_waits_too_unless_it_has_landed() {
        let world = started().at_endpoint(URI);
        let (recorded, record) = (world.minted(1), world.minted(1).recorded.unwrap());
        let lost = gone(world.settled(&recorded)).later(5);
        assert_eq!(lost.decision(), AWAITED);
        let landed = gone(lost.at_endpoint(URI).holding(&record, 1));
        assert_eq!(landed.decision(), Decision { reason: Reason::PublishIncomplete, act: Act::Acknowledge(1) });
        let restored = gone(at_home()).with_token(|token| token.status = None);
        assert_eq!(restored.decision(), AWAITED, "a restored Secret keeps its endpoint until the next is known");
        assert_eq!(restored.at_endpoint(URI).decision().reason, Reason::RecordsLost);
    }

    #[test]
    fn a_renewal_waits_for_nothing_and_keeps_the_last_endpoint() {
        let data = json!({"secret": {"data": {"client.env": "{{ token }} at {{ endpoint }}"}}});
        let world = gone(started().at_endpoint(URI).with_spec(&data).issued(1));
        assert_eq!(world.decision(), Decision { reason: Reason::Active, act: Act::Rest });
        assert_eq!(world.clone().settled(&Progress::none(world.decision())).endpoint(), URI);
        let due = world.later(60 * DAY);
        assert_eq!(due.decision(), Decision { reason: Reason::RotationDue, act: Act::Mint(()) });
        let renamed = due.clone().with_spec(&json!({"secret": {"name": "new"}}));
        for (case, world) in [("same", due.clone()), ("renamed", renamed), ("lost", due.serving(Held::Absent))] {
            let record = world.minted(2).recorded.unwrap();
            let made = world.delivered(&record, 2);
            assert_eq!(made.data[secret::ENDPOINT], Sealed::of(URI), "{case}");
            assert_eq!(made.data["client.env"].digest(), Some(record.rendered[0].sha256), "{case}");
        }
        assert_eq!(incomplete().with_instance(exposed(json!({}))).later(5).decision().act, Act::Mint(()));
        let bare = served().with_instance(exposed(json!({})));
        assert_eq!(bare.decision().act, Act::Rest, "it had no endpoint until now");
    }

    #[test]
    fn an_endpoint_that_moves_is_followed_without_a_new_value() {
        let moved = at_home().at_endpoint("https://admin.example.com");
        assert_eq!(moved.decision(), Decision { reason: Reason::SecretOutdated, act: Act::Amend(()) });
        let done = moved.clone().settled(&Progress::none(moved.decision()));
        assert_eq!((done.status().records, done.endpoint()), (moved.status().records, "https://admin.example.com"));
        let none = at_home().with_instance(json!({}));
        assert_eq!((none.decision().act, none.endpoint()), (Act::Amend(()), ""));
        let none = none.clone().settled(&Progress::none(none.decision()));
        assert_eq!(none.status().endpoint, None, "a later endpoint is not the one of before");
    }

    #[test]
    fn the_certificates_are_waited_for_at_first_unless_the_user_gives_them() {
        let world = started().at_endpoint(URI).trusting("PEM").with_instance_status(|status| status.trust.clear());
        assert_eq!(world.decision(), AWAITED);
        assert_eq!(world.clone().trusting("PEM").decision(), FIRST);
        let own = world.with_spec(&json!({"secret": {"data": {"ca.crt": "mine"}}}));
        assert_eq!(own.decision(), FIRST);
        let Held::Ours(secret) = own.trusting("PEM").issued(1).secrets.served.held else { panic!("it is ours") };
        assert_eq!(secret.data[secret::CA], Sealed::of("mine"));
    }

    #[test]
    fn the_certificates_follow_the_instance_and_stay_while_they_are_not_known() {
        let amend = Decision { reason: Reason::SecretOutdated, act: Act::Amend(()) };
        let of = |world: &World| -> Arc<SealedSecret> {
            let Held::Ours(secret) = &world.secrets.served.held else { panic!("it is ours") };
            secret.clone()
        };
        let world = started().at_endpoint(URI).trusting("one").issued(1);
        assert_eq!(of(&world).data[secret::CA], Sealed::of("one"));
        assert_eq!(world.decision(), Decision { reason: Reason::Active, act: Act::Rest });

        let next = world.clone().trusting("two");
        assert_eq!(next.decision(), amend);
        let amended = next.amended();
        assert_eq!((of(&amended).data[secret::CA], amended.decision().act), (Sealed::of("two"), Act::Rest));

        let unknown = amended.with_instance_status(|status| status.trust.clear());
        assert_eq!((unknown.decision().act, unknown.clone().amended().decision().act), (Act::Rest, Act::Rest));
        let kept = unknown.later(60 * DAY).issued(2);
        assert_eq!(of(&kept).data[secret::CA], Sealed::of("two"), "it is not known, so it stays");

        let without = kept.at_endpoint(URI);
        assert_eq!(without.decision(), amend);
        assert_eq!(of(&without.amended()).data.get(secret::CA), None, "the Instance names none any more");
    }
}
