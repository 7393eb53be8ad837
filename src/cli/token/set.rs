//! `kubectl tokenry set` and `transfer`: changes one field of a token.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{allowed, change::change, pick};
use crate::{
    cli::{
        Error,
        connection::Connection,
        names::{self, Nameable},
    },
    outside::{Clock, SystemClock},
};

#[derive(Args)]
pub(crate) struct SetField {
    /// Field to change
    field: Field,
    /// Name of the ApiToken
    #[arg(add = names::of(Nameable::Token))]
    name: String,
    /// New value; several projects or policies are separated by commas; an empty text removes the field
    value: String,
    /// Let the API server check the change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args)]
pub(crate) struct Transfer {
    /// Name of the ApiToken
    #[arg(add = names::of(Nameable::Token))]
    name: String,
    /// New owner, such as user:bob@example.com or team:platform
    #[arg(long, value_name = "SUBJECT")]
    to: String,
    /// Let the API server check the change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A field of a token that a user may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Field {
    /// The role
    Role,
    /// The description
    Description,
    /// The projects
    Projects,
    /// The AccessPolicies that the token joins
    Policies,
    /// The display name; the name of the object never changes: for another one, create a token and revoke this one
    Name,
}

impl SetField {
    pub(crate) fn main(self) -> Result<(), Error> {
        let spec = spec(self.field, &self.value);
        set(&self.connection, &self.name, &spec, self.dry_run)
    }
}

impl Transfer {
    pub(crate) fn main(self) -> Result<(), Error> {
        set(&self.connection, &self.name, &json!({"owner": self.to}), self.dry_run)
    }
}

/// The part of the spec that changes. An empty text removes the field.
fn spec(field: Field, value: &str) -> Value {
    let text = if value.is_empty() { Value::Null } else { json!(value) };
    match field {
        Field::Role => json!({"role": text}),
        Field::Description => json!({"description": text}),
        Field::Name => json!({"displayName": text}),
        Field::Projects => json!({"projects": names(value)}),
        Field::Policies => json!({"policies": names(value)}),
    }
}

/// The names in a text, which are separated by commas. An empty text removes the field.
fn names(value: &str) -> Value {
    if value.is_empty() { Value::Null } else { value.split(',').map(str::trim).collect() }
}

/// Changes the spec of one token.
fn set(connection: &Connection, name: &str, spec: &Value, dry_run: bool) -> Result<(), Error> {
    connection.work(async |place| {
        let token = pick::one(place, name).await?;
        allowed::check_change(place, &token, spec, SystemClock.now()).await?;
        change(place, &[token], spec, dry_run, "changed").await
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_removes_a_field() {
        assert_eq!(spec(Field::Name, "Exporter"), json!({"displayName": "Exporter"}));
        assert_eq!(spec(Field::Description, ""), json!({"description": null}));
        assert_eq!(spec(Field::Projects, "a, b"), json!({"projects": ["a", "b"]}));
        assert_eq!(spec(Field::Projects, ""), json!({"projects": null}));
        assert_eq!(spec(Field::Policies, "p"), json!({"policies": ["p"]}));
    }
}
