//! The rows of the inbox: how a delivery becomes rows, and rows become events again.

use std::time::Duration;

use rusqlite::{Connection, Transaction, params};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::random::Random;

use super::inbox::{ATTEMPTS_TOGETHER, InboxCount, InboxEvent, Letter, WaitingEvent};
use super::seal::Sealer;
use super::{Attempt, CheckpointError};

/// A record that is announced waits so long for more announcements of it: one edit in a form is often several events.
const GATHER: Duration = Duration::from_millis(500);
/// What a sealed record is called.
const PAYLOAD: &str = "event";

/// The database.
pub(super) struct Disk {
    pub(super) connection: Connection,
    pub(super) sealer: Sealer,
    pub(super) random: Random,
}

impl Disk {
    /// What waits, on disk.
    pub(super) fn bytes(&self) -> Result<u64, CheckpointError> {
        self.connection
            .prepare_cached(
                "SELECT (p.page_count - f.freelist_count) * s.page_size \
                 FROM pragma_page_count() p, pragma_freelist_count() f, pragma_page_size() s",
            )
            .and_then(|mut query| query.query_row([], |row| row.get::<_, i64>(0)))
            .attempt("measure the inbox")
            .map(i64::cast_unsigned)
    }

    pub(super) fn store(&mut self, letters: &[Letter]) -> Result<(), CheckpointError> {
        let mut sealed = Vec::new();
        for event in letters.iter().flat_map(|letter| &letter.events) {
            if let InboxEvent::Whole { record, .. } | InboxEvent::WholeDeleted { record: Some(record), .. } = event {
                sealed.push(self.sealer.seal(PAYLOAD, record, &self.random)?);
            }
        }
        let mut sealed = sealed.into_iter();
        self.write(|transaction| letters.iter().try_for_each(|letter| store_letter(transaction, letter, &mut sealed)))
    }

    pub(super) fn write(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), CheckpointError> {
        const ACTION: &str = "write to the inbox";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        work(&transaction).attempt(ACTION)?;
        transaction.commit().attempt(ACTION)
    }

    /// What was tried in vain too often to be tried with others comes last, or many of those would keep the others from being
    /// seen at all.
    pub(super) fn load_due(
        &self,
        source: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<WaitingEvent>, CheckpointError> {
        let together = self.load_due_of(source, now, limit, false)?;
        if together.is_empty() { self.load_due_of(source, now, 1, true) } else { Ok(together) }
    }

    fn load_due_of(
        &self,
        source: &str,
        now: Timestamp,
        limit: usize,
        is_alone: bool,
    ) -> Result<Vec<WaitingEvent>, CheckpointError> {
        const ACTION: &str = "look for what was announced";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT id, seq, key, kind, deleted, coalesce(payload, gone), received_at, attempts FROM event \
                 WHERE source = ?1 AND (due_at <= ?2 OR set_at > ?2) AND (attempts >= ?4) = ?5 ORDER BY id LIMIT ?3",
            )
            .attempt(ACTION)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = query.query(params![source, now.0, limit, ATTEMPTS_TOGETHER, is_alone]).attempt(ACTION)?;
        let mut due = Vec::new();
        while let Some(row) = rows.next().attempt(ACTION)? {
            let key: String = row.get(2).attempt(ACTION)?;
            let event = match (row.get::<_, String>(3).attempt(ACTION)?.as_str(), row.get::<_, Option<Vec<u8>>>(5)) {
                // one that cannot be opened never can be: an inbox beside a checkpoint that was made anew
                ("whole", Ok(Some(sealed))) => match self.sealer.unseal(PAYLOAD, &sealed) {
                    Ok(record) => InboxEvent::Whole { key, record },
                    Err(_) => InboxEvent::Unreadable { key },
                },
                // without what cannot be opened it is a deletion of no known age
                ("deleted", Ok(Some(sealed))) => {
                    InboxEvent::WholeDeleted { key, record: self.sealer.unseal(PAYLOAD, &sealed).ok() }
                }
                ("deleted", _) => InboxEvent::WholeDeleted { key, record: None },
                (_, _) => InboxEvent::Hint { key, is_deleted: row.get(4).attempt(ACTION)? },
            };
            due.push(WaitingEvent {
                id: row.get(0).attempt(ACTION)?,
                seq: row.get(1).attempt(ACTION)?,
                event,
                received_at: Timestamp(row.get(6).attempt(ACTION)?),
                attempts: row.get(7).attempt(ACTION)?,
            });
        }
        Ok(due)
    }
}

fn store_letter(
    transaction: &Transaction<'_>,
    letter: &Letter,
    sealed: &mut impl Iterator<Item = Vec<u8>>,
) -> rusqlite::Result<()> {
    let Letter { source, id, events, at, .. } = letter;
    let due_at = at.plus(GATHER).0;
    let is_new = match id {
        Some(id) => {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO delivery (source, hash, received_at) VALUES (?1, ?2, ?3)")?
                .execute(params![source, Sha256::digest(id.as_bytes()).as_slice(), at.0])?
                > 0
        }
        None => true,
    };
    for event in events {
        let (key, kind, is_deleted, payload, gone) = match event {
            InboxEvent::Hint { key, is_deleted } => (key, "hint", *is_deleted, None, None),
            // taken also where it is not kept: the next one's comes after it
            InboxEvent::Whole { key, .. } => (key, "whole", false, sealed.next(), None),
            InboxEvent::WholeDeleted { key, record } => {
                (key, "deleted", false, None, record.as_ref().and_then(|_| sealed.next()))
            }
            // never put in: what it stands for is fetched, where that can be
            InboxEvent::Unreadable { key } => (key, "hint", false, None, None),
        };
        if !is_new {
            continue;
        }
        transaction
            .prepare_cached(
                "INSERT INTO event (source, key, kind, deleted, payload, gone, received_at, due_at, set_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?7) \
                 ON CONFLICT (source, key) WHERE kind = 'hint' DO UPDATE SET seq = seq + 1, \
                   deleted = max(deleted, excluded.deleted)",
            )?
            .execute(params![source, key, kind, is_deleted, payload, gone, at.0, due_at])?;
    }
    Ok(())
}

pub(super) fn count(connection: &Connection) -> Result<Vec<InboxCount>, CheckpointError> {
    const ACTION: &str = "count what was announced";
    let mut query = connection
        .prepare_cached("SELECT source, count(*), min(received_at) FROM event GROUP BY source ORDER BY source")
        .attempt(ACTION)?;
    let rows = query.query_map([], |row| {
        Ok(InboxCount {
            source: row.get(0)?,
            rows: row.get::<_, i64>(1)?.cast_unsigned(),
            oldest: Timestamp(row.get(2)?),
        })
    });
    rows.and_then(Iterator::collect).attempt(ACTION)
}
