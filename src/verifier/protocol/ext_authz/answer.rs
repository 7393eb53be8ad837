//! The answer of the door as the message that Envoy reads.

use envoy_types::ext_authz::v3::{CheckResponseExt, pb};
use http::{HeaderMap, HeaderName};
use tonic::{Code, Status};

use super::{metadata::metadata, proxied};
use crate::{
    access::header::underscored,
    verifier::{Answer, Category, origin::REQUEST_ID},
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
        let id = option(&REQUEST_ID, answer.request_id().as_str());
        let identity_headers = proxied::identity(identity).map(|(name, value)| option(&name, proxied::readable(value)));
        let headers = identity_headers.into_iter().chain([id.clone()]).collect();
        let headers_to_remove = underscored().to_vec();
        // The API may answer with an id of its own.
        let given = pb::HeaderValueOption { append_action: pb::HeaderAppendAction::AddIfAbsent.into(), ..id };
        let response_headers_to_add = vec![given];
        let ok = pb::OkHttpResponse { headers, headers_to_remove, response_headers_to_add, ..Default::default() };
        message.set_http_response(ok).set_dynamic_metadata(identity.map(metadata));
    } else {
        let proxied::Wording { status, headers, body } = proxied::told(answer);
        let (status, headers) = (Some(pb::HttpStatus { code: status.into() }), replacing(&headers));
        message.set_http_response(pb::DeniedHttpResponse { status, headers, body });
    }
    message
}

/// Headers that replace those of the same name.
fn replacing(headers: &HeaderMap) -> Vec<pb::HeaderValueOption> {
    headers.iter().map(|(name, value)| option(name, value.to_str().unwrap_or_default())).collect()
}

/// A header that replaces those of the same name. Envoy keeps an empty value.
fn option(name: &HeaderName, value: &str) -> pb::HeaderValueOption {
    pb::HeaderValueOption {
        header: Some(pb::HeaderValue { key: name.as_str().into(), value: value.into(), ..Default::default() }),
        append_action: pb::HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: true,
        ..Default::default()
    }
}
