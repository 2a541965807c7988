//! Opt-outs of a read that cannot be taken back, and why. Reads only.

use rusqlite::OptionalExtension;

use super::{Attempt, Checkpoint, CheckpointError};

/// How many opt-outs of a read stand, and how many of them stay whatever is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct KeptOptOuts {
    /// All that stand.
    pub all: u64,
    /// A record says no of the address now: of this contact, or of another one with it.
    pub says_no: u64,
    /// The address was opted out by another read, too.
    pub other_read: u64,
    /// An opt-out of the address is still to be carried out.
    pub not_sent: u64,
}

impl Checkpoint {
    /// What stands of a read's opt-outs; `None` where the read is not known.
    pub fn load_kept_opt_outs(&self, cycle: i64) -> Result<Option<KeptOptOuts>, CheckpointError> {
        const ACTION: &str = "read opt-outs";
        let is_known: Option<()> = self
            .connection
            .query_row("SELECT 1 FROM cycle WHERE id = ?1", [cycle], |_| Ok(()))
            .optional()
            .attempt(ACTION)?;
        if is_known.is_none() {
            return Ok(None);
        }
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT CASE WHEN EXISTS (SELECT 1 FROM consent s WHERE s.address = o.address AND s.said = 1) THEN 1 \
                   WHEN EXISTS (SELECT 1 FROM opt_out p WHERE p.address = o.address AND p.cycle <> o.cycle) THEN 2 \
                   WHEN EXISTS (SELECT 1 FROM deed d WHERE d.address = o.address AND d.kind = 'unsubscribe') THEN 3 \
                   ELSE 0 END, count(*) FROM opt_out o WHERE o.cycle = ?1 GROUP BY 1",
            )
            .attempt(ACTION)?;
        let counts: Vec<(i64, i64)> = query
            .query_map([cycle], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .attempt(ACTION)?;
        let mut kept = KeptOptOuts::default();
        for (why, count) in counts {
            let count = count.cast_unsigned();
            kept.all += count;
            match why {
                1 => kept.says_no += count,
                2 => kept.other_read += count,
                3 => kept.not_sent += count,
                _ => {}
            }
        }
        Ok(Some(kept))
    }
}
