//! The state of an authorization, for those who tell of it.

use super::endpoint::App;
use super::known::Known;
use super::token::Condition;
use crate::clock::Timestamp;

/// What `status` and alerts say about the tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has authorized yet.
    Unauthorized,
    /// The vault cannot be read and nothing is known.
    Unknown {
        /// Why, in words.
        problem: String,
    },
    /// There is a grant.
    Granted {
        /// May it be refreshed, or is a person needed?
        condition: Condition,
        /// When the access token ends.
        access_token_expires_at: Timestamp,
        /// When the refresh token dies unused, where that is known.
        refresh_token_expires_at: Option<Timestamp>,
        /// Why the last refresh failed, while it does.
        problem: Option<String>,
    },
}

impl Known {
    pub(super) fn standing(&self, app: &App) -> Standing {
        match (&self.grant, &self.problem) {
            (Some(grant), problem) => Standing::Granted {
                condition: grant.condition.clone(),
                access_token_expires_at: grant.expires_at(),
                refresh_token_expires_at: app.refresh_token_expires_at(grant),
                problem: problem.clone(),
            },
            (None, Some(problem)) => Standing::Unknown { problem: problem.clone() },
            (None, None) if self.asks_nobody() => {
                Standing::Unknown { problem: "no access token was had yet".to_owned() }
            }
            (None, None) => Standing::Unauthorized,
        }
    }
}
