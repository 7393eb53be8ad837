//! Answers over HTTP: the CPU of the server, and the time of the client.

use std::time::{Duration, Instant};

use crate::{
    Outcome,
    load::{Callers, Speech},
    objects::{expired, served, unknown},
    report::{Line, Sum, Table},
    served::Served,
    source::Content,
};

/// Connections of a load.
const CALLERS: usize = 16;
/// Connections of a load of unknown values. They are more than may wait for news of one Instance.
const CROWD: usize = 80;
/// Duration of a turn.
const TURN: Duration = Duration::from_millis(400);
/// Number of policies of an Instance with roles.
const POLICIES: usize = 100;
/// Step from one token to the next. It has no common divisor with the numbers of tokens.
const STRIDE: usize = 7919;
/// Numbers of tokens.
const FEW: usize = 100;
const USUAL: usize = 10_000;
const MANY: usize = 100_000;

/// Maximum ratios of CPU. A refusal is no dearer than an acceptance, but for what two turns differ by. Among ten times
/// as many tokens, more of the index is outside the caches.
const NO_DEARER: f64 = 1.05;
const CACHE_MISSES: f64 = 1.2;

/// A load on a server.
struct Load {
    name: String,
    speech: Speech,
    /// The server. `None`: the one that judges nothing.
    content: Option<Content>,
    /// The nth credential.
    credential: fn(usize) -> String,
    /// The expected statuses of the answers.
    statuses: &'static [&'static str],
    callers: usize,
    /// Maximum CPU, compared with the load at this position.
    target: Option<(usize, f64)>,
}

fn loads() -> Vec<Load> {
    let of = |tokens, policies| Some(Content { tokens, policies });
    let load = |name: &str, content, (credential, statuses): (fn(usize) -> String, _), target| Load {
        name: name.into(),
        speech: Speech::Http,
        content,
        credential,
        statuses,
        callers: CALLERS,
        target,
    };
    let valid = (served as fn(usize) -> String, &["200"][..]);
    let malformed = ((|n| format!("{}x", served(n))) as fn(usize) -> String, &["401"][..]);
    let all = vec![
        load("no-op", None, valid, None),
        load("10000 tokens, valid", of(USUAL, 0), valid, Some((0, 1.3))),
        load("100 tokens, valid", of(FEW, 0), valid, None),
        load("100000 tokens, valid", of(MANY, 0), valid, Some((1, CACHE_MISSES))),
        load("10000 tokens, roles and 100 policies", of(USUAL, POLICIES), valid, Some((0, 1.5))),
        load("100 tokens, roles and 100 policies", of(FEW, POLICIES), valid, None),
        load("100000 tokens, roles and 100 policies", of(MANY, POLICIES), valid, None),
        load("10000 tokens, expired", of(USUAL, 0), (expired, &["401"][..]), Some((1, NO_DEARER))),
        load("10000 tokens, malformed", of(USUAL, 0), malformed, Some((1, NO_DEARER))),
        load("10000 tokens, none", of(USUAL, 0), (|_| String::new(), &["401"][..]), Some((1, NO_DEARER))),
    ];
    // Requests that may be news wait a second. Those that find no place are asked to come again.
    let made_up = (unknown as fn(usize) -> String, &["401", "503"][..]);
    let flood = Load { callers: CROWD, ..load("10000 tokens, unknown", of(USUAL, 0), made_up, Some((1, NO_DEARER))) };
    let no_op = all.len() + 1;
    let by_grpc = |load: Load| Load { speech: Speech::Grpc, name: format!("{}, by gRPC", load.name), ..load };
    let grpc = [
        load("no-op", None, valid, None),
        load("10000 tokens, valid", of(USUAL, 0), valid, Some((no_op, 1.3))),
        load("100 tokens, valid", of(FEW, 0), valid, None),
        load("100000 tokens, valid", of(MANY, 0), valid, Some((no_op + 1, CACHE_MISSES))),
        load("10000 tokens, roles and 100 policies", of(USUAL, POLICIES), valid, Some((no_op, 1.5))),
        load("10000 tokens, malformed", of(USUAL, 0), malformed, Some((no_op + 1, NO_DEARER))),
    ];
    all.into_iter().chain([flood]).chain(grpc.map(by_grpc)).collect()
}

/// Measures all loads whose name contains `only`, and those of the servers that judge nothing. They take turns.
pub async fn measure(rounds: usize, only: &str) -> Outcome<Table> {
    let loads: Vec<_> = loads()
        .into_iter()
        .enumerate()
        .filter(|(_, load)| load.content.is_none() || load.name.contains(only))
        .collect();
    let (mut servers, mut lines) = (Vec::<(Option<Content>, Served)>::new(), Vec::new());
    for (_, load) in &loads {
        if !servers.iter().any(|(content, _)| *content == load.content) {
            eprintln!("starting the server of: {} …", load.name);
            let served = match load.content {
                Some(content) => Served::verifier(&content.serve().await?).await?,
                None => Served::no_op().await?,
            };
            servers.push((load.content, served));
        }
        let target = load.target.and_then(|(of, most)| Some((loads.iter().position(|(n, _)| *n == of)?, most)));
        let judges_nothing = |(_, other): &(usize, Load)| other.content.is_none() && other.speech == load.speech;
        let no_op = loads.iter().position(judges_nothing).unwrap_or_default();
        lines.push(Line { name: load.name.clone(), sum: Sum::default(), no_op, target });
    }
    let server = |load: &Load| servers.iter().find(|(content, _)| *content == load.content).map(|(_, served)| served);
    for round in 0..=rounds {
        for ((_, load), line) in loads.iter().zip(&mut lines) {
            let served = server(load).ok_or("no server")?;
            if round == 0 {
                load.warm_up(served).await?;
            } else {
                load.turn(served, round, &mut line.sum).await?;
            }
        }
    }
    let memory = |tokens| {
        let server = servers.iter().find(|(content, _)| *content == Some(Content { tokens, policies: 0 }));
        server.map(|(_, served)| served.memory()).transpose()
    };
    let grown = memory(MANY)?.zip(memory(FEW)?).map(|(many, few)| (many - few) / (MANY - FEW) as f64);
    Ok(Table { lines, grown })
}

impl Load {
    /// The credentials from the nth on, in an order that is not that of the objects.
    fn credentials(&self, n: usize) -> impl Iterator<Item = String> {
        let tokens = self.content.map_or(USUAL, |content| content.tokens);
        (n..).map(move |n| (self.credential)(n * STRIDE % tokens))
    }

    /// Every token is used once.
    async fn warm_up(&self, served: &Served) -> Outcome {
        let once = if self.callers == CALLERS { self.content.map_or(USUAL, |content| content.tokens) } else { 0 };
        let mut callers = Callers::connect(served.address, self.speech, self.callers).await?;
        callers.ask(self.credentials(0).take(once), self.statuses).await?;
        Ok(())
    }

    async fn turn(&self, served: &Served, round: usize, sum: &mut Sum) -> Outcome {
        let mut callers = Callers::connect(served.address, self.speech, self.callers).await?;
        let (cpu, began) = (served.cpu()?, Instant::now());
        let credentials = self.credentials(round * STRIDE).take_while(|_| began.elapsed() < TURN);
        let answers = callers.ask(credentials, self.statuses).await?;
        if answers.odd > 0 {
            return Err(
                format!("{}: {} answers have another status than {:?}", self.name, answers.odd, self.statuses).into()
            );
        }
        sum.add(answers.times, served.cpu()? - cpu, began.elapsed());
        Ok(())
    }
}
