//! Reteno's ids that had to be found out: what they were wanted for goes on, or cannot.

use rusqlite::{Transaction, params};

use crate::clock::Timestamp;
use crate::plan::{ContactId, ImportId};

use super::rejections::{RejectionKind, record_rejection};
use super::settle::close;
use super::settle_deeds::{ACTION, Deed, REFUSED_WAIT_MS, end_row, load_deeds};
use super::{Attempt, Checkpoint, CheckpointError};

impl Checkpoint {
    /// Reteno has told its id of those it was asked for; whom it did not name it does not know, or has deleted.
    pub fn settle_learnt(
        &mut self,
        import: ImportId,
        told: &[(ContactId, i64)],
        now: Timestamp,
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
            transaction.execute("DELETE FROM deed WHERE id = ?1", [deed.id]).attempt(ACTION)?;
        }
        close(&transaction, import, None)?;
        transaction.commit().attempt(ACTION)
    }
}

/// The alert about an erasure that cannot be carried out.
pub(super) fn erase_alert(deed: i64) -> String {
    format!("erase-{deed}")
}

/// Reteno did not tell its id: it does not know the contact, or has deleted it. So there is nothing left to delete; but an
/// erasure without an id is not done, which a person has to know.
fn cannot_learn(transaction: &Transaction<'_>, deed: &Deed, now: Timestamp) -> Result<(), CheckpointError> {
    let erasures: Vec<i64> = transaction
        .prepare_cached("SELECT id FROM deed WHERE contact = ?1 AND kind = 'erase'")
        .and_then(|mut query| query.query_map([deed.contact], |row| row.get(0))?.collect())
        .attempt(ACTION)?;
    for erasure in erasures {
        transaction
            .execute(
                "INSERT OR IGNORE INTO alert (name, text, hint, since) VALUES (?1, ?2, ?3, ?4)",
                params![
                    erase_alert(erasure),
                    format!("contact {} cannot be erased: Reteno does not tell its id of it", deed.key),
                    "look for the contact in Reteno, among the deleted ones too, and erase it there by hand",
                    now.0
                ],
            )
            .and_then(|_| {
                transaction
                    .execute("UPDATE deed SET not_before = ?2 WHERE id = ?1", params![erasure, now.0 + REFUSED_WAIT_MS])
            })
            .attempt(ACTION)?;
    }
    let deleted = transaction
        .execute("DELETE FROM deed WHERE contact = ?1 AND kind = 'delete' AND import IS NULL", [deed.contact])
        .attempt(ACTION)?;
    if deleted > 0 {
        return end_row(transaction, deed.contact);
    }
    let is_categories = transaction
        .execute(
            "UPDATE contact SET stuck = 1 WHERE id = ?1 AND stuck = 0 AND import IS NULL AND acknowledged IS NOT NULL",
            [deed.contact],
        )
        .attempt(ACTION)?;
    if is_categories > 0 {
        transaction.execute("DELETE FROM waiting WHERE contact = ?1", [deed.contact]).attempt(ACTION)?;
        let reason = "Reteno does not tell its id of the contact, so its categories cannot be set; it was deleted there, \
                      most likely";
        let what = (RejectionKind::Skipped, None, reason);
        record_rejection(transaction, deed.source, (Some(&deed.key), None), what, now.0)?;
    }
    Ok(())
}
