//! Proves a caller by its Kubernetes token. A TokenReview names the caller, and a SubjectAccessReview its right.

use std::{net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use moka::future::Cache;
use tokio::{sync::Semaphore, time::timeout};
use zeroize::Zeroizing;

use super::{Verb, Why, crowd::Crowd};
use crate::{
    crd::GROUP,
    outside::rights::Right,
    token::{Digest, format},
};

/// The audience of the token of a caller that introspects. A token for another audience, such as the API server, proves
/// nothing here. So this program cannot act as its callers.
pub const AUDIENCE: &str = "tokenry.dev/verifier";
/// The audience of the token of a scraper. A scraper may have a token for the API server instead, which is then shown
/// to this program.
pub const SCRAPED: &str = "tokenry.dev/metrics";
/// The verb of the right on an Instance that a caller needs.
pub const INTROSPECT: &str = "introspect";

/// The permissions that a [`Reviewer`] uses.
pub const REVIEWING: [Right; 2] = [
    Right::new(Verb::CREATE, "authentication.k8s.io", "tokenreviews"),
    Right::new(Verb::CREATE, "authorization.k8s.io", "subjectaccessreviews"),
];

/// How long an answer holds, refusals included.
const HOLDS: Duration = Duration::from_secs(10);
/// The number of answers that are kept. Anybody can make up tokens.
const KEPT: u64 = 4096;
/// The number of callers that are reviewed at a time.
const TOGETHER: usize = 4;
/// The numbers of callers that may wait for that: from one address, and from all. Anybody can make up tokens, so the
/// callers from one address must not take the places of others.
const WAITING_EACH: usize = 16;
const WAITING: usize = 256;
/// The longest time of a review, with the wait for its turn.
const LIMIT: Duration = Duration::from_secs(3);
/// The longest token that is reviewed, in bytes.
const MAX: usize = 16 * 1024;

/// The result of a review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// The user of this name has the right.
    Granted(Arc<str>),
    /// The user of this name lacks the right.
    Lacking(Arc<str>),
    /// The API server does not know the token for the audience that it needs.
    Unproven,
}

/// The reason why a caller was not reviewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreviewed {
    /// Too many callers wait for a review.
    Crowded,
    /// The API server refused a review, or did not answer in time.
    Failed(Why),
}

/// The right that a caller needs.
#[derive(Clone, Copy)]
enum NeededRight<'a> {
    /// To introspect the tokens of the Instance of this namespace and name. The token has to be for [`AUDIENCE`].
    Introspect(&'a str, &'a str),
    /// To `get` the path `/metrics`. The token has to be for [`SCRAPED`], or for the API server.
    Scrape,
}

impl NeededRight<'_> {
    /// The key of the answer about a token.
    fn key(self, token: &str) -> Zeroizing<String> {
        // No header and no path contains the separator.
        Zeroizing::new(match self {
            Self::Introspect(namespace, name) => format!("{token}\0{namespace}\0{name}"),
            Self::Scrape => format!("{token}\0metrics"),
        })
    }

    /// The audiences of which the token has to have one, in the order in which they are tried. `None`: that of the API
    /// server.
    fn audiences(self) -> &'static [Option<&'static str>] {
        match self {
            Self::Introspect(..) => &[Some(AUDIENCE)],
            Self::Scrape => &[Some(SCRAPED), None],
        }
    }

    /// The question about the right.
    fn asked(self) -> SubjectAccessReviewSpec {
        match self {
            Self::Introspect(namespace, name) => SubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(INTROSPECT.into()),
                    group: Some(GROUP.into()),
                    resource: Some("instances".into()),
                    namespace: Some(namespace.into()),
                    name: Some(name.into()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            Self::Scrape => SubjectAccessReviewSpec {
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some("/metrics".into()),
                    verb: Some("get".into()),
                }),
                ..SubjectAccessReviewSpec::default()
            },
        }
    }
}

/// Reviews callers. Answers are kept for ten seconds, by a digest.
pub struct Reviewer {
    tokens: Api<TokenReview>,
    rights: Api<SubjectAccessReview>,
    answers: Cache<String, Permit>,
    working: Semaphore,
    waiting: Crowd<Option<IpAddr>>,
}

impl Reviewer {
    /// A reviewer that asks the API server of `client`.
    pub fn new(client: Client) -> Self {
        Self {
            tokens: Api::all(client.clone()),
            rights: Api::all(client),
            answers: Cache::builder().max_capacity(KEPT).time_to_live(HOLDS).build(),
            working: Semaphore::new(TOGETHER),
            waiting: Crowd::new(WAITING_EACH, WAITING),
        }
    }

    /// Reviews the right of the bearer of `token` to introspect the tokens of an Instance. Requests with the same token
    /// share one review. `from` is the address of the caller, if it is known.
    ///
    /// A token of Tokenry proves no caller, so it is never sent to the API server. Neither is an empty one.
    ///
    /// # Errors
    /// The API server refused a review or did not answer in time, or too many callers wait. This is not kept.
    pub async fn permit(
        &self,
        from: Option<IpAddr>,
        token: &str,
        (namespace, name): (&str, &str),
    ) -> Result<Permit, Unreviewed> {
        self.review(from, token, NeededRight::Introspect(namespace, name)).await
    }

    /// The same for the right of the bearer of `token` to read metrics: the verb `get` on the path `/metrics`.
    ///
    /// # Errors
    /// As of [`permit`](Self::permit).
    pub async fn permit_scrape(&self, from: Option<IpAddr>, token: &str) -> Result<Permit, Unreviewed> {
        self.review(from, token, NeededRight::Scrape).await
    }

    /// The number of callers that wait for a review, or are being reviewed.
    pub fn waiting(&self) -> usize {
        self.waiting.taken()
    }

    async fn review(&self, from: Option<IpAddr>, token: &str, right: NeededRight<'_>) -> Result<Permit, Unreviewed> {
        if token.is_empty() || token.len() > MAX || format::id(token).is_ok() {
            return Ok(Permit::Unproven);
        }
        let key = Digest::of(&*right.key(token)).to_string();
        let review = async {
            let _place = self.waiting.take(from).ok_or(Unreviewed::Crowded)?;
            self.in_turn(token, right).await.map_err(Unreviewed::Failed)
        };
        self.answers.try_get_with(key, review).await.map_err(|why| (*why).clone())
    }

    async fn in_turn(&self, token: &str, right: NeededRight<'_>) -> Result<Permit, Why> {
        let reviewed = timeout(LIMIT, async {
            let _turn = self.working.acquire().await;
            for audience in right.audiences() {
                if let Some(user) = self.user(token, *audience).await? {
                    let name = Arc::from(user.username.as_deref().unwrap_or_default());
                    let may = self.may(user, right).await?;
                    return Ok(if may { Permit::Granted(name) } else { Permit::Lacking(name) });
                }
            }
            Ok(Permit::Unproven)
        });
        reviewed.await.unwrap_or_else(|_| Err(Why::Unavailable("no answer in time".into())))
    }

    /// The bearer of the token. `None` if the API server does not know the token for this audience, or for its own.
    async fn user(&self, token: &str, audience: Option<&str>) -> Result<Option<UserInfo>, Why> {
        let audiences = audience.map(|audience| vec![audience.to_owned()]);
        let spec = TokenReviewSpec { token: Some(token.into()), audiences };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.tokens.create(&PostParams::default(), &review).await?;
        let status = answer.status.ok_or_else(Why::unreadable)?;
        // A server that does not check audiences names none.
        let names = |audience| status.audiences.as_ref().is_some_and(|all| all.iter().any(|one| one == audience));
        let is_meant = audience.is_none_or(names);
        Ok(status.user.filter(|_| status.authenticated == Some(true) && is_meant))
    }

    async fn may(&self, user: UserInfo, right: NeededRight<'_>) -> Result<bool, Why> {
        let UserInfo { username, uid, groups, extra } = user;
        let spec = SubjectAccessReviewSpec { user: username, uid, groups, extra, ..right.asked() };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = self.rights.create(&PostParams::default(), &review).await?;
        Ok(answer.status.ok_or_else(Why::unreadable)?.allowed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use futures::future::join_all;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::{convert::Infallible, sync::Mutex};

    /// The answers of an API server, and the reviews that it was asked for.
    pub(crate) struct Server {
        /// The status of each TokenReview.
        pub(crate) token: Value,
        /// The status of each SubjectAccessReview.
        pub(crate) access: Value,
        /// The status code of each answer.
        pub(crate) code: u16,
        pub(crate) asked: Vec<Value>,
    }

    impl Server {
        /// It knows each token as that of `ci`, which has the right.
        pub(crate) fn granting() -> Arc<Mutex<Self>> {
            let user = json!({"username": "ci", "groups": ["g"]});
            let token = json!({"authenticated": true, "user": user, "audiences": [AUDIENCE]});
            Arc::new(Mutex::new(Self { token, access: json!({"allowed": true}), code: 201, asked: Vec::new() }))
        }

        /// A reviewer that asks this server. A slow server answers after ten minutes.
        pub(crate) fn reviewer(server: &Arc<Mutex<Self>>) -> Reviewer {
            let server = server.clone();
            let serve = move |request: Request<Body>| {
                let server = server.clone();
                async move {
                    let is_token = request.uri().path().ends_with("/tokenreviews");
                    let body = request.into_body().collect_bytes().await.unwrap();
                    let (code, answer) = {
                        let mut server = server.lock().unwrap();
                        server.asked.push(serde_json::from_slice(&body).unwrap());
                        let status = if is_token { &server.token } else { &server.access };
                        let refusal = json!({"kind": "Status", "status": "Failure", "code": server.code});
                        let answer = if server.code < 300 { json!({"spec": {}, "status": status}) } else { refusal };
                        (server.code, answer)
                    };
                    tokio::task::yield_now().await;
                    let body = Body::from(answer.to_string().into_bytes());
                    Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
                }
            };
            Reviewer::new(Client::new(tower::service_fn(serve), "a"))
        }
    }

    fn granted() -> Result<Permit, Unreviewed> {
        Ok(Permit::Granted("ci".into()))
    }

    fn lacking() -> Result<Permit, Unreviewed> {
        Ok(Permit::Lacking("ci".into()))
    }

    fn asked(server: &Mutex<Server>) -> usize {
        server.lock().unwrap().asked.len()
    }

    #[tokio::test]
    async fn a_caller_is_named_by_its_token_and_permitted_by_its_right_on_the_instance() {
        let server = Server::granting();
        assert_eq!(Server::reviewer(&server).permit(None, "t", ("a", "eem")).await, granted());
        let asked = server.lock().unwrap().asked.clone();
        assert_eq!(asked[0]["spec"], json!({"token": "t", "audiences": [AUDIENCE]}));
        let about = json!({"group": "tokenry.dev", "resource": "instances", "verb": "introspect", "namespace": "a",
            "name": "eem"});
        assert_eq!(asked[1]["spec"], json!({"user": "ci", "groups": ["g"], "resourceAttributes": about}));
    }

    #[tokio::test]
    async fn a_scraper_is_named_by_a_token_for_metrics_or_the_api_server_and_permitted_by_its_right_on_the_path() {
        let ours = json!({"token": "t", "audiences": [SCRAPED]});
        for (audience, reviews) in
            [(SCRAPED, vec![ours.clone()]), ("https://kubernetes", vec![ours.clone(), json!({"token": "t"})])]
        {
            let server = Server::granting();
            server.lock().unwrap().token["audiences"] = json!([audience]);
            let reviewer = Server::reviewer(&server);
            for _ in 0..2 {
                assert_eq!(reviewer.permit_scrape(None, "t").await, granted());
            }
            let asked: Vec<_> = server.lock().unwrap().asked.iter().map(|asked| asked["spec"].clone()).collect();
            let about = json!({"path": "/metrics", "verb": "get"});
            let last = json!({"user": "ci", "groups": ["g"], "nonResourceAttributes": about});
            assert_eq!(asked, [reviews, vec![last]].concat());
            assert_eq!(
                reviewer.permit(None, "t", ("a", "eem")).await,
                Ok(Permit::Unproven),
                "it is no proof elsewhere"
            );
        }
    }

    #[tokio::test]
    async fn a_caller_without_the_right_and_one_that_nobody_knows_are_told_apart() {
        let server = Server::granting();
        server.lock().unwrap().access = json!({"allowed": false});
        let permit = async |token| Server::reviewer(&server).permit(None, token, ("a", "eem")).await;
        assert_eq!(permit("t").await, lacking());
        for (key, value) in [("authenticated", json!(false)), ("audiences", json!(["https://kubernetes"]))] {
            let kept = server.lock().unwrap().token.clone();
            server.lock().unwrap().token[key] = value;
            assert_eq!(permit("t").await, Ok(Permit::Unproven), "{key}");
            server.lock().unwrap().token = kept;
        }
        server.lock().unwrap().token["audiences"] = Value::Null;
        assert_eq!(permit("t").await, Ok(Permit::Unproven), "a server that checks no audience");
        let before = self::asked(&server);
        let ours = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        for token in [ours.expose(), &*"t".repeat(MAX + 1), ""] {
            assert_eq!(permit(token).await, Ok(Permit::Unproven));
        }
        assert_eq!(self::asked(&server), before, "none is sent to the API server");
    }

    #[tokio::test]
    async fn answers_are_kept_refusals_too_and_failures_are_not() {
        let server = Server::granting();
        let reviewer = Server::reviewer(&server);
        for code in [500, 503, 403, 401] {
            server.lock().unwrap().code = code;
            assert!(reviewer.permit(None, "t", ("a", "eem")).await.is_err(), "{code}");
        }
        server.lock().unwrap().code = 201;
        server.lock().unwrap().asked.clear();
        for _ in 0..2 {
            assert_eq!(reviewer.permit(None, "t", ("a", "eem")).await, granted());
        }
        assert_eq!(asked(&server), 2, "one review of each kind");
        server.lock().unwrap().access = json!({"allowed": false});
        for _ in 0..2 {
            assert_eq!(reviewer.permit(None, "t", ("a", "other")).await, lacking(), "another Instance");
        }
        assert_eq!(asked(&server), 4);
        assert_eq!(reviewer.permit(None, "t", ("a", "eem")).await, granted());
        server.lock().unwrap().token = json!({"authenticated": false});
        for _ in 0..2 {
            assert_eq!(reviewer.permit(None, "u", ("a", "eem")).await, Ok(Permit::Unproven));
        }
        assert_eq!(asked(&server), 5);
    }

    #[tokio::test]
    async fn callers_with_one_token_share_a_review() {
        let server = Server::granting();
        let reviewer = Server::reviewer(&server);
        let all = join_all((0..50).map(|_| reviewer.permit(None, "t", ("a", "eem")))).await;
        assert!(all.iter().all(|permit| *permit == granted()));
        assert_eq!(asked(&server), 2);
    }

    #[tokio::test]
    async fn of_a_flood_of_callers_only_some_wait() {
        let server = Server::granting();
        let reviewer = Server::reviewer(&server);
        let tokens: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
        let all = join_all(tokens.iter().map(|token| reviewer.permit(None, token, ("a", "eem")))).await;
        let permitted = all.iter().filter(|permit| permit.is_ok()).count();
        assert_eq!(permitted, WAITING_EACH);
        assert!(all.iter().flat_map(|permit| permit.as_ref().err()).all(|why| *why == Unreviewed::Crowded));
        assert_eq!(reviewer.permit(None, "later", ("a", "eem")).await, granted());
        let address = |last: usize| Some(IpAddr::from([192, 0, 2, u8::try_from(last).unwrap()]));
        let flood = tokens[..WAITING_EACH * 2].iter().map(|token| reviewer.permit(address(1), token, ("a", "other")));
        let others = tokens[100..104].iter().map(|token| reviewer.permit(address(2), token, ("a", "other")));
        let (flood, others) = futures::future::join(join_all(flood), join_all(others)).await;
        assert_eq!(flood.iter().filter(|permit| permit.is_ok()).count(), WAITING_EACH);
        assert_eq!(others, vec![granted(); 4], "a flood takes no place of another address");
        let all = tokens.iter().enumerate().map(|(n, token)| reviewer.permit(address(n % 100), token, ("a", "all")));
        assert_eq!(join_all(all).await.iter().filter(|permit| permit.is_ok()).count(), WAITING);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_does_not_answer_is_waited_for_a_while() {
        let never = |_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>();
        let reviewer = Reviewer::new(Client::new(tower::service_fn(never), "a"));
        let callers = (0..10).map(|n: u8| n.to_string()).collect::<Vec<_>>();
        let all = join_all(callers.iter().map(|token| reviewer.permit(None, token, ("a", "eem"))));
        let late = timeout(LIMIT * 2, all).await.unwrap();
        let late_answer = Err(Unreviewed::Failed(Why::Unavailable("no answer in time".into())));
        assert!(late.iter().all(|permit| *permit == late_answer));
    }
}
