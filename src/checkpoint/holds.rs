//! What the guard holds: a fixed list with a number, until a person approves it or the CRM changes back.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints, Fingerprint};

use super::pages::Page;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// A list that the guard holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Hold {
    /// Its number: never given twice.
    pub id: i64,
    /// The source's name.
    pub source: String,
    /// What it would do.
    pub verb: String,
    /// How much, and which limit that exceeds.
    pub reason: String,
    /// Since when.
    pub created_at: Timestamp,
    /// Contacts on its list.
    pub contacts: u64,
}

/// What an approval comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// There is no such list.
    Unknown,
    /// More came to the list since it was told, and nobody has looked at it: nothing is released.
    Unseen,
    /// It is released.
    Released(Approved),
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HeldItem {
    /// The CRM's id.
    pub key: String,
    /// Reteno's field; `None`: the contact as a whole.
    pub field: Option<String>,
}

/// What an approval came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Approved {
    /// Entries that go out now.
    pub released: u64,
    /// Entries whose contact wants something else by now: they stay as the CRM says.
    pub lapsed: u64,
}

impl Page<'_> {
    /// What is held of a contact and is not wanted any more leaves its list.
    pub(super) fn lapse(&self, contact: i64, desired: &FieldPrints) -> Result<(), CheckpointError> {
        const ACTION: &str = "let a hold lapse";
        let items: Vec<(i64, i64, i64)> = self
            .statement("SELECT hold, field, print FROM held WHERE contact = ?1 AND field > 0")?
            .query_map([contact], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .and_then(Iterator::collect)
            .attempt(ACTION)?;
        let mut gone = 0;
        for (hold, code, print) in items {
            if is_wanted(desired, code, print) {
                continue;
            }
            self.forget_weighed(contact, code)?;
            gone += self
                .statement("DELETE FROM held WHERE contact = ?1 AND field = ?2 AND hold = ?3")?
                .execute(params![contact, code, hold])
                .attempt(ACTION)?;
        }
        if gone == 0 {
            return Ok(());
        }
        self.statement("UPDATE contact SET held = held - ?2 WHERE id = ?1")?
            .execute(params![contact, gone.cast_signed()])
            .attempt(ACTION)?;
        drop_empty_holds(self.transaction)
    }

    /// A change that comes back after its hold has lapsed is another one, and is weighed again.
    fn forget_weighed(&self, contact: i64, code: i64) -> Result<(), CheckpointError> {
        const ACTION: &str = "let a hold lapse";
        let weighed: Option<Vec<u8>> = self
            .statement("SELECT weighed FROM contact WHERE id = ?1")?
            .query_row([contact], |row| row.get(0))
            .attempt(ACTION)?;
        let field = u32::try_from(code).ok().and_then(Field::from_code);
        let (Some(weighed), Some(field)) = (weighed, field) else { return Ok(()) };
        let mut weighed = FieldPrints::decode(&weighed).map_err(unreadable("list of prints"))?;
        weighed.remove(field);
        self.statement("UPDATE contact SET weighed = ?2 WHERE id = ?1")?
            .execute(params![contact, weighed.encode()])
            .attempt(ACTION)
            .map(|_| ())
    }
}

/// Puts a change on a list.
pub(super) fn hold_item(
    transaction: &Transaction<'_>,
    hold: i64,
    contact: i64,
    field: Option<Field>,
    print: Fingerprint,
) -> Result<(), CheckpointError> {
    transaction
        .prepare_cached("INSERT OR IGNORE INTO held (hold, contact, field, print) VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut insert| {
            insert.execute(params![
                hold,
                contact,
                field.map_or(0, |field| i64::from(field.code())),
                print.to_u64().cast_signed()
            ])
        })
        .and_then(|added| {
            transaction
                .prepare_cached("UPDATE contact SET held = held + ?2 WHERE id = ?1")
                .and_then(|mut update| update.execute(params![contact, added.cast_signed()]))
        })
        .attempt("hold a change")
        .map(|_| ())
}

fn is_wanted(desired: &FieldPrints, code: i64, print: i64) -> bool {
    u32::try_from(code)
        .ok()
        .and_then(Field::from_code)
        .and_then(|field| desired.get(field))
        .is_some_and(|wanted| wanted.to_u64().cast_signed() == print)
}

/// Frees a contact whose held opt-out is off, and forgets lists that nothing stands on any more.
pub(super) fn free_contact(transaction: &Transaction<'_>, contact: i64) -> Result<(), CheckpointError> {
    const ACTION: &str = "free what was held of a contact";
    if !has_holds(transaction)? {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "DELETE FROM held WHERE contact = ?1 AND hold IN (SELECT id FROM hold WHERE verb = 'unsubscribe') \
             AND NOT EXISTS (SELECT 1 FROM deed WHERE deed.contact = held.contact AND deed.hold = held.hold)",
        )
        .and_then(|mut delete| delete.execute([contact]))
        .and_then(|_| {
            transaction
                .prepare_cached(
                    "UPDATE contact SET held = (SELECT count(*) FROM held WHERE held.contact = contact.id) WHERE id = ?1",
                )
                .and_then(|mut update| update.execute([contact]))
        })
        .attempt(ACTION)?;
    drop_empty_holds(transaction)
}

/// The same for every contact: for what changes many at once, since it looks at all.
pub(super) fn free_contacts(transaction: &Transaction<'_>) -> Result<(), CheckpointError> {
    if !has_holds(transaction)? {
        return Ok(());
    }
    transaction
        .execute_batch(
            "DELETE FROM held WHERE hold IN (SELECT id FROM hold WHERE verb = 'unsubscribe') AND NOT EXISTS \
               (SELECT 1 FROM deed WHERE deed.contact = held.contact AND deed.hold = held.hold); \
             UPDATE contact SET held = (SELECT count(*) FROM held WHERE held.contact = contact.id) WHERE held > 0;",
        )
        .attempt("free what was held")?;
    drop_empty_holds(transaction)
}

fn has_holds(transaction: &Transaction<'_>) -> Result<bool, CheckpointError> {
    transaction
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM hold)")
        .and_then(|mut query| query.query_row([], |row| row.get(0)))
        .attempt("look for holds")
}

/// Forgets lists that nothing stands on any more, and their alerts.
pub(super) fn drop_empty_holds(transaction: &Transaction<'_>) -> Result<(), CheckpointError> {
    if !has_holds(transaction)? {
        return Ok(());
    }
    transaction
        .execute_batch(
            "DELETE FROM hold WHERE NOT EXISTS (SELECT 1 FROM held WHERE held.hold = hold.id) \
               AND NOT EXISTS (SELECT 1 FROM deed WHERE deed.hold = hold.id); \
             DELETE FROM alert WHERE name LIKE 'hold-%' AND substr(name, 6) NOT IN (SELECT id FROM hold);",
        )
        .attempt("forget an empty hold")
}

const CONTACTS: &str = "(SELECT count(*) FROM (SELECT contact FROM held WHERE hold = h.id \
                        UNION SELECT contact FROM deed WHERE hold = h.id))";

impl Checkpoint {
    /// All lists, oldest first.
    pub fn load_holds(&self) -> Result<Vec<Hold>, CheckpointError> {
        const ACTION: &str = "read what is held";
        let mut query = self
            .connection
            .prepare_cached(&format!(
                "SELECT h.id, s.name, h.verb, h.reason, h.created_at, {CONTACTS} \
                 FROM hold h JOIN source s ON s.id = h.source ORDER BY h.id"
            ))
            .attempt(ACTION)?;
        let rows = query.query_map([], |row| {
            Ok(Hold {
                id: row.get(0)?,
                source: row.get(1)?,
                verb: row.get(2)?,
                reason: row.get(3)?,
                created_at: Timestamp(row.get(4)?),
                contacts: row.get::<_, i64>(5)?.cast_unsigned(),
            })
        });
        rows.and_then(Iterator::collect).attempt(ACTION)
    }

    /// How many contacts are held in one way or another.
    pub fn count_held(&self) -> Result<u64, CheckpointError> {
        self.connection
            .query_row(
                "SELECT count(*) FROM (SELECT contact FROM held UNION SELECT contact FROM deed WHERE state = 'held')",
                [],
                |row| row.get::<_, i64>(0),
            )
            .attempt("count what is held")
            .map(i64::cast_unsigned)
    }

    /// The entries of a list, in the order of arrival of their contacts; at most `limit`.
    pub fn load_held_items(&self, hold: i64, limit: u32) -> Result<Vec<HeldItem>, CheckpointError> {
        const ACTION: &str = "read what is held";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT k, f FROM (SELECT c.id AS id, c.key AS k, h.field AS f FROM held h \
                 JOIN contact c ON c.id = h.contact WHERE h.hold = ?1 \
                 UNION SELECT contact, key, 0 FROM deed WHERE hold = ?1) ORDER BY id, f LIMIT ?2",
            )
            .attempt(ACTION)?;
        let rows = query.query_map(params![hold, limit], |row| {
            let code: i64 = row.get(1)?;
            let field = u32::try_from(code).ok().filter(|code| *code > 0).and_then(Field::from_code);
            Ok(HeldItem { key: row.get(0)?, field: field.map(|field| field.to_string()) })
        });
        rows.and_then(Iterator::collect).attempt(ACTION)
    }

    /// A person looks at the lists: what comes from now on goes on other ones.
    pub fn note_seen(&mut self, holds: &[i64]) -> Result<(), CheckpointError> {
        for hold in holds {
            self.connection
                .execute("UPDATE hold SET seen = 1 WHERE id = ?1 AND seen = 0", [hold])
                .attempt("note that a list was looked at")?;
        }
        Ok(())
    }

    /// Releases exactly what stands on a list, as far as the CRM still wants it.
    pub fn approve_hold(&mut self, hold: i64) -> Result<Approval, CheckpointError> {
        const ACTION: &str = "release what is held";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let is_unseen: Option<bool> = transaction
            .query_row("SELECT grown = 1 AND seen = 0 FROM hold WHERE id = ?1", [hold], |row| row.get(0))
            .optional()
            .attempt(ACTION)?;
        match is_unseen {
            None => return Ok(Approval::Unknown),
            Some(true) => return Ok(Approval::Unseen),
            Some(false) => {}
        }
        let mut approved = Approved::default();
        // a raise only where the record still says yes of the address
        let lapsed = transaction
            .execute(
                "DELETE FROM deed WHERE hold = ?1 AND kind = 'resubscribe' AND NOT EXISTS (SELECT 1 FROM consent s \
                 JOIN contact c ON c.id = s.contact WHERE s.contact = deed.contact AND s.address = deed.address \
                 AND s.said = 2 AND c.sightings < 2 AND c.stuck <> 4)",
                [hold],
            )
            .attempt(ACTION)?;
        approved.lapsed += lapsed as u64;
        let deeds = transaction
            .execute("UPDATE deed SET state = 'due', hold = NULL WHERE hold = ?1", [hold])
            .attempt(ACTION)?;
        approved.released += deeds as u64;
        let items: Vec<(i64, i64, i64)> = transaction
            .prepare_cached("SELECT contact, field, print FROM held WHERE hold = ?1")
            .and_then(|mut query| query.query_map([hold], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect())
            .attempt(ACTION)?;
        for (contact, code, print) in items {
            let desired: Option<Vec<u8>> = transaction
                .prepare_cached("SELECT desired FROM contact WHERE id = ?1")
                .and_then(|mut query| query.query_row([contact], |row| row.get(0)).optional())
                .attempt(ACTION)?;
            let desired = desired
                .map(|blob| FieldPrints::decode(&blob))
                .transpose()
                .map_err(unreadable("list of prints"))?
                .unwrap_or_default();
            let is_same = code == 0 || is_wanted(&desired, code, print);
            // an opt-out's contact is counted with its deed
            match (deeds > 0, is_same) {
                (true, _) => {}
                (false, true) => approved.released += 1,
                (false, false) => approved.lapsed += 1,
            }
            transaction
                .prepare_cached("UPDATE contact SET held = held - 1 WHERE id = ?1")
                .and_then(|mut update| update.execute([contact]))
                .attempt(ACTION)?;
        }
        transaction.execute("DELETE FROM held WHERE hold = ?1", [hold]).attempt(ACTION)?;
        drop_empty_holds(&transaction)?;
        transaction.commit().attempt(ACTION)?;
        Ok(Approval::Released(approved))
    }
}
