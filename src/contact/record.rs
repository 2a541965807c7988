//! A record as the CRM gave it, before any of it has a meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The column names of a table and where each stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    names: Vec<String>,
    index: BTreeMap<String, usize>,
}

impl Header {
    /// Column names in their order; of two equal names the first is found.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        let mut index = BTreeMap::new();
        for (place, name) in names.iter().enumerate() {
            index.entry(name.clone()).or_insert(place);
        }
        Self { names, index }
    }

    /// The column names in order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The place of a column.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }
}

/// How much of what the CRM has a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it: a key that is absent is an empty one.
    Whole,
    /// Perhaps only what has changed, as some webhooks push it.
    Partial,
}

/// The key of the object that stands for a value which cannot be read.
const UNREADABLE: &str = "\u{0}unreadable";

/// Why a value cannot be kept whose key stands twice in an object: nobody can say which of the two is meant.
pub const KEY_TWICE: &str = "its key stands twice with different values";

/// Stands in a record for a value that cannot be kept, and says why. It is read as no scalar, so that it costs its field
/// and wipes nothing.
#[must_use]
pub fn unreadable_value(why: &str) -> serde_json::Value {
    serde_json::Value::Object(std::iter::once((UNREADABLE.to_owned(), why.into())).collect())
}

/// Whether a value stands for one that cannot be read.
#[must_use]
pub fn is_unreadable(value: &serde_json::Value) -> bool {
    value.get(UNREADABLE).is_some()
}

/// Whether it is such a value, or holds one.
pub(super) fn holds_unreadable(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(items) => items.iter().any(holds_unreadable),
        Value::Object(entries) => is_unreadable(value) || entries.values().any(holds_unreadable),
    }
}

/// Whether one of the keys of a record stands twice.
pub(super) fn has_key_twice(record: &serde_json::Value) -> bool {
    let mut values = record.as_object().into_iter().flat_map(serde_json::Map::values);
    values.any(|value| value.get(UNREADABLE).is_some_and(|why| why == KEY_TWICE))
}

/// One row of a table: cells under a shared header.
#[derive(Clone)]
pub struct Row {
    /// The table's header.
    pub header: Arc<Header>,
    /// The cells, as many as the header has names.
    pub cells: csv::StringRecord,
}

/// The columns that a mapping reads, as far as its text tells, for a source that knows which ones it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Those of the CRM's id, of which the first with a value counts; empty where one of them is not told.
    pub key: Vec<String>,
    /// What is mapped, and the column that it is read from.
    pub mapped: Vec<(String, String)>,
}

/// A CRM's record. `Debug` shows its shape only.
#[derive(Clone)]
pub enum Record {
    /// A JSON object.
    Json(serde_json::Value),
    /// A row of a table (every value is text; an empty cell is an empty value).
    Row(Row),
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(_) => f.write_str("Record::Json(****)"),
            Self::Row(row) => write!(f, "Record::Row({} cells)", row.cells.len()),
        }
    }
}
