//! Whether a token costs the operator more where there are many.

use crate::{
    Outcome,
    readings::Cpu,
    side::{self, Side},
};

/// CPU of the operator for so many tokens.
#[derive(Clone, Copy)]
pub struct Scale {
    pub tokens: usize,
    /// From its start to the last token at rest, in milliseconds for a token.
    pub made: f64,
    /// From its next start, when all tokens are there, to rest, in milliseconds for a token.
    pub started: f64,
}

/// Measures an operator of its own control plane, which issues `tokens` tokens, and then another one that finds them.
pub async fn measure(tokens: usize) -> Outcome<Scale> {
    eprintln!("{tokens} tokens, and a start among them …");
    let (plane, operators) = side::stage()?;
    let arguments = ["--namespace", side::OPERATOR];
    let mut operator = Side::operator(&plane, &operators, &arguments).await?;
    let before = Cpu::read(&plane, operator.pid)?;
    operator.issue_at_once(tokens).await?;
    operator.rest().await?;
    let made = (Cpu::read(&plane, operator.pid)? - before).writer;
    operator.restart(&plane, &operators, &arguments).await?;
    operator.rest().await?;
    let started = Cpu::read(&plane, operator.pid)?.writer;
    let each = |seconds: f64| seconds * 1e3 / tokens as f64;
    Ok(Scale { tokens, made: each(made), started: each(started) })
}

/// By which power of the number of tokens the cost of all of them grows, of what each costs: 1 where each costs the
/// same.
pub fn exponent(tokens: [usize; 2], costs: [f64; 2]) -> f64 {
    1.0 + (costs[1] / costs[0]).ln() / (tokens[1] as f64 / tokens[0] as f64).ln()
}
