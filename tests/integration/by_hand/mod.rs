//! The commands by which users keep their tokens, as users with just enough rights and with too few.

mod before;
mod check;
mod completion;
mod connection;
mod explain;
mod lint;
mod looking;
mod rights;
mod sarif;
mod scan;
mod terminal;
mod watch;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tokenry::outside::{Clock, SystemClock};

use crate::harness::{
    clock::Held,
    judged::{Judged, User},
    run::Running,
};

/// A namespace with an Instance `eem`, and an operator.
async fn setting(name: &str) -> (Judged, Running) {
    let judged = Judged::new(name).await;
    let operator = judged.world.operator(&Held::default()).await;
    (judged, operator)
}

/// A user who reads and writes all kinds of tokenry.dev, with these further rights.
async fn hand<'a>(judged: &'a Judged, name: &str, rules: Value) -> User<'a> {
    let user = judged.user(name, &[]).await;
    if rules != json!([]) {
        user.may(rules).await;
    }
    user
}

/// The right to read the Secrets of the namespace.
fn secrets() -> Value {
    json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "patch"]}])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_created_shown_rotated_revoked_and_deleted_by_hand() {
    let (judged, _operator) = setting("hand").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let created = alice.tokenry(&["create", "ci", "--description", "nightly export", "--expires", "30d"]).await;
    let value = created.well().strip_suffix('\n').unwrap().to_owned();
    assert_eq!(Some(&value), judged.world.value("ci").await.as_ref(), "standard output has the value and nothing else");
    assert!(created.err.contains("this value expires ") && created.err.contains("(in 30d)"), "{created:?}");
    assert!(created.err.contains("kubectl tokenry show ci"), "{created:?}");
    assert_eq!(alice.tokenry(&["show", "ci"]).await.well(), format!("{value}\n"));
    let told = alice.tokenry(&["verify", &value]).await;
    assert!(told.failed(2).contains("give the value on standard input") && !told.err.contains(&value), "{told:?}");
    let again = alice.tokenry(&["create", "ci"]).await;
    assert!(again.failed(4).contains("exists already; choose another name, or rotate it"), "{again:?}");
    let list = alice.tokenry(&["list", "--mine"]).await;
    let row = list.well().lines().nth(1).unwrap();
    for word in ["ci", "yes", "Active", "user:alice", "in 30d"] {
        assert!(row.contains(word), "{word}: {list:?}");
    }
    let unsure = alice.tokenry(&["rotate", "ci", "--previous", "119s"]).await;
    assert!(unsure.failed(2).contains("Rotate ci? This needs an answer, but"), "no Pod reads it in time: {unsure:?}");
    let unsure = alice.tokenry(&["rotate", "ci", "--previous", "0s"]).await;
    assert!(unsure.failed(2).contains("Rotate ci? This needs an answer, but"), "{unsure:?}");
    assert!(unsure.err.contains("ci gets a new value; the present value ends at once"), "{unsure:?}");
    let rotated = alice.tokenry(&["rotate", "ci", "--previous", "0s", "--show", "--yes"]).await;
    let second = rotated.well().trim().to_owned();
    assert_ne!(second, value);
    assert!(rotated.err.contains("generation 2 is published; no previous value works any more"), "{rotated:?}");
    let before = alice.tokenry_reading(&value, &["verify"]).await;
    assert!(before.code == 1 && before.out.contains("refused: 401 Expired"), "it was superseded: {before:?}");
    let unknown = tokenry::token::format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
    let unseen = alice.tokenry_reading(unknown.expose(), &["verify"]).await;
    let told = unseen.failed(4);
    assert!(told.contains("there is no verdict") && told.contains("you may not list apitokens"), "{told}");
    let advice =
        "an administrator lets you look there by:\n  kubectl tokenry grant user:alice --view -n NAMESPACE --apply\n";
    assert!(told.ends_with(advice), "{told}");
    let root = judged.stranger("root", &["system:masters"]);
    let cut = &unknown.expose()[1..];
    let odd = "or its checksum is wrong: it was cut or mistyped, or is of no token";
    for (value, verdict, why) in [
        (unknown.expose(), "refused: 401 Unknown", "no ApiToken in any namespace"),
        ("no-token", "refused: 401 Malformed", odd),
        (cut, "refused: 401 Malformed", odd),
    ] {
        let judged = root.tokenry_reading(value, &["verify"]).await;
        assert!(judged.code == 1 && judged.out.contains(verdict) && judged.out.contains(why), "{verdict}: {judged:?}");
    }
    let later = alice.tokenry(&["rotate", "ci", "--previous", "2h", "--wait"]).await;
    let superseded = alice.tokenry_reading(&second, &["verify"]).await;
    assert!(superseded.well().ends_with("allowed: 200 Allowed\n"), "{superseded:?}");
    assert!(later.well().is_empty() && later.err.contains("the previous value works until "), "{later:?}");
    let page = alice.tokenry(&["status", "ci"]).await;
    for text in ["√ Valid=True Rotating", "√ 3 Active", "nightly export", "Owner:         user:alice"] {
        assert!(page.well().contains(text), "{text}: {page:?}");
    }
    // The advice counts whatever namespace the next command would take.
    alice.tokenry(&["suspend", "ci"]).await.well();
    let idle = alice.tokenry_reading(&second, &["verify"]).await;
    let resume = format!("next: resume the token: kubectl tokenry resume ci -n {}\n", judged.world.namespace);
    assert!(idle.code == 1 && idle.out.contains(&resume), "{idle:?}");
    assert_eq!(alice.tokenry(&["resume", "ci"]).await.err, "ci: resumed\n");
    let again = alice.tokenry(&["resume", "ci"]).await;
    assert!(again.well().is_empty() && again.err == "spec.active is true already: ci\n", "{again:?}");
    let unsure = alice.tokenry(&["revoke", "ci"]).await;
    assert!(unsure.failed(2).contains("there is no terminal to ask at; give --yes"), "{unsure:?}");
    assert!(unsure.err.contains("is refused at once, and for good"), "{unsure:?}");
    assert!(alice.tokenry(&["revoke", "ci", "--yes", "--reason", "Compromised"]).await.err.contains("ci: revoked"));
    judged.world.await_reason("ci", "Revoked").await;
    let gone = alice.tokenry(&["show", "ci"]).await;
    assert!(gone.failed(5).contains("shows no value"), "{gone:?}");
    for command in ["resume", "suspend", "rotate"] {
        let late = alice.tokenry(&[command, "ci"]).await;
        let another = format!("`kubectl tokenry create NAME -n {}` makes a token of another name", alice.home());
        let advice = format!("tokenry: ci is revoked, and that is final; {another}\n");
        assert_eq!(late.failed(5), advice);
    }
    let refused = alice.tokenry_reading(&second, &["verify"]).await;
    assert!(refused.out.contains("next: create a token of another name, or delete this one first\n"), "{refused:?}");
    let again = alice.tokenry(&["create", "ci"]).await;
    assert!(again.failed(4).replace('\n', " ").contains("delete it first if it is revoked"), "{again:?}");
    let wrong = alice.tokenry(&["delete", "ci", "--confirm", "ci"]).await;
    assert!(wrong.failed(2).contains("nightly export"), "{wrong:?}");
    assert!(alice.tokenry(&["delete", "ci", "--confirm", "nightly export"]).await.err.contains("ci: deleted"));
    judged.world.eventually("it is gone", async || judged.token("ci").await.is_none().then_some(())).await;
    assert!(alice.tokenry(&["status", "ci"]).await.failed(5).contains("does not exist"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_token_has_forgotten_is_unknown_and_the_reason_is_said() {
    let (judged, _operator) = setting("forgotten").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let first = alice.tokenry(&["create", "ci"]).await.well().trim().to_owned();
    for _ in 0..3 {
        alice.tokenry(&["rotate", "ci", "--previous", "0s", "--wait", "--yes"]).await.well();
    }
    let forgotten = async || {
        let records = judged.token("ci").await?.status?.records;
        records.iter().all(|record| record.generation > 1).then_some(())
    };
    judged.world.eventually("the first value is forgotten", forgotten).await;
    let why = "a token keeps the records of its last two values that expired";
    let unseen = alice.tokenry_reading(&first, &["verify"]).await;
    let told = unseen.failed(4);
    for part in ["there is no verdict", &format!("in this namespace, the answer is 401 Unknown: {why}; if it is in")] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let known = judged.stranger("root", &["system:masters"]).tokenry_reading(&first, &["verify"]).await;
    assert!(known.code == 1 && known.out.contains("refused: 401 Unknown") && known.out.contains(why), "{known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_says_until_when_the_previous_value_works() {
    let (judged, _operator) = setting("until").await;
    let alice = hand(&judged, "alice", secrets()).await;
    alice.tokenry(&["create", "ci"]).await.well();
    let plan = alice.tokenry(&["plan", "rotate", "ci"]).await;
    let told = plan.well().lines().next().unwrap();
    assert!(told.contains("the present value works until 20") && told.contains("(in 24h) at the latest"), "{told}");
    let asked = async |user: &User<'_>, args: &[&str]| user.tokenry(&[&["rotate", "ci"], args].concat()).await.err;
    let told = asked(&alice, &[]).await;
    assert!(told.contains("the previous value works for 24h at most, once the new one is published"), "{told}");
    let told = asked(&alice, &["--previous", "2h"]).await;
    assert!(told.contains("the previous value works for 2h at most"), "{told}");
    let day = (SystemClock.now() + SignedDuration::from_hours(72)).strftime("%Y-%m-%d").to_string();
    let told = asked(&alice, &["--previous", &day]).await;
    assert!(told.contains(&format!("the previous value works until {day}T00:00:00Z")), "{told}");
    let too_late = alice.tokenry(&["rotate", "ci", "--previous", "2999-01-01"]).await;
    assert!(too_late.failed(2).contains("must not be later than the Instance's maximum overlap, 7d"), "{too_late:?}");
    let dora = judged.stranger("dora", &[]);
    let rights = json!(["get", "patch"]);
    dora.may(json!([{"apiGroups": ["tokenry.dev"], "resources": ["apitokens"], "verbs": rights}])).await;
    dora.may_on("assign", "owners", "user:alice").await;
    let told = asked(&dora, &[]).await;
    assert!(told.contains("the previous value works until its overlap is over"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_ends_the_oldest_of_three_values_says_so_before() {
    let (judged, _operator) = setting("oldest").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let first = alice.tokenry(&["create", "ci"]).await.well().trim().to_owned();
    let ends = "value 1 of ci ends at once, and not 20";
    for _ in 0..2 {
        let plan = alice.tokenry(&["plan", "rotate", "ci"]).await;
        assert!(!plan.well().contains(ends), "{plan:?}");
        let rotated = alice.tokenry(&["rotate", "ci", "--wait"]).await;
        assert!(rotated.well().is_empty() && !rotated.err.contains(ends), "{rotated:?}");
    }
    let plan = alice.tokenry(&["plan", "rotate", "ci"]).await;
    assert!(plan.well().contains(ends) && plan.out.contains("at most three values"), "{plan:?}");
    let plan: Value =
        serde_json::from_str(alice.tokenry(&["plan", "rotate", "ci", "-o", "json"]).await.well()).unwrap();
    assert_eq!(plan["endsAtOnce"]["generation"], 1);
    assert!(alice.tokenry_reading(&first, &["verify"]).await.well().ends_with("allowed: 200 Allowed\n"));
    let rotated = alice.tokenry(&["rotate", "ci", "--previous", "2h", "--wait"]).await;
    assert!(rotated.well().is_empty() && rotated.err.contains(ends), "{rotated:?}");
    let earlier = rotated.err.lines().find(|line| line.starts_with("value 2 of ci ends at 20"));
    assert!(earlier.is_some_and(|told| told.contains(" too, and not 20")), "a date ends all older values: {rotated:?}");
    let ended = alice.tokenry_reading(&first, &["verify"]).await;
    assert!(ended.code == 1 && ended.out.contains("refused: 401 Expired"), "{ended:?}");
    let restart = json!([{"kind": "Deployment", "name": "w"}]);
    judged.world.change("ApiToken", "ci", json!({ "restart": restart })).await.unwrap();
    for (change, ends, restarts) in [
        ("rotate", json!(2), json!(["Deployment/w"])),
        ("suspend", json!(null), json!([])),
        ("revoke", json!(null), json!([])),
    ] {
        let plan = alice.tokenry(&["plan", change, "ci", "-o", "json"]).await;
        let plan: Value = serde_json::from_str(plan.well()).unwrap();
        let told = (&plan["change"], &plan["endsAtOnce"]["generation"], &plan["restarts"]);
        assert_eq!(told, (&json!(change), &ends, &restarts), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_changes_fields_and_suspends_and_resumes() {
    let (judged, _operator) = setting("fields").await;
    judged.world.change("Instance", "eem", json!({"api": {"projectFrom": {"header": "X-Project"}}})).await.unwrap();
    let alice = hand(&judged, "alice", secrets()).await;
    alice.tokenry(&["create", "ci"]).await.well();
    for (field, value, path) in [("name", "Exporter", "displayName"), ("description", "exports", "description")] {
        alice.tokenry(&["set", field, "ci", value]).await.well();
        let token = judged.token("ci").await.unwrap();
        assert_eq!(json!(token.spec)[path], value);
    }
    let set = async |args: &[&str]| {
        let done = alice.tokenry(&[&["set"], args].concat()).await;
        done.well();
        done.err
    };
    assert_eq!(set(&["description", "ci", "exports"]).await, "ci: unchanged: description is exports already\n");
    let rehearsed = set(&["description", "ci", "all topics", "--dry-run"]).await;
    assert!(rehearsed.ends_with("ci, without --dry-run: description exports -> \"all topics\"\n"), "{rehearsed}");
    assert_eq!(set(&["projects", "ci", "a,b"]).await, "ci: projects (unset) -> a,b\n");
    assert_eq!(json!(judged.token("ci").await.unwrap().spec)["projects"], json!(["a", "b"]));
    // Without projects, the token may act in all of them.
    alice.may_on("assign", "roles", "eem:*").await;
    alice.tokenry(&["set", "projects", "ci", ""]).await.well();
    let rehearsed = alice.tokenry(&["suspend", "ci", "--dry-run"]).await;
    assert!(rehearsed.err.contains("nothing was changed") && judged.token("ci").await.unwrap().spec.active);
    alice.tokenry(&["suspend", "ci"]).await.well();
    judged.world.await_reason("ci", "Suspended").await;
    assert!(alice.tokenry(&["list"]).await.well().contains("Suspended"));
    alice.tokenry(&["resume", "--all"]).await.well();
    judged.world.await_reason("ci", "Active").await;
    let refused = alice.tokenry(&["transfer", "ci", "--to", "user:bob"]).await;
    let told = refused.failed(4);
    assert!(told.contains("may not assign") && told.contains("user:bob"), "{told}");
    alice.may_on("assign", "owners", "user:bob").await;
    let given = alice.tokenry(&["transfer", "ci", "--to", "user:bob"]).await;
    let rotate = format!("`kubectl tokenry rotate --previous 0s ci -n {}`", alice.home());
    let told = format!(
        "ci: owner user:alice -> user:bob\nits value is the same, and its former owner may know it; {rotate} replaces it\n"
    );
    assert_eq!((given.well(), &given.err), ("", &told));
    assert!(alice.tokenry(&["list", "--mine"]).await.err.contains("no ApiToken matches"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_too_few_rights_is_told_which_and_creates_nothing() {
    let (judged, _operator) = setting("few").await;
    let carl = hand(&judged, "carl", json!([])).await;
    let refused = carl.tokenry(&["create", "ci", "--admin"]).await;
    let told = refused.failed(4);
    assert!(
        told.contains("carl may not assign roles.tokenry.dev/eem:admin") || told.contains("may not assign"),
        "{told}"
    );
    assert!(judged.token("ci").await.is_none());
    let dry = carl.tokenry(&["create", "ci", "--dry-run", "-o", "yaml"]).await;
    assert!(dry.well().contains("kind: ApiToken") && judged.token("ci").await.is_none(), "{dry:?}");
    for of_the_cluster in ["managedFields", "uid", "creationTimestamp", "status"] {
        assert!(!dry.out.contains(of_the_cluster), "it can be applied elsewhere: {dry:?}");
    }
    let unread = carl.tokenry(&["create", "ci"]).await;
    let told = unread.failed(4);
    assert!(told.contains("nothing was created: you may not get secrets in namespace"), "{told}");
    assert!(judged.token("ci").await.is_none(), "a value that nobody sees is not made");
    let none = carl.tokenry(&["create", "other", "--instance", "none"]).await;
    assert!(none.failed(5).contains("Instance") && none.err.contains("does not exist"), "{none:?}");
    for (args, said) in [
        (&["create", "x", "--expires", "soon"][..], "a duration such as 30d or 12h, a date such as"),
        (&["create", "x", "--expires", "2020-01-01"], "the time is over"),
        (&["rotate"], "<NAMES|--selector <LABELS>|--all>"),
        (&["explain"], "<TOKEN|--instance <INSTANCE>>"),
        (&["revoke", "ci", "--all"], "cannot be used with"),
        (&["show", "ci", "--context", "nowhere"], "--context nowhere: the kubeconfig has no such context"),
        (&["show", "ci", "--kubeconfig", "/nowhere"], "--kubeconfig /nowhere: the file does not exist"),
    ] {
        let done = carl.tokenry(args).await;
        assert!((2..=3).contains(&done.code) && done.err.contains(said), "{args:?}: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_shown_once_is_claimed_by_hand() {
    let (judged, _operator) = setting("claimed").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let created = alice.tokenry(&["create", "ci", "--once"]).await;
    assert!(created.well().starts_with("tkn_") && created.err.contains("this value is shown once"), "{created:?}");
    let unsure = alice.tokenry(&["show", "ci", "--claim"]).await;
    assert!(unsure.failed(2).contains("give --yes"), "{unsure:?}");
    let claimed = alice.tokenry(&["show", "ci", "--claim", "--yes"]).await;
    assert_eq!(claimed.well(), created.out);
    judged
        .world
        .eventually("the Secret is gone", async || judged.world.value("ci").await.is_none().then_some(()))
        .await;
    for args in [&["show", "ci"][..], &["show", "ci", "--claim"]] {
        let gone = alice.tokenry(args).await;
        assert!(gone.failed(5).contains("shows no value"), "{args:?}: {gone:?}");
        assert!(!gone.err.contains("Claim the value"), "nothing is asked: {gone:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_cannot_come_is_told_at_once_with_the_next_step() {
    let (judged, _operator) = setting("halted").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let account = json!({"instanceRef": {"name": "eem"}, "owner": "user:alice", "role": "viewer"});
    judged.world.accepts("ServiceAccount", "bot", account).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:alice", "serviceAccountRef": {"name": "bot"}});
    judged.world.accepts("ApiToken", "by-bot", spec).await;
    alice.tokenry(&["create", "ci"]).await.well();
    alice.tokenry(&["suspend", "ci", "ci"]).await.well();
    let resume = format!("ci is suspended, and gets a new value after `kubectl tokenry resume ci -n {}`", alice.home());
    for flag in ["--wait", "--show"] {
        let halted = alice.tokenry(&["rotate", "ci", flag]).await;
        assert!(halted.failed(9).contains(&resume) && halted.err.contains("nothing was changed"), "{halted:?}");
    }
    assert!(judged.token("ci").await.unwrap().spec.regenerate.is_none());
    let later = alice.tokenry(&["rotate", "ci"]).await;
    assert!(later.well().is_empty() && later.err.contains(&resume), "{later:?}");
    alice.tokenry(&["resume", "ci"]).await.well();
    let second = async || (judged.token("ci").await?.status?.last_generation == Some(2)).then_some(());
    judged.world.eventually("the new value comes with the resumption", second).await;
    judged.world.await_reason("by-bot", "Active").await;
    judged.world.change("ServiceAccount", "bot", json!({"active": false})).await.unwrap();
    judged.world.await_reason("by-bot", "AccountSuspended").await;
    let halted = alice.tokenry(&["rotate", "by-bot", "--wait"]).await;
    assert!(halted.failed(9).contains("set spec.active of that ServiceAccount"), "{halted:?}");
    judged.world.delete("Instance", "eem").await;
    judged.world.await_reason("ci", "InstanceMissing").await;
    let halted = alice.tokenry(&["rotate", "ci", "--wait"]).await;
    assert!(halted.failed(9).contains("create that Instance again"), "{halted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_each_form_and_only_the_tokens_that_are_asked_for() {
    let (judged, _operator) = setting("listed").await;
    let alice = hand(&judged, "alice", secrets()).await;
    alice.tokenry(&["create", "soon", "--expires", "10d"]).await.well();
    let obeyed = "exports\u{9b}2J \u{202e}topics";
    alice.tokenry(&["create", "late", "--expires", "30d", "--description", obeyed]).await.well();
    let names = async |more: &[&str]| {
        let done = alice.tokenry(&[&["list", "--output", "name"], more].concat()).await;
        done.well().to_owned()
    };
    let both = "apitoken/late\napitoken/soon\n";
    assert_eq!(names(&[]).await, both);
    assert_eq!(names(&["--instance", "eem", "--organization", "eem"]).await, both);
    assert_eq!(names(&["--expiring", "14d"]).await, "apitoken/soon\n");
    for none in [["--unused", "1d"], ["--instance", "x"], ["--organization", "x"], ["--selector", "a=b"]] {
        assert_eq!(names(&none).await, "", "{none:?}");
    }
    let wide = alice.tokenry(&["list", "--output", "wide"]).await;
    for heading in ["INSTANCE", "ACCOUNT", "SECRET", "AGE", "DESCRIPTION"] {
        assert!(wide.well().contains(heading), "{heading}: {wide:?}");
    }
    let printed = alice.tokenry(&["list", "--output", "json"]).await;
    let json: Value = serde_json::from_str(printed.well()).unwrap();
    assert_eq!((&json["kind"], &json["items"][0]["metadata"]["name"]), (&json!("List"), &json!("late")));
    assert_eq!(json["items"][0]["spec"]["description"], obeyed);
    let yaml = alice.tokenry(&["list", "--output", "yaml"]).await;
    assert_eq!(yaml.well().matches("kind: ApiToken").count(), 2);
    for done in [&wide, &printed, &yaml] {
        assert!(!done.out.contains(['\u{9b}', '\u{202e}']), "{done:?}");
    }
    let everywhere = alice.tokenry(&["list", "--all-namespaces"]).await;
    let advice = "you may not list apitokens.tokenry.dev in all namespaces; an administrator allows it by:\n  \
                  kubectl create clusterrolebinding tokenry-view-alice --clusterrole tokenry-view --user alice\n";
    assert!(everywhere.failed(4).ends_with(advice), "{everywhere:?}");
    let root = judged.stranger("root", &["system:masters"]);
    let row = root.tokenry(&["list", "-A", "--output", "wide"]).await;
    let here = row.well().lines().any(|line| line.starts_with(alice.home()) && line.contains(" late "));
    assert!(here && row.out.starts_with("NAMESPACE"), "{row:?}");
}
