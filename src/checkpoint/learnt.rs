//! Reteno's ids that have to be found out, and then: what they were wanted for goes on, or cannot.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints};
use crate::plan::change::Sides;
use crate::plan::deed::{DeedId, DeedKind};
use crate::plan::{ContactId, ImportId};

use super::consents::IDENTITY;
use super::duplicates::Duplicates;
use super::rejections::{RejectionKind, record_rejection};
use super::removal::end_row;
use super::renewal::renew_opt_outs;
use super::seal::Sealer;
use super::settle::close;
use super::settle_deeds::{ACTION, Deed, REFUSED_WAIT_MS, forget_trouble, load_deed, load_deeds, trouble_alert};
use super::waiting::load_values;
use super::wanted::drop_rereadable;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// Of a deed `d`: what finds its id out.
const ASK: &str = "INSERT OR IGNORE INTO deed (source, contact, key, kind, cause, identity, state, cycle, not_before) \
                   SELECT d.source, d.contact, d.key, 'learn', 'again', d.identity, 'due', d.cycle, 0 FROM deed d \
                   LEFT JOIN contact c ON c.id = d.contact WHERE d.identity IS NOT NULL AND c.import IS NULL AND ";

/// By those that wait, and not by all the contacts whose id is known.
pub(super) const FORGET_KNOWN: &str = "DELETE FROM deed WHERE kind = 'learn' AND state = 'due' AND import IS NULL \
                                       AND EXISTS (SELECT 1 FROM contact c WHERE c.id = deed.contact AND c.reteno_id IS NOT NULL)";

impl Checkpoint {
    /// An id that is known by now need not be asked for: the end of an import that held the contact may have told it.
    pub(super) fn forget_known_ids(&mut self) -> Result<(), CheckpointError> {
        self.connection
            .prepare_cached(FORGET_KNOWN)
            .and_then(|mut delete| delete.execute([]))
            .attempt("ask for Reteno's ids")
            .map(|_| ())
    }

    /// Asks for Reteno's ids of those whom nothing else names.
    pub(super) fn ask_for_ids_of(&mut self, deeds: &[DeedId], now: Timestamp) -> Result<(), CheckpointError> {
        const ACTION: &str = "ask for Reteno's ids";
        for deed in deeds {
            let asked = self.connection.execute(&format!("{ASK}d.id = ?1"), [deed.0]).attempt(ACTION)?;
            if asked > 0 || self.has_identity(*deed)? {
                continue;
            }
            let transaction =
                self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
            if let Some(deed) = load_deed(&transaction, deed.0)? {
                cannot_name(&transaction, &deed, now)?;
            }
            transaction.commit().attempt(ACTION)?;
        }
        Ok(())
    }

    fn has_identity(&self, deed: DeedId) -> Result<bool, CheckpointError> {
        self.connection
            .query_row("SELECT identity IS NOT NULL FROM deed WHERE id = ?1", [deed.0], |row| row.get(0))
            .attempt("ask for Reteno's ids")
    }

    /// Asks for Reteno's id of a contact whose categories are to be set.
    pub fn want_id(&mut self, contact: ContactId, now: Timestamp) -> Result<(), CheckpointError> {
        const ACTION: &str = "ask for Reteno's ids";
        let is_asked: bool = self
            .connection
            .query_row("SELECT EXISTS (SELECT 1 FROM deed WHERE contact = ?1 AND kind = 'learn')", [contact.0], |row| {
                row.get(0)
            })
            .attempt(ACTION)?;
        if is_asked {
            return Ok(());
        }
        let values = load_values(&self.connection, contact.0, Sealer::of(&self.sealing_key))?;
        let Some(mut values) = values else { return Ok(()) };
        values.retain_fields(&[Field::ExternalCustomerId, Field::Email, Field::Sms]);
        let sealed = self.seal(IDENTITY, &values.encode(), &self.random)?;
        self.connection
            .execute(
                "INSERT OR IGNORE INTO cycle (source, began) SELECT source, ?2 FROM contact WHERE id = ?1",
                [contact.0, now.0],
            )
            .and_then(|_| {
                self.connection.execute(
                    "INSERT OR IGNORE INTO deed (source, contact, key, kind, cause, identity, state, cycle) \
                     SELECT source, id, key, 'learn', 'again', ?2, 'due', \
                       (SELECT id FROM cycle WHERE cycle.source = contact.source AND began = ?3) FROM contact WHERE id = ?1",
                    params![contact.0, sealed, now.0],
                )
            })
            .attempt(ACTION)
            .map(|_| ())
    }

    /// Reteno has told its id of those it was asked for; whom it did not name it does not know, or has deleted. A copy of
    /// the question may still be applied until `ghost_until`, and would make an erased contact anew.
    pub fn settle_learnt(
        &mut self,
        import: ImportId,
        told: &[(ContactId, i64)],
        now: Timestamp,
        ghost_until: Option<Timestamp>,
    ) -> Result<(), CheckpointError> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        for deed in load_deeds(&transaction, import)? {
            let found = told.iter().find(|(contact, _)| contact.0 == deed.contact).map(|(_, id)| *id);
            match found {
                Some(id) => {
                    transaction
                        .execute("UPDATE contact SET reteno_id = ?2 WHERE id = ?1", params![deed.contact, id])
                        .and_then(|_| {
                            transaction
                                .execute("UPDATE deed SET reteno_id = ?2 WHERE contact = ?1", params![deed.contact, id])
                        })
                        .attempt(ACTION)?;
                }
                None => cannot_learn(&transaction, &deed, now)?,
            }
            forget_trouble(&transaction, &deed)?;
            transaction.execute("DELETE FROM deed WHERE id = ?1", [deed.id]).attempt(ACTION)?;
        }
        renew_opt_outs(&transaction, import)?;
        close(&transaction, import, ghost_until.map(|until| until.0).filter(|until| *until > now.0))?;
        transaction.commit().attempt(ACTION)
    }
}

/// Nothing is known by which Reteno could be asked for its id.
fn cannot_name(transaction: &Transaction<'_>, deed: &Deed, now: Timestamp) -> Result<(), CheckpointError> {
    if deed.kind == DeedKind::Erase {
        return cannot_erase(transaction, deed, "neither Reteno's id of it nor its address is known", now);
    }
    let reason = format!("{}: neither Reteno's id of it nor its address is known", deed.kind.name());
    let what = (RejectionKind::Reteno, None, reason.as_str());
    record_rejection(transaction, deed.source, (Some(&deed.key), None), what, now.0)?;
    wait(transaction, deed.id, now)
}

/// An erasure that cannot be carried out is an alert that stays; it is tried again, since the reason may pass.
fn cannot_erase(
    transaction: &Transaction<'_>,
    deed: &Deed,
    reason: &str,
    now: Timestamp,
) -> Result<(), CheckpointError> {
    transaction
        .execute(
            "INSERT OR IGNORE INTO alert (name, text, hint, since) VALUES (?1, ?2, ?3, ?4)",
            params![
                trouble_alert(DeedKind::Erase, deed.source, &deed.key),
                format!("contact {} cannot be erased: {reason}", deed.key),
                "look for the contact in Reteno, among the deleted ones too, and erase it there by hand",
                now.0
            ],
        )
        .attempt(ACTION)?;
    wait(transaction, deed.id, now)
}

/// The id that an erasure needs is not told.
pub(super) fn tell_erasures(
    transaction: &Transaction<'_>,
    contact: i64,
    now: Timestamp,
) -> Result<(), CheckpointError> {
    let erasures: Vec<i64> = transaction
        .prepare_cached("SELECT id FROM deed WHERE contact = ?1 AND kind = 'erase'")
        .and_then(|mut query| query.query_map([contact], |row| row.get(0))?.collect())
        .attempt(ACTION)?;
    for erasure in erasures {
        if let Some(erasure) = load_deed(transaction, erasure)? {
            cannot_erase(transaction, &erasure, "Reteno does not tell its id of it", now)?;
        }
    }
    Ok(())
}

fn wait(transaction: &Transaction<'_>, deed: i64, now: Timestamp) -> Result<(), CheckpointError> {
    transaction
        .execute("UPDATE deed SET not_before = ?2 WHERE id = ?1", params![deed, now.0 + REFUSED_WAIT_MS])
        .attempt(ACTION)
        .map(|_| ())
}

/// Reteno did not tell its id: it does not know the contact, or has deleted it. So there is nothing left to delete; but an
/// erasure without an id is not done, which a person has to know.
fn cannot_learn(transaction: &Transaction<'_>, deed: &Deed, now: Timestamp) -> Result<(), CheckpointError> {
    tell_erasures(transaction, deed.contact, now)?;
    let deleted = transaction
        .execute("DELETE FROM deed WHERE contact = ?1 AND kind = 'delete' AND import IS NULL", [deed.contact])
        .attempt(ACTION)?;
    if deleted > 0 {
        return end_row(transaction, deed.contact, false);
    }
    if waits_for_categories(transaction, deed.contact)? {
        transaction.execute("UPDATE contact SET stuck = 1 WHERE id = ?1", [deed.contact]).attempt(ACTION)?;
        Duplicates::of(transaction, now.0)?.give_way(ContactId(deed.contact))?;
        drop_rereadable(transaction, deed.contact)?;
        let reason = "Reteno does not tell its id of the contact, so its categories cannot be set; it was deleted there, \
                      most likely";
        let what = (RejectionKind::Skipped, None, reason);
        record_rejection(transaction, deed.source, (Some(&deed.key), None), what, now.0)?;
    }
    Ok(())
}

/// Whether nothing but its categories is due of a contact.
fn waits_for_categories(transaction: &Transaction<'_>, contact: i64) -> Result<bool, CheckpointError> {
    let row: Option<(Vec<u8>, Vec<u8>)> = transaction
        .prepare_cached(
            "SELECT desired, acknowledged FROM contact \
             WHERE id = ?1 AND stuck = 0 AND import IS NULL AND acknowledged IS NOT NULL",
        )
        .and_then(|mut query| query.query_row([contact], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .attempt(ACTION)?;
    let Some((desired, acknowledged)) = row else { return Ok(false) };
    let prints = |blob: &[u8]| FieldPrints::decode(blob).map_err(unreadable("list of prints"));
    let sides = Sides { desired: prints(&desired)?, acknowledged: Some(prints(&acknowledged)?) };
    Ok(sides.due() == [Field::Subscriptions])
}
