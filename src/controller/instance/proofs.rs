//! The conditions that prove an endpoint: its way in, its guard, and the answers of its probes.

use super::{
    observe::{Answers, Place, World},
    steps::{asked_by, in_effect},
};
use crate::{
    crd::{
        Conditions, EventName, Reason,
        condition::{EXPOSED, EXTERNALLY_EXPOSED, GUARDED, POLICY_NOT_ENFORCED, REACHABLE},
        endpoint::{AdmittedFrom, Endpoint, EndpointType, Guard},
    },
    exposure::{self, Acceptance, PieceKind, class, gate::Reply, gateways::Carriers},
    outside::{events::Note, foreign::written, prober::ProbeAnswer},
};

/// The most bytes of a text of another controller.
const MAX_FOREIGN: usize = 512;

/// The conditions that prove an endpoint.
const PROOFS: [&str; 3] = [EXPOSED, GUARDED, REACHABLE];

/// The note before the message of a condition that was kept.
const KEPT: &str = "the spec has faults, and the objects are still those of the last spec without one; before that: ";

/// One condition: its status, its reason and its message.
type Proof = (bool, Reason, String);

/// The reason and the message of a way in that another controller has not accepted. `None` if nothing is awaited.
pub(super) fn awaited(world: &World) -> Option<(Reason, String)> {
    world.instance.endpoints().find_map(|endpoint| {
        let name = world.instance.exposed_name(endpoint.name);
        let kind = PieceKind::from(world.way(endpoint)?).name();
        let waiting = |why| (Reason::WayInAwaited, why);
        match in_effect(world, endpoint)? {
            // Some controllers serve a class that no object describes.
            Acceptance::Accepted if world.is_proved(endpoint.name) => None,
            Acceptance::Accepted => unserved(world, endpoint).map(waiting),
            Acceptance::Awaited => {
                let edge = silent(world, endpoint).unwrap_or_else(|| "the edge".into());
                let usual = || format!("waiting until {edge} accepts {kind} {name}");
                Some(waiting(unserved(world, endpoint).unwrap_or_else(usual)))
            }
            Acceptance::Refused(why) => {
                Some((Reason::WayInRefused, format!("{kind} {name} is refused: {}", written(&why, MAX_FOREIGN))))
            }
        }
    })
}

/// The missing object without which nobody serves the way in, in words.
fn unserved(world: &World, endpoint: &Endpoint) -> Option<String> {
    let classes = world.classes.as_ref().and_then(|classes| classes.as_ref().ok());
    let class = classes.and_then(|classes| class::missing(endpoint, world.way(endpoint), &world.config, classes));
    class.or_else(|| match world.carriers(endpoint.name) {
        Carriers::Missing(why) => Some(why.clone()),
        Carriers::Fitting | Carriers::Lacking(_) => None,
    })
}

/// The Gateways that have not answered about the HTTPRoute, in words. `None` without such a Gateway.
fn silent(world: &World, endpoint: &Endpoint) -> Option<String> {
    let place = Place { kind: PieceKind::from(world.way(endpoint)?), endpoint: endpoint.name };
    let silent = exposure::silent(world.pieces.get(&place)?.ours()?);
    (!silent.is_empty()).then(|| format!("Gateway {}", silent.join(", ")))
}

/// Keeps the conditions about the endpoints. While the spec has faults, nothing of it is carried out.
pub(super) fn keep(conditions: &mut Conditions) {
    PROOFS.into_iter().for_each(|type_| conditions.keep(type_, KEPT));
}

/// Sets the conditions about the endpoints. `ready`: the objects are as the spec wants them. `waits`: the obstacles of
/// a guard. `reason` and `message` say why the endpoints are not ready.
pub(super) fn prove(
    conditions: &mut Conditions,
    world: &World,
    waits: &[String],
    (ready, reason, message): (bool, Reason, &str),
) {
    PROOFS.into_iter().for_each(|type_| conditions.release(type_, KEPT));
    let endpoint = world.instance.endpoints().next();
    let external = endpoint.filter(|endpoint| endpoint.reach() == EndpointType::External);
    let answers = endpoint.and_then(|endpoint| world.answers.get(&endpoint.name));
    let exposed = external.map(|_| match ready {
        true => (true, Reason::Exposed, "the way in leads to the Service".to_owned()),
        false => (false, reason, message.to_owned()),
    });
    put(conditions, EXPOSED, exposed);
    let guard = external.map(|endpoint| guarded(endpoint, world, waits, ready));
    if !is_unproved(conditions, external, world, guard.as_ref()) {
        put(conditions, GUARDED, guard);
    }
    match endpoint.zip(answers) {
        Some((endpoint, answers)) => reachable(conditions, endpoint, answers, is_shut_out(world)),
        None => conditions.remove(REACHABLE),
    }
    put(conditions, POLICY_NOT_ENFORCED, unenforced(world, answers));
    let silent = external.filter(|endpoint| endpoint.type_.is_none());
    let told = silent.map(|_| {
        let text = "the endpoint is external, as its type is left out; write type: external, or type: internal to have \
            a Service alone";
        (true, Reason::ExternallyExposed, text.to_owned())
    });
    put(conditions, EXTERNALLY_EXPOSED, told);
}

/// The warning about a guard that has begun to fail: a request can pass it, or it does not ask the verifier.
pub(super) fn failed(conditions: &Conditions) -> Option<Note> {
    let guarded = conditions.get(GUARDED).filter(|_| conditions.changed(GUARDED))?;
    let reason = [Reason::Bypassed, Reason::NoChallenge].into_iter().find(|it| guarded.reason == it.to_string())?;
    Some(Note::warning(EventName::GuardFailed, reason, guarded.message.clone()))
}

/// Sets a condition, or removes it.
fn put(conditions: &mut Conditions, type_: &str, proof: Option<Proof>) {
    match proof {
        Some((status, reason, message)) => conditions.set(type_, status, reason, message),
        None => conditions.remove(type_),
    }
}

/// True if a former operator has probed the guard of this spec, and this one has not yet. Its finding stays until then.
fn is_unproved(conditions: &Conditions, endpoint: Option<&Endpoint>, world: &World, now: Option<&Proof>) -> bool {
    let is_unknown = endpoint.is_some_and(|it| world.heard_outside(it.name) == Some(Reply::Unknown));
    let before = conditions.get(GUARDED).filter(|it| it.observed_generation == world.instance.metadata.generation);
    let is_probed = |reason: Reason| before.is_some_and(|before| before.reason == reason.to_string());
    let is_guarded = now.is_some_and(|(_, reason, _)| *reason == Reason::Guarded);
    is_unknown && is_guarded && (is_probed(Reason::NoChallenge) || is_probed(Reason::Guarded))
}

/// The state of the guard. The challenge of the verifier at the published URI proves it. Another answer disproves it.
fn guarded(endpoint: &Endpoint, world: &World, waits: &[String], ready: bool) -> Proof {
    let guard = endpoint.guarding().unwrap_or(Guard::None);
    if let Some(around) = world.bypasses.first().filter(|_| !guard.is_at_pods()) {
        return (
            false,
            Reason::Bypassed,
            format!("{around} leads to the API past the guard; remove it, or guard it too"),
        );
    }
    if guard == Guard::None {
        let text = "allowUnguarded is true: every request reaches the API without a verdict";
        return (false, Reason::Unguarded, text.into());
    }
    if let Some(wait) = waits.first() {
        return (false, Reason::GuardAwaited, written(wait, MAX_FOREIGN).into_owned());
    }
    let (name, plain) = (guard.as_str(), asked_by(world, endpoint).1);
    let plain = plain.map(|why| format!("; it asks by plain HTTP: {why}")).unwrap_or_default();
    match world.heard_outside(endpoint.name) {
        _ if !ready => (false, Reason::GuardAwaited, format!("the objects of the guard {name} are not in effect yet")),
        Some(Reply::Challenge) => {
            (true, Reason::Guarded, format!("{name} asks the verifier: the probe got its challenge{plain}"))
        }
        Some(Reply::Other | Reply::Failure) => {
            let text = "the published URI does not answer a request without a token with the challenge of the verifier";
            (false, Reason::NoChallenge, text.into())
        }
        Some(Reply::Silence | Reply::Unknown) | None => {
            let text = format!("the objects of the guard {name} are in effect; no probe has proved it{plain}");
            (true, Reason::Guarded, text)
        }
    }
}

/// Sets the condition about the probe of the published URI, or of the Service of an internal endpoint. Before the first
/// answer the condition stays as it is.
fn reachable(conditions: &mut Conditions, endpoint: &Endpoint, answers: &Answers, shut_out: bool) {
    let external = endpoint.reach() == EndpointType::External;
    let (target, probed) = match external {
        true => (&answers.probes.outside, answers.outside),
        false => (&answers.probes.inside, answers.inside),
    };
    let Some(target) = target else { return conditions.remove(REACHABLE) };
    let Some(probed) = probed else { return };
    if !external && shut_out && probed.answer != ProbeAnswer::Challenge {
        // The NetworkPolicy keeps the operator out, so its probe proves nothing about callers.
        return conditions.remove(REACHABLE);
    }
    let at = format!("{}://{}", target.scheme.as_str(), target.host);
    // The edge can give the challenge without asking the Service.
    let is_deserted = external && answers.inside.is_some_and(|inside| inside.answer == ProbeAnswer::Connect);
    let service = answers.probes.inside.as_ref().filter(|_| is_deserted);
    let behind = service
        .map(|service| format!("; {} behind it accepts no connection: check that its Pods are ready", service.host));
    let unreached = |why: &str| (false, Reason::Unreachable, format!("{at}: {why}"));
    let (status, reason, message) = match probed.answer {
        ProbeAnswer::Challenge => (true, Reason::Reached, format!("{at} answers with the challenge of the verifier")),
        ProbeAnswer::Status(code) => {
            (false, Reason::NoChallenge, format!("{at} answers {code}, without the challenge of the verifier"))
        }
        ProbeAnswer::Dns => unreached("the name has no address (DNS)"),
        ProbeAnswer::Barred => unreached("the name leads to an address that is not probed (loopback, link-local)"),
        ProbeAnswer::Connect => unreached("no connection (connect)"),
        ProbeAnswer::Tls => unreached("no trusted TLS connection (TLS)"),
        ProbeAnswer::Silent => unreached("no answer in HTTP in time"),
    };
    conditions.set(REACHABLE, status, reason, message + &behind.unwrap_or_default());
}

/// True if the NetworkPolicy keeps the operator out.
fn is_shut_out(world: &World) -> bool {
    let policy = world.instance.spec.manager.as_ref().and_then(|manager| manager.network_policy.as_ref());
    policy.is_some_and(|policy| policy.from == Some(AdmittedFrom::Proxies))
}

/// The proof that the network does not enforce the NetworkPolicy: the operator is not among the proxies, and the
/// Service answers it.
fn unenforced(world: &World, answers: Option<&Answers>) -> Option<Proof> {
    let answer = answers?.inside?.answer;
    let answered = matches!(answer, ProbeAnswer::Challenge | ProbeAnswer::Status(_) | ProbeAnswer::Tls);
    (is_shut_out(world) && answered).then(|| {
        let text = "the Service answers the operator, which networkPolicy.from: Proxies shuts out; use a network that \
            enforces NetworkPolicies";
        (true, Reason::PolicyNotEnforced, text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::{super::decide::tests::world, *};
    use crate::{
        crd::{endpoint::EndpointName, instance::Scheme},
        outside::prober::Probed,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use serde_json::json;

    /// An external endpoint whose published URI gave this answer last.
    fn probed(answer: Option<ProbeAnswer>) -> World {
        let endpoint = json!({"name": "admin", "host": "a.example.com", "ingress": {}, "guard": "Traefik"});
        let mut world = world(json!([endpoint]));
        let published = Some((Scheme::Https, "a.example.com".to_owned()));
        let probes = super::super::probes::targets(
            &world.instance,
            world.instance.endpoints().next().unwrap(),
            &Default::default(),
            published,
        );
        let outside = answer.map(|answer| Probed { answer, at: world.now, since: world.now });
        world.answers = [(EndpointName::Admin, Answers { probes, inside: None, outside })].into();
        world
    }

    fn pass(before: Vec<Condition>, world: &World) -> (Vec<Condition>, Option<Note>) {
        let mut conditions = Conditions::from(Some(&before), None, world.now);
        prove(&mut conditions, world, &[], (true, Reason::Accepted, ""));
        let note = failed(&conditions);
        (conditions.into_vec(), note)
    }

    #[test]
    fn a_guard_that_begins_to_fail_is_a_warning_once() {
        let (bad, note) = pass(Vec::new(), &probed(Some(ProbeAnswer::Status(200))));
        let note = note.unwrap();
        assert!(note.warning && note.event == EventName::GuardFailed && note.reason == Reason::NoChallenge);
        let (still, again) = pass(bad.clone(), &probed(Some(ProbeAnswer::Status(200))));
        assert_eq!((&still, again), (&bad, None), "the same answer writes and says nothing");
        assert_eq!(pass(bad, &probed(Some(ProbeAnswer::Challenge))).1, None);
        let around = World { bypasses: vec!["Ingress a/b".into()], ..probed(Some(ProbeAnswer::Challenge)) };
        assert_eq!(pass(Vec::new(), &around).1.unwrap().reason, Reason::Bypassed);
    }

    #[test]
    fn a_service_that_accepts_no_connection_is_told_beside_the_answer_of_the_edge() {
        let message = |inside: ProbeAnswer| {
            let mut world = probed(Some(ProbeAnswer::Challenge));
            let probed = Probed { answer: inside, at: world.now, since: world.now };
            world.answers.get_mut(&EndpointName::Admin).unwrap().inside = Some(probed);
            let conditions = pass(Vec::new(), &world).0;
            let reachable = conditions.into_iter().find(|condition| condition.type_ == REACHABLE).unwrap();
            assert_eq!(reachable.status, "True");
            reachable.message
        };
        let told = "; eem-admin.a.svc behind it accepts no connection: check that its Pods are ready";
        assert!(message(ProbeAnswer::Connect).ends_with(told));
        for other in [ProbeAnswer::Status(200), ProbeAnswer::Dns, ProbeAnswer::Silent] {
            assert!(message(other).ends_with("the challenge of the verifier"), "{other:?}");
        }
    }

    #[test]
    fn an_operator_that_has_not_probed_keeps_the_finding_of_the_former_one() {
        for answer in [ProbeAnswer::Status(200), ProbeAnswer::Challenge] {
            let (found, _) = pass(Vec::new(), &probed(Some(answer)));
            assert_eq!(pass(found.clone(), &probed(None)), (found, None), "{answer:?}");
        }
    }
}
