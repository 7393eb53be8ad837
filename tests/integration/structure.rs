//! The house: which room may know which.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::harness::root;

/// Each room and the rooms that it may name. What is not listed, it may not.
const ROOMS: [(&str, &[&str]); 11] = [
    ("token", &[]),
    ("crd", &["token"]),
    ("access", &["crd", "token"]),
    ("admission", &["crd", "exposure"]),
    ("exposure", &["access", "crd"]),
    ("outside", &["crd", "token"]),
    ("controller", &["access", "crd", "exposure", "outside", "token"]),
    ("verifier", &["access", "crd", "outside", "token"]),
    ("operator", &["controller", "crd", "exposure", "outside"]),
    ("cli", &["access", "admission", "controller", "crd", "exposure", "operator", "outside", "token", "verifier"]),
    ("main", &["cli"]),
];

/// Crates that only the rooms that touch the world may name.
const WORLDLY: [(&str, &[&str]); 9] = [
    ("axum", &["outside", "verifier"]),
    ("opentelemetry_proto", &["outside"]),
    ("opentelemetry_sdk", &["outside"]),
    ("rand", &["outside"]),
    ("rcgen", &["outside"]),
    ("tokio", &["outside", "controller", "verifier", "operator", "cli"]),
    ("tonic", &["outside", "verifier"]),
    ("tonic_types", &["outside"]),
    ("tracing", &["outside", "controller", "verifier"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let nested = folders.iter().flat_map(|folder| sources(folder));
    files.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs")).chain(nested).collect()
}

fn room(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file without its tests and comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that a text names, one by one or in one `use crate::{…}`.
fn named_rooms(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(named.insert(word(rest))),
            Some(group) => named.extend(top_level(group).map(|item| word(item.trim_start()))),
        }
    }
    named
}

/// The items of a group in braces, up to its end.
fn top_level(group: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items.into_iter().filter(|item| !item.trim().is_empty())
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let files: Vec<_> = sources(&root().join("src")).into_iter().filter(|file| room(file) != "lib").collect();
    let seen: BTreeSet<_> = files.iter().map(|file| room(file)).collect();
    let listed: BTreeSet<_> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(seen, listed, "every room is listed");
    for file in files {
        let room = room(&file);
        let allowed = ROOMS.iter().find(|(name, _)| *name == room).unwrap().1;
        for named in named_rooms(&code(&file)) {
            assert!(named == room || allowed.contains(&named.as_str()), "{} names {named}", file.display());
        }
    }
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn contributors_read_the_law_of_the_rooms() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| room |")).skip(2);
    let told: Vec<_> = rows
        .map_while(|row| row.strip_prefix("| "))
        .map(|row| {
            let cells: Vec<_> = row.split(" | ").collect();
            let known: BTreeSet<_> = quoted(cells.last().unwrap()).collect();
            (quoted(cells[0]).next().unwrap(), known)
        })
        .collect();
    for (room, known) in &told {
        let law = ROOMS.iter().find(|(name, _)| name == room).unwrap().1;
        assert_eq!(*known, law.iter().copied().collect(), "{room}");
    }
    assert!(told.iter().map(|(room, _)| *room).eq(ROOMS.map(|(room, _)| room)), "{told:?}");
}

#[test]
fn every_file_and_every_test_that_contributors_are_sent_to_is_there() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let prose: String = text.split("```").step_by(2).collect();
    let paths: Vec<_> = quoted(&prose).filter(|word| !word.contains(' ')).collect();
    let within = ["src/", "tests/", "charts/", "docs/", "examples/", "crds/"];
    let (files, others): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| within.iter().any(|at| path.starts_with(at)));
    assert!(files.len() > 30, "{files:?}");
    for file in files {
        assert!(root().join(file).exists(), "{file}");
    }
    let sources: String = ["src", "tests"]
        .iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let tests: Vec<_> = others.into_iter().filter(|word| word.matches('_').count() >= 4).collect();
    assert!(tests.len() > 10, "{tests:?}");
    for test in tests {
        assert!(sources.contains(&format!("fn {test}()")), "there is no test {test}");
    }
}

#[test]
fn only_rooms_that_touch_the_world_name_what_does() {
    for file in sources(&root().join("src")) {
        let (room, code) = (room(&file), code(&file));
        for (library, allowed) in WORLDLY {
            let named = code.contains(&format!("{library}::"));
            assert!(!named || allowed.contains(&room.as_str()), "{} names {library}", file.display());
        }
    }
}

/// How code looks that speaks a protocol: the crates and types of a server.
const SPOKEN: [&str; 5] = ["axum::", "tonic::", "hyper::", "StatusCode", "Response"];

#[test]
fn only_adapters_of_the_verifier_speak_protocols() {
    let adapters = root().join("src/verifier/protocol");
    for file in sources(&root().join("src/verifier")) {
        let (code, file) = (code(&file), file.display().to_string());
        // The properties of all protocols are a test.
        let is_test = file.ends_with("properties.rs");
        let speaks = !is_test && SPOKEN.into_iter().any(|word| code.contains(word));
        if speaks {
            assert!(file.starts_with(adapters.to_str().unwrap()), "{file} speaks a protocol");
            assert!(code.lines().count() <= 60, "{file}: an adapter translates, and no more");
            // Envoy's service has a method of this name.
            let code = code.replace("async fn check(", "");
            assert!(!code.contains("check") && !code.contains("Known"), "{file}: it asks the door");
        }
    }
}

#[test]
fn the_direction_test_sees_what_it_should() {
    let code = "use crate::{\n    crd::{Fault, name},\n    token,\n};\nlet x = crate::outside::Clock;";
    assert!(named_rooms(code).into_iter().eq(["crd", "outside", "token"]));
}

/// The files of a kind's room in which something is awaited: they read, or write.
fn awaiting(room: &str) -> BTreeSet<String> {
    let room = root().join("src").join(room);
    let awaits = |file: &PathBuf| code(file).replace(".awaits_", "").contains(".await");
    let name = |file: PathBuf| file.strip_prefix(&room).unwrap().display().to_string();
    sources(&room).into_iter().filter(awaits).map(name).collect()
}

#[test]
fn a_token_is_read_in_observe_and_written_in_execute_and_settled_on_top() {
    let files = awaiting("controller/token");
    let steps = ["mod.rs", "observe.rs"];
    let other: Vec<_> =
        files.iter().filter(|file| !steps.contains(&&***file) && !file.starts_with("execute/")).collect();
    assert_eq!(other, [""; 0], "{files:?}");
    for below in ["conditions", "notes", "outcome", "wakes", "world", "decide"] {
        let code = code(&root().join(format!("src/controller/token/{below}.rs")));
        assert!(!code.contains("settle"), "{below}.rs names settle");
    }
}

/// Names that each kind, or each of the two programs, gives to a type of its own.
const EACH_HAS_ONE: [&str; 5] = ["Decision", "Observed", "Options", "Progress", "World"];

/// The name of the type that a line declares.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start_matches("pub").trim_start();
    let line = line.strip_prefix('(').and_then(|rest| rest.split_once(") ")).map_or(line, |(_, rest)| rest);
    let name = ["struct ", "enum ", "trait ", "type "].iter().find_map(|word| line.strip_prefix(word))?;
    name.split(|c: char| !c.is_alphanumeric()).next()
}

#[test]
fn no_two_types_have_one_name() {
    let mut declared_in: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in sources(&root().join("src")) {
        for name in code(&file).lines().filter(|line| !line.starts_with(' ')).filter_map(declared) {
            declared_in.entry(name.to_owned()).or_default().push(file.clone());
        }
    }
    declared_in.retain(|name, files| files.len() > 1 && !EACH_HAS_ONE.contains(&name.as_str()));
    assert!(declared_in.is_empty(), "give each of these a name of its own: {declared_in:#?}");
    assert_eq!(declared("pub(super) struct Names<'a> {"), Some("Names"));
}

#[test]
fn lines_have_at_most_120_columns() {
    let folders = ["src", "tests", "benches", "examples"];
    for file in folders.iter().flat_map(|folder| sources(&root().join(folder))) {
        let text = fs::read_to_string(&file).unwrap();
        // rustfmt breaks all but texts in quotes, which can go over several lines.
        let long = |line: &&str| line.chars().count() > 120 && !line.contains('"') && !line.ends_with('\\');
        assert_eq!(text.lines().find(long), None, "{}", file.display());
    }
}

#[test]
fn the_syntax_tree_of_templates_stays_that_which_was_read() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let pin = manifest.lines().find(|line| line.starts_with("minijinja")).unwrap();
    assert!(pin.contains(r#"version = "=3.1.0""#), "read src/token/template.rs against the new release, then: {pin}");
}

/// The beginnings of the commands of kubectl that messages show.
const COMMANDS: [&str; 6] =
    ["kubectl tokenry ", "kubectl apply ", "kubectl get ", "kubectl logs ", "kubectl patch ", "kubectl port-forward"];

/// The places of commands that a terminal may break: they are neither in backticks, nor after a colon, nor on a line of
/// their own. A link to a page of the documentation comes after a colon too.
fn breakable(code: &str) -> Vec<&str> {
    let all = COMMANDS.iter().flat_map(|command| code.match_indices(command).map(|(at, _)| at));
    let is_breakable = |at: &usize| {
        let begin = code[..*at].match_indices('"').rfind(|(quote, _)| !code[..*quote].ends_with('\\'));
        let before = &code[begin.map_or(0, |(quote, _)| quote + 1)..*at];
        let line = before.trim_end_matches(' ');
        let is_own_line = line.ends_with("\\n");
        let is_link = before.is_empty() && code[*at..].starts_with("kubectl tokenry docs ");
        before.matches('`').count().is_multiple_of(2) && !before.ends_with(": ") && !is_own_line && !is_link
    };
    let excerpt = |at: usize| code[at..].lines().next().unwrap_or_default();
    { all }.filter(is_breakable).map(excerpt).collect()
}

#[test]
fn every_command_in_a_message_stays_whole_on_a_terminal() {
    for file in sources(&root().join("src")) {
        // A text in quotes can go over several lines.
        let lines: Vec<_> = code(&file).split("\\\n").map(str::to_owned).collect();
        let code = lines.iter().enumerate().map(|(at, line)| if at == 0 { line } else { line.trim_start() });
        let code = code.collect::<String>();
        assert!(breakable(&code).is_empty(), "{}: put it in backticks: {:?}", file.display(), breakable(&code));
    }
    for well in [
        "see `kubectl tokenry list -A` and",
        r"by:\n  kubectl tokenry grant x",
        "run `tokenry crds | kubectl apply -f -`",
    ] {
        assert!(breakable(&format!("f(\"{well}\")")).is_empty(), "{well}");
    }
    for odd in ["see kubectl tokenry list", "kubectl tokenry create makes another", "`x` or kubectl logs x"] {
        assert_eq!(breakable(&format!("f(\"{odd}\")")).len(), 1, "{odd}");
    }
}
