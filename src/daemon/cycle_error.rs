//! Why a cycle did not come to its end, and what repairs it. Holds no record.

use crate::checkpoint::{CheckpointError, Hold};
use crate::plan::balance::Balance;
use crate::source::SourceError;

/// Why a cycle did not end. What it brought until then stays.
#[derive(Debug, thiserror::Error)]
pub enum CycleError {
    /// The source broke.
    #[error("cannot read source {name} to its end")]
    Source {
        /// The source's name.
        name: String,
        /// Why.
        #[source]
        source: SourceError,
        /// What was read before.
        balance: Box<Balance>,
        /// What the guard holds of it.
        holds: Vec<Hold>,
    },
    /// The checkpoint broke.
    #[error("cannot record what was read")]
    Checkpoint(#[from] CheckpointError),
}

impl CycleError {
    /// What repairs it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            // a hint speaks of NAME where it cannot know the source
            Self::Source { name, source, .. } => source.hint().map(|hint| hint.replace("NAME", name)),
            Self::Checkpoint(error) => error.hint(),
        }
    }

    /// Whether a person has to authorize this program in a CRM.
    #[must_use]
    pub const fn needs_authorization(&self) -> bool {
        match self {
            Self::Source { source, .. } => source.needs_authorization(),
            Self::Checkpoint(_) => false,
        }
    }

    /// Whether another attempt may succeed without anybody's help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Source { source, .. } => source.is_temporary(),
            Self::Checkpoint(error) => error.is_temporary(),
        }
    }
}
