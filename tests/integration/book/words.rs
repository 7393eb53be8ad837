//! The house rule of words: short sentences, without the constructions that readers have to read twice.

use std::path::Path;

use super::{Page, all, files};
use crate::harness::root;

/// The most words of a sentence.
const MOST: usize = 25;

/// Constructions that are not used: they hide the noun that a sentence is about.
const BANNED: [&str; 11] = [
    "what",
    "whether",
    "who",
    "so long",
    "is told",
    "are told",
    "stands",
    "goes by",
    "go by",
    "takes the right",
    "take the right",
];

/// The beginning of a sentence that is not ours: Kubernetes describes its label selectors in this way.
const FOREIGN: &str = "A single {key,value} in the matchLabels map";

/// The sentences of a page, without code. Headings, items of a list and cells of a table each end a sentence.
fn sentences(page: &Page) -> Vec<String> {
    let (mut parts, mut open) = (Vec::<String>::new(), String::new());
    for line in page.prose() {
        let inner = line.trim_start().trim_start_matches("> ");
        let is_item = ["* ", "- "].iter().any(|mark| inner.starts_with(mark)) || is_numbered(inner);
        if inner.is_empty() || is_item || inner.starts_with('#') || inner.starts_with('|') {
            parts.push(std::mem::take(&mut open));
        }
        match inner.strip_prefix('|') {
            Some(row) => parts.extend(plain(row).split('|').map(str::to_owned)),
            None if !inner.starts_with("<!--") => open = format!("{open} {inner}"),
            None => {}
        }
    }
    parts.push(open);
    let split = parts.iter().flat_map(|part| split(&plain(part)));
    split.filter(|sentence| words(sentence) > 0).collect()
}

fn is_numbered(line: &str) -> bool {
    line.split_once(". ").is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
}

/// Prose without code and without the targets of links. A piece of code is one word.
fn plain(text: &str) -> String {
    let text: String =
        text.split('`').enumerate().map(|(nth, part)| if nth % 2 == 0 { part } else { "code" }).collect();
    let mut parts = text.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "]" + part.split_once(')').map_or("", |(_, rest)| rest))
}

/// Ends a sentence at `.`, `!` or `?` with a space behind it.
fn split(text: &str) -> Vec<String> {
    let mut sentences = vec![String::new()];
    for word in text.split_whitespace() {
        let last = sentences.last_mut().unwrap();
        last.push(' ');
        last.push_str(word);
        if word.trim_end_matches([')', '"', '*', '_']).ends_with(['.', '!', '?']) {
            sentences.push(String::new());
        }
    }
    sentences
}

fn words(sentence: &str) -> usize {
    sentence.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count()
}

/// The first banned construction in a sentence.
fn banned(sentence: &str) -> Option<&'static str> {
    let words: Vec<_> = sentence.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let text = format!(" {} ", words.join(" ").to_lowercase());
    BANNED.into_iter().find(|banned| text.contains(&format!(" {banned} ")))
}

/// The comments of a source file, as a page: each comment is a paragraph.
fn comments(path: &Path) -> Page {
    let mut page = Page::read(path);
    let comment = |line: &str| {
        let line = line.trim_start();
        let marks = ["/// ", "//! ", "// "];
        marks.into_iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or_default().to_owned()
    };
    page.text = page.text.lines().map(comment).collect::<Vec<_>>().join("\n");
    page
}

/// The faults of all sentences of `pages`.
fn faults(pages: &[Page]) -> Vec<String> {
    let mut faults = Vec::new();
    for page in pages {
        for sentence in sentences(page).iter().filter(|sentence| !sentence.trim().starts_with(FOREIGN)) {
            let count = words(sentence);
            if count > MOST {
                faults.push(format!("{}: {count} words:{sentence}", page.path));
            }
            if let Some(banned) = banned(sentence) {
                faults.push(format!("{}: \"{banned}\":{sentence}", page.path));
            }
        }
    }
    faults
}

#[test]
fn no_sentence_is_long_or_built_of_a_banned_construction() {
    let wrong = faults(&all());
    assert!(wrong.is_empty(), "{} sentences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_comment_is_long_or_built_of_a_banned_construction() {
    let sources = files(&root().join("src"), "rs");
    assert!(sources.len() > 100, "{sources:?}");
    let wrong = faults(&sources.iter().map(|path| comments(path)).collect::<Vec<_>>());
    assert!(wrong.is_empty(), "{} sentences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn sentences_are_counted_without_code_and_links() {
    let text = "# Title\n\nOne `a b c` two. Three\nfour!\n\n* five\n* six, [seven](eight nine)\n\n\
                | ten `|` | eleven |\n|---|---|\n\
                ```text\nnot this one\n```\n";
    let page = Page { path: "a.md".into(), text: text.into() };
    let told: Vec<_> = sentences(&page).iter().map(|sentence| words(sentence)).collect();
    assert_eq!(told, [1, 3, 2, 1, 2, 2, 1]);
}

#[test]
fn a_banned_construction_is_found_as_whole_words() {
    for (sentence, found) in [
        ("It depends on what it holds.", Some("what")),
        ("Who may?", Some("who")),
        ("It waits so\nlong.", Some("so long")),
        ("A whole somewhat standstill", None),
    ] {
        assert_eq!(banned(sentence), found, "{sentence}");
    }
}

#[test]
fn the_readme_is_short() {
    let readme = all().remove(0);
    assert_eq!(readme.path, "README.md");
    assert!(readme.text.lines().count() <= 150, "{} lines", readme.text.lines().count());
}
