//! The requests of operator and verifier through the hour, from the audit log of the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use controlplane::AuditEvent;

use crate::Told;

#[derive(Default)]
pub struct Audit {
    requests: usize,
    /// The requests that were answered with 409, by their sort. They changed nothing.
    conflicts: BTreeMap<String, usize>,
    forbidden: usize,
    /// The sorts of requests of which the last one was forbidden.
    closed: BTreeSet<String>,
}

impl Audit {
    /// Counts these requests.
    pub fn count(&mut self, events: &[AuditEvent]) {
        self.requests += events.len();
        for event in events.iter().filter(|event| !event.is_try_to_forge()) {
            let component = event.user.rsplit('-').next().unwrap_or_default();
            // A watch that begins with all objects takes the place of a list.
            let verb = if ["get", "list", "watch"].contains(&&*event.verb) { "read" } else { &event.verb };
            let sort = format!("{component}: {verb} {}/{}", event.resource, event.subresource);
            match event.code {
                ..300 => drop(self.closed.remove(&sort)),
                403 => {
                    self.forbidden += 1;
                    self.closed.insert(sort);
                }
                409 => *self.conflicts.entry(sort).or_default() += 1,
                _ => (),
            }
        }
    }

    /// Fails if a sort of requests was forbidden until the end. An API server that starts forbids requests for a
    /// moment, because it does not know the roles yet.
    pub fn nothing_stayed_forbidden(&self) -> Told {
        if self.closed.is_empty() { Ok(()) } else { Err(format!("these requests are forbidden: {:?}", self.closed)) }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, conflicts, forbidden, closed: _ } = self;
        write!(f, "{requests} requests of operator and verifier, of which {forbidden} were forbidden for a moment; ")?;
        write!(f, "conflicts: {conflicts:?}")
    }
}
