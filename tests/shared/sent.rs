//! Requests that nobody would send in earnest, made from bytes: by property tests, by the fuzz targets, and at random.
//!
//! No bytes make a right request, which is let in. Each choice takes a byte, and a byte other than zero departs from
//! the right request. So most requests are nearly right, a shorter input is a simpler request, and a fuzzer needs no
//! corpus.
#![allow(dead_code, unreachable_pub, reason = "none of those that include this file uses all of it")]

use http::{HeaderName, HeaderValue, Method, Request, Uri};

/// A request as it is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) method: String,
    /// The path and the query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// True if some part of the request is the value of the token, as it is or in base64. No other request may be let
    /// in.
    pub(crate) holds_the_value: bool,
}

/// The world that requests are about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    /// The Instance: its namespace and its name, with a slash between them.
    pub(crate) instance: &'a str,
    /// The value of a token that opens the Instance.
    pub(crate) value: &'a str,
    /// A value of the right form that no token has.
    pub(crate) unknown: &'a str,
    /// The credential of a caller that may introspect.
    pub(crate) caller: &'a str,
}

/// A protocol of the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spoken {
    ForwardAuth,
    IngressNginx,
    TokenReview,
    Introspection,
    ExtAuthz,
}

/// All protocols of the verifier.
pub(crate) const SPOKEN: [Spoken; 5] =
    [Spoken::ForwardAuth, Spoken::IngressNginx, Spoken::TokenReview, Spoken::Introspection, Spoken::ExtAuthz];

/// Any request that these bytes give, and its protocol.
pub(crate) fn any(bytes: &[u8], about: About<'_>) -> (Spoken, Sent) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let spoken = SPOKEN[usize::from(*first) % SPOKEN.len()];
    (spoken, of(spoken, rest, about))
}

/// A request of one protocol that these bytes give. One of four first bytes changes only the body.
pub(crate) fn of(spoken: Spoken, bytes: &[u8], about: About<'_>) -> Sent {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let changes_the_body = first % 4 == 3 && !matches!(spoken, Spoken::ForwardAuth | Spoken::IngressNginx);
    let choices = if changes_the_body { &[] } else { rest };
    let sent = Dice { bytes: choices, right: right(spoken), about, valid: false }.sent(spoken);
    if changes_the_body { spliced(spoken, sent, rest, about) } else { sent }
}

/// The choices that make a right request.
fn right(spoken: Spoken) -> &'static [u8] {
    match spoken {
        // Path, method, proxy, body; one header, which is a credential with the value.
        Spoken::ForwardAuth => &[0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 9],
        Spoken::IngressNginx => &[0, 0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 9],
        // Path, method, proxy; a body with the value.
        Spoken::TokenReview => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 3],
        Spoken::Introspection => &[0, 0, 0, 0, 0, 0, 0, 0, 9, 3],
        // The body has a method, a path, and one header.
        Spoken::ExtAuthz => &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 9, 0, 0, 3],
    }
}

/// Bytes in place of a part of the body. The first two of them say where that part begins, and its length.
fn spliced(spoken: Spoken, mut sent: Sent, bytes: &[u8], about: About<'_>) -> Sent {
    let [from, length, new @ ..] = bytes else { return sent };
    let mut body = sent.body.split_off(if spoken == Spoken::ExtAuthz { FRAME } else { 0 });
    let from = usize::from(*from).min(body.len());
    let to = (from + usize::from(*length)).min(body.len());
    body.splice(from..to, new.iter().copied());
    sent.holds_the_value = holds(&body, about.value);
    sent.body = if spoken == Spoken::ExtAuthz { framed(0, &body) } else { body };
    sent
}

/// True if the body holds the value: as it is, in a form, or in JSON.
fn holds(body: &[u8], value: &str) -> bool {
    let json = serde_json::from_slice::<serde_json::Value>(body).ok().map(|json| json.to_string());
    String::from_utf8_lossy(body).contains(value)
        || form_urlencoded::parse(body).any(|(_, text)| text.contains(value))
        || json.is_some_and(|json| json.contains(value))
}

/// Headers that a client sets by itself.
const OF_THE_CLIENT: [&str; 6] = ["connection", "te", "content-length", "transfer-encoding", "upgrade", "host"];

impl Sent {
    /// The request to a server such as `http://127.0.0.1:80`, as a client can send it. Headers that no client can send
    /// are left out. `None` for a request that no client can send.
    pub(crate) fn request(&self, server: &str) -> Option<Request<Vec<u8>>> {
        let method = self.method.parse::<Method>().ok().filter(|method| *method != Method::CONNECT)?;
        let uri: Uri = format!("{server}{}", self.target).parse().ok()?;
        let mut request = Request::builder().method(method).uri(uri).body(self.body.clone()).ok()?;
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value))
                && !OF_THE_CLIENT.contains(&name.as_str())
            {
                request.headers_mut().append(name, value);
            }
        }
        Some(request)
    }

    /// True if this answer lets the request in, by the protocol of its path.
    pub(crate) fn lets_in(&self, status: u16, body: &[u8]) -> bool {
        let says = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
        let path = self.target.split(['?', '#']).next().unwrap_or_default();
        status / 100 == 2
            && if path.ends_with("/tokenreviews") {
                says(r#""authenticated":true"#)
            } else if path.ends_with("/introspect") {
                says(r#""active":true"#)
            } else if path.ends_with("/Check") {
                says("x-tokenry-subject")
            } else {
                true
            }
    }
}

/// Choices that bytes make. Without a byte left, each choice is the right one.
struct Dice<'a> {
    bytes: &'a [u8],
    /// The right choices that are left. A byte is combined with its right choice by XOR.
    right: &'static [u8],
    about: About<'a>,
    /// True once the value of the token was chosen.
    valid: bool,
}

const METHODS: [&str; 9] = ["GET", "POST", "HEAD", "OPTIONS", "DELETE", "PUT", "CONNECT", "get", "X-y!"];
const TARGETS: [&str; 20] = [
    "/orders",
    "/",
    "/orders/../login",
    "/orders/%2e%2e/login",
    "//orders",
    "/orders;x=y/a",
    "/orders%00",
    "/%ff%fe",
    "/.tokenry/probe",
    "/orders?a=b&c=%20#x",
    "/orders\\..\\x",
    "/%",
    "http://shop.example.com/orders",
    "https://u@shop.example.com:8443//orders?x",
    "*",
    "shop.example.com:443",
    "",
    "?",
    "/orders/%252e%252e/x",
    "/\u{e9}\u{10348}",
];
const NAMES: [&str; 24] = [
    "authorization",
    "api-token",
    "api_token",
    "x-forwarded-method",
    "x-forwarded-uri",
    "x-original-method",
    "x-original-url",
    "x-tokenry-subject",
    "x-tokenry-token-id",
    "x-tokenry-role",
    "x-tokenry-organization",
    "x-forwarded-user",
    "x-forwarded-for",
    "x-real-ip",
    "x-request-id",
    "traceparent",
    "connection",
    "cookie",
    "content-type",
    "accept",
    "proxy-authorization",
    "x-http-method-override",
    "x_tokenry_subject",
    "te",
];
const TYPES: [&str; 6] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "application/grpc",
    "application/grpc+proto",
    "application/vnd.kubernetes.protobuf",
    "text/plain; charset=\"x",
];
const SCHEMES: [&str; 8] = ["Bearer ", "", "bearer  ", "Token ", "Api-Key ", "Basic ", "Digest ", "Bearer\t"];

impl Dice<'_> {
    fn byte(&mut self) -> u8 {
        next(&mut self.bytes) ^ next(&mut self.right)
    }

    fn of<'b, T>(&mut self, choices: &'b [T]) -> &'b T {
        &choices[usize::from(self.byte()) % choices.len()]
    }

    /// True for one of so many values of a byte.
    fn rarely(&mut self, one_of: u8) -> bool {
        self.byte() % one_of == one_of - 1
    }

    fn raw(&mut self) -> Vec<u8> {
        let count = usize::from(self.byte()).min(self.bytes.len());
        let (raw, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        raw.to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.raw()).into_owned()
    }

    fn sent(mut self, spoken: Spoken) -> Sent {
        let mut sent = Sent { target: self.path(spoken), ..Sent::default() };
        let usual = match spoken {
            Spoken::ForwardAuth | Spoken::IngressNginx => "GET",
            Spoken::TokenReview | Spoken::Introspection | Spoken::ExtAuthz => "POST",
        };
        sent.method = if self.rarely(4) { (*self.of(&METHODS)).to_owned() } else { usual.to_owned() };
        if !self.rarely(8) {
            sent.headers.extend(forwarded(spoken).map(|(name, value)| (name.to_owned(), value.into())));
            if spoken == Spoken::Introspection {
                sent.headers.push(("authorization".to_owned(), format!("Bearer {}", self.about.caller).into()));
            }
        }
        let (media, body) = match spoken {
            Spoken::ForwardAuth | Spoken::IngressNginx => (None, Vec::new()),
            Spoken::TokenReview => (Some(TYPES[0]), self.review()),
            Spoken::Introspection => (Some(TYPES[1]), self.form()),
            Spoken::ExtAuthz => (Some(TYPES[2]), self.checked()),
        };
        sent.headers.extend(media.map(|media| ("content-type".to_owned(), media.as_bytes().to_vec())));
        sent.body = self.spoilt(body);
        for _ in 0..self.byte() % 8 {
            sent.headers.push(self.header());
        }
        sent.holds_the_value = self.valid;
        sent
    }

    /// The path of a protocol, with something behind it or in it.
    fn path(&mut self, spoken: Spoken) -> String {
        let instance = if self.rarely(8) {
            let other = self.text();
            ["a/eem", "a/other", "//", "../..", &other][usize::from(self.byte()) % 5].to_owned()
        } else {
            self.about.instance.to_owned()
        };
        let target = *self.of(&TARGETS);
        let instances = format!("/v1/instances/{instance}");
        let path = match spoken {
            Spoken::ForwardAuth => [
                format!("{instances}/authorize"),
                format!("{instances}/authorize{target}"),
                format!("{instances}/authorize?mode=nginx"),
            ][usize::from(self.byte()) % 3]
                .clone(),
            Spoken::IngressNginx => format!("{instances}/ingress-nginx"),
            Spoken::TokenReview => [
                format!("{instances}/tokenreviews"),
                format!("{instances}/tokenreviews/apis/authentication.k8s.io/v1/tokenreviews?timeout=30s"),
                format!("{instances}/apis/authentication.k8s.io/v1beta1/tokenreviews"),
            ][usize::from(self.byte()) % 3]
                .clone(),
            Spoken::Introspection => format!("{instances}/introspect"),
            Spoken::ExtAuthz => "/envoy.service.auth.v3.Authorization/Check".to_owned(),
        };
        if self.rarely(16) { format!("{path}{}", self.text()) } else { path }
    }

    /// A header that some protocol reads, with a value of some form.
    fn header(&mut self) -> (String, Vec<u8>) {
        let name = if self.rarely(16) { self.text() } else { (*self.of(&NAMES)).to_owned() };
        let value = match self.byte() % 8 {
            0..=2 => self.credential().into_bytes(),
            3 => (*self.of(&TARGETS)).into(),
            4 => (*self.of(&METHODS)).into(),
            5 => (*self.of(&TYPES)).into(),
            6 => self.raw(),
            _ => vec![b'a'; usize::from(self.byte()) * 40],
        };
        (name, value)
    }

    /// A credential: a scheme, and a value that may be nearly right.
    fn credential(&mut self) -> String {
        let scheme = *self.of(&SCHEMES);
        let value = self.value();
        if scheme == "Basic " {
            format!("Basic {}", base64(format!("ci:{value}").as_bytes()))
        } else {
            scheme.to_owned() + &value
        }
    }

    fn value(&mut self) -> String {
        let value = self.about.value;
        let made = match self.byte() % 10 {
            0 => self.about.unknown.to_owned(),
            1 => value[..value.len() - 1].to_owned(),
            2 => value.to_uppercase(),
            3 => format!("{}{value}", self.text()),
            4 => value.replacen('_', "%5F", 1),
            5 => value.chars().rev().collect(),
            6 => {
                let at = usize::from(self.byte()) % value.len();
                let other = if value.as_bytes()[at] == b'x' { "y" } else { "x" };
                format!("{}{other}{}", &value[..at], &value[at + 1..])
            }
            7 => self.text(),
            8 => String::new(),
            _ => value.to_owned(),
        };
        self.valid |= made.contains(value);
        made
    }

    /// A body, with a fault in one of four.
    fn spoilt(&mut self, mut body: Vec<u8>) -> Vec<u8> {
        match self.byte() % 12 {
            0 => body = self.raw(),
            1 => body.truncate(usize::from(self.byte())),
            2 if !body.is_empty() => {
                let at = usize::from(self.byte()) % body.len();
                body[at] = self.byte();
            }
            _ => {}
        }
        body
    }

    /// A TokenReview.
    fn review(&mut self) -> Vec<u8> {
        let version = ["v1", "v1beta1", "v2"][usize::from(self.byte()) % 3];
        let audience = format!("tokenry.dev/{}", self.about.instance);
        let audiences = ["", r#""https://kubernetes.default.svc""#, "7", "null"][usize::from(self.byte()) % 4];
        let audiences = if self.rarely(2) { format!(r#""{audience}""#) } else { audiences.to_owned() };
        let (token, more) = (quoted(&self.value()), quoted(&self.text()));
        let status = if self.rarely(4) { r#", "status": {"authenticated": true}"# } else { "" };
        let token = if self.rarely(8) { more } else { token };
        let head = format!(r#""apiVersion": "authentication.k8s.io/{version}", "kind": "TokenReview""#);
        format!(r#"{{{head}, "spec": {{"token": {token}, "audiences": [{audiences}]}}{status}}}"#).into_bytes()
    }

    /// The form of an introspection.
    fn form(&mut self) -> Vec<u8> {
        let (mut form, names) = (String::new(), ["token", "token_type_hint", "client_id", "Token", "token%00"]);
        for _ in 0..=self.byte() % 4 {
            let (name, value) = (*self.of(&names), if self.rarely(4) { self.text() } else { self.value() });
            self.valid |= value.replace("%5F", "_").contains(self.about.value);
            form += &format!("&{name}={value}");
        }
        form.trim_start_matches('&').to_owned().into_bytes()
    }

    /// A CheckRequest of Envoy, in a frame of gRPC.
    fn checked(&mut self) -> Vec<u8> {
        let mut http =
            [field(1, b"1"), field(2, self.of(&METHODS).as_bytes()), field(4, self.of(&TARGETS).as_bytes())].concat();
        for _ in 0..self.byte() % 8 {
            let (name, value) = self.header();
            http.extend(field(3, &[field(1, name.as_bytes()), field(2, &value)].concat()));
        }
        let instance = if self.rarely(8) { self.text() } else { self.about.instance.to_owned() };
        let extension =
            |key: &str, value: &str| field(10, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
        let attributes = [field(4, &field(2, &http)), extension("tokenry.dev/instance", &instance)].concat();
        let message = field(1, &attributes);
        framed(u8::from(self.rarely(16)), &message)
    }
}

/// The first byte, which is taken away, or 0.
fn next(bytes: &mut &[u8]) -> u8 {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    *bytes = rest;
    *first
}

/// The headers in which a proxy names the caller's request.
fn forwarded(spoken: Spoken) -> impl Iterator<Item = (&'static str, &'static str)> {
    let headers: &[_] = match spoken {
        Spoken::ForwardAuth => &[("x-forwarded-method", "GET"), ("x-forwarded-uri", "/orders")],
        Spoken::IngressNginx => &[("x-original-method", "GET"), ("x-original-url", "https://a.example.com/orders")],
        Spoken::TokenReview | Spoken::Introspection | Spoken::ExtAuthz => &[],
    };
    headers.iter().copied()
}

/// The length of the head of a frame of gRPC.
const FRAME: usize = 5;

/// A frame of gRPC: a flag for compression, the length, and the message.
fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
    [&[flag][..], &length, message].concat()
}

/// A field of protobuf with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut field, mut length) = (vec![number << 3 | 2], bytes.len());
    while length > 0x7f {
        field.push(0x80 | (length & 0x7f) as u8);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend(bytes);
    field
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| if c < ' ' || c == '"' || c == '\\' { format!("\\u{:04x}", c as u32) } else { c.into() })
        .collect();
    format!("\"{escaped}\"")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = group.iter().chain([&0, &0]).take(3).fold(0usize, |bits, byte| bits << 8 | usize::from(*byte));
        let digit = |n: usize| if n > group.len() { '=' } else { DIGITS[bits >> (18 - 6 * n) & 63] as char };
        [digit(0), digit(1), digit(2), digit(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}
