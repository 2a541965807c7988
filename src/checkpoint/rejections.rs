//! What could not be sent, and why. Never a value.

use rusqlite::{Connection, params};

use crate::clock::Timestamp;
use crate::contact::Field;
use crate::plan::SourceId;

use super::{Attempt, Checkpoint, CheckpointError};

/// Who refused what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RejectionKind {
    /// The record cannot become a contact.
    Record,
    /// One field of it was left out; the rest was sent.
    Field,
    /// Reteno refused the contact.
    Reteno,
    /// Reteno finished an import without the contact: deleted there, most likely.
    Skipped,
    /// Another contact with the same e-mail or phone is sent in its place.
    Shared,
    /// It was erased, and the CRM shows it again.
    Erased,
    /// A call that starts something got no answer: it may have been sent.
    Doubtful,
    /// A consent that was newly given could not be told to Reteno in time.
    Consent,
}

impl RejectionKind {
    const ALL: [Self; 8] = [
        Self::Record,
        Self::Field,
        Self::Reteno,
        Self::Skipped,
        Self::Shared,
        Self::Erased,
        Self::Doubtful,
        Self::Consent,
    ];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Field => "field",
            Self::Reteno => "reteno",
            Self::Skipped => "skipped",
            Self::Shared => "shared",
            Self::Erased => "erased",
            Self::Doubtful => "doubtful",
            Self::Consent => "consent",
        }
    }
}

/// Contacts whose consent is neither a yes nor a no.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UnclearConsent {
    /// The source's name.
    pub source: String,
    /// Which class of value they have.
    pub class: String,
    /// How many.
    pub contacts: u64,
}

/// One entry of the list.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RejectionRow {
    /// The source's name.
    pub source: String,
    /// The CRM's id, where it is known.
    pub key: Option<String>,
    /// Where the record stood, where its id is not known or not enough: a line of the file, a message of the tap. A
    /// message's number means nothing in the next run, so its entry is kept for a day only, or until everything has
    /// been read once more; a line's until the file has been read again.
    pub place: Option<String>,
    /// Who refused what.
    pub kind: RejectionKind,
    /// Reteno's field.
    pub field: Option<String>,
    /// Why.
    pub reason: String,
    /// Since when.
    pub seen_at: Timestamp,
    /// An operator lets it be.
    pub ignored: bool,
    /// How many contacts or records it is about: more than one where they share an address.
    pub contacts: u64,
}

/// What the list calls the consent of a contact, which is no field of Reteno's.
pub(super) const CONSENT: &str = "consent";

pub(super) fn record_rejection(
    connection: &Connection,
    source: SourceId,
    subject: (Option<&str>, Option<&str>),
    (kind, field, reason): (RejectionKind, Option<Field>, &str),
    now: i64,
) -> Result<(), CheckpointError> {
    let field = field.map(|field| field.to_string());
    record_rejection_of(connection, source, subject, (kind, field.as_deref(), reason), now)
}

/// The same, for what may be no field of Reteno's.
pub(super) fn record_rejection_of(
    connection: &Connection,
    source: SourceId,
    (key, place): (Option<&str>, Option<&str>),
    (kind, field, reason): (RejectionKind, Option<&str>, &str),
    now: i64,
) -> Result<(), CheckpointError> {
    connection
        .prepare_cached(
            // at the same place another reason is another record
            "INSERT INTO rejection (source, key, place, kind, field, reason, seen_at, read_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) \
             ON CONFLICT (source, coalesce(key, ''), coalesce(place, ''), kind, coalesce(field, '')) \
             DO UPDATE SET seen_at = iif(key IS NULL AND reason <> excluded.reason, excluded.seen_at, seen_at), \
             ignored = iif(reason <> excluded.reason, 0, ignored), reason = excluded.reason, read_at = max(read_at, excluded.read_at)",
        )
        .and_then(|mut insert| insert.execute(params![source.0, key, place, kind.name(), field, reason, now]))
        .attempt("store a rejection")
        .map(|_| ())
}

pub(super) fn forget_rejections(
    connection: &Connection,
    source: SourceId,
    key: &str,
    kinds: &[RejectionKind],
) -> Result<(), CheckpointError> {
    for kind in kinds {
        connection
            .prepare_cached("DELETE FROM rejection WHERE source = ?1 AND key = ?2 AND kind = ?3")
            .and_then(|mut delete| delete.execute(params![source.0, key, kind.name()]))
            .attempt("forget a rejection")?;
    }
    Ok(())
}

/// Forgets why the record of a contact could not be used, unless a read that was asked for after `asked_at` says so. A
/// place is left to the end of the read: its record may still come.
pub(super) fn forget_listed(
    connection: &Connection,
    (source, key): (SourceId, &str),
    asked_at: i64,
) -> Result<(), CheckpointError> {
    connection
        .prepare_cached(
            "DELETE FROM rejection WHERE source = ?1 AND key = ?2 AND kind = 'record' AND place IS NULL AND read_at <= ?3",
        )
        .and_then(|mut delete| delete.execute(params![source.0, key, asked_at]))
        .attempt("forget a rejection")
        .map(|_| ())
}

/// How much of the list a read that came to its end supersedes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Superseded {
    /// Everything it has not listed itself: it brought every record.
    All,
    /// The places: it went through the whole source, of which some could not be read.
    Places,
    /// Places of runs that nobody looks for any more: it read only what changed.
    OldPlaces,
}

/// How long a place of a run that read only changes stays listed: so long that one who looks each day sees it.
const PLACE_AGE_MAX_MS: i64 = 24 * 60 * 60 * 1000;

/// Forgets what a read that began at `began` supersedes.
pub(super) fn forget_superseded(
    connection: &Connection,
    source: SourceId,
    superseded: Superseded,
    began: Timestamp,
) -> Result<(), CheckpointError> {
    let (is_all, before) = match superseded {
        Superseded::All => (true, began),
        Superseded::Places => (false, began),
        Superseded::OldPlaces => (false, Timestamp(began.0 - PLACE_AGE_MAX_MS)),
    };
    connection
        .prepare_cached(
            "DELETE FROM rejection WHERE source = ?1 AND kind = 'record' AND (?2 OR place IS NOT NULL) AND read_at < ?3",
        )
        .and_then(|mut delete| delete.execute(params![source.0, is_all, before.0]))
        .attempt("forget old rejections")
        .map(|_| ())
}

impl Checkpoint {
    /// All rejections, oldest first; those of shared addresses behind the others.
    pub fn load_rejections(&self) -> Result<Vec<RejectionRow>, CheckpointError> {
        let mut all = self.load_listed(None)?;
        all.extend(self.load_shared()?.into_iter().map(|shared| shared.row));
        Ok(all)
    }

    /// Those of all contacts, or of one (source, the CRM's id), without shared addresses.
    pub(super) fn load_listed(&self, of: Option<(&str, &str)>) -> Result<Vec<RejectionRow>, CheckpointError> {
        const ALL: &str = "SELECT s.name, r.key, r.place, r.kind, r.field, r.reason, r.seen_at, r.ignored \
                           FROM rejection r JOIN source s ON s.id = r.source";
        let which = if of.is_some() { "WHERE s.name = ?1 AND r.key = ?2" } else { "WHERE ?1 IS NULL AND ?2 IS NULL" };
        let mut query =
            self.connection.prepare_cached(&format!("{ALL} {which} ORDER BY r.id")).attempt("read rejections")?;
        let rows = query.query_map([of.map(|(source, _)| source), of.map(|(_, key)| key)], |row| {
            let kind: String = row.get(3)?;
            Ok(RejectionRow {
                source: row.get(0)?,
                key: row.get(1)?,
                place: row.get(2)?,
                kind: RejectionKind::ALL
                    .into_iter()
                    .find(|known| known.name() == kind)
                    .unwrap_or(RejectionKind::Record),
                field: row.get(4)?,
                reason: row.get(5)?,
                seen_at: Timestamp(row.get(6)?),
                ignored: row.get(7)?,
                contacts: 1,
            })
        });
        rows.and_then(Iterator::collect).attempt("read rejections")
    }

    /// Contacts whose consent is neither a yes nor a no, by source and class of value.
    pub(super) fn count_unclear_consents(&self) -> Result<Vec<UnclearConsent>, CheckpointError> {
        const ACTION: &str = "count consents that are not understood";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT s.name, r.reason, count(*) FROM rejection r JOIN source s ON s.id = r.source \
                 WHERE r.kind = 'field' AND r.field = ?1 AND r.ignored = 0 GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2",
            )
            .attempt(ACTION)?;
        let rows = query.query_map([CONSENT], |row| {
            Ok(UnclearConsent {
                source: row.get(0)?,
                class: row.get(1)?,
                contacts: row.get::<_, i64>(2)?.cast_unsigned(),
            })
        });
        rows.and_then(Iterator::collect).attempt(ACTION)
    }

    /// How many contacts and records are rejected as a whole, but for those that an operator lets be.
    pub fn count_rejected(&self) -> Result<u64, CheckpointError> {
        self.connection
            .query_row(
                "SELECT (SELECT count(DISTINCT coalesce(key, '') || char(0) || coalesce(place, '') || char(0) || source) \
                   FROM rejection WHERE kind <> 'field' AND ignored = 0) \
                 + (SELECT count(*) FROM contact c INDEXED BY contact_blocked JOIN duplicate d ON d.print = c.blocked_by \
                   WHERE c.blocked_by IS NOT NULL AND d.ignored = 0)",
                [],
                |row| row.get::<_, i64>(0),
            )
            .attempt("count rejections")
            .map(i64::cast_unsigned)
    }
}
