//! `tokenry explain`.

use clap::Args;

use super::{
    Error, client,
    connection::{Connection, Workplace},
    output,
};
use crate::{
    access::Step,
    outside::{Clock, SystemClock},
    verifier::{
        Category, Verdict,
        explain::{Explanation, Question, ask},
        index::Key,
    },
};

#[derive(Args)]
pub(crate) struct Explain {
    /// Name of the ApiToken; if omitted, the request carries no token
    #[arg(required_unless_present = "instance")]
    token: Option<String>,
    /// Instance that the request is sent to, as NAME or NAMESPACE/NAME; default: the token's own Instance
    #[arg(long)]
    instance: Option<String>,
    /// Method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// Path of the request
    #[arg(long)]
    path: String,
    /// Organization that the request names in a header
    #[arg(long)]
    organization: Option<String>,
    /// Project that the request names in a header
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Explain {
    /// Prints the chain of reasons. Success means that the request is allowed.
    pub(crate) fn main(self) -> Result<(), Error> {
        let (verdict, trail) = client::block_on(self.ask())?;
        conclude(&verdict, trail)
    }

    async fn ask(self) -> Result<Explanation, Error> {
        let Workplace { desk, namespace } = self.connection.open().await?;
        let instance = self.instance.as_deref().map(|given| named(given, &namespace));
        let Self { token, method, path, organization, project, .. } = self;
        let token = token.map(|token| Key::new(namespace, token));
        let question = Question { token, instance, method, path, organization, project };
        Ok(ask(desk.client(), &question, SystemClock.now()).await?)
    }
}

/// The Instance that is given as NAME or NAMESPACE/NAME.
pub(crate) fn named(given: &str, namespace: &str) -> Key {
    let (namespace, name) = given.split_once('/').unwrap_or((namespace, given));
    Key::new(namespace, name)
}

/// Prints a chain of reasons and its end. Success means that the request is allowed.
pub(crate) fn conclude(verdict: &Verdict, trail: Vec<Step>) -> Result<(), Error> {
    for step in trail {
        let line = format!("{} {}: {}", if step.passed { '√' } else { '×' }, step.object, step.text);
        output::line(&line);
    }
    output::line(&conclusion(verdict));
    if is_allowed(verdict) { Ok(()) } else { Err(Error::No) }
}

fn conclusion(verdict: &Verdict) -> String {
    let role = verdict.identity.as_ref().and_then(|identity| identity.role.as_deref());
    let by = role.map_or(String::new(), |role| format!(", effective role {role}"));
    let word = if is_allowed(verdict) { "allowed" } else { "refused" };
    format!("{word}: {} {}{by}", verdict.cause.category().code(), verdict.cause)
}

fn is_allowed(verdict: &Verdict) -> bool {
    verdict.cause.category() == Category::Allowed
}
