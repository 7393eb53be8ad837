//! The permissions of this process, as the API server reports them.
//!
//! A process without a needed permission is not ready, and names that permission. Otherwise it would look healthy while
//! its objects have no status.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{Extent, Verb, Why, telemetry};

/// The wait between two checks, while a permission is missing or in doubt.
const SOON: Duration = Duration::from_secs(5);
/// The longest wait for the answers of one check.
const LIMIT: Duration = Duration::from_secs(3);

/// A permission on the objects of a kind, as in the rules of a Role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    verb: Verb,
    group: &'static str,
    resource: &'static str,
}

impl Right {
    /// The permission to `verb` the objects of `resource` in `group`, which is empty for the core group.
    pub const fn new(verb: Verb, group: &'static str, resource: &'static str) -> Self {
        Self { verb, group, resource }
    }

    /// Asks the API server for the permission in `namespace`; `None`: in all namespaces.
    async fn is_held(self, client: Client, namespace: Option<String>) -> Result<(Self, bool), Why> {
        let (name, subresource) = (self.verb.name(), self.verb.subresource());
        let attributes = ResourceAttributes {
            verb: Some(name.into()),
            group: Some(self.group.into()),
            resource: Some(self.resource.into()),
            subresource: Some(subresource.into()),
            namespace,
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let api = Api::<SelfSubjectAccessReview>::all(client);
        let answer = api.create(&PostParams::default(), &review).await.map_err(Why::from)?;
        Ok((self, answer.status.ok_or_else(Why::unreadable)?.allowed))
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource } = self;
        let (name, subresource) = (verb.name(), verb.subresource());
        let dot = if group.is_empty() { "" } else { "." };
        let slash = if subresource.is_empty() { "" } else { "/" };
        write!(f, "{name} {resource}{dot}{group}{slash}{subresource}")
    }
}

/// The permissions that a program uses.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The name of the program, for the log.
    pub program: &'static str,
    /// Permissions without which the program is not ready.
    pub needed: &'static [Right],
    /// Permissions without which the program does less.
    pub useful: &'static [Right],
}

/// The check of the permissions of this process.
#[derive(Clone)]
pub struct Rights(Arc<RightsState>);

struct RightsState {
    wanted: Wanted,
    /// The missing permissions, in words. Before the first answer, that nothing is known.
    missing: Mutex<Result<(), String>>,
    doubted: Notify,
    /// True once the start of the program was logged.
    started: watch::Sender<bool>,
}

impl Rights {
    /// A check of these permissions, before its first answer.
    pub fn new(wanted: Wanted) -> Self {
        let missing = Mutex::new(Err("waiting for the permissions from the API server".to_owned()));
        Self(Arc::new(RightsState { wanted, missing, doubted: Notify::new(), started: watch::Sender::default() }))
    }

    /// Succeeds if this process has all needed permissions.
    ///
    /// # Errors
    /// Some are missing, or nothing is known yet; in words.
    pub fn missing(&self) -> Result<(), String> {
        self.0.missing.lock().expect("nobody panics here").clone()
    }

    /// Waits until the start of the program was logged.
    pub async fn started(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.started.subscribe().wait_for(|started| *started).await;
    }

    /// Starts another check, because a request was forbidden.
    pub fn doubt(&self) {
        self.0.doubted.notify_one();
    }

    /// Checks until no needed permission is missing, and again after each [`Rights::doubt`], for ever. The first answer
    /// is part of the log line about the start of the program.
    pub async fn ask(self, client: Client, scope: Extent, waits_for: String) {
        let first = self.look(&client, &scope).await;
        let told = first.as_ref().map_or_else(|why| format!("not known: {why}"), Lacking::told);
        telemetry::starts(self.0.wanted.program, &scope, &told, &waits_for);
        self.0.started.send_replace(true);
        let mut certain = self.conclude(first, None);
        loop {
            if certain {
                self.0.doubted.notified().await;
            }
            tokio::time::sleep(SOON).await;
            let before = self.missing();
            certain = self.conclude(self.look(&client, &scope).await, Some(before));
        }
    }

    /// The permissions that are missing now.
    async fn look(&self, client: &Client, scope: &Extent) -> Result<Lacking, Why> {
        let Wanted { needed, useful, .. } = self.0.wanted;
        let namespace = scope.namespace().map(str::to_owned);
        let all = needed.iter().chain(useful).map(|right| right.is_held(client.clone(), namespace.clone()));
        let late = |_| Err(Why::Unavailable("no answer in time".into()));
        let answers = timeout(LIMIT, try_join_all(all)).await.unwrap_or_else(late)?;
        let lacks =
            |rights: &[(Right, bool)]| rights.iter().filter(|(_, held)| !held).map(|(right, _)| *right).collect();
        let (of_needed, of_useful) = answers.split_at(needed.len());
        Ok(Lacking { needed: lacks(of_needed), useful: lacks(of_useful) })
    }

    /// Stores the result of a check, and logs a change since `before`. Returns true if nothing is missing.
    fn conclude(&self, found: Result<Lacking, Why>, before: Option<Result<(), String>>) -> bool {
        let now = match found {
            Ok(lacking) => lacking.missing(),
            // The check itself is forbidden, so the permissions stay unknown.
            Err(Why::Forbidden(_) | Why::Invalid(_) | Why::Gone) => Ok(()),
            Err(Why::Stale | Why::Unavailable(_)) => return false,
        };
        if before.is_some_and(|before| before != now) {
            match &now {
                Ok(()) => tracing::info!("all needed permissions are granted"),
                Err(missing) => tracing::warn!("{missing}"),
            }
        }
        let certain = now.is_ok();
        *self.0.missing.lock().expect("nobody panics here") = now;
        certain
    }
}

/// The missing permissions of a program.
struct Lacking {
    needed: Vec<Right>,
    useful: Vec<Right>,
}

impl Lacking {
    /// The result of a check, for the log.
    fn told(&self) -> String {
        match (&*self.needed, &*self.useful) {
            ([], []) => "all".into(),
            ([], useful) => format!("all that are needed; missing and optional: {}", list(useful)),
            (needed, useful) => format!("needed and missing: {}", list(&[needed, useful].concat())),
        }
    }

    fn missing(&self) -> Result<(), String> {
        if self.needed.is_empty() {
            return Ok(());
        }
        Err(format!("missing permissions: {}; grant the roles of the chart; waiting", list(&self.needed)))
    }
}

fn list(rights: &[Right]) -> String {
    rights.iter().map(Right::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::{collections::BTreeSet, convert::Infallible};

    const WANTED: Wanted = Wanted {
        program: "test",
        needed: &[
            Right::new(Verb::UPDATE.status(), "tokenry.dev", "apitokens"),
            Right::new(Verb::CREATE, "", "secrets"),
        ],
        useful: &[Right::new(Verb::PATCH, "apps", "deployments")],
    };

    /// A server that denies these verbs in the namespace `a`.
    fn denying(denied: &Arc<Mutex<BTreeSet<&'static str>>>) -> Client {
        let denied = denied.clone();
        let serve = move |request: Request<Body>| {
            let denied = denied.lock().unwrap().clone();
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                let asked: Value = serde_json::from_slice(&body).unwrap();
                let asked = &asked["spec"]["resourceAttributes"];
                assert_eq!(asked["namespace"], "a");
                let allowed = !denied.contains(asked["verb"].as_str().unwrap());
                let answer = json!({"spec": {}, "status": {"allowed": allowed}});
                Ok::<_, Infallible>(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        };
        Client::new(tower::service_fn(serve), "a")
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_is_missing_is_named_until_it_is_granted_and_looked_for_again_when_in_doubt() {
        let (rights, denied) = (Rights::new(WANTED), Arc::new(Mutex::new(BTreeSet::from(["update", "patch"]))));
        assert!(rights.missing().unwrap_err().starts_with("waiting for the permissions"));
        let asking = rights.clone().ask(denying(&denied), Extent::Namespace("a".into()), String::new());
        let _asking = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(asking));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let told = "missing permissions: update apitokens.tokenry.dev/status; grant the roles of the chart; waiting";
        assert_eq!(rights.missing(), Err(told.into()), "an optional permission is not waited for");
        denied.lock().unwrap().clear();
        tokio::time::sleep(SOON).await;
        assert_eq!(rights.missing(), Ok(()));
        denied.lock().unwrap().insert("create");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(rights.missing(), Ok(()), "nobody asks while nothing is in doubt");
        rights.doubt();
        tokio::time::sleep(2 * SOON).await;
        assert!(rights.missing().unwrap_err().contains("create secrets;"));
    }

    #[test]
    fn what_a_program_has_is_said_in_one_sentence() {
        let [update, create, patch] = [WANTED.needed[0], WANTED.needed[1], WANTED.useful[0]];
        let told =
            |needed: &[Right], useful: &[Right]| Lacking { needed: needed.to_vec(), useful: useful.to_vec() }.told();
        assert_eq!(told(&[], &[]), "all");
        assert_eq!(told(&[], &[patch]), "all that are needed; missing and optional: patch deployments.apps");
        let all = "needed and missing: update apitokens.tokenry.dev/status, create secrets, patch deployments.apps";
        assert_eq!(told(&[update, create], &[patch]), all);
    }
}
