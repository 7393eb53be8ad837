//! A document of YAML or JSON, with the position of each value.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use serde_saphyr::{Location, NonFiniteFloatPolicy, Spanned, UserMessageFormatter};

/// The most values of a document, with aliases replaced by their values. It bounds the effort for a document whose
/// aliases grow exponentially.
const MOST_VALUES: usize = 500_000;
/// The most levels of a document. A deeper one would need more of the stack.
const MOST_LEVELS: usize = 64;
/// The byte order mark that some programs write before a text.
const MARK: char = '\u{feff}';
/// The most documents of a file.
const MOST_DOCUMENTS: usize = 100_000;

/// A place in a file: line and column, in characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Position {
    /// The begin of a file.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

impl Position {
    /// The position in a text that begins with this further text.
    pub(super) fn after(self, Before { lines, columns }: Before) -> Self {
        let columns = if self.line == 1 { columns } else { 0 };
        Self { line: self.line + lines, column: self.column + columns }
    }
}

/// The text before a part of a file: its lines, and the characters of its last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    lines: u64,
    columns: u64,
}

impl Before {
    /// With further text behind it.
    fn and(self, text: &str) -> Self {
        let columns = |text: &str| text.chars().count() as u64;
        match text.rsplit_once('\n') {
            Some((_, last)) => Self { lines: self.lines + text.matches('\n').count() as u64, columns: columns(last) },
            None => Self { columns: self.columns + columns(text), ..self },
        }
    }
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

/// A text that is neither YAML nor JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unparsed {
    pub(super) position: Position,
    pub(super) message: String,
}

/// A value with the positions of all values in it.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Scalar(Value),
    List(Vec<Spanned<Tree>>),
    Fields(Vec<(Spanned<String>, Spanned<Tree>)>),
}

/// A document, and its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// The text before that of which the positions in `tree` are.
    pub(super) before: Before,
    pub(super) tree: Spanned<Tree>,
}

/// The documents of a text, and the faults of those that are neither YAML nor JSON, or too large. Empty documents are
/// left out.
pub(super) fn documents(text: &str) -> (Vec<Document>, Vec<Unparsed>) {
    // A program that joins files leaves their byte order marks within the text.
    let text = &*text.strip_prefix(MARK).unwrap_or(text).replace(&format!("\n{MARK}"), "\n");
    let of = |before: Before, trees: Vec<Spanned<Tree>>| trees.into_iter().map(move |tree| Document { before, tree });
    let unparsed = match parsed(text) {
        Ok(trees) => return (of(Before::default(), trees).collect(), Vec::new()),
        Err(unparsed) => unparsed,
    };
    let parts = parts(text);
    if parts.len() == 1 {
        return (Vec::new(), vec![unparsed]);
    }
    // A document with a fault does not hide the others.
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    for (before, part) in parts {
        match parsed(part) {
            Ok(trees) => documents.extend(of(before, trees)),
            Err(Unparsed { position, message }) => faults.push(Unparsed { position: position.after(before), message }),
        }
    }
    // Objects of JSON that follow each other are no YAML, and kubectl reads them.
    if faults.is_empty() && objects(text).0.is_empty() { (documents, vec![unparsed]) } else { (documents, faults) }
}

/// The parts of a text, each with the text before it: objects of JSON that follow each other, and then the parts
/// between markers `---`.
fn parts(text: &str) -> Vec<(Before, &str)> {
    let (mut parts, mut before, mut rest) = objects(text);
    let mut at = 0;
    while let Some(next) = rest[at..].find('\n').map(|newline| at + newline + 1) {
        let marked = rest[next..].strip_prefix("---");
        let is_marker = marked.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        at = next;
        if is_marker && parts.len() < MOST_DOCUMENTS {
            let (part, others) = rest.split_at(next);
            parts.push((before, part));
            (before, rest, at) = (before.and(part), others, 0);
        }
    }
    if parts.is_empty() || !rest.trim().is_empty() {
        parts.push((before, rest));
    }
    parts
}

/// The objects of JSON at the begin of a text, each with the text before it, and the rest of the text.
fn objects(text: &str) -> (Vec<(Before, &str)>, Before, &str) {
    let (mut objects, mut before, mut rest) = (Vec::new(), Before::default(), text);
    loop {
        let found = rest.trim_start();
        let mut values = serde_json::Deserializer::from_str(found).into_iter::<IgnoredAny>();
        if !found.starts_with('{')
            || objects.len() >= MOST_DOCUMENTS
            || values.next().is_none_or(|value| value.is_err())
        {
            return (objects, before, rest);
        }
        let (object, others) = found.split_at(values.byte_offset());
        before = before.and(&rest[..rest.len() - found.len()]);
        objects.push((before, object));
        (before, rest) = (before.and(object), others);
    }
}

/// The documents of a text without a fault.
fn parsed(text: &str) -> Result<Vec<Spanned<Tree>>, Unparsed> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        // As kubectl reads numbers.
        legacy_octal_numbers: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        budget: serde_saphyr::budget! {
            max_nodes: MOST_VALUES,
            max_events: 4 * MOST_VALUES,
            max_documents: MOST_DOCUMENTS,
            max_depth: MOST_LEVELS,
            flow_nesting_limit: MOST_LEVELS,
        },
    };
    let trees = serde_saphyr::from_multiple_with_options(text, options);
    let mut trees: Vec<Spanned<Tree>> = trees.map_err(|error| {
        let told = error.render_with_formatter(&UserMessageFormatter);
        let message = told.split_once(" at line ").map_or(&*told, |(message, _)| message);
        // The parser tells a breached limit in words of its code.
        let message = message.split_once(": limits breached: ").map_or_else(
            || message.to_owned(),
            |(told, _)| format!("{told}: it may have {MOST_LEVELS} levels and {MOST_VALUES} values"),
        );
        Unparsed { position: error.location().map_or(Position::START, Position::from), message }
    })?;
    trees.iter_mut().try_for_each(|tree| settle(tree, text))?;
    Ok(trees)
}

/// Reads the numbers that are not finite as kubectl does: a number that is too large is a text. The parser gives no
/// value for them.
fn settle(tree: &mut Spanned<Tree>, text: &str) -> Result<(), Unparsed> {
    match &mut tree.value {
        Tree::Scalar(Value::Null) => {}
        Tree::Scalar(_) => return Ok(()),
        Tree::List(items) => return items.iter_mut().try_for_each(|item| settle(item, text)),
        Tree::Fields(fields) => return fields.iter_mut().try_for_each(|(_, field)| settle(field, text)),
    }
    let span = tree.defined.span();
    let place = span.byte_offset().zip(span.byte_len()).and_then(|(begin, length)| {
        let begin = usize::try_from(begin).ok()?;
        text.get(begin..begin + usize::try_from(length).ok()?)
    });
    let written = place.unwrap_or_default().trim();
    let unsigned = written.trim_start_matches(['+', '-']);
    if unsigned.starts_with(|first: char| first.is_ascii_digit()) {
        tree.value = Tree::Scalar(written.into());
    } else if unsigned.starts_with('.') {
        let message = format!("{written} is no number that kubectl reads; quote it");
        return Err(Unparsed { position: tree.referenced.into(), message });
    }
    Ok(())
}

impl Tree {
    /// The value without positions.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::List(items) => items.iter().map(|item| item.value.value()).collect(),
            Self::Fields(fields) => Value::Object(
                fields.iter().map(|(name, tree)| (name.value.clone(), tree.value.value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// A field, with the position of its name.
    pub(super) fn field(&self, name: &str) -> Option<(Position, &Self)> {
        let Self::Fields(fields) = self else { return None };
        let (key, tree) = fields.iter().find(|(key, _)| key.value == name)?;
        Some((key.referenced.into(), &tree.value))
    }

    /// The text in a field.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.field(name)?.1 {
            Self::Scalar(value) => value.as_str(),
            Self::List(_) | Self::Fields(_) => None,
        }
    }

    /// The items of the list in a field.
    pub(super) fn items(&self, name: &str) -> &[Spanned<Self>] {
        match self.field(name) {
            Some((_, Self::List(items))) => items,
            Some((_, Self::Scalar(_) | Self::Fields(_))) | None => &[],
        }
    }

    /// The position of the field at `path`, such as `spec.secret.data[client.env]`. If there is no such field, the
    /// position is that of the nearest field around it, or else `start`.
    pub(super) fn position(&self, path: &str, start: Position) -> Position {
        let (mut at, mut position) = (self, start);
        for step in steps(path) {
            let Some((here, next)) = at.step(step) else { break };
            (at, position) = (next, here);
        }
        position
    }

    fn step(&self, step: PathStep<'_>) -> Option<(Position, &Self)> {
        match (self, step) {
            (Self::Fields(_), PathStep::Field(name) | PathStep::Item(name)) => self.field(name),
            (Self::List(items), PathStep::Item(name)) => {
                let numbered = name.parse::<usize>().ok().and_then(|index| items.get(index));
                let item = numbered.or_else(|| items.iter().find(|item| item.value.text("name") == Some(name)))?;
                Some((item.referenced.into(), &item.value))
            }
            (Self::List(_), PathStep::Field(_)) | (Self::Scalar(_), _) => None,
        }
    }
}

/// A step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathStep<'a> {
    /// A field: `.name`.
    Field(&'a str),
    /// An item of a list by its index or its name, or the value under a free key: `[name]`.
    Item(&'a str),
}

/// The steps of a path.
fn steps(path: &str) -> Vec<PathStep<'_>> {
    let (mut steps, mut rest) = (Vec::new(), path);
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let end = inside.find(']').unwrap_or(inside.len());
            steps.push(PathStep::Item(&inside[..end]));
            rest = inside.get(end + 1..).unwrap_or_default();
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            steps.push(PathStep::Field(&name[..end]));
            rest = &name[end..];
        }
    }
    steps
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The position of a path in the first document.
    fn position(text: &str, path: &str) -> (u64, u64) {
        let Position { line, column } = parsed(text).unwrap()[0].value.position(path, Position::START);
        (line, column)
    }

    #[test]
    fn a_path_leads_to_its_field_or_to_the_nearest_one() {
        let text = "# a comment\nspec:\n  secret:\n    data:\n      client.env: x\n  list:\n  - name: admin\n    host: é\n  \
                    - {name: b}\n";
        for (path, place) in [
            ("spec", (2, 1)),
            ("spec.secret.data[client.env]", (5, 7)),
            ("spec.list[0].host", (8, 5)),
            ("spec.list[admin].host", (8, 5)),
            ("spec.list[1].name", (9, 6)),
            ("spec.list[b].host", (9, 5)),
            ("spec.list[9]", (6, 3)),
            ("spec.other.more", (2, 1)),
            ("other", (1, 1)),
        ] {
            assert_eq!(position(text, path), place, "{path}");
        }
        assert_eq!(position("{\"spec\": {\n\t\"é\": [1,\n\t\t2]}}", "spec.é[1]"), (3, 3));
    }

    #[test]
    fn values_are_those_that_kubectl_reads() {
        let documents =
            parsed("a: yes\nb: 010\nc: 1.5\nd: ~\ne: \"1\"\nf: &x {k: v}\ng: [*x]\n---\n---\n{\"h\": \"\\u00e9\"}\n")
                .unwrap();
        let values: Vec<_> = documents.iter().map(|document| document.value.value()).collect();
        let first = json!({"a": true, "b": 8, "c": 1.5, "d": null, "e": "1", "f": {"k": "v"}, "g": [{"k": "v"}]});
        assert_eq!(values, [first, json!({"h": "é"})]);
    }

    #[test]
    fn what_cannot_be_parsed_is_told_with_its_place() {
        let told = |text: &str| {
            let Unparsed { position, message } = parsed(text).unwrap_err();
            format!("{}:{}: {message}", position.line, position.column)
        };
        assert_eq!(told("a:\n- [1\n"), "2:3: unclosed bracket '['");
        assert_eq!(told("a: 1\na: 2\n"), "2:1: duplicate mapping key `a` is not allowed here");
        assert!(told("{{ if .Values.x }}\na: b\n").starts_with("1:2: "));
    }

    #[test]
    fn a_number_that_is_too_large_is_a_text_as_kubectl_reads_it() {
        let documents = parsed("a: ß\nb: [12e4567, -1e999]\n---\nc: 12e4567 # d\nd:\ne: ~\nf: 1e3\n").unwrap();
        let values: Vec<_> = documents.iter().map(|document| document.value.value()).collect();
        let second = json!({"c": "12e4567", "d": null, "e": null, "f": 1000.0});
        assert_eq!(values, [json!({"a": "ß", "b": ["12e4567", "-1e999"]}), second]);
        for odd in [".inf", "-.inf", ".nan"] {
            let Unparsed { position, message } = parsed(&format!("a: 1\nb: {odd}\n")).unwrap_err();
            assert_eq!(position, Position { line: 2, column: 4 });
            assert_eq!(message, format!("{odd} is no number that kubectl reads; quote it"));
        }
    }

    #[test]
    fn a_document_with_a_fault_hides_no_other() {
        let (documents, faults) = documents("a: 1\n--- # second\nb: [\n---\nc: 3\n---\n- ]\n");
        let values: Vec<_> = documents.iter().map(|found| (found.before.lines, found.tree.value.value())).collect();
        assert_eq!(values, [(0, json!({"a": 1})), (3, json!({"c": 3}))]);
        let lines: Vec<_> = faults.iter().map(|fault| fault.position.line).collect();
        assert_eq!(lines, [3, 7], "{faults:?}");
        let alone = "a: |\n  ---\n  b\nc: d\n";
        assert_eq!(parts(alone), [(Before::default(), alone)], "an indented line is no marker");
    }

    #[test]
    fn aliases_that_grow_exponentially_are_refused() {
        let level = |depth: u8| {
            let (name, of) = (char::from(b'b' + depth), char::from(b'a' + depth));
            format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 10].join(", "))
        };
        let bomb = format!("a: &a [x, x]\n{}", (0..10).map(level).collect::<String>());
        let Unparsed { position, message } = parsed(&bomb).unwrap_err();
        assert!(message.contains("too large or too complex") && position.line > 1, "{position:?} {message}");
    }
}
