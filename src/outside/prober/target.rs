//! A probe and its answer, as data.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use crate::crd::instance::Scheme;

/// The place that a probe leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeReach {
    /// The URI that clients use. Certificates are verified by the roots of the system, and by `ca` of the target.
    Published,
    /// A Service in the cluster. Its certificate is not verified.
    Inside,
}

/// A place to probe, the realm to find there, and the rules for asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// The place that the probe leads to.
    pub reach: ProbeReach,
    /// The protocol.
    pub scheme: Scheme,
    /// The DNS name or the address, as in a URI.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The realm of our challenge: `tokenry/NAMESPACE/NAME`.
    pub realm: String,
    /// The state of the place that an answer is about, such as a digest. With another state, older answers do not
    /// count.
    pub about: String,
    /// The time from one probe to the next.
    pub interval: SignedDuration,
    /// The time for one probe, from the look-up of the name to the head of the answer.
    pub timeout: SignedDuration,
    /// Further roots for the certificate, in PEM.
    pub ca: Option<Arc<str>>,
}

impl ProbeTarget {
    /// The fields that say which question is asked, and of which place.
    pub(super) fn question(&self) -> (ProbeReach, &str, &str, u16, &str, &str) {
        (self.reach, self.scheme.as_str(), &self.host, self.port, &self.realm, &self.about)
    }

    fn rules(&self) -> (SignedDuration, SignedDuration, Option<&str>) {
        (self.interval, self.timeout, self.ca.as_deref())
    }
}

impl Hash for ProbeTarget {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.question(), self.rules()).hash(state);
    }
}

impl PartialOrd for ProbeTarget {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ProbeTarget {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.question(), self.rules()).cmp(&(other.question(), other.rules()))
    }
}

/// The class of a probe's answer. Nothing else of an answer is kept: no header, body or certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeAnswer {
    /// Status 401, and a challenge with the realm of the target.
    Challenge,
    /// Any other answer, by its status code.
    Status(u16),
    /// The name has no address, or its look-up takes too long.
    Dns,
    /// The name leads only to addresses that must not be asked.
    Barred,
    /// No address takes a connection in time.
    Connect,
    /// The TLS handshake fails or takes too long, or the certificate is not trusted.
    Tls,
    /// There is a connection, and no answer in HTTP comes in time.
    Silent,
}

/// The last answer of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The answer.
    pub answer: ProbeAnswer,
    /// The start of the probe: the answer is younger than this time.
    pub at: Timestamp,
    /// The start of the first probe with this answer in a row.
    pub since: Timestamp,
}
