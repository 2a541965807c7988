//! What the guard would say of a read that was not applied, and whom such a read would end. Reads only.

use rusqlite::params;

use crate::clock::Timestamp;
use crate::contact::{Field, Fingerprint};
use crate::plan::SourceId;
use crate::plan::guard::{Doubt, Guard, Verb, Weight};

use super::endings::SIGHTINGS_NEEDED;
use super::guard::{HOUR_MS, HOURS_COUNTED};
use super::incoming::Preview;
use super::passed::count_living;
use super::reads::SeenRows;
use super::{Attempt, Checkpoint, CheckpointError};

const ACTION: &str = "look what would be held";

/// What would come of one verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// What.
    pub verb: Verb,
    /// For one value over one field: the field.
    pub field: Option<Field>,
    /// How much.
    pub weight: Weight,
    /// The guard would hold it.
    pub holds: bool,
}

/// Contacts that a complete read did not see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// All of them.
    pub missing: u64,
    /// Of them: missing for the second time, so their end would begin.
    pub for_the_second_time: u64,
}

impl Checkpoint {
    /// What the guard would say of what a source is about to change, `created` contacts among it.
    pub fn forecast(
        &self,
        source: SourceId,
        guard: &Guard,
        preview: &Preview,
        created: u64,
        now: Timestamp,
    ) -> Result<Vec<Forecast>, CheckpointError> {
        let is_restored: bool = self
            .connection
            .query_row("SELECT restored FROM source WHERE id = ?1", [source.0], |row| row.get(0))
            .attempt(ACTION)?;
        let guard = Guard { holds_all: guard.holds_all || is_restored, ..guard.clone() };
        let known = count_living(&self.connection, source)? + created;
        let is_doubtful = preview.has_rejected || preview.by_verb.contains_key(&Verb::Rename);
        let mut forecasts = Vec::new();
        for (verb, fresh) in preview.by_verb.iter().filter(|(verb, _)| **verb != Verb::Overwrite) {
            let doubt = match verb {
                // of first sight, most likely: those protect the person
                Verb::Unsubscribe | Verb::Overwrite | Verb::Create | Verb::Mapping => Doubt::None,
                Verb::Rename if !preview.has_rejected => Doubt::Share,
                Verb::Delete | Verb::Erase | Verb::Detach | Verb::Clear | Verb::Resubscribe | Verb::Rename => {
                    if is_doubtful {
                        Doubt::Read
                    } else {
                        Doubt::Share
                    }
                }
            };
            let weight = Weight { fresh: *fresh, passed: self.passed((source, now), *verb, None)?, known, doubt };
            forecasts.push(Forecast { verb: *verb, field: None, weight, holds: guard.holds(*verb, weight) });
        }
        let mut frequent: Vec<_> = preview.by_value.iter().collect();
        frequent.sort_by_key(|(_, fresh)| std::cmp::Reverse(**fresh));
        for (value, fresh) in frequent {
            let passed = self.passed((source, now), Verb::Overwrite, Some(*value))?;
            let weight = Weight { fresh: *fresh, passed, known, doubt: Doubt::None };
            let holds = guard.holds(Verb::Overwrite, weight);
            // the rest are rarer
            if !holds {
                break;
            }
            forecasts.push(Forecast { verb: Verb::Overwrite, field: Some(value.0), weight, holds });
        }
        Ok(forecasts)
    }

    /// Whom a complete read of a source that began at `began` did not see.
    pub fn count_gone(
        &self,
        source: SourceId,
        seen: &SeenRows,
        (began, now): (Timestamp, Timestamp),
    ) -> Result<Gone, CheckpointError> {
        let mut query = self
            .connection
            .prepare_cached("SELECT id, sightings FROM contact WHERE source = ?1 AND (read_at < ?2 OR read_at > ?3)")
            .attempt(ACTION)?;
        let mut rows = query.query(params![source.0, began.0, now.0]).attempt(ACTION)?;
        let mut gone = Gone::default();
        while let Some(row) = rows.next().attempt(ACTION)? {
            if seen.has_seen(row.get(0).attempt(ACTION)?) {
                continue;
            }
            let sightings: i64 = row.get(1).attempt(ACTION)?;
            gone.missing += 1;
            gone.for_the_second_time += u64::from(sightings + 1 == SIGHTINGS_NEEDED);
        }
        Ok(gone)
    }

    /// Whether the records of a source speak of consent in another way than the checkpoint knows.
    pub fn is_other_consent_mapping(&self, source: SourceId, mapping: Option<u64>) -> Result<bool, CheckpointError> {
        self.connection
            .query_row("SELECT consent_mapping FROM source WHERE id = ?1", [source.0], |row| {
                row.get::<_, Option<i64>>(0)
            })
            .attempt("read how a source speaks of consent")
            .map(|known| known != mapping.map(u64::cast_signed))
    }

    fn passed(
        &self,
        (source, now): (SourceId, Timestamp),
        verb: Verb,
        value: Option<(Field, Fingerprint)>,
    ) -> Result<u64, CheckpointError> {
        let (field, print) =
            value.map_or((0, 0), |(field, print)| (i64::from(field.code()), print.to_u64().cast_signed()));
        self.connection
            .prepare_cached(
                "SELECT coalesce(sum(contacts), 0) FROM passed \
                 WHERE source = ?1 AND verb = ?2 AND field = ?3 AND print = ?4 AND hour BETWEEN ?5 AND ?6",
            )
            .and_then(|mut query| {
                let hour = now.0 / HOUR_MS;
                let of = params![source.0, verb.name(), field, print, hour - HOURS_COUNTED, hour];
                query.query_row(of, |row| row.get::<_, i64>(0))
            })
            .attempt(ACTION)
            .map(i64::cast_unsigned)
    }
}
