//! How the definitions describe values of the domain: their schemas, and rules of CEL about them.
//!
//! A rule takes the place of a pattern where users read its message: that of a pattern is the expression, which says
//! nothing to them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::token::{
    Digest,
    duration::{self, AT_ONCE, DIGITS, Delay, Duration},
    moment::{self, Moment},
};

/// How a duration is written, as an RE2 expression. `Duration::parse` says the same.
const DURATION: &str = "^[1-9][0-9]{0,4}[smhd]$";

/// Gives a type a schema of its own, which stands where the type is used.
macro_rules! schema {
    ($type:ident, $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema!(Digest, json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" }));
schema!(Duration, ruled(DIGITS + 1, &format!("self.matches('{DURATION}')"), duration::RULE));
schema!(Delay, ruled(DIGITS + 1, &format!("self == '{AT_ONCE}' || self.matches('{DURATION}')"), duration::DELAY_RULE));
schema!(Moment, {
    let mut schema = ruled(moment::LONGEST, &format!("self < timestamp('{}')", moment::END), moment::RULE);
    schema.insert("format".into(), "date-time".into());
    schema
});

/// A text of at most so many characters that has to obey a rule of CEL.
fn ruled(longest: usize, rule: &str, message: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": longest,
        "x-kubernetes-validations": [{ "rule": rule, "message": message }],
    })
}

/// An expression of CEL for the seconds of the duration that the expression `field` names.
pub fn seconds(field: &str) -> String {
    format!(
        "int({field}.substring(0, size({field}) - 1)) * ({field}.endsWith('d') ? 86400 : {field}.endsWith('h') ? 3600 : \
         {field}.endsWith('m') ? 60 : 1)"
    )
}
