//! `tokenry verify`: judges a value from standard input, as the verifier would.

use std::io::Read;

use clap::Args;
use kube::ResourceExt;
use zeroize::Zeroizing;

use super::{
    Error,
    connection::{Connection, Workplace},
    denial::Denial,
    explain::{AskedRequest, conclude, named},
    grant, lacking,
    names::{self, Nameable},
    screen::hidden,
};
use crate::{
    access::Step,
    crd::ApiToken,
    outside::{Clock, Refusal, SystemClock},
    token::{Digest, Id, format},
    verifier::{
        Cause,
        explain::{Question, ask},
        index::Key,
    },
};

/// The longest text that is read from standard input, in bytes.
const MAX: u64 = 8192;

/// The reason why a value that was valid can be unknown.
const FORGOTTEN: &str = "a token keeps the records of its last two values that expired";

#[derive(Args)]
pub(crate) struct Verify {
    /// -: read the value from standard input, the default; on the command line it would stay in the shell's history
    #[arg(default_value = "-")]
    value: String,
    /// Instance that the request is sent to, as NAME or NAMESPACE/NAME; default: the token's own Instance
    #[arg(long, add = names::of(Nameable::Instance), value_parser = names::placed)]
    instance: Option<String>,
    #[command(flatten)]
    request: AskedRequest,
    /// Look in all namespaces at once; default: in the namespace first, and then in all
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
            None => text(&read()?)?,
        };
        let value = value.trim();
        if value.is_empty() {
            let told = "standard input is empty; give it the value, such as: kubectl tokenry verify < FILE";
            return Err(Error::Usage(told.to_owned()));
        }
        let id = match format::id(value) {
            Ok(id) => id,
            Err(error) => {
                let text = format!("{error}, or its checksum is wrong: it was cut or mistyped, or is of no token");
                let step = Step { passed: false, object: "the value".into(), text };
                return conclude(&Cause::Malformed.into(), vec![step], None);
            }
        };
        let (digest, id) = (Digest::of(value), id.to_owned());
        let judged = self.connection.work(async |place| {
            let Some(token) = self.find(place, &id, digest).await? else { return Ok(None) };
            let instance = self.instance.as_deref().map(|given| named(given, &place.namespace));
            let AskedRequest { method, path, organization, project } = self.request.clone();
            let key = token.clone();
            let (token, value) = (Some(token), Id::of(&id));
            let question = Question { token, value, instance, method, path, organization, project };
            let (verdict, trail) = place.desk.shown(ask(place.desk.client(), &question, SystemClock.now())).await?;
            Ok(Some((verdict, trail, key)))
        })?;
        match judged {
            Some((verdict, trail, key)) => conclude(&verdict, trail, Some(&key)),
            None => conclude(&Cause::Unknown.into(), vec![unknown(&id)], None),
        }
    }

    /// The token that serves the value with this id and digest. `None`: no token of any namespace does.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    async fn find(&self, place: &Workplace, id: &str, digest: Digest) -> Result<Option<Key>, Error> {
        if !self.all_namespaces {
            let here: Vec<ApiToken> = place.desk.list_needed(Some(&place.namespace), None).await?;
            if let Some(found) = serving(&here, id, digest) {
                return Ok(Some(found));
            }
        }
        let all: Result<Vec<ApiToken>, _> = place.desk.list(None, None).await;
        let unseen = |refusal: Refusal| match Denial::of_right(&refusal) {
            Some((who, right)) if !self.all_namespaces => Error::Refused(format!(
                "there is no verdict: no ApiToken in namespace {} has a record of the value with id {id}, and {}; if \
                 its token is in this namespace, the answer is 401 Unknown: {FORGOTTEN}; if it is in another one, give \
                 that one by --namespace; an administrator lets you look there by:{}",
                place.namespace,
                lacking::sentence(&[right]),
                grant::command(&who, &["--view".to_owned()], "NAMESPACE"),
            )),
            Some(_) | None => refusal.into(),
        };
        Ok(serving(&all.map_err(unseen)?, id, digest))
    }
}

/// The one of these tokens that has a value with this id and digest.
fn serving(tokens: &[ApiToken], id: &str, digest: Digest) -> Option<Key> {
    let has = |token: &&ApiToken| {
        let records = token.status.iter().flat_map(|status| &status.records);
        { records }.any(|record| record.id == id && record.sha256 == digest)
    };
    let token = tokens.iter().find(has)?;
    Some(Key::new(token.namespace().unwrap_or_default(), token.name_any()))
}

/// The step that no ApiToken passes.
fn unknown(id: &str) -> Step {
    let text = format!("has the id {id}, and no ApiToken in any namespace has a record of it; {FORGOTTEN}");
    Step { passed: false, object: "the value".into(), text }
}

/// The bytes on standard input.
fn read() -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = std::io::stdin().lock().take(MAX).read_to_end(&mut bytes);
    read.map_err(|error| Error::local("cannot read standard input", error))?;
    Ok(bytes)
}

/// The text in these bytes.
fn text(bytes: &[u8]) -> Result<Zeroizing<String>, Error> {
    let unreadable = "standard input is no text in UTF-8, so it is no value; Windows PowerShell writes UTF-16 by `>`: \
                      write the value by `Out-File -Encoding ascii`";
    match std::str::from_utf8(bytes) {
        _ if bytes.len() as u64 >= MAX => {
            Err(Error::Usage(format!("standard input is too long for a value: {MAX} bytes")))
        }
        Ok(text) if !text.contains('\0') => Ok(Zeroizing::new(text.to_owned())),
        Ok(_) | Err(_) => Err(Error::Usage(unreadable.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_or_too_long_is_no_value() {
        assert_eq!(text(b"tkn_a\n").unwrap().as_str(), "tkn_a\n");
        let utf16: Vec<u8> = "\u{feff}tkn".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [&b"t\xffn"[..], &utf16, b"t\0k\0n\0"] {
            let refused = text(bytes).unwrap_err();
            assert!(refused.code() == 2 && refused.to_string().contains("no text in UTF-8"), "{refused}");
        }
        assert!(text(&[b'a'; MAX as usize]).unwrap_err().to_string().contains("too long"));
    }
}
