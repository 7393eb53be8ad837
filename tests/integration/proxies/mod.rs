//! The contracts of real proxies: one list of requests, tried with each proxy, with exactly the text of its example.
//!
//! The tests print a matrix: for each request the status that the caller got, and the request that the API saw.

mod backend;
mod caddy;
mod caller;
mod cases;
mod envoy;
mod nginx;
mod program;
mod setting;
mod silent;
mod traefik;

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::Mutex,
};

use futures::{
    StreamExt,
    future::{join, join_all},
    stream,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{
    backend::{CASE, UNPROVED, is_nobody, is_proved},
    caller::{Answer, Request, request},
    cases::{Case, FORGED, cases},
    program::{Outage, Program, Proxy, Sees, Who},
    setting::{ORGANIZATION, Setting},
    silent::Silent,
};
use crate::harness::{
    api::{IDENTITY, Seen, told},
    root,
};

/// The request of a caller that names a mode of the verifier. It gains nothing by that.
const MODE: &str = "a mode that the caller names";
/// Requests at the same time, and those of a burst.
const AT_ONCE: usize = 8;
const MANY: usize = 120;
/// The address of a caller. A proxy itself asks from another one.
const CALLER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Tries everything with a proxy: each case, and each outage of the verifier.
async fn holds(program: &Program) {
    let mut setting = Setting::new(program.name).await;
    let proxy = Proxy::start(program, &setting).await;
    serves_many_at_once(&proxy, &setting).await;
    holds_in_all_cases(program, &proxy, &setting).await;
    is_written_down(program, &proxy, &setting).await;
    holds_without_a_verifier(program, &proxy, &mut setting).await;
    setting.backend.all().iter().for_each(is_closed);
}

/// Sends many requests with a token at once, until all are served. The first ones may be too many for a busy machine.
async fn serves_many_at_once(proxy: &Proxy, setting: &Setting) {
    let token = request("GET", "/orders").bearer(&setting.tokens.admin).line(format!("{ORGANIZATION}: acme"));
    let all_are_served = async || {
        let answers = join_all((0..MANY).map(|_| token.send(proxy.address))).await;
        answers.iter().all(|answer| answer.as_ref().is_some_and(|answer| answer.status == 200)).then_some(())
    };
    setting.world.eventually("many requests at once are served", all_are_served).await;
}

/// Tries each case with a proxy.
async fn holds_in_all_cases(program: &Program, proxy: &Proxy, setting: &Setting) {
    let cases = cases(&setting.tokens);
    for (name, sees) in program.differs {
        assert!(cases.iter().any(|case| case.name == *name && case.sees != *sees), "{name} does not differ");
    }
    let all = stream::iter(&cases).map(|case| tried(program, proxy, setting, case));
    let wrong: Vec<String> = all.buffer_unordered(AT_ONCE).filter_map(|wrong| async { wrong }).collect().await;
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), proxy.log());
    setting.backend.all().iter().for_each(is_closed);
}

/// Sends the request of a case. Returns the difference to its outcome, if there is one.
async fn tried(program: &Program, proxy: &Proxy, setting: &Setting, case: &Case) -> Option<String> {
    let answer = case.request.send(proxy.address).await;
    let status = answer.as_ref().map_or(0, |answer| answer.status);
    let seen = setting.backend.seen(case.name);
    print(program, case.name, status, &seen);
    let differs = program.differs.iter().find(|(name, _)| *name == case.name);
    let sees = differs.map_or(case.sees, |(_, sees)| *sees);
    let is_so = is_outcome(setting, case, sees, status, &seen)
        && is_challenge_kept(setting, sees, answer.as_ref())
        && is_answer_kept(case, sees, answer.as_ref());
    (!is_so).then(|| format!("{}: {}: not {sees:?}, but {status}, {answer:?}, {seen:?}", program.name, case.name))
}

/// True if the status and the requests that the API saw are those of an outcome.
fn is_outcome(setting: &Setting, case: &Case, sees: Sees, status: u16, seen: &[Seen]) -> bool {
    let served = if case.request.upgrades() { 101 } else { 200 };
    let is_passed_on = |seen: &Seen| {
        let sent = [(":method", case.request.method), (":body", case.request.body)];
        let authorization = seen.get("authorization").cloned().unwrap_or_default();
        sent.iter().all(|(name, value)| seen[*name] == [*value])
            && authorization == case.request.values("authorization")
    };
    match (sees, seen) {
        (Sees::Missing | Sees::Invalid, []) => status == 401,
        (Sees::Refused(refused), []) => status == refused,
        (Sees::Served(who), [seen]) => status == served && told(seen) == identity(setting, who) && is_passed_on(seen),
        (Sees::Nobody, [seen]) => status == served && is_nobody(seen) && is_passed_on(seen),
        (Sees::Unproved, [seen]) => status == UNPROVED.as_u16() && !is_proved(seen),
        (Sees::Missing | Sees::Invalid | Sees::Refused(_) | Sees::Served(_) | Sees::Nobody | Sees::Unproved, _) => {
            false
        }
    }
}

fn identity(setting: &Setting, who: Who) -> [Vec<String>; 5] {
    let tokens = &setting.tokens;
    match who {
        Who::Admin => setting.identity("admin", "admin", &tokens.admin),
        Who::Viewer => setting.identity("viewer", "viewer", &tokens.viewer),
        Who::Old => setting.identity("turning", "admin", &tokens.old),
        Who::New => setting.identity("turning", "admin", &tokens.new),
    }
}

/// True if a 401 has the challenge of the Instance, with an error if there was a credential.
fn is_challenge_kept(setting: &Setting, sees: Sees, answer: Option<&Answer>) -> bool {
    let plain = format!(r#"bearer realm="tokenry{}""#, setting.instance().trim_end_matches('/'));
    let challenge = answer.and_then(|answer| answer.header("www-authenticate"));
    match sees {
        Sees::Missing => challenge == Some(&plain),
        Sees::Invalid => challenge == Some(&format!(r#"{plain}, error="invalid_token""#)),
        Sees::Refused(_) | Sees::Served(_) | Sees::Nobody | Sees::Unproved => true,
    }
}

/// True if a caller that is let in gets the body of the API.
fn is_answer_kept(case: &Case, sees: Sees, answer: Option<&Answer>) -> bool {
    let has_body = case.request.method != "HEAD" && !case.request.upgrades();
    let is_served = matches!(sees, Sees::Served(_) | Sees::Nobody);
    !has_body || !is_served || answer.is_some_and(|answer| answer.body.contains(case.name))
}

/// Checks that a request may reach the API: its caller has named no identity, and its path is one that it may have.
fn is_closed(seen: &Seen) {
    if !is_proved(seen) {
        // The API has refused it.
        return;
    }
    let forged = |value: &String| value.contains(FORGED);
    assert!(!seen.values().flatten().any(forged), "a caller's own header reached the API: {seen:?}");
    let path = read(&seen[":path"][0]);
    let is_below = |folder: &str| path == folder || path.starts_with(&format!("{folder}/"));
    let is_preflight = seen[":method"] == ["OPTIONS"];
    assert!(!is_nobody(seen) || is_preflight || is_below("/login"), "without a token: {seen:?}");
    assert!(!path.to_lowercase().starts_with("/console"), "in spite of an exclusion: {seen:?}");
}

/// The path as the most generous server reads it: decoded, without parameters, dots, backslashes and empty segments.
fn read(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap();
    let decoded = percent_decoded(path).replace('\\', "/");
    let mut segments = Vec::new();
    for segment in decoded.split('/').map(|segment| segment.split([';', '\0']).next().unwrap()) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => decoded.extend([&[byte], &part.as_bytes()[2..]].concat()),
            None => decoded.extend(format!("%{part}").bytes()),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Prints a line of the matrix.
fn print(program: &Program, case: &str, status: u16, seen: &[Seen]) {
    let of = |seen: &Seen| {
        let by = if !is_proved(seen) { "not all headers" } else { &seen["x-tokenry-subject"][0] };
        format!("{} {} by {:?}", seen[":method"][0], seen[":path"][0].chars().take(40).collect::<String>(), by)
    };
    let saw: Vec<String> = seen.iter().map(of).collect();
    println!("{:14} | {case:42} | {status} | {}", program.name, saw.join(", "));
}

/// Checks that the audit log has the address of the caller and the ids of its request. The API gets the id of the
/// request too, and so does a refused caller.
async fn is_written_down(program: &Program, proxy: &Proxy, setting: &Setting) {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let forged =
        ["X-Forwarded-For", "X-Real-IP", "X-Envoy-External-Address"].map(|name| format!("{name}: 203.0.113.7"));
    let asked = |path: &str| {
        let asked = request("GET", path).lines(forged.clone()).line(format!("{ORGANIZATION}: acme"));
        asked.line(format!("{CASE}: {path}")).line(format!("traceparent: 00-{trace}-00f067aa0ba902b7-01"))
    };
    let (token, id) = (&setting.tokens.admin, "asked-1");
    for (path, request, named) in [
        ("/orders/made", asked("/orders/made").bearer(token), None),
        ("/orders/named", asked("/orders/named").bearer(token).line(format!("X-Request-Id: {id}")), Some(id)),
        ("/orders/refused", asked("/orders/refused"), None),
    ] {
        let answer = request.send_from(CALLER, proxy.address).await.unwrap();
        let written = async || setting.verifier.log.line("path", path);
        let line = setting.world.eventually("the audit log has the line", written).await;
        println!("{:14} | {line}", program.name);
        assert_eq!((&line["source"], &line["trace_id"]), (&CALLER.to_string().into(), &trace.into()), "{line}");
        let written = line["request_id"].as_str().unwrap();
        assert!(program.renames || named.is_none_or(|named| named == written), "{line}");
        match &setting.backend.seen(path)[..] {
            [seen] => assert_eq!((answer.status, &seen["x-request-id"][..]), (200, &[written.to_owned()][..])),
            [] => assert_eq!((answer.status, answer.header("x-request-id")), (401, Some(&*written.to_lowercase()))),
            all => panic!("{all:?}"),
        }
    }
}

/// Plays each outage, and restarts between them.
async fn holds_without_a_verifier(program: &Program, proxy: &Proxy, setting: &mut Setting) {
    setting.verifier.stop().await;
    refuses_during(Outage::Down, program, proxy, setting, async || ()).await;
    let silent = Mutex::new(Some(setting.silence().await));
    let is_asked = async || silent.lock().unwrap().as_ref().is_some_and(|silent| silent.taken() > 0).then_some(());
    let gives_up = async || {
        setting.world.eventually("the proxy asks", is_asked).await;
        if program.waits {
            drop(silent.lock().unwrap().take());
        }
    };
    refuses_during(Outage::Slow, program, proxy, setting, gives_up).await;
    drop(silent);
    holds_through_restarts(proxy, setting).await;
    setting.verifier.stop().await;
    setting.verifier.start_untrusted(&setting.world).await;
    refuses_during(Outage::Untrusted, program, proxy, setting, async || ()).await;
    setting.verifier.stop().await;
    setting.verifier.start_misnamed(&setting.world).await;
    refuses_during(Outage::Misnamed, program, proxy, setting, async || ()).await;
    setting.verifier.stop().await;
    let wire = setting.verifier.start_unsynced(&setting.world).await;
    refuses_during(Outage::NotSynced, program, proxy, setting, async || ()).await;
    setting.verifier.stop().await;
    drop(wire);
    let _wire = setting.start_cut_off().await;
    refuses_during(Outage::CutOff, program, proxy, setting, async || ()).await;
}

/// Checks that everybody is refused. `meanwhile` runs while the requests wait for their answers.
async fn refuses_during(
    outage: Outage,
    program: &Program,
    proxy: &Proxy,
    setting: &Setting,
    meanwhile: impl AsyncFn(),
) {
    let requests = [
        ("a token", request("GET", "/orders").bearer(&setting.tokens.admin)),
        ("no token", request("GET", "/orders")),
        ("unguarded", request("POST", "/login").body("user=u")),
        (MODE, request("GET", "/orders?mode=nginx").bearer(&setting.tokens.admin)),
    ];
    let chooses = |name: &str| name == MODE && program.passes_query && outage == Outage::CutOff;
    let ask = async |(name, request): &(&str, Request)| {
        let case = format!("{outage:?}: {name}");
        let marks = [format!("{CASE}: {case}"), format!("{ORGANIZATION}: acme")];
        let answer = request.clone().lines(marks).send(proxy.address).await;
        let (status, seen) = (answer.map_or(0, |answer| answer.status), setting.backend.seen(&case));
        print(program, &case, status, &seen);
        let expected = if chooses(name) { 403 } else { (program.without)(outage) };
        assert_eq!((status, seen), (expected, Vec::new()), "{}: {case}", program.name);
    };
    join(join_all(requests.iter().map(ask)), meanwhile()).await;
}

/// Polls while the verifier starts, ends and starts again: without a token nobody is let in, at any moment.
async fn holds_through_restarts(proxy: &Proxy, setting: &mut Setting) {
    let token = request("GET", "/orders").bearer(&setting.tokens.admin).line(format!("{ORGANIZATION}: acme"));
    let none = request("GET", "/orders").lines(IDENTITY.map(|name| format!("{name}: {FORGED}")));
    let none = none.line(format!("{CASE}: restart, no token"));
    let pollers = [Poller::start(proxy.address, token.clone()), Poller::start(proxy.address, none)];
    for _ in 0..2 {
        setting.start_verifier().await;
        let is_served = async || (token.send(proxy.address).await?.status == 200).then_some(());
        setting.world.eventually("a token is let in again", is_served).await;
        setting.verifier.stop().await;
    }
    setting.start_verifier().await;
    let [token, none] = pollers;
    let (token, none) = (token.stop().await, none.stop().await);
    println!("{} through restarts: a token {token:?}, no token {none:?}", proxy.address);
    assert!(token.contains_key(&200) && none.contains_key(&401), "{token:?} {none:?}");
    assert!(none.keys().all(|status| *status == 0 || *status > 400), "{none:?}");
    assert_eq!(setting.backend.seen("restart, no token"), Vec::<Seen>::new());
}

/// A caller that sends a request again and again.
struct Poller {
    stop: CancellationToken,
    task: JoinHandle<BTreeMap<u16, usize>>,
}

impl Poller {
    fn start(to: SocketAddr, request: Request) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut told = BTreeMap::new();
            while !stopped.is_cancelled() {
                let status = request.send(to).await.map_or(0, |answer| answer.status);
                *told.entry(status).or_default() += 1;
            }
            told
        });
        Self { stop, task }
    }

    /// Ends the requests. Returns the number of each status, with 0 for a connection that was closed.
    async fn stop(self) -> BTreeMap<u16, usize> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_hangs_is_left_for_another() {
    let setting = Setting::new("hanging").await;
    let hanging = Silent::hangs(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let full = Silent::is_full().await;
    let addresses = [hanging.address, full.address, setting.verifier.address];
    for (program, verifiers) in [(caddy::CADDY, &addresses[..]), (nginx::NGINX, &[addresses[0], addresses[2]])] {
        let proxy = Proxy::start_with(&program, &setting, verifiers).await;
        let before = hanging.taken();
        for method in ["GET", "POST", "DELETE"] {
            let asked = request(method, "/orders").bearer(&setting.tokens.admin);
            let answer = asked.line(format!("{ORGANIZATION}: acme")).send(proxy.address).await;
            assert_eq!(answer.unwrap().status, 200, "{} {method}", program.name);
        }
        // Each address is tried once for a request: that takes a second, and two, at most.
        let tries = hanging.taken() - before;
        assert!((1..=3).contains(&tries), "{}: {tries}", program.name);
    }
}

#[test]
fn each_example_of_a_proxy_is_shown_in_the_documentation() {
    let pages = fs::read_dir(root().join("docs/how-to")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    let shown: String = pages.map(|page| fs::read_to_string(page).unwrap()).collect();
    for example in fs::read_dir(root().join("examples/proxies")).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&example).unwrap();
        assert!(shown.contains(&format!("\n{text}```\n")), "no page shows the text of {}", example.display());
    }
}
