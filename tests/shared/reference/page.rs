//! Markdown.

use std::fmt::Write;

/// A page that begins with a title, a sentence about its source, and `about`.
pub fn begin(title: &str, source: &str, about: &str) -> String {
    format!(
        "# {title}\n\nGenerated from {source} by `cargo reference`; a test fails when it is out of date.\n\n{about}\n"
    )
}

/// A section with a heading.
pub fn section(page: &mut String, heading: &str, about: &str) {
    let _ = write!(page, "\n## {heading}\n\n");
    if !about.is_empty() {
        let _ = write!(page, "{about}\n\n");
    }
}

/// A table. Every cell is Markdown already.
pub fn table<const N: usize>(page: &mut String, head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let _ = writeln!(page, "| {} |\n|{}", head.join(" | "), "---|".repeat(N));
    for row in rows {
        let _ = writeln!(page, "| {} |", row.join(" | "));
    }
}

/// Prose of a comment in one line, as the cell of a table: links of rustdoc become code, and nothing outside of code is
/// read as HTML or emphasis.
pub fn cell(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("[`", "`").replace("`]", "`");
    let parts = text.split('`').enumerate().map(|(nth, part)| match nth % 2 {
        0 => part.replace('<', "&lt;").replace('*', "\\*").replace('|', "\\|"),
        _ => part.rsplit("::").next().unwrap_or(part).replace('|', "\\|"),
    });
    parts.collect::<Vec<_>>().join("`")
}

/// Code in the cell of a table; nothing where there is none.
pub fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", text.replace('|', "\\|")) }
}
