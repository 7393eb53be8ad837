//! The external authorization of Envoy over gRPC: `envoy.service.auth.v3.Authorization`.

mod answer;
mod attributes;
mod head;
mod message;
mod metadata;
mod service;

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use axum::{Router, extract::Request, extract::State, routing};
use envoy_types::ext_authz::v3::pb;
use tonic::codegen::Service;

use super::super::{Flaw, origin::REQUEST_ID};
use super::{Door, Protocol, places, proxied};
use head::CallHead;
use service::ExtAuthz;

type EnvoyServer = pb::AuthorizationServer<ExtAuthz>;

/// The route of the method `Check`. The rest of gRPC has no route. Its answers have the HTTP status 200, and a proxy
/// that asks at a wrong path takes that for permission.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let server = EnvoyServer::new(ExtAuthz(door.clone())).max_decoding_message_size(message::LARGEST);
    let route = Router::new().route("/envoy.service.auth.v3.Authorization/Check", routing::any(call));
    route.layer(places::limit()).with_state((door, server))
}

async fn call(State((door, mut server)): State<(Arc<Door>, EnvoyServer)>, question: Request) -> Response {
    let head = CallHead::of(question.headers(), question.extensions());
    let question = match message::whole(question).await {
        Ok(question) => question,
        Err(cause) => {
            let speaks_grpc = ![405, 415].contains(&cause.category().code());
            return message::refused(&door.ask(&head.flawed(cause)).await, speaks_grpc);
        }
    };
    let Ok(answer) = server.call(question).await;
    // The library itself refuses bytes that are no message, with the status of a fault of the server. Then nobody has
    // asked the door.
    if answer.headers().contains_key("grpc-status") && !answer.headers().contains_key(REQUEST_ID) {
        return message::refused(&door.ask(&head.flawed(Flaw::Unreadable.into())).await, true);
    }
    answer.into_response()
}

#[cfg(test)]
mod tests {
    use super::super::forward_auth::tests::names_the_request;
    use super::message::LARGEST;
    use super::*;
    use crate::{
        access::header::{IDENTITY, ROLE},
        outside::{Hearing, server::PeerAddress},
        verifier::{
            StaleAnswers,
            fixture::{audited, door, teach, teach_of, value, verdicts, waiting_for},
        },
    };
    use axum::body::Body;
    use envoy_types::pb::envoy::{
        config::core::v3::{Address, HeaderMap as RawHeaders, HeaderValue as RawHeader, SocketAddress},
        service::auth::v3::{
            AttributeContext,
            attribute_context::{HttpRequest, Peer, Request as Requesting},
            authorization_client::AuthorizationClient,
        },
    };
    use envoy_types::pb::google::protobuf::value::Kind;
    use http::{HeaderMap, header::WWW_AUTHENTICATE};
    use http::{StatusCode, header::CONTENT_TYPE};
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::HashMap;
    use tonic::Code;
    use tower::ServiceExt;

    const NAMED: (&str, &str) = ("tokenry.dev/instance", "a/eem");

    /// The message about this request.
    fn about(http: HttpRequest, extensions: &[(&str, &str)]) -> pb::CheckRequest {
        let extensions = extensions.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let request = Some(Requesting { http: Some(http), ..Requesting::default() });
        let context_extensions = extensions.collect();
        pb::CheckRequest { attributes: Some(AttributeContext { request, context_extensions, ..Default::default() }) }
    }

    /// A request with headers as a text each.
    fn requested(method: &str, path: &str, headers: &[(&str, &str)]) -> HttpRequest {
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        HttpRequest { method: method.into(), path: path.into(), headers, ..HttpRequest::default() }
    }

    /// A request with headers as bytes.
    fn raw(headers: &[(&str, &[u8])]) -> HttpRequest {
        let header = |&(key, value): &(&str, &[u8])| RawHeader {
            key: key.into(),
            raw_value: value.to_vec(),
            ..RawHeader::default()
        };
        let header_map = Some(RawHeaders { headers: headers.iter().map(header).collect() });
        HttpRequest { method: "GET".into(), path: "/orders".into(), header_map, ..HttpRequest::default() }
    }

    async fn ask(
        door: Arc<Door>,
        message: impl tonic::IntoRequest<pb::CheckRequest>,
    ) -> Result<pb::CheckResponse, Code> {
        let mut client = AuthorizationClient::with_origin(router(door), "http://verifier".parse().unwrap());
        client.check(message).await.map(tonic::Response::into_inner).map_err(|status| status.code())
    }

    /// The status of the answer, its headers, and its body. An answer that lets a request in has the status 200.
    fn http(answer: pb::CheckResponse) -> (u16, HeaderMap, String) {
        let (status, headers, body) = match answer.http_response.unwrap() {
            pb::HttpResponse::OkResponse(ok) => (200, ok.headers, String::new()),
            pb::HttpResponse::DeniedResponse(denied) => (denied.status.unwrap().code, denied.headers, denied.body),
            pb::HttpResponse::ErrorResponse(error) => panic!("{error:?}"),
        };
        assert_eq!(status == 200, answer.status.unwrap().code == 0);
        let mut map = HeaderMap::new();
        for option in headers {
            assert!(option.keep_empty_value);
            assert_eq!(option.append_action(), pb::HeaderAppendAction::OverwriteIfExistsOrAdd);
            let header = option.header.unwrap();
            let name: http::HeaderName = header.key.parse().unwrap();
            map.append(name, http::HeaderValue::try_from(header.value).unwrap());
        }
        (status.try_into().unwrap(), map, body)
    }

    /// The status, and the challenge if there is one.
    async fn refusal(door: &Arc<Door>, message: pb::CheckRequest) -> (u16, String) {
        let (status, headers, _) = http(ask(door.clone(), message).await.unwrap());
        let challenge = headers.get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
        (status, challenge.unwrap_or_default())
    }

    fn taught() -> Arc<Door> {
        let door = door();
        teach(&door, &value());
        door
    }

    fn bearer() -> String {
        format!("Bearer {}", value())
    }

    /// An Envoy that asks `door` about each request, and answers it with the answer of the door.
    fn envoy(door: Arc<Door>) -> Router {
        let asked = |State(door): State<Arc<Door>>, request: Request| async move {
            let mut headers: HashMap<String, String> = HashMap::new();
            for (name, value) in request.headers() {
                let joined = headers.entry(name.to_string()).or_default();
                let comma = if joined.is_empty() { "" } else { "," };
                *joined = format!("{joined}{comma}{}", value.to_str().unwrap());
            }
            let (method, path) = (request.method().to_string(), request.uri().to_string());
            headers.extend([(":method".into(), method.clone()), (":path".into(), path.clone())]);
            headers.extend([(":authority".into(), "shop.example.com".into()), (":scheme".into(), "https".into())]);
            let request = HttpRequest { method, path, headers, ..HttpRequest::default() };
            let (status, headers, body) = http(ask(door, about(request, &[NAMED])).await.unwrap());
            (StatusCode::from_u16(status).unwrap(), headers, body)
        };
        Router::new().fallback(asked).with_state(door)
    }

    #[tokio::test]
    async fn envoy_names_the_request_in_attributes() {
        names_the_request(envoy, |method, target, headers| (method, target.to_owned(), headers)).await;
    }

    #[tokio::test]
    async fn whoever_is_let_in_is_named_in_metadata_too_and_look_alikes_of_its_headers_are_removed() {
        let answer = ask(taught(), about(requested("GET", "/orders", &[("authorization", &bearer())]), &[NAMED])).await;
        let answer = answer.unwrap();
        let told: HashMap<_, _> = { answer.dynamic_metadata.clone().unwrap().fields.into_iter() }
            .map(|(name, value)| {
                let Some(Kind::StringValue(text)) = value.kind else { panic!("{value:?}") };
                (name, text)
            })
            .collect();
        let id = "i".repeat(16);
        let expected = [
            ("subject", "account:a/x"),
            ("token_id", &id),
            ("role", ""),
            ("organization", "eem"),
            ("owner", "user:alice"),
        ];
        assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let Some(pb::HttpResponse::OkResponse(ok)) = answer.http_response else { panic!("{answer:?}") };
        let removed = ok.headers_to_remove;
        assert!(
            ["x_tokenry_role", "x-tokenry_token-id", "x_forwarded_user"]
                .iter()
                .all(|name| removed.iter().any(|one| one == name))
        );
        assert!(
            !removed.iter().any(|name| IDENTITY.iter().any(|identity| identity.as_str() == name)),
            "Envoy would remove those that it has set"
        );
        assert_eq!(removed.len(), 3 + 7 + 3 + 3 + 3);
        assert!(ok.query_parameters_to_set.is_empty());
    }

    #[tokio::test]
    async fn the_id_of_the_request_is_answered_and_its_source_is_the_address_that_envoy_names() {
        let id = |option: &pb::HeaderValueOption| option.header.clone().map(|header| (header.key, header.value));
        let sent = Some(("x-request-id".to_owned(), "r-1".to_owned()));
        for (token, let_in) in [(bearer(), true), ("Bearer x".into(), false)] {
            let headers = [("authorization", &*token), ("x-request-id", "r-1")];
            let answer = ask(taught(), about(requested("GET", "/orders", &headers), &[NAMED])).await.unwrap();
            let (is_let_in, headers) = match answer.http_response.unwrap() {
                pb::HttpResponse::OkResponse(ok) => {
                    assert!(ok.headers.iter().any(|option| id(option) == sent), "the API gets it, too");
                    let absent = i32::from(pb::HeaderAppendAction::AddIfAbsent);
                    assert!(ok.response_headers_to_add.iter().all(|option| option.append_action == absent));
                    (true, ok.response_headers_to_add)
                }
                pb::HttpResponse::DeniedResponse(denied) => (false, denied.headers),
                pb::HttpResponse::ErrorResponse(error) => panic!("{error:?}"),
            };
            assert_eq!(is_let_in, let_in);
            assert!(headers.iter().any(|option| id(option) == sent), "{headers:?}");
        }
        let from = |address: &str| {
            let address = SocketAddress { address: address.into(), ..SocketAddress::default() };
            let address = Some(Address { address: Some(pb::Address::SocketAddress(address)) });
            let mut message = about(HttpRequest::default(), &[]);
            message.attributes.as_mut().unwrap().source = Some(Peer { address, ..Peer::default() });
            attributes::source(&message).map(|address| address.to_string())
        };
        let all = ["192.0.2.1", "2001:db8::1", "/run/socket", ""].map(from);
        assert_eq!(all, [Some("192.0.2.1".to_owned()), Some("2001:db8::1".to_owned()), None, None]);
        assert_eq!(attributes::source(&pb::CheckRequest::default()), None);
    }

    #[tokio::test]
    async fn a_request_that_is_let_through_unjudged_names_nobody() {
        let door = door();
        teach_of(&door, &value(), &json!({"api": {"unguarded": [{"paths": ["/login"]}]}}));
        let answer = ask(door, about(requested("GET", "/login", &[]), &[NAMED])).await.unwrap();
        assert_eq!(answer.dynamic_metadata, None);
        let (status, headers, _) = http(answer);
        assert_eq!((status, headers.len(), &headers[ROLE]), (200, 6, &http::HeaderValue::from_static("")));
    }

    #[tokio::test]
    async fn the_route_names_the_instance_or_else_the_filter_and_nobody_else_can() {
        let door = taught();
        let token = bearer();
        let of = async |extensions: &[(&str, &str)], metadata: &[&'static str]| {
            let sent = [("authorization", &*token), ("x-tokenry-instance", "a/eem"), ("tokenry.dev/instance", "a/eem")];
            let mut message = tonic::Request::new(about(requested("GET", "/orders", &sent[..2]), extensions));
            for named in metadata {
                message.metadata_mut().append("x-tokenry-instance", named.parse().unwrap());
            }
            let (status, headers, _) = http(ask(door.clone(), message).await.unwrap());
            (status, headers.get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default())
        };
        let other = r#"Bearer realm="tokenry", error="invalid_token""#.to_owned();
        assert_eq!(of(&[NAMED], &[]).await.0, 200);
        assert_eq!(of(&[], &["a/eem"]).await.0, 200);
        assert_eq!(of(&[NAMED], &["a/other"]).await.0, 200, "the route comes first");
        assert_eq!(of(&[("tokenry.dev/instance", "a/other")], &["a/eem"]).await, (401, other.clone()));
        for odd in ["", "eem", "/eem", "a/", "a/eem/", "a//eem", "/a/eem"] {
            assert_eq!(of(&[("tokenry.dev/instance", odd)], &["a/eem"]).await, (401, other.clone()), "{odd:?}");
            assert_eq!(of(&[], &[odd]).await, (401, other.clone()), "{odd:?}");
        }
        assert_eq!(of(&[], &["a/eem", "a/eem"]).await, (401, other.clone()), "twice");
        assert_eq!(of(&[], &[]).await, (401, other.clone()), "the caller's own header names nothing");
        assert_eq!(of(&[("instance", "a/eem")], &[]).await, (401, other));
    }

    #[tokio::test]
    async fn a_credential_that_is_there_twice_is_refused_in_either_form() {
        let door = taught();
        let (token, alone) = (bearer(), value());
        let twice = [
            format!("{token},{token}"),
            format!("{token},"),
            format!(",{token}"),
            format!("{token},Bearer other"),
            format!("Bearer other,{token}"),
            format!("{token}, {token}"),
            format!("Basic dTpw,{token}"),
        ];
        for joined in &twice {
            let headers = [("authorization", &**joined)];
            let (status, _) = refusal(&door, about(requested("GET", "/orders", &headers), &[NAMED])).await;
            assert_eq!(status, 401, "{joined}");
        }
        for joined in [format!("{alone},{alone}"), format!("{alone},")] {
            let headers = [("api-token", &*joined)];
            assert_eq!(refusal(&door, about(requested("GET", "/orders", &headers), &[NAMED])).await.0, 401);
        }
        let place = ("authorization", token.as_bytes());
        for headers in [&[place, place][..], &[place, ("authorization", b"")], &[place, ("Authorization", b"x")]] {
            assert_eq!(refusal(&door, about(raw(headers), &[NAMED])).await.0, 401, "{headers:?}");
        }
        assert_eq!(refusal(&door, about(raw(&[place, ("accept", b"\xff")]), &[NAMED])).await.0, 200);
        let mut both = raw(&[place]);
        both.headers = requested("", "", &[("authorization", &token)]).headers;
        assert_eq!(refusal(&door, about(both, &[NAMED])).await.0, 401);
    }

    #[tokio::test]
    async fn headers_of_http2_that_begin_with_a_colon_are_no_headers() {
        let door = taught();
        let token = bearer();
        let headers = [("authorization", &*token), (":path", "/console"), (":method", "DELETE"), (":x-tokenry", "a b")];
        assert_eq!(refusal(&door, about(requested("GET", "/orders", &headers), &[NAMED])).await.0, 200);
    }

    #[tokio::test]
    async fn each_category_has_its_status() {
        let told = async |door: &Arc<Door>, method: &str, headers: &[(&str, &str)]| {
            let answer = ask(door.clone(), about(requested(method, "/orders", headers), &[NAMED])).await.unwrap();
            let code = Code::from(answer.status.clone().unwrap().code);
            let (status, headers, body) = http(answer);
            let value =
                |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
            (code, status, value("www-authenticate"), value("retry-after"), body)
        };
        let door = door();
        let excluded = json!([{"methods": ["DELETE"], "paths": ["/**"], "message": "never"}]);
        teach_of(&door, &value(), &json!({"api": {"excluded": excluded}}));
        let token = bearer();
        let plain = r#"Bearer realm="tokenry/a/eem""#;
        let none = String::new;
        assert_eq!(told(&door, "GET", &[("authorization", &token)]).await, (Code::Ok, 200, none(), none(), none()));
        assert_eq!(told(&door, "GET", &[]).await, (Code::Unauthenticated, 401, plain.to_owned(), none(), none()));
        let (code, status, challenge, _, body) = told(&door, "GET", &[("authorization", "Bearer x")]).await;
        assert_eq!(
            (code, status, challenge),
            (Code::Unauthenticated, 401, format!(r#"{plain}, error="invalid_token""#))
        );
        assert_eq!(body, "{\"error\":\"invalid_token\"}\n");
        let (code, status, challenge, _, body) = told(&door, "DELETE", &[("authorization", &token)]).await;
        assert_eq!(
            (code, status, challenge),
            (Code::PermissionDenied, 403, format!(r#"{plain}, error="insufficient_scope""#))
        );
        assert!(body.contains("never"), "{body}");
        let unread = Arc::new(waiting_for(&["instances"], Hearing::default(), StaleAnswers::default()));
        teach(&unread, &value());
        let (code, status, challenge, later, _) = told(&unread, "GET", &[("authorization", &token)]).await;
        assert_eq!((code, status, challenge, later), (Code::Unavailable, 503, none(), "1".into()));
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_judged_is_an_error_of_grpc() {
        let door = taught();
        let of = async |message| ask(door.clone(), message).await.map(|answer| http(answer).0);
        assert_eq!(of(pb::CheckRequest::default()).await, Err(Code::InvalidArgument));
        let no_http = AttributeContext { request: Some(Requesting::default()), ..Default::default() };
        assert_eq!(of(pb::CheckRequest { attributes: Some(no_http) }).await, Err(Code::InvalidArgument));
        for odd in [("", &b"a"[..]), ("a b", b"a"), ("a", b"a\r\nb"), ("a", b"\0"), ("\u{e9}", b"a")] {
            assert_eq!(of(about(raw(&[odd]), &[NAMED])).await, Err(Code::InvalidArgument), "{odd:?}");
        }
        let token = bearer();
        let names: Vec<_> = (0..40_000).map(|nth| format!("{nth:x}")).collect();
        let many: Vec<_> = names.iter().map(|name| (&**name, &b""[..])).collect();
        assert_eq!(of(about(raw(&many), &[NAMED])).await, Err(Code::OutOfRange), "the message is too large");
        let long = "a".repeat(LARGEST - 1024);
        assert_eq!(
            of(about(raw(&[("authorization", token.as_bytes()), ("x", long.as_bytes())]), &[NAMED])).await,
            Ok(200)
        );
        let longer = "a".repeat(LARGEST);
        assert_eq!(
            of(about(raw(&[("authorization", token.as_bytes()), ("x", longer.as_bytes())]), &[NAMED])).await,
            Err(Code::OutOfRange)
        );
        verdicts(&door, "ext-authz", &[("400", "Unreadable", 7), ("413", "TooLong", 2), ("200", "Allowed", 1)]);
    }

    #[tokio::test]
    async fn a_call_that_is_not_judged_has_an_audit_line_with_the_address_of_the_proxy_and_its_instance() {
        let (door, lines) = audited();
        teach(&door, &value());
        let ask = async |kind: &str, bytes: Vec<u8>| {
            let request = Request::post("/envoy.service.auth.v3.Authorization/Check").header(CONTENT_TYPE, kind);
            let request = request.header("x-tokenry-instance", "a/eem").extension(PeerAddress([192, 0, 2, 7].into()));
            let answer = router(door.clone()).oneshot(request.body(Body::from(bytes)).unwrap()).await.unwrap();
            let id = answer.headers().get("x-request-id").map(|id| id.to_str().unwrap().to_owned());
            (answer.status().as_u16(), id)
        };
        let framed = |message: &pb::CheckRequest| {
            let bytes = prost::Message::encode_to_vec(message);
            [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes].concat()
        };
        let no_http = framed(&pb::CheckRequest::default());
        let unknown = framed(&about(requested("GET", "/orders", &[("authorization", "Bearer x")]), &[]));
        let calls =
            [("application/grpc", vec![0, 0, 0, 0, 1, 0xff]), ("application/grpc", no_http), ("text/plain", vec![])];
        for (at, (kind, bytes)) in calls.into_iter().enumerate() {
            let (status, id) = ask(kind, bytes).await;
            assert_eq!((status, id), (if at == 2 { 415 } else { 200 }, Some(format!("p-{}", at + 1))));
        }
        assert_eq!(ask("application/grpc", unknown).await, (200, None), "its answer has the id inside");
        let text = lines.text();
        for (id, status, reason) in [(1, 400, "Unreadable"), (2, 400, "Unreadable"), (3, 415, "TypeUnsupported")] {
            let told = format!(
                r#""status":{status},"reason":"{reason}","instance":"a/eem","protocol":"ext-authz","source":"192.0.2.7","request_id":"p-{id}""#
            );
            assert!(text.contains(&told), "{told} is missing from\n{text}");
        }
        let judged = text.lines().last().unwrap();
        assert!(judged.contains(r#""source":"192.0.2.7""#), "Envoy names no address, so it is that of Envoy: {judged}");
        assert_eq!(text.lines().count(), 4);
    }

    /// The HTTP status of the answer to these bytes, and its status of gRPC.
    async fn sent(method: &str, path: &str, kind: &str, body: Body) -> (u16, Option<String>) {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, kind).body(body).unwrap();
        let answer = super::super::router(taught(), None).oneshot(request).await.unwrap();
        let of = |headers: &HeaderMap| headers.get("grpc-status").map(|value| value.to_str().unwrap().to_owned());
        let (status, head) = (answer.status().as_u16(), of(answer.headers()));
        (status, head)
    }

    #[tokio::test]
    async fn a_proxy_that_asks_at_a_wrong_path_over_http_is_never_answered_200() {
        const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
        const GRPC: &str = "application/grpc";
        for path in [
            "/",
            "/orders",
            "/envoy.service.auth.v3.Authorization/Other",
            "/envoy.service.auth.v3.Authorization",
            "/envoy.service.auth.v2.Authorization/Check",
            "/grpc.health.v1.Health/Check",
            "/v1/instances/a/eem",
        ] {
            assert_eq!(sent("POST", path, GRPC, Body::empty()).await, (404, None), "{path}");
        }
        let get = Request::get(CHECK).header(CONTENT_TYPE, GRPC).body(Body::empty()).unwrap();
        let answer = router(taught()).oneshot(get).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &"POST".parse().unwrap()));
        for kind in ["", "application/json", "text/plain"] {
            assert_eq!(sent("POST", CHECK, kind, Body::empty()).await, (415, None), "{kind:?}");
        }
        // A verifier that answers nobody does not answer 200 either.
        let unread = Arc::new(waiting_for(&["instances"], Hearing::default(), StaleAnswers::default()));
        let get = Request::get(CHECK).body(Body::empty()).unwrap();
        assert_eq!(router(unread).oneshot(get).await.unwrap().status().as_u16(), 503);
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_are_an_error_of_grpc() {
        let frame = |bytes: &[u8]| [&[0, 0, 0, 0, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        for bytes in [
            vec![],
            vec![0],
            vec![1, 0, 0, 0, 1, 0],
            frame(&[0xff; 40]),
            frame(&[0x0a, 0x7f]),
            vec![0xff; 9],
            vec![0, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            let (status, code) = sent(
                "POST",
                "/envoy.service.auth.v3.Authorization/Check",
                "application/grpc",
                Body::from(bytes.clone()),
            )
            .await;
            assert_eq!((status, code.as_deref()), (200, Some("3")), "{bytes:?}: INVALID_ARGUMENT");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_arrive_is_not_waited_for_long() {
        let body = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::convert::Infallible>>());
        let (status, code) = sent("POST", "/envoy.service.auth.v3.Authorization/Check", "application/grpc", body).await;
        assert_eq!((status, code.as_deref()), (200, Some("4")), "DEADLINE_EXCEEDED");
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        #[test]
        fn no_message_panics_and_none_is_let_in_without_the_token(
            names in proptest::collection::vec("[a-zA-Z:_-]{0,12}|authorization|api-token", 0..6),
            values in proptest::collection::vec(proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..40), 6),
            (method, path) in ("[A-Z]{0,7}|.{0,4}", "/.{0,20}|.{0,20}"),
            named in "a/eem|.{0,10}",
        ) {
            let headers: Vec<_> = names.iter().zip(&values).map(|(name, value)| (&**name, &**value)).collect();
            let mut request = raw(&headers);
            (request.method, request.path) = (method, path);
            let message = about(request, &[(NAMED.0, &named)]);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let runtime = runtime.unwrap();
            let answer = runtime.block_on(ask(taught(), message));
            prop_assert!(answer.is_err() || http(answer.unwrap()).0 != 200);
        }
    }
}
