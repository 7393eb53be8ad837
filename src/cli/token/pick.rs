//! The tokens that a command names: by name, by labels, or all of a namespace.

use clap::Args;
use kube::ResourceExt;

use crate::{
    cli::{
        Error,
        connection::Workplace,
        names::{self, Nameable},
        screen::remark,
    },
    crd::ApiToken,
};

/// The tokens of a command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Pick {
    /// Names of ApiTokens
    #[arg(required_unless_present_any = ["selector", "all"], conflicts_with_all = ["selector", "all"])]
    #[arg(add = names::of(Nameable::Token))]
    pub(crate) names: Vec<String>,
    /// All ApiTokens with these labels, such as app=shop
    #[arg(long, short = 'l', value_name = "LABELS")]
    pub(crate) selector: Option<String>,
    /// All ApiTokens of the namespace
    #[arg(long, conflicts_with = "selector")]
    pub(crate) all: bool,
}

impl Pick {
    /// The tokens, in the order of their names on the command line.
    ///
    /// # Errors
    /// A named token does not exist, no token matches, or the API server refused the read.
    pub(crate) async fn find(&self, place: &Workplace) -> Result<Vec<ApiToken>, Error> {
        let Workplace { desk, namespace } = place;
        if self.selector.is_some() || self.all {
            let found: Vec<ApiToken> = desk.list(Some(namespace), self.selector.as_deref()).await?;
            let nothing = || Error::Missing(format!("no ApiToken matches in namespace {namespace}"));
            return if found.is_empty() { Err(nothing()) } else { Ok(found) };
        }
        let mut found = Vec::new();
        for name in &self.names {
            found.push(one(place, name).await?);
        }
        Ok(found)
    }

    /// The tokens that are not revoked. A revocation is final, so the others are only named.
    ///
    /// # Errors
    /// Those of [`find`](Self::find), and: all of them are revoked.
    pub(crate) async fn living(&self, place: &Workplace) -> Result<Vec<ApiToken>, Error> {
        let (revoked, living): (Vec<_>, Vec<_>) =
            self.find(place).await?.into_iter().partition(|token| token.spec.revoked);
        let told = |token: &ApiToken| {
            format!("{} is revoked, and that is final; kubectl tokenry create makes another token", token.name_any())
        };
        match (&revoked[..], &living[..]) {
            ([first, ..], []) => return Err(Error::Missing(told(first))),
            (some, _) => some.iter().for_each(|token| remark(&told(token))),
        }
        Ok(living)
    }
}

/// The token of that name.
///
/// # Errors
/// The token does not exist, or the API server refused the read.
pub(crate) async fn one(place: &Workplace, name: &str) -> Result<ApiToken, Error> {
    let Workplace { desk, namespace } = place;
    let found = desk.find(namespace, name).await?;
    found.ok_or_else(|| {
        Error::Missing(format!(
            "ApiToken {namespace}/{name} does not exist; `kubectl tokenry list -n {namespace}` lists those that do"
        ))
    })
}
