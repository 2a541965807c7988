//! How an import ends, as the sender writes it down: settled, given up, or turned into a ghost; and what becomes of its
//! members where nobody knows what was written.

use std::time::Duration;

use crate::checkpoint::{CallKind, Checkpoint, CheckpointError, ImportState, OpenImport, Settlement, UnknownFate};
use crate::clock::Timestamp;
use crate::contact::Field;
use crate::plan::halving::{Failure, Verdict};
use crate::plan::outcome::{Member, MemberOutcome, outcomes_unknown};
use crate::plan::{ContactId, ImportId};

use super::sender::{REQUEST_SLACK, Sender};

/// Values that were dropped leave the write-ahead log after at most this long, once nothing is under way.
const DISK_SETTLES_EVERY: Duration = Duration::from_mins(1);
/// How often the checkpoint learns what time it is: so much longer may things wait after a restart with a clock that was
/// set back.
const CLOCK_NOTED_EVERY: Duration = Duration::from_mins(15);

impl Sender {
    /// Judged only when Reteno has just said that it still runs: nobody may have asked for long.
    pub(super) fn is_overdue(&self, import: &OpenImport, now: Timestamp) -> bool {
        let age = now.since(import.posted_at);
        // posted in the future: the clock was set back, and nothing is known of its age
        age >= self.settings.import_age_max || import.posted_at > now.plus(REQUEST_SLACK)
    }

    /// Past its time, or unknown to Reteno for too long: its fields stay unknown, its members are due in their newest
    /// state, and for as long again it may still be applied.
    pub(super) async fn abandon(&mut self, import: &OpenImport, now: Timestamp) -> Result<(), CheckpointError> {
        let id = import.id;
        let members = self.store.call(move |checkpoint| checkpoint.load_members(id)).await?;
        let session = import.session.clone().unwrap_or_default();
        let text = format!(
            "import {} (Reteno's session {session}) does not end; its {} contacts are sent again",
            id.0,
            members.len()
        );
        let hint = format!(
            "ask Reteno's support about the session; `{} status` shows what is under way",
            self.settings.program
        );
        self.alarm.raise(&format!("import-{}", id.0), &text, &hint).await?;
        self.turn_into_ghost(id, &members, UnknownFate::Release, now).await
    }

    /// No clear answer to its body in all its time, while other calls were answered: it is sent no more, and for its time
    /// again it may still be applied. Its members are due in their newest state, in two parts, so that only the one that
    /// cannot get through is left behind at last: it is tried again and again, since nobody has refused it.
    pub(super) async fn give_up(
        &mut self,
        import: &OpenImport,
        cause: &str,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let id = import.id;
        let members = self.store.call(move |checkpoint| checkpoint.load_members(id)).await?;
        let text = format!(
            "call {} never got a clear answer in {} attempts ({cause}); its {} contacts are sent again in parts",
            id.0,
            import.posts,
            members.len()
        );
        let hint = "look at what stands between this machine and Reteno (a proxy, a limit of size)";
        self.alarm.raise(&format!("import-{}", id.0), &text, hint).await?;
        let fate = if import.call == CallKind::Upload {
            UnknownFate::Release
        } else if members.len() > 1 {
            let (first, second) = self.halving.split();
            UnknownFate::Split { first, second }
        } else {
            UnknownFate::Later(self.settings.import_age_max)
        };
        self.turn_into_ghost(id, &members, fate, now).await
    }

    async fn turn_into_ghost(
        &mut self,
        id: ImportId,
        members: &[Member],
        fate: UnknownFate,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let ghost_until = Some(now.plus(self.settings.import_age_max));
        let members = outcomes_unknown(members).members;
        let settlement = Settlement { members, fate, wrote_nothing: false, ghost_until };
        self.locks.release(id);
        self.store.call(move |checkpoint| checkpoint.settle_import(id, &settlement, now)).await
    }

    /// Empties the write-ahead log while nothing is under way, so that what was dropped is gone from the disk.
    pub(super) async fn settle_disk(&mut self, imports: &[OpenImport], now: Timestamp) -> Result<(), CheckpointError> {
        let is_quiet = self.busy.is_empty() && imports.iter().all(|import| import.state == ImportState::Ghost);
        let is_recent =
            self.disk_settled_at.is_some_and(|at| at.plus(DISK_SETTLES_EVERY).is_pending(now, DISK_SETTLES_EVERY));
        if !is_quiet || is_recent {
            return Ok(());
        }
        self.disk_settled_at = Some(now);
        self.store.call(Checkpoint::settle_disk).await
    }

    /// Something with these fields was applied, about these contacts.
    pub(super) async fn note_success(&mut self, mask: &[Field], contacts: &[ContactId]) -> Result<(), CheckpointError> {
        self.halving.succeeded(mask, contacts);
        self.alarm.end(&mask_alert(mask)).await
    }

    pub(super) async fn settle(
        &mut self,
        id: ImportId,
        members: Vec<(ContactId, MemberOutcome)>,
        fate: UnknownFate,
        wrote_nothing: bool,
    ) -> Result<(), CheckpointError> {
        let now = self.clock.now();
        let count =
            |wanted: fn(&MemberOutcome) -> bool| members.iter().filter(|(_, outcome)| wanted(outcome)).count() as u64;
        let acknowledged = count(|outcome| matches!(outcome, MemberOutcome::Acknowledged { .. }));
        let unknown = count(|outcome| *outcome == MemberOutcome::Unknown);
        let refused = members.len() as u64 - acknowledged - unknown;
        let refused = refused + if matches!(fate, UnknownFate::Reject(_)) { unknown } else { 0 };
        self.counts.send_modify(|counts| {
            counts.acknowledged += acknowledged;
            counts.rejected += refused;
        });
        tracing::debug!(import = id.0, acknowledged, refused, unknown, "an import has ended");
        let settlement = Settlement { members, fate, wrote_nothing, ghost_until: None };
        self.locks.release(id);
        self.store.call(move |checkpoint| checkpoint.settle_import(id, &settlement, now)).await
    }

    /// Notes what time it is now and then, and at once where the clock was set back: what waits then moves with it.
    pub(super) async fn heed_clock(&mut self, now: Timestamp) -> Result<(), CheckpointError> {
        let last = std::mem::replace(&mut self.turned_at, now);
        if now >= last && now.since(self.noted_at) < CLOCK_NOTED_EVERY {
            return Ok(());
        }
        self.noted_at = now;
        self.store.call(move |checkpoint| checkpoint.heed_clock(now, Some(last))).await
    }

    /// Keeps what there is to wait for, where that has changed: the next process waits for it too.
    pub(super) async fn store_waits(&mut self) -> Result<(), CheckpointError> {
        let halving = self.halving.take_changes();
        let asked = self.pause.asked();
        let has_asked = self.stored_asked != asked;
        if halving.is_none() && !has_asked {
            return Ok(());
        }
        self.stored_asked = asked;
        self.store
            .call(move |checkpoint| {
                if let Some(halving) = halving {
                    checkpoint.store_halving(&halving)?;
                }
                if has_asked { checkpoint.store_asked_until(asked) } else { Ok(()) }
            })
            .await
    }

    /// What becomes of the members of a batch that failed as a whole.
    pub(super) async fn fate_of_failure(
        &mut self,
        mask: &[Field],
        members: &[Member],
        (failure, reason): (Failure, &str),
        now: Timestamp,
    ) -> Result<UnknownFate, CheckpointError> {
        let contacts: Vec<ContactId> =
            members.iter().filter(|member| member.failure.is_none()).map(|member| member.contact).collect();
        if contacts.is_empty() {
            return Ok(UnknownFate::Release);
        }
        Ok(match self.halving.failed(mask, &contacts, failure, now) {
            Verdict::Split { first, second } => UnknownFate::Split { first, second },
            Verdict::Again(wait) => UnknownFate::Later(wait),
            Verdict::Reject => UnknownFate::Reject(reason.to_owned()),
            Verdict::Pause { until, is_news: _ } => {
                let fields = mask.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let text = format!(
                    "Reteno refuses every batch that writes {fields}: {reason}. Nobody was rejected; these changes wait and are tried again from {until} on"
                );
                let hint = "compare the fields, above all the ids of additional fields, with those in Reteno";
                self.alarm.raise(&mask_alert(mask), &text, hint).await?;
                UnknownFate::Release
            }
        })
    }
}

/// The name of the alert that a mask is refused.
pub(super) fn mask_alert(mask: &[Field]) -> String {
    let codes = mask.iter().map(|field| field.code().to_string()).collect::<Vec<_>>().join("-");
    format!("mask-{codes}")
}
