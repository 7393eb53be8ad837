//! `tokenry explain`.

use std::{fs, path::PathBuf};

use clap::{ArgGroup, Args};

use super::{
    Error,
    advice::next_step,
    client,
    connection::{Connection, Workplace},
    names,
    output::MAX_LINE,
    screen::say,
    unread::{self, UnreadQuestion},
};
use crate::{
    access::Step,
    outside::{Clock, SystemClock, Why, foreign::written},
    verifier::{
        Category, Verdict,
        explain::{Question, Unexplained, ask},
        index::Key,
    },
};

#[derive(Args)]
#[command(group = ArgGroup::new("subject").args(["token", "instance"]).required(true).multiple(true))]
pub(crate) struct Explain {
    /// Name of the ApiToken; if omitted, the request carries no token, and --instance is needed
    #[arg(value_parser = names::object)]
    token: Option<String>,
    /// Instance that the request is sent to, as NAME or NAMESPACE/NAME; default: the token's own Instance
    #[arg(long, value_parser = names::placed)]
    instance: Option<String>,
    /// Method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// Path of the request
    #[arg(long, default_value = "/")]
    path: String,
    /// Organization that the request names in a header
    #[arg(long)]
    organization: Option<String>,
    /// Project that the request names in a header
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    asked: AskedVerifier,
    #[command(flatten)]
    connection: Connection,
}

/// A verifier to ask.
#[derive(Args)]
pub(crate) struct AskedVerifier {
    /// Address of a verifier, such as http://localhost:8080 of kubectl port-forward; for users that may not read the
    /// Instance
    #[arg(long, value_name = "URL")]
    verifier: Option<String>,
    /// File with the CA of that verifier in PEM form, for HTTPS: ca.crt of the ConfigMap tokenry-verifier-tls-ca
    #[arg(long, value_name = "FILE", requires = "verifier")]
    verifier_ca: Option<PathBuf>,
    /// Name in the certificate of that verifier, such as tokenry-verifier.tokenry-system.svc; default: the host of the
    /// address
    #[arg(long, value_name = "NAME", requires = "verifier")]
    verifier_name: Option<String>,
}

impl AskedVerifier {
    /// The address, and the text of the CA file. `None`: no verifier is asked.
    pub(crate) fn read(&self) -> Result<Option<(&str, Option<String>)>, Error> {
        let Some(url) = &self.verifier else { return Ok(None) };
        let read = |file: &PathBuf| {
            let unread = |error| Error::local(format_args!("cannot read {}", file.display()), error);
            fs::read_to_string(file).map_err(unread)
        };
        Ok(Some((url, self.verifier_ca.as_ref().map(read).transpose()?)))
    }

    /// The name that its certificate has to have.
    pub(crate) fn name(&self) -> Option<&str> {
        self.verifier_name.as_deref()
    }
}

impl Explain {
    /// Prints the chain of reasons. Success means that the request is allowed.
    pub(crate) fn main(self) -> Result<(), Error> {
        client::block_on(async {
            let place = self.connection.open().await?;
            let question = self.question(&place);
            match ask(place.desk.client(), &question, SystemClock.now()).await {
                Ok((verdict, trail)) => conclude(&verdict, trail, question.token.as_ref()),
                Err(Unexplained::Refused(refusal)) if matches!(refusal.why, Why::Forbidden(_)) => {
                    // Without the token, there is nothing to explain.
                    let Some(asked) = self.asked(&question).filter(|_| refusal.kind != "ApiToken") else {
                        return Err(refusal.into());
                    };
                    unread::explain(&place, &asked, &refusal).await
                }
                Err(unexplained) => Err(unexplained.into()),
            }
        })
    }

    fn question(&self, place: &Workplace) -> Question {
        let instance = self.instance.as_deref().map(|given| named(given, &place.namespace));
        let token = self.token.as_deref().map(|token| Key::new(&*place.namespace, token));
        let Self { method, path, organization, project, .. } = self;
        let (method, path) = (method.clone(), path.clone());
        Question {
            token,
            value: None,
            instance,
            method,
            path,
            organization: organization.clone(),
            project: project.clone(),
        }
    }

    /// The same question for a user that may not read the Instance.
    fn asked<'a>(&'a self, question: &'a Question) -> Option<UnreadQuestion<'a>> {
        Some(UnreadQuestion {
            token: self.token.as_deref()?,
            instance: question.instance.as_ref().map(|key| (&*key.namespace, &*key.name)),
            request: (&self.method, &self.path),
            verifier: &self.asked,
        })
    }
}

/// The Instance that is given as NAME or NAMESPACE/NAME.
pub(crate) fn named(given: &str, namespace: &str) -> Key {
    let (namespace, name) = given.split_once('/').unwrap_or((namespace, given));
    Key::new(namespace, name)
}

/// Prints a chain of reasons and its end. `token` names the token. Success means that the request is allowed.
pub(crate) fn conclude(verdict: &Verdict, trail: Vec<Step>, token: Option<&Key>) -> Result<(), Error> {
    for step in trail {
        let line = format!("{} {}: {}", if step.passed { '√' } else { '×' }, step.object, step.text);
        say(&written(&line, MAX_LINE));
    }
    if let Some(next) = next_step(verdict.cause) {
        // The token may be in another namespace than that of the command.
        let key = verdict.identity.as_ref().map(|identity| &identity.token).or(token);
        let full = key.map(|Key { namespace, name }| format!("{name} -n {namespace}"));
        let next = next.replace("NAME", full.as_deref().unwrap_or("NAME"));
        say(&written(&format!("next: {next}"), MAX_LINE));
    }
    say(&written(&conclusion(verdict), MAX_LINE));
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
