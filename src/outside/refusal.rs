//! Requests that the API server refused or did not answer.

use std::fmt;

use kube::{
    Resource,
    core::{Status, request},
};

use crate::token::format;

/// A failed request, and the reason for the failure.
///
/// The text never contains a token: tokens in the server's answer are replaced. The text never contains the request's
/// body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The verb of the request. The metrics of writes use the same words.
    pub verb: Verb,
    /// The kind of the object.
    pub kind: String,
    /// The namespace of the object; empty for a cluster-scoped object.
    pub namespace: String,
    /// The name of the object; empty if the request names no single object.
    pub name: String,
    /// The reason for the failure.
    pub why: Why,
}

/// The verb and the subresource of a request, as in the rules of a Role. It is small, because every error has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    act: VerbName,
    /// True for the subresource `status`; false: the object itself.
    pub is_status: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VerbName {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    Assign,
    Use,
    Revoke,
    Escalate,
    Bind,
}

impl Verb {
    /// Reads one object.
    pub const GET: Self = Self::of(VerbName::Get);
    /// Reads all objects of a kind.
    pub const LIST: Self = Self::of(VerbName::List);
    /// Reads all objects of a kind and their changes.
    pub const WATCH: Self = Self::of(VerbName::Watch);
    /// Creates an object.
    pub const CREATE: Self = Self::of(VerbName::Create);
    /// Replaces an object.
    pub const UPDATE: Self = Self::of(VerbName::Update);
    /// Changes parts of an object.
    pub const PATCH: Self = Self::of(VerbName::Patch);
    /// Deletes an object.
    pub const DELETE: Self = Self::of(VerbName::Delete);
    /// Gives a role. No request has this verb: admission policies ask for it.
    pub const ASSIGN: Self = Self::of(VerbName::Assign);
    /// Uses an account. No request has this verb: admission policies ask for it.
    pub const USE: Self = Self::of(VerbName::Use);
    /// Revokes tokens of an organization. No request has this verb: admission policies ask for it.
    pub const REVOKE: Self = Self::of(VerbName::Revoke);

    /// Gives permissions that one does not have. No request has this verb: RBAC asks for it.
    pub const ESCALATE: Self = Self::of(VerbName::Escalate);
    /// Binds a role whose permissions one does not have. No request has this verb: RBAC asks for it.
    pub const BIND: Self = Self::of(VerbName::Bind);

    const fn of(act: VerbName) -> Self {
        Self { act, is_status: false }
    }

    /// The same verb for the subresource `status`.
    pub const fn status(self) -> Self {
        Self { is_status: true, ..self }
    }

    /// The verb, such as `patch`.
    pub const fn name(self) -> &'static str {
        match self.act {
            VerbName::Get => "get",
            VerbName::List => "list",
            VerbName::Watch => "watch",
            VerbName::Create => "create",
            VerbName::Update => "update",
            VerbName::Patch => "patch",
            VerbName::Delete => "delete",
            VerbName::Assign => "assign",
            VerbName::Use => "use",
            VerbName::Revoke => "revoke",
            VerbName::Escalate => "escalate",
            VerbName::Bind => "bind",
        }
    }

    /// The subresource, `status`; empty: the object itself.
    pub const fn subresource(self) -> &'static str {
        if self.is_status { "status" } else { "" }
    }
}

/// The reason for a failed request, in the classes that callers distinguish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The object has changed since it was read, or exists already. The caller has to read it again.
    #[error("the object changed in the meantime")]
    Stale,
    /// The object breaks a rule of the API server or of an admission policy, or the request cannot be built.
    #[error("refused as invalid: {0}")]
    Invalid(String),
    /// The process lacks a permission, or an admission policy denies the request. [`Forbidder`](super::Forbidder) finds
    /// out which of them.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The API server does not accept the credentials of this process, so it does not know the requester. No permission
    /// helps.
    #[error("unauthenticated: {0}; the API server does not accept the credentials of this process; {advice}", advice = CREDENTIALS)]
    Unauthenticated(String),
    /// The object, or its kind, does not exist.
    #[error("not found")]
    Gone,
    /// The server did not answer, or its answer leaves open if the request was done.
    #[error("the API server is not available: {0}")]
    Unavailable(String),
}

/// The begin of the text of a failure with an answer. Otherwise, nobody answered.
const ANSWERED: &str = "it answered ";

/// The advice about credentials that the API server does not accept.
pub(super) const CREDENTIALS: &str =
    "look at its ServiceAccount and at the token that is mounted for it, or at the user of its kubeconfig";

impl Refusal {
    /// A function that turns the error of a request into a refusal. The arguments name the request: its verb, and the
    /// object of kind `K`.
    pub(super) fn of<K: Resource<DynamicType = ()>, E: Into<Why>>(
        verb: Verb,
        namespace: &str,
        name: &str,
    ) -> impl FnOnce(E) -> Self {
        move |error| {
            let (kind, why) = (K::kind(&()).into_owned(), error.into());
            Self { verb, kind, namespace: namespace.to_owned(), name: name.to_owned(), why }
        }
    }

    /// A refusal for tests, which names no object.
    #[cfg(test)]
    pub fn because(why: Why) -> Self {
        let nothing = String::new;
        Self { verb: Verb::PATCH, kind: nothing(), namespace: nothing(), name: nothing(), why }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, kind, namespace, name, why } = self;
        let (is_status, verb) = (verb.is_status, verb.name());
        let kind = if is_status { format!("{kind}/status") } else { kind.clone() };
        match (&**namespace, &**name) {
            ("", "") => write!(f, "{verb} {kind}: {why}"),
            ("", name) => write!(f, "{verb} {kind} {name}: {why}"),
            (namespace, "") => write!(f, "{verb} {kind} in {namespace}: {why}"),
            (namespace, name) => write!(f, "{verb} {kind} {namespace}/{name}: {why}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Why {
    /// The start of the text, which names the class of the failure. The rest of the text can differ from one try to the
    /// next.
    pub fn way(&self) -> &'static str {
        match self {
            Self::Stale => "the object changed",
            Self::Invalid(_) => "refused as invalid",
            Self::Forbidden(_) => "forbidden",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Gone => "not found",
            Self::Unavailable(_) => "the API server is not available",
        }
    }

    /// The class of the failure in one word, for metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Stale => "Stale",
            Self::Invalid(_) => "Invalid",
            Self::Forbidden(_) => "Forbidden",
            Self::Unauthenticated(_) => "Unauthenticated",
            Self::Gone => "Gone",
            Self::Unavailable(_) => "Unavailable",
        }
    }

    /// True if the API server answered, and failed to serve the request.
    pub fn is_failure_of_server(&self) -> bool {
        matches!(self, Self::Unavailable(text) if text.starts_with(ANSWERED))
    }

    /// True if a write with this answer certainly was not done.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Stale | Self::Invalid(_) | Self::Forbidden(_) | Self::Unauthenticated(_) | Self::Gone => true,
            Self::Unavailable(_) => false,
        }
    }

    /// A reply that cannot be parsed. The parser's error is left out, because it can quote the reply.
    pub(super) fn unreadable() -> Self {
        Self::Unavailable("its reply could not be read".into())
    }

    /// An answer with this status code that is no answer to the request.
    pub(super) fn unserved(code: u16, message: &str) -> Self {
        let colon = if message.is_empty() { "" } else { ": " };
        Self::Unavailable(format!("{ANSWERED}{code}{colon}{message}"))
    }

    /// A request that cannot be built. The text never contains the request's body.
    fn unwritten(error: &dyn std::error::Error) -> Self {
        Self::Invalid(format!("the request cannot be built: {}", format::redact(&with_causes(error))))
    }

    /// The class of an answer that is an error.
    pub(super) fn of_status(status: &Status) -> Self {
        let message = || format::redact(&status.message).into_owned();
        match status.code {
            404 | 410 => Self::Gone,
            409 => Self::Stale,
            401 => Self::Unauthenticated(message()),
            403 => Self::Forbidden(message()),
            400 | 405 | 413 | 415 | 422 => Self::Invalid(message()),
            code => Self::unserved(code, &message()),
        }
    }
}

impl From<kube::Error> for Why {
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the client library, which grows")]
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(&status),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::unreadable(),
            kube::Error::BuildRequest(error) => error.into(),
            kube::Error::HttpError(error) => Self::unwritten(&error),
            other => Self::Unavailable(format::redact(&with_causes(&other)).into_owned()),
        }
    }
}

impl From<request::Error> for Why {
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the client library, which grows")]
    fn from(error: request::Error) -> Self {
        match error {
            // A serializer's error can quote its input.
            request::Error::SerializeBody(_) => Self::Invalid("its body cannot be serialized".into()),
            other => Self::unwritten(&other),
        }
    }
}

/// Texts of the client library's errors that say nothing about the cause.
const WRAPPERS: [&str; 5] =
    ["ServiceError", "HyperError", "tunnel error", "connection error", "failed to create underlying connection"];

/// The texts of errors for a time limit that has passed: that of the runtime, and that of input and output.
const ELAPSED: [&str; 2] = ["deadline has elapsed", "timed out"];

/// The text of an error, followed by its causes. A cause that the text already contains is left out. The
/// names of the client library's errors and the error numbers of the operating system are left out too.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let told = all_causes(error);
    let is_wrapper = |part: &str| WRAPPERS.contains(&part) || part.starts_with("client error (");
    let plain = |part: &str| match part {
        _ if ELAPSED.contains(&part) => "no answer in time".to_owned(),
        _ => part.split(" (os error ").next().unwrap_or_default().to_owned(),
    };
    let parts: Vec<_> = told.split(": ").filter(|part| !is_wrapper(part)).map(plain).collect();
    if parts.is_empty() { told } else { parts.join(": ") }
}

fn all_causes(error: &dyn std::error::Error) -> String {
    let (mut told, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Secret;
    use kube::core::Request;

    #[test]
    fn an_error_is_told_with_its_causes_each_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let told = with_causes(&kube::Error::Service(Box::new(std::io::Error::other(refused))));
        assert_eq!(told, "connection refused");
        let numbered = std::io::Error::from_raw_os_error(111);
        let told = with_causes(&kube::Error::Service(Box::new(std::io::Error::other(numbered))));
        assert_eq!(told, "Connection refused");
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        assert_eq!(with_causes(&kube::Error::Service(Box::new(late))), "no answer in time");
    }

    #[test]
    fn answers_fall_into_the_classes_that_make_a_difference() {
        let of = |code| Why::of_status(&Status { code, message: "m".into(), ..Status::default() });
        assert_eq!(of(409), Why::Stale);
        assert_eq!(of(404), Why::Gone);
        assert_eq!(of(403), Why::Forbidden("m".into()));
        assert_eq!(of(401), Why::Unauthenticated("m".into()));
        assert!(of(401).is_definite(), "a request without a requester does nothing");
        assert_eq!(of(422), Why::Invalid("m".into()));
        for code in [429, 500, 503, 504] {
            assert!(!of(code).is_definite(), "{code} does not say whether it was done");
            assert!(
                of(code).is_failure_of_server() && of(code).to_string().ends_with(&format!("it answered {code}: m"))
            );
        }
        assert!(
            !Why::Unavailable("no answer in time".into()).is_failure_of_server() && !of(403).is_failure_of_server()
        );
    }

    #[test]
    fn every_text_begins_with_its_way() {
        let text = || "m".to_owned();
        let refused = [Why::Invalid(text()), Why::Forbidden(text()), Why::Unauthenticated(text())];
        for why in refused.into_iter().chain([Why::Stale, Why::Gone, Why::Unavailable(text())]) {
            assert!(why.to_string().starts_with(why.way()), "{why}");
        }
    }

    #[test]
    fn credentials_that_are_not_accepted_are_no_missing_permission_and_the_text_says_where_to_look() {
        let told =
            Why::of_status(&Status { code: 401, message: "Unauthorized".into(), ..Status::default() }).to_string();
        let said = "unauthenticated: Unauthorized; the API server does not accept the credentials of this process; look \
                    at its ServiceAccount and at the token that is mounted for it, or at the user of its kubeconfig";
        assert_eq!(told, said);
    }

    #[test]
    fn a_reply_that_cannot_be_read_is_not_quoted() {
        let error = serde_json::from_str::<u8>("\"secret\"").unwrap_err();
        assert!(error.to_string().contains("secret"));
        assert!(!Why::from(kube::Error::SerdeError(error)).to_string().contains("secret"));
    }

    #[test]
    fn a_token_that_an_answer_quotes_is_cut_out() {
        let token = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        let status = Status { code: 422, message: format!("bad: {}", token.expose()), ..Status::default() };
        assert_eq!(Why::of_status(&status), Why::Invalid("bad: [token]".into()));
    }

    #[test]
    fn a_refusal_says_which_request_it_was_and_why() {
        let told = |namespace, name| Refusal::of::<Secret, _>(Verb::PATCH, namespace, name)(Why::Stale).to_string();
        assert_eq!(told("events", "ci"), "patch Secret events/ci: the object changed in the meantime");
        assert_eq!(told("events", ""), "patch Secret in events: the object changed in the meantime");
        assert_eq!(told("", "events"), "patch Secret events: the object changed in the meantime");
        let status = Refusal::of::<Secret, _>(Verb::UPDATE.status(), "a", "b")(Why::Stale).to_string();
        assert_eq!(status, "update Secret/status a/b: the object changed in the meantime");
    }

    #[test]
    fn a_request_that_cannot_be_written_down_is_no_absence_of_the_server() {
        let unwritten = Request::new("/api/v1/secrets").get("a b", &Default::default()).unwrap_err();
        let told = Why::from(kube::Error::BuildRequest(unwritten)).to_string();
        assert!(told.starts_with("refused as invalid: the request cannot be built: "), "{told}");
    }
}
