//! Texts with a required form. The schema, the parser and the message of each form have one home here.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The required form of a text.
pub trait Form: 'static {
    /// The most characters of a text.
    const MAX: usize;
    /// An RE2 expression, anchored at both ends.
    const PATTERN: &'static str;
    /// A CEL expression about `self` that gives the same answer as [`Form::fits`].
    const FITS: &'static str = "true";
    /// The message for a text that does not have the form.
    const RULE: &'static str;

    /// True if `text` is short enough, for forms that limit something other than characters.
    fn fits(_text: &str) -> bool {
        true
    }

    /// True if `text` has the form. `text` is neither empty nor too long. The answer is the same as that of
    /// [`Form::PATTERN`].
    fn holds(text: &str) -> bool;
}

/// A text that should have a form. An invalid text is kept as well, so that an object that evaded the schema can be
/// read and its fault reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<F>(String, #[serde(skip)] PhantomData<F>);

impl<F: Form> Text<F> {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, if it has its form.
    ///
    /// # Errors
    /// The text does not have its form. The error is the message of the form.
    pub fn checked(&self) -> Result<&str, &'static str> {
        if is::<F>(&self.0) { Ok(&self.0) } else { Err(F::RULE) }
    }
}

/// True if the text has the form.
pub fn is<F: Form>(text: &str) -> bool {
    !text.is_empty() && text.chars().nth(F::MAX).is_none() && F::fits(text) && F::holds(text)
}

/// True if a character is invisible: a terminal does not show it, and some servers drop it. Examples are a soft hyphen,
/// a character without width, a direction mark and a byte order mark. These are the characters with the property
/// `Default_Ignorable_Code_Point` of Unicode.
pub const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}')
        || matches!(c, '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}')
        || matches!(c, '\u{e0000}'..='\u{e0fff}')
}

/// A CEL rule that is true if the text that `expression` gives has the form.
pub fn rule<F: Form>(expression: &str) -> String {
    let also = if F::FITS == "true" { String::new() } else { format!(" && {}", F::FITS) };
    format!("self.matches(r'{}'){also}", F::PATTERN).replace("self", expression)
}

impl<F, T: Into<String>> From<T> for Text<F> {
    fn from(text: T) -> Self {
        Self(text.into(), PhantomData)
    }
}

impl<F> fmt::Display for Text<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<F: Form> JsonSchema for Text<F> {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // A rule instead of a `pattern`, because the error for a pattern shows only the expression.
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": F::MAX,
            "x-kubernetes-validations": [{ "rule": rule::<F>("self"), "message": F::RULE }],
        })
    }
}

/// True if `text` is an RFC 1123 subdomain of any length.
pub fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| {
        let all = label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        all && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    })
}

/// True if `text` consists of letters, digits, '.', '_' and '-', and begins and ends with a letter or digit.
pub fn is_word(text: &str) -> bool {
    let all = text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c));
    let ends = [text.bytes().next(), text.bytes().last()];
    all && ends.iter().all(|end| end.is_some_and(|c| c.is_ascii_alphanumeric()))
}
