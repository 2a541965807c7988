//! Erasures begin: the tombstone first, and then nothing of the contact may be sent any more.

use std::time::Duration;

use rusqlite::Transaction;

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints};
use crate::plan::ImportId;
use crate::plan::deed::{DeedId, DeedKind};
use crate::plan::outcome::MemberOutcome;

use super::duplicates::is_shared;
use super::endings::begin_erasure;
use super::exports::end_links;
use super::settle::{Settlement, UnknownFate};
use super::subjects::drop_survivor;
use super::tombstones::Grave;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// By the index of those alone: very many may wait for something else.
pub(super) const UNBURIED: &str = "SELECT d.id, d.contact, s.name, d.key, c.desired FROM deed d CROSS JOIN source s ON s.id = d.source \
                                   LEFT JOIN contact c ON c.id = d.contact \
                                   WHERE d.kind = 'erase' AND d.state = 'due' AND d.buried = 0";

impl Checkpoint {
    /// Erasures that may begin leave their tombstone, first in the file, then in the database: from that commit on no call
    /// may carry the contact. What was sent with it and not answered is not sent again.
    pub(super) fn bury_due(&mut self, now: Timestamp, import_age_max: Duration) -> Result<(), CheckpointError> {
        const ACTION: &str = "begin an erasure";
        type Found = (i64, i64, String, String, Option<Vec<u8>>);
        let due: Vec<Found> = self
            .connection
            .prepare_cached(UNBURIED)
            .and_then(|mut query| {
                query
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?
                    .collect()
            })
            .attempt(ACTION)?;
        for (deed, contact, source, key, desired) in due {
            let transaction = self.connection.transaction().attempt(ACTION)?;
            let lives = drop_survivor(&transaction, DeedId(deed), (contact, DeedKind::Erase))?;
            transaction.commit().attempt(ACTION)?;
            if lives {
                continue;
            }
            let mut desired =
                FieldPrints::decode(&desired.unwrap_or_default()).map_err(unreadable("list of prints"))?;
            for channel in [Field::Email, Field::Sms] {
                // it belongs to somebody who is not erased, too: the two were merged
                if desired.get(channel).map_or(Ok(false), |print| is_shared(&self.connection, contact, print))? {
                    desired.remove(channel);
                }
            }
            let grave = Grave::of(&source, &key, &desired, &self.hash);
            self.append_grave(&grave, now)?;
            let transaction =
                self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
            // first, while the other rows of the contact stand
            let unanswered = unanswered_calls(&transaction, contact)?;
            begin_erasure(&transaction, contact, now.0, &grave)?;
            end_links(&transaction, contact)?;
            transaction.execute("UPDATE deed SET buried = 1 WHERE id = ?1", [deed]).attempt(ACTION)?;
            transaction.commit().attempt(ACTION)?;
            for import in unanswered {
                self.stop_repeating(ImportId(import), now, now.plus(import_age_max))?;
            }
        }
        Ok(())
    }

    /// What was sent and not answered is not sent again: its body is dropped, and its members are due in their newest
    /// state.
    fn stop_repeating(
        &mut self,
        import: ImportId,
        now: Timestamp,
        ghost_until: Timestamp,
    ) -> Result<(), CheckpointError> {
        let members = self.load_members(import)?;
        let members = members.into_iter().map(|member| (member.contact, MemberOutcome::Unknown)).collect();
        let settlement =
            Settlement { members, fate: UnknownFate::Release, wrote_nothing: false, ghost_until: Some(ghost_until) };
        self.settle_import(import, &settlement, now)
    }
}

/// The calls that carry a contact (or another row of the contact that it is in Reteno) and got no answer.
fn unanswered_calls(transaction: &Transaction<'_>, contact: i64) -> Result<Vec<i64>, CheckpointError> {
    transaction
        .prepare_cached(
            "SELECT i.id FROM import i WHERE i.state = 'intent' AND EXISTS (SELECT 1 FROM contact c \
             CROSS JOIN member m ON m.import = i.id AND m.contact = c.id AND m.deed IS NULL WHERE c.id = ?1 \
             OR c.reteno_id = (SELECT reteno_id FROM contact WHERE id = ?1))",
        )
        .and_then(|mut query| query.query_map([contact], |row| row.get(0))?.collect())
        .attempt("look for calls without an answer")
}
