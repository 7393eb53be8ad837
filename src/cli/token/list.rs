//! `kubectl tokenry list`: the tokens, as a person looks for them.

use std::{collections::BTreeMap, pin::pin, slice, time::Duration};

use clap::{Args, ValueEnum};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, runtime::watcher::Event};
use tokio::time::sleep;

use super::{
    printed::PrintedRows,
    times::span,
    view::{Facts, last_used, when, without_managers},
};
use crate::{
    cli::{
        Error,
        connection::{Connection, Workplace},
        lacking::{self, LackedRight},
        names::{self, Nameable},
        output::{self, ObjectForm},
        screen::{PrintedColumns, Rows, remark},
    },
    crd::{ApiToken, GROUP, subject},
    outside::{Clock, SystemClock, Verb, forbidder::Denied, rights::Right, watch::Heard},
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
    #[arg(long, value_name = "NAME", add = names::of(Nameable::Instance))]
    instance: Option<String>,
    /// Only tokens that may act for this organization
    #[arg(long, add = names::of(Nameable::Organization))]
    organization: Option<String>,
    /// Only the token of the value with this public id, as `scan` and the audit log name it
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only tokens whose value expires within this time, such as 14d
    #[arg(long, value_name = "DURATION", value_parser = span, allow_hyphen_values = true)]
    expiring: Option<SignedDuration>,
    /// Only tokens that were not used for this time, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = span, allow_hyphen_values = true)]
    unused: Option<SignedDuration>,
    /// Form of the output
    #[arg(long, short, default_value = "table")]
    output: ListForm,
    /// Print each token that changes, until Ctrl-C or the end of --request-timeout
    #[arg(long, short)]
    watch: bool,
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
        let ended = self.connection.work(async |place| {
            let me = match self.mine {
                true => place.desk.user().await?.username.map(|name| subject::of_username(&name)),
                false => None,
            };
            match self.watch {
                true => self.follow(place, me.as_deref()).await,
                false => self.once(place, me.as_deref()).await,
            }
        });
        // A watch is ended on purpose, so there is nothing to say.
        match ended {
            Err(Error::Interrupted(_)) if self.watch => Err(Error::Interrupted(String::new())),
            other => other,
        }
    }

    async fn once(&self, place: &Workplace, me: Option<&str>) -> Result<(), Error> {
        let mut tokens = self.find(place).await?;
        let now = SystemClock.now();
        tokens.retain(|token| self.wants(token, me, now));
        match self.output {
            ListForm::Table | ListForm::Wide if tokens.is_empty() => remark("no ApiToken matches"),
            ListForm::Table | ListForm::Wide => self.table(&tokens, now).print(self.is_wide()),
            ListForm::Json => output::json(&tokens)?,
            ListForm::Yaml => output::print(&tokens)?,
            ListForm::Name => tokens.iter().for_each(named),
        }
        Ok(())
    }

    async fn find(&self, place: &Workplace) -> Result<Vec<ApiToken>, Error> {
        let found = place.desk.list_needed(self.namespace(place), self.selector.as_deref()).await?;
        Ok(found.into_iter().map(without_managers).collect())
    }

    fn namespace<'a>(&self, place: &'a Workplace) -> Option<&'a str> {
        (!self.all_namespaces).then_some(&*place.namespace)
    }

    /// Prints the tokens, and then each token that changes. As with kubectl, a given timeout of requests ends it.
    async fn follow(&self, place: &Workplace, me: Option<&str>) -> Result<(), Error> {
        // The stream below would wait for these rights without a word.
        self.find(place).await?;
        let namespace = self.namespace(place);
        if place.desk.may(WATCH, namespace).await.is_ok_and(|is_held| !is_held) {
            return Err(unwatched(place, namespace).await);
        }
        let mut printed = PrintedRows::default();
        let heard = place.desk.watch::<ApiToken>(namespace, self.selector.as_deref());
        let limit = self.connection.given_timeout().unwrap_or(Duration::MAX);
        let mut heard = pin!(heard.take_until(sleep(limit)));
        let mut begun = None;
        while let Some(heard) = heard.next().await {
            let Heard::Event(event) = heard else { continue };
            let is_whole = matches!(event, Event::InitDone);
            let now = SystemClock.now();
            let changed = printed.hear(event, |token| self.wants(token, me, now));
            let changed: Vec<_> = changed.into_iter().map(without_managers).collect();
            match (&changed[..], &begun) {
                ([], None) if is_whole => remark("no ApiToken matches yet"),
                ([], _) => {}
                (all, None) => begun = Some(self.begin(all, now)?),
                (all, Some(columns)) => {
                    all.iter().try_for_each(|token| self.tell(columns.as_ref(), token, now))?;
                }
            }
        }
        Ok(())
    }

    /// Prints the first tokens of a watch. Returns the columns of the table, if it is one.
    fn begin(&self, tokens: &[ApiToken], now: Timestamp) -> Result<Option<PrintedColumns>, Error> {
        match self.output {
            ListForm::Table | ListForm::Wide => return Ok(Some(self.table(tokens, now).begin(self.is_wide()))),
            ListForm::Json => tokens.iter().try_for_each(|token| output::object(token, ObjectForm::Json))?,
            ListForm::Yaml => output::print(tokens)?,
            ListForm::Name => tokens.iter().for_each(named),
        }
        Ok(None)
    }

    /// Prints a token that has changed, in the columns of the table.
    fn tell(&self, columns: Option<&PrintedColumns>, token: &ApiToken, now: Timestamp) -> Result<(), Error> {
        let token = slice::from_ref(token);
        match columns {
            Some(columns) => columns.print(&self.table(token, now)),
            None => drop(self.begin(token, now)?),
        }
        Ok(())
    }

    fn is_wide(&self) -> bool {
        self.output == ListForm::Wide
    }

    fn table(&self, tokens: &[ApiToken], now: Timestamp) -> Rows {
        rows(tokens, now, self.is_wide(), self.all_namespaces)
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
        let has_id = self.id.as_ref().is_none_or(|id| status.records.iter().any(|record| record.id == *id));
        let facts = Facts::of(token);
        let expires = self
            .expiring
            .is_none_or(|within| facts.valid && facts.expires.is_some_and(|end| end.duration_since(now) <= within));
        let rests = self.unused.is_none_or(|at_least| {
            let since = last_used(&status).or(facts.created);
            since.is_some_and(|since| now.duration_since(since) >= at_least)
        });
        is_mine && is_of && acts && has_id && expires && rests
    }
}

/// Prints the name of a token, as kubectl takes it.
fn named(token: &ApiToken) {
    output::line(&format!("apitoken/{}", token.name_any()));
}

/// The right to watch tokens.
const WATCH: Right = Right::new(Verb::WATCH, GROUP, "apitokens");

/// The refusal of a watch.
async fn unwatched(place: &Workplace, namespace: Option<&str>) -> Error {
    let namespace = namespace.unwrap_or_default();
    let denied = Denied { verb: "watch", resource: "apitokens", group: GROUP, namespace, ..Denied::default() };
    lacking::lacks(place, "", &[LackedRight::denied(&denied)]).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        list: List,
    }

    #[test]
    fn a_filter_looks_at_the_end_and_at_the_use() {
        let now = "2027-01-10T00:00:00Z".parse().unwrap();
        let valid = json!({"type": "Valid", "status": "True", "reason": "Active", "message": "",
            "lastTransitionTime": "2027-01-01T00:00:00Z"});
        let used =
            json!([{"generation": 1, "firstUsedAt": "2027-01-02T00:00:00Z", "lastUsedAt": "2027-01-06T00:00:00Z"}]);
        let token: ApiToken = serde_json::from_value(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken",
            "metadata": {"name": "ci", "creationTimestamp": "2027-01-01T00:00:00Z"},
            "spec": {"instanceRef": {"name": "eem"}, "owner": "user:alice"},
            "status": {"conditions": [valid], "use": used, "expiresAt": "2027-01-20T00:00:00Z",
                "effective": {"organizations": ["north"]}},
        }))
        .unwrap();
        let wants = |line: &str| {
            let words = ["list"].into_iter().chain(line.split(' '));
            Line::parse_from(words).list.wants(&token, Some("user:alice"), now)
        };
        for line in ["--mine", "--expiring 10d", "--unused 4d", "--organization north", "--instance eem"] {
            assert!(wants(line), "{line}");
        }
        for line in ["--expiring 9d", "--unused 5d", "--organization south", "--instance x", "--mine --unused 5d"] {
            assert!(!wants(line), "{line}");
        }
    }
}
