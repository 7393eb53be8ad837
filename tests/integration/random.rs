//! Random requests, over all protocols, to a verifier in a process of its own.
//!
//! `TOKENRY_REQUESTS` is their number, and `TOKENRY_SEED` makes the same requests again.

use std::{
    collections::BTreeMap,
    env,
    hash::{BuildHasher, RandomState},
    sync::Mutex,
};

use axum::body::Body;
use futures::{StreamExt, stream};
use http::HeaderValue;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokenry::token::format;

use crate::{
    harness::process::Served,
    introspection,
    sent::{self, About, SPOKEN, Sent, Spoken},
};

/// Requests at a time: more than may wait for news.
const AT_ONCE: usize = 200;
/// The longest input of a request, in bytes.
const LONGEST: usize = 400;
/// The growth of the verifier's memory after the first tenth of the requests, in bytes.
const GROWTH: f64 = 32.0 * 1024.0 * 1024.0;

type Caller = Client<HttpConnector, Body>;

/// What became of a request: the status of its answer, and true if that lets the request in. `None`: no client can send
/// it.
type Outcome = Option<(u16, bool)>;

/// Counts requests by their protocol and outcome.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<(Spoken, Outcome), u64>>);

impl Counts {
    fn add(&self, spoken: Spoken, outcome: Outcome) {
        *self.0.lock().unwrap().entry((spoken, outcome)).or_default() += 1;
    }

    fn of(&self, spoken: Spoken, is_let_in: bool) -> u64 {
        let counts = self.0.lock().unwrap();
        let wanted = |of: &(Spoken, Outcome)| of.0 == spoken && of.1.is_some_and(|(_, let_in)| let_in == is_let_in);
        counts.iter().filter(|(of, _)| wanted(of)).map(|(_, count)| count).sum()
    }

    fn print(&self) {
        for ((spoken, outcome), count) in &*self.0.lock().unwrap() {
            let outcome = match outcome {
                None => "not sent".to_owned(),
                Some((status, true)) => format!("{status}, let in"),
                Some((status, false)) => status.to_string(),
            };
            println!("{spoken:?}: {outcome}: {count}");
        }
    }
}

fn from_environment(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} has to be a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_random_request_fails_or_is_let_in_without_the_value() {
    let count = from_environment("TOKENRY_REQUESTS", 20_000);
    let seed = from_environment("TOKENRY_SEED", RandomState::new().hash_one(()));
    println!("TOKENRY_SEED={seed} makes these requests again");
    let mut served = Served::new("random", &["--introspection"]).await;
    let unknown = format::assemble("tkn", &"j".repeat(16), &"s".repeat(43));
    let instance = format!("{}/eem", served.world.namespace);
    let caller = introspection::caller(&served.world, "api", Some(introspection::AUDIENCE));
    introspection::bind(&served.world, "api", "--clusterrole=tokenry-admin");
    let about = About { instance: &instance, value: &served.value, unknown: unknown.expose(), caller: &caller };
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
            let (spoken, sent) = sent::any(&bytes, about);
            // Only HTTP/2 carries gRPC.
            let caller = &callers[usize::from(spoken == Spoken::ExtAuthz || random.random::<bool>())];
            let (server, counts) = (format!("http://{}", served.address), &counts);
            async move { counts.add(spoken, one(caller, &server, sent).await) }
        });
        stream::iter(asked).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    };
    ask(0..count / 10).await;
    let early = served.memory();
    ask(count / 10..count).await;
    let grown = served.memory() - early;
    counts.print();
    println!("memory grew from {early} bytes by {grown}");
    assert!(grown < GROWTH, "{grown} bytes");
    let log = served.process.log();
    assert!(served.process.is_running() && !log.contains("panicked") && !log.contains(&served.value));
    only_for_a_while(&log);
    for spoken in SPOKEN {
        assert!(counts.of(spoken, true) > 0 && counts.of(spoken, false) > 0, "the requests of {spoken:?} say nothing");
    }
}

/// Checks that each 503 is one of a verifier or of an API server that is too busy just now.
fn only_for_a_while(log: &str) {
    let audit = log.lines().filter(|line| line.starts_with(r#"{"log":"audit""#));
    let temporary = ["Crowded", "OutOfTouch", "ReviewFailed"];
    for line in audit.filter(|line| line.contains(r#""status":503,"#)) {
        let is_temporary = |reason: &&str| line.contains(&format!(r#""reason":"{reason}","#));
        assert!(temporary.iter().any(is_temporary), "{line}");
    }
}

/// Sends one request, and checks its answer.
async fn one(caller: &Caller, server: &str, sent: Sent) -> Outcome {
    let request = sent.request(server)?;
    let answer = loop {
        match caller.request(request.clone().map(Body::from)).await {
            Ok(answer) => break answer,
            // The server has not looked at the request, so the caller sends it again (RFC 9113, section 8.7).
            Err(error) if format!("{error:?}").contains("REFUSED_STREAM") => {}
            Err(error) => panic!("{error:?}: {sent:?}"),
        }
    };
    let status = answer.status().as_u16();
    // Not 2 and not 13, which are faults of the server.
    let is_usual = |code: &HeaderValue| ["0", "3", "4", "11", "14"].iter().any(|usual| code == usual);
    assert!(answer.headers().get("grpc-status").is_none_or(is_usual), "{:?} to {sent:?}", answer.headers());
    let body = axum::body::to_bytes(Body::new(answer.into_body()), 1 << 20).await.unwrap();
    assert!(status < 500 || status == 503, "{status} to {sent:?}");
    let is_let_in = sent.lets_in(status, &body);
    assert!(!is_let_in || sent.holds_the_value, "let in: {sent:?}");
    Some((status, is_let_in))
}
