//! The uid of an object, in a small form.

use std::{fmt, sync::Arc};

/// The uid of an object. The API server makes UUIDs (RFC 9562), so nearly every uid needs 16 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Uid(Bytes);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Bytes {
    /// A UUID in lower case, with hyphens.
    Uuid([u8; 16]),
    /// Any other text.
    Text(Arc<str>),
}

/// The number of digits in each group of a UUID.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

impl Default for Uid {
    /// The uid of an object that has none.
    fn default() -> Self {
        Self(Bytes::Text(Arc::default()))
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(uuid(text).map_or_else(|| Bytes::Text(text.into()), Bytes::Uuid))
    }
}

/// The bytes of a UUID. `None` if the text is not the usual form of one, so that different texts stay different.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let formed = text.len() == 36 && text.split('-').map(str::len).eq(GROUPS);
    let mut digits = text.bytes().filter(|c| *c != b'-').map(|c| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    });
    let mut bytes = [0; 16];
    for byte in bytes.iter_mut().filter(|_| formed) {
        *byte = digits.next()?? << 4 | digits.next()??;
    }
    formed.then_some(bytes)
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match &self.0 {
            Bytes::Uuid(bytes) => bytes,
            Bytes::Text(text) => return f.write_str(text),
        };
        for (at, byte) in bytes.iter().enumerate() {
            let hyphen = if [4, 6, 8, 10].contains(&at) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uuid_needs_no_allocation() {
        assert!(
            size_of::<Uid>() <= 24 && matches!(Uid::from("0b9c3e5e-7f0d-4c4b-9d3a-1f2e3d4c5b6a").0, Bytes::Uuid(_))
        );
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        #[test]
        fn uids_are_the_same_only_if_their_texts_are(
            one in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-fA-F-]{35,37}|.{0,8}", upper in any::<bool>(), at in 0usize..40,
        ) {
            prop_assert_eq!(Uid::from(&*one).to_string(), &*one);
            let mut other = if upper { one.to_uppercase() } else { one.clone() };
            if other.is_char_boundary(at) {
                other.insert(at, '-');
            }
            prop_assert_eq!(Uid::from(&*one) == Uid::from(&*other), one == other);
        }
    }
}
