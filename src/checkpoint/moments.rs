//! A clock that was set back: what is to be at a later time moves with it, so that nothing waits longer than was meant.

use std::time::Duration;

use rusqlite::params;

use crate::clock::Timestamp;

use super::{Attempt, Checkpoint, CheckpointError};

/// The last moment that is known to have been.
const CLOCK: &str = "clock";
/// A clock that goes back by less is only corrected: waits of minutes are not worth the work.
const BACK_MIN: Duration = Duration::from_mins(2);

impl Checkpoint {
    /// Notes the present moment. Where it lies before the last one that is known, here (`last`) or from an earlier
    /// process, all stored times that are still to come are moved back by as much. Costs one small write, and a walk
    /// over all contacts where the clock was set back.
    pub fn heed_clock(&mut self, now: Timestamp, last: Option<Timestamp>) -> Result<(), CheckpointError> {
        let last = self.load_setting(CLOCK)?.map(Timestamp).max(last);
        if let Some(last) = last.filter(|last| last.since(now) >= BACK_MIN) {
            tracing::warn!("the clock was set back from {last} to {now}: what waits is moved with it");
            self.move_back(last.since(now), now)?;
        }
        self.store_setting(CLOCK, now.0)
    }

    fn move_back(&mut self, by: Duration, now: Timestamp) -> Result<(), CheckpointError> {
        const ACTION: &str = "move what waits with the clock";
        let by = now.plus(by).0 - now.0;
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let moved = |table: &str, columns: &[&str], which: &str| {
            let sets: Vec<String> =
                columns.iter().map(|name| format!("{name} = iif({name} > ?1, {name} - ?2, {name})")).collect();
            transaction
                .execute(&format!("UPDATE {table} SET {} WHERE {which}", sets.join(", ")), params![now.0, by])
                .attempt(ACTION)
        };
        let times = ["created_at", "posted_at", "repeat_at", "check_at", "missing_since", "ghost_until", "link_until"];
        moved("import", &times, "TRUE")?;
        moved("deed", &["not_before", "expires_at"], "TRUE")?;
        moved("contact", &["not_before"], "not_before > ?1 AND id IN (SELECT contact FROM waiting)")?;
        moved("contact", &["doubt_until"], "doubt_until > ?1")?;
        // which read began before which: without them a later one would not count, or an earlier one would
        moved("source", &["full_began_at", "covered_at"], "TRUE")?;
        moved("contact", &["older_read"], "older_read > ?1")?;
        transaction.commit().attempt(ACTION)
    }
}
