//! What commands print: tables that align for people, one document for programs. Results go to stdout, progress to
//! stderr; nothing here decides.

use std::io::Write;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

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

/// A narrower terminal would break each cell into letters.
const WIDTH_MIN: u16 = 40;

/// A table without borders: columns aligned, numbers to the right.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    // a terminal that says it has next to no width does not know it
    let arrangement = match table.width() {
        Some(WIDTH_MIN..) => ContentArrangement::Dynamic,
        Some(_) | None => ContentArrangement::Disabled,
    };
    table.load_style(NOTHING).set_content_arrangement(arrangement);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    for row in rows {
        table.add_row(row);
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
