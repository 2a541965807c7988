//! Counts of what a later way of reading had to repair, by what had missed it.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::clock::Timestamp;
use crate::plan::SourceId;
use crate::plan::repair::RepairCause;

use super::{Attempt, Checkpoint, CheckpointError};

/// What was repaired of a source, since it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The source's name.
    pub source: String,
    /// What had missed them.
    pub cause: RepairCause,
    /// Contacts; one that was missed twice counts twice.
    pub contacts: u64,
    /// The last time.
    pub last_at: Timestamp,
}

impl Checkpoint {
    /// What was repaired, of all sources.
    pub fn load_repaired(&self) -> Result<Vec<Repaired>, CheckpointError> {
        const ACTION: &str = "read what was repaired";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT s.name, r.cause, r.contacts, r.last_at FROM repaired r JOIN source s ON s.id = r.source \
                 ORDER BY s.name, r.cause",
            )
            .attempt(ACTION)?;
        let rows = query
            .query_map([], |row| {
                let counted = (row.get::<_, i64>(2)?.cast_unsigned(), Timestamp(row.get(3)?));
                Ok((row.get(0)?, row.get::<_, String>(1)?, counted))
            })
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .attempt(ACTION)?;
        let repaired = |(source, cause, (contacts, last_at)): (String, String, (u64, Timestamp))| {
            Some(Repaired { source, cause: RepairCause::from_name(&cause)?, contacts, last_at })
        };
        Ok(rows.into_iter().filter_map(repaired).collect())
    }
}

/// Adds what a page, or the end of a read, repaired.
pub(super) fn add_repaired(
    connection: &Connection,
    source: SourceId,
    repaired: &BTreeMap<RepairCause, u64>,
    now: i64,
) -> Result<(), CheckpointError> {
    for (cause, contacts) in repaired.iter().filter(|(_, contacts)| **contacts > 0) {
        connection
            .prepare_cached(
                "INSERT INTO repaired (source, cause, contacts, last_at) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (source, cause) DO UPDATE SET contacts = contacts + excluded.contacts, \
                   last_at = excluded.last_at",
            )
            .and_then(|mut add| add.execute(params![source.0, cause.name(), contacts.cast_signed(), now]))
            .attempt("count what was repaired")?;
    }
    Ok(())
}
