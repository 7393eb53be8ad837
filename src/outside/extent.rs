//! The namespaces that a process watches.

use std::fmt;

use futures::Stream;
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

use super::{
    follower::{Selection, WatchPlace},
    hearing::Hearing,
    watch::{Heard, NamespaceMeta, Object, watch},
};

/// The namespaces that a process watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// All namespaces.
    #[default]
    Cluster,
    /// Some namespaces. Objects in other namespaces do not exist for the process.
    Namespaces(NamespaceNames),
}

/// The names of one or more namespaces, each once, in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceNames(Vec<String>);

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("all namespaces"),
            Self::Namespaces(NamespaceNames(names)) => {
                let plural = if names.len() == 1 { "" } else { "s" };
                write!(f, "namespace{plural} {}", names.join(", "))
            }
        }
    }
}

impl Extent {
    /// These namespaces alone. Without a name: all namespaces.
    pub fn of<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        let mut all: Vec<String> = Vec::new();
        for name in names.into_iter().map(N::into) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        if all.is_empty() { Self::Cluster } else { Self::Namespaces(NamespaceNames(all)) }
    }

    /// The namespaces that requests name. `None` alone: each request is about all namespaces.
    pub fn namespaces(&self) -> Vec<Option<&str>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(NamespaceNames(names)) => names.iter().map(|name| Some(&**name)).collect(),
        }
    }

    /// The objects of a kind, by [namespace](Self::namespaces).
    pub(super) fn apis<K>(&self, client: &Client) -> Vec<Api<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let api = |namespace: Option<&str>| match namespace {
            Some(name) => Api::namespaced(client.clone(), name),
            None => Api::all(client.clone()),
        };
        self.namespaces().into_iter().map(api).collect()
    }

    /// A namespace in which `client` has its permissions: the first one of the scope, or else the client's default
    /// namespace.
    pub fn home(&self, client: &Client) -> String {
        let first = self.namespaces().first().copied().flatten();
        first.unwrap_or(client.default_namespace()).to_owned()
    }

    /// Watches the objects of a kind in this scope.
    pub fn watch<K>(&self, client: &Client, hearing: &Hearing) -> impl Stream<Item = Heard<K>> + Send + use<K>
    where
        K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        watch(self.places(client, &Selection::All), hearing)
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
        watch(self.places(client, &Selection::Fields(format!("type={type_}"))), hearing)
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
        watch(self.places(client, &Selection::Labels(format!("{key}={value}"))), hearing)
    }

    /// Watches the namespaces of this scope.
    pub fn watch_namespaces(
        &self,
        client: &Client,
        hearing: &Hearing,
    ) -> impl Stream<Item = Heard<NamespaceMeta>> + Send + use<> {
        let place = |namespace: Option<&str>| WatchPlace {
            api: Api::all(client.clone()),
            selection: namespace.map_or(Selection::All, |name| Selection::Namespace(name.to_owned())),
            namespace: namespace.map(str::to_owned),
        };
        watch(self.namespaces().into_iter().map(place).collect(), hearing)
    }

    /// The selected objects of a kind, by [namespace](Self::namespaces).
    fn places<K>(&self, client: &Client, selection: &Selection) -> Vec<WatchPlace<K>>
    where
        K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let place = |(api, namespace): (_, Option<&str>)| WatchPlace {
            api,
            selection: selection.clone(),
            namespace: namespace.map(str::to_owned),
        };
        self.apis(client).into_iter().zip(self.namespaces()).map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_each_namespace_once_and_without_names_all_of_them() {
        let told = |names: &[&str]| (Extent::of(names.iter().copied()), Extent::of(names.iter().copied()).to_string());
        assert_eq!(told(&[]), (Extent::Cluster, "all namespaces".to_owned()));
        assert_eq!(told(&["b"]).1, "namespace b");
        assert_eq!(told(&["b", "a", "b"]).1, "namespaces b, a");
        assert_eq!(told(&["b", "a", "b"]).0, told(&["b", "a"]).0);
    }
}
