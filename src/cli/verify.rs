//! `tokenry verify`: judges a value from standard input, as the verifier would.

use std::io::Read;

use clap::Args;
use kube::ResourceExt;
use zeroize::Zeroizing;

use super::{
    Error,
    connection::{Connection, Workplace},
    explain::{conclude, named},
    names::{self, Nameable},
    screen::hidden,
};
use crate::{
    crd::ApiToken,
    outside::{Clock, SystemClock},
    token::{Digest, Id, format},
    verifier::{
        explain::{Question, ask},
        index::Key,
    },
};

/// The longest text that is read from standard input, in bytes.
const MAX: u64 = 8 * 1024;

#[derive(Args)]
pub(crate) struct Verify {
    /// `-`: standard input, which is also the default; a value on the command line would stay in the shell's history
    #[arg(default_value = "-")]
    value: String,
    /// Instance that the request is sent to, as NAME or NAMESPACE/NAME; default: the token's own Instance
    #[arg(long, add = names::of(Nameable::Instance))]
    instance: Option<String>,
    /// Method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// Path of the request
    #[arg(long, default_value = "/")]
    path: String,
    /// Look for the token in all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Verify {
    /// Prints the chain of reasons. Success means that the request is allowed.
    pub(crate) fn main(self) -> Result<(), Error> {
        if self.value != "-" {
            // The text is not repeated, because it may be a value.
            let told = "give the value on standard input, such as `tokenry verify < FILE`; a value on the command line \
                        stays in the shell's history, so rotate it";
            return Err(Error::Usage(told.to_owned()));
        }
        let value = match hidden("Value, which is not shown here: ")? {
            Some(value) => value,
            None => read()?,
        };
        let value = value.trim();
        let id =
            format::id(value).map_err(|error| Error::Usage(format!("standard input has no token: it is {error}")))?;
        let (digest, id) = (Digest::of(value), id.to_owned());
        let (verdict, trail, name) = self.connection.work(async |place| {
            let token = self.find(place, &id, digest).await?;
            let instance = self.instance.as_deref().map(|given| named(given, &place.namespace));
            let (method, path) = (self.method.clone(), self.path.clone());
            let name = token.name.to_string();
            let (token, value, organization, project) = (Some(token), Id::of(&id), None, None);
            let question = Question { token, value, instance, method, path, organization, project };
            let (verdict, trail) = place.desk.shown(ask(place.desk.client(), &question, SystemClock.now())).await?;
            Ok((verdict, trail, name))
        })?;
        conclude(&verdict, trail, Some(&name))
    }

    /// The token that serves the value with this id and digest.
    async fn find(&self, place: &Workplace, id: &str, digest: Digest) -> Result<Key, Error> {
        let namespace = (!self.all_namespaces).then_some(&*place.namespace);
        let tokens: Vec<ApiToken> = place.desk.list(namespace, None).await?;
        let place =
            namespace.map_or_else(|| "any namespace".to_owned(), |name| format!("namespace {name}; -A looks in all"));
        let unknown = || Error::Missing(format!("no ApiToken has a value with id {id} in {place}"));
        let has = |token: &&ApiToken| {
            let records = token.status.iter().flat_map(|status| &status.records);
            { records }.any(|record| record.id == id && record.sha256 == digest)
        };
        let token = tokens.iter().find(has).ok_or_else(unknown)?;
        Ok(Key::new(token.namespace().unwrap_or_default(), token.name_any()))
    }
}

/// The text on standard input.
fn read() -> Result<Zeroizing<String>, Error> {
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin().lock().take(MAX).read_to_string(&mut text);
    read.map_err(|error| Error::local("cannot read standard input", error))?;
    Ok(text)
}
