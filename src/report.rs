//! What commands print: tables that align for people, one document for programs. Results go to stdout, progress to
//! stderr; nothing here decides.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use unicode_width::UnicodeWidthStr;

/// Prints a line to stdout. Where stdout is closed nobody reads, which is no failure (`| head`); a result that cannot be
/// written (a full disk) ends the process as failed, so that no script takes it for whole.
pub fn say(line: &str) {
    let Err(error) = writeln!(std::io::stdout().lock(), "{line}") else { return };
    if error.kind() != std::io::ErrorKind::BrokenPipe {
        let _told = writeln!(std::io::stderr().lock(), "error: cannot write the result: {error}");
        std::process::exit(1);
    }
}

/// An error with everything that caused it, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

/// Prints one JSON document to stdout.
pub fn say_json(document: &serde_json::Value) {
    say(&format!("{document:#}"));
}

/// A terminal that says it is narrower does not know its width.
const WIDTH_MIN: u16 = 40;
/// Blanks between two columns.
const GAP: usize = 2;

/// How many characters a line of the terminal takes; `None` where stdout is no terminal.
#[must_use]
pub fn width() -> Option<usize> {
    Table::new().width().filter(|width| *width >= WIDTH_MIN).map(usize::from)
}

/// A table without borders: columns aligned, numbers to the right, fitted to the terminal.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    table_within(header, rows, width())
}

/// The same within so many characters. What does not fit is broken between words, never inside a word or a number; where
/// that is not enough each row becomes a block of lines.
fn table_within(header: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| visible(cell).into_owned()).collect()).collect();
    let Some(widths) = column_widths(header, &rows, width.unwrap_or(usize::MAX)) else {
        return blocks(header, &rows, width.unwrap_or(usize::MAX));
    };
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let wrapped = |cells: Vec<&str>| -> Vec<String> {
        let pairs = cells.into_iter().zip(&widths);
        pairs.map(|(cell, width)| wrap(cell, *width).join("\n")).collect()
    };
    if !header.is_empty() {
        table.set_header(wrapped(header.to_vec()));
    }
    for row in &rows {
        table.add_row(wrapped(row.iter().map(String::as_str).collect()));
    }
    let columns = rows.first().map_or(0, Vec::len);
    for place in 0..columns {
        let is_number = |row: &Vec<String>| row.get(place).is_some_and(|cell| is_figure(cell));
        if let Some(column) = table.column_mut(place) {
            column.set_padding((0, 2));
            if !rows.is_empty() && rows.iter().all(is_number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt()
}

/// How wide each column may be; `None` where the longest words alone do not fit.
fn column_widths(header: &[&str], rows: &[Vec<String>], width: usize) -> Option<Vec<usize>> {
    let columns = rows.iter().map(Vec::len).chain([header.len()]).max().unwrap_or(0);
    let cells = |place: usize| {
        let of_header = header.get(place).copied();
        of_header.into_iter().chain(rows.iter().filter_map(move |row| row.get(place).map(String::as_str)))
    };
    let widest = |text: &str| text.lines().map(UnicodeWidthStr::width).max().unwrap_or(0);
    let word = |text: &str| text.split_whitespace().map(UnicodeWidthStr::width).max().unwrap_or(0);
    let whole: Vec<usize> = (0..columns).map(|place| cells(place).map(widest).max().unwrap_or(0)).collect();
    let least: Vec<usize> = (0..columns).map(|place| cells(place).map(word).max().unwrap_or(0)).collect();
    let room = width.saturating_sub(GAP * columns.saturating_sub(1));
    let capped = |cap: usize| -> Vec<usize> {
        whole.iter().zip(&least).map(|(whole, least)| (*whole).min(cap).max(*least)).collect()
    };
    let fits = |widths: &[usize]| widths.iter().sum::<usize>() <= room;
    // the widest columns give way first
    let widest = whole.iter().copied().max().unwrap_or(0);
    (0..=widest).rev().map(capped).find(|widths| fits(widths))
}

/// Each row as lines of a name and a value, with an empty line between rows.
fn blocks(header: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let named = header.iter().map(|name| name.width()).max().unwrap_or(0);
    let block = |row: &Vec<String>| {
        let line = |(place, cell): (usize, &String)| {
            let name = header.get(place).copied().unwrap_or_default();
            let lines = wrap(cell, width.saturating_sub(named + GAP)).join(&format!("\n{:1$}", "", named + GAP));
            format!("{name:named$}  {lines}").trim_end().to_owned()
        };
        row.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
    };
    rows.iter().map(block).collect::<Vec<_>>().join("\n\n")
}

/// Lines of at most so many characters, broken between words; a longer word has a line of its own.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    if text.lines().all(|line| line.width() <= width) {
        return text.lines().map(str::to_owned).collect();
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Text from outside as it is shown: signs that control a terminal, are not seen, or turn the writing round are replaced.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_hidden = |sign: char| {
        (sign.is_control() && sign != '\n')
            || matches!(sign, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(sign, '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    if text.contains(is_hidden) { Cow::Owned(text.replace(is_hidden, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

fn is_figure(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit() || c == '-' || c == '.')
}

/// A duration in the two units that matter: `2 h 5 min`, `3.2 s`.
#[must_use]
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Progress of long work on stderr; drawn only where a person looks. Clones draw on the same place.
#[derive(Clone)]
pub struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    /// Draws where `draws`.
    #[must_use]
    pub fn on_terminal(draws: bool) -> Self {
        Self { bars: draws.then(MultiProgress::new) }
    }

    /// What draws, for whoever writes to the same terminal.
    #[must_use]
    pub fn bars(&self) -> Option<MultiProgress> {
        self.bars.clone()
    }

    /// A line with a moving sign, a name and words.
    #[must_use]
    pub fn line(&self, name: &str) -> ProgressBar {
        let Some(bars) = &self.bars else { return ProgressBar::hidden() };
        let bar = bars.add(ProgressBar::new_spinner());
        let style = ProgressStyle::with_template("{spinner} {prefix:12} {msg}  {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect()
    }

    /// Every word and number of the cells is in the table, whole.
    fn assert_whole(table: &str, header: &[&str], rows: &[Vec<String>]) {
        let shown: Vec<&str> = table.split_whitespace().collect();
        let cells = header.iter().copied().chain(rows.iter().flatten().map(String::as_str));
        for word in cells.flat_map(str::split_whitespace) {
            assert!(shown.contains(&word), "{word} is broken:\n{table}");
        }
    }

    #[test]
    fn no_word_and_no_number_is_broken_at_80_columns() {
        let balance = [
            "source",
            "read",
            "unchanged",
            "changed",
            "waiting",
            "repeated",
            "stale",
            "filtered",
            "rejected",
            "held",
            "gone",
            "fields left out",
        ];
        let numbers =
            ["crm", "1234567", "1234567", "1234567", "1234567", "0", "0", "0", "1234567", "0", "0", "1234567"];
        let hold = ["hold", "source", "what", "contacts", "since", "reason"];
        let reason = "empty fields of 12345 of 200000 contacts, which is more than the bound of 2 per cent allows";
        let held = ["7", "warehouse-ukraine", "clear", "12345", "2026-11-30T23:53:10.123Z", reason];
        let deed = ["to be done", "state", "contacts"];
        for (header, row) in [(&balance[..], &numbers[..]), (&hold, &held), (&deed, &["unsubscribe", "due", "5"])] {
            let rows = rows(&[row, row]);
            for width in [60, 80, 100, 1000] {
                let table = table_within(header, &rows, Some(width));
                assert_whole(&table, header, &rows);
                assert!(table.lines().all(|line| line.width() <= width), "{width}:\n{table}");
            }
        }
    }

    #[test]
    fn what_fits_is_one_line_a_row_and_numbers_stand_to_the_right() {
        let rows = rows(&[&["a b", "5"], &["c", "12"]]);
        for width in [None, Some(80)] {
            assert_eq!(table_within(&["what", "count"], &rows, width), "what  count\na b       5\nc        12");
        }
        assert_eq!(table_within(&[], &rows, Some(80)), "a b   5\nc    12");
    }

    #[test]
    fn a_row_whose_words_do_not_fit_becomes_a_block() {
        let long = "x".repeat(50);
        let rows = rows(&[&[&long, "1 2"], &["y", &long]]);
        let shown = table_within(&["first", "second"], &rows, Some(60));
        assert_eq!(shown, format!("first   {long}\nsecond  1 2\n\nfirst   y\nsecond  {long}"));
    }

    #[test]
    fn what_controls_a_terminal_or_is_not_seen_is_replaced() {
        for sign in
            ['\u{1b}', '\r', '\t', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{61c}', '\u{200b}', '\u{feff}']
        {
            assert_eq!(visible(&format!("a{sign}b")), "a\u{fffd}b", "{sign:?}");
        }
        assert_eq!(visible("Їжак ñ 日本"), "Їжак ñ 日本");
        let rows = rows(&[&["k\u{1b}[2J", "x"]]);
        assert!(!table_within(&["a", "b"], &rows, None).contains('\u{1b}'));
    }
}
