//! The reference pages of the book, made from the code: `cargo reference` writes them, and a test compares them.

mod answers;
mod api;
mod flags;
mod page;
mod source;
mod values;
mod words;

use std::path::Path;

/// The folder of the pages, below the repository's root.
pub const FOLDER: &str = "docs/reference";

/// Each generated file: its path below the repository's root, and its text.
pub fn generated(root: &Path) -> Vec<(String, String)> {
    let pages = pages(root).into_iter().map(|(name, text)| (format!("{FOLDER}/{name}"), text));
    pages.chain([(values::README.to_owned(), values::readme(root))]).collect()
}

/// Each page: the name of its file and its text.
pub fn pages(root: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("annotations-and-labels.md", words::annotations_and_labels(root)),
        ("api.md", api::page()),
        ("conditions.md", words::conditions(root)),
        ("flags.md", flags::page()),
        ("http.md", answers::page(root)),
        ("metrics.md", words::metrics()),
        ("reasons.md", words::reasons(root)),
        ("values.md", values::page(root)),
    ]
}
