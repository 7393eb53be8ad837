//! Users with ordinary permissions, in a namespace to which the admission policies apply.

use k8s_openapi::api::{
    core::v1::Namespace,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tokenry::{crd::ApiToken, outside::Extent, token::Digest};

use super::{World, message, plane, rights::asking};

/// A namespace to which the admission policies apply.
pub struct Judged {
    /// The world of this namespace.
    pub world: World,
}

/// A user of the API server.
pub struct User<'a> {
    /// The namespace in which the user acts.
    pub judged: &'a Judged,
    /// A client that acts as this user.
    pub client: Client,
    /// The name of the user.
    pub name: String,
    /// The groups of the user, besides that of all users.
    pub groups: Vec<String>,
}

impl Judged {
    pub async fn new(name: &str) -> Self {
        let mut world = World::within(plane(), name, json!({"admission": "judged"})).await;
        world.scope = Extent::of([&world.namespace]);
        let judged = Self { world };
        judged.world.accepts("Instance", "eem", json!({})).await;
        // A policy takes effect some moments after its creation.
        let nobody = judged.user("nobody", &[]).await;
        let probe = async || {
            let spec = json!({"instanceRef": {"name": "eem"}, "role": "admin"});
            let refused = nobody.create("ApiToken", "probe", spec).await.is_err();
            if !refused {
                judged.world.delete("ApiToken", "probe").await;
            }
            refused.then_some(())
        };
        judged.world.eventually("the policies hold", probe).await;
        let stamps = async || {
            // The API server may not know the kind yet when it stamps. It then rejects the request.
            let made = nobody.create("ApiToken", "probe", token(json!({}))).await.ok()?;
            judged.world.delete("ApiToken", "probe").await;
            made.data["spec"].get("owner").map(|_| ())
        };
        judged.world.eventually("owners are stamped", stamps).await;
        judged
    }

    pub async fn token(&self, name: &str) -> Option<ApiToken> {
        self.world.api::<ApiToken>().get_opt(name).await.unwrap()
    }

    /// A user in these groups, with permission to read and write all kinds of tokenry.dev in this namespace.
    pub async fn user(&self, name: &str, groups: &[&str]) -> User<'_> {
        let user = self.stranger(name, groups);
        let verbs = json!(["get", "list", "create", "update", "patch", "delete", "deletecollection"]);
        let ours = ["apitokens", "serviceaccounts", "instances", "accesspolicies"];
        user.may(json!([{"apiGroups": ["tokenry.dev"], "resources": ours, "verbs": verbs}])).await;
        user
    }

    /// A user in these groups, without any permission.
    pub fn stranger(&self, name: &str, groups: &[&str]) -> User<'_> {
        let mut config = self.world.plane.config(self.world.plane.admin_token());
        config.auth_info.impersonate = Some(name.to_owned());
        let all = groups.iter().copied().chain([EVERYBODY]);
        config.auth_info.impersonate_groups = Some(all.map(str::to_owned).collect());
        let mut user = User::of(self, Client::try_from(config).unwrap(), name);
        user.groups = groups.iter().copied().map(str::to_owned).collect();
        user
    }
}

/// The group of all users.
pub const EVERYBODY: &str = "system:authenticated";

impl<'a> User<'a> {
    /// A user with this client. The user gets no permission.
    pub fn of(judged: &'a Judged, client: Client, name: &str) -> Self {
        Self { judged, client, name: name.to_owned(), groups: Vec::new() }
    }

    /// Grants permissions in the user's namespace, by a Role and a RoleBinding. Waits until the first rule is in force.
    pub async fn may(&self, rules: Value) {
        self.may_in(&self.judged.world, rules).await;
    }

    pub async fn may_in(&self, world: &World, rules: Value) {
        let name = format!("r{}", Digest::of(format!("{}{rules}", self.name)).to_string().get(..12).unwrap());
        let role = json!({"metadata": {"name": name}, "rules": rules});
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.name}],
        });
        let params = PostParams::default();
        world.api::<Role>().create(&params, &serde_json::from_value(role).unwrap()).await.unwrap();
        world.api::<RoleBinding>().create(&params, &serde_json::from_value(binding).unwrap()).await.unwrap();
        let rule = &rules[0];
        let first = |key: &str| rule[key][0].as_str().unwrap_or_default();
        let (resource, name) = ((first("resources"), first("apiGroups")), first("resourceNames"));
        world.await_right(true, &asking(&self.name, &[]), first("verbs"), resource, name).await;
    }

    /// Grants a permission on a resource name in the group tokenry.dev. An object of this name need not exist.
    pub async fn may_on(&self, verb: &str, resource: &str, name: &str) {
        self.may(
            json!([{"apiGroups": ["tokenry.dev"], "resources": [resource], "resourceNames": [name], "verbs": [verb]}]),
        )
        .await;
    }

    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk("tokenry.dev", "v1alpha1", kind));
        if kind == "AccessPolicy" {
            resource.plural = "accesspolicies".into();
        }
        Api::namespaced_with(self.client.clone(), &self.judged.world.namespace, &resource)
    }

    pub async fn create(&self, kind: &str, name: &str, spec: Value) -> Result<DynamicObject, String> {
        self.create_with(kind, json!({"name": name}), spec).await
    }

    pub async fn create_with(&self, kind: &str, metadata: Value, spec: Value) -> Result<DynamicObject, String> {
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        let object = serde_json::from_value(object).unwrap();
        self.api(kind).create(&PostParams::default(), &object).await.map_err(message)
    }

    pub async fn patch(&self, kind: &str, name: &str, patch: Value) -> Result<DynamicObject, String> {
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(message)
    }

    pub async fn change(&self, kind: &str, name: &str, spec: Value) -> Result<DynamicObject, String> {
        self.patch(kind, name, json!({ "spec": spec })).await
    }

    pub async fn delete(&self, kind: &str, name: &str) -> Result<(), String> {
        self.api(kind).delete(name, &DeleteParams::default()).await.map(drop).map_err(message)
    }

    pub fn home(&self) -> &str {
        &self.judged.world.namespace
    }
}

/// The spec of a token or an account of the Instance `eem`, with further fields.
pub fn token(more: Value) -> Value {
    let mut spec = json!({"instanceRef": {"name": "eem"}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// That a request was refused, by this sentence. Where it names a right of our group, the Role that grants it, and
/// nothing else, follows.
pub fn refused<T>(answer: Result<T, String>, sentence: &str) {
    let told = answer.err().unwrap_or_else(|| panic!("let in, and not refused by: {sentence}"));
    let said = told.split(ADVICE).next().unwrap().split(SOON).next().unwrap();
    assert!(said.ends_with(&format!("denied request: {sentence}")), "{told}");
    let right = ["assign ", "use ", "revoke "].iter().find_map(|verb| {
        let (_, right) = sentence.split_once(&format!("may not {verb}"))?;
        let (object, namespace) = right.split_once(" in namespace ").unwrap();
        Some(format!("{verb}{object} in {namespace}"))
    });
    assert_eq!(role(&told).map(|role| granted(&role)), right, "{told}");
}

/// How the hint begins that a right may be granted in some seconds.
const SOON: &str = "; if you were made ";

/// How the advice begins that ends a refusal for want of a right.
const ADVICE: &str = "; to allow it, apply this Role and bind it to them: ";

/// The Role that a refusal shows.
pub fn role(told: &str) -> Option<Value> {
    told.split_once(ADVICE).map(|(_, role)| serde_json::from_str(role).unwrap())
}

/// The only right that a Role grants, as a refusal names it.
fn granted(role: &Value) -> String {
    let only = |values: &Value| {
        let [value] = values.as_array().unwrap().as_slice() else { panic!("it grants more than one right: {role}") };
        value.clone()
    };
    let rule = only(&role["rules"]);
    let [verb, resource, group, name] =
        ["verbs", "resources", "apiGroups", "resourceNames"].map(|part| only(&rule[part]).as_str().unwrap().to_owned());
    format!("{verb} {resource}.{group}/{name} in {}", role["metadata"]["namespace"].as_str().unwrap())
}

/// Sets labels of the world's namespace.
pub async fn relabel(world: &World, labels: Value) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    namespaces.patch(&world.namespace, &PatchParams::default(), &patch).await.unwrap();
}
