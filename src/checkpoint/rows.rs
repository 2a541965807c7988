//! A contact's row, as a page finds it and leaves it.

use rusqlite::{OptionalExtension, params};

use crate::contact::{Field, FieldPrints, Fingerprint, Values, Wanted};
use crate::plan::Lane;
use crate::plan::change::{Known, Observation, ReadStamp, Sides};

use super::incoming::PageMode;
use super::pages::Page;
use super::rejections::{RejectionKind, forget_rejections};
use super::stuck::Stuck;
use super::waiting::{load_values, store_values};
use super::wanted::want_record;
use super::{Attempt, CheckpointError, unreadable};

/// A change time further ahead than this is none: clocks differ by less.
const AHEAD_MAX_MS: i64 = 24 * 60 * 60 * 1000;

pub(super) struct Row {
    pub(super) id: i64,
    pub(super) known: Known,
    pub(super) dropped: i64,
    pub(super) sightings: i64,
    pub(super) is_in_import: bool,
    pub(super) lane: Lane,
    pub(super) stuck: Stuck,
    pub(super) held: i64,
    pub(super) has_identity: bool,
    pub(super) is_told: bool,
    pub(super) has_fired: bool,
    /// The address with which another contact is sent in its place.
    pub(super) blocked_by: Option<Fingerprint>,
}

impl Page<'_> {
    pub(super) fn load(&self, key: &str) -> Result<Option<Row>, CheckpointError> {
        let row = self
            .statement(
                "SELECT id, desired, acknowledged, changed_at, read_at, stuck, dropped, sightings, import IS NOT NULL, \
                 lane, held, identity IS NOT NULL, told, fired, older_read, blocked_by FROM contact WHERE source = ?1 AND key = ?2",
            )?
            .query_row(params![self.context.source.0, key], |row| {
                let desired = row.get_ref(1)?.as_blob().map(FieldPrints::decode);
                let acknowledged = row.get_ref(2)?.as_blob_or_null().map(|blob| blob.map(FieldPrints::decode));
                let asked_at: i64 = row.get(4)?;
                let asked_at = if asked_at > self.context.now { 0 } else { asked_at };
                let sightings: i64 = row.get(7)?;
                // a read of the whole source tells of each row, and writes only to those that it did not see
                let asked_at = asked_at.max(self.full_began.unwrap_or(0));
                // one that lies so far ahead is a mistake of the CRM's, or was stored before the clock was set back
                let is_believable = |time: &i64| *time <= self.context.now.saturating_add(AHEAD_MAX_MS);
                let changed_at = row.get::<_, Option<i64>>(3)?.filter(is_believable);
                let stamp = ReadStamp { asked_at, changed_at };
                let counts = (row.get(10)?, row.get(11)?, row.get(12)?, row.get(13)?);
                let rest = (row.get(6)?, sightings, row.get(8)?, row.get::<_, i64>(9)?, counts, (row.get(14)?, row.get::<_, Option<i64>>(15)?));
                Ok((row.get(0)?, desired, acknowledged, stamp, row.get::<_, i64>(5)?, rest))
            })
            .optional()
            .attempt("read a contact")?;
        let Some((id, desired, acknowledged, stamp, stuck, rest)) = row else { return Ok(None) };
        let blob = unreadable::<Box<dyn std::error::Error + Send + Sync>>("list of prints");
        let desired = desired.map_err(|e| blob(e.into()))?.map_err(|e| blob(e.into()))?;
        let acknowledged = acknowledged.map_err(|e| blob(e.into()))?.transpose().map_err(|e| blob(e.into()))?;
        let sides = Sides { desired, acknowledged };
        let stuck = Stuck::from_number(stuck);
        let (dropped, sightings, is_in_import, lane, counts, (older_since, blocked_by)) = rest;
        // what came back after its end is not judged by what its record said before, only by when it was asked for
        let stamp = if stuck == Stuck::Ended { ReadStamp { changed_at: None, ..stamp } } else { stamp };
        let known = Known {
            sides,
            stamp,
            is_rejected: matches!(stuck, Stuck::Rejected | Stuck::Shadowed),
            is_starved: matches!(stuck, Stuck::Starved | Stuck::Ended),
            is_repeated: false,
            older_since,
        };
        let (held, has_identity, is_told, has_fired) = counts;
        let lane = Lane::from_number(lane);
        Ok(Some(Row {
            id,
            known,
            dropped,
            sightings,
            is_in_import,
            lane,
            stuck,
            held,
            has_identity,
            is_told,
            has_fired,
            blocked_by: blocked_by.map(|print| Fingerprint::from_u64(print.cast_unsigned())),
        }))
    }

    pub(super) fn insert(
        &self,
        key: &str,
        fields: &[(Field, Wanted)],
        sides: &Sides,
        stamp: ReadStamp,
    ) -> Result<i64, CheckpointError> {
        let acknowledged = match self.context.mode {
            PageMode::Baseline => None,
            PageMode::Apply => sides.acknowledged.as_ref().map(FieldPrints::encode),
        };
        // the contacts of a first load are what the operator asked for
        let is_declared = self.context.is_declared();
        let is_judged = acknowledged.is_none() || is_declared;
        let weighed = (acknowledged.is_some() && is_declared).then(|| FieldPrints::default().encode());
        let id = self
            .statement(
                "INSERT INTO contact (source, key, desired, acknowledged, changed_at, read_at, lane, judged, not_before, told, \
                 weighed, by_full_read) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?4 IS NULL, ?10, ?7 >= 3)",
            )?
            .insert(params![
                self.context.source.0,
                key,
                sides.desired.encode(),
                acknowledged,
                stamp.changed_at,
                stamp.asked_at,
                self.context.lane.number(),
                is_judged,
                self.quiet_until(),
                weighed,
            ])
            .attempt("store a contact")?;
        if acknowledged.is_some() {
            self.store_values(id, &wanted_values(fields, &sides.desired))?;
        }
        Ok(id)
    }

    /// A change that a person may still be typing waits for the next one.
    fn quiet_until(&self) -> i64 {
        let quiet = i64::try_from(self.context.policy.quiet_for.as_millis()).unwrap_or(i64::MAX);
        if quiet == 0 || self.context.lane != Lane::Live { 0 } else { self.context.now.saturating_add(quiet) }
    }

    /// Says whether the row can be sent as it is now.
    pub(super) fn update(
        &self,
        (key, fields): (&str, &[(Field, Wanted)]),
        mut sides: Sides,
        row: &Row,
        stamp: ReadStamp,
    ) -> Result<Sides, CheckpointError> {
        // a form's contact is never updated
        let is_over = self.context.policy.is_form && (row.has_fired || row.known.sides.acknowledged.is_none());
        if (self.context.mode == PageMode::Baseline || is_over) && !row.is_in_import {
            sides.acknowledged = None;
        }
        let mut stuck = Stuck::No;
        if let Some(known) = sides.acknowledged.clone() {
            let values = self.merged_values(fields, &sides, row)?;
            let missing: Vec<Field> = sides.due().into_iter().filter(|field| values.get(*field).is_none()).collect();
            if self.context.has_whole_records() {
                // the whole record does not speak of them: leave Reteno alone
                for field in &missing {
                    sides.desired.remove(*field);
                }
                sides = sides.with_known(known);
            } else if !missing.is_empty() || self.lacks_identity(&sides, &values) {
                stuck = Stuck::Starved;
            }
            self.store_values(row.id, &values)?;
        }
        match (&sides.acknowledged, row.is_in_import) {
            (Some(_), _) => {}
            // what an import carries is unknown until it ends, whatever is wanted
            (None, true) => sides.acknowledged = Some(row.known.sides.known()),
            (None, false) => self.drop_values(row.id)?,
        }
        let is_waiting = row.known.sides.acknowledged.is_some() && !row.known.is_rejected && row.stuck != Stuck::Ended;
        let lane = if is_waiting { row.lane.min(self.context.lane) } else { self.context.lane };
        self.statement(
            "UPDATE contact SET desired = ?2, acknowledged = ?3, changed_at = ?4, read_at = ?5, lane = ?6, stuck = ?7, \
             attempts = 0, not_before = ?8, split = NULL, sightings = 0, judged = ?9, \
             older_read = NULL, weighed = iif(?3 IS NULL, NULL, weighed), by_full_read = iif(?6 = 2, by_full_read, ?6 >= 3) \
             WHERE id = ?1",
        )?
        .execute(params![
            row.id,
            sides.desired.encode(),
            sides.acknowledged.as_ref().map(FieldPrints::encode),
            stamp.changed_at.or(row.known.stamp.changed_at),
            stamp.asked_at,
            lane.number(),
            stuck.number(),
            self.quiet_until(),
            // the contacts of a first load are what the operator asked for
            self.context.is_declared() && !row.is_told,
        ])
        .attempt("store a contact")?;
        if stuck == Stuck::Starved {
            want_record(self.transaction, self.context.source, key, false)?;
        }
        self.forget_refusal(row, key)?;
        Ok(sides)
    }

    /// What Reteno refused is another wish by now, or is taken as held.
    fn forget_refusal(&self, row: &Row, key: &str) -> Result<(), CheckpointError> {
        if !row.known.is_rejected {
            return Ok(());
        }
        let kinds = [RejectionKind::Reteno, RejectionKind::Skipped];
        forget_rejections(self.transaction, self.context.source, key, &kinds)
    }

    /// Whether nothing that is at hand tells Reteno whose change this is: a call needs the external id and one channel of
    /// the contact, although they have not changed.
    fn lacks_identity(&self, sides: &Sides, values: &Values) -> bool {
        let has = |field: Field| {
            sides
                .desired
                .get(field)
                .filter(|print| !self.hash.is_clear(field, *print))
                .map(|_| values.get(field).is_some())
        };
        let channels = [has(Field::Email), has(Field::Sms)];
        has(Field::ExternalCustomerId) == Some(false)
            || (channels.contains(&Some(false)) && !channels.contains(&Some(true)))
    }

    /// A record that moves nothing still says that the contact is there, and how old its news are.
    pub(super) fn touch(
        &self,
        (row, key): (&Row, &str),
        stamp: ReadStamp,
        observation: &Observation,
    ) -> Result<(), CheckpointError> {
        let is_void = observation.is_void;
        self.note_older(row, observation)?;
        if observation.is_doubtful {
            want_record(self.transaction, self.context.source, key, false)?;
        }
        let is_newer = !is_void && stamp.changed_at > row.known.stamp.changed_at;
        let settles = self.context.mode == PageMode::Baseline && !row.is_in_import;
        if settles && row.known.sides.acknowledged.is_some() {
            self.drop_values(row.id)?;
            self.statement("UPDATE contact SET acknowledged = NULL, stuck = 0, split = NULL WHERE id = ?1")?
                .execute([row.id])
                .attempt("store a contact")?;
            self.forget_refusal(row, key)?;
        }
        // a full read marks what it has seen; another read has to say so in the row, or a page of an older read that
        // comes later would be believed
        if is_newer || (row.sightings > 0 || !self.context.is_full) && !is_void {
            self.statement("UPDATE contact SET changed_at = ?2, read_at = ?3, sightings = 0 WHERE id = ?1")?
                .execute(params![
                    row.id,
                    if is_newer { stamp.changed_at } else { row.known.stamp.changed_at },
                    stamp.asked_at.max(row.known.stamp.asked_at),
                ])
                .attempt("store a contact")?;
        }
        Ok(())
    }

    /// A record with a lower change time than the one believed, though it was asked for later, counts when it is seen again in a
    /// later read; whatever agrees with what is believed takes that back.
    fn note_older(&self, row: &Row, observation: &Observation) -> Result<(), CheckpointError> {
        let since = match (observation.notes_older, row.known.older_since) {
            (true, None) => Some(self.context.began),
            (false, Some(_)) if !observation.is_void => None,
            (true, Some(_)) | (false, Some(_) | None) => return Ok(()),
        };
        self.statement("UPDATE contact SET older_read = ?2 WHERE id = ?1")?
            .execute(params![row.id, since])
            .attempt("store that a record is older than the one believed")
            .map(|_| ())
    }

    /// The record's values over those that waited before, for the fields that are desired.
    fn merged_values(&self, fields: &[(Field, Wanted)], sides: &Sides, row: &Row) -> Result<Values, CheckpointError> {
        let values = wanted_values(fields, &sides.desired);
        let is_whole = sides.desired.iter().all(|(field, _)| values.get(field).is_some());
        if is_whole || row.known.sides.acknowledged.is_none() {
            return Ok(values);
        }
        let Some(mut merged) = load_values(self.transaction, row.id, self.sealer)? else { return Ok(values) };
        merged.merge(values);
        Ok(merged)
    }

    fn store_values(&self, id: i64, values: &Values) -> Result<(), CheckpointError> {
        store_values(self.transaction, id, values, (self.sealer, self.random))
    }

    pub(super) fn drop_values(&self, id: i64) -> Result<(), CheckpointError> {
        self.statement("DELETE FROM waiting WHERE contact = ?1")?
            .execute([id])
            .attempt("drop waiting values")
            .map(|_| ())
    }
}

/// The values of the fields that are desired: an empty field that nobody has ever seen filled is not one of them.
fn wanted_values(fields: &[(Field, Wanted)], desired: &FieldPrints) -> Values {
    let wanted = fields.iter().filter(|(field, _)| desired.get(*field).is_some());
    let mut values = Values::default();
    wanted.for_each(|(field, wanted)| values.set(*field, wanted.clone()));
    values
}
