//! The first line of a table: what its columns are called, and whether it is a header at all. Shows no cell that may be
//! somebody's.

use std::collections::BTreeMap;
use std::path::Path;

use csv::StringRecord;

use super::Scan;
use crate::contact::Columns;
use crate::contact::record::Header;
use crate::source::SourceError;
use crate::source::error::similar;

/// Below this likeness (of Jaro and Winkler) a name is no misspelling of another.
const LIKENESS_MIN: f64 = 0.8;

/// Whether the line is `sep=;`, which exports carry so that a spreadsheet opens them: no row of the table.
pub(super) fn is_delimiter_line(path: &Path, cells: &StringRecord, delimiter: u8) -> Result<bool, SourceError> {
    let Some(first) = cells.get(0).filter(|first| first.get(..4).is_some_and(|sep| sep.eq_ignore_ascii_case("sep=")))
    else {
        return Ok(false);
    };
    let is_same = match (&first[4..], cells.len()) {
        // the delimiter itself ended the cell
        ("", 2) => cells.get(1) == Some(""),
        (said, 1) => said.as_bytes() == [delimiter],
        (_, _) => return Ok(false),
    };
    if is_same { Ok(true) } else { Err(header_error(path, "it begins with sep=, which names another delimiter")) }
}

/// The columns that the line names.
pub(super) fn read_header(
    path: &Path,
    cells: Option<StringRecord>,
    columns: &Columns,
    scan: &mut Scan,
) -> Result<Header, SourceError> {
    let cells = cells.ok_or_else(|| header_error(path, "it is not valid in the stated encoding"))?;
    // Without a header the first person's data would become column names, and be printed as such.
    if cells.iter().any(|cell| cell.contains('@')) {
        return Err(header_error(path, "it holds an e-mail address, so it looks like a record"));
    }
    if cells.iter().all(|cell| cell.trim().is_empty()) {
        return Err(header_error(path, "it names no column"));
    }
    if cells.len() == 1 && cells.iter().any(|cell| cell.contains([',', ';', '\t', '|'])) {
        return Err(header_error(path, "the delimiter does not occur in it, but another one does"));
    }
    // A blank around a name is seen by nobody and would hide the column.
    let names: Vec<String> = cells.iter().map(|cell| cell.trim().to_owned()).collect();
    check_doubles(path, &names, columns, scan)?;
    Ok(Header::new(names))
}

/// Of two columns with one name nobody can say which is meant: where the mapping reads it, an empty one would wipe what
/// Reteno holds.
fn check_doubles(path: &Path, names: &[String], columns: &Columns, scan: &mut Scan) -> Result<(), SourceError> {
    let mut seen = BTreeMap::new();
    for (name, place) in names.iter().map(String::as_str).zip(1..) {
        if name.is_empty() {
            scan.warn(format!("column {place} of {} has no name", path.display()));
            continue;
        }
        let first: usize = *seen.entry(name).or_insert(place);
        if first == place {
            continue;
        }
        let is_read =
            columns.key.iter().any(|column| column == name) || columns.mapped.iter().any(|(_, column)| column == name);
        if is_read {
            let reason = format!("columns {first} and {place} have one name, and the mapping reads it");
            return Err(header_error(path, &reason));
        }
        scan.warn(format!("columns {first} and {place} of {} have one name, which nothing reads", path.display()));
    }
    Ok(())
}

/// Without the column of the id nobody can be told from another; without another one its fields are never sent.
pub(super) fn check_columns(
    path: &Path,
    header: &Header,
    columns: &Columns,
    scan: &mut Scan,
) -> Result<(), SourceError> {
    let lacks = |column: &str| header.place(column).is_none();
    if let Some(column) = columns.key.first().filter(|_| columns.key.iter().all(|column| lacks(column))) {
        let (column, nearest) = (column.clone(), nearest(header, column, columns));
        return Err(SourceError::NoKeyColumn { path: path.to_owned(), column, nearest });
    }
    for (field, column) in columns.mapped.iter().filter(|(_, column)| lacks(column)) {
        let hint = similar(nearest(header, column, columns).as_ref());
        scan.warn(format!("{} has no column {column:?}, which is mapped to {field}{hint}", path.display()));
    }
    Ok(())
}

/// A name that is similar. A line that holds none of the names that are looked for may be the first person of a table
/// without a header: of it only what differs in case and signs is shown, since it tells nothing.
fn nearest(header: &Header, column: &str, columns: &Columns) -> Option<String> {
    let wanted = column.to_lowercase();
    let likeness = |name: &String| strsim::jaro_winkler(&name.to_lowercase(), &wanted);
    let nearest = header.names().iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    let looked_for = columns.key.iter().chain(columns.mapped.iter().map(|(_, column)| column));
    let is_header = looked_for.into_iter().any(|column| header.place(column).is_some());
    let is_shown = letters(nearest) == letters(column) || is_header && likeness(nearest) >= LIKENESS_MIN;
    is_shown.then(|| nearest.clone())
}

fn letters(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

pub(super) fn header_error(path: &Path, reason: &str) -> SourceError {
    SourceError::Header { path: path.to_owned(), reason: reason.to_owned() }
}
