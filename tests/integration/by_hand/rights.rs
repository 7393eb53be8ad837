//! Each command, by a user with exactly the rights that it needs, and by users who each lack one of them.

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokenry::{
    crd::{Account, ApiToken},
    outside::{Desk, Why},
};

use super::setting;
use crate::harness::{
    clock::Held,
    hand::{Done, run},
    judged::{Judged, User},
    rights::asking,
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
const VERIFY: [&str; 5] = [LIST, GET, "get serviceaccounts.tokenry.dev", "get instances.tokenry.dev", POLICIES];

const ROWS: [Row; 22] = [
    row(
        &["create", "NEW", "--description", "nightly"],
        &["list instances.tokenry.dev", "create apitokens.tokenry.dev", GET, SECRETS],
        "NEW was created",
    ),
    row(&["list"], &[LIST], "TOKEN"),
    row(&["status", "TOKEN"], &[GET], "ApiToken "),
    row(&["show", "TOKEN"], &[GET, SECRETS], "tkn_"),
    row(&["rotate", "TOKEN", "--wait"], &[GET, PATCH], "generation 2 is published"),
    row(&["rotate", "TOKEN", "--show"], &[GET, PATCH, SECRETS], "tkn_"),
    row(&["rotate", "--selector", "row=TOKEN", "--yes"], &[LIST, PATCH], "a new value is asked for"),
    row(&["suspend", "TOKEN"], &[GET, PATCH], "suspended; its Secret stays"),
    row(&["resume", "TOKEN"], &[GET, PATCH], "resumed"),
    row(&["set", "description", "TOKEN", "weekly"], &[GET, PATCH], "description nightly -> weekly"),
    row(&["transfer", "TOKEN", "--to", "user:bob"], &[GET, PATCH, "assign owners.tokenry.dev/user:bob"], "-> user:bob"),
    row(&["plan", "rotate", "TOKEN"], &[GET], "TOKEN gets a new value"),
    row(&["plan", "suspend", "TOKEN"], &[GET], "every request with TOKEN is refused until it is resumed"),
    row(&["plan", "revoke", "TOKEN", "--output", "json"], &[GET], "\"policies\": []"),
    row(&["plan", "delete", "TOKEN"], &[GET], "TOKEN and its Secret are deleted"),
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
        "Role and RoleBinding ",
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
fn refusal(command: &str, right: &str) -> String {
    match right {
        SECRETS if command == "show" => {
            "which you may not read; an administrator allows it by:\n  kubectl tokenry grant ".to_owned()
        }
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
        let (args, told) = (self.args, refusal(self.args[0], missing));
        assert_eq!(done.code, 4, "{args:?} without {missing}: {done:?}");
        assert!(done.err.contains(&told), "{args:?} without {missing} does not say {told:?}: {done:?}");
        let shows = args[0] == "verify" || done.out.is_empty();
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
    let suspended = ROWS.iter().find(|row| row.args[0] == "resume").unwrap().name();
    world.change("ApiToken", &suspended, json!({"active": false})).await.unwrap();
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
    user.may(json!([rule(GET), rule("patch apitokens.tokenry.dev")])).await;
    user.may_on("revoke", "organizations", "eem").await;
    let page = user.tokenry(&["status", "ci"]).await;
    let told = format!(
        "not all is known: you may not list pods, deployments.apps, statefulsets.apps, daemonsets.apps, cronjobs.batch, \
         jobs.batch and events in namespace {}; an administrator allows it by:",
        user.home()
    );
    assert!(page.well().contains(&told) && page.out.matches("may not").count() == 1, "{page:?}");
    assert!(!page.out.contains("no workload reads"), "{page:?}");
    let asked = user.tokenry(&["revoke", "ci"]).await;
    let told = told.replace(", jobs.batch and events", " and jobs.batch");
    assert!(asked.failed(2).contains(&told) && asked.err.matches("may not").count() == 1, "{asked:?}");
    let plan = user.tokenry(&["plan", "revoke", "ci"]).await;
    assert!(plan.well().contains("no reader of its Secret (ci) is known"), "{plan:?}");
    assert_eq!(plan.err.matches("may not").count(), 1, "{plan:?}");
    grant(&judged, &page.out).await;
    let whole = async || user.tokenry(&["plan", "revoke", "ci"]).await.err.is_empty().then_some(());
    judged.world.eventually("the grants of the page are enough", whole).await;
    let page = user.tokenry(&["status", "ci"]).await;
    assert!(!page.well().contains("known"), "{page:?}");
    let reader = judged.stranger("reader", &[]);
    reader.may([&READERS[..], &[GET, "list events"]].concat().iter().map(|right| rule(right)).collect()).await;
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
    // The operator grants roles of this Instance, so a grant may be on its way.
    let members = json!([{"subject": "user:carl", "role": "viewer"}]);
    judged.world.change("Instance", "eem", json!({"ceiling": "Members", "members": members})).await.unwrap();
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
    assert!(unread.failed(4).contains(&advice) && judged.token("ci").await.is_none(), "{unread:?}");
    let once = dora.tokenry(&["create", "ci", "--once"]).await;
    let advice = advice.replace("--read", "--claim");
    assert!(once.failed(4).contains(&advice) && judged.token("ci").await.is_none(), "{once:?}");
    dora.tokenry(&["create", "unseen", "--output", "yaml"]).await.well();
    dora.tokenry(&["create", "ci", "--output", "yaml"]).await.well();
    judged.world.await_reason("ci", "Active").await;
    assert!(!unread.err.contains("trying again"), "the Instance grants nothing, so nothing is on its way: {unread:?}");
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

/// Runs the commands that a refusal names, as an administrator, each in its namespace.
async fn grant(judged: &Judged, told: &str) {
    let root = root(judged);
    let commands: Vec<_> =
        told.lines().filter_map(|line| line.trim_start().strip_prefix("kubectl tokenry grant ")).collect();
    assert!(!commands.is_empty(), "{told}");
    for command in commands {
        let (words, place) = command.trim_end().split_once(" -n ").unwrap();
        let words: Vec<_> = words.split(' ').map(|word| word.trim_matches('\'')).collect();
        let args = [&["grant"], &words[..], &["--apply"]].concat();
        run(root.command_in(place.strip_suffix(" --apply").unwrap(), &args), "").well();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_shows_all_that_the_user_may_list_and_names_the_rest() {
    let (judged, _operator) = setting("listable").await;
    root(&judged).create("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "owner": "user:x"})).await.unwrap();
    judged.world.await_reason("ci", "Active").await;
    let commands = [&["status", "ci"][..], &["plan", "rotate", "ci"], &["plan", "delete", "ci"]];
    let lists = [&READERS[..], &[POLICIES]].concat();
    for (nth, missing) in lists.iter().enumerate() {
        let user = judged.stranger(&format!("u{nth}"), &[]);
        let rights = [GET, "list events"].into_iter().chain(lists.iter().copied().filter(|right| right != missing));
        user.may(rights.map(rule).collect()).await;
        for command in commands {
            let done = user.tokenry(command).await;
            let (told, lacks) = (format!("{}{}", done.well(), done.err), format!("you may not {missing} in "));
            let is_asked = *missing != POLICIES || command[1] == "delete";
            assert_eq!(told.contains(&lacks), is_asked, "{command:?} without {missing}: {told}");
            let is_known = READERS.contains(missing) || told.contains("no workload reads its Secret (ci)");
            assert!(is_known && !done.err.contains("tokenry:"), "{command:?} without {missing}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_right_is_told_the_least_grant_of_each_command_and_it_is_enough() {
    let (judged, _operator) = setting("least").await;
    let namespaces = json!({"from": "Selector", "selector": {"matchLabels": {"admission": "judged"}}});
    judged.world.change("Instance", "eem", json!({"tokens": {"namespaces": namespaces}})).await.unwrap();
    for (nth, (args, flags)) in [
        (&["create", "new", "--role", "viewer", "--instance", "eem"][..], "--create --read new --role eem:viewer"),
        (&["list"], "--view"),
        (&["status", "TOKEN"], "--view"),
        (&["explain", "TOKEN"], "--view"),
        (&["verify"], "--view"),
        (&["show", "TOKEN"], "--read TOKEN"),
        (&["rotate", "TOKEN"], "--create"),
        (&["rotate", "TOKEN", "--show"], "--create --read TOKEN"),
        (&["transfer", "TOKEN", "--to", "team:x"], "--create --owner team:x"),
        (&["plan", "delete", "TOKEN"], "--view --workloads"),
        (&["suspend", "--all", "--yes"], "--create"),
        (&["set", "description", "TOKEN", "x"], "--create"),
        (&["revoke", "TOKEN", "--yes"], "--revoke-token TOKEN"),
        // The tokens that can be listed say the further rights.
        (&["revoke", "--all", "--yes"], "--view"),
    ]
    .into_iter()
    .enumerate()
    {
        let (name, token) = (format!("u{nth}"), format!("t{nth}"));
        let user = judged.stranger(&name, &[]);
        let spec = json!({"instanceRef": {"name": "eem"}, "owner": format!("user:{name}")});
        root(&judged).create("ApiToken", &token, spec).await.unwrap();
        judged.world.await_reason(&token, "Active").await;
        let value = judged.world.eventually("the value is there", async || judged.world.value(&token).await).await;
        let args: Vec<_> = args.iter().map(|arg| arg.replace("TOKEN", &token)).collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let refused = user.tokenry_reading(&value, &args).await;
        let flags = flags.replace("TOKEN", &token);
        let known = ["explain", "verify", "status"].contains(&args[0]);
        assert!(refused.code == 4 && (known || refused.out.is_empty()), "{args:?}: {refused:?}");
        let told = format!("\n  kubectl tokenry grant user:{name} {flags} -n {} --apply\n", user.home());
        assert!(refused.err.ends_with(&told), "{args:?} does not end with {told:?}: {refused:?}");
        assert!(!refused.err.contains("trying again"), "no such right is on its way: {refused:?}");
        grant(&judged, &refused.err).await;
        let enough = async || {
            let done = user.tokenry_reading(&value, &args).await;
            // Only the tokens of its owner can be suspended, and no token can be revoked by a look alone.
            ([0, 10].contains(&done.code)).then_some(done)
        };
        let done = judged.world.eventually("the grant is enough", enough).await;
        assert!(done.code == 0 || args.contains(&"--all"), "{args:?}: {done:?}");
        user.tokenry(&["resume", &token]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_names_all_missing_rights_at_once_and_writes_nothing() {
    let (judged, _operator) = setting("all").await;
    let readers = json!({"instanceRef": {"name": "eem"}, "members": [], "statements": [{"effect": "Allow", "actions": ["api:read"]}]});
    root(&judged).create("AccessPolicy", "readers", readers).await.unwrap();
    let foreign: Secret = serde_json::from_value(json!({"metadata": {"name": "db"}, "type": "Opaque"})).unwrap();
    judged.world.api::<Secret>().create(&PostParams::default(), &foreign).await.unwrap();
    // A token of that name changes nothing: anybody with `--create` can make one.
    for named in [false, true] {
        if named {
            judged.world.accepts("ApiToken", "db", json!({"instanceRef": {"name": "eem"}})).await;
        }
        for flag in ["--read", "--claim"] {
            let opens = root(&judged).tokenry(&["grant", "user:dora", flag, "db"]).await;
            let told = format!("Secret db in namespace {} is of type \"Opaque\"", judged.world.namespace);
            assert!(opens.failed(5).contains(&told) && opens.out.is_empty(), "{named} {flag}: {opens:?}");
        }
    }
    let odd = judged.stranger(r"CORP\a&b", &[]).tokenry(&["list"]).await;
    assert!(odd.failed(4).contains(r"kubectl tokenry grant 'user:CORP\a&b' --view"), "{odd:?}");
    let dora = judged.stranger("dora", &[]);
    dora.may(json!([rule("get instances.tokenry.dev/eem")])).await;
    let args =
        ["create", "ci", "--instance", "eem", "--role", "admin", "--owner", "team:x", "--policy", "readers", "--once"];
    let refused = dora.tokenry(&args).await;
    let command = format!(
        "\n  kubectl tokenry grant user:dora --create --claim ci --role eem:admin --owner team:x --policy eem:readers -n {} \
         --apply\n",
        dora.home()
    );
    assert!(refused.failed(4).contains(&command), "{refused:?}");
    assert!(refused.err.contains("nothing was created: you may not create apitokens.tokenry.dev in"), "{refused:?}");
    assert!(!refused.err.contains("trying again"), "no such right is on its way: {refused:?}");
    let rehearsed = dora.tokenry(&[&args[..], &["--dry-run"]].concat()).await;
    assert!(rehearsed.failed(4).contains("--create --role eem:admin --owner team:x"), "{rehearsed:?}");
    assert!(!rehearsed.err.contains("trying again") && !rehearsed.err.contains("--claim"), "{rehearsed:?}");
    grant(&judged, &refused.err).await;
    let made = async || Some(dora.tokenry(&args).await).filter(|done| done.code == 0);
    let made = judged.world.eventually("the grant is enough", made).await;
    assert!(made.out.starts_with("tkn_"), "{made:?}");
    let claimed = dora.tokenry(&["show", "ci", "--claim", "--yes"]).await;
    assert_eq!(claimed.well(), made.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_one_of_several_tokens_holds_up_no_other_one() {
    let (judged, _operator) = setting("bulk").await;
    let carl = super::hand(&judged, "carl", super::secrets()).await;
    for (name, owner) in [("a", "user:carl"), ("b", "user:alice"), ("c", "user:carl"), ("d", "user:alice")] {
        let spec = json!({"instanceRef": {"name": "eem"}, "owner": owner});
        root(&judged).create_with("ApiToken", json!({"name": name, "labels": {"app": "shop"}}), spec).await.unwrap();
        judged.world.await_reason(name, "Active").await;
    }
    for (args, said) in [
        (&["suspend", "-l", "app=shop", "--yes"][..], "a: suspended"),
        (&["rotate", "-l", "app=shop", "--yes"], "a: a new value is asked for"),
        (&["revoke", "-l", "app=shop", "--yes"], "c: revoked"),
    ] {
        let done = carl.tokenry(args).await;
        let told = done.failed(10);
        assert!(told.contains(said), "{args:?}: {done:?}");
        assert!(told.contains("failed for 2 of 4 tokens; done: a, c\nfailed: b, d: "), "{args:?}: {done:?}");
        assert!(!told.contains("trying again"), "no such right is on its way: {done:?}");
        let flag = if args[0] == "revoke" { "--revoke eem" } else { "--owner user:alice" };
        assert!(told.contains(&format!("kubectl tokenry grant user:carl {flag} -n {}", carl.home())), "{done:?}");
        assert!(args[0] == "revoke" || told.contains("user:alice may do it; or an administrator allows"), "{done:?}");
    }
    for name in ["a", "c"] {
        judged.world.await_reason(name, "Revoked").await;
    }
    let named = root(&judged).tokenry(&["suspend", "none", "b", "--dry-run"]).await;
    let told = named.failed(10);
    assert!(
        told.contains("b: the API server accepts it") && told.contains("failed for 1 of 2 tokens; done: b"),
        "{told}"
    );
    assert!(told.contains("failed: none: ApiToken ") && told.contains("none does not exist"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_revokes_the_token_of_another_needs_the_right_to_revoke_alone() {
    let (judged, _operator) = setting("revokes").await;
    let dora = judged.stranger("dora", &[]);
    judged.world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "owner": "user:alice"})).await;
    judged.world.await_reason("ci", "Active").await;
    dora.may(json!([rule(GET)])).await;
    let refused = dora.tokenry(&["revoke", "ci", "--yes"]).await;
    let told = format!(
        "you may not patch apitokens.tokenry.dev in namespace {home}; you may not revoke organizations.tokenry.dev/eem \
         in namespace {home}; an administrator allows it by:\n  kubectl tokenry grant user:dora --revoke-token ci -n \
         {home} --apply\n",
        home = dora.home()
    );
    assert!(refused.failed(4).ends_with(&told), "{refused:?}");
    // With the right to patch, that on the organization is enough.
    let erin = judged.stranger("erin", &[]);
    erin.may(json!([rule(GET), rule(PATCH)])).await;
    let patching = erin.tokenry(&["revoke", "ci", "--yes"]).await;
    let told = format!(" allows it by:\n  kubectl tokenry grant user:erin --revoke eem -n {} --apply\n", erin.home());
    assert!(patching.failed(4).ends_with(&told), "{patching:?}");
    // Who acts for the owner needs no right on an organization.
    let acting = judged.stranger("fred", &[]);
    acting.may(json!([rule(GET), rule("assign owners.tokenry.dev/user:alice")])).await;
    let told = acting.tokenry(&["revoke", "ci", "--yes"]).await;
    let command = format!("grant user:fred --revoke-token ci -n {} --apply\n", acting.home());
    assert!(told.failed(4).ends_with(&command) && !told.err.contains("organizations"), "{told:?}");
    grant(&judged, &refused.err).await;
    let suspended = dora.tokenry(&["suspend", "ci"]).await;
    assert!(suspended.failed(4).contains("may not assign owners.tokenry.dev/user:alice"), "{suspended:?}");
    dora.tokenry(&["revoke", "ci", "--yes"]).await.well();
    judged.world.await_reason("ci", "Revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_revokes_a_token_of_an_instance_elsewhere_is_told_all_grants_at_once_and_they_are_enough() {
    let judged = Judged::new("elsewhere").await;
    let keepers = judged.world.beside("elsewhere-keepers", json!({"admission": "judged"})).await;
    let (home, keeper) = (&judged.world.namespace, &keepers.namespace);
    let instance = json!({"name": "eem", "namespace": keeper});
    let spec = json!({"instanceRef": instance, "organizations": {"listed": ["shop", "eem"]}, "owner": "user:alice"});
    for name in ["read", "unread", "other"] {
        judged.world.accepts("ApiToken", name, spec.clone()).await;
    }
    let dora = judged.stranger("dora", &[]);
    dora.may(json!([rule(GET)])).await;
    let refused = dora.tokenry(&["revoke", "read", "--yes"]).await;
    let told = format!(
        "you may not patch apitokens.tokenry.dev in namespace {home}; you may not revoke \
         organizations.tokenry.dev/shop in namespace {keeper}; an administrator allows it by:\n  \
         kubectl tokenry grant user:dora --revoke-token read -n {home} --apply\n"
    );
    assert!(refused.failed(4).ends_with(&told), "{refused:?}");
    grant(&judged, &refused.err).await;
    let revoked = async |user: &User<'_>, name: &str| {
        let done = async || (user.tokenry(&["revoke", name, "--yes"]).await.code == 0).then_some(());
        judged.world.eventually("the grants are enough", done).await;
        assert!(judged.token(name).await.unwrap().spec.revoked);
    };
    revoked(&dora, "read").await;
    // Without a look at the token, neither its owner nor its Instance is known.
    let erin = judged.stranger("erin", &[]);
    let refused = erin.tokenry(&["revoke", "unread", "--yes"]).await;
    let command = format!("kubectl tokenry grant user:erin --revoke-token unread -n {home} --apply\n");
    assert!(refused.failed(4).ends_with(&format!("an administrator allows it by:\n  {command}")), "{refused:?}");
    let printed = root(&judged).tokenry(&["grant", "user:erin", "--revoke-token", "unread"]).await;
    for part in ["resourceNames:\n  - unread\n", "resourceNames:\n  - shop\n", &format!("namespace: {keeper}\n")] {
        assert!(printed.well().contains(part) && printed.out.matches("\nkind: Role\n").count() == 2, "{printed:?}");
    }
    let opens = format!(
        "user:erin may then revoke unread; the right is on its organization, shop, in namespace {keeper}, so user:erin \
         may also revoke each other token of shop that user:erin may change"
    );
    assert!(printed.err.contains(&opens), "{printed:?}");
    grant(&judged, &refused.err).await;
    revoked(&erin, "unread").await;
    assert_eq!(erin.tokenry(&["revoke", "other", "--yes"]).await.code, 4, "no other token is opened");
    let none = root(&judged).tokenry(&["grant", "user:erin", "--revoke-token", "none"]).await;
    assert!(none.failed(5).contains("none does not exist"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_change_of_the_token_of_another_names_the_right_on_its_owner_too() {
    let judged = Judged::new("anothers").await;
    for (name, owner) in [("of-alice", "user:alice"), ("of-group", "group:ops")] {
        judged.world.accepts("ApiToken", name, json!({"instanceRef": {"name": "eem"}, "owner": owner})).await;
    }
    let dora = judged.stranger("dora", &["ops"]);
    dora.may(json!([rule(GET)])).await;
    let alice = "--create --owner user:alice";
    for (args, words) in [
        (&["suspend", "of-alice"][..], alice.to_owned()),
        (&["suspend", "of-group"], "--create".to_owned()),
        (&["transfer", "of-group", "--to", "user:bob"], "--create --owner user:bob".to_owned()),
        (&["transfer", "of-alice", "--to", "team:x"], format!("{alice} --owner team:x")),
        (&["transfer", "of-alice", "--to", "user:dora"], alice.to_owned()),
        (&["set", "role", "of-group", "admin"], "--create --role eem:admin".to_owned()),
        (&["set", "policies", "of-group", "a,b"], "--create --policy eem:a --policy eem:b".to_owned()),
    ] {
        let refused = dora.tokenry(&[args, &["--dry-run"]].concat()).await;
        let command = format!("\n  kubectl tokenry grant user:dora {words} -n {} --apply\n", dora.home());
        assert!(refused.failed(4).ends_with(&command), "{args:?}: {refused:?}");
    }
    // Nothing is asked or written before a deletion that would be refused.
    let refused = dora.tokenry(&["delete", "of-alice"]).await;
    let command = format!("\n  kubectl tokenry grant user:dora {alice} -n {} --apply\n", dora.home());
    assert!(refused.failed(4).ends_with(&command) && !refused.err.contains("no workload"), "{refused:?}");
    assert!(refused.err.starts_with("tokenry: nothing was deleted: you may not delete apitokens"), "{refused:?}");
    // An admission policy alone asks for one right after the other.
    dora.may(json!([rule(PATCH)])).await;
    let refused = dora.tokenry(&["set", "role", "of-alice", "admin"]).await;
    let command =
        format!("\n  kubectl tokenry grant user:dora --owner user:alice --role eem:admin -n {} --apply\n", dora.home());
    assert!(refused.failed(4).ends_with(&command), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_without_its_instance_says_how_to_hear_of_all_rights_at_once() {
    let judged = Judged::new("unnamed").await;
    let dora = judged.stranger("dora", &[]);
    for args in [
        &["create", "ci", "--role", "viewer"][..],
        &["create", "ci", "--policy", "readers"],
        &["create", "ci", "--admin", "--instance", "eem"],
    ] {
        let refused = dora.tokenry(&[args, &["--owner", "team:x", "--dry-run"]].concat()).await;
        let command =
            format!("\n  kubectl tokenry grant user:dora --create --owner team:x -n {} --apply\n", dora.home());
        assert!(refused.failed(4).ends_with(&command), "{args:?}: {refused:?}");
        assert!(
            refused.err.contains("; give the Instance, and the role if you want one, and the rights on both"),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_says_which_names_mean_nothing_yet_and_which_values_its_holder_reads() {
    let (judged, operator) = setting("advance").await;
    let root = root(&judged);
    let home = root.home();
    let told = async |args: &[&str]| {
        let done = root.tokenry(&[&["grant", "user:dora"], args].concat()).await;
        done.well();
        done.err
    };
    let none = |object: &str, name: &str| format!("{object} {home}/{name} does not exist; ");
    assert!(told(&["--role", "none:viewer"]).await.starts_with(&none("Instance", "none")));
    assert!(told(&["--policy", "none"]).await.starts_with(&none("Instance", "none")));
    assert!(told(&["--policy", "eem:none"]).await.starts_with(&none("AccessPolicy", "none")));
    let role = told(&["--role", "eem:root"]).await;
    assert_eq!(role, format!("Instance {home}/eem has no role root; it has viewer, contributor, admin\n"));
    assert_eq!(told(&["--role", "eem:viewer", "--role", "eem:*"]).await, "");
    let unread = "this gives no right to read values: add --read TOKEN for each token";
    assert_eq!(told(&["--create"]).await, format!("{unread}\n"));
    let members = json!([{"subject": "user:alice", "role": "admin"}]);
    judged.world.change("Instance", "eem", json!({"ceiling": "Members", "members": members})).await.unwrap();
    let giving = format!("{unread}, except of Instance eem, which gives that right to owners\n");
    assert_eq!(told(&["--create"]).await, giving);
    operator.stop().await;
    let client = judged.world.plane.client_for(&judged.world.identities.operator);
    let _operator = judged.world.operator_with(client, &Held::default(), |options| options.grants = false).await;
    let off = async || (told(&["--create"]).await == format!("{unread}\n")).then_some(());
    judged.world.eventually("the operator grants nothing", off).await;
    let stranger = judged.stranger("erin", &[]).tokenry(&["grant", "user:dora", "--create", "--apply"]).await;
    let command = format!("\n  kubectl tokenry grant user:dora --create -n {home} --apply\n");
    assert!(stranger.failed(4).ends_with(&command), "{stranger:?}");
    assert!(stranger.err.contains("let a cluster administrator run this"), "{stranger:?}");
    assert!(stranger.err.contains("unless the Instance gives that right to owners"), "{stranger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_could_not_show_its_value_is_refused_before_anything_is_written() {
    let (judged, _operator) = setting("unshown").await;
    let dora = judged.stranger("dora", &[]);
    judged.world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "owner": "user:dora"})).await;
    judged.world.await_reason("ci", "Active").await;
    dora.may(json!([rule(GET)])).await;
    let refused = dora.tokenry(&["rotate", "ci", "--show"]).await;
    let command = format!("\n  kubectl tokenry grant user:dora --create --read ci -n {} --apply\n", dora.home());
    assert!(refused.failed(4).ends_with(&command), "{refused:?}");
    assert!(refused.err.contains("nothing was changed: you may not patch apitokens.tokenry.dev in"), "{refused:?}");
    assert!(judged.token("ci").await.unwrap().spec.regenerate.is_none());
    grant(&judged, &refused.err).await;
    let shown = async || Some(dora.tokenry(&["rotate", "ci", "--show"]).await).filter(|done| done.code == 0);
    let shown = judged.world.eventually("the grant is enough", shown).await;
    assert_eq!(Some(shown.out.trim()), judged.world.value("ci").await.as_deref());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_to_whom_the_operator_grants_nothing_is_told_before_the_creation_or_right_after_it() {
    let judged = Judged::new("ungranted").await;
    let members = json!([{"subject": "user:alice", "role": "admin"}]);
    judged.world.change("Instance", "eem", json!({"ceiling": "Members", "members": members})).await.unwrap();
    let alice = super::hand(&judged, "alice", json!([])).await;
    alice.may_on("assign", "roles", "eem:admin").await;
    let create = |name| ["create", name, "--role", "admin", "--timeout", "2m"];
    // The Instance has no status yet, so the command cannot know that the operator grants nothing.
    let operator = async {
        judged.world.eventually("the token exists", async || judged.token("early").await.map(|_| ())).await;
        let client = judged.world.plane.client_for(&judged.world.identities.operator);
        judged.world.operator_with(client, &Held::default(), |options| options.grants = false).await
    };
    let (early, _operator) = tokio::join!(async { alice.tokenry(&create("early")).await }, operator);
    let advice = |name| format!("\n  kubectl tokenry grant user:alice --read {name} -n {} --apply\n", alice.home());
    let told = "the value is not printed, as the operator gives owners no right to it: you may not get secrets in";
    assert!(early.failed(4).contains(told) && early.err.ends_with(&advice("early")), "{early:?}");
    let created = format!("ApiToken early was created: `kubectl tokenry status early -n {}`", alice.home());
    assert!(early.err.contains(&created), "{early:?}");
    let late = alice.tokenry(&create("late")).await;
    assert!(late.failed(4).contains("nothing was created: you may not get secrets in"), "{late:?}");
    assert!(late.err.ends_with(&advice("late")) && judged.token("late").await.is_none(), "{late:?}");
    grant(&judged, &late.err).await;
    assert!(alice.tokenry(&create("late")).await.well().starts_with("tkn_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_to_whom_the_operator_grants_each_value_sees_it_without_another_right() {
    let (judged, _operator) = setting("given").await;
    let members = json!([{"subject": "user:alice", "role": "admin"}]);
    judged.world.change("Instance", "eem", json!({"ceiling": "Members", "members": members})).await.unwrap();
    let alice = super::hand(&judged, "alice", json!([])).await;
    let create = ["create", "ci", "--once", "--role", "admin"];
    let created = async || Some(alice.tokenry(&create).await).filter(|done| done.code == 0);
    let created = judged.world.eventually("a member may give its role", created).await;
    assert_eq!(root(&judged).tokenry(&["show", "ci", "--claim", "--yes"]).await.well(), created.out);
    let gone = async || judged.world.value("ci").await.is_none().then_some(());
    judged.world.eventually("the Secret is gone", gone).await;
    // The operator takes the right back with the Secret, and gives it again with the next one.
    judged.world.await_right(false, &asking("alice", &[]), "get", ("secrets", ""), "ci").await;
    let shown = alice.tokenry(&["rotate", "ci", "--show"]).await;
    assert_eq!(Some(shown.well().trim()), judged.world.value("ci").await.as_deref());
}

#[tokio::test]
async fn a_value_that_was_replaced_since_it_was_read_is_not_claimed_and_another_change_of_its_secret_is_no_matter() {
    let (judged, _operator) = setting("stale").await;
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:x", "secret": {"delivery": "Once"}});
    judged.world.accepts("ApiToken", "ci", spec).await;
    judged.world.eventually("the value is there", async || judged.world.value("ci").await).await;
    let (desk, home) = (Desk::new(judged.world.client.clone(), |_| Box::new(())), &judged.world.namespace);
    let seen = desk.value(home, "ci").await.unwrap().unwrap();
    judged.world.change("ApiToken", "ci", json!({"regenerate": {"id": "x"}})).await.unwrap();
    judged.world.await_generation("ci", 2).await;
    assert_eq!(desk.claim(home, &seen, &seen.id().unwrap()).await.unwrap_err().why, Why::Stale);
    let now = desk.value(home, "ci").await.unwrap().unwrap();
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    judged.world.api::<Secret>().patch("ci", &PatchParams::default(), &label).await.unwrap();
    desk.claim(home, &now, &now.id().unwrap()).await.unwrap();
    judged.world.eventually("it is claimed", async || judged.world.value("ci").await.is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_does_not_exist_is_told_before_anything_is_written() {
    let (judged, _operator) = setting("policies").await;
    let alice = super::hand(&judged, "alice", super::secrets()).await;
    judged.world.accepts("Instance", "other", json!({})).await;
    let readers = |of: &str| json!({"instanceRef": {"name": of}, "members": [], "statements": [{"effect": "Allow", "actions": ["api:read"]}]});
    for (name, of) in [("readers", "eem"), ("foreign", "other")] {
        root(&judged).create("AccessPolicy", name, readers(of)).await.unwrap();
    }
    alice.tokenry(&["create", "ci", "--instance", "eem"]).await.well();
    for (name, at) in
        [("none", "spec.policies[0]: there is no AccessPolicy none of Instance "), ("foreign", "foreign of")]
    {
        let refused = alice.tokenry(&["set", "policies", "ci", name]).await;
        assert!(refused.failed(5).contains("nothing was changed: ") && refused.err.contains(at), "{refused:?}");
    }
    let refused = alice.tokenry(&["create", "new", "--instance", "eem", "--policy", "none"]).await;
    assert!(
        refused.failed(5).contains("nothing was created: spec.policies[0]: there is no AccessPolicy none"),
        "{refused:?}"
    );
    assert!(judged.token("new").await.is_none() && judged.token("ci").await.unwrap().spec.policies.is_empty());
    alice.may_on("assign", "policies", "eem:readers").await;
    alice.tokenry(&["set", "policies", "ci", "readers"]).await.well();
    alice.tokenry(&["set", "policies", "ci", ""]).await.well();
}
