//! The origin of a question, for metrics and the audit log.

use http::HeaderMap;

use super::Protocol;

/// The origin of a question, for metrics and the audit log. It has no effect on the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The protocol of the question.
    pub protocol: Protocol,
}

impl Origin {
    /// The origin of a question that came with these headers.
    pub fn of(protocol: Protocol, _headers: &HeaderMap) -> Self {
        Self { protocol }
    }
}
