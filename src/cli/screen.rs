//! The terminal of a user: tables, prompts and progress. Values go to standard output; all else goes to standard error.

use std::{
    io::{self, ErrorKind, IsTerminal},
    path::PathBuf,
    time::Duration,
};

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Row, Table, presets};
use console::{Alignment, Key, Style, Term, measure_text_width, pad_str, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::Serialize;
use tokio::{task::JoinHandle, time::sleep};
use zeroize::Zeroizing;

use super::{Error, client, output::put};
use crate::outside::{connect, foreign::written};

/// The width of a terminal that does not say its width. Also the smallest width of a table on a terminal.
const WIDTH: u16 = 80;
/// The longest text of a cell, in bytes.
const MAX_CELL: usize = 1024;
/// The headings of columns that are not cut.
const WHOLE: [&str; 7] = ["NAMESPACE", "NAME", "VALID", "REASON", "EXPIRES", "ROTATES", "USED"];
/// The headings of columns that are left out, one after the other, while the rest does not fit.
const SPARE: [&str; 5] = ["DESCRIPTION", "ROLE", "OWNER", "ROTATES", "USED"];
/// The headings of columns that are cut after all, if the rest still does not fit.
const NAMES: [&str; 2] = ["NAMESPACE", "NAME"];
/// The least width of a column that is cut.
const NARROW: usize = 8;
/// The space between two columns.
const GAP: u16 = 2;
/// A wait that is longer than this is shown.
const SLOW: Duration = Duration::from_secs(1);
/// The time between two pictures of the progress.
const TICK: Duration = Duration::from_millis(120);

/// The space before a text below a mark.
const INDENT: usize = 4;
/// The begin of a command that a message shows, for a user to copy.
const COMMAND: &str = "kubectl ";
/// The space behind a question, for the answer.
const ANSWER: usize = 16;

/// The space for the sign and the time of a wait.
const ELAPSED: usize = 12;

/// Ctrl-D, as a terminal sends it while a program reads keys, and as it keeps it from a moment before.
const END_OF_INPUT: [char; 2] = ['\u{4}', '\0'];
/// The answers that confirm a question, in small letters. Any other answer means no.
const SURE: [&str; 3] = ["y", "yes", "yes, i'm sure"];

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

    /// The table as text. With a `width`, columns are left out and cells are cut so that each line fits. Reasons and
    /// times are never cut, and names only if nothing else helps.
    pub(crate) fn text(&self, width: Option<u16>) -> String {
        let shown = self.shown(width);
        let mut headings = Row::from(shown.iter().map(|column| self.headings[column.at]).collect::<Vec<_>>());
        headings.max_height(1);
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(headings);
        for cells in &self.rows {
            let mut row = Row::from(shown.iter().map(|column| Cell::new(&cells[column.at])).collect::<Vec<_>>());
            row.max_height(1);
            table.add_row(row);
        }
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            table.set_truncation_indicator("…");
        }
        table.column_iter_mut().for_each(|column| _ = column.set_padding((0, GAP)));
        for (at, _) in shown.iter().enumerate().filter(|(_, column)| column.is_whole) {
            table
                .column_mut(at)
                .into_iter()
                .for_each(|column| _ = column.set_constraint(ColumnConstraint::ContentWidth));
        }
        table.trim_fmt()
    }

    /// The columns that are shown in this width. `None`: any width.
    fn shown(&self, width: Option<u16>) -> Vec<ShownColumn> {
        let is_whole = |heading| width.is_none() || WHOLE.contains(heading);
        let columns = self.headings.iter().enumerate();
        let mut shown: Vec<_> = columns.map(|(at, heading)| ShownColumn { at, is_whole: is_whole(heading) }).collect();
        // The last column has no gap behind it.
        let most = width.map_or(usize::MAX, |width| usize::from(width) + usize::from(GAP));
        let fits = |shown: &[ShownColumn]| shown.iter().map(|column| self.least(column)).sum::<usize>() <= most;
        for spare in SPARE {
            if fits(&shown) {
                return shown;
            }
            shown.retain(|column| self.headings[column.at] != spare);
        }
        if !fits(&shown) {
            let names = shown.iter_mut().filter(|column| NAMES.contains(&self.headings[column.at]));
            names.for_each(|column| column.is_whole = false);
        }
        shown
    }

    /// The least width of a column, with the gap behind it.
    fn least(&self, &ShownColumn { at, is_whole }: &ShownColumn) -> usize {
        let (heading, cells) = (self.headings[at], self.rows.iter().map(|cells| cells[at].chars().count()));
        let longest = cells.max().unwrap_or_default().max(heading.len());
        let narrowest = if is_whole { longest } else { longest.min(heading.len().max(NARROW)) };
        narrowest + usize::from(GAP)
    }

    /// Prints the table to standard error, in the width of the terminal.
    pub(crate) fn show(&self) {
        remark(&self.text(table_width(&Term::stderr())));
    }

    /// Prints the table. `whole`: no cell is cut. Without a terminal, none is.
    pub(crate) fn print(&self, whole: bool) {
        put(&format!("{}\n", self.text(most(whole))));
    }

    /// Prints the table, and keeps its columns for rows that come later.
    pub(crate) fn begin(&self, whole: bool) -> PrintedColumns {
        let most = most(whole);
        put(&format!("{}\n", self.text(most)));
        PrintedColumns::of(self, most)
    }
}

/// A column of a table that is shown.
struct ShownColumn {
    /// The position of the cell in a row.
    at: usize,
    /// True if no cell of the column is cut.
    is_whole: bool,
}

/// The columns of a printed table. A later row is printed in them, without a look at the rows before.
pub(crate) struct PrintedColumns(Vec<PrintedColumn>);

struct PrintedColumn {
    column: ShownColumn,
    /// The width of a cell. `None`: any width.
    width: Option<usize>,
}

impl PrintedColumns {
    /// The columns of a table that is printed in the width `most`.
    fn of(rows: &Rows, most: Option<u16>) -> Self {
        let (mut columns, mut begins, mut from) = (Vec::new(), Vec::new(), 0);
        let text = rows.text(most);
        let line = text.lines().next().unwrap_or_default();
        for column in rows.shown(most) {
            // A narrow column cuts its heading.
            let heading = rows.headings[column.at].get(..3);
            let begin = heading.and_then(|begin| line.get(from..)?.find(begin)).map_or(from, |found| from + found);
            begins.push(line.get(..begin).map_or(begin, |before| before.chars().count()));
            columns.push(PrintedColumn { column, width: None });
            from = begin + 1;
        }
        let ends =
            begins.iter().skip(1).map(|begin| Some(begin.saturating_sub(GAP.into()))).chain([most.map(usize::from)]);
        for ((column, begin), end) in columns.iter_mut().zip(&begins).zip(ends) {
            column.width = end.map(|end| end.saturating_sub(*begin));
        }
        Self(columns)
    }

    /// Prints the first of these rows.
    pub(crate) fn print(&self, rows: &Rows) {
        rows.rows.first().iter().for_each(|cells| put(&format!("{}\n", self.line(cells))));
    }

    fn line(&self, cells: &[String]) -> String {
        let gap = " ".repeat(GAP.into());
        let cell = |PrintedColumn { column, width }: &PrintedColumn| {
            let (cell, width) = (&*cells[column.at], width.unwrap_or_default());
            let is_cut = !column.is_whole && width > 0 && measure_text_width(cell) > width;
            let text = if is_cut { truncate_str(cell, width, "…") } else { cell.into() };
            pad_str(&text, width, Alignment::Left, None).into_owned()
        };
        self.0.iter().map(cell).collect::<Vec<_>>().join(&gap).trim_end().to_owned()
    }
}

/// The most columns of a table on standard output. `None`: each cell is whole.
fn most(whole: bool) -> Option<u16> {
    table_width(&Term::stdout()).filter(|_| !whole)
}

/// The width of a table on a terminal. `None`: it is no terminal, so a program may read the table.
fn table_width(terminal: &Term) -> Option<u16> {
    columns(terminal).map(|columns| columns.max(WIDTH))
}

/// The width of text on standard output.
fn width() -> u16 {
    table_width(&Term::stdout()).unwrap_or(WIDTH)
}

/// The width of a terminal. `None`: it is no terminal.
fn columns(terminal: &Term) -> Option<u16> {
    terminal.is_term().then(|| terminal.size_checked().map_or(WIDTH, |(_, columns)| columns))
}

/// Prints a remark to standard error.
pub(crate) fn remark(text: &str) {
    for line in text.lines() {
        eprintln!("{}", folded(&written(line, MAX_CELL * 4), columns(&Term::stderr())));
    }
}

/// Prints lines to standard output. On a terminal, they are broken between words. The text is escaped already.
pub(crate) fn say(text: &str) {
    let columns = columns(&Term::stdout());
    text.lines().for_each(|line| put(&format!("{}\n", folded(line, columns))));
}

/// A line, broken between words so that each part fits the width. The other parts are indented more than the first one.
/// A line with a command to copy stays whole.
fn folded(line: &str, columns: Option<u16>) -> String {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    match columns {
        Some(columns) if !(indent > 0 && text.starts_with(COMMAND)) => broken(text, columns, [indent, indent + 2]),
        _ => line.to_owned(),
    }
}

/// A text, broken between words so that each line fits the width. The first line and the others have these indents.
pub(crate) fn broken(text: &str, columns: u16, [first, rest]: [usize; 2]) -> String {
    let (mut all, mut line) = (String::new(), " ".repeat(first));
    let (mut is_begun, mut is_full) = (false, false);
    for part in unbroken(text) {
        let wide = measure_text_width(&line) + usize::from(is_begun) + measure_text_width(part);
        let is_over = is_begun && wide > usize::from(columns);
        if is_over || is_full {
            all += line.trim_end();
            all += "\n";
            (line, is_begun) = (" ".repeat(rest), false);
        }
        line = line + if is_begun { " " } else { "" } + part;
        // A command that did not fit has a line of its own.
        (is_begun, is_full) = (true, is_over && part.contains(' '));
    }
    all + &line
}

/// The parts of a text that stay whole: words, and commands, so that a user can copy them.
fn unbroken(text: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::<&str>::new(), text);
    loop {
        let is_after_colon = parts.last().is_some_and(|part| part.ends_with(':'));
        let (part, after) = rest.split_at(end_of_part(rest, is_after_colon));
        parts.push(part);
        let Some(next) = after.strip_prefix(' ') else { return parts };
        rest = next;
    }
}

/// The end of the first part of a text. A command after a colon ends with its sentence, and one in backticks with them.
fn end_of_part(text: &str, is_after_colon: bool) -> usize {
    if is_after_colon && text.starts_with(COMMAND) {
        return text.find("; ").map_or(text.len(), |at| at + 1);
    }
    let word_from = |at: usize| text[at..].find(' ').map_or(text.len(), |space| at + space);
    let word = word_from(0);
    match text[..word].matches('`').count() % 2 {
        0 => word,
        _ => text[word..].find('`').map_or(word, |close| word_from(word + close)),
    }
}

/// The width of standard output. `None`: it is no terminal.
pub(crate) fn page_width() -> Option<u16> {
    columns(&Term::stdout())
}

/// Prints an error of the command line to standard error, in its colours if the terminal shows them.
pub(crate) fn usage(error: &clap::Error) {
    let text = error.render();
    let text = if console::colors_enabled_stderr() { text.ansi().to_string() } else { text.to_string() };
    text.lines().for_each(|line| eprintln!("{}", folded(line, columns(&Term::stderr()))));
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
    broken(&written(text, MAX_CELL * 4), width(), [INDENT; 2])
}

/// Asks the user to confirm. `flag` is the flag that confirms without a question.
///
/// # Errors
/// The user does not confirm, or there is no terminal to ask at.
pub(crate) fn sure(question: &str, flag: &str) -> Result<(), Error> {
    let terminal = asking(question, flag)?;
    let typed = answer(&terminal, question, "Yes, I'm sure [y/N]")?;
    if SURE.contains(&typed.trim().to_lowercase().as_str()) { Ok(()) } else { Err(Error::Declined) }
}

/// The line that the user types after a question and a wish. Ctrl-D instead of an answer is an empty line.
fn answer(terminal: &Term, question: &str, wish: &str) -> Result<Zeroizing<String>, Error> {
    let text = asked(&written(question, MAX_CELL), &written(wish, MAX_CELL), columns(terminal).unwrap_or(WIDTH));
    typed_line(terminal, &format!("{text}: "), true).map_err(unanswered)
}

/// The line that the user types after a question, without its end. Ctrl-D at its begin ends it too. A terminal that is
/// gone is an empty line.
fn typed_line(terminal: &Term, question: &str, is_shown: bool) -> io::Result<Zeroizing<String>> {
    let _modes = KeyModes::begin()?;
    terminal.write_str(question)?;
    // A text that outgrows its memory would leave a copy of a value there.
    let mut line = Zeroizing::new(String::with_capacity(MAX_CELL));
    loop {
        let key = match terminal.read_key() {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Zeroizing::default()),
            key => key?,
        };
        if key == Key::Enter {
            break;
        }
        if key == Key::Backspace {
            let last = line.pop().filter(|_| is_shown).map(String::from).unwrap_or_default();
            terminal.clear_chars(measure_text_width(&last))?;
        }
        let Key::Char(typed) = key else { continue };
        if line.is_empty() && END_OF_INPUT.contains(&typed) {
            break;
        }
        if !typed.is_control() {
            line.push(typed);
            if is_shown {
                terminal.write_str(typed.encode_utf8(&mut [0; 4]))?;
            }
        }
    }
    terminal.write_line("")?;
    Ok(line)
}

/// The modes that a terminal had before a question. They return when this is dropped. Until then the terminal shows no
/// key by itself, also between two reads of a pasted text, and Ctrl-C is a key.
struct KeyModes(Termios);

impl KeyModes {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(io::stdin(), OptionalActions::Drain, &modes)?;
        Ok(Self(before))
    }
}

impl Drop for KeyModes {
    fn drop(&mut self) {
        // A terminal that is gone has no modes.
        _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// A question and a wish in one line, if it fits and leaves space for the answer; else each begins a line.
fn asked(question: &str, wish: &str, columns: u16) -> String {
    let (line, most) = (format!("{question} {wish}"), usize::from(columns));
    match measure_text_width(&line) + ANSWER <= most {
        true => line,
        false => format!("{}\n{}", broken(question, columns, [0, 0]), broken(wish, columns, [0, 0])),
    }
}

/// The error of a question without an answer.
fn unanswered(error: io::Error) -> Error {
    if error.kind() == ErrorKind::Interrupted {
        eprintln!();
        return Error::Interrupted("interrupted; nothing was changed".into());
    }
    Error::local("cannot ask", error)
}

/// Asks the user to type a text exactly, for a `purpose` such as `to delete it`. `flag` is the flag that gives it
/// without a question.
///
/// # Errors
/// The user types another text, or there is no terminal to ask at.
pub(crate) fn typed(question: &str, purpose: &str, wanted: &str, flag: &str) -> Result<(), Error> {
    let wish = format!("Type \"{wanted}\" without the quotes {purpose}");
    let terminal = asking(&format!("{question} {wish}."), flag)?;
    let typed = answer(&terminal, question, &wish)?;
    if *typed == wanted { Ok(()) } else { Err(Error::Declined) }
}

/// Asks the user for a text that is not shown. `None`: there is no terminal to ask at.
///
/// # Errors
/// The terminal cannot be read, or the user presses Ctrl-C.
pub(crate) fn hidden(question: &str) -> Result<Option<Zeroizing<String>>, Error> {
    let Some(terminal) = attended() else { return Ok(None) };
    client::block_on(async {
        // Without a listener, Ctrl-C would end the process before the terminal has its modes again.
        let heard = connect::interrupted();
        let typed = heard.and_then(|_| typed_line(&terminal, &written(question, MAX_CELL), false));
        typed.map(Some).map_err(unanswered)
    })
}

/// The terminal that can ask.
fn asking(question: &str, flag: &str) -> Result<Term, Error> {
    let advice = || format!("{question} This needs an answer, but there is no terminal to ask at; give {flag}");
    attended().ok_or_else(|| Error::Usage(advice()))
}

/// The terminal of questions, at which a user reads and types. Standard output may be a pipe, as in `$(…)`.
fn attended() -> Option<Term> {
    let terminal = Term::stderr();
    (terminal.is_term() && io::stdin().is_terminal()).then_some(terminal)
}

/// The progress of a wait, on standard error. It is shown on a terminal only, and removed at its end.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Shows it later. `None`: it is shown already, or never.
    begin: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows `text` if the wait takes more than a second.
    pub(crate) fn of(text: &str) -> Self {
        let bar = spinner(text);
        let later = bar.clone();
        let begin = tokio::spawn(async move {
            sleep(SLOW).await;
            show(&later);
        });
        Self { bar, begin: Some(begin) }
    }

    /// Shows `text` if the work on these files takes more than a second. Nothing is shown while the user types one of
    /// them.
    pub(crate) fn of_files<'a>(text: &str, paths: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let is_typed = io::stdin().is_terminal() && paths.into_iter().any(|path| path.as_os_str() == "-");
        if is_typed { Self { bar: spinner(text), begin: None } } else { Self::of(text) }
    }

    /// Shows `text` at once, as the wait took a second already.
    pub(crate) fn shown(text: &str) -> Self {
        let bar = spinner(text);
        show(&bar);
        Self { bar, begin: None }
    }

    /// Shows another text.
    pub(crate) fn now(&self, text: &str) {
        self.bar.set_message(in_its_line(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.begin.iter().for_each(JoinHandle::abort);
        self.bar.finish_and_clear();
    }
}

/// A spinner that is not shown yet.
fn spinner(text: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("the template is valid"));
    bar.with_message(in_its_line(text))
}

/// The text of a wait, cut so that it fits one line of the terminal with its time.
fn in_its_line(text: &str) -> String {
    let most = usize::from(columns(&Term::stderr()).unwrap_or(WIDTH)).saturating_sub(ELAPSED);
    truncate_str(&written(text, MAX_CELL), most, "…").into_owned()
}

/// Shows a spinner, unless its wait is over.
fn show(bar: &ProgressBar) {
    if !bar.is_finished() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.enable_steady_tick(TICK);
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
    fn a_later_row_is_printed_in_the_columns_of_the_table() {
        let mut rows = Rows::under(&["NAME", "VALID", "OWNER", "DESCRIPTION"]);
        rows.add(["exporter", "yes", "user:alice", "exports the topics every night"].map(str::to_owned));
        rows.add(["ci", "no", "user:bob", "short"].map(str::to_owned));
        for most in [Some(48), None] {
            let text = rows.text(most);
            let columns = PrintedColumns::of(&rows, most);
            let again: Vec<_> = rows.rows.iter().map(|cells| columns.line(cells)).collect();
            assert_eq!(again[1], text.lines().nth(2).unwrap(), "{text}");
            assert!(again[0].starts_with("exporter  yes    user:alice  exports the topics"), "{again:?}");
            assert!(again[0].ends_with("night") == most.is_none() && again[0].chars().count() < 60, "{again:?}");
        }
        let whole = PrintedColumns::of(&rows, None);
        let later = ["ci", "yes", "user:a-very-long-name", "d"].map(str::to_owned);
        assert!(whole.line(&later).ends_with("user:a-very-long-name  d"), "nothing is cut: {}", whole.line(&later));
        let narrow = PrintedColumns::of(&rows, Some(48));
        let later = narrow.line(&["a-name-of-16-chr", "yes", "user:a-very-long-name", "d"].map(str::to_owned));
        assert!(later.starts_with("a-name-of-16-chr  yes    user:a-") && later.contains('…'), "{later}");
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
    fn a_long_name_is_cut_after_all_that_can_be_left_out() {
        let headings = ["NAMESPACE", "NAME", "VALID", "REASON", "OWNER", "EXPIRES", "ROTATES", "USED", "DESCRIPTION"];
        for (namespace, name, is_whole) in [
            ("events".to_owned(), "nightly-export-of-all-topics".to_owned(), true),
            ("events".to_owned(), "n".repeat(40), false),
            ("e".repeat(40), "n".repeat(40), false),
            ("e".repeat(63), "ci".to_owned(), false),
        ] {
            let mut rows = Rows::under(&headings);
            let rest = ["no", "DescriptionMissing", "user:alice", "in 30d", "in 20d", "never", "exports topics"];
            rows.add([&*namespace, &name].into_iter().chain(rest).map(str::to_owned));
            let text = rows.text(Some(80));
            assert!(text.lines().all(|line| line.chars().count() <= 80) && text.lines().count() == 2, "{text}");
            assert!(text.contains("DescriptionMissing") && text.contains("in 30d"), "{text}");
            assert_eq!((!text.contains('…'), text.contains(&name)), (is_whole, is_whole || name == "ci"), "{text}");
            let later = PrintedColumns::of(&rows, Some(80)).line(&rows.rows[0]);
            assert_eq!(Some(&*later), text.lines().nth(1), "a later row fits too");
        }
    }

    #[test]
    fn a_text_below_a_mark_is_broken_between_words() {
        let text = indented(&"word ".repeat(40));
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.starts_with("    word")), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(width())), "{text}");
        assert_eq!(indented("a\u{1b}b"), r"    a\u{1b}b");
    }

    #[test]
    fn a_line_is_broken_on_a_terminal_unless_it_is_a_command() {
        let line =
            format!("  {} Valid=True {}", Style::new().green().force_styling(true).apply_to('√'), "word ".repeat(9));
        let text = folded(line.trim_end(), Some(40));
        let lines: Vec<_> = text.lines().map(measure_text_width).collect();
        assert_eq!((lines.len(), text.lines().nth(1)), (2, Some("    word word word word")), "{text}");
        assert!(lines.iter().all(|width| *width <= 40), "{text}");
        assert_eq!(folded(&line, None), line);
        let command = format!("  kubectl tokenry grant {}", "x ".repeat(40));
        assert_eq!(folded(&command, Some(40)), command);
        let long = "x".repeat(90);
        assert_eq!(folded(&format!("a {long} b"), Some(40)), format!("a\n  {long}\n  b"));
    }

    #[test]
    fn a_command_is_never_broken() {
        let told = "the value is gone: read it again: kubectl tokenry show ci -n events; or ask";
        let command = "kubectl tokenry show ci -n events;";
        let lines = |text: &str, columns| broken(text, columns, [0, 2]).lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(told, 40), ["the value is gone: read it again:", &format!("  {command}"), "  or ask"]);
        assert_eq!(lines(told, 20)[2], format!("  {command}"), "a command that does not fit has a line of its own");
        let quoted = "no such token; `kubectl tokenry list -n events` lists those that do, and `.git` is no token";
        let whole = [
            "no such token;",
            "  `kubectl tokenry list -n events`",
            "  lists those that do, and `.git` is no",
            "  token",
        ];
        assert_eq!(lines(quoted, 40), whole);
        assert_eq!(lines("one `open b", 8), ["one", "  `open", "  b"]);
    }

    #[test]
    fn a_question_fits_the_terminal_with_its_answer() {
        let (question, wish) =
            ("Claim the value of ci? Its Secret is deleted, and nothing shows it again.", "Sure [y/N]");
        assert_eq!(asked(question, wish, 120), format!("{question} {wish}"));
        assert_eq!(asked(question, wish, 80), format!("{question}\n{wish}"));
        assert_eq!(asked(question, wish, 40).lines().count(), 3);
        assert!(asked(question, wish, 40).lines().all(|line| line.chars().count() <= 40));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_shown_after_a_second_and_not_once_it_is_over() {
        let is_begun = |progress: &Progress| progress.begin.as_ref().unwrap().is_finished();
        let long = Progress::of("waiting");
        sleep(SLOW / 2).await;
        assert!(!is_begun(&long));
        sleep(SLOW).await;
        assert!(is_begun(&long));
        let short = Progress::of("waiting");
        let begin = short.begin.as_ref().unwrap().abort_handle();
        drop(short);
        sleep(SLOW / 2).await;
        assert!(begin.is_finished(), "its wait is over");
    }

    #[test]
    fn nobody_is_asked_without_a_terminal() {
        let told = sure("Revoke ci?", "--yes").unwrap_err().to_string();
        assert_eq!(told, "Revoke ci? This needs an answer, but there is no terminal to ask at; give --yes");
    }
}
