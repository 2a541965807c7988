//! What a sender waits for, kept for the process after it: without it a restart would forget the reason to wait.

use crate::clock::Timestamp;

use super::{Attempt, Checkpoint, CheckpointError};

const HALVING: &str = "halving";
const ASKED: &str = "asked to wait";

impl Checkpoint {
    /// What is known of the sets of fields that Reteno refuses, in the words of [`crate::plan::halving`].
    pub fn load_halving(&self) -> Result<Option<String>, CheckpointError> {
        self.load_setting(HALVING)
    }

    /// Keeps it.
    pub fn store_halving(&self, halving: &str) -> Result<(), CheckpointError> {
        self.store_setting(HALVING, halving)
    }

    /// Writes something, to find out whether that is possible again.
    pub fn prove_writable(&mut self) -> Result<(), CheckpointError> {
        const ACTION: &str = "be written";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        transaction
            .execute(
                "INSERT INTO setting (name, value) VALUES ('probe', 1) \
                 ON CONFLICT (name) DO UPDATE SET value = value + 1",
                [],
            )
            .attempt(ACTION)?;
        transaction.commit().attempt(ACTION)
    }

    /// Proves that there is room for a grant that is about to be received, and that it can be written.
    pub fn prove_room(&mut self) -> Result<(), CheckpointError> {
        const ACTION: &str = "be written";
        /// As much as the tokens of any party that is known.
        const ROOM_BYTES: i64 = 64 << 10;
        self.connection
            .execute("INSERT OR REPLACE INTO setting (name, value) VALUES ('room', zeroblob(?1))", [ROOM_BYTES])
            .and_then(|_| self.connection.execute("DELETE FROM setting WHERE name = 'room'", []))
            .attempt(ACTION)
            .map(|_| ())
    }

    /// Until when Reteno has asked for peace.
    pub fn load_asked_until(&self) -> Result<Option<Timestamp>, CheckpointError> {
        Ok(self.load_setting(ASKED)?.map(Timestamp))
    }

    /// Keeps it; `None` where nothing is asked any more.
    pub fn store_asked_until(&self, until: Option<Timestamp>) -> Result<(), CheckpointError> {
        match until {
            Some(until) => self.store_setting(ASKED, until.0),
            None => self
                .connection
                .execute("DELETE FROM setting WHERE name = ?1", [ASKED])
                .attempt("forget how long to wait")
                .map(|_| ()),
        }
    }
}
