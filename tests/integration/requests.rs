//! Which requests of a valid token the verifier lets in, and attempts to get past it.

use std::{path::Path, process::Command};

use http::{HeaderMap, HeaderName};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokenry::crd::{AccessPolicy, Account, ApiToken};

use crate::harness::{World, clock::Held, run::Running};

/// An Instance of this spec, and a token `ci` of an account `ci` of these, with a verifier that knows them.
struct Stage {
    world: World,
    _operator: Running,
    verifier: Running,
    value: String,
}

impl Stage {
    async fn new(name: &str, instance: Value, account: Value, token: Value) -> Self {
        let world = World::new(name).await;
        let clock = Held::default();
        let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
        world.accepts("Instance", "eem", instance).await;
        let of = |mut spec: Value| {
            spec["instanceRef"] = json!({"name": "eem"});
            spec
        };
        world.accepts("ServiceAccount", "ci", of(account)).await;
        let mut token = of(token);
        token["serviceAccountRef"] = json!({"name": "ci"});
        world.accepts("ApiToken", "ci", token).await;
        let value = world.await_generation("ci", 1).await;
        let stage = Self { world, _operator: operator, verifier, value };
        let known = async || (stage.ask("GET", "/", &[]).await.0 != 401).then_some(());
        stage.world.eventually("the verifier knows the token", known).await;
        stage
    }

    /// Status, reason for the audit and body of the answer to a request that a proxy asks about.
    async fn ask(&self, method: &str, path: &str, more: &[(&str, &str)]) -> (u16, HeaderMap, String) {
        let said = [("x-forwarded-method", method), ("x-forwarded-uri", path), ("api-token", &self.value)];
        let mut headers = HeaderMap::new();
        for (name, value) in said.iter().chain(more) {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let authorize = format!("/v1/instances/{}/eem/authorize", self.world.namespace);
        let (status, headers, body) = self.verifier.ask(&authorize, headers).await;
        (status.as_u16(), headers, body)
    }

    async fn status(&self, method: &str, path: &str) -> u16 {
        self.ask(method, path, &[]).await.0
    }

    async fn await_status(&self, method: &str, path: &str, status: u16) {
        let what = format!("{method} {path} is answered with {status}");
        self.world.eventually(&what, async || (self.status(method, path).await == status).then_some(())).await;
    }

    /// Waits until the metrics of the verifier have this reason.
    async fn await_said(&self, reason: &str) {
        let said = async || {
            let (_, metrics) = self.verifier.get("/metrics").await;
            metrics.contains(&format!("reason=\"{reason}\"")).then_some(())
        };
        self.world.eventually(&format!("{reason} is counted"), said).await;
    }

    async fn account(&self, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.world.api::<Account>().patch("ci", &PatchParams::default(), &patch).await.unwrap();
    }

    /// That nothing was minted meanwhile.
    async fn is_still_the_first(&self) {
        let token: ApiToken = self.world.token("ci").await;
        assert_eq!(token.status.unwrap().last_generation, Some(1));
    }
}

fn roles(more: Value) -> Value {
    let mut instance = json!({"api": {"authorization": "Roles"}});
    instance.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    instance
}

#[tokio::test]
async fn what_a_role_permits_changes_at_once_and_without_a_new_value() {
    let stage = Stage::new("role", roles(json!({})), json!({"role": "viewer"}), json!({})).await;
    assert_eq!([stage.status("GET", "/topics").await, stage.status("POST", "/topics").await], [200, 403]);
    let (_, headers, _) = stage.ask("GET", "/topics", &[]).await;
    assert_eq!(headers["x-tokenry-role"], "viewer");
    let (_, _, body) = stage.ask("POST", "/topics", &[]).await;
    let told = "neither the role of the token nor a policy permits this";
    assert_eq!(body, format!("{{\"error\":\"insufficient_scope\",\"error_description\":\"{told}\"}}\n"));
    stage.account(json!({"role": "contributor"})).await;
    stage.await_status("POST", "/topics", 200).await;
    stage.account(json!({"role": null})).await;
    stage.await_status("GET", "/topics", 403).await;
    stage.await_said("NoPermissions").await;
    stage.account(json!({"role": "admin", "active": false})).await;
    stage.await_status("GET", "/topics", 401).await;
    stage.is_still_the_first().await;
}

#[tokio::test]
async fn a_policy_permits_and_denies_from_when_it_comes_until_it_goes() {
    let stage = Stage::new("policy", roles(json!({})), json!({}), json!({})).await;
    let member = format!("token:{}/ci", stage.world.namespace);
    let policy = |effect: &str, actions: &str| json!({"instanceRef": {"name": "eem"}, "members": [member], "statements": [{"effect": effect, "actions": [actions]}]});
    assert_eq!(stage.status("GET", "/topics").await, 403);
    stage.world.accepts("AccessPolicy", "all", policy("Allow", "*")).await;
    stage.await_status("POST", "/topics", 200).await;
    stage.world.accepts("AccessPolicy", "writes", policy("Deny", "*:write")).await;
    stage.await_status("POST", "/topics", 403).await;
    assert_eq!(stage.status("GET", "/topics").await, 200);
    stage.world.delete("AccessPolicy", "writes").await;
    stage.await_status("POST", "/topics", 200).await;
    stage.world.change("AccessPolicy", "all", json!({"members": ["token:other/*"]})).await.unwrap();
    stage.await_status("POST", "/topics", 403).await;
    stage.is_still_the_first().await;
}

#[tokio::test]
async fn withdrawing_the_last_member_leaves_nobody_allowed() {
    let spec = roles(
        json!({"ceiling": "Members", "members": [{"subject": "user:alice", "role": "admin"}], "tokens": {"onOwnerRemoved": "Keep"}}),
    );
    let stage = Stage::new("members", spec, json!({"role": "admin"}), json!({"owner": "user:alice"})).await;
    assert_eq!(stage.status("POST", "/topics").await, 200);
    // Left out and empty mean the same.
    for members in [json!([]), json!(null)] {
        stage.world.change("Instance", "eem", json!({"members": members})).await.unwrap();
        stage.await_status("GET", "/topics", 403).await;
        stage
            .world
            .change("Instance", "eem", json!({"members": [{"subject": "user:alice", "role": "viewer"}]}))
            .await
            .unwrap();
        stage.await_status("GET", "/topics", 200).await;
        assert_eq!(stage.status("POST", "/topics").await, 403, "what the owner holds now");
    }
    let alone = AccessPolicy::new(
        "empty",
        serde_json::from_value(
            json!({"instanceRef": {"name": "eem"}, "statements": [{"effect": "Allow", "role": "admin"}]}),
        )
        .unwrap(),
    );
    stage.world.api::<AccessPolicy>().create(&Default::default(), &alone).await.unwrap();
    assert_eq!(stage.status("POST", "/topics").await, 403, "a policy without members is about nobody");
    stage.is_still_the_first().await;
}

#[tokio::test]
async fn an_excluded_request_is_refused_however_its_path_is_written() {
    let excluded = json!([{"paths": ["/api/v3/observer/**"], "message": "sign in to the console instead"}]);
    let spec = json!({"api": {"excluded": excluded}});
    let stage = Stage::new("excluded", spec, json!({"role": "admin"}), json!({})).await;
    assert_eq!(stage.status("GET", "/api/v3/other").await, 200);
    for path in [
        "/api/v3/observer",
        "/api/v3/observer/",
        "/api/v3/observer/keys?x=/api/v3/other",
        "//api//v3//observer/keys",
        "/api/v3/%6fbserver/keys",
        "/API/V3/Observer/keys",
        "https://a.example.com/api/v3/observer/keys",
    ] {
        let (status, _, body) = stage.ask("GET", path, &[]).await;
        assert_eq!(status, 403, "{path}");
        assert!(body.contains("sign in to the console instead"), "{path}: {body}");
    }
    for path in [
        "/api/v3/other/..%2fobserver/keys",
        "/api/v3/other/../observer/keys",
        "/api/v3/other/%2e%2e/observer/keys",
        "/api/v3%2fobserver/keys",
        "/api/v3/observer;x=1/keys",
        "/api/v3/x\\..\\observer",
        "/api/v3/%252e%252e/observer",
        "*",
    ] {
        assert_eq!(stage.status("GET", path).await, 403, "{path}");
    }
    stage.await_said("Excluded").await;
    stage.await_said("PathRefused").await;
}

#[tokio::test]
async fn what_an_api_may_take_for_another_request_is_refused() {
    let excluded = json!([{"methods": ["GET"], "paths": ["/secret/**"]}]);
    let actions = json!([
        {"action": "topics:read", "methods": ["GET"], "paths": ["/topics/**"]},
        {"action": "admin:write", "paths": ["/admin/**"]}, {"action": "other:read", "methods": ["GET"], "paths": ["/**"]},
    ]);
    let api = json!({"authorization": "Roles", "excluded": excluded, "actions": actions, "organizationFrom": {"header": "X-Organization"}});
    let stage = Stage::new("look-alikes", json!({ "api": api }), json!({"role": "viewer"}), json!({})).await;
    let asked = async |method: &str, path: &str, more: &[(&str, &str)]| stage.ask(method, path, more).await.0;
    for method in ["GET", "HEAD"] {
        assert_eq!(asked(method, "/topics/a.json?_method=", &[("x-http-method", method)]).await, 200);
        assert_eq!(asked(method, "/secret/a", &[]).await, 403);
    }
    for (path, more) in [
        ("/admin./x", None),
        ("/admin%20/x", None),
        ("/adm%C4%B1n/x", None),
        ("//host/admin/x", None),
        ("http://h?/topics", None),
        ("/topics?_method=DELETE", None),
        ("/topics", Some(("x-http-method-override", "POST"))),
        ("/topics", Some(("x-method-override", "PUT"))),
        ("/topics", Some(("x_organization", "other"))),
        ("/topics", Some(("x_tokenry_role", "admin"))),
    ] {
        assert_eq!(asked("GET", path, more.as_slice()).await, 403, "{path} {more:?}");
    }
    assert_eq!(asked("GET", "/topics", &[("api_token", "another")]).await, 401);
    for reason in ["Excluded", "PathRefused", "MethodRefused", "HeaderRefused", "LookAlike"] {
        stage.await_said(reason).await;
    }
    let (_, _, body) = stage.ask("GET", "/topics?_method=PUT", &[]).await;
    assert!(body.contains("send it with that method"), "{body}");
}

#[tokio::test]
async fn a_request_that_the_proxy_does_not_tell_of_clearly_is_refused_where_that_matters() {
    let stage = Stage::new("unclear", roles(json!({})), json!({"role": "viewer"}), json!({})).await;
    let authorize = format!("/v1/instances/{}/eem/authorize", stage.world.namespace);
    let ask = async |path: &str, said: &[(&'static str, &str)]| {
        let mut headers: HeaderMap =
            [("api-token".parse().unwrap(), stage.value.parse().unwrap())].into_iter().collect();
        said.iter().for_each(|&(name, value)| {
            headers.append(name, value.parse().unwrap());
        });
        let (status, _, body) = stage.verifier.ask(path, headers).await;
        if status == 403 { body } else { status.as_u16().to_string() }
    };
    let (method, uri) = (("x-forwarded-method", "GET"), ("x-forwarded-uri", "/topics"));
    assert_eq!(ask(&authorize, &[method, uri]).await, "200");
    // The proxy's own method says nothing.
    for said in [&[][..], &[method], &[uri], &[method, ("x-forwarded-method", "POST"), uri]] {
        let told = ask(&authorize, said).await;
        assert!(
            told.contains("X-Forwarded-Method or X-Forwarded-Uri is missing, there twice, or not ASCII"),
            "{said:?}: {told}"
        );
    }
    let told = ask(&authorize.replace("authorize", "ingress-nginx"), &[method, uri]).await;
    assert!(told.contains("X-Original-Method or X-Original-URL is missing"), "{told}");
    stage.await_said("RequestUnnamed").await;
    let told = ask(&authorize, &[method, ("x-forwarded-uri", "/a/../topics")]).await;
    assert!(told.contains("the path of the request is ambiguous"), "{told}");
    // A proxy that appends the path passes a caller's headers on; the path is the one it appended.
    assert_eq!(ask(&format!("{authorize}/topics"), &[]).await, "200");
    let excluded = roles(json!({"api": {"authorization": "Roles", "excluded": [{"paths": ["/secret"]}]}}));
    stage.world.change("Instance", "eem", excluded).await.unwrap();
    stage.await_status("GET", "/secret", 403).await;
    assert!(ask(&format!("{authorize}/secret"), &[method, uri]).await.contains("no token may make this request"));
}

#[tokio::test]
async fn a_request_stays_within_the_organizations_and_projects_of_the_token() {
    let api = json!({"organizationFrom": {"header": "X-Organization"}, "projectFrom": {"pathSegment": 2}});
    let spec = json!({"api": api, "organizations": ["acme", "other", "third"]});
    let account = json!({"organizations": {"listed": ["acme", "other"]}});
    let token = json!({"organizations": {"listed": ["acme", "third"]}, "projects": ["blue"]});
    let stage = Stage::new("scopes", spec, account, token).await;
    let ask = async |path: &str, organizations: &[&str]| {
        let named: Vec<_> = organizations.iter().map(|name| ("x-organization", *name)).collect();
        stage.ask("GET", path, &named).await.0
    };
    assert_eq!(ask("/p/blue/topics", &["acme"]).await, 200);
    assert_eq!(ask("/p/blue/topics", &["other"]).await, 403, "the token narrows its account");
    assert_eq!(ask("/p/blue/topics", &["third"]).await, 403, "and does not widen it");
    assert_eq!(ask("/p/blue/topics", &[]).await, 403, "one is needed");
    assert_eq!(ask("/p/blue/topics", &["acme", "acme"]).await, 403, "and only one");
    assert_eq!(ask("/p/red/topics", &["acme"]).await, 403);
    assert_eq!(ask("/p", &["acme"]).await, 403);
    for reason in ["OrganizationMissing", "OrganizationOutside", "ProjectMissing", "ProjectOutside"] {
        stage.await_said(reason).await;
    }
    stage.account(json!({"organizations": {"listed": ["acme", "third"]}})).await;
    let granted = async || (ask("/p/blue/topics", &["third"]).await == 200).then_some(());
    stage.world.eventually("the account may act for third", granted).await;
}

#[tokio::test]
async fn a_request_names_an_organization_that_its_instance_lists() {
    let spec = json!({"api": {"organizationFrom": {"header": "X-Organization"}}});
    let stage = Stage::new("listed", spec, json!({}), json!({})).await;
    let ask = async |name: &str| stage.ask("GET", "/topics", &[("x-organization", name)]).await;
    let await_answer = async |name: &str, status: u16| {
        let look = async || (ask(name).await.0 == status).then_some(());
        stage.world.eventually(&format!("{name} is answered with {status}"), look).await;
    };
    let effective = async |wanted: Value| {
        let look = async || {
            let said = stage.world.token("ci").await.status?.effective?.organizations;
            (json!(said) == wanted).then_some(())
        };
        stage.world.eventually(&format!("the token may act for {wanted}"), look).await;
    };
    // Left out, it is the Instance's own alone.
    assert_eq!([ask("eem").await.0, ask("acme").await.0, stage.status("GET", "/topics").await], [200, 403, 200]);
    let (_, _, body) = ask("acme").await;
    assert!(body.contains("spec.organizations of the Instance does not list this organization"), "{body}");
    stage.await_said("OrganizationUnknown").await;
    effective(json!(["eem"])).await;
    // All means those that are listed, now and later.
    stage.world.change("Instance", "eem", json!({"organizations": ["acme", "other"]})).await.unwrap();
    await_answer("acme", 200).await;
    assert_eq!([ask("other").await.0, ask("eem").await.0, ask("third").await.0], [200, 403, 403]);
    effective(json!(["acme", "other"])).await;
    stage.world.change("Instance", "eem", json!({"organizations": ["*"]})).await.unwrap();
    await_answer("third", 200).await;
    effective(Value::Null).await;
    stage.is_still_the_first().await;
}

#[tokio::test]
async fn a_further_instance_lets_a_token_in_by_its_own_rules_only() {
    let world = World::new("audience").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({})).await;
    world.accepts("Instance", "strict", roles(json!({"roles": [{"name": "reader", "actions": ["*:read"]}]}))).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "role": "admin"})).await;
    let value = world.await_generation("ci", 1).await;
    let ask = async |instance: &str| {
        let headers = [("api-token", &*value), ("x-forwarded-method", "GET"), ("x-forwarded-uri", "/topics")];
        let headers = headers.iter().map(|&(name, text)| (name.parse().unwrap(), text.parse().unwrap())).collect();
        let path = format!("/v1/instances/{}/{instance}/authorize", world.namespace);
        verifier.ask(&path, headers).await.0.as_u16()
    };
    world.await_verdict(&verifier, &value, 200).await;
    assert_eq!(ask("strict").await, 401, "it is for another Instance");
    world.change("ApiToken", "ci", json!({"audiences": [{"name": "strict"}]})).await.unwrap();
    world.eventually("the other knows it", async || (ask("strict").await == 403).then_some(())).await;
    // What the first Instance is lax about, the second is not; and its roles are its own.
    world
        .change("Instance", "strict", json!({"roles": [{"name": "reader"}, {"name": "admin", "actions": ["*"]}]}))
        .await
        .unwrap();
    world.eventually("it has the role there", async || (ask("strict").await == 200).then_some(())).await;
    world
        .change(
            "Instance",
            "strict",
            json!({"tokens": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}}),
        )
        .await
        .unwrap();
    // The answer is 403 until the operator closes the audience, and 401 from then on.
    world.eventually("its namespace is not admitted", async || (ask("strict").await != 200).then_some(())).await;
    assert_eq!(ask("eem").await, 200);
}

#[tokio::test]
async fn groups_that_were_stamped_too_long_ago_permit_nothing() {
    let held_by = |subject: &str| json!([{"subject": subject, "role": "viewer"}]);
    let spec = json!({
        "ceiling": "Members", "members": held_by("user:alice"),
        "tokens": {"groupsMaxAge": "30d", "onOwnerRemoved": "Keep", "lifetime": {"default": "300d"}},
    });
    let stage = Stage::new("groups", spec, json!({}), json!({"owner": "user:alice"})).await;
    stage.world.change("Instance", "eem", json!({"members": held_by("group:ops")})).await.unwrap();
    stage.await_status("GET", "/", 403).await;
    let stamp = |version: &str| {
        Patch::Merge(json!({"metadata": {"annotations": {"tokenry.dev/owner-groups": format!("{version}\nops\n")}}}))
    };
    stage.world.api::<ApiToken>().patch("ci", &PatchParams::default(), &stamp("1")).await.unwrap();
    stage.await_status("GET", "/", 200).await;
}

/// What `tokenry explain` prints for the token `ci`, and whether it says that the request is let in.
fn explained(world: &World, args: &[&str]) -> (bool, String) {
    let kubeconfig = world.plane.kubeconfig_for(&world.namespace, world.plane.admin_token()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command.args(["explain", "ci", "--namespace", &world.namespace]).args(args).env("KUBECONFIG", kubeconfig);
    let done = command.output().unwrap();
    let told = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    (done.status.success(), told)
}

#[tokio::test]
async fn explain_prints_the_chain_of_reasons_that_the_verifier_goes_by() {
    let api = json!({"authorization": "Roles", "organizationFrom": {"header": "X-Organization"}});
    let spec = json!({"api": api, "organizations": ["acme"]});
    let stage =
        Stage::new("explain", spec, json!({"role": "viewer"}), json!({"organizations": {"listed": ["acme"]}})).await;
    let home = &stage.world.namespace;
    let objects = format!("ApiToken {home}/ci, ServiceAccount {home}/ci");
    let (allowed, told) = explained(&stage.world, &["--path", "/topics", "--organization", "acme"]);
    assert_eq!(
        told,
        format!(
            "√ ApiToken {home}/ci: generation 1: valid\n\
             √ Instance eem: not excluded\n\
             √ {objects}: may act for organization acme\n\
             √ {objects}: the request needs to name no project\n\
             √ {objects}: effective role viewer permits api:read\n\
             allowed: 200 Allowed, effective role viewer\n"
        )
    );
    assert!(allowed);
    let (allowed, told) = explained(&stage.world, &["--method", "POST", "--path", "/topics", "--organization", "acme"]);
    assert!(!allowed && told.ends_with("refused: 403 NotPermitted, effective role viewer\n"), "{told}");
    assert!(told.contains(&format!("× {objects}: effective role viewer does not permit api:write")), "{told}");
    let (_, told) = explained(&stage.world, &["--path", "/topics", "--organization", "other"]);
    assert!(told.contains("× Instance eem: spec.organizations does not list other"), "{told}");
    let (_, told) = explained(&stage.world, &["--path", "/topics", "--project", "blue"]);
    assert!(told.contains("the Instance reads no project from a header"), "{told}");
    stage.world.change("ApiToken", "ci", json!({"active": false})).await.unwrap();
    let (_, told) = explained(&stage.world, &["--path", "/topics"]);
    assert!(told.contains(&format!("× ApiToken {home}/ci: generation 1: Suspended")), "{told}");
    stage.world.delete("ApiToken", "ci").await;
    let (allowed, told) = explained(&stage.world, &["--path", "/topics"]);
    assert!(!allowed && told.contains(&format!("there is no ApiToken ci in namespace {home}")), "{told}");
}

#[tokio::test]
async fn explain_names_a_request_that_is_let_through_unjudged() {
    let api = json!({"api": {"unguarded": [{"paths": ["/login"]}], "excluded": [{"paths": ["/login"]}]}});
    let stage = Stage::new("explain-open", api, json!({}), json!({})).await;
    let home = &stage.world.namespace;
    let (allowed, told) = explained(&stage.world, &["--path", "/login"]);
    let note = "lets such a request through unjudged without a token (spec.api.unguarded), and judges one with a token";
    assert!(!allowed && told.starts_with(&format!("√ Instance eem: {note}\n")), "{told}");
    assert!(told.ends_with("refused: 403 Excluded\n"), "{told}");
    let kubeconfig = stage.world.plane.kubeconfig_for(home, stage.world.plane.admin_token()).unwrap();
    let without = |path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args(["explain", "--instance", "eem", "--namespace", home, "--path", path]);
        let done = command.env("KUBECONFIG", &kubeconfig).output().unwrap();
        (done.status.code(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
    };
    let told = "√ Instance eem: lets the request through unjudged, by spec.api.unguarded\nallowed: 200 Unguarded\n";
    assert_eq!(without("/login"), (Some(0), told.into()));
    let told = "× Instance eem: judges the request, because no entry of spec.api.unguarded covers it, letter for letter\n\
                next: send the token in a header of spec.api.credentials of the Instance\n\
                refused: 401 Missing\n";
    assert_eq!(without("/orders"), (Some(1), told.into()));
    let told = "× Instance eem: lets nobody in at /.tokenry/probe, which tests the guard of its endpoint\n\
                next: send a request for another path; this one shows that the guard works\n\
                refused: 401 Probe\n";
    assert_eq!(without("/.tokenry/probe?a"), (Some(1), told.into()));
    assert_eq!(explained(&stage.world, &["--path", "/.tokenry/probe"]), (false, told.into()));
}

/// The exit code of the program, run without a cluster unless `kubeconfig` names one, and what it says went wrong.
fn exits(kubeconfig: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    let done = command.args(args).env("KUBECONFIG", kubeconfig).output().unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[tokio::test]
async fn an_exit_code_says_what_kind_of_thing_went_wrong() {
    let world = World::new("exits").await;
    world.smallest().await;
    let (nowhere, as_nobody) = (Path::new("/nowhere"), world.plane.kubeconfig_for("nobody", "nobody").unwrap());
    let admin = world.plane.kubeconfig_for(&world.namespace, world.plane.admin_token()).unwrap();
    let explain = |name| vec!["explain", name, "--path", "/", "--namespace", &world.namespace];
    for (kubeconfig, args, code, wanted) in [
        (nowhere, vec!["explain"], 2, "the following required arguments were not provided"),
        (nowhere, vec!["admission", "--namespaces", "odd"], 2, "tokenry: --namespaces: give KEY=VALUE"),
        (nowhere, explain("ci"), 3, "tokenry: no cluster is configured"),
        (&as_nobody, explain("ci"), 4, &format!("tokenry: get ApiToken {}/ci: unauthenticated: ", world.namespace)),
        (nowhere, explain("a b"), 2, "must be a name of lower-case letters"),
        (&admin, explain("none"), 5, "tokenry: there is no ApiToken none"),
        (&admin, explain("ci"), 5, "has no value yet; see its status"),
        (nowhere, vec!["crds", "--dir", "/dev/null/crds"], 6, "tokenry: cannot make /dev/null/crds: "),
    ] {
        let (exited, told) = exits(kubeconfig, &args);
        assert_eq!(exited, Some(code), "{args:?}: {told}");
        assert!(told.contains(wanted) && !told.contains("not available"), "{args:?}: {told}");
    }
    let away = world.plane.kubeconfig_for(&format!("{}-away", world.namespace), world.plane.admin_token()).unwrap();
    let config = std::fs::read_to_string(&away).unwrap().replace(world.plane.server(), "https://127.0.0.1:1");
    std::fs::write(&away, config).unwrap();
    let (exited, told) = exits(&away, &explain("ci"));
    assert!(exited == Some(3) && told.contains("/ci: the API server is not available: "), "{told}");
}
