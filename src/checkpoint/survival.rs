//! Whether a contact that counted as gone lives on after all. Asked when its end is written down, and once more right before
//! it is carried out: what was held or waited may be long over.

use rusqlite::{Connection, OptionalExtension, params};

use crate::contact::{Field, FieldPrints};
use crate::plan::deed::DeedKind;

use super::endings::{SIGHTINGS_NEEDED, is_elsewhere, lives_on};
use super::{Attempt, CheckpointError, unreadable};

const ACTION: &str = "look whether a contact lives on";

/// Whether the CRM shows the contact again.
pub(super) fn is_back(connection: &Connection, contact: i64) -> Result<bool, CheckpointError> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM contact WHERE id = ?1 AND sightings < ?2 AND stuck <> 4)")
        .and_then(|mut query| query.query_row(params![contact, SIGHTINGS_NEEDED], |row| row.get(0)))
        .attempt(ACTION)
}

/// Whether a deed about a contact that is gone may not be done any more: the contact is back, or another source, another
/// record with its address, or another contact that is the same in Reteno, is there.
pub(super) fn is_alive(connection: &Connection, contact: i64, kind: DeedKind) -> Result<bool, CheckpointError> {
    if is_back(connection, contact)? {
        return Ok(true);
    }
    let row: Option<(Vec<u8>, Option<i64>)> = connection
        .prepare_cached("SELECT desired, reteno_id FROM contact WHERE id = ?1")
        .and_then(|mut query| query.query_row([contact], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .attempt(ACTION)?;
    let Some((desired, reteno_id)) = row else { return Ok(false) };
    let desired = FieldPrints::decode(&desired).map_err(unreadable("list of prints"))?;
    let is_same_elsewhere: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM contact c JOIN source s ON s.id = c.source \
             WHERE c.reteno_id = ?1 AND c.id <> ?2 AND c.sightings < ?3 AND c.stuck <> 4 AND s.retired = 0)",
        )
        .and_then(|mut query| query.query_row(params![reteno_id, contact, SIGHTINGS_NEEDED], |row| row.get(0)))
        .attempt(ACTION)?;
    Ok(is_same_elsewhere
        || is_elsewhere(connection, contact, desired.get(Field::ExternalCustomerId))?
        || lives_on(connection, contact, kind, &desired)?)
}
