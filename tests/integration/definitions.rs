//! The definitions: that the committed ones are the generated ones, every rule of them, and what kubectl shows.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tokenry::{
    crd::{
        ApiToken,
        api_token::ApiTokenStatus,
        definition::Definitions,
        keys,
        name::ObjectNameForm,
        permission::{
            ActionForm, ActionPatternForm, AuthSchemeForm, DefaultRoleForm, HeaderNameForm, ListedOrganizationForm,
            MethodForm, PathPatternForm, RoleNameForm, ScopeNameForm,
        },
        subject::{FormerOwnerForm, PolicyMemberForm, SubjectForm, TeamNameForm, UserNameForm},
        text::Form as _,
    },
    token::{duration, moment},
};

use crate::{
    durations,
    harness::{World, clock::Held, message, root},
};

const NAME: &str = ObjectNameForm::RULE;

/// Texts that obey a rule, and texts that break it and no other.
pub type Form = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Every rule on a text that the definitions have.
pub const FORMS: [Form; 20] = [
    (
        duration::RULE,
        &["45s", "30m", "24h", "365d", "99999d"],
        &["", "0", "0s", "-1d", "+1d", "10x", "10", "d", "1.5h", "01d", "1d1h", " 1d", "1d ", "1D"],
    ),
    (duration::DELAY_RULE, &["0s", "0h0m", "2h", "7d"], &["", "0d", "soon", "-1s"]),
    (moment::RULE, &["2030-01-01T00:00:00Z"], &["9999-12-31T23:59:59Z"]),
    (
        NAME,
        &["eem", "9lives", "ci.example", "a--b"],
        &["Eem", "a_b", "-a", "a-", "a..b", ".a", "a.", "a b", "é", "a/b", "a\n"],
    ),
    (SubjectForm::RULE, &["user:Alice Smith", "account:ci/a"], &["alice", "user:*", "robot:a", "token:a/b", "team:-a"]),
    (PolicyMemberForm::RULE, &["token:ci/*", "user:*"], &["alice", "group:*", "serviceaccount:a/*", "robot:a"]),
    (UserNameForm::RULE, &["alice@example.com", "José Núñez"], &["*", "a\r"]),
    (TeamNameForm::RULE, &["platform", "A.b_c-1"], &["-a", "a b", "é"]),
    (RoleNameForm::RULE, &["contributor", "1-a"], &["Admin", "a_b", "-a", "a b"]),
    (DefaultRoleForm::RULE, &["Owner", "contributor", "1-a"], &["owners_", "Admin", "Owner2", "-a", "a b"]),
    (
        FormerOwnerForm::RULE,
        &["user:Alice Smith", "serviceaccount:ci/bot"],
        &["alice", "user:*", "group:ops", "team:a", "account:ci/a", "token:a/b", "serviceaccount:a"],
    ),
    (ScopeNameForm::RULE, &["eem", "Acme_Corp.EU-1", "7"], &["a b", "-a", "a-", ".", "a/b", "é", "a\n", "_"]),
    (ListedOrganizationForm::RULE, &["eem", "Acme_Corp.EU-1", "*"], &["**", "a*", "a b", "-a", "a/b", "é", "a\n"]),
    (ActionForm::RULE, &["clusters:create", "a:b:c:d"], &["read", "a:", ":a", "A:b", "a:*", "a:b:c:d:e"]),
    (ActionPatternForm::RULE, &["clusters:*", "*:read", "*"], &["**", "a*:b", "read", "*:", "A:*"]),
    (MethodForm::RULE, &["POST"], &["post", "PO ST"]),
    (PathPatternForm::RULE, &["/", "/**", "/a/*/b", "/a/**"], &["eem", "/eem/", "/a//b", "/**/a", "/a*", "/a?b", "/é"]),
    (HeaderNameForm::RULE, &["X-Key", "a"], &["X_Key", "X Key", "-x", "X:"]),
    (AuthSchemeForm::RULE, &["Bearer", "Api-Key"], &["Bearer ", "a b", "é"]),
    (PREFIX, &["eem", "t2"], &["2a", "A", "a-b", "a_b", "é", "a "]),
];

const PREFIX: &str = "must be a lower-case letter, then up to 15 lower-case letters or digits, such as shop";

/// Rules on keys of maps: their messages are constants, by which a test names them.
const OF_KEYS: [(&str, &str); 6] = [
    ("keys::DATA_RULE", keys::DATA_RULE),
    ("keys::OURS_RULE", keys::OURS_RULE),
    ("keys::BINDING_RULE", keys::BINDING_RULE),
    ("keys::QUALIFIED_RULE", keys::QUALIFIED_RULE),
    ("keys::RESERVED_RULE", keys::RESERVED_RULE),
    ("keys::LABEL_RULE", keys::LABEL_RULE),
];

/// What a field needs around it, by the beginning of its path, besides the smallest spec of its kind.
fn parents() -> Vec<(&'static str, &'static str, Value)> {
    let listed = json!({"listed": ["a"]});
    let window = json!([{"cron": "0 3 * * *", "duration": "1h"}]);
    vec![
        ("ApiToken", "audiences", json!([{"name": "other"}])),
        ("ApiToken", "organizations", listed.clone()),
        ("ApiToken", "projects", json!(["a"])),
        ("ApiToken", "policies", json!(["a"])),
        ("ApiToken", "restart", json!([{"kind": "Deployment", "name": "a"}])),
        ("ApiToken", "rotation.windows", window.clone()),
        ("ApiToken", "regenerate", json!({"id": "leak"})),
        ("ServiceAccount", "organizations", listed.clone()),
        ("ServiceAccount", "projects", json!(["a"])),
        ("ServiceAccount", "policies", json!(["a"])),
        ("Instance", "organizations", json!(["a"])),
        ("Instance", "api.actions", json!([{"action": "a:b", "methods": ["GET"], "paths": ["/a"]}])),
        ("Instance", "api.excluded", json!([{"methods": ["GET"], "paths": ["/a"]}])),
        ("Instance", "api.unguarded", json!([{"methods": ["GET"], "paths": ["/a"]}])),
        ("Instance", "api.credentials", json!([{"header": "X-A", "scheme": "B"}])),
        ("Instance", "formerOwners", json!(["user:a"])),
        ("Instance", "members", json!([{"subject": "user:a", "role": "admin", "organizations": listed}])),
        ("Instance", "roles", json!([{"name": "viewer", "actions": ["*"]}])),
        ("Instance", "teams", json!([{"name": "platform", "users": ["a"]}])),
        ("Instance", "manager.networkPolicy.namespaces", json!(["a"])),
        ("Instance", "manager.endpoints.0.gateway.parentRefs", json!([{"name": "a"}])),
        ("Instance", "manager.endpoints.0.gateway.hostnames", json!(["a"])),
        ("Instance", "tokens.windows", window),
        ("AccessPolicy", "members", json!(["user:a"])),
        ("AccessPolicy", "statements.0.actions", json!(["*"])),
        ("AccessPolicy", "statements.0.projects", json!(["a"])),
    ]
}

/// The smallest spec of a kind that is valid with `value` in the field of this path. A list has one entry, `0`.
pub fn holding(kind: &str, path: &str, value: Value) -> Value {
    let around = parents().into_iter().filter(|(of, begins, _)| *of == kind && path.starts_with(begins));
    let mut spec = around.fold(smallest(kind), |spec, (_, begins, value)| with(spec, begins, value));
    if path == "tokens.defaultRole" {
        spec["ceiling"] = "Members".into();
    }
    if path == "secret.claimWithin" {
        spec["secret"]["delivery"] = "Once".into();
    }
    let endpoint = spec.pointer_mut("/manager/endpoints/0").and_then(Value::as_object_mut);
    match endpoint {
        Some(endpoint) if path.starts_with("manager.endpoints.0.gateway") => _ = endpoint.remove("ingress"),
        Some(endpoint) if path.starts_with("manager.endpoints.0.istio") => {
            endpoint.insert("guard".into(), "Istio".into());
        }
        _ => {}
    }
    if path.starts_with("statements.0.actions") {
        spec["statements"][0].as_object_mut().unwrap().remove("role");
    }
    with(spec, path, value)
}

/// A path as the API server writes it.
pub fn written(path: &str) -> String {
    format!("spec.{}", path.replace(".0", "[0]"))
}

/// A rule of the definitions: the kind, the path below `spec`, and whether it is on a text or about a change. Then
/// what is said where it is broken.
pub struct Ruled {
    pub kind: String,
    pub path: String,
    pub is_text: bool,
    pub is_change: bool,
    pub message: String,
    /// The path of the field that is named, below `path`.
    pub below: String,
}

impl Ruled {
    /// The path of the field that is named, as the API server writes it.
    pub fn at(&self) -> String {
        let path = if self.path.is_empty() { "spec".to_owned() } else { written(&self.path).replace(".*", "[a]") };
        format!("{path}{}", self.below)
    }
}

/// The schemas directly below that of `path`, each with its path: of fields, of the entries of a list, and of the
/// values under the free key `key`.
pub fn schemas_below<'a>(path: &str, schema: &'a Value, key: &str) -> Vec<(String, &'a Value)> {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let fields = schema["properties"].as_object().into_iter().flatten();
    let fields = fields.map(|(name, schema)| (below(name), schema));
    let others = [("0", "items"), (key, "additionalProperties")].map(|(name, keyword)| (below(name), &schema[keyword]));
    fields.chain(others.into_iter().filter(|(_, schema)| schema.is_object())).collect()
}

/// Every rule of the definitions of all kinds.
pub fn rules() -> Vec<Ruled> {
    fn within(kind: &str, path: &str, schema: &Value, found: &mut Vec<Ruled>) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let text = |field: &str| rule[field].as_str().unwrap_or_default().to_owned();
            found.push(Ruled {
                kind: kind.to_owned(),
                path: path.to_owned(),
                is_text: schema["type"] == "string",
                is_change: text("rule").contains("oldSelf"),
                message: text("message"),
                below: text("fieldPath"),
            });
        }
        for (path, schema) in schemas_below(path, schema, "*") {
            within(kind, &path, schema, found);
        }
    }
    let mut found = Vec::new();
    for definition in tokenry::crd::definitions() {
        let kind = definition.spec.names.kind.clone();
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        within(&kind, "", &schema["openAPIV3Schema"]["properties"]["spec"], &mut found);
    }
    found
}

/// The fields that hold a text under one of the rules of [`FORMS`], all of them but texts by key.
pub fn fields() -> Vec<Ruled> {
    rules().into_iter().filter(|rule| rule.is_text && !rule.path.contains('*')).collect()
}

/// The fields that have this rule.
fn fields_of(message: &str) -> Vec<Ruled> {
    let fields: Vec<_> = fields().into_iter().filter(|rule| rule.message == message).collect();
    assert!(!fields.is_empty(), "no field has the rule: {message}");
    fields
}

/// The smallest spec of a kind that has the parents of every field.
pub fn smallest(kind: &str) -> Value {
    match kind {
        "Instance" => json!({"manager": {
            "service": {"name": "eem"},
            "endpoints": [{"name": "admin", "host": "admin.example.com", "ingress": {}, "allowUnguarded": true}],
        }}),
        "AccessPolicy" => json!({
            "instanceRef": {"name": "eem"}, "statements": [{"effect": "Allow", "role": "viewer"}],
        }),
        _ => json!({"instanceRef": {"name": "eem"}}),
    }
}

/// `spec` with one field, named by its path, set.
pub fn with(mut spec: Value, path: &str, value: Value) -> Value {
    let field = path.split('.').fold(&mut spec, |at, key| match key.parse::<usize>() {
        Ok(index) => {
            if at.is_null() {
                *at = json!([null]);
            }
            &mut at[index]
        }
        Err(_) => &mut at[key],
    });
    *field = value;
    spec
}

/// A name that no object of this process has.
fn fresh() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("x{}", COUNT.fetch_add(1, Ordering::SeqCst))
}

/// Creates an object that has to be refused with this sentence about this field, also without the API server.
pub async fn refuses(world: &World, kind: &str, spec: Value, path: &str, sentence: &str) {
    let told = world.rejects(kind, &fresh(), spec.clone()).await;
    assert!(told.contains(&format!("{path}: ")) && told.contains(sentence), "{kind} {spec}: {told}");
    let offline = offline(kind, &spec);
    let is_rule = rules().iter().any(|rule| rule.message == sentence);
    // The API server writes the key of a map in one of two ways.
    let plain = |path: &str| path.replace('[', ".").replace(']', "");
    let same = |(at, message): &(String, String)| plain(at) == plain(path) && (!is_rule || message == sentence);
    assert!(offline.iter().any(same), "{kind} {spec}: {told}, but offline {offline:?}");
}

/// The faults of an object by its definition alone, without the API server: path and message.
fn offline(kind: &str, spec: &Value) -> Vec<(String, String)> {
    thread_local! { static DEFINITIONS: Definitions = Definitions::default(); }
    let metadata = json!({"name": "x", "namespace": "x"});
    let mut object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    let faults = DEFINITIONS.with(|definitions| {
        definitions.complete(&mut object);
        definitions.faults(&object)
    });
    faults.into_iter().map(|fault| (fault.path.into_owned(), fault.message)).collect()
}

/// Creates an object that has to be accepted, also without the API server.
pub async fn accepts(world: &World, kind: &str, spec: Value) -> String {
    assert_eq!(offline(kind, &spec), [], "{kind} {spec}");
    let name = fresh();
    world.create(kind, &name, spec.clone()).await.unwrap_or_else(|told| panic!("{kind} {spec} was refused: {told}"));
    name
}

/// Creates an object and changes it by a merge patch; what the server says to that is the answer.
async fn changed(world: &World, kind: &str, before: Value, patch: Value) -> Result<DynamicObject, String> {
    let name = accepts(world, kind, before).await;
    world.change(kind, &name, patch).await
}

/// A change that has to be refused with this sentence.
async fn keeps(world: &World, kind: &str, (before, patch): (Value, Value), sentence: &str) {
    match changed(world, kind, before.clone(), patch.clone()).await {
        Err(told) => assert!(told.contains(sentence), "{kind} {before} changed by {patch}: {told}"),
        Ok(_) => panic!("{kind} {before} could be changed by {patch}"),
    }
}

/// A change that has to be accepted.
async fn lets(world: &World, kind: &str, (before, patch): (Value, Value)) {
    let answer = changed(world, kind, before.clone(), patch.clone()).await;
    assert!(answer.is_ok(), "{kind} {before} changed by {patch}: {}", answer.unwrap_err());
}

/// The smallest token with more in it.
pub fn token(more: Value) -> Value {
    let mut spec = smallest("ApiToken");
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn files(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect()
}

#[test]
fn the_committed_definitions_are_those_that_the_program_prints() {
    let generated = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("definitions-{}", std::process::id()));
    fs::create_dir_all(&generated).unwrap();
    let dir = generated.to_str().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_tokenry")).args(["crds", "--dir", dir]).status().unwrap();
    assert!(done.success());
    let wanted = files(&generated);
    fs::remove_dir_all(&generated).unwrap();
    let names: Vec<_> = wanted.keys().collect();
    assert_eq!(
        names,
        [
            "accesspolicies.tokenry.dev.yaml",
            "apitokens.tokenry.dev.yaml",
            "instances.tokenry.dev.yaml",
            "serviceaccounts.tokenry.dev.yaml"
        ]
    );
    for dir in ["crds", "charts/tokenry/files/crds"] {
        let command = format!("cargo run -- crds --dir {dir}");
        let committed = files(&root().join(dir));
        let (there, expected): (Vec<_>, Vec<_>) = (committed.keys().collect(), wanted.keys().collect());
        assert_eq!(there, expected, "files in {dir}: remove what is not generated, then run `{command}`");
        for (name, text) in &wanted {
            assert!(committed[name] == *text, "{dir}/{name} is out of date: run `{command}`");
        }
    }
}

/// A default that a server adds within a list is a change to whoever applies the list again, for ever.
#[test]
fn nothing_within_a_list_has_a_default() {
    fn defaulted(at: &str, schema: &Value, within: bool, found: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                if within && fields.contains_key("default") && fields.contains_key("type") {
                    found.push(at.to_owned());
                }
                for (key, value) in fields {
                    defaulted(&format!("{at}.{key}"), value, within || key == "items", found);
                }
            }
            Value::Array(all) => all.iter().for_each(|value| defaulted(at, value, within, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (name, text) in files(&root().join("crds")) {
        let definition: Value = serde_saphyr::from_str(&text).unwrap();
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert!(spec.is_object(), "{name}");
        defaulted(&name, spec, false, &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_program_prints_what_it_writes_to_files() {
    let printed = Command::new(env!("CARGO_BIN_EXE_tokenry")).arg("crds").output().unwrap();
    assert!(printed.status.success());
    let files = files(&root().join("crds"));
    let mut documents: Vec<_> = str::from_utf8(&printed.stdout).unwrap().split("---\n").skip(1).collect();
    documents.sort_unstable();
    let mut written: Vec<_> = files.values().map(String::as_str).collect();
    written.sort_unstable();
    assert_eq!(documents, written);
}

#[tokio::test]
async fn a_duration_is_a_number_and_its_unit_in_every_field() {
    let world = World::new("durations").await;
    let fields = fields_of(duration::RULE);
    assert!(fields.iter().any(|field| field.kind == "ApiToken" && field.path == "expiry.after"));
    for Ruled { kind, path, .. } in fields {
        let field = written(&path);
        for (good, _) in durations::GOOD {
            accepts(&world, &kind, holding(&kind, &path, json!(good))).await;
        }
        for bad in durations::BAD {
            refuses(&world, &kind, holding(&kind, &path, json!(bad)), &field, duration::RULE).await;
        }
        let too_long = holding(&kind, &path, json!("1".repeat(32) + "s"));
        refuses(&world, &kind, too_long, &field, "Too long: may not be more than 32 bytes").await;
        refuses(&world, &kind, holding(&kind, &path, json!(10)), &field, "must be of type string").await;
    }
}

/// A duration of so many seconds, as cert-manager prints it.
fn of_seconds(seconds: i64) -> String {
    format!("{}h{}m{}s", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[tokio::test]
async fn the_rules_read_a_duration_as_the_program_does() {
    let world = World::new("seconds").await;
    let of = |default: &str, max: &str| json!({"tokens": {"lifetime": {"default": default, "max": max}}});
    for (text, seconds) in durations::GOOD {
        if seconds / 3_600 > 99_999 {
            continue;
        }
        accepts(&world, "Instance", of(text, &of_seconds(seconds))).await;
        accepts(&world, "Instance", of(&of_seconds(seconds), text)).await;
        let sentence = "default must not be longer than max";
        refuses(&world, "Instance", of(text, &of_seconds(seconds - 1)), "spec.tokens.lifetime", sentence).await;
    }
}

#[tokio::test]
async fn of_what_is_no_duration_its_own_rule_speaks_alone() {
    let world = World::new("alone").await;
    for (kind, spec) in [
        ("Instance", json!({"tokens": {"lifetime": {"default": "soon", "max": "1d"}}})),
        ("ApiToken", token(json!({"expiry": {"after": "soon"}, "rotation": {"overlap": "1h"}}))),
    ] {
        let told = world.rejects(kind, &fresh(), spec).await;
        assert_eq!(told.matches("Invalid value").count(), 1, "{told}");
        assert!(told.contains(duration::RULE), "{told}");
    }
}

/// Every description of a schema, with the schema that it is of.
fn described<'a>(at: &str, schema: &'a Value, found: &mut Vec<(String, &'a str, &'a Value)>) {
    match schema {
        Value::Object(fields) => {
            found.extend(schema["description"].as_str().map(|text| (at.to_owned(), text, schema)));
            fields.iter().for_each(|(key, value)| described(&format!("{at}.{key}"), value, found));
        }
        Value::Array(all) => all.iter().for_each(|value| described(at, value, found)),
        _ => {}
    }
}

#[test]
fn a_paragraph_is_one_line_and_each_duration_and_time_shows_its_form() {
    let (mut durations, mut times) = (0, 0);
    for (name, text) in files(&root().join("crds")) {
        let definition: Value = serde_saphyr::from_str(&text).unwrap();
        let mut found = Vec::new();
        described(&name, &definition["spec"]["versions"][0]["schema"], &mut found);
        assert!(found.len() > 20, "{name}");
        for (at, text, schema) in found {
            let ragged = text.replace("\n\n", "").contains('\n');
            assert!(!ragged, "{at}: {text}");
            let rules = schema["x-kubernetes-validations"].to_string();
            if rules.contains("whole days such as") {
                assert!(text.contains("`30m`") || text.contains("`90d`") || text.contains("`1h30m`"), "{at}: {text}");
                durations += 1;
            }
            if schema["format"] == "date-time" {
                assert!(text.ends_with("such as `2027-06-30T00:00:00Z`."), "{at}: {text}");
                times += 1;
            }
        }
    }
    assert!(durations >= fields_of(duration::RULE).len() && times > 10, "{durations} durations, {times} times");
}

#[tokio::test]
async fn kubectl_explains_a_paragraph_in_whole_lines() {
    let world = World::new("explain").await;
    let args = ["explain", "apitokens.spec.rotation.schedule.every", "--api-version", "tokenry.dev/v1alpha1"];
    let told = world.eventually("kubectl explains", async || world.plane.kubectl(&args).ok()).await;
    let lines: Vec<_> = told.lines().map(str::trim_end).collect();
    let start = lines.iter().position(|line| line.starts_with("DESCRIPTION")).unwrap();
    let paragraph = lines[start + 1..].iter().take_while(|line| !line.is_empty());
    let words = paragraph.flat_map(|line| line.split_whitespace()).collect::<Vec<_>>().join(" ");
    assert!(words.ends_with("hours, minutes and seconds such as `24h` or `1h30m`."), "{told}");
    let short = lines[start + 1..].iter().take_while(|line| !line.is_empty()).filter(|line| line.len() < 50);
    assert!(short.count() <= 1, "only the last line is short: {told}");
}

#[tokio::test]
async fn a_name_can_be_that_of_an_object_in_every_field() {
    let world = World::new("names").await;
    let fields = fields_of(NAME);
    assert!(fields.iter().any(|field| field.kind == "AccessPolicy" && field.path == "instanceRef.name"));
    for Ruled { kind, path, .. } in fields {
        let field = written(&path);
        accepts(&world, &kind, holding(&kind, &path, json!("a".repeat(253)))).await;
        let empty = holding(&kind, &path, json!(""));
        refuses(&world, &kind, empty, &field, "should be at least 1 chars long").await;
        let too_long = holding(&kind, &path, json!("a".repeat(254)));
        refuses(&world, &kind, too_long, &field, "Too long: may not be more than 253 bytes").await;
    }
}

#[tokio::test]
async fn every_text_of_a_form_obeys_its_rule_in_every_field() {
    let world = World::new("forms").await;
    for Ruled { kind, path, message, .. } in fields() {
        let form = FORMS.iter().find(|(rule, _, _)| *rule == message);
        let (_, good, bad) = form.unwrap_or_else(|| panic!("{kind} {path}: add its rule to FORMS: {message}"));
        for good in *good {
            accepts(&world, &kind, holding(&kind, &path, json!(good))).await;
        }
        for bad in *bad {
            refuses(&world, &kind, holding(&kind, &path, json!(bad)), &written(&path), &message).await;
        }
    }
}

#[test]
fn every_rule_on_more_than_a_text_has_a_test_that_reads_its_message() {
    // The tables above say no more than that a rule is there.
    let (_, tests) = include_str!("definitions.rs").split_once("#[tokio::test]").unwrap();
    let tests = tests.split('\\').map(str::trim_start).collect::<String>();
    for Ruled { kind, path, message, is_text, .. } in rules() {
        let named = OF_KEYS.iter().find(|(_, rule)| *rule == message).map_or(&*message, |(name, _)| name);
        let by_form = is_text && !path.contains('*');
        assert!(by_form || tests.contains(named), "{kind} {path}: no test reads: {message}");
    }
}

#[tokio::test]
async fn a_choice_is_made_once() {
    let world = World::new("choices").await;
    let scope = "give exactly one of all: true and listed";
    for (kind, path) in
        [("ApiToken", "organizations"), ("ServiceAccount", "organizations"), ("Instance", "members.0.organizations")]
    {
        for bad in [json!({}), json!({"all": false}), json!({"all": true, "listed": []})] {
            refuses(&world, kind, holding(kind, path, bad), &written(path), scope).await;
        }
        accepts(&world, kind, holding(kind, path, json!({"all": true}))).await;
        accepts(&world, kind, holding(kind, path, json!({"listed": []}))).await;
    }
    let place = "give exactly one of header and pathSegment";
    for path in ["api.organizationFrom", "api.projectFrom"] {
        for bad in [json!({}), json!({"header": "X-A", "pathSegment": 1})] {
            refuses(&world, "Instance", holding("Instance", path, bad), &written(path), place).await;
        }
        accepts(&world, "Instance", holding("Instance", path, json!({"pathSegment": 1}))).await;
    }
    let statement = "give exactly one of role and actions";
    for bad in [json!({"effect": "Deny"}), json!({"effect": "Deny", "role": "viewer", "actions": ["*"]})] {
        let spec = holding("AccessPolicy", "statements.0", bad);
        refuses(&world, "AccessPolicy", spec, "spec.statements[0]", statement).await;
    }
}

#[tokio::test]
async fn the_role_of_the_owner_is_the_default_only_where_members_say_which_it_holds() {
    let world = World::new("default-role").await;
    let sentence = "tokens.defaultRole: Owner needs ceiling: Members, as members say which roles an owner holds; name a role, or set ceiling";
    let of = |role: &str, ceiling: &str| json!({"ceiling": ceiling, "tokens": {"defaultRole": role}});
    let left_out = json!({"tokens": {"defaultRole": "Owner"}});
    for spec in [of("Owner", "None"), left_out] {
        refuses(&world, "Instance", spec, "spec.tokens.defaultRole", sentence).await;
    }
    keeps(&world, "Instance", (of("Owner", "Members"), json!({"ceiling": "None"})), sentence).await;
    for spec in [of("Owner", "Members"), of("viewer", "Members"), of("viewer", "None")] {
        accepts(&world, "Instance", spec).await;
    }
}

#[tokio::test]
async fn owners_that_have_left_are_a_set_of_at_most_1024() {
    let world = World::new("former").await;
    let listed = |count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("user:{n:0>253}")).collect();
        json!({ "formerOwners": names })
    };
    accepts(&world, "Instance", listed(1024)).await;
    refuses(&world, "Instance", listed(1025), "spec.formerOwners", "must have at most 1024 items").await;
    let twice = json!({"formerOwners": ["user:a", "user:a"]});
    refuses(&world, "Instance", twice, "spec.formerOwners[1]", "Duplicate value").await;
}

#[tokio::test]
async fn grants_follow_from_members_only_under_their_ceiling() {
    let world = World::new("granting").await;
    let sentence = "grants: Members is allowed with ceiling: Members only; set the ceiling, or leave grants out";
    for bad in [json!({"grants": "Members"}), json!({"ceiling": "None", "grants": "Members"})] {
        refuses(&world, "Instance", bad, "spec.grants", sentence).await;
    }
    for good in [json!({"ceiling": "Members", "grants": "Members"}), json!({"grants": "None"})] {
        accepts(&world, "Instance", good).await;
    }
    refuses(&world, "Instance", json!({"grants": "Owners"}), "spec.grants", "Unsupported value").await;
}

#[tokio::test]
async fn a_policy_stays_with_its_instance() {
    let world = World::new("policy").await;
    let sentence = "instanceRef is fixed for life: make another AccessPolicy for another Instance";
    let patch = json!({"instanceRef": {"name": "other"}});
    keeps(&world, "AccessPolicy", (smallest("AccessPolicy"), patch), sentence).await;
    lets(&world, "AccessPolicy", (smallest("AccessPolicy"), json!({"members": ["user:a"]}))).await;
}

#[tokio::test]
async fn an_immutable_token_can_only_be_revoked() {
    let world = World::new("immutable").await;
    let sentence = "immutable is true: only revoked, revocationReason and, if the Instance allows it, regenerate may change; make another ApiToken";
    let before = token(json!({"immutable": true}));
    for patch in [json!({"immutable": false}), json!({"description": "a"}), json!({"active": false})] {
        keeps(&world, "ApiToken", (before.clone(), patch), sentence).await;
    }
    lets(&world, "ApiToken", (before, json!({"revoked": true}))).await;
}

#[tokio::test]
async fn texts_for_people_are_bounded() {
    let world = World::new("texts").await;
    for kind in ["ApiToken", "ServiceAccount"] {
        for (field, limit) in [("displayName", 253), ("description", 1024)] {
            accepts(&world, kind, with(smallest(kind), field, json!("é".repeat(limit)))).await;
            let too_long = with(smallest(kind), field, json!("é".repeat(limit + 1)));
            let sentence = format!("Too long: may not be more than {limit} bytes");
            refuses(&world, kind, too_long, &format!("spec.{field}"), &sentence).await;
        }
    }
}

#[tokio::test]
async fn what_is_needed_is_named_when_it_is_left_out() {
    let world = World::new("needed").await;
    for kind in ["ApiToken", "ServiceAccount"] {
        refuses(&world, kind, json!({}), "spec.instanceRef", "Required value").await;
        refuses(&world, kind, json!({"instanceRef": {}}), "spec.instanceRef.name", "Required value").await;
    }
    let nameless = token(json!({"serviceAccountRef": {}}));
    refuses(&world, "ApiToken", nameless, "spec.serviceAccountRef.name", "Required value").await;
    refuses(&world, "Instance", Value::Null, "spec", "Required value").await;
    let nameless = json!({"manager": {"service": {}}});
    refuses(&world, "Instance", nameless, "spec.manager.service.name", "Required value").await;
    let nameless = json!({"manager": {"service": {"name": "eem"}, "endpoints": [{"type": "internal"}]}});
    refuses(&world, "Instance", nameless, "spec.manager.endpoints[0].name", "Required value").await;
}

#[tokio::test]
async fn a_rotation_has_exactly_one_schedule() {
    let world = World::new("schedules").await;
    let of = |schedule: Value| token(json!({"rotation": {"schedule": schedule}}));
    let sentence = "give exactly one of every, cron, beforeExpiry and never, or leave schedule out";
    for bad in [
        json!({}),
        json!({"every": "1d", "beforeExpiry": "1d"}),
        json!({"every": "1d", "cron": "0 3 * * *"}),
        json!({"every": "1d", "never": true}),
        json!({"never": false}),
        json!({"every": null}),
    ] {
        refuses(&world, "ApiToken", of(bad), "spec.rotation.schedule", sentence).await;
    }
    let zone = "timeZone is allowed with cron only; remove timeZone";
    refuses(&world, "ApiToken", of(json!({"every": "1d", "timeZone": "UTC"})), "spec.rotation.schedule", zone).await;
    for good in [
        json!({"every": "1d"}),
        json!({"beforeExpiry": "1d"}),
        json!({"cron": "0 3 * * SUN"}),
        json!({"cron": "0 3 * * SUN", "timeZone": "Europe/Berlin"}),
        json!({"every": "1d", "beforeExpiry": null}),
        json!({"every": "1d", "never": false}),
        json!({"never": true}),
    ] {
        accepts(&world, "ApiToken", of(good)).await;
    }
    accepts(&world, "ApiToken", token(json!({"rotation": {}}))).await;
}

#[tokio::test]
async fn an_expiry_has_one_meaning() {
    let world = World::new("expiries").await;
    let of = |expiry: Value| token(json!({ "expiry": expiry }));
    let at = "2030-01-01T00:00:00Z";
    let sentence = "give at most one of after, at and never";
    for bad in [
        json!({"after": "1d", "at": at}),
        json!({"after": "1d", "never": true}),
        json!({"at": at, "never": true}),
        json!({"after": "1d", "at": at, "never": true}),
    ] {
        refuses(&world, "ApiToken", of(bad), "spec.expiry", sentence).await;
    }
    refuses(&world, "ApiToken", of(json!({"at": "tomorrow"})), "spec.expiry.at", "must be of type date-time").await;
    let beyond = "must be a time as in RFC 3339, before the year 9999, such as 2027-06-30T00:00:00Z";
    refuses(&world, "ApiToken", of(json!({"at": "9999-12-31T23:59:59Z"})), "spec.expiry.at", beyond).await;
    let previous = json!({"regenerate": {"id": "x", "previous": {"at": "9999-12-31T23:59:59Z"}}});
    refuses(&world, "ApiToken", token(previous), "spec.regenerate.previous.at", beyond).await;
    for good in [json!({}), json!({"at": at}), json!({"never": true}), json!({"after": "1d", "never": false})] {
        accepts(&world, "ApiToken", of(good)).await;
    }
    let before = json!({"schedule": {"beforeExpiry": "1d"}});
    let endless = token(json!({"expiry": {"never": true}, "rotation": before}));
    let sentence = "rotation.schedule.beforeExpiry is not allowed with expiry.never: true; give every or cron";
    refuses(&world, "ApiToken", endless, "spec", sentence).await;
}

#[tokio::test]
async fn what_has_a_meaning_with_something_else_only_is_refused_without_it() {
    let world = World::new("meaning").await;
    let once = |secret: Value| token(json!({ "secret": secret }));
    let sentence = "claimWithin is allowed with delivery: Once only; remove it, or set delivery: Once";
    refuses(&world, "ApiToken", once(json!({"delivery": "Retain", "claimWithin": "1h"})), "spec.secret", sentence)
        .await;
    // The Instance can demand the delivery. Without the demand, the operator reports the fault.
    accepts(&world, "ApiToken", once(json!({"claimWithin": "15m", "claimedBy": "FirstUse"}))).await;
    accepts(&world, "ApiToken", once(json!({"delivery": "Once", "claimWithin": "15m"}))).await;
    let sentence = "claimedBy is allowed with delivery: Once only; remove it, or set delivery: Once";
    let retained = once(json!({"delivery": "Retain", "claimedBy": "Annotation"}));
    refuses(&world, "ApiToken", retained, "spec.secret", sentence).await;
    for by in ["Annotation", "FirstUse"] {
        accepts(&world, "ApiToken", once(json!({"delivery": "Once", "claimedBy": by}))).await;
    }
    let odd = once(json!({"delivery": "Once", "claimedBy": "Chance"}));
    refuses(&world, "ApiToken", odd, "spec.secret.claimedBy", "Unsupported value").await;
    refuses(&world, "ApiToken", once(json!({"delivery": "Twice"})), "spec.secret.delivery", "Unsupported value").await;
    refuses(&world, "ApiToken", once(json!({"onRevoke": "Burn"})), "spec.secret.onRevoke", "Unsupported value").await;
    let targets = json!([{"kind": "Deployment", "name": "a"}]);
    let both = token(json!({"secret": {"delivery": "Once"}, "restart": targets}));
    let sentence = "restart is not allowed with secret.delivery: Once: a workload that starts later finds no Secret; remove one of the two";
    refuses(&world, "ApiToken", both, "spec", sentence).await;
    accepts(&world, "ApiToken", token(json!({"secret": {"delivery": "Once"}, "restart": []}))).await;
    accepts(&world, "ApiToken", token(json!({"secret": {"delivery": "Retain"}, "restart": targets}))).await;
    let sentence = "revocationReason is allowed with revoked: true only; remove it, or set revoked: true";
    for bad in [json!({"revocationReason": "Compromised"}), json!({"revocationReason": "Manual", "revoked": false})] {
        refuses(&world, "ApiToken", token(bad), "spec", sentence).await;
    }
    accepts(&world, "ApiToken", token(json!({"revocationReason": "Compromised", "revoked": true}))).await;
    let expired = token(json!({"revocationReason": "Expired", "revoked": true}));
    refuses(&world, "ApiToken", expired, "spec.revocationReason", "Unsupported value").await;
    let never = json!({"tokens": {"lifetime": {"never": "Maybe"}}});
    refuses(&world, "Instance", never, "spec.tokens.lifetime.never", "Unsupported value").await;
    for (field, bad, good) in [("delivery", "Retain", "Once"), ("rotation.default", "Always", "Never")] {
        let tokens = |value: &str| with(json!({}), &format!("tokens.{field}"), json!(value));
        refuses(&world, "Instance", tokens(bad), &format!("spec.tokens.{field}"), "Unsupported value").await;
        accepts(&world, "Instance", tokens(good)).await;
    }
}

#[tokio::test]
async fn a_regenerate_has_an_id_and_one_ending_at_most() {
    let world = World::new("regenerate").await;
    let of = |previous: Value| token(json!({"regenerate": {"id": "leak", "previous": previous}}));
    let sentence = "give exactly one of after and at, or leave previous out";
    for bad in [json!({}), json!({"after": "0s", "at": "2030-01-01T00:00:00Z"})] {
        refuses(&world, "ApiToken", of(bad), "spec.regenerate.previous", sentence).await;
    }
    let delay = tokenry::token::duration::DELAY_RULE;
    for bad in ["0d", "soon", "-1s"] {
        refuses(&world, "ApiToken", of(json!({"after": bad})), "spec.regenerate.previous.after", delay).await;
    }
    let nameless = token(json!({"regenerate": {"id": ""}}));
    refuses(&world, "ApiToken", nameless, "spec.regenerate.id", "should be at least 1 chars long").await;
    for good in [
        Value::Null,
        json!({"after": "0s"}),
        json!({"after": "2h"}),
        json!({"after": "0h0m0s"}),
        json!({"at": "2030-01-01T00:00:00Z"}),
    ] {
        accepts(&world, "ApiToken", of(good)).await;
    }
}

#[tokio::test]
async fn a_rotation_fits_into_the_lifetime() {
    let world = World::new("rotation").await;
    let of = |rotation: Value| token(json!({"expiry": {"after": "1d"}, "rotation": rotation}));
    let overlap =
        "rotation.overlap must not be longer than half of expiry.after, so that two overlaps fit into a lifetime";
    let every = "rotation.schedule.every must be shorter than expiry.after, or the token expires before it is replaced";
    let before = "rotation.schedule.beforeExpiry must be shorter than expiry.after";
    for (bad, sentence) in [
        (json!({"overlap": "25h"}), overlap),
        (json!({"overlap": "43201s"}), overlap),
        (json!({"schedule": {"every": "24h"}}), every),
        (json!({"schedule": {"every": "1441m"}}), every),
        (json!({"schedule": {"beforeExpiry": "1d"}}), before),
        (json!({"schedule": {"beforeExpiry": "99999d"}}), before),
    ] {
        refuses(&world, "ApiToken", of(bad), "spec", sentence).await;
    }
    for good in [
        json!({"overlap": "12h"}),
        json!({"overlap": "43200s"}),
        json!({"schedule": {"every": "23h"}}),
        json!({"schedule": {"every": "1439m"}}),
        json!({"schedule": {"beforeExpiry": "86399s"}, "overlap": "12h"}),
    ] {
        accepts(&world, "ApiToken", of(good)).await;
    }
    // One that an older release let in can be ended.
    for ended in [json!({"revoked": true}), json!({"active": false})] {
        let mut spec = of(json!({"overlap": "20h"}));
        spec.as_object_mut().unwrap().extend(ended.as_object().unwrap().clone());
        accepts(&world, "ApiToken", spec).await;
    }
    // Without a lifetime of its own a token has its Instance's, which no rule of a token can see.
    let rotation = json!({"overlap": "99999d", "schedule": {"every": "99999d"}});
    accepts(&world, "ApiToken", token(json!({ "rotation": rotation }))).await;
    accepts(&world, "ApiToken", token(json!({"expiry": {}, "rotation": {"overlap": "99999d"}}))).await;
}

#[tokio::test]
async fn what_a_token_is_bound_to_is_fixed_for_life() {
    let world = World::new("fixed").await;
    let account = |name: &str| json!({"serviceAccountRef": {"name": name}});
    let secret = |name: &str| json!({"secret": {"name": name}});
    let instance = "instanceRef is fixed for life: make another ApiToken for another Instance";
    let bound = "serviceAccountRef is fixed for life: make another ApiToken for another account";
    let afar = json!({"instanceRef": {"name": "eem", "namespace": "other"}});
    for (before, patch, sentence) in [
        (token(json!({})), json!({"instanceRef": {"name": "other"}}), instance),
        (token(json!({})), json!({"instanceRef": {"namespace": "other"}}), instance),
        (afar, json!({"instanceRef": {"namespace": null}}), instance),
        (token(json!({})), account("ci"), bound),
        (token(account("ci")), account("other"), bound),
        (token(account("ci")), json!({"serviceAccountRef": null}), bound),
    ] {
        keeps(&world, "ApiToken", (before, patch), sentence).await;
    }
    let whole = token(json!({"serviceAccountRef": {"name": "ci"}, "secret": {"name": "a"}}));
    let more = json!({
        "displayName": "a", "description": "b", "active": false, "expiry": {"after": "2d"},
        "rotation": {"schedule": {"every": "1d"}, "overlap": "1h"},
    });
    lets(&world, "ApiToken", (whole.clone(), more)).await;
    lets(&world, "ApiToken", (whole.clone(), whole)).await;
    lets(&world, "ApiToken", (token(json!({})), json!({"secret": {}}))).await;
    for name in [json!({"name": "b"}), json!({"name": null}), Value::Null] {
        lets(&world, "ApiToken", (token(secret("a")), json!({ "secret": name }))).await;
    }
}

#[tokio::test]
async fn a_secret_has_keys_labels_and_annotations_that_it_can_have() {
    let world = World::new("keys").await;
    let of = |secret: Value| token(json!({ "secret": secret }));
    let longest = "a".repeat(253);
    for key in ["client.env", "TOKEN", ".env", "a..b", &longest] {
        accepts(&world, "ApiToken", of(json!({"data": {key: "{{ token }}"}}))).await;
    }
    for key in ["", ".", "..a", "a b", "a/b", "é", &"a".repeat(254)] {
        refuses(&world, "ApiToken", of(json!({"data": {key: "a"}})), "spec.secret.data", keys::DATA_RULE).await;
    }
    for key in keys::OURS {
        refuses(&world, "ApiToken", of(json!({"data": {key: "a"}})), "spec.secret.data", keys::OURS_RULE).await;
    }
    for key in keys::BINDING {
        let bound = of(json!({"data": {key: "a"}, "serviceBinding": {}}));
        refuses(&world, "ApiToken", bound, "spec.secret", keys::BINDING_RULE).await;
        accepts(&world, "ApiToken", of(json!({"data": {key: "a"}}))).await;
    }
    for field in ["labels", "annotations"] {
        let path = format!("spec.secret.{field}");
        for key in ["team", "example.com/team", &format!("{longest}/{}", "b".repeat(63))] {
            accepts(&world, "ApiToken", of(json!({field: {key: "a"}}))).await;
        }
        for key in ["", "/a", "a/b/c", "-a", "Example.com/a", &"a".repeat(64), &format!("{longest}a/b")] {
            refuses(&world, "ApiToken", of(json!({field: {key: "a"}})), &path, keys::QUALIFIED_RULE).await;
        }
        for key in ["tokenry.dev/a", "x.tokenry.dev/a", "app.kubernetes.io/managed-by"] {
            refuses(&world, "ApiToken", of(json!({field: {key: "a"}})), &path, keys::RESERVED_RULE).await;
        }
        accepts(&world, "ApiToken", of(json!({field: {"app.kubernetes.io/name": "", "nottokenry.dev/a": ""}}))).await;
    }
    refuses(&world, "ApiToken", of(json!({"labels": {"a": "b c"}})), "spec.secret.labels[a]", keys::LABEL_RULE).await;
    accepts(&world, "ApiToken", of(json!({"annotations": {"a": "b c"}}))).await;
    let many: serde_json::Map<_, _> = (0..33).map(|key| (format!("a{key}"), json!("a"))).collect();
    for field in ["data", "labels", "annotations"] {
        let path = format!("spec.secret.{field}");
        refuses(&world, "ApiToken", of(json!({ field: many })), &path, "must have at most 32 items").await;
    }
    let long = "x".repeat(64 * 1024 + 1);
    refuses(&world, "ApiToken", of(json!({"data": {"a": long}})), "spec.secret.data.a", "Too long").await;
    accepts(&world, "ApiToken", of(json!({"serviceBinding": {"type": "kafka", "provider": "acme"}}))).await;
    let empty = of(json!({"serviceBinding": {"type": ""}}));
    refuses(&world, "ApiToken", empty, "spec.secret.serviceBinding.type", "should be at least 1 chars long").await;
}

#[tokio::test]
async fn an_account_stays_with_its_instance() {
    let world = World::new("account").await;
    let sentence = "instanceRef is fixed for life: make another account for another Instance";
    let before = smallest("ServiceAccount");
    for patch in [json!({"instanceRef": {"name": "other"}}), json!({"instanceRef": {"namespace": "other"}})] {
        keeps(&world, "ServiceAccount", (before.clone(), patch), sentence).await;
    }
    let more = json!({"displayName": "a", "description": "b", "active": false});
    lets(&world, "ServiceAccount", (before, more)).await;
}

#[tokio::test]
async fn revoked_is_final() {
    let world = World::new("revoked").await;
    let sentence = "revoked is final: make another ApiToken";
    for patch in [json!({"revoked": false}), json!({"revoked": null})] {
        keeps(&world, "ApiToken", (token(json!({"revoked": true})), patch), sentence).await;
    }
    let name = accepts(&world, "ApiToken", token(json!({"revoked": true}))).await;
    let told = replace(&world, &name, smallest("ApiToken")).await.unwrap_err();
    assert!(told.contains(sentence), "a PUT that leaves the field out: {told}");
    replace(&world, &name, token(json!({"revoked": true, "active": false}))).await.unwrap();

    lets(&world, "ApiToken", (token(json!({})), json!({"revoked": true}))).await;
    lets(&world, "ApiToken", (token(json!({})), json!({"revoked": null}))).await;
}

/// Replaces a token as a whole, as PUT does.
async fn replace(world: &World, name: &str, spec: Value) -> Result<DynamicObject, String> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("tokenry.dev", "v1alpha1", "ApiToken"));
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    let mut object = api.get(name).await.unwrap();
    object.data = json!({ "spec": spec });
    api.replace(name, &PostParams::default(), &object).await.map_err(message)
}

#[tokio::test]
async fn the_default_of_an_instance_is_within_its_maximum() {
    let world = World::new("maximum").await;
    for (field, path) in [("lifetime", "spec.tokens.lifetime"), ("overlap", "spec.tokens.overlap")] {
        let of = |default: &str, max: &str| json!({"tokens": {field: {"default": default, "max": max}}});
        for (default, max) in [("25h", "1d"), ("61s", "1m"), ("99999d", "99998d")] {
            refuses(&world, "Instance", of(default, max), path, "default must not be longer than max").await;
        }
        for (default, max) in [("24h", "1d"), ("1s", "1m")] {
            accepts(&world, "Instance", of(default, max)).await;
        }
        accepts(&world, "Instance", json!({"tokens": {field: {"default": "99999d"}}})).await;
        accepts(&world, "Instance", json!({"tokens": {field: {"max": "1s"}}})).await;
        accepts(&world, "Instance", json!({"tokens": {field: {}}})).await;
    }
}

#[tokio::test]
async fn a_prefix_is_short_and_lower_case() {
    let world = World::new("prefix").await;
    let of = |prefix: &str| json!({"tokens": {"prefix": prefix}});
    let path = "spec.tokens.prefix";
    let sentence = "must be a lower-case letter, then up to 15 lower-case letters or digits, such as shop";
    for bad in ["2a", "A", "a-b", "a_b", "é", "a "] {
        refuses(&world, "Instance", of(bad), path, sentence).await;
    }
    refuses(&world, "Instance", of(""), path, "should be at least 1 chars long").await;
    refuses(&world, "Instance", of(&"a".repeat(17)), path, "Too long: may not be more than 16 bytes").await;
    for good in ["eem", "t2", &"a".repeat(16)] {
        accepts(&world, "Instance", of(good)).await;
    }
}

#[tokio::test]
async fn namespaces_are_selected_exactly_when_they_are_asked_for_by_selector() {
    let world = World::new("namespaces").await;
    let of = |namespaces: Value| json!({"tokens": {"namespaces": namespaces}});
    let sentence = "selector is required if from is Selector, and not allowed otherwise";
    for bad in [
        json!({"from": "Selector"}),
        json!({"from": "Selector", "selector": null}),
        json!({"from": "Same", "selector": {}}),
        json!({"from": "All", "selector": {"matchLabels": {"a": "b"}}}),
        json!({"selector": {}}),
    ] {
        refuses(&world, "Instance", of(bad), "spec.tokens.namespaces", sentence).await;
    }
    let unknown = of(json!({"from": "Some"}));
    let sentence = r#"Unsupported value: "Some": supported values: "Same", "All", "Selector""#;
    refuses(&world, "Instance", unknown, "spec.tokens.namespaces.from", sentence).await;
    for good in [
        json!({}),
        json!({"from": "Same"}),
        json!({"from": "All"}),
        json!({"from": "Selector", "selector": {}}),
        json!({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}),
    ] {
        accepts(&world, "Instance", of(good)).await;
    }
}

#[tokio::test]
async fn an_endpoint_has_what_its_type_needs_and_nothing_else() {
    let world = World::new("endpoints").await;
    let of = |endpoints: Value| json!({"manager": {"service": {"name": "eem"}, "endpoints": endpoints}});
    let one = |endpoint: Value| of(json!([endpoint]));
    let external = |more: Value| {
        let mut endpoint = json!({"name": "admin", "host": "a.example.com"});
        endpoint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        endpoint
    };
    let guard = "an external endpoint needs a guard, which asks the verifier about each request: set guard, or \
                 allowUnguarded: true to let every request reach the API unjudged";
    let none = "guard: None lets every request reach the API unjudged: set allowUnguarded: true, or name a guard";
    let one_way = "give one of gateway, ingress and route";
    let route = "a Route has no guard of its own: set guard to Backend or Istio, or use gateway or ingress";
    let istio = "guard: Istio and istio.provider belong together: set both, or neither";
    let neither = "an internal endpoint has neither host, gateway, ingress nor route: remove them, or make it external";
    let internal = |more: Value| {
        let mut endpoint = json!({"name": "admin", "type": "internal"});
        endpoint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        endpoint
    };
    let path = "spec.manager.endpoints[0]";
    for (bad, sentence) in [
        (external(json!({"ingress": {}})), guard),
        (external(json!({"type": "external", "gateway": {}})), guard),
        (external(json!({"gateway": {}, "guard": null})), guard),
        (external(json!({"allowUnguarded": false})), guard),
        (external(json!({"guard": "None"})), none),
        (external(json!({"guard": "None", "allowUnguarded": false})), none),
        (external(json!({"gateway": {}, "ingress": {}, "guard": "Traefik"})), one_way),
        (external(json!({"route": {}, "ingress": {}, "guard": "Backend"})), one_way),
        (external(json!({"route": {}, "guard": "Traefik"})), route),
        (external(json!({"route": {}, "guard": "ExternalAuth"})), route),
        (external(json!({"gateway": {}, "guard": "Istio"})), istio),
        (external(json!({"gateway": {}, "guard": "Traefik", "istio": {"provider": "tokenry"}})), istio),
        (internal(json!({"host": "a.example.com"})), neither),
        (internal(json!({"gateway": {}})), neither),
        (internal(json!({"ingress": {}})), neither),
        (internal(json!({"route": {}})), neither),
    ] {
        refuses(&world, "Instance", one(bad), path, sentence).await;
    }
    let unknown = one(external(json!({"gateway": {}, "guard": "Kong"})));
    let sentence = r#"Unsupported value: "Kong": supported values: "Traefik", "EnvoyGateway""#;
    refuses(&world, "Instance", unknown, "spec.manager.endpoints[0].guard", sentence).await;
    let nameless = one(external(json!({"gateway": {}, "guard": "Istio", "istio": {}})));
    refuses(&world, "Instance", nameless, "spec.manager.endpoints[0].istio.provider", "Required value").await;
    let named = one(json!({"name": "other", "type": "internal"}));
    let sentence = r#"Unsupported value: "other": supported values: "admin""#;
    refuses(&world, "Instance", named, "spec.manager.endpoints[0].name", sentence).await;
    let typed = one(json!({"name": "admin", "type": "public"}));
    let sentence = r#"Unsupported value: "public": supported values: "external", "internal""#;
    refuses(&world, "Instance", typed, "spec.manager.endpoints[0].type", sentence).await;
    let two = of(json!([internal(json!({})), internal(json!({}))]));
    refuses(&world, "Instance", two, "spec.manager.endpoints", "must have at most 1 item").await;

    let full = json!({"className": "traefik", "annotations": {"a": "b"}, "tls": {"secretName": "t"}});
    for good in [
        external(json!({"ingress": full, "guard": "Traefik"})),
        external(json!({"ingress": {"tls": {}}, "allowUnguarded": true})),
        external(json!({"gateway": {}, "guard": "EnvoyGateway"})),
        external(json!({"gateway": {}, "guard": "None", "allowUnguarded": true})),
        external(json!({"gateway": {}, "guard": "Istio", "istio": {"provider": "tokenry"}})),
        external(json!({"route": {}, "guard": "Backend"})),
        json!({"name": "admin", "route": {}, "guard": "Istio", "istio": {"provider": "tokenry"}}),
        internal(json!({})),
        internal(json!({"guard": "Traefik"})),
        json!({"name": "admin", "type": "disabled", "host": "a.example.com", "ingress": {}}),
    ] {
        accepts(&world, "Instance", one(good)).await;
    }
    accepts(&world, "Instance", of(json!([]))).await;
}

#[tokio::test]
async fn an_endpoint_needs_the_service_that_it_fronts() {
    let world = World::new("manager").await;
    let endpoints = json!([{"name": "admin", "type": "internal"}]);
    let sentence = "manager.service is needed: name the Service that serves the Admin API, or leave endpoints out";
    let without = json!({"manager": {"endpoints": endpoints}});
    refuses(&world, "Instance", without, "spec.manager", sentence).await;
    for good in [json!({}), json!({"endpoints": []}), json!({"service": {"name": "eem"}})] {
        accepts(&world, "Instance", json!({ "manager": good })).await;
    }
    let of = |field: &str, value: Value| with(smallest("Instance"), &format!("manager.service.{field}"), value);
    let path = "spec.manager.service.port";
    refuses(&world, "Instance", of("port", json!(0)), path, "should be greater than or equal to 1").await;
    refuses(&world, "Instance", of("port", json!(65536)), path, "should be less than or equal to 65535").await;
    refuses(&world, "Instance", of("port", json!("443")), path, "must be of type integer").await;
    let sentence = r#"Unsupported value: "ftp": supported values: "http", "https""#;
    refuses(&world, "Instance", of("scheme", json!("ftp")), "spec.manager.service.scheme", sentence).await;
    for port in [1, 65535] {
        accepts(&world, "Instance", of("port", json!(port))).await;
    }
    accepts(&world, "Instance", of("scheme", json!("http"))).await;
}

#[tokio::test]
async fn an_instance_lists_organizations_by_name_or_means_any() {
    let world = World::new("organizations").await;
    let of = |names: &[&str]| json!({ "organizations": names });
    let many: Vec<_> = (0..65).map(|n| format!("o{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let path = "spec.organizations";
    for good in [of(&["*"]), of(&["eem", "acme"]), of(&many[..64])] {
        accepts(&world, "Instance", good).await;
    }
    let alone = "* means any organization; give it alone, or give names";
    refuses(&world, "Instance", of(&["acme", "*"]), path, alone).await;
    refuses(&world, "Instance", of(&many), path, "must have at most 64 items").await;
    refuses(&world, "Instance", of(&[]), path, "should have at least 1 items").await;
    refuses(&world, "Instance", of(&["a", "a"]), "spec.organizations[1]", "Duplicate value").await;
    // A token lists fewer than an account or a member.
    let listed = |count: usize| json!({"listed": many[..count]});
    let members = "members.0.organizations";
    for (kind, path, most) in
        [("ApiToken", "organizations", 16), ("ServiceAccount", "organizations", 64), ("Instance", members, 64)]
    {
        accepts(&world, kind, holding(kind, path, listed(most))).await;
        let sentence = format!("must have at most {most} items");
        let field = written(&format!("{path}.listed"));
        refuses(&world, kind, holding(kind, path, listed(most + 1)), &field, &sentence).await;
    }
}

#[tokio::test]
async fn an_organization_can_stand_in_a_path_and_in_a_header() {
    let world = World::new("organization").await;
    let of = |organization: &str| json!({ "organization": organization });
    let path = "spec.organization";
    let sentence = "must be letters, digits, '.', '_' and '-', with a letter or digit first and last, such as shop";
    for bad in ["a b", "-a", "a-", ".", "a/b", "é", "a\n", "_"] {
        refuses(&world, "Instance", of(bad), path, sentence).await;
    }
    refuses(&world, "Instance", of(""), path, "should be at least 1 chars long").await;
    refuses(&world, "Instance", of(&"a".repeat(254)), path, "Too long: may not be more than 253 bytes").await;
    for good in ["eem", "Acme_Corp.EU-1", "7", &"a".repeat(253)] {
        accepts(&world, "Instance", of(good)).await;
    }
}

#[tokio::test]
async fn a_place_for_credentials_is_named_once() {
    let world = World::new("places").await;
    let of = |places: Value| json!({"api": {"credentials": places}});
    let path = "spec.api.credentials";
    let twice = "gives a header and scheme twice; a header without a scheme includes all its schemes";
    for bad in [
        json!([{"header": "X-Key"}, {"header": "x-key"}]),
        json!([{"header": "Authorization", "scheme": "Bearer"}, {"header": "authorization", "scheme": "BEARER"}]),
        json!([{"header": "Authorization"}, {"header": "Authorization", "scheme": "Bearer"}]),
    ] {
        refuses(&world, "Instance", of(bad), path, twice).await;
    }
    let sentence = "must be the name of a header of letters, digits and '-', such as X-Organization";
    for bad in ["X_Key", "X Key", "-x", "X:"] {
        let places = json!([{"header": bad}]);
        refuses(&world, "Instance", of(places), &format!("{path}[0].header"), sentence).await;
    }
    let sentence = "must be an authentication scheme of letters, digits and '-', such as Bearer";
    for bad in ["Bearer ", "a b", "é"] {
        let places = json!([{"header": "Authorization", "scheme": bad}]);
        refuses(&world, "Instance", of(places), &format!("{path}[0].scheme"), sentence).await;
    }
    let many = |count: usize| -> Value { (0..count).map(|nth| json!({"header": format!("X-{nth}")})).collect() };
    refuses(&world, "Instance", of(many(9)), path, "must have at most 8 items").await;
    accepts(&world, "Instance", of(many(8))).await;
    accepts(&world, "Instance", of(json!([]))).await;
}

#[tokio::test]
async fn no_entry_leaves_every_request_unguarded() {
    let world = World::new("unguarded").await;
    let of = |entries: Value| json!({"api": {"unguarded": entries}});
    let path = "spec.api.unguarded";
    let sentence = "has a path of wildcards that ends with **, such as /**, and no methods: name the methods, or the \
                    first segment of the paths";
    for bad in [
        json!([{"paths": ["/**"]}]),
        json!([{"paths": ["/login", "/*/**"]}]),
        json!([{"methods": [], "paths": ["/*/*/**"]}]),
    ] {
        refuses(&world, "Instance", of(bad), &format!("{path}[0]"), sentence).await;
    }
    for good in [
        json!([{"methods": ["OPTIONS"], "paths": ["/**"]}]),
        json!([{"paths": ["/", "/*", "/login/**", "/*/photo"]}]),
        json!([]),
    ] {
        accepts(&world, "Instance", of(good)).await;
    }
    let many = |count: usize| -> Value { (0..count).map(|nth| json!({"paths": [format!("/{nth}")]})).collect() };
    refuses(&world, "Instance", of(many(65)), path, "must have at most 64 items").await;
    accepts(&world, "Instance", of(many(64))).await;
    let pathless = of(json!([{"paths": []}]));
    refuses(&world, "Instance", pathless, &format!("{path}[0].paths"), "should have at least 1 items").await;
    let odd = json!({"api": {"encodedSlash": "Decode"}});
    refuses(&world, "Instance", odd, "spec.api.encodedSlash", "Unsupported value").await;
    accepts(&world, "Instance", json!({"api": {"encodedSlash": "Keep"}})).await;
}

#[tokio::test]
async fn a_status_holds_records_of_their_form_only() {
    let world = World::new("records").await;
    let name = accepts(&world, "ApiToken", smallest("ApiToken")).await;
    let record = |more: Value| {
        let mut record = json!({
            "generation": 1, "id": "i", "sha256": "a".repeat(64), "state": "Active",
            "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2027-01-01T00:00:00Z",
        });
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    };
    let write = async |records: Value| {
        let patch = Patch::Merge(json!({"status": {"records": records}}));
        let api = world.api::<ApiToken>();
        api.patch_status(&name, &PatchParams::default(), &patch).await.map(|_| ()).map_err(message)
    };
    let digest = "should match '^[0-9a-f]{64}$'";
    for (bad, sentence) in [
        (json!({"sha256": "A".repeat(64)}), digest),
        (json!({"sha256": "a".repeat(63)}), digest),
        (json!({"sha256": "a".repeat(65)}), digest),
        (json!({"sha256": ""}), digest),
        (json!({"state": "Lost"}), r#"Unsupported value: "Lost""#),
        (json!({"expiresAt": "never"}), "must be of type date-time"),
        (json!({"generation": "1"}), "must be of type integer"),
    ] {
        let told = write(json!([record(bad.clone())])).await.unwrap_err();
        assert!(told.contains("status.records[0].") && told.contains(sentence), "{bad}: {told}");
    }
    let told = write(Value::Array(vec![record(json!({})); 65])).await.unwrap_err();
    assert!(told.contains("status.records: ") && told.contains("must have at most 64 items"), "{told}");
    write(Value::Array(vec![record(json!({})); 64])).await.unwrap();
}

#[tokio::test]
async fn a_status_that_is_applied_with_the_spec_is_not_taken() {
    let world = World::new("status").await;
    let object = json!({
        "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "ci", "namespace": world.namespace},
        "spec": smallest("ApiToken"), "status": {"lastGeneration": 7},
    });
    world.plane.kubectl_with_input(&["apply", "-f", "-"], &object.to_string()).unwrap();
    // The definition gives a new object this status, so that kstatus takes it as in progress.
    let unobserved = ApiTokenStatus { observed_generation: Some(-1), ..ApiTokenStatus::default() };
    assert_eq!(world.token("ci").await.status, Some(unobserved));
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_refused() {
    let world = World::new("unknown").await;
    for (kind, path) in [
        ("ApiToken", "roles"),
        ("ApiToken", "expiry.before"),
        ("ApiToken", "rotation.schedule.always"),
        ("ApiToken", "secret.type"),
        ("ServiceAccount", "secret"),
        ("Instance", "tokens.maxPerTeam"),
        ("Instance", "manager.endpoints.0.loadBalancer"),
    ] {
        let mut spec = smallest(kind);
        if path.starts_with("rotation.schedule.") {
            spec = with(spec, "rotation.schedule.every", json!("1d"));
        }
        let apply = |spec: Value| {
            let object = json!({
                "apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": {"name": fresh(), "namespace": world.namespace},
                "spec": spec,
            });
            world.plane.kubectl_with_input(&["create", "--validate=strict", "-f", "-"], &object.to_string())
        };
        apply(spec.clone()).unwrap();
        let told = apply(with(spec, path, json!("x"))).unwrap_err();
        assert!(told.contains(&format!(r#"unknown field "{}""#, written(path))), "{kind}: {told}");
    }
}

/// The words of each line that kubectl prints, once it knows what is asked for: a definition is served some moments
/// before it is discovered.
async fn shown(world: &World, args: &[&str]) -> Vec<Vec<String>> {
    let args = [&["get", "--namespace", &world.namespace], args].concat();
    let what = format!("kubectl {} answers", args.join(" "));
    let printed = world.eventually(&what, async || world.plane.kubectl(&args).ok()).await;
    printed.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The first word of each line.
async fn listed(world: &World, args: &[&str]) -> Vec<String> {
    let args = [args, &["--output", "name"]].concat();
    let mut names: Vec<_> = shown(world, &args).await.into_iter().map(|mut words| words.remove(0)).collect();
    names.sort();
    names
}

#[tokio::test]
async fn kubectl_knows_short_names_the_category_and_what_can_be_selected() {
    let world = World::new("kubectl").await;
    world.accepts("Instance", "eem", json!({"organization": "acme"})).await;
    world.accepts("Instance", "other", json!({})).await;
    for (name, instance) in [("a", "eem"), ("b", "other")] {
        world.accepts("ApiToken", name, json!({"instanceRef": {"name": instance}})).await;
        world.accepts("ServiceAccount", name, json!({"instanceRef": {"name": instance}})).await;
    }
    let all = [
        "apitoken.tokenry.dev/a",
        "apitoken.tokenry.dev/b",
        "instance.tokenry.dev/eem",
        "instance.tokenry.dev/other",
        "serviceaccount.tokenry.dev/a",
        "serviceaccount.tokenry.dev/b",
    ];
    assert_eq!(listed(&world, &["apitok,inst,tsa"]).await, all);
    assert_eq!(listed(&world, &["tokenry"]).await, all);
    let by_instance = ["apitok,tsa", "--field-selector", "spec.instanceRef.name=eem"];
    assert_eq!(listed(&world, &by_instance).await, ["apitoken.tokenry.dev/a", "serviceaccount.tokenry.dev/a"]);
    let by_organization = ["inst", "--field-selector", "spec.organization=acme"];
    assert_eq!(listed(&world, &by_organization).await, ["instance.tokenry.dev/eem"]);
    // The core kind keeps its name.
    assert_eq!(listed(&world, &["serviceaccounts"]).await, ["serviceaccount/default"]);
}

#[tokio::test]
async fn kubectl_shows_how_things_are() {
    let world = World::new("columns").await;
    let _operator = world.operator(&Held::default()).await;
    world.smallest().await;
    let token = world.await_reason("ci", "Active").await;
    let expires = serde_json::to_value(token.status.unwrap().expires_at).unwrap();

    let lines = shown(&world, &["apitok"]).await;
    assert_eq!(lines[0], ["NAME", "VALID", "REASON", "ACCOUNT", "EXPIRES", "AGE"]);
    assert_eq!(lines[1][..5], ["ci", "True", "Active", "ci", expires.as_str().unwrap()]);
    let used = ["2021-01-01T00:00:00Z", "2001-01-01T00:00:00Z"];
    let used: Value =
        (1..).zip(used).map(|(n, at)| json!({"generation": n, "firstUsedAt": at, "lastUsedAt": at})).collect();
    let patch = Patch::Merge(json!({"status": {"use": used}}));
    world.api::<ApiToken>().patch_status("ci", &PatchParams::default(), &patch).await.unwrap();
    let wide = shown(&world, &["apitok", "--output", "wide"]).await;
    let more = ["READY", "ROTATES", "ENDS", "SECRET", "INSTANCE", "OWNER", "ROLE", "ORGANIZATIONS", "LAST", "USED"];
    assert_eq!(wide[0][6..16], more);
    assert_eq!(wide[0][16..], ["DISPLAY", "NAME", "DESCRIPTION", "MESSAGE"]);
    assert!(wide[1].iter().any(|word| word == r#"["eem"]"#), "{wide:?}");
    let end = "2037-06-30T00:00:00Z";
    world.accepts("ApiToken", "ends", json!({"instanceRef": {"name": "eem"}, "expiry": {"at": end}})).await;
    let ending = shown(&world, &["apitok", "ends", "--output", "wide"]).await;
    assert!(ending[1].contains(&end.to_owned()), "{ending:?}");
    world.delete("ApiToken", "ends").await;
    let said = world.condition("ci", "Ready").await.unwrap().message;
    assert!(!said.is_empty() && wide[1].join(" ").ends_with(&said), "{wide:?}");
    let years = |word: &String| word.split_once('y')?.0.parse::<i64>().ok();
    let years: Vec<_> = wide[1].iter().filter_map(years).collect();
    assert!(matches!(years[..], [years] if years >= 25), "the last of them, as an age: {wide:?}");
    let selected = ["apitok", "--field-selector", "status.secretName=ci"];
    assert_eq!(listed(&world, &selected).await, ["apitoken.tokenry.dev/ci"]);

    let lines = shown(&world, &["inst"]).await;
    assert_eq!(lines[0], ["NAME", "READY", "STATUS", "ORGANIZATION", "TOKENS", "ENDPOINT", "AGE"]);
    assert_eq!(lines[1][..4], ["eem", "True", "Accepted", "eem"]);
    let wide = shown(&world, &["inst", "--output", "wide"]).await;
    assert_eq!(wide[0].last().unwrap(), "MESSAGE");
    assert!(wide[1].join(" ").ends_with("the spec has no endpoint"), "{wide:?}");

    let ready = async || {
        let lines = shown(&world, &["tsa"]).await;
        (lines[1][1] == "True").then_some(lines)
    };
    let lines = world.eventually("the account is ready", ready).await;
    assert_eq!(lines[0], ["NAME", "READY", "STATUS", "INSTANCE", "ROLE", "TOKENS", "AGE"]);
    assert_eq!(lines[1][..4], ["ci", "True", "Active", "eem"]);
    world.change("ServiceAccount", "ci", json!({"description": "nightly"})).await.unwrap();
    let wide = shown(&world, &["tsa", "--output", "wide"]).await;
    let more = ["TOKENS", "OWNER", "DISPLAY", "NAME", "DESCRIPTION", "AGE", "MESSAGE"];
    assert_eq!(wide[0][5..], more);
    let line = wide[1].join(" ");
    assert!(line.contains(" nightly ") && line.ends_with("its tokens are accepted"), "{line}");
}

#[tokio::test]
async fn eight_workloads_can_be_restarted_and_each_is_named_once() {
    let world = World::new("restarts").await;
    let of = |names: &[&str]| {
        let all: Vec<_> = names.iter().map(|name| json!({"kind": "Deployment", "name": name})).collect();
        token(json!({ "restart": all }))
    };
    accepts(&world, "ApiToken", of(&["a", "b", "c", "d", "e", "f", "g", "h"])).await;
    accepts(
        &world,
        "ApiToken",
        token(json!({"restart": [{"kind": "DaemonSet", "name": "a"}, {"kind": "StatefulSet", "name": "a"}]})),
    )
    .await;
    let nine = of(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    refuses(&world, "ApiToken", nine, "spec.restart", "must have at most 8 items").await;
    refuses(&world, "ApiToken", of(&["a", "a"]), "spec.restart[1]", "Duplicate value").await;
    refuses(&world, "ApiToken", of(&["a/b"]), "spec.restart[0].name", NAME).await;
    let pod = token(json!({"restart": [{"kind": "Pod", "name": "a"}]}));
    refuses(&world, "ApiToken", pod, "spec.restart[0].kind", "Unsupported value").await;
    let nameless = token(json!({"restart": [{"kind": "Deployment"}]}));
    refuses(&world, "ApiToken", nameless, "spec.restart[0].name", "Required value").await;
}
