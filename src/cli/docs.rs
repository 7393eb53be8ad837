//! `kubectl tokenry docs`: the documentation, without a network.

use clap::Args;

use super::{
    Error,
    output::put,
    screen::{Rows, broken, page_width},
};

#[derive(Args)]
pub(crate) struct Docs {
    /// Page, such as rotate, or a section of it, such as check#rights; default: the list of pages
    #[arg(value_name = "PAGE[#SECTION]")]
    page: Option<String>,
}

/// A page of the book: its path without ending, and its text.
type BookPage = (&'static str, &'static str);

/// Pages of the book, in the order of its table of contents.
macro_rules! pages {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../docs/", $path, ".md")))),*]
    };
}

const PAGES: &[BookPage] = pages![
    "index",
    "start/getting-started",
    "start/first-protected-api",
    "how-to/rotate",
    "how-to/mount",
    "how-to/shape-the-secret",
    "how-to/endpoint",
    "how-to/show-a-value-once",
    "how-to/expose",
    "how-to/proxies",
    "how-to/tls",
    "how-to/cors-and-methods",
    "how-to/kubernetes-api",
    "how-to/introspect",
    "how-to/gitops",
    "how-to/helm-charts",
    "how-to/by-hand",
    "how-to/check",
    "how-to/lint",
    "how-to/delegate",
    "how-to/observe",
    "how-to/audit-log",
    "how-to/monitor",
    "how-to/answer-a-leak",
    "how-to/back-up-and-restore",
    "how-to/high-availability",
    "how-to/network-policies",
    "how-to/some-namespaces",
    "how-to/without-helm",
    "how-to/upgrade",
    "how-to/uninstall",
    "reference/api",
    "reference/values",
    "reference/flags",
    "reference/conditions",
    "reference/reasons",
    "reference/metrics",
    "reference/annotations-and-labels",
    "reference/http",
    "support",
    "explanation/life-of-a-value",
    "access",
    "admission",
    "explanation/guarantees",
    "explanation/no-webhook",
    "explanation/comparison",
    "explanation/token-pages",
    "explanation/glossary",
    "security/threat-model",
    "promises",
    "troubleshooting",
];

impl Docs {
    /// Prints a page, a section, or the list of pages.
    pub(crate) fn main(self) -> Result<(), Error> {
        let Some(wanted) = &self.page else {
            let mut rows = Rows::under(&["PAGE", "TITLE"]);
            PAGES.iter().for_each(|page| rows.add([name(page.0).to_owned(), title(page.1).to_owned()]));
            rows.print(true);
            return Ok(());
        };
        let text = followable(wanted, &found(wanted)?);
        put(&page_width().map_or_else(|| text.clone(), |columns| fitted(&text, columns)));
        Ok(())
    }
}

/// The last part of a path, which no two pages share.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The heading of a page.
fn title(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default()
}

/// The page or the section that a user names.
fn found(wanted: &str) -> Result<String, Error> {
    let (page, anchor) = wanted.split_once('#').map_or((wanted, None), |(page, anchor)| (page, Some(anchor)));
    let page = page.trim_end_matches(".md").trim_start_matches("docs/");
    let missing = || Error::Usage(format!("there is no page {page:?}; `kubectl tokenry docs` lists all pages"));
    let (_, text) = PAGES.iter().find(|(path, _)| *path == page || name(path) == page).ok_or_else(missing)?;
    let Some(anchor) = anchor else { return Ok((*text).to_owned()) };
    section(text, anchor).ok_or_else(|| {
        let known: Vec<_> = headings(text).map(|(_, _, anchor)| anchor).collect();
        Error::Usage(format!("page {page} has no section {anchor:?}; it has: {}", known.join(", ")))
    })
}

/// The text with links to other pages as commands that show these pages.
fn followable(wanted: &str, text: &str) -> String {
    let page = name(wanted.split('#').next().unwrap_or_default()).trim_end_matches(".md");
    let (mut all, mut is_code) = (String::new(), false);
    for line in text.split_inclusive('\n') {
        is_code ^= line.starts_with("```");
        let mut parts = line.split("](");
        all += parts.next().unwrap_or_default();
        for part in parts {
            let target = part.split_once(')').filter(|_| !is_code);
            let command = target.and_then(|(target, rest)| Some(format!("{}){rest}", linked(page, target)?)));
            all += "](";
            all += command.as_deref().unwrap_or(part);
        }
    }
    all
}

/// The command that shows the page to which a link of `page` leads. `None`: it leads elsewhere.
fn linked(page: &str, target: &str) -> Option<String> {
    if let Some(anchor) = target.strip_prefix('#') {
        return Some(format!("kubectl tokenry docs {page}#{anchor}"));
    }
    let (path, anchor) =
        target.split_once('#').map_or((target, String::new()), |(path, anchor)| (path, format!("#{anchor}")));
    let page =
        PAGES.iter().map(|(path, _)| name(path)).find(|page| path.strip_suffix(".md").map(name) == Some(*page))?;
    (!target.contains("://")).then(|| format!("kubectl tokenry docs {page}{anchor}"))
}

/// The text in lines that fit the width. Lines of code blocks stay whole, so that a user can copy them.
fn fitted(text: &str, columns: u16) -> String {
    let (mut blocks, mut is_code, mut is_open) = (Vec::<(bool, String)>::new(), false, false);
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        let goes_on = is_open && !is_code && !is_fence && !is_begin(line);
        match blocks.last_mut().filter(|_| goes_on) {
            Some((_, block)) => *block = format!("{block} {}", line.trim()),
            None => blocks.push((is_code || is_fence, line.to_owned())),
        }
        is_code ^= is_fence;
        is_open = !is_code && !is_fence && !line.is_empty() && !line.starts_with(['#', '|']);
    }
    let shown = |(is_whole, block): &(bool, String)| {
        let text = block.trim_start();
        let indent = block.len() - text.len();
        let hang = if is_item(text) || text.starts_with('|') { 2 } else { 0 };
        if *is_whole { block.clone() } else { broken(text, columns, [indent, indent + hang]) }
    };
    blocks.iter().map(|block| shown(block) + "\n").collect()
}

/// True for a line that does not go on with the text of the line before it.
fn is_begin(line: &str) -> bool {
    let text = line.trim_start();
    text.is_empty() || text.starts_with(['#', '|', '>', '<']) || is_item(text)
}

/// True for the begin of an item of a list.
fn is_item(text: &str) -> bool {
    let number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    text.starts_with("* ") || text.starts_with("- ") || number.len() < text.len() && number.starts_with(". ")
}

/// The headings of a page: the number of the line, the level and the anchor, as the book makes it. Lines of code blocks
/// are no headings.
fn headings(text: &str) -> impl Iterator<Item = (usize, usize, String)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(nth, line)| {
        is_code ^= line.starts_with("```");
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        let heading = line[level..].strip_prefix(' ').filter(|_| level > 0 && !is_code)?;
        let kept = heading.to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        Some((nth, level, kept.map(|c| if c == ' ' { '-' } else { c }).collect()))
    })
}

/// The section of a page, up to the next heading of its level or a higher one.
fn section(text: &str, anchor: &str) -> Option<String> {
    let (begin, level, _) = headings(text).find(|(_, _, found)| found == anchor)?;
    let end = headings(text).find(|(nth, other, _)| *nth > begin && *other <= level).map(|(nth, _, _)| nth);
    let lines = text.lines().skip(begin).take(end.map_or(usize::MAX, |end| end - begin));
    Some(lines.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_page_of_the_book_is_there_under_a_name_of_its_own() {
        let summary = include_str!("../../docs/SUMMARY.md");
        let listed: Vec<_> = summary.split("](").skip(1).filter_map(|rest| rest.split(".md)").next()).collect();
        assert_eq!(listed, PAGES.iter().map(|(path, _)| *path).collect::<Vec<_>>());
        let names: BTreeSet<_> = PAGES.iter().map(|(path, _)| name(path)).collect();
        assert_eq!(names.len(), PAGES.len());
        assert!(PAGES.iter().all(|(path, text)| *path == "index" || !title(text).is_empty()));
    }

    #[test]
    fn a_page_is_found_by_its_name_its_path_or_a_section() {
        assert!(found("rotate").unwrap().starts_with("# Rotate"));
        assert_eq!(found("how-to/rotate").unwrap(), found("docs/how-to/rotate.md").unwrap());
        let section = found("check#rights").unwrap();
        assert!(section.starts_with("## Rights\n") && section.matches("\n## ").count() == 0, "{section}");
        let told = |page| found(page).unwrap_err().to_string();
        assert!(told("nothing").contains("there is no page \"nothing\""));
        assert!(told("check#nothing").contains("it has: check-an-installation, "), "{}", told("check#nothing"));
    }

    #[test]
    fn each_link_to_a_page_is_a_command_that_shows_it() {
        let mut links = 0;
        for (path, text) in PAGES {
            let shown = followable(path, text);
            for command in shown.split("](kubectl tokenry docs ").skip(1) {
                let wanted = command.split(')').next().unwrap();
                found(wanted).unwrap_or_else(|error| panic!("{path}: {error}"));
                links += 1;
            }
        }
        assert!(links > 100, "{links}");
        let text = "[a](rotate.md#x) [b](https://x/y.md) [c](#d)\n```\n[e](rotate.md)\n```\n";
        let shown = "[a](kubectl tokenry docs rotate#x) [b](https://x/y.md) [c](kubectl tokenry docs check#d)\n\
            ```\n[e](rotate.md)\n```\n";
        assert_eq!(followable("how-to/check", text), shown);
    }

    #[test]
    fn a_page_fits_the_terminal_and_its_code_stays_whole() {
        let code = format!("$ {}", "x".repeat(50));
        let text = format!(
            "# A\none two\nthree `kubectl tokenry list -A`\n\n* item one\n  goes on\n1. b\n\
             ```sh\n{code}\n\ny\n```\nend\n"
        );
        let lines = [
            "# A",
            "one two three",
            "`kubectl tokenry list -A`",
            "",
            "* item one goes on",
            "1. b",
            "```sh",
            &code,
            "",
            "y",
            "```",
            "end",
        ];
        assert_eq!(fitted(&text, 26).lines().collect::<Vec<_>>(), lines);
        for (path, text) in PAGES {
            let (shown, mut is_code) = (fitted(&followable(path, text), 80), false);
            for line in shown.lines() {
                is_code ^= line.trim_start().starts_with("```");
                let is_whole =
                    is_code || line.trim().trim_start_matches("| ").split(' ').count() == 1 || line.contains('`');
                assert!(is_whole || line.chars().count() <= 80 || line.contains("kubectl "), "{path}: {line}");
            }
        }
    }

    #[test]
    fn a_comment_in_a_code_block_is_no_heading() {
        let text = "# A\n```console\n# no\n```\n## B\nx\n### C\ny\n## D\n";
        let all: Vec<_> = headings(text).map(|(_, _, anchor)| anchor).collect();
        assert_eq!(all, ["a", "b", "c", "d"]);
        assert_eq!(section(text, "b").as_deref(), Some("## B\nx\n### C\ny\n"));
        assert_eq!(section(text, "d").as_deref(), Some("## D\n"));
    }
}
