//! The list of rejections, kept in line with the records of a page.

use rusqlite::params;

use crate::contact::{Contact, DroppedField, Field};
use crate::plan::balance::Seen;
use crate::plan::change::Observation;

use super::pages::Page;
use super::rejections::{CONSENT, RejectionKind, forget_listed, record_rejection, record_rejection_of};
use super::rows::Row;
use super::{Attempt, CheckpointError};

impl Page<'_> {
    pub(super) fn record_rejected(
        &mut self,
        (key, place): (Option<&str>, &str),
        reasons: Vec<(Option<Field>, String)>,
    ) -> Result<(), CheckpointError> {
        self.outcome.balance.count(Seen::Rejected);
        for (field, reason) in reasons {
            self.reject((key, key.is_none().then_some(place)), RejectionKind::Record, field, &reason)?;
        }
        // what stays as it was keeps the moment since when
        key.map_or(Ok(()), |key| self.forget_listed(key, self.context.asked_at - 1))
    }

    pub(super) fn reject(
        &mut self,
        subject: (Option<&str>, Option<&str>),
        kind: RejectionKind,
        field: Option<Field>,
        reason: &str,
    ) -> Result<(), CheckpointError> {
        self.has_rejections = true;
        record_rejection(self.transaction, self.context.source, subject, (kind, field, reason), self.context.asked_at)
    }

    /// Forgets why a contact's record could not be used, as listed by reads that were asked for up to `asked_at`.
    fn forget_listed(&self, key: &str, asked_at: i64) -> Result<(), CheckpointError> {
        if !self.has_rejections {
            return Ok(());
        }
        forget_listed(self.transaction, (self.context.source, key), asked_at)
    }

    /// Brings the list of rejections in line with a record that was observed. One that says nothing leaves the list
    /// alone, but for the second of a file, which is listed with its line.
    pub(super) fn list(
        &mut self,
        contact: &Contact,
        line: Option<u64>,
        observation: &Observation,
        row: Option<&Row>,
    ) -> Result<(), CheckpointError> {
        if !observation.is_void {
            self.forget_listed(&contact.key, self.context.asked_at)?;
            return self.record_dropped(contact, row);
        }
        match (line, observation.seen) {
            (Some(line), Seen::Rejected) if row.is_some_and(|row| row.known.is_repeated) => {
                let (place, reason) = (format!("line {line}"), "the id stands twice in the file; this row is left out");
                self.reject((Some(&contact.key), Some(&place)), RejectionKind::Record, None, reason)
            }
            _ => Ok(()),
        }
    }

    /// Counts what of a contact is not sent because of its values.
    pub(super) fn count_left_out(&mut self, contact: &Contact) {
        self.outcome.balance.dropped_fields += contact.dropped.len() as u64;
        if let Some(class) = contact.unclear_consent {
            *self.outcome.unclear_consents.entry(class.text()).or_default() += 1;
        }
    }

    /// Forgets the fields that are not left out any more; the others stay as they are listed.
    fn forget_mended(&self, contact: &Contact) -> Result<(), CheckpointError> {
        const ACTION: &str = "forget a rejection";
        let listed: Vec<(i64, Option<String>)> = self
            .statement("SELECT id, field FROM rejection WHERE source = ?1 AND key = ?2 AND kind = 'field'")?
            .query_map(params![self.context.source.0, contact.key], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .attempt(ACTION)?;
        let is_left_out = |field: &Option<String>| {
            let is_unclear = field.as_deref() == Some(CONSENT) && contact.unclear_consent.is_some();
            let is = |dropped: &DroppedField| field.as_deref() == Some(dropped.field.to_string().as_str());
            is_unclear || contact.dropped.iter().any(is)
        };
        for (id, _) in listed.iter().filter(|(_, field)| !is_left_out(field)) {
            self.statement("DELETE FROM rejection WHERE id = ?1")?.execute([id]).attempt(ACTION)?;
        }
        Ok(())
    }

    /// Lists the fields that were left out, when the list is another than last time.
    fn record_dropped(&mut self, contact: &Contact, row: Option<&Row>) -> Result<(), CheckpointError> {
        let dropped = contact.dropped.iter().map(|dropped| format!("{}: {}", dropped.field, dropped.reason));
        let unclear = contact.unclear_consent.iter().map(|class| format!("{CONSENT}: {class}"));
        let listed: Vec<String> = dropped.chain(unclear).collect();
        let now = if listed.is_empty() { 0 } else { self.hash.text("dropped", &listed.join("; ")).cast_signed() };
        if now == row.map_or(0, |row| row.dropped) {
            return Ok(());
        }
        self.forget_mended(contact)?;
        for dropped in &contact.dropped {
            let subject = (Some(contact.key.as_str()), None);
            self.reject(subject, RejectionKind::Field, Some(dropped.field), &dropped.reason.to_string())?;
        }
        if let Some(class) = contact.unclear_consent {
            let subject = (Some(contact.key.as_str()), None);
            let (kind, source) = (RejectionKind::Field, self.context.source);
            let entry = (kind, Some(CONSENT), class.text());
            record_rejection_of(self.transaction, source, subject, entry, self.context.asked_at)?;
        }
        self.statement("UPDATE contact SET dropped = ?3 WHERE source = ?1 AND key = ?2")?
            .execute(params![self.context.source.0, contact.key, now])
            .attempt("store a contact")
            .map(|_| ())
    }
}
