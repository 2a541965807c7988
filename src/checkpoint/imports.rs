//! Imports under way: the intent with its exact body, Reteno's name for it, and when to ask again.

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints, Values, Wanted};
use crate::plan::change::{Sides, carried};
use crate::plan::lock::{Lock, decode_locks, encode_locks, locks_of};
use crate::plan::outcome::Member;
use crate::plan::{ContactId, ImportId};

use super::due::MemberValues;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// Which of Reteno's calls an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// `POST v1/contacts`.
    Bulk,
    /// `POST v1/contact`.
    Upsert,
    /// `PUT v1/contact/{id}` with Reteno's id.
    Update(i64),
}

impl CallKind {
    const fn stored(self) -> (&'static str, Option<i64>) {
        match self {
            Self::Bulk => ("bulk", None),
            Self::Upsert => ("upsert", None),
            Self::Update(id) => ("update", Some(id)),
        }
    }
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportState {
    /// It is to be sent, or was sent and not answered.
    Intent,
    /// Reteno works on it.
    Submitted,
    /// Nobody watches it, and it may still be applied.
    Ghost,
}

/// An import that may still do something.
#[derive(Clone, Debug)]
pub struct OpenImport {
    /// Its row.
    pub id: ImportId,
    /// How far it is.
    pub state: ImportState,
    /// Which call.
    pub call: CallKind,
    /// The fields it writes.
    pub mask: Vec<Field>,
    /// Reteno's name for it.
    pub session: Option<String>,
    /// How many contacts it carries.
    pub contacts: u64,
    /// When the intent was written.
    pub created_at: Timestamp,
    /// How often its body may have reached Reteno.
    pub posts: u32,
    /// When its body last went out.
    pub posted_at: Timestamp,
    /// When an unanswered one is sent again.
    pub repeat_at: Option<Timestamp>,
    /// When a submitted one is asked for.
    pub check_at: Option<Timestamp>,
    /// How often it was asked for.
    pub checks: u32,
    /// Since when Reteno does not know it.
    pub missing_since: Option<Timestamp>,
    /// Refusals in its answer that named no member.
    pub unmatched: usize,
    /// Until when a copy that nobody watches may be applied.
    pub ghost_until: Option<Timestamp>,
}

/// An import whose intent is on disk.
#[derive(Debug)]
pub struct BegunImport {
    /// Its row.
    pub import: ImportId,
    /// The exact body.
    pub body: Bytes,
    /// The identities that no other call may share until it has ended.
    pub locks: Vec<Lock>,
    /// The fields it writes.
    pub mask: Vec<Field>,
}

const COLUMNS: &str = "id, state, call, target, mask, session, contacts, created_at, posts, posted_at, repeat_at, \
                       check_at, checks, missing_since, unmatched, ghost_until";

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
            let locks = locks_of(&sides.desired, member.reteno_id);
            take_member(&transaction, import, member.contact, sides, &mask, &locks)?;
            all_locks.extend(locks);
        }
        transaction.commit().attempt("store an intent")?;
        Ok(Ok(Some(BegunImport { import, body, locks: all_locks, mask })))
    }

    /// The body of an unanswered intent is about to go out again, byte for byte: returns it.
    pub fn repeat_import(&mut self, import: ImportId, now: Timestamp) -> Result<Bytes, CheckpointError> {
        self.connection
            .query_row(
                "UPDATE import SET posts = posts + 1, posted_at = ?2, repeat_at = NULL \
                 WHERE id = ?1 AND state = 'intent' RETURNING body",
                params![import.0, now.0],
                |row| row.get::<_, Vec<u8>>(0),
            )
            .attempt("store that a body goes out again")
            .map(Bytes::from)
    }

    /// It is not known whether Reteno took the body: it goes out again at `repeat_at`, and the copy that may have
    /// arrived is a ghost until `ghost_until`.
    pub fn doubt_import(
        &mut self,
        import: ImportId,
        repeat_at: Timestamp,
        ghost_until: Option<Timestamp>,
    ) -> Result<(), CheckpointError> {
        self.connection
            .execute(
                "UPDATE import SET repeat_at = ?2, ghost_until = max(coalesce(ghost_until, 0), coalesce(?3, ghost_until, 0)) \
                 WHERE id = ?1 AND state = 'intent'",
                params![import.0, repeat_at.0, ghost_until.map(|until| until.0)],
            )
            .attempt("store that an answer was lost")?;
        self.connection
            .execute("UPDATE import SET ghost_until = NULL WHERE id = ?1 AND ghost_until = 0", [import.0])
            .attempt("store that an answer was lost")
            .map(|_| ())
    }

    /// Reteno has named the import: its body is dropped.
    pub fn accept_import(
        &mut self,
        import: ImportId,
        session: &str,
        failures: &[(ContactId, String)],
        unmatched: usize,
        check_at: Timestamp,
    ) -> Result<(), CheckpointError> {
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .attempt("store an import's id")?;
        transaction
            .execute(
                "UPDATE import SET state = 'submitted', body = NULL, session = ?2, unmatched = ?3, check_at = ?4, \
                 repeat_at = NULL, checks = 0 WHERE id = ?1",
                params![import.0, session, unmatched.cast_signed(), check_at.0],
            )
            .attempt("store an import's id")?;
        for (contact, reason) in failures {
            transaction
                .prepare_cached("UPDATE member SET failure = ?3 WHERE import = ?1 AND contact = ?2")
                .and_then(|mut update| update.execute(params![import.0, contact.0, reason]))
                .attempt("store a refusal")?;
        }
        transaction.commit().attempt("store an import's id")
    }

    /// The import still runs: when to ask again, and since when Reteno does not know it.
    pub fn postpone_check(
        &mut self,
        import: ImportId,
        check_at: Timestamp,
        missing_since: Option<Timestamp>,
    ) -> Result<(), CheckpointError> {
        self.connection
            .execute(
                "UPDATE import SET checks = checks + 1, check_at = ?2, missing_since = ?3 WHERE id = ?1",
                params![import.0, check_at.0, missing_since.map(|since| since.0)],
            )
            .attempt("store when to ask for an import again")
            .map(|_| ())
    }

    /// Every import that may still do something, oldest first.
    pub fn load_imports(&self) -> Result<Vec<OpenImport>, CheckpointError> {
        let mut query = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM import ORDER BY id"))
            .attempt("read imports")?;
        let rows = query.query_map([], read_import);
        rows.and_then(Iterator::collect).attempt("read imports")
    }

    /// The single call that brings a contact up to date: by Reteno's id where it is known. `None` where a channel is to
    /// be cleared, which no single call can express.
    pub fn load_single(&self, contact: ContactId) -> Result<Option<CallKind>, CheckpointError> {
        let (id, values): (Option<i64>, Vec<u8>) = self
            .connection
            .query_row(
                "SELECT c.reteno_id, w.vals FROM contact c JOIN waiting w ON w.contact = c.id WHERE c.id = ?1",
                [contact.0],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .attempt("read a contact")?;
        let values = Values::decode(&values).map_err(unreadable("waiting value"))?;
        let clears_channel = [Field::Email, Field::Sms].iter().any(|field| values.get(*field) == Some(&Wanted::Clear));
        Ok((!clears_channel).then(|| id.map_or(CallKind::Upsert, CallKind::Update)))
    }

    /// How often a contact was refused alone.
    pub fn load_attempts(&self, contact: ContactId) -> Result<u32, CheckpointError> {
        self.connection
            .query_row("SELECT attempts FROM contact WHERE id = ?1", [contact.0], |row| row.get(0))
            .attempt("read a contact")
    }

    /// The members of an import.
    pub fn load_members(&self, import: ImportId) -> Result<Vec<Member>, CheckpointError> {
        let mut query = self
            .connection
            .prepare_cached("SELECT contact, carried, locks, failure FROM member WHERE import = ?1 ORDER BY contact")
            .attempt("read an import's members")?;
        let mut rows = query.query([import.0]).attempt("read an import's members")?;
        let mut members = Vec::new();
        while let Some(row) = rows.next().attempt("read an import's members")? {
            let carried: Vec<u8> = row.get(1).attempt("read a member")?;
            let locks: Vec<u8> = row.get(2).attempt("read a member")?;
            members.push(Member {
                contact: ContactId(row.get(0).attempt("read a member")?),
                carried: FieldPrints::decode(&carried).map_err(unreadable("list of prints"))?,
                locks: decode_locks(&locks),
                failure: row.get(3).attempt("read a member")?,
            });
        }
        Ok(members)
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
    contact: ContactId,
    sides: &Sides,
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

fn encode_mask(mask: &[Field]) -> Vec<u8> {
    mask.iter().flat_map(|field| field.code().to_le_bytes()).collect()
}

fn decode_mask(bytes: &[u8]) -> Vec<Field> {
    let (codes, _) = bytes.as_chunks::<4>();
    codes.iter().filter_map(|code| Field::from_code(u32::from_le_bytes(*code))).collect()
}

fn read_import(row: &Row<'_>) -> rusqlite::Result<OpenImport> {
    let state: String = row.get("state")?;
    let call: String = row.get("call")?;
    let mask: Vec<u8> = row.get("mask")?;
    let time = |name: &str| row.get::<_, Option<i64>>(name).map(|time| time.map(Timestamp));
    Ok(OpenImport {
        id: ImportId(row.get("id")?),
        // the CHECK constraints of the table allow no other words
        state: match state.as_str() {
            "intent" => ImportState::Intent,
            "submitted" => ImportState::Submitted,
            _ => ImportState::Ghost,
        },
        call: match (call.as_str(), row.get::<_, Option<i64>>("target")?) {
            ("update", Some(id)) => CallKind::Update(id),
            ("upsert", _) => CallKind::Upsert,
            _ => CallKind::Bulk,
        },
        mask: decode_mask(&mask),
        session: row.get("session")?,
        contacts: row.get::<_, i64>("contacts")?.cast_unsigned(),
        created_at: Timestamp(row.get("created_at")?),
        posts: row.get("posts")?,
        posted_at: Timestamp(row.get("posted_at")?),
        repeat_at: time("repeat_at")?,
        check_at: time("check_at")?,
        checks: row.get("checks")?,
        missing_since: time("missing_since")?,
        unmatched: usize::try_from(row.get::<_, i64>("unmatched")?).unwrap_or(0),
        ghost_until: time("ghost_until")?,
    })
}
