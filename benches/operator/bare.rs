//! The bare client: three writes per token, and nothing else. It uses the cheapest requests: PUT if it knows the whole
//! object, POST if the object does not exist.

use futures::{TryStreamExt, stream};
use http::{HeaderValue, header::ACCEPT};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, PostParams},
    core::{PartialObjectMeta, Request},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokenry::{
    crd::name,
    outside::{Entropy, SystemEntropy, connect},
    token::format,
};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

use crate::Outcome;

/// Concurrent tokens: as many as the operator handles in one namespace.
const CONCURRENCY: usize = 12;

/// The bare client's writes, without the parts that differ between tokens. The operator's first token is the model.
#[derive(Clone, Serialize, Deserialize)]
pub struct Template {
    pub namespace: String,
    /// The kind of the tokens, or of the small objects in their place.
    pub kind: ApiResource,
    /// Status before the Secret exists.
    pub recorded: Value,
    /// Status after the Secret exists.
    pub settled: Value,
    pub secret: Value,
}

/// A created token.
#[derive(Serialize, Deserialize)]
pub struct Job {
    pub name: String,
    pub uid: String,
    pub version: String,
    pub spec: Value,
}

/// Reads a template and then jobs from standard input, one per line, until the input ends.
pub async fn main() -> Outcome {
    let mut lines = BufReader::new(stdin()).lines();
    let template: Template = serde_json::from_str(&lines.next_line().await?.ok_or("no template")?)?;
    let client = connect::client().await?;
    let jobs = stream::unfold(lines, async |mut lines| Some((lines.next_line().await.transpose()?, lines)));
    jobs.map_err(Into::into)
        .try_for_each_concurrent(CONCURRENCY, |line| {
            let (template, client) = (template.clone(), client.clone());
            async move { template.issue(client, &serde_json::from_str(&line)?).await }
        })
        .await
}

const ENTROPY: &dyn Entropy = &SystemEntropy;

impl Template {
    async fn issue(mut self, client: Client, job: &Job) -> Outcome {
        let (id, secret) = (ENTROPY.base62(format::ID)?, ENTROPY.base62(format::SECRET)?);
        let value = format::assemble("tkn", &id, &secret);
        for status in [&mut self.recorded, &mut self.settled] {
            status["records"][0]["id"] = json!(*id);
            status["records"][0]["sha256"] = json!(value.digest());
        }
        let tokens = Request::new(DynamicObject::url_path(&self.kind, Some(&self.namespace)));
        let status = async |version: &str, status: &Value| {
            let whole = json!({
                "apiVersion": self.kind.api_version, "kind": self.kind.kind, "spec": job.spec, "status": status,
                "metadata": {"name": job.name, "namespace": self.namespace, "uid": job.uid, "resourceVersion": version},
            });
            let body = serde_json::to_vec(&whole)?;
            send(&client, tokens.replace_subresource("status", &job.name, &PostParams::default(), body)?).await
        };
        let recorded = status(&job.version, &self.recorded).await?;
        let metadata = &mut self.secret["metadata"];
        metadata["name"] = json!(job.name);
        metadata["labels"][name::OWNER_UID] = json!(job.uid);
        metadata["annotations"][name::TOKEN_ID] = json!(*id);
        metadata["ownerReferences"][0]["name"] = json!(job.name);
        metadata["ownerReferences"][0]["uid"] = json!(job.uid);
        // The body of a typed client: all values are base64-encoded.
        let mut secret: Secret = serde_json::from_value(self.secret)?;
        let data = secret.data.get_or_insert_default();
        data.insert("token".into(), k8s_openapi::ByteString(value.expose().as_bytes().to_vec()));
        data.insert("token-id".into(), k8s_openapi::ByteString(id.as_bytes().to_vec()));
        let secrets = Request::new(Secret::url_path(&(), Some(&self.namespace)));
        send(&client, secrets.create(&PostParams::default(), serde_json::to_vec(&secret)?)?).await?;
        status(&recorded.resource_version().unwrap_or_default(), &self.settled).await?;
        Ok(())
    }
}

/// Sends a request. Like the operator, it requests only the metadata in the answer.
async fn send(client: &Client, mut request: http::Request<Vec<u8>>) -> Outcome<PartialObjectMeta<DynamicObject>> {
    const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static(METADATA));
    Ok(client.request(request).await?)
}
