//! A client that fails at a certain write.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use kube::{Client, Config, client::ClientBuilder};
use tokio::sync::Notify;
use tower::{BoxError, Layer, Service};

/// The kind of failure at that write.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    /// The process dies before it sends the request.
    Before,
    /// The process dies after the API server did the write, and before it reads the answer.
    After,
    /// The process continues. The request is lost before the API server gets it.
    Unsent,
    /// The process continues. The API server did the write, but its answer and the connection are lost.
    Unheard,
    /// The process continues. The API server did the write, but the answer never arrives.
    Silent,
    /// The process continues. The API server did the write, and the answer arrives after [`Doom::release`].
    Late,
}

/// A client that fails in the given way at its `nth` write to a token, its account or its Secret. The first write is 1.
pub fn dying(config: Config, nth: usize, death: Death) -> (Client, Doom) {
    doomed(config, nth, death, is_about_a_token)
}

/// A client that fails in the given way at its `nth` write to a way in or a guard of Traefik. The first write is 1.
pub fn dying_at_the_edge(config: Config, nth: usize, death: Death) -> (Client, Doom) {
    let is_counted = |path: &str| ["/ingresses", "/httproutes", "/middlewares"].iter().any(|part| path.contains(part));
    doomed(config, nth, death, is_counted)
}

/// A client that fails in the given way at its `nth` write of an Event. The first write is 1.
pub fn dying_at_events(config: Config, nth: usize, death: Death) -> (Client, Doom) {
    doomed(config, nth, death, |path| path.contains("/events.k8s.io/"))
}

fn doomed(config: Config, nth: usize, death: Death, is_counted: fn(&str) -> bool) -> (Client, Doom) {
    let doom = Doom { nth, death, is_counted, writes: Arc::default(), dead: Arc::default(), gate: Arc::default() };
    let client = ClientBuilder::try_from(config).unwrap().with_layer(&Doomed(doom.clone())).build();
    (client, doom)
}

/// The progress towards the failure. Clones share it.
#[derive(Clone)]
pub struct Doom {
    nth: usize,
    death: Death,
    /// True for the paths of the requests that count.
    is_counted: fn(&str) -> bool,
    writes: Arc<AtomicUsize>,
    dead: Arc<AtomicBool>,
    gate: Arc<Notify>,
}

impl Doom {
    /// Lets the answer of [`Death::Late`] arrive.
    pub fn release(&self) {
        self.gate.notify_one();
    }

    /// True after the process has died. Always false if the process continues.
    pub fn has_come(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn comes<B>(&self, request: &Request<B>) -> bool {
        let counts = request.method() != Method::GET && (self.is_counted)(request.uri().path());
        counts && self.writes.fetch_add(1, Ordering::SeqCst) + 1 == self.nth
    }
}

fn is_about_a_token(path: &str) -> bool {
    path.contains("/apitokens/")
        || path.contains("/secrets")
        || (path.contains("/tokenry.dev/") && path.contains("/serviceaccounts/") && !path.ends_with("/status"))
}

struct Doomed(Doom);

impl<S> Layer<S> for Doomed {
    type Service = Dying<S>;

    fn layer(&self, inner: S) -> Dying<S> {
        Dying { inner, doom: self.0.clone() }
    }
}

/// A connection to the API server that fails at the write.
#[derive(Clone)]
pub struct Dying<S> {
    inner: S,
    doom: Doom,
}

impl<S, B, C> Service<Request<B>> for Dying<S>
where
    S: Service<Request<B>, Response = Response<C>, Error = BoxError>,
    S::Future: Send + 'static,
    C: Send + 'static,
{
    type Response = Response<C>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<C>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let lost = || Err("the process is dead".into());
        if self.doom.has_come() {
            return Box::pin(std::future::ready(lost()));
        }
        if !self.doom.comes(&request) {
            return Box::pin(self.inner.call(request));
        }
        let death = self.doom.death;
        self.doom.dead.store(matches!(death, Death::Before | Death::After), Ordering::SeqCst);
        if matches!(death, Death::Before | Death::Unsent) {
            return Box::pin(std::future::ready(lost()));
        }
        let (done, gate) = (self.inner.call(request), self.doom.gate.clone());
        Box::pin(async move {
            let answer = done.await;
            match death {
                Death::Silent => std::future::pending().await,
                Death::Late => {
                    gate.notified().await;
                    answer
                }
                Death::Before | Death::After | Death::Unsent | Death::Unheard => lost(),
            }
        })
    }
}
