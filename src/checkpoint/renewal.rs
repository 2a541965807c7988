//! Opt-outs once more: what ends may have put an address back on the list.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Transaction, params};

use crate::contact::{Field, Fingerprint};
use crate::plan::ImportId;
use crate::plan::lock::{LockKind, decode_locks};

use super::imports::decode_mask;
use super::{Attempt, CheckpointError};

const ACTION: &str = "unsubscribe once more";

/// What a deed is renewed by. One that waits, or that the guard holds, is not touched.
const RENEWED: &str = "INSERT INTO deed (source, contact, key, kind, cause, address, segment, identity, reteno_id, state, cycle) \
                       SELECT c.source, c.id, c.key, 'unsubscribe', 'again', s.address, ";
const RENEWED_STATE: &str = ", c.reteno_id, 'due', (SELECT max(id) FROM cycle WHERE source = c.source) ";
const RENEWED_ONCE: &str =
    " ON CONFLICT (contact, kind, address, segment) DO UPDATE SET renew = iif(import IS NULL, renew, 1)";

/// A call has ended that may have put an address back on the list: whoever wants no mail to an address that it carried is
/// unsubscribed once more, also where another contact's call carried it. Where it wrote no address, that matters only for
/// those who said no while it was under way.
pub(super) fn renew_opt_outs(transaction: &Transaction<'_>, import: ImportId) -> Result<(), CheckpointError> {
    let found: Option<(String, Vec<u8>, i64)> = transaction
        .prepare_cached("SELECT call, mask, created_at FROM import WHERE id = ?1")
        .and_then(|mut query| query.query_row([import.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional())
        .attempt(ACTION)?;
    let Some((call, mask, created_at)) = found else { return Ok(()) };
    let has_any: bool = transaction
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM consent WHERE said = 1) OR EXISTS (SELECT 1 FROM told)")
        .and_then(|mut query| query.query_row([], |row| row.get(0)))
        .attempt(ACTION)?;
    if call == "unsubscribe" || !has_any {
        return Ok(());
    }
    // a baseline asks for no deed, and so leaves no cycle
    transaction
        .prepare_cached(
            "INSERT INTO cycle (source, began) SELECT id, ?1 FROM source \
             WHERE NOT EXISTS (SELECT 1 FROM cycle WHERE cycle.source = source.id)",
        )
        .and_then(|mut insert| insert.execute([created_at]))
        .attempt(ACTION)?;
    transaction
        .prepare_cached(&format!(
            "{RENEWED}1, s.identity{RENEWED_STATE}FROM member m JOIN contact c ON c.id = m.contact \
             JOIN told s ON s.contact = c.id WHERE m.import = ?1{RENEWED_ONCE}"
        ))
        .and_then(|mut insert| insert.execute([import.0]))
        .attempt(ACTION)?;
    let writes_address =
        decode_mask(&mask).contains(&Field::Email) || matches!(call.as_str(), "resubscribe" | "learn" | "subscribe");
    if writes_address {
        return renew_addresses(transaction, import);
    }
    transaction
        .prepare_cached(&format!(
            "{RENEWED}0, c.identity{RENEWED_STATE}FROM member m JOIN contact c ON c.id = m.contact \
             JOIN consent s ON s.contact = c.id WHERE m.import = ?1 AND s.said = 1 AND c.identity IS NOT NULL \
             AND coalesce(s.lowered_at, ?2) >= ?2{RENEWED_ONCE}"
        ))
        .and_then(|mut insert| insert.execute(params![import.0, created_at]))
        .attempt(ACTION)
        .map(|_| ())
}

fn renew_addresses(transaction: &Transaction<'_>, import: ImportId) -> Result<(), CheckpointError> {
    let mut addresses = BTreeSet::new();
    {
        let mut query = transaction.prepare_cached("SELECT locks FROM member WHERE import = ?1").attempt(ACTION)?;
        let mut rows = query.query([import.0]).attempt(ACTION)?;
        while let Some(row) = rows.next().attempt(ACTION)? {
            let locks: Vec<u8> = row.get(0).attempt(ACTION)?;
            let emails = decode_locks(&locks).into_iter().filter(|lock| lock.kind == LockKind::Email);
            // the hash of an address is its print
            addresses.extend(emails.map(|lock| lock.hash.cast_signed()));
        }
    }
    let mut renew = transaction
        .prepare_cached(&format!(
            "{RENEWED}0, c.identity{RENEWED_STATE}FROM consent s JOIN contact c ON c.id = s.contact \
             WHERE s.address = ?1 AND s.said = 1 AND c.identity IS NOT NULL{RENEWED_ONCE}"
        ))
        .attempt(ACTION)?;
    for address in addresses {
        renew.execute([address]).attempt(ACTION)?;
    }
    Ok(())
}

/// The contacts that `which` names are about to be forgotten to have said no. Where that was told, or is about to be, and a
/// call about them has not ended, the address is kept apart until it has.
pub(super) fn remember_told(
    transaction: &Transaction<'_>,
    which: &str,
    values: impl rusqlite::Params,
) -> Result<(), CheckpointError> {
    transaction
        .prepare_cached(&format!(
            "INSERT OR IGNORE INTO told (contact, address, identity) SELECT s.contact, s.address, c.identity \
             FROM consent s JOIN contact c ON c.id = s.contact \
             WHERE {which} AND s.said = 1 AND c.identity IS NOT NULL AND {IS_UNDER_WAY} \
               AND (s.lowered_at IS NOT NULL OR EXISTS (SELECT 1 FROM deed d WHERE d.contact = s.contact \
                 AND d.kind = 'unsubscribe' AND d.address = s.address AND d.state = 'due'))"
        ))
        .and_then(|mut insert| insert.execute(values))
        .attempt("keep an address that was told to get no mail")
        .map(|_| ())
}

/// The same for an address that a contact has just left, of which its record says nothing: `identity` still names it.
pub(super) fn keep_told(
    transaction: &Transaction<'_>,
    contact: i64,
    address: Fingerprint,
) -> Result<(), CheckpointError> {
    transaction
        .prepare_cached(&format!(
            "INSERT OR IGNORE INTO told (contact, address, identity) SELECT s.contact, ?2, s.identity \
             FROM (SELECT id AS contact, identity FROM contact WHERE id = ?1) s \
             WHERE s.identity IS NOT NULL AND {IS_UNDER_WAY}"
        ))
        .and_then(|mut insert| insert.execute(params![contact, address.to_u64().cast_signed()]))
        .attempt("keep an address that was told to get no mail")
        .map(|_| ())
}

/// A call about the contact of `s` has not ended. `CROSS JOIN` has `SQLite` go by the calls, which are few, and look each
/// contact up in them: 17 µs with 96,000 members of them. By itself it goes by all the members: 18 ms.
pub(super) const IS_UNDER_WAY: &str =
    "EXISTS (SELECT 1 FROM import i CROSS JOIN member m ON m.import = i.id AND m.contact = s.contact)";

/// Forgets the addresses that no call can undo any more.
pub(super) fn forget_told(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(&format!("DELETE FROM told AS s WHERE NOT {IS_UNDER_WAY}"))
        .and_then(|mut delete| delete.execute([]))
}
