//! A connection to the API server that a test can interrupt. Held requests get no answer, but their connections stay
//! open.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use futures::StreamExt;
use kube::{Client, Config};
use tokio::{net::TcpListener, sync::watch};

/// The requests that pass. The variants are in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Through {
    Nothing,
    /// All requests except watches.
    Lists,
    All,
}

/// A proxy to the API server that a test can interrupt.
#[derive(Clone)]
pub struct Wire {
    client: Client,
    through: watch::Sender<Through>,
    /// An API group for which the proxy answers 404, as if the API server did not serve it.
    hidden: watch::Sender<Option<&'static str>>,
    /// A resource whose watches are held, for example `instances`.
    muted: watch::Sender<Option<&'static str>>,
    url: String,
}

impl Wire {
    /// A proxy that lets all requests pass, with the credentials of `client`.
    pub async fn new(client: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (through, hidden, muted) =
            (watch::Sender::new(Through::All), watch::Sender::default(), watch::Sender::default());
        let wire = Self { client, through, hidden, muted, url };
        let router = Router::new().fallback(forward).with_state(wire.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        wire
    }

    /// A client that uses this proxy.
    pub fn client(&self) -> Client {
        let mut config = Config::new(self.url.parse().unwrap());
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// Sets the requests that pass from now on.
    pub fn let_through(&self, through: Through) {
        self.through.send_replace(through);
    }

    /// Hides an API group from now on, for example `networking.k8s.io`. `None` hides none.
    pub fn hide(&self, group: Option<&'static str>) {
        self.hidden.send_replace(group);
    }

    /// Holds the watches of a resource from now on. `None` holds none.
    pub fn mute(&self, resource: Option<&'static str>) {
        self.muted.send_replace(resource);
    }

    fn hides(&self, path: &str) -> bool {
        self.hidden.borrow().is_some_and(|group| path.starts_with(&format!("/apis/{group}/")))
    }

    /// Waits until requests of the kind `needed` for a resource pass.
    async fn open(&self, needed: Through, resource: &str) {
        let _ = self.through.subscribe().wait_for(|through| *through >= needed).await;
        let is_open = |muted: &Option<&str>| needed < Through::All || *muted != Some(resource);
        let _ = self.muted.subscribe().wait_for(is_open).await;
    }
}

async fn forward(State(wire): State<Wire>, request: Request) -> Response {
    if wire.hides(request.uri().path()) {
        let said = r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}"#;
        return Response::builder().status(404).body(Body::from(said)).unwrap();
    }
    let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let needed = if watches { Through::All } else { Through::Lists };
    let resource = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, 16 << 20).await.unwrap();
    parts.headers.remove(http::header::HOST);
    parts.headers.remove(http::header::ACCEPT_ENCODING);
    wire.open(needed, &resource).await;
    let request = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let Ok(answer) = wire.client.send(request).await else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    answer.map(|body| {
        let chunks = Body::new(body).into_data_stream().then(move |chunk| {
            let (wire, resource) = (wire.clone(), resource.clone());
            async move {
                wire.open(needed, &resource).await;
                chunk
            }
        });
        Body::from_stream(chunks)
    })
}
