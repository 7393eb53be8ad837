//! Restarts of the workloads in `spec.restart`, once for each generation. They are also restarted once for each later
//! change of the keys `endpoint` and `ca.crt`.
//!
//! ```text
//!  published ──▶ pending ── quiet for 5 s, at most 30 s ──▶ each Pod template is annotated ──▶ noted in status
//!                status.restart: {generation}                with the generation's id           status.restart.at
//! ```
//!
//! A change of the keys begins at *pending*, once the Secret has it. The annotation then has a suffix: the digest of
//! both keys. The status keeps that digest, so a change is found after a crash, too.
//!
//! A noted restart is never repeated, even if a user removes the annotations. After a crash before the note, the next
//! pass finds the annotation, or sets the same annotation again.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    act::{Act, Never},
    ending, issue,
    observed::Ca,
    outcome::Outcome,
    progress::Progress,
    terms::{CheckedTerms, TokenTerms},
    workloads::{Pending, Seen, Workloads},
    world::World,
};
use crate::{
    controller::kind::Wake,
    crd::{
        Conditions, EventName, Fault, Reason, RestartTarget,
        condition::{ACCEPTED, RESTARTED},
        secret,
        workload::{MAX_RESTARTED, RESTART, Restart},
    },
    outside::{Workload, events::Note},
    token::Digest,
};

/// The pending restart of this token.
pub(crate) fn pending(world: &World) -> Option<Pending> {
    let restart = world.before().restart.as_ref();
    Pending::of(restart, &world.records).filter(|_| !world.token.spec.restart.is_empty())
}

/// The check `RestartDue`: the value is in the Secret, and the restart of the workloads is due. The check does not hold
/// if the value is about to be replaced. Otherwise a restart that always fails would keep the value for ever. A restart
/// mints nothing, so it also takes place while the spec has faults.
pub(crate) fn restart_due(world: &World, terms: &CheckedTerms) -> Option<Act<Never>> {
    let replaced = || terms.as_ref().is_ok_and(|terms| issue::is_about_to_replace(world, terms));
    (is_due(world) && !replaced()).then_some(Act::Restart)
}

/// True if the served generation is in the Secret and its restart is due.
fn is_due(world: &World) -> bool {
    let records = &world.records;
    let holds = records.served().is_some_and(|served| world.secrets.served.held.digest() == Some(served.sha256));
    let waits = !holds || world.pause.is_some() || records.recorded().next().is_some();
    let pending = pending(world).filter(|_| !waits);
    pending.is_some_and(|pending| pending.due_at(&world.fellows, world.now) <= world.now)
}

/// The reason to read the workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    /// The pass does not need the workloads and does not read them.
    Nothing,
    /// The pass may mint a value or report faults, and for both the workloads have to exist.
    ToMint,
    /// The pass restarts the workloads.
    ToRestart,
}

/// The reason to read the workloads, as far as it is known before the terms are checked. A token at rest has none.
/// After a change of the spec the workloads are read at once, and while the spec has faults they are read in each pass.
pub(crate) fn needed(world: &World) -> Needed {
    if world.token.spec.restart.is_empty() || ending::is_over(world) {
        Needed::Nothing
    } else if world.has_new_spec() || issue::may_mint(world) || is_refused(world) {
        // Each pass reports a fault until it is fixed, also while a restart is due. A status that had the fault in
        // every second pass only would never come to rest.
        Needed::ToMint
    } else if is_due(world) {
        Needed::ToRestart
    } else {
        Needed::Nothing
    }
}

fn is_refused(world: &World) -> bool {
    world.before().conditions.iter().any(|condition| condition.type_ == ACCEPTED && condition.status == "False")
}

/// True if this pass has not read the workloads, so it must not mint. This happens if only the terms show that a mint
/// is due. Then the pass writes this into the status, and the next pass reads the workloads.
pub(crate) fn is_unseen(world: &World) -> bool {
    let is_checked = matches!(world.workloads, Workloads::Checked(_));
    !world.token.spec.restart.is_empty() && !is_checked
}

/// Adds the faults of `spec.restart`.
pub(crate) fn faults(world: &World, faults: &mut Vec<Fault>) {
    let targets = &world.token.spec.restart;
    if !targets.is_empty() && world.shown_once.next {
        let asked = world.token.spec.secret.as_ref().is_some_and(|secret| secret.delivery.is_some());
        let (by, advice) = if asked {
            ("secret.delivery: Once", "remove one of the two")
        } else {
            ("tokens.delivery: Once of the Instance", "remove it")
        };
        let message = format!("is not allowed with {by}, as a workload that starts later finds no Secret; {advice}");
        faults.push(Fault::invalid("spec.restart", message));
    }
    if targets.len() > MAX_RESTARTED {
        faults.push(Fault::invalid("spec.restart", format!("must not name more than {MAX_RESTARTED} workloads")));
    }
    for (index, target) in targets.iter().enumerate() {
        let path = format!("spec.restart[{index}]");
        if targets[..index].contains(target) {
            faults.push(Fault::invalid(path, format!("names {target} again; remove the entry")));
        } else if let Some((reason, message)) = missing(world, index, target) {
            faults.push(Fault::new(reason, path, message));
        }
    }
}

fn missing(world: &World, index: usize, target: &RestartTarget) -> Option<(Reason, String)> {
    let Workloads::Checked(seen) = &world.workloads else { return None };
    match seen.get(index)? {
        Seen::There(_) => None,
        Seen::Absent => {
            let message = format!("there is no {target} in this namespace; create it, or remove the entry");
            Some((Reason::WorkloadMissing, message))
        }
        Seen::Forbidden(_) => {
            let message = format!(
                "the operator may not read {target}; install the chart with restart.enabled=true, or remove the entry"
            );
            Some((Reason::WorkloadForbidden, message))
        }
    }
}

/// The pending restart, with the workloads as they were read.
pub(crate) fn to_roll(world: &World) -> Option<(Pending, Vec<(&RestartTarget, &Seen)>)> {
    let all = match &world.workloads {
        Workloads::Unread => return None,
        Workloads::Checked(all) | Workloads::Due(all) => all,
    };
    Some((pending(world)?, world.token.spec.restart.iter().zip(all).collect()))
}

/// The annotation of a token on the Pod template of each workload that it restarts.
fn key(uid: &str) -> String {
    format!("{RESTART}{uid}")
}

/// The changes of annotations that restart a workload. They cover this token and each fellow with a pending restart, so
/// the fellows need no restart later. Annotations of tokens that no longer name the workload are removed. Returns none
/// if the workload was already restarted for this generation.
pub(crate) fn annotations(
    world: &World,
    pending: &Pending,
    target: &RestartTarget,
    workload: &Workload,
) -> Option<BTreeMap<String, Option<String>>> {
    let own = key(world.uid());
    if workload.annotations.get(&own) == Some(&pending.id) {
        return None;
    }
    let naming = || world.fellows.iter().filter(|fellow| fellow.targets.contains(target));
    let known: BTreeSet<String> = naming().map(|fellow| key(&fellow.uid)).collect();
    let old = workload.annotations.keys().filter(|key| key.starts_with(RESTART) && !known.contains(*key));
    let mut changes: BTreeMap<_, _> = old.map(|key| (key.clone(), None)).collect();
    changes.extend(naming().filter_map(|fellow| Some((key(&fellow.uid), Some(fellow.pending.clone()?.id)))));
    changes.insert(own, Some(pending.id.clone()));
    Some(changes)
}

/// The restart to note in status after `progress`.
pub(crate) fn noted(world: &World, terms: &CheckedTerms, progress: &Progress) -> Option<Restart> {
    if world.token.spec.restart.is_empty() {
        return None;
    }
    let terms = terms.as_ref().ok();
    if let Some((generation, _)) = progress.published {
        return Some(Restart::published(generation, terms.map(|terms| terms.endpoint_digest())));
    }
    let mut restart = world.before().restart.clone()?;
    if progress.rolled.as_ref().is_some_and(|rolled| rolled.failure.is_none()) {
        restart.at = Some(Time(world.now));
    }
    let Some(digest) = terms.filter(|terms| has_endpoint(world, terms)).map(|terms| terms.endpoint_digest()) else {
        return Some(restart);
    };
    // The status of an earlier release has no digest. Its workloads count as restarted for the keys of now.
    let has_changed = restart.endpoint_digest.as_ref().is_some_and(|noted| *noted != digest);
    if has_changed {
        (restart.changed_at, restart.at) = (Some(Time(world.now)), None);
    }
    Some(Restart { endpoint_digest: Some(digest), ..restart })
}

/// True if the Secret has the keys `endpoint` and `ca.crt` that it should have, and both are known. The empty endpoint
/// of a disabled one is no reason for a restart.
fn has_endpoint(world: &World, terms: &TokenTerms) -> bool {
    let held = &world.secrets.served.held;
    let holds =
        |key: &str, text: Option<&String>| text.is_none_or(|text| held.digest_of(key) == Some(Digest::of(text)));
    let is_disabled = world.instance.as_ref().is_some_and(|instance| instance.is_disabled());
    let is_known = !is_disabled && world.ca() != Ca::Unknown;
    is_known && holds(secret::ENDPOINT, Some(&terms.endpoint)) && holds(secret::CA, terms.shape.plain.get(secret::CA))
}

/// Sets the condition `Restarted`. A failed restart does not affect `Ready`, because the value is in the Secret and
/// valid.
pub(crate) fn conclude(conditions: &mut Conditions, restart: Option<&Restart>, progress: &Progress) {
    let Some(restart) = restart else { return conditions.remove(RESTARTED) };
    let cause = restart.cause();
    let failure = progress.rolled.as_ref().and_then(|rolled| rolled.failure.as_ref());
    match (&restart.at, failure) {
        (Some(_), _) => {
            let message = format!("the restart of the workloads for {cause} was started");
            conditions.set(RESTARTED, true, Reason::Restarted, message);
        }
        (None, Some((target, refusal))) => {
            let text = format!("{cause}: {target}: {}; trying again", refusal.why);
            let text = conditions.failing(RESTARTED, Reason::RestartFailed, refusal.why.way(), text);
            conditions.set(RESTARTED, false, Reason::RestartFailed, text);
        }
        (None, None) => {
            let message = format!("{cause} is published; the workloads are about to be restarted");
            conditions.set(RESTARTED, false, Reason::RestartDue, message);
        }
    }
}

/// The next pass for the restart; none if the restart is due but another check holds it back.
pub(crate) fn wake(outcome: &Outcome<'_>, restart: Option<&Restart>, conditions: &Conditions) -> Option<Wake> {
    let Outcome { world, progress, records, .. } = outcome;
    if progress.rolled.as_ref().is_some_and(|rolled| rolled.failure.is_some()) {
        return Some(Wake { at: conditions.retry(RESTARTED), why: "another try to restart workloads" });
    }
    let due = Pending::of(restart, records)?.due_at(&world.fellows, world.now);
    (due > world.now).then_some(Wake { at: due, why: "the restart of workloads" })
}

/// The event of a restart, written once.
pub(crate) fn note(world: &World, progress: &Progress, conditions: &Conditions) -> Option<Note> {
    let rolled = progress.rolled.as_ref()?;
    let cause = world.before().restart.as_ref()?.cause();
    if let Some((target, refusal)) = &rolled.failure {
        let text = format!("{cause}: {target}: {}; trying again", refusal.why);
        return conditions
            .changed(RESTARTED)
            .then(|| Note::warning(EventName::RestartFailed, Reason::RestartFailed, text));
    }
    let (missing, told): (Vec<_>, Vec<_>) =
        world.token.spec.restart.iter().partition(|target| rolled.missing.contains(target));
    let list = |targets: &[&RestartTarget]| targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let text = format!("told to restart for {cause}: {}", list(&told));
    if missing.is_empty() {
        return Some(Note::normal(EventName::Restarted, Reason::Restarted, text));
    }
    let absent = list(&missing);
    if told.is_empty() {
        let text = format!("nothing was there to restart for {cause}; there is no {absent}");
        return Some(Note::warning(EventName::RestartSkipped, Reason::WorkloadMissing, text));
    }
    Some(Note::warning(EventName::Restarted, Reason::Restarted, format!("{text}; there is no {absent}")))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{ACCOUNT_UID, DAY, UID, at, conditions, exposed, new, own_account, time};
    use super::super::{act::Decision, progress::Rolled, workloads::Fellow};
    use super::*;
    use crate::controller::kind::Settled;
    use crate::crd::api_token::ApiTokenStatus;
    use crate::outside::{Refusal, Why};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn exporter() -> Value {
        json!({"restart": [{"kind": "Deployment", "name": "exporter"}]})
    }

    fn target(name: &str) -> RestartTarget {
        serde_json::from_value(json!({"kind": "Deployment", "name": name})).unwrap()
    }

    /// The restart for generation 1, of an Instance without an endpoint.
    fn noted_at(at: Option<Time>) -> Restart {
        let digest = new().terms().unwrap().endpoint_digest();
        Restart { at, ..Restart::published(1, Some(digest)) }
    }

    /// Generation 1 was published just now, and the restart of the Deployment is pending.
    fn published() -> World {
        let world = new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID))));
        world.with_spec(&exporter()).issued(1)
    }

    fn there(annotations: &[(&str, &str)]) -> Workload {
        let annotations = annotations.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        Workload {
            kind: target("exporter").kind,
            namespace: "events".into(),
            name: "exporter".into(),
            uid: "w1".into(),
            version: "7".into(),
            annotations,
        }
    }

    fn fellow(uid: &str, published_at: Option<i64>) -> Fellow {
        let pending = |published_at| Pending { generation: 7, id: format!("id-{uid}"), since: at(published_at) };
        Fellow { uid: uid.into(), targets: vec![target("exporter")], pending: published_at.map(pending) }
    }

    fn rolled(world: &World, missing: Vec<RestartTarget>, refusal: Option<Refusal>) -> Progress {
        let failure = refusal.map(|refusal| (target("exporter"), refusal));
        let rolled = Rolled { generation: pending(world).unwrap().generation, missing, failure };
        Progress { rolled: Some(rolled), ..Progress::none(world.decision()) }
    }

    fn condition(settled: &Settled<ApiTokenStatus>) -> (String, String) {
        let said = settled.status.conditions.iter().find(|condition| condition.type_ == RESTARTED).unwrap();
        (conditions(&settled.status).pop().unwrap(), said.message.clone())
    }

    fn notes(settled: &Settled<ApiTokenStatus>) -> Vec<(bool, Reason, &str)> {
        settled.notes.iter().map(|note| (note.warning, note.reason, note.text.as_str())).collect()
    }

    #[test]
    fn it_waits_until_it_was_quiet_and_at_the_most_half_a_minute() {
        for (own, others, due) in [
            (0, vec![], 5),
            (0, vec![3], 8),
            (3, vec![0], 8),
            (0, vec![4, 8, 12], 17),
            (0, vec![9, 18, 27], 30),
            (9, vec![0, 18, 27], 32),
            // A fellow that waits for ever, because its own restart is refused, makes no restart earlier.
            (100, vec![0], 105),
        ] {
            let fellows: Vec<_> = others.iter().map(|&other| fellow("b", Some(other))).collect();
            let own = fellow("a", Some(own)).pending.unwrap();
            assert_eq!(own.due_at(&fellows, at(1_000)), at(due), "{own:?} {others:?}");
        }
    }

    #[test]
    fn a_publish_in_the_future_holds_nothing_up() {
        let pending = |published_at| fellow("a", Some(published_at)).pending.unwrap();
        assert_eq!(pending(100).due_at(&[], at(0)), at(0));
        assert_eq!(pending(0).due_at(&[fellow("b", Some(100))], at(1)), at(5));
        assert_eq!(pending(0).due_at(&[fellow("b", None)], at(1)), at(5));
    }

    #[test]
    fn a_fault_that_comes_after_the_publish_keeps_no_workload_on_the_old_value() {
        let faulty = published().with_spec(&json!({"rotation": {"overlap": "0d"}}));
        assert_eq!(faulty.clone().later(4).decision().reason, Reason::Invalid);
        assert_eq!(faulty.rested().wakes_at(), Some(at(2)), "the faults are looked at again earlier");
        let due = faulty.later(5);
        assert_eq!(due.decision(), Decision { reason: Reason::RestartDue, act: Act::Restart });
        let wrong = due.with_secret(|secret| secret.data.clear());
        assert_eq!(wrong.decision().act, Act::Rest, "the workload would read another value");
        assert_eq!(published().with_spec(&json!({"active": false})).later(5).decision().reason, Reason::Suspended);
    }

    #[test]
    fn it_is_due_once_for_each_generation_and_whoever_published_meanwhile_is_waited_for() {
        let restart = Decision { reason: Reason::RestartDue, act: Act::Restart };
        let world = published();
        assert_eq!(world.clone().later(4).decision().act, Act::Rest);
        let due = world.clone().later(5);
        assert_eq!(due.decision(), restart);
        assert_eq!(due.clone().and(|world| world.fellows = vec![fellow("b", Some(3))]).decision().act, Act::Rest);
        let noted = due.clone().settled(&rolled(&due, vec![], None));
        assert_eq!(noted.decision().act, Act::Rest);
        assert_eq!(noted.clone().later(DAY).decision().act, Act::Rest);
        let next = noted.later(60 * DAY).issued(2);
        assert_eq!(next.clone().later(4).decision().act, Act::Rest);
        assert_eq!(next.later(5).decision(), restart);
    }

    #[test]
    fn an_entry_that_is_added_later_counts_from_the_next_value_on() {
        let world = published().with_spec(&json!({"restart": []}));
        let without = world.clone().settled(&Progress::none(world.decision()));
        assert_eq!((without.status().restart, without.status().conditions.len()), (None, 4));
        let added = without.with_spec(&exporter()).later(DAY);
        assert_eq!(added.decision().act, Act::Rest);
        assert_eq!(added.later(60 * DAY).issued(2).later(5).decision().act, Act::Restart);
    }

    #[test]
    fn nothing_is_read_unless_something_depends_on_it() {
        let started = new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID))));
        let noted = published().later(5);
        let noted = noted.clone().settled(&rolled(&noted, vec![], None));
        let changed = |world: &World| world.clone().with_token(|token| token.metadata.generation = Some(2));
        let faulty = noted.clone().with_spec(&json!({"rotation": {"overlap": "0d"}}));
        let faulty = faulty.clone().settled(&Progress::none(faulty.decision()));
        for (what, world, expected) in [
            ("nothing is named", started.clone(), Needed::Nothing),
            ("the first value is to be minted", started.with_spec(&exporter()), Needed::ToMint),
            ("it waits for other publishes", published(), Needed::Nothing),
            ("it is due", published().later(5), Needed::ToRestart),
            ("it is done", noted.clone(), Needed::Nothing),
            ("the spec is new", changed(&noted), Needed::ToMint),
            ("the spec has faults", faulty, Needed::ToMint),
            ("the next value is due", noted.clone().later(60 * DAY), Needed::ToMint),
            ("it is revoked", changed(&noted).with_spec(&json!({"revoked": true})), Needed::Nothing),
        ] {
            assert_eq!(needed(&world), expected, "{what}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let told = |world: &World| {
            let mut found = Vec::new();
            faults(world, &mut found);
            found.iter().map(|fault| format!("{} {fault}", fault.reason)).collect::<Vec<_>>()
        };
        let seen =
            |seen: Seen| new().with_spec(&exporter()).and(|world| world.workloads = Workloads::Checked(vec![seen]));
        assert_eq!(told(&seen(Seen::There(there(&[])))), Vec::<String>::new());
        assert_eq!(
            told(&seen(Seen::Absent)),
            ["WorkloadMissing spec.restart[0]: there is no Deployment exporter in this namespace; create it, or \
                 remove the entry"]
        );
        assert_eq!(
            told(&seen(Seen::Forbidden(Refusal::because(Why::Forbidden("no".into()))))),
            ["WorkloadForbidden spec.restart[0]: the operator may not read Deployment exporter; install the chart \
                 with restart.enabled=true, or remove the entry"]
        );
        let gone = published().later(5).and(|world| world.workloads = Workloads::Due(vec![Seen::Absent]));
        assert_eq!(told(&gone), Vec::<String>::new(), "the others are still restarted");
        let named = |names: &[&str]| {
            let all: Vec<_> = names.iter().map(|name| json!({"kind": "DaemonSet", "name": name})).collect();
            new().with_spec(&json!({ "restart": all }))
        };
        assert_eq!(
            told(&named(&["a", "b", "a"])),
            ["Invalid spec.restart[2]: names DaemonSet a again; remove the entry"]
        );
        let once = new().with_spec(&exporter()).with_spec(&json!({"secret": {"delivery": "Once"}}));
        assert_eq!(
            told(&once),
            ["Invalid spec.restart: is not allowed with secret.delivery: Once, as a workload that starts later \
                 finds no Secret; remove one of the two"]
        );
        let nine = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        assert_eq!(told(&named(&nine)), ["Invalid spec.restart: must not name more than 8 workloads"]);
        assert_eq!(told(&named(&nine[1..])), Vec::<String>::new());
    }

    #[test]
    fn a_missing_workload_keeps_a_value_from_being_minted_and_the_one_served_goes_on() {
        let missing = |world: World| world.and(|world| world.workloads = Workloads::Checked(vec![Seen::Absent]));
        let refused = Decision { reason: Reason::WorkloadMissing, act: Act::Rest };
        let noted = published().later(5);
        let noted = noted.clone().settled(&rolled(&noted, vec![], None));
        for world in [new().with_spec(&exporter()), noted.later(60 * DAY)] {
            let world = missing(world);
            assert_eq!(world.decision(), refused);
            let settled = world.rested();
            assert_eq!(settled.status.records, world.status().records);
            assert!(conditions(&settled.status).contains(&"Reconciling=True/WorkloadMissing".to_owned()));
        }
    }

    #[test]
    fn nothing_is_minted_before_the_workloads_were_looked_at_and_the_next_pass_looks() {
        let noted = published().later(5);
        let noted = noted.clone().settled(&rolled(&noted, vec![], None)).later(40 * DAY);
        let checked = |world: World| {
            assert_eq!(needed(&world), Needed::ToMint);
            world.and(|world| world.workloads = Workloads::Checked(vec![Seen::There(there(&[]))]))
        };
        let sooner = noted.clone().with_instance(json!({"tokens": {"lifetime": {"default": "45d", "max": "45d"}}}));
        let moved = noted.clone().with_spec(&json!({"secret": {"data": {"a": "{{ token }}"}}}));
        let due = noted.clone().later(DAY).with_spec(&json!({"rotation": {"schedule": {"every": "10d"}}}));
        for (world, reason) in
            [(sooner, Reason::RotationDue), (due, Reason::RotationDue), (moved, Reason::TemplateChanged)]
        {
            assert_eq!(needed(&world), Needed::Nothing, "only the terms tell");
            assert_eq!(world.decision(), Decision { reason, act: Act::Wait });
            let told = world.clone().settled(&Progress::none(world.decision()));
            assert_eq!(checked(told).decision(), Decision { reason, act: Act::Mint(()) });
        }
    }

    #[test]
    fn a_workload_that_is_gone_when_the_next_value_is_due_keeps_no_other_from_its_restart() {
        let world = published().with_spec(&json!({"restart": [
            {"kind": "Deployment", "name": "exporter"}, {"kind": "Deployment", "name": "gone"},
        ]}));
        let due = world.later(60 * DAY);
        assert_eq!(needed(&due), Needed::ToMint);
        let seen = vec![Seen::There(there(&[])), Seen::Absent];
        let due = due.and(|world| world.workloads = Workloads::Checked(seen));
        assert_eq!(due.decision(), Decision { reason: Reason::RestartDue, act: Act::Restart });
        let (pending, all) = to_roll(&due).unwrap();
        assert_eq!((pending.generation, all.len()), (1, 2));
        let refusal = Refusal::because(Why::Forbidden("no".into()));
        let failed = due.clone().settled(&rolled(&due, vec![], Some(refusal)));
        assert_eq!(
            needed(&failed),
            Needed::ToMint,
            "the fault is reported until it is fixed, also while the restart fails"
        );
    }

    #[test]
    fn one_write_carries_all_that_wait_and_takes_what_is_of_nobody_with_it() {
        let own = key(UID);
        let elsewhere = Fellow { targets: vec![target("other")], ..fellow("e", Some(0)) };
        let world = published().later(5).and(|world| {
            world.fellows = vec![fellow("b", Some(0)), fellow("c", None), elsewhere];
        });
        let pending = pending(&world).unwrap();
        let changes = |workload: &Workload| annotations(&world, &pending, &target("exporter"), workload);
        let (b, c, gone) = (key("b"), key("c"), key("gone"));
        let workload = there(&[(&own, "before"), (&b, "before"), (&c, "kept"), (&gone, "x"), ("note", "a user's")]);
        let expected = [(own.clone(), Some(pending.id.clone())), (b, Some("id-b".into())), (gone, None)].into();
        assert_eq!(changes(&workload), Some(expected));
        assert_eq!(
            changes(&there(&[(&own, &pending.id), ("restart.tokenry.dev/b", "before")])),
            None,
            "it was restarted"
        );
    }

    #[test]
    fn a_restart_is_pending_then_noted_and_then_never_told_again() {
        let world = published();
        let pending = world.rested();
        assert_eq!(pending.status.restart, Some(noted_at(None)));
        assert_eq!(pending.wakes_at(), Some(at(5)));
        let waits = "generation 1 is published; the workloads are about to be restarted";
        assert_eq!(condition(&pending), ("Restarted=False/RestartDue".into(), waits.into()));
        assert_eq!(pending.status, world.status(), "it rests until then");

        let due = world.later(5);
        let done = due.settle(&rolled(&due, vec![], None));
        assert_eq!(done.status.restart, Some(noted_at(Some(time(5)))));
        let said = "the restart of the workloads for generation 1 was started";
        assert_eq!(condition(&done), ("Restarted=True/Restarted".into(), said.into()));
        let told = "told to restart for generation 1: Deployment exporter";
        assert_eq!(notes(&done), [(false, Reason::Restarted, told)]);
        let rests = due.clone().settled(&rolled(&due, vec![], None)).later(DAY);
        assert_eq!((rests.rested().status, rests.rested().notes), (rests.status(), vec![]));
    }

    #[test]
    fn a_restart_that_is_refused_for_ever_keeps_no_value_from_being_replaced() {
        let due = published().later(5);
        let refused = || Some(Refusal::because(Why::Forbidden("no".into())));
        let failing = due.clone().settled(&rolled(&due, vec![], refused()));
        assert_eq!(failing.decision().act, Act::Restart, "it is tried again");
        let checked =
            |world: World| world.and(|world| world.workloads = Workloads::Checked(vec![Seen::There(there(&[]))]));
        let later = checked(failing.clone().later(60 * DAY));
        assert_eq!(later.decision(), Decision { reason: Reason::RotationDue, act: Act::Mint(()) });
        let asked = checked(failing.clone().with_spec(&json!({"regenerate": {"id": "leak"}})));
        assert_eq!(asked.decision(), Decision { reason: Reason::RegenerateAsked, act: Act::Mint(()) });
        let wake = failing.settle(&rolled(&failing, vec![], refused())).wakes_at().unwrap();
        assert!(wake <= failing.status().rotates_at.unwrap().0);
        let faulty = failing.later(60 * DAY).with_spec(&json!({"rotation": {"overlap": "0d"}}));
        assert_eq!(faulty.decision().act, Act::Restart, "nothing else would be done");
    }

    #[test]
    fn a_refused_restart_is_told_once_tried_again_and_leaves_the_token_ready() {
        let due = published().later(5);
        let refused = |said: &str| Some(Refusal::because(Why::Forbidden(said.into())));
        let first = due.settle(&rolled(&due, vec![], refused("no, 1")));
        assert_eq!(first.status.restart, Some(noted_at(None)));
        let said = "generation 1: Deployment exporter: forbidden: no, 1; trying again";
        assert_eq!(condition(&first), ("Restarted=False/RestartFailed".into(), said.into()));
        assert!(conditions(&first.status).contains(&"Ready=True/Active".to_owned()));
        assert_eq!(notes(&first), [(true, Reason::RestartFailed, said)]);
        assert_eq!(first.wakes_at(), Some(at(7)));
        let again = due.clone().settled(&rolled(&due, vec![], refused("no, 1"))).later(95);
        let second = again.settle(&rolled(&again, vec![], refused("no, 2")));
        assert_eq!((&second.status, &second.notes[..]), (&again.status(), &[][..]));
        assert_eq!(second.wakes_at(), Some(at(150)));
        assert_eq!(again.settle(&rolled(&again, vec![], None)).status.restart.unwrap().at, Some(time(100)));
    }

    #[test]
    fn what_is_not_there_any_more_is_told_and_waited_for_by_nobody() {
        let due = published().later(5);
        let done = due.settle(&rolled(&due, vec![target("exporter")], None));
        assert_eq!(done.status.restart.as_ref().unwrap().at, Some(time(5)));
        let told = "nothing was there to restart for generation 1; there is no Deployment exporter";
        assert_eq!(notes(&done), [(true, Reason::WorkloadMissing, told)]);
        assert_eq!(done.notes[0].event, EventName::RestartSkipped);
    }

    /// A world with an endpoint, in which the restart for generation 1 was done after 5 seconds.
    fn restarted() -> World {
        let world = new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID))));
        let due = world.with_spec(&exporter()).at_endpoint("https://a").trusting("one").issued(1).later(5);
        assert_eq!(due.decision().act, Act::Restart);
        let done = rolled(&due, vec![], None);
        due.settled(&done)
    }

    /// The world after a pass that only writes the status.
    fn looked(world: World) -> World {
        let decision = world.decision();
        world.settled(&Progress::none(decision))
    }

    #[test]
    fn a_changed_endpoint_restarts_once_when_the_secret_has_it() {
        let world = restarted().later(DAY);
        assert_eq!(looked(world.clone()).status(), world.status(), "nothing has changed");
        for changed in [world.clone().at_endpoint("https://b").trusting("one"), world.clone().trusting("two")] {
            assert_eq!(changed.decision().act, Act::Amend(()));
            let early = looked(changed.clone());
            assert_eq!(early.status().restart, world.status().restart, "the Secret does not have it yet");
            let noticed = looked(changed.amended());
            let restart = noticed.status().restart.unwrap();
            assert_eq!((restart.generation, restart.changed_at, restart.at), (1, Some(time(DAY + 5)), None));
            let told = "the changed endpoint or ca.crt of generation 1 is published; the workloads are about to be \
                restarted";
            assert_eq!(condition(&noticed.rested()), ("Restarted=False/RestartDue".into(), told.into()));
            assert_eq!(noticed.rested().wakes_at(), Some(at(DAY + 10)));
            assert_eq!(noticed.clone().later(4).decision().act, Act::Rest);

            let due = noticed.later(5);
            assert_eq!(due.decision().act, Act::Restart);
            let (own, id) = (key(UID), due.records.served().unwrap().id.clone());
            let before = there(&[(&own, &id)]);
            let (pending, target) = (pending(&due).unwrap(), target("exporter"));
            assert_eq!(pending.id, format!("{id}.{}", restart.endpoint_digest.unwrap()));
            let changes = annotations(&due, &pending, &target, &before).unwrap();
            assert_eq!(changes, [(own.clone(), Some(pending.id.clone()))].into());
            assert_eq!(annotations(&due, &pending, &target, &there(&[(&own, &pending.id)])), None);
            let done = due.settle(&rolled(&due, vec![], None));
            let told = "told to restart for the changed endpoint or ca.crt of generation 1: Deployment exporter";
            assert_eq!(notes(&done), [(false, Reason::Restarted, told)]);
            let done = due.clone().settled(&rolled(&due, vec![], None)).later(DAY);
            assert_eq!((done.decision().act, looked(done.clone()).status()), (Act::Rest, done.status()));
            let next = done.later(60 * DAY).issued(2).status().restart.unwrap();
            assert_eq!((next.generation, next.changed_at, next.at), (2, None, None), "the next value restarts as ever");
        }
    }

    #[test]
    fn an_endpoint_that_is_away_or_disabled_restarts_nothing() {
        let world = restarted().later(DAY);
        let away = world.clone().with_instance_status(|status| {
            status.endpoints.clear();
            status.trust.clear();
        });
        let disabled = world.clone().with_instance(exposed(json!({"type": "disabled"}))).amended();
        for world in [away, disabled] {
            let looked = looked(world);
            assert_eq!(looked.status().restart, restarted().status().restart);
        }
    }

    #[test]
    fn the_status_of_an_earlier_release_restarts_nothing() {
        let world = restarted().with_status(|status| status.restart.as_mut().unwrap().endpoint_digest = None);
        let looked = looked(world.later(DAY));
        assert_eq!(looked.status().restart, restarted().status().restart);
        assert_eq!(looked.decision().act, Act::Rest);
    }
}
