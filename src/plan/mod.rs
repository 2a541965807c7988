//! What is to be done, as pure functions of what is known. Knows no clock, no network, no database.

pub mod answer;
pub mod balance;
pub mod batch;
pub mod change;
pub mod consent;
pub mod deed;
pub mod guard;
pub mod halving;
pub mod identity;
pub mod lock;
pub mod outcome;
pub mod policy;
pub mod repair;
pub mod upload;

/// A contact's row in the checkpoint, in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContactId(pub i64);

/// An import's row in the checkpoint: one batch, from the intent to send it until all it may still do is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImportId(pub i64);

/// A source's row in the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub i64);

/// The order in which contacts are sent. Its number is stored: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Opt-outs and erasures.
    Protect,
    /// What just changed in the CRM.
    Live,
    /// What was tried before.
    Retry,
    /// What a full read found.
    Reconcile,
    /// The first load of a source.
    FirstLoad,
}

impl Lane {
    /// Every lane, first to last.
    pub const ALL: [Self; 5] = [Self::Protect, Self::Live, Self::Retry, Self::Reconcile, Self::FirstLoad];

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Protect => 0,
            Self::Live => 1,
            Self::Retry => 2,
            Self::Reconcile => 3,
            Self::FirstLoad => 4,
        }
    }

    /// The lane of a stored number; an unknown one counts as the last lane.
    #[must_use]
    pub fn from_number(number: i64) -> Self {
        Self::ALL.into_iter().find(|lane| lane.number() == number).unwrap_or(Self::FirstLoad)
    }

    /// Bulk lanes wait for full batches while their source is still being read; the others go at once.
    #[must_use]
    pub const fn is_bulk(self) -> bool {
        match self {
            Self::Protect | Self::Live | Self::Retry => false,
            Self::Reconcile | Self::FirstLoad => true,
        }
    }

    /// What users read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protect => "opt-out and erase",
            Self::Live => "live",
            Self::Retry => "retry",
            Self::Reconcile => "reconcile",
            Self::FirstLoad => "first load",
        }
    }
}
