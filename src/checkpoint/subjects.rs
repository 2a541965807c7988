//! Whom a deed is about, right before it is done: whether it may still be done, and what names the contact.

use rusqlite::{OptionalExtension, Transaction};

use crate::contact::{Field, FieldPrints, Values};
use crate::plan::change::Sides;
use crate::plan::deed::{DeedId, DeedKind};

use super::consents::IDENTITY;
use super::deeds::DeedSubject;
use super::duplicates::is_shared;
use super::holds::free_contact;
use super::seal::Sealer;
use super::sendable::is_gagged;
use super::survival::is_alive;
use super::{Attempt, CheckpointError, unreadable};

/// What was to be done about a contact that is gone is off where the contact lives on. Says whether it is.
pub(super) fn drop_survivor(
    transaction: &Transaction<'_>,
    deed: DeedId,
    (contact, kind): (i64, DeedKind),
) -> Result<bool, CheckpointError> {
    const ACTION: &str = "take back the end of a contact";
    let is_ending: bool = transaction
        .prepare_cached(
            "SELECT buried = 0 AND (cause = 'gone' OR cause = 'again' AND kind IN ('delete', 'erase', 'detach')) FROM deed WHERE id = ?1",
        )
        .and_then(|mut query| query.query_row([deed.0], |row| row.get(0)))
        .attempt(ACTION)?;
    if !is_ending || !is_alive(transaction, contact, kind)? {
        return Ok(false);
    }
    transaction.execute("DELETE FROM deed WHERE id = ?1", [deed.0]).attempt(ACTION)?;
    free_contact(transaction, contact)?;
    Ok(true)
}

/// To ask for an id may make the contact: not before Reteno knows that its address wants no mail.
pub(super) fn waits_for_opt_out(
    transaction: &Transaction<'_>,
    kind: DeedKind,
    sides: &Sides,
) -> Result<bool, CheckpointError> {
    match (kind, sides.desired.get(Field::Email)) {
        (DeedKind::Learn, Some(address)) => is_gagged(transaction, address),
        (
            DeedKind::Learn
            | DeedKind::Unsubscribe
            | DeedKind::Resubscribe
            | DeedKind::Detach
            | DeedKind::Delete
            | DeedKind::Erase,
            _,
        ) => Ok(false),
    }
}

pub(super) type Subject = (i64, i64, DeedSubject, Sides);

pub(super) fn load_subject(
    transaction: &Transaction<'_>,
    deed: DeedId,
    sealer: Sealer,
) -> Result<Option<Subject>, CheckpointError> {
    const ACTION: &str = "read whom a deed is about";
    type Stored = ((bool, i64, i64), Option<Vec<u8>>, Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>);
    let stored: Option<Stored> = transaction
        .prepare_cached(
            "SELECT d.kind = 'learn', d.contact, d.address, coalesce(d.identity, c.identity), coalesce(c.reteno_id, d.reteno_id), c.desired, \
             c.acknowledged \
             FROM deed d LEFT JOIN contact c ON c.id = d.contact \
             WHERE d.id = ?1 AND d.state = 'due' AND d.import IS NULL",
        )
        .and_then(|mut query| {
            query
                .query_row([deed.0], |row| {
                    let whom = (row.get(0)?, row.get(1)?, row.get(2)?);
                    Ok((whom, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
                })
                .optional()
        })
        .attempt(ACTION)?;
    let Some(((is_learn, contact, address), identity, reteno_id, desired, acknowledged)) = stored else {
        return Ok(None);
    };
    let prints = |blob: Option<Vec<u8>>| {
        blob.map(|blob| FieldPrints::decode(&blob)).transpose().map_err(unreadable("list of prints"))
    };
    let sides = Sides { desired: prints(desired)?.unwrap_or_default(), acknowledged: prints(acknowledged)? };
    let mut identity = match identity {
        Some(sealed) => Values::decode(&sealer.unseal(IDENTITY, &sealed)?).map_err(unreadable("identity"))?,
        None => Values::default(),
    };
    identity.retain_fields(&[Field::ExternalCustomerId, Field::Email, Field::Sms]);
    if is_learn {
        keep_own_channels(transaction, contact, &sides.desired, &mut identity)?;
    }
    Ok(Some((contact, address, DeedSubject { deed, identity, reteno_id }, sides)))
}

/// An address that a living contact has would lead Reteno to that one.
fn keep_own_channels(
    transaction: &Transaction<'_>,
    contact: i64,
    desired: &FieldPrints,
    identity: &mut Values,
) -> Result<(), CheckpointError> {
    let mut kept = vec![Field::ExternalCustomerId];
    for channel in [Field::Email, Field::Sms] {
        let is_others = desired.get(channel).map_or(Ok(false), |print| is_shared(transaction, contact, print))?;
        if !is_others {
            kept.push(channel);
        }
    }
    identity.retain_fields(&kept);
    Ok(())
}
