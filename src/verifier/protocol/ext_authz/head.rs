//! The head of a call.

use std::net::IpAddr;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use http::{Extensions, HeaderMap};

use super::{Protocol, attributes};
use crate::{
    outside::server::PeerAddress,
    verifier::{Asking, Cause, Origin, PresentedCredential, index::Key},
};

/// The head of a call. Only it tells of a call whose message cannot be read.
pub(super) struct CallHead {
    instance: Option<Key>,
    peer: Option<IpAddr>,
}

impl CallHead {
    /// `headers` and `extensions` are those of the call.
    pub(super) fn of(headers: &HeaderMap, extensions: &Extensions) -> Self {
        let instance = attributes::instance(&CheckRequest::default(), headers);
        Self { instance, peer: PeerAddress::of(extensions).map(|peer| peer.0) }
    }

    /// The question of a call that cannot be judged for this cause.
    pub(super) fn flawed(self, cause: Cause) -> Asking<'static> {
        let origin = Origin::named(Protocol::ExtAuthz, self.peer, &HeaderMap::new());
        let instance = self.instance.unwrap_or_else(|| Key::new("", ""));
        Asking { origin, instance, credential: PresentedCredential::Given(Err(cause)), request: None }
    }
}
