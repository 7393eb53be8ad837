//! Text from outside, made safe for a log or a terminal. Examples are the path of a request and a message in an object.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::crd::text::is_invisible;
use crate::token::format::{Effort, SHORTEST, redact_within};

/// Number of bytes behind the cut that are searched too. A token may begin before the cut and end behind it.
const AHEAD: usize = 1024;

/// `text`, cut to at most `most` bytes. Tokens are replaced by `[token]`, also if they are percent-encoded. Control
/// characters (C0, DEL and C1) and invisible characters are escaped, such as those that change the text direction.
///
/// Text without all of this is borrowed.
pub fn written(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() < SHORTEST && is_plain(text) {
        return text[..text.floor_char_boundary(most)].into();
    }
    // Text far behind the cut is dropped anyway, so it is not searched.
    let text = &text[..text.floor_char_boundary(most + AHEAD)];
    let told = without_tokens(text);
    if let Cow::Borrowed(text) = told
        && is_plain(text)
    {
        return text[..text.floor_char_boundary(most)].into();
    }
    let mut told = escaped(&told);
    told.truncate(told.floor_char_boundary(most));
    told.into()
}

/// True if `text` is printable ASCII, and so has nothing to escape.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Maximum number of nested percent-encodings in which a token is still found.
const NESTED: usize = 4;

/// Replaces tokens. A token can be percent-encoded, also several times. A stray percent sign can split a token, and
/// removing the sign restores the token.
pub fn without_tokens(text: &str) -> Cow<'_, str> {
    let (mut read, mut effort) = (Cow::Borrowed(text), Effort::for_text(text));
    for _ in 0..NESTED {
        if !read.contains('%') {
            break;
        }
        let decoded = percent_decode_str(&read).decode_utf8_lossy().into_owned();
        for readable in [&*decoded, &read.replace('%', ""), &decoded.replace('%', "")] {
            if let Cow::Owned(redacted) = redact_within(readable, &mut effort) {
                return redacted.into();
            }
        }
        read = decoded.into();
    }
    redact_within(text, &mut effort)
}

/// True if a terminal obeys a character, or does not show it.
pub fn is_obeyed(c: char) -> bool {
    // U+2028 and U+2029 end a line for some readers.
    c.is_control() || is_invisible(c) || matches!(c, '\u{2028}'..='\u{2029}' | '\u{fff9}'..='\u{fffb}')
}

fn escaped(text: &str) -> String {
    let (mut told, mut last) = (String::with_capacity(text.len()), ' ');
    for c in text.chars() {
        // Scripts and emoji join letters beyond ASCII by them. Within ASCII they only hide that two names differ.
        let joins = matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}') && !last.is_ascii();
        if is_obeyed(c) && !joins {
            told.extend(c.escape_default());
        } else {
            told.push(c);
        }
        last = c;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::format::assemble;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_all_else_is_as_it_was() {
        for (text, told) in [
            ("José's \"x\" \\ 名", "José's \"x\" \\ 名"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("a\u{9b}2Jb\u{7f}", "a\\u{9b}2Jb\\u{7f}"),
            ("a\nb\rc\td", "a\\nb\\rc\\td"),
            ("\u{202e}evil", "\\u{202e}evil"),
            ("a\u{2028}b\u{2029}", "a\\u{2028}b\\u{2029}"),
            ("a\u{200b}d\u{200d}min\u{feff}\u{ad}", "a\\u{200b}d\\u{200d}min\\u{feff}\\u{ad}"),
            ("⚠\u{fe0f} 👩\u{200d}💻 می\u{200c}خواهم", "⚠\u{fe0f} 👩\u{200d}💻 می\u{200c}خواهم"),
            ("ad\u{fe0f}min\u{fff9}", "ad\\u{fe0f}min\\u{fff9}"),
            ("a\u{2060}b\u{e0041}\u{3164}", "a\\u{2060}b\\u{e0041}\\u{3164}"),
        ] {
            assert_eq!(written(text, 100), told);
        }
        assert_eq!(written("éé", 3), "é", "it is cut at a character");
    }

    #[test]
    fn plain_text_is_borrowed_and_no_text_that_is_shorter_than_a_token_hides_one() {
        for text in ["", "/orders/7?a=b%20c", &"x.".repeat(200)] {
            assert!(matches!(written(text, 100), Cow::Borrowed(told) if told == &text[..text.len().min(100)]));
        }
        let token = assemble("t", &"i".repeat(16), &"s".repeat(43));
        assert_eq!(written(token.expose(), 100), "[token]");
        let cut = format!("{}_{}", "1".repeat(14), "s".repeat(22));
        assert_eq!((cut.len(), &*written(&cut, 100)), (SHORTEST, "[token]"));
    }

    #[test]
    fn what_is_escaped_and_in_base64_stays_readable() {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let session: Vec<u8> = (0..700u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let path = format!("/a%20b/{}/%C3%A9", URL_SAFE_NO_PAD.encode(session));
        assert_eq!(written(&path, 2048), path);
    }

    #[test]
    fn no_token_is_written_however_it_is_hidden_behind_percent_signs() {
        let token = assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        let plain = token.expose();
        let (head, tail) = plain.split_at(40);
        let escaped: String = plain.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let twice: String = escaped.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for hidden in [
            plain.to_owned(),
            plain.replace('_', "%5F"),
            format!("{head}%{tail}"),
            format!("{head}%25{tail}"),
            escaped,
            twice,
            plain.replace('_', "%255F"),
            plain.replace('_', "%25255F"),
        ] {
            assert_eq!(written(&format!("/x/{hidden}?y"), 2048), "/x/[token]?y");
        }
    }
}
