//! Opt-outs once more: what ends may have put an address back on the list.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::contact::Field;
use crate::plan::ImportId;

use super::imports::decode_mask;
use super::{Attempt, CheckpointError};

/// A call has ended that may have put an address back on the list: those of its members that want no mail are unsubscribed
/// once more. It matters where the call wrote the address, or was under way when Reteno was told of the no.
pub(super) fn renew_opt_outs(transaction: &Transaction<'_>, import: ImportId) -> Result<(), CheckpointError> {
    const ACTION: &str = "unsubscribe once more";
    let found: Option<(String, Vec<u8>, i64)> = transaction
        .prepare_cached("SELECT call, mask, created_at FROM import WHERE id = ?1")
        .and_then(|mut query| query.query_row([import.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional())
        .attempt(ACTION)?;
    let Some((call, mask, created_at)) = found else { return Ok(()) };
    if call == "unsubscribe" {
        return Ok(());
    }
    let writes_address = decode_mask(&mask).contains(&Field::Email);
    transaction
        .prepare_cached(
            "INSERT INTO deed (source, contact, key, kind, cause, address, identity, reteno_id, state, cycle) \
             SELECT c.source, c.id, c.key, 'unsubscribe', 'again', s.address, c.identity, c.reteno_id, 'due', \
               (SELECT max(id) FROM cycle WHERE source = c.source) \
             FROM member m JOIN contact c ON c.id = m.contact JOIN consent s ON s.contact = c.id \
             WHERE m.import = ?1 AND s.said = 1 AND c.identity IS NOT NULL \
               AND EXISTS (SELECT 1 FROM cycle WHERE source = c.source) \
               AND (?2 OR coalesce(s.lowered_at, ?3) >= ?3) \
             ON CONFLICT (contact, kind, address, segment) DO UPDATE SET renew = iif(import IS NULL, renew, 1)",
        )
        .and_then(|mut insert| insert.execute(params![import.0, writes_address, created_at]))
        .attempt(ACTION)
        .map(|_| ())
}
