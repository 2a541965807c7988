//! Alerts: one a cause. It is raised once, stands until its cause ends, and is shown by `status`.

use rusqlite::params;

use crate::clock::Timestamp;

use super::{Attempt, Checkpoint, CheckpointError};

/// Something that a person has to know.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Alert {
    /// Which cause: a stable word.
    pub name: String,
    /// What is wrong.
    pub text: String,
    /// The command or key that repairs it.
    pub hint: String,
    /// Since when.
    pub since: Timestamp,
}

impl Checkpoint {
    /// Raises an alert, or renews the words of one that stands; says whether it is news.
    pub fn raise_alert(&mut self, name: &str, text: &str, hint: &str, now: Timestamp) -> Result<bool, CheckpointError> {
        self.connection
            .execute(
                "UPDATE alert SET text = ?2, hint = ?3 WHERE name = ?1 AND (text, hint) <> (?2, ?3)",
                params![name, text, hint],
            )
            .and_then(|_| {
                self.connection.execute(
                    "INSERT OR IGNORE INTO alert (name, text, hint, since) VALUES (?1, ?2, ?3, ?4)",
                    params![name, text, hint, now.0],
                )
            })
            .attempt("store an alert")
            .map(|rows| rows > 0)
    }

    /// Ends an alert; says whether it stood.
    pub fn end_alert(&mut self, name: &str) -> Result<bool, CheckpointError> {
        // asked often, and seldom there: a look does not wait for other writers
        let stands: bool = self
            .connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM alert WHERE name = ?1)")
            .and_then(|mut query| query.query_row([name], |row| row.get(0)))
            .attempt("read alerts")?;
        if !stands {
            return Ok(false);
        }
        self.connection
            .execute("DELETE FROM alert WHERE name = ?1", [name])
            .attempt("end an alert")
            .map(|rows| rows > 0)
    }

    /// Ends every alert whose name begins so, but those in `kept`.
    pub fn end_alerts_but(&mut self, beginning: &str, kept: &[String]) -> Result<(), CheckpointError> {
        for alert in self.load_alerts()? {
            if alert.name.starts_with(beginning) && !kept.contains(&alert.name) {
                self.end_alert(&alert.name)?;
            }
        }
        Ok(())
    }

    /// All alerts, oldest first.
    pub fn load_alerts(&self) -> Result<Vec<Alert>, CheckpointError> {
        let mut query = self
            .connection
            .prepare_cached("SELECT name, text, hint, since FROM alert ORDER BY since, name")
            .attempt("read alerts")?;
        let rows = query.query_map([], |row| {
            Ok(Alert { name: row.get(0)?, text: row.get(1)?, hint: row.get(2)?, since: Timestamp(row.get(3)?) })
        });
        rows.and_then(Iterator::collect).attempt("read alerts")
    }
}
