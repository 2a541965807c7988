//! What a person decides about rejections: to let one be, or to have it tried again. No old value is ever sent again: what
//! is tried again is read anew.

use std::collections::BTreeSet;

use rusqlite::{Transaction, params};

use crate::plan::SourceId;

use super::requests::ask_for_read;
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
    /// The sources that are read.
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
        self.connection
            .execute(
                &format!(
                    "UPDATE rejection SET ignored = 1 WHERE id IN \
                     (SELECT r.id FROM rejection r JOIN source s ON s.id = r.source WHERE {which})"
                ),
                [text],
            )
            .attempt("let a rejection be")
            .map(|rows| rows as u64)
    }

    /// Has what was refused tried again, of one contact (the CRM's id, with or without `source:` before it) or of all but
    /// the ignored ones: the contacts are read anew, and deeds that were refused are due.
    pub fn retry_rejected(&mut self, contact: Option<&str>) -> Result<Retried, CheckpointError> {
        const ACTION: &str = "try again what was refused";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let mut retried = Retried::default();
        let mut sources = BTreeSet::new();
        retried.contacts = starve_refused(&transaction, contact, &mut sources)?;
        retried.records = find_records(&transaction, contact, &mut sources)?;
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
        for source in sources {
            ask_for_read(&transaction, SourceId(source))?;
            let name = transaction
                .query_row("SELECT name FROM source WHERE id = ?1", [source], |row| row.get(0))
                .attempt(ACTION)?;
            retried.sources.push(name);
        }
        transaction.commit().attempt(ACTION)?;
        Ok(retried)
    }
}

/// Refused contacts wait for their values from now on; what is left of old ones goes.
fn starve_refused(
    transaction: &Transaction<'_>,
    contact: Option<&str>,
    sources: &mut BTreeSet<i64>,
) -> Result<u64, CheckpointError> {
    const ACTION: &str = "try a refused contact again";
    let refused: Vec<(i64, i64)> = transaction
        .prepare_cached(
            "SELECT c.id, c.source FROM contact c JOIN source s ON s.id = c.source \
             WHERE c.acknowledged IS NOT NULL AND c.stuck = 1 AND (c.key = ?1 OR s.name || ':' || c.key = ?1 \
               OR ?1 IS NULL AND NOT EXISTS (SELECT 1 FROM rejection r WHERE r.source = c.source AND r.key = c.key \
                 AND r.kind IN ('reteno', 'skipped') AND r.ignored = 1))",
        )
        .and_then(|mut query| query.query_map([contact], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .attempt(ACTION)?;
    for (id, source) in &refused {
        sources.insert(*source);
        transaction
            .prepare_cached("UPDATE contact SET stuck = 2, attempts = 0, not_before = 0, split = NULL WHERE id = ?1")
            .and_then(|mut update| update.execute([id]))
            .and_then(|_| transaction.execute("DELETE FROM waiting WHERE contact = ?1", params![id]))
            .attempt(ACTION)?;
    }
    Ok(refused.len() as u64)
}

/// Records that could not be used: only reading them again tells whether they can be by now.
fn find_records(
    transaction: &Transaction<'_>,
    contact: Option<&str>,
    sources: &mut BTreeSet<i64>,
) -> Result<u64, CheckpointError> {
    const ACTION: &str = "look for records that could not be used";
    let mut query = transaction
        .prepare_cached(&format!(
            "SELECT r.source, count(DISTINCT coalesce(r.key, r.place)) FROM rejection r JOIN source s ON s.id = r.source \
             WHERE r.kind IN ('record', 'field') AND (?1 IS NULL AND r.ignored = 0 OR {NAMED}) GROUP BY r.source"
        ))
        .attempt(ACTION)?;
    let found: Vec<(i64, i64)> =
        query.query_map([contact], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect).attempt(ACTION)?;
    sources.extend(found.iter().map(|(source, _)| *source));
    Ok(found.iter().map(|(_, records)| records.cast_unsigned()).sum())
}
