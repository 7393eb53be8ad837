//! External authorization of Envoy over gRPC: the question of a caller, and a server that judges nothing.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::Router;
use envoy_types::ext_authz::v3::{CheckResponseExt, pb};
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext,
    attribute_context::{HttpRequest, Request as Requesting},
    authorization_client::AuthorizationClient,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use tokenry::access::header::{IDENTITY, underscored};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{Outcome, objects};

/// A connection by HTTP/2.
pub struct Caller(AuthorizationClient<Channel>);

impl Caller {
    pub async fn connect(address: SocketAddr) -> Outcome<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        Ok(Self(AuthorizationClient::new(endpoint.connect().await?)))
    }

    /// Asks about a caller with this credential. Returns the time and the status of the answer.
    pub async fn ask(&mut self, credential: &str) -> Outcome<(Duration, String)> {
        let question = question(credential);
        let began = Instant::now();
        let answer = self.0.check(question).await?.into_inner();
        let took = began.elapsed();
        let status = match answer.http_response {
            Some(pb::HttpResponse::OkResponse(_)) => 200,
            Some(pb::HttpResponse::DeniedResponse(denied)) => denied.status.map_or(0, |status| status.code),
            Some(pb::HttpResponse::ErrorResponse(_)) | None => 0,
        };
        Ok((took, status.to_string()))
    }
}

/// The question of an Envoy about the request that the other callers ask about.
fn question(credential: &str) -> pb::CheckRequest {
    let headers = [
        (":authority", "shop.example.com"),
        (":method", "POST"),
        (":path", "/eem/topics/x?key=1"),
        (":scheme", "https"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("authorization", &format!("Bearer {credential}")),
        ("user-agent", "curl/7.88.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "443df6f7-d8e1-4bb9-81e2-9bb7946ffd85"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let http = HttpRequest {
        method: "POST".into(),
        path: "/eem/topics/x?key=1".into(),
        host: "shop.example.com".into(),
        scheme: "https".into(),
        headers,
        ..HttpRequest::default()
    };
    let request = Some(Requesting { http: Some(http), ..Requesting::default() });
    let instance = format!("{}/{}", objects::NAMESPACE, objects::INSTANCE);
    let context_extensions = HashMap::from([("tokenry.dev/instance".to_owned(), instance)]);
    pb::CheckRequest { attributes: Some(AttributeContext { request, context_extensions, ..Default::default() }) }
}

/// The route of a server that answers each question with as many headers, and judges nothing.
pub fn no_op() -> Router {
    let server = pb::AuthorizationServer::new(NoOp(answer()));
    Router::new().route_service("/envoy.service.auth.v3.Authorization/Check", server)
}

struct NoOp(pb::CheckResponse);

#[tonic::async_trait]
impl pb::Authorization for NoOp {
    async fn check(&self, _: Request<pb::CheckRequest>) -> Result<Response<pb::CheckResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}

fn answer() -> pb::CheckResponse {
    const SUBJECT: &str = "account:events/topic-exporter-00001";
    let header = |name: &str| pb::HeaderValueOption {
        header: Some(pb::HeaderValue { key: name.into(), value: SUBJECT.into(), ..Default::default() }),
        append_action: pb::HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: true,
        ..Default::default()
    };
    let ok = pb::OkHttpResponse {
        headers: IDENTITY.iter().map(|name| header(name.as_str())).collect(),
        headers_to_remove: underscored().to_vec(),
        response_headers_to_add: vec![header("x-request-id")],
        ..Default::default()
    };
    let field = |name: &str| (name.to_owned(), Value { kind: Some(Kind::StringValue(SUBJECT.into())) });
    let fields = ["subject", "token_id", "role", "organization", "owner"].map(field).into();
    let mut message = pb::CheckResponse::with_status(Status::ok(""));
    message.set_http_response(ok).set_dynamic_metadata(Some(Struct { fields }));
    message
}
