//! The decision of a pass over a token: the first check in the chain that holds.

use std::sync::Arc;

use super::{
    act::{Act, Decision, Never},
    ending, issue, once,
    outcome::{Outcome, Said},
    pause, repair, restart,
    terms::{CheckedTerms, TokenTerms},
    world::World,
};
use crate::crd::{Reason, condition::Conclusion};

/// The content of the condition `Ready` for a token, where a check holds and asks for an act.
pub(crate) type Says = fn(&Outcome<'_>, Act) -> Said<Conclusion>;

/// One check, with its reason and its action.
#[derive(Clone, Copy)]
pub struct Check {
    /// The reason of the check.
    pub reason: Reason,
    /// The fate of the token while this check holds, even if an earlier check decides.
    pub fate: Fate,
    holds: Holds,
    /// The content of `Ready` while the check holds. None: the action does not describe the state of the token, and a
    /// later check does.
    pub says: Option<Says>,
}

/// The fate of a token while a check holds. The condition `Valid` follows from the fates of all checks that hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The token is deleted with its namespace. Until then its requests are judged as before.
    Goes,
    /// The token has ended or is being deleted, and every request is refused.
    Ends,
    /// The token has not ended, but every request is refused.
    Pauses,
    /// The token has not ended, and its requests are judged.
    Lives,
}

impl Fate {
    /// True if the operator does nothing more for the token, except for its removal.
    pub fn is_over(self) -> bool {
        match self {
            Self::Goes | Self::Ends => true,
            Self::Pauses | Self::Lives => false,
        }
    }

    /// True if every request is refused.
    pub fn is_refused(self) -> bool {
        match self {
            Self::Ends | Self::Pauses => true,
            Self::Goes | Self::Lives => false,
        }
    }
}

/// The function of a check.
#[derive(Clone, Copy)]
enum Holds {
    /// It runs with valid and with faulty terms.
    Always(fn(&World, &CheckedTerms) -> Option<Act<Never>>),
    /// It runs with valid terms only.
    Valid(fn(&World, &TokenTerms) -> Option<Act>),
}

/// The checks in their order. The first check that holds decides. This list is the specification. The doc comment of
/// each function says when its check holds. The function beside it gives the text for users.
pub const CHAIN: [Check; 28] = [
    check(Reason::Deleting, Fate::Ends, ending::deleting).saying(ending::says_deleting),
    check(Reason::NamespaceTerminating, Fate::Goes, ending::namespace_terminating)
        .saying(ending::says_namespace_terminating),
    check(Reason::Forgotten, Fate::Ends, ending::forgotten),
    check(Reason::AccountDeleted, Fate::Ends, ending::gone_with_account),
    check(Reason::Revoked, Fate::Ends, ending::revoked).saying(ending::says_ended),
    check(Reason::AccountDeleted, Fate::Ends, ending::account_deleted).saying(ending::says_ended),
    check(Reason::OwnerRemoved, Fate::Ends, ending::owner_removed).saying(ending::says_ended),
    check(Reason::Expired, Fate::Ends, ending::expired).saying(ending::says_ended),
    check(Reason::Claimed, Fate::Lives, once::claimed),
    check(Reason::RestartDue, Fate::Lives, restart::restart_due),
    check(Reason::Invalid, Fate::Lives, issue::invalid).saying(issue::says_invalid),
    check(Reason::Suspended, Fate::Pauses, pause::suspended).saying(pause::says_suspended),
    check(Reason::AccountSuspended, Fate::Pauses, pause::account_suspended).saying(pause::says_account_suspended),
    check(Reason::OwnerRemoved, Fate::Pauses, pause::owner_removed).saying(pause::says_owner_removed),
    valid(Reason::EndpointAwaited, issue::endpoint_awaited).saying(issue::says_endpoint_awaited),
    valid(Reason::PublishIncomplete, issue::publish_incomplete),
    valid(Reason::PublishFailed, issue::publish_failed),
    valid(Reason::RecordsLost, issue::records_lost),
    valid(Reason::FirstIssue, issue::first_issue),
    valid(Reason::RegenerateAsked, issue::regenerate_asked),
    valid(Reason::RotationDue, issue::rotation_due),
    valid(Reason::SecretRenamed, issue::secret_renamed),
    valid(Reason::TemplateChanged, issue::template_changed),
    valid(Reason::SecretMissing, repair::secret_missing),
    valid(Reason::SecretAltered, repair::secret_altered),
    valid(Reason::SecretOutdated, repair::secret_outdated),
    valid(Reason::SecretLeftOver, repair::secret_left_over),
    valid(Reason::RecordsOutdated, repair::records_outdated),
];

const fn check(reason: Reason, fate: Fate, holds: fn(&World, &CheckedTerms) -> Option<Act<Never>>) -> Check {
    Check { reason, fate, holds: Holds::Always(holds), says: None }
}

/// A check that runs with valid terms only. Its fate is always [`Fate::Lives`], because a token ends or pauses also
/// with faulty terms.
const fn valid(reason: Reason, holds: fn(&World, &TokenTerms) -> Option<Act>) -> Check {
    Check { reason, fate: Fate::Lives, holds: Holds::Valid(holds), says: None }
}

impl Check {
    const fn saying(self, says: Says) -> Self {
        Self { says: Some(says), ..self }
    }

    /// The action of the check; none if the check does not hold.
    pub fn act(&self, world: &World, terms: &CheckedTerms) -> Option<Act<Arc<TokenTerms>>> {
        match (self.holds, terms) {
            (Holds::Always(holds), _) => holds(world, terms).map(|act| act.map(|never| match never {})),
            (Holds::Valid(holds), Ok(terms)) => holds(world, terms).map(|act| act.map(|()| terms.clone())),
            (Holds::Valid(_), Err(_)) => None,
        }
    }

    /// The action of the check with these terms. None if the check does not hold, or if it also runs with faulty terms.
    pub fn act_by(&self, world: &World, terms: &TokenTerms) -> Option<Act> {
        match self.holds {
            Holds::Valid(holds) => holds(world, terms),
            Holds::Always(_) => None,
        }
    }
}

/// The decision by the first check that holds. If no check holds, the token rests.
pub(crate) fn decide(world: &World, terms: &CheckedTerms) -> Decision<Arc<TokenTerms>> {
    let held = CHAIN.iter().find_map(|check| check.act(world, terms).map(|act| (check.reason, act)));
    let (reason, act) = held.unwrap_or((Reason::Active, Act::Rest));
    let waits = matches!(act, Act::Mint(_)) && (issue::has_to_pause(world, reason) || restart::is_unseen(world));
    let fault = terms.as_ref().err().and_then(|faults| faults.first()).filter(|_| reason == Reason::Invalid);
    let ended = if let Act::End(why) = act { Some(why.into()) } else { None };
    let reason = ended.or(fault.map(|fault| fault.reason)).unwrap_or(reason);
    Decision { reason, act: if waits { Act::Wait } else { act } }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{
        Progress,
        fixture::{self, DAY, HOUR, account, incomplete, new, rotated, served},
        pause::Pause,
        secrets::Held,
    };
    use super::*;
    use crate::{
        crd::{
            Account, ApiToken, Instance,
            api_token::{ClaimOutcome, Revocation, RevocationReason},
            condition::{READY, VALID},
            name, secret,
            workload::Restart,
        },
        token::{Digest, Record, State},
        verifier::{
            Category,
            check::check,
            index::{Index, Key},
        },
    };
    use jiff::SignedDuration;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    #[test]
    fn the_checks_come_in_this_order() {
        let order: Vec<_> = CHAIN.iter().map(|check| check.reason).collect();
        assert_eq!(
            order,
            [
                Reason::Deleting,
                Reason::NamespaceTerminating,
                Reason::Forgotten,
                Reason::AccountDeleted,
                Reason::Revoked,
                Reason::AccountDeleted,
                Reason::OwnerRemoved,
                Reason::Expired,
                Reason::Claimed,
                Reason::RestartDue,
                Reason::Invalid,
                Reason::Suspended,
                Reason::AccountSuspended,
                Reason::OwnerRemoved,
                Reason::EndpointAwaited,
                Reason::PublishIncomplete,
                Reason::PublishFailed,
                Reason::RecordsLost,
                Reason::FirstIssue,
                Reason::RegenerateAsked,
                Reason::RotationDue,
                Reason::SecretRenamed,
                Reason::TemplateChanged,
                Reason::SecretMissing,
                Reason::SecretAltered,
                Reason::SecretOutdated,
                Reason::SecretLeftOver,
                Reason::RecordsOutdated,
            ]
        );
    }

    type Trouble = (Reason, Act, fn(World) -> World);

    /// For each check, in order, a change that makes it hold in a world at rest.
    const TROUBLES: [Trouble; CHAIN.len()] = [
        (Reason::Deleting, Act::Rest, |world| {
            let now = world.now;
            world.with_token(|token| token.metadata.deletion_timestamp = Some(Time(now)))
        }),
        (Reason::NamespaceTerminating, Act::Rest, |world| world.and(|world| world.terminating = true)),
        (Reason::Forgotten, Act::Forget, |world| {
            let world = world.with_instance(json!({"tokens": {"forgetAfter": "30d"}}));
            ended_by(world, RevocationReason::Manual)
        }),
        (Reason::AccountDeleted, Act::Forget, |world| {
            let world = world.with_instance(json!({"tokens": {"onAccountDeleted": "Delete"}}));
            ended_by(world, RevocationReason::AccountDeleted)
        }),
        (Reason::Revoked, Act::End(RevocationReason::Manual), |world| world.with_spec(&json!({"revoked": true}))),
        (Reason::AccountDeleted, Act::End(RevocationReason::AccountDeleted), |world| {
            world.and(|world| world.account = None)
        }),
        (Reason::OwnerRemoved, Act::End(RevocationReason::OwnerRemoved), |world| {
            let world = world.with_status(|status| status.records = rotated().status().records);
            world.with_instance(json!({})).and(|world| world.owner_gone = true)
        }),
        (Reason::Expired, Act::End(RevocationReason::Expired), |world| {
            let (now, mut records) = (world.now, rotated().status().records);
            records.iter_mut().for_each(|record| record.end_by(now));
            let world = world.with_status(|status| status.records = records);
            world.with_spec(&json!({"expiry": {"after": null, "at": Time(now)}}))
        }),
        (Reason::Claimed, Act::Conceal(ClaimOutcome::Claimed), |world| {
            let world = world.with_status(|status| status.records = rotated().status().records);
            let world = world.serving(rotated().secrets.served.held);
            claimed(world.with_spec(&json!({"secret": {"delivery": "Once"}, "restart": null})))
        }),
        (Reason::RestartDue, Act::Restart, |world| {
            let (records, secret) = (rotated().status().records, rotated().secrets.served.held);
            let generation = records.last().unwrap().generation;
            let world = world.with_status(|status| {
                status.records = records;
                status.restart = Some(Restart::published(generation, None));
            });
            let spec = json!({"active": true, "restart": [{"kind": "Deployment", "name": "exporter"}]});
            let world = world.with_account(|account| account.spec.active = true).and(|world| world.owner_gone = false);
            world.serving(secret).with_spec(&spec).later(5)
        }),
        (Reason::Invalid, Act::Rest, |world| world.with_spec(&json!({"rotation": {"overlap": "0d"}}))),
        (Reason::Suspended, Act::Rest, |world| world.with_spec(&json!({"active": false}))),
        (Reason::AccountSuspended, Act::Rest, |world| world.with_account(|account| account.spec.active = false)),
        (Reason::OwnerRemoved, Act::Rest, |world| {
            let suspends = json!({"tokens": {"onOwnerRemoved": "Suspend"}});
            world.with_instance(suspends).and(|world| world.owner_gone = true)
        }),
        (Reason::EndpointAwaited, Act::Rest, |world| {
            let world = world.with_status(|status| status.records.retain(|record| record.published_at.is_none()));
            world.serving(Held::Absent).with_instance(fixture::exposed(json!({})))
        }),
        (Reason::PublishIncomplete, Act::Mint(()), |world| unpublished(world, 8, State::Recorded)),
        (Reason::PublishFailed, Act::Rest, |world| unpublished(world, 7, State::Expired)),
        (Reason::RecordsLost, Act::Mint(()), |world| {
            let world = world.with_status(|status| status.records.clear());
            world.serving(rotated().secrets.served.held)
        }),
        (Reason::FirstIssue, Act::Mint(()), |world| {
            let world = world.with_status(|status| status.records.clear());
            world.serving(Held::Absent)
        }),
        (Reason::RegenerateAsked, Act::Mint(()), |world| world.with_spec(&json!({"regenerate": {"id": "leak"}}))),
        (Reason::RotationDue, Act::Mint(()), |world| world.later(60 * DAY)),
        (Reason::SecretRenamed, Act::Mint(()), |world| {
            let world = world.later(25 * HOUR).with_status(|status| status.other_secret_name = None);
            world.with_spec(&json!({"secret": {"name": "new"}}))
        }),
        (Reason::TemplateChanged, Act::Mint(()), |world| {
            world.later(25 * HOUR).with_spec(&json!({"secret": {"data": {"a": "{{ token }}"}}}))
        }),
        (Reason::SecretMissing, Act::Mint(()), |world| world.later(5).serving(Held::Absent)),
        (Reason::SecretAltered, Act::Mint(()), |world| world.later(5).with_secret(|secret| secret.data.clear())),
        (Reason::SecretOutdated, Act::Amend(()), |world| world.with_secret(|secret| secret.metadata.labels = None)),
        (Reason::SecretLeftOver, Act::Discard, |world| {
            world.with_status(|status| status.other_secret_name = Some("old".into()))
        }),
        (Reason::RecordsOutdated, Act::Rest, |world| world.later(25 * HOUR)),
    ];

    /// The world, with a token that ended at the start.
    fn ended_by(world: World, reason: RevocationReason) -> World {
        let revocation = Revocation { reason, at: fixture::time(0), by: None, message: None, generations: vec![] };
        world.with_status(|status| status.revocation = Some(revocation))
    }

    /// The world, with the Secret annotated as claimed.
    fn claimed(world: World) -> World {
        let id = world.records.served().unwrap().id.clone();
        world.with_secret(|secret| {
            secret.metadata.annotations.get_or_insert_default().insert(name::CLAIMED.into(), id);
        })
    }

    fn unpublished(world: World, generation: i64, state: State) -> World {
        // Long enough ago that the next mint may follow a publish without an answer.
        let at = if state == State::Recorded { world.now - SignedDuration::from_secs(5) } else { world.now };
        let id = format!("id{generation}");
        let record = Record::new(generation, id, Digest::of("lost"), at, SignedDuration::from_hours(24));
        world.with_status(|status| status.records.push(Record { state, ..record }))
    }

    #[test]
    fn nothing_is_done_where_nothing_is_wrong() {
        assert_eq!(rotated().decision(), Decision { reason: Reason::Active, act: Act::Rest });
        assert_eq!(served().decision(), Decision { reason: Reason::Active, act: Act::Rest });
    }

    #[test]
    fn each_check_holds_in_its_own_world() {
        for (reason, act, trouble) in TROUBLES {
            assert_eq!(trouble(rotated()).decision(), Decision { reason, act }, "{reason}");
        }
    }

    #[test]
    fn each_check_beats_all_that_come_after_it() {
        let mut world = rotated();
        for (reason, act, trouble) in TROUBLES.into_iter().rev() {
            world = trouble(world);
            assert_eq!(world.decision(), Decision { reason, act }, "{reason}");
        }
    }

    #[test]
    fn ready_says_the_reason_of_a_check_that_says_how_the_token_is() {
        for (check, (_, _, trouble)) in CHAIN.iter().zip(TROUBLES).filter(|(check, _)| check.says.is_some()) {
            let world = trouble(rotated());
            let ready = fixture::said(&world.rested().status, READY).reason.clone();
            assert_eq!(ready, world.decision().reason.to_string(), "{}", check.reason);
        }
    }

    #[test]
    fn every_pause_is_a_check_and_every_check_that_pauses_is_a_pause() {
        let pausing = CHAIN.iter().filter(|check| check.fate == Fate::Pauses).map(|check| check.reason);
        assert!(pausing.eq(Pause::ALL.map(Pause::reason)));
    }

    /// True if a verifier accepts the second value, which is served from day 60.
    fn lets_in(world: &World) -> bool {
        let mut index = Index::default();
        world.instance.iter().for_each(|instance| _ = index.apply(Instance::clone(instance)));
        world.account.iter().for_each(|account| _ = index.apply(Account::clone(account)));
        index.apply(ApiToken::clone(&world.token));
        let value = fixture::plaintext(2);
        let verdict = check(&index, &Key::new("events", "eem"), value.expose(), None, world.now);
        verdict.cause.category() == Category::Allowed
    }

    #[test]
    fn valid_says_what_a_verifier_says_wherever_a_check_holds() {
        let owned = || rotated().with_spec(&json!({"owner": "serviceaccount:a/b"}));
        let (mut refused, mut let_in) = (0, 0);
        for (check, (_, _, trouble)) in CHAIN.iter().zip(TROUBLES) {
            let world = trouble(owned());
            let decision = world.decision();
            // A forgotten token keeps its last status.
            let act = if decision.act == Act::Forget { Act::Rest } else { decision.act };
            let status = world.settle(&Progress::none(Decision { act, ..decision })).status;
            let valid = fixture::said(&status, VALID).status == "True";
            let world = world.with_token(|token| token.status = Some(status));
            assert_eq!(valid, lets_in(&world), "{}", check.reason);
            assert!(!valid || !check.fate.is_refused(), "{}", check.reason);
            *(if valid { &mut let_in } else { &mut refused }) += 1;
        }
        assert!(refused >= 9 && let_in >= 9, "{refused} and {let_in}");
    }

    #[test]
    fn an_invalid_spec_is_told_by_its_first_fault() {
        let invalid = json!({"expiry": {"after": "400d"}});
        let world = served().with_spec(&invalid).serving(Held::Foreign);
        assert_eq!(world.decision(), Decision { reason: Reason::SecretForeign, act: Act::Rest });
    }

    #[test]
    fn revoked_is_honoured_with_an_invalid_spec_and_for_ever() {
        let end = Decision { reason: Reason::Revoked, act: Act::End(RevocationReason::Manual) };
        let world = served().with_spec(&json!({"revoked": true, "expiry": {"after": "400d"}}));
        assert_eq!(world.decision(), end);
        let ended = world.clone().settled(&Progress::none(world.decision()));
        assert_eq!(ended.with_spec(&json!({"revoked": false, "expiry": null})).decision(), end);
    }

    #[test]
    fn a_token_that_ended_with_its_account_says_so_for_ever() {
        let world = served().and(|world| world.account = None);
        let ended = world.clone().settled(&Progress::none(world.decision()));
        let back = ended.and(|world| world.account = served().account.clone()).with_spec(&json!({"revoked": true}));
        assert_eq!(back.decision(), world.decision());
        assert_eq!(back.decision().reason, Reason::AccountDeleted);
    }

    #[test]
    fn an_inactive_token_with_an_invalid_spec_is_told_its_faults() {
        let world = served().with_spec(&json!({"active": false, "expiry": {"after": "0d"}}));
        assert_eq!(world.decision(), Decision { reason: Reason::Invalid, act: Act::Rest });
    }

    #[test]
    fn an_account_is_lost_when_it_is_absent_another_or_being_deleted_and_at_no_other_time() {
        let lost: [fn(World) -> World; 3] = [
            |world| world.and(|world| world.account = None),
            |world| world.with_account(|account| account.metadata.uid = Some("another".into())),
            |world| world.with_account(|account| account.metadata.deletion_timestamp = Some(fixture::time(0))),
        ];
        for (index, lose) in lost.into_iter().enumerate() {
            assert_eq!(lose(served()).decision().reason, Reason::AccountDeleted, "{index}");
        }
        let changed = served().with_account(|account| {
            account.metadata.resource_version = Some("9".into());
            account.spec.display_name = Some("renamed".into());
        });
        assert_eq!(changed.decision().reason, Reason::Active);
    }

    #[test]
    fn a_token_that_was_never_bound_cannot_lose_its_account() {
        let named = json!({"serviceAccountRef": {"name": "ci"}});
        assert_eq!(new().decision().reason, Reason::FirstIssue);
        assert_eq!(new().with_spec(&named).decision().reason, Reason::AccountMissing);
        let standing = new().with_spec(&named).and(|world| world.account = Some(Arc::new(account())));
        assert_eq!(standing.decision().reason, Reason::FirstIssue);
    }

    #[test]
    fn a_publish_that_landed_is_adopted_and_one_that_did_not_is_followed_by_the_next() {
        let world = incomplete();
        let record = world.records.recorded().next().unwrap().clone();
        let pause = Decision { reason: Reason::PublishIncomplete, act: Act::Rest };
        assert_eq!(world.clone().later(4).decision(), pause, "its publish may still land");
        let world = world.later(5);
        assert_eq!(world.decision(), Decision { reason: Reason::PublishIncomplete, act: Act::Mint(()) });
        let landed = world.holding(&record, 2);
        assert_eq!(landed.decision(), Decision { reason: Reason::PublishIncomplete, act: Act::Acknowledge(2) });
    }

    #[test]
    fn while_two_publishes_may_still_land_a_third_waits() {
        let world = incomplete();
        let second = world.minted(3);
        let world = world.settled(&second).later(119);
        assert_eq!(world.decision(), Decision { reason: Reason::PublishIncomplete, act: Act::Rest });
        let records: Vec<_> = world.records.recorded().cloned().collect();
        for (record, draw) in records.iter().zip([2, 3]) {
            let act = Act::Acknowledge(record.generation);
            assert_eq!(world.clone().holding(record, draw).decision().act, act, "either may have landed");
        }
        assert_eq!(world.later(1).decision().act, Act::Mint(()));
    }

    #[test]
    fn a_value_that_was_published_just_now_is_not_replaced_at_once() {
        let gone = rotated().serving(Held::Absent);
        assert_eq!(gone.clone().later(4).decision(), Decision { reason: Reason::SecretMissing, act: Act::Rest });
        assert_eq!(gone.later(5).decision(), Decision { reason: Reason::SecretMissing, act: Act::Mint(()) });
    }

    #[test]
    fn a_value_that_was_never_recorded_is_never_adopted() {
        let world = incomplete().later(5).with_secret(|secret| {
            secret.data.insert(secret::TOKEN.into(), secret::Sealed::of("planted"));
        });
        assert_eq!(world.decision(), Decision { reason: Reason::PublishIncomplete, act: Act::Mint(()) });
    }

    #[test]
    fn whatever_a_status_says_no_second_value_is_minted_within_five_seconds_of_the_first() {
        let just_now = |world: World| {
            let from = world.now + SignedDuration::from_secs(5);
            world.and(|world| world.may_mint_from = Some(from))
        };
        let waits = |reason| Decision { reason, act: Act::Wait };
        let lost = just_now(rotated().with_token(|token| token.status = None));
        assert_eq!(lost.decision(), waits(Reason::RecordsLost));
        assert_eq!(lost.rested().wakes_at(), Some(lost.now + SignedDuration::from_secs(5)));
        assert_eq!(lost.clone().later(5).decision().act, Act::Mint(()));
        assert_eq!(just_now(new()).decision(), waits(Reason::FirstIssue));
        let gone = rotated().later(DAY).serving(Held::Absent);
        assert_eq!(just_now(gone).decision(), waits(Reason::SecretMissing));
        let asked = served().with_spec(&json!({"regenerate": {"id": "leak"}}));
        assert_eq!(just_now(asked).decision().act, Act::Mint(()));
        assert_eq!(just_now(served().later(60 * DAY)).decision().act, Act::Mint(()));
    }

    #[test]
    fn a_predecessor_put_back_into_the_secret_is_not_what_should_be_there() {
        let old = served().secrets.served.held;
        assert_eq!(rotated().serving(old).decision().reason, Reason::SecretAltered);
    }

    #[test]
    fn a_foreign_secret_is_a_fault_and_nothing_is_minted() {
        for world in [new(), served(), incomplete(), served().later(60 * DAY)] {
            let world = world.serving(Held::Foreign);
            assert_eq!(world.decision(), Decision { reason: Reason::SecretForeign, act: Act::Rest });
        }
    }

    #[test]
    fn without_a_status_nothing_is_adopted_and_the_number_is_above_the_secrets() {
        let lost = rotated().with_token(|token| token.status = None);
        assert_eq!(lost.decision(), Decision { reason: Reason::RecordsLost, act: Act::Mint(()) });
        assert_eq!(lost.minted(3).recorded.unwrap().generation, 3);
    }

    #[test]
    fn a_planted_number_never_makes_two_generations_share_one() {
        let planted = |number: &str| {
            let number = number.to_owned();
            let world = served().with_secret(|secret| {
                secret.metadata.annotations.get_or_insert_default().insert(name::GENERATION.into(), number);
            });
            let next = world.minted(2).recorded.unwrap().generation;
            let after = world.issued(2).minted(3).recorded.unwrap().generation;
            (next, after)
        };
        assert_eq!(planted("41"), (42, 43));
        for odd in ["9223372036854775807", "-7", "x", ""] {
            assert_eq!(planted(odd), (2, 3), "{odd:?}");
        }
    }

    #[test]
    fn it_is_the_first_issue_until_one_was_published() {
        let refused = unpublished(new(), 1, State::Expired).later(10);
        assert_eq!(refused.decision(), Decision { reason: Reason::FirstIssue, act: Act::Mint(()) });
    }

    #[test]
    fn an_id_asks_until_a_generation_was_published_for_it_and_never_again() {
        let asked = served().with_spec(&json!({"regenerate": {"id": "leak"}}));
        let mint = Decision { reason: Reason::RegenerateAsked, act: Act::Mint(()) };
        assert_eq!(asked.decision(), mint);
        let refused = unpublished(asked.clone(), 2, State::Expired).later(10);
        assert_eq!(refused.decision(), mint, "a refused generation is no answer");
        let answered = asked.issued(2);
        assert_eq!(answered.decision().act, Act::Rest);
        assert_eq!(answered.clone().with_spec(&json!({"regenerate": null})).decision().act, Act::Rest);
        assert_eq!(answered.with_spec(&json!({"regenerate": {"id": "another"}})).decision(), mint);
    }

    #[test]
    fn a_publish_that_was_not_heard_of_answers_when_it_is_found() {
        let asked = served().with_spec(&json!({"regenerate": {"id": "leak"}}));
        let (progress, record) = (asked.minted(2), asked.minted(2).recorded.unwrap());
        let found = asked.settled(&progress).holding(&record, 2);
        assert_eq!(found.decision(), Decision { reason: Reason::PublishIncomplete, act: Act::Acknowledge(2) });
        let adopted = Progress { published: Some((2, found.now)), ..Progress::none(found.decision()) };
        assert_eq!(found.settled(&adopted).decision().act, Act::Rest);
    }

    #[test]
    fn the_first_generation_answers_what_asks_then() {
        let first = new().with_spec(&json!({"regenerate": {"id": "leak"}})).and(|world| {
            world.account = Some(Arc::new(fixture::own_account(fixture::ACCOUNT_UID)));
        });
        assert_eq!(first.decision().reason, Reason::FirstIssue);
        assert_eq!(first.issued(1).decision().act, Act::Rest);
    }

    /// A world in which generation 1 was issued with a key that contains the value.
    fn made() -> World {
        let world = new().and(|world| world.account = Some(Arc::new(fixture::own_account(fixture::ACCOUNT_UID))));
        with_data(world, "TOKEN={{ token }}\nURL={{ endpoint }}").issued(1)
    }

    fn with_data(world: World, template: &str) -> World {
        world.with_spec(&json!({"secret": {"data": {"client.env": template}}}))
    }

    #[test]
    fn a_key_that_is_made_of_the_value_is_looked_after_like_the_value() {
        assert_eq!(made().decision(), Decision { reason: Reason::Active, act: Act::Rest });
        let altered: [fn(&mut secret::SealedSecret); 2] = [
            |secret| _ = secret.data.remove("client.env"),
            |secret| _ = secret.data.insert("client.env".into(), secret::Sealed::of("TOKEN=mine")),
        ];
        for alter in altered {
            let world = made().later(5).with_secret(alter);
            assert_eq!(world.decision(), Decision { reason: Reason::SecretAltered, act: Act::Mint(()) });
            assert_eq!(world.issued(2).decision().act, Act::Rest);
        }
    }

    #[test]
    fn what_a_key_is_made_of_can_change_with_a_new_value_once_no_overlap_runs() {
        let mint = Decision { reason: Reason::TemplateChanged, act: Act::Mint(()) };
        let changed = with_data(made(), "{{ token | b64encode }}");
        assert_eq!(changed.decision(), mint);
        let issued = changed.issued(2);
        assert_eq!(issued.decision(), Decision { reason: Reason::Active, act: Act::Rest });
        let again = with_data(issued, "{{ token }}");
        assert_eq!(again.decision().act, Act::Rest, "generation 1 is in its overlap");
        let waiting = again.rested().status.rotates_at.unwrap().0;
        assert_eq!(waiting, fixture::at(24 * HOUR));
        assert_eq!(again.later(24 * HOUR).decision(), mint);
    }

    #[test]
    fn a_value_that_is_shown_once_is_not_minted_again_for_a_template() {
        let once = made().with_spec(&json!({"secret": {"delivery": "Once"}}));
        assert_eq!(with_data(once, "{{ token_id }}").decision().act, Act::Rest);
    }

    #[test]
    fn what_a_template_names_counts_and_how_it_is_written_does_not() {
        assert_eq!(made().at_endpoint("https://a").decision().reason, Reason::TemplateChanged);
        let same = with_data(made(), "TOKEN={{token}}{# a remark #}\nURL={{ endpoint }}");
        assert_eq!(same.decision(), Decision { reason: Reason::Active, act: Act::Rest });
    }

    #[test]
    fn a_key_that_does_not_hold_the_value_comes_and_goes_without_a_new_one() {
        let amend = Decision { reason: Reason::SecretOutdated, act: Act::Amend(()) };
        assert_eq!(with_data(served(), "URL={{ endpoint }}").decision(), amend);
        assert_eq!(made().with_spec(&json!({"secret": null})).decision(), amend);
        assert_eq!(with_data(made(), "none").decision(), amend);
        assert_eq!(served().with_spec(&json!({"secret": {"labels": {"a": "b"}}})).decision(), amend);
    }

    #[test]
    fn an_instance_that_allows_less_later_shortens_what_exists() {
        let shorter = served().with_instance(json!({"tokens": {"lifetime": {"max": "30d"}}}));
        assert_eq!(shorter.records.served().unwrap().end(), Some(fixture::at(30 * DAY)));
        assert_eq!(shorter.decision(), Decision { reason: Reason::RecordsOutdated, act: Act::Rest });
        let settled = shorter.clone().settled(&Progress::none(shorter.decision()));
        assert_eq!(settled.with_instance(json!({})).records.served().unwrap().end(), Some(fixture::at(30 * DAY)));
        let faulty = served().with_spec(&json!({"expiry": {"after": "90d"}}));
        let faulty = faulty.with_instance(json!({"tokens": {"lifetime": {"max": "30d"}}}));
        assert_eq!(faulty.decision(), Decision { reason: Reason::LifetimeExceeded, act: Act::Rest });
        assert_eq!(faulty.records.served().unwrap().end(), Some(fixture::at(30 * DAY)), "the limit also applies here");
    }

    fn renamed(world: World, name: &str) -> World {
        world.with_spec(&json!({"secret": {"name": name}}))
    }

    #[test]
    fn a_secret_of_another_name_comes_with_a_new_value_and_then_the_old_one_goes() {
        let world = renamed(served(), "new");
        assert_eq!((&*world.secrets.served.name, &*world.secrets.next().name), ("ci", "new"));
        assert_eq!(world.decision(), Decision { reason: Reason::SecretRenamed, act: Act::Mint(()) });
        let status = world.settle(&world.minted(2)).status;
        let names = [status.secret_name.as_deref(), status.other_secret_name.as_deref()];
        assert_eq!(names, [Some("ci"), Some("new")], "on record, and on its way");
        let issued = world.issued(2);
        assert_eq!(issued.decision(), Decision { reason: Reason::SecretLeftOver, act: Act::Discard });
        let status = issued.status();
        let names = [status.secret_name.as_deref(), status.other_secret_name.as_deref()];
        assert_eq!((names, status.binding.unwrap().name.as_str()), ([Some("new"), Some("ci")], "new"));
        let gone = issued.clone().storing("ci", Held::Absent);
        let done = gone.settled(&Progress::none(issued.decision()));
        assert_eq!((done.status().other_secret_name, done.decision().act), (None, Act::Rest));
    }

    #[test]
    fn another_name_waits_for_the_overlap_and_the_value_is_looked_after_where_it_is() {
        let world = renamed(rotated(), "new");
        assert_eq!(world.decision().act, Act::Rest);
        assert_eq!(world.rested().status.rotates_at.unwrap().0, fixture::at(61 * DAY));
        let damaged = world.clone().later(5).with_secret(|secret| secret.data.clear());
        assert_eq!(damaged.decision(), Decision { reason: Reason::SecretAltered, act: Act::Mint(()) });
        assert_eq!(damaged.secrets.next().name, "new", "a repair goes to the new name");
        let outdated = world.clone().with_secret(|secret| secret.metadata.labels = None);
        assert_eq!(outdated.decision().reason, Reason::SecretOutdated);
        let immutable = outdated.with_secret(|secret| secret.immutable = Some(true));
        assert_eq!(immutable.decision().act, Act::Rest, "it is about to be replaced");
        assert_eq!(world.later(DAY).decision(), Decision { reason: Reason::SecretRenamed, act: Act::Mint(()) });
        let once = renamed(served(), "new").with_spec(&json!({"secret": {"delivery": "Once"}}));
        assert_eq!(once.decision().act, Act::Rest);
    }

    #[test]
    fn a_name_can_be_taken_back() {
        let before = renamed(renamed(served(), "new"), "ci");
        assert_eq!(before.decision().act, Act::Rest, "nothing was done yet");
        let after = renamed(renamed(served(), "new").issued(2), "ci");
        assert_eq!(
            (&*after.secrets.served.name, &*after.secrets.next().name, &after.secrets.leftover),
            ("new", "ci", &None),
            "the old one is used again"
        );
        assert_eq!(after.decision().act, Act::Rest, "the overlap is running");
        let back = after.later(DAY).issued(3);
        let status = back.status();
        assert_eq!((status.secret_name.as_deref(), status.other_secret_name.as_deref()), (Some("ci"), Some("new")));
        assert_eq!(back.secrets.served.held.digest(), Some(fixture::plaintext(3).digest()));
    }

    #[test]
    fn a_crash_of_a_renaming_is_found_and_one_old_secret_goes_before_the_next_name_is_taken() {
        let world = renamed(served(), "new");
        let progress = world.minted(2);
        let record = progress.recorded.clone().unwrap();
        let recorded = world.settled(&progress);
        let landed = recorded.clone().holding(&record, 2);
        assert_eq!(landed.decision(), Decision { reason: Reason::PublishIncomplete, act: Act::Acknowledge(2) });
        let adopted = Progress { published: Some((2, landed.now)), ..Progress::none(landed.decision()) };
        let names = |world: &World| {
            let status = world.status();
            (status.secret_name, status.other_secret_name)
        };
        let pair = |one: &str, other: &str| (Some(one.to_owned()), Some(other.to_owned()));
        assert_eq!(names(&landed.clone().settled(&adopted)), pair("new", "ci"));
        // The name changes again before the next pass.
        let third = renamed(landed, "third");
        assert_eq!(third.decision().act, Act::Acknowledge(2));
        let third = third.clone().settled(&Progress { decision: third.decision(), ..adopted });
        assert_eq!(names(&third), pair("new", "ci"));
        assert_eq!(third.secrets.next().name, "new", "the first one still exists");
        assert_eq!(third.later(DAY).decision(), Decision { reason: Reason::SecretLeftOver, act: Act::Discard });
    }

    #[test]
    fn a_name_that_is_taken_is_a_fault_and_the_old_secret_stays_served() {
        let world = renamed(served(), "new").storing("new", Held::Foreign);
        assert_eq!(world.decision(), Decision { reason: Reason::SecretForeign, act: Act::Rest });
        let status = world.rested().status;
        assert_eq!((status.secret_name.as_deref(), &status.records), (Some("ci"), &served().status().records));
    }

    #[test]
    fn a_status_that_names_the_wrong_secret_is_mended_without_a_new_value() {
        let wrong = served().with_status(|status| {
            status.secret_name = Some("elsewhere".into());
            status.other_secret_name = Some("ci".into());
        });
        assert_eq!(wrong.decision().act, Act::Rest);
        assert_eq!(wrong.rested().status, served().status());
    }

    #[test]
    fn a_secret_can_be_renamed_while_its_value_is_out_of_time() {
        let expired = renamed(served().with_spec(&json!({"active": false})).later(91 * DAY), "new");
        let settled = expired.clone().settled(&Progress::none(expired.decision()));
        assert_eq!(settled.status().secret_name.as_deref(), Some("ci"), "it still exists");
        let back = settled.with_spec(&json!({"active": true})).issued(2).status();
        assert_eq!((back.secret_name.as_deref(), back.other_secret_name.as_deref()), (Some("new"), Some("ci")));
    }

    #[test]
    fn a_generation_that_ran_out_is_replaced_as_soon_as_it_may_be() {
        let world = served().with_spec(&json!({"active": false})).later(91 * DAY);
        assert_eq!(world.decision().reason, Reason::Suspended);
        let back = world.with_spec(&json!({"active": true}));
        assert_eq!(back.decision(), Decision { reason: Reason::RotationDue, act: Act::Mint(()) });
    }
}
