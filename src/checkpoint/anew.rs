//! Beginning anew: an older copy of the database was put in place, or another account was authorized.

use std::time::Duration;

use crate::clock::Timestamp;

use super::renewal::remember_told;
use super::{Attempt, Checkpoint, CheckpointError};

impl Checkpoint {
    /// Takes all that Reteno holds as unknown (an older database was put in place of this one, or another account was
    /// authorized): every contact is due again, from a full read of its source; what was under way is a ghost.
    pub fn forget_acknowledged(&mut self, now: Timestamp, import_age_max: Duration) -> Result<(), CheckpointError> {
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .attempt("forget what Reteno holds")?;
        remember_told(&transaction, "TRUE", [])?;
        transaction
            .execute_batch(
                "UPDATE contact SET acknowledged = x'', import = NULL, reteno_id = NULL, split = NULL, not_before = 0, \
                 attempts = 0, stuck = iif(blocked_by IS NULL, 2, 3), weighed = x'', doubt = NULL, doubt_until = NULL, \
                 older_read = NULL; \
                 DELETE FROM waiting; \
                 DELETE FROM consent; \
                 UPDATE deed SET import = NULL, not_before = 0, reteno_id = NULL, \
                   state = iif(kind IN ('learn', 'resubscribe') OR state = 'held', state, 'unjudged'); \
                 DELETE FROM deed WHERE kind IN ('learn', 'resubscribe') OR kind = 'unsubscribe' AND cause <> 'gone'; \
                 DELETE FROM rejection WHERE kind IN ('reteno', 'skipped'); \
                 DELETE FROM setting WHERE name = 'catalog'; \
                 UPDATE source SET full_read_wanted = rereads <> 2, restored = 1;",
            )
            .attempt("forget what Reteno holds")?;
        transaction
            .execute(
                "UPDATE import SET state = 'ghost', body = NULL, ghost_until = max(coalesce(ghost_until, 0), ?1)",
                [now.plus(import_age_max).0],
            )
            .attempt("forget what Reteno holds")?;
        transaction.commit().attempt("forget what Reteno holds")
    }

    /// Another account was authorized: it has been told of nobody, and what comes is its first load. What a call has
    /// started for a contact (a letter of a form, a workflow) is not started for the same person again.
    pub(super) fn forget_telling(&mut self) -> Result<(), CheckpointError> {
        self.connection
            .execute_batch(
                "UPDATE contact SET told = 0, restores = 0; \
                 UPDATE source SET restored = 0, first_load_done = 0; \
                 DELETE FROM deed; DELETE FROM opt_out; DELETE FROM passed;",
            )
            .attempt("begin anew with another account")
    }
}
