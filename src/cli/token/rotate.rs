//! `kubectl tokenry rotate`: asks for a new value.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    allowed,
    pick::Pick,
    show,
    times::{EndTime, ahead, both, limit},
    wait,
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

/// The longest overlap of a token for which neither its spec nor its Instance gives one.
const USUAL_OVERLAP: &str = "24h";

#[derive(Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pick: Pick,
    /// End of the previous values: 0s at once, 2h later, or a date; default: the overlap of the token
    #[arg(long, value_name = "0s|2h|DATE", value_parser = EndTime::previous)]
    previous: Option<EndTime>,
    /// Wait until the new value is published
    #[arg(long)]
    wait: bool,
    /// Wait, and print the new value
    #[arg(long)]
    show: bool,
    /// Let the API server check the change, and change nothing
    #[arg(long, conflicts_with_all = ["wait", "show"])]
    dry_run: bool,
    /// Longest wait for the new value
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = limit)]
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
        let tokens = self.pick.living(place).await?;
        if self.show && tokens.len() != 1 {
            return Err(Error::Usage(format!("--show prints one value, and {} tokens match; name one", tokens.len())));
        }
        let intent = if self.dry_run { Intent::Rehearse } else { Intent::Do };
        // The same id asks for nothing new, and two commands can run within one second.
        let id = format!("cli-{}", SystemClock.precise());
        for token in tokens {
            let spec = json!({"regenerate": {"id": id, "previous": previous(self.previous.as_ref())}});
            allowed::check_change(place, &token, &spec, now).await?;
            let changed = place.desk.change(&token, json!({ "spec": spec }), intent).await;
            let changed = changed.map_err(|refusal| Error::of_write(refusal, &token))?;
            match intent {
                Intent::Rehearse => {
                    remark(&format!("{}: the API server accepts it; nothing was changed", token.name_any()))
                }
                Intent::Do => self.follow(place, &changed, &id, now).await?,
            }
        }
        Ok(())
    }

    /// The end of the previous values, in words. The overlap of the Instance is not known without the right to read it.
    async fn previous_end(&self, place: &Workplace, token: &ApiToken, now: Timestamp) -> String {
        let after =
            |length: &str| format!("the previous value works for {length} at most, once the new one is published");
        match &self.previous {
            Some(EndTime::At(at)) => return format!("the previous value works until {}", both(*at, now)),
            Some(EndTime::After(text)) => return after(text),
            Some(EndTime::Never) | None => {}
        }
        let own = token.spec.rotation.as_ref().and_then(|rotation| rotation.overlap.as_ref()).map(ToString::to_string);
        let overlap = match own {
            Some(own) => Some(own),
            None => usual_overlap(place, token).await,
        };
        overlap.map_or_else(|| "the previous value works until its overlap is over".to_owned(), |text| after(&text))
    }

    async fn follow(&self, place: &Workplace, token: &ApiToken, id: &str, now: Timestamp) -> Result<(), Error> {
        let name = token.name_any();
        if !self.wait && !self.show {
            let previous = self.previous_end(place, token, now).await;
            remark(&format!("{name}: a new value is asked for; {previous}; --wait waits for it"));
            return Ok(());
        }
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
            show::print(place, &token).await?;
        }
        let served = records.served().map_or(0, |record| record.generation);
        let previous = match records.overlap_ends() {
            Some(end) if end > now => format!("the previous value works until {}", both(end, now)),
            _ => "no previous value works any more".to_owned(),
        };
        remark(&format!("{name}: generation {served} is published; {previous}"));
        Ok(())
    }
}

/// The overlap that the Instance of a token gives it. `None` without the right to read the Instance.
async fn usual_overlap(place: &Workplace, token: &ApiToken) -> Option<String> {
    let reference = &token.spec.instance_ref;
    let found = place.desk.find::<Instance>(reference.namespace_or(&place.namespace), reference.name.as_str());
    let instance: Instance = found.await.ok()??;
    let given = instance.spec.tokens.overlap.and_then(|overlap| overlap.default);
    Some(given.map_or_else(|| USUAL_OVERLAP.to_owned(), |overlap| overlap.to_string()))
}

/// The field `regenerate.previous`. One form replaces the other.
fn previous(end: Option<&EndTime>) -> Value {
    match end {
        Some(EndTime::After(after)) => json!({"after": after, "at": null}),
        Some(EndTime::At(at)) => json!({"at": at, "after": null}),
        Some(EndTime::Never) | None => Value::Null,
    }
}
