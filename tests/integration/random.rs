//! Random requests, over all protocols, to a verifier in a process of its own.
//!
//! `TOKENRY_REQUESTS` is their number, and `TOKENRY_SEED` makes the same requests again.

use std::{
    env,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::body::Body;
use futures::{StreamExt, stream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokenry::token::format;

use crate::{
    harness::process::Served,
    sent::{self, About, Sent},
};

/// Requests at a time: more than may wait for news.
const AT_ONCE: usize = 200;
/// The longest input of a request, in bytes.
const LONGEST: usize = 400;
/// The growth of the verifier's memory after the first tenth of the requests, in bytes.
const GROWTH: f64 = 32.0 * 1024.0 * 1024.0;

type Caller = Client<HttpConnector, Body>;

/// Counts of the answers.
#[derive(Debug, Default)]
struct Counts {
    let_in: AtomicUsize,
    refused: AtomicUsize,
    unavailable: AtomicUsize,
    unsent: AtomicUsize,
}

fn from_environment(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} has to be a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_random_request_fails_or_is_let_in_without_the_value() {
    let count = from_environment("TOKENRY_REQUESTS", 20_000);
    let seed = from_environment("TOKENRY_SEED", RandomState::new().hash_one(()));
    println!("TOKENRY_SEED={seed} makes these requests again");
    let mut served = Served::new("random", &[]).await;
    let unknown = format::assemble("tkn", &"j".repeat(16), &"s".repeat(43));
    let instance = format!("{}/eem", served.world.namespace);
    let about = About { instance: &instance, value: &served.value, unknown: unknown.expose() };
    let callers = [false, true].map(|http2| {
        Client::builder(TokioExecutor::new())
            .http2_only(http2)
            .http2_initial_max_send_streams(64)
            .build::<_, Body>(HttpConnector::new())
    });
    let counts = Counts::default();
    let ask = async |of: std::ops::Range<u64>| {
        let asked = of.map(|n| {
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(n));
            let bytes: Vec<u8> = (0..random.random_range(0..LONGEST)).map(|_| random.random()).collect();
            let (sent, caller) = (sent::any(&bytes, about), &callers[usize::from(random.random::<bool>())]);
            one(caller, served.address, sent, &counts)
        });
        stream::iter(asked).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    };
    ask(0..count / 10).await;
    let early = served.memory();
    ask(count / 10..count).await;
    let grown = served.memory() - early;
    println!("{counts:?}, memory grew by {grown} bytes");
    assert!(grown < GROWTH, "{grown} bytes");
    assert!(served.process.is_running() && !served.process.log().contains("panicked"));
    assert!(counts.let_in.into_inner() > 0 && counts.refused.into_inner() > 0, "the requests say nothing");
}

/// Sends one request, and checks its answer.
async fn one(caller: &Caller, address: std::net::SocketAddr, sent: Sent, counts: &Counts) {
    let count = |counter: &AtomicUsize| _ = counter.fetch_add(1, Ordering::Relaxed);
    let Some(request) = sent.request(&format!("http://{address}")) else { return count(&counts.unsent) };
    let answer = loop {
        match caller.request(request.clone().map(Body::from)).await {
            Ok(answer) => break answer,
            // The server has not looked at the request, so the caller sends it again (RFC 9113, section 8.7).
            Err(error) if format!("{error:?}").contains("REFUSED_STREAM") => {}
            Err(error) => panic!("{error:?}: {sent:?}"),
        }
    };
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), 1 << 20).await.unwrap();
    // Introspection is off here, and says so.
    let is_off = status == 501 && sent.target.contains("/introspect");
    assert!(status < 500 || status == 503 || is_off, "{status} to {sent:?}");
    let let_in = sent.lets_in(status, &body);
    assert!(!let_in || sent.holds_the_value, "let in: {sent:?}");
    count(match status {
        _ if let_in => &counts.let_in,
        503 => &counts.unavailable,
        _ => &counts.refused,
    });
}
