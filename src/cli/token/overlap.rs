//! The end that a rotation gives to the values of a token.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::times::{EndTime, both};
use crate::{
    crd::{ApiToken, Instance},
    token::{Record, Records, State},
};

/// The overlap of a token for which neither its spec nor its Instance gives one.
const USUAL_OVERLAP: &str = "24h";

/// The end of the present value after a rotation: as the user asks, or by the overlap of the token. The operator may
/// shorten that overlap. `None`: the user may not read the Instance, which gives the overlap.
pub(crate) fn end_of_present(
    token: &ApiToken,
    instance: Option<&Instance>,
    asked: Option<&EndTime>,
) -> Option<EndTime> {
    let own = token.spec.rotation.as_ref().and_then(|rotation| rotation.overlap.as_ref()).map(ToString::to_string);
    let overlap = own.or_else(|| instance.map(usual_overlap)).map(EndTime::After);
    asked.cloned().or(overlap)
}

/// The overlap that an Instance gives a token without its own.
fn usual_overlap(instance: &Instance) -> String {
    let given = instance.spec.tokens.overlap.as_ref().and_then(|overlap| overlap.default.as_ref());
    given.map_or_else(|| USUAL_OVERLAP.to_owned(), ToString::to_string)
}

/// The latest end of the present value of a token, if its successor were published now. `None`: it has no value, or
/// `end` is unknown.
pub(crate) fn present_until(token: &ApiToken, end: Option<&EndTime>, now: Timestamp) -> Option<Timestamp> {
    let records = records(token, now);
    end?.from(now).into_iter().chain(records.served()?.end()).min()
}

/// The older values that a rotation ends earlier, in words. `asked` is the end that the user gives the previous values.
/// The value that ends at once for want of a place is not among them.
pub(crate) fn shortened(token: &ApiToken, asked: Option<&EndTime>, now: Timestamp) -> Vec<String> {
    let (records, Some(asked)) = (records(token, now), asked.and_then(|asked| asked.from(now))) else {
        return Vec::new();
    };
    let displaced = records.displaced().next().map(|record| record.generation);
    let older = records.valid().filter(|record| record.state == State::Superseded);
    let is_later = |record: &Record| record.end().is_none_or(|end| end > asked);
    let shortened = older.filter(|record| Some(record.generation) != displaced && is_later(record));
    let until = if asked <= now { "at once".to_owned() } else { format!("at {}", both(asked, now)) };
    let told = |record: &Record| {
        let instead = instead_of(record.end(), now);
        format!("value {} of {} ends {until} too{instead}", record.generation, token.name_any())
    };
    shortened.map(told).collect()
}

/// An older value that ends at once with a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DisplacedValue {
    /// The number of the generation.
    generation: i64,
    /// Its end without the rotation.
    instead_of: Option<Timestamp>,
}

impl DisplacedValue {
    /// The value of a token that a rotation ends at once. `None`: a further value has its place.
    pub(crate) fn of(token: &ApiToken, now: Timestamp) -> Option<Self> {
        let records = records(token, now);
        let displaced = records.displaced().next();
        displaced.map(|record| Self { generation: record.generation, instead_of: record.end() })
    }

    /// The end in words, for the token of this name.
    pub(crate) fn told(&self, name: &str, now: Timestamp) -> String {
        let (generation, instead) = (self.generation, instead_of(self.instead_of, now));
        format!("value {generation} of {name} ends at once{instead}: at most three values of a token work at a time")
    }
}

/// The end of a value without the rotation, as the end of a sentence about its earlier end.
fn instead_of(end: Option<Timestamp>, now: Timestamp) -> String {
    end.map(|end| format!(", and not {}", both(end, now))).unwrap_or_default()
}

fn records(token: &ApiToken, now: Timestamp) -> Records {
    Records::at(token.status.as_ref().map_or(&[], |status| &status.records), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn token(records: &[(&str, &str)], overlap: Value) -> ApiToken {
        let record = |(nth, (state, end)): (usize, &(&str, &str))| {
            json!({"generation": nth + 1, "id": "i", "sha256": "0".repeat(64), "state": state,
                "createdAt": "2027-01-01T00:00:00Z", "publishedAt": "2027-01-01T00:00:00Z", "expiresAt": end})
        };
        let records: Vec<_> = records.iter().enumerate().map(record).collect();
        let spec = json!({"instanceRef": {"name": "eem"}, "rotation": {"overlap": overlap}});
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "ci"},
            "spec": spec, "status": {"records": records}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_present_value_works_until_its_overlap_or_its_own_end() {
        let now: Timestamp = "2027-01-10T00:00:00Z".parse().unwrap();
        let instance = |tokens: Value| -> Instance {
            let spec = json!({ "tokens": tokens });
            let object =
                json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": {}, "spec": spec});
            serde_json::from_value(object).unwrap()
        };
        let until = |overlap: Value, instance: Option<&Instance>, asked: Option<&str>| {
            let token = token(&[("Active", "2027-01-13T00:00:00Z")], overlap);
            let asked = asked.map(|asked| EndTime::previous(asked).unwrap());
            let end = end_of_present(&token, instance, asked.as_ref());
            present_until(&token, end.as_ref(), now).map(|until| until.to_string())
        };
        let usual = instance(json!({}));
        let short = instance(json!({"overlap": {"default": "1h"}}));
        for (overlap, instance, asked, told) in [
            (Value::Null, None, None, None),
            (Value::Null, Some(&usual), None, Some("2027-01-11T00:00:00Z")),
            (Value::Null, Some(&short), None, Some("2027-01-10T01:00:00Z")),
            (json!("2h"), None, None, Some("2027-01-10T02:00:00Z")),
            (json!("2h"), Some(&short), Some("0s"), Some("2027-01-10T00:00:00Z")),
            (Value::Null, None, Some("2027-01-12"), Some("2027-01-12T00:00:00Z")),
            (json!("7d"), None, None, Some("2027-01-13T00:00:00Z")),
        ] {
            assert_eq!(until(overlap, instance, asked).as_deref(), told, "{asked:?}");
        }
    }

    #[test]
    fn an_end_of_the_previous_values_ends_older_ones_too() {
        let now = "2027-01-10T00:00:00Z".parse().unwrap();
        let (soon, later) = ("2027-01-10T01:00:00Z", "2027-01-13T00:00:00Z");
        let of = |records: &[(&str, &str)], asked: Option<&str>| {
            let asked = asked.map(|asked| EndTime::previous(asked).unwrap());
            shortened(&token(records, Value::Null), asked.as_ref(), now)
        };
        let two = [("Superseded", later), ("Active", later)];
        let told = "value 1 of ci ends at 2027-01-10T02:00:00Z (in 2h) too, and not 2027-01-13T00:00:00Z (in 3d)";
        assert_eq!(of(&two, Some("2h")), [told]);
        assert_eq!(of(&two, Some("0s")), ["value 1 of ci ends at once too, and not 2027-01-13T00:00:00Z (in 3d)"]);
        assert!(of(&two, None).is_empty() && of(&[("Superseded", soon), two[1]], Some("2h")).is_empty());
        let three = of(&[two[0], two[0], two[1]], Some("2h"));
        assert!(three.len() == 1 && three[0].starts_with("value 2 "), "the first one has no place: {three:?}");
    }

    #[test]
    fn the_oldest_of_three_values_ends_with_a_rotation() {
        let now = "2027-01-10T00:00:00Z".parse().unwrap();
        let later = "2027-01-13T00:00:00Z";
        let of = |states: &[&str], end| {
            let records: Vec<_> = states.iter().map(|state| (*state, end)).collect();
            DisplacedValue::of(&token(&records, Value::Null), now).map(|displaced| displaced.told("ci", now))
        };
        let told = "value 1 of ci ends at once, and not 2027-01-13T00:00:00Z (in 3d): at most three values of a token \
                    work at a time";
        assert_eq!(of(&["Superseded", "Superseded", "Active"], later).as_deref(), Some(told));
        assert_eq!(of(&["Superseded", "Active"], later), None);
        assert_eq!(of(&["Superseded", "Superseded", "Active"], "2027-01-05T00:00:00Z"), None, "they have expired");
    }
}
