//! `kubectl tokenry show`: prints the value of a token.

use std::io::{IsTerminal, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use zeroize::Zeroizing;

use super::{pick, times::both};
use crate::{
    cli::{
        Error,
        connection::{Connection, Workplace},
        names::{self, Nameable},
        screen::{remark, sure},
    },
    crd::{ApiToken, api_token::DeliveryMode},
    outside::{Clock, SystemClock, desk::Shown},
    token::Records,
};

#[derive(Args)]
pub(crate) struct Show {
    /// Name of the ApiToken
    #[arg(add = names::of(Nameable::Token))]
    name: String,
    /// Copy the value into the clipboard of the terminal (OSC 52), and do not print it
    #[arg(long)]
    copy: bool,
    /// For a value that is shown once: claim it, so that its Secret is deleted
    #[arg(long)]
    claim: bool,
    /// Claim without a question
    #[arg(long, requires = "claim")]
    yes: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Show {
    pub(crate) fn main(self) -> Result<(), Error> {
        self.connection.work(async |place| self.run(place).await)
    }

    async fn run(&self, place: &Workplace) -> Result<(), Error> {
        let token = pick::one(place, &self.name).await?;
        let is_once = is_shown_once(&token);
        if self.claim && !is_once {
            let text = format!("--claim: the value of {} is not shown once; its Secret stays", self.name);
            return Err(Error::Usage(text));
        }
        if self.claim && !self.yes {
            sure(
                &format!("Claim the value of {}? Its Secret is deleted, and nothing shows the value again.", self.name),
                "--yes",
            )?;
        }
        let (shown, value) = read(place, &token).await?;
        if self.copy {
            copy(&value)?;
            remark("copied into the clipboard of this terminal");
        } else {
            tell(&value)?;
        }
        if self.claim {
            let id = shown.id().unwrap_or_default();
            let claimed = place.desk.claim(&place.namespace, &shown, &id).await;
            claimed.map_err(|refusal| Error::of_claim(refusal, &token))?;
            remark(&format!("claimed: the Secret of {} is being deleted", self.name));
        } else if is_once {
            remark(&again(&token, SystemClock.now()));
        }
        Ok(())
    }
}

/// True if the served value is shown once.
pub(crate) fn is_shown_once(token: &ApiToken) -> bool {
    token.status.as_ref().and_then(|status| status.delivery) == Some(DeliveryMode::Once)
}

/// The Secret that shows the served value. `None` if there is none.
pub(crate) fn secret(token: &ApiToken) -> Option<&str> {
    let status = token.status.as_ref()?;
    let records = Records::at(&status.records, Timestamp::UNIX_EPOCH);
    records.served()?;
    if is_shown_once(token) && status.claim.is_some() { None } else { status.secret_name.as_deref() }
}

/// The way to see the value again.
pub(crate) fn again(token: &ApiToken, now: Timestamp) -> String {
    let name = token.name_any();
    let namespace = token.namespace().unwrap_or_default();
    if !is_shown_once(token) {
        return format!("show it again: kubectl tokenry show {name} -n {namespace}");
    }
    let published = token.status.as_ref().and_then(|status| {
        let records = Records::at(&status.records, now);
        records.served().and_then(|record| record.published_at.as_ref().map(|at| at.0))
    });
    let within = token.spec.secret.as_ref().and_then(|secret| secret.claim_within.as_ref()?.parse().ok());
    let within = within.unwrap_or(SignedDuration::from_hours(1));
    let end = published.and_then(|at| at.checked_add(within).ok()).map_or_else(String::new, |end| both(end, now));
    format!(
        "this value is shown once: its Secret is deleted at {end}, or by kubectl tokenry show {name} --claim -n {namespace}"
    )
}

/// Prints the value of a token to standard output.
pub(crate) async fn print(place: &Workplace, token: &ApiToken) -> Result<(), Error> {
    let (_, value) = read(place, token).await?;
    tell(&value)
}

/// Reads the value of a token.
async fn read(place: &Workplace, token: &ApiToken) -> Result<(Shown, Zeroizing<String>), Error> {
    let (name, namespace) = (token.name_any(), &place.namespace);
    let gone = |why: &str| {
        Error::Missing(format!(
            "ApiToken {namespace}/{name} shows no value: {why}; see `kubectl tokenry status {name} -n {namespace}`"
        ))
    };
    let Some(secret) = secret(token) else {
        return Err(gone(if is_shown_once(token) { "it was shown once, and claimed" } else { "none is published" }));
    };
    let shown = place.desk.value(namespace, secret).await.map_err(|refusal| Error::of_value(refusal, token))?;
    let shown = shown.ok_or_else(|| gone(&format!("Secret {secret} does not exist")))?;
    let value = shown.plaintext().ok_or_else(|| gone(&format!("Secret {secret} has no value")))?;
    Ok((shown, value))
}

/// Prints a value, and nothing else, to standard output.
fn tell(value: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let line = Zeroizing::new(format!("{value}\n"));
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(Error::unprinted)
}

/// Copies a value into the clipboard of the terminal, by the control sequence OSC 52 of xterm.
fn copy(value: &str) -> Result<(), Error> {
    let mut terminal = std::io::stderr();
    if !terminal.is_terminal() {
        return Err(Error::Usage("--copy: standard error is no terminal; leave --copy out to print the value".into()));
    }
    let sequence = Zeroizing::new(format!("\x1b]52;c;{}\x07", STANDARD.encode(value)));
    terminal.write_all(sequence.as_bytes()).map_err(|error| Error::local("cannot copy", error))
}
