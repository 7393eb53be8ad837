//! The calls of a caller, parsed from its log.

use std::{fmt, ops::Add, time::Duration};

use crate::Told;

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API answered. It received this account and this token id from the proxy.
    Accepted { subject: String, id: String },
    /// The proxy, or the API, answered with this status.
    Refused(u16),
    /// No answer, or an answer that the test does not understand.
    Failed(String),
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    number: usize,
    second: u64,
    pub outcome: Outcome,
}

impl Call {
    fn parse(line: &str) -> Self {
        let mut parts = line.splitn(3, ' ');
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        let (count, second) = (number(), number());
        let outcome = match (count, second) {
            (Some(_), Some(_)) => outcome(parts.next().unwrap_or_default()),
            _ => Outcome::Failed(line.to_owned()),
        };
        Self { number: count.unwrap_or_default() as usize, second: second.unwrap_or_default(), outcome }
    }

    pub fn is_accepted(&self) -> bool {
        matches!(self.outcome, Outcome::Accepted { .. })
    }

    fn id(&self) -> Option<&str> {
        if let Outcome::Accepted { id, .. } = &self.outcome { Some(id) } else { None }
    }
}

fn outcome(said: &str) -> Outcome {
    let words: Vec<_> = said.split(' ').collect();
    if let ["wget:", "server", "returned", "error:", _, status, ..] = words[..]
        && let Ok(status) = status.parse()
    {
        return Outcome::Refused(status);
    }
    match words[..] {
        [subject, id] if subject.starts_with("account:") && !id.is_empty() => {
            Outcome::Accepted { subject: subject.to_owned(), id: id.to_owned() }
        }
        _ => Outcome::Failed(said.to_owned()),
    }
}

/// All calls of a caller, in order.
#[derive(Clone, Debug)]
pub struct Calls(Vec<Call>);

impl Calls {
    /// Parses the whole log of a caller.
    pub fn parse(log: &str) -> Self {
        Self(log.lines().map(Call::parse).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn last(&self) -> Option<&Call> {
        self.0.last()
    }

    /// The calls without the first `count`.
    pub fn after(&self, count: usize) -> Self {
        Self(self.0[count.min(self.0.len())..].to_vec())
    }

    /// The token ids of accepted calls, in the order of the calls, each with its number of consecutive calls.
    pub fn ids(&self) -> Vec<(&str, usize)> {
        let mut ids: Vec<(&str, usize)> = Vec::new();
        for id in self.0.iter().filter_map(Call::id) {
            match ids.last_mut() {
                Some((last, count)) if *last == id => *count += 1,
                _ => ids.push((id, 1)),
            }
        }
        ids
    }

    /// The longest time between two consecutive calls, in whole seconds.
    pub fn longest_pause(&self) -> Duration {
        let pauses = self.0.windows(2).map(|pair| pair[1].second.saturating_sub(pair[0].second));
        Duration::from_secs(pauses.max().unwrap_or_default())
    }

    /// Fails unless each call was accepted with this account, and no call is missing.
    pub fn were_accepted(&self, account: &str) -> Told {
        let accepted = |call: &Call| matches!(&call.outcome, Outcome::Accepted { subject, .. } if subject == account);
        self.must("accepted", accepted)
    }

    /// The number of calls of each outcome.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for call in &self.0 {
            match call.outcome {
                Outcome::Accepted { .. } => tally.accepted += 1,
                Outcome::Refused(400..=499) => tally.refused += 1,
                Outcome::Failed(ref said) if said.starts_with("wget: bad address") => tally.unsent += 1,
                Outcome::Refused(_) | Outcome::Failed(_) => tally.failed += 1,
            }
        }
        tally
    }

    /// Fails if a call was refused for its value, was accepted with another account, or is missing. A call may fail
    /// while a part of the cluster is down.
    pub fn were_not_refused(&self, account: &str) -> Told {
        self.must("accepted or failed", |call| match &call.outcome {
            Outcome::Accepted { subject, .. } => subject == account,
            Outcome::Refused(status) => *status >= 500,
            Outcome::Failed(_) => true,
        })
    }

    /// Fails unless each call was refused with this status, and no call is missing.
    pub fn were_refused(&self, status: u16) -> Told {
        self.must(&format!("refused with {status}"), |call| call.outcome == Outcome::Refused(status))
    }

    /// Fails if a call was accepted or is missing.
    pub fn were_not_accepted(&self) -> Told {
        self.must("refused in one way or another", |call| !call.is_accepted())
    }

    fn must(&self, be: &str, holds: impl Fn(&Call) -> bool) -> Told {
        let first = self.0.first().ok_or_else(|| format!("calls should be {be}, and there are none"))?.number;
        let wrong: Vec<_> = self.0.iter().filter(|call| !holds(call)).collect();
        if let [example, ..] = wrong[..] {
            let (of, last) = (self.0.len(), wrong[wrong.len() - 1]);
            let wrong = wrong.len();
            return Err(format!("{wrong} of {of} calls were not {be}, from {example:?} to {last:?}"));
        }
        match self.0.iter().zip(first..).find(|(call, number)| call.number != *number) {
            Some((call, number)) => {
                Err(format!("call {number} is missing before {call:?}: was its container restarted?"))
            }
            None => Ok(()),
        }
    }
}

/// The number of calls of each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub accepted: usize,
    /// Answered with 4xx: the value is at fault.
    pub refused: usize,
    /// Answered with 5xx, or not at all.
    pub failed: usize,
    /// Not sent, because the cluster's DNS did not know the proxy.
    pub unsent: usize,
}

impl Tally {
    /// The calls that this tally has, and an earlier one has not.
    pub fn since(self, before: Self) -> Self {
        Self {
            accepted: self.accepted - before.accepted,
            refused: self.refused - before.refused,
            failed: self.failed - before.failed,
            unsent: self.unsent - before.unsent,
        }
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            refused: self.refused + other.refused,
            failed: self.failed + other.failed,
            unsent: self.unsent + other.unsent,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, refused, failed, unsent } = self;
        write!(f, "{accepted} accepted, {refused} refused, {failed} failed, {unsent} unsent")
    }
}

#[test]
fn calls_are_counted_by_outcome() {
    let calls = Calls::parse(
        "1 1 account:events/a X\n2 1 wget: server returned error: HTTP/1.1 401 Unauthorized\n\
         3 1 wget: server returned error: HTTP/1.1 502 Bad Gateway\n4 1 wget: download timed out\n\
         5 1 wget: bad address 'shop-proxy:8080'\n",
    );
    assert_eq!(calls.tally(), Tally { accepted: 1, refused: 1, failed: 2, unsent: 1 });
    assert!(calls.were_not_refused("account:events/a").unwrap_err().starts_with("1 of 5 calls"));
    assert_eq!(calls.after(2).were_not_refused("account:events/a"), Ok(()));
    assert_eq!(calls.tally().since(calls.after(2).tally()), Tally { accepted: 1, refused: 1, failed: 0, unsent: 0 });
}

#[test]
fn what_a_caller_prints_is_understood() {
    let log = "1 100 account:events/a X1\n2 100 account:events/a X1\n3 102 account:events/a X2\n";
    let calls = Calls::parse(log);
    assert_eq!(calls.were_accepted("account:events/a"), Ok(()));
    assert_eq!((calls.ids(), calls.longest_pause()), (vec![("X1", 2), ("X2", 1)], Duration::from_secs(2)));
    assert!(calls.were_accepted("account:events/b").is_err());
    assert!(calls.after(1).were_not_accepted().is_err());
    assert!(calls.after(3).were_accepted("account:events/a").is_err(), "no call is no proof");

    let missing = log.replace("2 100", "4 100");
    assert!(Calls::parse(&missing).were_accepted("account:events/a").unwrap_err().contains("call 2 is missing"));
    let refused = Calls::parse("7 100 wget: server returned error: HTTP/1.1 401 Unauthorized\n");
    assert_eq!(refused.were_refused(401), Ok(()));
    assert!(refused.were_refused(502).unwrap_err().starts_with("1 of 1 calls were not refused with 502"));
    for line in ["8 100 wget: download timed out", "8 100 ", "8 100  X1", "account:events/a X1", ""] {
        let call = Call::parse(line);
        assert!(matches!(call.outcome, Outcome::Failed(_)), "{call:?}");
    }
}
