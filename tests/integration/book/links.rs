//! Links: each leads to a page and a heading that exist, and the table of contents has every page.

use std::{collections::BTreeSet, path::Path};

use super::{Page, SUMMARY, all, book};
use crate::harness::root;

/// The targets of the links of a page.
fn targets(page: &Page) -> Vec<String> {
    let prose = page.prose().join("\n");
    let behind = prose.split("](").skip(1);
    behind.map(|rest| rest.split(')').next().unwrap().to_owned()).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
pub(super) fn anchors(page: &Page) -> BTreeSet<String> {
    let headings = page.prose().into_iter().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_to_something() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in all().iter().chain([&Page::read(&root().join(SUMMARY))]) {
        for target in targets(page) {
            seen += 1;
            if !target.starts_with("https://") && !leads(page, &target) {
                wrong.push(format!("{}: {target}", page.path));
            }
        }
    }
    assert!(seen > 50, "{seen} links");
    assert!(wrong.is_empty(), "links that lead to nothing:\n{}", wrong.join("\n"));
}

/// True for a relative link to an existing page or heading. A page of the book may only link to files of the book: the
/// built book has no others.
fn leads(page: &Page, target: &str) -> bool {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = root().join(&page.path).parent().unwrap().to_owned();
    let path = if file.is_empty() { root().join(&page.path) } else { folder.join(file) };
    let Ok(path) = path.canonicalize() else { return false };
    let docs = root().join("docs").canonicalize().unwrap();
    if page.path.starts_with("docs/") && !path.starts_with(docs) {
        return false;
    }
    anchor.is_empty() || anchors(&Page::read(&root().join(path.strip_prefix(root()).unwrap()))).contains(anchor)
}

#[test]
fn the_table_of_contents_has_every_page_once_and_no_page_is_empty() {
    let summary = Page::read(&root().join(SUMMARY));
    let mut listed: Vec<_> = targets(&summary).iter().map(|target| format!("docs/{target}")).collect();
    listed.sort();
    let pages = book();
    let paths: Vec<_> = pages.iter().map(|page| page.path.clone()).collect();
    assert_eq!(listed, paths);
    for page in pages {
        let lines = page.prose().iter().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        assert!(lines >= 3, "{} is empty", page.path);
    }
}

#[test]
fn every_file_that_a_page_names_exists() {
    let mut seen = 0;
    for page in all() {
        let prose = page.prose().join("\n");
        let codes = prose.split('`').skip(1).step_by(2);
        for code in codes.filter(|code| FOLDERS.iter().any(|folder| code.starts_with(folder))) {
            seen += 1;
            assert!(root().join(code).exists(), "{}: there is no {code}", page.path);
        }
    }
    assert!(seen > 10, "{seen} files");
}

/// The folders that pages name files of.
const FOLDERS: [&str; 6] = ["examples/", "src/", "tests/", "charts/", "crds/", "docs/"];

#[test]
fn the_readme_names_the_rust_that_is_needed() {
    let text = Page::read(Path::new(&root().join("README.md"))).text;
    assert!(text.contains(concat!("Rust ", env!("CARGO_PKG_RUST_VERSION"), " or newer")));
}
