//! Explains why a token may or may not make a request. It judges as the verifier does, with objects that it reads now.
#![allow(clippy::disallowed_types, reason = "a client comes in here and goes to the reader")]

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use kube::Client;

use super::{
    Cause, Requested, Verdict,
    check::explain,
    index::{Index, Indexed, Key},
    unguarded,
};
use crate::{
    access::{self, MOST_OWNERS, Step},
    crd::{
        AccessPolicy, Account, ApiToken, Instance,
        guarding::PROBE,
        instance::{Api, NamespacesFrom},
        permission::NamedBy,
    },
    outside::{Reader, Refusal, reader::Read},
    token::Id,
};

/// A question: a request, and the token that would make it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The token. `None`: the request carries no token.
    pub token: Option<Key>,
    /// The value of the token that is presented, by its public id. `None`: the one that the Secret holds.
    pub value: Option<Id>,
    /// The Instance that receives the request. `None`: the token's own Instance. It is required without a token.
    pub instance: Option<Key>,
    /// The method of the request.
    pub method: String,
    /// The path of the request.
    pub path: String,
    /// The organization that the request names in a header.
    pub organization: Option<String>,
    /// The project that the request names in a header.
    pub project: Option<String>,
}

/// The verdict, and all checks on the way to it.
pub type Explanation = (Verdict, Vec<Step>);

/// The reason why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum Unexplained {
    /// An object could not be read.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An object does not exist, or the token has no value yet. The text names the object.
    #[error("{0}")]
    Missing(String),
    /// The request cannot be made as asked. The text says why.
    #[error("{0}")]
    Unasked(String),
}

/// Explains the verdict on a question at the time `now`.
///
/// The permissions of `client` must allow reading the token, its account, the Instance, and the policies in the
/// Instance's namespace. The namespace of the token is read if the Instance selects namespaces by their labels. Only
/// then does the deletion of a namespace count here; its tokens are being deleted soon after it.
/// Accounts that own the token are read if the Instance lists former owners. Without a token, the Instance is enough.
///
/// # Errors
/// An object could not be read or does not exist, or the token has no value yet. Another cause: the Instance does not
/// read the organization or project from a header.
pub async fn ask(client: &Client, question: &Question, now: Timestamp) -> Result<Explanation, Unexplained> {
    let reader = Reader::new(client.clone());
    let mut index = Index::default();
    let token: Option<ApiToken> = match &question.token {
        Some(key) => Some(needed(&reader, key).await?),
        None => None,
    };
    let own = token.as_ref().zip(question.token.as_ref()).map(|(token, key)| {
        let reference = &token.spec.instance_ref;
        Key::new(reference.namespace_or(&key.namespace), reference.name.as_str())
    });
    let nobody = || Unexplained::Unasked("name a token, or the Instance of a request without a token".into());
    let key = question.instance.clone().or(own).ok_or_else(nobody)?;
    let instance: Instance = needed(&reader, &key).await?;
    let mut policies = Vec::new();
    if let Some(token) = token {
        accounts(&reader, &token, &instance, &mut index).await?;
        // No other rule of an Instance looks at the labels of a namespace.
        if instance.spec.tokens.namespaces.from == NamespacesFrom::Selector {
            let home = reader.namespace(token.metadata.namespace.as_deref().unwrap_or_default()).await?;
            home.into_iter().for_each(|home| _ = index.apply(home));
        }
        policies = reader.all::<AccessPolicy>(&key.namespace).await?;
        index.apply(token);
    }
    for policy in policies {
        match policy {
            Ok(policy) => index.apply::<AccessPolicy>(policy),
            Err(name) => index.doubt::<AccessPolicy>(Key::new(key.namespace.clone(), name), 0),
        };
    }
    let headers = headers(question, instance.spec.api.clone().unwrap_or_default())?;
    index.apply(instance);
    let (method, target) = (Some(&*question.method), Some(&*question.path));
    let wanted = Requested { method, target, headers: &headers };
    if wanted.is_probe() {
        return Ok(probe(&key));
    }
    let Some(token) = &question.token else { return Ok(unguarded::explain(&index, &key, &wanted.request())) };
    let told = explain(&index, &key, (token, question.value), &wanted.request(), now);
    let unserved = || format!("ApiToken {}/{} has no value yet; see its status", token.namespace, token.name);
    told.ok_or_else(|| Unexplained::Missing(unserved()))
}

/// Explains a request that tests the guard of the Instance.
fn probe(instance: &Key) -> Explanation {
    let text = format!("lets nobody in at {PROBE}, which tests the guard of its endpoint");
    (Cause::Probe.into(), vec![Step { passed: false, text, object: format!("Instance {}", instance.name) }])
}

/// Reads the account that the token acts as. If the Instance lists former owners, the accounts that own the token, or
/// own such an account, are read too.
async fn accounts(reader: &Reader, token: &ApiToken, instance: &Instance, index: &mut Index) -> Result<(), Refusal> {
    let home = token.metadata.namespace.as_deref().unwrap_or_default();
    let bound = token.status.as_ref().and_then(|status| status.account.as_ref());
    let account = match bound {
        Some(bound) => reader.live::<Account>(home, &bound.name).await?,
        None => None,
    };
    let of = |account: &Account| account.spec.owner.as_ref().map(ToString::to_string);
    let named = token.spec.owner.as_ref().map(ToString::to_string);
    let mut owners: Vec<_> = named.into_iter().chain(account.as_ref().and_then(of)).collect();
    account.into_iter().for_each(|account| _ = index.apply(account));
    let mut at = 0;
    while at < owners.len().min(MOST_OWNERS) && !instance.spec.former_owners.is_empty() {
        let owning = match access::account(&owners[at]) {
            Some((namespace, name)) => reader.live::<Account>(namespace, name).await?,
            None => None,
        };
        owners.extend(owning.as_ref().and_then(of).filter(|owner| !owners.contains(owner)));
        owning.into_iter().for_each(|owning| _ = index.apply(owning));
        at += 1;
    }
    Ok(())
}

async fn needed<K: Read + Indexed>(reader: &Reader, key: &Key) -> Result<K, Unexplained> {
    let Key { namespace, name } = key;
    let missing = || Unexplained::Missing(format!("there is no {} {name} in namespace {namespace}", K::kind(&())));
    reader.live::<K>(namespace, name).await?.ok_or_else(missing)
}

/// The headers of the request. They name the organization and project in the headers that the Instance reads.
fn headers(question: &Question, api: Api) -> Result<HeaderMap, Unexplained> {
    let mut headers = HeaderMap::new();
    let both = [
        ("organization", &question.organization, api.organization_from),
        ("project", &question.project, api.project_from),
    ];
    for (what, given, from) in both {
        let Some(given) = given else { continue };
        let header = from.as_ref().and_then(|NamedBy { header, .. }| header.as_ref());
        let header = header.ok_or_else(|| {
            Unexplained::Unasked(format!(
                "the Instance reads no {what} from a header (spec.api.{what}From); leave out --{what}, or name the \
                 {what} in the path"
            ))
        })?;
        let name = HeaderName::from_bytes(header.as_str().as_bytes())
            .map_err(|error| Unexplained::Unasked(error.to_string()))?;
        let odd = |_| Unexplained::Unasked(format!("--{what} has a character that the value of a header cannot have"));
        let value = HeaderValue::from_str(given).map_err(odd)?;
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::convert::Infallible;

    /// The object of the namespace `a` at a path of the API. Lists have these `policies`.
    fn at(path: &str, policies: &Value) -> Value {
        let named = |kind: &str, name: &str, spec: Value, status: Value| {
            let metadata = json!({"namespace": "a", "name": name, "uid": name});
            json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec,
                "status": status})
        };
        let refers = json!({"instanceRef": {"name": "eem"}});
        let record = json!({"generation": 1, "id": "i".repeat(16), "sha256": "0".repeat(64), "state": "Active",
            "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2999-01-01T00:00:00Z"});
        match path.rsplit('/').take(2).collect::<Vec<_>>()[..] {
            ["x", "apitokens"] => {
                let status = json!({"account": {"name": "x", "uid": "x"}, "records": [record]});
                named("ApiToken", "x", refers, status)
            }
            ["x", "serviceaccounts"] => named("ServiceAccount", "x", refers, json!({})),
            ["eem", "instances"] => named("Instance", "eem", json!({}), json!({})),
            ["a", "namespaces"] => json!({"metadata": {"name": "a"}}),
            _ => json!({"metadata": {"resourceVersion": "1"}, "items": policies}),
        }
    }

    async fn explained(policies: Value) -> (Cause, Vec<Step>) {
        let serve = move |request: Request<Body>| {
            let answer = at(request.uri().path(), &policies).to_string().into_bytes();
            async move { Ok::<_, Infallible>(Response::new(Body::from(answer))) }
        };
        let client = Client::new(tower::service_fn(serve), "a");
        let (token, path) = (Some(Key::new("a", "x")), "/orders".to_owned());
        let (instance, organization, project) = (None, None, None);
        let question = Question { token, value: None, instance, method: "GET".into(), path, organization, project };
        let (verdict, steps) = ask(&client, &question, "2026-06-01T00:00:00Z".parse().unwrap()).await.unwrap();
        (verdict.cause, steps)
    }

    #[tokio::test]
    async fn a_policy_that_cannot_be_read_is_named() {
        let policy = |spec: Value| {
            let metadata = json!({"namespace": "a", "name": "odd"});
            json!([{"apiVersion": "tokenry.dev/v1alpha1", "kind": "AccessPolicy", "metadata": metadata, "spec": spec}])
        };
        let readable = policy(json!({"instanceRef": {"name": "eem"}, "members": [], "statements": []}));
        assert_eq!(explained(readable).await.0, Cause::Allowed);
        let (cause, steps) = explained(policy(json!({"statements": 7}))).await;
        assert_eq!(cause, Cause::PolicyUnread);
        let last = steps.last().unwrap();
        assert!(!last.passed && last.text.contains("AccessPolicy odd cannot be read"), "{last:?}");
    }
}
