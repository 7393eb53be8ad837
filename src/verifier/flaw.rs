//! The flaws of questions that the verifier does not answer.

use super::Protocol;

/// The flaw of a question that the verifier does not answer. It is a fault of the question or of its caller, whatever
/// token the question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// The message is none of its protocol, or broke off.
    Unreadable,
    /// The question has another method than `POST`.
    MethodUnsupported,
    /// The message did not arrive within 5 seconds.
    TooSlow,
    /// The message is longer than 64 KiB, or than 256 KiB by gRPC.
    TooLong,
    /// The message has another media type than its protocol.
    TypeUnsupported,
    /// The caller of introspection sends no bearer token (RFC 6750).
    CallerMissing,
    /// The caller of introspection sends several credentials, or a malformed one.
    CallerUnclear,
    /// The API server does not know the token of the caller for the audience `tokenry.dev/verifier`.
    CallerUnproven,
    /// The caller lacks the right to `introspect` the Instance.
    CallerForbidden,
    /// The API server does not review the caller.
    ReviewFailed,
    /// The verifier runs without `--introspection`.
    IntrospectionOff,
    /// No protocol has the path of the question. A guard with a mistyped path refuses everybody.
    PathUnknown,
    /// The caller, or its proxy, closed the connection while the question waited for news.
    CallerLeft,
}

impl Flaw {
    /// The HTTP status code of the flaw. Metrics and the audit log use it for every protocol.
    pub fn code(self) -> u16 {
        match self {
            Self::Unreadable | Self::CallerUnclear => 400,
            Self::CallerMissing | Self::CallerUnproven => 401,
            Self::CallerForbidden => 403,
            Self::PathUnknown => 404,
            Self::MethodUnsupported => 405,
            Self::TooSlow => 408,
            Self::TooLong => 413,
            Self::TypeUnsupported => 415,
            // No standard has a code for this one. Other programs write this code into their logs, too.
            Self::CallerLeft => 499,
            Self::IntrospectionOff => 501,
            Self::ReviewFailed => 503,
        }
    }

    /// The name of the flaw, for metrics and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "Unreadable",
            Self::MethodUnsupported => "MethodUnsupported",
            Self::TooSlow => "TooSlow",
            Self::TooLong => "TooLong",
            Self::TypeUnsupported => "TypeUnsupported",
            Self::CallerMissing => "CallerMissing",
            Self::CallerUnclear => "CallerUnclear",
            Self::CallerUnproven => "CallerUnproven",
            Self::CallerForbidden => "CallerForbidden",
            Self::ReviewFailed => "ReviewFailed",
            Self::IntrospectionOff => "IntrospectionOff",
            Self::PathUnknown => "PathUnknown",
            Self::CallerLeft => "CallerLeft",
        }
    }

    /// The error code of the answer, as in RFC 6750, section 3.1, and RFC 6749, section 5.2. `None`: a caller without a
    /// credential gets none.
    pub fn error(self) -> Option<&'static str> {
        match self {
            Self::CallerMissing | Self::CallerLeft => None,
            Self::CallerUnproven => Some("invalid_token"),
            Self::CallerForbidden => Some("insufficient_scope"),
            Self::ReviewFailed => Some("temporarily_unavailable"),
            Self::IntrospectionOff => Some("unsupported"),
            Self::Unreadable
            | Self::MethodUnsupported
            | Self::TooSlow
            | Self::TooLong
            | Self::TypeUnsupported
            | Self::PathUnknown
            | Self::CallerUnclear => Some("invalid_request"),
        }
    }

    /// True for a flaw of the caller, which a challenge answers.
    pub fn is_challenged(self) -> bool {
        match self {
            Self::CallerMissing | Self::CallerUnclear | Self::CallerUnproven | Self::CallerForbidden => true,
            Self::Unreadable
            | Self::MethodUnsupported
            | Self::TooSlow
            | Self::TooLong
            | Self::TypeUnsupported
            | Self::ReviewFailed
            | Self::IntrospectionOff
            | Self::PathUnknown
            | Self::CallerLeft => false,
        }
    }

    /// The next step for the caller, by the protocol of its question.
    pub fn hint(self, protocol: Protocol) -> &'static str {
        match self {
            Self::Unreadable => readable(protocol),
            Self::MethodUnsupported => "ask by POST",
            Self::TooSlow => "the message did not arrive within 5 seconds; send it at once",
            Self::TooLong => match protocol {
                Protocol::ExtAuthz => "the message is longer than 256 KiB; send fewer or shorter headers",
                Protocol::ForwardAuth
                | Protocol::IngressNginx
                | Protocol::TokenReview
                | Protocol::Introspection
                | Protocol::Unknown => "the body is longer than 64 KiB; send a token alone",
            },
            Self::TypeUnsupported => typed(protocol),
            Self::CallerMissing | Self::CallerUnproven => {
                "send a Kubernetes token for the audience tokenry.dev/verifier as Authorization: Bearer"
            }
            Self::CallerUnclear => "send exactly one header Authorization, with exactly one bearer token",
            Self::CallerForbidden => {
                "the caller needs the verb introspect on instances.tokenry.dev of this namespace and name"
            }
            Self::ReviewFailed => "the API server does not review the caller now; try again",
            Self::IntrospectionOff => {
                "the verifier runs without --introspection; set verifier.introspection.enabled=true of the chart"
            }
            Self::PathUnknown => {
                "the verifier has no such path; ask at /v1/instances/NAMESPACE/INSTANCE/authorize, or at another path \
                 of the documentation"
            }
            Self::CallerLeft => "the caller left before the answer",
        }
    }
}

/// The message that a protocol expects.
fn readable(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::ExtAuthz => "the message is no CheckRequest about an HTTP request; ask from an HTTP filter of Envoy",
        Protocol::TokenReview => {
            "the body is no TokenReview in JSON of authentication.k8s.io/v1 or authentication.k8s.io/v1beta1; set \
             --authentication-token-webhook-version"
        }
        Protocol::Introspection => "the form has to name one token",
        Protocol::ForwardAuth | Protocol::IngressNginx | Protocol::Unknown => "the request has to be one of HTTP",
    }
}

/// The media type that a protocol expects.
fn typed(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::ExtAuthz => "ask by gRPC, with the media type application/grpc",
        Protocol::TokenReview => "send the body with the media type application/json alone",
        Protocol::Introspection => "send the body with the media type application/x-www-form-urlencoded alone",
        Protocol::ForwardAuth | Protocol::IngressNginx | Protocol::Unknown => "send no body",
    }
}
