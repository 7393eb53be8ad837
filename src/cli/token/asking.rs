//! The question before a change of tokens, with the effects of the change.

use std::mem;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use super::{
    change,
    each::{FailedToken, causes},
    list,
    overlap::shortened,
    pick::Picked,
    plan::{Effects, PlannedChange, effects, told},
    readers::{NamespaceWorkloads, SecretReader},
    times::{EndTime, both},
};
use crate::{
    cli::{
        Error,
        connection::Workplace,
        screen::{remark, sure},
    },
    crd::ApiToken,
    outside::{Clock, SystemClock, desk::Intent},
};

/// A change of tokens that the user has to confirm.
pub(crate) struct AskedChange<'a> {
    /// The change.
    pub(crate) kind: PlannedChange,
    /// The fields of the spec that change.
    pub(crate) spec: &'a Value,
    /// The end of the previous values, if the user gives it for a rotation.
    pub(crate) previous: Option<&'a EndTime>,
}

impl AskedChange<'_> {
    /// Shows the effects, and asks. Returns the tokens to change. Those whose change the API server refuses count as
    /// failed before the question.
    ///
    /// # Errors
    /// The user does not confirm, there is no terminal, or the API server does not answer.
    pub(crate) async fn confirm(&self, place: &Workplace, picked: Picked) -> Result<Picked, Error> {
        let picked = self.rehearsed(place, picked).await?;
        let Picked { tokens, failed, .. } = &picked;
        if tokens.is_empty() {
            return Ok(picked);
        }
        if !failed.is_empty() {
            remark(&format!("left out: {} of {} tokens", failed.len(), failed.len() + tokens.len()));
            causes(failed).iter().for_each(|cause| remark(&format!("  {cause}")));
        }
        consequences(place, tokens, self.kind, self.previous).await?;
        sure(&self.question(tokens), "--yes")?;
        Ok(picked)
    }

    /// Moves the tokens whose change the API server refuses to the failed ones. It checks the change, and makes none.
    async fn rehearsed(&self, place: &Workplace, mut picked: Picked) -> Result<Picked, Error> {
        let mut accepted = Vec::new();
        for token in mem::take(&mut picked.tokens) {
            match change::one(place, &token, self.spec, Intent::Rehearse).await {
                Ok(_) => accepted.push(token),
                Err(error) if matches!(error, Error::Unreachable(_)) => return Err(error),
                Err(error) => picked.failed.push(FailedToken { name: token.name_any(), error }),
            }
        }
        Ok(Picked { tokens: accepted, ..picked })
    }

    fn question(&self, tokens: &[ApiToken]) -> String {
        match tokens {
            [only] => format!("{:?} {}?", self.kind, only.name_any()),
            all => format!("{:?} these {} tokens ({})?", self.kind, all.len(), list::summary(all)),
        }
    }
}

/// Shows the effects of a change of tokens: those of `plan` for one token, and the list and the readers of several.
/// `previous` is the end of the previous values, if the user gives it for a rotation.
pub(crate) async fn consequences(
    place: &Workplace,
    tokens: &[ApiToken],
    change: PlannedChange,
    previous: Option<&EndTime>,
) -> Result<(), Error> {
    let now = SystemClock.now();
    let (mut lines, unknown) = match tokens {
        [only] => {
            let mut effects = effects(place, only, change == PlannedChange::Delete).await?;
            if change == PlannedChange::Rotate {
                effects.add_rotation(only, previous, now);
            }
            (told(change, &effects, now), effects.unknown)
        }
        _ => {
            list::rows(tokens, now, false, false).show();
            let workloads = NamespaceWorkloads::of(place).await?;
            let mut all: Vec<_> = tokens.iter().map(|token| Effects::of(token, &workloads)).collect();
            if change == PlannedChange::Rotate {
                all.iter_mut().zip(tokens).for_each(|(effects, token)| effects.add_rotation(token, previous, now));
            }
            let mut lines = together(&all, &effect_on_all(change, previous, now), now);
            lines.extend(all.iter().filter_map(|effects| effects.displaced(now)));
            (lines, workloads.unknown)
        }
    };
    if change == PlannedChange::Rotate {
        lines.extend(tokens.iter().flat_map(|token| shortened(token, previous, now)));
    }
    lines.iter().chain(&unknown.told()).for_each(|line| remark(line));
    Ok(())
}

/// The effect of a change on each of several tokens.
fn effect_on_all(change: PlannedChange, previous: Option<&EndTime>, now: Timestamp) -> String {
    let present = match previous {
        Some(end) if end.is_at_once() => "ends at once".to_owned(),
        Some(EndTime::After(length)) => format!("works for {length} at most"),
        Some(EndTime::At(end)) => format!("works until {} at the latest", both(*end, now)),
        Some(EndTime::Never) | None => "works until its overlap is over".to_owned(),
    };
    match change {
        PlannedChange::Rotate => format!("each of them gets a new value; the present value {present}"),
        PlannedChange::Suspend => "every request with them is refused until they are resumed".to_owned(),
        PlannedChange::Revoke | PlannedChange::Delete => {
            "every request with them is refused at once, and for good".to_owned()
        }
    }
}

/// The effects of a change of several tokens. `effect` is that on each of them.
fn together(all: &[Effects], effect: &str, now: Timestamp) -> Vec<String> {
    let used = all.iter().filter_map(|effects| effects.last_used).max();
    let used = used
        .map_or_else(|| "none of them was ever used".to_owned(), |at| format!("the last use was {}", both(at, now)));
    let mut lines = vec![format!("{effect}; {used}")];
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
