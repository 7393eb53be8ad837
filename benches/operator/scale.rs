//! The operator's cost per token, as the number of tokens grows.

use crate::{
    Outcome,
    readings::Cpu,
    side::{self, Side},
};

/// CPU and memory of the operator for a number of tokens.
#[derive(Clone, Copy)]
pub struct Scale {
    pub tokens: usize,
    /// CPU from the first start until all tokens are at rest, in milliseconds per token.
    pub made: f64,
    /// CPU from the next start, with all tokens in place, until rest, in milliseconds per token.
    pub started: f64,
    /// Growth of resident memory, in KiB per token: once all tokens are at rest, and after the next start.
    pub held: [f64; 2],
}

/// Measures an operator that issues `tokens` tokens on a new control plane, and then a second operator that finds them.
pub async fn measure(tokens: usize) -> Outcome<Scale> {
    eprintln!("{tokens} tokens, and a start among them …");
    let (plane, operators) = side::stage()?;
    let arguments = ["--namespace", side::OPERATOR];
    let mut operator = Side::operator(&plane, &operators, &arguments).await?;
    let (before, empty) = (Cpu::read(&plane, operator.pid)?, operator.memory()?);
    operator.issue_at_once(tokens).await?;
    operator.rest().await?;
    let made = (Cpu::read(&plane, operator.pid)? - before).writer;
    let made_held = operator.memory()? - empty;
    operator.restart(&plane, &operators, &arguments).await?;
    operator.rest().await?;
    let started = Cpu::read(&plane, operator.pid)?.writer;
    let held = [made_held, operator.memory()? - empty].map(|bytes| bytes / 1024.0 / tokens as f64);
    let each = |seconds: f64| seconds * 1e3 / tokens as f64;
    Ok(Scale { tokens, made: each(made), started: each(started), held })
}

/// The exponent of the growth: the total cost grows by this power of the number of tokens. `costs` are per token. The
/// exponent is 1 if each token costs the same.
pub fn exponent(tokens: [usize; 2], costs: [f64; 2]) -> f64 {
    1.0 + (costs[1] / costs[0]).ln() / (tokens[1] as f64 / tokens[0] as f64).ln()
}
