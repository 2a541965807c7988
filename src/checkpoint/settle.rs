//! The end of an import: every member in one transaction.

use std::time::Duration;

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints};
use crate::plan::change::Sides;
use crate::plan::lock::{Lock, decode_locks};
use crate::plan::outcome::MemberOutcome;
use crate::plan::{ContactId, ImportId, Lane, SourceId};

use super::doubtful::Starts;
use super::duplicates::Duplicates;
use super::exports::forget_upload;
use super::ghosts::{Doubt, Ghosts};
use super::rejections::{RejectionKind, record_rejection};
use super::renewal::{forget_told, renew_opt_outs};
use super::wanted::drop_rereadable;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// What becomes of the members whose outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownFate {
    /// Due at once, with whatever else has the same mask.
    Release,
    /// Due after a while; counts as an attempt.
    Later(Duration),
    /// Due as two parts of a halved batch.
    Split {
        /// Number of the first half.
        first: i64,
        /// Number of the rest.
        second: i64,
    },
    /// Rejected with this reason.
    Reject(String),
}

/// How an import ended.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// One entry a member.
    pub members: Vec<(ContactId, MemberOutcome)>,
    /// For those that are [`MemberOutcome::Unknown`].
    pub fate: UnknownFate,
    /// Certainly nothing was written: what was known before is known again.
    pub wrote_nothing: bool,
    /// A copy may still be applied until then.
    pub ghost_until: Option<Timestamp>,
}

struct Stored {
    source: SourceId,
    key: String,
    sides: Sides,
    lane: Lane,
    carried: FieldPrints,
    prior: FieldPrints,
    locks: Vec<Lock>,
    /// What a late copy may overwrite, and until when it may.
    doubt: Option<(FieldPrints, Timestamp)>,
}

impl Checkpoint {
    /// Ends an import. Its row stays as a ghost while a copy of it may still be applied.
    pub fn settle_import(
        &mut self,
        import: ImportId,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .attempt("end an import")?;
        let (posted_at, old_ghost, starts): (i64, Option<i64>, Starts) = transaction
            .query_row(
                "SELECT posted_at, ghost_until, fires, call = 'subscribe' FROM import WHERE id = ?1",
                [import.0],
                |row| Ok((row.get(0)?, row.get(1)?, Starts { any: row.get(2)?, is_form: row.get(3)? })),
            )
            .attempt("read an import")?;
        let ghosts = Ghosts::load(&transaction, import, Timestamp(posted_at), now)?;
        let unknown = settlement.members.iter().filter(|(_, outcome)| *outcome == MemberOutcome::Unknown).count();
        let mut unknown_before = 0;
        for (contact, outcome) in &settlement.members {
            let Some(stored) = load_stored(&transaction, import, *contact)? else { continue };
            let in_first_half = unknown_before < unknown / 2;
            unknown_before += usize::from(*outcome == MemberOutcome::Unknown);
            starts.note(&transaction, (*contact, stored.source, &stored.key), outcome, settlement, now)?;
            let end = MemberEnd { contact: *contact, stored, settlement, now, in_first_half, is_form: starts.is_form };
            end.apply(&transaction, outcome, &ghosts)?;
        }
        if settlement.wrote_nothing {
            transaction
                .execute(
                    "UPDATE contact SET told = 0 \
                     WHERE id IN (SELECT contact FROM member WHERE import = ?1 AND is_new = 1)",
                    [import.0],
                )
                .attempt("store that Reteno was told of nobody")?;
        } else {
            renew_opt_outs(&transaction, import)?;
        }
        if settlement.wrote_nothing && settlement.fate == UnknownFate::Release {
            forget_upload(&transaction, import)?;
        }
        let ghost_until = settlement.ghost_until.map(|until| until.0).max(old_ghost).filter(|until| *until > now.0);
        close(&transaction, import, ghost_until)?;
        transaction.commit().attempt("end an import")
    }

    /// Rejects a contact that no call can carry, until it changes; one that has changed meanwhile is left alone.
    pub fn reject_contact(&mut self, contact: ContactId, reason: &str, now: Timestamp) -> Result<(), CheckpointError> {
        const ACTION: &str = "reject a contact";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let still_due: Option<(i64, String)> = transaction
            .query_row(
                "SELECT source, key FROM contact \
                 WHERE id = ?1 AND acknowledged IS NOT NULL AND import IS NULL AND stuck = 0 AND read_at <= ?2",
                params![contact.0, now.0],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .attempt(ACTION)?;
        let Some((source, key)) = still_due else { return Ok(()) };
        drop_rereadable(&transaction, contact.0)?;
        transaction.execute("UPDATE contact SET stuck = 1, split = NULL WHERE id = ?1", [contact.0]).attempt(ACTION)?;
        let what = (RejectionKind::Reteno, None, reason);
        record_rejection(&transaction, SourceId(source), (Some(&key), None), what, now.0)?;
        Duplicates::of(&transaction, now.0)?.give_way(contact)?;
        transaction.commit().attempt(ACTION)
    }
}

struct MemberEnd<'a> {
    contact: ContactId,
    stored: Stored,
    settlement: &'a Settlement,
    now: Timestamp,
    in_first_half: bool,
    is_form: bool,
}

impl MemberEnd<'_> {
    fn apply(
        &self,
        transaction: &Transaction<'_>,
        outcome: &MemberOutcome,
        ghosts: &Ghosts,
    ) -> Result<(), CheckpointError> {
        match outcome {
            MemberOutcome::Acknowledged { reteno_id } => self.acknowledge(transaction, *reteno_id, ghosts),
            MemberOutcome::Rejected(reason) => {
                self.forget_making(transaction)?;
                self.reject(transaction, RejectionKind::Reteno, reason)
            }
            MemberOutcome::Skipped => {
                let reason = "Reteno finished the import without this contact; it was deleted there, most likely";
                self.reject(transaction, RejectionKind::Skipped, reason)
            }
            MemberOutcome::Unknown => self.leave_unknown(transaction),
        }
    }

    fn acknowledge(
        &self,
        transaction: &Transaction<'_>,
        reteno_id: Option<i64>,
        ghosts: &Ghosts,
    ) -> Result<(), CheckpointError> {
        let Doubt { fields: doubtful, until, removes } = ghosts.over(&self.stored.locks, &self.stored.carried);
        let mut sides = self.stored.sides.applied(&self.stored.carried, &doubtful);
        if self.is_form {
            // what was edited meanwhile, too: a form's contact is never updated
            sides.acknowledged = None;
        }
        if sides.acknowledged.is_none() {
            transaction
                .prepare_cached("DELETE FROM waiting WHERE contact = ?1")
                .and_then(|mut delete| delete.execute([self.contact.0]))
                .attempt("drop waiting values")?;
        }
        // a field that is due only because a late copy may overwrite it waits until that cannot happen any more; what else
        // is due goes at once, and so does what was edited meanwhile
        let doubt = self.doubt_after(&sides, &doubtful, until);
        let is_in_doubt = |field: &Field| doubt.as_ref().is_some_and(|(prints, _)| prints.get(*field).is_some());
        let waits = sides.due().iter().all(is_in_doubt);
        let doubt_until = doubt.as_ref().map(|(_, until)| until.0);
        transaction
            .prepare_cached(
                "UPDATE contact SET import = NULL, acknowledged = ?2, reteno_id = coalesce(?3, reteno_id), \
                 not_before = ?4, attempts = 0, split = NULL, restores = ?7, weighed = iif(?2 IS NULL, NULL, weighed), \
                 stuck = iif(?2 IS NULL AND stuck <> 3, 0, stuck), doubt = ?5, doubt_until = ?6 WHERE id = ?1",
            )
            .and_then(|mut update| {
                let known = sides.acknowledged.as_ref().map(FieldPrints::encode);
                let not_before = doubt_until.filter(|_| waits).unwrap_or(0);
                let prints = doubt.as_ref().map(|(prints, _)| prints.encode());
                update.execute(params![self.contact.0, known, reteno_id, not_before, prints, doubt_until, removes])
            })
            .attempt("acknowledge a contact")
            .map(|_| ())
    }

    /// The fields that wait until no late copy can overwrite them: those that this call carried under such a copy, and those
    /// that waited before and that it did not carry.
    fn doubt_after(
        &self,
        sides: &Sides,
        doubtful: &[Field],
        until: Option<Timestamp>,
    ) -> Option<(FieldPrints, Timestamp)> {
        let Stored { carried, doubt, .. } = &self.stored;
        let mut waiting = FieldPrints::default();
        for field in sides.due() {
            let Some(wanted) = sides.desired.get(field) else { continue };
            let is_in_doubt = match carried.get(field) {
                Some(carried) => doubtful.contains(&field) && carried == wanted,
                None => doubt.as_ref().is_some_and(|(prints, _)| prints.get(field) == Some(wanted)),
            };
            if is_in_doubt {
                waiting.set(field, wanted);
            }
        }
        let until = until.max(doubt.as_ref().map(|(_, until)| *until)).filter(|until| *until > self.now);
        until.filter(|_| !waiting.is_empty()).map(|until| (waiting, until))
    }

    /// Reteno refused to make the contact: the next call is the first that tells of it.
    fn forget_making(&self, transaction: &Transaction<'_>) -> Result<(), CheckpointError> {
        transaction
            .prepare_cached(
                "UPDATE contact SET told = 0 WHERE id = ?1 AND reteno_id IS NULL AND EXISTS \
                 (SELECT 1 FROM member m WHERE m.import = contact.import AND m.contact = ?1 AND m.is_new = 1)",
            )
            .and_then(|mut update| update.execute([self.contact.0]))
            .attempt("store that Reteno did not make a contact")
            .map(|_| ())
    }

    /// Rejects the contact, unless it wants something else by now: then that is tried.
    fn reject(&self, transaction: &Transaction<'_>, kind: RejectionKind, reason: &str) -> Result<(), CheckpointError> {
        let sides = self.known_after();
        let is_new = sides.due().iter().any(|field| self.is_new(*field, kind));
        if is_new || sides.acknowledged.is_none() {
            return self.release(transaction, &sides, 0, None);
        }
        drop_rereadable(transaction, self.contact.0)?;
        transaction
            .prepare_cached(
                "UPDATE contact SET import = NULL, acknowledged = ?2, stuck = iif(blocked_by IS NULL, 1, 3), split = NULL, \
                 attempts = 0 WHERE id = ?1",
            )
            .and_then(|mut update| update.execute(params![self.contact.0, sides.known().encode()]))
            .attempt("reject a contact")?;
        Duplicates::of(transaction, self.now.0)?.give_way(self.contact)?;
        let subject = (Some(self.stored.key.as_str()), None);
        record_rejection(transaction, self.stored.source, subject, (kind, None, reason), self.now.0)
    }

    /// Whether a due field wants something else than when the call was made: also one beside those that it wrote, by which
    /// Reteno may have judged (an address). What waits for a call of its own, or for a late copy to be over, was due
    /// before, and would only bring the same refusal again and again; and whoever was deleted in Reteno stays so whatever
    /// else has changed.
    fn is_new(&self, field: Field, kind: RejectionKind) -> bool {
        let wanted = self.stored.sides.desired.get(field);
        let carried = self.stored.carried.get(field);
        let waited = || self.stored.doubt.as_ref().and_then(|(prints, _)| prints.get(field)) == wanted;
        carried != wanted
            && field != Field::Subscriptions
            && !(carried.is_none() && (kind == RejectionKind::Skipped || waited()))
    }

    fn leave_unknown(&self, transaction: &Transaction<'_>) -> Result<(), CheckpointError> {
        let sides = self.known_after();
        match &self.settlement.fate {
            UnknownFate::Release => self.release(transaction, &sides, 0, None),
            UnknownFate::Later(wait) => self.release(transaction, &sides, self.now.plus(*wait).0, None),
            UnknownFate::Split { first, second } => {
                self.release(transaction, &sides, 0, Some(if self.in_first_half { *first } else { *second }))
            }
            UnknownFate::Reject(reason) => self.reject(transaction, RejectionKind::Reteno, reason),
        }
    }

    /// What is known of the fields it carried: what was before, or nothing.
    fn known_after(&self) -> Sides {
        if self.settlement.wrote_nothing {
            self.stored.sides.refused(&self.stored.carried, &self.stored.prior)
        } else {
            self.stored.sides.applied(&self.stored.carried, &fields_of(&self.stored.carried))
        }
    }

    fn release(
        &self,
        transaction: &Transaction<'_>,
        sides: &Sides,
        not_before: i64,
        part: Option<i64>,
    ) -> Result<(), CheckpointError> {
        if sides.acknowledged.is_none() {
            transaction
                .prepare_cached("DELETE FROM waiting WHERE contact = ?1")
                .and_then(|mut delete| delete.execute([self.contact.0]))
                .attempt("drop waiting values")?;
        }
        let is_retry = not_before > 0 || part.is_some();
        let lane = if is_retry { Lane::Retry } else { self.stored.lane };
        transaction
            .prepare_cached(
                "UPDATE contact SET import = NULL, acknowledged = ?2, not_before = ?3, split = ?4, lane = ?5, \
                 attempts = attempts + ?6, stuck = iif(?2 IS NULL AND stuck <> 3, 0, stuck) WHERE id = ?1",
            )
            .and_then(|mut update| {
                update.execute(params![
                    self.contact.0,
                    sides.acknowledged.as_ref().map(FieldPrints::encode),
                    not_before,
                    part,
                    lane.number(),
                    i64::from(not_before > 0),
                ])
            })
            .attempt("take a contact back")
            .map(|_| ())
    }
}

fn fields_of(prints: &FieldPrints) -> Vec<Field> {
    prints.iter().map(|(field, _)| field).collect()
}

fn load_stored(
    transaction: &Transaction<'_>,
    import: ImportId,
    contact: ContactId,
) -> Result<Option<Stored>, CheckpointError> {
    type Doubt = (Option<Vec<u8>>, Option<i64>);
    type Row = (i64, String, Vec<u8>, Option<Vec<u8>>, i64, Vec<u8>, Vec<u8>, Vec<u8>, Doubt);
    let row: Option<Row> = transaction
        .prepare_cached(
            "SELECT c.source, c.key, c.desired, c.acknowledged, c.lane, m.carried, m.prior, m.locks, c.doubt, \
             c.doubt_until FROM member m JOIN contact c ON c.id = m.contact WHERE m.import = ?1 AND m.contact = ?2 AND c.import = ?1",
        )
        .and_then(|mut query| {
            query
                .query_row(params![import.0, contact.0], |row| {
                    let front = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                    let (source, key, desired, acknowledged) = front;
                    let back = (row.get(8)?, row.get(9)?);
                    Ok((source, key, desired, acknowledged, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?, back))
                })
                .optional()
        })
        .attempt("read a member")?;
    let Some((source, key, desired, acknowledged, lane, carried, prior, locks, (doubt, doubt_until))) = row else {
        return Ok(None);
    };
    let prints = |blob: &[u8]| FieldPrints::decode(blob).map_err(unreadable("list of prints"));
    Ok(Some(Stored {
        source: SourceId(source),
        key,
        sides: Sides { desired: prints(&desired)?, acknowledged: acknowledged.as_deref().map(prints).transpose()? },
        lane: Lane::from_number(lane),
        carried: prints(&carried)?,
        prior: prints(&prior)?,
        locks: decode_locks(&locks),
        doubt: doubt.as_deref().map(prints).transpose()?.zip(doubt_until.map(Timestamp)),
    }))
}

pub(super) fn close(
    transaction: &Transaction<'_>,
    import: ImportId,
    ghost_until: Option<i64>,
) -> Result<(), CheckpointError> {
    match ghost_until {
        Some(until) => transaction.execute(
            "UPDATE import SET state = 'ghost', body = NULL, ghost_until = ?2, repeat_at = NULL, check_at = NULL WHERE id = ?1",
            params![import.0, until],
        ),
        None => transaction
            .execute("DELETE FROM member WHERE import = ?1", [import.0])
            .and_then(|_| transaction.execute("DELETE FROM import WHERE id = ?1", [import.0]))
            .and_then(|_| forget_told(transaction)),
    }
    .attempt("end an import")
    .map(|_| ())
}
