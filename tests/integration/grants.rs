//! The rights of RBAC that follow from members and owners, and the roles of the chart for administrators.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenry::crd::{Account, ApiToken, Instance};

use crate::harness::{
    OPERATOR, World,
    clock::Held,
    judged::{Judged, User, refused},
    message,
    rights::asking,
};

/// An Instance by whose members tokens are limited.
fn of_members(members: Value) -> Value {
    json!({"ceiling": "Members", "members": members})
}

fn spec(more: Value) -> Value {
    let mut spec = json!({"instanceRef": {"name": "shop"}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

impl World {
    /// The names of our Roles, which are those of our RoleBindings.
    async fn granted(&self) -> Vec<String> {
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=tokenry");
        let names = |metas: Vec<String>| metas.into_iter().collect::<std::collections::BTreeSet<_>>();
        let roles = names(self.api::<Role>().list(&ours).await.unwrap().iter().map(|role| role.name_any()).collect());
        let bindings = self.api::<RoleBinding>().list(&ours).await.unwrap();
        let bindings = names(bindings.iter().map(|binding| binding.name_any()).collect());
        roles.intersection(&bindings).cloned().collect()
    }

    async fn await_granted(&self, wanted: &[&str]) {
        self.eventually(&format!("{wanted:?} are granted"), async || (self.granted().await == wanted).then_some(()))
            .await;
    }

    /// The reason of the condition `GrantsMissing`; none without this condition.
    async fn missing_grant<K>(&self, name: &str) -> Option<String>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
    {
        let object = serde_json::to_value(self.api::<K>().get(name).await.unwrap()).unwrap();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let missing = conditions.iter().find(|condition| condition["type"] == "GrantsMissing")?;
        Some(missing["reason"].as_str().unwrap().to_owned())
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const ROLES: (&str, &str) = ("roles", "tokenry.dev");
const ACCOUNTS: (&str, &str) = ("serviceaccounts", "tokenry.dev");
const SECRETS: (&str, &str) = ("secrets", "");
const CONTRIBUTORS: &str = "tokenry:instance:shop:contributor";

#[tokio::test]
async fn a_member_with_edit_gives_its_role_after_one_apply_and_no_stronger_one() {
    let judged = Judged::new("grants").await;
    let world = &judged.world;
    let _operator = world.operator(&Held::default()).await;
    let editors = ["create", "rolebinding", "editors", "--clusterrole", "edit", "--user", "alice@example.com"];
    world.plane.kubectl(&[&editors[..], &["--namespace", &world.namespace]].concat()).unwrap();
    let alice = User::of(&judged, world.acting_as("alice@example.com"), "alice@example.com");
    let may_edit = async || alice.api("ApiToken").list(&ListParams::default()).await.ok();
    world.eventually("alice may edit", may_edit).await;
    let token = |role: &str| spec(json!({"role": role, "owner": "user:alice@example.com"}));
    let lacks = |role: &str| {
        format!(
            "spec.role: user:alice@example.com may not assign roles.tokenry.dev/shop:{role} in namespace {}",
            world.namespace
        )
    };
    let told = alice.create("ApiToken", "early", token("viewer")).await.unwrap_err();
    assert!(told.contains("; if you were made a member just now, try again in some seconds; to allow it, "), "{told}");

    let members = json!([{"subject": "user:alice@example.com", "role": "contributor"}]);
    let instance = json!({
        "apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance",
        "metadata": {"name": "shop", "namespace": world.namespace}, "spec": of_members(members),
    });
    world.plane.kubectl_with_input(&["apply", "-f", "-"], &instance.to_string()).unwrap();
    world
        .eventually("alice makes a token", async || alice.create("ApiToken", "ci", token("contributor")).await.ok())
        .await;
    world.await_reason("ci", "Active").await;
    alice.create("ApiToken", "weaker", token("viewer")).await.unwrap();
    refused(alice.create("ApiToken", "stronger", token("admin")).await, &lacks("admin"));
    refused(alice.change("ApiToken", "ci", json!({"role": "admin"})).await, &lacks("admin"));

    world.change("Instance", "shop", json!({"members": []})).await.unwrap();
    world.await_granted(&[]).await;
    let member = asking("alice@example.com", &[]);
    world.await_right(false, &member, "assign", ROLES, "shop:contributor").await;
    refused(alice.create("ApiToken", "late", token("viewer")).await, &lacks("viewer"));
}

/// A Role by which `user` may assign `shop:viewer`, and its RoleBinding.
fn bare(user: &str) -> (Role, RoleBinding) {
    let rule = json!({"apiGroups": ["tokenry.dev"], "resources": ["roles"], "verbs": ["assign"], "resourceNames": ["shop:viewer"]});
    let binding = json!({
        "metadata": {"name": user}, "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": user},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    });
    let role = json!({"metadata": {"name": user}, "rules": [rule]});
    (serde_json::from_value(role).unwrap(), serde_json::from_value(binding).unwrap())
}

/// The least delay of a right that follows from an object: a client without any work of its own watches Instances. For
/// each change it writes a Role and a RoleBinding, for the last member.
async fn follow_barely(client: Client, namespace: String, from: String) {
    let instances: Api<Instance> = Api::namespaced(client.clone(), &namespace);
    let (roles, bindings): (Api<Role>, Api<RoleBinding>) =
        (Api::namespaced(client.clone(), &namespace), Api::namespaced(client, &namespace));
    let mut changes = pin!(instances.watch(&WatchParams::default(), &from).await.unwrap());
    while let Some(change) = changes.next().await {
        let WatchEvent::Modified(instance) = change.unwrap() else { continue };
        let user = instance.spec.organization.unwrap();
        let (role, binding) = bare(&user);
        roles.create(&PostParams::default(), &role).await.unwrap();
        bindings.create(&PostParams::default(), &binding).await.unwrap();
    }
}

#[tokio::test]
async fn a_right_follows_its_member_after_a_watch_and_two_writes() {
    const ROUNDS: usize = 8;
    let world = World::new("delay").await;
    let instance = world.accepts("Instance", "shop", of_members(json!([]))).await;
    // The time from a change of the Instance until RBAC allows what it gives to `user`.
    let until_granted = async |user: &str, spec: Value| {
        let (begun, subject) = (Instant::now(), asking(user, &[]));
        world.change("Instance", "shop", spec).await.unwrap();
        while !world.allows(&subject, "assign", ROLES, "shop:viewer").await {
            assert!(begun.elapsed() < Duration::from_secs(60), "{user} was not granted its right");
        }
        begun.elapsed()
    };
    // The median without the first round, which waits for the start of its watch.
    let median = |mut all: Vec<Duration>| {
        all.remove(0);
        all.sort();
        all[all.len() / 2]
    };
    let from = instance.resource_version().unwrap();
    let watching = tokio::spawn(follow_barely(world.client.clone(), world.namespace.clone(), from));
    let mut bare = Vec::new();
    for round in 0..ROUNDS {
        let user = format!("bare-{round}");
        bare.push(until_granted(&user, json!({ "organization": user })).await);
    }
    watching.abort();
    let _operator = world.operator(&Held::default()).await;
    let (mut granted, mut members) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let user = format!("member-{round}");
        members.push(json!({"subject": format!("user:{user}"), "role": "viewer"}));
        granted.push(until_granted(&user, json!({ "members": members })).await);
    }
    let (granted, bare) = (median(granted), median(bare));
    let ratio = granted.as_secs_f64() / bare.as_secs_f64();
    eprintln!("a right after {granted:?}; after {bare:?} by a bare watch and two writes; ratio {ratio:.1}");
}

#[tokio::test]
async fn many_members_are_granted_by_several_bindings() {
    let world = World::new("many").await;
    let _operator = world.operator(&Held::default()).await;
    let user = |nth: usize| format!("{nth:0100}@example.com");
    let of_teams = |teams: usize| {
        let named = |team: usize| json!({"name": format!("t{team}"), "users": (0..256).map(|nth| user(256 * team + nth)).collect::<Vec<_>>()});
        let holds = |team: usize| json!({"subject": format!("team:t{team}"), "role": "viewer"});
        json!({"teams": (0..teams).map(named).collect::<Vec<_>>(), "members": (0..teams).map(holds).collect::<Vec<_>>()})
    };
    let mut instance = of_members(json!([]));
    instance.as_object_mut().unwrap().extend(of_teams(16).as_object().unwrap().clone());
    world.accepts("Instance", "shop", instance).await;
    let all = ["tokenry:instance:shop:viewer", "tokenry:instance:shop:viewer:2", "tokenry:instance:shop:viewer:3"];
    let bound = async |wanted: &[&str]| {
        let names = async || {
            let listed = world.api::<RoleBinding>().list(&ListParams::default()).await.unwrap();
            let names: Vec<_> = listed.iter().map(|binding| binding.name_any()).collect();
            (names == wanted).then_some(())
        };
        world.eventually(&format!("the bindings are {wanted:?}"), names).await;
    };
    bound(&all).await;
    for nth in [0, 2000, 4095] {
        world.await_right(true, &asking(&user(nth), &[]), "assign", ROLES, "shop:viewer").await;
    }
    world.change("Instance", "shop", of_teams(1)).await.unwrap();
    bound(&all[..1]).await;
    for (nth, allowed) in [(0, true), (2000, false), (4095, false)] {
        world.await_right(allowed, &asking(&user(nth), &[]), "assign", ROLES, "shop:viewer").await;
    }
    assert_eq!(world.missing_grant::<Instance>("shop").await, None);
}

#[tokio::test]
async fn groups_teams_and_core_accounts_are_granted_what_their_role_gives() {
    let world = World::new("grantees").await;
    let _operator = world.operator(&Held::default()).await;
    let mut instance = of_members(json!([
        {"subject": "group:ops", "role": "admin"}, {"subject": "team:platform", "role": "contributor"},
        {"subject": format!("serviceaccount:{}/builder", world.namespace), "role": "viewer"},
        {"subject": "account:a/b", "role": "admin"}, {"subject": "user:system:serviceaccount:a:b", "role": "admin"},
    ]));
    instance["teams"] = json!([{"name": "platform", "users": ["bob"]}]);
    world.accepts("Instance", "shop", instance).await;
    let builder = format!("system:serviceaccount:{}:builder", world.namespace);
    for (subject, gives) in [
        (asking("carol", &["ops"]), [true, true, true]),
        (asking("bob", &[]), [true, true, false]),
        (asking(&builder, &[]), [true, false, false]),
        (asking("system:serviceaccount:a:b", &[]), [false; 3]),
        (asking("carol", &["platform"]), [false; 3]),
    ] {
        for (role, allowed) in ["viewer", "contributor", "admin"].into_iter().zip(gives) {
            world.await_right(allowed, &subject, "assign", ROLES, &format!("shop:{role}")).await;
        }
        assert!(!world.allows(&subject, "assign", ROLES, "other:viewer").await);
    }
    let wanted = ["tokenry:instance:shop:admin", CONTRIBUTORS, "tokenry:instance:shop:viewer"];
    world.await_granted(&wanted).await;
    // A role without holders, and a role that may own no tokens.
    world.change("Instance", "shop", json!({"tokens": {"minimumRole": "contributor"}})).await.unwrap();
    world.await_granted(&wanted[..2]).await;
}

#[tokio::test]
async fn an_owner_uses_its_account_and_reads_its_secret_while_it_is_the_owner() {
    let world = World::new("ownership").await;
    let _operator = world.operator(&Held::default()).await;
    let members = json!([{"subject": "user:alice", "role": "admin"}, {"subject": "user:bob", "role": "viewer"}]);
    world.accepts("Instance", "shop", of_members(members)).await;
    world.accepts("ServiceAccount", "bot", spec(json!({"owner": "user:alice"}))).await;
    world.accepts("ApiToken", "ci", spec(json!({"owner": "user:alice"}))).await;
    world.await_reason("ci", "Active").await;
    let (alice, bob) = (asking("alice", &[]), asking("bob", &[]));
    world.await_right(true, &alice, "use", ACCOUNTS, "bot").await;
    world.await_right(true, &alice, "get", SECRETS, "ci").await;
    assert!(!world.allows(&bob, "use", ACCOUNTS, "bot").await && !world.allows(&bob, "get", SECRETS, "ci").await);
    assert!(!world.allows(&alice, "use", ACCOUNTS, "ci").await, "the account of one token is changed by the token");
    assert!(!world.allows(&alice, "get", SECRETS, "other").await && !world.allows(&alice, "list", SECRETS, "").await);

    for kind in ["ServiceAccount", "ApiToken"] {
        world.change(kind, if kind == "ApiToken" { "ci" } else { "bot" }, json!({"owner": "user:bob"})).await.unwrap();
    }
    world.await_right(true, &bob, "use", ACCOUNTS, "bot").await;
    world.await_right(true, &bob, "get", SECRETS, "ci").await;
    world.await_right(false, &alice, "use", ACCOUNTS, "bot").await;
    world.await_right(false, &alice, "get", SECRETS, "ci").await;

    world.change("Instance", "shop", json!({"grants": "None"})).await.unwrap();
    world.await_granted(&[]).await;
    world.change("Instance", "shop", json!({"grants": null})).await.unwrap();
    world.await_right(true, &bob, "get", SECRETS, "ci").await;
    world.delete("ApiToken", "ci").await;
    world.delete("ServiceAccount", "bot").await;
    world.await_granted(&["tokenry:instance:shop:admin", "tokenry:instance:shop:viewer"]).await;
}

#[tokio::test]
async fn a_token_that_waits_becomes_no_later_account_of_the_same_name() {
    let world = World::new("namesake").await;
    let _operator = world.operator(&Held::default()).await;
    let members = json!([{"subject": "user:alice", "role": "viewer"}, {"subject": "user:bob", "role": "admin"}]);
    world.accepts("Instance", "shop", of_members(members)).await;
    world.accepts("ServiceAccount", "bot", spec(json!({"owner": "user:alice"}))).await;
    world.await_right(true, &asking("alice", &[]), "use", ACCOUNTS, "bot").await;
    let faulty = json!({
        "owner": "user:alice", "serviceAccountRef": {"name": "bot"}, "organizations": {"listed": ["nowhere"]},
    });
    world.accepts("ApiToken", "ci", spec(faulty)).await;
    world.await_reason("ci", "OrganizationUnknown").await;
    world.delete("ServiceAccount", "bot").await;
    world.accepts("ServiceAccount", "bot", spec(json!({"owner": "user:bob", "role": "admin"}))).await;
    world.await_right(true, &asking("bob", &[]), "use", ACCOUNTS, "bot").await;
    world.change("ApiToken", "ci", json!({"organizations": null})).await.unwrap();
    world.await_reason("ci", "AccountDeleted").await;
}

#[tokio::test]
async fn a_token_of_the_name_of_anothers_secret_grants_nothing_on_it() {
    let world = World::new("secretive").await;
    let _operator = world.operator(&Held::default()).await;
    world
        .plane
        .kubectl(&["create", "secret", "generic", "password", "-n", &world.namespace, "--from-literal=a=b"])
        .unwrap();
    world.accepts("Instance", "shop", of_members(json!([{"subject": "user:alice", "role": "admin"}]))).await;
    let token = spec(json!({"owner": "user:alice", "role": "admin"}));
    world.accepts("ApiToken", "password", token.clone()).await;
    world.await_reason("password", "SecretForeign").await;
    world.accepts("ApiToken", "ci", token).await;
    let alice = asking("alice", &[]);
    world.await_right(true, &alice, "get", SECRETS, "ci").await;
    assert!(!world.allows(&alice, "get", SECRETS, "password").await);
    assert_eq!(world.granted().await, ["tokenry:instance:shop:admin", "tokenry:token:ci"]);
}

#[tokio::test]
async fn what_was_granted_is_mended_and_nothing_is_written_at_rest() {
    let world = World::new("mended").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "shop", of_members(json!([{"subject": "user:alice", "role": "contributor"}]))).await;
    world.await_granted(&[CONTRIBUTORS]).await;
    let (roles, bindings) = (world.api::<Role>(), world.api::<RoleBinding>());
    let made = roles.get(CONTRIBUTORS).await.unwrap();
    let content = async || {
        let (role, binding) =
            (roles.get_opt(CONTRIBUTORS).await.unwrap()?, bindings.get_opt(CONTRIBUTORS).await.unwrap()?);
        Some((role.rules, role.metadata.owner_references, role.metadata.labels, binding.subjects, binding.role_ref))
    };
    let wanted = content().await;
    let mended = async |what: &str| world.eventually(what, async || (content().await == wanted).then_some(())).await;
    let params = PatchParams::default();
    let all = json!([{"apiGroups": ["tokenry.dev"], "resources": ["roles"], "verbs": ["assign"]}]);
    roles.patch(CONTRIBUTORS, &params, &Patch::Merge(json!({"rules": all}))).await.unwrap();
    mended("the rules are back").await;
    let bob = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]);
    bindings.patch(CONTRIBUTORS, &params, &Patch::Merge(json!({"subjects": bob}))).await.unwrap();
    mended("the subjects are back").await;
    roles.patch(CONTRIBUTORS, &params, &Patch::Merge(json!({"metadata": {"ownerReferences": null}}))).await.unwrap();
    mended("the owner is back").await;
    roles.delete(CONTRIBUTORS, &DeleteParams::default()).await.unwrap();
    bindings.delete(CONTRIBUTORS, &DeleteParams::default()).await.unwrap();
    mended("both are back").await;
    assert_ne!(roles.get(CONTRIBUTORS).await.unwrap().uid(), made.uid());

    // A binding of that name to another Role is made anew.
    let mut other = serde_json::to_value(bindings.get(CONTRIBUTORS).await.unwrap()).unwrap();
    bindings.delete(CONTRIBUTORS, &DeleteParams::default()).await.unwrap();
    other["roleRef"]["name"] = "other".into();
    let labels = other["metadata"]["labels"].clone();
    other["metadata"] = json!({"name": CONTRIBUTORS, "labels": labels});
    let _ = bindings.create(&PostParams::default(), &serde_json::from_value(other).unwrap()).await;
    mended("it binds our Role").await;

    let before = world.audited().len();
    world.change("Instance", "shop", json!({"organization": "acme"})).await.unwrap();
    let told = async || {
        let instance = world.api::<Instance>().get("shop").await.unwrap();
        (instance.status?.organization? == "acme").then_some(())
    };
    world.eventually("a pass is over", told).await;
    let written = |group: &str, verb: &str| group == "rbac.authorization.k8s.io" && !["list", "watch"].contains(&verb);
    let asked = world.audited().split_off(before);
    let asked: Vec<_> =
        asked.iter().filter(|event| event.namespace == world.namespace && written(&event.group, &event.verb)).collect();
    assert!(asked.is_empty(), "{asked:?}");
}

#[tokio::test]
async fn a_role_of_that_name_of_somebody_else_is_reported_and_left_alone() {
    let world = World::new("foreign").await;
    let _operator = world.operator(&Held::default()).await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let foreign = json!({"metadata": {"name": CONTRIBUTORS}, "rules": rules});
    let roles = world.api::<Role>();
    let foreign = roles.create(&PostParams::default(), &serde_json::from_value(foreign).unwrap()).await.unwrap();
    world.accepts("Instance", "shop", of_members(json!([{"subject": "user:alice", "role": "contributor"}]))).await;
    let told = async || world.missing_grant::<Instance>("shop").await.filter(|reason| reason == "GrantForeign");
    world.eventually("the Instance reports it", told).await;
    world.await_events("Instance", "shop", &["Accepted", "GrantBlocked"]).await;
    assert_eq!(roles.get(CONTRIBUTORS).await.unwrap(), foreign);
    assert!(world.api::<RoleBinding>().get_opt(CONTRIBUTORS).await.unwrap().is_none(), "nothing binds it");
    roles.delete(CONTRIBUTORS, &DeleteParams::default()).await.unwrap();
    world.await_granted(&[CONTRIBUTORS]).await;
    world
        .eventually("it reports it no more", async || {
            world.missing_grant::<Instance>("shop").await.is_none().then_some(())
        })
        .await;
}

#[tokio::test]
async fn an_operator_without_grants_reports_it_of_each_instance_that_asks_for_them() {
    let world = World::new("off").await;
    let client = world.plane.client_for(&world.identities.operator);
    let _operator = world.operator_with(client, &Held::default(), |options| options.grants = false).await;
    let members = json!([{"subject": "user:alice", "role": "admin"}]);
    world.accepts("Instance", "shop", of_members(members.clone())).await;
    world.accepts("Instance", "lax", json!({"members": members})).await;
    world.accepts("ApiToken", "ci", spec(json!({"owner": "user:alice", "role": "admin"}))).await;
    world.await_reason("ci", "Active").await;
    let told = async || world.missing_grant::<Instance>("shop").await.filter(|reason| reason == "GrantsOff");
    world.eventually("the Instance reports it", told).await;
    assert_eq!(world.missing_grant::<Instance>("lax").await, None);
    assert_eq!(world.missing_grant::<ApiToken>("ci").await, None);
    assert_eq!(world.missing_grant::<Account>("ci").await, None);
    assert_eq!(world.granted().await, [""; 0]);
}

/// The content of a RoleBinding that grants `user` the right of this Role.
fn bound_to(role: &str, user: &str) -> Value {
    json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

#[tokio::test]
async fn a_binding_of_that_name_of_somebody_else_gets_no_role() {
    let world = World::new("prepared").await;
    let (roles, bindings) = (world.api::<Role>(), world.api::<RoleBinding>());
    let prepare = async || {
        let mut binding = bound_to(CONTRIBUTORS, "mallory");
        binding["metadata"] = json!({"name": CONTRIBUTORS});
        bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.ok()
    };
    prepare().await.unwrap();
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "shop", of_members(json!([{"subject": "user:alice", "role": "contributor"}]))).await;
    let told = async || world.missing_grant::<Instance>("shop").await.filter(|reason| reason == "GrantForeign");
    world.eventually("the Instance reports it", told).await;
    assert!(roles.get_opt(CONTRIBUTORS).await.unwrap().is_none(), "it binds nothing");
    bindings.delete(CONTRIBUTORS, &DeleteParams::default()).await.unwrap();
    world.await_granted(&[CONTRIBUTORS]).await;
    // One that takes the place of ours.
    let taken = async || {
        bindings.delete(CONTRIBUTORS, &DeleteParams::default()).await.ok()?;
        prepare().await
    };
    world.eventually("the name is taken", taken).await;
    world.await_right(false, &asking("mallory", &[]), "assign", ROLES, "shop:contributor").await;
    let gone = async || roles.get_opt(CONTRIBUTORS).await.unwrap().is_none().then_some(());
    world.eventually("the Role is withdrawn", gone).await;
}

#[tokio::test]
async fn nobody_but_the_operator_creates_and_binds_its_roles() {
    let judged = Judged::new("reserved").await;
    let world = &judged.world;
    let _operator = world.operator(&Held::default()).await;
    let (roles, bindings) = (world.api::<Role>(), world.api::<RoleBinding>());
    let bind = async |name: &str, role: &str| {
        let mut binding = bound_to(role, "mallory");
        binding["metadata"] = json!({"name": name});
        let binding = serde_json::from_value(binding).unwrap();
        bindings.create(&PostParams::default(), &binding).await.map(drop).map_err(message)
    };
    let create = async |name: &str| {
        let role = serde_json::from_value(json!({"metadata": {"name": name}, "rules": []})).unwrap();
        roles.create(&PostParams::default(), &role).await.map(drop).map_err(message)
    };
    let named =
        "metadata.name: only the operator of Tokenry creates Roles whose names begin with tokenry:; use another name";
    let led = "roleRef: only the operator of Tokenry binds Roles whose names begin with tokenry:; bind another Role";
    // A policy takes effect some moments after its creation.
    world.eventually("the policy holds", async || create("tokenry:token:probe").await.err()).await;
    let told = create("tokenry:token:ci").await.unwrap_err();
    assert!(told.contains(named), "{told}");
    for name in ["mine", "tokenry:token:ci"] {
        let told = bind(name, "tokenry:token:ci").await.unwrap_err();
        assert!(told.contains(led), "{told}");
    }
    create("theirs").await.unwrap();
    bind("theirs", "theirs").await.unwrap();
    world.accepts("Instance", "shop", of_members(json!([{"subject": "user:alice", "role": "contributor"}]))).await;
    world.await_granted(&[CONTRIBUTORS]).await;
    let params = PatchParams::default();
    let joined = Patch::Merge(json!({"subjects": bound_to(CONTRIBUTORS, "mallory")["subjects"]}));
    let told = bindings.patch(CONTRIBUTORS, &params, &joined).await.map(drop).map_err(message).unwrap_err();
    assert!(told.contains(led), "{told}");
    let noted = Patch::Merge(json!({"metadata": {"annotations": {"note": "a"}}}));
    bindings.patch(CONTRIBUTORS, &params, &noted).await.unwrap();
    bindings.delete("theirs", &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_grant_that_outlived_its_owner_is_deleted_or_made_anew() {
    const GONE: &str = "tokenry:instance:gone:contributor";
    let world = World::new("abandoned").await;
    let operator = world.operator(&Held::default()).await;
    let members = |user: &str| of_members(json!([{"subject": user, "role": "contributor"}]));
    for name in ["shop", "gone"] {
        world.accepts("Instance", name, members("user:alice")).await;
    }
    world.await_granted(&[GONE, CONTRIBUTORS]).await;
    operator.stop().await;
    for name in ["shop", "gone"] {
        let delete = ["delete", "instances.tokenry.dev", name, "--cascade=orphan", "--wait=false"];
        world.plane.kubectl(&[&delete[..], &["--namespace", &world.namespace]].concat()).unwrap();
    }
    let (roles, instances) = (world.api::<Role>(), world.api::<Instance>());
    let gone = async || instances.list(&ListParams::default()).await.unwrap().items.is_empty().then_some(());
    world.eventually("the owners are gone", gone).await;
    for name in [GONE, CONTRIBUTORS] {
        assert!(roles.get(name).await.unwrap().owner_references().is_empty(), "the garbage collector leaves it");
    }
    // An object with our labels alone is not ours.
    let mut theirs = made("Role", "theirs", ("Instance", "gone", "none"), json!({}));
    theirs["metadata"]["ownerReferences"] = json!([]);
    roles.create(&PostParams::default(), &serde_json::from_value(theirs.clone()).unwrap()).await.unwrap();
    world.accepts("Instance", "shop", members("user:bob")).await;

    let operator = world.operator(&Held::default()).await;
    world.await_right(true, &asking("bob", &[]), "assign", ROLES, "shop:contributor").await;
    world.await_right(false, &asking("alice", &[]), "assign", ROLES, "shop:contributor").await;
    theirs["metadata"]["name"] = "tokenry:token:late".into();
    roles.create(&PostParams::default(), &serde_json::from_value(theirs).unwrap()).await.unwrap();
    world.await_right(false, &asking("alice", &[]), "assign", ROLES, "gone:contributor").await;
    let swept = async || {
        let left: Vec<_> =
            roles.list(&ListParams::default()).await.unwrap().iter().map(|role| role.name_any()).collect();
        (left == ["theirs", CONTRIBUTORS]).then_some(())
    };
    world.eventually("the abandoned Roles are deleted", swept).await;
    world.await_granted(&[CONTRIBUTORS]).await;
    operator.stop().await;
}

/// A Role or RoleBinding as the operator makes it for this owner: its kind, its name and its uid.
fn made(kind: &str, name: &str, (of, owner, uid): (&str, &str, &str), content: Value) -> Value {
    let owner =
        json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": of, "name": owner, "uid": uid, "controller": true});
    let labels = json!({"app.kubernetes.io/managed-by": "tokenry", "tokenry.dev/owner-uid": uid});
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
    });
    object.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
    object
}

#[tokio::test]
async fn the_operator_writes_no_other_roles_and_bindings_than_those_that_follow_from_members_and_owners() {
    let world = World::new("held").await;
    let operator = world.acting_as(OPERATOR);
    let (roles, bindings): (Api<Role>, Api<RoleBinding>) =
        (Api::namespaced(operator.clone(), &world.namespace), Api::namespaced(operator, &world.namespace));
    let uid = world.accepts("Instance", "shop", json!({})).await.uid().unwrap();
    let account = world.accepts("ServiceAccount", "ci", spec(json!({}))).await.uid().unwrap();
    let token = world.accepts("ApiToken", "ci", spec(json!({}))).await.uid().unwrap();
    let (shop, account, token) =
        (("Instance", "shop", &*uid), ("ServiceAccount", "ci", &*account), ("ApiToken", "ci", &*token));
    let rule = |group: &str, resource: &str, verb: &str, names: Value| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb], "resourceNames": names});
    let role = |name: &str, rule: Value| made("Role", name, shop, json!({"rules": [rule]}));
    let assign = || rule("tokenry.dev", "roles", "assign", json!(["shop:viewer"]));
    let create = async |object: Value| {
        roles.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.map(drop).map_err(message)
    };
    // A policy takes effect some moments after its creation.
    let probe = async || create(role("tokenry:probe", rule("", "secrets", "list", json!(["a"])))).await.err();
    world.eventually("the policy holds", probe).await;
    let using = || rule("tokenry.dev", "serviceaccounts", "use", json!(["ci"]));
    let reading = || rule("", "secrets", "get", json!(["ci", "new"]));
    for (name, owner, good) in
        [("tokenry:a", shop, assign()), ("tokenry:b", account, using()), ("tokenry:c", token, reading())]
    {
        create(made("Role", name, owner, json!({"rules": [good]}))).await.unwrap();
    }
    // The right of another owner.
    let others = "rules: the operator of Tokenry grants only rights on the owner that metadata.ownerReferences names";
    for (owner, bad) in [
        (shop, rule("tokenry.dev", "roles", "assign", json!(["shop:viewer", "other:viewer"]))),
        (shop, using()),
        (shop, reading()),
        (account, rule("tokenry.dev", "serviceaccounts", "use", json!(["ci", "other"]))),
        (account, assign()),
        (token, using()),
    ] {
        let told = create(made("Role", "tokenry:bad", owner, json!({"rules": [bad]}))).await.unwrap_err();
        assert!(told.contains(others), "{owner:?}: {bad}: {told}");
    }
    let rules = "rules: the operator of Tokenry grants assign on roles and use on serviceaccounts of tokenry.dev, and get on secrets, \
        each by name, and nothing else";
    for bad in [
        rule("tokenry.dev", "roles", "assign", json!([])),
        rule("tokenry.dev", "apitokens", "get", json!(["a"])),
        rule("", "secrets", "list", json!(["a"])),
        rule("", "secrets", "get", json!([])),
        rule("", "secrets", "get", json!([""])),
        json!({"apiGroups": [""], "resources": ["secrets", "serviceaccounts"], "verbs": ["get"], "resourceNames": ["a"]}),
        json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "delete"], "resourceNames": ["a"]}),
    ] {
        let told = create(role("tokenry:bad", bad.clone())).await.unwrap_err();
        assert!(told.contains(rules), "{bad}: {told}");
    }
    let wider = Patch::Merge(json!({"rules": [rule("", "secrets", "list", json!(["a"]))]}));
    let told = roles.patch("tokenry:a", &PatchParams::default(), &wider).await.map(drop).map_err(message).unwrap_err();
    assert!(told.contains(rules), "{told}");
    // RBAC refuses a right that the operator does not have, before admission sees it.
    let unheld = rule("tokenry.dev", "serviceaccounts", "assign", json!(["a"]));
    let told = create(role("tokenry:bad", unheld)).await.unwrap_err();
    assert!(told.contains("not currently held"), "{told}");
    let labels = "metadata.labels: the operator of Tokenry labels its objects and names their owner";
    for (field, value) in [
        ("labels", json!({"app.kubernetes.io/managed-by": "tokenry"})),
        ("labels", json!({"app.kubernetes.io/managed-by": "tokenry", "tokenry.dev/owner-uid": "another"})),
        ("ownerReferences", json!([])),
        ("name", json!("viewer")),
    ] {
        let mut bad = role("tokenry:bad", assign());
        bad["metadata"][field] = value;
        let told = create(bad.clone()).await.unwrap_err();
        assert!(told.contains(labels), "{bad}: {told}");
    }
    let bind = async |name: &str, kind: &str, role: &str| {
        let content = json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
        });
        let object = serde_json::from_value(made("RoleBinding", name, shop, content)).unwrap();
        bindings.create(&PostParams::default(), &object).await.map(drop).map_err(message)
    };
    for name in ["tokenry:a", "tokenry:a:2"] {
        bind(name, "Role", "tokenry:a").await.unwrap();
    }
    for (name, kind, other) in [
        ("tokenry:b", "Role", "tokenry:c"),
        ("tokenry:b", "ClusterRole", "tokenry:b"),
        ("tokenry:ab:2", "Role", "tokenry:a"),
        ("tokenry:a:b", "Role", "tokenry:a"),
        ("tokenry:a:2", "Role", "tokenry:b"),
    ] {
        let told = bind(name, kind, other).await.unwrap_err();
        // RBAC refuses a binding to a ClusterRole that does not exist before admission sees it.
        let by_us = "roleRef: the operator of Tokenry binds the Role of the same name, and nothing else";
        assert!(told.contains(by_us) || (kind == "ClusterRole" && told.contains("not found")), "{told}");
    }
    // Objects of somebody else.
    let foreign = json!({"metadata": {"name": "tokenry:foreign"}, "rules": [assign()]});
    let all = world.api::<Role>();
    all.create(&PostParams::default(), &serde_json::from_value(foreign).unwrap()).await.unwrap();
    let not_ours = "metadata.labels: the operator of Tokenry changes and deletes only objects that it has made";
    let told = roles.delete("tokenry:foreign", &DeleteParams::default()).await.map(drop).map_err(message).unwrap_err();
    assert!(told.contains(not_ours), "{told}");
    let taken = Patch::Merge(role("tokenry:foreign", assign()));
    let told =
        roles.patch("tokenry:foreign", &PatchParams::default(), &taken).await.map(drop).map_err(message).unwrap_err();
    assert!(told.contains(not_ours), "{told}");
    roles.delete("tokenry:a", &DeleteParams::default()).await.unwrap();
    // Other users are free.
    all.delete("tokenry:foreign", &DeleteParams::default()).await.unwrap();
}

/// A user with `edit` and one of the chart's roles for administrators.
async fn with_edit<'a>(judged: &'a Judged, role: &str) -> User<'a> {
    let (world, name) = (&judged.world, format!("role:{role}"));
    let client = world.acting_by(role);
    let editors = ["create", "rolebinding", &format!("{role}-edits"), "--clusterrole", "edit", "--user", &name];
    world.plane.kubectl(&[&editors[..], &["--namespace", &world.namespace]].concat()).unwrap();
    let user = User::of(judged, client, &name);
    world.eventually("it may edit", async || user.api("ApiToken").list(&ListParams::default()).await.ok()).await;
    user
}

/// An Instance `shop`, and a token and an account of alice.
async fn of_alice(world: &World) {
    world.accepts("Instance", "shop", json!({})).await;
    for kind in ["ApiToken", "ServiceAccount"] {
        world.accepts(kind, "hers", spec(json!({"owner": "user:alice"}))).await;
    }
}

fn policy(statement: Value) -> Value {
    spec(json!({"members": ["user:alice"], "statements": [statement]}))
}

#[tokio::test]
async fn a_keeper_keeps_the_tokens_of_others_and_gives_what_policies_give_and_no_role() {
    let judged = Judged::new("keeper").await;
    of_alice(&judged.world).await;
    let keeper = with_edit(&judged, "tokenry-keeper").await;
    for kind in ["ServiceAccount", "ApiToken"] {
        keeper.change(kind, "hers", json!({"description": "kept"})).await.unwrap();
        keeper.change(kind, "hers", json!({"owner": "user:bob"})).await.unwrap();
    }
    keeper.create("AccessPolicy", "p", policy(json!({"effect": "Allow", "actions": ["*"]}))).await.unwrap();
    // It gives what policies give, also what a policy gives by a role.
    judged.world.accepts("AccessPolicy", "viewers", policy(json!({"effect": "Allow", "role": "viewer"}))).await;
    for kind in ["ServiceAccount", "ApiToken"] {
        keeper.change(kind, "hers", json!({"policies": ["p", "viewers"]})).await.unwrap();
    }
    let home = keeper.home();
    let lacks = |field: &str, name: &str| {
        format!("{field}: user:role:tokenry-keeper may not assign roles.tokenry.dev/{name} in namespace {home}")
    };
    refused(keeper.change("ApiToken", "hers", json!({"role": "viewer"})).await, &lacks("spec.role", "shop:viewer"));
    let by_role = policy(json!({"effect": "Allow", "role": "viewer"}));
    refused(keeper.create("AccessPolicy", "q", by_role).await, &lacks("spec.statements", "shop:viewer"));
    let used = spec(json!({"serviceAccountRef": {"name": "hers"}, "owner": "user:bob"}));
    let told = format!(
        "spec.serviceAccountRef: user:role:tokenry-keeper may not use serviceaccounts.tokenry.dev/hers in namespace {home}"
    );
    refused(keeper.create("ApiToken", "taken", used).await, &told);
    keeper.change("ApiToken", "hers", json!({"revoked": true})).await.unwrap();
    keeper.delete("ApiToken", "hers").await.unwrap();
}

#[tokio::test]
async fn a_keeper_revokes_by_organization_where_it_keeps_the_instance_alone() {
    let judged = Judged::new("revoker").await;
    let world = &judged.world;
    let keepers = world.beside("keepers", json!({"admission": "judged"})).await;
    keepers.accepts("Instance", "shop", json!({"tokens": {"namespaces": {"from": "All"}}})).await;
    let away = json!({"instanceRef": {"name": "shop", "namespace": keepers.namespace}, "owner": "user:alice",
        "organizations": {"listed": ["acme"]}});
    world.accepts("ApiToken", "hers", away).await;
    // It may edit tokens here, and is a keeper in the namespace of the Instance.
    let editors = ["create", "rolebinding", "edits", "--clusterrole", "edit", "--user", "role:tokenry-keeper"];
    world.plane.kubectl(&[&editors[..], &["--namespace", &world.namespace]].concat()).unwrap();
    let keeper = User::of(&judged, keepers.acting_by("tokenry-keeper"), "role:tokenry-keeper");
    world.eventually("it may edit", async || keeper.api("ApiToken").list(&ListParams::default()).await.ok()).await;
    world
        .await_right(false, &asking("role:tokenry-keeper", &[]), "assign", ("owners", "tokenry.dev"), "user:alice")
        .await;
    keepers
        .await_right(true, &asking("role:tokenry-keeper", &[]), "revoke", ("organizations", "tokenry.dev"), "acme")
        .await;
    assert!(keeper.change("ApiToken", "hers", json!({"active": false})).await.is_err());
    keeper.change("ApiToken", "hers", json!({"revoked": true})).await.unwrap();
}

#[tokio::test]
async fn a_role_giver_gives_every_role_and_keeps_no_token_of_another() {
    let judged = Judged::new("giver").await;
    of_alice(&judged.world).await;
    let giver = with_edit(&judged, "tokenry-role-giver").await;
    let owner = format!("user:{}", giver.name);
    for kind in ["ServiceAccount", "ApiToken"] {
        for role in ["viewer", "admin"] {
            giver.create(kind, role, spec(json!({"role": role, "owner": owner}))).await.unwrap();
        }
    }
    let home = giver.home();
    for (kind, called) in [("ApiToken", "ApiToken"), ("ServiceAccount", "ServiceAccount of tokenry.dev")] {
        let told = format!(
            "spec.owner: this {called} is owned by user:alice: {owner} may not assign owners.tokenry.dev/user:alice in namespace {home}"
        );
        refused(giver.change(kind, "hers", json!({"role": "admin"})).await, &told);
        refused(giver.delete(kind, "hers").await, &told);
        let told = format!("spec.owner: {owner} may not assign owners.tokenry.dev/user:alice in namespace {home}");
        refused(giver.create(kind, "other", spec(json!({"owner": "user:alice"}))).await, &told);
    }
    let told = format!("spec.instanceRef: {owner} may not assign policies.tokenry.dev/shop in namespace {home}");
    refused(giver.create("AccessPolicy", "p", policy(json!({"effect": "Allow", "actions": ["*"]}))).await, &told);
}
