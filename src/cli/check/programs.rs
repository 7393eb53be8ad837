//! The Pods of the operator and of the verifier, and the answers of their probe ports.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::Value;

use super::samples;
use crate::{
    cli::{Duties, duties},
    outside::{
        Clock, SystemClock, Why,
        survey::{PodPort, Survey},
    },
};

/// The label that all objects of the chart have, as a selector in a path.
const OURS: &str = "app.kubernetes.io%2Fpart-of%3Dtokenry";
/// The label with the program of a Pod.
const COMPONENT: &str = "app.kubernetes.io/component";
/// The label with the version of the chart's program.
const VERSION: &str = "app.kubernetes.io/version";
/// The name of the port for probes and metrics.
const PROBES: &str = "probes";

/// One of the two programs of Tokenry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Mints and delivers values.
    Operator,
    /// Judges requests.
    Verifier,
}

impl Program {
    /// The word for the program, as in the label of its Pods.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Verifier => "verifier",
        }
    }
}

/// The Pods of Tokenry in one namespace.
pub(crate) struct Programs {
    /// The namespace.
    pub(crate) namespace: String,
    /// The Pods that are not ending, by their names.
    pub(crate) pods: Vec<ProgramPod>,
}

/// A Pod of the operator or of the verifier.
pub(crate) struct ProgramPod {
    pub(crate) program: Program,
    pub(crate) name: String,
    /// True if the kubelet reports the Pod as ready.
    pub(crate) is_ready: bool,
    /// The version of the chart that made the Pod.
    pub(super) labelled: Option<String>,
    /// The name of its core ServiceAccount.
    pub(super) account: String,
    /// The duties that its command line gives it. `None`: this program does not know that command line.
    pub(super) duties: Option<Duties>,
    /// Its port for probes. `None`: it has none.
    pub(super) port: Option<PodPort>,
    /// The answers of that port.
    pub(super) probed: Result<ProbeAnswers, Why>,
}

/// The answers of a port for probes.
pub(super) struct ProbeAnswers {
    /// The answer of `/readyz`: the missing condition, or none.
    pub(super) unready: Option<String>,
    /// The metrics. Empty: the program serves them only to callers that prove themselves.
    pub(super) metrics: String,
    /// The distance of its clock from the clock of this machine. `None` if the answer has no time.
    pub(super) ahead: Option<SignedDuration>,
}

impl Programs {
    /// The Pods in `namespace`, with the answers of their ports.
    ///
    /// # Errors
    /// The API server refused the list, or did not answer.
    pub(crate) async fn read(survey: &Survey, namespace: &str) -> Result<Self, Why> {
        let list = survey.object(&format!("/api/v1/namespaces/{namespace}/pods?labelSelector={OURS}")).await?;
        let mut pods = Vec::new();
        for pod in list["items"].as_array().into_iter().flatten() {
            let Some(mut pod) = ProgramPod::of(namespace, pod) else { continue };
            if let Some(port) = &pod.port {
                pod.probed = probe(survey, port).await;
            }
            pods.push(pod);
        }
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { namespace: namespace.to_owned(), pods })
    }

    /// The Pods of `program`.
    pub(crate) fn of(&self, program: Program) -> impl Iterator<Item = &ProgramPod> + Clone {
        self.pods.iter().filter(move |pod| pod.program == program)
    }
}

impl ProgramPod {
    /// Reads a Pod. `None` if it is ending or is no Pod of the two programs.
    fn of(namespace: &str, pod: &Value) -> Option<Self> {
        let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let has_ended = ["Succeeded", "Failed"].contains(&status["phase"].as_str().unwrap_or_default());
        if has_ended || !meta["deletionTimestamp"].is_null() {
            return None;
        }
        let component = meta["labels"][COMPONENT].as_str()?;
        let program = [Program::Operator, Program::Verifier].into_iter().find(|one| one.name() == component)?;
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let is_ready = { conditions }.any(|one| one["type"] == "Ready" && one["status"] == "True");
        let containers = spec["containers"].as_array().into_iter().flatten();
        let container = { containers }.find(|one| one["name"] == component)?;
        let arguments: Vec<_> = container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let ports = container["ports"].as_array().into_iter().flatten();
        let port = { ports }.find(|port| port["name"] == PROBES).and_then(|port| port["containerPort"].as_u64());
        let name = text(&meta["name"]);
        let port = port.and_then(|port| u16::try_from(port).ok());
        Some(Self {
            program,
            is_ready,
            labelled: meta["labels"][VERSION].as_str().map(str::to_owned),
            account: text(&spec["serviceAccountName"]),
            duties: duties(&arguments),
            port: port.map(|port| PodPort { namespace: namespace.to_owned(), pod: name.clone(), port }),
            probed: Err(Why::Unavailable("the Pod names no port for probes".into())),
            name,
        })
    }

    /// The version of the program: that which it tells itself, or else that of its chart.
    pub(crate) fn version(&self) -> Option<String> {
        let told = self.probed.as_ref().ok().and_then(|probed| samples::label(&probed.metrics, BUILD));
        told.or_else(|| self.labelled.clone())
    }

    /// The objects in the index of a verifier, by kind. `None` if the verifier could not be asked, or serves its
    /// metrics only to callers that prove themselves.
    pub(super) fn objects(&self) -> Option<BTreeMap<String, KnownKind>> {
        Some(self.probed.as_ref().ok()?.objects()).filter(|objects| !objects.is_empty())
    }
}

impl ProbeAnswers {
    /// The objects in the index of a verifier, by kind.
    pub(super) fn objects(&self) -> BTreeMap<String, KnownKind> {
        let digests: BTreeMap<_, _> = samples::by_label(&self.metrics, DIGEST).collect();
        let known = |(kind, count): (String, f64)| {
            let digest = digests.get(&kind).map(|digest| *digest as u64);
            (kind, KnownKind { count: count as u64, digest })
        };
        samples::by_label(&self.metrics, OBJECTS).map(known).collect()
    }
}

/// The objects of a kind in the index of a verifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownKind {
    pub(super) count: u64,
    /// The digest of their versions. `None`: a verifier of an older release, which tells none.
    pub(super) digest: Option<u64>,
}

/// The metric whose label is the version of the program.
const BUILD: &str = "tokenry_build_info";
/// The metric of the objects in the index.
const OBJECTS: &str = "tokenry_verifier_objects";
/// The metric of the digest of their versions.
const DIGEST: &str = "tokenry_verifier_objects_digest";

/// Asks a port for probes.
pub(super) async fn probe(survey: &Survey, port: &PodPort) -> Result<ProbeAnswers, Why> {
    let ready = survey.pod(port, "/readyz").await?;
    let here = SystemClock.now();
    let ahead = ready.date().map(|there| there.duration_since(here));
    let metrics = survey.pod(port, "/metrics").await?;
    let metrics = if metrics.status == 200 { metrics.text } else { String::new() };
    let unready = (ready.status != 200).then(|| ready.text.trim().to_owned());
    Ok(ProbeAnswers { unready, metrics, ahead })
}
