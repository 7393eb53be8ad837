//! README and docs as a book: its pages, links and words, and the output of its commands.

mod links;
mod lint;
mod page;
mod run;
mod tables;
mod words;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::harness::root;

/// One page: its path below the repository's root, and its text.
struct Page {
    path: String,
    text: String,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        Self { path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text }
    }

    /// True for a page that `cargo reference` writes.
    fn is_generated(&self) -> bool {
        self.path.starts_with("docs/reference/")
    }
}

/// The pages of the book, without its table of contents.
fn book() -> Vec<Page> {
    let pages = files(&root().join("docs"), "md").into_iter();
    pages.map(|path| Page::read(&path)).filter(|page| page.path != SUMMARY).collect()
}

/// The table of contents.
const SUMMARY: &str = "docs/SUMMARY.md";

/// The pages at the root of the repository.
const ROOT: [&str; 4] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];

/// Every page that people read.
fn all() -> Vec<Page> {
    ROOT.iter().map(|name| Page::read(&root().join(name))).chain(book()).collect()
}

/// The files below `folder` with this ending, in the order of their paths.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry, ending));
        } else if entry.extension().is_some_and(|its| its == ending) {
            found.push(entry);
        }
    }
    found.sort();
    found
}

/// The anchors of the headings of a page.
pub fn anchors(path: &str) -> BTreeSet<String> {
    links::anchors(&Page::read(&root().join(path)))
}
