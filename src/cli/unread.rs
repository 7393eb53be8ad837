//! `explain` for a user that may not read the Instance: the status of the token, and the verdict of a verifier.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Error,
    connection::Workplace,
    denial::Denial,
    explain::{AskedRequest, AskedVerifier},
    lacking,
    output::MAX_LINE,
    screen::{Health, Progress, mark, say},
    token::{show, view},
};
use crate::{
    access::header::ROLE,
    crd::{ApiToken, api_token::Effective},
    outside::{
        Refusal,
        foreign::written,
        presenting::{NoVerdict, PresentedValue, VerifierAddress, present},
        survey::HttpReply,
    },
};

/// The question of a user.
pub(super) struct UnreadQuestion<'a> {
    /// The name of the token.
    pub(super) token: &'a str,
    /// The namespace and the name of the Instance, if the user names one.
    pub(super) instance: Option<(&'a str, &'a str)>,
    /// The request.
    pub(super) request: &'a AskedRequest,
    /// The verifier to ask, if the user names one.
    pub(super) verifier: &'a AskedVerifier,
    /// The longest wait for that verifier, if the user gives one.
    pub(super) limit: Option<Duration>,
}

/// Explains as much as the user may read. `refusal` is that of the object that the user may not read.
pub(super) async fn explain(place: &Workplace, asked: &UnreadQuestion<'_>, refusal: &Refusal) -> Result<(), Error> {
    let home = &*place.namespace;
    let missing = || Error::Missing(format!("there is no ApiToken {} in namespace {home}", asked.token));
    let token: ApiToken = place.desk.find(home, asked.token).await?.ok_or_else(missing)?;
    let status = token.status.clone().unwrap_or_default();
    let valid = view::condition(&token, crate::crd::condition::VALID);
    let told = match (view::refused_by_spec(&token), valid) {
        (Some((reason, why)), _) => format!("{reason}: {why}"),
        (None, Some(valid)) => format!("{}: {}", valid.reason, valid.message),
        (None, None) => "no status yet".to_owned(),
    };
    let is_valid = view::Facts::of(&token).valid;
    say(&mark(is_valid, &format!("ApiToken {home}/{}: {told}", asked.token)));
    if let Some(effective) = &status.effective {
        let permissions = format!("status.effective: {}", allowed(effective));
        say(&mark(!effective.actions.is_empty(), &permissions));
    }
    let Refusal { kind, namespace, name, .. } = refusal;
    let unread = match (&**namespace, &**name) {
        (namespace, "") => format!("each {kind} in namespace {namespace}"),
        ("", name) => format!("{kind} {name}"),
        (namespace, name) => format!("{kind} {namespace}/{name}"),
    };
    say(&mark(Health::Warning, &format!("{unread}: you may not read it")));
    let Some((url, ca)) = asked.verifier.read()? else {
        return Err(unjudged(refusal));
    };
    let reference = &token.spec.instance_ref;
    let own = (reference.namespace_or(home), reference.name.as_str());
    let (instance, AskedRequest { method, path, .. }) = (asked.instance.unwrap_or(own), asked.request);
    let unserved = || {
        let (why, status) = (show::unshown(&token), view::command("status", &token));
        Error::Missing(format!(
            "there is no verdict, as ApiToken {home}/{} shows no value that a verifier could judge: {why}; see `{status}`; \
             `kubectl tokenry verify` judges a value that you have",
            asked.token
        ))
    };
    let secret = show::secret(&token).ok_or_else(unserved)?;
    let shown = place.desk.value(home, secret).await.map_err(|refusal| Error::of_value(refusal, &token, "--read"))?;
    let value = shown.and_then(|shown| shown.plaintext()).ok_or_else(unserved)?;
    let verifier = VerifierAddress { url, ca: ca.as_deref(), name: asked.verifier.name(), limit: asked.limit };
    let progress = Progress::of("waiting for the verifier");
    let verdict = present(&verifier, &PresentedValue { instance, method, path }, &value).await;
    drop(progress);
    match verdict {
        Ok(reply) => conclude(&reply),
        Err(NoVerdict::Odd(why)) => Err(Error::Usage(format!("--verifier: {why}"))),
        Err(NoVerdict::Away(why)) => Err(Error::Unreachable(format!("--verifier: {why}"))),
    }
}

/// The error of a question without a verdict.
fn unjudged(refusal: &Refusal) -> Error {
    let Some((who, right)) = Denial::of_right(refusal) else { return refusal.clone().into() };
    let rights = [right];
    Error::Refused(format!(
        "there is no verdict, because {}; an administrator gives you the address of a verifier: with --verifier, you \
         ask it as the owner of the token{}",
        lacking::sentence(&rights),
        lacking::advice(&who, &rights)
    ))
}

/// The permissions of a token, in words.
fn allowed(Effective { role, actions, policies, organizations, projects, limited_by }: &Effective) -> String {
    let listed = |names: &[String], otherwise: &str| match names {
        [] => otherwise.to_owned(),
        names => names.join(", "),
    };
    let scope = |names: &Option<Vec<String>>, all: &str| names.as_ref().map_or(all.to_owned(), |n| listed(n, "none"));
    let limits: Vec<_> = limited_by.iter().filter_map(|by| json!(by).as_str().map(str::to_owned)).collect();
    format!(
        "role {}; actions {}; policies {}; organizations {}; projects {}; limited by {}",
        role.as_deref().unwrap_or("none"),
        listed(actions, "none"),
        listed(policies, "none"),
        scope(organizations, "any"),
        scope(projects, "all"),
        listed(&limits, "nothing"),
    )
}

/// Prints the verdict of a verifier. Success means that the request is allowed.
fn conclude(reply: &HttpReply) -> Result<(), Error> {
    let role = reply.headers.get(ROLE).and_then(|role| role.to_str().ok()).filter(|role| !role.is_empty());
    let body: Value = serde_json::from_str(&reply.text).unwrap_or_default();
    let hint = body["error_description"].as_str().or(body["error"].as_str()).unwrap_or("no valid token");
    match reply.status {
        200 => {
            let by = role.map(|role| format!(", effective role {role}")).unwrap_or_default();
            told(&format!("allowed: 200, says the verifier{by}"));
            Ok(())
        }
        401 | 403 => {
            told(&format!("refused: {}, says the verifier: {hint}", reply.status));
            Err(Error::No)
        }
        status => Err(Error::Unreachable(format!("--verifier: it answers {status} and no verdict; try again"))),
    }
}

/// Prints a line that has text of the verifier.
fn told(line: &str) {
    say(&written(line, MAX_LINE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permissions_of_a_token_are_one_line() {
        let none = "role none; actions none; policies none; organizations any; projects all; limited by nothing";
        assert_eq!(allowed(&Effective::default()), none);
        let effective: Effective = serde_json::from_value(json!({
            "role": "viewer", "actions": ["api:read"], "policies": ["p"], "organizations": ["acme"], "projects": [],
            "limitedBy": ["Owner", "Policy"],
        }))
        .unwrap();
        let told =
            "role viewer; actions api:read; policies p; organizations acme; projects none; limited by Owner, Policy";
        assert_eq!(allowed(&effective), told);
    }
}
