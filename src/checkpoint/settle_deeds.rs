//! The end of a call that does something: what it means for those it was about, and what has to be done once more.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints};
use crate::plan::deed::{DeedId, DeedKind};
use crate::plan::identity::SharedChannel;
use crate::plan::{ContactId, ImportId, SourceId};

use super::channels::leave_channels;
use super::rejections::{RejectionKind, record_rejection};
use super::renewal::renew_opt_outs;
use super::settle::close;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

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
    /// Nobody confirmed it in its time: it is not tried any more, and listed.
    Expired,
}

pub(super) struct Deed {
    pub(super) id: i64,
    pub(super) source: SourceId,
    pub(super) contact: i64,
    pub(super) key: String,
    pub(super) kind: DeedKind,
    address: i64,
    cycle: i64,
    is_counted: bool,
    renew: bool,
}

impl Checkpoint {
    /// Ends a call that does something. Gives back the CRM's ids of those that were refused alone.
    pub fn settle_deeds(
        &mut self,
        import: ImportId,
        end: &DeedEnd,
        now: Timestamp,
        ghost_until: Option<Timestamp>,
    ) -> Result<Vec<String>, CheckpointError> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let deeds = load_deeds(&transaction, import)?;
        let is_alone = deeds.len() == 1;
        let mut refused = Vec::new();
        for deed in &deeds {
            match end {
                DeedEnd::Done | DeedEnd::NotThere => finish(&transaction, deed, import, now)?,
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
                        refused.push(deed.key.clone());
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
                DeedEnd::Expired => expire(&transaction, deed, now)?,
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

    /// Drops what was given newly and could not be told to Reteno in time, or what somebody else with the same address
    /// forbids: each is listed.
    pub fn drop_late_raises(&mut self, now: Timestamp) -> Result<u64, CheckpointError> {
        let late: Vec<i64> = self
            .connection
            .prepare_cached(
                "SELECT id FROM deed d WHERE kind = 'resubscribe' AND import IS NULL AND (expires_at <= ?1 OR EXISTS \
                 (SELECT 1 FROM consent s WHERE s.address = d.address AND s.said = 1))",
            )
            .and_then(|mut query| query.query_map([now.0], |row| row.get(0))?.collect())
            .attempt(ACTION)?;
        if late.is_empty() {
            return Ok(0);
        }
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        for id in &late {
            let deed = load_deed(&transaction, *id)?;
            if let Some(deed) = deed {
                expire(&transaction, &deed, now)?;
            }
        }
        transaction.commit().attempt(ACTION)?;
        Ok(late.len() as u64)
    }
}

pub(super) fn load_deeds(transaction: &Transaction<'_>, import: ImportId) -> Result<Vec<Deed>, CheckpointError> {
    let ids: Vec<i64> = transaction
        .prepare_cached("SELECT deed FROM member WHERE import = ?1 AND deed IS NOT NULL")
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
        .prepare_cached("SELECT source, contact, key, kind, address, cycle, cause, renew FROM deed WHERE id = ?1")
        .and_then(|mut query| {
            query
                .query_row([id], |row| {
                    let kind: String = row.get(3)?;
                    let cause: String = row.get(6)?;
                    Ok(DeedKind::from_name(&kind).map(|kind| {
                        Ok::<_, rusqlite::Error>(Deed {
                            id,
                            source: SourceId(row.get(0)?),
                            contact: row.get(1)?,
                            key: row.get(2)?,
                            kind,
                            address: row.get(4)?,
                            cycle: row.get(5)?,
                            is_counted: cause != "again",
                            renew: row.get(7)?,
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

fn finish(transaction: &Transaction<'_>, deed: &Deed, import: ImportId, now: Timestamp) -> Result<(), CheckpointError> {
    let ghost_until: Option<i64> = transaction
        .prepare_cached(
            "SELECT max(i.ghost_until) FROM member m JOIN import i ON i.id = m.import \
             WHERE m.contact = ?1 AND i.id <> ?2 AND i.ghost_until > ?3",
        )
        .and_then(|mut query| query.query_row(params![deed.contact, import.0, now.0], |row| row.get(0)))
        .attempt(ACTION)?;
    forget_trouble(transaction, deed)?;
    match deed.kind {
        DeedKind::Unsubscribe => {
            transaction
                .prepare_cached("UPDATE consent SET lowered_at = ?3 WHERE contact = ?1 AND address = ?2 AND said = 1")
                .and_then(|mut update| update.execute(params![deed.contact, deed.address, now.0]))
                .attempt(ACTION)?;
            if deed.is_counted {
                transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO opt_out (contact, address, cycle, done_at) VALUES (?1, ?2, ?3, ?4)",
                    )
                    .and_then(|mut insert| insert.execute(params![deed.contact, deed.address, deed.cycle, now.0]))
                    .attempt(ACTION)?;
            }
            if deed.renew { again(transaction, deed, 0) } else { forget(transaction, deed) }
        }
        DeedKind::Resubscribe => {
            transaction.execute("DELETE FROM opt_out WHERE address = ?1", [deed.address]).attempt(ACTION)?;
            forget(transaction, deed)
        }
        DeedKind::Detach => {
            leave_segments(transaction, deed.contact)?;
            forget(transaction, deed)
        }
        DeedKind::Delete => {
            end_row(transaction, deed.contact)?;
            match ghost_until {
                // it may bring the contact back
                Some(until) => again(transaction, deed, until),
                None => forget(transaction, deed),
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

/// What stood in the way of a deed is over.
pub(super) fn forget_trouble(transaction: &Transaction<'_>, deed: &Deed) -> Result<(), CheckpointError> {
    let kind = deed.kind.name();
    transaction
        .execute("DELETE FROM alert WHERE name = ?1", [format!("{kind}-{}", deed.key)])
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

fn forget(transaction: &Transaction<'_>, deed: &Deed) -> Result<(), CheckpointError> {
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

fn expire(transaction: &Transaction<'_>, deed: &Deed, now: Timestamp) -> Result<(), CheckpointError> {
    forget(transaction, deed)?;
    let reason = "the consent that was newly given could not be told to Reteno within an hour, or somebody else with the \
                  address wants no mail: the address stays unsubscribed";
    let what = (RejectionKind::Consent, None, reason);
    record_rejection(transaction, deed.source, (Some(&deed.key), None), what, now.0)
}

/// What Reteno holds of the contact is over: when the CRM shows it again, all of it is sent, and it is restored.
pub(super) fn end_row(transaction: &Transaction<'_>, contact: i64) -> Result<(), CheckpointError> {
    transaction
        .execute("DELETE FROM waiting WHERE contact = ?1", [contact])
        .and_then(|_| transaction.execute("DELETE FROM consent WHERE contact = ?1", [contact]))
        .and_then(|_| {
            // one that came back while the call was under way is read once more
            transaction.execute(
                "UPDATE contact SET acknowledged = x'', restores = 1, split = NULL, attempts = 0, \
                 stuck = iif(sightings > 0, 4, 2) WHERE id = ?1",
                [contact],
            )
        })
        .and_then(|_| want_full_read_of_starved(transaction, contact))
        .attempt(ACTION)
        .map(|_| ())
}

fn want_full_read_of_starved(transaction: &Transaction<'_>, contact: i64) -> rusqlite::Result<usize> {
    transaction.execute(
        "UPDATE source SET full_read_wanted = 1 \
         WHERE id = (SELECT source FROM contact WHERE id = ?1 AND stuck = 2)",
        [contact],
    )
}

/// A gone contact is in no segment any more: a return puts it back.
fn leave_segments(transaction: &Transaction<'_>, contact: i64) -> Result<(), CheckpointError> {
    let row: Option<(Vec<u8>, Option<Vec<u8>>)> = transaction
        .prepare_cached("SELECT desired, acknowledged FROM contact WHERE id = ?1")
        .and_then(|mut query| query.query_row([contact], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .attempt(ACTION)?;
    let Some((desired, acknowledged)) = row else { return Ok(()) };
    let known =
        FieldPrints::decode(acknowledged.as_deref().unwrap_or(&desired)).map_err(unreadable("list of prints"))?;
    let others: Vec<Field> = known.iter().map(|(field, _)| field).filter(|field| !field.is_segment()).collect();
    let mut known = known;
    known.retain_fields(&others);
    transaction
        .execute("DELETE FROM waiting WHERE contact = ?1", [contact])
        .and_then(|_| {
            transaction.execute(
                "UPDATE contact SET acknowledged = ?2, stuck = iif(sightings > 0, 4, 2), split = NULL WHERE id = ?1",
                params![contact, known.encode()],
            )
        })
        .and_then(|_| want_full_read_of_starved(transaction, contact))
        .attempt(ACTION)
        .map(|_| ())
}

fn forget_for_ever(transaction: &Transaction<'_>, deed: &Deed, now: Timestamp) -> Result<(), CheckpointError> {
    forget_contact(transaction, deed.contact, (deed.source, &deed.key), now)
}

/// An erasure is complete: nothing of the contact is kept but its tombstone.
pub(super) fn forget_contact(
    transaction: &Transaction<'_>,
    contact: i64,
    (source, key): (SourceId, &str),
    now: Timestamp,
) -> Result<(), CheckpointError> {
    leave_channels(transaction, ContactId(contact), SharedChannel::default(), now.0)?;
    let statements = [
        "DELETE FROM deed WHERE contact = ?1",
        "DELETE FROM consent WHERE contact = ?1",
        "DELETE FROM opt_out WHERE contact = ?1",
        "DELETE FROM held WHERE contact = ?1",
        "DELETE FROM waiting WHERE contact = ?1",
        "DELETE FROM contact WHERE id = ?1",
    ];
    for statement in statements {
        transaction.execute(statement, [contact]).attempt(ACTION)?;
    }
    transaction
        .execute("DELETE FROM rejection WHERE source = ?1 AND key = ?2 AND kind <> 'erased'", params![source.0, key])
        .attempt(ACTION)
        .map(|_| ())
}
