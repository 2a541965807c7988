//! What a person decides about rejections: to let one be, or to have it tried again. No old value is ever sent again: what
//! is tried again is read anew.

use std::collections::BTreeSet;

use rusqlite::Transaction;

use crate::plan::{ContactId, SourceId};

use super::duplicates::Duplicates;
use super::requests::ask_for_read;
use super::wanted::{Rereading, drop_rereadable, want_record};
use super::{Attempt, Checkpoint, CheckpointError};

/// Which entries of the list are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectionChoice {
    /// Those of one contact, or of one place: the CRM's id, with or without `source:` before it.
    Contact(String),
    /// Those with exactly this reason.
    Reason(String),
}

/// What was asked to be tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Retried {
    /// Contacts whose values are read anew.
    pub contacts: u64,
    /// Records that could not be used, or not whole, and are read again.
    pub records: u64,
    /// Opt-outs, deletions and the like that Reteno refused and that are due now.
    pub deeds: u64,
    /// Of these contacts and records: those that are fetched by themselves.
    pub fetched: u64,
    /// The sources that are read whole.
    pub sources: Vec<String>,
}

/// Whether an entry `r` of source `s` is of the contact `?1`.
const NAMED: &str = "(coalesce(r.key, r.place) = ?1 OR s.name || ':' || coalesce(r.key, r.place) = ?1)";

impl Checkpoint {
    /// Hides entries until their reason changes; says how many.
    pub fn ignore_rejections(&mut self, choice: &RejectionChoice) -> Result<u64, CheckpointError> {
        let (which, text) = match choice {
            RejectionChoice::Contact(text) => (NAMED, text),
            RejectionChoice::Reason(text) => ("r.reason = ?1", text),
        };
        let shared = self.ignore_shared(choice)?;
        self.connection
            .execute(
                &format!(
                    "UPDATE rejection SET ignored = 1 WHERE id IN \
                     (SELECT r.id FROM rejection r JOIN source s ON s.id = r.source WHERE {which})"
                ),
                [text],
            )
            .attempt("let a rejection be")
            .map(|rows| rows as u64 + shared)
    }

    /// Has what was refused tried again, of one contact (the CRM's id, with or without `source:` before it) or of all but
    /// the ignored ones: the contacts are read anew, and deeds that were refused are due.
    pub fn retry_rejected(&mut self, contact: Option<&str>) -> Result<Retried, CheckpointError> {
        const ACTION: &str = "try again what was refused";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let mut retried = Retried::default();
        let mut again = Again::default();
        retried.contacts = starve_refused(&transaction, contact, &mut again)?;
        retried.records = find_records(&transaction, contact, &mut again)?;
        retried.deeds = transaction
            .execute(
                "UPDATE deed SET not_before = 0 WHERE import IS NULL AND state = 'due' AND not_before > 0 \
                 AND (attempts > 0 OR 'erase-' || source || '-' || key IN (SELECT name FROM alert)) \
                 AND (?1 IS NULL OR key = ?1 \
                   OR (SELECT s.name FROM source s WHERE s.id = deed.source) || ':' || key = ?1)",
                [contact],
            )
            .attempt(ACTION)? as u64;
        transaction
            .execute(
                &format!(
                    "DELETE FROM rejection WHERE id IN (SELECT r.id FROM rejection r JOIN source s ON s.id = r.source \
                     WHERE r.kind IN ('reteno', 'skipped') AND (?1 IS NULL AND r.ignored = 0 OR {NAMED}))"
                ),
                [contact],
            )
            .attempt(ACTION)?;
        let (fetched, sources) = again.ask(&transaction)?;
        retried.fetched = fetched;
        for source in sources {
            let name = transaction
                .query_row("SELECT name FROM source WHERE id = ?1", [source], |row| row.get(0))
                .attempt(ACTION)?;
            retried.sources.push(name);
        }
        transaction.commit().attempt(ACTION)?;
        Ok(retried)
    }
}

/// What is to be read again.
#[derive(Default)]
struct Again {
    records: BTreeSet<(i64, String)>,
    /// All of them.
    sources: BTreeSet<i64>,
}

impl Again {
    /// Asks for the records where their sources can fetch them, and else for all of their sources. Gives how many are fetched,
    /// and which sources are read.
    fn ask(self, transaction: &Transaction<'_>) -> Result<(u64, BTreeSet<i64>), CheckpointError> {
        let Self { records, mut sources } = self;
        let mut fetched = 0;
        for (source, key) in records {
            let is_read_anyway = sources.contains(&source);
            if is_read_anyway {
                continue;
            }
            match want_record(transaction, SourceId(source), &key, false)? {
                Rereading::ById => fetched += 1,
                Rereading::All => drop(sources.insert(source)),
                // it comes when the system pushes it again
                Rereading::Never => {}
            }
        }
        for source in &sources {
            ask_for_read(transaction, SourceId(*source))?;
        }
        Ok((fetched, sources))
    }
}

/// Refused contacts wait for their values from now on; what is left of old ones goes.
fn starve_refused(
    transaction: &Transaction<'_>,
    contact: Option<&str>,
    again: &mut Again,
) -> Result<u64, CheckpointError> {
    const ACTION: &str = "try a refused contact again";
    let refused: Vec<(i64, i64, String)> = transaction
        .prepare_cached(
            "SELECT c.id, c.source, c.key FROM contact c JOIN source s ON s.id = c.source \
             WHERE c.acknowledged IS NOT NULL AND c.stuck = 1 AND (c.key = ?1 OR s.name || ':' || c.key = ?1 \
               OR ?1 IS NULL AND NOT EXISTS (SELECT 1 FROM rejection r WHERE r.source = c.source AND r.key = c.key \
                 AND r.kind IN ('reteno', 'skipped') AND r.ignored = 1))",
        )
        .and_then(|mut query| query.query_map([contact], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect())
        .attempt(ACTION)?;
    let duplicates = Duplicates::of(transaction, 0)?;
    for (id, source, key) in &refused {
        drop_rereadable(transaction, *id)?;
        again.records.insert((*source, key.clone()));
        transaction
            .prepare_cached(
                // what a system that only pushes has told is still at hand
                "UPDATE contact SET stuck = iif(EXISTS (SELECT 1 FROM waiting w WHERE w.contact = ?1), 0, 2), \
                 attempts = 0, not_before = 0, split = NULL WHERE id = ?1",
            )
            .and_then(|mut update| update.execute([id]))
            .attempt(ACTION)?;
        duplicates.contend(ContactId(*id))?;
    }
    Ok(refused.len() as u64)
}

/// Records that could not be used: only reading them again tells whether they can be by now.
fn find_records(
    transaction: &Transaction<'_>,
    contact: Option<&str>,
    again: &mut Again,
) -> Result<u64, CheckpointError> {
    const ACTION: &str = "look for records that could not be used";
    let mut query = transaction
        .prepare_cached(&format!(
            "SELECT DISTINCT r.source, r.key, r.place FROM rejection r JOIN source s ON s.id = r.source \
             WHERE r.kind IN ('record', 'field') AND (?1 IS NULL AND r.ignored = 0 OR {NAMED})"
        ))
        .attempt(ACTION)?;
    let found: Vec<(i64, Option<String>, Option<String>)> = query
        .query_map([contact], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .and_then(Iterator::collect)
        .attempt(ACTION)?;
    let mut records = BTreeSet::new();
    for (source, key, place) in found {
        records.insert((source, key.clone().or(place)));
        match key {
            Some(key) => drop(again.records.insert((source, key))),
            // nobody knows whose it is
            None => drop(again.sources.insert(source)),
        }
    }
    Ok(records.len() as u64)
}
