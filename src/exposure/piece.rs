//! The kinds of object that expose an endpoint, and in which order they come and go.

use std::sync::Arc;

use k8s_openapi::{
    api::{core::v1::Service, networking::v1::Ingress},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use crate::crd::{
    self, Instance,
    instance::{Endpoint, EndpointType},
};

/// When an object comes: a stage begins once all before it stand. What goes away, goes in the reverse order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What is reached from inside the cluster.
    Inside,
    /// What leads there from outside.
    WayIn,
}

/// A kind of object that exposes an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PieceKind {
    /// A Service.
    Service,
    /// An Ingress.
    Ingress,
}

impl PieceKind {
    /// All of them, in the order of their stages.
    pub const ALL: [Self; 2] = [Self::Service, Self::Ingress];

    /// When it comes.
    pub fn stage(self) -> Stage {
        match self {
            Self::Service => Stage::Inside,
            Self::Ingress => Stage::WayIn,
        }
    }

    /// What it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Ingress => "Ingress",
        }
    }

    /// Whether `endpoint` has one: from its spec alone, also while what is missing keeps it from being built.
    pub fn is_needed_by(self, endpoint: &Endpoint) -> bool {
        match (self, endpoint.reach()) {
            (_, EndpointType::Disabled) | (Self::Ingress, EndpointType::Internal) => false,
            (Self::Service, EndpointType::External | EndpointType::Internal) => true,
            (Self::Ingress, EndpointType::External) => true,
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
    /// Its kind.
    pub fn kind(&self) -> PieceKind {
        match self {
            Self::Service(_) => PieceKind::Service,
            Self::Ingress(_) => PieceKind::Ingress,
        }
    }

    /// Its metadata.
    pub fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Service(service) => &mut Arc::make_mut(service).metadata,
            Self::Ingress(ingress) => &mut Arc::make_mut(ingress).metadata,
        }
    }

    /// The same as `instance`'s own.
    pub fn give(&mut self, instance: &Instance) {
        match self {
            Self::Service(service) => crd::give(Arc::make_mut(service), instance),
            Self::Ingress(ingress) => crd::give(Arc::make_mut(ingress), instance),
        }
    }

    /// As text, always the same for the same object.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = match self {
            Self::Service(service) => serde_json::to_vec(&**service),
            Self::Ingress(ingress) => serde_json::to_vec(&**ingress),
        };
        bytes.unwrap_or_default()
    }

    /// As plain data.
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

    #[test]
    fn kinds_are_listed_in_the_order_of_their_stages() {
        assert!(PieceKind::ALL.is_sorted_by_key(|kind| kind.stage()));
    }
}
