//! The objects in the documents, and the judgement of each of them.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_saphyr::Spanned;

use super::{
    report::Report,
    tree::{Document, Position, Tree},
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
    /// The number of lines before the text of which the positions in `tree` are.
    before: u64,
    tree: &'a Tree,
}

impl<'a> RawObject<'a> {
    /// Adds the object of a document, or the objects of a list.
    pub(super) fn unfold(file: &'a str, Document { before, tree }: &'a Document, objects: &mut Vec<Self>) {
        Self::unfold_tree(file, *before, tree, objects);
    }

    fn unfold_tree(file: &'a str, before: u64, tree: &'a Spanned<Tree>, objects: &mut Vec<Self>) {
        let object = Self { file, start: tree.referenced.into(), before, tree: &tree.value };
        let (version, kind) = (object.tree.text("apiVersion").unwrap_or_default(), object.kind());
        if kind == "List" && version == "v1" || kind.ends_with("List") && object.is_ours() {
            object.tree.items("items").iter().for_each(|item| Self::unfold_tree(file, before, item, objects));
        } else {
            objects.push(object);
        }
    }

    fn kind(&self) -> &'a str {
        self.tree.text("kind").unwrap_or_default()
    }

    /// True for an object of our API group.
    pub(super) fn is_ours(&self) -> bool {
        let group = self.tree.text("apiVersion").and_then(|version| version.split('/').next());
        group == Some(GROUP)
    }

    /// The name and the labels, if the object is a namespace.
    pub(super) fn namespace(&self) -> Option<(String, BTreeMap<String, String>)> {
        let is_one = self.kind() == "Namespace" && self.tree.text("apiVersion") == Some("v1");
        let metadata = self.tree.field("metadata").filter(|_| is_one)?.1;
        let labels = metadata.field("labels").and_then(|(_, labels)| serde_json::from_value(labels.value()).ok());
        Some((metadata.text("name")?.to_owned(), labels.unwrap_or_default()))
    }

    /// The position of a field.
    pub(super) fn position(&self, path: &str) -> Position {
        self.tree.position(path, self.start).below(self.before)
    }

    /// The object in words, such as `ApiToken events/ci`.
    pub(super) fn named(&self, namespace: &str) -> String {
        let metadata = self.tree.field("metadata").map(|(_, metadata)| metadata);
        let text = |name: &str| metadata.and_then(|metadata| metadata.text(name));
        let name = text("name").or_else(|| text("generateName")).unwrap_or("(no name)");
        format!("{} {}/{name}", self.kind(), text("namespace").unwrap_or(namespace))
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
    pub(super) manifest: Option<Manifest>,
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
    let mut faults = Vec::new();
    if object.tree.text("apiVersion") != Some(VERSION) {
        faults.push(Fault::invalid("apiVersion", format!("is not served; give {VERSION}")));
    }
    if definitions.kinds().all(|kind| kind != object.kind()) {
        let kinds: Vec<_> = definitions.kinds().collect();
        faults.push(Fault::invalid("kind", format!("does not exist in {GROUP}; give one of {}", kinds.join(", "))));
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
