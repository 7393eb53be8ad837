//! The terms of a token: the checked settings of the token and its Instance. Every exclusive choice is already made.

use jiff::{SignedDuration, Timestamp};

use super::{Calendar, Window};

/// The limits and defaults of an Instance for tokens that open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermsPolicy {
    /// The first part of every plaintext.
    pub prefix: String,
    /// The lifetime of a generation, if the token names none.
    pub default_lifetime: SignedDuration,
    /// The longest lifetime of a generation.
    pub max_lifetime: SignedDuration,
    /// True if a token may ask for generations that never expire.
    pub never: bool,
    /// The overlap, if the token names none.
    pub default_overlap: SignedDuration,
    /// The longest overlap.
    pub max_overlap: SignedDuration,
    /// The windows for rotations. One window of each group must be open. An empty group allows any time.
    pub windows: Vec<Vec<Window>>,
    /// The shortest time from one rotation to the next.
    pub min_rotation: SignedDuration,
    /// True if a token must have a description.
    pub require_description: bool,
}

/// The limits of a generation, even if it was given more when it was minted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// The longest lifetime, counted from the mint. `None`: no limit is known.
    pub lifetime: Option<SignedDuration>,
    /// The longest overlap, counted from the publish of the successor. `None`: no limit is known.
    pub overlap: Option<SignedDuration>,
    /// True if a generation that was minted without an expiry may stay so.
    pub never: bool,
    /// The end of the whole token. `None`: the token does not end.
    pub until: Option<Timestamp>,
}

impl Limit {
    /// The stricter limit of both, in each respect.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            lifetime: self.lifetime.into_iter().chain(other.lifetime).min(),
            overlap: self.overlap.into_iter().chain(other.overlap).min(),
            never: self.never && other.never,
            until: self.until.into_iter().chain(other.until).min(),
        }
    }
}

impl TermsPolicy {
    /// The terms that both allow. Defaults for a token's settings and the prefix are taken from `self`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (max_lifetime, max_overlap) =
            (self.max_lifetime.min(other.max_lifetime), self.max_overlap.min(other.max_overlap));
        Self {
            default_lifetime: self.default_lifetime.min(max_lifetime),
            default_overlap: self.default_overlap.min(max_overlap),
            max_lifetime,
            max_overlap,
            never: self.never && other.never,
            min_rotation: self.min_rotation.max(other.min_rotation),
            require_description: self.require_description || other.require_description,
            windows: self.windows.into_iter().chain(other.windows).collect(),
            prefix: self.prefix,
        }
    }
}

/// The rule for the time at which a generation is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// This long after the generation was published.
    Every(SignedDuration),
    /// At the first moment of a calendar after the generation was published.
    Cron(Calendar),
    /// This long before the generation expires.
    BeforeExpiry(SignedDuration),
    /// When a third of the lifetime is left.
    LastThird,
    /// Only when somebody asks for it.
    Never,
}

impl Schedule {
    /// The shortest time from one rotation to the next, for generations of this lifetime. A `lifetime` of `None` means
    /// that they never expire. The result is `None` if there is no next rotation.
    pub fn interval(&self, lifetime: Option<SignedDuration>) -> Option<SignedDuration> {
        match self {
            Self::Every(interval) => Some(*interval),
            Self::Cron(calendar) => Some(calendar.interval()),
            Self::BeforeExpiry(rest) => lifetime.map(|lifetime| lifetime - *rest),
            Self::LastThird => lifetime.map(|lifetime| lifetime - third(lifetime)),
            Self::Never => None,
        }
    }
}

/// The last third of a lifetime.
pub(super) fn third(lifetime: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(lifetime.as_secs() / 3)
}

/// The terms for the generations of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The first part of the next plaintext.
    pub prefix: String,
    /// The lifetime of the next generation. `None`: it never expires.
    pub lifetime: Option<SignedDuration>,
    /// The end of the whole token: no generation is valid for longer. `None`: the token does not end.
    pub until: Option<Timestamp>,
    /// The rule for the time at which the served generation is replaced.
    pub schedule: Schedule,
    /// How long a predecessor stays valid after its successor is published.
    pub overlap: SignedDuration,
    /// True if the token itself asks for that overlap. Rotations then come early enough for it.
    pub asks_overlap: bool,
    /// The windows for rotations. One window of each group must be open. No group: any time.
    pub windows: Vec<Vec<Window>>,
}

/// A request for a new generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The id of the request. Each id asks once.
    pub id: String,
    /// The end of the older generations.
    pub previous: Ending,
}

/// The end of a predecessor. A predecessor never lasts longer than its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After the overlap.
    Overlap,
    /// This long after its successor is published.
    After(SignedDuration),
    /// At this instant. If the instant is over, the predecessor ends when its successor is published.
    At(Timestamp),
}

impl Ending {
    /// The time for which a predecessor stays valid after its successor is published at `at`. `overlap` is the usual
    /// time.
    pub fn overlap(self, at: Timestamp, overlap: SignedDuration) -> SignedDuration {
        match self {
            Self::Overlap => overlap,
            Self::After(delay) => delay,
            Self::At(end) => end.duration_since(at).max(SignedDuration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_interval_is_nothing_however_short_the_lifetime() {
        // A generation that is due the moment it is published would be replaced for ever.
        for (lifetime, interval) in [(1, 1), (2, 2), (3, 2), (15, 10), (7_776_000, 5_184_000)] {
            let of = Schedule::LastThird.interval(Some(SignedDuration::from_secs(lifetime)));
            assert_eq!(of, Some(SignedDuration::from_secs(interval)), "{lifetime}");
        }
    }
}
