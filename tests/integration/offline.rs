//! `lint` finds whatever the API server refuses in a new object: by the definitions, by the rules on metadata, and by
//! the admission policies as far as they need only the object. The requester has all rights.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use futures::{StreamExt, stream};
use http::Request;
use serde_json::{Map, Value, json};
use tokenry::{
    admission::{ContentPolicies, Options, validating},
    crd::{definition::Definitions, definitions},
};

use crate::{
    definitions::{FORMS, Ruled, holding, refuses, rules, schemas_below, smallest, token},
    harness::{World, hand::run, judged::Judged},
};

/// An object that both judge.
struct Sample {
    kind: String,
    /// The field that the sample is about.
    about: String,
    object: Value,
}

impl Sample {
    fn of(kind: &str, about: String, metadata: Value, spec: Value) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut object =
            json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        if let Some(metadata) =
            object["metadata"].as_object_mut().filter(|metadata| !metadata.contains_key("generateName"))
        {
            let name = format!("s{}", COUNT.fetch_add(1, Ordering::SeqCst));
            metadata.entry("name").or_insert(json!(name));
        }
        Self { kind: kind.to_owned(), about, object }
    }
}

/// The refusal of the API server, which creates nothing. It rejects fields that do not exist, as for kubectl.
async fn refusal(world: &World, sample: &Sample) -> Option<String> {
    let plural = definitions().into_iter().map(|definition| definition.spec.names);
    let plural = plural.into_iter().find(|names| names.kind == sample.kind).unwrap().plural;
    let path = format!("/apis/tokenry.dev/v1alpha1/namespaces/{}/{plural}", world.namespace);
    let request = Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
        .header("Content-Type", "application/json")
        .body(serde_json::to_vec(&sample.object).unwrap());
    match world.client.request::<Value>(request.unwrap()).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some(status.message),
        Err(error) => panic!("{}: no answer: {error}", sample.object),
    }
}

/// The samples, by number, in which the program finds a fault.
fn linted(samples: &[Sample]) -> BTreeSet<usize> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("offline-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    for (index, sample) in samples.iter().enumerate() {
        std::fs::write(folder.join(format!("{index}.json")), sample.object.to_string()).unwrap();
    }
    let mut lint = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    lint.args(["lint", "--output", "json", folder.to_str().unwrap()]);
    let done = run(lint, "");
    std::fs::remove_dir_all(&folder).unwrap();
    let report: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err));
    let file = |fault: &Value| fault["file"].as_str().unwrap().rsplit(['/', '.']).nth(1).unwrap().parse().unwrap();
    report["faults"].as_array().unwrap().iter().map(file).collect()
}

/// Asserts that the program finds a fault in each sample that the API server refuses, and that the rules of the API
/// server have no fault in each sample that it accepts. Returns the number of refused samples.
async fn agree(world: &World, samples: Vec<Sample>) -> usize {
    let answers: Vec<_> = stream::iter(&samples).map(|sample| refusal(world, sample)).buffered(16).collect().await;
    let found = tokio::task::block_in_place(|| linted(&samples));
    let (definitions, policies) = (Definitions::default(), ContentPolicies::default());
    let mut wrong = Vec::new();
    for (index, (sample, refusal)) in samples.iter().zip(&answers).enumerate() {
        let Sample { kind, about, object } = sample;
        let text = object.to_string();
        let text = text.get(..600).unwrap_or(&text);
        match refusal {
            Some(refusal) if !found.contains(&index) => {
                wrong.push(format!("{kind} {about}: not found: {}\n  {text}", refusal.get(..300).unwrap_or(refusal)));
            }
            Some(_) => {}
            None => {
                let mut object = object.clone();
                definitions.complete(&mut object);
                let faults = [definitions.faults(&object), policies.faults(&object, &world.namespace)].concat();
                if !faults.is_empty() {
                    wrong.push(format!("{kind} {about}: accepted, but {faults:?}\n  {text}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), samples.len(), wrong.join("\n"));
    answers.iter().flatten().count()
}

/// Values for a field with this schema: of each type, at each limit and beyond it.
fn values(schema: &Value) -> Vec<Value> {
    let mut all = vec![Value::Null, json!("x"), json!(7), json!(true), json!([]), json!({})];
    all.extend(match schema["type"].as_str() {
        Some("string") => vec![json!("")],
        Some("integer") => [-1.0, 0.0, 1.5, 7.0, 3e9, 1e20].map(Value::from).into_iter().chain([json!(0)]).collect(),
        Some("array") => vec![json!(["a", "a"]), json!([{}]), json!([null])],
        Some("object") => vec![json!({"unknown": 1})],
        _ => Vec::new(),
    });
    let limit = |keyword: &str| schema[keyword].as_u64().map(|limit| usize::try_from(limit).unwrap());
    for long in limit("maxLength").into_iter().chain(limit("minLength")) {
        all.extend([long, long + 1].map(|length| json!("a".repeat(length))));
    }
    for bound in ["minimum", "maximum"].iter().filter_map(|keyword| schema[*keyword].as_i64()) {
        all.extend([bound - 1, bound, bound + 1].map(|number| json!(number)));
    }
    if let Some(most) = limit("maxItems") {
        all.extend([most, most + 1].map(|count| (0..count).map(|index| json!(format!("a{index}"))).collect()));
    }
    if let Some(most) = limit("maxProperties") {
        let map = |count: usize| (0..count).map(|key| (format!("a{key}"), json!("a"))).collect::<Map<_, _>>();
        all.extend([most, most + 1].map(|count| json!(map(count))));
    }
    for known in schema["enum"].as_array().into_iter().flatten() {
        all.extend([known.clone(), json!(known.as_str().unwrap().to_lowercase())]);
    }
    if schema["format"] == "date-time" {
        all.extend(
            [
                "2030-01-01T00:00:00Z",
                "2030-01-01t00:00:00.5+02:00",
                "2030-01-01T00:00Z",
                "2030-01-01 00:00:00Z",
                "2030-06-30T23:59:60Z",
            ]
            .map(Value::from),
        );
    }
    all
}

/// A sample for each value of each field below `path`.
fn samples(kind: &str, path: &str, schema: &Value, all: &mut Vec<Sample>) {
    if !path.is_empty() {
        for value in values(schema) {
            let spec = holding(kind, path, value);
            all.push(Sample::of(kind, path.to_owned(), json!({}), spec));
        }
    }
    for (path, schema) in schemas_below(path, schema, "a") {
        samples(kind, &path, schema, all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lint_and_the_api_server_agree_on_each_value_of_each_field() {
    let world = Judged::new("values").await.world;
    for definition in definitions() {
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        let mut all = Vec::new();
        samples(&definition.spec.names.kind, "", &schema["openAPIV3Schema"]["properties"]["spec"], &mut all);
        let count = all.len();
        let refused = agree(&world, all).await;
        assert!(count / 2 < refused && refused < count, "{refused} of {count} are refused");
    }
}

/// An entry of `metadata.ownerReferences` with these fields.
fn reference(more: Value) -> Value {
    let mut reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"});
    reference.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    reference
}

fn many(count: usize) -> Value {
    (0..count).map(|key| (format!("a{key}"), json!("a"))).collect::<Map<_, _>>().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn lint_and_the_api_server_agree_on_metadata() {
    let world = Judged::new("metadata").await.world;
    let (long, big) = ("a".repeat(64), "a".repeat(200 * 1024));
    let mut all = Vec::new();
    let mut try_each = |field: &str, values: Vec<Value>| {
        for value in values {
            let metadata = json!({ field: value });
            all.push(Sample::of("ApiToken", format!("metadata.{field}"), metadata, smallest("ApiToken")));
        }
    };
    let marks =
        ["a", "a.b_c-D", "a/b", "example.com/a", "Example.com/a", "a b", "/a", "a/", "a/b/c", "-a", "é", "", &long];
    for field in ["labels", "annotations"] {
        try_each(field, marks.iter().map(|key| json!({*key: "a"})).collect());
        let texts = ["", "A.b_c-1", "a b", "-a", "a-", "é", &long];
        try_each(field, texts.iter().map(|value| json!({"a": value})).collect());
        try_each(
            field,
            vec![json!({"a": 1}), json!({"a": true}), json!({"a": null}), json!([]), json!("a"), Value::Null],
        );
        try_each(field, vec![many(256), many(257)]);
    }
    try_each("annotations", vec![json!({"a": big}), json!({"a": big, "b": big})]);
    try_each("name", ["a.b", "A", "a_b", "-a", "", "a b"].map(Value::from).into());
    try_each("name", vec![json!("a".repeat(253)), json!("a".repeat(254)), json!(1)]);
    try_each("generateName", ["ci-", "ci", "ci--", "a.b-", "A-", "a..", ".", "a_"].map(Value::from).into());
    try_each(
        "finalizers",
        vec![json!(["example.com/a"]), json!(["orphan"]), json!(["a b"]), json!([""]), json!("a"), json!([1])],
    );
    try_each("finalizers", vec![json!(["orphan", "foregroundDeletion"])]);
    let of = |count: usize| (0..count).map(|index| json!(format!("example.com/a{index}"))).collect();
    try_each("finalizers", vec![of(16), of(17)]);
    let controller = reference(json!({"controller": true}));
    let other = reference(json!({"controller": true, "uid": "v"}));
    try_each(
        "ownerReferences",
        vec![
            json!([reference(json!({}))]),
            json!([controller]),
            json!([controller, controller]),
            json!([controller, other]),
        ],
    );
    for wrong in [
        json!({"uid": null}),
        json!({"uid": ""}),
        json!({"name": ""}),
        json!({"kind": null}),
        json!({"apiVersion": ""}),
        json!({"apiVersion": "a/b/c"}),
        json!({"apiVersion": "a/"}),
        json!({"controller": "yes"}),
        json!({"more": 1}),
        json!({"blockOwnerDeletion": true}),
        json!({"name": "a".repeat(10_000)}),
        json!({"name": "a".repeat(20_000)}),
    ] {
        try_each("ownerReferences", vec![json!([reference(wrong)])]);
    }
    try_each("ownerReferences", vec![json!([{}]), json!({}), json!(["a"])]);
    for field in ["creationTimestamp", "deletionTimestamp"] {
        try_each(field, vec![Value::Null, json!("2030-01-01T00:00:00Z"), json!("soon"), json!(1)]);
    }
    try_each("resourceVersion", vec![json!(""), json!("1"), json!(1)]);
    try_each("uid", vec![json!("a"), json!(1)]);
    try_each("generation", vec![json!(1), json!("1")]);
    try_each("selfLink", vec![json!("a"), json!(1)]);
    try_each("label", vec![json!({})]);
    let agreed = agree(&world, all).await;
    assert!(agreed > 50, "{agreed} are refused");
}

/// Rules of policies that a new object can break by its content, each by the begin of its message: the kind, the
/// metadata and the fields of the spec that break it.
fn by_content() -> Vec<(&'static str, &'static str, Value, Value)> {
    let roles: Vec<_> = (0..17).map(|_| json!({"effect": "Allow", "role": "viewer"})).collect();
    let references: Vec<_> = (0..65).map(|n| reference(json!({"name": format!("a{n}")}))).collect();
    let managed = json!([{
        "manager": "a", "operation": "Update", "apiVersion": "tokenry.dev/v1alpha1", "fieldsType": "FieldsV1",
        "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:metadata": {format!("f:{}", "a".repeat(140_000)): {}}},
    }]);
    let user = json!({"owner": "user:system:serviceaccount:ci:bot"});
    let owner = "spec.owner: write the user of a core ServiceAccount as serviceaccount:NAMESPACE/NAME";
    let revoked = json!({"annotations": {"tokenry.dev/revoked-by": "user:bob"}});
    let label = json!({"labels": {"organization.tokenry.dev/other": ""}});
    let policies: Vec<_> = (0..9).map(|n| format!("a{n}")).collect();
    let none = || json!({});
    vec![
        (owner, "ApiToken", none(), user.clone()),
        (owner, "ServiceAccount", none(), user),
        ("metadata.annotations[tokenry.dev/revoked-by]: ", "ApiToken", revoked, none()),
        ("metadata.ownerReferences: at most 64; ", "ServiceAccount", json!({ "ownerReferences": references }), none()),
        ("spec.policies: at most 8 of them", "ApiToken", none(), json!({ "policies": policies })),
        ("spec.statements: at most 16 of them", "AccessPolicy", none(), json!({ "statements": roles })),
        ("metadata.annotations: at most 256 of them", "Instance", json!({"annotations": many(257)}), none()),
        ("metadata.labels: at most 256 of them", "AccessPolicy", json!({"labels": many(257)}), none()),
        ("metadata.finalizers: at most 16 of them", "ServiceAccount", json!({"finalizers": finalizers(17)}), none()),
        (
            "metadata.ownerReferences: at most 16384 ",
            "ApiToken",
            json!({"ownerReferences": [reference(json!({"name": "a".repeat(17_000)}))]}),
            none(),
        ),
        ("metadata.managedFields: at most 131072 ", "ApiToken", json!({ "managedFields": managed }), none()),
        ("metadata.labels: remove ", "ApiToken", label, none()),
        ("metadata.labels: more than 512 of them", "ApiToken", json!({"labels": many(513)}), none()),
    ]
}

fn finalizers(count: usize) -> Value {
    (0..count).map(|index| json!(format!("example.com/a{index}"))).collect()
}

/// Rules of policies that no new object breaks by its content, each by a part of its message.
const NEVER_BY_CONTENT: [&str; 11] = [
    // A right of the requester.
    " may not ",
    // Stamps of the API server set these.
    "spec.owner: is needed, and nothing stamps it here",
    "metadata.annotations[tokenry.dev/created-by]: says who made the object",
    "metadata.annotations[tokenry.dev/owner-groups]: says which groups the owner is in",
    // Changes and deletions.
    "spec.owner: is kept; ",
    "metadata.annotations: to delete this ",
    "metadata.ownerReferences: this ",
    "metadata.ownerReferences: the account belongs to its token",
    "spec: the token is immutable: ",
    "spec.regenerate: the token is immutable",
    // Writes of a status.
    "status",
];

/// The messages of the rules of all policies on our kinds that refuse, each without its variable parts.
fn messages() -> Vec<String> {
    let text = || "x".to_owned();
    let (name, operator, verifier, require_owner) = (text(), text(), text(), "true".to_owned());
    let options = Options { name, operator, verifier, exempt: Vec::new(), require_owner, namespaces: json!({}) };
    let all = validating(&options);
    let refuses = |policy: &&Value| {
        let of = |other: &&Value| other["spec"]["policyName"] == policy["metadata"]["name"];
        all.iter().find(of).is_some_and(|binding| binding["spec"]["validationActions"][0] == "Deny")
    };
    let ours =
        |policy: &&Value| policy["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"][0] == "tokenry.dev";
    let rules =
        all.iter().filter(refuses).filter(ours).flat_map(|policy| policy["spec"]["validations"].as_array().unwrap());
    rules.map(|rule| rule["messageExpression"].as_str().unwrap().split('\'').skip(1).step_by(2).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_of_a_policy_on_the_content_of_an_object_is_one_that_lint_knows() {
    let (by_content, messages) = (by_content(), messages());
    for message in &messages {
        let content = by_content.iter().any(|(begin, ..)| message.starts_with(begin));
        let never = NEVER_BY_CONTENT.iter().any(|part| message.contains(part));
        assert!(content != never, "add an object that breaks this rule to by_content: {message}");
    }
    let world = Judged::new("content").await.world;
    let (definitions, policies) = (Definitions::default(), ContentPolicies::default());
    for (begin, kind, metadata, more) in by_content {
        assert!(messages.iter().any(|message| message.starts_with(begin)), "no rule says: {begin}");
        let mut spec = smallest(kind);
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut sample = Sample::of(kind, begin.to_owned(), metadata, spec);
        let told = refusal(&world, &sample).await.unwrap_or_else(|| panic!("accepted: {begin}"));
        definitions.complete(&mut sample.object);
        let faults = policies.faults(&sample.object, &world.namespace);
        let fault = faults.iter().map(ToString::to_string).find(|fault| fault.starts_with(begin));
        let fault = fault.unwrap_or_else(|| panic!("{told}: offline only {faults:?}"));
        // The API server names one of the rules that are broken, and the definition comes before a policy.
        let of_definition = !definitions.faults(&sample.object).is_empty();
        assert!(of_definition || told.contains(begin) && told.contains(&fault) || faults.len() > 1, "{told}: {fault}");
        assert_eq!(agree(&world, vec![sample]).await, 1);
    }
}

/// A value that breaks a rule on more than a text, and the field to put it into.
fn breaking(rule: &Ruled) -> Option<(&'static str, Value)> {
    let once = json!({"delivery": "Retain", "claimWithin": "1h"});
    let expiring =
        |rotation: Value| json!({"instanceRef": {"name": "eem"}, "expiry": {"after": "1d"}, "rotation": rotation});
    let all: Vec<(&str, &str, Value)> = vec![
        ("give exactly one of role and actions", "statements.0", json!({"effect": "Deny"})),
        ("rotation.overlap must not", "", expiring(json!({"overlap": "25h"}))),
        ("rotation.schedule.every must", "", expiring(json!({"schedule": {"every": "24h"}}))),
        ("rotation.schedule.beforeExpiry must", "", expiring(json!({"schedule": {"beforeExpiry": "1d"}}))),
        (
            "rotation.schedule.beforeExpiry is",
            "",
            token(json!({"expiry": {"never": true}, "rotation": {"schedule": {"beforeExpiry": "1d"}}})),
        ),
        (
            "restart is not allowed",
            "",
            token(json!({"secret": {"delivery": "Once"}, "restart": [{"kind": "Deployment", "name": "a"}]})),
        ),
        ("revocationReason is allowed", "", token(json!({"revocationReason": "Compromised"}))),
        ("give at most one of after, at and never", "expiry", json!({"after": "1d", "never": true})),
        ("give exactly one of all: true and listed", "SELF", json!({})),
        ("give exactly one of after and at", "SELF", json!({})),
        ("give exactly one of every, cron", "SELF", json!({})),
        ("timeZone is allowed with cron only", "SELF", json!({"every": "1d", "timeZone": "UTC"})),
        ("claimWithin is allowed", "SELF", once),
        ("claimedBy is allowed", "SELF", json!({"delivery": "Retain", "claimedBy": "FirstUse"})),
        ("serviceBinding sets", "SELF", json!({"serviceBinding": {}, "data": {"host": "a"}})),
        ("a key is a name of up to 63", "SELF", json!({"a b": "a"})),
        ("tokenry.dev/… and app", "SELF", json!({"tokenry.dev/a": "a"})),
        ("a key is up to 253", "SELF", json!({"a b": "a"})),
        ("token, token-id, endpoint", "SELF", json!({"token": "a"})),
        ("a label's value", "secret.labels", json!({"a": "b c"})),
        ("tokens.defaultRole: Owner", "tokens", json!({"defaultRole": "Owner"})),
        ("grants: Members is", "grants", json!("Members")),
        ("gives a header and scheme twice", "SELF", json!([{"header": "X-A"}, {"header": "x-a"}])),
        ("give exactly one of header and pathSegment", "SELF", json!({})),
        ("has a path of wildcards", "SELF", json!({"paths": ["/**"]})),
        ("manager.service is needed", "SELF", json!({"endpoints": [{"name": "admin", "type": "internal"}]})),
        (
            "give one of gateway",
            "SELF",
            json!({"name": "admin", "host": "a", "gateway": {}, "ingress": {}, "guard": "Traefik"}),
        ),
        ("an internal endpoint has neither", "SELF", json!({"name": "admin", "type": "internal", "host": "a"})),
        ("an external endpoint needs a guard", "SELF", json!({"name": "admin", "host": "a", "gateway": {}})),
        ("guard: None lets", "SELF", json!({"name": "admin", "host": "a", "gateway": {}, "guard": "None"})),
        ("a Route has no guard", "SELF", json!({"name": "admin", "host": "a", "route": {}, "guard": "Traefik"})),
        (
            "guard: Istio and istio.provider",
            "SELF",
            json!({"name": "admin", "host": "a", "gateway": {}, "guard": "Istio"}),
        ),
        ("* means any organization", "SELF", json!(["a", "*"])),
        ("default must not be longer than max", "SELF", json!({"default": "2d", "max": "1d"})),
        ("selector is required", "SELF", json!({"from": "Selector"})),
    ];
    let found = all.into_iter().find(|(begin, ..)| rule.message.starts_with(begin));
    found.map(|(_, path, value)| (path, value))
}

#[tokio::test]
async fn each_rule_of_the_definitions_refuses_an_object_in_which_lint_finds_it() {
    let world = World::new("each-rule").await;
    for rule in rules().into_iter().filter(|rule| !rule.is_change) {
        let Ruled { kind, path, message, is_text, .. } = &rule;
        let by_form = *is_text && !path.contains('*');
        let spec = if by_form {
            let (_, _, bad) = FORMS.iter().find(|(of, ..)| of == message).unwrap_or_else(|| panic!("{message}"));
            holding(kind, path, json!(bad.last().unwrap()))
        } else {
            let found = breaking(&rule);
            let (field, value) = found.unwrap_or_else(|| panic!("{kind} {path}: add to breaking: {message}"));
            match field {
                "" => value,
                "SELF" => holding(kind, path, value),
                field => holding(kind, field, value),
            }
        };
        refuses(&world, kind, spec, &rule.at(), message).await;
    }
}
