//! Sources that the configuration does not have any more: their contacts stay in Reteno as they are, and count for nobody
//! else. Without this a source under another name would find each of its addresses taken by itself.

use std::borrow::Cow;

use rusqlite::{Transaction, params};

use crate::contact::{Field, FieldPrints, Fingerprinter};
use crate::plan::ContactId;
use crate::plan::identity::SharedChannel;

use super::duplicates::{Duplicates, add_address};
use super::endings::SIGHTINGS_NEEDED;
use super::page_addresses::addresses_of;
use super::sharing_rule::note_rule;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

const ACTION: &str = "note which sources are configured";
/// A transaction of so many contacts lasts some milliseconds: nobody who waits for the database notices.
pub(super) const STEP: i64 = 500;

/// The sources that are configured, and which of several contacts with one address is sent.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    /// Their names, and whether each has contacts in common with others, under the same external ids.
    pub sources: Vec<(String, bool)>,
    /// Which of several contacts with one address is sent.
    pub rule: SharedChannel,
    /// The fields that only one contact may have.
    pub unique: Vec<Field>,
}

impl Configured {
    /// Whether a source has contacts in common with others; `None` where it is not configured.
    pub(super) fn shares_ids(&self, name: &str) -> Option<bool> {
        self.sources.iter().find(|(known, _)| known == name).map(|(_, shares)| *shares)
    }
}

/// What one step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retirement {
    /// Nothing is left to do.
    Done,
    /// Some contacts of a source; there may be more: the next step goes on behind this one.
    After(i64),
    /// The last contacts of this source.
    Source {
        /// Its name.
        name: String,
        /// It is not configured any more; else it is configured again.
        is_retired: bool,
    },
}

impl Checkpoint {
    /// One step of taking the contacts of sources that are not configured any more out of the way, and of putting those of a
    /// source back that is configured again. Begin with 0, and go on with what it gives until nothing is left. A step that
    /// was cut short is made again from the beginning, with the same end.
    pub fn note_configured(&mut self, configured: &Configured, after: i64) -> Result<Retirement, CheckpointError> {
        let sources: Vec<(i64, String, bool)> = self
            .connection
            .prepare_cached("SELECT id, name, retired FROM source ORDER BY id")
            .and_then(|mut query| query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect())
            .attempt(ACTION)?;
        let other =
            sources.into_iter().find(|(_, name, is_retired)| configured.shares_ids(name).is_some() == *is_retired);
        let Some((source, name, was_retired)) = other else { return Ok(Retirement::Done) };
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        note_rule(&transaction, configured.rule, &configured.unique)?;
        let contacts: Vec<i64> = transaction
            .prepare_cached("SELECT id FROM contact WHERE +source = ?1 AND id > ?2 ORDER BY id LIMIT ?3")
            .and_then(|mut query| query.query_map(params![source, after, STEP], |row| row.get(0))?.collect())
            .attempt(ACTION)?;
        for contact in &contacts {
            if was_retired {
                let shares_ids = configured.shares_ids(&name).unwrap_or_default();
                put_back(&transaction, *contact, configured, (shares_ids, &self.hash))?;
            } else {
                take_out(&transaction, *contact)?;
            }
        }
        let end = if let Some(last) = contacts.last() {
            Retirement::After(*last)
        } else {
            transaction
                .execute(
                    "UPDATE source SET retired = ?2, full_read_wanted = iif(?2 OR rereads = 2, full_read_wanted, 1) \
                     WHERE id = ?1",
                    params![source, !was_retired],
                )
                .attempt(ACTION)?;
            Retirement::Source { name, is_retired: !was_retired }
        };
        transaction.commit().attempt(ACTION)?;
        Ok(end)
    }
}

/// Nobody waits for its addresses, and nothing more is sent of it.
fn take_out(transaction: &Transaction<'_>, contact: i64) -> Result<(), CheckpointError> {
    Duplicates::of(transaction, 0)?.leave(ContactId(contact))?;
    transaction
        .prepare_cached("UPDATE contact SET stuck = 2 WHERE id = ?1 AND stuck = 0 AND acknowledged IS NOT NULL")
        .and_then(|mut update| update.execute([contact]))
        .and_then(|_| transaction.prepare_cached("DELETE FROM waiting WHERE contact = ?1")?.execute([contact]))
        .attempt(ACTION)
        .map(|_| ())
}

fn put_back(
    transaction: &Transaction<'_>,
    contact: i64,
    configured: &Configured,
    (shares_ids, hash): (bool, &Fingerprinter),
) -> Result<(), CheckpointError> {
    let (desired, is_there): (Vec<u8>, bool) = transaction
        .prepare_cached("SELECT desired, sightings < ?2 AND stuck <> 4 FROM contact WHERE id = ?1")
        .and_then(|mut query| query.query_row(params![contact, SIGHTINGS_NEEDED], |row| Ok((row.get(0)?, row.get(1)?))))
        .attempt(ACTION)?;
    if !is_there {
        return Ok(());
    }
    let desired = FieldPrints::decode(&desired).map_err(unreadable("list of prints"))?;
    let duplicates =
        Duplicates { transaction, rule: configured.rule, unique: Cow::Borrowed(&configured.unique), now: 0 };
    for (_, print) in addresses_of(&desired, shares_ids, hash) {
        add_address(transaction, ContactId(contact), print)?;
    }
    duplicates.contend(ContactId(contact))
}
