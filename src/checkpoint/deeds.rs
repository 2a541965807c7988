//! Deeds: calls that do something about a contact without writing its fields. What is due, and the intent to do it.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Consent, Field, FieldPrints, Fingerprint, Fingerprinter, Values};
use crate::plan::change::Sides;
use crate::plan::deed::{DeedCall, DeedCause, DeedId, DeedKind, DueDeed};
use crate::plan::lock::{Lock, encode_locks, locks_of};
use crate::plan::{ContactId, ImportId, SourceId};

use super::addresses::has_address;
use super::consents::number_of;
use super::due::WAIT_MAX;
use super::exports::BODY;
use super::generation::GENERATION;
use super::holds::free_contact;
use super::imports::CallKind;
use super::open::put_setting;
use super::subjects::{drop_survivor, load_subject, waits_for_opt_out};
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// A deed as it is written down for the first time.
pub(super) struct NewDeed<'a> {
    pub(super) contact: i64,
    pub(super) key: &'a str,
    pub(super) source: SourceId,
    pub(super) kind: DeedKind,
    pub(super) cause: DeedCause,
    pub(super) address: Fingerprint,
    pub(super) segment: i64,
    /// When the read began that asks for it.
    pub(super) cycle: i64,
    /// What the contact's record had said of the address before.
    pub(super) said_before: Option<Consent>,
}

/// Who a deed is about, for its body.
#[derive(Debug)]
pub struct DeedSubject {
    /// The deed.
    pub deed: DeedId,
    /// External id, e-mail and phone.
    pub identity: Values,
    /// Reteno's id.
    pub reteno_id: Option<i64>,
}

/// A call whose intent is on disk.
#[derive(Debug)]
pub struct BegunDeeds {
    /// Its row.
    pub import: ImportId,
    /// The exact body; empty for a call without one.
    pub body: Bytes,
    /// What no other call may share until it has ended.
    pub locks: Vec<Lock>,
}

/// Writes a deed down; one that stands already, and that nobody does yet, is renewed. An opt-out that may go out does so: the
/// guard does not hold what a record has witnessed because it is asked for once more.
pub(super) fn store_deed(transaction: &Transaction<'_>, deed: &NewDeed<'_>) -> Result<(), CheckpointError> {
    const ACTION: &str = "store what is to be done";
    let NewDeed { contact, key, source, kind, cause, address, segment, cycle, said_before } = deed;
    transaction
        .prepare_cached("INSERT OR IGNORE INTO cycle (source, began) VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute(params![source.0, cycle]))
        .attempt(ACTION)?;
    let state = if kind.is_guarded(*cause) { "unjudged" } else { "due" };
    transaction
        .prepare_cached(
            "INSERT INTO deed (source, contact, key, kind, cause, address, segment, identity, reteno_id, state, cycle, said_before) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, c.identity, c.reteno_id, ?8, \
               (SELECT id FROM cycle WHERE source = ?1 AND began = ?9), ?10 FROM contact c WHERE c.id = ?2 \
             ON CONFLICT (contact, kind, address, segment) DO UPDATE SET cause = excluded.cause, \
               state = iif(import IS NULL, excluded.state, state), hold = iif(import IS NULL, NULL, hold), \
               cycle = iif(import IS NULL, excluded.cycle, cycle), \
               identity = coalesce(excluded.identity, identity), expires_at = NULL, not_before = 0, \
               said_before = iif(import IS NULL, excluded.said_before, said_before) \
             WHERE kind <> 'unsubscribe' OR state <> 'due' OR excluded.state = 'due'",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                source.0,
                contact,
                key,
                kind.name(),
                cause.name(),
                address.to_u64().cast_signed(),
                segment,
                state,
                cycle,
                number_of(*said_before)
            ])
        })
        .attempt(ACTION)
        .map(|_| ())
}

/// Forgets what is to be done of a kind about a contact (and one address of it) and nobody does yet; says whether somebody
/// does it.
pub(super) fn drop_idle_deeds(
    transaction: &Transaction<'_>,
    contact: i64,
    kind: DeedKind,
    address: Option<Fingerprint>,
) -> Result<bool, CheckpointError> {
    const ACTION: &str = "take back what was to be done";
    let address = address.map(|print| print.to_u64().cast_signed());
    let dropped = transaction
        .prepare_cached(
            "DELETE FROM deed WHERE contact = ?1 AND kind = ?2 AND address = coalesce(?3, address) AND import IS NULL \
             AND cause <> 'gone'",
        )
        .and_then(|mut delete| delete.execute(params![contact, kind.name(), address]))
        .attempt(ACTION)?;
    if dropped > 0 {
        free_contact(transaction, contact)?;
    }
    transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM deed WHERE contact = ?1 AND kind = ?2 AND address = coalesce(?3, address) \
             AND import IS NOT NULL)",
        )
        .and_then(|mut query| query.query_row(params![contact, kind.name(), address], |row| row.get(0)))
        .attempt(ACTION)
}

impl Checkpoint {
    /// The deeds that may be done now, opt-outs first. A contact whose id in Reteno is not known is named by its external
    /// id; where it has none, Reteno's id is asked for.
    pub fn load_due_deeds(
        &mut self,
        now: Timestamp,
        limit: u32,
        import_age_max: Duration,
    ) -> Result<Vec<DueDeed>, CheckpointError> {
        const ACTION: &str = "look for what is to be done";
        let has_any: bool = self
            .connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM deed WHERE state = 'due' AND import IS NULL)")
            .and_then(|mut query| query.query_row([], |row| row.get(0)))
            .attempt(ACTION)?;
        if !has_any {
            return Ok(Vec::new());
        }
        self.drop_late_raises(now)?;
        self.bury_due(now, import_age_max)?;
        self.forget_known_ids()?;
        let (mut due, mut nameless) = (Vec::new(), Vec::new());
        for kind in DeedKind::ALL {
            self.load_due_kind(kind, (now, limit), (&mut due, &mut nameless))?;
        }
        self.ask_for_ids_of(&nameless, now)?;
        // a raise has an hour; of the others those that were asked for first go first
        due.sort_by_key(|deed| (deed.kind.rank(), deed.id));
        Ok(due)
    }

    /// The oldest of one kind: very many of another, which wait for something, do not hide them.
    fn load_due_kind(
        &self,
        kind: DeedKind,
        (now, limit): (Timestamp, u32),
        (due, nameless): (&mut Vec<DueDeed>, &mut Vec<DeedId>),
    ) -> Result<(), CheckpointError> {
        const ACTION: &str = "look for what is to be done";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT d.id, d.contact, d.segment, coalesce(c.reteno_id, d.reteno_id), d.attempts, d.address, \
                 c.desired, c.acknowledged, d.identity IS NOT NULL FROM deed d LEFT JOIN contact c ON c.id = d.contact \
                 WHERE d.kind = ?4 AND d.state = 'due' AND d.import IS NULL AND (d.not_before <= ?1 OR d.not_before > ?2) \
                 AND (d.kind NOT IN ('delete', 'erase') OR coalesce(c.reteno_id, d.reteno_id) IS NOT NULL \
                   OR c.import IS NULL AND NOT EXISTS \
                     (SELECT 1 FROM deed l WHERE l.contact = d.contact AND l.kind = 'learn')) \
                 AND (d.kind <> 'resubscribe' OR NOT EXISTS (SELECT 1 FROM deed o WHERE o.contact = d.contact \
                   AND o.kind = 'unsubscribe' AND o.import IS NOT NULL)) \
                 ORDER BY d.id LIMIT ?3",
            )
            .attempt(ACTION)?;
        let mut rows = query.query(params![now.0, now.plus(WAIT_MAX).0, limit, kind.name()]).attempt(ACTION)?;
        while let Some(row) = rows.next().attempt(ACTION)? {
            let prints = |blob: Option<Vec<u8>>| {
                blob.map(|blob| FieldPrints::decode(&blob)).transpose().map_err(unreadable("list of prints"))
            };
            let desired = prints(row.get(6).attempt(ACTION)?)?.unwrap_or_default();
            let acknowledged = prints(row.get(7).attempt(ACTION)?)?;
            let reteno_id: Option<i64> = row.get(3).attempt(ACTION)?;
            let id = DeedId(row.get(0).attempt(ACTION)?);
            let sides = Sides { desired, acknowledged };
            // neither Reteno's id nor ours
            if reteno_id.is_none() && !is_named(kind, row.get(8).attempt(ACTION)?, &sides, &self.hash) {
                nameless.push(id);
                continue;
            }
            due.push(DueDeed {
                id,
                contact: ContactId(row.get(1).attempt(ACTION)?),
                kind,
                group: row.get::<_, i64>(2).attempt(ACTION)?.cast_unsigned(),
                reteno_id,
                is_alone: row.get::<_, i64>(4).attempt(ACTION)? > 0,
                locks: locks_of(&sides, reteno_id, &self.hash),
            });
        }
        Ok(())
    }

    /// Writes down the intent to make a call, and counts one that an older copy of the database must not make again, with
    /// one more fsync for the call, whomever it is about. `build` makes its exact body; nothing is stored where it fails, and nothing
    /// may be sent before this returns.
    pub fn begin_deeds<E>(
        &mut self,
        call: &DeedCall,
        kind: CallKind,
        now: Timestamp,
        build: impl FnOnce(&[DeedSubject]) -> Result<Bytes, E>,
    ) -> Result<Result<Option<BegunDeeds>, E>, CheckpointError> {
        const ACTION: &str = "store the intent to do something";
        let sealer = super::seal::Sealer::of(&self.sealing_key);
        let generation = if call.kind.is_counted() { Some(self.next_generation()?) } else { None };
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let mut subjects = Vec::new();
        let mut members = Vec::new();
        for deed in &call.deeds {
            let Some((contact, address, subject, sides)) = load_subject(&transaction, *deed, sealer)? else { continue };
            if drop_survivor(&transaction, *deed, (contact, call.kind))?
                || waits_for_opt_out(&transaction, call.kind, &sides)?
            {
                continue;
            }
            if !has_address(&transaction, (*deed, call.kind, address), &subject.identity, (&self.hash, now))? {
                continue;
            }
            // an opt-out waits for nobody, and nobody for it
            let locks = match call.kind {
                DeedKind::Unsubscribe => Vec::new(),
                DeedKind::Resubscribe | DeedKind::Detach | DeedKind::Delete | DeedKind::Erase | DeedKind::Learn => {
                    locks_of(&sides, subject.reteno_id, &self.hash)
                }
            };
            members.push((*deed, contact, locks));
            subjects.push(subject);
        }
        if subjects.is_empty() {
            transaction.commit().attempt(ACTION)?;
            return Ok(Ok(None));
        }
        let body = match build(&subjects) {
            Ok(body) => body,
            Err(error) => return Ok(Err(error)),
        };
        let sealed = sealer.seal(BODY, &body, &self.random)?;
        let (name, target) = kind.stored();
        transaction
            .execute(
                "INSERT INTO import (state, call, target, mask, body, contacts, created_at, posts, posted_at) \
                 VALUES ('intent', ?1, ?2, x'', ?3, ?4, ?5, 1, ?5)",
                params![name, target, sealed, members.len().cast_signed(), now.0],
            )
            .attempt(ACTION)?;
        let import = ImportId(transaction.last_insert_rowid());
        let locks = store_members(&transaction, import, members)?;
        if let Some(generation) = generation {
            put_setting(&transaction, GENERATION, generation.cast_signed())?;
        }
        transaction.commit().attempt(ACTION)?;
        // before the call: an older copy would not know of it, and might make it again
        if let Some(generation) = generation {
            self.write_generation(generation)?;
        }
        Ok(Ok(Some(BegunDeeds { import, body, locks })))
    }
}

/// Whether a contact can be named to Reteno without Reteno's id of it. A deletion names it by the one external id that
/// Reteno knows it by, if it knows it at all: not by a new one that is still to be written.
fn is_named(kind: DeedKind, has_identity: bool, sides: &Sides, hash: &Fingerprinter) -> bool {
    let field = Field::ExternalCustomerId;
    let known = sides.acknowledged.as_ref().and_then(|known| known.get(field));
    match kind {
        DeedKind::Detach => sides.desired.get(field).is_some(),
        DeedKind::Delete | DeedKind::Erase => {
            let is_settled = |wanted: Fingerprint| {
                let is_value = !wanted.is_unknown() && !hash.is_clear(field, wanted);
                is_value && known.is_none_or(|known| known.is_unknown() || known == wanted)
            };
            has_identity && sides.desired.get(field).is_some_and(is_settled)
        }
        DeedKind::Unsubscribe | DeedKind::Resubscribe | DeedKind::Learn => true,
    }
}

/// Makes a deed's members the call's.
fn store_members(
    transaction: &Transaction<'_>,
    import: ImportId,
    members: Vec<(DeedId, i64, Vec<Lock>)>,
) -> Result<Vec<Lock>, CheckpointError> {
    let mut all_locks = Vec::new();
    for (deed, contact, locks) in members {
        transaction
            .prepare_cached(
                "INSERT INTO member (import, contact, carried, prior, locks, deed) VALUES (?1, ?2, x'', x'', ?3, ?4)",
            )
            .and_then(|mut insert| insert.execute(params![import.0, contact, encode_locks(&locks), deed.0]))
            .and_then(|_| {
                transaction
                    .prepare_cached("UPDATE deed SET import = ?2 WHERE id = ?1")
                    .and_then(|mut update| update.execute(params![deed.0, import.0]))
            })
            .attempt("store the intent to do something")?;
        all_locks.extend(locks);
    }
    Ok(all_locks)
}
