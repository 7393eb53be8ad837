//! The origin of a question, for the audit log: its protocol, the caller's address, and the ids of request and trace.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue, header::AsHeaderName};

use super::Protocol;
pub(crate) use crate::access::header::REQUEST_ID;
use crate::{
    outside::{server::PeerAddress, traces::TraceParent},
    token::format,
};

/// The header of a trace id, as W3C Trace Context defines it.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The longest request id that is taken on, in bytes.
const LONGEST_ID: usize = 128;

/// The origin of a question, for metrics and the audit log. It has no effect on the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The protocol of the question.
    pub protocol: Protocol,
    /// The address of the caller, as the proxy names it. `None`: not known.
    pub source: Option<IpAddr>,
    /// The request id of the proxy or of its caller. `None`: the door makes one.
    pub request_id: Option<RequestId>,
    /// The trace of the request. `None`: there is none.
    pub trace: Option<TraceParent>,
    /// The user of Kubernetes that asks, as its review names it. `None`: the protocol has no review, or names nobody.
    pub caller: Option<Arc<str>>,
}

impl Origin {
    /// The origin of a question over HTTP. A proxy names the address of its caller in a header
    /// ([`Protocol::source_header`]). Without a valid address there, the source is the peer of the connection.
    pub fn of(protocol: Protocol, headers: &HeaderMap, peer: Option<PeerAddress>) -> Self {
        let header = protocol.source_header();
        let source = header.and_then(|name| last_address(headers, name)).or(peer.map(|peer| peer.0));
        Self::named(protocol, source, headers)
    }

    /// The origin of a question whose protocol names the caller's address in a field of its own. `headers` are those
    /// of the caller's request.
    pub fn named(protocol: Protocol, source: Option<IpAddr>, headers: &HeaderMap) -> Self {
        let request_id = single(headers, REQUEST_ID).and_then(RequestId::taken);
        let trace = single(headers, TRACEPARENT).and_then(|value| TraceParent::of(value.as_bytes()));
        let source = source.map(|address| address.to_canonical());
        Self { protocol, source, request_id, trace, caller: None }
    }
}

/// The only value of a header. `None` if the header is missing or occurs twice.
pub(crate) fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// The last address in a list such as `X-Forwarded-For`. The proxy appends the address of its caller, and the caller
/// can send any entry before it.
fn last_address(headers: &HeaderMap, name: HeaderName) -> Option<IpAddr> {
    let list = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    address(list.rsplit(',').next()?.trim())
}

/// An IP address, with or without a port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

/// The id of a request: 1 to 128 of `[A-Za-z0-9._-]`. The answer has it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id in a header. `None` if its form is wrong, or if it carries a token, also a cut or mistyped one.
    pub fn taken(value: &HeaderValue) -> Option<Self> {
        // A caller may have put its token here. The id is written into the audit log.
        let hides = |text: &str| text.len() >= format::SHORTEST && matches!(format::redact(text), Cow::Owned(_));
        let carries = || value.to_str().is_ok_and(hides);
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() | matches!(byte, b'.' | b'_' | b'-');
        // Without an early end, several characters are compared at once.
        let all_usual = || value.as_bytes().iter().fold(true, |all, &byte| all & is_usual(byte));
        let fits = (1..=LONGEST_ID).contains(&value.len()) && all_usual();
        (fits && !carries()).then(|| Self(value.clone()))
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as the value of the header `X-Request-Id` of an answer.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Makes the ids of requests that have none: a text of this process, and a number.
#[derive(Debug)]
pub(crate) struct RequestIds {
    process: String,
    next: AtomicU64,
}

impl RequestIds {
    /// `process` is a random text of base62 characters. It keeps the ids of several verifiers apart.
    pub(crate) fn new(process: String) -> Self {
        Self { process, next: AtomicU64::new(1) }
    }

    /// An id that this process has not made before.
    pub(crate) fn make(&self) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", self.process);
        RequestId(HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("none")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(protocol: Protocol, headers: &[(&'static str, &str)], peer: Option<&str>) -> Origin {
        let mut request = http::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = peer.map(|peer| PeerAddress(peer.parse().unwrap()));
        Origin::of(protocol, request.body(()).unwrap().headers(), peer)
    }

    fn source(protocol: Protocol, headers: &[(&'static str, &str)]) -> String {
        asked(protocol, headers, Some("10.9.9.9")).source.unwrap().to_string()
    }

    #[test]
    fn the_source_is_the_last_address_that_the_proxy_appended_or_else_the_peer() {
        let forwarded = |value| source(Protocol::ForwardAuth, &[("x-forwarded-for", value)]);
        for (value, told) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.66, 198.51.100.7,203.0.113.9 ", "203.0.113.9"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("x, [2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, unknown", "10.9.9.9"),
            ("192.0.2.1, 999.0.0.1", "10.9.9.9"),
            ("192.0.2.1,", "10.9.9.9"),
            ("", "10.9.9.9"),
        ] {
            assert_eq!(forwarded(value), told, "{value}");
        }
        let twice = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2")];
        assert_eq!(source(Protocol::ForwardAuth, &twice), "192.0.2.2", "the proxy appends a line of its own");
        assert_eq!(source(Protocol::ForwardAuth, &[]), "10.9.9.9");
        assert_eq!(source(Protocol::ForwardAuth, &[("x-real-ip", "192.0.2.1")]), "10.9.9.9");
        assert_eq!(asked(Protocol::ForwardAuth, &[], None).source, None);
    }

    #[test]
    fn ingress_nginx_names_the_source_in_a_header_of_its_own() {
        let named = [("x-real-ip", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2")];
        assert_eq!(source(Protocol::IngressNginx, &named), "192.0.2.1");
        assert_eq!(source(Protocol::IngressNginx, &named[1..]), "10.9.9.9");
    }

    #[test]
    fn a_question_with_a_field_for_the_source_does_not_look_at_headers() {
        let headers = [("x-forwarded-for".parse().unwrap(), HeaderValue::from_static("192.0.2.1"))];
        let origin = |source| Origin::named(Protocol::ForwardAuth, source, &headers.clone().into_iter().collect());
        assert_eq!(origin(None).source, None);
        let mapped = "::ffff:198.51.100.7".parse().ok();
        assert_eq!(origin(mapped).source, "198.51.100.7".parse().ok());
    }

    #[test]
    fn a_request_id_is_taken_on_if_it_is_plain_and_short() {
        let of = |headers: &[(&'static str, &str)]| {
            asked(Protocol::ForwardAuth, headers, None).request_id.map(|id| id.as_str().to_owned())
        };
        let taken = |id: &str| of(&[("x-request-id", id)]);
        let longest = "x".repeat(128);
        for good in ["7", "443df6f7-d8e1-4bb9-81e2-9bb7946ffd85", "A.b_C-9", &longest] {
            assert_eq!(taken(good).as_deref(), Some(good));
        }
        for bad in ["", " a", "a b", "a,b", "a/b", "a\"b", "é", "a\tb", &"x".repeat(129)] {
            assert_eq!(taken(bad.trim_end()), None, "{bad:?}");
        }
        let token = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        assert_eq!(taken(token.expose()), None, "the audit log has no credential");
        let token = format::assemble("tkn", &"0i".repeat(8), &"s".repeat(43));
        assert_eq!(taken(&token.expose()[1..]), None, "nor one that was cut");
        assert_eq!(of(&[("x-request-id", "a"), ("x-request-id", "b")]), None, "nobody knows which is meant");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn made_request_ids_differ_and_have_the_form_of_those_that_are_taken_on() {
        let ids = RequestIds::new("7Hq0x".into());
        let made = [ids.make(), ids.make()];
        assert_eq!(made.each_ref().map(RequestId::as_str), ["7Hq0x-1", "7Hq0x-2"]);
        assert!(made.iter().all(|id| RequestId::taken(&id.header()).as_ref() == Some(id)));
    }
}
