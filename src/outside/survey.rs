//! The API server as the checks of an installation ask it: answers to paths, answers of Pods behind it, and dry runs.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{
    HeaderMap, Method, Request, StatusCode,
    header::{ACCEPT, DATE},
};
use jiff::{Timestamp, fmt::rfc2822};
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, PostParams},
    core::{ApiResource, Status},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Desk, Extent, Why, refusal::with_causes, rights};
use crate::crd::ApiToken;

/// The longest wait for an answer. The API server itself waits longer for a Pod whose node is gone.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 32 << 20;

/// An answer of the API server, or of a Pod behind it.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// The status code of HTTP.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body. Bytes that are no UTF-8 are replaced.
    pub text: String,
}

impl HttpReply {
    /// The time at which the server answered, by its own clock, in whole seconds. `None` if the answer has no time.
    pub fn date(&self) -> Option<Timestamp> {
        let text = self.headers.get(DATE)?.to_str().ok()?;
        Some(rfc2822::parse(text).ok()?.timestamp())
    }
}

/// The port of a Pod, for requests by way of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// The namespace of the Pod.
    pub namespace: String,
    /// The name of the Pod.
    pub pod: String,
    /// The number of the port.
    pub port: u16,
}

/// The API server as the checks of an installation ask it.
#[derive(Clone)]
pub struct Survey {
    client: Client,
}

impl Desk {
    /// The same API server and user, for checks.
    pub fn survey(&self) -> Survey {
        Survey { client: self.client().clone() }
    }
}

impl Survey {
    /// The answer to a GET request for `path`, of any status.
    ///
    /// # Errors
    /// The API server refused the request, or nobody answered within ten seconds.
    pub async fn get(&self, path: &str) -> Result<HttpReply, Why> {
        self.send(Method::GET, path, HeaderMap::new()).await
    }

    /// The object or the list at `path`.
    ///
    /// # Errors
    /// The API server refused the request, nobody answered, or the answer is no JSON.
    pub async fn object(&self, path: &str) -> Result<Value, Why> {
        let reply = self.get(path).await?;
        match StatusCode::from_u16(reply.status) {
            Ok(status) if status.is_success() => serde_json::from_str(&reply.text).map_err(|_| Why::unreadable()),
            Ok(StatusCode::NOT_FOUND) => Err(Why::Gone),
            _ => Err(Why::unserved(reply.status, "")),
        }
    }

    /// The answer of a Pod to a GET request for `path`.
    ///
    /// # Errors
    /// As of [`get`](Self::get). [`Why::Forbidden`]: the user may not `get` `pods/proxy`.
    pub async fn pod(&self, PodPort { namespace, pod, port }: &PodPort, path: &str) -> Result<HttpReply, Why> {
        self.get(&format!("/api/v1/namespaces/{namespace}/pods/http:{pod}:{port}/proxy{path}")).await
    }

    /// The answer to a request for `path`, of any status.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub async fn send(&self, method: Method, path: &str, headers: HeaderMap) -> Result<HttpReply, Why> {
        let late = |_| Why::Unavailable(format!("no answer within {} s", LIMIT.as_secs()));
        timeout(LIMIT, self.exchange(method, path, headers)).await.map_err(late)?
    }

    async fn exchange(&self, method: Method, path: &str, headers: HeaderMap) -> Result<HttpReply, Why> {
        let mut request = Request::new(kube::client::Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| Why::Invalid(format!("{path} is no path")))?;
        *request.headers_mut() = headers;
        request.headers_mut().entry(ACCEPT).or_insert(http::HeaderValue::from_static("application/json, */*"));
        let (parts, body) = self.client.send(request).await?.into_parts();
        let bytes = to_bytes(Body::new(body), LONGEST).await.map_err(|error| Why::Unavailable(with_causes(&error)))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let of_server = |status: &Status| !parts.status.is_success() && status.code == parts.status.as_u16();
        match serde_json::from_str::<Status>(&text).ok().filter(of_server) {
            Some(status) => Err(Why::of_status(&status)),
            None => Ok(HttpReply { status: parts.status.as_u16(), headers: parts.headers, text }),
        }
    }

    /// Reviews permissions of `holder` at `place`: true for each that it has.
    pub async fn review<'a>(
        &self,
        holder: &rights::Holder,
        place: impl Into<rights::RightPlace<'a>>,
        wanted: &[rights::Right],
    ) -> Vec<rights::Reviewed> {
        rights::review(&self.client, holder, place, wanted).await
    }

    /// The permissions that a holder has as a program that serves `scope`.
    pub async fn review_within(
        &self,
        holder: &rights::Holder,
        scope: &Extent,
        wanted: &[rights::Right],
    ) -> Vec<rights::Reviewed<rights::LocalRight>> {
        rights::review_within(&self.client, holder, scope, wanted).await
    }

    /// Creates an ApiToken as a dry run, and returns it as the API server would keep it.
    ///
    /// # Errors
    /// The API server or an admission policy refused it, or nobody answered.
    pub async fn rehearse(&self, namespace: &str, metadata: Value, spec: Value) -> Result<Value, Why> {
        let resource = ApiResource::erase::<ApiToken>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let object = json!({
            "apiVersion": ApiToken::api_version(&()), "kind": ApiToken::kind(&()), "metadata": metadata, "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).map_err(|_| Why::unreadable())?;
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let created = timeout(LIMIT, api.create(&params, &object)).await;
        Ok(created.map_err(|_| Why::Unavailable("no answer in time".into()))??.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Response};
    use std::convert::Infallible;

    fn server(status: u16, text: &'static str) -> Survey {
        let serve = move |_: Request<kube::client::Body>| async move {
            let body = kube::client::Body::from(text.as_bytes().to_vec());
            let date = HeaderValue::from_static("Sun, 29 Nov 2026 18:06:08 GMT");
            Ok::<_, Infallible>(Response::builder().status(status).header(DATE, date).body(body).unwrap())
        };
        Survey { client: Client::new(tower::service_fn(serve), "a") }
    }

    const FORBIDDEN: &str = r#"{"kind": "Status", "status": "Failure", "code": 403, "message": "m", "reason": "r"}"#;

    #[tokio::test]
    async fn an_answer_of_a_pod_is_told_from_a_refusal_of_the_api_server() {
        let port = PodPort { namespace: "a".into(), pod: "b".into(), port: 1 };
        let reply = server(503, "waiting\n").pod(&port, "/readyz").await.unwrap();
        assert_eq!((reply.status, &*reply.text), (503, "waiting\n"));
        assert_eq!(reply.date(), Some("2026-11-29T18:06:08Z".parse().unwrap()));
        let refused = server(403, FORBIDDEN).pod(&port, "/readyz").await;
        assert_eq!(refused.unwrap_err(), Why::Forbidden("m".into()));
    }

    #[tokio::test]
    async fn an_object_that_is_not_served_is_gone_and_one_that_is_no_json_is_unreadable() {
        assert_eq!(server(404, "404 page not found").object("/x").await, Err(Why::Gone));
        assert_eq!(server(200, "<html>").object("/x").await, Err(Why::unreadable()));
        assert_eq!(server(200, r#"{"a": 1}"#).object("/x").await.unwrap()["a"], 1);
    }
}
