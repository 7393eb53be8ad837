//! The admission policies: who may write what. CEL, no webhook: ValidatingAdmissionPolicy with `authorizer`, and
//! MutatingAdmissionPolicy (KEP-3962) for what is stamped.
//!
//! A policy sees the object, the one before, the requester and its rights, and no other object. What it needs of an
//! Instance the operator mirrors into `status` of the token. Rights are ordinary RBAC rules on resources that need not
//! exist.
//!
//! Fields are asked for with `has()` or `?`: policies, definitions and programs can be of different releases.

mod accounts;
mod bounds;
mod cel;
mod instances;
mod policies;
mod stamps;
mod status;
mod tokens;

use serde_json::{Value, json};

/// How the policies are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// What their names begin with.
    pub name: String,
    /// The user name of the operator: nothing but it may write a status.
    pub operator: String,
    /// The user name of the verifier: of a status it may write when tokens were used.
    pub verifier: String,
    /// Users to whom no policy applies but that on status, besides the operator and Kubernetes' own collectors.
    pub exempt: Vec<String>,
    /// Whether everything that is made has to have an owner, where nothing stamps one: `true`, or something else.
    pub require_owner: String,
    /// The namespaces in which they hold, by label, in JSON; `{}` for all. That on the verifier's writes holds in all.
    pub namespaces: Value,
}

/// Who deletes what is left over, and has to be let.
const COLLECTORS: [&str; 3] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",
];

/// A validation: an expression that has to hold, and one for the text that is told where it does not.
pub struct Rule {
    expression: String,
    message: String,
}

impl Rule {
    fn new(expression: impl Into<String>, message: impl Into<String>) -> Self {
        Self { expression: expression.into(), message: message.into() }
    }
}

/// A policy without what all of them share.
pub struct AdmissionPolicy {
    name: &'static str,
    resources: &'static [&'static str],
    operations: &'static [&'static str],
    /// Named expressions, in the order in which they can name one another. Each has a budget of its own for checks of
    /// rights.
    variables: Vec<(String, String)>,
    rules: Vec<Rule>,
}

/// What the validating policies are: every object that is to be applied.
pub fn validating(options: &Options) -> Vec<Value> {
    let required = cel::quoted(&options.require_owner);
    let judged = [tokens::policy(&required), accounts::policy(&required), policies::policy(), instances::policy()];
    let mut all: Vec<Value> = judged
        .into_iter()
        .flat_map(|policy| bound(options, policy.unless_going(), &conditions(options), "Deny"))
        .collect();
    all.extend(bound(options, bounds::policy(), &conditions(options)[..1], "Deny"));
    all.extend(bound(options, tokens::warnings(), &conditions(options), "Warn"));
    all.extend(bound(options, status::policy(options), &[], "Deny"));
    let everywhere = Options { namespaces: json!({}), ..options.clone() };
    all.extend(bound(&everywhere, status::verifier(options), &status::of_verifier(options), "Deny"));
    all
}

/// A deletion in a namespace that is going. Nothing else is exempt there: a finalizer can hold a token for long. A
/// condition sees no namespace, so it is a variable.
const GOING: &str = "request.operation == 'DELETE' && namespaceObject != null && \
    namespaceObject.?status.?phase.orValue('') == 'Terminating'";

impl AdmissionPolicy {
    /// The same, for everything but deletions in a namespace that is going.
    fn unless_going(mut self) -> Self {
        self.variables.insert(0, ("going".into(), GOING.into()));
        self.rules.iter_mut().for_each(|rule| rule.expression = format!("variables.going || ({})", rule.expression));
        self
    }
}

/// What is stamped, where the server has MutatingAdmissionPolicy.
pub fn mutating(options: &Options) -> Vec<Value> {
    let stamps = stamps::objects(options, &conditions(options));
    stamps.into_iter().chain(stamps::rehearsed(options)).collect()
}

/// What a request has to be for a policy to judge it: not of somebody who is exempt, and a change of more than metadata
/// that is free.
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

/// A policy and its binding.
fn bound(options: &Options, policy: AdmissionPolicy, conditions: &[Value], action: &str) -> [Value; 2] {
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
        "apiGroups": [crate::crd::GROUP], "apiVersions": ["*"],
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
