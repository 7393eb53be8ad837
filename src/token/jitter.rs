//! A small, repeatable spread, so that tokens made together do not rotate together.

use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};

/// The part of an interval that jitter may take: one twentieth.
const SHARE: i64 = 20;

/// The most that jitter may take of `interval`, in whole seconds.
pub fn most(interval: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(interval.as_secs() / SHARE)
}

/// The time by which the rotation of a generation is moved, in whole seconds: at least zero, and less than `most`.
///
/// It depends only on the uid of the token, the generation and `most`, so repeated calls give the same answer.
pub fn jitter(uid: &str, generation: i64, most: SignedDuration) -> SignedDuration {
    let span = most.as_secs();
    if span <= 0 {
        return SignedDuration::ZERO;
    }
    let hash = Sha256::new().chain_update(uid).chain_update(generation.to_be_bytes()).finalize();
    let draw = hash.iter().take(7).fold(0i64, |value, &byte| value << 8 | i64::from(byte));
    SignedDuration::from_secs(draw % span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_twice_it_answers_the_same() {
        let day = SignedDuration::from_hours(24);
        assert_eq!(jitter("a", 1, day), jitter("a", 1, day));
        assert_ne!(jitter("a", 1, day), jitter("a", 2, day));
    }

    #[test]
    fn a_short_interval_has_none() {
        assert_eq!(jitter("a", 1, most(SignedDuration::from_secs(19))), SignedDuration::ZERO);
        assert_eq!(jitter("a", 1, SignedDuration::ZERO), SignedDuration::ZERO);
    }

    #[test]
    fn ten_thousand_tokens_spread_over_a_twentieth_of_their_interval() {
        let interval = SignedDuration::from_hours(60 * 24);
        let span = interval.as_secs() / SHARE;
        let mut buckets = [0u32; 10];
        for token in 0..10_000 {
            let jitter = jitter(&format!("uid-{token}"), 1, most(interval)).as_secs();
            assert!((0..span).contains(&jitter));
            buckets[(jitter * 10 / span) as usize] += 1;
        }
        assert!(buckets.iter().all(|&count| (800..1200).contains(&count)), "{buckets:?}");
    }
}
