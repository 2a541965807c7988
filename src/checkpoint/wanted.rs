//! Records that must be read once more: fetched by their id where the source can, and else by a full read.

use rusqlite::{Connection, params};

use crate::plan::SourceId;

use super::{Attempt, Checkpoint, CheckpointError};

const ACTION: &str = "ask for a record";

/// How a record of a source can be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rereading {
    /// With all the others.
    All,
    /// By its id.
    ById,
    /// Not at all: the system only pushes.
    Never,
}

impl Rereading {
    const fn number(self) -> i64 {
        match self {
            Self::All => 0,
            Self::ById => 1,
            Self::Never => 2,
        }
    }

    /// The CHECK constraint of the table allows no other numbers.
    fn from_number(number: i64) -> Self {
        [Self::All, Self::ById, Self::Never].into_iter().find(|other| other.number() == number).unwrap_or(Self::All)
    }
}

/// A record that is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRecord {
    /// The CRM's id.
    pub key: String,
    /// The CRM said that it is deleted.
    pub is_deleted: bool,
    /// How often it was asked for: a fetch answers only what was asked before it.
    pub asked: i64,
}

impl Checkpoint {
    /// Notes how a record of a source can be read again. Where it cannot be fetched any more, those that were wanted come with
    /// a full read.
    pub fn note_rereading(&mut self, source: SourceId, rereading: Rereading) -> Result<(), CheckpointError> {
        const ACTION: &str = "store how a source is read";
        let changed = self
            .connection
            .execute(
                "UPDATE source SET rereads = ?2 WHERE id = ?1 AND rereads <> ?2",
                params![source.0, rereading.number()],
            )
            .attempt(ACTION)?;
        if changed == 0 || rereading == Rereading::ById {
            return Ok(());
        }
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let dropped = transaction.execute("DELETE FROM wanted WHERE source = ?1", [source.0]).attempt(ACTION)?;
        if dropped > 0 {
            want_full_read(&transaction, source)?;
        }
        transaction.commit().attempt(ACTION)
    }

    /// Records of a source that are to be fetched, in the order of their keys, those behind a key.
    pub fn load_wanted(
        &self,
        source: SourceId,
        after: &str,
        limit: usize,
    ) -> Result<Vec<WantedRecord>, CheckpointError> {
        const ACTION: &str = "look for wanted records";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT key, deleted, asked FROM wanted WHERE source = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
            )
            .attempt(ACTION)?;
        let rows = query.query_map(params![source.0, after, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(WantedRecord { key: row.get(0)?, is_deleted: row.get(1)?, asked: row.get(2)? })
        });
        rows.and_then(Iterator::collect).attempt(ACTION)
    }

    /// These were fetched. What was asked for again since stays.
    pub fn drop_wanted(&mut self, source: SourceId, fetched: &[WantedRecord]) -> Result<(), CheckpointError> {
        const ACTION: &str = "forget wanted records";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        for WantedRecord { key, asked, .. } in fetched {
            transaction
                .prepare_cached("DELETE FROM wanted WHERE source = ?1 AND key = ?2 AND asked = ?3")
                .and_then(|mut delete| delete.execute(params![source.0, key, asked]))
                .attempt(ACTION)?;
        }
        transaction.commit().attempt(ACTION)
    }
}

/// A record is to be read once more. Says how that will be.
pub(super) fn want_record(
    connection: &Connection,
    source: SourceId,
    key: &str,
    is_deleted: bool,
) -> Result<Rereading, CheckpointError> {
    let rereads: i64 = connection
        .prepare_cached("SELECT rereads FROM source WHERE id = ?1")
        .and_then(|mut query| query.query_row([source.0], |row| row.get(0)))
        .attempt(ACTION)?;
    let rereading = Rereading::from_number(rereads);
    match rereading {
        Rereading::All => want_full_read(connection, source)?,
        Rereading::Never => {}
        Rereading::ById => {
            connection
                .prepare_cached(
                    "INSERT INTO wanted (source, key, deleted) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (source, key) DO UPDATE SET asked = asked + 1, deleted = max(deleted, excluded.deleted)",
                )
                .and_then(|mut insert| insert.execute(params![source.0, key, is_deleted]))
                .attempt(ACTION)?;
        }
    }
    Ok(rereading)
}

/// The waiting values of a contact that is not sent for now are dropped: its record is read again when it is. A system that
/// only pushes never tells them again, so those stay.
pub(super) fn drop_rereadable(connection: &Connection, contact: i64) -> Result<(), CheckpointError> {
    connection
        .prepare_cached(
            "DELETE FROM waiting WHERE contact = ?1 AND NOT EXISTS \
             (SELECT 1 FROM contact c JOIN source s ON s.id = c.source WHERE c.id = ?1 AND s.rereads = 2)",
        )
        .and_then(|mut delete| delete.execute([contact]))
        .attempt("drop waiting values")
        .map(|_| ())
}

/// As [`want_record`], of a contact by its row.
pub(super) fn want_contact(connection: &Connection, contact: i64) -> Result<(), CheckpointError> {
    let found: Vec<(i64, String)> = connection
        .prepare_cached("SELECT source, key FROM contact WHERE id = ?1")
        .and_then(|mut query| query.query_map([contact], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .attempt(ACTION)?;
    found.iter().try_for_each(|(source, key)| want_record(connection, SourceId(*source), key, false).map(|_| ()))
}

/// As [`want_contact`], where the contact waits for its values.
pub(super) fn want_starved(connection: &Connection, contact: i64) -> Result<(), CheckpointError> {
    let is_starved: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM contact WHERE id = ?1 AND stuck = 2)")
        .and_then(|mut query| query.query_row([contact], |row| row.get(0)))
        .attempt(ACTION)?;
    if is_starved { want_contact(connection, contact) } else { Ok(()) }
}

fn want_full_read(connection: &Connection, source: SourceId) -> Result<(), CheckpointError> {
    connection
        .prepare_cached("UPDATE source SET full_read_wanted = 1 WHERE id = ?1")
        .and_then(|mut update| update.execute([source.0]))
        .attempt("ask for a full read")
        .map(|_| ())
}
