//! Texts of a form: one home for the schema, the parser and the message of each.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What a text has to look like.
pub trait Form: 'static {
    /// The longest there is, in characters.
    const MAX: usize;
    /// An RE2 expression, anchored at both ends.
    const PATTERN: &'static str;
    /// An expression of CEL for [`Form::fits`], about `self`.
    const FITS: &'static str = "true";
    /// What a user reads when a text is not of this form.
    const RULE: &'static str;

    /// Whether `text` is short enough, where something else counts than its characters.
    fn fits(_text: &str) -> bool {
        true
    }

    /// Whether `text`, which is neither empty nor too long, is of this form. It says the same as the expression.
    fn holds(text: &str) -> bool;
}

/// A text as written, which is to be of a form. It is kept whatever it is, so that an object that slipped past the
/// schema is read all the same and its fault can be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<F>(String, #[serde(skip)] PhantomData<F>);

impl<F: Form> Text<F> {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, or what is wrong with it.
    ///
    /// # Errors
    /// It is not of its form; the rule that it breaks.
    pub fn checked(&self) -> Result<&str, &'static str> {
        if is::<F>(&self.0) { Ok(&self.0) } else { Err(F::RULE) }
    }
}

/// Whether a text is of a form.
pub fn is<F: Form>(text: &str) -> bool {
    !text.is_empty() && text.chars().nth(F::MAX).is_none() && F::fits(text) && F::holds(text)
}

/// The rule of CEL that the text which `expression` gives is of a form.
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
        // A rule instead of a pattern: a pattern's message is the expression, which says nothing to a user.
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": F::MAX,
            "x-kubernetes-validations": [{ "rule": rule::<F>("self"), "message": F::RULE }],
        })
    }
}

/// Whether `text` is a name of an object: an RFC 1123 subdomain, whatever its length.
pub fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| {
        let all = label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        all && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    })
}

/// Whether `text` is letters, digits, '.', '_' and '-', with a letter or digit first and last.
pub fn is_word(text: &str) -> bool {
    let all = text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c));
    let ends = [text.bytes().next(), text.bytes().last()];
    all && ends.iter().all(|end| end.is_some_and(|c| c.is_ascii_alphanumeric()))
}
