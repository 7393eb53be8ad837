//! Reads the message of a call as a whole, before anything decodes it.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header::CONTENT_TYPE};
use tonic::{Code, Status, metadata::MetadataMap};

use super::super::super::{Answer, Category, Cause, origin::REQUEST_ID};
use super::super::{body, forward_auth::told};

/// The largest message that is read, in bytes. Envoy lets 60 KiB of headers in by default, and names the path twice.
pub(super) const LARGEST: usize = 256 * 1024;
/// The head of a message, in bytes: one for its compression, and four for its length.
const FRAME: usize = 5;

/// The call with its whole message.
///
/// # Errors
/// The request is no call of gRPC, or its message is too large or too slow, or too many messages are being read.
pub(super) async fn whole(question: Request) -> Result<Request, Cause> {
    let kind = question.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let is_typed = kind.starts_with(b"application/grpc");
    let (parts, message) = question.into_parts();
    let message = body::whole(&parts, message, is_typed, FRAME + LARGEST).await?;
    Ok(Request::from_parts(parts, Body::from(message)))
}

/// The answer to a call that cannot be judged. A caller that does not speak gRPC gets one of HTTP, whatever the cause
/// is. Each answer of gRPC has the status 200, and a proxy at a wrong path takes that for permission.
pub(super) fn refused(answer: &Answer, speaks_grpc: bool) -> Response {
    let category = answer.verdict().cause.category();
    if !speaks_grpc {
        return told(answer);
    }
    let hint = if let Category::Flawed(flaw) = category { flaw.hint(answer.protocol()) } else { "try again later" };
    status(answer, hint).into_http::<Body>().into_response()
}

/// The status of a call that cannot be judged, with the id of the request.
pub(super) fn status(answer: &Answer, told: &str) -> Status {
    let code = match answer.verdict().cause.category().code() {
        408 => Code::DeadlineExceeded,
        413 => Code::OutOfRange,
        503 => Code::Unavailable,
        _ => Code::InvalidArgument,
    };
    let id = HeaderMap::from_iter([(REQUEST_ID, answer.request_id().header())]);
    Status::with_metadata(code, told, MetadataMap::from_headers(id))
}
