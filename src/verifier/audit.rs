//! The audit log: one line of JSON for every decision about a caller.

use std::{
    cell::RefCell,
    fmt::Display,
    io::Write,
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
};

use jiff::Timestamp;

use super::{Asking, Category, RequestId, Verdict, index::Key};
use crate::outside::{
    Tasks,
    foreign::written,
    lines::{Closing, LineQueue, Sink},
    metrics::Metrics,
    sample::Sample,
};
use crate::token::format::SHORTEST;

/// The longest path in an audit line, in bytes. A longer path is cut.
const MAX_PATH: usize = 1024;
/// The longest method in an audit line, in bytes.
const MAX_METHOD: usize = 32;
/// The longest namespace, object name or organization in an audit line, in bytes.
const MAX_NAME: usize = 253;
/// The longest owner, account or role in an audit line, in bytes.
const MAX_OWNER: usize = 512;

/// The options of the audit log.
#[derive(Debug)]
pub struct AuditOptions {
    /// The reaction to lines that come faster than they can be written.
    pub when_full: WhenFull,
    /// The share of permitted requests that have a line. Refused requests always have one.
    pub sample: Sample,
    /// The place of the lines.
    pub sink: Sink,
}

/// The reaction to audit lines that come faster than they can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The line is lost and counted.
    #[default]
    Drop,
    /// The answer waits until there is room for the line.
    Block,
}

/// Writes the audit log, and counts the lines that it loses.
pub struct Audit {
    lines: Arc<LineQueue>,
    when_full: WhenFull,
    sample: Sample,
    sampled: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Audit {
    /// An audit log that writes into `lines`, and counts in `metrics`.
    pub fn new(lines: Arc<LineQueue>, when_full: WhenFull, sample: Sample, metrics: Arc<Metrics>) -> Self {
        Self { lines, when_full, sample, sampled: sample.start(), metrics }
    }

    /// Queues the line of a decision, unless the sample leaves it out. If there is no room, the line is lost, or it is
    /// returned: then the answer has to wait for it.
    pub(crate) fn write(
        &self,
        asking: &Asking<'_>,
        verdict: &Verdict,
        request_id: &RequestId,
        now: Timestamp,
    ) -> Option<UnwrittenLine<'_>> {
        if verdict.cause.category() == Category::Allowed && !self.sample.picks(&self.sampled) {
            return None;
        }
        LINE.with_borrow_mut(|line| {
            line.compose(asking, verdict, request_id, now);
            if self.lines.push(&line.text) {
                return None;
            }
            match self.when_full {
                WhenFull::Drop => self.count(false),
                // A task that waits may go on in another thread.
                WhenFull::Block => return Some(UnwrittenLine { audit: self, text: line.text.clone() }),
            }
            None
        })
    }

    /// Counts a line that was not queued.
    fn count(&self, is_queued: bool) {
        if !is_queued {
            self.metrics.audit_dropped(1);
        }
    }
}

/// A line that has no room yet. Its caller may leave while it waits. It is not lost by that: dropped, it enters beyond
/// the limit.
pub(crate) struct UnwrittenLine<'a> {
    audit: &'a Audit,
    text: Vec<u8>,
}

impl UnwrittenLine<'_> {
    /// Waits for room.
    pub(crate) async fn wait(mut self) {
        let is_queued = self.audit.lines.push_patiently(&self.text).await;
        self.text.clear();
        self.audit.count(is_queued);
    }
}

impl Drop for UnwrittenLine<'_> {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.audit.count(self.audit.lines.push_beyond(&self.text));
        }
    }
}

impl AuditOptions {
    /// Opens the audit log, and starts the task that writes it. The task ends after the second value is dropped.
    pub(crate) fn open(self, tasks: &mut Tasks, metrics: Arc<Metrics>) -> (Audit, Closing) {
        let lines = Arc::new(LineQueue::default());
        let opened = (Audit::new(lines.clone(), self.when_full, self.sample, metrics.clone()), lines.closing());
        tasks.finishing("the audit log", async move {
            metrics.audit_dropped(0);
            lines.write(self.sink, |lost| metrics.audit_dropped(lost)).await;
            Ok(())
        });
        opened
    }
}

thread_local! {
    /// The line that this thread composes. Its memory is used again.
    static LINE: RefCell<AuditLine> = RefCell::default();
}

/// The end of the value before a field, and the name of the field, up to its value. All values but the first are texts.
macro_rules! named {
    ($name:literal) => {
        concat!("\",\"", $name, "\":\"")
    };
}

/// A line, and the text of the second that it was composed in.
#[derive(Default)]
struct AuditLine {
    text: Vec<u8>,
    second: Option<(i64, String)>,
}

impl AuditLine {
    /// Composes the line of a decision. Fields without a value are left out.
    fn compose(&mut self, asking: &Asking<'_>, verdict: &Verdict, request_id: &RequestId, now: Timestamp) {
        self.text.clear();
        self.raw(r#"{"log":"audit","time":""#);
        self.time(now);
        let (origin, cause) = (&asking.origin, verdict.cause);
        self.raw(r#"Z","status":"#);
        self.digits(cause.category().code().into());
        self.raw(r#","reason":""#);
        self.raw(cause.as_str());
        // From here on, the quotation mark before the next name ends a value.
        self.pair(named!("instance"), &asking.instance);
        self.plain(named!("protocol"), origin.protocol.as_str());
        if let Some(request) = &asking.request {
            self.foreign(named!("method"), request.method.unwrap_or_default(), MAX_METHOD);
            self.foreign(named!("path"), path(request.target.unwrap_or_default()), MAX_PATH);
        }
        if let Some(source) = origin.source {
            self.raw(named!("source"));
            self.address(source);
        }
        self.foreign(named!("caller"), origin.caller.as_deref().unwrap_or_default(), MAX_OWNER);
        self.plain(named!("request_id"), request_id.as_str());
        if let Some(trace) = origin.trace {
            self.raw(named!("trace_id"));
            self.shown(trace.id());
        }
        if let Some(identity) = &verdict.identity {
            self.foreign(named!("subject"), &identity.subject, MAX_OWNER);
            let account = identity.subject.strip_prefix("account:").unwrap_or_default();
            self.foreign(named!("account"), account, MAX_OWNER);
            self.foreign(named!("owner"), identity.owner.as_deref().unwrap_or_default(), MAX_OWNER);
            self.pair(named!("token"), &identity.token);
            self.foreign(named!("token_id"), &identity.id, MAX_NAME);
            self.foreign(named!("role"), identity.role.as_deref().unwrap_or_default(), MAX_OWNER);
            self.foreign(named!("organization"), &identity.organization, MAX_NAME);
        }
        self.raw("\"}\n");
    }

    /// The time to the millisecond, without the `Z` after it.
    fn time(&mut self, now: Timestamp) {
        let second = now.as_second();
        if self.second.as_ref().is_none_or(|(last, _)| *last != second) {
            let text = Timestamp::from_second(second).map_or_else(|_| now.to_string(), |whole| whole.to_string());
            self.second = Some((second, text.trim_end_matches('Z').to_owned()));
        }
        let text = self.second.as_ref().map_or("", |(_, text)| text);
        self.text.extend_from_slice(text.as_bytes());
        self.text.push(b'.');
        self.digits(now.subsec_millisecond().unsigned_abs());
    }

    fn raw(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    /// A number below 1000, with three digits.
    fn digits(&mut self, number: u32) {
        self.text.extend_from_slice(&three(number));
    }

    /// A value that needs no escape.
    fn shown(&mut self, value: impl Display) {
        // Writing to a Vec cannot fail.
        let _ = write!(self.text, "{value}");
    }

    /// An address. Nearly each decision has one, so those of four bytes are written without the formatter.
    fn address(&mut self, address: IpAddr) {
        let IpAddr::V4(address) = address else { return self.shown(address) };
        for (at, byte) in address.octets().into_iter().enumerate() {
            if at > 0 {
                self.text.push(b'.');
            }
            let zeros = usize::from(byte < 100) + usize::from(byte < 10);
            self.text.extend_from_slice(&three(byte.into())[zeros..]);
        }
    }

    /// A text that needs no escape.
    fn plain(&mut self, named: &str, value: &str) {
        self.raw(named);
        self.raw(value);
    }

    /// A text from outside, cut to at most `most` bytes.
    fn foreign(&mut self, named: &str, value: &str, most: usize) {
        if value.is_empty() {
            return;
        }
        self.raw(named);
        self.part(value, most);
    }

    /// The name of an object, with its namespace.
    fn pair(&mut self, named: &str, key: &Key) {
        self.raw(named);
        self.part(&key.namespace, MAX_NAME);
        self.text.push(b'/');
        self.part(&key.name, MAX_NAME);
    }

    /// A part of a JSON string. `written` leaves no control character, so two characters are to be escaped.
    fn part(&mut self, value: &str, most: usize) {
        // Most values are short and usual, and this look at them is quick.
        if value.len() < SHORTEST.min(most) && value.bytes().fold(true, |all, byte| all & USUAL[usize::from(byte)]) {
            return self.raw(value);
        }
        let told = written(value, most);
        let mut rest = told.as_bytes();
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            self.text.extend_from_slice(&rest[..at]);
            self.text.extend_from_slice(&[b'\\', rest[at]]);
            rest = &rest[at + 1..];
        }
        self.text.extend_from_slice(rest);
    }
}

/// The bytes that are written as they are: printable ASCII without a meaning in JSON.
const USUAL: [bool; 256] = {
    let mut usual = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        usual[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    usual
};

/// The digits of a number below 1000.
fn three(number: u32) -> [u8; 3] {
    [number / 100 % 10, number / 10 % 10, number % 10].map(|digit| b'0' + digit as u8)
}

/// The path of a URI, or of a path with a query. The query is left out, because it may hold secrets, and so may the
/// authority. Empty if there is no path.
fn path(target: &str) -> &str {
    // Most targets begin with their path, so they are not searched for a scheme.
    let parts = if target.starts_with('/') { None } else { target.split_once("://") };
    let origin = match parts {
        Some((scheme, behind)) if !scheme.contains('/') => {
            &behind[behind.find(['/', '?', '#']).unwrap_or(behind.len())..]
        }
        Some(_) | None => target,
    };
    let end = origin.bytes().position(|byte| matches!(byte, b'?' | b'#'));
    let path = &origin[..end.unwrap_or(origin.len())];
    if path.starts_with('/') { path } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outside::traces::TraceParent,
        token::format,
        verifier::{
            Cause, Identity, Origin, PresentedCredential, Protocol, Requested,
            fixture::{eem, origin},
            origin::RequestIds,
        },
    };
    use http::HeaderMap;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    fn told(target: &str) -> String {
        written(path(target), MAX_PATH).into_owned()
    }

    #[test]
    fn a_path_is_written_without_host_and_query() {
        assert_eq!(told("/eem/topics?key=1"), "/eem/topics");
        assert_eq!(told("https://a.example.com/x?y"), "/x");
        assert_eq!(told("/x?u=https://b/c"), "/x");
        assert_eq!(told("/x#secret?y"), "/x");
        assert_eq!(told("/a://b/c"), "/a://b/c");
        for without in ["", "x", "user:secret@host:443", "https://user:secret@host", "https://host?/secret", "?secret"]
        {
            assert_eq!(told(without), "", "{without}");
        }
    }

    #[test]
    fn a_token_in_a_path_and_a_query_that_is_no_uri_stay_out() {
        let token = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        for target in [token.expose().to_owned(), token.expose().replace('_', "%5F")] {
            assert_eq!(told(&format!("/x/{target}")), "/x/[token]");
        }
        assert!(!written(token.expose(), MAX_METHOD).contains('s'));
        assert_eq!(told("/a b?secret"), "/a b");
    }

    #[test]
    fn a_long_path_is_cut() {
        assert_eq!(told(&format!("/{}", "x".repeat(5000))).len(), MAX_PATH);
    }

    fn identity() -> Identity {
        Identity {
            token: Key::new("a", "x"),
            generation: 1,
            id: crate::token::Id::of("7Hq0x00000000000").unwrap(),
            uid: "u".into(),
            minted_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            subject: "account:a/x".into(),
            owner: Some("user:alice\"\\\n".into()),
            role: Some("viewer".into()),
            organization: "acme".into(),
            last_used: None,
        }
    }

    /// The line of a decision, as text.
    fn line(asking: &Asking<'_>, verdict: &Verdict, now: &str) -> String {
        let mut line = AuditLine::default();
        line.compose(asking, verdict, &RequestIds::new("p".into()).make(), now.parse().unwrap());
        String::from_utf8(line.text).unwrap()
    }

    fn asking<'a>(method: &'a str, target: &'a str, headers: &'a HeaderMap) -> Asking<'a> {
        let request = Some(Requested { method: Some(method), target: Some(target), headers });
        Asking {
            origin: origin(),
            instance: eem(),
            credential: PresentedCredential::Given(Err(Cause::Missing)),
            request,
        }
    }

    #[test]
    fn a_line_says_who_asked_for_what_and_why_it_was_decided_so() {
        let headers: HeaderMap = [("traceparent", "00-00f92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .into_iter()
            .collect();
        let origin = Origin::named(Protocol::ForwardAuth, "2001:db8::1".parse().ok(), &headers);
        let asking = Asking { origin, ..asking("GET", "/orders/7?secret", &headers) };
        let verdict = Verdict { identity: Some(identity()), ..Cause::Allowed.into() };
        let text = line(&asking, &verdict, "2026-11-29T14:45:37.0429Z");
        assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "log": "audit", "time": "2026-11-29T14:45:37.042Z", "status": 200, "reason": "Allowed",
            "instance": "a/eem", "protocol": "forward-auth", "method": "GET", "path": "/orders/7",
            "source": "2001:db8::1", "request_id": "p-1", "trace_id": "00f92f3577b34da6a3ce929d0e0e4736",
            "subject": "account:a/x", "account": "a/x", "owner": "user:alice\"\\\\n", "token": "a/x",
            "token_id": "7Hq0x00000000000", "role": "viewer", "organization": "acme",
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn each_address_is_written_as_it_is_usually_shown() {
        for address in ["0.0.0.0", "10.0.0.1", "192.0.2.99", "255.100.10.9", "::1", "2001:db8::1"] {
            let mut line = AuditLine::default();
            line.address(address.parse().unwrap());
            assert_eq!(line.text, address.as_bytes());
        }
    }

    #[test]
    fn the_page_of_the_audit_log_has_every_field() {
        let page = include_str!("../../docs/how-to/audit-log.md");
        let mut described: Vec<_> =
            page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ")).collect();
        described.push(("log", ""));
        let headers = HeaderMap::new();
        let mut asking = asking("GET", "/", &headers);
        asking.origin.source = "192.0.2.1".parse().ok();
        asking.origin.caller = Some("system:serviceaccount:a/ci".into());
        asking.origin.trace = TraceParent::of(b"00-00f92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let verdict = Verdict { identity: Some(identity()), ..Cause::Allowed.into() };
        let read: Value = serde_json::from_str(&line(&asking, &verdict, "2026-11-29T14:45:37Z")).unwrap();
        let told: BTreeSet<_> = read.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(told, described.into_iter().map(|(name, _)| name).collect());
    }

    #[test]
    fn what_has_no_value_is_left_out() {
        let nothing = Asking {
            origin: origin(),
            instance: eem(),
            credential: PresentedCredential::Given(Err(Cause::Missing)),
            request: None,
        };
        let text = line(&nothing, &Cause::Missing.into(), "2026-11-29T14:45:37Z");
        let expected = r#"{"log":"audit","time":"2026-11-29T14:45:37.000Z","status":401,"reason":"Missing","#
            .to_owned()
            + r#""instance":"a/eem","protocol":"forward-auth","request_id":"p-1"}"#;
        assert_eq!(text, expected + "\n");
    }

    #[test]
    fn the_text_of_a_second_is_used_in_that_second_only() {
        let (headers, mut line) = (HeaderMap::new(), AuditLine::default());
        let times =
            ["2026-11-29T14:45:37.9Z", "2026-11-29T14:45:38Z", "2026-11-29T14:45:38.001Z", "1960-01-01T00:00:00Z"];
        for (now, told) in times.iter().zip(["37.900Z", "38.000Z", "38.001Z", "00.000Z"]) {
            let id = RequestIds::new("p".into()).make();
            line.compose(&asking("GET", "/", &headers), &Cause::Missing.into(), &id, now.parse().unwrap());
            let text = String::from_utf8_lossy(&line.text).into_owned();
            assert!(text.contains(&format!(":{told}\"")) && text.contains(&now[..16]), "{text}");
        }
    }

    #[test]
    fn no_text_from_outside_breaks_out_of_its_line_or_shows_a_token() {
        let token = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        let token = token.expose();
        for foreign in
            ["a\nb", "\"},{\"status\":200,\"x\":\"", "\\\"\r", "\u{202e}x\u{0}\u{9b}", "名é", "\u{7f}", token]
        {
            let headers = HeaderMap::new();
            let target = format!("/{foreign}");
            let mut asking = asking(foreign, &target, &headers);
            asking.instance = Key::new(foreign, foreign);
            let text = line(&asking, &Cause::Missing.into(), "2026-11-29T14:45:37Z");
            assert!(!text.contains("sssss") && text.chars().filter(|c| c.is_control()).eq(['\n']), "{text}");
            let read: Value = serde_json::from_str(&text).unwrap();
            let safe = written(foreign, MAX_NAME);
            assert_eq!((read["status"].as_u64(), read.get("x")), (Some(401), None));
            assert_eq!(read["instance"], format!("{safe}/{safe}"));
            assert_eq!(read["path"], *written(&target, MAX_PATH));
        }
    }

    /// The texts of the lines of these causes, of a log with this sample.
    fn sampled(sample: &str, causes: &[Cause]) -> usize {
        let (lines, headers) = (Arc::new(LineQueue::default()), HeaderMap::new());
        let audit = Audit::new(lines.clone(), WhenFull::Drop, sample.parse().unwrap(), Arc::default());
        for &cause in causes {
            let id = RequestIds::new("p".into()).make();
            assert!(audit.write(&asking("GET", "/", &headers), &cause.into(), &id, Timestamp::UNIX_EPOCH).is_none());
        }
        lines.text().lines().count()
    }

    #[test]
    fn a_sample_leaves_out_permitted_requests_and_no_refused_ones() {
        assert_eq!(sampled("10", &[Cause::Allowed; 20]), 2);
        assert_eq!(sampled("10", &[Cause::Unguarded; 20]), 2);
        for refused in [Cause::Missing, Cause::EndpointDisabled, Cause::NotSynced] {
            assert_eq!(sampled("10", &[refused; 20]), 20);
        }
        assert_eq!(sampled("1", &[Cause::Allowed; 20]), 20);
    }

    /// A log with this reaction to a full queue of this size, its lines, and the number of those that it lost.
    fn full(when_full: WhenFull, most: usize) -> (Audit, Arc<LineQueue>, impl Fn() -> u64) {
        let (lines, metrics) = (Arc::new(LineQueue::holding(most)), Arc::<Metrics>::default());
        metrics.audit_dropped(0);
        let audit = Audit::new(lines.clone(), when_full, Sample::default(), metrics.clone());
        let lost = move || {
            let text = metrics.text();
            let count = text.lines().find_map(|line| line.strip_prefix("tokenry_verifier_audit_dropped_total "));
            count.unwrap().parse().unwrap()
        };
        (audit, lines, lost)
    }

    fn write(audit: &Audit) -> Option<UnwrittenLine<'_>> {
        let id = RequestIds::new("p".into()).make();
        audit.write(&asking("GET", "/", &HeaderMap::new()), &Cause::Missing.into(), &id, Timestamp::UNIX_EPOCH)
    }

    #[tokio::test]
    async fn a_line_without_room_is_lost_or_waits_as_it_is_chosen() {
        let (audit, _, lost) = full(WhenFull::Drop, 0);
        assert!(write(&audit).is_none() && lost() == 1);
        let (audit, lines, lost) = full(WhenFull::Block, 0);
        let mut waiting = std::pin::pin!(write(&audit).unwrap().wait());
        assert!(futures::poll!(&mut waiting).is_pending());
        let closing: Closing = lines.closing();
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(closing);
        waiting.await;
        assert_eq!(lost(), 1, "there will be no room");
    }

    #[tokio::test]
    async fn a_line_whose_caller_leaves_while_it_waits_is_kept_beyond_the_limit_and_else_counted() {
        let (audit, lines, lost) = full(WhenFull::Block, 270);
        assert!(write(&audit).is_none());
        let leaves = async || {
            let mut waiting = Box::pin(write(&audit).unwrap().wait());
            assert!(futures::poll!(&mut waiting).is_pending());
        };
        for kept in 2..=3 {
            leaves().await;
            assert_eq!((lines.text().lines().count(), lost()), (kept, 0));
        }
        leaves().await;
        assert_eq!((lines.text().lines().count(), lost()), (3, 1), "this room ends, too");
    }
}
