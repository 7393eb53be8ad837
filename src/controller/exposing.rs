//! The cached objects that expose endpoints, of kinds that a cluster may not serve.

use std::collections::BTreeSet;

use futures::stream::BoxStream;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::run::{every, mapped};
use crate::{
    crd::Instance,
    exposure::{
        backends::Backends,
        loose::{AuthorizationPolicy, HttpRoute, Middleware, Route, SecurityPolicy},
    },
    outside::{Optional, Store},
};

/// The cached objects that expose endpoints, except Services, which every cluster serves. A kind that is switched off
/// is not watched.
pub struct Exposing {
    /// NetworkPolicies.
    pub network_policies: Optional<NetworkPolicy>,
    /// Middlewares of Traefik.
    pub middlewares: Optional<Middleware>,
    /// SecurityPolicies of Envoy Gateway.
    pub security_policies: Optional<SecurityPolicy>,
    /// AuthorizationPolicies of Istio.
    pub authorization_policies: Optional<AuthorizationPolicy>,
    /// HTTPRoutes.
    pub http_routes: Optional<HttpRoute>,
    /// Ingresses.
    pub ingresses: Optional<Ingress>,
    /// Routes of OpenShift.
    pub routes: Optional<Route>,
}

/// Evaluates an expression with each cache of an [`Exposing`].
macro_rules! each_cache {
    ($exposing:expr, $cache:ident => $do:expr) => {{
        // Each cache is named here, so that a new one does not compile before it is added.
        let Exposing {
            network_policies,
            middlewares,
            security_policies,
            authorization_policies,
            http_routes,
            ingresses,
            routes,
        } = $exposing;
        (
            each_cache!(@ network_policies, $cache => $do),
            each_cache!(@ middlewares, $cache => $do),
            each_cache!(@ security_policies, $cache => $do),
            each_cache!(@ authorization_policies, $cache => $do),
            each_cache!(@ http_routes, $cache => $do),
            each_cache!(@ ingresses, $cache => $do),
            each_cache!(@ routes, $cache => $do),
        )
    }};
    (@ $field:ident, $cache:ident => $do:expr) => {{
        let $cache = $field;
        $do
    }};
}

impl Exposing {
    /// Fills the caches while the cluster serves their kinds. Never returns.
    pub async fn run(&self) {
        let (a, b, c, d, e, f, g) = each_cache!(self, cache => cache.run());
        tokio::join!(a, b, c, d, e, f, g);
    }

    /// True if a way in may exist that no cache knows yet.
    pub fn is_unsure(&self) -> bool {
        let Self { http_routes, ingresses, routes, .. } = self;
        !(http_routes.is_known() && ingresses.is_known() && routes.is_known())
    }

    /// The names of Instances that `using` finds in the namespace of an object or of its backends, when the object
    /// changes. All Instances when the cluster begins or ends to serve a kind.
    pub fn triggers(
        &self,
        instances: &Store<Instance>,
        using: impl Fn(&str) -> Vec<ObjectRef<Instance>> + Clone + Send + Sync + 'static,
    ) -> Vec<BoxStream<'static, ObjectRef<Instance>>> {
        let mut all = Vec::new();
        let _ = each_cache!(self, cache => {
            let using = using.clone();
            all.push(mapped(cache.touched(), move |object| {
                let of_backends = object.backends().into_iter().map(|(namespace, _)| namespace);
                let homes: BTreeSet<_> = object.namespace().into_iter().chain(of_backends).collect();
                homes.iter().flat_map(|home| using(home)).collect()
            }));
            all.push(every(cache.changes(), instances.clone()));
        });
        all
    }
}
