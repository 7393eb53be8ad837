//! The tokens that `list --watch` has printed, and the changes since.

use std::{collections::BTreeMap, mem};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{ResourceExt, runtime::watcher::Event};

use super::view::Facts;
use crate::crd::{ApiToken, condition};

/// The reason that a row of a deleted token shows.
const DELETED: &str = "Deleted";

/// A namespace and a name.
type RowKey = (String, String);

/// The tokens that were printed, as they were then.
#[derive(Debug, Default)]
pub(crate) struct PrintedRows {
    printed: BTreeMap<RowKey, ApiToken>,
    /// The tokens of the list that is being read.
    listed: BTreeMap<RowKey, ApiToken>,
}

impl PrintedRows {
    /// The tokens to print after an event. `wants` selects the tokens of the list. A watch that was lost begins with a
    /// new list, and the changes meanwhile are those between both.
    pub(crate) fn hear(&mut self, event: Event<ApiToken>, wants: impl Fn(&ApiToken) -> bool) -> Vec<ApiToken> {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(token) => drop(self.listed.insert(place(&token), token)),
            Event::InitDone => {
                let listed = mem::take(&mut self.listed);
                let gone: Vec<_> = self.printed.keys().filter(|at| !listed.contains_key(*at)).cloned().collect();
                let gone: Vec<_> = gone.iter().filter_map(|at| self.remove(at)).collect();
                let now: Vec<_> = listed.into_values().filter_map(|token| self.apply(token, &wants)).collect();
                return [gone, now].concat();
            }
            Event::Apply(token) => return self.apply(token, wants).into_iter().collect(),
            Event::Delete(token) => return self.remove(&place(&token)).into_iter().collect(),
        }
        Vec::new()
    }

    /// The token, if its row differs from the printed one. A token that the list does not want any more is printed once
    /// more.
    fn apply(&mut self, token: ApiToken, wants: impl Fn(&ApiToken) -> bool) -> Option<ApiToken> {
        let at = place(&token);
        if !wants(&token) {
            return self.printed.remove(&at).map(|_| token);
        }
        let before = self.printed.insert(at, token.clone());
        before.is_none_or(|before| row(&before) != row(&token)).then_some(token)
    }

    /// The deleted token, with the reason `Deleted`.
    fn remove(&mut self, at: &RowKey) -> Option<ApiToken> {
        let mut token = self.printed.remove(at)?;
        let status = token.status.get_or_insert_default();
        let mut valid = status.conditions.iter().find(|known| known.type_ == condition::VALID).cloned();
        let deleted = valid.get_or_insert_with(|| Condition {
            type_: condition::VALID.into(),
            status: String::new(),
            reason: String::new(),
            message: String::new(),
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: None,
        });
        (deleted.status, deleted.reason) = ("False".into(), DELETED.into());
        status.conditions = valid.into_iter().collect();
        Some(token)
    }
}

fn place(token: &ApiToken) -> RowKey {
    (token.namespace().unwrap_or_default(), token.name_any())
}

/// The part of a token that its row shows.
fn row(token: &ApiToken) -> (Facts, Option<&str>) {
    (Facts::of(token), token.spec.description.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(name: &str, reason: &str, uid: &str) -> ApiToken {
        let valid = json!({"type": "Valid", "status": "True", "reason": reason, "message": "",
            "lastTransitionTime": "2027-01-01T00:00:00Z"});
        let token = json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken",
            "metadata": {"name": name, "namespace": "n", "uid": uid}, "spec": {"instanceRef": {"name": "eem"}},
            "status": {"conditions": [valid]},
        });
        serde_json::from_value(token).unwrap()
    }

    /// The names and reasons of the rows that these events print.
    fn told(rows: &mut PrintedRows, events: Vec<Event<ApiToken>>) -> Vec<String> {
        let wants = |token: &ApiToken| token.name_any() != "other";
        let rows = events.into_iter().flat_map(|event| rows.hear(event, wants));
        rows.map(|token| format!("{} {}", token.name_any(), Facts::of(&token).reason)).collect()
    }

    fn list(tokens: &[(&str, &str)]) -> Vec<Event<ApiToken>> {
        let each = tokens.iter().map(|(name, reason)| Event::InitApply(token(name, reason, "u")));
        [Event::Init].into_iter().chain(each).chain([Event::InitDone]).collect()
    }

    #[test]
    fn each_row_is_printed_when_it_changes_and_not_again() {
        let mut rows = PrintedRows::default();
        assert_eq!(told(&mut rows, list(&[("a", "Active"), ("other", "Active")])), ["a Active"]);
        let apply = |reason: &str| vec![Event::Apply(token("a", reason, "u"))];
        assert!(told(&mut rows, apply("Active")).is_empty(), "nothing that a row shows has changed");
        assert_eq!(told(&mut rows, apply("Rotating")), ["a Rotating"]);
        assert_eq!(told(&mut rows, vec![Event::Delete(token("a", "Rotating", "u"))]), ["a Deleted"]);
        assert!(told(&mut rows, vec![Event::Delete(token("other", "Active", "u"))]).is_empty());
    }

    #[test]
    fn a_watch_that_was_lost_prints_the_changes_meanwhile_alone() {
        let mut rows = PrintedRows::default();
        told(&mut rows, list(&[("a", "Active"), ("b", "Active"), ("c", "Active")]));
        let again = list(&[("a", "Active"), ("b", "Revoked"), ("d", "Active")]);
        assert_eq!(told(&mut rows, again), ["c Deleted", "b Revoked", "d Active"]);
        assert_eq!(rows.printed.len(), 3);
    }
}
