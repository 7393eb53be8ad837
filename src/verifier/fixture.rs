//! A door with an Instance `a/eem` and a token, for tests.
#![allow(clippy::unwrap_used, reason = "this is for tests only")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
};

use http::HeaderMap;
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;

use super::{
    Audit, Door, Journal, Origin, Protocol, Sample, StaleAnswers, WhenFull, index::Key, known::Known, usage::Usage,
};
use crate::{
    crd::{Account, ApiToken, Instance},
    outside::{Hearing, SystemClock, lines::LineQueue, metrics::Metrics},
    token::{Digest, format},
};

/// A door that waits for the first list of these kinds.
pub(crate) fn waiting_for(kinds: &[&str], hearing: Hearing, stale_answers: StaleAnswers) -> Door {
    writing(|_| None, kinds, hearing, stale_answers)
}

/// A door that has read everything, and its audit lines.
pub(crate) fn audited() -> (Arc<Door>, Arc<LineQueue>) {
    let lines = Arc::new(LineQueue::default());
    let audit = |metrics| Audit::new(lines.clone(), WhenFull::Drop, Sample::default(), metrics);
    let door = writing(|metrics| Some(audit(metrics)), &[], Hearing::default(), StaleAnswers::default());
    (Arc::new(door), lines)
}

fn writing(
    audit: impl FnOnce(Arc<Metrics>) -> Option<Audit>,
    kinds: &[&str],
    hearing: Hearing,
    stale_answers: StaleAnswers,
) -> Door {
    let kinds = kinds.iter().map(|&kind| kind.to_owned()).collect::<BTreeSet<_>>();
    let metrics = Arc::<Metrics>::default();
    let audit = audit(metrics.clone());
    let known = Arc::new(Known::new(kinds, Usage::new().0, metrics.clone()));
    Door::new(known, Arc::new(SystemClock), Journal::new(metrics, audit, "p".into()), hearing, stale_answers)
}

/// A door that has read everything.
pub(crate) fn door() -> Arc<Door> {
    Arc::new(waiting_for(&[], Hearing::default(), StaleAnswers::default()))
}

/// The origin of a question.
pub(crate) fn origin() -> Origin {
    Origin::named(Protocol::ForwardAuth, None, &HeaderMap::new())
}

/// The name of the Instance.
pub(crate) fn eem() -> Key {
    Key { namespace: "a".into(), name: "eem".into() }
}

/// Teaches the Instance, and a token with this value.
pub(crate) fn teach(door: &Door, value: &str) {
    teach_of(door, value, &json!({}));
}

/// The same with an Instance of this spec.
pub(crate) fn teach_of(door: &Door, value: &str, instance: &Value) {
    let of = |kind: &str, name: &str| {
        let metadata = json!({"namespace": "a", "name": name, "uid": name});
        json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata})
    };
    let with = |mut object: Value, key: &str, value| {
        object[key] = value;
        object
    };
    let refers = json!({"instanceRef": {"name": "eem"}});
    let owned = json!({"instanceRef": {"name": "eem"}, "owner": "user:alice"});
    let record = json!({
        "generation": 1, "id": format::id(value).unwrap(), "sha256": Digest::of(value), "state": "Recorded",
        "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2999-01-01T00:00:00Z",
    });
    let token = with(
        with(of("ApiToken", "x"), "spec", refers),
        "status",
        json!({"account": {"name": "x", "uid": "x"}, "records": [record]}),
    );
    door.known().learn(|index| {
        index.apply::<Instance>(serde_json::from_value(with(of("Instance", "eem"), "spec", instance.clone())).unwrap())
            | index.apply::<Account>(serde_json::from_value(with(of("ServiceAccount", "x"), "spec", owned)).unwrap())
            | index.apply::<ApiToken>(serde_json::from_value(token).unwrap())
    });
}

/// Asserts that these are all verdicts by a protocol, each with its status, its reason and its number.
pub(crate) fn verdicts(door: &Door, protocol: &str, wanted: &[(&str, &str, u64)]) {
    let (text, of) = (door.metrics().text(), format!(r#"protocol="{protocol}",status=""#));
    let counted = |line: &str| {
        let (status, rest) = line.split_once(&of)?.1.split_once(r#"",reason=""#)?;
        let (reason, count) = rest.split_once(r#""} "#)?;
        Some(((status.to_owned(), reason.to_owned()), count.parse::<u64>().unwrap()))
    };
    let verdicts = text.lines().filter(|line| line.starts_with("tokenry_verifier_verdicts_total{"));
    let mut sums = BTreeMap::new();
    verdicts.filter_map(counted).for_each(|(verdict, count)| *sums.entry(verdict).or_insert(0) += count);
    let wanted = wanted.iter().map(|&(status, reason, count)| ((status.to_owned(), reason.to_owned()), count));
    assert_eq!(sums, wanted.collect(), "{text}");
}

/// The value of a token.
pub(crate) fn value() -> String {
    format::assemble("tkn", &"i".repeat(16), &"s".repeat(43)).expose().to_owned()
}

/// Collects the lines of the log, in this thread.
#[derive(Clone, Default)]
pub(crate) struct LogLines(Arc<Mutex<Vec<u8>>>);

impl LogLines {
    /// Collects lines until the guard is dropped.
    pub(crate) fn collect(&self) -> DefaultGuard {
        let written = self.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
        tracing::subscriber::set_default(log)
    }

    /// The lines so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for LogLines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
