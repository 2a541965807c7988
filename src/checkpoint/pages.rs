//! A page of mapped records becomes rows, together with the cursor that lies behind it.

use rusqlite::{CachedStatement, OptionalExtension, Transaction, params};

use crate::contact::{Contact, Field, FieldPrints, Fingerprinter, Values};
use crate::plan::Lane;
use crate::plan::balance::Seen;
use crate::plan::change::{Known, Observation, ReadStamp, Sides, Twins, desired_after, observe};

use super::incoming::{Incoming, PageMode, PageOutcome, ReadContext, SAMPLES_MAX};
use super::reads::SeenRows;
use super::rejections::{RejectionKind, forget_rejections};
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

pub(super) struct Row {
    id: i64,
    pub(super) known: Known,
    pub(super) dropped: i64,
    sightings: i64,
    is_in_import: bool,
    lane: Lane,
}

/// A page that is being recorded.
pub(super) struct Page<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) context: &'a ReadContext,
    pub(super) hash: &'a Fingerprinter,
    /// The source has entries in the list of rejections: most have none, and need not look.
    pub(super) has_rejections: bool,
    pub(super) outcome: PageOutcome,
}

impl Checkpoint {
    /// Applies one page and stores the cursor behind it, in one transaction.
    pub fn record_page(
        &mut self,
        context: &ReadContext,
        seen: &mut SeenRows,
        mut items: Vec<Incoming>,
        cursor: Option<&str>,
    ) -> Result<PageOutcome, CheckpointError> {
        // look-ups in the order of the index cost a fraction of look-ups at random; equal keys keep their order
        items.sort_by(|a, b| a.key().cmp(&b.key()));
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .attempt("record a page")?;
        let has_rejections = transaction
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM rejection WHERE source = ?1 AND kind IN ('record', 'field'))")
            .and_then(|mut query| query.query_row([context.source.0], |row| row.get(0)))
            .attempt("read rejections")?;
        let outcome = PageOutcome::default();
        let mut page = Page { transaction: &transaction, context, hash: &self.hash, has_rejections, outcome };
        for item in items {
            page.record(item, seen)?;
        }
        let outcome = page.outcome;
        if context.mode == PageMode::Preview {
            transaction.rollback().attempt("leave everything as it was")?;
            return Ok(outcome);
        }
        if let (Some(cursor), true) = (cursor, context.stores_cursor) {
            transaction
                .execute("UPDATE source SET cursor = ?2 WHERE id = ?1", params![context.source.0, cursor])
                .attempt("store a cursor")?;
        }
        transaction.commit().attempt("record a page")?;
        Ok(outcome)
    }
}

impl Page<'_> {
    fn record(&mut self, item: Incoming, seen: &mut SeenRows) -> Result<(), CheckpointError> {
        match item {
            Incoming::Contact(contact) => self.record_contact(&contact, None, seen),
            Incoming::Line { contact, line } => self.record_contact(&contact, Some(line), seen),
            Incoming::Filtered { key } => {
                self.see(&key, seen)?;
                self.outcome.balance.count(Seen::Filtered);
                Ok(())
            }
            Incoming::Deleted { key } => {
                // kept: `on_delete = "keep"`; seen, so that a complete read does not count it once more
                self.outcome.balance.gone += u64::from(self.see(&key, seen)?);
                Ok(())
            }
            Incoming::Rejected { key, place, reasons } => {
                if let Some(key) = &key {
                    self.see(key, seen)?;
                }
                self.outcome.unnamed += u64::from(key.is_none());
                self.record_rejected((key.as_deref(), &place), reasons)
            }
        }
    }

    /// Marks a row that the CRM speaks of, whatever it says; false where there is none.
    fn see(&self, key: &str, seen: &mut SeenRows) -> Result<bool, CheckpointError> {
        let row = self.load(key)?;
        if let Some(row) = &row {
            seen.see(row.id);
        }
        Ok(row.is_some())
    }

    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, CheckpointError> {
        self.transaction.prepare_cached(sql).attempt("prepare a statement")
    }

    fn load(&self, key: &str) -> Result<Option<Row>, CheckpointError> {
        let row = self
            .statement(
                "SELECT id, desired, acknowledged, changed_at, read_at, stuck, dropped, sightings, import IS NOT NULL, lane \
                 FROM contact WHERE source = ?1 AND key = ?2",
            )?
            .query_row(params![self.context.source.0, key], |row| {
                let desired = row.get_ref(1)?.as_blob().map(FieldPrints::decode);
                let acknowledged = row.get_ref(2)?.as_blob_or_null().map(|blob| blob.map(FieldPrints::decode));
                let stuck: i64 = row.get(5)?;
                let asked_at: i64 = row.get(4)?;
                let asked_at = if asked_at > self.context.now { 0 } else { asked_at };
                let stamp = ReadStamp { changed_at: row.get(3)?, asked_at };
                let rest = (row.get(6)?, row.get(7)?, row.get(8)?, row.get::<_, i64>(9)?);
                Ok((row.get(0)?, desired, acknowledged, stamp, stuck, rest))
            })
            .optional()
            .attempt("read a contact")?;
        let Some((id, desired, acknowledged, stamp, stuck, rest)) = row else { return Ok(None) };
        let blob = unreadable::<Box<dyn std::error::Error + Send + Sync>>("list of prints");
        let desired = desired.map_err(|e| blob(e.into()))?.map_err(|e| blob(e.into()))?;
        let acknowledged = acknowledged.map_err(|e| blob(e.into()))?.transpose().map_err(|e| blob(e.into()))?;
        let sides = Sides { desired, acknowledged };
        let known = Known { sides, stamp, is_rejected: stuck == 1, is_starved: stuck == 2, is_repeated: false };
        let (dropped, sightings, is_in_import, lane) = rest;
        Ok(Some(Row { id, known, dropped, sightings, is_in_import, lane: Lane::from_number(lane) }))
    }

    fn record_contact(
        &mut self,
        contact: &Contact,
        line: Option<u64>,
        seen: &mut SeenRows,
    ) -> Result<(), CheckpointError> {
        let mut row = self.load(&contact.key)?;
        if let Some(row) = &mut row {
            row.known.is_repeated = !seen.tell(row.id);
        } else {
            let reasons = contact.reasons_against_making(&self.context.mapped);
            if !reasons.is_empty() {
                let reasons = reasons.iter().map(|reason| (reason.field, reason.text.to_string())).collect();
                return self.record_rejected((Some(&contact.key), ""), reasons);
            }
        }
        let empty = FieldPrints::default();
        let before = row.as_ref().map_or(&empty, |row| &row.known.sides.desired);
        let next = desired_after(before, contact, &self.context.mapped, self.hash);
        let stamp = ReadStamp { asked_at: self.context.asked_at, changed_at: contact.changed_at };
        let twins = if line.is_some() { Twins::Mistake } else { Twins::Later };
        let observation = observe(row.as_ref().map(|row| &row.known), next, stamp, twins);
        self.outcome.balance.count(observation.seen);
        if !observation.is_void {
            self.outcome.balance.dropped_fields += contact.dropped.len() as u64;
        }
        let sides = match (&observation.moved, &row) {
            (Some(sides), _) => Some(sides.clone()),
            (None, Some(row)) if observation.takes_values => Some(row.known.sides.clone()),
            (None, _) => None,
        };
        if row.is_none() {
            self.outcome.balance.created += 1;
        }
        if self.context.mode == PageMode::Preview {
            if let Some(sides) = &sides {
                self.preview(contact, sides, row.is_none());
            }
            return Ok(());
        }
        match (sides, &row) {
            (Some(sides), None) => {
                let id = self.insert(contact, &sides, stamp)?;
                seen.tell(id);
            }
            (Some(sides), Some(row)) => self.update(contact, sides, row, stamp)?,
            (None, Some(row)) => self.touch((row, &contact.key), stamp, &observation)?,
            (None, None) => {}
        }
        self.list(contact, line, &observation, row.as_ref())
    }

    fn preview(&mut self, contact: &Contact, sides: &Sides, is_new: bool) {
        let due = sides.due();
        if due.is_empty() {
            return;
        }
        let preview = &mut self.outcome.preview;
        if preview.samples.len() < SAMPLES_MAX {
            preview.samples.push((contact.key.clone(), due.clone()));
        }
        *preview.by_mask.entry((is_new, due)).or_default() += 1;
    }

    fn insert(&self, contact: &Contact, sides: &Sides, stamp: ReadStamp) -> Result<i64, CheckpointError> {
        let acknowledged = match self.context.mode {
            PageMode::Baseline => None,
            PageMode::Apply | PageMode::Preview => sides.acknowledged.as_ref().map(FieldPrints::encode),
        };
        let id = self
            .statement(
                "INSERT INTO contact (source, key, desired, acknowledged, changed_at, read_at, lane) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .insert(params![
                self.context.source.0,
                contact.key,
                sides.desired.encode(),
                acknowledged,
                stamp.changed_at,
                stamp.asked_at,
                self.context.lane.number(),
            ])
            .attempt("store a contact")?;
        if acknowledged.is_some() {
            self.store_values(id, &wanted_values(contact, &sides.desired))?;
        }
        Ok(id)
    }

    fn update(&self, contact: &Contact, mut sides: Sides, row: &Row, stamp: ReadStamp) -> Result<(), CheckpointError> {
        if self.context.mode == PageMode::Baseline && !row.is_in_import {
            sides.acknowledged = None;
        }
        let mut stuck = 0;
        if let Some(known) = sides.acknowledged.clone() {
            let values = self.merged_values(contact, &sides, row)?;
            let missing: Vec<Field> = sides.due().into_iter().filter(|field| values.get(*field).is_none()).collect();
            if self.context.is_full {
                // the whole record does not speak of them: leave Reteno alone
                for field in &missing {
                    sides.desired.remove(*field);
                }
                sides = sides.with_known(known);
            } else if !missing.is_empty() || self.lacks_identity(&sides, &values) {
                stuck = 2;
            }
            self.store_values(row.id, &values)?;
        }
        match (&sides.acknowledged, row.is_in_import) {
            (Some(_), _) => {}
            // what an import carries is unknown until it ends, whatever is wanted
            (None, true) => sides.acknowledged = Some(row.known.sides.known()),
            (None, false) => self.drop_values(row.id)?,
        }
        let lane = if row.known.sides.acknowledged.is_some() && !row.known.is_rejected {
            row.lane.min(self.context.lane)
        } else {
            self.context.lane
        };
        self.statement(
            "UPDATE contact SET desired = ?2, acknowledged = ?3, changed_at = ?4, read_at = ?5, lane = ?6, stuck = ?7, \
             attempts = 0, not_before = 0, split = NULL, sightings = 0 WHERE id = ?1",
        )?
        .execute(params![
            row.id,
            sides.desired.encode(),
            sides.acknowledged.as_ref().map(FieldPrints::encode),
            stamp.changed_at.or(row.known.stamp.changed_at),
            stamp.asked_at,
            lane.number(),
            stuck,
        ])
        .attempt("store a contact")?;
        if stuck == 2 {
            self.want_full_read()?;
        }
        self.forget_refusal(row, &contact.key)
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
    fn touch(
        &self,
        (row, key): (&Row, &str),
        stamp: ReadStamp,
        observation: &Observation,
    ) -> Result<(), CheckpointError> {
        let is_void = observation.is_void;
        if observation.is_doubtful {
            self.want_full_read()?;
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
        if is_newer || row.sightings > 0 || (!self.context.is_full && !is_void) {
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

    /// The record's values over those that waited before, for the fields that are desired.
    fn merged_values(&self, contact: &Contact, sides: &Sides, row: &Row) -> Result<Values, CheckpointError> {
        let values = wanted_values(contact, &sides.desired);
        let is_whole = sides.desired.iter().all(|(field, _)| values.get(field).is_some());
        if is_whole || row.known.sides.acknowledged.is_none() {
            return Ok(values);
        }
        let waiting: Option<Vec<u8>> = self
            .statement("SELECT vals FROM waiting WHERE contact = ?1")?
            .query_row([row.id], |row| row.get(0))
            .optional()
            .attempt("read waiting values")?;
        let Some(waiting) = waiting else { return Ok(values) };
        let mut merged = Values::decode(&waiting).map_err(unreadable("waiting value"))?;
        merged.merge(values);
        Ok(merged)
    }

    fn store_values(&self, id: i64, values: &Values) -> Result<(), CheckpointError> {
        self.statement("INSERT OR REPLACE INTO waiting (contact, vals) VALUES (?1, ?2)")?
            .execute(params![id, values.encode()])
            .attempt("store waiting values")
            .map(|_| ())
    }

    fn drop_values(&self, id: i64) -> Result<(), CheckpointError> {
        self.statement("DELETE FROM waiting WHERE contact = ?1")?
            .execute([id])
            .attempt("drop waiting values")
            .map(|_| ())
    }

    fn want_full_read(&self) -> Result<(), CheckpointError> {
        self.statement("UPDATE source SET full_read_wanted = 1 WHERE id = ?1")?
            .execute([self.context.source.0])
            .attempt("ask for a full read")
            .map(|_| ())
    }
}

/// The values of the fields that are desired: an empty field that nobody has ever seen filled is not one of them.
fn wanted_values(contact: &Contact, desired: &FieldPrints) -> Values {
    let wanted = contact.fields.iter().filter(|(field, _)| desired.get(*field).is_some());
    let mut values = Values::default();
    wanted.for_each(|(field, wanted)| values.set(*field, wanted.clone()));
    values
}
