//! The objects in the documents, and the judgement of each of them.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_saphyr::Spanned;

use super::{
    report::Report,
    tree::{Before, Document, Position, Tree},
};
use crate::{
    admission::ContentPolicies,
    controller::manifests::{Manifest, Manifests},
    crd::{Fault, GROUP, Reason, definition::Definitions},
};

/// The API version of all kinds.
const VERSION: &str = "tokenry.dev/v1alpha1";

/// An object as written in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawObject<'a> {
    pub(super) file: &'a str,
    start: Position,
    /// The text before that of which the positions in `tree` are.
    before: Before,
    tree: &'a Tree,
    /// The API version and the kind, its own or those that its list gives. Empty if there is none.
    version: &'a str,
    kind: &'a str,
}

impl<'a> RawObject<'a> {
    /// Adds the object of a document, or the objects of a list.
    pub(super) fn unfold(file: &'a str, Document { before, tree }: &'a Document, objects: &mut Vec<Self>) {
        Self::of(file, *before, tree, None).unfold_list(objects);
    }

    /// The object in `tree`. `list` has the version and the kind that its list gives.
    fn of(file: &'a str, before: Before, tree: &'a Spanned<Tree>, list: Option<(&'a str, &'a str)>) -> Self {
        let own = |name: &str| tree.value.text(name);
        let given = list.filter(|_| matches!(tree.value, Tree::Fields(_)));
        let (version, kind) = match (own("apiVersion"), own("kind")) {
            (None, None) => given.unwrap_or_default(),
            (version, kind) => (version.unwrap_or_default(), kind.unwrap_or_default()),
        };
        Self { file, start: tree.referenced.into(), before, tree: &tree.value, version, kind }
    }

    fn unfold_list(self, objects: &mut Vec<Self>) {
        let Self { file, before, version, kind, .. } = self;
        // An item without version and kind has those of its list, as kubectl reads it.
        let ours = kind.strip_suffix("List").filter(|_| self.is_ours()).map(|kind| (version, kind));
        if ours.is_none() && (version, kind) != ("v1", "List") {
            return objects.push(self);
        }
        let items = self.tree.items("items").iter();
        items.for_each(|item| Self::of(file, before, item, ours).unfold_list(objects));
    }

    /// True for an object of our API group.
    fn is_ours(&self) -> bool {
        self.version.split('/').next() == Some(GROUP)
    }

    /// True for an object of our API group, and for one that no API server takes, because its version is missing.
    pub(super) fn is_judged(&self) -> bool {
        let has = |name: &str| self.tree.field(name).is_some();
        self.is_ours() || self.version.is_empty() && has("metadata") && (has("kind") || has("spec"))
    }

    /// The name and the labels, if the object is a namespace.
    pub(super) fn namespace(&self) -> Option<(String, BTreeMap<String, String>)> {
        let is_one = (self.version, self.kind) == ("v1", "Namespace");
        let metadata = self.tree.field("metadata").filter(|_| is_one)?.1;
        let labels = metadata.field("labels").and_then(|(_, labels)| serde_json::from_value(labels.value()).ok());
        Some((metadata.text("name")?.to_owned(), labels.unwrap_or_default()))
    }

    /// The position of a field.
    pub(super) fn position(&self, path: &str) -> Position {
        self.tree.position(path, self.start).after(self.before)
    }

    /// The object in words, such as `ApiToken events/ci`.
    pub(super) fn named(&self, namespace: &str) -> String {
        let metadata = self.tree.field("metadata").map(|(_, metadata)| metadata);
        let text = |name: &str| metadata.and_then(|metadata| metadata.text(name));
        let name = text("name").or_else(|| text("generateName")).unwrap_or("(no name)");
        let kind = if self.kind.is_empty() { "object" } else { self.kind };
        format!("{kind} {}/{name}", text("namespace").unwrap_or(namespace))
    }
}

/// The rules of the API server on new objects.
#[derive(Default)]
pub(super) struct CreationRules {
    definitions: Definitions,
    policies: ContentPolicies,
}

/// An object, judged by its definition and by the admission policies.
pub(super) struct LintedObject<'a> {
    object: RawObject<'a>,
    named: String,
    faults: Vec<Fault>,
    /// The object for the checks of the controllers. `None` if it cannot be read as an object of its kind.
    manifest: Option<Manifest>,
}

impl<'a> LintedObject<'a> {
    /// Judges an object by its definition, and by the policies on its content.
    pub(super) fn of(object: RawObject<'a>, rules: &CreationRules, namespace: &str) -> Self {
        let CreationRules { definitions, policies } = rules;
        let named = object.named(namespace);
        let unserved = unserved(&object, definitions);
        if !unserved.is_empty() {
            return Self { object, named, faults: unserved, manifest: None };
        }
        let mut value = object.tree.value();
        (value["apiVersion"], value["kind"]) = (json!(object.version), json!(object.kind));
        definitions.complete(&mut value);
        let mut faults = definitions.faults(&value);
        let mut refused = policies.faults(&value, namespace);
        refused.retain(|fault| faults.iter().all(|other| other.path != fault.path));
        faults.extend(refused);
        let manifest = match manifest(&value, namespace) {
            Ok(manifest) => Some(manifest),
            Err(error) if faults.is_empty() => {
                faults.push(Fault::invalid("spec", format!("cannot be read: {error}")));
                None
            }
            Err(_) => None,
        };
        Self { object, named, faults, manifest }
    }

    /// Adds the object to the manifests, so that others can refer to it.
    pub(super) fn show(&self, manifests: &mut Manifests) {
        match &self.manifest {
            Some(manifest) => manifests.add(manifest),
            None => manifests.add_unread(self.named.clone()),
        }
    }

    /// Adds all faults of the object, and the checks that only a cluster can settle.
    pub(super) fn tell(&self, manifests: &Manifests, now: Timestamp, report: &mut Report) {
        let examined = self.manifest.as_ref().map(|manifest| manifests.examine(manifest, now)).unwrap_or_default();
        let is_told = |fault: &Fault| examined.faults.iter().any(|other| repeats(other, fault));
        let by_definition: Vec<_> = self.faults.iter().filter(|fault| !is_told(fault)).collect();
        let at = |fault: &Fault| self.object.position(&fault.path);
        let is_new = |fault: &&Fault| {
            fault.reason != Reason::Invalid || by_definition.iter().all(|other| at(other) != at(fault))
        };
        let further = examined.faults.iter().filter(is_new);
        for fault in by_definition.iter().copied().chain(further) {
            report.add_fault(self.object.file, at(fault), &self.named, fault);
        }
        for fault in &examined.unsettled {
            report.add_note(self.object.file, at(fault), &self.named, fault);
        }
    }
}

/// True if `fault` says of a field around `other` the same as `other`: it names the field of `other`.
fn repeats(other: &Fault, fault: &Fault) -> bool {
    let below = other.path.strip_prefix(&*fault.path).and_then(|rest| rest.strip_prefix('.'));
    below.is_some_and(|field| fault.message.contains(field))
}

/// The faults of an object whose API version or kind no server serves.
fn unserved(object: &RawObject<'_>, definitions: &Definitions) -> Vec<Fault> {
    let (mut faults, kinds) = (Vec::new(), definitions.kinds().collect::<Vec<_>>());
    let is_kind = kinds.contains(&object.kind);
    if object.version.is_empty() {
        let advice = if is_kind { format!("apiVersion: {VERSION}") } else { "it".to_owned() };
        return vec![Fault::invalid("apiVersion", format!("is missing; add {advice}"))];
    }
    if object.version != VERSION {
        faults.push(Fault::invalid("apiVersion", format!("is not served; give {VERSION}")));
    }
    if !is_kind {
        let wrong = if object.kind.is_empty() { "is missing".into() } else { format!("does not exist in {GROUP}") };
        faults.push(Fault::invalid("kind", format!("{wrong}; give one of {}", kinds.join(", "))));
    }
    faults
}

/// The object in the form that controllers check: without a status, and with the metadata of a new object.
fn manifest(value: &Value, namespace: &str) -> Result<Manifest, serde_json::Error> {
    fn read<K: DeserializeOwned>(object: Value) -> Result<Arc<K>, serde_json::Error> {
        serde_json::from_value(object).map(Arc::new)
    }
    let (kind, metadata) = (value["kind"].as_str().unwrap_or_default(), &value["metadata"]);
    let given = |name: &str| metadata.get(name).filter(|value| !value.is_null());
    let kept = json!({
        "name": given("name").or_else(|| given("generateName")),
        "namespace": given("namespace").unwrap_or(&json!(namespace)),
        "labels": given("labels"), "annotations": given("annotations"),
    });
    let object = json!({"apiVersion": VERSION, "kind": kind, "metadata": kept, "spec": value["spec"]});
    match kind {
        "Instance" => read(object).map(Manifest::Instance),
        "ServiceAccount" => read(object).map(Manifest::Account),
        "AccessPolicy" => read(object).map(Manifest::Policy),
        _ => read(object).map(Manifest::Token),
    }
}
