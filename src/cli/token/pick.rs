//! The tokens that a command names: by name, by labels, or all of a namespace.

use std::{collections::BTreeSet, mem};

use clap::Args;
use kube::ResourceExt;

use super::{each::FailedToken, wait};
use crate::{
    cli::{
        Error, advice,
        connection::Workplace,
        lacking,
        names::{self, Nameable},
        screen::remark,
    },
    crd::ApiToken,
};

/// The tokens of a command.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Pick {
    /// Names of ApiTokens
    #[arg(add = names::of(Nameable::Token), value_parser = names::token)]
    pub(crate) names: Vec<String>,
    /// All ApiTokens with these labels, such as app=shop
    #[arg(long, short = 'l', value_name = "LABELS")]
    pub(crate) selector: Option<String>,
    /// All ApiTokens of the namespace
    #[arg(long)]
    pub(crate) all: bool,
}

/// The tokens that were found, and the named ones that were not.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    /// The tokens.
    pub(crate) tokens: Vec<ApiToken>,
    /// The names without a token, each with its cause.
    pub(crate) failed: Vec<FailedToken>,
    /// The number of tokens that were left out, as nothing would change for them.
    pub(crate) already: usize,
}

impl Picked {
    /// Leaves out the tokens for which nothing would change, and says so: `told` is true of them already. True if
    /// others remain.
    pub(crate) fn leave_out(&mut self, told: &str, is_done: impl Fn(&ApiToken) -> bool) -> bool {
        let (already, rest): (Vec<_>, Vec<_>) = mem::take(&mut self.tokens).into_iter().partition(is_done);
        if !already.is_empty() {
            let names: Vec<_> = already.iter().map(ResourceExt::name_any).collect();
            remark(&format!("{told} already: {}", names.join(", ")));
        }
        self.already += already.len();
        self.tokens = rest;
        !self.tokens.is_empty() || !self.failed.is_empty()
    }

    /// Moves the tokens with such an error to the failed ones.
    pub(crate) fn refuse(&mut self, error: impl Fn(&ApiToken) -> Option<Error>) {
        for token in mem::take(&mut self.tokens) {
            match error(&token) {
                Some(error) => self.failed.push(FailedToken { name: token.name_any(), error }),
                None => self.tokens.push(token),
            }
        }
    }
}

/// The words of `kubectl tokenry grant` that permit changes of tokens.
pub(crate) const CHANGES: &[&str] = &["--create"];
/// The words of `kubectl tokenry grant` that permit looks at tokens.
pub(crate) const LOOKS: &[&str] = &["--view"];

/// The words of `kubectl tokenry grant` that permit a command for tokens that the user may not read.
pub(crate) struct PickRights {
    /// The words for the token of this name.
    pub(crate) one: fn(&str) -> Vec<&str>,
    /// The words for tokens that the user may not list.
    pub(crate) all: &'static [&'static str],
}

/// The words that permit a change.
pub(crate) const TO_CHANGE: PickRights = PickRights { one: |_| CHANGES.to_vec(), all: CHANGES };

impl Pick {
    /// The tokens, in the order of their names on the command line. A name without a token holds up no other one. A
    /// refusal names `rights`.
    ///
    /// # Errors
    /// The only named token does not exist, no token matches, or the API server refused the read.
    pub(crate) async fn find(&self, place: &Workplace, rights: &PickRights) -> Result<Picked, Error> {
        let Workplace { desk, namespace } = place;
        if self.selector.is_some() || self.all {
            let found = desk.list_needed(Some(namespace), self.selector.as_deref()).await;
            let tokens: Vec<ApiToken> = found.map_err(|refusal| lacking::refused(refusal, rights.all))?;
            let nothing = || Error::Missing(format!("no ApiToken matches in namespace {namespace}"));
            return if tokens.is_empty() { Err(nothing()) } else { Ok(Picked { tokens, ..Picked::default() }) };
        }
        let mut picked = Picked::default();
        // A name that is given twice is one token.
        let mut met = BTreeSet::new();
        for name in self.names.iter().filter(|name| met.insert(*name)) {
            match one(place, name, &(rights.one)(name)).await {
                Ok(token) => picked.tokens.push(token),
                Err(error) if self.names.len() == 1 => return Err(error),
                Err(error) => picked.failed.push(FailedToken { name: name.clone(), error }),
            }
        }
        Ok(picked)
    }

    /// The tokens that have not ended. A refusal names `rights`.
    ///
    /// # Errors
    /// Those of [`find`](Self::find) and [`without_ended`](Self::without_ended).
    pub(crate) async fn living(&self, place: &Workplace, rights: &PickRights) -> Result<Picked, Error> {
        self.without_ended(self.find(place, rights).await?)
    }

    /// Leaves out the tokens that have ended. An end is final. So a named token that has ended counts as failed. Those
    /// of several that labels select, or of all, are only told.
    ///
    /// # Errors
    /// All of them have ended.
    pub(crate) fn without_ended(&self, Picked { tokens, mut failed, already }: Picked) -> Result<Picked, Error> {
        let all = tokens.len() + already;
        let (ended, living): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|token| wait::end(token).is_some());
        if let ([only], 1) = (&ended[..], all + failed.len()) {
            return Err(Error::Missing(wait::ended(only).unwrap_or_default()));
        }
        if self.names.is_empty() && !ended.is_empty() {
            let ends = ended.iter().filter_map(wait::end).collect::<Vec<_>>().join("; ");
            let told = format!("ended already: {} of {all} tokens; {ends}", ended.len());
            if living.is_empty() && already == 0 {
                return Err(Error::Missing(told));
            }
            remark(&told);
        } else {
            let of_end = |token: &ApiToken| {
                Some(FailedToken { name: token.name_any(), error: Error::Missing(wait::ended(token)?) })
            };
            failed.extend(ended.iter().filter_map(of_end));
        }
        Ok(Picked { tokens: living, failed, already })
    }

    /// True unless the user names one token.
    pub(crate) fn is_of_several(&self) -> bool {
        self.names.iter().collect::<BTreeSet<_>>().len() != 1
    }
}

/// The token of that name. `words` of `kubectl tokenry grant` permit the command.
///
/// # Errors
/// The token does not exist, or the API server refused the read.
pub(crate) async fn one(place: &Workplace, name: &str, words: &[&str]) -> Result<ApiToken, Error> {
    let Workplace { desk, namespace } = place;
    let found = desk.find_needed(namespace, name).await.map_err(|refusal| lacking::refused(refusal, words))?;
    found.ok_or_else(|| {
        Error::Missing(format!(
            "ApiToken {namespace}/{name} does not exist; `{}` lists those that do",
            advice::command("list", namespace)
        ))
    })
}
