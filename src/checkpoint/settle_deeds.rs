//! The end of a call that does something: what it means for those it was about, and what has to be done once more.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::plan::deed::{DeedId, DeedKind};
use crate::plan::{ImportId, SourceId};

use super::learnt::tell_erasures;
use super::rejections::{RejectionKind, record_rejection};
use super::removal::{end_row, forget_for_ever, leave_segments, note_removed};
use super::renewal::renew_opt_outs;
use super::settle::close;
use super::survival::is_back;
use super::{Attempt, Checkpoint, CheckpointError};

pub(super) const ACTION: &str = "end what was done";
/// How long one that is refused alone waits before it is tried again.
pub(super) const REFUSED_WAIT_MS: i64 = 6 * 60 * 60 * 1000;
/// How long opt-outs can be taken back.
const UNDO_AGE_MAX_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// How a call that does something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeedEnd {
    /// It was done.
    Done,
    /// Reteno does not know whom it is about.
    NotThere,
    /// Refused for what it holds: tried one by one, then every few hours.
    Refused(String),
    /// Reteno does not know the segment, whoever is to leave it: listed, and tried every few hours.
    NoSegment(String),
    /// It did nothing, and is not at fault.
    NotWritten,
}

pub(super) struct Deed {
    pub(super) id: i64,
    pub(super) source: SourceId,
    pub(super) contact: i64,
    pub(super) key: String,
    pub(super) kind: DeedKind,
    address: i64,
    is_counted: bool,
    renew: bool,
    /// It ends a contact that is gone, and its tombstone does not stand.
    pub(super) is_ending: bool,
}

impl Checkpoint {
    /// Ends a call that does something. Gives back the CRM's ids of those that were refused alone.
    pub fn settle_deeds(
        &mut self,
        import: ImportId,
        end: &DeedEnd,
        now: Timestamp,
        ghost_until: Option<Timestamp>,
    ) -> Result<Vec<(SourceId, String)>, CheckpointError> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let deeds = load_deeds(&transaction, import)?;
        let is_alone = deeds.len() == 1;
        let mut refused = Vec::new();
        for deed in &deeds {
            // it is not done once more to somebody who is there again
            let is_off = deed.is_ending && is_back(&transaction, deed.contact)?;
            match end {
                DeedEnd::Done | DeedEnd::NotThere => finish(&transaction, deed, (import, end), now)?,
                DeedEnd::Refused(_) | DeedEnd::NoSegment(_) | DeedEnd::NotWritten if is_off => {
                    forget(&transaction, deed)?;
                }
                DeedEnd::Refused(reason) => {
                    let wait = if is_alone { REFUSED_WAIT_MS } else { 0 };
                    transaction
                        .execute(
                            "UPDATE deed SET import = NULL, attempts = attempts + 1, not_before = ?2 WHERE id = ?1",
                            params![deed.id, if wait == 0 { 0 } else { now.0 + wait }],
                        )
                        .attempt(ACTION)?;
                    if is_alone {
                        let reason = format!("{}: {reason}", deed.kind.name());
                        let what = (RejectionKind::Reteno, None, reason.as_str());
                        record_rejection(&transaction, deed.source, (Some(&deed.key), None), what, now.0)?;
                        if deed.kind == DeedKind::Learn {
                            tell_erasures(&transaction, deed.contact, now)?;
                        }
                        refused.push((deed.source, deed.key.clone()));
                    }
                }
                DeedEnd::NoSegment(reason) => {
                    let reason = format!("{}: {reason}", deed.kind.name());
                    let what = (RejectionKind::Reteno, None, reason.as_str());
                    record_rejection(&transaction, deed.source, (Some(&deed.key), None), what, now.0)?;
                    transaction
                        .execute(
                            "UPDATE deed SET import = NULL, not_before = ?2 WHERE id = ?1",
                            params![deed.id, now.0 + REFUSED_WAIT_MS],
                        )
                        .attempt(ACTION)?;
                }
                DeedEnd::NotWritten => {
                    transaction.execute("UPDATE deed SET import = NULL WHERE id = ?1", [deed.id]).attempt(ACTION)?;
                }
            }
        }
        renew_opt_outs(&transaction, import)?;
        close(&transaction, import, ghost_until.map(|until| until.0).filter(|until| *until > now.0))?;
        transaction.execute("DELETE FROM opt_out WHERE done_at < ?1", [now.0 - UNDO_AGE_MAX_MS]).attempt(ACTION)?;
        transaction.commit().attempt(ACTION)?;
        self.close_graves(&deeds)?;
        Ok(refused)
    }

    /// Notes beside the database which erasures are complete: an older copy of it must not begin them anew.
    fn close_graves(&self, deeds: &[Deed]) -> Result<(), CheckpointError> {
        for deed in deeds.iter().filter(|deed| deed.kind == DeedKind::Erase) {
            let is_over: bool = self
                .connection
                .query_row("SELECT NOT EXISTS (SELECT 1 FROM deed WHERE id = ?1)", [deed.id], |row| row.get(0))
                .attempt(ACTION)?;
            if is_over {
                self.close_grave(deed.source, &deed.key)?;
            }
        }
        Ok(())
    }

    /// What cannot be told to Reteno at all is listed, and tried again when it may have changed.
    pub fn refuse_deeds(&mut self, deeds: &[DeedId], reason: &str, now: Timestamp) -> Result<(), CheckpointError> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        for id in deeds {
            let Some(deed) = load_deed(&transaction, id.0)? else { continue };
            let text = format!("{}: {reason}", deed.kind.name());
            let what = (RejectionKind::Reteno, None, text.as_str());
            record_rejection(&transaction, deed.source, (Some(&deed.key), None), what, now.0)?;
            transaction
                .execute(
                    "UPDATE deed SET attempts = attempts + 1, not_before = ?2 WHERE id = ?1",
                    params![id.0, now.0 + REFUSED_WAIT_MS],
                )
                .attempt(ACTION)?;
        }
        transaction.commit().attempt(ACTION)
    }
}

pub(super) fn load_deeds(transaction: &Transaction<'_>, import: ImportId) -> Result<Vec<Deed>, CheckpointError> {
    let ids: Vec<i64> = transaction
        .prepare_cached(
            "SELECT d.id FROM member m JOIN deed d ON d.id = m.deed AND d.import = m.import WHERE m.import = ?1",
        )
        .and_then(|mut query| query.query_map([import.0], |row| row.get(0))?.collect())
        .attempt(ACTION)?;
    let mut deeds = Vec::with_capacity(ids.len());
    for id in ids {
        deeds.extend(load_deed(transaction, id)?);
    }
    Ok(deeds)
}

pub(super) fn load_deed(transaction: &Transaction<'_>, id: i64) -> Result<Option<Deed>, CheckpointError> {
    transaction
        .prepare_cached("SELECT source, contact, key, kind, address, cause, renew, buried FROM deed WHERE id = ?1")
        .and_then(|mut query| {
            query
                .query_row([id], |row| {
                    let kind: String = row.get(3)?;
                    let cause: String = row.get(5)?;
                    Ok(DeedKind::from_name(&kind).map(|kind| {
                        Ok::<_, rusqlite::Error>(Deed {
                            id,
                            source: SourceId(row.get(0)?),
                            contact: row.get(1)?,
                            key: row.get(2)?,
                            kind,
                            address: row.get(4)?,
                            is_counted: cause != "again",
                            is_ending: !row.get::<_, bool>(7)?
                                && (cause == "gone"
                                    || matches!(kind, DeedKind::Delete | DeedKind::Erase | DeedKind::Detach)),
                            renew: row.get(6)?,
                        })
                    }))
                })
                .optional()
        })
        .attempt(ACTION)?
        .flatten()
        .transpose()
        .attempt(ACTION)
}

/// Until when a copy of another call about a contact may land. By the calls, which are few, and not by all their members: see
/// what that costs at `IS_UNDER_WAY`.
pub(super) const LAST_GHOST: &str = "SELECT max(i.ghost_until) FROM import i CROSS JOIN member m ON m.import = i.id \
                                     WHERE m.contact = ?1 AND i.id <> ?2 AND i.ghost_until > ?3";

fn finish(
    transaction: &Transaction<'_>,
    deed: &Deed,
    (import, end): (ImportId, &DeedEnd),
    now: Timestamp,
) -> Result<(), CheckpointError> {
    let ghost_until: Option<i64> = transaction
        .prepare_cached(LAST_GHOST)
        .and_then(|mut query| query.query_row(params![deed.contact, import.0, now.0], |row| row.get(0)))
        .attempt(ACTION)?;
    forget_trouble(transaction, deed)?;
    match deed.kind {
        DeedKind::Unsubscribe => finish_opt_out(transaction, deed, now),
        DeedKind::Resubscribe => {
            transaction.execute("DELETE FROM opt_out WHERE address = ?1", [deed.address]).attempt(ACTION)?;
            forget(transaction, deed)
        }
        DeedKind::Detach => {
            leave_segments(transaction, deed.contact)?;
            match ghost_until {
                // it may put the contact back into the segment
                Some(until) if !is_back(transaction, deed.contact)? => again(transaction, deed, until),
                Some(_) | None => forget(transaction, deed),
            }
        }
        DeedKind::Delete => {
            let is_back = is_back(transaction, deed.contact)?;
            // whom somebody else has deleted there is not ours to restore
            let is_ours = *end == DeedEnd::Done || has_repeated(transaction, import)?;
            end_row(transaction, deed.contact, is_ours)?;
            if is_ours {
                note_removed(transaction, deed.contact, now)?;
            }
            match ghost_until {
                // it may bring the contact back
                Some(until) if !is_back => again(transaction, deed, until),
                Some(_) | None => forget(transaction, deed),
            }
        }
        DeedKind::Erase => match ghost_until {
            // it may make the contact anew, under another id
            Some(until) => {
                forget_id(transaction, deed)?;
                again(transaction, deed, until)
            }
            None => forget_for_ever(transaction, deed, now),
        },
        DeedKind::Learn => forget(transaction, deed),
    }
}

fn finish_opt_out(transaction: &Transaction<'_>, deed: &Deed, now: Timestamp) -> Result<(), CheckpointError> {
    transaction
        .prepare_cached("UPDATE consent SET lowered_at = ?3 WHERE contact = ?1 AND address = ?2 AND said = 1")
        .and_then(|mut update| update.execute(params![deed.contact, deed.address, now.0]))
        .attempt(ACTION)?;
    if deed.is_counted {
        transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO opt_out (contact, address, cycle, done_at, said_before) \
                 SELECT contact, address, cycle, ?2, said_before FROM deed WHERE id = ?1",
            )
            .and_then(|mut insert| insert.execute(params![deed.id, now.0]))
            .attempt(ACTION)?;
    }
    let is_taken_back: bool = transaction
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM consent WHERE contact = ?1 AND address = ?2 AND said = 2)")
        .and_then(|mut query| query.query_row([deed.contact, deed.address], |row| row.get(0)))
        .attempt(ACTION)?;
    if deed.renew && !is_taken_back { again(transaction, deed, 0) } else { forget(transaction, deed) }
}

/// Whether the call may have been made before: an earlier copy of it may have done what the answer finds done.
fn has_repeated(transaction: &Transaction<'_>, import: ImportId) -> Result<bool, CheckpointError> {
    transaction.query_row("SELECT posts > 1 FROM import WHERE id = ?1", [import.0], |row| row.get(0)).attempt(ACTION)
}

/// What stood in the way of a deed is over.
pub(super) fn forget_trouble(transaction: &Transaction<'_>, deed: &Deed) -> Result<(), CheckpointError> {
    let kind = deed.kind.name();
    transaction
        .execute("DELETE FROM alert WHERE name = ?1", [trouble_alert(deed.kind, deed.source, &deed.key)])
        .and_then(|_| {
            transaction.execute(
                "DELETE FROM rejection WHERE source = ?1 AND key = ?2 AND kind = 'reteno' AND reason LIKE ?3",
                params![deed.source.0, deed.key, format!("{kind}: %")],
            )
        })
        .attempt(ACTION)
        .map(|_| ())
}

fn forget_id(transaction: &Transaction<'_>, deed: &Deed) -> Result<(), CheckpointError> {
    transaction
        .execute("UPDATE contact SET reteno_id = NULL WHERE id = ?1", [deed.contact])
        .and_then(|_| transaction.execute("UPDATE deed SET reteno_id = NULL WHERE id = ?1", [deed.id]))
        .attempt(ACTION)
        .map(|_| ())
}

pub(super) fn forget(transaction: &Transaction<'_>, deed: &Deed) -> Result<(), CheckpointError> {
    transaction.execute("DELETE FROM deed WHERE id = ?1", [deed.id]).attempt(ACTION).map(|_| ())
}

/// It is done once more at a later time: something may undo it until then.
fn again(transaction: &Transaction<'_>, deed: &Deed, not_before: i64) -> Result<(), CheckpointError> {
    transaction
        .execute(
            "UPDATE deed SET import = NULL, cause = 'again', renew = 0, attempts = 0, not_before = ?2 WHERE id = ?1",
            params![deed.id, not_before],
        )
        .attempt(ACTION)
        .map(|_| ())
}

/// The name of the alert that a deed cannot be done.
#[must_use]
pub fn trouble_alert(kind: DeedKind, source: SourceId, key: &str) -> String {
    format!("{}-{}-{key}", kind.name(), source.0)
}
