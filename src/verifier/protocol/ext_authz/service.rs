//! The service that Envoy calls.

use std::sync::Arc;

use envoy_types::ext_authz::v3::pb;
use http::HeaderMap;
use tonic::Status;

use super::super::super::{Asking, Cause, Flaw, Origin, PresentedCredential, Requested, index::Key};
use super::{Door, Protocol, answer, attributes, message};
use crate::outside::server::PeerAddress;

/// The service of Envoy.
pub(super) struct ExtAuthz(pub(super) Arc<Door>);

#[tonic::async_trait]
impl pb::Authorization for ExtAuthz {
    async fn check(
        &self,
        question: tonic::Request<pb::CheckRequest>,
    ) -> Result<tonic::Response<pb::CheckResponse>, Status> {
        let (metadata, extensions, message) = question.into_parts();
        let (named, source) = (attributes::instance(&message, metadata.as_ref()), attributes::source(&message));
        let source = source.or_else(|| PeerAddress::of(&extensions).map(|peer| peer.0));
        let (read, none) = (attributes::request(message), HeaderMap::new());
        let headers = read.as_ref().map_or(&none, |(_, headers)| headers);
        let credential = match (&read, &named) {
            (Err(_), _) => PresentedCredential::Given(Err(Flaw::Unreadable.into())),
            (Ok(_), None) => PresentedCredential::Given(Err(Cause::InstanceUnnamed)),
            (Ok(_), Some(_)) => PresentedCredential::InHeaders,
        };
        let origin = Origin::named(Protocol::ExtAuthz, source, headers);
        let instance = named.unwrap_or_else(|| Key::new("", ""));
        let request = read.as_ref().ok();
        let request =
            request.map(|(http, _)| Requested { method: Some(&http.method), target: Some(&http.path), headers });
        let answer = self.0.ask(&Asking { origin, instance, credential, request }).await;
        match read {
            Ok(_) => Ok(tonic::Response::new(answer::said(&answer))),
            Err(told) => Err(message::status(&answer, told)),
        }
    }
}
