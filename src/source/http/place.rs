//! The cursor of an HTTP source: how far its list, its streams of deletions and its lists of deleted ones were read.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::description::CursorRule;
use super::link::Link;
use super::time::ChangeTime;
use crate::clock::Timestamp;
use crate::source::Cursor;

/// Where reading goes on. Microseconds since 1970 by the CRM's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    /// Every record that was changed before is read.
    at: Option<i64>,
    /// The same of each stream of deletions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    streams: BTreeMap<String, i64>,
    /// When each list of deleted ones was read last, milliseconds by our clock.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    lists: BTreeMap<String, i64>,
    /// Records of the largest page that the CRM was seen to give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) page_size: Option<u64>,
}

impl Place {
    /// Reads a cursor; one that is none (another kind of source had it) is the beginning.
    pub(super) fn read(cursor: &Cursor) -> Self {
        serde_json::from_str(cursor.as_text()).unwrap_or_default()
    }

    pub(super) fn to_cursor(&self) -> Cursor {
        Cursor::from_text(serde_json::to_string(self).expect("numbers and texts are always JSON"))
    }

    pub(super) fn at(&self) -> Option<ChangeTime> {
        self.at.map(ChangeTime)
    }

    /// Nothing is read beyond the present: what was noted while a clock was ahead would leave out all until then.
    pub(super) fn hold_before(&mut self, present: ChangeTime) {
        self.at = self.at.map(|at| at.min(present.0));
        for at in self.streams.values_mut() {
            *at = present.0.min(*at);
        }
    }

    /// Moves forward, never back.
    pub(super) fn reach(&mut self, at: ChangeTime) {
        self.at = self.at.max(Some(at.0));
    }

    pub(super) fn stream(&self, name: &str) -> Option<ChangeTime> {
        self.streams.get(name).copied().map(ChangeTime)
    }

    pub(super) fn reach_in_stream(&mut self, name: &str, at: ChangeTime) {
        self.streams.insert(name.to_owned(), at.0);
    }

    pub(super) fn list_read_at(&self, name: &str) -> Option<Timestamp> {
        self.lists.get(name).copied().map(Timestamp)
    }

    pub(super) fn note_list(&mut self, name: &str, now: Timestamp) {
        self.lists.insert(name.to_owned(), now.0);
    }
}

/// The latest moment of which everything is shown, by the CRM's clock, in a read that began then by ours.
pub(super) fn covered_by(link: &Link, began: Timestamp, cursor: Option<&CursorRule>) -> ChangeTime {
    ChangeTime::of(link.by_server(began)).minus(cursor.map_or(Duration::ZERO, |cursor| cursor.lag))
}
