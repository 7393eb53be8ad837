//! `kubectl tokenry revoke`, `suspend` and `resume`: ends tokens, for good or for a while.

use clap::Args;
use serde_json::{Value, json};

use super::{
    asking::AskedChange,
    change::change,
    pick::{self, Pick, PickRights},
    plan::PlannedChange,
    wait,
};
use crate::{
    cli::{
        Error,
        connection::{Connection, Workplace},
    },
    crd::{ApiToken, api_token::StatedReason},
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
        let mut spec = json!({"revoked": true});
        if let Some(reason) = self.reason {
            spec["revocationReason"] = json!(reason);
        }
        let change = StateChange {
            spec,
            state: "revoked",
            is_there: |token| token.spec.revoked,
            done: "revoked; this is final",
            asked: (!self.yes).then_some(PlannedChange::Revoke),
        };
        // The tokens that can be listed say the further rights.
        let rights = PickRights { one: |name| vec!["--revoke-token", name], all: pick::LOOKS };
        self.connection.work(async |place| change.make(place, &self.pick, &rights, self.dry_run).await)
    }
}

impl Suspend {
    pub(crate) fn main(self) -> Result<(), Error> {
        let change = StateChange {
            spec: json!({"active": false}),
            state: "suspended",
            is_there: |token| !token.spec.active && wait::end(token).is_none(),
            done: "suspended; its Secret stays",
            asked: (self.pick.is_of_several() && !self.yes).then_some(PlannedChange::Suspend),
        };
        self.connection.work(async |place| change.make(place, &self.pick, &pick::TO_CHANGE, self.dry_run).await)
    }
}

impl Resume {
    pub(crate) fn main(self) -> Result<(), Error> {
        let change = StateChange {
            spec: json!({"active": true}),
            state: "spec.active is true",
            is_there: |token| token.spec.active && wait::end(token).is_none(),
            done: "resumed",
            asked: None,
        };
        self.connection.work(async |place| change.make(place, &self.pick, &pick::TO_CHANGE, self.dry_run).await)
    }
}

/// A change of tokens to another state.
struct StateChange {
    /// The fields of the spec that change.
    spec: Value,
    /// The state that they ask for, in words.
    state: &'static str,
    /// True for a token that is in that state already, as far as its spec says.
    is_there: fn(&ApiToken) -> bool,
    /// The outcome for a token, in words.
    done: &'static str,
    /// The change that the user has to confirm. `None`: no question.
    asked: Option<PlannedChange>,
}

impl StateChange {
    /// Changes the tokens that have not ended. With `dry_run`, the API server checks each change only.
    async fn make(&self, place: &Workplace, pick: &Pick, rights: &PickRights, dry_run: bool) -> Result<(), Error> {
        let mut picked = pick.find(place, rights).await?;
        if !picked.leave_out(self.state, self.is_there) {
            return Ok(());
        }
        let mut picked = pick.without_ended(picked)?;
        if let Some(kind) = self.asked.filter(|_| !dry_run) {
            let asked = AskedChange { kind, spec: &self.spec, previous: None };
            picked = asked.confirm(place, picked).await?;
        }
        change(place, picked, &self.spec, dry_run, self.done).await
    }
}
