//! A page of mapped records becomes rows, together with the cursor that lies behind it.

use rusqlite::{CachedStatement, Transaction, params};

use crate::contact::{Consent, Contact, FieldPrints, Fingerprinter, Unspoken};
use crate::plan::balance::Seen;
use crate::plan::change::{Observation, Path, ReadStamp, Sides, Twins, desired_after, observe};
use crate::plan::policy::fields_that_count;
use crate::random::Random;

use super::endings::SIGHTINGS_NEEDED;
use super::incoming::{Incoming, PageOutcome, ReadContext};
use super::reads::SeenRows;
use super::rejections::RejectionKind;
use super::removal::take_removed;
use super::repaired::add_repaired;
use super::rows::Row;
use super::seal::Sealer;
use super::sharing_rule::note_rule;
use super::stuck::Stuck;
use super::wanted::want_record;
use super::{Attempt, Checkpoint, CheckpointError};

/// A page that is being recorded.
pub(super) struct Page<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) context: &'a ReadContext,
    pub(super) hash: &'a Fingerprinter,
    pub(super) sealer: Sealer,
    pub(super) random: &'a Random,
    /// The source has entries in the list of rejections: most have none, and need not look.
    pub(super) has_rejections: bool,
    /// A record of the source can be fetched by its id.
    pub(super) fetches: bool,
    /// When the latest read of the whole source began: whoever is not missing in it has been seen since.
    pub(super) full_began: Option<i64>,
    /// Somebody was deleted in Reteno by us and is not back: most never delete, and need not look.
    pub(super) has_removed: bool,
    /// Somebody was erased: most never erase, and need not look.
    pub(super) has_tombstones: bool,
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
        let (fetches, full_began): (bool, Option<i64>) = transaction
            .prepare_cached("SELECT rereads = 1, full_began_at FROM source WHERE id = ?1")
            .and_then(|mut query| query.query_row([context.source.0], |row| Ok((row.get(0)?, row.get(1)?))))
            .attempt("read how a source is read")?;
        let has_tombstones = transaction
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM tombstone)")
            .and_then(|mut query| query.query_row([], |row| row.get(0)))
            .attempt("read tombstones")?;
        let has_removed = transaction
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM removed)")
            .and_then(|mut query| query.query_row([], |row| row.get(0)))
            .attempt("read who was deleted")?;
        note_rule(&transaction, context.policy.shared_channel, &context.policy.unique)?;
        let mut page = Page {
            transaction: &transaction,
            context,
            hash: &self.hash,
            sealer: Sealer::of(&self.sealing_key),
            random: &self.random,
            has_rejections,
            fetches,
            full_began: full_began.filter(|began| *began <= context.now),
            has_tombstones,
            has_removed,
            outcome: PageOutcome::default(),
        };
        for item in items {
            page.record(item, seen)?;
        }
        let outcome = page.outcome;
        add_repaired(&transaction, context.source, &outcome.repaired, context.now)?;
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
        let asked = Path::Asked { began: self.context.began };
        match item {
            Incoming::Contact(contact) => self.record_contact(&contact, (None, asked), seen),
            Incoming::Pushed { contact, unspoken } => self.record_pushed(contact, &unspoken, seen),
            Incoming::Line { mut contact, line } => {
                self.heed_refusal(&mut contact, seen)?;
                self.record_contact(&contact, (Some(line), asked), seen)
            }
            Incoming::Refusing { changed_at, origin, record } => {
                let key = record.key().map(str::to_owned);
                self.record(*record, seen)?;
                key.map_or(Ok(()), |key| self.record_refusal(&key, (changed_at, origin), seen))
            }
            Incoming::Filtered { key } => {
                self.see(&key, seen)?;
                self.outcome.balance.count(Seen::Filtered);
                Ok(())
            }
            Incoming::Deleted { key, is_confirmed, changed_at } => {
                self.record_deleted(&key, (is_confirmed, changed_at), seen)
            }
            Incoming::Pointed { key } => want_record(self.transaction, self.context.source, &key, false).map(|_| ()),
            Incoming::Rejected { key, place, reasons } => {
                if let Some(key) = &key {
                    self.see(key, seen)?;
                }
                self.outcome.unnamed += u64::from(key.is_none());
                self.record_rejected((key.as_deref(), &place), reasons)
            }
        }
    }

    /// What a known contact's record does not speak of stays as it is: a lack takes nobody out of a segment, and is no end of
    /// a no, also not for another address.
    fn record_pushed(
        &mut self,
        mut contact: Contact,
        unspoken: &Unspoken,
        seen: &mut SeenRows,
    ) -> Result<(), CheckpointError> {
        if self.is_replay(&contact)? {
            self.outcome.balance.count(Seen::Stale);
            return Ok(());
        }
        if let Some(row) = self.load(&contact.key)? {
            contact.fields.retain(|(field, _)| !unspoken.segments.contains(field));
            if unspoken.consent && !self.context.policy.forgets_consent {
                contact.consent = self.load_consent(row.id)?.state.and_then(|state| state.said);
            }
        }
        self.record_contact(&contact, (None, Path::Pushed), seen)
    }

    /// A record that was sent before the contact was deleted, and comes again or late: it does not bring the contact back.
    /// One that was made anew has a later change time.
    fn is_replay(&self, contact: &Contact) -> Result<bool, CheckpointError> {
        let Some(changed_at) = contact.changed_at else { return Ok(false) };
        self.statement(
            "SELECT EXISTS (SELECT 1 FROM contact WHERE source = ?1 AND key = ?2 AND sightings > 0 AND changed_at >= ?3)",
        )?
        .query_row(params![self.context.source.0, contact.key, changed_at], |row| row.get(0))
        .attempt("read a contact")
    }

    /// Marks a row that the CRM speaks of, whatever it says.
    fn see(&self, key: &str, seen: &mut SeenRows) -> Result<(), CheckpointError> {
        let Some(row) = self.load(key)? else { return Ok(()) };
        seen.see(row.id);
        self.find_again(&row).map(|_| ())
    }

    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, CheckpointError> {
        self.transaction.prepare_cached(sql).attempt("prepare a statement")
    }

    fn record_contact(
        &mut self,
        contact: &Contact,
        (line, path): (Option<u64>, Path),
        seen: &mut SeenRows,
    ) -> Result<(), CheckpointError> {
        let mut row = self.load(&contact.key)?;
        // whatever the record says: the contact is there
        if row.as_ref().map_or(Ok(false), |row| self.find_again(row))? {
            row = self.load(&contact.key)?;
        }
        if let Some(row) = &mut row {
            row.known.is_repeated = !seen.tell(row.id);
        }
        let twins = if line.is_some() { Twins::Mistake } else { Twins::Later };
        if self.is_erased(contact)? {
            return self.heed_no_alone(contact, row.as_ref(), (twins, path));
        }
        if row.is_none() {
            let reasons = contact.reasons_against_making(&self.context.mapped);
            if !reasons.is_empty() {
                let reasons = reasons.iter().map(|reason| (reason.field, reason.text.to_string())).collect();
                return self.record_rejected((Some(&contact.key), ""), reasons);
            }
        }
        let empty = FieldPrints::default();
        let before = row.as_ref().map(|row| &row.known.sides.desired);
        let is_made = row.as_ref().is_some_and(|row| row.is_told);
        let fields = fields_that_count(contact, before, is_made, &self.context.policy);
        let next = desired_after(before.unwrap_or(&empty), &fields, &self.context.mapped, self.hash);
        let stamp = ReadStamp { asked_at: self.context.asked_at, changed_at: contact.changed_at };
        let observation = observe(row.as_ref().map(|row| &row.known), next, stamp, twins, path);
        if !observation.is_void {
            self.count_left_out(contact);
        }
        self.outcome.balance.created += u64::from(row.is_none());
        let moved = match (&observation.moved, &row) {
            (Some(sides), _) => Some(sides.clone()),
            (None, Some(row)) if observation.takes_values => Some(row.known.sides.clone()),
            (None, _) => None,
        };
        self.note_repair(&contact.key, row.as_ref(), (stamp, &observation));
        let (id, sides) = match (moved, &row) {
            (Some(sides), None) => {
                let id = self.insert(&contact.key, &fields, &sides, stamp)?;
                seen.tell(id);
                (id, sides)
            }
            (Some(sides), Some(row)) => (row.id, self.update((&contact.key, &fields), sides, row, stamp)?),
            (None, Some(row)) => {
                self.touch((row, &contact.key), stamp, &observation)?;
                (row.id, row.known.sides.clone())
            }
            (None, None) => return Ok(()),
        };
        let is_shadowed = if observation.is_void {
            row.as_ref().is_some_and(|row| row.stuck == Stuck::Shadowed)
        } else {
            self.follow(contact, (id, &sides), row.as_ref())?
        };
        self.outcome.balance.count(if is_shadowed { Seen::Rejected } else { observation.seen });
        self.list(contact, line, &observation, row.as_ref())
    }

    /// The record brings an address of somebody who was erased, which is not used. Where it says no, the address that is known
    /// of its contact gets no more mail.
    fn heed_no_alone(
        &mut self,
        contact: &Contact,
        row: Option<&Row>,
        way: (Twins, Path),
    ) -> Result<(), CheckpointError> {
        match row.filter(|_| contact.consent == Some(Consent::No)) {
            Some(row) => self.heed_no((row, &contact.key), contact.changed_at, way).map(|_| ()),
            None => Ok(()),
        }
    }

    /// A contact that was erased is not sent again, and is listed.
    fn is_erased(&mut self, contact: &Contact) -> Result<bool, CheckpointError> {
        let Some(erased_at) = self.find_tombstone(contact)? else { return Ok(false) };
        let reason = format!("was erased at {erased_at}, and is not sent again; `erased lift` lets it come back");
        self.outcome.balance.count(Seen::Rejected);
        self.reject((Some(&contact.key), None), RejectionKind::Erased, None, &reason)?;
        Ok(true)
    }

    /// Counts a change that an earlier way of reading should have told.
    fn note_repair(&mut self, key: &str, row: Option<&Row>, (stamp, observation): (ReadStamp, &Observation)) {
        if observation.seen != Seen::Changed {
            return;
        }
        let known = row.map(|row| row.known.stamp);
        if let Some(cause) = self.context.cause_of(key, known, stamp) {
            *self.outcome.repaired.entry(cause).or_default() += 1;
        }
    }

    /// What else a record that counts comes to, beside its fields. Says whether another contact is sent in its place.
    fn follow(
        &mut self,
        contact: &Contact,
        (id, sides): (i64, &Sides),
        row: Option<&Row>,
    ) -> Result<bool, CheckpointError> {
        if let Some(row) = row {
            if row.stuck == Stuck::Ended {
                self.cancel_endings(row.id)?;
            }
            if row.held > 0 {
                self.lapse(row.id, &sides.desired)?;
            }
        }
        let heard = self.load_heard(id)?;
        self.leave_address((id, contact), &heard, &sides.desired)?;
        self.keep_identity(id, contact, row)?;
        self.record_consent((id, &contact.key), contact.consent, &heard, &sides.desired)?;
        self.record_channels(id, row, &sides.desired)
    }

    /// A contact that reads lacked is there, whatever its record says; unless the page was asked for before what is known
    /// of the contact. Says whether it counted as gone, and its row is another by now.
    fn find_again(&self, row: &Row) -> Result<bool, CheckpointError> {
        let is_older = self.context.asked_at < row.known.stamp.asked_at;
        if row.sightings == 0 || is_older {
            return Ok(false);
        }
        // one read that lacked it is no end, so this is no return: what was known of its consent stands
        if row.sightings >= SIGHTINGS_NEEDED {
            self.cancel_endings(row.id)?;
        }
        self.statement("UPDATE contact SET sightings = 0 WHERE id = ?1")?
            .execute([row.id])
            .attempt("store that a contact is there")?;
        if row.sightings < SIGHTINGS_NEEDED {
            return Ok(false);
        }
        if self.has_removed && take_removed(self.transaction, &row.known.sides.desired, self.hash)? {
            // deleted in Reteno, maybe as the contact of another source: nothing of it is there any more
            self.statement("UPDATE contact SET acknowledged = x'', restores = 1, stuck = 4 WHERE id = ?1")?
                .execute([row.id])
                .attempt("store that a contact is restored")?;
        }
        self.contend_again(row.id, &row.known.sides.desired)?;
        Ok(true)
    }
}
