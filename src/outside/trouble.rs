//! Log messages about failures of a kind's watch.

use std::marker::PhantomData;

use kube::Resource;

use super::refusal::{CREDENTIALS, with_causes};
use crate::token::format;

/// The current failure of a kind's watch. It is logged only when it changes.
pub(crate) struct Trouble<K> {
    /// The kind, with the namespace of its objects.
    name: String,
    said: Option<String>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()>> Trouble<K> {
    /// No failure yet of the watch of a kind, in one namespace or in all.
    pub(crate) fn new(namespace: Option<&str>) -> Self {
        Self { name: name_in(&name::<K>(), namespace), said: None, kind: PhantomData }
    }

    /// Logs a failure, unless the same failure was logged last.
    pub(crate) fn say(&mut self, error: &kube::Error) {
        if let Some(news) = self.news(error) {
            tracing::warn!(kind = %self.name, "{news}");
        }
    }

    /// Records that the watch works, and logs this after a failure.
    pub(crate) fn is_over(&mut self) {
        if self.said.take().is_some() {
            tracing::info!(kind = %self.name, "the watch works again");
        }
    }

    /// The message about a failure. `None` if the same message was logged last.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the client library, which grows")]
    fn news(&mut self, error: &kube::Error) -> Option<String> {
        let kind = &self.name;
        let told = match error {
            kube::Error::Api(status) if status.code == 404 => {
                format!(
                    "the cluster does not serve {} in version {}; apply crds/ or install the chart; waiting",
                    name::<K>(),
                    K::version(&())
                )
            }
            kube::Error::Api(status) if status.code == 403 => {
                format!("not allowed to watch {kind}; grant the roles of the chart; waiting")
            }
            kube::Error::Api(status) if status.code == 401 => {
                format!("not authenticated to watch {kind}: the credentials are not accepted; {CREDENTIALS}; waiting")
            }
            // An expired resource version is the normal end of a watch.
            kube::Error::Api(status) if status.code == 410 => return None,
            _ => format!("watch failed, trying again: {}", reason(error)),
        };
        let news = self.said.as_ref() != Some(&told);
        self.said = Some(told.clone());
        news.then_some(told)
    }
}

/// The text of an error. It never quotes the reply, which could be a Secret.
#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the client library, which grows")]
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => "a reply could not be read".into(),
        other => format::redact(&with_causes(other)).into_owned(),
    }
}

/// The name of a kind as `kubectl get` takes it: its plural and group.
pub(super) fn name<K: Resource<DynamicType = ()>>() -> String {
    [K::plural(&()), K::group(&())].join(".").trim_end_matches('.').to_owned()
}

/// The name of a kind, with the namespace of its objects. `None`: all namespaces.
pub(super) fn name_in(kind: &str, namespace: Option<&str>) -> String {
    namespace.map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in namespace {namespace}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::ApiToken;
    use kube::core::Status;

    fn refused(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, ..Status::failure(message, "") }))
    }

    #[test]
    fn what_is_wrong_is_said_once_and_again_when_it_is_something_else() {
        let mut trouble = Trouble::<ApiToken>::new(None);
        let forbidden = "not allowed to watch apitokens.tokenry.dev; grant the roles of the chart; waiting";
        assert_eq!(trouble.news(&refused(403, "no")).as_deref(), Some(forbidden));
        assert_eq!(trouble.news(&refused(403, "no")), None);
        assert!(
            trouble
                .news(&refused(404, ""))
                .unwrap()
                .starts_with("the cluster does not serve apitokens.tokenry.dev in version v1alpha1; ")
        );
        assert_eq!(trouble.news(&refused(410, "")), None);
        assert_eq!(trouble.news(&refused(403, "no")).as_deref(), Some(forbidden));
        let unknown = trouble.news(&refused(401, "Unauthorized")).unwrap();
        assert!(unknown.starts_with("not authenticated to watch apitokens.tokenry.dev: "), "{unknown}");
        assert!(unknown.contains("ServiceAccount"), "{unknown}");
        let other = Trouble::<ApiToken>::new(Some("b")).news(&refused(403, "no")).unwrap();
        assert!(other.starts_with("not allowed to watch apitokens.tokenry.dev in namespace b; "), "{other}");
        trouble.is_over();
        assert_eq!(trouble.news(&refused(403, "no")).as_deref(), Some(forbidden));
    }
}
