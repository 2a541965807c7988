//! What a record says beside its fields: that it is deleted, and who was merged into it. Pure.

use bytes::Bytes;
use serde_json::Value;
use serde_json_path::{JsonPath, ParseError};

use super::description::{Deletes, Description};
use super::link::Answer;
use super::query::Found;
use crate::contact::{Read, Record, Selector};
use crate::json::{self, Broken, RECORD_VALUES_MAX};
use crate::source::{Item, Place, SourceError};

/// Where the records of an answer are.
#[derive(Clone, Debug)]
pub struct RecordsPath {
    path: JsonPath,
    /// What holds them, where the path ends with all its items.
    holder: Option<JsonPath>,
    /// The keys that lead to what holds them, where there are no other steps: then the records are read one by one.
    keys: Option<Vec<String>>,
    /// What the path ends with where that is a filter, as a path of its own, from a list on.
    filter: Option<JsonPath>,
}

impl RecordsPath {
    /// Reads a `JSONPath`.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim_end();
        let all = text.strip_suffix("[*]");
        let holder = all.or_else(|| before_filter(text));
        let keys = holder.and_then(keys_of);
        let filter =
            holder.filter(|_| all.is_none()).map(|before| JsonPath::parse(&format!("${}", &text[before.len()..])));
        let holder = holder.map(JsonPath::parse).transpose()?;
        Ok(Self { path: JsonPath::parse(text)?, holder, keys, filter: filter.transpose()? })
    }

    /// The keys that lead to what holds the records, where they can be read one by one.
    pub(super) fn keys(&self) -> Option<&[String]> {
        self.keys.as_deref()
    }

    /// The items of what holds the records, as they stand in the answer; also those that a filter at the path's end leaves
    /// out: a page of which few pass is no short page. `None` where there is not even what would hold them: an error that
    /// came with a good status is no empty list.
    pub(super) fn items(&self, answer: &mut Answer) -> Option<Vec<Bytes>> {
        if let Some(items) = answer.records.take() {
            return Some(items);
        }
        let written = |values: Vec<&Value>| values.into_iter().map(|value| Bytes::from(value.to_string())).collect();
        let Some(holder) = &self.holder else {
            let found = self.path.query(&answer.body).all();
            return (!found.is_empty()).then(|| written(found));
        };
        match holder.query(&answer.body).first()? {
            Value::Array(items) => Some(written(items.iter().collect())),
            Value::Null | Value::Bool(false) => Some(Vec::new()),
            Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
        }
    }

    /// The record of an item; `None` for one that the filter leaves out.
    pub(super) fn record(&self, item: &[u8]) -> Result<Option<Value>, Broken> {
        let record = json::read(item, RECORD_VALUES_MAX)?;
        let Some(filter) = &self.filter else { return Ok(Some(record)) };
        let mut list = Value::Array(vec![record]);
        let is_kept = !filter.query(&list).is_empty();
        let record = list.as_array_mut().and_then(Vec::pop);
        Ok(record.filter(|_| is_kept))
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

/// The keys of a path that has no other steps: `$`, `$.data.items`, `$['value']`.
fn keys_of(path: &str) -> Option<Vec<String>> {
    let mut rest = path.trim().strip_prefix('$')?;
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (key, after) = if let Some(name) = rest.strip_prefix('.') {
            name.split_at(name.find(['.', '[']).unwrap_or(name.len()))
        } else {
            let quoted = rest.strip_prefix('[')?;
            let quote = quoted.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
            let (key, after) = quoted[1..].split_once(quote)?;
            (key, after.strip_prefix(']')?)
        };
        let is_plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '@' | ' ');
        if key.is_empty() || !key.chars().all(is_plain) {
            return None;
        }
        keys.push(key.to_owned());
        rest = after;
    }
    Some(keys)
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
    let Found { item, id, .. } = found;
    let record = match description.list.records.record(&item) {
        Ok(Some(record)) => record,
        Ok(None) => return Vec::new(),
        Err(broken) => return vec![Item::Malformed { place, reason: broken.to_string() }],
    };
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
        Read::Absent | Read::Empty | Read::NotScalar | Read::Rounded => None,
    }
}
