//! The way to the API server, which a test can cut: what is held is not answered, and its connections stay.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use futures::StreamExt;
use kube::{Client, Config};
use tokio::{net::TcpListener, sync::watch};

/// What comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Through {
    Nothing,
    /// All but watches.
    Lists,
    All,
}

/// A way to the API server.
#[derive(Clone)]
pub struct Wire {
    client: Client,
    through: watch::Sender<Through>,
    /// The API group that the server does not serve, as far as can be seen from here.
    hidden: watch::Sender<Option<&'static str>>,
    url: String,
}

impl Wire {
    /// A way that all comes through, by the rights of `client`.
    pub async fn new(client: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let wire = Self { client, through: watch::Sender::new(Through::All), hidden: watch::Sender::default(), url };
        let router = Router::new().fallback(forward).with_state(wire.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        wire
    }

    /// A client that goes this way.
    pub fn client(&self) -> Client {
        let mut config = Config::new(self.url.parse().unwrap());
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// From now on, so much comes through.
    pub fn let_through(&self, through: Through) {
        self.through.send_replace(through);
    }

    /// From now on, the server seems not to serve this API group, such as `networking.k8s.io`; or it serves all.
    pub fn hide(&self, group: Option<&'static str>) {
        self.hidden.send_replace(group);
    }

    fn hides(&self, path: &str) -> bool {
        self.hidden.borrow().is_some_and(|group| path.starts_with(&format!("/apis/{group}/")))
    }

    /// Waits until so much comes through.
    async fn open(&self, needed: Through) {
        let _ = self.through.subscribe().wait_for(|through| *through >= needed).await;
    }
}

async fn forward(State(wire): State<Wire>, request: Request) -> Response {
    if wire.hides(request.uri().path()) {
        let said = r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}"#;
        return Response::builder().status(404).body(Body::from(said)).unwrap();
    }
    let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let needed = if watches { Through::All } else { Through::Lists };
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, 16 << 20).await.unwrap();
    parts.headers.remove(http::header::HOST);
    parts.headers.remove(http::header::ACCEPT_ENCODING);
    wire.open(needed).await;
    let request = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let Ok(answer) = wire.client.send(request).await else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    answer.map(|body| {
        let chunks = Body::new(body).into_data_stream().then(move |chunk| {
            let wire = wire.clone();
            async move {
                wire.open(needed).await;
                chunk
            }
        });
        Body::from_stream(chunks)
    })
}
