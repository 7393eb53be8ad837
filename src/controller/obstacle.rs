//! The errors that end a pass early.

use std::time::Duration;

use crate::outside::{NoRandomness, Refusal, Why};

/// An error that ends a pass early. Only an answer of the API server is a `Refusal`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// An object changed after the pass read it. The next pass reads it again.
    #[error("an object changed in the meantime")]
    Changed,
    /// The API server refused a request, or did not answer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The operating system gives no random bytes, so no value can be minted.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// A rendered key of the Secret is too long. The text has the field and the limit.
    #[error("{0}")]
    TooLong(String),
    /// The pass reached its time limit, which this variant holds.
    #[error("a pass took longer than {} s", .0.as_secs())]
    TookTooLong(Duration),
}

impl Obstacle {
    /// The part of the text that stays the same from one try to the next. Every text about the obstacle contains it.
    pub fn way(&self) -> &str {
        match self {
            Self::Changed => "changed in the meantime",
            Self::Refused(refusal) => refusal.why.way(),
            Self::NoRandomness(_) => "no random bytes",
            Self::TooLong(text) => text,
            Self::TookTooLong(_) => "took longer",
        }
    }

    /// The cause alone, for a text that has named the failed action already.
    pub fn why(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.why.to_string(),
            Self::Changed | Self::NoRandomness(_) | Self::TooLong(_) | Self::TookTooLong(_) => self.to_string(),
        }
    }

    /// The cause in one word, for metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Changed => "Changed",
            Self::Refused(refusal) => refusal.why.cause(),
            Self::NoRandomness(_) => "NoRandomness",
            Self::TooLong(_) => "TooLong",
            Self::TookTooLong(_) => "TookTooLong",
        }
    }

    /// The answer of the API server that is the obstacle, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Changed | Self::NoRandomness(_) | Self::TooLong(_) | Self::TookTooLong(_) => None,
        }
    }

    /// True if certainly nothing was written.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Changed | Self::NoRandomness(_) | Self::TooLong(_) => true,
            Self::Refused(refusal) => refusal.why.is_definite(),
            Self::TookTooLong(_) => false,
        }
    }

    /// True if the obstacle can end without a change of any object. The API server is away or slow, or does not accept
    /// the operator's credentials.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::TookTooLong(_) => true,
            Self::Refused(refusal) => match refusal.why {
                Why::Unavailable(_) | Why::Unauthenticated(_) => true,
                Why::Stale | Why::Gone | Why::Invalid(_) | Why::Forbidden(_) => false,
            },
            Self::Changed | Self::NoRandomness(_) | Self::TooLong(_) => false,
        }
    }

    /// True if the pass acted on an outdated view. Then another pass, with fresh reads, is enough.
    pub fn is_old_view(&self) -> bool {
        match self {
            Self::Changed => true,
            Self::Refused(refusal) => match refusal.why {
                Why::Stale | Why::Gone => true,
                Why::Invalid(_) | Why::Forbidden(_) | Why::Unauthenticated(_) | Why::Unavailable(_) => false,
            },
            Self::NoRandomness(_) | Self::TooLong(_) | Self::TookTooLong(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Obstacle> {
        let refused = |why| Obstacle::Refused(Refusal::because(why));
        vec![
            Obstacle::Changed,
            refused(Why::Stale),
            refused(Why::Gone),
            refused(Why::Invalid("m".into())),
            refused(Why::Forbidden("m".into())),
            refused(Why::Unauthenticated("m".into())),
            refused(Why::Unavailable("m".into())),
            Obstacle::NoRandomness(NoRandomness("m".into())),
            Obstacle::TooLong("spec.secret.data[a]: m".into()),
            Obstacle::TookTooLong(Duration::from_secs(30)),
        ]
    }

    #[test]
    fn every_text_says_the_way_it_failed() {
        for obstacle in all() {
            assert!(obstacle.to_string().contains(obstacle.way()) && obstacle.why().contains(obstacle.way()));
        }
    }

    #[test]
    fn each_cause_is_one_word() {
        let causes: Vec<_> = all().iter().map(Obstacle::cause).collect();
        let refused = ["Stale", "Gone", "Invalid", "Forbidden", "Unauthenticated", "Unavailable"];
        assert_eq!(causes, [&["Changed"][..], &refused, &["NoRandomness", "TooLong", "TookTooLong"]].concat());
        assert_eq!(all().iter().filter(|obstacle| obstacle.refusal().is_some()).count(), refused.len());
    }

    #[test]
    fn only_what_the_api_server_answers_speaks_of_it() {
        let speaks: Vec<_> = all().iter().map(|obstacle| obstacle.to_string().contains("API server")).collect();
        assert_eq!(speaks, [false, false, false, false, false, true, true, false, false, false]);
        assert!(all()[8].to_string().starts_with("spec.secret.data[a]: "));
    }

    #[test]
    fn what_is_of_the_past_is_looked_at_again_and_what_may_have_been_done_is_not_certain() {
        let old: Vec<_> = all().iter().map(Obstacle::is_old_view).collect();
        assert_eq!(old, [true, true, true, false, false, false, false, false, false, false]);
        let definite: Vec<_> = all().iter().map(Obstacle::is_definite).collect();
        assert_eq!(definite, [true, true, true, true, true, true, false, true, true, false]);
        let outage: Vec<_> = all().iter().map(Obstacle::is_outage).collect();
        assert_eq!(outage, [false, false, false, false, false, true, true, false, false, true]);
    }
}
