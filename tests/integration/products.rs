//! The token pages of four products, played from top to bottom by their users. Each product is an Instance of
//! `examples/products`. Its administrator applies it, and everybody else acts by the command line with the rights that
//! follow from it. Each step of a page is one command, as `docs/explanation/token-pages.md` lists them.

use http::{HeaderMap, HeaderName};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::Api;
use serde_json::{Value, json};
use tokenry::{
    crd::{Account, ApiToken, Instance},
    token::Digest,
};

use crate::harness::{
    World,
    clock::{Held, hours},
    hand::Done,
    judged::{Judged, User},
    root,
    run::Running,
};

const DAY: i64 = 24;

/// A product, applied by its administrator, with an operator and a verifier at work.
struct Product {
    judged: Judged,
    clock: Held,
    _operator: Running,
    verifier: Running,
    instance: &'static str,
    /// The header that carries a value, and the scheme before the value.
    place: (&'static str, &'static str),
}

impl Product {
    async fn of(file: &str, instance: &'static str, place: (&'static str, &'static str)) -> Self {
        let judged = Judged::new(file).await;
        let clock = Held::default();
        let (operator, verifier) = (judged.world.operator(&clock).await, judged.world.verifier(&clock).await);
        let product = Self { judged, clock, _operator: operator, verifier, instance, place };
        for object in objects_of(file).iter().filter(|object| is_rule(object)) {
            let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
            product.world().accepts(kind, name, object["spec"].clone()).await;
        }
        let ready = async || {
            let status = product.world().api::<Instance>().get(instance).await.unwrap().status?;
            let is_ready = |condition: &Condition| condition.type_ == "Ready" && condition.status == "True";
            status.conditions.iter().any(is_ready).then_some(())
        };
        product.world().eventually("the Instance is ready", ready).await;
        product
    }

    fn world(&self) -> &World {
        &self.judged.world
    }

    fn now(&self) -> Timestamp {
        tokenry::outside::Clock::now(&self.clock)
    }

    /// The spec of a token of this product.
    fn token(&self, more: Value) -> Value {
        let mut spec = json!({"instanceRef": {"name": self.instance}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    }

    /// The answer to a request with these headers: its status, the subject that the API is told, and its body.
    async fn asked(&self, method: &str, path: &str, more: &[(&str, &str)]) -> (u16, Option<String>, String) {
        let said = [("x-forwarded-method", method), ("x-forwarded-uri", path)];
        let headers: HeaderMap = said
            .iter()
            .chain(more)
            .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap()))
            .collect();
        let authorize = format!("/v1/instances/{}/{}/authorize", self.world().namespace, self.instance);
        let (status, headers, body) = self.verifier.ask(&authorize, headers).await;
        let subject = headers.get("x-tokenry-subject").map(|subject| subject.to_str().unwrap().to_owned());
        (status.as_u16(), subject, body)
    }

    /// The status of the answer to a request with this value.
    async fn status(&self, value: &str, method: &str, path: &str, more: &[(&str, &str)]) -> u16 {
        let (header, scheme) = self.place;
        let credential = format!("{scheme}{value}");
        let headers = [&[(header, &*credential)], more].concat();
        self.asked(method, path, &headers).await.0
    }

    async fn await_status(&self, value: &str, method: &str, path: &str, more: &[(&str, &str)], status: u16) {
        let what = format!("{method} {path} is answered with {status}");
        let look = async || (self.status(value, method, path, more).await == status).then_some(());
        self.world().eventually(&what, look).await;
    }

    /// Creates a token by one command, as a user whose right may still be on its way. Returns its value.
    async fn creates(&self, user: &User<'_>, name: &str, more: &[&str]) -> String {
        let done = user.tokenry(&[&["create", name, "--instance", self.instance], more].concat()).await;
        let told = ["this value expires", "this value never expires"].iter().any(|told| done.err.contains(told));
        assert!(told, "the end of the value is said: {done:?}");
        done.well().strip_suffix('\n').unwrap().to_owned()
    }

    /// Checks that the command that creates a token is refused with this code and text, and writes nothing.
    async fn refuses(&self, user: &User<'_>, command: &[&str], code: i32, text: &str) {
        let done = user.tokenry(&[&["create", "--instance", self.instance], command].concat()).await;
        assert!(done.failed(code).contains(text), "{done:?}");
        assert!(self.judged.token(command[0]).await.is_none(), "{command:?} was created");
    }

    /// True if a user reads the Secret of a token.
    async fn may_read(&self, user: &User<'_>, name: &str) -> bool {
        Api::<Secret>::namespaced(user.client.clone(), &self.world().namespace).get(name).await.is_ok()
    }

    /// Waits until the operator has reported the end of a value's Secret, and the right to read it is withdrawn.
    async fn await_hidden(&self, user: &User<'_>, name: &str) {
        let hidden = async || {
            self.world().token(name).await.status?.claim?;
            (!self.may_read(user, name).await).then_some(())
        };
        self.world().eventually("the Secret is gone", hidden).await;
    }

    /// The lines of `kubectl get`, as an administrator.
    fn listed(&self, args: &[&str]) -> String {
        let args = [&["get"], args, &["--namespace", &self.world().namespace]].concat();
        self.world().plane.kubectl(&args).unwrap()
    }
}

/// Runs a command that succeeds, and returns all that it prints.
async fn told(user: &User<'_>, args: &[&str]) -> String {
    let Done { code, out, err } = user.tokenry(args).await;
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    format!("{out}{err}")
}

/// The objects of an example.
fn objects_of(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join(format!("examples/products/{file}.yaml"))).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// True for the objects that an administrator applies.
fn is_rule(object: &Value) -> bool {
    ["Instance", "AccessPolicy"].contains(&object["kind"].as_str().unwrap())
}

/// Checks that a request was refused with this text.
fn refused<T>(answer: Result<T, String>, text: &str) {
    let told = answer.err().unwrap_or_else(|| panic!("let in, and not refused by: {text}"));
    assert!(told.contains(text), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_groups_make_their_own_tokens_for_ninety_days_and_see_each_value_once() {
    let product = Product::of("self-service", "event-gateway", ("authorization", "Bearer ")).await;
    let judged = &product.judged;
    let alice = judged.user("alice@example.com", &[]).await;
    let (bob, vera) = (judged.user("bob", &["event-authors"]).await, judged.user("vera", &["event-viewers"]).await);
    // Nobody comes in without a token.
    assert_eq!(product.asked("GET", "/eem/clusters", &[]).await.0, 401);
    // The maker names nothing but the purpose, and has the role that it is mapped to.
    product.refuses(&alice, &["bare", "--role", "admin", "--description", "x"], 4, "event-gateway:admin").await;
    let value = product.creates(&alice, "exporter", &["--description", "nightly export"]).await;
    let token = product.world().token("exporter").await;
    assert_eq!(token.spec.owner.as_ref().unwrap().as_str(), "user:alice@example.com");
    assert_eq!(token.status.as_ref().unwrap().effective.as_ref().unwrap().role.as_deref(), Some("author"));
    assert_eq!(token.status.unwrap().organization.as_deref(), Some("eem"));
    assert!(told(&alice, &["list", "--mine"]).await.contains("exporter"));
    let page = told(&alice, &["status", "exporter"]).await;
    assert!(page.contains("Organization:") && page.contains("nightly export"), "{page}");
    assert_eq!(alice.tokenry(&["show", "exporter"]).await.well().trim(), value);
    product.await_status(&value, "POST", "/eem/eventsources", &[], 200).await;
    assert_eq!(product.status(&value, "POST", "/eem/clusters", &[]).await, 403, "authors change no clusters");
    assert_eq!(product.status(&value, "POST", "/eem/tokens", &[]).await, 403);
    // Each user has its own tokens: a group gives a role, and viewers own none.
    let of_bob = product.creates(&bob, "of-bob", &["--description", "topics"]).await;
    product.await_status(&of_bob, "POST", "/eem/eventsources", &[], 200).await;
    assert!(!product.may_read(&bob, "exporter").await && !product.may_read(&alice, "of-bob").await);
    refused(bob.change("ApiToken", "exporter", json!({"description": "mine"})).await, "is owned by user:alice");
    product.refuses(&vera, &["of-vera", "--role", "viewer", "--description", "x"], 4, "event-gateway:viewer").await;
    // Ninety days are the most, and a description is needed.
    product.refuses(&alice, &["long", "--description", "x", "--expires", "91d"], 2, "maximum, 90d").await;
    product.refuses(&alice, &["nameless"], 2, "spec.description (--description): ").await;
    // The value is shown for an hour, and nothing shows it again.
    product.clock.move_by(hours(2));
    product.await_hidden(&alice, "exporter").await;
    assert_eq!(product.status(&value, "GET", "/eem/clusters/a", &[]).await, 200);
    let hidden = alice.tokenry(&["show", "exporter"]).await;
    assert!(hidden.failed(5).contains("shows no value"), "{hidden:?}");
    // Whoever lost it deletes the token and makes another. The description confirms that, typed exactly.
    refused(alice.delete("ApiToken", "exporter").await, "annotate it first");
    let inexact = alice.tokenry(&["delete", "exporter", "--confirm", "Nightly export"]).await;
    assert!(inexact.failed(2).contains("is not the description of exporter"), "{inexact:?}");
    told(&alice, &["delete", "exporter", "--confirm", "nightly export"]).await;
    product.await_status(&value, "GET", "/eem/clusters/a", &[], 401).await;
    let again = product.creates(&alice, "exporter", &["--description", "nightly export"]).await;
    product.await_status(&again, "GET", "/eem/clusters/a", &[], 200).await;
    // Without a login in all that time, the value of bob lives to its end. Then it is refused, and stays listed.
    product.clock.move_by(hours(88 * DAY));
    product.await_status(&of_bob, "GET", "/eem/clusters/a", &[], 200).await;
    product.clock.move_by(hours(2 * DAY));
    product.await_status(&of_bob, "GET", "/eem/clusters/a", &[], 401).await;
    product.world().await_reason("of-bob", "Expired").await;
    assert!(told(&bob, &["list", "--mine"]).await.contains("Expired"));
    told(&bob, &["delete", "of-bob", "--confirm", "topics"]).await;
    // Alice leaves.
    let last = product.creates(&alice, "last", &["--description", "x"]).await;
    product.await_status(&last, "GET", "/eem/clusters/a", &[], 200).await;
    let left = json!({"formerOwners": ["user:alice@example.com"]});
    product.world().change("Instance", "event-gateway", left).await.unwrap();
    product.await_status(&last, "GET", "/eem/clusters/a", &[], 403).await;
    product.world().await_reason("last", "OwnerRemoved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_permit_in_projects_and_only_administrators_make_tokens_that_may_do_everything() {
    let product = Product::of("policies-and-projects", "automate", ("api-token", "")).await;
    let judged = &product.judged;
    let (root, maker) = (judged.user("root@example.com", &[]).await, judged.user("ingest@example.com", &[]).await);
    root.may_on("assign", "policies", "automate:administrator").await;
    root.may_on("assign", "policies", "automate").await;
    let nodes = "/api/v0/cfgmgmt/nodes/a";
    let blue = [("projects", "blue")];
    for user in [&root, &maker] {
        user.may(json!([
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
            {"apiGroups": ["", "apps", "batch"], "resources": ["*"], "verbs": ["list"]},
        ]))
        .await;
    }
    // Nobody comes in without a token.
    assert_eq!(product.asked("POST", nodes, &blue).await.0, 401);
    // A token without a policy has no permission. Its name and its id are chosen, and the id of its value is made.
    let value = product.creates(&maker, "ingest", &["--project", "blue"]).await;
    told(&maker, &["set", "name", "ingest", "Node ingest"]).await;
    product.world().await_reason("ingest", "NoPermissions").await;
    product.await_status(&value, "POST", nodes, &blue, 403).await;
    // A policy is joined by whoever may assign it, at once and without a new value.
    let joins = json!({"policies": ["blue-ingest"]});
    refused(
        maker.change("ApiToken", "ingest", joins.clone()).await,
        "may not assign policies.tokenry.dev/automate:blue-ingest",
    );
    maker.may_on("assign", "policies", "automate:blue-ingest").await;
    told(&maker, &["set", "policies", "ingest", "blue-ingest"]).await;
    product.await_status(&value, "POST", nodes, &blue, 200).await;
    assert_eq!(product.status(&value, "POST", nodes, &[("projects", "red")]).await, 403);
    assert_eq!(product.status(&value, "POST", nodes, &[]).await, 403);
    assert_eq!(product.status(&value, "GET", "/apis/iam/v2/policies", &blue).await, 403);
    let bearer = format!("Bearer {value}");
    assert_eq!(product.asked("POST", nodes, &[("authorization", &bearer), blue[0]]).await.0, 401, "no such place");
    // Only an administrator makes a token that may do everything.
    let all = ["--policy", "administrator", "--expires", "never"];
    product.refuses(&maker, &[&["admin"], &all[..]].concat(), 4, "automate:administrator").await;
    let admin = product.creates(&root, "admin", &all).await;
    product.await_status(&admin, "GET", "/apis/iam/v2/policies", &[], 200).await;
    assert_eq!(product.status(&admin, "DELETE", "/anything", &[]).await, 200);
    root.may_on("assign", "roles", "automate:admin").await;
    let strongest = product.creates(&root, "strongest", &["--admin"]).await;
    product.await_status(&strongest, "DELETE", "/anything", &[], 200).await;
    // A policy can list a token too, by the keeper of policies.
    let home = &product.world().namespace;
    let members = json!({"members": [format!("token:{home}/ingest")]});
    refused(maker.change("AccessPolicy", "node-readers", members.clone()).await, "may not assign policies");
    root.change("AccessPolicy", "node-readers", members).await.unwrap();
    told(&maker, &["set", "policies", "ingest", ""]).await;
    product.await_status(&value, "POST", nodes, &blue, 403).await;
    product.await_status(&value, "GET", nodes, &blue, 200).await;
    // Name, projects and status are changed; the value stays, and can be fetched again.
    told(&maker, &["set", "name", "ingest", "Nodes"]).await;
    told(&maker, &["set", "projects", "ingest", "blue"]).await;
    told(&maker, &["suspend", "ingest"]).await;
    product.await_status(&value, "GET", nodes, &blue, 401).await;
    product.world().await_reason("ingest", "Suspended").await;
    assert!(told(&maker, &["list"]).await.contains("Suspended"));
    told(&maker, &["resume", "ingest"]).await;
    product.await_status(&value, "GET", nodes, &blue, 200).await;
    assert_eq!(maker.tokenry(&["show", "ingest"]).await.well().trim(), value);
    assert!(product.listed(&["apitokens", "-o", "wide"]).contains("Nodes"));
    // A deleted token is a member of nothing, and neither is another one of its name.
    let plan = told(&maker, &["plan", "delete", "ingest"]).await;
    assert!(plan.contains("AccessPolicy node-readers names it as a member"), "{plan}");
    told(&maker, &["delete", "ingest", "--confirm", "ingest"]).await;
    product.await_status(&value, "GET", nodes, &blue, 401).await;
    let again = async || maker.create("ApiToken", "ingest", product.token(json!({}))).await.ok();
    product.world().eventually("the name is free", again).await;
    product.world().await_reason("ingest", "NoPermissions").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_bounded_by_their_makers_stay_as_they_are_and_end_with_them() {
    let product = Product::of("bounded-by-creator", "performance", ("authorization", "Token ")).await;
    let judged = &product.judged;
    let bob = judged.user("bob@example.com", &[]).await;
    let carol = judged.user("carol@example.com", &[]).await;
    let (dave, norah) = (judged.user("dave@example.com", &[]).await, judged.user("norah", &[]).await);
    norah.may_on("revoke", "organizations", "north").await;
    let organization = |name: &'static str| [("x-organization", name)];
    let path = "/api/v3/path";
    // A role up to that of the maker, in chosen organizations; whoever has a custom role makes none.
    let limited = |role: &'static str| ["--description", "reads paths", "--role", role, "--organization", "north"];
    let value = product.creates(&bob, "monitor", &limited("advanced")).await;
    for (user, name, role) in [(&bob, "too-strong", "organization-admin"), (&dave, "custom", "custom")] {
        let command = [&[name], &limited(role)[..]].concat();
        product.refuses(user, &command, 4, &format!("performance:{role}")).await;
    }
    product.await_status(&value, "POST", path, &organization("north"), 200).await;
    assert_eq!(product.status(&value, "POST", path, &organization("south")).await, 403, "not chosen");
    assert_eq!(product.status(&value, "POST", path, &organization("west")).await, 403, "there is none");
    // A weaker token beside it needs no further user, and its maker revokes it.
    let weaker = product.creates(&bob, "weaker", &limited("viewer")).await;
    let asks = [("x-organization", "north"), ("accept", "application/json")];
    product.await_status(&weaker, "GET", path, &asks, 200).await;
    assert_eq!(product.status(&weaker, "POST", path, &asks).await, 403);
    told(&bob, &["revoke", "weaker", "--yes"]).await;
    product.await_status(&weaker, "GET", path, &asks, 401).await;
    // Dynamic access: all organizations of the owner, now and later.
    let dynamic = ["--description", "all", "--role", "viewer", "--expires", "never"];
    let all = product.creates(&carol, "everywhere", &dynamic).await;
    product.await_status(&all, "GET", path, &organization("south"), 200).await;
    let more = json!({"organizations": ["north", "south", "west"]});
    product.world().change("Instance", "performance", more).await.unwrap();
    product.await_status(&all, "GET", path, &organization("west"), 200).await;
    assert_eq!(product.status(&value, "GET", path, &organization("west")).await, 403, "a static choice stays");
    // No token opens the observer; the API's own basic authentication does, and tells nobody.
    let observer = "/api/v3/observer/keys";
    let credential = format!("Token {value}");
    let (code, _, body) = product.asked("GET", observer, &[("authorization", &credential)]).await;
    assert!(code == 403 && body.contains("sign in to the console instead"), "{code} {body}");
    let basic = [("authorization", "Basic Ym9iOnNlY3JldA==")];
    let (code, subject, _) = product.asked("POST", observer, &basic).await;
    assert_eq!((code, subject.as_deref()), (200, Some("")));
    assert_eq!(product.asked("POST", path, &basic).await.0, 401);
    // A token does not change. Its value is shown for an hour.
    let kept = bob.tokenry(&["set", "description", "monitor", "other"]).await;
    assert!(kept.failed(4).contains("the token is immutable"), "{kept:?}");
    product.clock.move_by(hours(2));
    product.await_hidden(&bob, "monitor").await;
    let hidden = bob.tokenry(&["show", "monitor"]).await;
    assert!(hidden.failed(5).contains("shows no value"), "{hidden:?}");
    // An administrator of an organization sees its tokens, and revokes them and does nothing else.
    let selector = ["apitokens", "--selector", "organization.tokenry.dev/north", "--output", "name"];
    assert_eq!(product.listed(&selector), "apitoken.tokenry.dev/monitor\napitoken.tokenry.dev/weaker\n");
    let seen = told(&norah, &["list", "--organization", "north", "--output", "name"]).await;
    assert!(seen.contains("apitoken/monitor"), "{seen}");
    assert_eq!(told(&bob, &["list", "--mine", "--output", "name"]).await, "apitoken/monitor\napitoken/weaker\n");
    refused(norah.change("ApiToken", "monitor", json!({"active": false})).await, "is owned by user:bob");
    let unsure = norah.tokenry(&["revoke", "monitor"]).await;
    assert!(unsure.failed(2).contains("every request with monitor is refused at once, and for good"), "{unsure:?}");
    told(&norah, &["revoke", "monitor", "--yes"]).await;
    product.await_status(&value, "POST", path, &organization("north"), 401).await;
    let revoked = product.world().await_reason("monitor", "Revoked").await.status.unwrap().revocation.unwrap();
    assert_eq!(revoked.by.as_deref(), Some("user:norah"));
    let mine = told(&bob, &["list", "--mine"]).await;
    assert!(mine.lines().any(|line| line.starts_with("monitor ") && line.contains(" Revoked ")), "{mine}");
    // A date ends a token, and so does its owner's leaving.
    let at = (product.now() + hours(10 * DAY)).strftime("%F").to_string();
    let dated = product.creates(&bob, "dated", &[&limited("viewer")[..], &["--expires", &at]].concat()).await;
    product.await_status(&dated, "GET", path, &organization("north"), 200).await;
    let leaving = product.creates(&bob, "leaving", &[&limited("viewer")[..], &["--expires", "never"]].concat()).await;
    product.await_status(&leaving, "GET", path, &organization("north"), 200).await;
    product.clock.move_by(hours(11 * DAY));
    product.await_status(&dated, "GET", path, &organization("north"), 401).await;
    product.world().await_reason("dated", "Expired").await;
    product.world().change("Instance", "performance", json!({"teams": [{"name": "network"}]})).await.unwrap();
    product.world().await_reason("leaving", "OwnerRemoved").await;
    product.await_status(&leaving, "GET", path, &organization("north"), 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_token_has_an_account_with_an_owner_and_a_new_value_ends_the_old_one_when_asked() {
    let product = Product::of("account-owned", "truth", ("authorization", "Api-Key ")).await;
    let judged = &product.judged;
    let (dora, eve) = (judged.user("dora@example.com", &[]).await, judged.user("eve@example.com", &[]).await);
    let frank = judged.user("frank@example.com", &[]).await;
    frank.may_on("assign", "owners", "user:dora@example.com").await;
    frank.may_on("assign", "owners", "user:frank@example.com").await;
    let (home, web) = (product.world().namespace.clone(), "/api/v1/projects/web");
    // Contributors and stronger members make tokens, of roles up to their own.
    product.refuses(&eve, &["pipeline", "--role", "viewer"], 4, "truth:viewer").await;
    let own = ["--role", "contributor", "--description", "the pipeline", "--expires", "never"];
    let value = product.creates(&dora, "pipeline", &own).await;
    product.refuses(&dora, &["strong", "--role", "admin"], 4, "truth:admin").await;
    product.creates(&dora, "plain", &["--role", "viewer"]).await;
    assert!(told(&dora, &["plan", "revoke", "plain"]).await.contains("never used"));
    // The token acts as an account of its own, which has an owner.
    let account = product.world().api::<Account>().get("pipeline").await.unwrap();
    assert_eq!(account.spec.owner.as_ref().unwrap().as_str(), "user:dora@example.com");
    product.await_status(&value, "POST", web, &[], 200).await;
    let credential = format!("Api-Key {value}");
    let (_, subject, _) = product.asked("POST", web, &[("authorization", &credential)]).await;
    assert_eq!(subject, Some(format!("account:{home}/pipeline")));
    let used = async || product.world().token("pipeline").await.status?.used().first().map(|_| ());
    product.world().eventually("the last use is noted", used).await;
    let page = told(&dora, &["status", "pipeline"]).await;
    assert!(page.contains("Account:       pipeline") && page.contains("last used "), "{page}");
    // Administrators see all tokens and change their description, owner and role; the name stays.
    assert!(told(&frank, &["list", "--output", "wide"]).await.contains("user:dora@example.com"));
    let renamed = json!({"metadata": {"name": "renamed"}});
    refused(frank.patch("ApiToken", "pipeline", renamed).await, "does not match the name on the URL");
    told(&frank, &["set", "description", "pipeline", "the new pipeline"]).await;
    told(&frank, &["set", "role", "pipeline", "viewer"]).await;
    product.await_status(&value, "POST", web, &[], 403).await;
    product.await_status(&value, "GET", web, &[], 200).await;
    told(&frank, &["transfer", "pipeline", "--to", "user:frank@example.com"]).await;
    told(&frank, &["set", "role", "pipeline", "contributor"]).await;
    product.await_status(&value, "POST", web, &[], 200).await;
    // Nothing changes a copied value unasked.
    product.clock.move_by(hours(400 * DAY));
    product.await_status(&value, "POST", web, &[], 200).await;
    assert_eq!(product.world().token("pipeline").await.status.unwrap().last_generation, Some(1));
    product.await_hidden(&frank, "pipeline").await;
    let hidden = frank.tokenry(&["show", "pipeline"]).await;
    assert!(hidden.failed(5).contains("shows no value"), "{hidden:?}");
    // A new value, and the old one until a time. The command reads the clock of this machine, so the time is relative.
    let rotated = frank.tokenry(&["rotate", "pipeline", "--previous", "1h", "--show"]).await;
    let second = rotated.well().trim().to_owned();
    assert!(rotated.err.contains("the previous value works until "), "{rotated:?}");
    assert_ne!(Digest::of(&second), Digest::of(&value));
    product.await_status(&second, "POST", web, &[], 200).await;
    assert_eq!(product.status(&value, "POST", web, &[]).await, 200);
    product.clock.move_by(SignedDuration::from_mins(61));
    product.await_status(&value, "POST", web, &[], 401).await;
    // A new value, and the old one ends at once.
    let rotated = frank.tokenry(&["rotate", "pipeline", "--previous", "0s", "--show", "--yes"]).await;
    let third = rotated.well().trim().to_owned();
    product.await_status(&third, "POST", web, &[], 200).await;
    product.await_status(&second, "POST", web, &[], 401).await;
    // The account is deleted after confirmation, and its tokens with it.
    refused(frank.delete("ServiceAccount", "pipeline").await, "annotate it first");
    let asked = frank.tokenry(&["delete", "account", "pipeline"]).await;
    assert!(asked.failed(2).contains("are deleted with it, and their Secrets too: pipeline"), "{asked:?}");
    told(&frank, &["delete", "account", "pipeline", "--confirm", "pipeline"]).await;
    product.await_status(&third, "GET", web, &[], 401).await;
    let gone = async || product.world().api::<ApiToken>().get_opt("pipeline").await.unwrap().is_none().then_some(());
    product.world().eventually("its token is deleted", gone).await;
}
