//! The terminal of a user: tables, prompts and progress. Values go to standard output; all else goes to standard error.

use std::{io::ErrorKind, time::Duration};

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Row, Table, presets};
use console::{Style, Term};
use dialoguer::{Input, Select, theme::SimpleTheme};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Error, output::put};
use crate::outside::foreign::written;

/// The width of a table if standard output is no terminal, and the smallest width of any table.
const WIDTH: u16 = 80;
/// The longest text of a cell, in bytes.
const MAX_CELL: usize = 1024;
/// The headings of columns that are never cut.
const WHOLE: [&str; 7] = ["NAMESPACE", "NAME", "VALID", "REASON", "EXPIRES", "ROTATES", "USED"];
/// The headings of columns that are left out, one after the other, while the rest does not fit.
const SPARE: [&str; 3] = ["DESCRIPTION", "ROLE", "OWNER"];
/// The least width of a column that is cut.
const NARROW: usize = 8;
/// The space between two columns.
const GAP: u16 = 2;
/// The time between two pictures of the progress.
const TICK: Duration = Duration::from_millis(120);

/// The space before a text below a mark.
const INDENT: &str = "    ";

/// The answer that confirms a question.
const SURE: &str = "Yes, I'm sure";

/// Rows under their headings. Text of other users is escaped.
pub(crate) struct Rows {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Rows {
    /// A table with these headings.
    pub(crate) fn under(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| written(&cell, MAX_CELL).into_owned()).collect());
    }

    /// The table as text. With a `width`, columns are left out and cells are cut so that each line fits. Names, reasons
    /// and times are never cut.
    pub(crate) fn text(&self, width: Option<u16>) -> String {
        let shown = self.shown(width.map_or(usize::MAX, usize::from));
        let mut headings = Row::from(shown.iter().map(|&at| self.headings[at]).collect::<Vec<_>>());
        headings.max_height(1);
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(headings);
        for cells in &self.rows {
            let mut row = Row::from(shown.iter().map(|&at| Cell::new(&cells[at])).collect::<Vec<_>>());
            row.max_height(1);
            table.add_row(row);
        }
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            table.set_truncation_indicator("…");
        }
        table.column_iter_mut().for_each(|column| _ = column.set_padding((0, GAP)));
        let whole = shown.iter().enumerate().filter(|(_, column)| WHOLE.contains(&self.headings[**column]));
        for (at, _) in whole {
            table
                .column_mut(at)
                .into_iter()
                .for_each(|column| _ = column.set_constraint(ColumnConstraint::ContentWidth));
        }
        table.trim_fmt()
    }

    /// The columns that are shown in this width, by their position.
    fn shown(&self, width: usize) -> Vec<usize> {
        let least = |&at: &usize| {
            let (heading, cells) = (self.headings[at], self.rows.iter().map(|cells| cells[at].chars().count()));
            let longest = cells.max().unwrap_or_default().max(heading.len());
            let narrowest = if WHOLE.contains(&heading) { longest } else { longest.min(heading.len().max(NARROW)) };
            narrowest + usize::from(GAP)
        };
        let mut shown: Vec<_> = (0..self.headings.len()).collect();
        for spare in SPARE {
            // The last column has no gap behind it.
            if shown.iter().map(least).sum::<usize>() <= width.saturating_add(GAP.into()) {
                break;
            }
            shown.retain(|&at| self.headings[at] != spare);
        }
        shown
    }

    /// The table as text that fits the terminal.
    pub(crate) fn fitted(&self) -> String {
        self.text(Some(width()))
    }

    /// Prints the table. `whole`: no cell is cut.
    pub(crate) fn print(&self, whole: bool) {
        put(&format!("{}\n", self.text((!whole).then(width))));
    }

    /// Prints the row with this number again, as the table has it, without the headings.
    pub(crate) fn print_row(&self, row: usize, whole: bool) {
        let text = self.text((!whole).then(width));
        text.lines().nth(row + 1).iter().for_each(|line| put(&format!("{line}\n")));
    }
}

/// The width of a table on standard output.
fn width() -> u16 {
    let terminal = Term::stdout();
    let columns = if terminal.is_term() { terminal.size_checked().map(|(_, columns)| columns) } else { None };
    columns.unwrap_or(WIDTH).max(WIDTH)
}

/// Prints a remark to standard error.
pub(crate) fn remark(text: &str) {
    for line in text.lines() {
        eprintln!("{}", written(line, MAX_CELL * 4));
    }
}

/// A heading or a name in bold, if standard output is a terminal that shows colours.
pub(crate) fn bold(text: &str) -> String {
    Style::new().bold().apply_to(written(text, MAX_CELL)).to_string()
}

/// The health of something that was checked, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    /// All is well.
    Fine,
    /// The user should look at it.
    Warning,
    /// It does not work.
    Failed,
}

impl From<bool> for Health {
    fn from(is_well: bool) -> Self {
        if is_well { Self::Fine } else { Self::Failed }
    }
}

/// A mark and its text: green if all is well, yellow for a warning, red otherwise. Without colours, the mark alone says
/// it.
pub(crate) fn mark(health: impl Into<Health>, text: &str) -> String {
    let (sign, style) = match health.into() {
        Health::Fine => ('√', Style::new().green()),
        Health::Warning => ('‼', Style::new().yellow()),
        Health::Failed => ('×', Style::new().red()),
    };
    format!("{} {}", style.apply_to(sign), written(text, MAX_CELL * 4))
}

/// A text below a mark: indented, and broken between words so that it fits the width.
pub(crate) fn indented(text: &str) -> String {
    let (text, mut lines, mut line) = (written(text, MAX_CELL * 4), Vec::new(), String::new());
    for word in text.split(' ') {
        let is_full = INDENT.len() + line.chars().count() + 1 + word.chars().count() > usize::from(width());
        if is_full && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        let space = if line.is_empty() { "" } else { " " };
        line = line + space + word;
    }
    lines.push(line);
    lines.iter().map(|line| format!("{INDENT}{line}")).collect::<Vec<_>>().join("\n")
}

/// Asks the user to confirm. `flag` is the flag that confirms without a question.
///
/// # Errors
/// The user does not confirm, or standard error is no terminal.
pub(crate) fn sure(question: &str, flag: &str) -> Result<(), Error> {
    let terminal = asking(question, flag)?;
    let items = ["No", SURE];
    let select = Select::with_theme(&SimpleTheme).with_prompt(written(question, MAX_CELL)).items(items).default(0);
    match select.interact_on_opt(&terminal) {
        Ok(Some(1)) => Ok(()),
        Ok(_) => Err(Error::Declined),
        Err(error) => Err(unanswered(&terminal, error)),
    }
}

/// The error of a question without an answer. The question has hidden the cursor, and Ctrl-C leaves it hidden.
fn unanswered(terminal: &Term, dialoguer::Error::IO(error): dialoguer::Error) -> Error {
    // A terminal that cannot show its cursor needs no further error.
    let _ = terminal.show_cursor();
    if error.kind() == ErrorKind::Interrupted {
        eprintln!();
        return Error::Interrupted("interrupted; nothing was changed".into());
    }
    Error::local("cannot ask", error)
}

/// Asks the user to type a text exactly. `flag` is the flag that gives it without a question.
///
/// # Errors
/// The user types another text, or standard error is no terminal.
pub(crate) fn typed(question: &str, wanted: &str, flag: &str) -> Result<(), Error> {
    let terminal = asking(question, flag)?;
    let input = Input::<String>::with_theme(&SimpleTheme).with_prompt(written(question, MAX_CELL)).allow_empty(true);
    let typed = input.interact_text_on(&terminal).map_err(|error| unanswered(&terminal, error))?;
    if typed == wanted { Ok(()) } else { Err(Error::Declined) }
}

/// The terminal that can ask.
fn asking(question: &str, flag: &str) -> Result<Term, Error> {
    let terminal = Term::stderr();
    let is_term = terminal.is_term() && console::user_attended();
    let advice = || format!("{question} This needs an answer, but there is no terminal to ask at; give {flag}");
    if is_term { Ok(terminal) } else { Err(Error::Usage(advice())) }
}

/// The progress of a wait, on standard error. It is shown on a terminal only, and removed at its end.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins to show `text`.
    pub(crate) fn of(text: &str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(written(text, MAX_CELL).into_owned());
        bar.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("the template is valid"));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Shows another text.
    pub(crate) fn now(&self, text: &str) {
        self.0.set_message(written(text, MAX_CELL).into_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_width_and_keeps_names_whole() {
        let mut rows = Rows::under(&["NAME", "OWNER", "REASON", "DESCRIPTION"]);
        let owner = || "user:alice@example.com".to_owned();
        rows.add(["a-long-name-of-a-token".into(), owner(), "NoPermissions".into(), "exports topics ".repeat(20)]);
        rows.add(["b".into(), "user:bob".into(), "Active".into(), "a\u{1b}[31m\nb".into()]);
        let text = rows.text(Some(60));
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert_eq!(text.lines().count(), 3, "one line a row:\n{text}");
        assert!(
            text.contains("a-long-name-of-a-token") && text.contains("NoPermissions") && text.contains('…'),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
        let whole = rows.text(None);
        assert!(whole.lines().nth(1).unwrap().len() > 300 && !whole.contains('…'), "{whole}");
    }

    #[test]
    fn what_does_not_fit_is_left_out_before_a_time_is_cut() {
        let row = |namespace: &str| {
            let headings = ["NAMESPACE", "NAME", "OWNER", "ROLE", "EXPIRES", "DESCRIPTION"];
            let mut rows = Rows::under(&headings);
            let cells = [namespace, "exporter", "user:alice@example.com", "viewer", "in 30d", "exports topics"];
            rows.add(cells.map(str::to_owned));
            rows.text(Some(60)).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let has = |shown: &[String], word: &str| shown.iter().any(|other| other == word);
        let (few, many) = (row("a"), row(&"a".repeat(35)));
        assert!(["ROLE", "viewer", "30d"].iter().all(|word| has(&few, word)), "{few:?}");
        assert!(few.iter().any(|word| word.starts_with("DESCRIPT")), "{few:?}");
        assert!(has(&many, "EXPIRES") && has(&many, "30d") && !has(&many, "DESCRIPTION"), "{many:?}");
    }

    #[test]
    fn a_text_below_a_mark_is_broken_between_words() {
        let text = indented(&"word ".repeat(40));
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.starts_with("    word")), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(width())), "{text}");
        assert_eq!(indented("a\u{1b}b"), r"    a\u{1b}b");
    }

    #[test]
    fn nobody_is_asked_without_a_terminal() {
        let told = sure("Revoke ci?", "--yes").unwrap_err().to_string();
        assert_eq!(told, "Revoke ci? This needs an answer, but there is no terminal to ask at; give --yes");
    }
}
