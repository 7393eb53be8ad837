//! Generated pages are current, and lists by hand are complete.

use std::{collections::BTreeSet, fs};

use super::Page;
use crate::{harness::root, reference};

#[test]
fn the_reference_pages_are_those_that_the_code_makes() {
    let folder = root().join(reference::FOLDER);
    let pages = reference::pages(root());
    let there: BTreeSet<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, pages.iter().map(|(name, _)| (*name).into()).collect());
    for (path, text) in reference::generated(root()) {
        let committed = fs::read_to_string(root().join(&path)).unwrap();
        assert!(committed == text, "{path} is out of date: run `cargo reference`");
    }
}

/// True for the name of an Event, as the page of reasons lists them.
fn is_event(name: &str) -> bool {
    let page = Page::read(&root().join("docs/reference/reasons.md")).text;
    let events = page.split("## Events").nth(1).unwrap().split("\n## ").next().unwrap();
    events.contains(&format!("| `{name}` |"))
}

/// The names that the tables of a page begin their rows with.
fn listed(page: &Page) -> BTreeSet<String> {
    let rows = page.text.lines().filter_map(|line| line.strip_prefix("| `"));
    let firsts = rows.filter_map(|row| row.split(" | ").next());
    firsts.flat_map(|first| first.split(", ").map(|name| name.trim_matches('`').to_owned())).collect()
}

#[test]
fn troubleshooting_has_every_reason() {
    let page = |path: &str| listed(&Page::read(&root().join(path)));
    let (explained, mut reasons) = (page("docs/troubleshooting.md"), page("docs/reference/reasons.md"));
    // An Event that is named like no reason needs no step: its text has the reason.
    reasons.retain(|name| explained.contains(name) || !is_event(name));
    assert!(reasons.len() > 80, "{reasons:?}");
    assert_eq!(reasons.difference(&explained).collect::<Vec<_>>(), Vec::<&String>::new(), "not explained");
    assert_eq!(explained.difference(&reasons).collect::<Vec<_>>(), Vec::<&String>::new(), "no reasons");
}
