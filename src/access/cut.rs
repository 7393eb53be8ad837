//! Takes a text apart at a separator.

/// The text before the first `separator`, an ASCII character, and the text after it. `None`: the text has no
/// `separator`. Short texts are searched byte by byte, without the preparation of the standard library's search.
pub(crate) fn cut(text: &str, separator: u8) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == separator) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_text_ends_at_its_first_separator() {
        assert_eq!(cut("é:b:c", b':'), ("é", Some("b:c")));
        assert_eq!(cut("a:", b':'), ("a", Some("")));
        assert_eq!(cut("", b':'), ("", None));
    }
}
