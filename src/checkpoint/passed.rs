//! What the guard has let pass in the last day, and the lists that it opens.

use rusqlite::{OptionalExtension, params};

use crate::clock::Timestamp;
use crate::contact::{Field, Fingerprint};
use crate::plan::guard::{Verb, Weight};

use super::guard::{ACTION, HOUR_MS, HOURS_COUNTED, Judge};
use super::holds::Hold;
use super::{Attempt, CheckpointError};

impl Judge<'_> {
    pub(super) fn count_known(&self) -> Result<u64, CheckpointError> {
        self.transaction
            .prepare_cached("SELECT count(*) FROM contact WHERE source = ?1")
            .and_then(|mut query| query.query_row([self.source.0], |row| row.get::<_, i64>(0)))
            .attempt(ACTION)
            .map(i64::cast_unsigned)
    }

    pub(super) fn count_passed(&self, verb: Verb, value: Option<(Field, Fingerprint)>) -> Result<u64, CheckpointError> {
        let (field, print) = stored(value);
        self.transaction
            .prepare_cached(
                "SELECT coalesce(sum(contacts), 0) FROM passed \
                 WHERE source = ?1 AND verb = ?2 AND field = ?3 AND print = ?4 AND hour BETWEEN ?5 AND ?6",
            )
            .and_then(|mut query| {
                let hour = self.now / HOUR_MS;
                query.query_row(params![self.source.0, verb.name(), field, print, hour - HOURS_COUNTED, hour], |row| {
                    row.get::<_, i64>(0)
                })
            })
            .attempt(ACTION)
            .map(i64::cast_unsigned)
    }

    pub(super) fn note_passed(
        &self,
        verb: Verb,
        value: Option<(Field, Fingerprint)>,
        contacts: u64,
    ) -> Result<(), CheckpointError> {
        let (field, print) = stored(value);
        self.transaction
            .prepare_cached(
                "INSERT INTO passed (source, verb, field, print, hour, contacts) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                 ON CONFLICT DO UPDATE SET contacts = contacts + excluded.contacts",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    self.source.0,
                    verb.name(),
                    field,
                    print,
                    self.now / HOUR_MS,
                    contacts.cast_signed()
                ])
            })
            .attempt(ACTION)
            .map(|_| ())
    }

    /// The list that a kind of harm goes on: one that nobody has looked at yet grows, so that harm which comes one by one
    /// does not make a list each. Says whether it is a new one.
    pub(super) fn open_hold(
        &self,
        verb: Verb,
        value: Option<(Field, Fingerprint)>,
        weight: Weight,
    ) -> Result<(Hold, bool), CheckpointError> {
        let (field, print) = stored(value);
        let reason = self.reason(verb, value, weight);
        let open: Option<i64> = self
            .transaction
            .query_row(
                "SELECT id FROM hold WHERE source = ?1 AND verb = ?2 AND field = ?3 AND print = ?4 AND seen = 0",
                params![self.source.0, verb.name(), field, print],
                |row| row.get(0),
            )
            .optional()
            .attempt(ACTION)?;
        match open {
            Some(id) => self.transaction.execute("UPDATE hold SET grown = 1 WHERE id = ?1", [id]),
            None => self.transaction.execute(
                "INSERT INTO hold (source, verb, field, print, reason, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![self.source.0, verb.name(), field, print, reason, self.now],
            ),
        }
        .attempt(ACTION)?;
        let source = self
            .transaction
            .query_row("SELECT name FROM source WHERE id = ?1", [self.source.0], |row| row.get(0))
            .attempt(ACTION)?;
        let id = open.unwrap_or_else(|| self.transaction.last_insert_rowid());
        let created_at = Timestamp(self.now);
        let hold = Hold { id, source, verb: verb.name().to_owned(), reason, created_at, contacts: weight.fresh };
        Ok((hold, open.is_none()))
    }

    fn reason(&self, verb: Verb, value: Option<(Field, Fingerprint)>, weight: Weight) -> String {
        let bound = self.guard.bound(verb);
        let what = match (verb, value) {
            (Verb::Overwrite, Some((field, _))) => format!("write one value over {field} in"),
            (Verb::Overwrite, None) => "write one value over a field in".to_owned(),
            (Verb::Clear, _) => "empty fields of".to_owned(),
            (Verb::Detach, _) => "take out of segments".to_owned(),
            (Verb::Mapping, _) => "send, since the mapping has changed,".to_owned(),
            (Verb::Delete | Verb::Erase | Verb::Unsubscribe | Verb::Create, _) => verb.name().to_owned(),
        };
        let before = match weight.passed {
            0 => String::new(),
            passed => format!(", after {passed} in the last 24 hours"),
        };
        let limit = if self.guard.holds_all {
            "an older checkpoint was put in place".to_owned()
        } else {
            format!("the limit is {} or {} %", bound.contacts, bound.percent)
        };
        format!("{what} {} of {} contacts{before}: {limit}", weight.fresh, weight.known)
    }
}

fn stored(value: Option<(Field, Fingerprint)>) -> (i64, i64) {
    value.map_or((0, 0), |(field, print)| (i64::from(field.code()), print.to_u64().cast_signed()))
}
