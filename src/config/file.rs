//! The middle layer: the configuration file, read and parsed. Tells the line of each key; judges no key and no value.
//! Never shows a line of the file, which may hold the secret.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::problem::{KeyPath, Place, Problem};

/// A file that is TOML.
#[derive(Default)]
pub(super) struct Parsed {
    /// Its keys.
    pub(super) table: Table,
    /// The line of each key and section, from 1.
    pub(super) lines: BTreeMap<KeyPath, usize>,
    /// Dates, which no key takes: the merging of layers would make text of them, so they are told here.
    pub(super) problems: Vec<Problem>,
}

/// Reads the file, or says all that keeps it from being read.
pub(super) fn read(path: &Path) -> Result<Parsed, Vec<Problem>> {
    let bytes = std::fs::read(path).map_err(|error| vec![unreadable(path, &error)])?;
    let text = String::from_utf8(bytes).map_err(|error| vec![not_utf8(path, &error)])?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Parsed, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(first_of_each_line(errors.iter().map(|error| not_toml(path, text, error)).collect()));
    }
    let table = text.parse::<Table>().map_err(|error| vec![not_toml(path, text, &error)])?;
    let mut parsed = Parsed { table, ..Parsed::default() };
    note_lines(text, &KeyPath::default(), document.get_ref(), &mut parsed.lines);
    for (key, value) in &parsed.table {
        let key = KeyPath::default().child(key);
        refuse_dates(path, &key, value, &parsed.lines, &mut parsed.problems);
    }
    Ok(parsed)
}

fn refuse_dates(
    path: &Path,
    key: &KeyPath,
    value: &Value,
    lines: &BTreeMap<KeyPath, usize>,
    problems: &mut Vec<Problem>,
) {
    match value {
        Value::Datetime(_) => {
            let place = Place::File { path: path.to_owned(), line: lines.get(key).copied(), column: None };
            problems.push(Problem::at(place, "is a date, which no key takes").key(key).hint("put text in quotes"));
        }
        Value::Array(items) => items.iter().for_each(|item| refuse_dates(path, key, item, lines, problems)),
        Value::Table(table) => {
            table.iter().for_each(|(name, inner)| refuse_dates(path, &key.child(name), inner, lines, problems));
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {}
    }
}

/// One slip confuses the parser for the rest of its line; only the first error there tells something.
fn first_of_each_line(mut problems: Vec<Problem>) -> Vec<Problem> {
    let line = |problem: &Problem| match &problem.place {
        Place::File { line, .. } => *line,
        Place::Variable(_) => None,
    };
    problems.sort_by(|left, right| left.place.cmp(&right.place));
    problems.dedup_by_key(|problem| line(problem));
    problems
}

fn note_lines(text: &str, parent: &KeyPath, table: &DeTable<'_>, lines: &mut BTreeMap<KeyPath, usize>) {
    for (name, value) in table {
        let key = parent.child(name.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            note_lines(text, &key, inner, lines);
        }
        lines.insert(key, position(text, name.span().start).0);
    }
}

/// Line and column of a byte offset, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn not_toml(path: &Path, text: &str, error: &toml::de::Error) -> Problem {
    let at = error.span().map(|span| position(text, span.start));
    let place = Place::File { path: path.to_owned(), line: at.map(|at| at.0), column: at.map(|at| at.1) };
    // Only the message: the error's full text repeats the line, which may hold the secret.
    Problem::at(place, format!("this is not TOML: {}", error.message()))
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Problem {
    let valid = error.utf8_error().valid_up_to();
    let line = error.as_bytes()[..valid].split(|byte| *byte == b'\n').count();
    Problem::at(Place::File { path: path.to_owned(), line: Some(line), column: None }, "the file is not UTF-8 text")
        .accepted("TOML in UTF-8")
        .hint("save the file as UTF-8")
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let place = Place::file(path);
    match error.kind() {
        io::ErrorKind::NotFound => Problem::at(place, "there is no such file")
            .hint("copy config.example.toml to it, or name another with --config FILE or $RETENO_SYNC_CONFIG"),
        io::ErrorKind::PermissionDenied => Problem::at(place, "this user may not read the file")
            .hint("run the command as the service's user, or give that user's group the right to read the file"),
        io::ErrorKind::IsADirectory => {
            Problem::at(place, "this is a directory, not a file").hint("name the file in it with --config FILE")
        }
        _ => Problem::at(place, format!("the file cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_keys() {
        let text = "a = 1\n\n[b]\n# note\nc = \"x\"\n[d.\"e.f\"]\ng = { h = 2 }\n";
        let parsed = parse(Path::new("c.toml"), text).ok().unwrap();
        let found: Vec<(String, usize)> = parsed.lines.iter().map(|(key, line)| (key.to_string(), *line)).collect();
        let expected =
            [("a", 1), ("b", 3), ("b.c", 5), ("d", 6), ("d.\"e.f\"", 6), ("d.\"e.f\".g", 7), ("d.\"e.f\".g.h", 7)];
        assert_eq!(found, expected.map(|(key, line)| (key.to_owned(), line)));
    }

    #[test]
    fn every_syntax_error_is_told_and_none_repeats_the_line() {
        let text = "[reteno]\nclient_secret = hunter2\nx = [1,\nclient_id = \"é\" y\n";
        let problems = parse(Path::new("c.toml"), text).err().unwrap();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[0].starts_with("c.toml:2:17: this is not TOML: "), "{shown:?}");
        assert!(shown[1].starts_with("c.toml:4:1: this is not TOML: "), "{shown:?}");
        assert!(!shown.concat().contains("hunter2"), "{shown:?}");
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("ключ = 1\n é=2", "ключ = 1\n é".len()), (2, 3));
    }
}
