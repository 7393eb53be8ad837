//! `kubectl tokenry rotate`: asks for a new value.

use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    allowed,
    asking::AskedChange,
    change,
    each::each,
    granted,
    needed::{self, GrantableRight},
    overlap::{DisplacedValue, end_of_present, shortened},
    pick::{self, Pick, PickRights},
    plan::PlannedChange,
    show,
    times::{EndTime, ahead, both, limit},
    view, wait,
};
use crate::{
    cli::{
        Error,
        connection::{Connection, Workplace},
        screen::remark,
    },
    crd::{ApiToken, Instance},
    outside::{Clock, SystemClock, desk::Intent},
    token::Records,
};

/// The time in which a Pod reads a new value from its mounted Secret. kubelet syncs each minute, and its cache may be a
/// minute old. A previous value that ends earlier is lost to workloads that still send it.
const READ_WITHIN: SignedDuration = SignedDuration::from_mins(2);

#[derive(Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pick: Pick,
    /// End of the previous values: 0s at once, 2h later, or a date; default: the overlap of the token. Of three
    /// values that work, a new one ends the oldest at once
    #[arg(long, value_name = "0s|2h|DATE", value_parser = EndTime::previous, allow_hyphen_values = true)]
    previous: Option<EndTime>,
    /// Wait until the new value is published
    #[arg(long)]
    wait: bool,
    /// Wait, and print the new value
    #[arg(long)]
    show: bool,
    /// Rotate several tokens, or end the previous values within two minutes, without a question
    #[arg(long, short)]
    yes: bool,
    /// Let the API server check the change, and change nothing
    #[arg(long, conflicts_with_all = ["wait", "show"])]
    dry_run: bool,
    /// Longest wait for the new value
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = limit, allow_hyphen_values = true)]
    timeout: Duration,
    #[command(flatten)]
    connection: Connection,
}

impl Rotate {
    pub(crate) fn main(self) -> Result<(), Error> {
        self.connection.work(async |place| self.run(place).await)
    }

    async fn run(&self, place: &Workplace) -> Result<(), Error> {
        let now = SystemClock.now();
        self.previous.iter().try_for_each(|end| ahead(end, now, "--previous"))?;
        let to_show = PickRights { one: |name| vec!["--create", "--read", name], all: pick::CHANGES };
        let mut picked = self.pick.living(place, if self.show { &to_show } else { &pick::TO_CHANGE }).await?;
        let count = picked.tokens.len() + picked.failed.len();
        if self.show && count != 1 {
            return Err(Error::Usage(format!("--show prints one value, and {count} tokens match; name one")));
        }
        if self.wait || self.show {
            let never =
                |token: &ApiToken| Some(Error::Pending(format!("{}; nothing was changed", wait::paused(token)?)));
            picked.refuse(never);
        }
        // The same id asks for nothing new, and two commands can run within one second.
        let id = format!("cli-{}", SystemClock.precise());
        let previous = self.previous.as_ref();
        let is_soon = |end: &EndTime| end.from(now).is_some_and(|end| end.duration_since(now) < READ_WITHIN);
        let is_harsh = self.pick.is_of_several() || previous.is_some_and(is_soon);
        if is_harsh && !self.yes && !self.dry_run {
            let asked = AskedChange { kind: PlannedChange::Rotate, spec: &self.spec(&id), previous };
            picked = asked.confirm(place, picked).await?;
        }
        each(picked, async |token| self.one(place, token, &id, now).await).await
    }

    /// The fields of the spec that ask for a new value, by this id.
    fn spec(&self, id: &str) -> Value {
        json!({"regenerate": {"id": id, "previous": previous(self.previous.as_ref())}})
    }

    /// Asks for a new value of one token, by this id.
    async fn one(&self, place: &Workplace, token: &ApiToken, id: &str, now: Timestamp) -> Result<(), Error> {
        wait::paused(token).iter().for_each(|why| remark(why));
        let spec = self.spec(id);
        let instance = allowed::instance_of(place, &token.spec.instance_ref).await?;
        granted::heed(place, instance.as_ref());
        allowed::check_change(place, instance.as_ref(), token, &spec, now).await?;
        if self.show && !self.is_right_to_come(place, instance.as_ref(), token).await? {
            needed::review_change(place, token, &spec, to_value(place, token)).await?;
        }
        let intent = if self.dry_run { Intent::Rehearse } else { Intent::Do };
        let changed = change::one(place, token, &spec, intent).await?;
        if self.dry_run {
            remark(&format!("{}: the API server accepts it; nothing was changed", token.name_any()));
            return Ok(());
        }
        let displaced = DisplacedValue::of(token, now).map(|value| value.told(&token.name_any(), now));
        displaced.into_iter().chain(shortened(token, self.previous.as_ref(), now)).for_each(|told| remark(&told));
        if self.wait || self.show {
            return self.follow(place, &changed, id, now).await;
        }
        let previous = self.previous_end(instance.as_ref(), token, now);
        remark(&format!("{}: a new value is asked for; {previous}; --wait waits for it", token.name_any()));
        Ok(())
    }

    /// True if the operator gives the user the right to the new value, because no Secret shows a value now.
    async fn is_right_to_come(
        &self,
        place: &Workplace,
        instance: Option<&Instance>,
        token: &ApiToken,
    ) -> Result<bool, Error> {
        match instance.filter(|_| show::secret(token).is_none()) {
            Some(instance) => granted::is_given(place, instance, view::holder(token)).await,
            None => Ok(false),
        }
    }

    /// The end of the previous values, in words. The overlap of an unknown Instance is not known either.
    fn previous_end(&self, instance: Option<&Instance>, token: &ApiToken, now: Timestamp) -> String {
        match end_of_present(token, instance, self.previous.as_ref()) {
            Some(EndTime::At(at)) => format!("the previous value works until {}", both(at, now)),
            Some(EndTime::After(length)) => {
                format!("the previous value works for {length} at most, once the new one is published")
            }
            Some(EndTime::Never) | None => "the previous value works until its overlap is over".to_owned(),
        }
    }

    /// Waits for the new value, and prints it if the user wants to see it.
    async fn follow(&self, place: &Workplace, token: &ApiToken, id: &str, now: Timestamp) -> Result<(), Error> {
        // The status names the answer as soon as the new value is on record, which is before it is published.
        let answered = |token: &ApiToken| {
            let Some(status) = &token.status else { return false };
            let records = Records::at(&status.records, now);
            let served = records.served().map(|record| record.generation);
            let answer = status.regeneration.as_ref().filter(|answer| answer.id == id);
            answer.is_some_and(|answer| served >= Some(answer.generation))
        };
        let token = wait::until(&place.desk, token, self.timeout, answered).await?;
        let records = Records::at(token.status.as_ref().map_or(&[], |status| &status.records), now);
        if self.show {
            granted::wait(place, &token, to_value(place, &token)).await?;
            show::print(place, &token, "--read").await?;
        }
        let served = records.served().map_or(0, |record| record.generation);
        let previous = match records.previous().and_then(|record| record.end()) {
            Some(end) if end > now => format!("the previous value works until {}", both(end, now)),
            _ => "no previous value works any more".to_owned(),
        };
        remark(&format!("{}: generation {served} is published; {previous}", token.name_any()));
        (self.show && show::is_shown_once(&token)).then(|| remark(&show::again(&token, now)));
        Ok(())
    }
}

/// The right to read the value of a token.
fn to_value(place: &Workplace, token: &ApiToken) -> GrantableRight {
    GrantableRight::to_value(&place.namespace, token.secret_name(), &["--read", &token.name_any()])
}

/// The field `regenerate.previous`. One form replaces the other.
fn previous(end: Option<&EndTime>) -> Value {
    match end {
        Some(EndTime::After(after)) => json!({"after": after, "at": null}),
        Some(EndTime::At(at)) => json!({"at": at, "after": null}),
        Some(EndTime::Never) | None => Value::Null,
    }
}
