//! What a record that is not used says of consent: a no goes out whatever else is wrong with its record.
//!
//! It speaks of the address that the checkpoint knows of the contact. A yes counts only in a record that is used.

use rusqlite::params;

use crate::contact::{Consent, Contact};
use crate::plan::change::{ReadStamp, is_older};
use crate::plan::consent::{ConsentAct, consent_after};

use super::incoming::PageMode;
use super::pages::Page;
use super::reads::SeenRows;
use super::stuck::Stuck;
use super::{Attempt, CheckpointError};

impl Page<'_> {
    /// A record that is left out or rejected says no. Of several with one id in one read the first one counts, or two that
    /// differ would lower and raise by turns.
    pub(super) fn record_refusal(
        &mut self,
        key: &str,
        changed_at: Option<i64>,
        seen: &mut SeenRows,
    ) -> Result<(), CheckpointError> {
        if !self.context.policy.has_consent {
            return Ok(());
        }
        let Some(row) = self.load(key)? else { return Ok(()) };
        let came = ReadStamp { asked_at: self.context.asked_at, changed_at };
        // whom we have ended gets no mail, and is seen for the first time when the record is used again
        if is_older(row.known.stamp, came) || row.stuck == Stuck::Ended || !seen.refuse(row.id) {
            return Ok(());
        }
        let heard = self.load_heard(row.id)?;
        let desired = row.known.sides.desired;
        if self.context.mode == PageMode::Preview {
            let policy = &self.context.policy;
            if let Some(address) = self.address_of(&desired) {
                let act = consent_after(heard.state.as_ref(), Some(Consent::No), address, policy.forgets_consent).1;
                self.preview_act(act);
            }
            return Ok(());
        }
        match self.record_consent((row.id, key), Some(Consent::No), &heard, &desired)? {
            ConsentAct::Lower { .. } => {}
            ConsentAct::None | ConsentAct::Raise | ConsentAct::Withdraw => return Ok(()),
        }
        // a page that was asked for before does not take it back
        self.statement(
            "UPDATE contact SET read_at = max(read_at, ?2), changed_at = coalesce(max(changed_at, ?3), changed_at, ?3) \
             WHERE id = ?1",
        )?
        .execute(params![row.id, self.context.asked_at, changed_at])
        .attempt("store how old a record is")
        .map(|_| ())
    }

    /// A record that is used says yes, and one with its id that is not said no in the same read: the no counts.
    pub(super) fn heed_refusal(&self, contact: &mut Contact, seen: &SeenRows) -> Result<(), CheckpointError> {
        if seen.has_refused(|| Ok(self.load(&contact.key)?.map(|row| row.id)))? {
            contact.consent = Some(Consent::No);
        }
        Ok(())
    }
}
