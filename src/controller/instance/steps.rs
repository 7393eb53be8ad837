//! The next steps of one endpoint. The guard comes before the way in, and leaves after it. So no request reaches the
//! API unjudged, however often the operator is stopped in between: each step follows from the objects as they are.
//!
//! ```text
//! appearing    Service ─▶ guard ─▶ way in (shut, if the guard has to be accepted for it) ─▶ way in (open)
//! new Gateway  way in (shut) ─▶ accepted by that Gateway ─▶ way in (open)
//! another way  new way in, as above ─▶ accepted ─▶ old way in leaves
//! leaving      way in (shut, where it can be) ─▶ 30 s ─▶ way in deleted ─▶ guard marked ─▶ 30 s ─▶ guard deleted
//! ```
//!
//! The 30 seconds apply to guards that leave the way in open when they disappear. No probe can end them early: a
//! request without a token gets the challenge of the guard, also from a way in without a backend.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use serde_json::{Value, json};

use super::{
    decide::{Bar, Decision, Deed, Planned, mended, owned},
    observe::{Observed, Place, World, is_needed},
};
use crate::{
    crd::{
        Fault,
        endpoint::{Endpoint, EndpointName, Guard},
        instance::Scheme,
        name,
    },
    exposure::{
        self, Acceptance, Exposed, Form, Piece, PieceKind, Stage, acceptance,
        class::{self, Served},
        gate::{self, Existing, Gate},
        https, with_object,
    },
    outside::Expected,
    token::duration::after,
};

/// The time for which an edge may still use an object that has changed or is gone.
const LINGER: SignedDuration = SignedDuration::from_secs(30);

/// One endpoint, as it is and as the spec wants it.
pub(super) struct Steps<'a> {
    world: &'a World,
    endpoint: EndpointName,
    asked: Option<Result<Exposed, Fault>>,
    served: Served,
    gate: Gate,
    waits: Option<String>,
}

impl<'a> Steps<'a> {
    pub(super) fn of(world: &'a World, asked: Option<&'a Result<Exposed, Fault>>, endpoint: EndpointName) -> Self {
        let mut asked = asked.cloned();
        let ingress = world.pieces.get(&Place { kind: PieceKind::Ingress, endpoint }).unwrap_or(&Observed::Absent);
        let served = match (&mut asked, ingress) {
            (Some(Ok(exposed)), Observed::Ours(piece)) => class::choose(exposed, Some(piece), world.classes.as_ref()),
            (Some(Ok(exposed)), Observed::Absent) => class::choose(exposed, None, world.classes.as_ref()),
            // No Ingress is possible, and the plan says so.
            (Some(Ok(_)), Observed::Foreign | Observed::Unserved | Observed::Off) | (Some(Err(_)) | None, _) => {
                Served::Fitting
            }
        };
        if let Some(Ok(exposed)) = &mut asked {
            exposed.asks_by = asked_by(world, &exposed.endpoint).0;
        }
        let mut steps = Self { world, endpoint, asked, served, gate: Gate::Absent, waits: None };
        if let Some(exposed) = steps.exposed().filter(|exposed| exposed.way.is_some()) {
            (steps.gate, steps.waits) = gate::gate(exposed, &steps.standing(exposed));
        }
        steps
    }

    /// Adds the actions for all objects. If no action is possible for one object, the objects of later stages are
    /// removed. So a way in never leads to a Service of someone else.
    pub(super) fn plan(self, decision: &mut Decision) {
        let mut barred = None;
        for place in Place::all().filter(|place| place.endpoint == self.endpoint) {
            let deed = self.deed(place, barred, &mut decision.next);
            barred = barred.or(matches!(deed, Deed::Barred(_)).then_some(place.kind.stage()));
            decision.plan.push(Planned { place, deed });
        }
        decision.waits.extend(self.waits.filter(|_| barred.is_none()));
    }

    fn exposed(&self) -> Option<&Exposed> {
        self.asked.as_ref().and_then(|asked| asked.as_ref().ok())
    }

    /// The object of this kind that belongs to the Instance.
    fn ours(&self, kind: PieceKind) -> Option<&'a Piece> {
        self.world.pieces.get(&Place { kind, endpoint: self.endpoint })?.ours()
    }

    /// The ways in that belong to the Instance.
    fn ways(&self) -> impl Iterator<Item = &'a Piece> {
        let ways = PieceKind::ALL.into_iter().filter(|kind| kind.stage() == Stage::WayIn);
        ways.filter_map(|kind| self.ours(kind))
    }

    /// The object of this kind that the spec wants, in this form.
    fn wanted(&self, exposed: &Exposed, kind: PieceKind, form: Form) -> Option<Piece> {
        exposure::build(exposed, kind, form).map(|piece| {
            let (is_way, mut piece) = (kind.stage() == Stage::WayIn, owned(piece, &self.world.instance));
            let guard = exposed.endpoint.guarding().filter(|_| is_way);
            let marks = guard.map(|guard| (name::GUARDED_BY.to_owned(), guard.as_str().to_owned()));
            piece.meta_mut().annotations.get_or_insert_default().extend(marks);
            if gate::leaves_open(kind) {
                piece.meta_mut().owner_references.get_or_insert_default().extend(self.led());
            }
            piece
        })
    }

    /// References to the ways in, as further owners of a guard. The garbage collector deletes an object once all its
    /// owners are gone. So a guard stays until its way in is gone, also when the Instance is deleted.
    fn led(&self) -> impl Iterator<Item = OwnerReference> {
        self.ways().filter_map(|piece| with_object!(piece, object => object.owner_ref(&())))
    }

    /// True if the object of this kind is as the spec wants it, in this form.
    fn is_current(&self, exposed: &Exposed, kind: PieceKind, form: Form) -> bool {
        let wanted = self.wanted(exposed, kind, form);
        self.ours(kind).zip(wanted).is_some_and(|(piece, wanted)| mended(piece, wanted) == Deed::Keep)
    }

    fn standing(&self, exposed: &Exposed) -> Existing<'_> {
        let guard = gate::kind(exposed.guard());
        let way = exposed.way.and_then(|way| self.ours(way.into())).filter(|way| is_carried(way, exposed));
        let guarding = exposed.endpoint.guarding().map(Guard::as_str);
        Existing {
            guard: guard.and_then(|kind| self.ours(kind)),
            is_current: guard.is_some_and(|kind| self.is_current(exposed, kind, Form::Open)),
            is_open: way.is_some_and(|way| leads(way) && mark(way) == guarding),
            fronts: self.is_current(exposed, PieceKind::Service, Form::Open),
            inside: self.world.heard_inside(self.endpoint),
            route: way.filter(|way| way.kind() == PieceKind::HttpRoute && mark(way) == guarding),
            outside: self.world.heard_outside(self.endpoint),
            served: &self.served,
            carriers: self.world.carriers(self.endpoint),
        }
    }

    /// The action for the object at `place`. `barred` is the stage of an object that cannot be created. The objects of
    /// the spec that come after it are not created either.
    fn deed(&self, place: Place, barred: Option<Stage>, next: &mut Option<Timestamp>) -> Deed {
        let exposed = match &self.asked {
            Some(Err(_)) if is_needed(&self.world.instance, place) => return Deed::Keep,
            Some(Ok(exposed)) if barred != Some(Stage::Inside) => Some(exposed),
            Some(_) | None => None,
        };
        let is_asked = exposed.is_some_and(|it| self.wanted(it, place.kind, Form::Open).is_some());
        if barred.is_some_and(|stage| stage != Stage::Inside) && is_asked && self.ours(place.kind).is_none() {
            return Deed::Keep;
        }
        let is_way = place.kind.stage() == Stage::WayIn;
        let form = if is_way { self.gate.form() } else { Some(Form::Open) };
        if is_asked && is_way && self.holds(place) {
            return self.held(place);
        }
        let wanted = exposed.zip(form).and_then(|(exposed, form)| self.wanted(exposed, place.kind, form));
        match (self.world.pieces.get(&place).unwrap_or(&Observed::Absent), wanted) {
            (Observed::Ours(piece), Some(wanted)) => stays(piece).unwrap_or_else(|| mended(piece, wanted)),
            (Observed::Ours(piece), None) => self.leaving(piece, exposed, is_asked, next),
            (_, None) => Deed::Keep,
            (observed, Some(wanted)) => bar(observed).map_or(Deed::Apply(wanted, Expected::Absent), Deed::Barred),
        }
    }

    /// True if a way in stays as it is. Its guard gives no answer now, or it has another guard until the new one is in
    /// effect. That one keeps its objects.
    fn holds(&self, place: Place) -> bool {
        let other =
            |piece: &Piece| mark(piece) != self.exposed().and_then(|it| it.endpoint.guarding()).map(Guard::as_str);
        self.gate == Gate::Hold || (self.gate == Gate::Absent && self.ours(place.kind).is_some_and(other))
    }

    /// A way in that stays as it is. One without a guard leaves, and none is made.
    fn held(&self, place: Place) -> Deed {
        let observed = self.world.pieces.get(&place).unwrap_or(&Observed::Absent);
        let is_unguarded = |piece: &&Piece| mark(piece).is_none_or(|guard| guard == Guard::None.as_str());
        match observed.ours().filter(is_unguarded) {
            Some(piece) => Deed::Delete(piece.clone()),
            None => bar(observed).map_or(Deed::Keep, Deed::Barred),
        }
    }

    /// The next step of an object that leaves. `is_asked`: the spec wants it, and its gate does not.
    fn leaving(&self, piece: &Piece, exposed: Option<&Exposed>, is_asked: bool, next: &mut Option<Timestamp>) -> Deed {
        match piece.kind().stage() {
            Stage::Inside => Deed::Delete(piece.clone()),
            Stage::WayIn if is_asked => Deed::Delete(piece.clone()),
            Stage::WayIn if self.is_awaited(exposed.is_some()) => Deed::Keep,
            Stage::WayIn if self.is_guarded_apart() && can_shut(piece) => self.lingers(piece, shut(piece), next),
            Stage::WayIn => Deed::Delete(piece.clone()),
            Stage::Guard if self.is_used() => Deed::Keep,
            Stage::Guard if gate::leaves_open(piece.kind()) => self.lingers(piece, json!({"metadata": {}}), next),
            Stage::Guard => Deed::Delete(piece.clone()),
        }
    }

    /// True while the new way in is not in effect, so that the old one stays. `is_possible`: the Service is there. The
    /// new way in can wait for other objects, or be barred.
    fn is_awaited(&self, is_possible: bool) -> bool {
        let exposed = match &self.asked {
            Some(Ok(exposed)) if is_possible => exposed,
            Some(Err(_)) => return self.is_external(),
            Some(Ok(_)) | None => return false,
        };
        let Some(kind) = exposed.way.map(PieceKind::from) else { return false };
        let is_current = self.is_current(exposed, kind, Form::Open);
        !(is_current && self.ours(kind).map(acceptance) == Some(Acceptance::Accepted))
    }

    fn is_external(&self) -> bool {
        let mut endpoints = self.world.instance.endpoints();
        endpoints.any(|endpoint| endpoint.name == self.endpoint && endpoint.guarding().is_some())
    }

    /// True if an object of a guard exists that leaves the way in open when it disappears.
    fn is_guarded_apart(&self) -> bool {
        PieceKind::ALL.into_iter().any(|kind| gate::leaves_open(kind) && self.ours(kind).is_some())
    }

    /// True while a way in exists that may still need the guard. The spec does not want it, or it is not in effect in
    /// the wanted form.
    fn is_used(&self) -> bool {
        let is_wanted =
            |piece: &Piece| self.exposed().is_some_and(|exposed| self.is_current(exposed, piece.kind(), Form::Open));
        let mut ways = self.ways();
        self.world.unsure || ways.any(|piece| !is_wanted(piece) || acceptance(piece) == Acceptance::Awaited)
    }

    /// Marks an object that leaves, with these changes. Deletes it once the edge had time to notice.
    fn lingers(&self, piece: &Piece, mut changes: Value, next: &mut Option<Timestamp>) -> Deed {
        let Some(since) = since(piece) else {
            changes["metadata"]["annotations"] = json!({ name::LEAVING_SINCE: self.world.now.to_string() });
            return Deed::Amend(piece.clone(), changes);
        };
        let end = after(since, LINGER);
        if end <= self.world.now {
            return Deed::Delete(piece.clone());
        }
        *next = (*next).into_iter().chain([end]).min();
        Deed::Keep
    }
}

/// The protocol by which the guard of an endpoint asks the verifier. With plain HTTP beside an HTTPS port, there is the
/// reason in words.
pub(super) fn asked_by(world: &World, endpoint: &Endpoint) -> (Scheme, Option<String>) {
    let guard = endpoint.guarding().unwrap_or(Guard::None);
    let place = https::naming(guard).map(|kind| Place { kind, endpoint: endpoint.name });
    let standing = place.and_then(|place| world.pieces.get(&place)?.ours());
    let unverifying = world.unverifying.get(&endpoint.name).map(String::as_str);
    https::choose(guard, &world.config, &world.https, unverifying, standing)
}

/// The obstacle of an action on an object.
fn bar(observed: &Observed) -> Option<Bar> {
    match observed {
        Observed::Absent | Observed::Ours(_) => None,
        Observed::Foreign => Some(Bar::Taken),
        Observed::Unserved => Some(Bar::Unserved),
        Observed::Off => Some(Bar::Off),
    }
}

/// Takes the mark of a leaving object off, if there is one: the object is wanted again.
fn stays(piece: &Piece) -> Option<Deed> {
    since(piece)?;
    let changes = json!({ "metadata": { "annotations": { name::LEAVING_SINCE: null } } });
    Some(Deed::Amend(piece.clone(), changes))
}

/// The time since which an object leaves.
fn since(piece: &Piece) -> Option<Timestamp> {
    piece.meta().annotations.as_ref()?.get(name::LEAVING_SINCE)?.parse().ok()
}

/// True if the way in is carried by the Gateways of the spec. The guard may not be in effect at another one.
fn is_carried(way: &Piece, exposed: &Exposed) -> bool {
    match way {
        Piece::HttpRoute(route) => exposure::is_carried(route, exposed),
        Piece::Ingress(_)
        | Piece::Route(_)
        | Piece::Service(_)
        | Piece::NetworkPolicy(_)
        | Piece::Middleware(_)
        | Piece::SecurityPolicy(_)
        | Piece::AuthorizationPolicy(_) => true,
    }
}

/// The guard of a way in, as its annotation says.
fn mark(piece: &Piece) -> Option<&str> {
    piece.meta().annotations.as_ref()?.get(name::GUARDED_BY).map(String::as_str)
}

/// True if the way in leads to a Service.
fn leads(piece: &Piece) -> bool {
    match piece {
        Piece::HttpRoute(route) => {
            let mut rules = route.spec["rules"].as_array().into_iter().flatten();
            rules.any(|rule| rule["backendRefs"].as_array().is_some_and(|refs| !refs.is_empty()))
        }
        Piece::Ingress(_) | Piece::Route(_) => true,
        Piece::Service(_)
        | Piece::NetworkPolicy(_)
        | Piece::Middleware(_)
        | Piece::SecurityPolicy(_)
        | Piece::AuthorizationPolicy(_) => false,
    }
}

/// True if the way in can exist without a backend.
fn can_shut(piece: &Piece) -> bool {
    piece.kind() == PieceKind::HttpRoute
}

/// The changes that take the backends off a way in.
fn shut(piece: &Piece) -> Value {
    let value = piece.value();
    let mut rules = value["spec"]["rules"].clone();
    for rule in rules.as_array_mut().into_iter().flatten() {
        rule["backendRefs"] = json!([]);
    }
    json!({ "metadata": {}, "spec": { "rules": rules } })
}

/// The answer of another controller about the way in of an external endpoint. `None` if the endpoint is not external. A
/// way in of a kind that nobody reports on counts as accepted before it exists. One without a backend is awaited.
pub(super) fn in_effect(world: &World, endpoint: &Endpoint) -> Option<Acceptance> {
    let kind = PieceKind::from(world.way(endpoint)?);
    let place = Place { kind, endpoint: endpoint.name };
    match world.pieces.get(&place).and_then(Observed::ours) {
        Some(piece) => match acceptance(piece) {
            Acceptance::Accepted if !leads(piece) => Some(Acceptance::Awaited),
            answer @ (Acceptance::Accepted | Acceptance::Awaited | Acceptance::Refused(_)) => Some(answer),
        },
        None if kind == PieceKind::Ingress => Some(Acceptance::Accepted),
        None => Some(Acceptance::Awaited),
    }
}
