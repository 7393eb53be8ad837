//! `tokenry explain`.

use std::{fs, path::PathBuf};

use clap::{ArgGroup, Args};
use http::Method;

use super::{
    Error,
    advice::next_step,
    connection::{Connection, Workplace},
    names::{self, Nameable},
    output::MAX_LINE,
    screen::{mark, say},
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
    #[arg(add = names::of(Nameable::Token), value_parser = names::token)]
    token: Option<String>,
    /// Instance that the request is sent to, as NAME or NAMESPACE/NAME; default: the token's own Instance
    #[arg(long, add = names::of(Nameable::Instance), value_parser = names::placed)]
    instance: Option<String>,
    #[command(flatten)]
    request: AskedRequest,
    #[command(flatten)]
    asked: AskedVerifier,
    #[command(flatten)]
    connection: Connection,
}

/// A request to judge.
#[derive(Args, Clone)]
pub(crate) struct AskedRequest {
    /// Method of the request
    #[arg(long, default_value = "GET", value_parser = method)]
    pub(crate) method: String,
    /// Path of the request
    #[arg(long, default_value = "/", value_parser = path)]
    pub(crate) path: String,
    /// Organization that the request names in a header
    #[arg(long, add = names::of(Nameable::Organization))]
    pub(crate) organization: Option<String>,
    /// Project that the request names in a header
    #[arg(long)]
    pub(crate) project: Option<String>,
}

/// Parses a method of HTTP.
fn method(text: &str) -> Result<String, &'static str> {
    let is_method = Method::from_bytes(text.as_bytes()).is_ok();
    is_method.then(|| text.to_owned()).ok_or("must be a method of HTTP, such as GET; a method has no spaces")
}

/// Parses the path of a request.
fn path(text: &str) -> Result<String, &'static str> {
    text.starts_with('/').then(|| text.to_owned()).ok_or("must begin with /, such as /orders")
}

/// A verifier to ask.
#[derive(Args)]
pub(crate) struct AskedVerifier {
    /// Address of a verifier, such as http://localhost:8080 of kubectl port-forward; for users that may not read the
    /// Instance. Only the Instance names the headers of --organization and --project, so leave these out
    #[arg(long, value_name = "URL", conflicts_with_all = ["organization", "project"])]
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
        let read = |file: &PathBuf| fs::read_to_string(file).map_err(|error| Error::unreadable(file, error));
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
        self.connection.work(async |place| {
            let question = self.question(place);
            match place.desk.shown(ask(place.desk.client(), &question, SystemClock.now())).await {
                Ok((verdict, trail)) => conclude(&verdict, trail, question.token.as_ref()),
                Err(Unexplained::Refused(refusal)) if matches!(refusal.why, Why::Forbidden(_)) => {
                    // Without the token, there is nothing to explain.
                    let Some(asked) = self.asked(&question).filter(|_| refusal.kind != "ApiToken") else {
                        return Err(refusal.into());
                    };
                    unread::explain(place, &asked, &refusal).await
                }
                Err(unexplained) => Err(unexplained.into()),
            }
        })
    }

    fn question(&self, place: &Workplace) -> Question {
        let instance = self.instance.as_deref().map(|given| named(given, &place.namespace));
        let token = self.token.as_deref().map(|token| Key::new(&*place.namespace, token));
        let AskedRequest { method, path, organization, project } = self.request.clone();
        Question { token, value: None, instance, method, path, organization, project }
    }

    /// The same question for a user that may not read the Instance.
    fn asked<'a>(&'a self, question: &'a Question) -> Option<UnreadQuestion<'a>> {
        Some(UnreadQuestion {
            token: self.token.as_deref()?,
            instance: question.instance.as_ref().map(|key| (&*key.namespace, &*key.name)),
            request: &self.request,
            verifier: &self.asked,
            limit: self.connection.given_timeout(),
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
        say(&mark(step.passed, &format!("{}: {}", step.object, step.text)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_method_of_http_and_a_path_from_its_root() {
        for (text, is_method) in [("GET", true), ("M-SEARCH", true), ("FO O", false), ("GET\n", false), ("", false)] {
            assert_eq!(method(text).is_ok(), is_method, "{text:?}");
        }
        for (text, is_path) in
            [("/", true), ("/orders?a=b", true), ("orders", false), ("http://a/b", false), ("", false)]
        {
            assert_eq!(path(text).is_ok(), is_path, "{text:?}");
        }
    }
}
