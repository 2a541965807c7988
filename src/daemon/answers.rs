//! What the sender does with each answer: the decision comes from `plan`, here it is written down and told.

use crate::checkpoint::{CallKind, CheckpointError, DeedEnd, OpenImport, UnknownFate};
use crate::clock::Timestamp;
use crate::plan::answer::{ImportAnswer, NotWritten, SingleAnswer, SubmitAnswer};
use crate::plan::halving::Failure;
use crate::plan::outcome::{
    Member, MemberOutcome, Outcomes, match_failures, outcomes_finished, outcomes_unknown, reject_unrenamed,
};
use crate::plan::{ContactId, ImportId};

use super::batches::PROBE_AGE_MAX;
use super::pace::{Standstill, asked_wait};
use super::sender::{REQUEST_SLACK, Sender};
use super::standing::{OUTAGE_ALERT, TOKEN_REFUSED_ALERT};

/// A pause that lasts this long is told by an alert: shorter ones come with every restart of a router.
const STANDSTILL_TOLD: std::time::Duration = std::time::Duration::from_mins(1);
/// How long before a part of a halved batch another part may have got through.
const SIBLING_AGE_MAX: std::time::Duration = std::time::Duration::from_hours(1);
/// Reteno may not know an import right after it named it; after this long it never will.
const MISSING_MAX: std::time::Duration = std::time::Duration::from_mins(10);
/// How long contacts wait whose import's mapping is not understood. Shorter sends all of them too often for nothing.
const ODD_MAPPING_WAIT: std::time::Duration = std::time::Duration::from_hours(6);

impl Sender {
    pub(super) async fn record_submit(
        &mut self,
        import: ImportId,
        answer: SubmitAnswer,
    ) -> Result<(), CheckpointError> {
        self.busy.remove(&import);
        let now = self.clock.now();
        self.count_post(match &answer {
            SubmitAnswer::NotWritten { cause, .. } => Some(cause),
            SubmitAnswer::Accepted { .. } | SubmitAnswer::Refused { .. } | SubmitAnswer::Uncertain { .. } => None,
        });
        match answer {
            SubmitAnswer::Accepted { session, failed } => {
                self.lift_pause(now).await?;
                let members = self.store.call(move |checkpoint| checkpoint.load_members(import)).await?;
                self.counts.send_modify(|counts| counts.sent += members.len() as u64);
                let (failures, unmatched) = match_failures(&failed, &members, &self.hash);
                tracing::debug!(
                    import = import.0,
                    session,
                    contacts = members.len(),
                    failed = failed.len(),
                    "submitted"
                );
                let check_at = now.plus(self.settings.import_poll_first);
                self.store
                    .call(move |checkpoint| checkpoint.accept_import(import, &session, &failures, unmatched, check_at))
                    .await
            }
            SubmitAnswer::Refused { status, reason } => {
                self.lift_pause(now).await?;
                self.record_refused(import, &format!("Reteno answers {status}: {reason}"), now).await
            }
            SubmitAnswer::NotWritten { cause, retry_after } => {
                self.record_not_written(import, &cause, retry_after, now).await
            }
            SubmitAnswer::Uncertain { cause, retry_after } => self.record_doubt(import, &cause, retry_after, now).await,
        }
    }

    pub(super) async fn record_single(
        &mut self,
        import: ImportId,
        answer: SingleAnswer,
    ) -> Result<(), CheckpointError> {
        self.busy.remove(&import);
        let now = self.clock.now();
        self.count_post(match &answer {
            SingleAnswer::NotWritten { cause, .. } => Some(cause),
            SingleAnswer::Written { .. }
            | SingleAnswer::RepeatedWithinMinute { .. }
            | SingleAnswer::Refused { .. }
            | SingleAnswer::Uncertain { .. } => None,
        });
        match answer {
            SingleAnswer::Written { id } => {
                self.lift_pause(now).await?;
                self.counts.send_modify(|counts| counts.sent += 1);
                let members = self.store.call(move |checkpoint| checkpoint.load_members(import)).await?;
                let acknowledged = MemberOutcome::Acknowledged { reteno_id: Some(id) };
                let mask = self.load_import(import).await?.map(|import| import.mask).unwrap_or_default();
                let contacts: Vec<ContactId> = members.iter().map(|member| member.contact).collect();
                self.note_success(&mask, &contacts).await?;
                let members = members.iter().map(|member| (member.contact, acknowledged.clone())).collect();
                self.settle(import, members, UnknownFate::Release, false).await
            }
            SingleAnswer::RepeatedWithinMinute { retry_after } => {
                self.record_doubt(import, "Reteno answers 409: repeated within a minute", Some(retry_after), now).await
            }
            SingleAnswer::Refused { status, reason } => {
                self.lift_pause(now).await?;
                self.record_refused(import, &format!("Reteno answers {status}: {reason}"), now).await
            }
            SingleAnswer::NotWritten { cause, retry_after } => {
                self.record_not_written(import, &cause, retry_after, now).await
            }
            SingleAnswer::Uncertain { cause, retry_after } => self.record_doubt(import, &cause, retry_after, now).await,
        }
    }

    pub(super) async fn record_check(&mut self, id: ImportId, answer: ImportAnswer) -> Result<(), CheckpointError> {
        self.busy.remove(&id);
        let now = self.clock.now();
        let Some(import) = self.load_import(id).await? else { return Ok(()) };
        let is_overdue = self.is_overdue(&import, now);
        let ends = matches!(answer, ImportAnswer::Finished { .. } | ImportAnswer::Failed { .. });
        if import.call == CallKind::Learn && (ends || is_overdue) {
            return self.record_learnt(&import, answer, now).await;
        }
        let usual = self.settings.import_poll_first * 2_u32.pow(import.checks.min(12));
        let usual = now.plus(usual.min(self.settings.import_poll_max));
        match answer {
            ImportAnswer::Running | ImportAnswer::UnknownStatus(_) if is_overdue => self.abandon(&import, now).await,
            ImportAnswer::Running => self.postpone(id, usual, None).await,
            ImportAnswer::UnknownStatus(status) => {
                let text = format!("Reteno gives an import a status that this program does not know: {status}");
                self.alarm
                    .raise("import-status", &text, "look for a newer reteno-sync; the import stays pending")
                    .await?;
                self.postpone(id, usual, None).await
            }
            ImportAnswer::Missing => {
                let since = import.missing_since.unwrap_or(now);
                if now.since(since) >= MISSING_MAX || is_overdue {
                    if import.call == CallKind::Learn {
                        return self.end_deeds(&import, DeedEnd::NotWritten, now).await;
                    }
                    return self.abandon(&import, now).await;
                }
                self.postpone(id, usual, Some(since)).await
            }
            ImportAnswer::Unreachable { cause, retry_after } => {
                tracing::debug!(import = id.0, cause, "asked for an import without an answer");
                self.pause.heed(retry_after, now);
                // other calls get through and this one never does: its contacts must not wait for it for ever
                let is_lost = now.since(import.posted_at) >= 2 * self.settings.import_age_max;
                if is_lost && self.pause.has_succeeded_since(import.posted_at) {
                    return self.abandon(&import, now).await;
                }
                let later = asked_wait(retry_after).map_or(usual, |wait| now.plus(wait));
                self.postpone(id, later, import.missing_since).await
            }
            ImportAnswer::NeedsAuthorization => {
                let later = self.pause.begin(&NotWritten::NeedsAuthorization, None, now);
                self.tell_standstill(now).await?;
                self.postpone(id, later, import.missing_since).await
            }
            ImportAnswer::Finished { mapping } => {
                self.lift_pause(now).await?;
                self.record_finished(&import, mapping.as_deref(), now).await
            }
            ImportAnswer::Failed { description } => {
                let reason = format!("Reteno's import ended in ERROR: {description}");
                let members = self.store.call(move |checkpoint| checkpoint.load_members(id)).await?;
                if import.call == CallKind::Upload {
                    return self.end_upload(&import, &members, &reason).await;
                }
                let fate = self.fate_of_failure(&import.mask, &members, (Failure::Error, &reason), now).await?;
                self.settle(id, outcomes_unknown(&members).members, fate, false).await
            }
        }
    }

    async fn record_finished(
        &mut self,
        import: &OpenImport,
        mapping: Option<&[(crate::contact::Personal, i64)]>,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let id = import.id;
        let members = self.store.call(move |checkpoint| checkpoint.load_members(id)).await?;
        // a rename that has met nobody is told so by an empty mapping, whatever the batch
        let mapping = mapping.filter(|pairs| !(import.renames && pairs.is_empty()));
        let mut outcomes = outcomes_finished(&members, mapping, import.unmatched, &self.hash);
        if import.renames {
            reject_unrenamed(&mut outcomes, &members);
        }
        let Outcomes { members: outcomes, is_mapping_odd } = outcomes;
        let is_taken = |outcome: &MemberOutcome| matches!(outcome, MemberOutcome::Acknowledged { .. });
        let taken: Vec<ContactId> =
            outcomes.iter().filter(|(_, outcome)| is_taken(outcome)).map(|(contact, _)| *contact).collect();
        if !taken.is_empty() {
            self.note_success(&import.mask, &taken).await?;
        }
        self.alarm.end("import-status").await?;
        if !is_mapping_odd && mapping.is_some() {
            self.alarm.end("mapping").await?;
        }
        if is_mapping_odd {
            let text = format!("the mapping of import {} names other contacts than it carried", id.0);
            self.alarm
                .raise("mapping", &text, "its contacts are sent again every few hours; tell us if it stays")
                .await?;
        }
        let unknown: Vec<ContactId> =
            outcomes.iter().filter(|(_, outcome)| *outcome == MemberOutcome::Unknown).map(|(c, _)| *c).collect();
        let fate = match unknown.len() {
            0 => UnknownFate::Release,
            // no file carries them again, and of a bulk call more is known
            _ if import.call == CallKind::Upload => UnknownFate::Release,
            // smaller batches would not be understood better, and in very small ones a missing contact would pass for
            // one that was deleted
            _ if is_mapping_odd => UnknownFate::Later(ODD_MAPPING_WAIT),
            1 => {
                let failure = (Failure::Refused, "Reteno refuses it");
                self.fate_of_failure(&import.mask, &lone(&members, &unknown), failure, now).await?
            }
            _ => {
                let (first, second) = self.halving.split();
                UnknownFate::Split { first, second }
            }
        };
        self.settle(id, outcomes, fate, false).await
    }

    /// The whole batch was refused for what it holds.
    pub(super) async fn record_refused(
        &mut self,
        id: ImportId,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let Some(import) = self.load_import(id).await? else { return Ok(()) };
        if import.call == CallKind::Learn {
            return self.end_deeds(&import, DeedEnd::Refused(reason.to_owned()), now).await;
        }
        let members = self.store.call(move |checkpoint| checkpoint.load_members(id)).await?;
        if import.call == CallKind::Upload {
            return self.end_upload(&import, &members, reason).await;
        }
        let fate = self.fate_of_failure(&import.mask, &members, (Failure::Refused, reason), now).await?;
        let wrote_nothing = import.posts == 1 && import.ghost_until.is_none();
        self.settle(id, outcomes_unknown(&members).members, fate, wrote_nothing).await
    }

    /// Nothing was written and nobody in the batch is to blame: a first post is taken back, so that its contacts go out
    /// later in their newest state; one that may have arrived before stays what it is.
    pub(super) async fn record_not_written(
        &mut self,
        id: ImportId,
        cause: &NotWritten,
        retry_after: Option<std::time::Duration>,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let until = self.pause.begin(cause, retry_after, now);
        self.tell_standstill(now).await?;
        let Some(import) = self.load_import(id).await? else { return Ok(()) };
        if import.posts > 1 || import.ghost_until.is_some() {
            return self.store.call(move |checkpoint| checkpoint.doubt_import(id, until, None)).await;
        }
        if import.call == CallKind::Learn {
            return self.end_deeds(&import, DeedEnd::NotWritten, now).await;
        }
        let members = self.store.call(move |checkpoint| checkpoint.load_members(id)).await?;
        self.settle(id, outcomes_unknown(&members).members, UnknownFate::Release, true).await
    }

    async fn record_doubt(
        &mut self,
        id: ImportId,
        cause: &str,
        retry_after: Option<std::time::Duration>,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        self.pause.doubt(cause, retry_after, now);
        self.tell_standstill(now).await?;
        let Some(import) = self.load_import(id).await? else { return Ok(()) };
        if import.call == CallKind::Learn {
            return self.doubt_deed(&import, retry_after, now).await;
        }
        if import.fires {
            return self.leave_doubtful(&import, now).await;
        }
        if import.posts == 1 {
            tracing::warn!(
                import = id.0,
                "a call that may have been carried out got no answer: the same body goes out again"
            );
        }
        // others get through and this one never does: then it is about what it carries
        let is_part = self.store.call(move |checkpoint| checkpoint.is_part(id)).await?;
        let patience = if is_part { PROBE_AGE_MAX } else { self.settings.import_age_max };
        // a part may be the last that is sent: its sibling's success, shortly before, tells as much
        let since = if is_part { import.created_at.minus(SIBLING_AGE_MAX) } else { import.created_at };
        if now.since(import.created_at) >= patience && self.pause.has_succeeded_since(since) {
            return self.give_up(&import, cause, now).await;
        }
        let wait = asked_wait(retry_after).unwrap_or_else(|| self.repeat.for_attempt(import.posts));
        let ghost_until = import.posted_at.plus(self.settings.import_age_max + REQUEST_SLACK);
        self.store.call(move |checkpoint| checkpoint.doubt_import(id, now.plus(wait), Some(ghost_until))).await
    }

    async fn postpone(
        &self,
        id: ImportId,
        at: Timestamp,
        missing_since: Option<Timestamp>,
    ) -> Result<(), CheckpointError> {
        self.store.call(move |checkpoint| checkpoint.postpone_check(id, at, missing_since)).await
    }

    pub(super) async fn load_import(&self, id: ImportId) -> Result<Option<OpenImport>, CheckpointError> {
        let imports = self.store.call(|checkpoint| checkpoint.load_imports()).await?;
        Ok(imports.into_iter().find(|import| import.id == id))
    }

    /// Counts a call that has reached Reteno.
    pub(super) fn count_post(&self, not_written: Option<&NotWritten>) {
        let has_left = match not_written {
            Some(NotWritten::Unreachable(_) | NotWritten::NeedsAuthorization) => false,
            Some(NotWritten::RateLimited | NotWritten::Forbidden(_) | NotWritten::WrongAddress(_)) | None => true,
        };
        self.counts.send_modify(|counts| counts.posts += u64::from(has_left));
    }

    pub(super) async fn lift_pause(&mut self, now: Timestamp) -> Result<(), CheckpointError> {
        if let Some(Standstill::Passing(_)) = self.pause.standstill() {
            tracing::info!("sending goes on");
            self.alarm.end(OUTAGE_ALERT).await?;
        }
        // an earlier process may have raised them
        if self.pause.lift(now) {
            self.alarm.end(TOKEN_REFUSED_ALERT).await?;
            self.alarm.end("refused-by-reteno").await?;
            self.alarm.end(OUTAGE_ALERT).await?;
        }
        Ok(())
    }

    pub(super) async fn tell_standstill(&self, now: Timestamp) -> Result<(), CheckpointError> {
        match self.pause.standstill() {
            Some(Standstill::NeedsAuthorization) => {
                let text = "Reteno has to be authorized: nothing is sent until then, sources are read on";
                let hint = format!("run `{} --authorize`", self.settings.program);
                self.alarm.raise(TOKEN_REFUSED_ALERT, text, &hint).await
            }
            Some(Standstill::NeedsPerson(cause)) => {
                let hint = format!(
                    "give the app the scope \"Full access to API\" on its page in Reteno and run `{} --authorize` (tokens keep \
                     the scope of their time); if it has that scope, check reteno.api_url",
                    self.settings.program
                );
                self.alarm.raise("refused-by-reteno", &format!("nothing is sent: {cause}"), &hint).await
            }
            Some(Standstill::Passing(cause)) => match self.pause.stands_since() {
                Some(since) if now.since(since) >= STANDSTILL_TOLD => self.raise_outage(since, cause).await,
                Some(since) if since == now => {
                    tracing::warn!("sending pauses: {cause}");
                    Ok(())
                }
                Some(_) | None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

impl Sender {
    async fn raise_outage(&self, since: Timestamp, cause: &str) -> Result<(), CheckpointError> {
        let hint = "nothing, where it passes; else check the network and reteno.api_url";
        let text = format!("nothing has been sent since {since}: {cause}");
        self.alarm.raise(OUTAGE_ALERT, &text, hint).await
    }

    /// Tells of an outage that has just begun, where nobody waits for its end: a command that runs once is over.
    pub async fn tell_outage(&self) -> Result<(), CheckpointError> {
        match (self.pause.standstill(), self.pause.stands_since()) {
            (Some(Standstill::Passing(cause)), Some(since)) => self.raise_outage(since, cause).await,
            (_, _) => Ok(()),
        }
    }
}

fn lone(members: &[Member], unknown: &[ContactId]) -> Vec<Member> {
    members.iter().filter(|member| unknown.contains(&member.contact)).cloned().collect()
}
