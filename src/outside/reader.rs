//! Reads past the caches: the newest there is.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::{Refusal, readable::Readable};

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
        let api: Api<Readable<K>> = Api::namespaced(self.client.clone(), namespace);
        let unread = || Refusal::Unavailable(format!("{} {namespace}/{name} cannot be read", K::kind(&())));
        api.get_opt(name).await?.map(|read| read.object.ok_or_else(unread)).transpose()
    }
}
