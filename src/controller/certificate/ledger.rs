//! The namespaces that need the certificates, and those that have them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Number of looks until a Secret that was handed out is read again. It takes a minute.
const AGAIN: u64 = 30;
/// Number of looks until a namespace is tried again after a failure. It takes ten seconds.
const RETRY: u64 = 5;
/// Maximum number of namespaces of one look.
pub(super) const MOST: usize = 200;
/// Maximum number of namespaces of one look that are tried again after a failure.
const MOST_FAILED: usize = 100;
/// Maximum number of namespaces of one look that are read again. With very many namespaces, each is read again less
/// often than once a minute. The API server is not flooded.
const MOST_AGAIN: usize = 20;

/// The results so far. A look goes on where the one before ended, so each namespace has its turn.
#[derive(Default)]
pub(super) struct Ledger {
    look: u64,
    namespaces: BTreeMap<String, Attempt>,
}

/// The result for one namespace.
struct Attempt {
    /// The certificates that it was given, or the reason why it was not.
    given: Result<Arc<str>, String>,
    /// The look of that result.
    look: u64,
}

impl Ledger {
    /// The namespaces of the next look, out of all namespaces that need `bundle`. Those without it come first.
    pub(super) fn due(&mut self, all: &BTreeSet<String>, bundle: &str) -> Vec<String> {
        self.look += 1;
        self.namespaces.retain(|namespace, _| all.contains(namespace));
        let (mut lacking, mut failed, mut given) = (Vec::new(), Vec::new(), Vec::new());
        for namespace in all {
            let Some(attempt) = self.namespaces.get(namespace) else {
                lacking.push((0, namespace));
                continue;
            };
            let (age, entry) = (self.look - attempt.look, (attempt.look, namespace));
            match &attempt.given {
                Ok(has) if **has != *bundle => lacking.push(entry),
                Ok(_) if age >= AGAIN => given.push(entry),
                Err(_) if age >= RETRY => failed.push(entry),
                Ok(_) | Err(_) => {}
            }
        }
        [&mut lacking, &mut failed, &mut given].into_iter().for_each(|some| some.sort());
        let again = failed.into_iter().take(MOST_FAILED).chain(given.into_iter().take(MOST_AGAIN));
        lacking.into_iter().chain(again).take(MOST).map(|(_, namespace)| namespace.clone()).collect()
    }

    /// Notes a result. Returns true if it differs from the one before.
    pub(super) fn note(&mut self, namespace: &str, given: Result<Arc<str>, String>) -> bool {
        let is_news = self.namespaces.get(namespace).is_none_or(|entry| match (&entry.given, &given) {
            (Ok(_), Ok(_)) => false,
            (Err(before), Err(now)) => before != now,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => true,
        });
        self.namespaces.insert(namespace.to_owned(), Attempt { given, look: self.look });
        is_news
    }

    /// Lets each namespace be tried again soon, as after a minute.
    pub(super) fn doubt(&mut self) {
        self.look += AGAIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(count: usize) -> BTreeSet<String> {
        (0..count).map(|nth| format!("n{nth:05}")).collect()
    }

    fn give(ledger: &mut Ledger, namespaces: &[String], bundle: &str) {
        for namespace in namespaces {
            ledger.note(namespace, Ok(bundle.into()));
        }
    }

    #[test]
    fn ten_thousand_namespaces_get_the_certificates_in_turn_and_none_is_begun_anew() {
        let (mut ledger, all) = (Ledger::default(), named(10_000));
        for bundle in ["a", "b"] {
            let mut given = BTreeSet::new();
            let mut looks = 0;
            while given.len() < all.len() {
                let due = ledger.due(&all, bundle);
                assert!(!due.is_empty() && due.len() <= MOST);
                give(&mut ledger, &due, bundle);
                given.extend(due);
                looks += 1;
            }
            assert!(looks <= 60, "{looks}");
        }
    }

    #[test]
    fn each_namespace_is_read_again_and_the_oldest_first() {
        let (mut ledger, all) = (Ledger::default(), named(100));
        let first = ledger.due(&all, "a");
        give(&mut ledger, &first, "a");
        let mut read = Vec::new();
        for look in 1..AGAIN + 5 {
            let due = ledger.due(&all, "a");
            assert_eq!(due.len(), if look < AGAIN { 0 } else { MOST_AGAIN }, "look {look}");
            give(&mut ledger, &due, "a");
            read.extend(due);
        }
        assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), all);
    }

    #[test]
    fn a_failure_delays_no_other_namespace_and_is_tried_again() {
        let (mut ledger, all) = (Ledger::default(), named(2));
        ledger.due(&all, "a");
        assert!(ledger.note("n00000", Err("foreign".into())) && ledger.note("n00001", Ok("a".into())));
        for look in 2..2 + RETRY {
            assert_eq!(ledger.due(&all, "a").len(), usize::from(look == RETRY + 1), "look {look}");
        }
        assert!(!ledger.note("n00000", Err("foreign".into())), "the same is no news");
        assert!(ledger.note("n00000", Err("forbidden".into())) && ledger.note("n00000", Ok("a".into())));
        assert!(!ledger.note("n00000", Ok("b".into())));
    }

    #[test]
    fn many_failures_are_tried_again_in_turn_behind_namespaces_without_a_result() {
        let (mut ledger, all) = (Ledger::default(), named(1000));
        let mut failed = Vec::new();
        while failed.len() < 1000 {
            let due = ledger.due(&all, "a");
            due.iter().for_each(|namespace| _ = ledger.note(namespace, Err("away".into())));
            failed.extend(due);
        }
        assert_eq!(failed.into_iter().collect::<BTreeSet<_>>(), all, "each came once before one came twice");
        ledger.doubt();
        let more = named(1100);
        assert!(ledger.due(&more, "a").iter().take(100).all(|namespace| !all.contains(namespace)));
    }

    #[test]
    fn a_namespace_that_needs_it_no_more_is_forgotten_and_a_jump_of_the_clock_is_a_doubt() {
        let (mut ledger, all) = (Ledger::default(), named(1));
        for _ in 0..2 {
            assert_eq!(ledger.due(&all, "a").len(), 1);
            give(&mut ledger, &["n00000".to_owned()], "a");
            assert_eq!(ledger.due(&all, "a"), [""; 0]);
            ledger.doubt();
            assert_eq!(ledger.due(&all, "a").len(), 1);
            give(&mut ledger, &["n00000".to_owned()], "a");
            assert_eq!(ledger.due(&BTreeSet::new(), "a"), [""; 0]);
        }
    }
}
