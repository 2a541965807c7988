//! The address that an opt-out or a raise names: always the one that was asked for.

use rusqlite::{Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, Fingerprinter, Values};
use crate::plan::SourceId;
use crate::plan::deed::{DeedId, DeedKind};

use super::settle_deeds::REFUSED_WAIT_MS;
use super::wanted::want_record;
use super::{Attempt, CheckpointError};

/// Whether what is at hand names the address (a print) that a deed is about, and not one that its contact has by now. Where
/// it does not, a full read of the source is asked for, which brings it.
pub(super) fn has_address(
    transaction: &Transaction<'_>,
    (deed, kind, address): (DeedId, DeedKind, i64),
    identity: &Values,
    (hash, now): (&Fingerprinter, Timestamp),
) -> Result<bool, CheckpointError> {
    const ACTION: &str = "ask for an address";
    let is_named = match kind {
        DeedKind::Unsubscribe | DeedKind::Resubscribe => identity
            .get(Field::Email)
            .is_some_and(|wanted| hash.field(Field::Email, wanted).to_u64().cast_signed() == address),
        DeedKind::Detach | DeedKind::Delete | DeedKind::Erase | DeedKind::Learn => true,
    };
    if !is_named {
        transaction
            .execute(
                "UPDATE deed SET attempts = attempts + 1, not_before = ?2 WHERE id = ?1",
                params![deed.0, now.0 + REFUSED_WAIT_MS],
            )
            .attempt(ACTION)?;
        let (source, key): (i64, String) = transaction
            .query_row("SELECT source, key FROM deed WHERE id = ?1", [deed.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .attempt(ACTION)?;
        want_record(transaction, SourceId(source), &key, false)?;
    }
    Ok(is_named)
}
