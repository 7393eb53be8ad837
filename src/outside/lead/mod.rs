//! The leader among several operators, by a Lease (`coordination.k8s.io/v1`).
//!
//! The leader alone writes. The others watch, so their caches are warm, and one of them takes over.
//!
//! # Guarantees
//! A leader that could not renew its Lease in time starts no write any more, and its process ends. It checks the time
//! before each write. So a process that was paused for a while does not write when it continues, even before it sees
//! that another process leads.
//!
//! # Assumptions
//! The clocks of the machines may be wrong by any distance, but they run at about the same speed. A write that was sent
//! before the end of the time arrives before another process leads. Where this fails, the preconditions of each write
//! still protect the objects: uid and resourceVersion.
//!
//! # Caveats
//! A Lease that is deleted leaves no version behind. If somebody deletes it while a process creates it, or again and
//! again, two processes can lead. That ends a renew deadline after the last deletion at the latest.
//!
//! The monotonic clock of Linux does not run while a machine sleeps. A process that wakes up with its machine sees the
//! loss at its next renewal.

mod election;
mod elector;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::watch, time::Instant};

pub use election::LeasePeriods;
pub use elector::{Elector, LeaseOrder};

use super::Why;

/// The right of this process to write. Clones share it. Default: it always has it, because it takes part in no
/// election.
#[derive(Clone, Default)]
pub struct Lead(Option<Arc<LeadState>>);

struct LeadState {
    /// The end of the time for which this process leads. `None`: it did not lead yet.
    until: watch::Sender<Option<Instant>>,
    missing: Mutex<Result<(), String>>,
}

impl Lead {
    /// The right of a process that takes part in an election. It does not lead yet.
    fn elected() -> Self {
        let missing = Mutex::new(Err("waiting for the Lease of the leader".to_owned()));
        Self(Some(Arc::new(LeadState { until: watch::Sender::default(), missing })))
    }

    /// True if this process takes part in an election.
    pub fn is_elected(&self) -> bool {
        self.0.is_some()
    }

    /// True if this process may write now.
    pub fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|state| is_now(*state.until.borrow()))
    }

    /// Waits until this process may write. A process that has lost its Lease waits for its end.
    pub async fn begun(&self) {
        let Some(state) = &self.0 else { return };
        if state.until.subscribe().wait_for(|until| is_now(*until)).await.is_err() {
            std::future::pending().await
        }
    }

    /// Succeeds once the Lease was read or written.
    ///
    /// # Errors
    /// It was not yet, or the API server refuses it. Everybody can read the text.
    pub fn missing(&self) -> Result<(), String> {
        self.0.as_ref().map_or(Ok(()), |state| lock(&state.missing).clone())
    }

    fn leads(&self, until: Option<Instant>) {
        if let Some(state) = &self.0 {
            state.until.send_replace(until);
        }
    }

    /// Notes the answer about the Lease. An API server that is away makes nobody unready.
    fn answered(&self, answer: Result<(), &Why>) {
        let Some(state) = &self.0 else { return };
        match answer {
            Ok(()) => *lock(&state.missing) = Ok(()),
            Err(why) if why.is_definite() && *why != Why::Stale => {
                *lock(&state.missing) = Err(format!("waiting for the Lease of the leader: {}", why.way()));
            }
            Err(_) => {}
        }
    }
}

fn is_now(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() < until)
}

fn lock(missing: &Mutex<Result<(), String>>) -> MutexGuard<'_, Result<(), String>> {
    missing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::{SystemClock, Writer, metrics::Metrics};
    use http::{Request, Response};
    use kube::{Client, client::Body};
    use serde_json::json;
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };
    use tokio::time::{sleep, timeout};

    /// A writer whose API server answers each request with `code` after five seconds, and the number of requests.
    fn writer(lead: &Lead, metrics: &Arc<Metrics>, code: u16) -> (Writer, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let serve = move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                sleep(Duration::from_secs(5)).await;
                let done = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {}});
                let refusal = json!({"kind": "Status", "status": "Failure", "message": "m", "code": code});
                let body = if code == 200 { done } else { refusal };
                let answer = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
                Ok::<_, Infallible>(answer.unwrap())
            }
        };
        let client = Client::new(tower::service_fn(serve), "a");
        (Writer::new(client, Arc::new(SystemClock), metrics.clone()).led_by(lead.clone()), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_after_the_end_of_a_lead_is_held_back_and_one_that_was_under_way_is_counted() {
        let (lead, metrics) = (Lead::elected(), Arc::new(Metrics::default()));
        let (writer, asked) = writer(&lead, &metrics, 409);
        let tells = |line: &str| assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
        lead.leads(Some(Instant::now() + Duration::from_secs(30)));
        writer.used("a", "ci", &[]).await.unwrap_err();
        assert!(!metrics.text().contains("late_writes_total{"), "a conflict of a leader is usual");
        lead.leads(Some(Instant::now() + Duration::from_secs(3)));
        writer.used("a", "ci", &[]).await.unwrap_err();
        tells(r#"tokenry_late_writes_total{stopped_by="precondition"} 1"#);
        assert!(timeout(Duration::from_secs(3_600), writer.used("a", "ci", &[])).await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 2, "it was not sent");
        tells(r#"tokenry_late_writes_total{stopped_by="deadline"} 1"#);
        lead.leads(Some(Instant::now() + Duration::from_secs(30)));
        writer.used("a", "ci", &[]).await.unwrap_err();
        assert_eq!(asked.load(Ordering::SeqCst), 3, "renewed just in time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_whose_success_is_answered_after_the_end_of_a_lead_is_counted() {
        let (lead, metrics) = (Lead::elected(), Arc::new(Metrics::default()));
        let (writer, _) = writer(&lead, &metrics, 200);
        lead.leads(Some(Instant::now() + Duration::from_secs(30)));
        writer.used("a", "ci", &[]).await.unwrap();
        assert!(!metrics.text().contains("late_writes_total{"), "it is answered in time");
        lead.leads(Some(Instant::now() + Duration::from_secs(3)));
        writer.used("a", "ci", &[]).await.unwrap();
        assert!(metrics.text().contains(r#"tokenry_late_writes_total{stopped_by="nothing"} 1"#), "{}", metrics.text());
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_election_a_process_always_writes_and_with_one_not_before_it_leads() {
        let metrics = Arc::new(Metrics::default());
        let (alone, asked) = writer(&Lead::default(), &metrics, 409);
        alone.used("a", "ci", &[]).await.unwrap_err();
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let lead = Lead::elected();
        assert!(lead.is_elected() && !lead.holds());
        assert!(timeout(Duration::from_secs(3_600), lead.begun()).await.is_err());
        lead.leads(Some(Instant::now() + Duration::from_secs(3)));
        lead.begun().await;
        assert!(lead.holds());
    }

    #[test]
    fn a_standby_is_ready_once_the_lease_was_read_and_stays_so_without_an_api_server() {
        let lead = Lead::elected();
        assert_eq!(lead.missing(), Err("waiting for the Lease of the leader".into()));
        lead.answered(Err(&Why::Forbidden("m".into())));
        assert_eq!(lead.missing(), Err("waiting for the Lease of the leader: forbidden".into()));
        lead.answered(Ok(()));
        lead.answered(Err(&Why::Unavailable("m".into())));
        lead.answered(Err(&Why::Stale));
        assert_eq!(lead.missing(), Ok(()));
        assert_eq!(Lead::default().missing(), Ok(()));
    }
}
