//! The namespaces that a process watches.

use std::fmt;

use futures::Stream;
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

use super::{
    hearing::Hearing,
    watch::{Heard, NamespaceMeta, Object, Selection, watch},
};

/// The namespaces that a process watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// All namespaces.
    #[default]
    Cluster,
    /// One namespace. Objects in other namespaces do not exist for the process.
    Namespace(String),
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("all namespaces"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
        }
    }
}

impl Extent {
    /// The objects of a kind in this scope.
    pub(super) fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, client: &Client) -> Api<K> {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(name) => Api::namespaced(client.clone(), name),
        }
    }

    /// The name of the only namespace; `None` for the whole cluster.
    pub(super) fn namespace(&self) -> Option<&str> {
        match self {
            Self::Cluster => None,
            Self::Namespace(name) => Some(name),
        }
    }

    /// A namespace in which `client` has its permissions: the namespace of the scope, or else the client's default
    /// namespace.
    pub fn home(&self, client: &Client) -> String {
        match self {
            Self::Cluster => client.default_namespace().to_owned(),
            Self::Namespace(name) => name.clone(),
        }
    }

    /// Watches the objects of a kind in this scope.
    pub fn watch<K>(&self, client: &Client, hearing: &Hearing) -> impl Stream<Item = Heard<K>> + Send + use<K>
    where
        K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        watch(self.api(client), Selection::All, hearing)
    }

    /// Watches the Secrets of one type in this scope.
    pub fn watch_type<K>(
        &self,
        client: &Client,
        type_: &str,
        hearing: &Hearing,
    ) -> impl Stream<Item = Heard<K>> + Send + use<K>
    where
        K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        watch(self.api(client), Selection::Fields(format!("type={type_}")), hearing)
    }

    /// Watches the objects with one label in this scope.
    pub fn watch_label<K>(
        &self,
        client: &Client,
        (key, value): (&str, &str),
        hearing: &Hearing,
    ) -> impl Stream<Item = Heard<K>> + Send + use<K>
    where
        K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        watch(self.api(client), Selection::Labels(format!("{key}={value}")), hearing)
    }

    /// Watches the namespaces of this scope.
    pub fn watch_namespaces(
        &self,
        client: &Client,
        hearing: &Hearing,
    ) -> impl Stream<Item = Heard<NamespaceMeta>> + Send + use<> {
        let which = match self {
            Self::Cluster => Selection::All,
            Self::Namespace(name) => Selection::Namespace(name.clone()),
        };
        watch(Api::all(client.clone()), which, hearing)
    }
}
