//! Where records come from: a file, or a Singer tap. A source yields pages of records and, where it has one, the cursor
//! that may be committed together with them.
//!
//! Owns reading only: gives no value a meaning, keeps nothing between reads but a tap's working files, and never puts a
//! record's content into an error, a warning or a log line.

mod error;
pub mod file;
pub mod http;
mod lines;
mod page;
pub mod presets;
pub mod singer;
pub mod webhook;

use std::fmt;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use error::SourceError;
pub use file::{FileSource, Format};
pub use http::HttpSource;
pub use page::{PAGE_BYTES_MAX, PAGE_ITEMS_MAX};
pub use singer::{SingerOptions, SingerSource};

use crate::clock::Timestamp;
use crate::contact::{Columns, Record};

/// A run of items in the order of the source, at most [`PAGE_ITEMS_MAX`] of them.
#[derive(Debug)]
pub struct Page {
    /// What was read; may be empty where only the cursor moved.
    pub items: Vec<Item>,
    /// The cursor to commit in one transaction with these items; every earlier page must be committed before. Absent
    /// where the source offered none since the last page.
    pub cursor: Option<Cursor>,
    /// When the read that gave these items was asked for: what they say is true of this moment or a later one.
    pub asked_at: Timestamp,
}

/// One thing that a source said.
#[derive(Debug)]
pub enum Item {
    /// A record as it is now.
    Record {
        /// The record.
        record: Record,
        /// Where it stood.
        place: Place,
    },
    /// The source says that this record is deleted (Singer: `_sdc_deleted_at` is not null).
    Deleted {
        /// What the source still tells of it; its id at least.
        record: Record,
        /// Where it stood.
        place: Place,
        /// The CRM's own record says it, as it is now: no event that something may have followed.
        is_current: bool,
        /// When it was deleted, where the source says that beside the record, milliseconds.
        deleted_at: Option<i64>,
    },
    /// The source says that something happened to a record, and does not give it.
    Pointed {
        /// The record's id, as the mapping would read it.
        key: String,
        /// It is said to be deleted; else it is to be looked at.
        is_deleted: bool,
        /// Where it stood.
        place: Place,
        /// When that was, or which version it speaks of by its change time, where the source says it, milliseconds.
        changed_at: Option<i64>,
    },
    /// A part that could not be read as a record. The rest of the source was read on.
    Malformed {
        /// Where it stood.
        place: Place,
        /// Why, in words without any of its content.
        reason: String,
    },
}

/// Where an item stood in its source, for a person who looks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The line of the file on which the row begins, from 1.
    Line(u64),
    /// The number of the tap's message (its line of stdout), from 1.
    Message(u64),
    /// Of an API: which of the read's answers, and which of its items, both from 1.
    Answer {
        /// The answer.
        answer: u32,
        /// The item.
        item: u32,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Message(number) => write!(f, "message {number}"),
            Self::Answer { answer, item } => write!(f, "item {item} of answer {answer}"),
        }
    }
}

/// An opaque place in a source, kept and given back unchanged. For a tap it is the value of its STATE message, byte for
/// byte as JSON text; it may hold secrets or personal data, so `Debug` shows only its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// A cursor as it was stored.
    #[must_use]
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// The text to store.
    #[must_use]
    pub fn as_text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({} bytes)", self.0.len())
    }
}

/// Where a read begins.
#[derive(Debug, Clone)]
pub enum From {
    /// At the beginning: a first read, or a full one (a tap is run without STATE).
    Beginning,
    /// After this cursor. A source without cursors reads everything.
    Cursor(Cursor),
}

/// What a read that came to its proper end amounts to.
#[derive(Debug, Default)]
pub struct ReadEnd {
    /// Proof that every record of the source was seen: only then may a missing one count as gone. Never true when
    /// anything was malformed, since such a part may be any record.
    pub full: bool,
    /// Sentences for the operator, without personal data.
    pub warnings: Vec<String>,
    /// Records and deletions sent.
    pub records: u64,
    /// Malformed parts sent.
    pub malformed: u64,
    /// The columns that the tap's SCHEMA calls the record's key; empty for a file and for a tap that names none.
    pub key_properties: Vec<String>,
}

/// What reading a system that only pushes comes to.
pub const PUSHED: &str =
    "the system only pushes: there is nothing to read, and what it announced is acted on by the daemon";

/// One configured source.
#[derive(Debug)]
pub enum Source {
    /// A table or lines of JSON in a file.
    File(FileSource),
    /// Any Singer tap.
    Singer(Box<SingerSource>),
    /// A CRM's API.
    Http(HttpSource),
    /// A system that only pushes: there is nothing to read.
    Pushed,
}

/// What came of asking for a record by its id.
#[derive(Debug)]
pub enum Fetched {
    /// The record as it is now.
    Record(Record),
    /// The record says that it is deleted.
    Deleted(Record),
    /// There is none.
    Missing {
        /// The id that was asked for.
        key: String,
    },
}

impl Source {
    /// The same, told which columns are read of it: what it lacks of them is told.
    #[must_use]
    pub fn expecting(self, columns: Columns) -> Self {
        match self {
            Self::File(source) => Self::File(source.expecting(columns)),
            Self::Singer(source) => Self::Singer(Box::new(source.expecting(columns))),
            // what a record may lack is the API's business
            Self::Http(source) => Self::Http(source),
            Self::Pushed => Self::Pushed,
        }
    }

    /// Reads from `from` to the end and sends what it finds, waiting where `pages` is full. After `stop`, or when the
    /// receiver is dropped, nothing more is sent and the error is [`SourceError::Stopped`]. Pages sent before an error
    /// stand, with their cursors.
    pub async fn read(
        &self,
        from: From,
        pages: mpsc::Sender<Page>,
        stop: CancellationToken,
    ) -> Result<ReadEnd, SourceError> {
        match self {
            Self::File(source) => source.read(pages, stop).await,
            Self::Singer(source) => source.read(from, pages, stop).await,
            Self::Http(source) => source.read(from, pages, stop).await,
            Self::Pushed => Ok(ReadEnd { warnings: vec![PUSHED.to_owned()], ..ReadEnd::default() }),
        }
    }

    /// Whether each read should begin at the beginning: a file has no cursor, and a tap that was told to read the full
    /// table proves fullness only when it is not resumed.
    #[must_use]
    pub fn full_only(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Singer(source) => source.full_only(),
            Self::Http(source) => source.full_only(),
            Self::Pushed => false,
        }
    }

    /// So late it may show a change, by its description.
    #[must_use]
    pub fn lag(&self) -> Duration {
        match self {
            Self::File(_) | Self::Singer(_) | Self::Pushed => Duration::ZERO,
            Self::Http(source) => source.lag(),
        }
    }

    /// Whether records can be fetched by their ids.
    #[must_use]
    pub fn fetches(&self) -> bool {
        match self {
            Self::File(_) | Self::Singer(_) | Self::Pushed => false,
            Self::Http(source) => source.fetches(),
        }
    }

    /// The records with these ids, one of each; of a source that does not fetch nothing.
    pub async fn fetch(&self, keys: &[String], stop: &CancellationToken) -> Result<Vec<Fetched>, SourceError> {
        match self {
            Self::File(_) | Self::Singer(_) | Self::Pushed => Ok(Vec::new()),
            Self::Http(source) => source.fetch(keys, stop).await,
        }
    }
}
