//! The kinds of object that expose an endpoint, and the order in which they are created and deleted.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::Service,
        networking::v1::{Ingress, NetworkPolicy},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use super::loose::{AuthorizationPolicy, HttpRoute, Middleware, Route, SecurityPolicy};
use crate::crd::{
    self, Instance,
    endpoint::{EndpointName, WayIn},
    listed,
};

/// The stage in which an object is created. A stage begins once the objects of all earlier stages exist. Objects are
/// deleted in the reverse order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Objects that are reached from inside the cluster, and those that limit this.
    Inside,
    /// Objects that make the edge ask the verifier.
    Guard,
    /// Objects that lead there from outside the cluster.
    WayIn,
}

/// Calls the macro `$then` with all kinds of object: the name, the type of its objects, and its stage.
macro_rules! each_kind {
    ($then:ident) => {
        $then! {
            /// A Service.
            Service: Service, Inside ("", "services"),
            /// A NetworkPolicy.
            NetworkPolicy: NetworkPolicy, Inside ("networking.k8s.io", "networkpolicies"),
            /// A Middleware of Traefik.
            Middleware: Middleware, Guard ("traefik.io", "middlewares"),
            /// A SecurityPolicy of Envoy Gateway.
            SecurityPolicy: SecurityPolicy, Guard ("gateway.envoyproxy.io", "securitypolicies"),
            /// An AuthorizationPolicy of Istio.
            AuthorizationPolicy: AuthorizationPolicy, Guard ("security.istio.io", "authorizationpolicies"),
            /// An HTTPRoute of the Gateway API.
            HttpRoute: HttpRoute, WayIn ("gateway.networking.k8s.io", "httproutes"),
            /// An Ingress.
            Ingress: Ingress, WayIn ("networking.k8s.io", "ingresses"),
            /// A Route of OpenShift.
            Route: Route, WayIn ("route.openshift.io", "routes"),
        }
    };
}

macro_rules! pieces {
    ($($(#[$doc:meta])* $kind:ident: $object:ty, $stage:ident ($group:literal, $plural:literal),)*) => {
        listed! {
            /// A kind of object that exposes an endpoint, in the order of their stages.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
            #[serde(try_from = "String")]
            pub enum PieceKind {
                $($(#[$doc])* $kind,)*
            }
        }

        /// An object that exposes an endpoint.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Piece {
            $($(#[$doc])* $kind(Arc<$object>),)*
        }

        $(impl From<$object> for Piece {
            fn from(object: $object) -> Self {
                Self::$kind(Arc::new(object))
            }
        })*

        impl PieceKind {
            /// The stage in which objects of this kind are created.
            pub fn stage(self) -> Stage {
                match self { $(Self::$kind => Stage::$stage,)* }
            }

            /// The name of the kind.
            pub fn name(self) -> Cow<'static, str> {
                match self { $(Self::$kind => <$object>::kind(&()),)* }
            }

            /// The API group and the resource of the kind.
            pub fn resource(self) -> (&'static str, &'static str) {
                match self { $(Self::$kind => ($group, $plural),)* }
            }
        }

        impl Piece {
            /// The kind of the object.
            pub fn kind(&self) -> PieceKind {
                match self { $(Self::$kind(_) => PieceKind::$kind,)* }
            }

            /// The metadata of the object.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => object.meta(),)* }
            }

            /// The metadata of the object.
            pub fn meta_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$kind(object) => Arc::make_mut(object).meta_mut(),)* }
            }

            /// Sets the namespace of `instance`, Tokenry's labels and the owner reference.
            pub fn give(&mut self, instance: &Instance) {
                match self { $(Self::$kind(object) => crd::give(Arc::make_mut(object), instance),)* }
            }

            /// The object as a JSON value.
            pub fn value(&self) -> Value {
                match self { $(Self::$kind(object) => serde_json::to_value(&**object).unwrap_or_default(),)* }
            }
        }
    };
}

each_kind!(pieces);

/// Evaluates an expression with the object of a piece, whose type differs by kind.
macro_rules! with_object {
    ($piece:expr, $it:ident => $do:expr) => {
        match $piece {
            $crate::exposure::Piece::Service($it) => $do,
            $crate::exposure::Piece::NetworkPolicy($it) => $do,
            $crate::exposure::Piece::Middleware($it) => $do,
            $crate::exposure::Piece::SecurityPolicy($it) => $do,
            $crate::exposure::Piece::AuthorizationPolicy($it) => $do,
            $crate::exposure::Piece::HttpRoute($it) => $do,
            $crate::exposure::Piece::Ingress($it) => $do,
            $crate::exposure::Piece::Route($it) => $do,
        }
    };
}
pub(crate) use with_object;

impl Piece {
    /// The object as JSON. The same object always gives the same bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.value().to_string().into_bytes()
    }
}

impl PieceKind {
    /// The name of the object of this kind for an endpoint.
    ///
    /// Traefik joins namespace and name of a Middleware by `-`. An object of another namespace can get the same joined
    /// name, and then replaces ours. So the name of a Middleware cannot be guessed.
    pub fn object_name(self, instance: &Instance, endpoint: EndpointName) -> String {
        if self == Self::Middleware { instance.unguessable_name(endpoint) } else { instance.exposed_name(endpoint) }
    }
}

impl From<WayIn> for PieceKind {
    fn from(way: WayIn) -> Self {
        match way {
            WayIn::Gateway => Self::HttpRoute,
            WayIn::Ingress => Self::Ingress,
            WayIn::Route => Self::Route,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed_in_the_order_of_their_stages() {
        assert!(PieceKind::ALL.is_sorted_by_key(|kind| kind.stage()));
    }

    #[test]
    fn a_kind_of_the_last_stage_is_a_way_in_that_an_endpoint_can_ask_for() {
        let last = PieceKind::ALL.into_iter().filter(|kind| kind.stage() == Stage::WayIn);
        assert!(last.eq(WayIn::ALL.map(PieceKind::from)));
    }

    macro_rules! named {
        ($($(#[$doc:meta])* $kind:ident: $object:ty, $stage:ident ($group:literal, $plural:literal),)*) => {
            #[test]
            fn the_resource_of_a_kind_is_that_of_its_objects() {
                $({
                    let resource = (<$object>::group(&()), <$object>::plural(&()));
                    assert_eq!((&*resource.0, &*resource.1), PieceKind::$kind.resource());
                })*
            }
        };
    }
    each_kind!(named);
}
