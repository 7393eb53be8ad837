//! Attempts to get more than was given, without a right: by edits of any kind, by taking fields of an account, and by
//! filling what an object can hold.

use std::sync::Arc;

use http::HeaderMap;
use kube::api::{DynamicObject, Patch, PatchParams};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};
use tokenry::{
    access::{Bearer, Path, Policies, Policy, Request, Rules, judge},
    crd::{AccessPolicy, Account, ApiToken, Instance},
};

use crate::harness::{
    World,
    clock::Held,
    judged::{Judged, User, refused, token},
};

/// Fields of a spec that say how far it reaches; a null takes one out.
fn reach() -> impl Strategy<Value = Value> {
    let role = select(vec![json!(null), json!("viewer"), json!("contributor"), json!("admin")]);
    let listed = |names: &[&str]| json!({"all": null, "listed": names});
    let organizations = select(vec![
        json!(null),
        json!({"all": true, "listed": null}),
        listed(&[]),
        listed(&["acme"]),
        listed(&["acme", "other"]),
    ]);
    let projects = select(vec![json!(null), json!([]), json!(["p"]), json!(["p", "q"])]);
    (role, organizations, projects).prop_map(
        |(role, organizations, projects)| json!({"role": role, "organizations": organizations, "projects": projects}),
    )
}

/// A change of some of these fields, or of the owner.
fn edit() -> impl Strategy<Value = Value> {
    let owner = option::weighted(0.2, select(vec![json!(null), json!("user:bob"), json!("user:alice")]));
    (reach(), vec(any::<bool>(), 3), owner).prop_map(|(mut spec, kept, owner)| {
        for (field, kept) in ["role", "organizations", "projects"].into_iter().zip(kept) {
            if !kept {
                spec.as_object_mut().unwrap().remove(field);
            }
        }
        owner.into_iter().for_each(|owner| spec["owner"] = owner);
        spec
    })
}

/// An Instance as its keeper could have written it, and a policy about it.
struct Rulebook(Rules, Policies);

impl Rulebook {
    fn new(home: &str, (ceiling, default_role): (&str, Option<&str>)) -> Self {
        let metadata = json!({"name": "eem", "namespace": home});
        let object = |kind: &str, spec: Value| json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        let members =
            json!([{"subject": "user:alice", "role": "contributor"}, {"subject": "user:bob", "role": "admin"}]);
        let api = json!({
            "authorization": "Roles",
            "organizationFrom": {"header": "x-organization"}, "projectFrom": {"header": "x-project"},
        });
        let tokens = default_role.map_or(json!({}), |role| json!({ "defaultRole": role }));
        let instance = json!({
            "api": api, "ceiling": ceiling, "members": members, "tokens": tokens,
            "organizations": ["acme", "other", "x"],
        });
        let instance = object("Instance", instance);
        let statements = json!([{"effect": "Allow", "role": "admin"}]);
        let policy = json!({"instanceRef": {"name": "eem"}, "members": ["user:bob"], "statements": statements});
        let policy: AccessPolicy = serde_json::from_value(object("AccessPolicy", policy)).unwrap();
        let instance: Instance = serde_json::from_value(instance).unwrap();
        Self(Rules::of(&instance).unwrap(), [Arc::new(Policy::of(&policy))].into_iter().collect())
    }

    /// For each of some requests whether it is permitted.
    fn permits(&self, token: &ApiToken, account: &Account) -> Vec<bool> {
        let bearer = Bearer::of(token, account);
        let named = [None, Some("acme"), Some("other"), Some("x")];
        let projects = [None, Some("p"), Some("q")];
        let asked = named.into_iter().flat_map(|named| projects.map(|project| (named, project)));
        let asked = asked.flat_map(|(named, project)| ["GET", "POST", "DELETE"].map(|method| (named, project, method)));
        let permitted = asked.map(|(named, project, method)| {
            let mut headers = HeaderMap::new();
            named.into_iter().for_each(|named| drop(headers.insert("x-organization", named.parse().unwrap())));
            project.into_iter().for_each(|project| drop(headers.insert("x-project", project.parse().unwrap())));
            let request = Request { method, path: Path::parse("/x").ok(), query: "", headers: &headers };
            judge(&self.0, &self.1, &bearer, &request, &mut ()).ground.allows()
        });
        permitted.collect()
    }
}

fn typed<K: serde::de::DeserializeOwned>(object: &DynamicObject) -> K {
    serde_json::from_value(serde_json::to_value(object).unwrap()).unwrap()
}

/// Whether anything is permitted that was not.
fn is_wider(before: &[bool], after: &[bool]) -> bool {
    before.iter().zip(after).any(|(before, after)| *after && !before)
}

#[tokio::test]
async fn no_edit_that_takes_no_right_lets_a_token_do_more() {
    let judged = Judged::new("widening").await;
    let (alice, keeper) = (judged.user("alice", &[]).await, judged.user("root", &["system:masters"]).await);
    let owned = |more: Value| {
        let mut spec = token(json!({"owner": "user:alice"}));
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    keeper.create("ServiceAccount", "account", owned(json!({}))).await.unwrap();
    // Made by its owner, so that it may have the owner's role by default.
    alice.create("ApiToken", "own", owned(json!({}))).await.unwrap();
    keeper.create("ApiToken", "acting", owned(json!({"serviceAccountRef": {"name": "account"}}))).await.unwrap();
    let kinds = [("None", None), ("Members", None), ("None", Some("contributor")), ("Members", Some("Owner"))];
    let books = kinds.map(|kind| Rulebook::new(alice.home(), kind));
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut draw = |of: &BoxedStrategy<Value>| of.new_tree(&mut runner).unwrap().current();
    let (reach, edit) = (reach().boxed(), edit().boxed());
    // What an account may say that the operator has not brought up to date, or that its owner changes at the same time.
    let account: Account = judged.world.api().get("account").await.unwrap();
    let mut accounts = vec![account];
    let (mut admitted, mut refused, mut kept) = (0, 0, 0);
    for _ in 0..24 {
        for (kind, name) in [("ServiceAccount", "account"), ("ApiToken", "own"), ("ApiToken", "acting")] {
            let mut given = draw(&reach);
            given["owner"] = json!("user:alice");
            let stands = keeper.change(kind, name, given).await.unwrap();
            if kind == "ServiceAccount" {
                accounts.push(typed(&stands));
            }
            let tokens: Vec<ApiToken> = judged.world.api().list(&Default::default()).await.unwrap().items;
            let change = draw(&edit);
            let trial = PatchParams { dry_run: true, ..PatchParams::default() };
            let patch = Patch::Merge(json!({ "spec": change }));
            let changed = keeper.api(kind).patch(name, &trial, &patch).await.map_err(|error| error.to_string());
            // By an administrator's dry run: what it would come to, were it let in.
            let Ok(changed) = changed else { continue };
            let widens = books.iter().any(|book| {
                let permits = |token: &ApiToken, account: &Account| book.permits(token, account);
                match kind {
                    "ApiToken" => {
                        let (before, after): (ApiToken, ApiToken) = (typed(&stands), typed(&changed));
                        accounts.iter().any(|account| is_wider(&permits(&before, account), &permits(&after, account)))
                    }
                    _ => {
                        let (before, after): (Account, Account) = (typed(&stands), typed(&changed));
                        // The account that was made for a token narrows the default role.
                        tokens.iter().any(|token| is_wider(&permits(token, &before), &permits(token, &after)))
                    }
                }
            });
            match alice.change(kind, name, change.clone()).await {
                Ok(_) => {
                    assert!(!widens, "{kind} {name}: {change} was let in over {}", stands.data["spec"]);
                    admitted += 1;
                }
                Err(_) if widens => kept += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(admitted > 5 && kept > 10, "{admitted} admitted, {kept} refused that widen, {refused} other");
}

/// Applies by server-side apply, as a field manager of one's own.
async fn apply(user: &User<'_>, kind: &str, name: &str, spec: Value) -> Result<DynamicObject, String> {
    let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let params = PatchParams::apply(&format!("by-{}", user.name));
    user.api(kind).patch(name, &params, &Patch::Apply(object)).await.map_err(crate::harness::message)
}

#[tokio::test]
async fn nobody_takes_the_fields_of_anothers_account_by_changing_nothing() {
    let judged = Judged::new("taken").await;
    let _operator = judged.world.operator(&Held::default()).await;
    let (alice, mallory) = (judged.user("alice", &[]).await, judged.user("mallory", &[]).await);
    let keeper = judged.user("root", &["system:masters"]).await;
    keeper.create("ApiToken", "ci", token(json!({"owner": "user:alice", "role": "admin"}))).await.unwrap();
    judged.world.await_reason("ci", "Active").await;
    let same = token(json!({"owner": "user:alice", "role": "admin"}));
    let told = format!(
        "spec.owner: this ServiceAccount of tokenry.dev is owned by user:alice: user:mallory may not assign owners.tokenry.dev/user:alice in \
         namespace {}",
        alice.home()
    );
    refused(apply(&mallory, "ServiceAccount", "ci", same.clone()).await, &told);
    let free = json!({"metadata": {"labels": {"team": "a"}}});
    mallory.patch("ServiceAccount", "ci", free).await.expect("other metadata is free");

    // Its owner may; but an account that says more than its token is brought down whoever has set it.
    apply(&alice, "ServiceAccount", "ci", same).await.unwrap();
    keeper.change("ApiToken", "ci", json!({"role": "viewer"})).await.unwrap();
    follows(&judged.world, json!({"role": "viewer", "owner": "user:alice"})).await;
    keeper.change("ApiToken", "ci", json!({"owner": "user:carl"})).await.unwrap();
    follows(&judged.world, json!({"role": "viewer", "owner": "user:carl"})).await;

    // What holds it to less stays.
    apply(&keeper, "ServiceAccount", "ci", token(json!({"role": "viewer"}))).await.unwrap();
    keeper.change("ApiToken", "ci", json!({"role": "admin"})).await.unwrap();
    let limited = async || judged.world.condition("ci", "LimitedByAccount").await;
    judged.world.eventually("it is said", limited).await;
    follows(&judged.world, json!({"role": "viewer", "owner": "user:carl"})).await;
}

#[tokio::test]
async fn the_maker_of_a_member_is_told_also_of_an_account_that_its_token_made() {
    let judged = Judged::new("maker").await;
    let _operator = judged.world.operator(&Held::default()).await;
    let (alice, keeper) = (judged.user("alice", &[]).await, judged.user("root", &["system:masters"]).await);
    alice.create("ApiToken", "ci", token(json!({}))).await.unwrap();
    judged.world.await_reason("ci", "Active").await;
    let member = format!("account:{}/ci", alice.home());
    let policy = token(json!({"members": [member], "statements": [{"effect": "Allow", "actions": ["*"]}]}));
    keeper.create("AccessPolicy", "p", policy).await.unwrap();
    let bound = async || {
        let policy: AccessPolicy = judged.world.api().get("p").await.unwrap();
        policy.status?.members?.first()?.created_by.clone()
    };
    assert_eq!(judged.world.eventually("it is bound", bound).await, "user:alice");
}

/// Waits until the account of token `ci` says this.
async fn follows(world: &World, wanted: Value) {
    let says = async || {
        let account: Account = world.api().get("ci").await.unwrap();
        let spec = serde_json::to_value(&account.spec).unwrap();
        wanted.as_object().unwrap().iter().all(|(field, value)| spec[field] == *value).then_some(())
    };
    world.eventually("the account follows", says).await;
}

#[tokio::test]
async fn nobody_fills_an_object_so_that_its_status_has_no_room() {
    let judged = Judged::new("filled").await;
    let (alice, mallory) = (judged.user("alice", &[]).await, judged.user("mallory", &[]).await);
    alice.may_on("assign", "policies", "eem").await;
    let policy = json!({"statements": [{"effect": "Deny", "actions": ["*"]}], "members": ["user:x"]});
    for (kind, spec) in
        [("ApiToken", json!({})), ("ServiceAccount", json!({})), ("AccessPolicy", policy), ("Instance", json!({}))]
    {
        let spec = if kind == "Instance" { spec } else { token(spec) };
        alice.create(kind, "a", spec).await.unwrap();
        let user = if kind == "AccessPolicy" { &alice } else { &mallory };
        let finalizers: Vec<_> = (0..17).map(|n| format!("example.com/f{n}")).collect();
        let many = user.patch(kind, "a", json!({"metadata": {"finalizers": finalizers}})).await;
        refused(many, "metadata.finalizers: at most 16 of them; remove some");
        user.patch(kind, "a", json!({"metadata": {"finalizers": &finalizers[..16]}})).await.unwrap();
        user.patch(kind, "a", json!({"metadata": {"finalizers": null}})).await.unwrap();

        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "n".repeat(17_000), "uid": "u"});
        let long = alice.patch(kind, "a", json!({"metadata": {"ownerReferences": [owner]}})).await;
        refused(long, "metadata.ownerReferences: at most 16384 characters in all; remove some");

        let fields: serde_json::Map<_, _> = (0..4_000).map(|n| (format!("f:{n:036}"), json!({}))).collect();
        let entry = json!({
            "manager": "m", "operation": "Update", "apiVersion": "tokenry.dev/v1alpha1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": fields}},
        });
        let managed = user.patch(kind, "a", json!({"metadata": {"managedFields": [entry]}})).await;
        refused(managed, "metadata.managedFields: at most 131072 characters in all; remove some");
    }
}

#[tokio::test]
async fn an_owner_reference_deletes_nothing_that_is_not_confirmed() {
    let judged = Judged::new("bequeathed").await;
    let _operator = judged.world.operator(&Held::default()).await;
    judged.world.change("Instance", "eem", json!({"tokens": {"confirmDelete": true}})).await.unwrap();
    let alice = judged.user("alice", &[]).await;
    alice.create("ServiceAccount", "account", token(json!({}))).await.unwrap();
    alice.create("ApiToken", "ci", token(json!({"description": "nightly"}))).await.unwrap();
    judged.world.await_reason("ci", "Active").await;
    let mirrored = async || {
        let account: Account = judged.world.api().get("account").await.unwrap();
        account.status?.policy.filter(|policy| policy.confirm_delete)
    };
    judged.world.eventually("status says so", mirrored).await;
    let dead =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000001"});
    for (kind, name, said, word) in [
        ("ApiToken", "ci", "ApiToken", "nightly"),
        ("ServiceAccount", "account", "ServiceAccount of tokenry.dev", "account"),
    ] {
        let give = json!({"metadata": {"ownerReferences": [dead]}});
        let told = format!(
            "metadata.ownerReferences: this {said} is deleted with an owner; to give it one, annotate it first: \
             tokenry.dev/confirm-delete={word}"
        );
        refused(alice.patch(kind, name, give.clone()).await, &told);
        let confirm = json!({"metadata": {"annotations": {"tokenry.dev/confirm-delete": word}}});
        alice.patch(kind, name, confirm).await.unwrap();
        alice.patch(kind, name, give).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_is_revoked_by_who_may_for_any_of_its_organizations() {
    let judged = Judged::new("revokers").await;
    let _operator = judged.world.operator(&Held::default()).await;
    let (alice, bob) = (judged.user("alice", &[]).await, judged.user("bob", &[]).await);
    judged.world.change("Instance", "eem", json!({"organizations": ["acme", "other"]})).await.unwrap();
    let listed = |names: &[&str]| token(json!({"organizations": {"listed": names}}));
    alice.create("ApiToken", "acme", listed(&["acme", "other"])).await.unwrap();
    alice.create("ApiToken", "other", listed(&["other"])).await.unwrap();
    alice.create("ApiToken", "all", token(json!({}))).await.unwrap();
    alice.create("ApiToken", "all-too", token(json!({"organizations": {"all": true}}))).await.unwrap();
    for name in ["all", "all-too"] {
        judged.world.await_reason(name, "Active").await;
    }
    let revoked = json!({"revoked": true});
    for name in ["acme", "other", "all"] {
        assert!(bob.change("ApiToken", name, revoked.clone()).await.unwrap_err().contains("is owned by user:alice"));
    }
    bob.may_on("revoke", "organizations", "acme").await;
    bob.change("ApiToken", "acme", revoked.clone()).await.unwrap();
    // One of all organizations is one of each that its Instance lists.
    assert!(bob.change("ApiToken", "all-too", json!({"revoked": true, "description": "x"})).await.is_err());
    bob.change("ApiToken", "all-too", revoked.clone()).await.unwrap();
    assert!(bob.change("ApiToken", "other", revoked.clone()).await.unwrap_err().contains("is owned by user:alice"));
    // The Instance's own, for one that is of all.
    bob.may_on("revoke", "organizations", "eem").await;
    bob.change("ApiToken", "all", revoked.clone()).await.unwrap();
    assert!(bob.change("ApiToken", "other", revoked).await.is_err());
}
