//! The form of a plaintext: `<prefix>_<id>_<secret><checksum>`.
//!
//! The id is public, and records are looked up by it. The secret has 256 random bits. The checksum is the CRC-32 (IEEE
//! 802.3) of all characters before it. Everything after the prefix is base62.
//!
//! So a scanner can tell a real token from a look-alike offline. A malformed token is rejected before anything is
//! hashed.

use std::{borrow::Cow, iter, ops::Range};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::Plaintext;

/// The digits of base62, in the order of their values.
pub const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of an id: 95 bits.
pub const ID: usize = 16;
/// Characters of a secret: 43 · log2(62) = 256.03 bits.
pub const SECRET: usize = 43;
/// Characters of a checksum: 62⁶ > 2³².
pub const CHECKSUM: usize = 6;
/// The longest prefix, in characters.
const PREFIX: usize = 16;
/// Characters of a token after its prefix.
const TAIL: usize = 1 + ID + 1 + SECRET + CHECKSUM;
/// The least number of characters of a secret that a text must not show. Fewer leave 128 bits unknown.
const TELLING: usize = 22;
/// The length of the shortest text that [`redact`] changes, in characters. No shorter text hides a
/// token, in any encoding.
pub const SHORTEST: usize = ID - SLIP + 1 + TELLING;
/// The number of characters by which a mistyped id may be too short or too long.
const SLIP: usize = 2;
/// The number of times that decoded base64 is searched for base64 again.
const NESTED: u32 = 3;
/// The effort to decode base64 in a text, in bytes: `LEAST_EFFORT`, plus `EFFORT` for each byte of the text.
const EFFORT: usize = 16;
const LEAST_EFFORT: usize = 4096;
/// Decodes base64 that was cut off.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);
/// The replacement for a token in a text.
const REDACTED: &str = "[token]";

/// True if `text` can be the first part of a plaintext: a lower-case letter, then up to 15 lower-case letters or
/// digits.
pub fn is_prefix(text: &str) -> bool {
    text.len() <= PREFIX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// Builds a plaintext from its prefix, its public id and its secret characters.
pub fn assemble(prefix: &str, id: &str, secret: &str) -> Plaintext {
    let mut text = String::with_capacity(prefix.len() + id.len() + secret.len() + CHECKSUM + 2);
    text.extend([prefix, "_", id, "_", secret]);
    let checksum = checksum(text.as_bytes());
    text.extend(checksum.iter().map(|&digit| char::from(digit)));
    Plaintext::new(text)
}

/// The error for a presented text that cannot be a token of Tokenry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form <prefix>_<id>_<secret><checksum>")]
pub struct Malformed;

/// The id in `text`, if `text` has the form of a plaintext and a right checksum.
///
/// A right checksum does not show that such a token exists.
pub fn id(text: &str) -> Result<&str, Malformed> {
    let at = text.len().checked_sub(TAIL).filter(|_| text.is_ascii()).ok_or(Malformed)?;
    let (prefix, tail) = text.split_at(at);
    let (id, rest) = (&tail[1..=ID], &tail[ID + 2..]);
    // Without an early end, several characters are compared at once.
    let all_base62 = |part: &str| part.bytes().fold(true, |all, c| all & c.is_ascii_alphanumeric());
    let formed = [0, ID + 1].iter().all(|&at| tail.as_bytes()[at] == b'_')
        && is_prefix(prefix)
        && all_base62(id)
        && all_base62(rest)
        && {
            let (body, sum) = text.as_bytes().split_at(text.len() - CHECKSUM);
            checksum(body) == sum
        };
    if formed { Ok(id) } else { Err(Malformed) }
}

/// True if `text` has a token in it, plain or in base64. Also true if it has so much base64 that the search is too
/// costly.
pub fn carries(text: &str) -> bool {
    !tokens(text.as_bytes(), &mut Effort::for_text(text), carries_token).is_empty()
}

/// The positions of tokens in `text`, in bytes: plain tokens, and runs of base64 that encode one. Base64 whose search
/// is too costly counts as a token.
pub fn find(text: &str) -> Vec<Range<usize>> {
    tokens(text.as_bytes(), &mut Effort::for_text(text), carries_token)
}

/// `text` with every token in it replaced, plain or in base64, for logs and messages. A token that was cut or mistyped
/// is replaced too, if it is plain and half of its secret is there.
///
/// A caller may have put a token where it does not belong, such as into a path. An API server or an admission webhook
/// may quote a Secret that it rejects, or a part of it.
pub fn redact(text: &str) -> Cow<'_, str> {
    redact_within(text, &mut Effort::for_text(text))
}

/// Replaces tokens like [`redact`], within the rest of an effort.
pub fn redact_within<'a>(text: &'a str, effort: &mut Effort) -> Cow<'a, str> {
    let cuts = tokens(text.as_bytes(), effort, |word| carries_token(word) || gives_away(word));
    if cuts.is_empty() {
        return text.into();
    }
    let (mut redacted, mut kept) = (String::with_capacity(text.len()), 0);
    for cut in cuts {
        redacted.extend([&text[kept..cut.start], REDACTED]);
        kept = cut.end;
    }
    redacted.push_str(&text[kept..]);
    redacted.into()
}

/// The number of bytes in base64 that may still be decoded.
///
/// Decoding can cost many times the length of a text, because decoded base64 is searched for base64 again, from each of
/// four positions. When the effort is used up, base64 that is at least as long as a token is treated as a token.
pub struct Effort(usize);

impl Effort {
    /// Enough effort for any text of this length, unless base64 in the text decodes to base64 again.
    pub fn for_text(text: &str) -> Self {
        Self(LEAST_EFFORT + EFFORT * text.len())
    }

    /// Takes bytes from the effort. False if too few were left. The effort is then used up.
    fn spend(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}

/// The positions of tokens in a text, in order. They are words that are `sought`, and text between words that encodes a
/// token.
fn tokens(text: &[u8], effort: &mut Effort, sought: impl Fn(&[u8]) -> bool) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // No shorter run hides a token.
    for run in spans(text, 0..text.len(), is_digit).filter(|run| run.len() >= SHORTEST) {
        let mut rest = run.start;
        let words = spans(text, run.clone(), is_word).filter(|word| sought(&text[word.clone()]));
        for word in words.chain(iter::once(run.end..run.end)) {
            let between = rest..word.start;
            rest = word.end;
            found.extend(Some(between).filter(|between| encodes_token(&text[between.clone()], NESTED, effort)));
            found.extend(Some(word).filter(|word| !word.is_empty()));
        }
    }
    found
}

/// The longest stretches of `text`, inside `within`, whose characters are all a `part`. `part` must accept only ASCII.
fn spans<P: Fn(u8) -> bool>(
    text: &[u8],
    within: Range<usize>,
    part: P,
) -> impl Iterator<Item = Range<usize>> + use<'_, P> {
    let mut at = within.start;
    iter::from_fn(move || {
        let start = at + text[at..within.end].iter().position(|&c| part(c))?;
        let length = text[start..within.end].iter().position(|&c| !part(c));
        at = length.map_or(within.end, |length| start + length);
        Some(start..at)
    })
}

/// True if a character can be part of a token.
const fn is_word(c: u8) -> bool {
    c == b'_' || c.is_ascii_alphanumeric()
}

/// True if a character can be part of a token in base64, in either alphabet.
const fn is_digit(c: u8) -> bool {
    is_word(c) || matches!(c, b'+' | b'/' | b'-')
}

/// True if a run of base64 digits, in either alphabet, decodes to text with a token in it. The decoded text may contain
/// base64 again, up to `nested` times. The run may be cut off, and other text may be joined to its start. Also true if
/// the effort is used up.
fn encodes_token(run: &[u8], nested: u32, effort: &mut Effort) -> bool {
    if run.len() < TAIL {
        return false;
    }
    let digits: Zeroizing<Vec<u8>> = Zeroizing::new(
        run.iter()
            .map(|digit| match digit {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            })
            .collect(),
    );
    (0..4).any(|start| {
        if !effort.spend(run.len()) {
            return true;
        }
        let digits = digits.get(start..).unwrap_or_default();
        // A single last digit decodes to nothing.
        let whole = if digits.len() % 4 == 1 { digits.len() - 1 } else { digits.len() };
        let Ok(bytes) = LENIENT.decode(&digits[..whole]).map(Zeroizing::new) else { return false };
        let all = 0..bytes.len();
        spans(&bytes, all.clone(), is_word).any(|word| carries_token(&bytes[word]))
            || (nested > 0 && spans(&bytes, all, is_digit).any(|run| encodes_token(&bytes[run], nested - 1, effort)))
    })
}

/// True if a run of letters, digits and underscores contains a token.
fn carries_token(word: &[u8]) -> bool {
    let underscores = word.iter().enumerate().filter(|(_, c)| **c == b'_').map(|(at, _)| at);
    underscores.filter(|&at| word.get(at..at + TAIL).is_some_and(is_tail)).any(|at| {
        // Other text may be joined to the start of the prefix, so each possible length of the prefix is tried.
        (1..=PREFIX.min(at))
            .any(|length| str::from_utf8(&word[at - length..at + TAIL]).is_ok_and(|text| id(text).is_ok()))
    })
}

/// True if a run of letters, digits and underscores has about an id, and after it half of a secret or more. Small
/// letters alone are no id, but an ordinary word.
fn gives_away(word: &[u8]) -> bool {
    let is_id = |part: &[u8]| part.len().abs_diff(ID) <= SLIP && !part.iter().all(u8::is_ascii_lowercase);
    let mut parts = word.split(|c| *c == b'_');
    let mut before = parts.next().unwrap_or_default();
    parts.any(|part| is_id(std::mem::replace(&mut before, part)) && part.len() >= TELLING)
}

/// True if `tail` looks like a token without its prefix. This test is cheaper than a checksum, and few texts pass it.
fn is_tail(tail: &[u8]) -> bool {
    let (id, rest) = tail[1..].split_at(ID);
    rest[0] == b'_' && !id.contains(&b'_') && !rest[1..].contains(&b'_')
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> String {
        assemble("eem", &"i".repeat(ID), &"s".repeat(SECRET)).expose().to_owned()
    }

    #[test]
    fn an_assembled_plaintext_tells_its_id() {
        assert_eq!(id(&sample()), Ok("iiiiiiiiiiiiiiii"));
        assert_eq!(sample().len(), 3 + 1 + ID + 1 + SECRET + CHECKSUM);
    }

    #[test]
    fn the_checksum_is_the_crc_32_of_ieee_802_3_in_base62() {
        // CRC-32 of "123456789" is 0xcbf43926, the check value of the catalogue of CRC algorithms.
        let value = checksum(b"123456789")
            .iter()
            .fold(0u64, |value, digit| value * 62 + BASE62.iter().position(|d| d == digit).unwrap() as u64);
        assert_eq!(value, 0xcbf4_3926);
    }

    #[test]
    fn one_changed_character_is_malformed() {
        let good = sample();
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] = if bad[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(id(std::str::from_utf8(&bad).unwrap()), Err(Malformed), "changed at {at}");
        }
    }

    #[test]
    fn a_part_of_another_length_or_with_a_sign_is_malformed() {
        let of = |prefix: &str, id: &str, secret: &str| assemble(prefix, id, secret).expose().to_owned();
        let (other, secret) = ("0i1i2i3i4i5i6i7i", "s".repeat(SECRET));
        assert_eq!(id(&of("tkn", other, &secret)), Ok(other));
        for (prefix, other, secret) in [
            ("", other, &*secret),
            ("t_n", other, &secret),
            ("tkn", &other[1..], &format!("s{secret}")),
            ("tkn", &format!("i{other}"), &secret[1..]),
            ("tkn", "0i1i2i3i4i5i6i7_", &secret),
            ("tkn", "_i1i2i3i4i5i6i7i", &secret),
            ("tkn", other, &format!("_{}", &secret[1..])),
            ("tkn", other, &secret[1..]),
            ("tkné", other, &secret),
            ("tkn", "0i1i2i3i4i5i6ié", &secret),
        ] {
            assert_eq!(id(&of(prefix, other, secret)), Err(Malformed), "{prefix} {other} {secret}");
        }
    }

    #[test]
    fn a_prefix_is_short_and_lower_case() {
        for good in ["a", "eem", "t2", "abcdefghijklmnop"] {
            assert!(is_prefix(good), "{good}");
        }
        for bad in ["", "2a", "A", "a_b", "a-b", "é", "abcdefghijklmnopq"] {
            assert!(!is_prefix(bad), "{bad}");
        }
    }

    #[test]
    fn tokens_are_cut_out_of_a_text_and_nothing_else_is() {
        let token = sample();
        assert_eq!(redact(&format!("/x/{token}/y")), "/x/[token]/y");
        assert_eq!(redact(&format!("/{token}/{token}")), "/[token]/[token]");
        assert!(!redact(&format!("/ids_{token}_v1")).contains(&token));
        assert_eq!(redact("/eem/topics_all/x"), "/eem/topics_all/x");
    }

    #[test]
    fn a_text_carries_a_token_plain_or_in_base64() {
        use base64::engine::general_purpose::STANDARD;
        let token = sample();
        for text in [
            &*token,
            &format!("Bearer {token}"),
            &format!("x,{token};"),
            &format!("Basic {}", STANDARD.encode(format!("ci:{token}"))),
        ] {
            assert!(carries(text), "{text}");
        }
        let jwt = "Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZUBleGFtcGxlLmNvbSIsImF1ZCI6InNob3AiLCJ0Ijoi\
                   ZXlKaGJHY2lPaUpTVXpJMU5pSXNJblI1Y0NJNklrcFhWQ0o5In0.c2lnbmF0dXJlLXdpdGgtbWFueS1jaGFyYWN0ZXJzLWFuZC1ub25l";
        for text in ["", "Basic dTpw", jwt, &token[1..], &token[..token.len() - 1]] {
            assert!(!carries(text), "{text}");
        }
    }

    #[test]
    fn a_token_that_was_cut_or_mistyped_is_replaced_and_is_none() {
        let token = assemble("eem", "0i1i2i3i4i5i6i7i", &"s".repeat(SECRET)).expose().to_owned();
        for odd in [
            &token[1..],
            &token[4..],
            &token[..token.len() - 1],
            &token[..4 + ID + 1 + TELLING],
            &token.to_uppercase(),
            &token.replacen('i', "", 2),
            &token.replacen('i', "iii", 1),
            &format!("{token}_x"),
            &format!("x_{}", &token[1..]),
        ] {
            assert_eq!(redact(&format!("/x/{odd}/y")), "/x/[token]/y", "{odd}");
            assert!(odd.len() >= SHORTEST && id(odd).is_err(), "{odd}");
        }
        assert!(!carries(&token[1..]) && find(&token[1..]).is_empty());
        let (object, hash) = ("64b7f0c2a1d3e4f5a6b7c8d9", "9f86d081884c7d659a2feaa0c55ad015");
        for text in [
            format!("/notifications_sent/{object}"),
            format!("organizationunit_{object}"),
            format!("op_{hash}"),
            format!("trace_{hash}_{}", &hash[..16]),
            token[..4 + ID + TELLING].to_owned(),
        ] {
            assert_eq!(redact(&text), text);
        }
    }

    #[test]
    fn a_token_beside_one_in_base64_hides_nothing() {
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let (token, encoded) = (sample(), URL_SAFE_NO_PAD.encode(sample()));
        assert_eq!(redact(&format!("/{token}/{encoded}")), "/[token][token]");
        assert_eq!(redact(&format!("é{encoded}/{token}/é")), "é[token][token]/é");
    }

    #[test]
    fn tokens_in_base64_are_cut_out_as_well() {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE};
        let token = sample();
        let padless = |text: &str| text.replace('=', "");
        for prefix in ["", "x", "xy"] {
            for encoded in [STANDARD.encode(format!("{prefix} {token}")), URL_SAFE.encode(format!("{token}{prefix}?"))]
            {
                let quoted = format!("cannot take {{\"token\":\"{encoded}\"}}: too long");
                assert_eq!(padless(&redact(&quoted)), "cannot take {\"token\":\"[token]\"}: too long");
                let twice = STANDARD.encode(format!("auth: {}", STANDARD.encode(&encoded)));
                assert_eq!(padless(&redact(&twice)), "[token]", "base64 of base64");
            }
        }
        let harmless =
            STANDARD.encode("a long text of a hundred characters without any token in it, only words and more words");
        assert_eq!(redact(&harmless), harmless);
    }

    #[test]
    fn base64_of_base64_of_base64_is_looked_into_only_so_much() {
        use base64::engine::general_purpose::STANDARD;
        // No part of the text repeats, and no part is a token.
        let random = |length: usize| {
            (0..length).map(|at| crate::token::Digest::of(at.to_string()).to_string().as_bytes()[8]).collect::<Vec<_>>()
        };
        let once = STANDARD.encode(random(1500));
        assert_eq!(redact(&once), once, "a path may be as long as this text");
        let deep = (0..3).fold(random(800), |text, _| STANDARD.encode(text).into_bytes());
        let deep = String::from_utf8(deep).unwrap();
        let mut effort = Effort::for_text(&deep);
        let all = effort.0;
        (0..13).for_each(|_| drop(redact_within(&deep, &mut effort)));
        assert_eq!(effort.0, 0, "{all} bytes are the effort for all 13 calls together");
        assert_eq!(
            redact_within(&deep, &mut effort).trim_end_matches('='),
            "[token]",
            "without effort left, base64 of this length is treated as a token"
        );
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = id(&text);
            let _ = redact(&text);
        }

        #[test]
        fn a_token_in_base64_is_cut_out_however_it_is_glued_and_cut(
            before in "[ -~]{0,20}", after in "[ -~]{0,20}", glued in "(https://host/|basic-|x_?){0,2}", cut in 0usize..20,
        ) {
            use base64::engine::general_purpose::{STANDARD, URL_SAFE};
            let token = sample();
            for encoded in [STANDARD.encode(format!("{before} {token} {after}")), URL_SAFE.encode(format!("{before} {token} {after}"))] {
                // The end is cut, but never the token itself.
                let keep = encoded.len().saturating_sub(cut.min(after.len() * 4 / 3));
                let quoted = format!("{glued}{}...", &encoded[..keep]);
                let shown = redact(&quoted).into_owned();
                prop_assert!(!shown.contains(&encoded[30..60]), "{quoted} {shown}");
            }
        }

        #[test]
        fn every_assembled_token_is_recognised(
            prefix in "[a-z][a-z0-9]{0,15}", name in "[0-9A-Za-z]{16}", secret in "[0-9A-Za-z]{43}",
        ) {
            let plaintext = assemble(&prefix, &name, &secret);
            prop_assert_eq!(id(plaintext.expose()), Ok(name.as_str()));
            prop_assert!(!redact(plaintext.expose()).contains(&secret));
        }
    }
}
