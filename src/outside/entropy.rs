//! Randomness of the operating system.

use rand::{TryRng, rngs::SysRng};
use zeroize::Zeroizing;

use crate::token::format::BASE62;

/// There are no random bytes; nothing weaker takes their place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes: {0}")]
pub struct NoRandomness(pub String);

/// `count` characters of base62, each drawn evenly from the operating system's source.
///
/// # Errors
/// The operating system gives no random bytes; nothing weaker takes their place.
pub fn base62(count: usize) -> Result<Zeroizing<String>, NoRandomness> {
    // 62 · 4 = 248: larger bytes are thrown away, or the first characters of the alphabet would come up more often.
    const FAIR: u8 = 248;
    let mut text = Zeroizing::new(String::with_capacity(count));
    let mut bytes = Zeroizing::new([0u8; 64]);
    while text.len() < count {
        SysRng.try_fill_bytes(&mut *bytes).map_err(|error| NoRandomness(error.to_string()))?;
        let fair = bytes.iter().filter(|&&byte| byte < FAIR);
        let digits = fair.map(|byte| char::from(BASE62[usize::from(byte % 62)]));
        let room = count - text.len();
        text.extend(digits.take(room));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_as_many_as_asked_never_the_same_and_from_the_whole_alphabet() {
        let one = base62(43).unwrap();
        assert_eq!(one.len(), 43);
        assert_ne!(one, base62(43).unwrap());
        let many = base62(10_000).unwrap();
        for digit in BASE62 {
            let count = many.bytes().filter(|c| c == digit).count();
            assert!((80..260).contains(&count), "{} came up {count} times of 161 expected", char::from(*digit));
        }
    }
}
