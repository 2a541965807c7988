//! From a table's rows and a file's lines to records. Decides what is malformed; a reason never quotes the content.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use csv::StringRecord;
use encoding_rs::{Encoding, UTF_8};
use serde_json::Value;

use super::decode::Decoded;
use super::header::{self, header_error};
use super::table::{Next, ROW_BYTES_MAX, Table};
use super::{Scan, unreadable};
use crate::contact::{Columns, Record, Row};
use crate::json::{self, RECORD_VALUES_MAX};
use crate::source::SourceError;
use crate::source::lines::{Fed, Lines};

/// About what a row costs beside its text: three allocations and a pointer to each cell's end.
const ROW_BYTES: usize = 120;

const MISQUOTED: &str = "text stands behind a closing quote: a stray quote may have joined several rows into this one";

pub(super) fn read_table(
    (path, file): (&Path, impl Read),
    (delimiter, stated): (u8, &'static Encoding),
    columns: &Columns,
    scan: &mut Scan,
) -> Result<(), SourceError> {
    if !delimiter.is_ascii() || matches!(delimiter, b'"' | b'\r' | b'\n' | 0) {
        return Err(SourceError::Delimiter { delimiter });
    }
    let text = Decoded::open(file, stated).map_err(|source| unreadable("read", path, source))?;
    let encoding = text.encoding();
    if encoding != stated {
        scan.warn(format!(
            "{} begins with the byte order mark of {}, so it is read as that and not as {}",
            path.display(),
            encoding.name(),
            stated.name()
        ));
    }
    let mut table = Table::new(text, delimiter, ROW_BYTES_MAX);
    let quit = scan.quit.clone();
    let go_on = || !quit.is_cancelled();
    let mut next = || table_row(&mut table, path, &go_on);
    let mut first = next()?;
    if let (Next::Row, _, Some(cells)) = &first
        && header::is_delimiter_line(path, cells, delimiter)?
    {
        first = next()?;
    }
    let header = match first {
        (Next::End, _, _) => return Err(SourceError::Empty { path: path.to_owned() }),
        (Next::Row, _, cells) => header::read_header(path, cells, columns, scan)?,
        (Next::TooLong | Next::Unclosed, _, _) => return Err(header_error(path, "it has no end")),
        (Next::Misquoted, _, _) => return Err(header_error(path, MISQUOTED)),
    };
    header::check_columns(path, &header, columns, scan)?;
    let header = Arc::new(header);
    let mut undecoded = 0_u64;
    loop {
        let (next, line, cells) = next()?;
        let reason = match (next, cells) {
            (Next::End, _) => break,
            (Next::Row, Some(cells)) if cells.len() == header.names().len() => {
                let bytes = cells.as_slice().len() + 8 * cells.len() + ROW_BYTES;
                scan.record(Record::Row(Row { header: Arc::clone(&header), cells }), line, bytes)?;
                continue;
            }
            (Next::Row, Some(cells)) => {
                format!("{} cells under a header of {}", cells.len(), header.names().len())
            }
            (Next::Row, None) => {
                undecoded += 1;
                format!("bytes that are not valid {}", encoding.name())
            }
            (Next::TooLong, _) => format!("a row of more than {ROW_BYTES_MAX} bytes (an unclosed quote?)"),
            (Next::Unclosed, _) => {
                "a quote is opened and never closed: the rest of the file is lost in this row".to_owned()
            }
            (Next::Misquoted, _) => MISQUOTED.to_owned(),
        };
        scan.malformed(line, reason)?;
    }
    warn_of_encoding(path, (undecoded, encoding), scan);
    // A stop ends the table early; it must not pass as its end.
    if scan.quit.is_cancelled() { Err(SourceError::Stopped) } else { Ok(()) }
}

fn warn_of_encoding(path: &Path, (rows, encoding): (u64, &'static Encoding), scan: &mut Scan) {
    if rows > 0 {
        scan.warn(format!(
            "{} has {rows} rows with bytes that are not valid {}: set encoding of this source to what the file is written in, \
             such as \"windows-1251\"",
            path.display(),
            encoding.name()
        ));
    }
}

type Found = (Next, u64, Option<StringRecord>);

fn table_row<R: Read>(table: &mut Table<R>, path: &Path, go_on: &dyn Fn() -> bool) -> Result<Found, SourceError> {
    let next = table.advance(go_on).map_err(|source| unreadable("read", path, source))?;
    let cells = if next == Next::Row { to_cells(table.cells()) } else { None };
    Ok((next, table.row_line(), cells))
}

/// The cells as text; nothing where a cell is not valid UTF-8.
fn to_cells((bytes, ends): (&[u8], &[usize])) -> Option<StringRecord> {
    let text = str::from_utf8(bytes).ok()?;
    let mut cells = StringRecord::with_capacity(bytes.len(), ends.len());
    let mut start = 0;
    for end in ends {
        // Halves of a character in two cells make a whole in `text`; `get` refuses such a border.
        cells.push_field(text.get(start..*end)?);
        start = *end;
    }
    Some(cells)
}

pub(super) fn read_json_lines(path: &Path, file: impl Read, scan: &mut Scan) -> Result<(), SourceError> {
    let mut text = Decoded::open(file, UTF_8).map_err(|source| unreadable("read", path, source))?;
    let mut lines = Lines::new(ROW_BYTES_MAX);
    let mut any = false;
    loop {
        if scan.quit.is_cancelled() {
            return Err(SourceError::Stopped);
        }
        let chunk = text.fill().map_err(|source| unreadable("read", path, source))?;
        let ended = chunk.is_empty();
        let (taken, fed) = if ended { (0, lines.end()) } else { lines.feed(chunk) };
        text.consume(taken);
        any |= fed == Fed::TooLong || fed == Fed::Line && !lines.line().trim_ascii().is_empty();
        match fed {
            Fed::More => {}
            Fed::TooLong => scan.malformed(lines.number(), format!("a line of more than {ROW_BYTES_MAX} bytes"))?,
            Fed::Line => take_json(lines.line(), lines.number(), scan)?,
        }
        if ended {
            // Lines of JSON have no header that could vouch for a table of nobody, so nothing is never a full read.
            return if any { Ok(()) } else { Err(SourceError::Empty { path: path.to_owned() }) };
        }
    }
}

fn take_json(line: &[u8], number: u64, scan: &mut Scan) -> Result<(), SourceError> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    match json::read(line, RECORD_VALUES_MAX) {
        Ok(record @ Value::Object(_)) => scan.record(Record::Json(record), number, line.len() + ROW_BYTES),
        Ok(_) => scan.malformed(number, "JSON, but not an object".to_owned()),
        Err(error) => scan.malformed(number, format!("{error} of the line")),
    }
}
