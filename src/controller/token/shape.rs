//! The labels, annotations and further keys of the Secret, from `spec.secret`.

use std::collections::BTreeMap;

use http::Uri;
use zeroize::Zeroizing;

use super::{observed::Ca, world::World};
use crate::{
    crd::{
        ApiToken, Fault,
        api_token::{SecretTemplate, ServiceBinding},
        keys, secret,
    },
    token::{
        Digest, Plaintext, Record, Rendered, Template,
        template::{Around, PLACEHOLDER, PLACEHOLDER_ID, Room, TooLong, Values},
    },
};

/// The maximum size of all values of a Secret together, in bytes, as the API server counts them.
const ROOM: usize = 1024 * 1024;
/// The message for a Secret that would exceed this size.
const TOO_MUCH: &str = "a Secret holds at most 1 MiB, all keys together; shorten them";
/// The default type and provider of a service binding.
const BINDING: (&str, &str) = ("api-token", "tokenry");

/// The size in bytes, all templates together, above which rendering takes long.
const COSTLY: usize = 16 * 1024;

/// True if the templates of `token` take long to render.
pub(crate) fn is_costly(token: &ApiToken) -> bool {
    let templates = token.spec.secret.iter().flat_map(|secret| secret.data.values());
    templates.map(String::len).sum::<usize>() > COSTLY
}

/// The checked labels, annotations and keys that a Secret has beside Tokenry's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Labels that users chose.
    pub labels: BTreeMap<String, String>,
    /// Annotations that users chose.
    pub annotations: BTreeMap<String, String>,
    /// Further keys that do not contain the value.
    pub plain: BTreeMap<String, String>,
    of_value: BTreeMap<String, Recipe>,
    around: Around,
    /// True if the Secret keeps a `ca.crt` that it has, because the certificates are not known.
    keeps_ca: bool,
}

/// The template of a key that contains the value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Recipe {
    template: Template,
    /// The digest of the text that the template renders with placeholders. A different digest means that the text of
    /// the key changes.
    source: Digest,
}

/// The rendered keys that contain a value. This type can be neither printed nor serialized.
pub struct KeysOfValue(BTreeMap<String, Zeroizing<String>>);

impl KeysOfValue {
    /// Each key with its text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Zeroizing<String>)> {
        self.0.iter().map(|(key, text)| (key.as_str(), text))
    }
}

impl Shape {
    /// True if the text of `key` contains the value.
    pub fn is_of_value(&self, key: &str) -> bool {
        self.of_value.contains_key(key)
    }

    /// True if the Secret keeps the text that `key` has, because the next text is not known yet.
    pub fn keeps(&self, key: &str) -> bool {
        self.is_of_value(key) || (self.keeps_ca && key == secret::CA)
    }

    /// True if a key, rendered with placeholders, differs from its text at the mint of `record`.
    pub fn has_changed_since(&self, record: &Record) -> bool {
        let stands = |key: &String, recipe: &Recipe| {
            record.rendered.iter().any(|rendered| rendered.key == *key && rendered.source == recipe.source)
        };
        self.of_value.iter().any(|(key, recipe)| !stands(key, recipe))
    }

    /// The room that is left for templates, beside Tokenry's own keys and the keys rendered so far.
    fn room(&self) -> Room {
        let Around { endpoint, organization, .. } = &self.around;
        let always = PLACEHOLDER.len() + PLACEHOLDER_ID.len() + endpoint.len() + organization.len();
        let by_now: usize = self.plain.values().map(String::len).sum();
        Room::new(ROOM.saturating_sub(always + by_now))
    }

    /// Renders the keys that contain `value`, and returns them with their entries for the record.
    ///
    /// # Errors
    /// A key would be too long. The error is the name of that key.
    pub fn make(&self, id: &str, value: &Plaintext) -> Result<(KeysOfValue, Vec<Rendered>), String> {
        let values = Values { token: value.expose(), token_id: id, around: &self.around };
        let (mut made, mut rendered, mut room) = (BTreeMap::new(), Vec::new(), self.room());
        for (key, recipe) in &self.of_value {
            let text = recipe.template.render(&values, &mut room).map_err(|TooLong| key.clone())?;
            rendered.push(Rendered { key: key.clone(), source: recipe.source, sha256: Digest::of(&*text) });
            made.insert(key.clone(), text);
        }
        Ok((KeysOfValue(made), rendered))
    }
}

/// Checks `spec.secret`. Templates are rendered with placeholders first, so that no value is minted for a template that
/// fails.
pub(crate) fn shape(world: &World, organization: &str, endpoint: &str, faults: &mut Vec<Fault>) -> Shape {
    let around = Around {
        endpoint: endpoint.to_owned(),
        organization: organization.to_owned(),
        account: world.token.account_name().0.to_owned(),
        name: world.token.metadata.name.clone().unwrap_or_default(),
        namespace: world.namespace().to_owned(),
    };
    let mut plain = BTreeMap::new();
    if let Ca::Known(ca) = world.ca() {
        plain.insert(secret::CA.to_owned(), ca.to_owned());
    }
    let keeps_ca = world.ca() == Ca::Unknown;
    let Some(asked) = &world.token.spec.secret else { return Shape { around, plain, keeps_ca, ..Shape::default() } };
    marks(&asked.labels, "spec.secret.labels", keys::is_label, keys::LABEL_RULE, faults);
    let rule = format!("must not be longer than {} characters", keys::ANNOTATION);
    let is_short = |text: &str| text.chars().count() <= keys::ANNOTATION;
    marks(&asked.annotations, "spec.secret.annotations", is_short, &rule, faults);
    bounded(&asked.annotations, "spec.secret.annotations", (keys::ANNOTATIONS, "fit beside Tokenry's own"), faults);
    plain.extend(asked.service_binding.iter().flat_map(|asked| binding(asked, endpoint)));
    let (labels, annotations) = (asked.labels.clone(), asked.annotations.clone());
    let mut shape = Shape { labels, annotations, plain, of_value: BTreeMap::new(), around, keeps_ca };
    data(asked, &mut shape, faults);
    shape
}

/// Checks labels or annotations.
fn marks(
    given: &BTreeMap<String, String>,
    path: &str,
    is_value: impl Fn(&str) -> bool,
    rule: &str,
    faults: &mut Vec<Fault>,
) {
    many(given, path, faults);
    for (key, value) in given {
        let mut fault = |rule: &str| faults.push(Fault::invalid(format!("{path}[{key}]"), rule));
        if !keys::is_qualified(key) {
            fault(keys::QUALIFIED_RULE);
        } else if keys::is_reserved(key) {
            fault(keys::RESERVED_RULE);
        }
        if !is_value(value) {
            fault(rule);
        }
    }
}

/// Checks that keys and values together have at most `most` bytes. Adds a fault and returns false if they have more.
fn bounded(given: &BTreeMap<String, String>, path: &str, (most, why): (usize, &str), faults: &mut Vec<Fault>) -> bool {
    let bytes: usize = given.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > most {
        let message = format!("hold {bytes} bytes, keys and values together; at most {most} {why}");
        faults.push(Fault::invalid(path.to_owned(), message));
    }
    bytes <= most
}

fn many(given: &BTreeMap<String, String>, path: &str, faults: &mut Vec<Fault>) {
    if given.len() > keys::MOST {
        faults.push(Fault::invalid(path.to_owned(), format!("must not have more than {} keys", keys::MOST)));
    }
}

fn binding(asked: &ServiceBinding, endpoint: &str) -> BTreeMap<String, String> {
    let uri: Option<Uri> = endpoint.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let usual = uri.as_ref().and_then(Uri::scheme_str).map_or("", |scheme| if scheme == "http" { "80" } else { "443" });
    let port = uri.as_ref().and_then(Uri::port_u16).map_or(usual.to_owned(), |port| port.to_string());
    let or = |given: &Option<String>, usual: &str| given.clone().unwrap_or_else(|| usual.to_owned());
    [
        (secret::TYPE_KEY, or(&asked.type_, BINDING.0)),
        (secret::PROVIDER, or(&asked.provider, BINDING.1)),
        (secret::HOST, host.to_owned()),
        (secret::PORT, port),
        (secret::URI, endpoint.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Adds the keys of `data` to `shape`.
fn data(asked: &SecretTemplate, shape: &mut Shape, faults: &mut Vec<Fault>) {
    const PATH: &str = "spec.secret.data";
    many(&asked.data, PATH, faults);
    let around = shape.around.clone();
    let values = Values::placeholder(&around);
    // Data that is refused for its size is not rendered.
    let mut room = bounded(&asked.data, PATH, (keys::DATA, "fit into an ApiToken"), faults).then(|| shape.room());
    for (key, source) in &asked.data {
        let mut fault = |message: String| faults.push(Fault::invalid(format!("{PATH}[{key}]"), message));
        if let Some(rule) = broken(key, asked.service_binding.is_some()) {
            fault(rule.into());
        }
        let template = match Template::parse(source) {
            Ok(template) => template,
            Err(error) => {
                fault(error.to_string());
                continue;
            }
        };
        // Once the room is used up, the remaining templates are only parsed.
        let Some(left) = &mut room else { continue };
        let Ok(text) = template.render(&values, left) else {
            fault(format!("{TooLong}; {TOO_MUCH}"));
            room = None;
            continue;
        };
        if template.is_of_value() {
            shape.of_value.insert(key.clone(), Recipe { template, source: Digest::of(&*text) });
        } else {
            shape.plain.insert(key.clone(), text.to_string());
        }
    }
}

/// The rule that a key of `data` breaks.
fn broken(key: &str, bound: bool) -> Option<&'static str> {
    if !keys::is_data(key) {
        Some(keys::DATA_RULE)
    } else if keys::OURS.contains(&key) {
        Some(keys::OURS_RULE)
    } else if bound && keys::BINDING.contains(&key) {
        Some(keys::BINDING_RULE)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn annotations_that_fit_into_no_secret_are_a_fault_before_anything_is_minted() {
        let annotations = |count: usize| {
            let each = (0..count).map(|n| (format!("n{n}"), serde_json::Value::from("€".repeat(4096))));
            json!({"secret": {"annotations": each.collect::<serde_json::Map<_, _>>()}})
        };
        let faults = |count| {
            let world = new().with_spec(&annotations(count));
            world.terms().err().map(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(faults(17), None);
        let told = "spec.secret.annotations: hold 221228 bytes, keys and values together; at most 221184 fit beside \
            Tokenry's own";
        assert_eq!(faults(18), Some(vec![told.to_owned()]));
    }

    use super::super::{
        fixture::{new, served},
        validate::validate,
    };
    use super::*;
    use crate::crd::Reason;
    use serde_json::{Value, json};

    /// All faults of a token with this `spec.secret`.
    fn faults(secret: Value) -> Vec<Fault> {
        validate(&new().with_spec(&json!({ "secret": secret }))).expect_err("it has faults")
    }

    fn one(secret: Value) -> String {
        let faults = faults(secret);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].reason, Reason::Invalid);
        faults[0].to_string()
    }

    #[test]
    fn each_key_that_breaks_a_rule_is_told_at_its_path() {
        let data = |key: &str| one(json!({"data": {key: "a"}}));
        assert_eq!(data("a b"), format!("spec.secret.data[a b]: {}", keys::DATA_RULE));
        assert_eq!(data("token"), format!("spec.secret.data[token]: {}", keys::OURS_RULE));
        let bound = one(json!({"serviceBinding": {}, "data": {"host": "a"}}));
        assert_eq!(bound, format!("spec.secret.data[host]: {}", keys::BINDING_RULE));
        let label = |key: &str, value: &str| one(json!({"labels": {key: value}}));
        assert_eq!(label("a/b/c", ""), format!("spec.secret.labels[a/b/c]: {}", keys::QUALIFIED_RULE));
        assert_eq!(label("tokenry.dev/a", ""), format!("spec.secret.labels[tokenry.dev/a]: {}", keys::RESERVED_RULE));
        assert_eq!(label("a", "b c"), format!("spec.secret.labels[a]: {}", keys::LABEL_RULE));
        let long = one(json!({"annotations": {"a": "b".repeat(4097)}}));
        assert_eq!(long, "spec.secret.annotations[a]: must not be longer than 4096 characters");
        let many: serde_json::Map<_, _> = (0..33).map(|key| (key.to_string(), json!("a"))).collect();
        for field in ["data", "labels", "annotations"] {
            assert_eq!(one(json!({ field: many })), format!("spec.secret.{field}: must not have more than 32 keys"));
        }
        assert!(validate(&new().with_spec(&json!({"secret": {"data": {"host": "a"}}}))).is_ok());
    }

    #[test]
    fn a_faulty_template_is_told_with_its_line_and_column_and_nothing_changes() {
        let faulty = json!({"data": {"client.env": "A=1\nTOKEN={{ tokn }}"}});
        let told = one(faulty.clone());
        assert!(told.starts_with("spec.secret.data[client.env]: line 2, column 10: there is no tokn"), "{told}");
        let world = served().with_spec(&json!({ "secret": faulty }));
        assert_eq!(world.decision().reason, Reason::Invalid);
        assert_eq!(world.rested().status.records, served().status().records);
    }

    #[test]
    fn a_secret_that_would_be_too_large_is_told_before_anything_is_minted() {
        let keys = |count: usize, text: &str| -> serde_json::Map<_, _> {
            (0..count).map(|key| (key.to_string(), json!(text))).collect()
        };
        let told = one(json!({ "data": keys(5, &"x".repeat(62 * 1024)) }));
        let rule = "spec.secret.data: hold 317445 bytes, keys and values together; at most 262144 fit into an ApiToken";
        assert_eq!(told, rule);
        // Each percent sign becomes %25 first, and then %2525.
        let told = one(json!({ "data": keys(6, &format!("{{{{ '{}'|urlencode|urlencode }}}}", "%".repeat(40_000))) }));
        let rule =
            "the result of the template is too long; a Secret holds at most 1 MiB, all keys together; shorten them";
        assert_eq!(told, format!("spec.secret.data[5]: {rule}"));
        let grown = format!("{{{{ '\\\"'{} }}}}", "|tojson".repeat(40));
        let told = one(json!({"data": {"a": grown}}));
        assert_eq!(told, format!("spec.secret.data[a]: {rule}"));
        let all = faults(json!({"data": {"a": grown, "b": grown, "c": "{{ x }}"}}));
        let paths: Vec<_> = all.into_iter().map(|fault| fault.path).collect();
        assert_eq!(paths, ["spec.secret.data[a]", "spec.secret.data[c]"], "b is not reported");
    }

    #[test]
    fn templates_are_costly_by_all_that_they_say_together() {
        let of = |keys: usize| {
            let data = (0..keys).map(|key| (key.to_string(), json!("x".repeat(4096))));
            let spec = json!({"secret": {"data": data.collect::<serde_json::Map<_, _>>()}});
            is_costly(&new().with_spec(&spec).token)
        };
        assert_eq!([of(0), of(4), of(5)], [false, false, true]);
        assert!(!is_costly(&new().token));
    }

    #[test]
    fn every_faulty_key_is_told() {
        let secret = json!({"data": {"a": "{{ x }}", "b": "{{ y }}"}, "labels": {"-": "-"}});
        let paths: Vec<_> = faults(secret).into_iter().map(|fault| fault.path).collect();
        let labels = "spec.secret.labels[-]";
        assert_eq!(paths, [labels, labels, "spec.secret.data[a]", "spec.secret.data[b]"]);
    }

    #[test]
    fn what_a_template_can_name_is_what_the_token_is() {
        let source = "{{ endpoint }} {{ organization }} {{ account }} {{ name }} {{ namespace }}";
        let world = new().at_endpoint("https://a").with_instance(json!({"organization": "acme"}));
        let world = world.at_endpoint("https://a").with_spec(&json!({"secret": {"data": {"a": source}}}));
        assert_eq!(validate(&world).unwrap().shape.plain["a"], "https://a acme ci ci events");
    }
}
