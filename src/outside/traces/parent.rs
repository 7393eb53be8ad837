//! The parent of a span, as W3C Trace Context names it.

use std::fmt;

/// The id of a trace: 32 lower-case hexadecimal digits, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// The id of a new trace.
    pub(super) fn random() -> Self {
        Self(rand::random::<u128>().max(1))
    }

    /// The id as OTLP writes it.
    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.to_be_bytes().into()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The span of a caller, which its header `traceparent` names (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: u64,
    is_sampled: bool,
}

impl TraceParent {
    /// The parent in a `traceparent`. `None` if the header is not valid: its trace then does not exist.
    ///
    /// A version after `00` may have more fields at its end. Version `ff` is not valid.
    pub fn of(traceparent: &[u8]) -> Option<Self> {
        let (known, rest) = traceparent.split_at_checked(55)?;
        let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        let (version, trace) = (&known[..2], hex(&known[3..35])?);
        let (span, flags) = (u64::try_from(hex(&known[36..52])?).ok()?, hex(&known[53..])?);
        let ends = rest.is_empty() || version != b"00" && rest[0] == b'-';
        let is_valid = dashes && ends && hex(version)? != 0xff && trace != 0 && span != 0;
        is_valid.then_some(Self { trace: TraceId(trace), span, is_sampled: flags & 1 == 1 })
    }

    /// The id of the trace.
    pub fn id(self) -> TraceId {
        self.trace
    }

    /// True if the caller records its trace.
    pub fn is_sampled(self) -> bool {
        self.is_sampled
    }

    /// The id of the caller's span, as OTLP writes it.
    pub(super) fn span(self) -> Vec<u8> {
        self.span.to_be_bytes().into()
    }
}

/// The number that lower-case hexadecimal digits write, at most 32.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_known_by_a_valid_traceparent_only() {
        let of = |value: &str| TraceParent::of(value.as_bytes()).map(|parent| parent.id().to_string());
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let known = Some(trace.to_owned());
        for good in ["", "-more", "-"].map(|rest| format!("cc-{trace}-{parent}-01{rest}")) {
            assert_eq!(of(&good), known, "{good}");
        }
        assert_eq!(of(&format!("00-{trace}-{parent}-00")), known);
        for bad in [
            String::new(),
            format!("00-{trace}-{parent}"),
            format!("00-{trace}-{parent}-01-more"),
            format!("00-{trace}-{parent}-01x"),
            format!("cc-{trace}-{parent}-01x"),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{parent}-0g"),
            format!("0x-{trace}-{parent}-01"),
            format!("00_{trace}_{parent}_01"),
            format!("00-{}é-{parent}-01", &trace[2..]),
        ] {
            assert_eq!(of(&bad), None, "{bad}");
        }
        let sampled =
            |flags: &str| TraceParent::of(format!("00-{trace}-{parent}-{flags}").as_bytes()).unwrap().is_sampled();
        assert_eq!(["00", "01", "02", "03"].map(sampled), [false, true, false, true]);
    }
}
