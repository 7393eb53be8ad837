//! Reads the message of a call as a whole, before anything decodes it.

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header::CONTENT_TYPE};
use tonic::Status;

use super::super::body;

/// The largest message that is read, in bytes. Envoy lets 60 KiB of headers in by default, and names the path twice.
pub(super) const LARGEST: usize = 256 * 1024;
/// The head of a message, in bytes: one for its compression, and four for its length.
const FRAME: usize = 5;

/// The call with its whole message.
///
/// # Errors
/// The request is no call of gRPC, or its message is too large or too slow, or too many messages are being read. The
/// error is the answer.
pub(super) async fn whole(question: Request) -> Result<Request, Response> {
    let kind = question.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    if !kind.starts_with(b"application/grpc") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response());
    }
    let (parts, message) = question.into_parts();
    match body::whole(&parts, message, FRAME + LARGEST).await {
        Ok(message) => Ok(Request::from_parts(parts, Body::from(message))),
        Err(status) => Err(unread(status).into_http::<Body>().into_response()),
    }
}

/// The status of a call whose message could not be read.
fn unread(status: StatusCode) -> Status {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => Status::unavailable("too many messages are being read; try again"),
        StatusCode::REQUEST_TIMEOUT => Status::deadline_exceeded("the message did not arrive in time"),
        _ => Status::out_of_range("the message is too large"),
    }
}
