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
