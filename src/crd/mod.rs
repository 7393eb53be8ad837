//! The kinds of `tokenry.dev/v1alpha1`, and their parts.
#![allow(unreachable_pub, reason = "kube's derives copy these types into functions")]
#![allow(clippy::duplicated_attributes, reason = "printer columns of a kind are alike in all but their names")]

/// Declares an enum together with the list of its variants, so that no variant is missing from the list.
macro_rules! listed {
    ($(#[$about:meta])* $seen:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident),* $(,)? }) => {
        $(#[$about])*
        $seen enum $name {$(
            $(#[$doc])*
            $variant,
        )*}

        impl $name {
            /// All variants, in the order of their declaration.
            $seen const ALL: [Self; [$(stringify!($variant)),*].len()] = [$(Self::$variant),*];
        }
    };
}
pub(crate) use listed;

pub mod access_policy;
pub mod account;
pub mod api_token;
pub mod condition;
pub mod definition;
pub mod endpoint;
pub mod event_name;
pub mod fault;
pub mod guarding;
pub mod instance;
pub mod keys;
pub mod name;
pub mod others;
pub mod permission;
pub mod reason;
pub mod schema;
pub mod secret;
pub mod subject;
pub mod text;
pub mod window;
pub mod workload;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use access_policy::AccessPolicy;
pub use account::Account;
pub use api_token::ApiToken;
pub use condition::Conditions;
pub use event_name::EventName;
pub use fault::Fault;
pub use instance::Instance;
pub use name::ObjectName;
pub use others::Others;
pub use reason::Reason;
pub use secret::SealedSecret;
pub use subject::Subject;
pub use window::MaintenanceWindow;
pub use workload::{RestartTarget, WorkloadKind};

/// The API group of every kind.
pub const GROUP: &str = "tokenry.dev";

/// The field of a status that lists the unreadable fields. The CRDs do not have this field: it is set while an object
/// is read.
pub const UNREADABLE: &str = "unreadable";

/// A reference to an Instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRef {
    /// Name of the Instance.
    pub name: ObjectName,
    /// Namespace of the Instance. If omitted, the namespace of the object that refers to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<ObjectName>,
}

impl InstanceRef {
    /// The namespace of the Instance, for a referrer in the namespace `own`.
    pub fn namespace_or<'a>(&'a self, own: &'a str) -> &'a str {
        self.namespace.as_ref().map_or(own, ObjectName::as_str)
    }

    /// True if the reference means `instance`, for a referrer in the namespace `own`.
    pub fn means(&self, instance: &Instance, own: &str) -> bool {
        let meta = &instance.metadata;
        meta.name.as_deref() == Some(self.name.as_str()) && meta.namespace.as_deref() == Some(self.namespace_or(own))
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// True for every value: the field is read, but never written.
fn never_written<T: ?Sized>(_: &T) -> bool {
    true
}

/// Makes `owner` the owner of `object`: sets the namespace, the owner reference, and the labels of all objects that
/// Tokenry creates.
pub fn give(object: &mut impl Resource, owner: &impl Resource<DynamicType = ()>) {
    let (uid, meta) = (owner.meta().uid.clone().unwrap_or_default(), object.meta_mut());
    meta.namespace = owner.meta().namespace.clone();
    meta.labels = Some([(name::MANAGED_BY.into(), name::MANAGER.into()), (name::OWNER_UID.into(), uid)].into());
    meta.owner_references = owner.controller_owner_ref(&()).map(|owner| vec![owner]);
}

/// True if the object with this uid, of a kind of `tokenry.dev`, is the controller of `object`.
pub fn belongs(object: &impl Resource, uid: &str) -> bool {
    let ours = |version: &str| version.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'));
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.any(|owner| owner.uid == uid && owner.controller == Some(true) && ours(&owner.api_version))
}

/// The CustomResourceDefinitions of all kinds, as `tokenry crds` prints them and `crds/` holds them.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    [AccessPolicy::crd(), Account::crd(), ApiToken::crd(), Instance::crd()].map(finished).into()
}

/// The generation that a new object has observed: none of its own. It is the default of the status in the definition.
///
/// For kstatus, an object without a status is as it should be. `helm --wait` and Flux would not wait for a new token.
const UNOBSERVED: i64 = -1;

/// The definition with one line for each paragraph of a description, and with the default status. It is without
/// `nullable`, so that `null` means the same as an omitted field.
///
/// The API server drops a `null` from a field that is not nullable. If a `null` were kept, a user could use it to evade
/// a rule with `has()`.
fn finished(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, value| key != "nullable" || *value != Value::Bool(true));
                map.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut value = serde_json::to_value(definition).expect("a definition is plain data");
    strip(&mut value);
    schema::describe(&mut value);
    for version in value["spec"]["versions"].as_array_mut().into_iter().flatten() {
        let status = &mut version["schema"]["openAPIV3Schema"]["properties"]["status"];
        status["default"] = json!({ "observedGeneration": UNOBSERVED });
    }
    serde_json::from_value(value).expect("only optional keys were removed")
}
