//! The source of the verifiers' objects: it answers lists and watches like an API server, from objects that it makes
//! up.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures::{FutureExt, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

use crate::{Outcome, objects};

/// The version of all lists. Nothing ever changes.
const VERSION: &str = "1";

/// The objects of one verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    pub tokens: usize,
    /// With roles, and this number of policies. 0: every valid token is let in.
    pub policies: usize,
}

impl Content {
    /// Serves the objects on loopback until the runtime ends. Returns the path of a kubeconfig for it.
    pub async fn serve(self) -> Outcome<PathBuf> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = format!("http://{}", listener.local_addr()?);
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": server}}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        });
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{}.json", self.tokens, self.policies));
        std::fs::write(&path, kubeconfig.to_string())?;
        let router = Router::new().fallback(answer).with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(path)
    }

    /// A page of a list, or a watch that reports nothing until it times out.
    fn read(self, request: &Request) -> Response {
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let asked: HashMap<_, _> = form_urlencoded::parse(query).collect();
        let number = |name| asked.get(name).and_then(|text| text.parse::<usize>().ok());
        if asked.contains_key("watch") {
            let last = Duration::from_secs(number("timeoutSeconds").unwrap_or_default() as u64);
            let end = sleep(last).map(|()| Ok::<_, std::io::Error>(String::new()));
            return Body::from_stream(stream::once(end)).into_response();
        }
        let kind = request.uri().path().rsplit('/').next().unwrap_or_default();
        let (all, from) = (self.count(kind), number("continue").unwrap_or_default());
        let to = number("limit").map_or(all, |limit| all.min(from + limit));
        let items: Vec<_> = (from..to).map(|n| self.object(kind, n)).collect();
        let next = if to < all { to.to_string() } else { String::new() };
        let list = if kind == "namespaces" { "PartialObjectMetadataList" } else { "List" };
        let metadata = json!({"resourceVersion": VERSION, "continue": next});
        told(StatusCode::OK, &json!({"kind": list, "apiVersion": "v1", "metadata": metadata, "items": items}))
    }

    fn count(self, kind: &str) -> usize {
        match kind {
            "apitokens" | "serviceaccounts" => self.tokens,
            "accesspolicies" => self.policies,
            "instances" | "namespaces" => 1,
            _ => 0,
        }
    }

    fn object(self, kind: &str, n: usize) -> Value {
        match kind {
            "apitokens" => objects::token(n),
            "serviceaccounts" => objects::account(n),
            "accesspolicies" => objects::policy(n),
            "instances" => objects::instance(self.policies > 0),
            _ => json!({"metadata": {"name": objects::NAMESPACE, "resourceVersion": VERSION}}),
        }
    }
}

/// Answers reads of a kind, and questions about permissions. The verifier may do anything that it asks about.
async fn answer(State(content): State<Content>, request: Request) -> Response {
    if request.method() == Method::GET {
        return content.read(&request);
    }
    let is_question = request.method() == Method::POST;
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    if is_question && let Ok(mut review) = serde_json::from_slice::<Value>(&body) {
        review["status"] = json!({"allowed": true});
        return told(StatusCode::CREATED, &review);
    }
    // All writes are refused, like a verifier's write of a record.
    let refusal = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403});
    told(StatusCode::FORBIDDEN, &refusal)
}

fn told(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
