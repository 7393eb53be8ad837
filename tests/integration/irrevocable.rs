//! Ends that cannot be undone: the warning before one, its requester, and the tokens that go with their account.

use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokenry::crd::{ApiToken, api_token::Revocation};

use crate::{
    harness::{
        OPERATOR, World,
        clock::Held,
        judged::{Judged, User, refused, relabel, token},
    },
    owners::unstamped,
};

const REVOKED_BY: &str = "tokenry.dev/revoked-by";
const FORGED: &str = "metadata.annotations[tokenry.dev/revoked-by]: names the requester that revokes the token, in \
    that request, and is not changed";
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

/// The output of kubectl by a user, for which a warning is an error.
fn kubectl(judged: &Judged, user: &str, args: &[&str]) -> Result<String, String> {
    let (namespace, plane) = (&*judged.world.namespace, &judged.world.plane);
    let more = ["--namespace", namespace, "--as", user, "--warnings-as-errors"];
    plane.kubectl(&[args, &more].concat())
}

#[tokio::test]
async fn a_deletion_and_a_revocation_warn_with_the_last_use() {
    let judged = Judged::new("farewell").await;
    let alice = judged.user("alice", &[]).await;
    judged.user(COLLECTOR, &[]).await;
    for name in ["unused", "used", "collected"] {
        alice.create("ServiceAccount", name, token(json!({}))).await.unwrap();
        alice.create("ApiToken", name, token(json!({}))).await.unwrap();
    }
    let operator = User::of(&judged, judged.world.acting_as(OPERATOR), OPERATOR);
    let write = async |kind: &str, status: Value| {
        let patch = Patch::Merge(json!({ "status": status }));
        operator.api(kind).patch_status("used", &PatchParams::default(), &patch).await.unwrap();
    };
    let at = |hour: &str| format!("2026-11-29T{hour}:00:00Z");
    let used =
        |generation: u8, hour: &str| json!({"generation": generation, "firstUsedAt": at("01"), "lastUsedAt": at(hour)});
    // The predecessor was used last.
    write("ApiToken", json!({"use": [used(1, "04"), used(2, "03")]})).await;
    let counted = json!({"active": 1, "total": 2, "at": at("05")});
    write("ServiceAccount", json!({"tokens": counted, "lastUsedAt": at("04")})).await;

    let revoke = ["patch", "apitoken", "used", "--type", "merge", "--patch", r#"{"spec": {"revoked": true}}"#];
    // A definition is served some moments before kubectl discovers it.
    let trial = [&revoke[..], &["--dry-run=server"]].concat();
    let known = async || {
        let told = kubectl(&judged, "alice", &trial).unwrap_err();
        (!told.contains("the server doesn't have a resource type")).then_some(told)
    };
    judged.world.eventually("kubectl knows the kind", known).await;
    let warns = |args: &[&str], warning: &str| {
        let told = kubectl(&judged, "alice", args).unwrap_err();
        assert!(told.contains(&format!("': {warning}\n")), "{told}");
        assert!(told.contains("error: 1 warning received"), "{told}");
    };
    let last = "used at 2026-11-29T04:00:00Z";
    warns(
        &revoke,
        &format!(
            "spec.revoked: this token was last {last}; the revocation ends every value at once, and cannot be undone"
        ),
    );
    let later = ["patch", "apitoken", "used", "--type", "merge", "--patch", r#"{"spec": {"description": "x"}}"#];
    kubectl(&judged, "alice", &later).unwrap();
    let of_token = |used: &str| {
        format!("status.use: this token was {used}; the deletion ends every value at once, and cannot be undone")
    };
    warns(&["delete", "apitoken", "used"], &of_token(&format!("last {last}")));
    warns(&["delete", "apitoken", "unused"], &of_token("never used"));
    let of_account = |text: &str| {
        format!("status.tokens: {text}; the deletion ends all of its tokens at once, and cannot be undone")
    };
    let acts = format!("2 tokens act as this account (1 valid); it was last {last}");
    warns(&["delete", "tsa", "used"], &of_account(&acts));
    let none = "no token acts as this account (0 valid); it was never used";
    warns(&["delete", "tsa", "unused"], &of_account(none));
    // An account that goes with its token is nobody's decision.
    for kind in ["apitoken", "tsa"] {
        kubectl(&judged, COLLECTOR, &["delete", kind, "collected"]).unwrap();
    }
}

/// The annotation of a token.
fn revoked_by(token: &DynamicObject) -> Option<&str> {
    token.annotations().get(REVOKED_BY).map(String::as_str)
}

async fn annotate(user: &User<'_>, name: &str, by: Value) -> Result<DynamicObject, String> {
    user.patch("ApiToken", name, json!({"metadata": {"annotations": {REVOKED_BY: by}}})).await
}

#[tokio::test]
async fn the_requester_of_a_revocation_is_stamped_kept_and_named_in_the_status() {
    let judged = Judged::new("revoker").await;
    let _operator = judged.world.operator(&Held::default()).await;
    let (alice, bob) = (judged.user("alice", &[]).await, judged.user("bob", &[]).await);
    alice.create("ApiToken", "a", token(json!({}))).await.unwrap();
    judged.world.await_reason("a", "Active").await;
    refused(annotate(&alice, "a", json!("user:alice")).await, FORGED);
    let early = json!({"name": "early", "annotations": {REVOKED_BY: "user:alice"}});
    refused(alice.create_with("ApiToken", early, token(json!({}))).await, FORGED);
    // With the right to revoke and no other. Another name in that request gives way to the stamp.
    bob.may_on("revoke", "organizations", "eem").await;
    let forged = json!({"metadata": {"annotations": {REVOKED_BY: "user:alice"}}, "spec": {"revoked": true}});
    let revoked = bob.patch("ApiToken", "a", forged).await.unwrap();
    assert_eq!(revoked_by(&revoked), Some("user:bob"));
    refused(annotate(&alice, "a", json!("user:alice")).await, FORGED);
    let erased = annotate(&alice, "a", json!(null)).await.unwrap();
    assert_eq!(revoked_by(&erased), Some("user:bob"), "it comes back");
    let ended = async |name: &str| -> Revocation {
        let ended = async || judged.token(name).await?.status?.revocation;
        judged.world.eventually("the token has ended", ended).await
    };
    assert_eq!(ended("a").await.by.as_deref(), Some("user:bob"));
    let told = async || {
        let events = judged.world.api::<Event>().list(&ListParams::default()).await.unwrap();
        let mut notes = events.into_iter().filter_map(|event| event.note);
        notes.find(|note| note.starts_with("revoked by user:bob: all generations are refused from now on"))
    };
    judged.world.eventually("an Event names bob", told).await;

    let made = alice.create("ApiToken", "b", token(json!({"revoked": true}))).await.unwrap();
    assert_eq!(revoked_by(&made), Some("user:alice"));
    assert_eq!(ended("b").await.by.as_deref(), Some("user:alice"));
    // Nobody asked for the end of this one.
    alice.create("ApiToken", "c", token(json!({}))).await.unwrap();
    judged.world.await_reason("c", "Active").await;
    alice.delete("ServiceAccount", "c").await.unwrap();
    assert_eq!(ended("c").await.by, None);
}

#[tokio::test]
async fn where_nothing_stamps_a_revocation_names_its_requester_or_nobody() {
    let judged = Judged::new("unstamped-revoker").await;
    let alice = judged.user("alice", &[]).await;
    let mine = |more: Value| {
        let mut spec = token(json!({"owner": "user:alice"}));
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let named = |name: &str, by: &str| json!({"name": name, "annotations": {REVOKED_BY: by}});
    // From before the rule: a text, one that is too long for a subject, and the names of alice and of somebody else.
    relabel(&judged.world, json!({"admission": "none"})).await;
    let long = format!("user:{}", "a".repeat(100_000));
    let older = [("text", "left over"), ("long", &*long), ("hers", "user:alice"), ("theirs", "user:root")];
    for (name, by) in older {
        let made = async || {
            let listed = json!({"organizations": {"listed": ["eem"]}});
            let made = alice.create_with("ApiToken", named(name, by), mine(listed)).await;
            made.ok().or(alice.api("ApiToken").get_opt(name).await.unwrap())
        };
        judged.world.eventually("no policy holds", made).await;
    }
    unstamped(&judged.world, "revoker", true);
    relabel(&judged.world, json!({"admission": "revoker"})).await;
    let holds = async || {
        let forged = alice.create_with("ApiToken", named("probe", "user:root"), mine(json!({}))).await;
        forged.err().filter(|told| told.contains("revoker-"))
    };
    judged.world.eventually("the policies hold", holds).await;
    let left = async || {
        let made = alice.create("ApiToken", "left", mine(json!({}))).await.ok()?;
        alice.delete("ApiToken", "left").await.unwrap();
        made.metadata.annotations.is_none().then_some(())
    };
    judged.world.eventually("nothing stamps", left).await;

    let revokes = |by: Value| json!({"metadata": {"annotations": {REVOKED_BY: by}}, "spec": {"revoked": true}});
    for name in ["named", "unnamed"] {
        alice.create("ApiToken", name, mine(json!({}))).await.unwrap();
        refused(alice.patch("ApiToken", name, revokes(json!("user:root"))).await, FORGED);
    }
    let revoked = alice.patch("ApiToken", "named", revokes(json!("user:alice"))).await.unwrap();
    assert_eq!(revoked_by(&revoked), Some("user:alice"));
    refused(annotate(&alice, "named", json!(null)).await, FORGED);
    let revoked = alice.change("ApiToken", "unnamed", json!({"revoked": true})).await.unwrap();
    assert_eq!(revoked_by(&revoked), None);
    refused(annotate(&alice, "unnamed", json!("user:alice")).await, FORGED);
    let ended = json!({"revoked": true});
    refused(alice.create_with("ApiToken", named("a", "user:root"), mine(ended.clone())).await, FORGED);
    alice.create_with("ApiToken", named("a", "user:alice"), mine(ended)).await.unwrap();

    // With the right to revoke and no other.
    let bob = judged.user("bob", &[]).await;
    bob.may_on("revoke", "organizations", "eem").await;
    alice.change("ApiToken", "hers", json!({"revoked": true})).await.unwrap();
    for (name, by) in &older[..2] {
        refused(annotate(&alice, name, json!("older")).await, FORGED);
        let revoked = bob.change("ApiToken", name, json!({"revoked": true})).await.unwrap();
        assert_eq!(revoked_by(&revoked), Some(*by), "it is no name, and nobody takes it for one");
    }
    let remedy = json!({"metadata": {"annotations": {REVOKED_BY: null}}, "spec": {"revoked": true}});
    let told = format!(
        "{FORGED}; this name is older than the revocation: remove it in the request that revokes, by the merge patch {remedy}"
    );
    refused(bob.change("ApiToken", "theirs", json!({"revoked": true})).await, &told);
    let revoked = bob.patch("ApiToken", "theirs", remedy).await.unwrap();
    assert_eq!(revoked_by(&revoked), None);
}

impl World {
    async fn await_deleted(&self, name: &str) {
        let tokens: Api<ApiToken> = self.api();
        let gone = async || tokens.get_opt(name).await.unwrap().is_none().then_some(());
        self.eventually(&format!("{name} is deleted"), gone).await;
    }
}

#[tokio::test]
async fn the_tokens_of_a_deleted_account_go_with_it_where_their_instance_says_so() {
    let world = World::new("with-account").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    let policy = |then: &str| json!({"tokens": {"onAccountDeleted": then}});
    world.accepts("Instance", "eem", policy("Delete")).await;
    world.accepts("ServiceAccount", "deployer", json!({"instanceRef": {"name": "eem"}})).await;
    let acts = json!({"instanceRef": {"name": "eem"}, "serviceAccountRef": {"name": "deployer"}});
    for (name, spec) in [("one", &acts), ("two", &acts), ("own", &json!({"instanceRef": {"name": "eem"}}))] {
        world.accepts("ApiToken", name, spec.clone()).await;
        world.await_reason(name, "Active").await;
    }
    let value = world.value("one").await.unwrap();
    world.await_verdict(&verifier, &value, 200).await;
    let of_account = ListParams::default().fields("spec.serviceAccountRef.name=deployer");
    let listed = world.api::<ApiToken>().list(&of_account).await.unwrap();
    assert_eq!(listed.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["one", "two"]);

    world.delete("ServiceAccount", "deployer").await;
    world.await_verdict(&verifier, &value, 401).await;
    for name in ["one", "two"] {
        world.await_deleted(name).await;
        world.await_events("ApiToken", name, &["Deleted", "Issued", "Revoked"]).await;
    }
    let gone = async || world.api::<Secret>().get_opt("one").await.unwrap().is_none().then_some(());
    world.eventually("the Secret is gone", gone).await;
    world.await_reason("own", "Active").await;
    world.delete("ServiceAccount", "own").await;
    world.await_deleted("own").await;

    world.change("Instance", "eem", policy("Keep")).await.unwrap();
    world.accepts("ApiToken", "kept", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_reason("kept", "Active").await;
    world.delete("ServiceAccount", "kept").await;
    world.await_reason("kept", "AccountDeleted").await;
    world.change("Instance", "eem", policy("Delete")).await.unwrap();
    world.await_deleted("kept").await;
}

#[tokio::test]
async fn an_event_tells_of_each_change_of_what_a_token_may_do() {
    let world = World::new("permissions").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "eem", json!({"api": {"authorization": "Roles"}})).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_reason("ci", "NoPermissions").await;
    world.await_events("ApiToken", "ci", &["Issued"]).await;
    let statements = json!([{"effect": "Allow", "actions": ["topics:read"]}]);
    let members = [format!("token:{}/ci", world.namespace)];
    let policy = json!({"instanceRef": {"name": "eem"}, "members": members, "statements": statements});
    world.accepts("AccessPolicy", "reads", policy).await;
    world.await_events("ApiToken", "ci", &["Issued", "PermissionsChanged"]).await;
    let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
    let told = events.into_iter().filter(|event| event.reason.as_deref() == Some("PermissionsChanged"));
    let told: Vec<_> = told.map(|event| (event.type_.unwrap(), event.note.unwrap())).collect();
    assert_eq!(told, [("Normal".into(), "actions: none → topics:read".into())]);
    world.change("ApiToken", "ci", json!({"role": "viewer"})).await.unwrap();
    world.await_events("ApiToken", "ci", &["Issued", "PermissionsChanged", "RoleChanged"]).await;

    // Rules that the status does not show: of an audience, and then of the own Instance.
    world.accepts("Instance", "far", json!({})).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "audiences": [{"name": "far"}], "role": "viewer"});
    for name in ["near", "both"] {
        world.accepts("ApiToken", name, spec.clone()).await;
        world.await_reason(name, "Active").await;
    }
    world.change("ApiToken", "near", json!({"audiences": null})).await.unwrap();
    let excluding = json!({"api": {"excluded": [{"paths": ["/x"]}]}});
    world.change("Instance", "far", excluding.clone()).await.unwrap();
    let notes = async |name: &str| {
        world.await_events("ApiToken", name, &["Issued", "PermissionsChanged", "RoleChanged"]).await;
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap().into_iter();
        let told = events.filter(|event| event.reason.as_deref() == Some("PermissionsChanged"));
        let mut told = told.filter(|event| event.regarding.as_ref().unwrap().name.as_deref() == Some(name));
        told.next().unwrap().note.unwrap()
    };
    let home = &world.namespace;
    assert_eq!(notes("near").await, format!("Instance {home}/far does not accept it any more"));
    let told = format!("Instance {home}/far excludes other requests, or reads requests differently");
    assert_eq!(notes("both").await, told);
    world.accepts("ApiToken", "own", json!({"instanceRef": {"name": "eem"}, "role": "viewer"})).await;
    world.await_reason("own", "Active").await;
    world.change("Instance", "eem", excluding).await.unwrap();
    let told = format!("Instance {home}/eem excludes other requests, or reads requests differently");
    assert_eq!(notes("own").await, told);
}
