//! Imports under way: the intent with its exact body, Reteno's name for it, and when to ask again.

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints, Wanted};
use crate::plan::lock::decode_locks;
use crate::plan::outcome::Member;
use crate::plan::{ContactId, ImportId};

use super::exports::{BODY, ExportLink};
use super::seal::Sealer;
use super::waiting::open_values;
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
    /// `PUT v1/contact/{id}/subscriptions` with Reteno's id.
    Categories(i64),
    /// `POST v1/contact/subscribe`.
    Subscribe,
    /// `POST v1/contacts/upload`.
    Upload,
    /// `POST v1/contacts` that writes nothing, to find Reteno's ids out.
    Learn,
    /// `POST v1/emails/unsubscribed/add`.
    Unsubscribe,
    /// `POST v1/emails/unsubscribed/delete`.
    Resubscribe,
    /// `POST v1/group/{id}/contacts/detach` with Reteno's id of the segment.
    Detach(i64),
    /// `DELETE v1/contact/{id}`.
    Delete(i64),
    /// `DELETE v1/contact/{id}?erase=true`.
    Erase(i64),
    /// `DELETE v1/contact?externalCustomerId=`; the stored body is the external id.
    DeleteNamed,
    /// The same with `erase=true`.
    EraseNamed,
}

/// The stored target of a call that names its contact by the external id: Reteno gives no contact this id.
const NAMED: i64 = 0;

impl CallKind {
    pub(super) const fn stored(self) -> (&'static str, Option<i64>) {
        match self {
            Self::Bulk => ("bulk", None),
            Self::Upsert => ("upsert", None),
            Self::Update(id) => ("update", Some(id)),
            Self::Categories(id) => ("categories", Some(id)),
            Self::Subscribe => ("subscribe", None),
            Self::Upload => ("upload", None),
            Self::Learn => ("learn", None),
            Self::Unsubscribe => ("unsubscribe", None),
            Self::Resubscribe => ("resubscribe", None),
            Self::Detach(group) => ("detach", Some(group)),
            Self::Delete(id) => ("delete", Some(id)),
            Self::Erase(id) => ("erase", Some(id)),
            Self::DeleteNamed => ("delete", Some(NAMED)),
            Self::EraseNamed => ("erase", Some(NAMED)),
        }
    }

    fn from_stored(name: &str, target: Option<i64>) -> Self {
        match (name, target) {
            ("update", Some(id)) => Self::Update(id),
            ("categories", Some(id)) => Self::Categories(id),
            ("detach", Some(group)) => Self::Detach(group),
            ("delete", Some(NAMED)) => Self::DeleteNamed,
            ("erase", Some(NAMED)) => Self::EraseNamed,
            ("delete", Some(id)) => Self::Delete(id),
            ("erase", Some(id)) => Self::Erase(id),
            ("upsert", _) => Self::Upsert,
            ("subscribe", _) => Self::Subscribe,
            ("upload", _) => Self::Upload,
            ("learn", _) => Self::Learn,
            ("unsubscribe", _) => Self::Unsubscribe,
            ("resubscribe", _) => Self::Resubscribe,
            // the CHECK constraints of the table allow no other words
            _ => Self::Bulk,
        }
    }

    /// Its word: what people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.stored().0
    }

    /// Whether it does deeds, and so writes no fields.
    #[must_use]
    pub const fn is_deed(self) -> bool {
        match self {
            Self::Learn
            | Self::Unsubscribe
            | Self::Resubscribe
            | Self::Detach(_)
            | Self::Delete(_)
            | Self::Erase(_)
            | Self::DeleteNamed
            | Self::EraseNamed => true,
            Self::Bulk | Self::Upsert | Self::Update(_) | Self::Categories(_) | Self::Subscribe | Self::Upload => false,
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
    /// It may start workflows: never repeated by itself.
    pub fires: bool,
    /// Its contacts are found by Reteno's id, since their external id changes.
    pub renames: bool,
    /// Reteno's name for it.
    pub session: Option<String>,
    /// How many contacts it carries.
    pub contacts: u64,
    /// When the intent was written.
    pub created_at: Timestamp,
    /// The link in its body, where it is a file.
    pub link: Option<ExportLink>,
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

const COLUMNS: &str = "id, state, call, target, mask, fires, renames, session, contacts, created_at, posts, posted_at, repeat_at, \
                       check_at, checks, missing_since, unmatched, ghost_until, link, link_until";

impl Checkpoint {
    /// The body of an unanswered intent is about to go out again, byte for byte: returns it; `None` where it is none any
    /// more.
    pub fn repeat_import(&mut self, import: ImportId, now: Timestamp) -> Result<Option<Bytes>, CheckpointError> {
        let sealed: Option<Vec<u8>> = self
            .connection
            .query_row(
                "UPDATE import SET posts = posts + 1, posted_at = ?2, repeat_at = NULL \
                 WHERE id = ?1 AND state = 'intent' RETURNING body",
                params![import.0, now.0],
                |row| row.get(0),
            )
            .optional()
            .attempt("store that a body goes out again")?;
        let Some(sealed) = sealed else { return Ok(None) };
        self.even_generations()?;
        Ok(Some(Bytes::from(self.unseal(BODY, &sealed)?)))
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
                 repeat_at = NULL, checks = 0 WHERE id = ?1 AND state = 'intent'",
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
    /// be cleared, which no single call can express, where a part of the contact is held, or where nothing waits any more.
    pub fn load_single(&self, contact: ContactId) -> Result<Option<CallKind>, CheckpointError> {
        let waiting: Option<(Option<i64>, Vec<u8>, Vec<u8>)> = self
            .connection
            .query_row(
                "SELECT c.reteno_id, w.vals, c.desired FROM contact c JOIN waiting w ON w.contact = c.id \
                 WHERE c.id = ?1 AND c.held = 0",
                [contact.0],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
            .attempt("read a contact")?;
        let Some((id, values, desired)) = waiting else { return Ok(None) };
        let values = open_values(contact.0, &values, Sealer::of(&self.sealing_key))?;
        let clears_channel = [Field::Email, Field::Sms].iter().any(|field| values.get(*field) == Some(&Wanted::Clear));
        // Reteno may wipe what such a call leaves out: all that is wanted must be at hand
        let desired = FieldPrints::decode(&desired).map_err(unreadable("list of prints"))?;
        let is_whole =
            desired.iter().all(|(field, _)| field.is_segment() || !field.is_bulk() || values.get(field).is_some());
        Ok((!clears_channel && is_whole).then(|| id.map_or(CallKind::Upsert, CallKind::Update)))
    }

    /// Whether an import carries a part of a batch that was halved before.
    pub fn is_part(&self, import: ImportId) -> Result<bool, CheckpointError> {
        self.connection
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM member m JOIN contact c ON c.id = m.contact \
                 WHERE m.import = ?1 AND c.split IS NOT NULL)",
                [import.0],
                |row| row.get(0),
            )
            .attempt("read an import's members")
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

pub(super) fn encode_mask(mask: &[Field]) -> Vec<u8> {
    mask.iter().flat_map(|field| field.code().to_le_bytes()).collect()
}

pub(super) fn decode_mask(bytes: &[u8]) -> Vec<Field> {
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
        call: CallKind::from_stored(&call, row.get("target")?),
        mask: decode_mask(&mask),
        fires: row.get("fires")?,
        renames: row.get("renames")?,
        session: row.get("session")?,
        contacts: row.get::<_, i64>("contacts")?.cast_unsigned(),
        link: row
            .get::<_, Option<[u8; 32]>>("link")?
            .zip(time("link_until")?)
            .map(|(hash, until)| ExportLink { hash, until }),
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
