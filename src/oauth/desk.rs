//! What a command and a running daemon know together of an authorization that is under way.
//!
//! The record holds only a hash of the state: whoever reads it can check a callback, but not forge one.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

/// A pending authorization older than this is void: longer invites a forgotten link to be used, shorter cuts off an
/// operator who has to find the account's owner.
pub const PENDING_AGE_MAX: Duration = Duration::from_mins(15);

/// SHA-256 of a `state`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StateHash(pub [u8; 32]);

impl StateHash {
    /// The hash of `state`.
    #[must_use]
    pub fn of(state: &str) -> Self {
        Self(Sha256::digest(state.as_bytes()).into())
    }

    /// Is this the hash of `state`? Takes the same time wherever they differ.
    #[must_use]
    pub fn matches(&self, state: &str) -> bool {
        let other = Self::of(state);
        self.0.iter().zip(other.0).fold(0_u8, |differing, (ours, theirs)| differing | (ours ^ theirs)) == 0
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateHash(****)")
    }
}

/// An authorization that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRecord {
    /// What the callback's `state` must hash to.
    pub state_hash: StateHash,
    /// Who is being authorized against: `reteno`, or the name of a source.
    pub source: String,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Whether it may lead to another account than the one authorized first.
    pub allows_new_account: bool,
}

impl PendingRecord {
    /// Is it too old, or so far ahead of the clock that its age is unknown?
    #[must_use]
    pub fn is_void(&self, now: Timestamp) -> bool {
        now.since(self.created_at) >= PENDING_AGE_MAX || self.created_at.since(now) >= PENDING_AGE_MAX
    }
}

/// How a pending authorization ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The grant is stored.
    Done,
    /// It failed; both texts are for the operator and hold no secret.
    Failed {
        /// What went wrong.
        message: String,
        /// What to do.
        hint: String,
        /// How a command ends for it.
        ending: Ending,
    },
}

/// How a failure ends a command, and whether what led to it may simply be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A new attempt has to begin anew.
    Failed,
    /// The same attempt may succeed later: nothing was lost.
    TryAgain,
    /// The configuration, or the account that was chosen, is the wrong one.
    Configuration,
}

/// An authorization, and how it ended, if it has.
pub type Noted = (PendingRecord, Option<Settled>);

/// The place where a command and a daemon meet about one pending authorization.
pub trait AuthorizationDesk: Send + Sync {
    /// The record opened last, and how it ended, if it has.
    fn pending(&self) -> BoxFuture<'_, Result<Option<Noted>, DeskError>>;

    /// Puts a record in place of any earlier one, and forgets that one's outcome, in one step.
    fn open(&self, record: PendingRecord) -> BoxFuture<'_, Result<(), DeskError>>;

    /// Notes how the record with this state ended, and nothing where another has taken its place. The record stays, so
    /// that a repeated callback can be answered.
    fn settle(&self, state_hash: StateHash, outcome: Settled) -> BoxFuture<'_, Result<(), DeskError>>;
}

/// Which half of a desk's work failed.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The record or its outcome cannot be read.
    #[error("cannot read the pending authorization")]
    Read {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What mends it, where that is known.
        hint: Option<String>,
    },
    /// The record or its outcome cannot be written.
    #[error("cannot store the pending authorization")]
    Write {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What mends it, where that is known.
        hint: Option<String>,
    },
}

impl DeskError {
    /// What an operator can do.
    #[must_use]
    pub fn hint(&self) -> &str {
        let (Self::Read { hint, .. } | Self::Write { hint, .. }) = self;
        hint.as_deref().unwrap_or("look at the state directory (`state_dir`) and its disk")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_state_matches() {
        let hash = StateHash::of("abc");
        assert!(hash.matches("abc"));
        for wrong in ["", "ab", "abd", "abc ", "ABC"] {
            assert!(!hash.matches(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_pending_record_is_void_after_fifteen_minutes_or_when_it_comes_from_the_future() {
        let at = |created: i64| PendingRecord {
            state_hash: StateHash::of("s"),
            source: "reteno".to_owned(),
            created_at: Timestamp(created),
            allows_new_account: false,
        };
        assert!(!at(0).is_void(Timestamp(899_999)));
        assert!(at(0).is_void(Timestamp(900_000)));
        assert!(!at(899_999).is_void(Timestamp(0)));
        assert!(at(900_000).is_void(Timestamp(0)));
    }
}
