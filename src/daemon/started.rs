//! Calls that start something in Reteno: the double opt-in, and events for new contacts. Once such a call may have got
//! through it is never made again by itself.

use crate::checkpoint::{CheckpointError, ImportState, OpenImport, UnknownFate};
use crate::clock::Timestamp;
use crate::plan::ImportId;
use crate::plan::answer::SubscribeAnswer;
use crate::plan::outcome::MemberOutcome;

use super::sender::Sender;

impl Sender {
    pub(super) async fn record_started(
        &mut self,
        import: ImportId,
        answer: SubscribeAnswer,
    ) -> Result<(), CheckpointError> {
        self.busy.remove(&import);
        let now = self.clock.now();
        self.count_post(match &answer {
            SubscribeAnswer::NotWritten { cause, .. } => Some(cause),
            SubscribeAnswer::Taken { .. }
            | SubscribeAnswer::RepeatedWithinMinute
            | SubscribeAnswer::Refused { .. }
            | SubscribeAnswer::Uncertain { .. } => None,
        });
        match answer {
            SubscribeAnswer::Taken { id, email_status, is_new } => {
                self.lift_pause(now).await?;
                self.counts.send_modify(|counts| counts.sent += 1);
                let status = match (email_status, is_new) {
                    (Some(status), Some(false)) => Some(format!("{status} (Reteno knew the contact)")),
                    (status, _) => status,
                };
                let members = self.store.call(move |checkpoint| checkpoint.load_members(import)).await?;
                let subjects: Vec<_> = members.iter().map(|member| member.contact).collect();
                self.store.call(move |checkpoint| checkpoint.note_email_status(&subjects, status.as_deref())).await?;
                let acknowledged = MemberOutcome::Acknowledged { reteno_id: Some(id) };
                let members = members.iter().map(|member| (member.contact, acknowledged.clone())).collect();
                self.settle(import, members, UnknownFate::Release, false).await
            }
            SubscribeAnswer::Refused { status, reason } => {
                self.lift_pause(now).await?;
                self.record_refused(import, &format!("Reteno answers {status}: {reason}"), now).await
            }
            SubscribeAnswer::NotWritten { cause, retry_after } => {
                self.record_not_written(import, &cause, retry_after, now).await
            }
            SubscribeAnswer::RepeatedWithinMinute => {
                let Some(import) = self.load_import(import).await? else { return Ok(()) };
                self.leave_doubtful(&import, now).await
            }
            SubscribeAnswer::Uncertain { cause } => {
                self.pause.doubt(&cause, None, now);
                self.tell_standstill(now).await?;
                let Some(import) = self.load_import(import).await? else { return Ok(()) };
                self.leave_doubtful(&import, now).await
            }
        }
    }

    /// It may have been carried out, and what it starts must not start twice: it is listed, and its contacts go on without
    /// it. A form's contact is taken as held; others are due again, by calls that start nothing.
    pub(super) async fn leave_doubtful(&mut self, import: &OpenImport, now: Timestamp) -> Result<(), CheckpointError> {
        let id = import.id;
        let ghost_until = now.plus(self.settings.import_age_max);
        self.locks.release(id);
        self.store.call(move |checkpoint| checkpoint.leave_doubtful(id, now, ghost_until)).await
    }

    /// Those that an earlier process made and that nobody saw the answer of.
    pub(super) async fn leave_all_doubtful(&mut self) -> Result<(), CheckpointError> {
        let now = self.clock.now();
        let imports = self.store.call(|checkpoint| checkpoint.load_imports()).await?;
        for import in imports {
            if import.fires && import.state == ImportState::Intent {
                self.leave_doubtful(&import, now).await?;
            }
        }
        Ok(())
    }
}
