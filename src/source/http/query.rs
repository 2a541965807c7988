//! What a query is of, and what it gives. Decides nothing.

use bytes::Bytes;

use super::description::{CursorRule, List, Pagination};
use super::time::ChangeTime;
use crate::clock::Timestamp;
use crate::contact::Selector;

/// What a query is of.
pub(super) struct Query<'a> {
    /// For people: `the list`, `deletes.archived`.
    pub(super) what: String,
    pub(super) list: &'a List,
    pub(super) pagination: &'a Pagination,
    pub(super) id: &'a Selector,
    /// The change time of its records, where they have one.
    pub(super) cursor: Option<&'a CursorRule>,
    pub(super) start: Option<ChangeTime>,
    pub(super) end: Option<ChangeTime>,
    /// When the read began, by our clock.
    pub(super) began: Timestamp,
    /// Records of the largest page that the CRM was seen to give; 0 where that is not known.
    pub(super) largest_page: u64,
}

/// A record with what the walk needs of it.
#[derive(Debug)]
pub(super) struct Found {
    /// The record as it stands in the answer: a page is held as its text, and read record by record.
    pub(super) item: Bytes,
    pub(super) id: Option<String>,
    pub(super) time: Option<ChangeTime>,
}

/// One answer.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) asked_at: Timestamp,
    /// Without what an earlier answer of this walk gave.
    pub(super) found: Vec<Found>,
}
