//! A client whose requests are counted.

use std::sync::Arc;

use http::Request;
use kube::{Client, client::Body};
use tower::service_fn;

use super::metrics::Metrics;

/// The same client, whose requests are counted in `metrics` by method and status code, as `rest_client_requests_total`
/// of client-go. A watch counts once, at its beginning. There is no label for the host: a process has one API server.
pub fn counted(client: &Client, metrics: &Arc<Metrics>) -> Client {
    let (client, namespace) = (client.clone(), client.default_namespace().to_owned());
    let counting = metrics.clone();
    let service = service_fn(move |request: Request<Body>| {
        let (client, metrics, method) = (client.clone(), counting.clone(), request.method().clone());
        async move {
            let answer = client.send(request).await;
            metrics.request(&method, answer.as_ref().ok().map(http::Response::status));
            answer
        }
    });
    Client::new(service, namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::Why;
    use http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, api::PostParams};
    use serde_json::json;

    #[tokio::test]
    async fn each_request_is_counted_by_method_and_code_and_answered_as_before() {
        let serve = |request: Request<Body>| async move {
            let refusal =
                json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "message": "m", "code": 409});
            let object = json!({"metadata": {"name": "a", "namespace": "here"}});
            match (request.method().as_str(), request.uri().path()) {
                ("GET", path) if path.starts_with("/api/v1/namespaces/here/") => Ok((200, object)),
                ("POST", _) => Ok((409, refusal)),
                _ => Err(std::io::Error::other("the connection broke")),
            }
            .map(|(code, body)| {
                Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).expect("valid")
            })
        };
        let metrics = Arc::new(Metrics::default());
        let client = counted(&Client::new(service_fn(serve), "here"), &metrics);
        let (here, elsewhere) = (Api::<ConfigMap>::default_namespaced(client.clone()), Api::<ConfigMap>::all(client));
        assert_eq!(here.get("a").await.unwrap().metadata.name.as_deref(), Some("a"));
        let refused = here.create(&PostParams::default(), &ConfigMap::default()).await.unwrap_err();
        assert_eq!(Why::from(refused), Why::Stale);
        let broken = Why::from(elsewhere.list(&Default::default()).await.unwrap_err());
        assert!(matches!(&broken, Why::Unavailable(why) if why.contains("the connection broke")), "{broken:?}");
        let text = metrics.text();
        for (code, method) in [("200", "GET"), ("409", "POST"), ("<error>", "GET")] {
            let line = format!("rest_client_requests_total{{code=\"{code}\",method=\"{method}\"}} 1\n");
            assert!(text.contains(&line), "{line} is missing from\n{text}");
        }
    }
}
