//! What became of the deliveries of a source since the start, by numbers. They name nobody, and no sender can make them
//! grow in anything but value.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;

/// Deliveries of a source since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    accepted: AtomicU64,
    /// Events that were left out of accepted deliveries since they could not be understood.
    left_out: AtomicU64,
    /// Events whose word for what happened is not known.
    unknown: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
    /// Refused since the last that was accepted.
    in_a_row: AtomicU64,
    /// For which reasons: a bit each. A stranger's deliveries must not keep ours untold.
    told: AtomicU8,
    /// When the first of them came.
    refused_since: AtomicI64,
}

/// Why deliveries are refused. Its word is a label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody knows who sent it.
    Unverified,
    /// It is not in the agreed form.
    Malformed,
    /// It is too long.
    TooLarge,
    /// It came too slowly, or its connection broke.
    Incomplete,
    /// The inbox could not keep it.
    Busy,
    /// Too many were to be looked at.
    Crowded,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Unverified, Self::Malformed, Self::TooLarge, Self::Incomplete, Self::Busy, Self::Crowded];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::Busy => "busy",
            Self::Crowded => "crowded",
        }
    }

    const fn bit(self) -> u8 {
        1 << self.place()
    }

    const fn place(self) -> usize {
        match self {
            Self::Unverified => 0,
            Self::Malformed => 1,
            Self::TooLarge => 2,
            Self::Incomplete => 3,
            Self::Busy => 4,
            Self::Crowded => 5,
        }
    }
}

/// The deliveries of one source since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCount {
    /// The source's name.
    pub source: String,
    /// Kept.
    pub accepted: u64,
    /// Refused, by reason, in the order of [`Reason::ALL`].
    pub refused: Vec<(Reason, u64)>,
    /// Events of kept deliveries that could not be understood.
    pub left_out: u64,
    /// Events of kept deliveries whose word for what happened is not known.
    pub unknown: u64,
}

impl Tally {
    /// The numbers as they are now.
    pub(super) fn count(&self, source: &str) -> HookCount {
        let refused = |reason: Reason| (reason, self.refused[reason.place()].load(Ordering::Relaxed));
        HookCount {
            source: source.to_owned(),
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: Reason::ALL.into_iter().map(refused).collect(),
            left_out: self.left_out.load(Ordering::Relaxed),
            unknown: self.unknown.load(Ordering::Relaxed),
        }
    }

    /// Counts events that nothing is done about.
    pub(super) fn pass_over(&self, left_out: u64, unknown: u64) {
        self.left_out.fetch_add(left_out, Ordering::Relaxed);
        self.unknown.fetch_add(unknown, Ordering::Relaxed);
    }

    /// Counts one; true where others were refused before it.
    pub(super) fn accept(&self) -> bool {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.told.store(0, Ordering::Relaxed);
        self.in_a_row.swap(0, Ordering::Relaxed) > 0
    }

    /// Counts one; true where it is the first for this reason since one was accepted.
    pub(super) fn refuse(&self, reason: Reason, now: Timestamp) -> bool {
        self.refused[reason.place()].fetch_add(1, Ordering::Relaxed);
        if self.in_a_row.fetch_add(1, Ordering::Relaxed) == 0 {
            self.refused_since.store(now.0, Ordering::Relaxed);
        }
        let bit = reason.bit();
        self.told.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Whether some could not be kept since one was accepted.
    pub(super) fn is_unkept(&self) -> bool {
        self.told.load(Ordering::Relaxed) & Reason::Busy.bit() != 0
    }

    pub(super) fn refused_for(&self, now: Timestamp) -> Option<(u64, Duration)> {
        let times = self.in_a_row.load(Ordering::Relaxed);
        (times > 0).then(|| (times, now.since(Timestamp(self.refused_since.load(Ordering::Relaxed)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once_until_a_delivery_is_accepted() {
        let tally = Tally::default();
        let refuse = |reason| tally.refuse(reason, Timestamp(1));
        assert!(refuse(Reason::Unverified) && !refuse(Reason::Unverified));
        assert!(!tally.is_unkept());
        // a full disk is told although a stranger was refused before
        assert!(refuse(Reason::Busy) && !refuse(Reason::Busy) && !refuse(Reason::Unverified));
        assert!(tally.is_unkept());
        assert!(tally.accept() && !tally.accept());
        assert!(refuse(Reason::Busy));
    }
}
