//! The values of contacts that wait to be acknowledged, sealed as the bodies of calls are: what waits, or what the guard holds, may wait for long, and
//! whoever reads the disk meanwhile learns nothing.

use rusqlite::{Connection, OptionalExtension, params};

use crate::contact::Values;
use crate::random::Random;

use super::exports::BODY;
use super::seal::Sealer;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// What sealed values are called; each is bound to its contact.
const VALUES: &str = "waiting value";
/// The setting that says that all of them are sealed: an earlier version did not.
const SEALED: &str = "waiting values";

/// Keeps the values of a contact until they are acknowledged.
pub(super) fn store_values(
    connection: &Connection,
    contact: i64,
    values: &Values,
    (sealer, random): (Sealer, &Random),
) -> Result<(), CheckpointError> {
    let sealed = sealer.seal_at(VALUES, &contact.to_string(), &values.encode(), random)?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO waiting (contact, vals) VALUES (?1, ?2)")
        .and_then(|mut store| store.execute(params![contact, sealed]))
        .attempt("store waiting values")
        .map(|_| ())
}

/// The values of a contact, where it waits.
pub(super) fn load_values(
    connection: &Connection,
    contact: i64,
    sealer: Sealer,
) -> Result<Option<Values>, CheckpointError> {
    let sealed: Option<Vec<u8>> = connection
        .prepare_cached("SELECT vals FROM waiting WHERE contact = ?1")
        .and_then(|mut query| query.query_row([contact], |row| row.get(0)).optional())
        .attempt("read waiting values")?;
    sealed.map(|sealed| open_values(contact, &sealed, sealer)).transpose()
}

/// What stands sealed in the row of a contact.
pub(super) fn open_values(contact: i64, sealed: &[u8], sealer: Sealer) -> Result<Values, CheckpointError> {
    let plain = sealer.unseal_at(VALUES, &contact.to_string(), sealed)?;
    Values::decode(&plain).map_err(unreadable(VALUES))
}

impl Checkpoint {
    /// Seals what an earlier version kept in clear: once, all of it or nothing. For a million contacts some seconds. Under the
    /// lock of the sender: no earlier version writes meanwhile, nor afterwards, for it refuses the schema.
    pub(super) fn seal_waiting(&mut self) -> Result<(), CheckpointError> {
        const ACTION: &str = "seal waiting values";
        if self.load_setting::<i64>(SEALED)?.is_some() {
            return Ok(());
        }
        let (sealer, random) = (Sealer::of(&self.sealing_key), self.random.clone());
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let is_done: bool = transaction
            .query_row("SELECT EXISTS (SELECT 1 FROM setting WHERE name = ?1)", [SEALED], |row| row.get(0))
            .attempt(ACTION)?;
        if is_done {
            return Ok(());
        }
        let mut after = i64::MIN;
        loop {
            let next: Option<(i64, Vec<u8>)> = transaction
                .prepare_cached("SELECT contact, vals FROM waiting WHERE contact > ?1 ORDER BY contact LIMIT 1")
                .and_then(|mut query| query.query_row([after], |row| Ok((row.get(0)?, row.get(1)?))).optional())
                .attempt(ACTION)?;
            let Some((contact, plain)) = next else { break };
            // an earlier program wrote in clear beside one that sealed
            if sealer.unseal_at(VALUES, &contact.to_string(), &plain).is_err() {
                let values = Values::decode(&plain).map_err(unreadable(VALUES))?;
                store_values(&transaction, contact, &values, (sealer, &random))?;
            }
            after = contact;
        }
        // an upload's was sealed before: a link stands in it
        let bodies: Vec<(i64, Vec<u8>)> = transaction
            .prepare_cached("SELECT id, body FROM import WHERE body IS NOT NULL AND link IS NULL")
            .and_then(|mut query| query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .attempt(ACTION)?;
        for (import, body) in bodies {
            if sealer.unseal(BODY, &body).is_ok() {
                continue;
            }
            let sealed = sealer.seal(BODY, &body, &random)?;
            transaction
                .execute("UPDATE import SET body = ?2 WHERE id = ?1", params![import, sealed])
                .attempt(ACTION)?;
        }
        super::open::put_setting(&transaction, SEALED, 1)?;
        transaction.commit().attempt(ACTION)
    }
}
