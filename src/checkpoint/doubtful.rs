//! Calls that start something in Reteno: which contacts such a call may have been made for, and which may be made one for.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::plan::outcome::MemberOutcome;
use crate::plan::{ContactId, ImportId, SourceId};

use super::rejections::{RejectionKind, record_rejection};
use super::settle::{Settlement, UnknownFate};
use super::{Attempt, Checkpoint, CheckpointError};

const FORM_IN_DOUBT: &str = "the double opt-in may have been sent: Reteno did not answer, and it is not sent again";
const EVENT_IN_DOUBT: &str = "the event for a new contact may have been made: how its call ended is not known, and it is \
                              not made again";

/// What an import starts.
#[derive(Clone, Copy)]
pub(super) struct Starts {
    /// Anything at all.
    pub(super) any: bool,
    /// The double opt-in.
    pub(super) is_form: bool,
}

impl Starts {
    /// Notes what the end of the import means for one member: what certainly started nothing may start it the next time;
    /// what may have is listed, and never starts again.
    pub(super) fn note(
        self,
        transaction: &Transaction<'_>,
        (contact, source, key): (ContactId, SourceId, &str),
        outcome: &MemberOutcome,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        if !self.any {
            return Ok(());
        }
        match outcome {
            MemberOutcome::Acknowledged { .. } => Ok(()),
            MemberOutcome::Unknown if !settlement.wrote_nothing => {
                let what = (RejectionKind::Doubtful, None, if self.is_form { FORM_IN_DOUBT } else { EVENT_IN_DOUBT });
                record_rejection(transaction, source, (Some(key), None), what, now.0)
            }
            MemberOutcome::Rejected(_) | MemberOutcome::Skipped | MemberOutcome::Unknown => transaction
                .execute("UPDATE contact SET fired = 0, told = 0 WHERE id = ?1", [contact.0])
                .attempt("store that no workflow started")
                .map(|_| ()),
        }
    }
}

impl Checkpoint {
    /// A call that starts something may have been carried out: each of its members is listed. A form's contact is taken as
    /// held, since the call is never made again; others are due again, by calls that start nothing.
    pub fn leave_doubtful(
        &mut self,
        import: ImportId,
        now: Timestamp,
        ghost_until: Timestamp,
    ) -> Result<(), CheckpointError> {
        const ACTION: &str = "list what may have been sent";
        let is_form: bool = self
            .connection
            .query_row("SELECT call = 'subscribe' FROM import WHERE id = ?1", [import.0], |row| row.get(0))
            .attempt(ACTION)?;
        let members = self.load_members(import)?;
        if is_form {
            // settled as held, so that only here it is known to be in doubt
            for member in &members {
                self.list_form(member.contact, now)?;
            }
        }
        let outcome = if is_form { MemberOutcome::Acknowledged { reteno_id: None } } else { MemberOutcome::Unknown };
        let settlement = Settlement {
            members: members.iter().map(|member| (member.contact, outcome.clone())).collect(),
            fate: UnknownFate::Release,
            wrote_nothing: false,
            ghost_until: Some(ghost_until),
        };
        self.settle_import(import, &settlement, now)
    }

    fn list_form(&self, contact: ContactId, now: Timestamp) -> Result<(), CheckpointError> {
        let found: Option<(i64, String)> = self
            .connection
            .query_row("SELECT source, key FROM contact WHERE id = ?1", params![contact.0], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .attempt("list what may have been sent")?;
        let Some((source, key)) = found else { return Ok(()) };
        let what = (RejectionKind::Doubtful, None, FORM_IN_DOUBT);
        record_rejection(&self.connection, SourceId(source), (Some(&key), None), what, now.0)
    }

    /// Keeps what Reteno said of an address that was subscribed by a form.
    pub fn note_email_status(&mut self, contacts: &[ContactId], status: Option<&str>) -> Result<(), CheckpointError> {
        for contact in contacts {
            self.connection
                .execute("UPDATE contact SET email_status = ?2 WHERE id = ?1", params![contact.0, status])
                .attempt("store what Reteno said of an address")?;
        }
        Ok(())
    }
}
