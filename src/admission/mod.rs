//! The admission policies on writes of Tokenry's objects. They are CEL, without a webhook: ValidatingAdmissionPolicy
//! with `authorizer`, and MutatingAdmissionPolicy (KEP-3962) for stamps.
//!
//! A policy sees the new object, the old object, the requester and the requester's permissions. It cannot see other
//! objects. So the operator copies some fields of the Instance into the token's `status`, for the policies. The
//! permissions are ordinary RBAC rules. Their resources need not exist.
//!
//! The expressions test fields by `has()` or `?`, because policies, definitions and programs can come from different
//! releases.

mod accounts;
mod bounds;
mod cel;
mod endings;
mod grants;
mod instances;
mod marks;
mod membership;
mod offline;
mod policies;
mod stamps;
mod status;
mod tokens;

pub use offline::ContentPolicies;
use serde_json::{Value, json};

/// The options of the policies.
#[derive(Clone, Debug)]
pub struct Options {
    /// The prefix of the policies' names.
    pub name: String,
    /// The user name of the operator. Only the operator may write a status.
    pub operator: String,
    /// The user name of the verifier. In a status, the verifier may write only `status.use` of tokens.
    pub verifier: String,
    /// Further users that are exempt from all policies except the policy on status. The operator and Kubernetes' own
    /// collectors are always exempt.
    pub exempt: Vec<String>,
    /// The text `true` requires an owner of each new object. Any other text does not. Stamps set an owner before this
    /// check.
    pub require_owner: String,
    /// Label selector of the namespaces in which the policies apply, as JSON. `{}` selects all namespaces. The policy
    /// on the verifier's writes always applies in all namespaces.
    pub namespaces: Value,
}

/// The users of Kubernetes' own controllers, which delete left-over objects. They are exempt.
const COLLECTORS: [&str; 3] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",
];

/// A validation: a CEL expression that must be true, and a CEL expression for the message if it is false.
pub struct Rule {
    expression: String,
    message: String,
}

impl Rule {
    fn new(expression: impl Into<String>, message: impl Into<String>) -> Self {
        Self { expression: expression.into(), message: message.into() }
    }
}

/// The parts in which the policies differ.
pub struct AdmissionPolicy {
    name: &'static str,
    resources: &'static [&'static str],
    operations: &'static [&'static str],
    /// Named CEL expressions. Each can use the ones before it. Each has its own budget for permission checks.
    variables: Vec<(String, String)>,
    rules: Vec<Rule>,
}

/// All validating policies and their bindings, as Kubernetes objects.
pub fn validating(options: &Options) -> Vec<Value> {
    let required = cel::quoted(&options.require_owner);
    let judged = [
        tokens::policy(&required),
        accounts::policy(&required),
        membership::policy(),
        policies::policy(),
        instances::policy(),
    ];
    let mut all: Vec<Value> = judged
        .into_iter()
        .flat_map(|policy| bound(options, policy.unless_going(), &conditions(options), "Deny"))
        .collect();
    all.extend(bound(options, bounds::policy(), &conditions(options)[..1], "Deny"));
    all.extend(bound(options, marks::policy(), &conditions(options)[..1], "Deny"));
    for warnings in [instances::warnings(), tokens::warnings(), endings::of_account(), endings::of_token()] {
        all.extend(bound(options, warnings, &conditions(options), "Warn"));
    }
    all.extend(bound(options, status::policy(options), &[], "Deny"));
    all.extend(bound_in(grants::GROUP, options, grants::reserved(), &conditions(options)[..1], "Deny"));
    let everywhere = Options { namespaces: json!({}), ..options.clone() };
    all.extend(bound(&everywhere, status::verifier(options), &status::of_verifier(options), "Deny"));
    all.extend(bound_in(grants::GROUP, &everywhere, grants::policy(), &grants::of_operator(options), "Deny"));
    all
}

/// CEL: true for a deletion in a namespace that is being deleted. Other requests in such a namespace are judged,
/// because a finalizer can keep a token for a long time. The expression is a variable, because a match condition cannot
/// see the namespace.
const GOING: &str = "request.operation == 'DELETE' && namespaceObject != null && \
    namespaceObject.?status.?phase.orValue('') == 'Terminating'";

impl AdmissionPolicy {
    /// The same policy, but it permits all deletions in a namespace that is being deleted.
    fn unless_going(mut self) -> Self {
        self.variables.insert(0, ("going".into(), GOING.into()));
        self.rules.iter_mut().for_each(|rule| rule.expression = format!("variables.going || ({})", rule.expression));
        self
    }
}

/// All mutating policies and their bindings, as Kubernetes objects. They need an API server with
/// MutatingAdmissionPolicy.
pub fn mutating(options: &Options) -> Vec<Value> {
    let stamps = stamps::objects(options, &conditions(options));
    stamps.into_iter().chain(stamps::rehearsed(options)).collect()
}

/// The match conditions of the policies. The first excludes exempt users. The second excludes updates that change only
/// free metadata.
fn conditions(options: &Options) -> Vec<Value> {
    let exempt = COLLECTORS
        .iter()
        .map(|user| (*user).to_owned())
        .chain([options.operator.clone()])
        .chain(options.exempt.clone());
    let exempt: Vec<_> = exempt.map(|user| cel::quoted(&user)).collect();
    vec![
        json!({"name": "not-exempt", "expression": format!("!(request.userInfo.username in [{}])", exempt.join(", "))}),
        json!({"name": "judged", "expression": cel::judged()}),
    ]
}

/// The users in [`Options::exempt`], as a policy's first match condition names them.
pub fn exempted(condition: &str) -> Vec<String> {
    let named = condition.split('\'').skip(1).step_by(2).map(str::to_owned);
    named.skip(COLLECTORS.len() + 1).collect()
}

/// A policy on kinds of tokenry.dev, and its binding.
fn bound(options: &Options, policy: AdmissionPolicy, conditions: &[Value], action: &str) -> [Value; 2] {
    bound_in(crate::crd::GROUP, options, policy, conditions, action)
}

/// A policy on kinds of an API group, and its binding.
fn bound_in(group: &str, options: &Options, policy: AdmissionPolicy, conditions: &[Value], action: &str) -> [Value; 2] {
    let name = format!("{}-{}", options.name, policy.name);
    let variables: Vec<_> = policy
        .variables
        .into_iter()
        .map(|(name, expression)| json!({"name": name, "expression": expression}))
        .collect();
    let rules = policy
        .rules
        .into_iter()
        .map(|rule| json!({"expression": rule.expression, "messageExpression": rule.message, "reason": "Forbidden"}));
    let rule = json!({
        "apiGroups": [group], "apiVersions": ["*"],
        "operations": policy.operations, "resources": policy.resources,
    });
    [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}, "matchConditions": conditions,
                "variables": variables, "validations": rules.collect::<Vec<_>>(),
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": [action],
                "matchResources": {"namespaceSelector": options.namespaces},
            },
        }),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::crd::{account::AccountSpec, api_token::ApiTokenSpec, schema::tests::fields};

    /// True if an expression of the policy names the field.
    pub(crate) fn mentions(policy: &AdmissionPolicy, field: &str) -> bool {
        let rules = policy.rules.iter().map(|rule| &rule.expression);
        let mut all = policy.variables.iter().map(|(_, expression)| expression).chain(rules);
        all.any(|text| {
            let named = |(at, _): (usize, &str)| {
                let rest = &text[at + field.len()..];
                text[..at].ends_with(['.', '?', '\'']) && !rest.starts_with(|c: char| c.is_alphanumeric())
            };
            text.match_indices(field).any(named)
        })
    }

    #[test]
    fn every_field_that_gives_a_token_or_an_account_something_is_asked_about() {
        let told = ["displayName", "description"];
        // Fields that only end, shorten or keep a token, and do not name its owner.
        let narrowing = ["active", "immutable", "expiry", "rotation", "regenerate", "revocationReason"];
        // The policy on membership asks about this field of both kinds.
        let elsewhere = ["policies"];
        assert!(elsewhere.iter().all(|field| mentions(&membership::policy(), field)));
        let free = |field: &String| told.iter().chain(&narrowing).chain(&elsewhere).any(|free| free == field);
        for (policy, fields) in
            [(tokens::policy("true"), fields::<ApiTokenSpec>()), (accounts::policy("true"), fields::<AccountSpec>())]
        {
            for field in fields.iter().filter(|field| !free(field)) {
                assert!(mentions(&policy, field), "{}: {field}: who may ask for it?", policy.name);
            }
        }
        assert!(!mentions(&accounts::policy("true"), "own"), "the beginning of a name is another name");
    }

    #[test]
    fn every_refusal_begins_with_the_field_that_it_is_about() {
        let options = Options {
            name: "tokenry".into(),
            operator: "operator".into(),
            verifier: "verifier".into(),
            exempt: Vec::new(),
            require_owner: "true".into(),
            namespaces: json!({}),
        };
        let mut seen = 0;
        for policy in validating(&options).into_iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy") {
            for rule in policy["spec"]["validations"].as_array().unwrap() {
                let message = rule["messageExpression"].as_str().unwrap();
                let texts: Vec<_> = message.split('\'').skip(1).step_by(2).filter(|text| text.contains(": ")).collect();
                let first = texts.first().unwrap_or_else(|| panic!("{message}"));
                let named = ["spec: ", "spec.", "status: ", "status.", "metadata.", "rules: ", "roleRef: "]
                    .iter()
                    .any(|at| first.starts_with(at));
                assert!(named, "{message}");
                seen += 1;
            }
        }
        assert!(seen > 30, "{seen}");
    }
}
