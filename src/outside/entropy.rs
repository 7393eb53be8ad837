//! Randomness.

use rand::{TryRng, rngs::SysRng};
use zeroize::Zeroizing;

use crate::token::format::BASE62;

/// The source gave no random bytes. No weaker source is used instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes: {0}")]
pub struct NoRandomness(pub String);

/// A source of random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills all of `bytes` with uniformly distributed values.
    ///
    /// # Errors
    /// The source gave no random bytes.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The operating system's source of random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        SysRng.try_fill_bytes(bytes).map_err(|error| NoRandomness(error.to_string()))
    }
}

impl dyn Entropy {
    /// `count` base62 characters, each drawn with equal probability.
    ///
    /// # Errors
    /// The source gave no random bytes.
    pub fn base62(&self, count: usize) -> Result<Zeroizing<String>, NoRandomness> {
        // 62 · 4 = 248: bytes of 248 and above are discarded. Otherwise the first characters of the alphabet would be
        // more frequent.
        const FAIR: u8 = 248;
        let mut text = Zeroizing::new(String::with_capacity(count));
        let mut bytes = Zeroizing::new([0u8; 64]);
        while text.len() < count {
            self.fill(&mut *bytes)?;
            let fair = bytes.iter().filter(|&&byte| byte < FAIR);
            let digits = fair.map(|byte| char::from(BASE62[usize::from(byte % 62)]));
            let room = count - text.len();
            text.extend(digits.take(room));
        }
        Ok(text)
    }
}

/// A source that gives the same bytes for the same seed, so that a run can be replayed. Anyone with the seed knows
/// every value.
#[cfg(test)]
pub struct Seeded(std::sync::Mutex<rand::rngs::StdRng>);

#[cfg(test)]
impl Seeded {
    /// A source with this seed.
    pub fn new(seed: u64) -> Self {
        Self(std::sync::Mutex::new(rand::SeedableRng::seed_from_u64(seed)))
    }
}

#[cfg(test)]
impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        rand::Rng::fill_bytes(&mut *self.0.lock().unwrap(), bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &dyn Entropy = &SystemEntropy;

    #[test]
    fn draws_as_many_as_asked_never_the_same_and_from_the_whole_alphabet() {
        let one = SYSTEM.base62(43).unwrap();
        assert_eq!(one.len(), 43);
        assert_ne!(one, SYSTEM.base62(43).unwrap());
        let many = SYSTEM.base62(10_000).unwrap();
        for digit in BASE62 {
            let count = many.bytes().filter(|c| c == digit).count();
            assert!((80..260).contains(&count), "{} came up {count} times of 161 expected", char::from(*digit));
        }
    }

    #[test]
    fn a_seed_gives_the_same_again_and_another_seed_does_not() {
        let draws = |seed| {
            let seeded: &dyn Entropy = &Seeded::new(seed);
            (0..3).map(|_| seeded.base62(43).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        assert_ne!(draws(7)[0], draws(7)[1]);
    }
}
