//! What keeps a pass from its end.

use std::time::Duration;

use crate::outside::{NoRandomness, Refusal, Why};

/// What keeps a pass from its end. Only what the API server answers is a refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// An object is not any more as it was seen: look again.
    #[error("what was seen has changed in the meantime")]
    Changed,
    /// A request was not done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No value can be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// A text that the Secret is to hold is too long: where it is, and how long it may be.
    #[error("{0}")]
    TooLong(String),
    /// The pass was given up.
    #[error("a pass took longer than {} s", .0.as_secs())]
    TookTooLong(Duration),
}

impl Obstacle {
    /// The way it failed, as a text about it says: the rest can differ from one try to the next.
    pub fn way(&self) -> &str {
        match self {
            Self::Changed => "changed in the meantime",
            Self::Refused(refusal) => refusal.why.way(),
            Self::NoRandomness(_) => "no random bytes",
            Self::TooLong(text) => text,
            Self::TookTooLong(_) => "took longer",
        }
    }

    /// Why it failed, for a text that says before what was to be done.
    pub fn why(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.why.to_string(),
            Self::Changed | Self::NoRandomness(_) | Self::TooLong(_) | Self::TookTooLong(_) => self.to_string(),
        }
    }

    /// Whether nothing was written, for certain.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Changed | Self::NoRandomness(_) | Self::TooLong(_) => true,
            Self::Refused(refusal) => refusal.why.is_definite(),
            Self::TookTooLong(_) => false,
        }
    }

    /// Whether a new look will do: what was gone by is of the past.
    pub fn is_old_view(&self) -> bool {
        match self {
            Self::Changed => true,
            Self::Refused(refusal) => match refusal.why {
                Why::Stale | Why::Gone => true,
                Why::Invalid(_) | Why::Forbidden(_) | Why::Unavailable(_) => false,
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
    fn only_what_the_api_server_answers_speaks_of_it() {
        let speaks: Vec<_> = all().iter().map(|obstacle| obstacle.to_string().contains("API server")).collect();
        assert_eq!(speaks, [false, false, false, false, false, true, false, false, false]);
        assert!(all()[7].to_string().starts_with("spec.secret.data[a]: "));
    }

    #[test]
    fn what_is_of_the_past_is_looked_at_again_and_what_may_have_been_done_is_not_certain() {
        let old: Vec<_> = all().iter().map(Obstacle::is_old_view).collect();
        assert_eq!(old, [true, true, true, false, false, false, false, false, false]);
        let definite: Vec<_> = all().iter().map(Obstacle::is_definite).collect();
        assert_eq!(definite, [true, true, true, true, true, false, true, true, false]);
    }
}
