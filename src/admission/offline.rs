//! Judges a new object by the policies that refuse it for its content, without a cluster.
//!
//! The expressions are those of [`validating`]. A rule that asks for a permission is left out, because it lets in a
//! requester with that permission. The object is judged as it is after the stamps of the API server.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use cel::{Context, Env, Program, Value as Evaluated};
use serde_json::{Value, json};

use super::{Options, validating};
use crate::crd::{Fault, GROUP, definition::environment, definitions, name};

/// The policies that refuse new objects for their content, compiled.
pub struct ContentPolicies {
    env: Arc<Env>,
    /// The plural name of each kind, by its name.
    resources: BTreeMap<String, String>,
    policies: Vec<ContentPolicy>,
}

/// The parts of a policy that need nothing but the object.
struct ContentPolicy {
    /// The plural names of the kinds that the policy judges.
    resources: Vec<String>,
    variables: Vec<(String, Program)>,
    /// For each rule: the expression that has to be true, and the expression for its message.
    rules: Vec<(Program, Program)>,
}

impl Default for ContentPolicies {
    fn default() -> Self {
        let env = Arc::new(environment());
        let names = definitions().into_iter().map(|definition| definition.spec.names);
        Self {
            resources: names.map(|names| (names.kind, names.plural)).collect(),
            policies: refusing().iter().map(|policy| ContentPolicy::of(policy, &env)).collect(),
            env,
        }
    }
}

impl ContentPolicies {
    /// The faults of a new object that is complete. An object of another kind has none. A rule about a field of another
    /// type than the definition says finds none, because the definition does. `namespace` is that of an object that
    /// names none.
    pub fn faults(&self, object: &Value, namespace: &str) -> Vec<Fault> {
        let Some(resource) = object["kind"].as_str().and_then(|kind| self.resources.get(kind)) else {
            return Vec::new();
        };
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
        let request = json!({
            "operation": "CREATE", "namespace": namespace, "dryRun": false, "resource": {"resource": resource},
            "userInfo": {"username": ""},
        });
        let given = [("object", stamped(object)), ("request", request)];
        let absent = ["oldObject", "namespaceObject"].map(|name| (name, Value::Null));
        let mut context = Context::with_env(self.env.clone());
        for (name, value) in given.into_iter().chain(absent) {
            context.add_variable_from_value(name, cel::to_value(value).unwrap_or(Evaluated::Null));
        }
        let judging = self.policies.iter().filter(|policy| policy.resources.contains(resource));
        judging.flat_map(|policy| policy.faults(&context)).collect()
    }
}

impl ContentPolicy {
    fn of(policy: &Value, env: &Env) -> Self {
        let compiled = |text: &str| env.compile(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let (mut asking, mut variables) = (BTreeSet::new(), Vec::new());
        for variable in listed(&policy["variables"]) {
            let (name, expression) = (text(&variable["name"]), text(&variable["expression"]));
            if asks(expression, &asking) {
                asking.insert(name);
            } else {
                variables.push((name.to_owned(), compiled(expression)));
            }
        }
        let rules = listed(&policy["validations"]).filter(|rule| !asks(text(&rule["expression"]), &asking));
        let rules = rules.map(|rule| [&rule["expression"], &rule["messageExpression"]].map(|it| compiled(text(it))));
        let resources = listed(&policy["matchConstraints"]["resourceRules"][0]["resources"]);
        Self {
            resources: resources.map(|resource| text(resource).to_owned()).collect(),
            rules: rules.map(|[rule, message]| (rule, message)).collect(),
            variables,
        }
    }

    fn faults(&self, context: &Context<'_, '_>) -> Vec<Fault> {
        let mut known = HashMap::new();
        for (name, program) in &self.variables {
            if let Ok(value) = program.execute(&knowing(context, &known)) {
                known.insert(name.clone(), value);
            }
        }
        let context = knowing(context, &known);
        let is_broken = |rule: &Program| matches!(rule.execute(&context), Ok(Evaluated::Bool(false)));
        let broken = self.rules.iter().filter(|(rule, _)| is_broken(rule));
        broken.map(|(_, message)| fault(message.execute(&context).ok())).collect()
    }
}

/// The context with the variables that are known.
fn knowing<'b, 'v>(context: &'b Context<'_, 'v>, known: &HashMap<String, Evaluated>) -> Context<'b, 'v> {
    let mut inner = context.new_inner_scope();
    inner.add_variable_from_value("variables", known.clone());
    inner
}

/// A fault with the message of a rule, which begins with the path of the field.
fn fault(message: Option<Evaluated>) -> Fault {
    let message = if let Some(Evaluated::String(text)) = message {
        text.to_string()
    } else {
        "spec: is refused by an admission policy".to_owned()
    };
    let (path, message) = message.split_once(": ").unwrap_or(("spec", &message));
    Fault::invalid(path.to_owned(), message)
}

/// The specs of the policies that refuse new objects of our kinds, and do not only warn.
fn refusing() -> Vec<Value> {
    let nobody = String::new;
    let all = validating(&Options {
        name: nobody(),
        operator: nobody(),
        verifier: nobody(),
        exempt: Vec::new(),
        // The API server stamps owners.
        require_owner: "false".into(),
        namespaces: json!({}),
    });
    let refuses = |policy: &Value| {
        let mut bindings = all.iter().filter(|other| other["spec"]["policyName"] == policy["metadata"]["name"]);
        bindings.any(|binding| binding["spec"]["validationActions"] == json!(["Deny"]))
    };
    let judges = |policy: &Value| {
        let rule = &policy["spec"]["matchConstraints"]["resourceRules"][0];
        rule["apiGroups"] == json!([GROUP]) && listed(&rule["operations"]).any(|operation| operation == "CREATE")
    };
    all.iter().filter(|policy| refuses(policy) && judges(policy)).map(|policy| policy["spec"].clone()).collect()
}

/// True if an expression asks for a permission, itself or by one of the variables in `asking`.
fn asks(expression: &str, asking: &BTreeSet<&str>) -> bool {
    let name =
        |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
    let mut names = expression.split("variables.").skip(1).map(name);
    expression.contains("authorizer.") || names.any(|name| asking.contains(&*name))
}

/// The object after the stamps of the API server, as far as the policies read them. The stamps replace some annotations
/// that a manifest has, and the values of labels for the organizations that it lists.
fn stamped(object: &Value) -> Value {
    let mut object = object.clone();
    let organizations: Vec<_> =
        listed(&object["spec"]["organizations"]["listed"]).map(|name| text(name).to_owned()).collect();
    let replaced = match object["spec"]["revoked"] == true {
        true => &[name::CREATED_BY, name::OWNER_GROUPS, name::REVOKED_BY][..],
        false => &[name::CREATED_BY, name::OWNER_GROUPS],
    };
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !replaced.contains(&&**key));
    }
    for (key, value) in object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut).into_iter().flatten() {
        let of = key.strip_prefix(name::ORGANIZATION);
        if of.is_some_and(|name| organizations.iter().any(|listed| listed == name)) {
            *value = Value::String(String::new());
        }
    }
    object
}

fn listed(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::name::MOST_MARKS;

    /// The faults of an object with this metadata and spec, each as `path: message`.
    fn told(kind: &str, metadata: Value, spec: Value) -> Vec<String> {
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        let policies = ContentPolicies::default();
        policies.faults(&object, "events").iter().map(ToString::to_string).collect()
    }

    fn of_token(metadata: Value, more: Value) -> Vec<String> {
        let mut spec = json!({"instanceRef": {"name": "eem"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        told("ApiToken", metadata, spec)
    }

    #[test]
    fn every_expression_about_content_is_one_that_is_evaluated() {
        let policies = ContentPolicies::default();
        let counted = |of: fn(&ContentPolicy) -> usize| policies.policies.iter().map(of).sum::<usize>();
        assert!(counted(|policy| policy.rules.len()) >= 12);
        let all: Vec<_> = policies.policies.iter().flat_map(|policy| &policy.resources).collect();
        assert!(policies.resources.values().all(|resource| all.contains(&resource)));
        assert!(asks("variables.mayUse && true", &["mayUse"].into()) && !asks("variables.mayUser", &["mayUse"].into()));
    }

    #[test]
    fn an_object_is_refused_for_its_content_alone() {
        let well = json!({"name": "ci", "labels": {"team": "a"}, "annotations": {"a": "b"}});
        assert_eq!(of_token(well, json!({"owner": "user:alice", "role": "admin", "policies": ["p"]})), [""; 0]);
        assert_eq!(of_token(json!({"name": "ci"}), json!({"secret": {"name": "other"}})), [""; 0]);
        let many = |count: usize| (0..count).map(|n| (format!("a{n}"), json!("a"))).collect::<Value>();
        assert_eq!(of_token(json!({"labels": many(MOST_MARKS)}), json!({})), [""; 0]);
        let faults = of_token(json!({"labels": many(MOST_MARKS + 1)}), json!({}));
        assert_eq!(faults, ["metadata.labels: at most 256 of them; remove some"]);
        let faults = of_token(json!({}), json!({"owner": "user:system:serviceaccount:ci:bot"}));
        let told = "spec.owner: write the user of a core ServiceAccount as serviceaccount:NAMESPACE/NAME";
        assert_eq!(faults, [told]);
        assert_eq!(super::ContentPolicies::default().faults(&json!({"kind": "Pod"}), "events"), []);
    }

    #[test]
    fn stamps_replace_the_annotations_and_labels_of_a_manifest() {
        let by = |key: &str| json!({"annotations": {key: "user:bob"}});
        assert_eq!(of_token(by(name::CREATED_BY), json!({})), [""; 0]);
        assert_eq!(of_token(by(name::OWNER_GROUPS), json!({})), [""; 0]);
        assert_eq!(of_token(by(name::REVOKED_BY), json!({"revoked": true})), [""; 0]);
        assert!(
            of_token(by(name::REVOKED_BY), json!({}))[0].starts_with("metadata.annotations[tokenry.dev/revoked-by]: ")
        );
        let labelled = json!({"labels": {"organization.tokenry.dev/a": "x"}});
        assert_eq!(of_token(labelled.clone(), json!({"organizations": {"listed": ["a"]}})), [""; 0]);
        let told = &of_token(labelled, json!({}))[0];
        assert!(told.starts_with("metadata.labels: remove organization.tokenry.dev/a; "), "{told}");
    }
}
