//! `kubectl tokenry revoke`, `suspend` and `resume`: ends tokens, for good or for a while.

use clap::Args;
use serde_json::json;

use super::{
    asking::AskedChange,
    change::change,
    pick::{self, Pick},
    plan::PlannedChange,
};
use crate::{
    cli::{
        Error,
        connection::{Connection, Workplace},
    },
    crd::api_token::StatedReason,
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

#[derive(Args)]
pub(crate) struct Suspend {
    #[command(flatten)]
    pick: Pick,
    /// Suspend several tokens without a question
    #[arg(long, short)]
    yes: bool,
    /// Let the API server check the change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args)]
pub(crate) struct Resume {
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
        if !picked.leave_out("revoked", |token| token.spec.revoked) {
            return Ok(());
        }
        let mut picked = self.pick.without_ended(picked)?;
        let mut spec = json!({"revoked": true});
        if let Some(reason) = self.reason {
            spec["revocationReason"] = json!(reason);
        }
        if !self.yes && !self.dry_run {
            let asked = AskedChange { kind: PlannedChange::Revoke, spec: &spec, previous: None };
            picked = asked.confirm(place, picked).await?;
        }
        change(place, picked, &spec, self.dry_run, "revoked; this is final").await
    }
}

impl Suspend {
    pub(crate) fn main(self) -> Result<(), Error> {
        self.connection.work(async |place| {
            let (mut picked, spec) = (self.pick.living(place, pick::to_change).await?, json!({"active": false}));
            if !picked.leave_out("suspended", |token| !token.spec.active) {
                return Ok(());
            }
            if self.pick.is_of_several() && !self.yes && !self.dry_run {
                let asked = AskedChange { kind: PlannedChange::Suspend, spec: &spec, previous: None };
                picked = asked.confirm(place, picked).await?;
            }
            change(place, picked, &spec, self.dry_run, "suspended; its Secret stays").await
        })
    }
}

impl Resume {
    pub(crate) fn main(self) -> Result<(), Error> {
        self.connection.work(async |place| {
            let picked = self.pick.living(place, pick::to_change).await?;
            change(place, picked, &json!({"active": true}), self.dry_run, "resumed").await
        })
    }
}
