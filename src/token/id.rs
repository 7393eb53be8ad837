//! The public id of a value, in a form without an allocation.

use std::{fmt, ops::Deref, str};

use super::format::ID;

/// The public id of a value: 16 letters and digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; ID]);

impl Id {
    /// Reads an id. `None` if no value can have it.
    pub fn of(text: &str) -> Option<Self> {
        let id = text.as_bytes().try_into().ok()?;
        text.bytes().all(|c| c.is_ascii_alphanumeric()).then_some(Self(id))
    }
}

impl Deref for Id {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_of_a_value_is_one() {
        let id = "0123456789abcDEF";
        assert_eq!(&*Id::of(id).unwrap(), id);
        assert_eq!(Id::of(id).unwrap().to_string(), id);
        assert_eq!(
            ["", "0123456789abcDE", "0123456789abcDEFG", "0123456789abcDE_", "0123456789abcdé"].map(Id::of),
            [None; 5]
        );
    }
}
