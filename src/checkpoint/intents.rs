//! The intent to send: from its commit on, nobody knows what Reteno holds of the fields it carries.

use bytes::Bytes;
use rusqlite::{Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, Fingerprinter};
use crate::plan::batch::Batch;
use crate::plan::change::{Sides, carried};
use crate::plan::lock::{Lock, encode_locks, locks_of};
use crate::plan::{ContactId, ImportId, SourceId};

use super::due::MemberValues;
use super::exports::{BODY, ExportLink};
use super::imports::{CallKind, encode_mask};
use super::seal::Sealer;
use super::sendable::{COLUMNS, SendRules, Sendable};
use super::siblings::{Channel, channel_of, has_channel, list_without_channel, locks_of_borrowed};
use super::waiting::open_values;
use super::wanted::want_contact;
use super::{Attempt, Checkpoint, CheckpointError};

/// An import whose intent is on disk.
#[derive(Debug)]
pub struct BegunImport {
    /// Its row.
    pub import: ImportId,
    /// The exact body.
    pub body: Bytes,
    /// Its members, each with the identities that no other call may share until it has ended.
    pub members: Vec<(ContactId, Vec<Lock>)>,
}

/// What a call says.
pub struct Letter {
    /// The exact body.
    pub body: Bytes,
    /// The link to a file that stands in it: then the body is kept sealed.
    pub link: Option<ExportLink>,
}

impl From<Bytes> for Letter {
    fn from(body: Bytes) -> Self {
        Self { body, link: None }
    }
}

impl Checkpoint {
    /// Writes the intent to send a batch (a single call carries all that is desired, whatever its mask says): from this
    /// commit on nobody knows what Reteno holds of its fields. `build` makes the exact body of the members that are still
    /// due in just this way; `None` where no member is left, and nothing is stored where it fails. Nothing may be sent
    /// before this returns.
    pub fn begin_import<L: Into<Letter>, E>(
        &mut self,
        call: CallKind,
        batch: &Batch,
        rules: &SendRules,
        now: Timestamp,
        build: impl FnOnce(&[MemberValues]) -> Result<L, E>,
    ) -> Result<Result<Option<BegunImport>, E>, CheckpointError> {
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .attempt("store an intent")?;
        let (mut members, mut rows) = (Vec::new(), Vec::new());
        let sealer = Sealer::of(&self.sealing_key);
        let lookup = Lookup { transaction: &transaction, batch, rules, call, hash: &self.hash, sealer, now };
        for contact in &batch.contacts {
            if let Some((values, sides)) = lookup.load_member(*contact)? {
                members.push(values);
                rows.push(sides);
            }
        }
        let Some(first) = rows.first() else {
            // what was found out about contacts without values stays
            transaction.commit().attempt("store an intent")?;
            return Ok(Ok(None));
        };
        let mask = mask_of(call, batch, first);
        let Letter { body, link } = match build(&members) {
            Ok(letter) => letter.into(),
            Err(error) => return Ok(Err(error)),
        };
        let fires = batch.flavor.fires || call == CallKind::Subscribe;
        let intent = Intent { call, mask: &mask, fires, renames: batch.flavor.renames };
        let sealed = sealer.seal(BODY, &body, &self.random)?;
        let import = intent.store(&transaction, &sealed, members.len(), now)?;
        let mut locked = Vec::new();
        for (member, sides) in members.iter().zip(&rows) {
            let mut locks = locks_of(sides, member.reteno_id, &self.hash);
            if !has_channel(&sides.desired, &self.hash) {
                locks.extend(locks_of_borrowed(&member.values, &self.hash));
            }
            take_member(&transaction, import, (member.contact, sides), &mask, &locks)?;
            locked.push((member.contact, locks));
            if fires {
                transaction
                    .execute("UPDATE contact SET fired = 1 WHERE id = ?1", [member.contact.0])
                    .attempt("store that a workflow may start")?;
            }
        }
        if let Some(link) = link {
            link.store(&transaction, import)?;
        }
        transaction.commit().attempt("store an intent")?;
        Ok(Ok(Some(BegunImport { import, body, members: locked })))
    }
}

/// The fields that a call writes: a single one carries all that is desired of the contact itself.
fn mask_of(call: CallKind, batch: &Batch, only: &Sides) -> Vec<Field> {
    match call {
        CallKind::Upsert | CallKind::Update(_) => {
            let fields = only.desired.iter().map(|(field, _)| field);
            fields.filter(|field| !field.is_segment() && field.is_bulk()).collect()
        }
        CallKind::Bulk
        | CallKind::Categories(_)
        | CallKind::Subscribe
        | CallKind::Upload
        | CallKind::Learn
        | CallKind::Unsubscribe
        | CallKind::Resubscribe
        | CallKind::Detach(_)
        | CallKind::Delete(_)
        | CallKind::Erase(_)
        | CallKind::DeleteNamed
        | CallKind::EraseNamed => batch.mask.clone(),
    }
}

struct Intent<'a> {
    call: CallKind,
    mask: &'a [Field],
    fires: bool,
    renames: bool,
}

impl Intent<'_> {
    fn store(
        &self,
        transaction: &Transaction<'_>,
        body: &[u8],
        members: usize,
        now: Timestamp,
    ) -> Result<ImportId, CheckpointError> {
        let (kind, target) = self.call.stored();
        transaction
            .execute(
                "INSERT INTO import (state, call, target, mask, body, contacts, created_at, posts, posted_at, fires, renames) \
                 VALUES ('intent', ?1, ?2, ?3, ?4, ?5, ?6, 1, ?6, ?7, ?8)",
                params![
                    kind,
                    target,
                    encode_mask(self.mask),
                    body,
                    members.cast_signed(),
                    now.0,
                    self.fires,
                    self.renames,
                ],
            )
            .attempt("store an intent")?;
        Ok(ImportId(transaction.last_insert_rowid()))
    }
}

/// Looks the members of a batch up once more, in the transaction that takes them.
struct Lookup<'a> {
    transaction: &'a Transaction<'a>,
    batch: &'a Batch,
    rules: &'a SendRules,
    call: CallKind,
    hash: &'a Fingerprinter,
    sealer: Sealer,
    now: Timestamp,
}

impl Lookup<'_> {
    fn load_member(&self, contact: ContactId) -> Result<Option<(MemberValues, Sides)>, CheckpointError> {
        const ACTION: &str = "read a contact that is due";
        let mut query = self
            .transaction
            .prepare_cached(&format!(
                "SELECT {COLUMNS}, w.vals, c.attempts FROM contact c JOIN waiting w ON w.contact = c.id \
                 WHERE c.id = ?1 AND c.acknowledged IS NOT NULL AND c.import IS NULL AND c.stuck = 0 AND c.judged = 1"
            ))
            .attempt(ACTION)?;
        let mut rows = query.query([contact.0]).attempt(ACTION)?;
        let Some(row) = rows.next().attempt(ACTION)? else { return Ok(None) };
        let Some(sendable) = Sendable::read(row, self.transaction, self.rules, self.hash, self.now)? else {
            return Ok(None);
        };
        let Sendable { sides, reteno_id, mask, flavor } = sendable;
        let is_single = matches!(self.call, CallKind::Upsert | CallKind::Update(_));
        // a single call carries all that is desired, and so what is held
        if is_single && row.get::<_, i64>(6).attempt(ACTION)? > 0 {
            return Ok(None);
        }
        let is_still_due = is_single || (mask == self.batch.mask && flavor == self.batch.flavor);
        let values: Vec<u8> = row.get(14).attempt(ACTION)?;
        let mut values = open_values(contact.0, &values, self.sealer)?;
        let (source, attempts) = (row.get(1).attempt(ACTION)?, row.get(15).attempt(ACTION)?);
        drop(rows);
        if mask.iter().any(|field| values.get(*field).is_none()) {
            starve(self.transaction, contact)?;
            return Ok(None);
        }
        match channel_of(self.transaction, (contact, &sides.desired), self.sealer, self.hash)? {
            Channel::Own => {}
            Channel::Borrowed(channel) => values.merge(channel),
            // its turn comes when the other one has been answered
            Channel::Awaited => return Ok(None),
            Channel::Nowhere => {
                list_without_channel(self.transaction, contact, self.now.0)?;
                return Ok(None);
            }
        }
        let source = SourceId(source);
        Ok(is_still_due.then_some((MemberValues { contact, source, values, reteno_id, attempts }, sides)))
    }
}

/// A value that is due is not at hand: only reading the record again brings it back.
fn starve(transaction: &Transaction<'_>, contact: ContactId) -> Result<(), CheckpointError> {
    transaction
        .execute("UPDATE contact SET stuck = 2 WHERE id = ?1", [contact.0])
        .attempt("note that values are missing")?;
    want_contact(transaction, contact.0)
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
        .prepare_cached(
            "INSERT INTO member (import, contact, carried, prior, locks, is_new) \
             SELECT ?1, ?2, ?3, ?4, ?5, told = 0 FROM contact WHERE id = ?2",
        )
        .and_then(|mut insert| {
            insert.execute(params![import.0, contact.0, carried.encode(), prior.encode(), encode_locks(locks)])
        })
        .attempt("store a member of an import")?;
    let known = sides.submitted(mask).known();
    transaction
        .prepare_cached("UPDATE contact SET import = ?2, acknowledged = ?3, told = 1 WHERE id = ?1")
        .and_then(|mut update| update.execute(params![contact.0, import.0, known.encode()]))
        .attempt("store that a contact is under way")
        .map(|_| ())
}
