//! Opt-outs of a read: which can be taken back, which cannot and why, and taking them back.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints, Fingerprint};

use super::consents::RAISE_AGE_MAX_MS;
use super::{Attempt, Checkpoint, CheckpointError};

/// A read that asked for opt-outs.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ConsentCycle {
    /// Its number.
    pub id: i64,
    /// The source's name.
    pub source: String,
    /// When it began.
    pub began: Timestamp,
    /// Opt-outs that were carried out because of it and can be taken back.
    pub opt_outs: u64,
}

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
    /// The record had said no before that read, too.
    pub said_no_before: u64,
    /// It is not known what the record had said before: they may have left by Reteno's own link.
    pub unknown_before: u64,
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
                   WHEN o.said_before = 1 THEN 4 WHEN o.said_before = 0 THEN 5 ELSE 0 END, count(*) FROM opt_out o WHERE o.cycle = ?1 GROUP BY 1",
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
                4 => kept.said_no_before += count,
                5 => kept.unknown_before += count,
                _ => {}
            }
        }
        Ok(Some(kept))
    }

    /// The reads whose opt-outs can be taken back, latest first.
    pub fn load_consent_cycles(&self) -> Result<Vec<ConsentCycle>, CheckpointError> {
        const ACTION: &str = "read opt-outs";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT c.id, s.name, c.began, count(*) FROM opt_out o JOIN cycle c ON c.id = o.cycle \
                 JOIN source s ON s.id = c.source GROUP BY c.id ORDER BY c.id DESC",
            )
            .attempt(ACTION)?;
        let rows = query.query_map([], |row| {
            Ok(ConsentCycle {
                id: row.get(0)?,
                source: row.get(1)?,
                began: Timestamp(row.get(2)?),
                opt_outs: row.get::<_, i64>(3)?.cast_unsigned(),
            })
        });
        rows.and_then(Iterator::collect).attempt(ACTION)
    }

    /// Takes back the opt-outs of one read: those of contacts whose record had said yes before that read, of addresses that
    /// nobody says no of, that no other read has asked to opt out, and that their contact still has. Gives back how many are
    /// raised, and how many are left as they are. One that is not confirmed within an hour can be taken back again.
    pub fn undo_opt_outs(&mut self, cycle: i64, now: Timestamp) -> Result<(u64, u64), CheckpointError> {
        self.undo(cycle, now, "o.said_before = 2")
    }

    /// The same, and also those of whom it is not known what their record had said before. Who had opted out in Reteno by
    /// himself is raised too: this program cannot see it.
    pub fn undo_opt_outs_also_unknown(&mut self, cycle: i64, now: Timestamp) -> Result<(u64, u64), CheckpointError> {
        self.undo(cycle, now, "o.said_before <> 1")
    }

    fn undo(&mut self, cycle: i64, now: Timestamp, which: &str) -> Result<(u64, u64), CheckpointError> {
        const ACTION: &str = "take opt-outs back";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let rows: Vec<(i64, i64, bool)> = transaction
            .prepare_cached(&format!("SELECT contact, address, {which} FROM opt_out o WHERE cycle = ?1"))
            .and_then(|mut query| {
                query.query_map([cycle], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
            })
            .attempt(ACTION)?;
        let mut raised = 0;
        for (contact, address, may_count) in &rows {
            if !may_count || !may_be_undone(&transaction, (*contact, *address), cycle)? {
                continue;
            }
            transaction
                .execute("DELETE FROM told WHERE address = ?1", [address])
                .and_then(|_| {
                    transaction
                        .prepare_cached(
                            "INSERT INTO deed (source, contact, key, kind, cause, address, identity, reteno_id, state, \
                             cycle, expires_at) \
                             SELECT source, id, key, 'resubscribe', 'witnessed', ?2, identity, reteno_id, 'due', ?3, ?4 \
                             FROM contact WHERE id = ?1 AND identity IS NOT NULL \
                             ON CONFLICT (contact, kind, address, segment) DO UPDATE SET expires_at = excluded.expires_at",
                        )?
                        .execute(params![contact, address, cycle, now.0 + RAISE_AGE_MAX_MS])
                })
                .map(|stored| raised += stored as u64)
                .attempt(ACTION)?;
        }
        transaction.commit().attempt(ACTION)?;
        Ok((raised, rows.len() as u64 - raised))
    }
}

/// Nobody else, and no later read, wants no mail to the address, none is about to be told, and the contact still has it.
fn may_be_undone(
    transaction: &Transaction<'_>,
    (contact, address): (i64, i64),
    cycle: i64,
) -> Result<bool, CheckpointError> {
    const ACTION: &str = "look whether an opt-out can be taken back";
    let desired: Option<Vec<u8>> = transaction
        .prepare_cached(
            "SELECT desired FROM contact WHERE id = ?1 \
             AND NOT EXISTS (SELECT 1 FROM consent WHERE address = ?2 AND said = 1) \
             AND NOT EXISTS (SELECT 1 FROM opt_out WHERE address = ?2 AND cycle <> ?3) \
             AND NOT EXISTS (SELECT 1 FROM deed WHERE address = ?2 AND kind = 'unsubscribe')",
        )
        .and_then(|mut query| query.query_row(params![contact, address, cycle], |row| row.get(0)).optional())
        .attempt(ACTION)?;
    let Some(desired) = desired else { return Ok(false) };
    let desired = FieldPrints::decode(&desired).map_err(super::unreadable("list of prints"))?;
    Ok(desired.get(Field::Email) == Some(Fingerprint::from_u64(address.cast_unsigned())))
}
