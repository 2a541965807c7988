//! The calls that do something about contacts without writing their fields: which go out now, and what their answers mean.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::checkpoint::{BegunDeeds, CallKind, CheckpointError, DeedEnd, DeedSubject, OpenImport};
use crate::clock::Timestamp;
use crate::contact::{Field, Personal, Values, Wanted};
use crate::plan::answer::{DeedAnswer, ImportAnswer};
use crate::plan::deed::{DeedCall, DeedKind, plan_deeds};
use crate::plan::outcome::{MemberOutcome, Outcomes, outcomes_finished};
use crate::plan::{ContactId, ImportId};
use crate::reteno::body::{BodyError, BulkContact, BulkRequest, DedupeOn, bulk_body};
use crate::reteno::lists::{DetachBody, EmailsBody, ListError};

use super::pace::asked_wait;
use super::sender::{REQUEST_SLACK, Sender};

/// Deeds looked at in one round.
const DEEDS_MAX: u32 = 4000;
/// Opt-outs under way at the same time, and so many other calls of this kind: those that hang must not keep an opt-out back.
const CALLS_MAX: usize = 8;

/// Why a deed's body cannot be built.
#[derive(Debug, thiserror::Error)]
enum DeedBodyError {
    #[error("nothing is known that it could name")]
    Nobody,
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl Sender {
    /// Starts what is to be done now; says whether anything was begun.
    pub(super) async fn begin_deeds(
        &mut self,
        imports: &[OpenImport],
        now: Timestamp,
    ) -> Result<bool, CheckpointError> {
        // one that got no answer is no reason to keep an opt-out back; one that certainly did nothing is
        if self.pause.until_for_opt_outs(now).is_some() {
            return Ok(false);
        }
        let age_max = self.settings.import_age_max;
        let due = self.store.call(move |checkpoint| checkpoint.load_due_deeds(now, DEEDS_MAX, age_max)).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let free = |is_opt_out: bool| {
            let is_such = |call: CallKind| call.is_deed() && (call == CallKind::Unsubscribe) == is_opt_out;
            let under_way = imports.iter().filter(|import| is_such(import.call) && self.busy.contains_key(&import.id));
            CALLS_MAX.saturating_sub(under_way.count())
        };
        let (opt_outs, others): (Vec<_>, Vec<_>) =
            due.iter().cloned().partition(|deed| deed.kind == DeedKind::Unsubscribe);
        let mut calls = plan_deeds(&opt_outs, &self.locks, free(true));
        if self.pause.until(now).is_none() {
            calls.extend(plan_deeds(&others, &self.locks, free(false)));
        }
        let mut has_begun = false;
        for call in calls {
            has_begun |= self.begin_deed(call, &due, now).await?;
        }
        Ok(has_begun)
    }

    async fn begin_deed(
        &mut self,
        call: DeedCall,
        due: &[crate::plan::deed::DueDeed],
        now: Timestamp,
    ) -> Result<bool, CheckpointError> {
        let id = due.iter().find(|deed| call.deeds.first() == Some(&deed.id)).and_then(|deed| deed.reteno_id);
        let kind = match (call.kind, id) {
            (DeedKind::Unsubscribe, _) => CallKind::Unsubscribe,
            (DeedKind::Resubscribe, _) => CallKind::Resubscribe,
            (DeedKind::Detach, _) => CallKind::Detach(call.group.cast_signed()),
            (DeedKind::Learn, _) => CallKind::Learn,
            (DeedKind::Delete, Some(id)) => CallKind::Delete(id),
            (DeedKind::Erase, Some(id)) => CallKind::Erase(id),
            (DeedKind::Delete, None) => CallKind::DeleteNamed,
            (DeedKind::Erase, None) => CallKind::EraseNamed,
        };
        let dedupe_on = self.settings.dedupe_on;
        let planned = call.clone();
        let begun = self
            .store
            .call(move |checkpoint| {
                checkpoint.begin_deeds(&planned, kind, now, |subjects| build_body(&planned, subjects, dedupe_on))
            })
            .await?;
        match begun {
            Ok(Some(BegunDeeds { import, body, locks })) => {
                let distinct: BTreeSet<_> = locks.iter().collect();
                // a page has meanwhile given somebody an identity that another call holds: it is planned anew
                if distinct.len() < locks.len() || !self.locks.is_free(&locks) {
                    let end = DeedEnd::NotWritten;
                    self.store.call(move |checkpoint| checkpoint.settle_deeds(import, &end, now, None)).await?;
                    return Ok(false);
                }
                self.locks.take(import, locks);
                self.post(import, kind, body);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                let reason = format!("cannot be told to Reteno: {error}");
                self.store.call(move |checkpoint| checkpoint.refuse_deeds(&call.deeds, &reason, now)).await?;
                Ok(false)
            }
        }
    }

    pub(super) async fn record_deed(&mut self, id: ImportId, answer: DeedAnswer) -> Result<(), CheckpointError> {
        self.busy.remove(&id);
        let now = self.clock.now();
        self.count_post(match &answer {
            DeedAnswer::NotWritten { cause, .. } => Some(cause),
            DeedAnswer::Done | DeedAnswer::NotThere | DeedAnswer::Refused { .. } | DeedAnswer::Uncertain { .. } => None,
        });
        let Some(import) = self.load_import(id).await? else { return Ok(()) };
        match answer {
            DeedAnswer::Done => {
                self.lift_pause(now).await?;
                if let CallKind::Detach(group) = import.call {
                    self.alarm.end(&segment_alert(group)).await?;
                }
                self.end_deeds(&import, DeedEnd::Done, now).await
            }
            DeedAnswer::NotThere if let CallKind::Detach(group) = import.call => {
                self.lift_pause(now).await?;
                let text = format!("Reteno does not know the segment {group}, which gone contacts are to leave");
                let hint = "compare the segment's group_id in the configuration with Reteno";
                self.alarm.raise(&segment_alert(group), &text, hint).await?;
                let reason = format!("Reteno does not know the segment {group}");
                self.end_deeds(&import, DeedEnd::NoSegment(reason), now).await
            }
            DeedAnswer::NotThere => {
                self.lift_pause(now).await?;
                self.end_deeds(&import, DeedEnd::NotThere, now).await
            }
            DeedAnswer::Refused { status, reason } => {
                self.lift_pause(now).await?;
                self.end_deeds(&import, DeedEnd::Refused(format!("Reteno answers {status}: {reason}")), now).await
            }
            DeedAnswer::NotWritten { cause, retry_after } => {
                let until = self.pause.begin(&cause, retry_after, now);
                self.tell_standstill(now).await?;
                if import.posts > 1 || import.ghost_until.is_some() {
                    return self.store.call(move |checkpoint| checkpoint.doubt_import(id, until, None)).await;
                }
                self.end_deeds(&import, DeedEnd::NotWritten, now).await
            }
            DeedAnswer::Uncertain { cause, retry_after } => {
                self.pause.doubt(&cause, retry_after, now);
                self.tell_standstill(now).await?;
                self.doubt_deed(&import, retry_after, now).await
            }
        }
    }

    /// All of them may be done twice, so they are repeated until Reteno answers; whether a raise is, is decided when its time
    /// has come.
    pub(super) async fn doubt_deed(
        &mut self,
        import: &OpenImport,
        retry_after: Option<std::time::Duration>,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let id = import.id;
        let age_max = self.settings.import_age_max;
        // others get through and this one never does: nothing of it is done, which a person has to know
        if now.since(import.created_at) >= age_max && self.pause.has_succeeded_since(import.created_at) {
            let text = format!("Reteno has not answered a call to {} since {}", import.call.name(), import.created_at);
            let hint = "it is made again until Reteno answers; look whether a proxy before Reteno refuses it";
            self.alarm.raise(&unanswered_alert(import.call), &text, hint).await?;
        }
        let wait = asked_wait(retry_after).unwrap_or_else(|| self.repeat.for_attempt(import.posts));
        let ghost_until = import.posted_at.plus(self.settings.import_age_max + REQUEST_SLACK);
        self.store.call(move |checkpoint| checkpoint.doubt_import(id, now.plus(wait), Some(ghost_until))).await
    }

    /// Whether a call that got no answer is a raise that may not be repeated any more: then it is ended.
    pub(super) async fn stop_late_raises(
        &mut self,
        import: &OpenImport,
        now: Timestamp,
    ) -> Result<bool, CheckpointError> {
        if import.call != CallKind::Resubscribe {
            return Ok(false);
        }
        let id = import.id;
        let ghost_until = import.posted_at.plus(self.settings.import_age_max + REQUEST_SLACK);
        let is_ended = self.store.call(move |checkpoint| checkpoint.stop_late_raises(id, now, ghost_until)).await?;
        if is_ended {
            self.locks.release(id);
        }
        Ok(is_ended)
    }

    /// Ends a call that does something; a copy of it that may still land is kept as a ghost.
    pub(super) async fn end_deeds(
        &mut self,
        import: &OpenImport,
        end: DeedEnd,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let (id, call) = (import.id, import.call);
        let ghost_until = import.ghost_until.map(|_| now.plus(self.settings.import_age_max));
        let is_done = matches!(end, DeedEnd::Done | DeedEnd::NotThere);
        if end != DeedEnd::NotWritten {
            self.alarm.end(&unanswered_alert(call)).await?;
        }
        self.locks.release(id);
        let refused = self.store.call(move |checkpoint| checkpoint.settle_deeds(id, &end, now, ghost_until)).await?;
        let contacts = import.contacts;
        self.counts.send_modify(|counts| {
            if is_done {
                counts.deeds += contacts;
            }
            counts.rejected += refused.len() as u64;
        });
        for (source, key) in refused {
            let text = format!("Reteno refuses to {} contact {key}", call.name());
            let program = &self.settings.program;
            let hint = format!("it is tried again every six hours; `{program} rejected list` shows Reteno's words");
            self.alarm.raise(&format!("{}-{}-{key}", call.name(), source.0), &text, &hint).await?;
        }
        Ok(())
    }

    /// What Reteno says of an import that was to tell its ids.
    pub(super) async fn record_learnt(
        &mut self,
        import: &OpenImport,
        answer: ImportAnswer,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let id = import.id;
        match answer {
            ImportAnswer::Finished { mapping: Some(mapping) } => {
                self.lift_pause(now).await?;
                let members = self.store.call(move |checkpoint| checkpoint.load_members(id)).await?;
                let Outcomes { members, is_mapping_odd } =
                    outcomes_finished(&members, Some(&mapping), import.unmatched, &self.hash);
                if is_mapping_odd {
                    let reason = "Reteno's answer names other contacts".to_owned();
                    return self.end_deeds(import, DeedEnd::Refused(reason), now).await;
                }
                let told: Vec<(ContactId, i64)> = members
                    .into_iter()
                    .filter_map(|(contact, outcome)| match outcome {
                        MemberOutcome::Acknowledged { reteno_id } => reteno_id.map(|id| (contact, id)),
                        MemberOutcome::Rejected(_) | MemberOutcome::Skipped | MemberOutcome::Unknown => None,
                    })
                    .collect();
                self.locks.release(id);
                let ghost_until = import.ghost_until.map(|_| now.plus(self.settings.import_age_max));
                self.store.call(move |checkpoint| checkpoint.settle_learnt(id, &told, now, ghost_until)).await
            }
            ImportAnswer::Finished { mapping: None } => {
                self.lift_pause(now).await?;
                self.end_deeds(import, DeedEnd::Refused("Reteno tells no ids".to_owned()), now).await
            }
            ImportAnswer::Failed { description } => {
                let reason = format!("Reteno's import ended in ERROR: {description}");
                self.end_deeds(import, DeedEnd::Refused(reason), now).await
            }
            ImportAnswer::Running
            | ImportAnswer::UnknownStatus(_)
            | ImportAnswer::Missing
            | ImportAnswer::Unreachable { .. }
            | ImportAnswer::NeedsAuthorization => self.end_deeds(import, DeedEnd::NotWritten, now).await,
        }
    }
}

fn build_body(call: &DeedCall, subjects: &[DeedSubject], dedupe_on: DedupeOn) -> Result<Bytes, DeedBodyError> {
    match call.kind {
        DeedKind::Unsubscribe | DeedKind::Resubscribe => {
            let emails = values_of(subjects, Field::Email);
            let (first, others) = emails.split_first().ok_or(DeedBodyError::Nobody)?;
            Ok(EmailsBody::of(first, others).as_bytes().clone())
        }
        DeedKind::Detach if call.by_id => {
            let ids: Vec<i64> = subjects.iter().filter_map(|subject| subject.reteno_id).collect();
            let (first, others) = ids.split_first().ok_or(DeedBodyError::Nobody)?;
            Ok(DetachBody::of_contact_ids(*first, others)?.as_bytes().clone())
        }
        DeedKind::Detach => {
            let ids = values_of(subjects, Field::ExternalCustomerId);
            let (first, others) = ids.split_first().ok_or(DeedBodyError::Nobody)?;
            Ok(DetachBody::of_external_ids(first, others)?.as_bytes().clone())
        }
        DeedKind::Delete | DeedKind::Erase if call.by_id => Ok(Bytes::new()),
        DeedKind::Delete | DeedKind::Erase => {
            let ids = values_of(subjects, Field::ExternalCustomerId);
            let id = ids.first().ok_or(DeedBodyError::Nobody)?;
            Ok(Bytes::copy_from_slice(id.expose().as_bytes()))
        }
        DeedKind::Learn => {
            let contacts: Vec<BulkContact<'_>> =
                subjects.iter().map(|subject| BulkContact { id: None, fields: subject.identity.as_slice() }).collect();
            let mask = anchor_of(subjects).ok_or(DeedBodyError::Nobody)?;
            Ok(bulk_body(&BulkRequest {
                contacts: &contacts,
                dedupe_on,
                mask: &[mask],
                restore_deleted: false,
                group_names: &[],
                group_names_exclude: &[],
                event_key_for_new_contacts: None,
            })?)
        }
    }
}

fn unanswered_alert(call: CallKind) -> String {
    format!("unanswered-{}", call.name())
}

fn segment_alert(group: i64) -> String {
    format!("segment-{group}")
}

/// What all of them have, and what Reteno finds them by.
fn anchor_of(subjects: &[DeedSubject]) -> Option<Field> {
    let has = |identity: &Values, field| matches!(identity.get(field), Some(Wanted::Value(_)));
    [Field::ExternalCustomerId, Field::Email, Field::Sms]
        .into_iter()
        .find(|field| subjects.iter().all(|subject| has(&subject.identity, *field)))
}

fn values_of(subjects: &[DeedSubject], field: Field) -> Vec<Personal> {
    subjects.iter().filter_map(|subject| subject.identity.value(field).cloned()).collect()
}
