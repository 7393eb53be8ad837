//! `kubectl tokenry revoke`, `suspend` and `resume`: ends tokens, for good or for a while.

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::{change::change, list, pick::Pick, times::relative, view::last_used};
use crate::{
    cli::{
        Error, client,
        connection::Connection,
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
    #[arg(long)]
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
        client::block_on(self.run())
    }

    async fn run(self) -> Result<(), Error> {
        let place = self.connection.open().await?;
        let mut tokens = self.pick.find(&place).await?;
        tokens.retain(|token| !token.spec.revoked);
        if tokens.is_empty() {
            remark("nothing to revoke: each of these tokens is revoked already");
            return Ok(());
        }
        if !self.yes && !self.dry_run {
            remark(&consequences(&tokens, SystemClock.now()));
            sure(&question(&tokens), "--yes")?;
        }
        let mut spec = json!({"revoked": true});
        if let Some(reason) = self.reason {
            spec["revocationReason"] = json!(reason);
        }
        change(&place, &tokens, &spec, self.dry_run, "revoked; this is final").await
    }
}

impl Switch {
    /// Suspends the tokens, or with `active` resumes them.
    pub(crate) fn main(self, active: bool) -> Result<(), Error> {
        client::block_on(async {
            let place = self.connection.open().await?;
            let tokens = self.pick.find(&place).await?;
            let done = if active { "resumed" } else { "suspended; its Secret stays" };
            change(&place, &tokens, &json!({"active": active}), self.dry_run, done).await
        })
    }
}

/// The tokens of a revocation, and the time of their last use. Requests with them will be refused.
fn consequences(tokens: &[ApiToken], now: Timestamp) -> String {
    let rows = list::rows(tokens, now, false, false).text(None);
    let used = tokens.iter().filter_map(|token| last_used(token.status.as_ref()?)).max();
    let used = used.map_or_else(
        || "none of them was ever used".to_owned(),
        |at| format!("the last use was {}", relative(at, now)),
    );
    format!("{rows}\nEvery request with them will be refused at once, and for good; {used}.")
}

fn question(tokens: &[ApiToken]) -> String {
    match tokens {
        [only] => format!("Revoke {}?", only.name_any()),
        all => format!("Revoke these {} tokens ({})?", all.len(), list::summary(all)),
    }
}
