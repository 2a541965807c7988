//! The `file` source: a CSV table or lines of JSON, read as a stream in constant memory on a thread that may block.
//!
//! Owns what a row is and whether the whole file was seen. Each read is a full snapshot, so a file that changed under
//! the reader, or a row that could not be read, must never pass as one.

mod decode;
mod header;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod utf8;

use std::fs::{self, File, Metadata};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use encoding_rs::Encoding;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::page::{self, Gather};
use super::{Item, Page, Place, ReadEnd, SourceError};
use crate::clock::Clock;
use crate::contact::{Columns, Record};

/// How the file is to be understood.
#[derive(Debug, Clone, Copy)]
pub enum Format {
    /// A table whose first line names the columns; cells may be quoted with `"`, doubled inside.
    Csv {
        /// One ASCII character.
        delimiter: u8,
        /// How its bytes are letters. A byte order mark wins over this, with a warning.
        encoding: &'static Encoding,
    },
    /// One JSON object a line, UTF-8.
    JsonLines,
}

/// A file of records.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    format: Format,
    columns: Columns,
    clock: Clock,
}

impl FileSource {
    /// A source that reads this file anew each time.
    #[must_use]
    pub fn new(path: PathBuf, format: Format, clock: Clock) -> Self {
        Self { path, format, columns: Columns::default(), clock }
    }

    /// The same, which looks for these columns in a table's header.
    #[must_use]
    pub(super) fn expecting(self, columns: Columns) -> Self {
        Self { columns, ..self }
    }

    pub(super) async fn read(
        &self,
        pages: mpsc::Sender<Page>,
        stop: CancellationToken,
    ) -> Result<ReadEnd, SourceError> {
        // A small channel of our own, so that a stop never waits for a full `pages`: dropping it ends the thread.
        let (sender, mut receiver) = mpsc::channel(1);
        let quit = stop.child_token();
        let _quit_when_dropped = quit.clone().drop_guard();
        let scan = Scan { gather: Gather::new(self.clock.now()), sender, quit, end: ReadEnd::default() };
        let (path, format, columns) = (self.path.clone(), self.format, self.columns.clone());
        let worker = tokio::task::spawn_blocking(move || read_file(&path, format, &columns, scan));
        let mut forwarded = Ok(());
        while let Some(page) = receiver.recv().await {
            forwarded = page::send(&pages, page, &stop).await;
            if forwarded.is_err() {
                break;
            }
        }
        drop(receiver);
        let end = worker.await.map_err(|source| SourceError::Worker { path: self.path.clone(), source })?;
        forwarded.and(end)
    }
}

/// What the reading thread gathers and where it goes.
pub(super) struct Scan {
    gather: Gather,
    sender: mpsc::Sender<Page>,
    quit: CancellationToken,
    end: ReadEnd,
}

impl Scan {
    fn record(&mut self, record: Record, line: u64, bytes: usize) -> Result<(), SourceError> {
        self.end.records += 1;
        self.push(Item::Record { record, place: Place::Line(line) }, bytes)
    }

    fn malformed(&mut self, line: u64, reason: String) -> Result<(), SourceError> {
        self.end.malformed += 1;
        let bytes = reason.len();
        self.push(Item::Malformed { place: Place::Line(line), reason }, bytes)
    }

    fn push(&mut self, item: Item, bytes: usize) -> Result<(), SourceError> {
        self.gather.push(item, bytes);
        if self.gather.is_full() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SourceError> {
        if self.quit.is_cancelled() {
            return Err(SourceError::Stopped);
        }
        match self.gather.take() {
            Some(page) => self.sender.blocking_send(page).map_err(|_| SourceError::Stopped),
            None => Ok(()),
        }
    }

    fn warn(&mut self, warning: String) {
        self.end.warnings.push(warning);
    }
}

/// Tells one content of a file from another, as far as the file system can.
#[derive(PartialEq, Eq)]
struct Print {
    device: u64,
    inode: u64,
    length: u64,
    changed_s: i64,
    changed_ns: i64,
}

impl Print {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            changed_s: metadata.mtime(),
            changed_ns: metadata.mtime_nsec(),
        }
    }
}

fn read_file(path: &Path, format: Format, columns: &Columns, mut scan: Scan) -> Result<ReadEnd, SourceError> {
    // Looked at before it is opened: opening a pipe would wait for its writer.
    let named = fs::metadata(path).map_err(|source| unreadable("open", path, source))?;
    if !named.is_file() {
        return Err(SourceError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(|source| unreadable("open", path, source))?;
    let before = file.metadata().map_err(|source| unreadable("open", path, source))?;
    match format {
        Format::Csv { delimiter, encoding } => {
            refuse_utf8(path, &file, encoding)?;
            rows::read_table((path, &file), (delimiter, encoding), columns, &mut scan)?;
        }
        Format::JsonLines => rows::read_json_lines(path, &file, &mut scan)?,
    }
    scan.flush()?;
    let mut end = scan.end;
    let unchanged = is_unchanged(path, &file, &Print::of(&before));
    if !unchanged {
        end.warnings
            .push(format!("{} was changed or replaced while it was read: what it lacks is not gone", path.display()));
    }
    if end.malformed > 0 {
        end.warnings.push(format!(
            "{} has {} malformed rows: any record may be in them, so what it lacks is not gone",
            path.display(),
            end.malformed
        ));
    }
    end.full = unchanged && end.malformed == 0;
    Ok(end)
}

/// A file that is UTF-8 where another encoding is stated is not read: each name in it would be garbled. A byte order mark
/// is heeded by the reader.
fn refuse_utf8(path: &Path, mut file: &File, stated: &'static Encoding) -> Result<(), SourceError> {
    let unreadable = |source| unreadable("read", path, source);
    if stated == encoding_rs::UTF_8 || stated == encoding_rs::UTF_16LE || stated == encoding_rs::UTF_16BE {
        return Ok(());
    }
    let mut mark = [0; 3];
    let has_mark = file.read(&mut mark).map_err(unreadable)? > 1 && Encoding::for_bom(&mark).is_some();
    file.rewind().map_err(unreadable)?;
    let is_utf8 = !has_mark && utf8::is_utf8(file).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    if is_utf8 { Err(SourceError::Encoding { path: path.to_owned(), stated: stated.name() }) } else { Ok(()) }
}

/// Both the file that was read and the file that bears its name now are what they were.
fn is_unchanged(path: &Path, file: &File, before: &Print) -> bool {
    [file.metadata(), fs::metadata(path)].iter().all(|now| now.as_ref().is_ok_and(|now| Print::of(now) == *before))
}

pub(super) fn unreadable(action: &'static str, path: &Path, source: std::io::Error) -> SourceError {
    SourceError::Unreadable { action, path: path.to_owned(), source }
}
