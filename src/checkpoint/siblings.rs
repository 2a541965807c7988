//! One contact of several sources: a source without a channel sends its fields with the channel that another one tells.

use rusqlite::{Transaction, params};

use crate::contact::{Field, FieldPrints, Fingerprinter, Values, Wanted};
use crate::plan::change::Sides;
use crate::plan::lock::{Lock, LockKind};
use crate::plan::{ContactId, SourceId};

use super::consents::IDENTITY;
use super::duplicates::Duplicates;
use super::endings::SIGHTINGS_NEEDED;
use super::rejections::{RejectionKind, record_rejection};
use super::seal::Sealer;
use super::wanted::{drop_rereadable, want_record};
use super::{Attempt, CheckpointError, unreadable};

const ACTION: &str = "look for a contact in other sources";
const CHANNELS: [Field; 2] = [Field::Email, Field::Sms];

/// Where the channel of a contact comes from.
pub(super) enum Channel {
    /// It has one, or needs none.
    Own,
    /// Another source told this one, and Reteno holds it.
    Borrowed(Values),
    /// Another source has told one that Reteno does not hold yet: its own call goes first.
    Awaited,
    /// No source tells one.
    Nowhere,
}

/// Whether a source tells any channel of the contact.
pub(super) fn has_channel(desired: &FieldPrints, hash: &Fingerprinter) -> bool {
    CHANNELS.iter().any(|field| desired.get(*field).is_some_and(|print| !hash.is_clear(*field, print)))
}

/// Looks for the channel of a contact that is about to be sent. An empty channel of its own is a wish, and stays.
pub(super) fn channel_of(
    transaction: &Transaction<'_>,
    (contact, desired): (ContactId, &FieldPrints),
    sealer: Sealer,
    hash: &Fingerprinter,
) -> Result<Channel, CheckpointError> {
    let speaks = CHANNELS.iter().any(|field| desired.get(*field).is_some());
    let Some(id) = desired.get(Field::ExternalCustomerId).filter(|_| !speaks) else { return Ok(Channel::Own) };
    let mut query = transaction
        .prepare_cached(
            "SELECT c.desired, c.acknowledged, c.identity, c.stuck = 0 AND c.held = 0 FROM channel h \
             JOIN contact c ON c.id = h.contact \
             WHERE h.print = ?1 AND c.id <> ?2 AND c.sightings < ?3 AND c.stuck <> 4",
        )
        .attempt(ACTION)?;
    let mut rows = query.query(params![id.to_u64().cast_signed(), contact.0, SIGHTINGS_NEEDED]).attempt(ACTION)?;
    let mut found = Channel::Nowhere;
    while let Some(row) = rows.next().attempt(ACTION)? {
        let prints = |blob: Vec<u8>| FieldPrints::decode(&blob).map_err(unreadable("list of prints"));
        let desired = prints(row.get(0).attempt(ACTION)?)?;
        if !has_channel(&desired, hash) {
            continue;
        }
        let acknowledged = row.get::<_, Option<Vec<u8>>>(1).attempt(ACTION)?.map(prints).transpose()?;
        let sides = Sides { desired, acknowledged };
        let is_held = CHANNELS.iter().all(|field| !sides.due().contains(field));
        let identity: Option<Vec<u8>> = row.get(2).attempt(ACTION)?;
        let Some(sealed) = identity.filter(|_| is_held) else {
            if row.get(3).attempt(ACTION)? {
                found = Channel::Awaited;
            }
            continue;
        };
        let mut values = Values::decode(&sealer.unseal(IDENTITY, &sealed)?).map_err(unreadable("identity"))?;
        values.retain_fields(&CHANNELS);
        return Ok(Channel::Borrowed(values));
    }
    Ok(found)
}

/// What a call with a borrowed channel shares with no other.
pub(super) fn locks_of_borrowed(values: &Values, hash: &Fingerprinter) -> Vec<Lock> {
    let kinds = [(Field::Email, LockKind::Email), (Field::Sms, LockKind::Phone)];
    let lock = |(field, kind): (Field, LockKind)| {
        let value = values.value(field)?;
        Some(Lock { kind, hash: hash.field(field, &Wanted::Value(value.clone())).to_u64() })
    };
    kinds.into_iter().filter_map(lock).collect()
}

/// No source tells a channel: the contact is listed until one does.
pub(super) fn list_without_channel(
    transaction: &Transaction<'_>,
    contact: ContactId,
    now: i64,
) -> Result<(), CheckpointError> {
    let (source, key): (i64, String) = transaction
        .prepare_cached("UPDATE contact SET stuck = 1, split = NULL WHERE id = ?1 RETURNING source, key")
        .and_then(|mut update| update.query_row([contact.0], |row| Ok((row.get(0)?, row.get(1)?))))
        .attempt(ACTION)?;
    drop_rereadable(transaction, contact.0)?;
    let reason =
        "no source that shares its id gives an e-mail or phone that Reteno holds, and without one it cannot be sent";
    let what = (RejectionKind::Reteno, None, reason);
    record_rejection(transaction, SourceId(source), (Some(&key), None), what, now)?;
    Duplicates::of(transaction, now)?.give_way(contact)
}

/// A source tells a contact's channel: the same contact of other sources, listed for want of one, is read again.
pub(super) fn wake_siblings(
    transaction: &Transaction<'_>,
    contact: ContactId,
    desired: &FieldPrints,
    hash: &Fingerprinter,
) -> Result<(), CheckpointError> {
    let Some(id) = desired.get(Field::ExternalCustomerId).filter(|_| has_channel(desired, hash)) else { return Ok(()) };
    let woken: Vec<(i64, String)> = transaction
        .prepare_cached(
            "UPDATE contact SET stuck = 2 WHERE stuck = 1 AND acknowledged IS NOT NULL AND id <> ?2 \
             AND id IN (SELECT contact FROM channel WHERE print = ?1) RETURNING source, key",
        )
        .and_then(|mut wake| {
            let rows =
                wake.query_map(params![id.to_u64().cast_signed(), contact.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
        .attempt(ACTION)?;
    for (source, key) in woken {
        transaction
            .execute("DELETE FROM rejection WHERE source = ?1 AND key = ?2 AND kind = 'reteno'", params![source, key])
            .attempt(ACTION)?;
        want_record(transaction, SourceId(source), &key, false)?;
    }
    Ok(())
}
