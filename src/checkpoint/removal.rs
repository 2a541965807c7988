//! What a contact's row is after it was deleted in Reteno, left its segments or was erased.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints, Fingerprinter};
use crate::plan::{ContactId, SourceId};

use super::duplicates::Duplicates;
use super::renewal::remember_told;
use super::settle_deeds::{ACTION, Deed};
use super::wanted::want_starved;
use super::{Attempt, CheckpointError, unreadable};

/// What Reteno finds a contact by.
const IDENTITIES: [Field; 3] = [Field::ExternalCustomerId, Field::Email, Field::Sms];

/// What Reteno holds of the contact is over: when the CRM shows it again, all of it is sent, and it is restored.
pub(super) fn end_row(transaction: &Transaction<'_>, contact: i64, is_ours: bool) -> Result<(), CheckpointError> {
    remember_told(transaction, "s.contact = ?1", [contact])?;
    transaction
        .execute("DELETE FROM waiting WHERE contact = ?1", [contact])
        .and_then(|_| transaction.execute("DELETE FROM consent WHERE contact = ?1", [contact]))
        .and_then(|_| {
            // one that came back while the call was under way is read once more
            transaction.execute(
                "UPDATE contact SET acknowledged = x'', restores = iif(?2, 1, restores), split = NULL, attempts = 0, \
                 stuck = iif(sightings > 0, 4, 2) WHERE id = ?1",
                params![contact, is_ours],
            )
        })
        .attempt(ACTION)?;
    want_starved(transaction, contact)
}

/// We deleted a contact in Reteno: whoever comes with its external id or one of its addresses is restored. An address that is
/// empty is among them, and nobody comes with one.
pub(super) fn note_removed(transaction: &Transaction<'_>, contact: i64, now: Timestamp) -> Result<(), CheckpointError> {
    let desired: Option<Vec<u8>> = transaction
        .prepare_cached("SELECT desired FROM contact WHERE id = ?1")
        .and_then(|mut query| query.query_row([contact], |row| row.get(0)).optional())
        .attempt(ACTION)?;
    let desired = FieldPrints::decode(&desired.unwrap_or_default()).map_err(unreadable("list of prints"))?;
    for print in IDENTITIES.iter().filter_map(|field| desired.get(*field)) {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO removed (print, removed_at) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![print.to_u64().cast_signed(), now.0]))
            .attempt(ACTION)?;
    }
    Ok(())
}

/// Whether we deleted the contact that has one of these in Reteno; it is about to be restored, so that is said once.
pub(super) fn take_removed(
    transaction: &Transaction<'_>,
    prints: &FieldPrints,
    hash: &Fingerprinter,
) -> Result<bool, CheckpointError> {
    let mut found = 0;
    for field in IDENTITIES {
        let Some(print) = prints.get(field).filter(|print| !hash.is_clear(field, *print)) else { continue };
        found += transaction
            .prepare_cached("DELETE FROM removed WHERE print = ?1")
            .and_then(|mut delete| delete.execute([print.to_u64().cast_signed()]))
            .attempt(ACTION)?;
    }
    Ok(found > 0)
}

/// A gone contact is in no segment any more: a return puts it back.
pub(super) fn leave_segments(transaction: &Transaction<'_>, contact: i64) -> Result<(), CheckpointError> {
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
        .attempt(ACTION)?;
    want_starved(transaction, contact)
}

pub(super) fn forget_for_ever(
    transaction: &Transaction<'_>,
    deed: &Deed,
    now: Timestamp,
) -> Result<(), CheckpointError> {
    forget_contact(transaction, deed.contact, (deed.source, &deed.key), now)
}

/// An erasure is complete: nothing of the contact is kept but its tombstone.
pub(super) fn forget_contact(
    transaction: &Transaction<'_>,
    contact: i64,
    (source, key): (SourceId, &str),
    now: Timestamp,
) -> Result<(), CheckpointError> {
    Duplicates::of(transaction, now.0)?.leave(ContactId(contact))?;
    let statements = [
        "DELETE FROM deed WHERE contact = ?1",
        "DELETE FROM consent WHERE contact = ?1",
        "DELETE FROM opt_out WHERE contact = ?1",
        "DELETE FROM held WHERE contact = ?1",
        "DELETE FROM told WHERE contact = ?1",
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
