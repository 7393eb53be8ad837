//! Tests of every change from one way in and guard to another. The operator is stopped after each write. At no step
//! does a way in lead to the API without its guard.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    decide::{Deed, Planned, decide},
    matrix::{accepted, external, pairs, world},
    observe::{Answers, Observed, Place, World},
    validate::validate,
};
use crate::{
    crd::{
        endpoint::{EndpointName, Guard, WayIn},
        name,
    },
    exposure::{Piece, PieceKind, Stage, gate},
    outside::prober::{ProbeAnswer, Probed},
};

/// The most steps of a change, of one second each.
const STEPS: i64 = 200;

/// An endpoint of the change: external with a way in and a guard, internal or disabled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    External(WayIn, Guard),
    Internal,
    Disabled,
}

impl End {
    fn all() -> impl Iterator<Item = Self> {
        let external = pairs().filter(|(way, guard)| guard.fits(*way)).map(|(way, guard)| Self::External(way, guard));
        external.chain([Self::Internal, Self::Disabled])
    }

    fn spec(self) -> Value {
        match self {
            Self::External(way, guard) => external(way, guard),
            Self::Internal => json!({"name": "admin", "type": "internal"}),
            Self::Disabled => json!({"name": "admin", "type": "disabled"}),
        }
    }

    /// The kinds of object that exist at rest, except the inner ones.
    fn kinds(self) -> Vec<PieceKind> {
        match self {
            Self::External(way, guard) => gate::kind(guard).into_iter().chain([way.into()]).collect(),
            Self::Internal | Self::Disabled => Vec::new(),
        }
    }

    fn guard(self) -> Option<Guard> {
        match self {
            Self::External(_, guard) => Some(guard),
            Self::Internal | Self::Disabled => None,
        }
    }
}

/// A cluster with the objects of one endpoint.
struct Cluster {
    pieces: BTreeMap<Place, Observed>,
    now: Timestamp,
    /// True if the Pods ask the verifier themselves.
    asks: bool,
    /// The Gateways of the spec.
    gateways: &'static [&'static str],
    /// The Gateway that reports nothing.
    silent: Option<&'static str>,
}

impl Cluster {
    fn new(asks: bool) -> Self {
        Self { pieces: BTreeMap::new(), now: Timestamp::UNIX_EPOCH, asks, gateways: &["g"], silent: None }
    }

    /// The object with the reports of the Gateways.
    fn reported(&self, piece: Piece) -> Piece {
        let speaks = |name: &Value| self.silent.is_none_or(|silent| name != silent);
        match accepted(piece) {
            Piece::HttpRoute(mut route) => {
                let parents = Arc::make_mut(&mut route).status["parents"].as_array_mut().unwrap();
                parents.retain(|report| speaks(&report["parentRef"]["name"]));
                Piece::HttpRoute(route)
            }
            Piece::SecurityPolicy(mut policy) => {
                let gateways = self.gateways.iter().filter(|name| speaks(&json!(name)));
                let report = |name| json!({"ancestorRef": {"name": name}, "conditions": [{"type": "Accepted", "status": "True"}]});
                Arc::make_mut(&mut policy).status = json!({ "ancestors": gateways.map(report).collect::<Vec<_>>() });
                Piece::SecurityPolicy(policy)
            }
            other @ (Piece::Service(_)
            | Piece::NetworkPolicy(_)
            | Piece::Middleware(_)
            | Piece::AuthorizationPolicy(_)
            | Piece::Ingress(_)
            | Piece::Route(_)) => other,
        }
    }

    fn world(&self, end: End) -> World {
        let mut world = world(end.spec(), json!({}));
        let gateways = self.gateways.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>();
        Arc::make_mut(&mut world.config).gateway = serde_json::from_value(gateways.into()).unwrap();
        let policy = self.ours().any(|piece| piece.kind() == PieceKind::AuthorizationPolicy);
        let answer = if self.asks || policy { ProbeAnswer::Challenge } else { ProbeAnswer::Status(200) };
        let probed = Probed { answer, at: self.now, since: self.now };
        let answers = Answers { inside: Some(probed), ..Answers::default() };
        world.answers = [(EndpointName::Admin, answers)].into();
        World { pieces: self.pieces.clone(), now: self.now, ..world }
    }

    fn ours(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.values().filter_map(Observed::ours)
    }

    /// The ways in that lead to the Service.
    fn open(&self) -> impl Iterator<Item = &Piece> {
        self.ours().filter(|piece| piece.kind().stage() == Stage::WayIn && leads(piece))
    }

    /// Carries out the first write of a pass, as if the operator were killed afterwards. False if there is nothing to
    /// do.
    fn step(&mut self, end: End) -> bool {
        self.now += SignedDuration::from_secs(1);
        let world = self.world(end);
        let decision = decide(&world, &validate(&world));
        let gone = decision.plan.iter().rev().find(|planned| matches!(planned.deed, Deed::Delete(_)));
        let is_write = |planned: &&Planned| matches!(planned.deed, Deed::Apply(..) | Deed::Amend(..));
        let Some(Planned { place, deed }) = gone.or_else(|| decision.plan.iter().find(is_write)) else {
            return decision.next.is_some();
        };
        match deed {
            Deed::Apply(piece, _) => {
                drop(self.pieces.insert(*place, Observed::Ours(self.reported(piece.clone()))));
            }
            Deed::Amend(piece, changes) => {
                drop(self.pieces.insert(*place, Observed::Ours(self.reported(merged(piece, changes)))));
            }
            Deed::Delete(_) => drop(self.pieces.remove(place)),
            Deed::Keep | Deed::Barred(_) => {}
        }
        true
    }

    /// Steps until nothing changes, and checks each step.
    fn rest(&mut self, end: End, check: impl Fn(&Self, &str)) {
        for step in 0..STEPS {
            if !self.step(end) {
                return;
            }
            check(self, &format!("step {step}"));
        }
        panic!("it never rests: {:?}", self.pieces.keys().collect::<Vec<_>>());
    }
}

fn leads(piece: &Piece) -> bool {
    let value = piece.value();
    piece.kind() != PieceKind::HttpRoute || value["spec"]["rules"][0]["backendRefs"][0].is_object()
}

/// The object after a merge patch (RFC 7396).
fn merged(piece: &Piece, changes: &Value) -> Piece {
    fn merge(into: &mut Value, changes: &Value) {
        let Value::Object(changes) = changes else { return *into = changes.clone() };
        for (key, change) in changes {
            if change.is_null() {
                into.as_object_mut().unwrap().remove(key);
            } else {
                merge(&mut into[key], change);
            }
        }
    }
    let mut value = piece.value();
    merge(&mut value, changes);
    match piece.kind() {
        PieceKind::Service => Piece::Service(Arc::new(serde_json::from_value(value).unwrap())),
        PieceKind::SecurityPolicy => Piece::SecurityPolicy(Arc::new(serde_json::from_value(value).unwrap())),
        PieceKind::AuthorizationPolicy => Piece::AuthorizationPolicy(Arc::new(serde_json::from_value(value).unwrap())),
        PieceKind::HttpRoute => Piece::HttpRoute(Arc::new(serde_json::from_value(value).unwrap())),
        PieceKind::NetworkPolicy | PieceKind::Middleware | PieceKind::Ingress | PieceKind::Route => {
            panic!("{value} is never merged")
        }
    }
}

/// The guard of an open way in judges its requests. A router of Traefik that names a missing Middleware refuses all.
fn is_guarded(cluster: &Cluster, way: &Piece) -> bool {
    let mark = way.meta().annotations.as_ref().and_then(|marks| marks.get(name::GUARDED_BY)).cloned();
    let has = |kind| cluster.ours().any(|piece| piece.kind() == kind);
    match mark.as_deref() {
        Some("EnvoyGateway") => has(PieceKind::SecurityPolicy),
        Some("Istio") => has(PieceKind::AuthorizationPolicy),
        Some("Backend") => cluster.asks,
        _ => true,
    }
}

#[test]
fn no_change_ever_leads_past_the_guard_and_each_comes_to_rest() {
    for from in End::all() {
        for to in End::all().filter(|to| *to != from) {
            let asks = [from, to].iter().any(|end| end.guard() == Some(Guard::Backend));
            let mut cluster = Cluster::new(asks);
            let check = |cluster: &Cluster, step: &str| {
                let bad = cluster.open().find(|way| !is_guarded(cluster, way));
                assert!(bad.is_none(), "{from:?} to {to:?}, {step}: {bad:?}");
            };
            for end in [from, to] {
                cluster.rest(end, check);
                let outer = cluster.ours().map(Piece::kind).filter(|kind| kind.stage() != Stage::Inside);
                assert!(outer.eq(end.kinds()), "{from:?} to {to:?}");
                assert_eq!(cluster.open().count(), usize::from(end.guard().is_some()), "{from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn another_way_in_with_the_same_guard_is_open_before_the_old_one_is_gone() {
    for guard in [Guard::Traefik, Guard::Backend, Guard::Istio, Guard::None] {
        let ways = || WayIn::ALL.into_iter().filter(|way| guard.fits(*way));
        for (from, to) in ways().flat_map(|from| ways().map(move |to| (from, to))).filter(|(from, to)| from != to) {
            let asks = guard == Guard::Backend;
            let mut cluster = Cluster::new(asks);
            cluster.rest(End::External(from, guard), |_, _| ());
            cluster.rest(End::External(to, guard), |cluster, step| {
                assert!(cluster.open().next().is_some(), "{guard:?} {from:?} to {to:?}, {step}");
            });
        }
    }
}

#[test]
fn a_new_gateway_gets_no_backend_before_it_has_accepted_the_guard() {
    for guard in [Guard::Traefik, Guard::EnvoyGateway, Guard::ExternalAuth] {
        let (end, mut cluster) = (End::External(WayIn::Gateway, guard), Cluster::new(false));
        cluster.rest(end, |_, _| ());
        assert_eq!(cluster.open().count(), 1, "{guard:?}");
        (cluster.gateways, cluster.silent) = (&["g", "h"], Some("h"));
        let leads_to_new = |cluster: &Cluster| {
            let names_it = |way: &Piece| way.value()["spec"]["parentRefs"].as_array().unwrap().len() == 2;
            cluster.open().any(names_it)
        };
        cluster.rest(end, |cluster, step| assert!(!leads_to_new(cluster), "{guard:?} {step}"));
        assert_eq!(cluster.open().count(), 0, "{guard:?}: it is shut");
        cluster.silent = None;
        let heard: Vec<_> =
            cluster.pieces.iter().filter_map(|(place, observed)| Some((*place, observed.ours()?.clone()))).collect();
        for (place, piece) in heard {
            let reported = Observed::Ours(cluster.reported(piece));
            cluster.pieces.insert(place, reported);
        }
        cluster.rest(end, |_, _| ());
        assert!(leads_to_new(&cluster), "{guard:?}: both have accepted it");
    }
}

#[test]
fn the_garbage_collector_finds_the_way_in_among_the_owners_of_a_guard() {
    for (guard, kind) in [
        (Guard::EnvoyGateway, PieceKind::SecurityPolicy),
        (Guard::Istio, PieceKind::AuthorizationPolicy),
        (Guard::Traefik, PieceKind::Middleware),
    ] {
        let end = End::External(WayIn::Gateway, guard);
        let mut cluster = Cluster::new(false);
        cluster.rest(end, |_, _| ());
        for observed in cluster.pieces.values_mut() {
            let Observed::Ours(piece) = observed else { continue };
            piece.meta_mut().uid = Some(format!("{:?}", piece.kind()));
        }
        cluster.rest(end, |_, _| ());
        let piece = cluster.ours().find(|piece| piece.kind() == kind).unwrap();
        let owners = piece.meta().owner_references.iter().flatten();
        let wanted = if gate::leaves_open(kind) { vec!["u", "HttpRoute"] } else { vec!["u"] };
        assert!(owners.clone().map(|owner| owner.uid.as_str()).eq(wanted), "{guard:?}");
        assert_eq!(owners.filter(|owner| owner.controller == Some(true)).count(), 1);
    }
}

#[test]
fn a_guard_that_leaves_the_way_in_open_is_deleted_half_a_minute_after_it() {
    for guard in [Guard::EnvoyGateway, Guard::Istio] {
        let mut cluster = Cluster::new(false);
        cluster.rest(End::External(WayIn::Gateway, guard), |_, _| ());
        let (begun, mut shut, mut gone) = (cluster.now, None, None);
        while cluster.step(End::Disabled) {
            let since = cluster.now.duration_since(begun).as_secs();
            shut = shut.or((cluster.open().next().is_none()).then_some(since));
            let has_way = cluster.ours().any(|piece| piece.kind().stage() == Stage::WayIn);
            gone = gone.or((!has_way).then_some(since));
        }
        let end = cluster.now.duration_since(begun).as_secs();
        let (shut, gone) = (shut.unwrap(), gone.unwrap());
        assert!(shut <= 3 && (30..35).contains(&(gone - shut)) && end - gone >= 30, "{guard:?}: {shut} {gone} {end}");
    }
}
