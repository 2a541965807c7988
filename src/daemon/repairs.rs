//! How a record can be read again, and which earlier way of reading should have told what a cycle brings: what it repairs is
//! counted by that.

use std::sync::Arc;

use crate::checkpoint::{CheckpointError, Repairs, Rereading, SourceRow};
use crate::plan::Lane;
use crate::plan::repair::Earlier;
use crate::report;
use crate::source::Source;

use super::cycle::Feed;

/// So many announced records are looked at; with more the counts are a little too high, and there are other worries.
const ANNOUNCED_MAX: usize = 100_000;

impl Feed {
    /// How a record of it can be read again.
    #[must_use]
    pub fn rereading(&self) -> Rereading {
        match &self.source {
            Source::Pushed => Rereading::Never,
            source if source.fetches() => Rereading::ById,
            Source::File(_) | Source::Singer(_) | Source::Http(_) => Rereading::All,
        }
    }
}

/// The earlier way, where a cycle in this lane can repair anything: not a first load, and not one that catches up with a
/// changed mapping or a restored checkpoint.
pub(super) fn earlier_way(feed: &Feed, row: &SourceRow, lane: Lane) -> Option<Earlier> {
    if lane == Lane::FirstLoad || row.is_catching_up || feed.source.full_only() {
        return None;
    }
    let covered_at = row.covered_at.map(|at| at.0);
    if feed.inbox.is_some() {
        return Some(Earlier::Webhook { covered_at });
    }
    (lane == Lane::Reconcile).then_some(Earlier::Polls { covered_at })
}

/// What a page may repair.
pub(super) async fn repairs_of(feed: &Feed, earlier: Option<Earlier>) -> Result<Option<Repairs>, CheckpointError> {
    let Some(earlier) = earlier else { return Ok(None) };
    let announced = match &feed.inbox {
        Some(inbox) => match inbox.announced(&feed.name, ANNOUNCED_MAX).await {
            Ok(announced) => announced,
            Err(error) => {
                // whoever acts on the inbox raises the alert of it; a count is not worth the read
                tracing::warn!(source = feed.name, "what this read repairs is not counted: {}", report::chain(&error));
                return Ok(None);
            }
        },
        None => std::collections::BTreeSet::new(),
    };
    Ok(Some(Repairs { earlier, announced: Arc::new(announced) }))
}
