//! The addresses that several contacts have, as the list of rejections shows them: one entry for each address, with how many
//! contacts are not sent because of it, and a few of them. Reads, and lets an entry be.

use rusqlite::{OptionalExtension, params};

use crate::clock::Timestamp;

use super::rejections::{RejectionKind, RejectionRow};
use super::retries::RejectionChoice;
use super::{Attempt, Checkpoint, CheckpointError};

const ACTION: &str = "read which contacts share an address";
/// So many of them are named.
const EXAMPLES: i64 = 3;

/// An address that several contacts have.
pub(super) struct Shared {
    print: i64,
    pub(super) row: RejectionRow,
}

impl Checkpoint {
    /// Every address because of which somebody is not sent. Costs a look at each contact that is not sent.
    pub(super) fn load_shared(&self) -> Result<Vec<Shared>, CheckpointError> {
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT d.print, d.holder, d.since, d.ignored, count(*) FROM contact c INDEXED BY contact_blocked \
                 JOIN duplicate d ON d.print = c.blocked_by WHERE c.blocked_by IS NOT NULL \
                 GROUP BY d.print ORDER BY d.since, d.print",
            )
            .attempt(ACTION)?;
        let found: Vec<(i64, Option<i64>, i64, bool, i64)> = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
            .and_then(Iterator::collect)
            .attempt(ACTION)?;
        found
            .into_iter()
            .map(|(print, holder, since, ignored, count)| {
                let row = self.describe(print, holder, count.cast_unsigned())?;
                Ok(Shared { print, row: RejectionRow { seen_at: Timestamp(since), ignored, ..row } })
            })
            .collect()
    }

    fn describe(&self, print: i64, holder: Option<i64>, count: u64) -> Result<RejectionRow, CheckpointError> {
        let examples: Vec<(String, String)> = self
            .connection
            .prepare_cached(
                "SELECT s.name, c.key FROM contact c INDEXED BY contact_blocked JOIN source s ON s.id = c.source \
                 WHERE c.blocked_by = ?1 ORDER BY c.source, c.id LIMIT ?2",
            )
            .and_then(|mut query| {
                query.query_map(params![print, EXAMPLES], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .attempt(ACTION)?;
        let sent: Option<(String, String)> = self
            .connection
            .prepare_cached("SELECT c.key, s.name FROM contact c JOIN source s ON s.id = c.source WHERE c.id = ?1")
            .and_then(|mut query| query.query_row([holder], |row| Ok((row.get(0)?, row.get(1)?))).optional())
            .attempt(ACTION)?;
        let source = examples.first().map(|(source, _)| source.clone()).unwrap_or_default();
        let named: Vec<String> = examples.into_iter().map(|(_, key)| key).collect();
        let others = count.saturating_sub(named.len() as u64);
        let place = if others > 0 { format!("{} and {others} more", named.join(", ")) } else { named.join(", ") };
        let (key, place) = if count == 1 { (Some(place), None) } else { (None, Some(place)) };
        let reason = match (sent, count) {
            (Some((key, source)), 1) => {
                format!("has the same e-mail or phone as {key} of source {source}, which is sent in its place")
            }
            (Some((key, source)), _) => {
                format!("have the same e-mail or phone as {key} of source {source}, which is sent in their place")
            }
            (None, _) => "has an e-mail or phone that others have, too, and none of them can be sent".to_owned(),
        };
        Ok(RejectionRow {
            source,
            key,
            place,
            kind: RejectionKind::Shared,
            field: None,
            reason,
            seen_at: Timestamp(0),
            ignored: false,
            contacts: count,
        })
    }

    /// The entry of the address because of which a contact is not sent.
    pub(super) fn load_shared_of(&self, source: &str, key: &str) -> Result<Option<RejectionRow>, CheckpointError> {
        let found: Option<(i64, Option<i64>, i64, bool)> = self
            .connection
            .query_row(
                "SELECT d.print, d.holder, d.since, d.ignored FROM contact c JOIN source s ON s.id = c.source \
                 JOIN duplicate d ON d.print = c.blocked_by WHERE s.name = ?1 AND c.key = ?2",
                [source, key],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .optional()
            .attempt(ACTION)?;
        let Some((print, holder, since, ignored)) = found else { return Ok(None) };
        let row = self.describe(print, holder, 1)?;
        Ok(Some(RejectionRow {
            source: source.to_owned(),
            key: Some(key.to_owned()),
            seen_at: Timestamp(since),
            ignored,
            ..row
        }))
    }

    /// Hides the entries that are meant until another contact is sent with their address; says how many.
    pub(super) fn ignore_shared(&self, choice: &RejectionChoice) -> Result<u64, CheckpointError> {
        let mut prints: Vec<i64> = Vec::new();
        for Shared { print, row } in self.load_shared()? {
            let is_meant = match choice {
                RejectionChoice::Contact(text) => row.place.as_deref() == Some(text),
                RejectionChoice::Reason(text) => row.reason == *text,
            };
            prints.extend(is_meant.then_some(print));
        }
        if let RejectionChoice::Contact(text) = choice {
            let mut query = self
                .connection
                .prepare_cached(
                    "SELECT DISTINCT c.blocked_by FROM contact c INDEXED BY contact_blocked \
                     JOIN source s ON s.id = c.source \
                     WHERE c.blocked_by IS NOT NULL AND (c.key = ?1 OR s.name || ':' || c.key = ?1)",
                )
                .attempt(ACTION)?;
            let named: Vec<i64> =
                query.query_map([text], |row| row.get(0)).and_then(Iterator::collect).attempt(ACTION)?;
            prints.extend(named);
        }
        let mut ignored = 0;
        for print in prints {
            ignored += self
                .connection
                .execute("UPDATE duplicate SET ignored = 1 WHERE print = ?1 AND ignored = 0", [print])
                .attempt("let a rejection be")? as u64;
        }
        Ok(ignored)
    }
}
