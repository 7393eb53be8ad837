//! Why a token may or may not make a request: the verifier's own judgement, over objects that were read just now.
#![allow(clippy::disallowed_types, reason = "a client comes in here and goes to the reader")]

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::{Client, Resource};

use super::{
    Requested, Verdict,
    check::explain,
    index::{Index, Indexed, Key},
};
use crate::{
    access::Step,
    crd::{AccessPolicy, Account, ApiToken, Instance, instance::Api, permission::NamedBy},
    outside::{Reader, reader::Read},
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

/// Asks, as of `now`, with the rights of whoever `client` is: to read the token, its account, the Instance, the
/// policies of its namespace and the token's namespace.
///
/// # Errors
/// Something could not be read, the token serves no value, or the Instance takes no organization or project from a
/// header.
pub async fn ask(client: &Client, question: &Question, now: Timestamp) -> Result<Explanation, String> {
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
        let account =
            reader.live::<Account>(home, &name).await.map_err(|refusal| told::<Account>(home, &name, &refusal))?;
        account.into_iter().for_each(|account| _ = index.apply(account));
    }
    let policies = reader.all::<AccessPolicy>(&key.namespace).await;
    let policies = policies.map_err(|refusal| told::<AccessPolicy>(&key.namespace, "*", &refusal))?;
    policies.into_iter().for_each(|policy| _ = index.apply(policy));
    let namespace = reader.namespace(home).await.map_err(|refusal| format!("Namespace {home}: {refusal}"))?;
    namespace.into_iter().for_each(|namespace| _ = index.apply(namespace));
    let headers = headers(question, instance.spec.api.clone().unwrap_or_default())?;
    index.apply(instance);
    index.apply(token);
    let (method, target) = (Some(question.method.clone()), Some(question.path.clone()));
    let wanted = Requested { method, target, headers: &headers };
    let told = explain(&index, &key, &question.token, &wanted.request(), now);
    told.ok_or_else(|| format!("ApiToken {home}/{} has no value yet; see its status", question.token.name))
}

async fn needed<K: Read + Indexed>(reader: &Reader, key: &Key) -> Result<K, String> {
    let Key { namespace, name } = key;
    let found = reader.live::<K>(namespace, name).await.map_err(|refusal| told::<K>(namespace, name, &refusal))?;
    found.ok_or_else(|| format!("there is no {} {name} in namespace {namespace}", K::kind(&())))
}

fn told<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
    namespace: &str,
    name: &str,
    refusal: &crate::outside::Refusal,
) -> String {
    format!("{} {namespace}/{name}: {refusal}", K::kind(&()))
}

/// The headers of the request, as the Instance takes organization and project from them.
fn headers(question: &Question, api: Api) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let both = [
        ("organization", &question.organization, api.organization_from),
        ("project", &question.project, api.project_from),
    ];
    for (what, given, from) in both {
        let Some(given) = given else { continue };
        let header = from.as_ref().and_then(|NamedBy { header, .. }| header.as_ref());
        let header = header.ok_or_else(|| {
            format!(
                "the Instance takes no {what} from a header (spec.api.{what}From); leave --{what} out, or name it in \
                 the path"
            )
        })?;
        let name = HeaderName::from_bytes(header.as_str().as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_str(given).map_err(|_| format!("--{what} is not the value of a header"))?;
        headers.append(name, value);
    }
    Ok(headers)
}
