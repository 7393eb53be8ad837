//! The identity as Envoy's dynamic metadata.

use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

use crate::verifier::Identity;

/// The identity as metadata for later filters and for the access log of an Envoy. A role that there is not is empty,
/// and an owner that there is not is left out.
pub(super) fn metadata(identity: &Identity) -> Struct {
    let owner = identity.owner.as_deref().map(|owner| ("owner", owner));
    let fields = [
        ("subject", &*identity.subject),
        ("token_id", &identity.id),
        ("role", identity.role.as_deref().unwrap_or_default()),
        ("organization", &identity.organization),
    ];
    let text = |(name, text): (&str, &str)| (name.to_owned(), Value { kind: Some(Kind::StringValue(text.to_owned())) });
    Struct { fields: fields.into_iter().chain(owner).map(text).collect() }
}
