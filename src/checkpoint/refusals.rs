//! What a record that is not used says of consent: a no goes out whatever else is wrong with its record.
//!
//! It speaks of the address that the checkpoint knows of the contact. A yes counts only in a record that is used.

use rusqlite::params;

use crate::contact::{Consent, Contact, FieldPrints};
use crate::plan::change::{Age, Path, ReadStamp, Twins, age_of, is_changed_later};
use crate::plan::consent::ConsentAct;

use super::consents::Heard;
use super::incoming::{Origin, Way};
use super::pages::Page;
use super::reads::SeenRows;
use super::rows::Row;
use super::stuck::Stuck;
use super::wanted::want_record;
use super::{Attempt, CheckpointError};

impl Page<'_> {
    /// A record that is left out or rejected says no.
    pub(super) fn record_refusal(
        &mut self,
        key: &str,
        (changed_at, origin): (Option<i64>, Origin),
        seen: &mut SeenRows,
    ) -> Result<(), CheckpointError> {
        let Some(mut row) = self.load(key)? else { return Ok(()) };
        row.known.is_repeated = seen.has_told(row.id);
        let asked = Path::Asked { began: self.context.began };
        let way = match origin {
            Origin::Read => (Twins::Later, asked),
            Origin::Line => (Twins::Mistake, asked),
            Origin::Pushed => (Twins::Later, Path::Pushed),
        };
        if self.heed_no((&row, key), changed_at, way)? && origin == Origin::Line {
            seen.refuse(row.id);
        }
        Ok(())
    }

    /// A record of a known contact says no, and nothing else of it is used. Of several with one id the later word counts; in
    /// a file the first one, or two that differ would lower and raise by turns. Says whether it counts.
    pub(super) fn heed_no(
        &mut self,
        (row, key): (&Row, &str),
        changed_at: Option<i64>,
        (twins, path): (Twins, Path),
    ) -> Result<bool, CheckpointError> {
        let came = ReadStamp { asked_at: self.context.asked_at, changed_at };
        let is_second = twins == Twins::Mistake && row.known.is_repeated && !is_changed_later(row.known.stamp, came);
        if !self.context.policy.has_consent || is_second || self.is_nowhere(row)? {
            return Ok(false);
        }
        let heard = self.load_heard(row.id)?;
        match age_of(&row.known, came, path) {
            Age::Newer => {}
            Age::Older => return Ok(false),
            age @ (Age::AskedBefore | Age::Contradicted) => {
                self.doubt_no((row, key), age, &heard)?;
                return Ok(false);
            }
        }
        let desired = &row.known.sides.desired;
        let lowers = match self.record_consent((row.id, key), Some(Consent::No), &heard, desired)? {
            ConsentAct::Lower { .. } => true,
            ConsentAct::None | ConsentAct::Raise | ConsentAct::Withdraw => false,
        };
        let is_news = changed_at.is_some() && changed_at != row.known.stamp.changed_at;
        if lowers || is_news || row.known.older_since.is_some() || !self.context.is_full {
            // a page that was asked for before, or a record with a lower change time, does not take it back
            self.statement(
                "UPDATE contact SET read_at = max(read_at, ?2), changed_at = coalesce(?3, changed_at), older_read = NULL \
                 WHERE id = ?1",
            )?
            .execute(params![row.id, self.context.asked_at, changed_at])
            .attempt("store how old a record is")?;
        }
        Ok(true)
    }

    /// The no contradicts the order of the reads, and is news: the record is read once more, and one with a lower change time
    /// counts when a later read shows it again.
    fn doubt_no(&self, (row, key): (&Row, &str), age: Age, heard: &Heard) -> Result<(), CheckpointError> {
        let is_known = heard.state.is_some_and(|state| state.said == Some(Consent::No));
        if is_known {
            return Ok(());
        }
        if age == Age::Contradicted && row.known.older_since.is_none() {
            self.statement("UPDATE contact SET older_read = ?2 WHERE id = ?1")?
                .execute(params![row.id, self.context.began])
                .attempt("store that a record is older than the one believed")?;
        }
        // two records with one id in each read would have it read for ever
        if row.known.is_repeated && matches!(self.context.way, Way::Cycle(_)) {
            return Ok(());
        }
        want_record(self.transaction, self.context.source, key, false).map(|_| ())
    }

    /// Nothing of a contact that was ended is in Reteno any more, or soon nothing will be: it was deleted or erased, or Reteno
    /// was never told of it. One that was detached still gets mail.
    fn is_nowhere(&self, row: &Row) -> Result<bool, CheckpointError> {
        if row.stuck != Stuck::Ended {
            return Ok(false);
        }
        let holds_nothing = row.known.sides.acknowledged.as_ref().is_some_and(FieldPrints::is_empty);
        if holds_nothing && !row.is_in_import {
            return Ok(true);
        }
        self.statement("SELECT EXISTS (SELECT 1 FROM deed WHERE contact = ?1 AND kind = 'erase' AND buried = 1)")?
            .query_row([row.id], |row| row.get(0))
            .attempt("look for an erasure")
    }

    /// A line that is used says yes, and one with its id that is not said no before it: the no counts.
    pub(super) fn heed_refusal(&self, contact: &mut Contact, seen: &SeenRows) -> Result<(), CheckpointError> {
        if seen.has_refused(|| Ok(self.load(&contact.key)?.map(|row| row.id)))? {
            contact.consent = Some(Consent::No);
        }
        Ok(())
    }
}
