//! The words of sending: what may be set, what is counted, when a run of the sender ends.

use std::time::Duration;

use crate::reteno::body::DedupeOn;

/// What the operator may set about sending.
#[derive(Clone, Debug)]
pub struct SendSettings {
    /// How this program is called with its configuration, for hints.
    pub program: String,
    /// How Reteno finds a contact without an external id.
    pub dedupe_on: DedupeOn,
    /// What happens to contacts that were deleted in Reteno.
    pub restore_deleted: RestoreDeleted,
    /// Contacts in a call.
    pub batch_contacts_max: usize,
    /// Bytes of a body.
    pub batch_bytes_max: usize,
    /// Posts under way at the same time.
    pub posts_in_flight: usize,
    /// After this long an import is given up, and for as long again it may still be applied.
    pub import_age_max: Duration,
    /// The first wait before an import is asked for.
    pub import_poll_first: Duration,
    /// The longest.
    pub import_poll_max: Duration,
}

/// Whether contacts that were deleted in Reteno come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreDeleted {
    /// No call restores.
    Never,
    /// Live changes go by single calls, which restore.
    Live,
    /// Every call restores.
    Always,
}

/// What was sent and what came of it, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SendCounts {
    /// Calls that carried contacts.
    pub posts: u64,
    /// Of them: bodies that went out before.
    pub repeats: u64,
    /// Questions for an import's state.
    pub checks: u64,
    /// Contacts carried by new calls.
    pub sent: u64,
    /// Contacts acknowledged.
    pub acknowledged: u64,
    /// Contacts rejected by Reteno.
    pub rejected: u64,
}

/// When a sender's run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When nothing is read, due or under way any more; at the latest so long after the end of all reading.
    Drained(Duration),
    /// When it is stopped.
    Stopped,
}

/// Why a sender's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is acknowledged or rejected.
    Drained,
    /// What is left waits for the time of a ghost to be over, or the deadline came.
    StillOpen,
    /// A person has to authorize before it can go on.
    NeedsAuthorization,
    /// It was stopped.
    Stopped,
}
