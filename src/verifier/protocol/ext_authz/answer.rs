//! The answer of the door as the message that Envoy reads.

use envoy_types::ext_authz::v3::{CheckResponseExt, pb};
use http::{HeaderMap, HeaderName, HeaderValue};
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
        let (mut for_api, id) = (proxied::identity(identity), answer.request_id().header());
        for_api.insert(REQUEST_ID, id.clone());
        let (headers, headers_to_remove) = (replacing(&for_api), underscored().to_vec());
        let mut response_headers_to_add = replacing(&HeaderMap::from_iter([(REQUEST_ID, id)]));
        // The API may answer with an id of its own.
        response_headers_to_add[0].append_action = pb::HeaderAppendAction::AddIfAbsent.into();
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
