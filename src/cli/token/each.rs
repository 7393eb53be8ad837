//! A command for several tokens: a token that fails holds up no other one.

use kube::ResourceExt;

use super::pick::Picked;
use crate::{cli::Error, crd::ApiToken};

/// A token for which a command failed.
#[derive(Debug)]
pub(crate) struct FailedToken {
    /// The name of the token.
    pub(crate) name: String,
    /// The cause.
    pub(crate) error: Error,
}

/// Does something with each token. The other tokens are not tried any more once the API server does not answer.
///
/// # Errors
/// It failed for the only token, or for some of several.
pub(super) async fn each(picked: Picked, act: impl AsyncFn(&ApiToken) -> Result<(), Error>) -> Result<(), Error> {
    let Picked { tokens, mut failed, already } = picked;
    let all = tokens.len() + failed.len() + already;
    let (mut done, mut rest) = (Vec::new(), tokens.iter());
    for token in rest.by_ref() {
        let name = token.name_any();
        match act(token).await {
            Ok(()) => done.push(name),
            Err(error) => {
                let is_away = matches!(error, Error::Unreachable(_));
                failed.push(FailedToken { name, error });
                if is_away {
                    break;
                }
            }
        }
    }
    let untried: Vec<_> = rest.map(ResourceExt::name_any).collect();
    if all == 1
        && let Some(only) = failed.pop()
    {
        return Err(only.error);
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::Partly(told(all, &done, &failed, &untried))) }
}

/// The causes of the failures, each after the names of its tokens.
pub(super) fn causes(failed: &[FailedToken]) -> Vec<String> {
    let mut causes = Vec::<(String, Vec<&str>)>::new();
    for FailedToken { name, error } in failed {
        let cause = error.to_string();
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, names)) => names.push(name),
            None => causes.push((cause, vec![name])),
        }
    }
    causes.into_iter().map(|(cause, names)| format!("{}: {cause}", names.join(", "))).collect()
}

/// The outcome for `all` tokens. Tokens that failed for the same cause are named together.
fn told(all: usize, done: &[String], failed: &[FailedToken], untried: &[String]) -> String {
    let done = if done.is_empty() { "none is done".to_owned() } else { format!("done: {}", done.join(", ")) };
    let mut lines = vec![format!("failed for {} of {all} tokens; {done}", failed.len())];
    lines.extend(causes(failed).into_iter().map(|cause| format!("failed: {cause}")));
    lines.extend((!untried.is_empty()).then(|| format!("not tried: {}", untried.join(", "))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{InstanceRef, api_token::ApiTokenSpec};

    fn picked(names: &[&str]) -> Picked {
        let spec = || ApiTokenSpec::of(InstanceRef { name: "eem".into(), namespace: None });
        let tokens = names.iter().map(|name| ApiToken::new(name, spec())).collect();
        Picked { tokens, ..Picked::default() }
    }

    #[tokio::test]
    async fn each_token_is_tried_and_those_that_failed_are_named_with_their_cause() {
        let act = async |token: &ApiToken| match &*token.name_any() {
            "b" | "d" => Err(Error::Refused("you may not".into())),
            "c" => Err(Error::Missing("gone".into())),
            _ => Ok(()),
        };
        let error = each(picked(&["a", "b", "c", "d", "e"]), act).await.unwrap_err();
        let told = "failed for 3 of 5 tokens; done: a, e\nfailed: b, d: you may not\nfailed: c: gone";
        assert_eq!((error.code(), error.to_string().as_str()), (10, told));
        assert_eq!(each(picked(&["b"]), act).await.unwrap_err().code(), 4);
        assert!(each(picked(&["a", "e"]), act).await.is_ok());
        let none = each(picked(&["b", "d"]), act).await.unwrap_err().to_string();
        assert_eq!(none, "failed for 2 of 2 tokens; none is done\nfailed: b, d: you may not");
    }

    #[tokio::test]
    async fn no_further_token_is_tried_while_the_api_server_does_not_answer() {
        let act = async |_: &ApiToken| Err(Error::Unreachable("away".into()));
        let told = each(picked(&["a", "b", "c"]), act).await.unwrap_err().to_string();
        assert_eq!(told, "failed for 1 of 3 tokens; none is done\nfailed: a: away\nnot tried: b, c");
    }
}
