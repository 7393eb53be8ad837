//! `kubectl tokenry set` and `transfer`: changes one field of a token.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    allowed,
    change::change,
    granted,
    pick::{self, Picked},
    show, view, wait,
};
use crate::{
    cli::{
        Error,
        advice::quoted,
        connection::Connection,
        names::{self, Nameable},
        screen::remark,
    },
    crd::ApiToken,
    outside::{Clock, SystemClock},
};

#[derive(Args)]
pub(crate) struct SetField {
    /// Field to change
    field: Field,
    /// Name of the ApiToken
    #[arg(add = names::of(Nameable::Token), value_parser = names::token)]
    name: String,
    /// New value; several projects or policies are separated by commas; an empty text removes the field
    #[arg(add = names::of(Nameable::FieldValue))]
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
    #[arg(add = names::of(Nameable::Token), value_parser = names::token)]
    name: String,
    /// New owner, such as user:bob@example.com or team:platform
    #[arg(long, value_name = "SUBJECT", add = names::of(Nameable::Owner), value_parser = names::owner)]
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
    /// The owner, which another command changes
    #[value(hide = true)]
    Owner,
}

impl SetField {
    pub(crate) fn main(self) -> Result<(), Error> {
        let Self { name, value, .. } = &self;
        let by_transfer = || {
            let place = self.connection.given().map(|namespace| format!(" -n {}", quoted(namespace)));
            Error::Usage(format!(
                "another command changes the owner, as it gives the token away: kubectl tokenry transfer {} --to {}{}",
                quoted(name),
                quoted(value),
                place.unwrap_or_default()
            ))
        };
        let change = self.field.change(value).ok_or_else(by_transfer)?;
        self.field.check(value).map_err(|rule| Error::Usage(format!("{}: {value:?} {rule}", change.title)))?;
        set(&self.connection, name, change, self.dry_run, pick::CHANGES)
    }
}

impl Transfer {
    pub(crate) fn main(self) -> Result<(), Error> {
        let change = FieldChange { title: "owner", field: "owner", value: json!(self.to) };
        set(&self.connection, &self.name, change, self.dry_run, &["--create", "--owner", &self.to])
    }
}

/// A field of the spec, and its new value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldChange {
    /// The field in words.
    title: &'static str,
    /// The name of the field in the spec.
    field: &'static str,
    /// The new value. `null` removes the field.
    value: Value,
}

impl Field {
    /// The change of this field. An empty text removes it. `None`: another command changes it.
    fn change(self, value: &str) -> Option<FieldChange> {
        let text = || if value.is_empty() { Value::Null } else { json!(value) };
        let (title, field, value) = match self {
            Self::Role => ("role", "role", text()),
            Self::Description => ("description", "description", text()),
            Self::Name => ("display name", "displayName", text()),
            Self::Projects => ("projects", "projects", listed(value)),
            Self::Policies => ("policies", "policies", listed(value)),
            Self::Owner => return None,
        };
        Some(FieldChange { title, field, value })
    }

    /// Succeeds if a value has the form of the field, or is empty.
    fn check(self, value: &str) -> Result<(), String> {
        let each = |form: fn(&str) -> Result<String, String>| {
            value.split(',').map(str::trim).try_for_each(|name| form(name).map(drop))
        };
        match self {
            _ if value.is_empty() => Ok(()),
            Self::Role => names::role(value).map(drop),
            Self::Projects => each(names::scope),
            Self::Policies => each(names::object),
            Self::Description | Self::Name | Self::Owner => Ok(()),
        }
    }
}

impl FieldChange {
    /// The change in words, such as `role viewer -> admin`. `old` is the value before it.
    fn told(&self, old: &Value) -> String {
        match *old == self.value {
            true => format!("unchanged: {} is {} already", self.title, shown(old)),
            false => format!("{} {} -> {}", self.title, shown(old), shown(&self.value)),
        }
    }

    /// The remark that the former owner may know the value of the token, if the owner changes.
    fn known_value(&self, token: &ApiToken) -> Option<String> {
        let former = token.spec.owner.as_ref().filter(|_| self.field == "owner" && show::secret(token).is_some());
        former.filter(|former| json!(former) != self.value)?;
        let rotate = view::command("rotate --previous 0s", token);
        Some(format!("its value is the same, and its former owner may know it; `{rotate}` replaces it"))
    }
}

/// The value of a field, as a user writes it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(unset)".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        Value::String(text) if text.contains(char::is_whitespace) => format!("{text:?}"),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// The names in a text, which are separated by commas. An empty text removes the field.
fn listed(value: &str) -> Value {
    if value.is_empty() { Value::Null } else { value.split(',').map(str::trim).collect() }
}

/// Changes one field of a token. `words` of `kubectl tokenry grant` permit it.
fn set(connection: &Connection, name: &str, wanted: FieldChange, dry_run: bool, words: &[&str]) -> Result<(), Error> {
    let spec = json!({ wanted.field: wanted.value });
    connection.work(async |place| {
        let token = pick::one(place, name, words).await?;
        if let Some(why) = wait::ended(&token) {
            return Err(Error::Missing(why));
        }
        let instance = allowed::instance_of(place, &token.spec.instance_ref).await?;
        granted::heed(place, instance.as_ref());
        allowed::check_change(place, instance.as_ref(), &token, &spec, SystemClock.now()).await?;
        let told = wanted.told(&json!(token.spec)[wanted.field]);
        let known = wanted.known_value(&token);
        change(place, Picked { tokens: vec![token], ..Picked::default() }, &spec, dry_run, &told).await?;
        let more = if dry_run { Some(format!("{name}, without --dry-run: {told}")) } else { known };
        more.iter().for_each(|more| remark(more));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_removes_a_field() {
        let of = |field: Field, value| {
            let FieldChange { field, value, .. } = field.change(value).unwrap();
            json!({ field: value })
        };
        assert_eq!(of(Field::Name, "Exporter"), json!({"displayName": "Exporter"}));
        assert_eq!(of(Field::Description, ""), json!({"description": null}));
        assert_eq!(of(Field::Projects, "a, b"), json!({"projects": ["a", "b"]}));
        assert_eq!(of(Field::Projects, ""), json!({"projects": null}));
        assert_eq!(of(Field::Policies, "p"), json!({"policies": ["p"]}));
    }

    #[test]
    fn a_value_without_the_form_of_its_field_is_no_value() {
        for (field, well, odd) in
            [(Field::Role, "viewer", "The Viewer"), (Field::Projects, "a, B", "a,,b"), (Field::Policies, "p,q", "P")]
        {
            assert!(field.check(well).is_ok() && field.check("").is_ok() && field.check(odd).is_err(), "{field:?}");
        }
        assert!(Field::Description.check("any text").is_ok());
    }

    #[test]
    fn a_change_names_the_field_and_both_values() {
        let told = |field: Field, value, old| field.change(value).unwrap().told(&old);
        assert_eq!(told(Field::Role, "admin", json!("viewer")), "role viewer -> admin");
        assert_eq!(told(Field::Role, "", json!("viewer")), "role viewer -> (unset)");
        assert_eq!(told(Field::Role, "viewer", json!("viewer")), "unchanged: role is viewer already");
        assert_eq!(told(Field::Name, "The Exporter", Value::Null), "display name (unset) -> \"The Exporter\"");
        assert_eq!(told(Field::Projects, "a, b", json!(["a"])), "projects a -> a,b");
    }
}
