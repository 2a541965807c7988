//! Why a read from Reteno gave nothing, by what is to be done about it. Holds no tokens, contacts or bodies.

use std::time::Duration;

use crate::reteno::calls::NotBuilt;

/// The failure of one of the reads about the account. Calls that write answer with the types of
/// [`crate::plan::answer`] instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetenoError {
    /// There are no tokens, or Reteno refused also the refreshed one (401).
    #[error("call {call}: authorization is needed")]
    NeedsAuthorization {
        /// Method and path.
        call: &'static str,
    },
    /// 403 and its like: the app's scope, or the account, does not allow the call.
    #[error("call {call}: not allowed: {reason}")]
    Forbidden {
        /// Method and path.
        call: &'static str,
        /// Reteno's words, masked and cut.
        reason: String,
    },
    /// 404, 405 or a redirect: `reteno.api_url` does not lead to Reteno's API.
    #[error("call {call}: the address answered with status {status}")]
    WrongAddress {
        /// Method and path.
        call: &'static str,
        /// HTTP status.
        status: u16,
    },
    /// The network, 429, 5xx, no token for now: repeated here already, to be tried again later.
    #[error("call {call}: {cause}")]
    Temporary {
        /// Method and path.
        call: &'static str,
        /// In words, without personal data.
        cause: String,
        /// Not before this long, where Reteno said so.
        retry_after: Option<Duration>,
    },
    /// Another 4xx: asking again changes nothing.
    #[error("call {call}: refused with status {status}: {reason}")]
    Refused {
        /// Method and path.
        call: &'static str,
        /// HTTP status.
        status: u16,
        /// Reteno's words, masked and cut.
        reason: String,
    },
    /// The call could not be put into a request.
    #[error("call {call}")]
    NotBuilt {
        /// Method and path.
        call: &'static str,
        /// What stands in the way.
        source: NotBuilt,
    },
    /// The answer is not what Reteno's documents describe (an HTML page, cut JSON).
    #[error("call {call}: the answer is {cause}")]
    NotUnderstood {
        /// Method and path.
        call: &'static str,
        /// What came instead.
        cause: String,
    },
}

impl RetenoError {
    /// The command or key that repairs it, where one does.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NeedsAuthorization { .. } => Some("run `reteno-sync authorize`"),
            Self::Forbidden { .. } => Some(
                "give the app the scope \"Full access to API\" on its page in Reteno, then run `reteno-sync --authorize`: \
                     tokens keep the scope of their time",
            ),
            Self::WrongAddress { .. } | Self::NotUnderstood { .. } => {
                Some("check `reteno.api_url`: it leads to something that is not Reteno's API")
            }
            Self::NotBuilt { source, .. } => Some(source.hint()),
            Self::Temporary { .. } | Self::Refused { .. } => None,
        }
    }
}
