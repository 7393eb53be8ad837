//! `kubectl tokenry list`: the tokens, as a person looks for them.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{
    times::span,
    view::{Facts, last_used, when},
};
use crate::{
    cli::{Error, client, connection::Connection, output, screen::Rows},
    crd::{ApiToken, subject},
    outside::{Clock, SystemClock},
};

#[derive(Args)]
pub(crate) struct List {
    /// Only tokens that the current user owns
    #[arg(long)]
    mine: bool,
    /// Tokens of all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Only tokens with these labels, such as app=shop
    #[arg(long, short = 'l', value_name = "LABELS")]
    selector: Option<String>,
    /// Only tokens of this Instance
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Only tokens that may act for this organization
    #[arg(long)]
    organization: Option<String>,
    /// Only tokens whose value expires within this time, such as 14d
    #[arg(long, value_name = "DURATION", value_parser = span)]
    expiring: Option<SignedDuration>,
    /// Only tokens that were not used for this time, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = span)]
    unused: Option<SignedDuration>,
    /// Form of the output
    #[arg(long, short, default_value = "table")]
    output: ListForm,
    #[command(flatten)]
    connection: Connection,
}

/// The form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListForm {
    /// Columns that fit the terminal
    Table,
    /// More columns, and none is cut
    Wide,
    /// The objects as JSON
    Json,
    /// The objects as YAML
    Yaml,
    /// The names of the objects
    Name,
}

impl List {
    pub(crate) fn main(self) -> Result<(), Error> {
        let tokens = client::block_on(self.find())?;
        match self.output {
            ListForm::Table | ListForm::Wide => self.show(&tokens, SystemClock.now()),
            ListForm::Json => output::json(&tokens)?,
            ListForm::Yaml => output::print(&tokens)?,
            ListForm::Name => tokens.iter().for_each(|token| output::line(&format!("apitoken/{}", token.name_any()))),
        }
        Ok(())
    }

    async fn find(&self) -> Result<Vec<ApiToken>, Error> {
        let place = self.connection.open().await?;
        let namespace = (!self.all_namespaces).then_some(&*place.namespace);
        let mut tokens: Vec<ApiToken> = place.desk.list(namespace, self.selector.as_deref()).await?;
        let me = match self.mine {
            true => place.desk.user().await?.username.map(|name| subject::of_username(&name)),
            false => None,
        };
        let now = SystemClock.now();
        tokens.retain(|token| self.wants(token, me.as_deref(), now));
        Ok(tokens)
    }

    fn wants(&self, token: &ApiToken, me: Option<&str>, now: Timestamp) -> bool {
        let (spec, status) = (&token.spec, token.status.clone().unwrap_or_default());
        let owner = spec.owner.as_ref().map(|owner| subject::canonical(owner.as_str()).into_owned());
        let is_mine = !self.mine || owner.is_some() && owner.as_deref() == me;
        let is_of = self.instance.as_ref().is_none_or(|name| spec.instance_ref.name.as_str() == name);
        let acts = self.organization.as_ref().is_none_or(|name| {
            let listed = status.effective.as_ref().and_then(|effective| effective.organizations.clone());
            listed.is_none_or(|listed| listed.contains(name))
        });
        let facts = Facts::of(token);
        let expires = self
            .expiring
            .is_none_or(|within| facts.valid && facts.expires.is_some_and(|end| end.duration_since(now) <= within));
        let rests = self.unused.is_none_or(|at_least| {
            let since = last_used(&status).or(facts.created);
            since.is_some_and(|since| now.duration_since(since) >= at_least)
        });
        is_mine && is_of && acts && expires && rests
    }

    fn show(&self, tokens: &[ApiToken], now: Timestamp) {
        if tokens.is_empty() {
            return crate::cli::screen::remark("no ApiToken matches");
        }
        rows(tokens, now, self.output == ListForm::Wide, self.all_namespaces).print(self.output == ListForm::Wide);
    }
}

/// The rows of tokens.
pub(crate) fn rows(tokens: &[ApiToken], now: Timestamp, wide: bool, namespaces: bool) -> Rows {
    let mut headings = vec!["NAME", "VALID", "REASON", "OWNER", "ROLE", "EXPIRES", "ROTATES", "USED", "DESCRIPTION"];
    if namespaces {
        headings.insert(0, "NAMESPACE");
    }
    if wide {
        headings.extend(["INSTANCE", "ACCOUNT", "SECRET", "AGE"]);
    }
    let mut rows = Rows::under(&headings);
    for token in tokens {
        let (facts, spec, status) = (Facts::of(token), &token.spec, token.status.clone().unwrap_or_default());
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut cells = vec![
            token.name_any(),
            if facts.valid { "yes" } else { "no" }.to_owned(),
            facts.reason,
            facts.owner,
            facts.role,
            when(facts.expires, now, "never"),
            when(facts.rotates, now, "never"),
            when(facts.used, now, "never"),
            text(&spec.description),
        ];
        if !facts.valid {
            cells[5] = facts.expires.map_or_else(String::new, |_| when(facts.expires, now, ""));
        }
        if namespaces {
            cells.insert(0, token.namespace().unwrap_or_default());
        }
        if wide {
            let account = status.account.as_ref().map(|account| account.name.clone());
            let age = when(facts.created, now, "").replace(" ago", "");
            cells.extend([spec.instance_ref.name.to_string(), text(&account), text(&status.secret_name), age]);
        }
        rows.add(cells);
    }
    rows
}

/// The number of tokens by their reason, such as `2 Active, 1 Suspended`.
pub(crate) fn summary(tokens: &[ApiToken]) -> String {
    let mut by_reason = BTreeMap::<String, usize>::new();
    tokens.iter().for_each(|token| *by_reason.entry(Facts::of(token).reason).or_default() += 1);
    by_reason.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join(", ")
}
