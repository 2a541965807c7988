//! Which rows a page holds: filtered, ordered and cut anew at each request, so that rows move between pages while
//! people are edited, as they do in the real ones.

use crate::random::Random;
use crate::sandbox::draw;

use super::options::Ties;

/// One row's place: what it is sorted by, then what decides among equals, then its id.
pub(super) type Place = (i64, u64, u64);

/// Ids of the rows `from..from + count` in ascending or descending order of `keyed` (key, id).
pub(super) fn cut(keyed: Vec<(i64, u64)>, from: usize, count: usize, order: &Order<'_>) -> Vec<u64> {
    let mut rows: Vec<Place> = keyed.into_iter().map(|(key, id)| (key, order.tie(id), id)).collect();
    if order.descending {
        for row in &mut rows {
            row.0 = -row.0;
        }
    }
    let end = from.saturating_add(count).min(rows.len());
    if from >= end {
        return Vec::new();
    }
    if end < rows.len() {
        // Only the head needs an order.
        rows.select_nth_unstable(end);
        rows.truncate(end);
    }
    rows.sort_unstable();
    rows.drain(..from);
    rows.into_iter().map(|(_, _, id)| id).collect()
}

/// How rows are ordered for one request.
pub(super) struct Order<'a> {
    pub(super) descending: bool,
    pub(super) ties: Ties,
    pub(super) random: &'a Random,
}

impl Order<'_> {
    fn tie(&self, id: u64) -> u64 {
        match self.ties {
            Ties::ById => id,
            Ties::Drawn => draw::below(self.random, u64::MAX),
        }
    }
}
