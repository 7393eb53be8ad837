//! The noisy neighbour: a tenant whose tokens are as expensive as possible and change all the time.

use std::time::Duration;

use controlplane::ControlPlane;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokenry::crd::ApiToken;

use crate::{
    NAME, Outcome, PACE,
    readings::Latencies,
    side::{Side, create, prepare, stage, token},
};

/// The neighbour's namespace.
const NAMESPACE: &str = "neighbour";
/// Number of the neighbour's tokens.
const TOKENS: usize = 25;
/// Interval between two changes of the neighbour's tokens.
const CHANGE: Duration = Duration::from_millis(100);
/// The template keys of a token, the text of each, and its number of repetitions. This is the most that a token can
/// request, and far more than a Secret can hold.
const KEYS: usize = 32;
const SAID: &str = "{{name}}";
const OFTEN: usize = 500;
/// Tokens of other tenants in one turn.
const SLICE: usize = 25;

struct Neighbour {
    tokens: Api<DynamicObject>,
    changes: usize,
}

/// Time until Ready of `count` tokens of other tenants, created at ten a second. The first result is beside the noisy
/// neighbour, the second without it. Noisy and quiet turns alternate. The measurement has a separate control plane,
/// because the operator watches all namespaces.
pub async fn measure(count: usize) -> Outcome<[Latencies; 2]> {
    let (plane, operators) = stage()?;
    let mut others = Side::operator(&plane, &operators, &[]).await?;
    let mut neighbour = Neighbour::move_in(&plane).await?;
    eprintln!("{count} tokens beside a noisy neighbour, and as many without …");
    let mut latencies = [const { Latencies::NONE }; 2];
    let mut left = count;
    while left > 0 {
        let slice = left.min(SLICE);
        latencies[0].extend(neighbour.beside(&mut others, slice).await?);
        others.rest().await?;
        latencies[1].extend(others.issue_paced(slice, PACE).await?);
        others.rest().await?;
        left -= slice;
    }
    Ok(latencies)
}

impl Neighbour {
    async fn move_in(plane: &ControlPlane) -> Outcome<Self> {
        prepare(plane, NAMESPACE).await?;
        let tokens = Api::namespaced_with(plane.client(), NAMESPACE, &ApiResource::erase::<ApiToken>(&()));
        let body = token(json!({ "data": data() }));
        for nth in 0..TOKENS {
            create(&tokens, &name(nth), &body).await?;
        }
        Ok(Self { tokens, changes: 0 })
    }

    /// Creates `count` tokens of `others` while the neighbour is noisy.
    async fn beside(&mut self, others: &mut Side, count: usize) -> Outcome<Vec<Duration>> {
        tokio::select! {
            latencies = others.issue_paced(count, PACE) => latencies,
            failed = self.be_noisy() => failed,
        }
    }

    /// Changes one token after another. An annotation that nothing reads alternates with a spec field that triggers a
    /// pass.
    async fn be_noisy<T>(&mut self) -> Outcome<T> {
        let mut ticks = tokio::time::interval(CHANGE);
        loop {
            ticks.tick().await;
            let mark = self.changes.to_string();
            let change = match self.changes % 2 {
                0 => json!({"metadata": {"annotations": {"mark": mark}}}),
                _ => json!({"spec": {"description": mark}}),
            };
            let name = name(self.changes % TOKENS);
            self.tokens.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(change)).await?;
            self.changes += 1;
        }
    }
}

/// A very long name, which the templates repeat.
fn name(nth: usize) -> String {
    format!("{NAME}-{nth}-{}", "x".repeat(240))
}

fn data() -> Value {
    let text = SAID.repeat(OFTEN);
    (0..KEYS).map(|key| (key.to_string(), Value::from(text.clone()))).collect::<serde_json::Map<_, _>>().into()
}
