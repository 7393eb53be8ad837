//! The answer of the door as the message that Envoy reads.

use envoy_types::ext_authz::v3::{CheckResponseExt, pb};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Code, Status};

use super::proxied;
use crate::{
    access::header::underscored,
    verifier::{Answer, Category, Identity, origin::REQUEST_ID},
};

/// The answer as Envoy's message. Envoy gives its caller the status, headers and body of a refusal.
pub(super) fn said(answer: &Answer) -> pb::CheckResponse {
    let code = match answer.verdict().cause.category() {
        Category::Allowed => Code::Ok,
        Category::NotAuthenticated => Code::Unauthenticated,
        Category::NotPermitted => Code::PermissionDenied,
        Category::Unavailable => Code::Unavailable,
        Category::Flawed(_) => Code::InvalidArgument,
    };
    let mut message = pb::CheckResponse::with_status(Status::new(code, ""));
    if code == Code::Ok {
        let identity = answer.verdict().identity.as_ref();
        let (headers, headers_to_remove) = (replacing(&proxied::identity(identity)), underscored().to_vec());
        let response_headers_to_add = replacing(&[(REQUEST_ID, answer.request_id().header())].into_iter().collect());
        let ok = pb::OkHttpResponse { headers, headers_to_remove, response_headers_to_add, ..Default::default() };
        message.set_http_response(ok).set_dynamic_metadata(identity.map(metadata));
    } else {
        let proxied::Wording { status, headers, body } = proxied::told(answer);
        let (status, headers) = (Some(pb::HttpStatus { code: status.into() }), replacing(&headers));
        message.set_http_response(pb::DeniedHttpResponse { status, headers, body });
    }
    message
}

/// Headers that replace those of the same name. Envoy keeps an empty value.
fn replacing(headers: &HeaderMap) -> Vec<pb::HeaderValueOption> {
    let option = |(name, value): (&HeaderName, &HeaderValue)| {
        let (key, value) = (name.to_string(), value.to_str().unwrap_or_default().to_owned());
        pb::HeaderValueOption {
            header: Some(pb::HeaderValue { key, value, ..Default::default() }),
            append_action: pb::HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            keep_empty_value: true,
            ..Default::default()
        }
    };
    headers.iter().map(option).collect()
}

/// The identity as metadata for later filters and for the access log of an Envoy. A role that there is not is empty,
/// and an owner that there is not is left out.
fn metadata(identity: &Identity) -> Struct {
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
