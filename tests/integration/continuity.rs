//! Who reads the Secret is let in with what it holds, at every moment and without one exception, while operators
//! rotate, die, come back and are doubled.
//!
//! Checked by having `execute` write the Secret before the record: an operator that ends in between leaves a value that
//! no record knows, and both tests fail with `401`. That a verifier may lag behind the record does not show: it waits
//! itself.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::SignedDuration;
use serde_json::json;
use tokenry::{crd::ApiToken, token::State};
use tokio::task::JoinHandle;

use crate::harness::{
    World,
    clock::Held,
    fault::{Death, dying},
    run::Running,
};

const TOKENS: [&str; 2] = ["one", "two"];
/// The writes of a rotation of both: the records, the Secrets, the settled statuses.
const WRITES: usize = 3 * TOKENS.len();
/// Operators that are cut off in the middle of whatever they do.
const KILLS: u32 = 12;

/// A workload that reads the Secret of its token again and again, each time live, and presents what it read.
struct Consumer {
    rounds: AtomicU64,
    refused: Mutex<Option<String>>,
    done: AtomicBool,
}

impl Consumer {
    async fn consume(&self, world: &World, verifier: &Running, token: &str) {
        while !self.done.load(Ordering::SeqCst) {
            let read = world.value(token).await;
            let verdict = match &read {
                Some(value) => verifier.present(world, value).await,
                None => 0,
            };
            if verdict != 200 {
                // Ids are public, and say which generation it was.
                let id = read.as_deref().and_then(|value| value.split('_').nth(1)).unwrap_or("nothing");
                let told = format!("{token}: {verdict} for {id}\n{}", world.dump());
                self.refused.lock().unwrap().get_or_insert(told);
            }
            self.rounds.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Two tokens, with a consumer for each.
struct Site {
    world: Arc<World>,
    clock: Held,
    consumers: Vec<(Arc<Consumer>, JoinHandle<()>)>,
}

impl Site {
    async fn begin(name: &str) -> Self {
        let (world, clock) = (Arc::new(World::new(name).await), Held::default());
        let verifier = Arc::new(world.verifier(&clock).await);
        let operator = world.operator(&clock).await;
        world.accepts("Instance", "eem", json!({})).await;
        let rotation = json!({"schedule": {"every": "20m"}, "overlap": "10m"});
        let spec = json!({"instanceRef": {"name": "eem"}, "expiry": {"after": "1h"}, "rotation": rotation});
        for token in TOKENS {
            world.accepts("ApiToken", token, spec.clone()).await;
            world.await_reason(token, "Active").await;
        }
        operator.stop().await;
        let consumers = TOKENS.map(|token| consumer(&world, &verifier, token)).into();
        Self { world, clock, consumers }
    }

    /// Waits until each consumer has read its Secret, and was answered, after this was asked for.
    async fn await_consumers(&self) {
        for (consumer, _) in &self.consumers {
            let before = consumer.rounds.load(Ordering::SeqCst);
            let round = async || (consumer.rounds.load(Ordering::SeqCst) >= before + 2).then_some(());
            self.world.eventually("the consumer has been there", round).await;
        }
    }

    /// Makes the next rotation of both due, by what the status says. A value that was read before is in its first half.
    async fn pass_time(&self) {
        self.await_consumers().await;
        let mut due = Vec::new();
        for token in TOKENS {
            due.extend(self.world.token(token).await.status.unwrap().rotates_at.map(|at| at.0));
        }
        self.clock.move_to(due.into_iter().max().unwrap() + SignedDuration::from_secs(1));
    }

    /// Asks for the next generation of both at once.
    async fn ask(&self, id: &str) {
        self.await_consumers().await;
        for token in TOKENS {
            self.world.change("ApiToken", token, json!({"regenerate": {"id": id}})).await.unwrap();
        }
    }

    /// The newest published generation of each.
    async fn generations(&self) -> Vec<i64> {
        let mut all = Vec::new();
        for token in TOKENS {
            all.push(published(&self.world.token(token).await));
        }
        all
    }

    /// Waits until each has a later generation than before, and none is in doubt.
    async fn await_later(&self, before: &[i64], when: &str) {
        for (token, &before) in TOKENS.iter().zip(before) {
            let rotated = async || {
                let token = self.world.token(token).await;
                let certain = token.status.as_ref()?.records.iter().all(|record| record.state != State::Recorded);
                (certain && published(&token) > before).then_some(())
            };
            self.world.eventually(&format!("{token} is rotated after {when}"), rotated).await;
        }
    }

    /// Says how often they were let in, if they always were.
    async fn end(self) -> u64 {
        let mut rounds = 0;
        for (consumer, task) in self.consumers {
            consumer.done.store(true, Ordering::SeqCst);
            task.await.unwrap();
            let refused = consumer.refused.lock().unwrap().take();
            assert!(refused.is_none(), "what the Secret held was refused: {}", refused.unwrap());
            rounds += consumer.rounds.load(Ordering::SeqCst);
        }
        rounds
    }
}

fn consumer(world: &Arc<World>, verifier: &Arc<Running>, token: &'static str) -> (Arc<Consumer>, JoinHandle<()>) {
    let consumer =
        Arc::new(Consumer { rounds: AtomicU64::new(0), refused: Mutex::default(), done: AtomicBool::new(false) });
    let task = tokio::spawn({
        let (world, verifier, consumer) = (world.clone(), verifier.clone(), consumer.clone());
        async move { consumer.consume(&world, &verifier, token).await }
    });
    (consumer, task)
}

fn published(token: &ApiToken) -> i64 {
    let records = token.status.iter().flat_map(|status| &status.records);
    records.filter(|record| record.published_at.is_some()).map(|record| record.generation).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_is_let_in_throughout_whichever_write_is_the_last_of_an_operator_and_two_take_over() {
    let site = Site::begin("writes").await;
    for nth in 1..=WRITES {
        for death in [Death::Before, Death::After] {
            let when = format!("{death:?} write {nth}");
            let before = site.generations().await;
            // Each write dies both ways, in a rotation on schedule or in one that was asked for.
            if (nth % 2 == 0) == matches!(death, Death::After) {
                site.pass_time().await;
            } else {
                site.ask(&format!("{death:?}-{nth}")).await;
            }
            let (client, doom) = dying(site.world.plane.config(&site.world.identities.operator), nth, death);
            let doomed = site.world.operator_by(client, &site.clock).await;
            site.world.eventually(&format!("one dies {when}"), async || doom.has_come().then_some(())).await;
            doomed.kill().await;
            let both = (site.world.operator(&site.clock).await, site.world.operator(&site.clock).await);
            site.await_later(&before, &when).await;
            site.await_consumers().await;
            tokio::join!(both.0.kill(), both.1.kill());
        }
    }
    let rounds = site.end().await;
    println!("{rounds} reads, each of them let in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_is_let_in_throughout_while_operators_are_cut_off_in_the_middle_of_a_pass() {
    let site = Site::begin("cut-off").await;
    let begin = async || site.world.operator(&site.clock).await;
    let mut alive = vec![begin().await, begin().await];
    for kill in 0..KILLS {
        let before = site.generations().await;
        site.ask(&format!("kill-{kill}")).await;
        // A different moment of the pass each time: a rotation takes some dozens of milliseconds.
        tokio::time::sleep(Duration::from_millis(7 * u64::from(kill))).await;
        // The older of two, and every third time both.
        let killed = if kill % 3 == 0 { 2 } else { 1 };
        for operator in alive.drain(..killed).collect::<Vec<_>>() {
            operator.kill().await;
        }
        while alive.len() < 2 {
            alive.push(begin().await);
        }
        site.await_later(&before, &format!("kill {kill}")).await;
    }
    let rounds = site.end().await;
    println!("{rounds} reads, each of them let in");
}
