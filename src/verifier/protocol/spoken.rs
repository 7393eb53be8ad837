//! The names of the protocols.

use http::HeaderName;

/// A protocol that the verifier speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The external authorization of Envoy over gRPC.
    ExtAuthz,
    /// Forward authentication over HTTP: nginx `auth_request`, Traefik, Caddy, Envoy.
    ForwardAuth,
    /// The authentication of ingress-nginx.
    IngressNginx,
    /// The webhook for token authentication of the Kubernetes API.
    TokenReview,
    /// Token introspection of OAuth 2.0 (RFC 7662).
    Introspection,
    /// None of them: no protocol has the path.
    Unknown,
}

impl Protocol {
    /// The name of the protocol, for metrics and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExtAuthz => "ext-authz",
            Self::ForwardAuth => "forward-auth",
            Self::IngressNginx => "ingress-nginx",
            Self::TokenReview => "token-review",
            Self::Introspection => "introspection",
            Self::Unknown => "unknown",
        }
    }

    /// The header in which a proxy names the address of its caller, last in a list. `None`: no header does.
    pub fn source_header(self) -> Option<HeaderName> {
        match self {
            Self::ExtAuthz => None,
            Self::ForwardAuth => Some(const { HeaderName::from_static("x-forwarded-for") }),
            Self::IngressNginx => Some(const { HeaderName::from_static("x-real-ip") }),
            Self::TokenReview | Self::Introspection | Self::Unknown => None,
        }
    }
}
