//! The addresses of all contacts that the CRM has, stored once where they are not yet: an older program stored only those
//! that one contact alone may have, and external ids are kept only of sources that share them. Nobody else would fill them
//! in: a page looks only at what has changed.

use rusqlite::params;

use crate::contact::FieldPrints;
use crate::plan::ContactId;

use super::duplicates::add_address;
use super::endings::SIGHTINGS_NEEDED;
use super::open::put_setting;
use super::page_addresses::addresses_of;
use super::retired::{Configured, STEP};
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

const ACTION: &str = "store the addresses of contacts";
/// The setting that says of which contacts which addresses are stored.
const STORED: &str = "stored_addresses";

impl Checkpoint {
    /// One step of storing the addresses that are not stored yet; it decides nothing of who is sent. Begin with 0, and go
    /// on with what it gives until that is nothing. A step that was cut short is made again from the beginning, with the
    /// same end.
    pub fn store_known_addresses(
        &mut self,
        configured: &Configured,
        after: i64,
    ) -> Result<Option<i64>, CheckpointError> {
        let wanted = kept_addresses(configured);
        if self.load_setting(STORED)?.is_some_and(|stored: String| stored == wanted) {
            return Ok(None);
        }
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let contacts: Vec<(i64, String, Vec<u8>)> = transaction
            .prepare_cached(
                "SELECT c.id, s.name, c.desired FROM contact c CROSS JOIN source s ON s.id = c.source \
                 WHERE c.id > ?1 AND c.sightings < ?2 AND c.stuck <> 4 AND s.retired = 0 ORDER BY c.id LIMIT ?3",
            )
            .and_then(|mut query| {
                let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
                query.query_map(params![after, SIGHTINGS_NEEDED, STEP], row)?.collect()
            })
            .attempt(ACTION)?;
        for (contact, source, desired) in &contacts {
            let desired = FieldPrints::decode(desired).map_err(unreadable("list of prints"))?;
            for (_, print) in addresses_of(&desired, configured.shares_ids(source).unwrap_or_default(), &self.hash) {
                add_address(&transaction, ContactId(*contact), print)?;
            }
        }
        let last = contacts.last().map(|(contact, ..)| *contact);
        if last.is_none() {
            put_setting(&transaction, STORED, wanted)?;
        }
        transaction.commit().attempt(ACTION)?;
        Ok(last)
    }
}

/// Which addresses are kept: every e-mail and phone, and the external ids of these sources.
fn kept_addresses(configured: &Configured) -> String {
    let sharing = configured.sources.iter().filter(|(_, shares_ids)| *shares_ids);
    let mut names: Vec<&str> = sharing.map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    format!("all; ids of {}", names.join(", "))
}
