//! The organizations of a token: those that no Instance lists are faults, labels find the tokens of one, and
//! administrators of one revoke them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokenry::crd::{Account, ApiToken, Instance};

use crate::harness::{
    World,
    clock::Held,
    judged::{Judged, User, refused, relabel, token},
};

/// A token of the Instance `eem` that lists these organizations.
fn listing(names: &[&str]) -> Value {
    token(json!({"organizations": {"listed": names}}))
}

/// So many organizations.
fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("o{n:02}")).collect()
}

/// The key of the label for an organization.
fn key(organization: &str) -> String {
    format!("organization.tokenry.dev/{organization}")
}

#[tokio::test]
async fn an_organization_that_an_instance_does_not_list_is_a_fault_that_names_both_fields() {
    let world = World::new("unlisted").await;
    let _operator = world.operator(&Held::default()).await;
    let api = json!({"organizationFrom": {"header": "X-Organization"}});
    world.accepts("Instance", "eem", json!({"api": api, "organizations": ["north", "south"]})).await;
    world.accepts("Instance", "other", json!({})).await;
    let ready = async |kind: &str, reason: &str| -> Condition {
        let look = async || {
            let conditions = match kind {
                "Instance" => world.api::<Instance>().get("eem").await.unwrap().status?.conditions,
                "ServiceAccount" => world.api::<Account>().get("ci").await.unwrap().status?.conditions,
                _ => world.token("ci").await.status?.conditions,
            };
            conditions.into_iter().find(|said| said.type_ == "Ready" && said.reason == reason)
        };
        world.eventually(&format!("{kind} says {reason}"), look).await
    };
    let lacks = |names: &str, instance: &str| {
        let home = &world.namespace;
        format!(
            "spec.organizations.listed: lists {names}, but spec.organizations of Instance {home}/{instance} does not; \
             add each of them there, or remove it here"
        )
    };
    // A token, for its own Instance and for an audience.
    let mut spec = listing(&["north", "west"]);
    spec["audiences"] = json!([{"name": "other"}]);
    world.accepts("ApiToken", "ci", spec).await;
    let told = ready("ApiToken", "OrganizationUnknown").await.message;
    assert!(told.contains(&lacks("west", "eem")) && told.contains(&lacks("north, west", "other")), "{told}");
    assert!(world.token("ci").await.status.unwrap().records.is_empty(), "nothing is minted");
    world.change("ApiToken", "ci", json!({"organizations": {"listed": ["north"]}})).await.unwrap();
    world.change("Instance", "other", json!({"organizations": ["*"]})).await.unwrap();
    ready("ApiToken", "Active").await;
    // The list becomes shorter later: the value stays, and it is said.
    world.change("Instance", "eem", json!({"organizations": ["south"]})).await.unwrap();
    assert!(ready("ApiToken", "OrganizationUnknown").await.message.contains(&lacks("north", "eem")));
    assert!(world.value("ci").await.is_some());
    world.change("Instance", "eem", json!({"organizations": ["north", "south"]})).await.unwrap();
    ready("ApiToken", "Active").await;
    // An account.
    world.delete("ApiToken", "ci").await;
    let gone = async || world.api::<Account>().get_opt("ci").await.unwrap().is_none().then_some(());
    world.eventually("its own account is collected", gone).await;
    world.accepts("ServiceAccount", "ci", listing(&["west", "south"])).await;
    assert_eq!(ready("ServiceAccount", "OrganizationUnknown").await.message, lacks("west", "eem"));
    // A member.
    let member = json!({"subject": "user:alice", "role": "viewer", "organizations": {"listed": ["south", "west"]}});
    world.change("Instance", "eem", json!({"members": [member]})).await.unwrap();
    let told = "spec.members[0].organizations.listed: lists west, but spec.organizations of the Instance does not; add \
                each of them there, or remove it here";
    assert_eq!(ready("Instance", "OrganizationUnknown").await.message, told);
    world.change("Instance", "eem", json!({"organizations": ["south", "west"]})).await.unwrap();
    ready("Instance", "Accepted").await;
    ready("ServiceAccount", "Active").await;
}

/// The keys of the labels of a token.
async fn labels(judged: &Judged, name: &str) -> Vec<String> {
    judged.token(name).await.unwrap().labels().keys().cloned().collect()
}

/// A patch of labels.
fn labelled(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

/// The sentence about a label of an organization that the token does not list.
fn forged(organization: &str) -> String {
    format!(
        "metadata.labels: remove {}; such a label has an empty value, and names an organization in \
         spec.organizations.listed",
        key(organization)
    )
}

#[tokio::test]
async fn a_label_for_each_listed_organization_is_stamped_and_no_other_is_accepted() {
    let judged = Judged::new("labels").await;
    let (alice, bob) = (judged.user("alice", &[]).await, judged.user("bob", &[]).await);
    let long = "l".repeat(64);
    let team = json!({"name": "a", "labels": {"team": "a"}});
    alice.create_with("ApiToken", team, listing(&["north", "East_1.x", &long])).await.unwrap();
    assert_eq!(labels(&judged, "a").await, [key("East_1.x"), key("north"), "team".into()], "none for a long name");
    let root = judged.user("root", &["system:masters"]).await;
    root.change("ApiToken", "a", json!({"organizations": {"listed": ["south", "north"]}})).await.unwrap();
    assert_eq!(labels(&judged, "a").await, [key("north"), key("south"), "team".into()]);
    // Whoever takes one away, or gives it a value, changes nothing.
    let before = judged.token("a").await.unwrap();
    for user in [&alice, &bob] {
        let odd = labelled(json!({key("north"): null, key("south"): "x"}));
        user.patch("ApiToken", "a", odd).await.unwrap();
    }
    assert_eq!(judged.token("a").await.unwrap().labels(), before.labels());
    // Others are refused, when it is made and later, whoever asks.
    for user in [&alice, &bob, &root] {
        refused(user.patch("ApiToken", "a", labelled(json!({key("west"): ""}))).await, &forged("west"));
        let with = json!({"name": "forged", "labels": {key("west"): ""}});
        refused(user.create_with("ApiToken", with.clone(), listing(&["north"])).await, &forged("west"));
        refused(user.create_with("ApiToken", with, token(json!({}))).await, &forged("west"));
    }
    bob.patch("ApiToken", "a", labelled(json!({"team": "b"}))).await.expect("other labels are free");
    // A token of all lists none, and an account gets none.
    alice.create("ApiToken", "all", token(json!({}))).await.unwrap();
    assert_eq!(labels(&judged, "all").await, [""; 0]);
    root.change("ApiToken", "a", json!({"organizations": {"listed": null, "all": true}})).await.unwrap();
    assert_eq!(labels(&judged, "a").await, ["team"]);
    let account = alice.create("ServiceAccount", "a", listing(&["north"])).await.unwrap();
    assert_eq!(account.metadata.labels, None);
    mistakes(&alice).await;
}

/// What has no form of organizations is refused by its form, and not by a stamp.
async fn mistakes(user: &User<'_>) {
    let made = async |organizations: Value| {
        user.create("ApiToken", "odd", token(json!({"organizations": organizations}))).await.unwrap_err()
    };
    let told = made(json!(["north"])).await;
    assert!(told.contains("spec.organizations: Invalid value") && told.contains("must be of type object"), "{told}");
    let told = made(json!({"listed": "north"})).await;
    assert!(told.contains("spec.organizations.listed: Invalid value"), "{told}");
    let told = made(json!({"listed": [7]})).await;
    assert!(told.contains("spec.organizations.listed[0]: Invalid value"), "{told}");
    let told = made(json!({ "listed": numbered(17) })).await;
    assert!(told.contains("must have at most 16 items"), "{told}");
}

#[tokio::test]
async fn labels_of_organizations_leave_room_for_all_labels_of_a_user() {
    let judged = Judged::new("room").await;
    let alice = judged.user("alice", &[]).await;
    let own = |count: usize| (0..count).map(|n| (format!("k{n}"), json!(""))).collect::<serde_json::Map<_, _>>();
    let spec = token(json!({"organizations": {"listed": numbered(16)}}));
    alice.create_with("ApiToken", json!({"name": "a", "labels": own(256)}), spec.clone()).await.unwrap();
    assert_eq!(labels(&judged, "a").await.len(), 272);
    let told = "metadata.labels: at most 256 of them; remove some";
    refused(alice.create_with("ApiToken", json!({"name": "b", "labels": own(257)}), spec).await, told);
}

#[tokio::test]
async fn the_tokens_of_an_organization_are_one_list_and_what_is_applied_again_is_unchanged() {
    let judged = Judged::new("selected").await;
    let (world, plane) = (&judged.world, &judged.world.plane);
    let _operator = world.operator(&Held::default()).await;
    let api = json!({"organizationFrom": {"header": "X-Organization"}});
    world.change("Instance", "eem", json!({"api": api, "organizations": ["north", "south"]})).await.unwrap();
    let apply = |name: &str, spec: Value| {
        let metadata = json!({"name": name, "namespace": world.namespace});
        let object =
            json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": metadata, "spec": spec});
        plane.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &object.to_string())
    };
    let both = listing(&["south", "north"]);
    // A definition is served some moments before kubectl discovers it.
    world.eventually("kubectl knows the kind", async || apply("both", both.clone()).ok()).await;
    apply("south", listing(&["south"])).unwrap();
    apply("all", token(json!({}))).unwrap();
    for name in ["both", "south", "all"] {
        world.await_reason(name, "Active").await;
    }
    let listed = |name: &str| {
        let args = ["get", "apitokens", "--namespace", &world.namespace, "--output", "name", "--selector", &key(name)];
        plane.kubectl(&args).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed("north"), ["apitoken.tokenry.dev/both"]);
    assert_eq!(listed("south"), ["apitoken.tokenry.dev/both", "apitoken.tokenry.dev/south"]);
    let wide = plane.kubectl(&["get", "apitokens", "--namespace", &world.namespace, "--output", "wide"]).unwrap();
    let line = |name: &str| wide.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let two = r#"["north","south"]"#;
    for (name, column) in [("all", two), ("both", two), ("south", r#"["south"]"#)] {
        assert!(line(name).contains(column), "{wide}");
    }
    let tokens: Api<ApiToken> = world.api();
    let version = async || tokens.get("both").await.unwrap().resource_version();
    let before = version().await;
    apply("both", both).unwrap();
    assert_eq!(version().await, before);
}

#[tokio::test]
async fn a_token_is_revoked_by_who_may_for_the_last_of_its_organizations() {
    let judged = Judged::new("many").await;
    let world = &judged.world;
    let _operator = world.operator(&Held::default()).await;
    world.change("Instance", "eem", json!({"organization": "own", "organizations": numbered(30)})).await.unwrap();
    let alice = judged.user("alice", &[]).await;
    let owned = "is owned by user:alice";
    let revokes = async |user: &User<'_>, name: &str| user.change("ApiToken", name, json!({"revoked": true})).await;
    // The last of sixteen that are listed. A user without any of these rights costs as many checks.
    alice.create("ApiToken", "listed", token(json!({"organizations": {"listed": numbered(16)}}))).await.unwrap();
    let last = judged.user("last", &[]).await;
    last.may_on("revoke", "organizations", "o16").await;
    let told = revokes(&last, "listed").await.unwrap_err();
    assert!(told.contains(owned), "{told}");
    last.may_on("revoke", "organizations", "o15").await;
    revokes(&last, "listed").await.unwrap();
    // Of a token of all, the Instance's own and the first 24 count.
    for name in ["all", "all-too"] {
        alice.create("ApiToken", name, token(json!({}))).await.unwrap();
        let all = async || {
            let said = judged.token(name).await?.status?.effective?.organizations?;
            (said == numbered(30)).then_some(())
        };
        world.eventually("status says all", all).await;
    }
    let beyond = judged.user("beyond", &[]).await;
    beyond.may_on("revoke", "organizations", "o24").await;
    let told = revokes(&beyond, "all").await.unwrap_err();
    assert!(told.contains(owned), "{told}");
    let within = judged.user("within", &[]).await;
    within.may_on("revoke", "organizations", "o23").await;
    let more = json!({"revoked": true, "description": "x"});
    assert!(within.change("ApiToken", "all", more).await.unwrap_err().contains(owned));
    revokes(&within, "all").await.unwrap();
    let keeper = judged.user("keeper", &[]).await;
    keeper.may_on("revoke", "organizations", "own").await;
    revokes(&keeper, "all-too").await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_older_than_its_labels_is_revoked_by_who_may() {
    let judged = Judged::new("older").await;
    let bob = judged.user("bob", &[]).await;
    bob.may_on("revoke", "organizations", "north").await;
    relabel(&judged.world, json!({"admission": "none"})).await;
    let mut spec = listing(&["north"]);
    spec["owner"] = json!("user:alice");
    let bare = async || {
        let made = judged.world.create("ApiToken", "a", spec.clone()).await.ok()?;
        let bare = made.metadata.labels.is_none();
        if !bare {
            judged.world.delete("ApiToken", "a").await;
        }
        bare.then_some(())
    };
    judged.world.eventually("nothing is stamped", bare).await;
    relabel(&judged.world, json!({"admission": "judged"})).await;
    let probe = async || bob.change("ApiToken", "a", json!({"description": "x"})).await.err();
    judged.world.eventually("the policies hold again", probe).await;
    let stamps = async || {
        let made = bob.create("ApiToken", "probe", token(json!({}))).await.ok()?;
        judged.world.delete("ApiToken", "probe").await;
        made.data["spec"].get("owner").map(|_| ())
    };
    judged.world.eventually("owners are stamped again", stamps).await;
    bob.change("ApiToken", "a", json!({"revoked": true})).await.unwrap();
    assert_eq!(labels(&judged, "a").await, [key("north")]);
}
