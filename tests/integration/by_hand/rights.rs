//! Each command, by a user with exactly the rights that it needs, and by users who each lack one of them.

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokenry::crd::{Account, ApiToken};

use super::setting;
use crate::harness::{
    hand::Done,
    judged::{Judged, User},
};

/// A command and the rights that it needs.
struct Row {
    /// The arguments. `TOKEN` is the name of a token of a group of the user, and `NEW` is a name that is free.
    args: &'static [&'static str],
    /// `VERB RESOURCE[.GROUP][/NAME]`, one for each right.
    needs: &'static [&'static str],
    /// A text that the command prints, on either output.
    prints: &'static str,
}

const fn row(args: &'static [&'static str], needs: &'static [&'static str], prints: &'static str) -> Row {
    Row { args, needs, prints }
}

const GET: &str = "get apitokens.tokenry.dev";
const LIST: &str = "list apitokens.tokenry.dev";
const PATCH: &str = "patch apitokens.tokenry.dev";
const DELETE: &str = "delete apitokens.tokenry.dev";
const SECRETS: &str = "get secrets";
/// The lists of all that can read a Secret.
const READERS: [&str; 6] = [
    "list pods",
    "list deployments.apps",
    "list statefulsets.apps",
    "list daemonsets.apps",
    "list cronjobs.batch",
    "list jobs.batch",
];
const POLICIES: &str = "list accesspolicies.tokenry.dev";
const PLAN: [&str; 8] = [GET, READERS[0], READERS[1], READERS[2], READERS[3], READERS[4], READERS[5], POLICIES];
const VERIFY: [&str; 6] =
    [LIST, GET, "get serviceaccounts.tokenry.dev", "get instances.tokenry.dev", "get namespaces", POLICIES];

const ROWS: [Row; 18] = [
    row(
        &["create", "NEW", "--description", "nightly"],
        &["list instances.tokenry.dev", "create apitokens.tokenry.dev", GET, SECRETS],
        "NEW was created",
    ),
    row(&["list"], &[LIST], "TOKEN"),
    row(&["status", "TOKEN"], &[GET], "ApiToken "),
    row(&["show", "TOKEN"], &[GET, SECRETS], "tkn_"),
    row(&["rotate", "TOKEN", "--wait"], &[GET, PATCH], "generation 2 is published"),
    row(&["rotate", "--selector", "row=TOKEN"], &[LIST, PATCH], "a new value is asked for"),
    row(&["suspend", "TOKEN"], &[GET, PATCH], "suspended; its Secret stays"),
    row(&["resume", "TOKEN"], &[GET, PATCH], "resumed"),
    row(&["set", "description", "TOKEN", "weekly"], &[GET, PATCH], "changed"),
    row(&["transfer", "TOKEN", "--to", "user:bob"], &[GET, PATCH, "assign owners.tokenry.dev/user:bob"], "changed"),
    row(&["plan", "delete", "TOKEN"], &PLAN, "no workload reads its Secret (TOKEN)"),
    row(&["verify"], &VERIFY, "allowed"),
    row(&["revoke", "TOKEN", "--yes"], &[GET, PATCH], "revoked; this is final"),
    row(&["delete", "TOKEN", "--confirm", "nightly"], &[GET, PATCH, DELETE], "deleted"),
    row(
        &["delete", "account", "TOKEN", "--confirm", "TOKEN"],
        &[
            "get serviceaccounts.tokenry.dev",
            LIST,
            "patch serviceaccounts.tokenry.dev",
            "delete serviceaccounts.tokenry.dev",
        ],
        "deleted",
    ),
    row(&["grant", "user:bob", "--create"], &[], "kind: RoleBinding"),
    row(&["grant", "user:bob", "--read", "TOKEN"], &[GET], "resourceNames:\n  - TOKEN"),
    row(
        &["grant", "user:NEW", "--revoke", "north", "--apply"],
        &[
            "create roles.rbac.authorization.k8s.io",
            "create rolebindings.rbac.authorization.k8s.io",
            "escalate roles.rbac.authorization.k8s.io",
            "bind roles.rbac.authorization.k8s.io",
        ],
        "this gives no right to change tokens: add --create",
    ),
];

/// A user with all rights.
fn root(judged: &Judged) -> User<'_> {
    judged.stranger("root", &["system:masters"])
}

/// The rule of a right, as in a Role.
fn rule(right: &str) -> Value {
    let (verb, resource) = right.split_once(' ').unwrap();
    let (resource, name) = resource.split_once('/').map_or((resource, None), |(resource, name)| (resource, Some(name)));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let names: Vec<_> = name.into_iter().collect();
    json!({"apiGroups": [group], "resources": [resource], "verbs": [verb], "resourceNames": names})
}

/// The text by which a command says that this right is missing.
fn refusal(right: &str) -> String {
    match right {
        SECRETS => "which you may not read; an administrator allows it by:\n  kubectl tokenry grant ".to_owned(),
        "escalate roles.rbac.authorization.k8s.io" | "bind roles.rbac.authorization.k8s.io" => {
            "is attempting to grant RBAC permissions not currently held".to_owned()
        }
        named if named.contains('/') => format!("may not {named} in namespace "),
        plain => format!("you may not {plain} in "),
    }
}

impl Row {
    /// The number of the row, as a name of its token and its user.
    fn name(&self) -> String {
        let at = ROWS.iter().position(|row| row.args == self.args).unwrap();
        format!("row-{at}")
    }

    /// A user with these rights. `nth` is the number of the user in this row.
    async fn user<'a>(&self, judged: &'a Judged, nth: usize, rights: &[&str]) -> User<'a> {
        let user = judged.stranger(&format!("{}-{nth}", self.name()), &[&self.name()]);
        if !rights.is_empty() {
            user.may(rights.iter().map(|right| rule(right)).collect()).await;
        }
        user
    }

    /// Runs the command as a user.
    async fn run(&self, user: &User<'_>) -> Done {
        let (token, new) = (self.name(), format!("new-{}", user.name));
        let args: Vec<_> = self.args.iter().map(|arg| arg.replace("TOKEN", &token).replace("NEW", &new)).collect();
        let value = user.judged.world.value(&token).await.unwrap_or_default();
        user.tokenry_reading(&value, &args.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Runs the command as a user without one of its rights. The refusal names that right.
    async fn without(&self, judged: &Judged, nth: usize) {
        let missing = self.needs[nth];
        let rest: Vec<_> = self.needs.iter().copied().filter(|right| *right != missing).collect();
        let done = self.run(&self.user(judged, nth, &rest).await).await;
        let (args, told) = (self.args, refusal(missing));
        assert_eq!(done.code, 4, "{args:?} without {missing}: {done:?}");
        assert!(done.err.contains(&told), "{args:?} without {missing} does not say {told:?}: {done:?}");
        let shows = ["plan", "verify"].contains(&args[0]) || done.out.is_empty();
        assert!(shows, "{args:?} without {missing}: {done:?}");
    }

    /// Runs the command as a user with all of its rights.
    async fn with(&self, judged: &Judged) {
        let done = self.run(&self.user(judged, self.needs.len(), self.needs).await).await;
        assert_eq!(done.code, 0, "{:?}: {done:?}", self.args);
        let prints = self
            .prints
            .replace("TOKEN", &self.name())
            .replace("NEW", &format!("new-{}-{}", self.name(), self.needs.len()));
        assert!(format!("{}{}", done.out, done.err).contains(&prints), "{:?}: {done:?}", self.args);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_needs_exactly_its_rights_and_a_refusal_names_the_missing_one() {
    let (judged, _operator) = setting("rights").await;
    let world = &judged.world;
    world.change("Instance", "eem", json!({"tokens": {"confirmDelete": true}})).await.unwrap();
    for row in &ROWS {
        let (name, owner) = (row.name(), format!("group:{}", row.name()));
        let spec = json!({"instanceRef": {"name": "eem"}, "description": "nightly", "owner": owner});
        root(&judged).create_with("ApiToken", json!({"name": name, "labels": {"row": name}}), spec).await.unwrap();
    }
    for row in &ROWS {
        let of_deletion = async || {
            let mirrored = judged.token(&row.name()).await?.status?.policy?.confirm_delete;
            let of_account = world.api::<Account>().get_opt(&row.name()).await.unwrap()?.status?.policy?.confirm_delete;
            (mirrored && of_account).then_some(())
        };
        world.eventually("the confirmation is asked for", of_deletion).await;
        world.await_reason(&row.name(), "Active").await;
    }
    let before = generations(&judged).await;
    let refused: Vec<_> = ROWS.iter().flat_map(|row| (0..row.needs.len()).map(move |nth| (row, nth))).collect();
    stream::iter(refused).for_each_concurrent(24, |(row, nth)| row.without(&judged, nth)).await;
    let after = generations(&judged).await;
    assert!(
        before.iter().all(|token| after.contains(token)),
        "a refused command changes nothing: {before:?} {after:?}"
    );
    stream::iter(&ROWS).for_each_concurrent(4, |row| row.with(&judged)).await;
}

/// The names and generations of all tokens.
async fn generations(judged: &Judged) -> Vec<(Option<String>, Option<i64>)> {
    let tokens = judged.world.api::<ApiToken>().list(&Default::default()).await.unwrap();
    tokens.into_iter().map(|token| (token.metadata.name, token.metadata.generation)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_about_a_token_says_which_part_the_user_may_not_see() {
    let (judged, _operator) = setting("partly").await;
    judged.world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "owner": "user:x"})).await;
    judged.world.await_reason("ci", "Active").await;
    let user = judged.stranger("curious", &[]);
    user.may(json!([rule(GET)])).await;
    let page = user.tokenry(&["status", "ci"]).await;
    for part in ["pods", "deployments.apps", "cronjobs.batch", "accesspolicies.tokenry.dev", "events"] {
        assert!(page.well().contains(&format!("you may not list {part} in namespace")), "{part}: {page:?}");
    }
    assert!(!page.out.contains("no workload reads"), "{page:?}");
    let reader = judged.stranger("reader", &[]);
    reader.may([&PLAN[..], &["list events"]].concat().iter().map(|right| rule(right)).collect()).await;
    let told = async || {
        let page = reader.tokenry(&["status", "ci"]).await;
        page.well().contains("Normal Issued").then_some(page.out)
    };
    let page = judged.world.eventually("the page has the Event", told).await;
    assert!(page.contains("no workload reads its Secret (ci)") && !page.contains("known: "), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_policy_names_the_command_that_grants_the_right_and_it_does() {
    let (judged, _operator) = setting("granted").await;
    let carl = super::hand(&judged, "carl", super::secrets()).await;
    let refused = carl.tokenry(&["create", "ci", "--admin"]).await;
    let advice = format!("\n  kubectl tokenry grant user:carl --role eem:admin -n {} --apply\n", carl.home());
    assert!(refused.failed(4).contains(&advice), "{refused:?}");
    let waits = "user:carl may not assign roles.tokenry.dev/eem:admin in namespace";
    let (first, _) = refused.err.split_once('\n').unwrap();
    assert!(
        first.contains(waits) && first.ends_with("; trying again for 10 s, as a grant may be on its way"),
        "{first}"
    );
    for told in ["were created", "exist already"] {
        let granted = root(&judged).tokenry(&["grant", "user:carl", "--role", "eem:admin", "--apply"]).await;
        assert!(granted.well().is_empty() && granted.err.contains(told), "{told}: {granted:?}");
    }
    carl.tokenry(&["create", "ci", "--admin"]).await.well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_right_to_create_alone_is_told_how_to_read_and_then_reads_that_value_and_no_other() {
    let (judged, _operator) = setting("reads").await;
    let (root, dora) = (root(&judged), judged.stranger("dora", &[]));
    let created = root.tokenry(&["grant", "user:dora", "--create", "--apply"]).await;
    assert!(created.well().is_empty() && created.err.contains("add --read TOKEN for each token"), "{created:?}");
    let may_create = async || {
        let dry = dora.tokenry(&["create", "ci", "--dry-run"]).await;
        (dry.code == 0).then_some(())
    };
    judged.world.eventually("dora may create", may_create).await;
    let unread = dora.tokenry(&["create", "ci"]).await;
    let advice = format!("\n  kubectl tokenry grant user:dora --read ci -n {} --apply\n", dora.home());
    assert!(unread.failed(4).contains(&advice), "{unread:?}");
    let waits = format!("you may not get secrets in namespace {}; trying again for 10 s", dora.home());
    assert!(unread.err.starts_with(&waits), "{unread:?}");
    // The Secret of a token can have another name, and a token can be made later.
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:dora", "secret": {"name": "elsewhere"}});
    root.create("ApiToken", "named", spec).await.unwrap();
    judged.world.await_reason("named", "Active").await;
    let all = ["--read", "ci", "--read", "named", "--read", "later"];
    let printed = root.tokenry(&[&["grant", "user:dora"], &all[..]].concat()).await;
    assert!(printed.well().contains("resourceNames:\n  - ci\n  - elsewhere\n  - later\n"), "{printed:?}");
    root.tokenry(&[&["grant", "user:dora", "--apply"], &all[..]].concat()).await.well();
    for token in ["ci", "named"] {
        assert!(dora.tokenry(&["show", token]).await.well().starts_with("tkn_"));
    }
    assert!(dora.tokenry(&["create", "later"]).await.well().starts_with("tkn_"));
    assert_eq!(dora.tokenry(&["create", "other"]).await.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_shown_once_is_claimed_by_who_may_and_a_refusal_names_the_command_that_lets_them() {
    let (judged, _operator) = setting("claims").await;
    let (root, dora) = (root(&judged), judged.stranger("dora", &[]));
    let secret = json!({"delivery": "Once", "name": "elsewhere"});
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:dora", "secret": secret});
    root.create("ApiToken", "ci", spec).await.unwrap();
    judged.world.eventually("the value is there", async || judged.world.value("elsewhere").await).await;
    root.tokenry(&["grant", "user:dora", "--read", "ci", "--apply"]).await.well();
    let shows = async || {
        let shown = dora.tokenry(&["show", "ci"]).await;
        (shown.code == 0).then_some(shown.out)
    };
    let value = judged.world.eventually("dora reads the value", shows).await;
    let claim = ["show", "ci", "--claim", "--yes"];
    let refused = dora.tokenry(&claim).await;
    assert!(refused.code == 4 && refused.out == value, "the value is printed first: {refused:?}");
    let advice = format!(
        "the value of ci is not claimed: you may not patch Secret elsewhere, which holds it; an administrator allows \
         it by:\n  kubectl tokenry grant user:dora --claim ci -n {} --apply\n",
        dora.home()
    );
    assert!(refused.err.contains(&advice), "{refused:?}");
    assert!(judged.world.value("elsewhere").await.is_some());
    root.tokenry(&["grant", "user:dora", "--claim", "ci", "--apply"]).await.well();
    assert_eq!(dora.tokenry(&claim).await.well(), value);
    let gone = async || judged.world.value("elsewhere").await.is_none().then_some(());
    judged.world.eventually("the Secret is gone", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_and_a_lifetime_that_the_instance_forbids_are_told_before_anything_is_written() {
    let (judged, _operator) = setting("forbids").await;
    judged.world.change("Instance", "eem", json!({"tokens": {"lifetime": {"max": "90d"}}})).await.unwrap();
    let alice = super::hand(&judged, "alice", super::secrets()).await;
    for (args, said) in [
        (["create", "ci", "--role", "root"], "the Instance has no role root; give one of viewer, contributor, admin"),
        (["create", "ci", "--expires", "91d"], "must not be longer than the Instance's maximum, 90d"),
        (["create", "ci", "--expires", "never"], "the Instance forbids tokens that never expire"),
    ] {
        let refused = alice.tokenry(&args).await;
        assert!(refused.failed(2).contains(said), "{args:?}: {refused:?}");
        assert!(refused.err.contains("Instance eem forbids it; nothing was created"), "{args:?}: {refused:?}");
    }
    assert!(judged.token("ci").await.is_none());
    alice.tokenry(&["create", "ci"]).await.well();
    let refused = alice.tokenry(&["set", "role", "ci", "root"]).await;
    assert!(refused.failed(2).contains("give one of viewer, contributor, admin"), "{refused:?}");
    // A user that may not read the Instance is not held back.
    let dora = judged.stranger("dora", &["dora"]);
    judged.world.accepts("ApiToken", "hers", json!({"instanceRef": {"name": "eem"}, "owner": "user:dora"})).await;
    dora.may(json!([rule(GET), rule(PATCH), rule("assign roles.tokenry.dev")])).await;
    dora.tokenry(&["set", "role", "hers", "root"]).await.well();
    judged.world.await_reason("hers", "RoleMissing").await;
}
