//! `kubectl tokenry revoke`, `suspend` and `resume`: ends tokens, for good or for a while.

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::{
    change::change,
    list,
    pick::{self, Pick},
    plan::{Effects, PlannedChange, effects, told},
    readers::{NamespaceWorkloads, SecretReader},
    times::both,
};
use crate::{
    cli::{
        Error,
        connection::{Connection, Workplace},
        screen::{remark, sure},
    },
    crd::{ApiToken, api_token::StatedReason},
    outside::{Clock, SystemClock},
};

#[derive(Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    pick: Pick,
    /// Reason of the revocation, for the status and the Event
    #[arg(long, value_name = "Manual|Compromised")]
    reason: Option<StatedReason>,
    /// Revoke without a question
    #[arg(long, short)]
    yes: bool,
    /// Let the API server check the change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Options of `suspend` and `resume`.
#[derive(Args)]
pub(crate) struct Switch {
    #[command(flatten)]
    pick: Pick,
    /// Let the API server check the change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Revoke {
    pub(crate) fn main(self) -> Result<(), Error> {
        self.connection.work(async |place| self.run(place).await)
    }

    async fn run(&self, place: &Workplace) -> Result<(), Error> {
        // The tokens that can be listed say the further rights.
        let mut picked = self.pick.find(place, |name| vec!["--revoke-token", name], pick::LOOKS).await?;
        picked.tokens.retain(|token| !token.spec.revoked);
        if picked.tokens.is_empty() && picked.failed.is_empty() {
            remark("nothing to revoke: each of these tokens is revoked already");
            return Ok(());
        }
        if !self.yes && !self.dry_run && !picked.tokens.is_empty() {
            picked.failed.iter().for_each(|failed| remark(&format!("not revoked: {}", failed.error)));
            consequences(place, &picked.tokens, PlannedChange::Revoke).await?;
            sure(&question(&picked.tokens), "--yes")?;
        }
        let mut spec = json!({"revoked": true});
        if let Some(reason) = self.reason {
            spec["revocationReason"] = json!(reason);
        }
        change(place, picked, &spec, self.dry_run, "revoked; this is final").await
    }
}

impl Switch {
    /// Suspends the tokens, or with `active` resumes them.
    pub(crate) fn main(self, active: bool) -> Result<(), Error> {
        self.connection.work(async |place| {
            let picked = self.pick.living(place, |_| pick::CHANGES.to_vec()).await?;
            let done = if active { "resumed" } else { "suspended; its Secret stays" };
            change(place, picked, &json!({"active": active}), self.dry_run, done).await
        })
    }
}

/// Shows the effects of the end of tokens: those of `plan` for one token, and the list and the readers of several.
pub(crate) async fn consequences(place: &Workplace, tokens: &[ApiToken], change: PlannedChange) -> Result<(), Error> {
    let now = SystemClock.now();
    let (lines, unknown) = match tokens {
        [only] => {
            let effects = effects(place, only, change == PlannedChange::Delete, now).await?;
            (told(change, &effects, now), effects.unknown)
        }
        _ => {
            list::rows(tokens, now, false, false).show();
            let workloads = NamespaceWorkloads::of(place).await?;
            let all: Vec<_> = tokens.iter().map(|token| Effects::of(token, &workloads, now)).collect();
            (together(&all, now), workloads.unknown)
        }
    };
    lines.iter().chain(&unknown.told()).for_each(|line| remark(line));
    Ok(())
}

/// The effects of the end of several tokens.
fn together(all: &[Effects], now: Timestamp) -> Vec<String> {
    let used = all.iter().filter_map(|effects| effects.last_used).max();
    let used = used
        .map_or_else(|| "none of them was ever used".to_owned(), |at| format!("the last use was {}", both(at, now)));
    let mut lines = vec![format!("every request with them is refused at once, and for good; {used}")];
    let mut readers: Vec<_> = all.iter().flat_map(|effects| &effects.readers).map(SecretReader::told).collect();
    readers.sort();
    readers.dedup();
    lines.push(match (&readers[..], all.iter().all(|effects| effects.unknown.is_empty())) {
        ([], true) => "no workload reads their Secrets".to_owned(),
        ([], false) => "no reader of their Secrets is known".to_owned(),
        (_, _) => "these read their Secrets:".to_owned(),
    });
    lines.extend(readers.into_iter().map(|reader| format!("  {reader}")));
    lines
}

fn question(tokens: &[ApiToken]) -> String {
    match tokens {
        [only] => format!("Revoke {}?", only.name_any()),
        all => format!("Revoke these {} tokens ({})?", all.len(), list::summary(all)),
    }
}
