//! Access to everything that the story shows: the status of tokens, the Secrets, and the answers to requests to the
//! API.

use std::{fmt, time::Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use reqwest::header::{AUTHORIZATION, HOST, HeaderMap};
use serde_json::Value;
use tokenry::{
    crd::{ApiToken, api_token::ApiTokenStatus, secret},
    token::{Digest, Record, State},
};

use super::{
    NAMESPACE, Told,
    actor::{Actor, eventually, http},
    cluster::{Cluster, Place, on_path},
    edge::{self, Edge},
    root,
};

/// The Instance of the story.
pub const INSTANCE: &str = "shop";

/// The cluster with a running operator and verifier, and Traefik in front of the API.
pub struct Stage<'a> {
    pub operator: Actor,
    pub verifier: Actor,
    pub edge: Edge,
    cluster: &'a Cluster,
    start: Instant,
}

/// An answer to a request to the API. It comes from the API, or from Traefik in its place.
pub struct Answer {
    status: u16,
    headers: HeaderMap,
    pub body: String,
}

/// A generation with its record and the value from the Secret. The value is never printed.
pub struct Generation {
    pub record: Record,
    value: String,
}

/// Formats the public part of the value: its prefix and the first characters of its id.
impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        let prefix = self.value.split('_').next().unwrap_or_default();
        write!(f, "{prefix}_{:.SHOWN$}…", self.record.id)
    }
}

impl<'a> Stage<'a> {
    /// Also starts the clock of the story.
    pub fn new(cluster: &'a Cluster, operator: Actor, verifier: Actor, edge: Edge) -> Self {
        Self { operator, verifier, edge, cluster, start: Instant::now() }
    }

    /// Leads the port with this name of the Service of the endpoint to the API.
    pub fn lead(&self, port: &str) -> Told {
        self.cluster.apply(&edge::slice(self.edge.api, port))
    }

    /// Seconds since the start of the story.
    pub fn seconds(&self) -> f32 {
        self.start.elapsed().as_secs_f32()
    }

    /// Runs kubectl in the namespace of the demo and returns its output.
    pub fn kubectl(&self, args: &[&str]) -> Told<String> {
        self.cluster.kubectl(&[args, &["--namespace", NAMESPACE]].concat(), "")
    }

    /// Creates an object as `user`, as a dry run. Returns the answer of the API server. Nothing is created.
    pub fn attempt(&self, user: &str, object: &Value) -> Told<String> {
        let args = ["create", "--as", user, "--dry-run=server", "--namespace", NAMESPACE, "-f", "-"];
        self.cluster.kubectl(&args, &object.to_string())
    }

    /// Changes the spec of a token by a merge patch.
    pub fn change(&self, token: &str, spec: &Value) -> Told<String> {
        let patch = serde_json::json!({ "spec": spec }).to_string();
        self.kubectl(&["patch", "apitoken", token, "--type", "merge", "--patch", &patch])
    }

    /// The Secret of this name, if it exists.
    pub async fn secret(&self, name: &str) -> Told<Option<Secret>> {
        let secrets: Api<Secret> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        secrets.get_opt(name).await.map_err(|error| error.to_string())
    }

    /// The status of a token. It is empty if the token or its status does not exist yet.
    pub async fn status(&self, token: &str) -> Told<ApiTokenStatus> {
        let tokens: Api<ApiToken> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        let token = tokens.get_opt(token).await.map_err(|error| error.to_string())?;
        Ok(token.and_then(|token| token.status).unwrap_or_default())
    }

    /// The type, the status and the message of a condition, if it has this reason.
    pub async fn condition(&self, token: &str, type_: &str, reason: &str) -> Told<Option<String>> {
        let conditions = self.status(token).await?.conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == type_ && condition.reason == reason);
        Ok(found.map(|condition| format!("{type_}: {}, {}", condition.status, condition.message)))
    }

    /// The record of a generation in the token's status, if it exists.
    pub async fn record(&self, token: &str, generation: i64) -> Told<Option<Record>> {
        let records = self.status(token).await?.records;
        Ok(records.into_iter().find(|record| record.generation == generation))
    }

    /// The active generation whose value is in the token's Secret. The result is `None` if the Secret and the records
    /// do not match.
    pub async fn held(&self, token: &str) -> Told<Option<Generation>> {
        let value = self.secret(token).await?.and_then(|secret| secret.data?.remove(secret::TOKEN));
        let Some(value) = value.and_then(|value| String::from_utf8(value.0).ok()) else { return Ok(None) };
        let active = |record: &Record| record.state == State::Active && record.sha256 == Digest::of(&value);
        let record = self.status(token).await?.records.into_iter().find(active);
        Ok(record.map(|record| Generation { record, value }))
    }

    /// Waits until the token's Secret holds this generation.
    pub async fn served(&self, token: &str, generation: i64) -> Told<Generation> {
        let look = async || Ok(self.held(token).await?.filter(|held| held.record.generation == generation));
        eventually(&format!("Secret {token} holds generation {generation}"), look).await
    }

    /// Sends a request with a generation's value to the API, through Traefik. `None` is a request without a token. It
    /// is an error if the API answers such a request.
    pub async fn ask(&self, generation: Option<&Generation>) -> Told<Answer> {
        let mut request = http()?.get(format!("http://{}/orders", self.edge.address)).header(HOST, edge::HOST);
        if let Some(generation) = generation {
            request = request.header(AUTHORIZATION, format!("Bearer {}", generation.value));
        }
        let answer = request.send().await.map_err(|error| format!("Traefik does not answer: {error}"))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.text().await.map_err(|error| format!("Traefik does not answer in full: {error}"))?;
        match (generation, status) {
            (None, 200) => Err("the API has answered a request without a token".into()),
            _ => Ok(Answer { status, headers, body }),
        }
    }

    /// Sends the request repeatedly until the answer has this status.
    pub async fn answered(&self, generation: Option<&Generation>, status: u16) -> Told<Answer> {
        let ask = async || Ok(Some(self.ask(generation).await?).filter(|answer| answer.status == status));
        let whose = generation.map_or("without a token".into(), |generation| format!("with {generation}"));
        eventually(&format!("a request {whose} is answered with {status}"), ask).await
    }

    /// Prints a line of the story, with the seconds since its start.
    pub fn tell(&self, word: &str, seen: impl AsRef<str>) {
        let seen = seen.as_ref().replace('\n', &format!("\n{:21}", ""));
        println!("{:6.1} s  {word:<11}{seen}", self.seconds());
    }

    /// Prints commands that the user can try.
    pub fn say_what_to_try(&self) {
        println!("\nEverything runs until Ctrl-C. To try more, open another terminal in {}:\n", root().display());
        let cluster = match &self.cluster.place {
            Place::Own(plane) => {
                println!("  export KUBECONFIG={}", plane.kubeconfig().display());
                String::new()
            }
            Place::Theirs(_) => format!(" {}", self.cluster.flags.join(" ")),
        };
        if on_path("kubectl").is_none() {
            println!("  alias kubectl={}", self.cluster.program.display());
        }
        let kubectl = format!("kubectl{cluster} --namespace {NAMESPACE}");
        println!("  {kubectl} get tokenry");
        println!("  {kubectl} get apitokens --watch");
        println!("  curl -i -H 'Host: {}' {}/orders \\", edge::HOST, self.edge.address);
        println!(
            "    -H \"Authorization: Bearer $({kubectl} get secret exporter -o go-template='{{{{.data.token | base64decode}}}}')\""
        );
        println!(
            "\nThe verifier listens at {}. Metrics: {}/metrics, and {}/metrics of the operator.",
            self.verifier.address, self.verifier.probes, self.operator.probes
        );
    }
}

impl Answer {
    /// Fails if the answer has another status. `whose` names the request, for the error message.
    pub fn must_be(&self, status: u16, whose: &str) -> Told {
        if self.status == status { Ok(()) } else { Err(format!("{whose} was answered with {self}, not with {status}")) }
    }

    /// A header of the answer, or the empty string.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)
    }
}
