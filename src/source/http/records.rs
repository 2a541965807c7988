//! What a record says beside its fields: that it is deleted, and who was merged into it. Pure.

use serde_json::Value;
use serde_json_path::{JsonPath, ParseError};

use super::description::{Deletes, Description};
use super::walk::Found;
use crate::contact::{Read, Record, Selector};
use crate::source::{Item, Place, SourceError};

/// Where the records of an answer are.
#[derive(Clone, Debug)]
pub struct RecordsPath {
    path: JsonPath,
    /// What holds them, where the path ends with all its items.
    holder: Option<JsonPath>,
}

impl RecordsPath {
    /// Reads a `JSONPath`.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim_end();
        let holder = text.strip_suffix("[*]").or_else(|| before_filter(text));
        let holder = holder.map(JsonPath::parse).transpose()?;
        Ok(Self { path: JsonPath::parse(text)?, holder })
    }

    /// The items of what holds the records, also those that a filter at the path's end leaves out: a page of which few
    /// pass is no short page.
    pub(super) fn count(&self, body: &Value) -> u64 {
        let held = self.holder.as_ref().and_then(|holder| holder.query(body).first());
        let items = held.map(|held| held.as_array().map_or(0, Vec::len));
        items.unwrap_or_else(|| self.path.query(body).all().len()) as u64
    }

    /// The records; `None` where there is not even what would hold them: an error that came with a good status is no
    /// empty list.
    pub(super) fn select<'a>(&self, body: &'a Value) -> Option<Vec<&'a Value>> {
        let Some(holder) = &self.holder else {
            let found = self.path.query(body).all();
            return (!found.is_empty()).then_some(found);
        };
        let holder = holder.query(body).first()?;
        match holder {
            Value::Array(_) => Some(self.path.query(body).all()),
            Value::Null | Value::Bool(false) => Some(Vec::new()),
            Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
        }
    }
}

/// What a path filters at its end: `$.data` of `$.data[?@.type=='person']`.
fn before_filter(text: &str) -> Option<&str> {
    let mut depth = 0_u32;
    for (place, letter) in text.strip_suffix(']').map(|_| text)?.char_indices().rev() {
        match letter {
            ']' => depth += 1,
            '[' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return text[place..].starts_with("[?").then_some(&text[..place]);
        }
    }
    None
}

/// Whether a record says of itself that it is deleted.
pub(super) fn is_deleted(description: &Description, record: &Value) -> bool {
    description.deletes.iter().any(|(_, deletes)| match deletes {
        Deletes::Flag { path, equals, .. } => path.query(record).iter().any(|found| *found == equals),
        Deletes::MergedIds { .. } | Deletes::Stream(_) | Deletes::List { .. } | Deletes::Snapshot { .. } => false,
    })
}

/// The items of a record: itself, whom it was merged into, and those who were merged into it.
pub(super) fn items_of(description: &Description, found: Found, place: Place) -> Vec<Item> {
    let Found { record, id, .. } = found;
    let is_deleted = is_deleted(description, &record);
    let record = Record::Json(record);
    let mut items = Vec::with_capacity(1);
    for (_, deletes) in &description.deletes {
        match deletes {
            Deletes::Flag { merged_into: Some(selector), .. } if is_deleted => {
                let winner = text(selector, &record);
                items.extend(winner.map(|key| Item::Pointed { key, is_deleted: false, place, changed_at: None }));
            }
            Deletes::MergedIds { path, separator } => {
                let merged = text(path, &record).unwrap_or_default();
                let keys = merged.split(separator.as_str()).map(str::trim).filter(|key| !key.is_empty());
                let others = keys.filter(|key| Some(*key) != id.as_deref()).map(str::to_owned);
                // who was merged never comes back: the age of this record is not that of the merge
                items.extend(others.map(|key| Item::Pointed { key, is_deleted: true, place, changed_at: None }));
            }
            Deletes::Flag { .. } | Deletes::Stream(_) | Deletes::List { .. } | Deletes::Snapshot { .. } => {}
        }
    }
    items.push(if is_deleted {
        Item::Deleted { record, place, is_current: true, deleted_at: None }
    } else {
        Item::Record { record, place }
    });
    items
}

/// An answer that has no place for records.
pub(super) fn no_records(what: &str) -> SourceError {
    SourceError::NotUnderstood { what: what.to_owned(), reason: "it holds no list of records".to_owned() }
}

/// The text at a place of a record.
pub(super) fn text(selector: &Selector, record: &Record) -> Option<String> {
    match selector.read(record) {
        Read::Value(text) => Some(text.into_owned()),
        Read::Absent | Read::Empty | Read::NotScalar => None,
    }
}
