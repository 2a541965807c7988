//! What the guard has let pass in the last day, and the lists that it opens.

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::Timestamp;
use crate::contact::{Field, Fingerprint};
use crate::plan::SourceId;
use crate::plan::guard::{Doubt, Verb, Weight};

use super::guard::{ACTION, HOUR_MS, HOURS_COUNTED, Judge};
use super::holds::Hold;
use super::{Attempt, CheckpointError};

impl Judge<'_> {
    /// The contacts that there are now, of which a share is one.
    pub(super) fn count_known(&self) -> Result<u64, CheckpointError> {
        count_living(self.transaction, self.source)
    }

    /// Whether a few may pass without regard to their share. What the read rejected is looked up only where it decides.
    pub(super) fn doubt(&self, verb: Verb, renames: bool, weight: Weight) -> Result<Weight, CheckpointError> {
        let is_excused = weight.doubt == Doubt::None || !verb.is_harm();
        let doubt = if is_excused {
            Doubt::None
        } else if renames && verb != Verb::Rename || weight.is_few() && self.has_rejected()? {
            Doubt::Read
        } else {
            Doubt::Share
        };
        Ok(Weight { doubt, ..weight })
    }

    /// Whether the read that is weighed has rejected records.
    fn has_rejected(&self) -> Result<bool, CheckpointError> {
        self.transaction
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM rejection WHERE source = ?1 AND kind = 'record' AND read_at >= \
                 coalesce(?2, (SELECT last_started_at FROM source WHERE id = ?1), ?3))",
            )
            .and_then(|mut query| query.query_row(params![self.source.0, self.page(), self.now], |row| row.get(0)))
            .attempt(ACTION)
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
            (Verb::Resubscribe, _) => "give mail again, since their record says yes after a no, to".to_owned(),
            (Verb::Rename, _) => "change the key (the external id, or without one the address) of".to_owned(),
            (Verb::Delete | Verb::Erase | Verb::Unsubscribe | Verb::Create, _) => verb.name().to_owned(),
        };
        let before = match weight.passed {
            0 => String::new(),
            passed => format!(", after {passed} in the last 24 hours"),
        };
        let limit = format!("the limit is {} or {} %", bound.contacts, bound.percent);
        let limit = match weight.doubt {
            _ if self.guard.holds_all => "an older checkpoint was put in place".to_owned(),
            Doubt::Read if weight.is_few() => {
                format!("{limit}, and the same read also rejected records or renamed keys")
            }
            Doubt::None | Doubt::Share | Doubt::Read => limit,
        };
        format!("{what} {} of {} contacts{before}: {limit}", weight.fresh, weight.known)
    }
}

fn stored(value: Option<(Field, Fingerprint)>) -> (i64, i64) {
    value.map_or((0, 0), |(field, print)| (i64::from(field.code()), print.to_u64().cast_signed()))
}

/// The contacts of a source that are not gone: a number that is kept, so that none of them is looked at.
pub(super) fn count_living(connection: &Connection, source: SourceId) -> Result<u64, CheckpointError> {
    connection
        .prepare_cached("SELECT living FROM source WHERE id = ?1")
        .and_then(|mut query| query.query_row([source.0], |row| row.get::<_, i64>(0)))
        .attempt(ACTION)
        .map(i64::cast_unsigned)
}
