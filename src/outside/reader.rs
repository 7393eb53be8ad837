//! Live reads from the API server, which bypass this process's caches.

use std::fmt::Debug;

use http::{HeaderValue, header::ACCEPT};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Namespace, Secret},
        networking::v1::IngressClass,
    },
};
use kube::{
    Api, Client, Resource,
    api::{GetParams, ListParams, Request},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::crd::secret::{CaSecret, KeySecret};

use super::{Refusal, Verb, Why, readable::Readable, watch::NamespaceMeta, writer::Draft};

/// A table in place of an object. The columns of a Secret are its name, its type, the number of its keys and its age.
const TABLE: HeaderValue = HeaderValue::from_static("application/json;as=Table;v=v1;g=meta.k8s.io");

/// A kind that can be read.
pub trait Read: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug {}
impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug> Read for K {}

/// Reads objects from the API server.
#[derive(Clone)]
pub struct Reader {
    pub(super) client: Client,
}

impl Reader {
    /// A reader that uses `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The current object of that name. `None` if the object does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn live<K: Read>(&self, namespace: &str, name: &str) -> Result<Option<K>, Refusal> {
        self.read(namespace, name, &GetParams::default()).await
    }

    /// The object of that name from the API server's cache, which may be a moment old. `None` if the object does not
    /// exist. This read spares etcd. It is safe if the write that follows has a precondition.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn recent<K: Read>(&self, namespace: &str, name: &str) -> Result<Option<K>, Refusal> {
        self.read(namespace, name, &GetParams::any()).await
    }

    async fn read<K: Read>(&self, namespace: &str, name: &str, params: &GetParams) -> Result<Option<K>, Refusal> {
        let api: Api<Readable<K>> = Api::namespaced(self.client.clone(), namespace);
        let read = api.get_with(name, params).await.map_err(Why::from);
        found::<K, _>(read.and_then(|read| read.object.ok_or_else(Why::unreadable)), namespace, name)
    }

    /// The current object with its managed fields, which the other methods leave out. `None` if it does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer, or the object cannot be parsed.
    pub async fn whole<K: Read>(&self, namespace: &str, name: &str) -> Result<Option<K>, Refusal> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        found::<K, _>(api.get(name).await.map_err(Why::from), namespace, name)
    }

    /// The type and the key `ca.crt` of a Secret. Nothing else of the Secret is kept. `None` if it does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn authority(&self, namespace: &str, name: &str) -> Result<Option<CaSecret>, Refusal> {
        let api: Api<CaSecret> = Api::namespaced(self.client.clone(), namespace);
        found::<CaSecret, _>(api.get(name).await.map_err(Why::from), namespace, name)
    }

    /// A Secret with its values. `None` if it does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn keys(&self, namespace: &str, name: &str) -> Result<Option<KeySecret>, Refusal> {
        let api: Api<KeySecret> = Api::namespaced(self.client.clone(), namespace);
        found::<KeySecret, _>(api.get(name).await.map_err(Why::from), namespace, name)
    }

    /// All current objects of a kind in a namespace. `Err` has the name of an object that cannot be parsed.
    ///
    /// # Errors
    /// The API server refused the list or did not answer.
    pub async fn all<K: Read>(&self, namespace: &str) -> Result<Vec<Result<K, String>>, Refusal> {
        let api: Api<Readable<K>> = Api::namespaced(self.client.clone(), namespace);
        let list = api.list(&ListParams::default()).await.map_err(Refusal::of::<K, _>(Verb::LIST, namespace, ""))?;
        let named = |read: Readable<K>| {
            let name = read.meta().name.clone().unwrap_or_default();
            read.object.ok_or(name)
        };
        Ok(list.items.into_iter().map(named).collect())
    }

    /// The current namespace. `None` if the namespace does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn namespace(&self, name: &str) -> Result<Option<NamespaceMeta>, Refusal> {
        let found = Api::<Namespace>::all(self.client.clone()).get_metadata_opt(name).await;
        found.map_err(Refusal::of::<Namespace, _>(Verb::GET, "", name))
    }

    /// All current namespaces.
    ///
    /// # Errors
    /// The API server refused the list or did not answer.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceMeta>, Refusal> {
        let list = Api::<Namespace>::all(self.client.clone()).list_metadata(&ListParams::default()).await;
        Ok(list.map_err(Refusal::of::<Namespace, _>(Verb::LIST, "", ""))?.items)
    }

    /// The type of a Secret. Its data is not asked for: the API server answers with the columns of a table. `None` if
    /// the Secret does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn secret_type(&self, namespace: &str, name: &str) -> Result<Option<String>, Refusal> {
        let path = Secret::url_path(&(), Some(namespace));
        let request = Request::new(path).get(name, &GetParams::default()).map(|mut request| {
            request.headers_mut().insert(ACCEPT, TABLE);
            request
        });
        let table = found::<Secret, Value>(self.asked(request).await, namespace, name)?;
        Ok(table.map(|table| table["rows"][0]["cells"][1].as_str().unwrap_or_default().to_owned()))
    }

    /// A cluster's object of this kind, which lies in no namespace. `None` if the object does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn outside_namespaces<K: Read>(&self, name: &str) -> Result<Option<K>, Refusal> {
        let api: Api<Readable<K>> = Api::all(self.client.clone());
        let read = api.get_with(name, &GetParams::any()).await.map_err(Why::from);
        found::<K, _>(read.and_then(|read| read.object.ok_or_else(Why::unreadable)), "", name)
    }

    /// All current IngressClasses.
    ///
    /// # Errors
    /// The API server refused the list or did not answer.
    pub async fn ingress_classes(&self) -> Result<Vec<IngressClass>, Refusal> {
        let list = Api::<IngressClass>::all(self.client.clone()).list(&ListParams::default()).await;
        Ok(list.map_err(Refusal::of::<IngressClass, _>(Verb::LIST, "", ""))?.items)
    }

    /// Sends a prepared request and returns the answer.
    pub(super) async fn asked<T: DeserializeOwned>(&self, request: Draft) -> Result<T, Why> {
        Ok(self.client.request(request?).await?)
    }
}

/// The result of a read: `None` after a 404. Any other error becomes a refusal that names the object of kind `K`.
pub(super) fn found<K: Resource<DynamicType = ()>, T>(
    read: Result<T, Why>,
    namespace: &str,
    name: &str,
) -> Result<Option<T>, Refusal> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Why::Gone) => Ok(None),
        Err(why) => Err(Refusal::of::<K, _>(Verb::GET, namespace, name)(why)),
    }
}
