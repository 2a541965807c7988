//! Contacts that are gone from the CRM: when that is believed, what is to be done, and what a return takes back.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Consent, Field, FieldPrints, Fingerprint};
use crate::plan::balance::Seen;
use crate::plan::change::ReadStamp;
use crate::plan::deed::{DeedCause, DeedKind};
use crate::plan::policy::{Ending, Policy};
use crate::plan::repair::RepairCause;
use crate::plan::{ContactId, SourceId};

use super::consents::said_of;
use super::deeds::{NewDeed, store_deed};
use super::duplicates::{Duplicates, is_shared};
use super::holds::{drop_empty_holds, free_contact, free_contacts};
use super::incoming::Way;
use super::pages::Page;
use super::reads::SeenRows;
use super::removal::forget_contact;
use super::renewal::remember_told;
use super::tombstones::bury;
use super::wanted::want_record;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// Gone counts only when it was seen twice: two complete reads without the contact, or the CRM's own word and one of them.
pub(super) const SIGHTINGS_NEEDED: i64 = 2;

impl Page<'_> {
    /// The CRM says that a contact is deleted: one sighting. Seen, so that a complete read does not count it once more.
    /// Reads of changes overlap, so that they tell the same word again: it counts once. One that was asked for before a
    /// record of the contact is older than that. A confirmed one is both sightings; another one is confirmed by a fetch,
    /// where the source can. One of an older version than the one that is believed ends nobody: an index that is late tells
    /// of somebody who was brought back since. It is only a reason to look.
    pub(super) fn record_deleted(
        &mut self,
        key: &str,
        (is_confirmed, changed_at): (bool, Option<i64>),
        seen: &mut SeenRows,
    ) -> Result<(), CheckpointError> {
        let Some(row) = self.load(key)? else { return Ok(()) };
        // what is announced comes in its order: a deletion behind a record in one batch is the later word
        let is_repeated = !seen.see(row.id) && matches!(self.context.way, Way::Cycle(_));
        if is_repeated {
            return Ok(());
        }
        if self.context.asked_at < row.known.stamp.asked_at {
            // it waited while a later read began, which may not have come to it, or may not come to its end
            if self.fetches && row.sightings < SIGHTINGS_NEEDED {
                want_record(self.transaction, self.context.source, key, true)?;
            }
            return Ok(());
        }
        let believed = row.known.stamp.changed_at;
        if changed_at.is_some() && row.sightings < SIGHTINGS_NEEDED && changed_at < believed {
            self.outcome.balance.count(Seen::Stale);
            if self.fetches {
                want_record(self.transaction, self.context.source, key, true)?;
            }
            return Ok(());
        }
        self.outcome.balance.gone += 1;
        let came = ReadStamp { asked_at: self.context.asked_at, changed_at };
        if let (0, Some(cause)) = (row.sightings, self.context.cause_of(key, Some(row.known.stamp), came)) {
            // a read of changes that is told of a deletion has not missed it
            let cause = if cause == RepairCause::Undated { RepairCause::DeletionUnseen } else { cause };
            *self.outcome.repaired.entry(cause).or_default() += 1;
        }
        let is_told = matches!(self.context.way, Way::Cycle(_)) && !is_confirmed;
        if is_told && row.sightings < SIGHTINGS_NEEDED && self.fetches {
            want_record(self.transaction, self.context.source, key, true)?;
        }
        if row.sightings > 0 && !self.context.is_full && !is_confirmed {
            return Ok(());
        }
        let sightings = if is_confirmed { row.sightings.max(SIGHTINGS_NEEDED) } else { row.sightings + 1 };
        // a page that was asked for before a confirmed end, and comes later, does not bring the contact back
        self.statement("UPDATE contact SET sightings = ?2, read_at = iif(?3, ?4, read_at) WHERE id = ?1")?
            .execute(params![row.id, sightings, is_confirmed, self.context.asked_at])
            .attempt("mark a gone contact")?;
        if sightings >= SIGHTINGS_NEEDED && (row.sightings < SIGHTINGS_NEEDED || self.ends_anew(row.id)?) {
            let of = (self.context.source, self.context.began, self.context.now);
            end_contact(self.transaction, &self.context.policy, row.id, of)?;
        }
        Ok(())
    }

    /// Whether the operator has another word for gone contacts than when this one was found gone.
    fn ends_anew(&self, id: i64) -> Result<bool, CheckpointError> {
        self.statement("SELECT ends_anew FROM contact WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .attempt("mark a gone contact")
    }

    /// The contact is there again: what was to be done about its end, and nobody has begun, is off; a deletion also where
    /// it was to be done once more.
    pub(super) fn cancel_endings(&self, id: i64) -> Result<(), CheckpointError> {
        remember_told(self.transaction, "s.contact = ?1", [id])?;
        self.statement(
            "DELETE FROM deed WHERE contact = ?1 AND import IS NULL AND buried = 0 \
             AND (cause = 'gone' OR kind IN ('delete', 'erase', 'detach'))",
        )?
        .execute([id])
        .and_then(|_| self.transaction.execute("DELETE FROM consent WHERE contact = ?1", [id]))
        .and_then(|_| {
            self.transaction.execute("UPDATE contact SET ends_anew = 0 WHERE id = ?1 AND ends_anew = 1", [id])
        })
        .attempt("take back the end of a contact")?;
        free_contact(self.transaction, id)
    }
}

impl Checkpoint {
    /// The operator has another word for gone contacts of a source by now: what was decided under an earlier one, and has not
    /// begun, is off.
    pub fn drop_other_endings(&mut self, source: &str, ending: Ending) -> Result<(), CheckpointError> {
        const ACTION: &str = "take back the end of contacts";
        let kind = DeedKind::of_ending(ending).map(DeedKind::name);
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let dropped: Vec<i64> = transaction
            .prepare_cached(
                "DELETE FROM deed WHERE source = (SELECT id FROM source WHERE name = ?1) AND cause = 'gone' AND buried = 0 \
                 AND import IS NULL AND kind IS NOT ?2 RETURNING contact",
            )
            .and_then(|mut delete| delete.query_map(params![source, kind], |row| row.get(0))?.collect())
            .attempt(ACTION)?;
        if !dropped.is_empty() {
            free_contacts(&transaction)?;
        }
        for contact in dropped {
            end_anew(&transaction, contact)?;
        }
        transaction.commit().attempt(ACTION)
    }
}

/// The end of a contact was taken back because the operator has another word for it: the next sighting asks for that. Where a
/// record can be fetched, the fetch is one.
fn end_anew(transaction: &Transaction<'_>, contact: i64) -> Result<(), CheckpointError> {
    const ACTION: &str = "take back the end of contacts";
    let moved: Option<(i64, String, i64)> = transaction
        .prepare_cached(
            "UPDATE contact SET ends_anew = 1 WHERE id = ?1 AND sightings >= ?2 AND stuck <> 4 \
             RETURNING source, key, (SELECT rereads FROM source WHERE source.id = contact.source)",
        )
        .and_then(|mut update| {
            update
                .query_row(params![contact, SIGHTINGS_NEEDED], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()
        })
        .attempt(ACTION)?;
    match moved {
        Some((source, key, 1)) => want_record(transaction, SourceId(source), &key, true).map(|_| ()),
        Some(_) | None => Ok(()),
    }
}

/// What the record of a contact had said of mails to its address before it was gone.
fn load_said(transaction: &Transaction<'_>, id: i64, address: Fingerprint) -> Result<Option<Consent>, CheckpointError> {
    let said: Option<i64> = transaction
        .prepare_cached("SELECT iif(is_forgotten, said_before, said) FROM consent WHERE contact = ?1 AND address = ?2")
        .and_then(|mut query| query.query_row([id, address.to_u64().cast_signed()], |row| row.get(0)).optional())
        .attempt("read a consent")?;
    Ok(said.and_then(said_of))
}

/// Marks what a complete read did not see, and ends those that it did not see for the second time; says how many those are.
pub(super) fn mark_missing(
    transaction: &Transaction<'_>,
    missing: &[i64],
    policy: &Policy,
    of: (SourceId, i64, i64),
) -> Result<u64, CheckpointError> {
    const ACTION: &str = "mark a gone contact";
    let mut ended = 0;
    let mut mark = transaction
        .prepare_cached("UPDATE contact SET sightings = sightings + 1 WHERE id = ?1 RETURNING sightings, ends_anew")
        .attempt(ACTION)?;
    for id in missing {
        let (sightings, ends_anew): (i64, bool) =
            mark.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).attempt(ACTION)?;
        if sightings == SIGHTINGS_NEEDED || ends_anew {
            ended += 1;
            end_contact(transaction, policy, *id, of)?;
        }
    }
    Ok(ended)
}

/// Writes down what is to be done about a contact that is gone.
fn end_contact(
    transaction: &Transaction<'_>,
    policy: &Policy,
    id: i64,
    (source, cycle, now): (SourceId, i64, i64),
) -> Result<(), CheckpointError> {
    const ACTION: &str = "end a contact";
    let (key, desired): (String, Vec<u8>) = transaction
        .prepare_cached("UPDATE contact SET ends_anew = 0 WHERE id = ?1 RETURNING key, desired")
        .and_then(|mut query| query.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))))
        .attempt(ACTION)?;
    let desired = FieldPrints::decode(&desired).map_err(unreadable("list of prints"))?;
    Duplicates::of(transaction, now)?.leave(ContactId(id))?;
    if withdraw_unmade(transaction, id)? {
        return Ok(());
    }
    let Some(kind) = DeedKind::of_ending(policy.ending) else { return Ok(()) };
    if end_untold(transaction, id)? {
        return Ok(());
    }
    if policy.shares_ids && is_elsewhere(transaction, id, desired.get(Field::ExternalCustomerId))? {
        return Ok(());
    }
    let address = desired.get(Field::Email).unwrap_or(Fingerprint::UNKNOWN);
    if (kind == DeedKind::Unsubscribe && address.is_unknown()) || lives_on(transaction, id, kind, &desired)? {
        return Ok(());
    }
    let said_before = load_said(transaction, id, address)?;
    let segments: &[u64] = if kind == DeedKind::Detach { &policy.groups } else { &[0] };
    for segment in segments {
        let deed = NewDeed {
            contact: id,
            key: &key,
            source,
            kind,
            cause: DeedCause::Gone,
            address: if kind == DeedKind::Unsubscribe { address } else { Fingerprint::UNKNOWN },
            segment: segment.cast_signed(),
            cycle,
            said_before,
        };
        store_deed(transaction, &deed)?;
    }
    Ok(())
}

/// A contact that Reteno was never told of has nothing there that could be ended: to ask for its id would make it. Says
/// whether it was one.
fn end_untold(transaction: &Transaction<'_>, id: i64) -> Result<bool, CheckpointError> {
    const ACTION: &str = "end a contact";
    let ended = transaction
        .execute(
            "UPDATE contact SET stuck = 4, acknowledged = x'', split = NULL \
             WHERE id = ?1 AND told = 0 AND import IS NULL AND reteno_id IS NULL",
            [id],
        )
        .attempt(ACTION)?;
    if ended == 0 {
        return Ok(false);
    }
    transaction
        .execute("DELETE FROM waiting WHERE contact = ?1", [id])
        .and_then(|_| transaction.execute("DELETE FROM deed WHERE contact = ?1 AND import IS NULL", [id]))
        .and_then(|_| transaction.execute("DELETE FROM consent WHERE contact = ?1", [id]))
        .attempt(ACTION)?;
    free_contact(transaction, id)?;
    Ok(true)
}

/// A contact that is held from being made, and is gone before anyone approved it: there is nothing to make, and nothing to
/// end. Says whether it was one.
fn withdraw_unmade(transaction: &Transaction<'_>, id: i64) -> Result<bool, CheckpointError> {
    const ACTION: &str = "let a hold lapse";
    let dropped = transaction
        .execute(
            "DELETE FROM held WHERE contact = ?1 AND EXISTS (SELECT 1 FROM held h JOIN contact c ON c.id = h.contact \
             WHERE h.contact = ?1 AND h.field = 0 AND c.told = 0 AND c.import IS NULL)",
            [id],
        )
        .attempt(ACTION)?;
    if dropped == 0 {
        return Ok(false);
    }
    transaction
        .execute("DELETE FROM waiting WHERE contact = ?1", [id])
        .and_then(|_| transaction.execute("DELETE FROM deed WHERE contact = ?1 AND import IS NULL", [id]))
        .and_then(|_| transaction.execute("DELETE FROM consent WHERE contact = ?1", [id]))
        .and_then(|_| {
            let end = "UPDATE contact SET stuck = 4, held = 0, split = NULL, weighed = NULL WHERE id = ?1";
            transaction.execute(end, [id])
        })
        .attempt(ACTION)?;
    drop_empty_holds(transaction)?;
    Ok(true)
}

/// Whether another source still has the contact. The external id is kept among the channels where sources share ids.
pub(super) fn is_elsewhere(
    connection: &Connection,
    id: i64,
    external_id: Option<Fingerprint>,
) -> Result<bool, CheckpointError> {
    external_id.map_or(Ok(false), |print| is_shared(connection, id, print))
}

/// Whether what would be ended belongs to another contact that the CRM still has: its address, or all of it where Reteno
/// tells contacts apart by their channels alone.
pub(super) fn lives_on(
    connection: &Connection,
    id: i64,
    kind: DeedKind,
    desired: &FieldPrints,
) -> Result<bool, CheckpointError> {
    let channels: &[Field] = match (kind, desired.get(Field::ExternalCustomerId)) {
        (DeedKind::Unsubscribe, _) => &[Field::Email],
        (_, None) => &[Field::Email, Field::Sms],
        (_, Some(_)) => &[],
    };
    for print in channels.iter().filter_map(|field| desired.get(*field)) {
        if is_shared(connection, id, print)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An erasure begins: from this commit on no call may carry the contact. Its values leave the rows, what waits and what
/// was not answered; the tombstone stops its return.
pub(super) fn begin_erasure(
    transaction: &Transaction<'_>,
    contact: i64,
    now: i64,
    grave: &super::tombstones::Grave,
) -> Result<(), CheckpointError> {
    bury(transaction, grave, now)?;
    drop_values(transaction, contact)?;
    // what another source has of the same contact, and has lost, too, would make it anew
    for (sibling, source, key) in gone_siblings(transaction, contact)? {
        forget_contact(transaction, sibling, (source, &key), Timestamp(now))?;
    }
    Ok(())
}

/// The rows of the same contact in other sources, which have lost it, too: those that are one contact in Reteno.
fn gone_siblings(connection: &Connection, contact: i64) -> Result<Vec<(i64, SourceId, String)>, CheckpointError> {
    connection
        .prepare_cached(
            "SELECT id, source, key FROM contact WHERE id <> ?1 AND sightings >= ?2 \
             AND reteno_id = (SELECT reteno_id FROM contact WHERE id = ?1)",
        )
        .and_then(|mut query| {
            let of_row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, SourceId(row.get(1)?), row.get(2)?));
            query.query_map(params![contact, SIGHTINGS_NEEDED], of_row)?.collect()
        })
        .attempt("look for the other rows of a contact")
}

/// Nothing of the contact may be sent any more but its erasure.
pub(super) fn drop_values(transaction: &Transaction<'_>, contact: i64) -> Result<(), CheckpointError> {
    const ACTION: &str = "begin an erasure";
    transaction
        .execute("DELETE FROM waiting WHERE contact = ?1", [contact])
        .and_then(|_| transaction.execute("DELETE FROM held WHERE contact = ?1", [contact]))
        .and_then(|_| {
            let others = "DELETE FROM deed WHERE contact = ?1 AND import IS NULL AND kind NOT IN ('erase', 'learn')";
            transaction.execute(others, [contact])
        })
        .and_then(|_| {
            transaction.execute(
                "UPDATE contact SET stuck = 4, acknowledged = coalesce(acknowledged, x''), held = 0, split = NULL \
                 WHERE id = ?1",
                [contact],
            )
        })
        .attempt(ACTION)?;
    drop_empty_holds(transaction)
}
