//! The kinds of object that expose an endpoint, and the order in which they are created and deleted.

use std::sync::Arc;

use k8s_openapi::{
    api::{core::v1::Service, networking::v1::Ingress},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use crate::crd::{
    self, Instance,
    instance::{Endpoint, EndpointType, WayIn},
    listed,
};

/// The stage in which an object is created. A stage begins once the objects of all earlier stages exist. Objects are
/// deleted in the reverse order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Objects that are reached from inside the cluster.
    Inside,
    /// Objects that lead there from outside the cluster.
    WayIn,
}

listed! {
    /// A kind of object that exposes an endpoint, in the order of their stages.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum PieceKind {
        /// A Service.
        Service,
        /// An Ingress.
        Ingress,
    }
}

impl From<WayIn> for PieceKind {
    fn from(way: WayIn) -> Self {
        match way {
            WayIn::Ingress => Self::Ingress,
        }
    }
}

impl PieceKind {
    /// The stage in which objects of this kind are created.
    pub fn stage(self) -> Stage {
        match self {
            Self::Service => Stage::Inside,
            Self::Ingress => Stage::WayIn,
        }
    }

    /// The name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Ingress => "Ingress",
        }
    }

    /// True if `endpoint` needs an object of this kind. The answer depends on the spec alone, even while something
    /// missing prevents the object.
    pub fn is_needed_by(self, endpoint: &Endpoint) -> bool {
        match self.stage() {
            Stage::Inside => endpoint.reach() != EndpointType::Disabled,
            Stage::WayIn => endpoint.way_in().is_some_and(|way| Self::from(way) == self),
        }
    }
}

/// An object that exposes an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// A Service.
    Service(Arc<Service>),
    /// An Ingress.
    Ingress(Arc<Ingress>),
}

impl Piece {
    /// The kind of the object.
    pub fn kind(&self) -> PieceKind {
        match self {
            Self::Service(_) => PieceKind::Service,
            Self::Ingress(_) => PieceKind::Ingress,
        }
    }

    /// The metadata of the object.
    pub fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Service(service) => &mut Arc::make_mut(service).metadata,
            Self::Ingress(ingress) => &mut Arc::make_mut(ingress).metadata,
        }
    }

    /// Sets the namespace of `instance`, Tokenry's labels and the owner reference.
    pub fn give(&mut self, instance: &Instance) {
        match self {
            Self::Service(service) => crd::give(Arc::make_mut(service), instance),
            Self::Ingress(ingress) => crd::give(Arc::make_mut(ingress), instance),
        }
    }

    /// The object as JSON. The same object always gives the same bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = match self {
            Self::Service(service) => serde_json::to_vec(&**service),
            Self::Ingress(ingress) => serde_json::to_vec(&**ingress),
        };
        bytes.unwrap_or_default()
    }

    /// The object as a JSON value.
    pub fn value(&self) -> Value {
        let value = match self {
            Self::Service(service) => serde_json::to_value(&**service),
            Self::Ingress(ingress) => serde_json::to_value(&**ingress),
        };
        value.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Resource;
    use std::borrow::Cow;

    #[test]
    fn kinds_are_listed_in_the_order_of_their_stages() {
        assert!(PieceKind::ALL.is_sorted_by_key(|kind| kind.stage()));
    }

    #[test]
    fn a_kind_of_the_last_stage_is_a_way_in_that_an_endpoint_can_ask_for() {
        let last = PieceKind::ALL.into_iter().filter(|kind| kind.stage() == Stage::WayIn);
        assert!(last.eq(WayIn::ALL.map(PieceKind::from)));
    }

    /// The API group and the resource of a kind.
    fn resource(kind: PieceKind) -> (Cow<'static, str>, Cow<'static, str>) {
        match kind {
            PieceKind::Service => (Service::group(&()), Service::plural(&())),
            PieceKind::Ingress => (Ingress::group(&()), Ingress::plural(&())),
        }
    }

    #[test]
    fn admission_asks_for_the_right_to_make_what_is_made() {
        for way in WayIn::ALL {
            let (group, plural) = resource(way.into());
            assert_eq!(way.resource(), (&*group, &*plural), "{way:?}");
        }
    }
}
