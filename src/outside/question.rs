//! The regular check of the API server's availability and resourceVersion.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::NamespaceResourceScope;
use kube::{Client, Resource, api::ListParams};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::{
    extent::Extent,
    hearing::{Hearing, is_answer},
    trouble::name,
};

/// Intervals of the check: normally, while the server does not answer, and while it refuses the list.
const EVERY: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(4);
/// Timeout of an answer.
const PATIENCE: Duration = Duration::from_secs(3);

impl Hearing {
    /// Requests a list of one `K` again and again, to check the server's availability and resourceVersion. Never
    /// returns. The namespaces of `scope` take turns, because the process may lack its permissions in one of them. The
    /// resourceVersion of a list does not depend on its namespace.
    pub async fn ask<K>(self, client: Client, scope: Extent)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let (apis, one) = (scope.apis::<K>(&client), ListParams::default().limit(1));
        for api in apis.iter().cycle() {
            let (known, asked) = (self.known(&name::<K>()), Instant::now());
            let wait = match timeout(PATIENCE, api.list_metadata(&one)).await {
                Ok(Ok(list)) => {
                    self.answered();
                    self.stands(&name::<K>(), list.metadata.resource_version.as_deref(), known);
                    EVERY
                }
                Ok(Err(error)) if is_answer(&error) => {
                    self.answered();
                    SELDOM
                }
                Ok(Err(error)) => {
                    // Any other error may come from a proxy in front of a server that is restarting.
                    self.fails(matches!(error, kube::Error::Api(status) if status.code == 429));
                    SOON
                }
                Err(_) => {
                    self.fails(asked.elapsed() < PATIENCE + SOON);
                    SOON
                }
            };
            sleep(wait).await;
        }
    }
}
