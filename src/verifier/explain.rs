//! Why a token may or may not make a request: the verifier's own judgement, over objects that were read just now.
#![allow(clippy::disallowed_types, reason = "a client comes in here and goes to the reader")]

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use kube::Client;

use super::{
    Requested, Verdict,
    check::explain,
    index::{Index, Indexed, Key},
};
use crate::{
    access::Step,
    crd::{AccessPolicy, Account, ApiToken, Instance, instance::Api, permission::NamedBy},
    outside::{Reader, Refusal, reader::Read},
};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The token.
    pub token: Key,
    /// The Instance that the request goes to. Nothing: the token's own.
    pub instance: Option<Key>,
    /// The method of the request.
    pub method: String,
    /// Its path.
    pub path: String,
    /// The organization that it names in a header.
    pub organization: Option<String>,
    /// The project that it names in a header.
    pub project: Option<String>,
}

/// What is told: the verdict, and all that was looked at on the way.
pub type Explanation = (Verdict, Vec<Step>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unexplained {
    /// Something could not be read.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such object, or it serves no value: which, in words.
    #[error("{0}")]
    Missing(String),
    /// The request cannot be made so.
    #[error("{0}")]
    Unasked(String),
}

/// Asks, as of `now`, with the rights of whoever `client` is: to read the token, its account, the Instance, the
/// policies of its namespace and the token's namespace.
///
/// # Errors
/// Something could not be read, the token serves no value, or the Instance takes no organization or project from a
/// header.
pub async fn ask(client: &Client, question: &Question, now: Timestamp) -> Result<Explanation, Unexplained> {
    let reader = Reader::new(client.clone());
    let mut index = Index::default();
    let token: ApiToken = needed(&reader, &question.token).await?;
    let reference = &token.spec.instance_ref;
    let home = &*question.token.namespace;
    let own = Key::new(reference.namespace_or(home), reference.name.as_str());
    let key = question.instance.clone().unwrap_or(own);
    let instance: Instance = needed(&reader, &key).await?;
    let account = token.status.as_ref().and_then(|status| status.account.as_ref()).map(|bound| bound.name.clone());
    if let Some(name) = account {
        let account = reader.live::<Account>(home, &name).await?;
        account.into_iter().for_each(|account| _ = index.apply(account));
    }
    let policies = reader.all::<AccessPolicy>(&key.namespace).await?;
    policies.into_iter().for_each(|policy| _ = index.apply(policy));
    reader.namespace(home).await?.into_iter().for_each(|namespace| _ = index.apply(namespace));
    let headers = headers(question, instance.spec.api.clone().unwrap_or_default())?;
    index.apply(instance);
    index.apply(token);
    let (method, target) = (Some(question.method.clone()), Some(question.path.clone()));
    let wanted = Requested { method, target, headers: &headers };
    let told = explain(&index, &key, &question.token, &wanted.request(), now);
    let unserved = || format!("ApiToken {home}/{} has no value yet; see its status", question.token.name);
    told.ok_or_else(|| Unexplained::Missing(unserved()))
}

async fn needed<K: Read + Indexed>(reader: &Reader, key: &Key) -> Result<K, Unexplained> {
    let Key { namespace, name } = key;
    let missing = || Unexplained::Missing(format!("there is no {} {name} in namespace {namespace}", K::kind(&())));
    reader.live::<K>(namespace, name).await?.ok_or_else(missing)
}

/// The headers of the request, as the Instance takes organization and project from them.
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
                "the Instance takes no {what} from a header (spec.api.{what}From); leave --{what} out, or name it in \
                 the path"
            ))
        })?;
        let name = HeaderName::from_bytes(header.as_str().as_bytes())
            .map_err(|error| Unexplained::Unasked(error.to_string()))?;
        let odd = |_| Unexplained::Unasked(format!("--{what} is not the value of a header"));
        let value = HeaderValue::from_str(given).map_err(odd)?;
        headers.append(name, value);
    }
    Ok(headers)
}
