//! What a run of messages amounts to: items, cursors, and whether the whole stream was seen. Pure but for the page that
//! it fills; knows no process.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::catalog::Selection;
use super::message::{self, BATCH_FORM, Message};
use super::{ReplicationMethod, is_known_version};
use crate::clock::Timestamp;
use crate::contact::{Moment, Record};
use crate::json::{self, RECORD_VALUES_MAX};
use crate::source::page::Gather;
use crate::source::{Cursor, Item, Page, Place, ReadEnd, SourceError};

/// By custom of the taps that see deletions: a row is gone when this column is set.
const DELETED_AT: &str = "_sdc_deleted_at";

/// What the caller has to do after a message.
pub(super) enum Taken {
    Nothing,
    /// A STATE came: a good moment to send the page.
    State,
    /// Files of raw records of the stream, to be read before the next message.
    Batch(Vec<PathBuf>),
}

/// The reading of one run.
pub(super) struct Follow {
    selection: Selection,
    /// Where this run began; absent for the beginning.
    begun_at: Option<Cursor>,
    newest: Option<Cursor>,
    gather: Gather,
    /// The columns that the mapping takes the id from; empty where that is not told.
    key: Vec<String>,
    schema_seen: bool,
    /// The operator is told that the tap changed its key.
    is_key_told: bool,
    /// Versions that records of the stream carried.
    versions: BTreeSet<String>,
    unversioned: bool,
    /// The version activated after the last record.
    activated: Option<String>,
    unknown_seen: bool,
    end: ReadEnd,
}

impl Follow {
    pub(super) fn new(selection: Selection, begun_at: Option<Cursor>, asked_at: Timestamp, key: Vec<String>) -> Self {
        let end = ReadEnd { warnings: selection.warnings.clone(), ..ReadEnd::default() };
        Self {
            selection,
            newest: begun_at.clone(),
            begun_at,
            gather: Gather::new(asked_at),
            key,
            schema_seen: false,
            is_key_told: false,
            versions: BTreeSet::new(),
            unversioned: false,
            activated: None,
            unknown_seen: false,
            end,
        }
    }

    /// Takes the `number`th line of the tap.
    pub(super) fn take(&mut self, line: &[u8], number: u64) -> Result<Taken, SourceError> {
        if line.trim_ascii().is_empty() {
            return Ok(Taken::Nothing);
        }
        let message = match message::parse(line) {
            Ok(message) => message,
            Err(reason) => {
                self.malformed(number, reason);
                return Ok(Taken::Nothing);
            }
        };
        match message {
            Message::Schema { stream, key_properties } => self.take_schema(&stream, key_properties),
            Message::Record { stream, record, version } if self.is_ours(&stream) => {
                self.need_schema(number)?;
                self.take_version(version);
                self.record(record, number);
            }
            Message::State(value) => {
                self.take_state(value);
                return Ok(Taken::State);
            }
            Message::ActivateVersion { stream, version } if self.is_ours(&stream) => {
                self.activated = Some(version.to_owned());
            }
            Message::Batch { stream, form, manifest } if self.is_ours(&stream) => {
                self.need_schema(number)?;
                self.take_version(None);
                return batch_files(&form, &manifest, number).map(Taken::Batch);
            }
            // Of other streams.
            Message::Record { .. } | Message::ActivateVersion { .. } | Message::Batch { .. } => {}
            Message::Unknown(kind) => self.note_unknown(&kind),
        }
        Ok(Taken::Nothing)
    }

    /// A record that stands by itself on a line of a batch file; `number` is the BATCH message's.
    pub(super) fn raw_record(&mut self, line: &[u8], number: u64) {
        if !line.trim_ascii().is_empty() {
            self.record(line, number);
        }
    }

    pub(super) fn too_long(&mut self, number: u64, bytes_max: usize) {
        self.malformed(number, format!("a line of more than {bytes_max} bytes"));
    }

    /// Items in the page that is being filled.
    pub(super) fn waiting(&self) -> usize {
        self.gather.len()
    }

    /// Whether there is anything to send.
    pub(super) fn is_waiting(&self) -> bool {
        !self.gather.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.gather.is_full()
    }

    pub(super) fn take_page(&mut self) -> Option<Page> {
        self.gather.take()
    }

    /// What the run amounts to, after exit code 0.
    pub(super) fn end(mut self) -> ReadEnd {
        self.end.full = self.is_full_read();
        if self.begun_at.is_none() && self.end.records == 0 && self.end.malformed == 0 {
            let what = if self.schema_seen { "no record" } else { "neither SCHEMA nor record" };
            self.end.warnings.push(format!(
                "the tap ended well with {what} of stream {:?} at a read from the beginning: is the stream selected in the \
                 catalog, and is catalog_argument (--catalog or --properties) what this tap knows?",
                self.selection.stream
            ));
        }
        if self.end.malformed > 0 {
            self.end.warnings.push(format!(
                "{} lines of the tap were no messages: any record may be in them, so what is lacking is not gone",
                self.end.malformed
            ));
        }
        self.end
    }

    /// Every record of the stream was in this run: from a tap that reads full tables, or by the tap's own word that
    /// rows of other versions may be dropped. A run that resumes an interrupted one gives only the rest; it is known
    /// by its version, which the state passed in already names.
    fn is_full_read(&self) -> bool {
        if !self.schema_seen || self.end.malformed > 0 {
            return false;
        }
        if self.versions.is_empty() {
            return self.begun_at.is_none() && self.selection.method == Some(ReplicationMethod::FullTable);
        }
        let activated = self.activated.as_ref().filter(|version| self.versions.contains(*version));
        !self.unversioned
            && self.versions.len() == 1
            && activated.is_some_and(|version| !is_known_version(self.begun_at.as_ref(), version))
    }

    fn is_ours(&self, stream: &str) -> bool {
        stream == self.selection.stream || stream == self.selection.tap_stream_id
    }

    fn take_schema(&mut self, stream: &str, key_properties: Vec<String>) {
        if !self.is_ours(stream) {
            return;
        }
        let warning = if !self.schema_seen {
            self.key_warning(&key_properties)
        } else if key_properties == self.end.key_properties {
            None
        } else if std::mem::replace(&mut self.is_key_told, true) {
            // a tap may do so at each record
            None
        } else {
            let (before, now) = (listed(&self.end.key_properties), listed(&key_properties));
            Some(format!("the tap changed the key of its records within a run, from {before} to {now}"))
        };
        self.end.warnings.extend(warning);
        self.schema_seen = true;
        self.end.key_properties = key_properties;
    }

    /// Records that the tap tells apart by more than the mapping does overwrite each other.
    fn key_warning(&self, key_properties: &[String]) -> Option<String> {
        let is_covered = key_properties.iter().all(|property| self.key.contains(property));
        // Of several columns of the mapping one counts, so a key of two is never covered.
        if self.key.is_empty() || key_properties.is_empty() || (is_covered && key_properties.len() == 1) {
            return None;
        }
        let (theirs, ours) = (listed(key_properties), listed(&self.key));
        Some(format!(
            "the tap tells its records apart by {theirs}, the mapping by {ours}: if that is not unique, records \
             overwrite each other"
        ))
    }

    fn need_schema(&self, message: u64) -> Result<(), SourceError> {
        if self.schema_seen {
            return Ok(());
        }
        Err(SourceError::Protocol { message, reason: "it has records of the stream before its SCHEMA".to_owned() })
    }

    /// A record after an `ACTIVATE_VERSION` makes that one an early one, which vouches for nothing.
    fn take_version(&mut self, version: Option<&str>) {
        self.activated = None;
        match version {
            Some(version) if self.versions.contains(version) => {}
            Some(version) => {
                self.versions.insert(version.to_owned());
            }
            None => self.unversioned = true,
        }
    }

    fn take_state(&mut self, value: Option<&str>) {
        let Some(value) = value else { return };
        if self.newest.as_ref().is_some_and(|newest| newest.as_text() == value) {
            return;
        }
        let cursor = Cursor::from_text(value.to_owned());
        self.newest = Some(cursor.clone());
        self.gather.mark(cursor);
    }

    fn record(&mut self, text: &[u8], number: u64) {
        let record = match json::read(text, RECORD_VALUES_MAX) {
            Ok(Value::Object(record)) => record,
            Ok(_) => return self.malformed(number, "a record that is not an object".to_owned()),
            Err(error) => return self.malformed(number, format!("a record with {error}")),
        };
        let deleted = record.get(DELETED_AT).filter(|at| !at.is_null());
        let deleted_at = deleted.and_then(Value::as_str).and_then(Moment::parse).map(Moment::unix_millis);
        let is_deleted = deleted.is_some();
        let (record, place) = (Record::Json(Value::Object(record)), Place::Message(number));
        self.end.records += 1;
        self.gather.push(
            if is_deleted {
                Item::Deleted { record, place, is_current: false, deleted_at }
            } else {
                Item::Record { record, place }
            },
            text.len(),
        );
    }

    fn malformed(&mut self, number: u64, reason: String) {
        self.end.malformed += 1;
        self.gather.push(Item::Malformed { place: Place::Message(number), reason }, 0);
    }

    fn note_unknown(&mut self, kind: &str) {
        if !self.unknown_seen {
            let kind: String = kind.chars().take(40).collect();
            self.end
                .warnings
                .push(format!("the tap sends messages of a type that is not known here, such as {kind:?}"));
        }
        self.unknown_seen = true;
    }
}

fn batch_files(form: &str, manifest: &[String], message: u64) -> Result<Vec<PathBuf>, SourceError> {
    if form != BATCH_FORM {
        return Err(SourceError::BatchForm { message, form: form.to_owned() });
    }
    let to_path = |url: &String| url::Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
    let paths: Option<Vec<PathBuf>> = manifest.iter().map(to_path).collect();
    let reason = "its manifest is not a list of file:// URLs".to_owned();
    paths.filter(|paths| !paths.is_empty()).ok_or(SourceError::Protocol { message, reason })
}

/// A tap may name anything, and as many of it as it likes.
fn listed(names: &[String]) -> String {
    const NAMES_MAX: usize = 5;
    const CHARS_MAX: usize = 60;
    if names.is_empty() {
        return "none".to_owned();
    }
    let short = names.iter().take(NAMES_MAX).map(|name| name.chars().take(CHARS_MAX).collect::<String>());
    let more = names.len().saturating_sub(NAMES_MAX);
    let more = (more > 0).then(|| format!("{more} more"));
    short.chain(more).collect::<Vec<_>>().join(", ")
}
