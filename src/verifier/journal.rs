//! The journal of the door: counts each decision, and writes it to the audit log.

use std::sync::Arc;

use super::{Asking, Cause, Verdict, audit, origin::RequestIds};
use crate::outside::metrics::Metrics;

/// Counts each decision, and writes it to the audit log.
pub struct Journal {
    metrics: Arc<Metrics>,
    ids: RequestIds,
}

impl Journal {
    /// A journal that counts in `metrics`. `process` is a random text, which keeps the request ids of several verifiers
    /// apart.
    pub fn new(metrics: Arc<Metrics>, process: String) -> Self {
        Self { metrics, ids: RequestIds::new(process) }
    }

    /// The maker of request ids.
    pub(crate) fn ids(&self) -> &RequestIds {
        &self.ids
    }

    /// The metrics that the journal counts in.
    #[cfg(test)]
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Notes a decision.
    pub(crate) fn note(&self, asking: &Asking<'_>, verdict: &Verdict) {
        let cause = verdict.cause;
        if cause == Cause::Probe {
            self.metrics.probe();
        } else {
            self.metrics.verdict(cause.category().code(), cause.as_str());
        }
        audit::write(asking, verdict);
    }
}
