//! What a token and its Instance ask for, checked: nothing after this sees two options.

use jiff::{SignedDuration, Timestamp};

use super::{Calendar, Window};

/// What an Instance allows every token that opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermsPolicy {
    /// First part of every plaintext.
    pub prefix: String,
    /// How long a generation is valid when the token does not say.
    pub default_lifetime: SignedDuration,
    /// How long a generation may be valid at most.
    pub max_lifetime: SignedDuration,
    /// Whether a token may ask for generations that never run out of time.
    pub never: bool,
    /// How long a predecessor stays valid when the token does not say.
    pub default_overlap: SignedDuration,
    /// How long a predecessor may stay valid at most.
    pub max_overlap: SignedDuration,
    /// When tokens may be rotated: in one of each group. A group that is empty: at any time.
    pub windows: Vec<Vec<Window>>,
    /// How often a value may be renewed at the most: from one rotation to the next, at least.
    pub min_rotation: SignedDuration,
    /// Whether a token has to say what it is for.
    pub require_description: bool,
}

/// What no generation exceeds, whatever it was given when it was minted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// How long it may be valid, from its mint on. Nothing: no limit is known.
    pub lifetime: Option<SignedDuration>,
    /// How long a predecessor may be valid, from the publish of its successor on. Nothing: no limit is known.
    pub overlap: Option<SignedDuration>,
    /// Whether one that was minted for ever may stay so.
    pub never: bool,
    /// When the token as a whole ends.
    pub until: Option<Timestamp>,
}

impl Limit {
    /// The lesser of both, in each respect.
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
    /// What both allow. What a token does not say, and the prefix, are taken from the first.
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

/// When a generation is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// This long after it was published.
    Every(SignedDuration),
    /// At the first moment of a calendar after it was published.
    Cron(Calendar),
    /// This long before it expires.
    BeforeExpiry(SignedDuration),
    /// When a third of its lifetime is left.
    LastThird,
    /// Only when somebody asks for it.
    Never,
}

impl Schedule {
    /// From one rotation to the next, at least, for generations of this lifetime, or for those that never run out of
    /// time. Nothing: there is no next.
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

/// What a token's generations live by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// First part of the next plaintext.
    pub prefix: String,
    /// How long the next generation is valid; nothing: for ever.
    pub lifetime: Option<SignedDuration>,
    /// When the token as a whole ends: no generation is valid for longer. Nothing: it does not.
    pub until: Option<Timestamp>,
    /// When the served generation is replaced.
    pub schedule: Schedule,
    /// How long a predecessor stays valid after its successor is published.
    pub overlap: SignedDuration,
    /// Whether the token asks for that overlap: then rotations come in time for it.
    pub asks_overlap: bool,
    /// When it may be rotated: a window of each group has to be open. No group: at any time.
    pub windows: Vec<Vec<Window>>,
}

/// A new generation that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The id that asks; each asks once.
    pub id: String,
    /// When the generation served so far ends.
    pub previous: Ending,
}

/// When a predecessor ends: never later than it would have expired anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After the overlap.
    Overlap,
    /// This long after its successor is published.
    After(SignedDuration),
    /// At this instant; where that is over, as soon as its successor is published.
    At(Timestamp),
}

impl Ending {
    /// How long a predecessor stays valid after its successor is published `at`, where `overlap` is what is usual.
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
