//! Reads past the caches: the newest there is.

use std::fmt::Debug;

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Namespace};
use kube::{
    Api, Client, Resource,
    api::{GetParams, ListParams},
};
use serde::de::DeserializeOwned;

use super::{Refusal, Why, readable::Readable, watch::NamespaceMeta, writer::Draft};

/// What can be read.
pub trait Read: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug {}
impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug> Read for K {}

/// Reads single objects from the API server.
#[derive(Clone)]
pub struct Reader {
    pub(super) client: Client,
}

impl Reader {
    /// A reader by `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The object of that name as it is now, or nothing where there is none.
    ///
    /// # Errors
    /// There was no answer that says which.
    pub async fn live<K: Read>(&self, namespace: &str, name: &str) -> Result<Option<K>, Refusal> {
        self.read(namespace, name, &GetParams::default()).await
    }

    /// The object of that name as it was a moment ago, or nothing where there was none: from the cache of the API
    /// server, which spares etcd. Good enough where the write that follows has a precondition.
    ///
    /// # Errors
    /// There was no answer that says which.
    pub async fn recent<K: Read>(&self, namespace: &str, name: &str) -> Result<Option<K>, Refusal> {
        self.read(namespace, name, &GetParams::any()).await
    }

    async fn read<K: Read>(&self, namespace: &str, name: &str, params: &GetParams) -> Result<Option<K>, Refusal> {
        let api: Api<Readable<K>> = Api::namespaced(self.client.clone(), namespace);
        let read = api.get_with(name, params).await.map_err(Why::from);
        found::<K, _>(read.and_then(|read| read.object.ok_or_else(Why::unreadable)), namespace, name)
    }

    /// All objects of a kind in a namespace as they are now, but for those that cannot be read.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn all<K: Read>(&self, namespace: &str) -> Result<Vec<K>, Refusal> {
        let api: Api<Readable<K>> = Api::namespaced(self.client.clone(), namespace);
        let list = api.list(&ListParams::default()).await.map_err(Refusal::of::<K, _>("list", namespace, ""))?;
        Ok(list.items.into_iter().filter_map(|read| read.object).collect())
    }

    /// A namespace as it is now, or nothing where there is none.
    ///
    /// # Errors
    /// There was no answer that says which.
    pub async fn namespace(&self, name: &str) -> Result<Option<NamespaceMeta>, Refusal> {
        let found = Api::<Namespace>::all(self.client.clone()).get_metadata_opt(name).await;
        found.map_err(Refusal::of::<Namespace, _>("get", "", name))
    }

    /// What is answered to a request that was written down.
    pub(super) async fn asked<T: DeserializeOwned>(&self, request: Draft) -> Result<T, Why> {
        Ok(self.client.request(request?).await?)
    }
}

/// What was read of the object of kind `K` that has this name, or nothing where there is none.
pub(super) fn found<K: Resource<DynamicType = ()>, T>(
    read: Result<T, Why>,
    namespace: &str,
    name: &str,
) -> Result<Option<T>, Refusal> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Why::Gone) => Ok(None),
        Err(why) => Err(Refusal::of::<K, _>("get", namespace, name)(why)),
    }
}
