//! Ghosts: copies of calls that nobody watches any more and that Reteno may still apply.

use std::collections::BTreeMap;

use rusqlite::{Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints};
use crate::plan::ImportId;
use crate::plan::change::doubtful_fields;
use crate::plan::lock::{Lock, decode_locks};

use super::due::WAIT_MAX;
use super::renewal::{forget_told, renew_opt_outs};
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// What other copies that nobody watches may still write.
pub(super) struct Ghosts(BTreeMap<Lock, Vec<(FieldPrints, Timestamp)>>);

impl Checkpoint {
    /// Forgets the ghosts whose time is over, once no call that went out in their time is unfinished.
    pub fn forget_ghosts(&mut self, now: Timestamp) -> Result<(), CheckpointError> {
        const ACTION: &str = "forget ghosts";
        // one that lies further ahead than any wait was noted before the clock was set back
        let over: Vec<i64> = self
            .connection
            .prepare_cached(
                "SELECT id FROM import WHERE state = 'ghost' AND (ghost_until > ?2 OR ghost_until <= ?1 AND ghost_until <= \
                 (SELECT coalesce(min(posted_at), ?1) FROM import WHERE state <> 'ghost'))",
            )
            .and_then(|mut query| {
                query.query_map([now.0, now.plus(WAIT_MAX).0], |row| row.get(0)).and_then(Iterator::collect)
            })
            .attempt(ACTION)?;
        if over.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction().attempt(ACTION)?;
        for id in over {
            renew_opt_outs(&transaction, ImportId(id))?;
            transaction
                .execute("DELETE FROM alert WHERE name = 'import-' || ?1", [id])
                .and_then(|_| transaction.execute("DELETE FROM member WHERE import = ?1", [id]))
                .and_then(|_| transaction.execute("DELETE FROM import WHERE id = ?1", [id]))
                .attempt(ACTION)?;
        }
        forget_told(&transaction).attempt(ACTION)?;
        transaction.commit().attempt(ACTION)
    }
}

impl Ghosts {
    /// Those that may have landed after `since`, or may still.
    pub(super) fn load(
        transaction: &Transaction<'_>,
        besides: ImportId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Self, CheckpointError> {
        let mut query = transaction
            .prepare_cached(
                "SELECT m.locks, m.carried, i.ghost_until FROM import i JOIN member m ON m.import = i.id \
                 WHERE i.ghost_until > ?2 AND i.ghost_until <= ?3 AND i.id <> ?1",
            )
            .attempt("read ghosts")?;
        let mut rows = query.query(params![besides.0, since.0, now.plus(WAIT_MAX).0]).attempt("read ghosts")?;
        let mut ghosts: BTreeMap<Lock, Vec<_>> = BTreeMap::new();
        while let Some(row) = rows.next().attempt("read ghosts")? {
            let locks: Vec<u8> = row.get(0).attempt("read a ghost")?;
            let carried: Vec<u8> = row.get(1).attempt("read a ghost")?;
            let carried = FieldPrints::decode(&carried).map_err(unreadable("list of prints"))?;
            let until = Timestamp(row.get(2).attempt("read a ghost")?);
            for lock in decode_locks(&locks) {
                ghosts.entry(lock).or_default().push((carried.clone(), until));
            }
        }
        Ok(Self(ghosts))
    }

    /// The fields on which some ghost would put another value, and when the last such ghost's time is over.
    pub(super) fn over(&self, locks: &[Lock], wanted: &FieldPrints) -> (Vec<Field>, Option<Timestamp>) {
        let mut fields = Vec::new();
        let mut until = None;
        for (carried, ghost_until) in locks.iter().filter_map(|lock| self.0.get(lock)).flatten() {
            let doubtful = doubtful_fields(wanted, carried);
            if !doubtful.is_empty() {
                until = until.max(Some(*ghost_until));
                fields.extend(doubtful);
            }
        }
        (fields, until)
    }
}
