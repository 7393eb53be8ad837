//! The writes of a command, so that an interrupted command can name them.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Refusal;

/// The writes of a command, in their order.
#[derive(Debug, Default)]
pub(super) struct Deeds(Mutex<DeedLog>);

#[derive(Debug, Default)]
struct DeedLog {
    /// The writes that were done, such as `ApiToken a/ci was created`.
    done: Vec<String>,
    /// The write in progress: its participle and its object.
    begun: Option<(&'static str, String)>,
}

impl Deeds {
    /// Notes that a write begins, such as `created` and `ApiToken a/ci`.
    pub(super) fn begin(&self, verb: &'static str, object: String) {
        self.state().begun = Some((verb, object));
    }

    /// Notes the end of the write. A write that the API server refused was not done.
    pub(super) fn end(&self, refusal: Option<&Refusal>) {
        let mut state = self.state();
        if refusal.is_none_or(|refusal| !refusal.why.is_definite())
            && let Some((verb, object)) = mem::take(&mut state.begun)
        {
            let certainty = if refusal.is_none() { "was" } else { "may have been" };
            state.done.push(format!("{object} {certainty} {verb}"));
        }
        state.begun = None;
    }

    /// The writes so far, as a sentence without its full stop.
    pub(super) fn told(&self) -> String {
        let state = self.state();
        let begun = state.begun.iter().map(|(verb, object)| format!("{object} may have been {verb}"));
        let all: Vec<_> = state.done.iter().cloned().chain(begun).collect();
        if all.is_empty() {
            return "nothing was changed".to_owned();
        }
        format!("{}; nothing else was changed", all.join(", "))
    }

    fn state(&self) -> MutexGuard<'_, DeedLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::Why;

    #[test]
    fn a_write_is_told_as_done_and_as_uncertain_until_then() {
        let deeds = Deeds::default();
        assert_eq!(deeds.told(), "nothing was changed");
        deeds.begin("created", "ApiToken a/ci".into());
        assert_eq!(deeds.told(), "ApiToken a/ci may have been created; nothing else was changed");
        deeds.end(None);
        assert_eq!(deeds.told(), "ApiToken a/ci was created; nothing else was changed");
        deeds.begin("deleted", "ApiToken a/x".into());
        deeds.end(Some(&Refusal::because(Why::Forbidden("m".into()))));
        assert_eq!(deeds.told(), "ApiToken a/ci was created; nothing else was changed");
        deeds.begin("deleted", "ApiToken a/x".into());
        deeds.end(Some(&Refusal::because(Why::Unavailable("m".into()))));
        assert!(deeds.told().ends_with(", ApiToken a/x may have been deleted; nothing else was changed"));
    }
}
