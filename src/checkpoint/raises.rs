//! Raises whose time is over, or that somebody forbids: dropped and listed, never repeated.

use std::collections::BTreeMap;

use rusqlite::Transaction;

use crate::clock::Timestamp;
use crate::plan::ImportId;

use super::consents::RAISE_AGE_MAX_MS;
use super::rejections::{RejectionKind, record_rejection};
use super::renewal::renew_opt_outs;
use super::settle::close;
use super::settle_deeds::{ACTION, Deed, forget, load_deed, load_deeds};
use super::{Attempt, Checkpoint, CheckpointError};

/// Of a raise `d`: its time is over (also where the clock was set back since).
const IS_LATE: &str = "(d.expires_at <= ?1 OR d.expires_at > ?2)";
/// Somebody with its address wants no mail.
const IS_FORBIDDEN: &str = "EXISTS (SELECT 1 FROM consent s WHERE s.address = d.address AND s.said = 1)";
/// A page that is recorded while the sender looks may be ahead of it by moments; more is a clock that was set back.
const AHEAD_MAX_MS: i64 = 60_000;

const START: &str =
    "UPDATE deed SET expires_at = ?1 WHERE kind = 'resubscribe' AND state = 'due' AND expires_at IS NULL";

impl Checkpoint {
    /// The hour of a raise begins when it may go out: when the guard has let it pass, or a person has approved it.
    pub fn start_raises(&mut self, now: Timestamp) -> Result<(), CheckpointError> {
        self.connection
            .prepare_cached(START)
            .and_then(|mut update| update.execute([now.0 + RAISE_AGE_MAX_MS]))
            .attempt(ACTION)
            .map(|_| ())
    }

    /// Drops what was given newly and could not be told to Reteno in time, or what somebody else with the same address
    /// forbids: each is listed. Of those that may go out: very many may be held, and are looked at when they are approved.
    pub fn drop_late_raises(&mut self, now: Timestamp) -> Result<u64, CheckpointError> {
        self.start_raises(now)?;
        let late: Vec<(i64, bool)> = self
            .connection
            .prepare_cached(&late_raises())
            .and_then(|mut query| {
                query.query_map([now.0, latest(now)], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .attempt(ACTION)?;
        if late.is_empty() {
            return Ok(0);
        }
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        for (id, is_forbidden) in &late {
            let deed = load_deed(&transaction, *id)?;
            if let Some(deed) = deed {
                expire(&transaction, &deed, *is_forbidden, now)?;
            }
        }
        transaction.commit().attempt(ACTION)?;
        Ok(late.len() as u64)
    }

    /// A raise that got no answer is about to be repeated. Where the hour of one of its members is over, or somebody wants no
    /// mail to the address by now, it is not: those are listed, the others go into another call. Says whether it is ended.
    pub fn stop_late_raises(
        &mut self,
        import: ImportId,
        now: Timestamp,
        ghost_until: Timestamp,
    ) -> Result<bool, CheckpointError> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let late: BTreeMap<i64, bool> = transaction
            .prepare_cached(&format!(
                "SELECT d.id, {IS_FORBIDDEN} FROM member m CROSS JOIN deed d ON d.id = m.deed \
                 WHERE m.import = ?3 AND d.import = ?3 AND ({IS_LATE} OR {IS_FORBIDDEN})"
            ))
            .and_then(|mut query| {
                query.query_map([now.0, latest(now), import.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .attempt(ACTION)?;
        if late.is_empty() {
            return Ok(false);
        }
        for deed in load_deeds(&transaction, import)? {
            if let Some(is_forbidden) = late.get(&deed.id) {
                expire(&transaction, &deed, *is_forbidden, now)?;
            } else {
                transaction.execute("UPDATE deed SET import = NULL WHERE id = ?1", [deed.id]).attempt(ACTION)?;
            }
        }
        renew_opt_outs(&transaction, import)?;
        close(&transaction, import, Some(ghost_until.0))?;
        transaction.commit().attempt(ACTION)?;
        Ok(true)
    }
}

fn late_raises() -> String {
    format!(
        "SELECT id, {IS_FORBIDDEN} FROM deed d WHERE kind = 'resubscribe' AND state = 'due' AND import IS NULL \
         AND ({IS_LATE} OR {IS_FORBIDDEN})"
    )
}

/// The latest moment at which a raise that is made now is over.
fn latest(now: Timestamp) -> i64 {
    now.0 + RAISE_AGE_MAX_MS + AHEAD_MAX_MS
}

fn expire(
    transaction: &Transaction<'_>,
    deed: &Deed,
    is_forbidden: bool,
    now: Timestamp,
) -> Result<(), CheckpointError> {
    forget(transaction, deed)?;
    let reason = if is_forbidden {
        "the consent that was newly given is not told to Reteno: somebody else with the address wants no mail"
    } else {
        "the consent that was newly given could not be told to Reteno within an hour: the address stays unsubscribed"
    };
    let what = (RejectionKind::Consent, None, reason);
    record_rejection(transaction, deed.source, (Some(&deed.key), None), what, now.0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;

    use super::*;
    use crate::checkpoint::erasures::UNBURIED;
    use crate::checkpoint::learnt::FORGET_KNOWN;
    use crate::checkpoint::renewal::IS_UNDER_WAY;
    use crate::checkpoint::settle_deeds::LAST_GHOST;

    fn migrated() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let mut steps: Vec<_> = std::fs::read_dir(folder).unwrap().map(|step| step.unwrap().path()).collect();
        steps.sort();
        for step in steps {
            connection.execute_batch(&std::fs::read_to_string(step.join("up.sql")).unwrap()).unwrap();
        }
        connection
    }

    /// Each line of how a statement is carried out.
    fn plan_of(connection: &Connection, statement: &str) -> Vec<String> {
        let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let mut rows = query.raw_query();
        let mut plan = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            plan.push(row.get(3).unwrap());
        }
        plan
    }

    /// Of the calls under way all members, and of what is to be done all of it, may be a million.
    #[test]
    fn what_each_round_asks_goes_through_no_large_table() {
        let connection = migrated();
        let told = format!("DELETE FROM told AS s WHERE NOT {IS_UNDER_WAY}");
        for statement in [START, &late_raises(), UNBURIED, FORGET_KNOWN, LAST_GHOST, &told] {
            let plan = plan_of(&connection, statement);
            let is_whole = |line: &String| {
                ["m", "d", "c", "member", "deed", "contact"].iter().any(|table| {
                    let read = line.strip_prefix("SCAN ").or_else(|| line.strip_prefix("SEARCH "));
                    let rest = read.and_then(|read| read.strip_prefix(table));
                    // a search by a key that is not bound at its beginning is a scan, too
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' ') && !rest.contains("=?"))
                })
            };
            assert!(!plan.is_empty() && !plan.iter().any(is_whole), "{statement}: {plan:?}");
        }
    }
}
