//! What the operator makes of owners, roles, policies and further Instances.

use http::{HeaderMap, HeaderName};
use jiff::SignedDuration;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokenry::crd::{
    AccessPolicy, Account, ApiToken, Instance,
    api_token::{ApiTokenStatus, RevocationReason},
};

use crate::harness::{World, clock::Held, root, run::Running};

fn members(list: Value, on_owner_removed: &str) -> Value {
    json!({
        "api": {"authorization": "Roles"}, "ceiling": "Members", "members": list,
        "tokens": {"onOwnerRemoved": on_owner_removed},
    })
}

/// A token `ci` of alice's with the role of an administrator, and alice a member.
async fn owned(name: &str, on_owner_removed: &str) -> (World, Held, Running) {
    let world = World::new(name).await;
    let clock = Held::default();
    let operator = world.operator(&clock).await;
    let alice = json!([{"subject": "user:alice", "role": "contributor"}]);
    world.accepts("Instance", "eem", members(alice, on_owner_removed)).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:alice", "role": "admin"});
    world.accepts("ApiToken", "ci", spec).await;
    world.await_reason("ci", "Active").await;
    (world, clock, operator)
}

impl World {
    async fn said(&self) -> ApiTokenStatus {
        self.token("ci").await.status.unwrap_or_default()
    }

    /// Waits until the verifier answers so to `GET /topics` with this value.
    async fn await_answer(&self, verifier: &Running, value: &str, answer: u16) {
        let said = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/topics"), ("api-token", value)];
        let named = |(name, value): (&'static str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let headers: HeaderMap = said.map(named).into_iter().collect();
        let path = format!("/v1/instances/{}/eem/authorize", self.namespace);
        let asked = async || (verifier.ask(&path, headers.clone()).await.0.as_u16() == answer).then_some(());
        self.eventually(&format!("the verifier answers {answer}"), asked).await;
    }

    /// Waits until `status.effective` is this.
    async fn await_effective(&self, role: Option<&str>, actions: &[&str], limited_by: &[&str]) {
        let expected = (json!(role), json!(actions), json!(limited_by));
        let look = async || {
            let effective = serde_json::to_value(self.said().await.effective?).unwrap();
            let said = (effective["role"].clone(), effective["actions"].clone(), effective["limitedBy"].clone());
            (said == expected).then_some(())
        };
        self.eventually(&format!("effective is {expected:?}"), look).await;
    }
}

#[tokio::test]
async fn a_token_that_names_a_policy_is_a_member_until_it_leaves() {
    let world = World::new("joins").await;
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    let verifier = world.verifier(&clock).await;
    world.accepts("Instance", "eem", json!({"api": {"authorization": "Roles"}})).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "policies": ["readers"]});
    world.accepts("ApiToken", "ci", spec.clone()).await;
    world.accepts("ServiceAccount", "shared", spec).await;
    world.await_reason("ci", "PolicyMissing").await;
    let missing = async || {
        let account = world.api::<Account>().get("shared").await.unwrap();
        account.status?.conditions.into_iter().find(|said| said.type_ == "Ready" && said.reason == "PolicyMissing")
    };
    let said = world.eventually("the account waits for its policy", missing).await.message;
    let wanted = format!("there is no AccessPolicy readers of Instance {}/eem; create it", world.namespace);
    assert!(said.contains(&wanted), "{said}");
    let statement = json!({"effect": "Allow", "actions": ["*:read"]});
    let policy = json!({"instanceRef": {"name": "eem"}, "members": ["team:none"], "statements": [statement]});
    let policy = world.accepts("AccessPolicy", "readers", policy).await;
    world.await_reason("ci", "Active").await;
    world.await_effective(None, &["*:read"], &[]).await;
    let value = world.value("ci").await.unwrap();
    world.await_answer(&verifier, &value, 200).await;
    let account = async || {
        world.api::<Account>().get("shared").await.unwrap().status.filter(|said| said.conditions[1].reason == "Active")
    };
    world.eventually("the account has its policy", account).await;
    let counts = async || {
        let status = world.api::<AccessPolicy>().get(&policy.name_any()).await.unwrap().status?;
        Some(serde_json::to_value(status.counts?).unwrap())
    };
    assert_eq!(world.eventually("it counts", counts).await, json!({"members": 1, "statements": 1, "dangling": 1}));
    world.change("ApiToken", "ci", json!({"policies": null})).await.unwrap();
    world.await_answer(&verifier, &value, 403).await;
}

#[tokio::test]
async fn a_token_says_what_it_may_do_and_what_limits_it_at_once_and_without_a_new_value() {
    let (world, _, _operator) = owned("effective", "Keep").await;
    world.await_effective(Some("contributor"), &["*:read", "*:write"], &["Owner"]).await;
    world.change("Instance", "eem", json!({"members": [{"subject": "user:alice", "role": "admin"}]})).await.unwrap();
    world.await_effective(Some("admin"), &["*", "*:read", "*:write"], &[]).await;
    world.change("ApiToken", "ci", json!({"role": "viewer"})).await.unwrap();
    world.await_effective(Some("viewer"), &["*:read"], &[]).await;
    let account =
        async || world.api::<Account>().get("ci").await.unwrap().spec.role.filter(|role| role.as_str() == "viewer");
    world.eventually("its own account follows", account).await;
    world.change("ApiToken", "ci", json!({"role": null})).await.unwrap();
    world.await_effective(None, &[], &[]).await;
    let permitted = async || world.condition("ci", "Permitted").await.filter(|said| said.reason == "NoPermissions");
    world.eventually("nothing is permitted, and it says so", permitted).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "members": ["user:alice"], "statements": [{"effect": "Allow", "actions": ["topics:read"]}]});
    let policy = world.accepts("AccessPolicy", "p", spec).await;
    world.await_effective(None, &["topics:read"], &[]).await;
    let deny = json!({"statements": [{"effect": "Deny", "actions": ["topics:read"]}, {"effect": "Allow", "actions": ["topics:*"]}]});
    world.change("AccessPolicy", "p", deny).await.unwrap();
    world.await_effective(None, &["topics:*"], &["Policy"]).await;
    drop(policy);
    assert_eq!(world.said().await.last_generation, Some(1));
}

#[tokio::test]
async fn a_token_whose_owner_is_removed_ends_for_ever_where_its_instance_says_so() {
    let (world, _, _operator) = owned("revoked-owner", "Revoke").await;
    // Below the minimum is as good as gone.
    world.change("Instance", "eem", json!({"tokens": {"minimumRole": "admin"}})).await.unwrap();
    let token = world.await_reason("ci", "OwnerRemoved").await;
    assert_eq!(token.status.unwrap().revocation.unwrap().reason, RevocationReason::OwnerRemoved);
    world.eventually("its Secret is gone", async || world.value("ci").await.is_none().then_some(())).await;
    world.change("Instance", "eem", json!({"tokens": {"minimumRole": null}})).await.unwrap();
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:bob"});
    world.accepts("ApiToken", "slip", spec).await;
    let slip = world.await_reason("slip", "OwnerRemoved").await;
    assert_eq!(slip.status.unwrap().revocation, None, "one that was never valid is not ended for a slip");
    world.await_reason("ci", "OwnerRemoved").await;
    world.change("ApiToken", "slip", json!({"owner": "user:alice"})).await.unwrap();
    // It has no role.
    world.await_reason("slip", "NoPermissions").await;
    assert!(world.said().await.revocation.is_some());
}

#[tokio::test]
async fn a_suspended_token_comes_back_with_its_owner() {
    let (world, _, _operator) = owned("suspended-owner", "Suspend").await;
    world.change("Instance", "eem", json!({"members": []})).await.unwrap();
    world.await_reason("ci", "OwnerRemoved").await;
    assert!(world.value("ci").await.is_some());
    world.change("Instance", "eem", json!({"members": [{"subject": "user:alice", "role": "viewer"}]})).await.unwrap();
    world.await_reason("ci", "Active").await;
    world.change("Instance", "eem", json!({"members": [], "tokens": {"onOwnerRemoved": "Keep"}})).await.unwrap();
    world.await_effective(None, &[], &["Owner"]).await;
    world.await_reason("ci", "OwnerRemoved").await;
    assert!(world.said().await.revocation.is_none(), "it is kept, and refused while its owner holds nothing");
    assert_eq!(world.said().await.last_generation, Some(1));
}

#[tokio::test]
async fn a_core_account_that_is_gone_owns_nothing() {
    use k8s_openapi::api::core::v1::ServiceAccount;
    let world = World::new("core-owner").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    let builder: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "builder"}})).unwrap();
    world.api().create(&PostParams::default(), &builder).await.unwrap();
    world.accepts("Instance", "eem", json!({})).await;
    let owner = format!("serviceaccount:{}/builder", world.namespace);
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "owner": owner})).await;
    world.await_reason("ci", "Active").await;
    world.api::<ServiceAccount>().delete("builder", &DeleteParams::default()).await.unwrap();
    world.await_reason("ci", "OwnerRemoved").await;
    assert!(world.said().await.revocation.is_some());
    // Suspended, one comes back with its owner.
    world.change("Instance", "eem", json!({"tokens": {"onOwnerRemoved": "Suspend"}})).await.unwrap();
    world.api().create(&PostParams::default(), &builder).await.unwrap();
    world.accepts("ApiToken", "back", json!({"instanceRef": {"name": "eem"}, "owner": owner})).await;
    let value = world.await_generation("back", 1).await;
    world.await_verdict(&verifier, &value, 200).await;
    world.api::<ServiceAccount>().delete("builder", &DeleteParams::default()).await.unwrap();
    world.await_verdict(&verifier, &value, 403).await;
    world.api().create(&PostParams::default(), &builder).await.unwrap();
    world.await_verdict(&verifier, &value, 200).await;
}

#[tokio::test]
async fn a_token_without_an_owner_or_with_a_role_that_there_is_not_mints_nothing() {
    let world = World::new("faulty-owner").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "eem", members(json!([]), "Revoke")).await;
    world.accepts("ApiToken", "nobody", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_reason("nobody", "OwnerMissing").await;
    world.accepts("Instance", "plain", json!({})).await;
    world.accepts("ApiToken", "role", json!({"instanceRef": {"name": "plain"}, "role": "root"})).await;
    world.await_reason("role", "RoleMissing").await;
    let told = world.condition("role", "Accepted").await.unwrap().message;
    assert_eq!(told, "spec.role: the Instance has no role root; give one of viewer, contributor, admin");
    world.change("Instance", "plain", json!({"members": [{"subject": "user:a", "role": "root"}]})).await.unwrap();
    world.await_reason("role", "InstanceInvalid").await;
    for name in ["nobody", "role"] {
        assert_eq!(world.token(name).await.status.unwrap().last_generation, None);
    }
}

#[tokio::test]
async fn an_owner_has_so_many_tokens_in_all_namespaces_together() {
    // Its operator looks at all namespaces, and has them to itself.
    let world = World::alone("surplus").await;
    world.plane.install_crds(root()).unwrap();
    let other = world.beside("surplus-other", json!({})).await;
    let _operator = world.operator(&Held::default()).await;
    let policy = json!({"tokens": {"maxPerOwner": 2, "namespaces": {"from": "All"}}});
    world.accepts("Instance", "eem", policy).await;
    let spec = json!({"instanceRef": {"name": "eem", "namespace": world.namespace}, "owner": "user:alice"});
    world.accepts("ApiToken", "a", spec.clone()).await;
    world.await_reason("a", "Active").await;
    other.accepts("ApiToken", "b", spec.clone()).await;
    other.await_reason("b", "Active").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    world.accepts("ApiToken", "c", spec.clone()).await;
    world.await_reason("c", "TooManyTokens").await;
    let told = world.condition("c", "Accepted").await.unwrap().message;
    assert_eq!(told, "spec.owner: owns more tokens than the 2 that the Instance allows; delete another token");
    let mut bobs = spec;
    bobs["owner"] = json!("user:bob");
    world.accepts("ApiToken", "d", bobs).await;
    world.await_reason("d", "Active").await;
    // Neither does an Instance of one's own let in more, that has this one as an audience.
    other.accepts("Instance", "lax", json!({})).await;
    let audience = json!({"name": "eem", "namespace": world.namespace});
    let dodge = json!({"instanceRef": {"name": "lax"}, "audiences": [audience], "owner": "user:alice"});
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    other.accepts("ApiToken", "dodge", dodge).await;
    other.await_reason("dodge", "TooManyTokens").await;
    let told = other.condition("dodge", "Accepted").await.unwrap().message;
    assert_eq!(told, "spec.owner: owns more tokens than the 2 that Instance eem allows; delete another token");
    other.change("ApiToken", "b", json!({"revoked": true})).await.unwrap();
    world.await_reason("c", "Active").await;
}

#[tokio::test]
async fn my_tokens_and_those_of_my_organization_are_one_question() {
    let (world, _, _operator) = owned("selected", "Keep").await;
    world.accepts("ApiToken", "other", json!({"instanceRef": {"name": "eem"}, "owner": "user:bob"})).await;
    let listed = async |selector: &str| {
        let tokens = world.api::<ApiToken>().list(&ListParams::default().fields(selector)).await.unwrap();
        tokens.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    };
    assert_eq!(listed("spec.owner=user:alice").await, ["ci"]);
    assert_eq!(listed("status.organization=eem").await, ["ci"]);
    assert_eq!(listed("status.organization=acme").await, [""; 0]);
}

#[tokio::test]
async fn a_transfer_is_told_from_whom_to_whom() {
    let (world, _, _operator) = owned("handed", "Keep").await;
    world.change("ApiToken", "ci", json!({"owner": "user:bob"})).await.unwrap();
    // Bob holds nothing, and the Instance keeps such tokens.
    let told = ["Issued", "OwnerChanged", "OwnerRemoved", "RoleChanged", "RoleChanged"];
    world.await_events("ApiToken", "ci", &told).await;
    let subject = async || (world.said().await.owner?.subject? == "user:bob").then_some(());
    world.eventually("status names bob", subject).await;
}

#[tokio::test]
async fn groups_that_were_stamped_too_long_ago_are_told_and_count_no_more() {
    let world = World::new("stale").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    let mut spec = members(json!([{"subject": "group:ops", "role": "viewer"}]), "Keep");
    spec["api"] = json!({"authorization": "Authenticated"});
    spec["tokens"]["groupsMaxAge"] = json!("10d");
    world.accepts("Instance", "eem", spec).await;
    world
        .accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "owner": "user:alice", "role": "viewer"}))
        .await;
    let stamp = async |version: &str| {
        let patch = json!({"metadata": {"annotations": {"tokenry.dev/owner-groups": format!("{version}\nops")}}});
        world.api::<ApiToken>().patch("ci", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        let seen = async || (world.said().await.owner?.stamp? == version).then_some(());
        world.eventually("the stamp is seen", seen).await;
    };
    stamp("7").await;
    let value = world.await_generation("ci", 1).await;
    world.await_verdict(&verifier, &value, 200).await;
    clock.move_by(SignedDuration::from_hours(10 * 24));
    world.eventually("it is told", async || world.condition("ci", "OwnerStale").await).await;
    world.await_verdict(&verifier, &value, 403).await;
    stamp("8").await;
    world.await_verdict(&verifier, &value, 200).await;
    world
        .eventually("it is told no more", async || world.condition("ci", "OwnerStale").await.is_none().then_some(()))
        .await;
}

#[tokio::test]
async fn every_audience_has_its_say_in_how_long_a_token_lives() {
    let world = World::new("audiences").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "lax", json!({"tokens": {"lifetime": {"max": "300d", "never": "Allow"}}})).await;
    world
        .accepts("Instance", "strict", json!({"tokens": {"lifetime": {"max": "10d"}, "requireDescription": true}}))
        .await;
    let spec = |more: Value| {
        let mut spec = json!({"instanceRef": {"name": "lax"}, "audiences": [{"name": "strict"}], "description": "x"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    world.accepts("ApiToken", "long", spec(json!({"expiry": {"after": "11d"}}))).await;
    world.await_reason("long", "LifetimeExceeded").await;
    world.accepts("ApiToken", "never", spec(json!({"expiry": {"never": true}}))).await;
    world.await_reason("never", "LifetimeExceeded").await;
    world.accepts("ApiToken", "mute", spec(json!({"description": ""}))).await;
    world.await_reason("mute", "DescriptionMissing").await;
    world.accepts("ApiToken", "missing", spec(json!({"audiences": [{"name": "gone"}]}))).await;
    world.await_reason("missing", "InstanceMissing").await;
    world.accepts("ApiToken", "twice", spec(json!({"audiences": [{"name": "lax"}]}))).await;
    world.await_reason("twice", "Invalid").await;
    // Named later, it shortens what exists.
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "lax"}, "description": "x"})).await;
    world.await_reason("ci", "Active").await;
    let before = world.said().await.expires_at.unwrap();
    world.change("ApiToken", "ci", json!({"audiences": [{"name": "strict"}]})).await.unwrap();
    let shortened = async || world.said().await.expires_at.filter(|at| *at < before);
    world.eventually("it ends sooner", shortened).await;
}

#[tokio::test]
async fn a_policy_tells_of_members_that_match_nothing() {
    let world = World::new("dangling").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "eem", json!({"teams": [{"name": "platform", "users": ["bob"]}]})).await;
    let home = world.namespace.clone();
    let members = [
        format!("token:{home}/ci"),
        format!("account:{home}/*"),
        "team:platform".into(),
        "user:alice".into(),
        "team:nobody".into(),
        "user:carol".into(),
    ];
    let spec = json!({"instanceRef": {"name": "eem"}, "members": members, "statements": [{"effect": "Allow", "role": "viewer"}]});
    world.accepts("AccessPolicy", "p", spec).await;
    let condition = async |type_: &str| {
        let policy = world.api::<AccessPolicy>().get("p").await.unwrap();
        policy.status?.conditions.into_iter().find(|condition| condition.type_ == type_)
    };
    let says = async |members: &str| {
        let wanted = format!("no such member exists: {members}");
        let look = async || condition("DanglingMember").await.filter(|said| said.message == wanted);
        world.eventually(&wanted, look).await;
    };
    says(&format!("token:{home}/ci, account:{home}/*, user:alice, team:nobody, user:carol")).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "owner": "user:alice"})).await;
    says("team:nobody, user:carol").await;
    // A token of another Instance that has this one as an audience is judged by its policies, too.
    world.accepts("Instance", "other", json!({})).await;
    let audience = json!({"instanceRef": {"name": "other"}, "audiences": [{"name": "eem"}], "owner": "user:carol"});
    world.accepts("ApiToken", "further", audience).await;
    says("team:nobody").await;
    world.change("AccessPolicy", "p", json!({"members": ["user:alice"]})).await.unwrap();
    let clean = async || condition("DanglingMember").await.is_none().then_some(());
    world.eventually("it is told no more", clean).await;
    assert_eq!(condition("Ready").await.unwrap().status, "True");
    world.change("AccessPolicy", "p", json!({"statements": [{"effect": "Allow", "role": "root"}]})).await.unwrap();
    let faulty = async || condition("Ready").await.filter(|said| said.reason == "RoleMissing");
    world.eventually("the role is missing", faulty).await;
}

#[tokio::test]
async fn accounts_and_instances_count_tokens_and_accounts_name_their_last_use() {
    let world = World::new("counted").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({})).await;
    world.accepts("ServiceAccount", "shared", json!({"instanceRef": {"name": "eem"}})).await;
    let acts = json!({"instanceRef": {"name": "eem"}, "serviceAccountRef": {"name": "shared"}});
    for name in ["a", "b"] {
        world.accepts("ApiToken", name, acts.clone()).await;
        world.await_reason(name, "Active").await;
    }
    let counts = async |active: i64, total: i64| {
        // They are counted at most once a minute.
        clock.move_by(SignedDuration::from_mins(2));
        let look = async || {
            let account = world.api::<Account>().get("shared").await.unwrap().status?.tokens?;
            let instance = world.api::<Instance>().get("eem").await.unwrap().status?.tokens?;
            [account, instance].iter().all(|said| (said.active, said.total) == (active, total)).then_some(())
        };
        world.eventually(&format!("{active} of {total} are active"), look).await;
    };
    counts(2, 2).await;
    world.change("ApiToken", "b", json!({"revoked": true})).await.unwrap();
    counts(1, 2).await;
    world.delete("ApiToken", "b").await;
    counts(1, 1).await;
    let value = world.value("a").await.unwrap();
    world.await_verdict(&verifier, &value, 200).await;
    let used = async || {
        let used = world.token("a").await.status?.used();
        let [first] = &used[..] else { return None };
        (first.generation == 1 && first.first_used_at == first.last_used_at).then(|| first.last_used_at.clone())
    };
    let at = world.eventually("the first use is written", used).await;
    clock.move_by(SignedDuration::from_mins(2));
    let named =
        async || world.api::<Account>().get("shared").await.unwrap().status?.last_used_at.filter(|named| *named == at);
    world.eventually("the account names it", named).await;
    // A busy token costs no writes.
    let version = world.token("a").await.metadata.resource_version;
    for _ in 0..50 {
        assert_eq!(verifier.present(&world, &value).await, 200);
    }
    assert_eq!(world.token("a").await.metadata.resource_version, version);
    clock.move_by(SignedDuration::from_hours(2));
    verifier.present(&world, &value).await;
    let later =
        async || world.token("a").await.status?.used().first().filter(|used| used.last_used_at > at).map(|_| ());
    world.eventually("a later use is written once the hour is over", later).await;
}

#[tokio::test]
async fn a_verifier_that_could_mint_is_not_ready() {
    let world = World::alone("unguarded").await;
    world.plane.install_crds(root()).unwrap();
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    world.plane.kubectl(&["delete", "validatingadmissionpolicybinding", "tokenry-verifier"]).unwrap();
    world.smallest().await;
    // The API server lets a policy go after a while, and a verifier that was refused by it tries again much later.
    let told = async || {
        let verifier = world.verifier(&clock).await;
        for _ in 0..100 {
            let (status, body) = verifier.get("/readyz").await;
            if status == 503 && body.contains("AdmissionMissing") {
                return Some(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        None
    };
    world.eventually("a verifier says why it is not ready", told).await;
}

#[tokio::test]
async fn a_policy_is_about_the_token_that_it_met_and_not_about_another_of_its_name() {
    let world = World::new("rebound").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({"api": {"authorization": "Roles"}})).await;
    let spec = |owner: &str| json!({"instanceRef": {"name": "eem"}, "owner": owner});
    let member = format!("token:{}/ci", world.namespace);
    let statements = json!([{"effect": "Allow", "role": "admin"}]);
    let policy = json!({"instanceRef": {"name": "eem"}, "members": [member], "statements": statements});
    // The policy comes first, and the token after it.
    world.accepts("AccessPolicy", "p", policy).await;
    world.accepts("ApiToken", "ci", spec("user:alice")).await;
    let value = world.await_generation("ci", 1).await;
    world.await_answer(&verifier, &value, 200).await;
    world.delete("ApiToken", "ci").await;
    world
        .eventually("it is gone", async || world.api::<ApiToken>().get_opt("ci").await.unwrap().is_none().then_some(()))
        .await;
    world
        .eventually("so is its account", async || {
            world.api::<Account>().get_opt("ci").await.unwrap().is_none().then_some(())
        })
        .await;
    // Somebody else takes the name.
    world.accepts("ApiToken", "ci", spec("user:mallory")).await;
    let other = world.await_generation("ci", 1).await;
    world.await_answer(&verifier, &other, 403).await;
    let bound = async || world.events("AccessPolicy", "p").await.contains(&"MemberBound".to_owned()).then_some(());
    world.eventually("that is told", bound).await;
    let condition = async || {
        let policy = world.api::<AccessPolicy>().get("p").await.unwrap();
        policy.status?.conditions.into_iter().find(|said| said.type_ == "DanglingMember")
    };
    let told = world.eventually("the policy says that its member is gone", condition).await;
    assert!(told.message.contains(&member), "{}", told.message);
    // A Deny is about whoever has the name, at once.
    let deny = json!({"statements": [{"effect": "Deny", "actions": ["*"]}]});
    world.change("AccessPolicy", "p", deny).await.unwrap();
    world.await_answer(&verifier, &other, 403).await;
}

#[tokio::test]
async fn what_is_going_gives_nothing_though_a_finalizer_holds_it() {
    let world = World::new("going").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({"api": {"authorization": "Roles"}})).await;
    let statements = json!([{"effect": "Allow", "role": "admin"}]);
    let policy = json!({"instanceRef": {"name": "eem"}, "members": ["user:alice"], "statements": statements});
    world.accepts("AccessPolicy", "p", policy).await;
    for (name, role) in [("permitted", json!(null)), ("admin", json!("admin"))] {
        let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:alice", "role": role});
        world.accepts("ApiToken", name, spec).await;
        world.await_reason(name, "Active").await;
    }
    let (permitted, admin) = (world.value("permitted").await.unwrap(), world.value("admin").await.unwrap());
    world.await_answer(&verifier, &permitted, 200).await;
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    world.api::<AccessPolicy>().patch("p", &PatchParams::default(), &hold).await.unwrap();
    world.api::<AccessPolicy>().delete("p", &DeleteParams::default()).await.unwrap();
    world.await_answer(&verifier, &permitted, 403).await;
    world.await_answer(&verifier, &admin, 200).await;
    world.api::<Instance>().patch("eem", &PatchParams::default(), &hold).await.unwrap();
    world.api::<Instance>().delete("eem", &DeleteParams::default()).await.unwrap();
    world.await_answer(&verifier, &admin, 403).await;
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.api::<AccessPolicy>().patch("p", &PatchParams::default(), &free).await.unwrap();
    world.api::<Instance>().patch("eem", &PatchParams::default(), &free).await.unwrap();
}
