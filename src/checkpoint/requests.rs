//! What a command beside a running daemon leaves for it: the daemon sees that somebody else wrote, and what was asked for.

use rusqlite::{Connection, params};

use crate::plan::SourceId;

use super::{Attempt, Checkpoint, CheckpointError};

impl Checkpoint {
    /// A number that is another one once somebody else has written to the database. Costs next to nothing to ask.
    pub fn data_version(&self) -> Result<i64, CheckpointError> {
        self.connection
            .query_row("PRAGMA data_version", [], |row| row.get(0))
            .attempt("look whether somebody else has written to it")
    }

    /// A person asks for a full read of the source.
    pub fn ask_for_full_read(&mut self, source: SourceId) -> Result<(), CheckpointError> {
        ask_for_read(&self.connection, source)
    }

    /// Everything of every source is to be read once, as if a person had asked for it.
    pub(super) fn ask_for_full_reads(&mut self) -> Result<(), CheckpointError> {
        const ACTION: &str = "ask for full reads";
        let transaction = self.connection.transaction().attempt(ACTION)?;
        let sources: Vec<i64> = transaction
            .prepare_cached("SELECT id FROM source WHERE retired = 0 AND rereads <> 2")
            .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
            .attempt(ACTION)?;
        for source in sources {
            ask_for_read(&transaction, SourceId(source))?;
        }
        transaction.commit().attempt(ACTION)
    }

    /// Whether a person has asked for a full read of the source since it was last begun or asked so. What was asked for
    /// once is begun at once, once: where it fails it is still wanted, and waits for the schedule as any other.
    pub fn take_read_request(&mut self, source: SourceId) -> Result<bool, CheckpointError> {
        let name = request_name(source);
        // asked often, and seldom there: a look does not wait for other writers
        if self.load_setting::<i64>(&name)?.is_none() {
            return Ok(false);
        }
        forget_read_request(&self.connection, source).map(|()| true)
    }
}

/// Everything of a source is to be read, as soon as somebody can.
pub(super) fn ask_for_read(connection: &Connection, source: SourceId) -> Result<(), CheckpointError> {
    connection
        .execute("UPDATE source SET full_read_wanted = 1 WHERE id = ?1 AND rereads <> 2", [source.0])
        .and_then(|_| {
            connection
                .execute("INSERT OR REPLACE INTO setting (name, value) VALUES (?1, 1)", params![request_name(source)])
        })
        .attempt("ask for a full read")
        .map(|_| ())
}

/// A read of everything begins: nobody has to be asked any more.
pub(super) fn forget_read_request(connection: &Connection, source: SourceId) -> Result<(), CheckpointError> {
    connection
        .execute("DELETE FROM setting WHERE name = ?1", [request_name(source)])
        .attempt("forget that a full read was asked for")
        .map(|_| ())
}

fn request_name(source: SourceId) -> String {
    format!("read-asked-{}", source.0)
}
