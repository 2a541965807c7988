//! What one way of reading finds that an earlier one should have told: whose fault that is.
//!
//! Counted only, for the operator: nothing is done differently because of it.

use std::time::Duration;

use super::change::ReadStamp;

/// An announcement may still be on its way for so long after a change, and a poll may not have come to it.
pub const GRACE: Duration = Duration::from_mins(5);

/// Which way of reading missed a change. Its word is stored: never change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepairCause {
    /// The webhook never announced it.
    WebhookLost,
    /// No read of changes brought it, although its change time lies in what they covered.
    PollMissed,
    /// It changed and its change time did not move: no read of changes can bring that.
    Undated,
    /// It was deleted, and nothing but its lack told so.
    DeletionUnseen,
}

impl RepairCause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::WebhookLost, Self::PollMissed, Self::Undated, Self::DeletionUnseen];

    /// Its word, in the checkpoint, for people and as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebhookLost => "webhook_lost",
            Self::PollMissed => "poll_missed",
            Self::Undated => "undated",
            Self::DeletionUnseen => "deletion_unseen",
        }
    }

    /// The cause of a stored word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }
}

/// Which earlier way should have told what a read brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// A webhook. `covered_at`: when the last read that came to its end began, if one ever did.
    Webhook {
        /// Milliseconds.
        covered_at: Option<i64>,
    },
    /// Reads of changes.
    Polls {
        /// As above.
        covered_at: Option<i64>,
    },
}

/// Why a change (of a record that stood at `known`; `None`: a new one) comes only now; `None` where nothing was missed.
#[must_use]
pub fn cause_of_change(earlier: Earlier, known: Option<ReadStamp>, came: ReadStamp, now: i64) -> Option<RepairCause> {
    let grace = i64::try_from(GRACE.as_millis()).unwrap_or(i64::MAX);
    match (earlier, came.changed_at) {
        (Earlier::Webhook { .. }, Some(changed_at)) => {
            (changed_at < now.saturating_sub(grace)).then_some(RepairCause::WebhookLost)
        }
        // without a time: nothing was announced of it since the last read
        (Earlier::Webhook { covered_at }, None) => {
            let is_unannounced = covered_at.is_some_and(|covered| known.is_none_or(|known| known.asked_at < covered));
            is_unannounced.then_some(RepairCause::WebhookLost)
        }
        (Earlier::Polls { .. }, None) => Some(RepairCause::Undated),
        (Earlier::Polls { covered_at }, Some(changed_at)) => {
            if known.is_some_and(|known| known.changed_at == Some(changed_at)) {
                return Some(RepairCause::Undated);
            }
            let is_covered = covered_at.is_some_and(|covered| changed_at < covered.saturating_sub(grace));
            is_covered.then_some(RepairCause::PollMissed)
        }
    }
}

/// Why the lack of a record is told by a whole read only.
#[must_use]
pub const fn cause_of_lack(earlier: Earlier) -> RepairCause {
    match earlier {
        Earlier::Webhook { .. } => RepairCause::WebhookLost,
        Earlier::Polls { .. } => RepairCause::DeletionUnseen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_missing_a_change_has_its_cause() {
        const MINUTE: i64 = 60_000;
        let now = 1_000 * MINUTE;
        let stamp = |changed_at: Option<i64>, asked_at| ReadStamp { asked_at, changed_at };
        let known = |changed_at| Some(stamp(changed_at, 900 * MINUTE));
        let webhook = Earlier::Webhook { covered_at: Some(950 * MINUTE) };
        let first = Earlier::Webhook { covered_at: None };
        let polls = Earlier::Polls { covered_at: Some(950 * MINUTE) };
        let cases = [
            // changed ten minutes ago, and nothing came
            (webhook, known(Some(1)), Some(990 * MINUTE), Some(RepairCause::WebhookLost)),
            // a minute ago: it may still come
            (webhook, known(Some(1)), Some(999 * MINUTE), None),
            // a new record
            (webhook, None, Some(990 * MINUTE), Some(RepairCause::WebhookLost)),
            // without times: not seen since the last read
            (webhook, known(None), None, Some(RepairCause::WebhookLost)),
            // announced since then
            (webhook, Some(stamp(None, 960 * MINUTE)), None, None),
            (first, known(None), None, None),
            // in what the last read of changes covered
            (polls, known(Some(1)), Some(900 * MINUTE), Some(RepairCause::PollMissed)),
            // at its very end, where the next one looks again
            (polls, known(Some(1)), Some(949 * MINUTE), None),
            (polls, known(Some(1)), Some(990 * MINUTE), None),
            // another record under the same time
            (polls, known(Some(900 * MINUTE)), Some(900 * MINUTE), Some(RepairCause::Undated)),
            (polls, known(None), None, Some(RepairCause::Undated)),
        ];
        for (earlier, known, changed_at, cause) in cases {
            let found = cause_of_change(earlier, known, stamp(changed_at, now), now);
            assert_eq!(found, cause, "{earlier:?} {known:?} {changed_at:?}");
        }
        assert_eq!(cause_of_lack(webhook), RepairCause::WebhookLost);
        assert_eq!(cause_of_lack(polls), RepairCause::DeletionUnseen);
        for cause in RepairCause::ALL {
            assert_eq!(RepairCause::from_name(cause.name()), Some(cause));
        }
    }
}
