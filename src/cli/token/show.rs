//! `kubectl tokenry show`: prints the value of a token.

use std::io::{IsTerminal, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use zeroize::Zeroizing;

use super::{pick, times::both, view};
use crate::{
    cli::{
        Error, advice,
        connection::{Connection, Workplace},
        names::{self, Nameable},
        screen::{remark, sure},
    },
    crd::{
        ApiToken,
        api_token::{ClaimOutcome, DeliveryMode},
        secret::TOKEN_ID,
    },
    outside::{Clock, SystemClock, Why, desk::Shown},
    token::Records,
};

/// The message to a user that copies and claims without a question.
const UNSEEN: &str = "--copy with --yes: no terminal says that it copied a value, and --claim deletes the other copy; \
    leave --yes out, so that you can paste the value before the claim, or leave --copy out, so that it is printed";

#[derive(Args)]
pub(crate) struct Show {
    /// Name of the ApiToken
    #[arg(add = names::of(Nameable::Token), value_parser = names::token)]
    name: String,
    /// Copy the value into the clipboard of the terminal (OSC 52), and do not print it; with --claim: before the
    /// question
    #[arg(long)]
    copy: bool,
    /// For a value that is shown once: claim it, so that its Secret is deleted
    #[arg(long)]
    claim: bool,
    /// Claim without a question; not with --copy
    #[arg(long, requires = "claim")]
    yes: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A value that is shown once, and that a claim can name.
struct ClaimableValue {
    shown: Shown,
    id: String,
    value: Zeroizing<String>,
}

impl Show {
    pub(crate) fn main(self) -> Result<(), Error> {
        if self.copy && self.yes {
            return Err(Error::Usage(UNSEEN.into()));
        }
        self.connection.work(async |place| self.run(place).await)
    }

    async fn run(&self, place: &Workplace) -> Result<(), Error> {
        let flag = if self.claim { "--claim" } else { "--read" };
        let token = pick::one(place, &self.name, &[flag, &self.name]).await?;
        if self.claim {
            return self.run_claim(place, &token).await;
        }
        let (_, value) = read(place, &token, flag).await?;
        self.give(&value)?;
        is_shown_once(&token).then(|| remark(&again(&token, SystemClock.now())));
        Ok(())
    }

    /// Gives the value to the user, and claims it.
    async fn run_claim(&self, place: &Workplace, token: &ApiToken) -> Result<(), Error> {
        // Without a value, there is nothing to ask about.
        let seen = self.claimable(place, token).await?;
        if self.yes {
            // A value that is claimed before it is printed could be lost.
            self.give(&seen.value)?;
            return self.claim(place, token, &seen).await;
        }
        let name = &self.name;
        if self.copy {
            // A terminal does not say that it copied a text, so the user looks for it before the claim.
            self.give(&seen.value)?;
            let end = "Yes claims it: its Secret is deleted, and nothing shows it again.";
            sure(&format!("Paste it now: is the value of {name} there? {end}"), "--yes without --copy")?;
        } else {
            let end = "Its Secret is deleted, and nothing shows the value again.";
            sure(&format!("Claim the value of {name}? {end}"), "--yes")?;
        }
        self.confirmed(place, &seen).await
    }

    /// Prints the value, or copies it.
    fn give(&self, value: &str) -> Result<(), Error> {
        if !self.copy {
            return tell(value);
        }
        copy(value)?;
        remark("copied into the clipboard of this terminal, if the terminal permits it");
        Ok(())
    }

    /// The value of the token, if it is shown once and has an id.
    async fn claimable(&self, place: &Workplace, token: &ApiToken) -> Result<ClaimableValue, Error> {
        let name = &self.name;
        if !is_shown_once(token) {
            let text = format!("--claim: the value of {name} is not shown once; its Secret stays");
            return Err(Error::Usage(text));
        }
        let (shown, value) = read(place, token, "--claim").await?;
        let without = || {
            Error::Usage(format!(
                "--claim: the Secret of {name} has no key {TOKEN_ID}, and a claim names the value by it; nothing was \
                 claimed; print the value without --claim, or ask for a new one: {}",
                view::command("rotate", token)
            ))
        };
        let id = shown.id().ok_or_else(without)?;
        Ok(ClaimableValue { shown, id, value })
    }

    /// Claims the value that is current after the answer. A rotation, a revocation or a claim may come before it. A
    /// value that only this command still has is printed.
    async fn confirmed(&self, place: &Workplace, seen: &ClaimableValue) -> Result<(), Error> {
        let name = &self.name;
        let current = async {
            let token = pick::one(place, name, &["--claim", name]).await?;
            match self.claimable(place, &token).await {
                Err(Error::Missing(_)) if is_served(&token, &seen.id, SystemClock.now()) => Ok(None),
                found => found.map(|found| Some((token, found))),
            }
        };
        match current.await {
            Ok(Some((_, now))) if self.copy && now.id != seen.id => Err(self.rotated(place)),
            Ok(Some((token, now))) => {
                if now.id != seen.id {
                    remark(&format!("{name} was rotated before your answer; this is the new value"));
                }
                self.print(&now.value)?;
                self.claim(place, &token, &now).await
            }
            Ok(None) => {
                let only = "your copy of its value may be the only one";
                remark(&format!("{name} shows no value any more, so nothing was left to claim; {only}"));
                self.print(&seen.value)
            }
            Err(Error::Missing(text)) => Err(Error::Missing(text)),
            Err(error) => {
                self.print(&seen.value)?;
                remark(&format!("nothing was claimed; your value of {name} is from before your answer"));
                Err(error)
            }
        }
    }

    /// Prints a value, unless it was copied before the question.
    fn print(&self, value: &str) -> Result<(), Error> {
        if self.copy { Ok(()) } else { tell(value) }
    }

    /// Claims the value, which the user has already.
    async fn claim(&self, place: &Workplace, token: &ApiToken, now: &ClaimableValue) -> Result<(), Error> {
        let (name, namespace) = (&self.name, &place.namespace);
        match place.desk.claim(namespace, &now.shown, &now.id).await {
            Ok(()) => remark(&format!("claimed: the Secret of {name} is being deleted")),
            Err(refusal) if refusal.why == Why::Gone => remark(&format!("the Secret of {name} is deleted already")),
            Err(refusal) if refusal.why == Why::Stale => return Err(self.rotated(place)),
            Err(refusal) => return Err(Error::of_claim(refusal, token)),
        }
        Ok(())
    }

    /// The error of a claim whose value is not the current one.
    fn rotated(&self, place: &Workplace) -> Error {
        let (name, copy) = (&self.name, if self.copy { " --copy" } else { "" });
        let again = advice::command(&format!("show {name} --claim{copy}"), &place.namespace);
        Error::Refused(format!(
            "nothing was claimed, because {name} has just been rotated; claim its new value: {again}"
        ))
    }
}

/// True if the value of this id is the served one, and works at `now`.
fn is_served(token: &ApiToken, id: &str, now: Timestamp) -> bool {
    let records = Records::at(token.status.as_ref().map_or(&[], |status| &status.records), now);
    let is_living = !token.spec.revoked && token.metadata.deletion_timestamp.is_none();
    is_living && records.served().is_some_and(|served| served.id == id)
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
    if !is_shown_once(token) {
        return format!("show it again: {}", view::command("show", token));
    }
    let published = token.status.as_ref().and_then(|status| {
        let records = Records::at(&status.records, now);
        records.served().and_then(|record| record.published_at.as_ref().map(|at| at.0))
    });
    let within = token.spec.secret.as_ref().and_then(|secret| secret.claim_within.as_ref()?.parse().ok());
    let within = within.unwrap_or(SignedDuration::from_hours(1));
    let end = published.and_then(|at| at.checked_add(within).ok()).map_or_else(String::new, |end| both(end, now));
    let home = token.namespace().unwrap_or_default();
    let claim = advice::command(&format!("show {} --claim", token.name_any()), &home);
    format!("this value is shown once: its Secret is deleted at {end}, or by `{claim}`")
}

/// Prints the value of a token to standard output. `flag` of `grant` gives the right to read it.
pub(crate) async fn print(place: &Workplace, token: &ApiToken, flag: &str) -> Result<(), Error> {
    let (_, value) = read(place, token, flag).await?;
    tell(&value)
}

/// Reads the value of a token.
async fn read(place: &Workplace, token: &ApiToken, flag: &str) -> Result<(Shown, Zeroizing<String>), Error> {
    let (name, namespace) = (token.name_any(), &place.namespace);
    let gone = |why: &str| {
        Error::Missing(format!(
            "ApiToken {namespace}/{name} shows no value: {why}; see `{}`",
            view::command("status", token)
        ))
    };
    // The operator deletes the Secret of a revoked token some moments later.
    let Some(secret) = secret(token).filter(|_| !token.spec.revoked) else {
        return Err(gone(unshown(token)));
    };
    let shown = place.desk.value(namespace, secret).await.map_err(|refusal| Error::of_value(refusal, token, flag))?;
    let shown = shown.ok_or_else(|| gone(&format!("Secret {secret} does not exist")))?;
    let value = shown.plaintext().ok_or_else(|| gone(&format!("Secret {secret} has no value")))?;
    Ok((shown, value))
}

/// The cause for which a token shows no value.
pub(crate) fn unshown(token: &ApiToken) -> &'static str {
    let status = token.status.as_ref();
    if token.spec.revoked {
        return "it is revoked";
    }
    if status.is_some_and(|status| status.revocation.is_some()) {
        return "it has ended";
    }
    match status.and_then(|status| status.claim.as_ref()).map(|claim| claim.outcome) {
        Some(ClaimOutcome::Claimed) => "it was shown once, and claimed",
        Some(ClaimOutcome::Unclaimed) => "nobody claimed it in time",
        Some(ClaimOutcome::Removed) => "somebody removed its Secret",
        None => "none is published",
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_value_is_served_until_it_expires_or_its_token_is_revoked_or_deleted() {
        let of = |more: Value, metadata: Value| -> ApiToken {
            let mut all = json!({"name": "ci", "namespace": "a"});
            all.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
            let mut spec = json!({"instanceRef": {"name": "eem"}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let record = json!({
                "generation": 1, "id": "i", "sha256": "0".repeat(64), "state": "Active",
                "createdAt": "2027-01-01T00:00:00Z", "publishedAt": "2027-01-01T00:00:00Z",
                "expiresAt": "2027-02-01T00:00:00Z",
            });
            let object = json!({
                "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": all, "spec": spec,
                "status": {"records": [record]},
            });
            serde_json::from_value(object).unwrap()
        };
        let at = |time: &str| time.parse::<Timestamp>().unwrap();
        let (now, living) = (at("2027-01-02T00:00:00Z"), of(json!({}), json!({})));
        assert!(is_served(&living, "i", now));
        assert!(!is_served(&living, "j", now), "the token was rotated");
        assert!(!is_served(&living, "i", at("2027-02-01T00:00:00Z")), "the value expired");
        assert!(!is_served(&of(json!({"revoked": true}), json!({})), "i", now));
        let deleted = of(json!({}), json!({"deletionTimestamp": "2027-01-02T00:00:00Z"}));
        assert!(!is_served(&deleted, "i", now));
    }
}
