//! The intent to send: from its commit on, nobody knows what Reteno holds of the fields it carries.

use bytes::Bytes;
use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints, Values};
use crate::plan::change::{Sides, carried};
use crate::plan::lock::{Lock, encode_locks, locks_of};
use crate::plan::{ContactId, ImportId};

use super::due::MemberValues;
use super::imports::{CallKind, encode_mask};
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// An import whose intent is on disk.
#[derive(Debug)]
pub struct BegunImport {
    /// Its row.
    pub import: ImportId,
    /// The exact body.
    pub body: Bytes,
    /// The identities that no other call may share until it has ended.
    pub locks: Vec<Lock>,
    /// Its members.
    pub contacts: Vec<ContactId>,
}

impl Checkpoint {
    /// Writes the intent to send `contacts` with the fields `mask` (a single call carries all that is desired, whatever
    /// `mask` says): from this commit on nobody knows what Reteno holds of them. `build` makes the exact body of the members that are still due with just these fields; `None` where no
    /// member is left, and nothing is stored where it fails. Nothing may be sent before this returns.
    pub fn begin_import<E>(
        &mut self,
        call: CallKind,
        mask: &[Field],
        contacts: &[ContactId],
        now: Timestamp,
        build: impl FnOnce(&[MemberValues]) -> Result<Bytes, E>,
    ) -> Result<Result<Option<BegunImport>, E>, CheckpointError> {
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .attempt("store an intent")?;
        let mut members = Vec::with_capacity(contacts.len());
        let mut rows = Vec::with_capacity(contacts.len());
        for contact in contacts {
            if let Some((values, sides)) = load_member(&transaction, *contact, mask, call)? {
                members.push(values);
                rows.push(sides);
            }
        }
        let Some(first) = rows.first() else {
            // what was found out about contacts without values stays
            transaction.commit().attempt("store an intent")?;
            return Ok(Ok(None));
        };
        let mask = match call {
            CallKind::Bulk => mask.to_vec(),
            CallKind::Upsert | CallKind::Update(_) => first.desired.iter().map(|(field, _)| field).collect(),
        };
        let body = match build(&members) {
            Ok(body) => body,
            Err(error) => return Ok(Err(error)),
        };
        let (kind, target) = call.stored();
        transaction
            .execute(
                "INSERT INTO import (state, call, target, mask, body, contacts, created_at, posts, posted_at) \
                 VALUES ('intent', ?1, ?2, ?3, ?4, ?5, ?6, 1, ?6)",
                params![kind, target, encode_mask(&mask), body.as_ref(), members.len().cast_signed(), now.0],
            )
            .attempt("store an intent")?;
        let import = ImportId(transaction.last_insert_rowid());
        let mut all_locks = Vec::new();
        for (member, sides) in members.iter().zip(&rows) {
            let locks = locks_of(sides, member.reteno_id, &self.hash);
            take_member(&transaction, import, (member.contact, sides), &mask, &locks)?;
            all_locks.extend(locks);
        }
        transaction.commit().attempt("store an intent")?;
        let contacts = members.into_iter().map(|member| member.contact).collect();
        Ok(Ok(Some(BegunImport { import, body, locks: all_locks, contacts })))
    }
}

fn load_member(
    transaction: &Transaction<'_>,
    contact: ContactId,
    mask: &[Field],
    call: CallKind,
) -> Result<Option<(MemberValues, Sides)>, CheckpointError> {
    type Stored = (Vec<u8>, Vec<u8>, Vec<u8>, Option<i64>, u32);
    let stored: Option<Stored> = transaction
        .prepare_cached(
            "SELECT c.desired, c.acknowledged, w.vals, c.reteno_id, c.attempts \
             FROM contact c JOIN waiting w ON w.contact = c.id \
             WHERE c.id = ?1 AND c.acknowledged IS NOT NULL AND c.import IS NULL AND c.stuck = 0",
        )
        .and_then(|mut query| {
            query
                .query_row([contact.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
                .optional()
        })
        .attempt("read a contact that is due")?;
    let Some((desired, acknowledged, values, reteno_id, attempts)) = stored else { return Ok(None) };
    let sides = Sides {
        desired: FieldPrints::decode(&desired).map_err(unreadable("list of prints"))?,
        acknowledged: Some(FieldPrints::decode(&acknowledged).map_err(unreadable("list of prints"))?),
    };
    let due = sides.due();
    let is_still_due = match call {
        CallKind::Bulk => due == mask,
        CallKind::Upsert | CallKind::Update(_) => !due.is_empty(),
    };
    let values = Values::decode(&values).map_err(unreadable("waiting value"))?;
    if due.iter().any(|field| values.get(*field).is_none()) {
        starve(transaction, contact)?;
        return Ok(None);
    }
    Ok(is_still_due.then_some((MemberValues { contact, values, reteno_id, attempts }, sides)))
}

/// A value that is due is not at hand: only a full read of the source brings it back.
fn starve(transaction: &Transaction<'_>, contact: ContactId) -> Result<(), CheckpointError> {
    transaction
        .execute("UPDATE contact SET stuck = 2 WHERE id = ?1", [contact.0])
        .and_then(|_| {
            transaction.execute(
                "UPDATE source SET full_read_wanted = 1 WHERE id = (SELECT source FROM contact WHERE id = ?1)",
                [contact.0],
            )
        })
        .attempt("ask for a full read")
        .map(|_| ())
}

fn take_member(
    transaction: &Transaction<'_>,
    import: ImportId,
    (contact, sides): (ContactId, &Sides),
    mask: &[Field],
    locks: &[Lock],
) -> Result<(), CheckpointError> {
    let mut prior = sides.known();
    prior.retain_fields(mask);
    let carried = carried(&sides.desired, mask);
    transaction
        .prepare_cached("INSERT INTO member (import, contact, carried, prior, locks) VALUES (?1, ?2, ?3, ?4, ?5)")
        .and_then(|mut insert| {
            insert.execute(params![import.0, contact.0, carried.encode(), prior.encode(), encode_locks(locks)])
        })
        .attempt("store a member of an import")?;
    let known = sides.submitted(mask).known();
    transaction
        .prepare_cached("UPDATE contact SET import = ?2, acknowledged = ?3 WHERE id = ?1")
        .and_then(|mut update| update.execute(params![contact.0, import.0, known.encode()]))
        .attempt("store that a contact is under way")
        .map(|_| ())
}
