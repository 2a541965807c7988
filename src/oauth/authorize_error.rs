//! Why an authorization run ended without a grant, each with its message and its hint. Never quotes what was pasted.

use std::io;

use super::desk::{DeskError, Ending, Settled};
use super::lock::LockError;
use super::reaction::TokenError;
use super::vault::VaultError;

/// The steps at which an authorization can break.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// `error=access_denied`.
    #[error("access was refused on Reteno's page")]
    Refused,
    /// Another `error=`.
    #[error("reteno answered the authorization with the error {code}")]
    OtherError {
        /// Reteno's error code, harmless characters only.
        code: String,
    },
    /// The `state` is not the one that was sent: an older link, or someone else's.
    #[error("the answer does not belong to this authorization (its state is wrong)")]
    WrongState,
    /// A browser came without a `state`: anyone could have sent it.
    #[error("the answer does not say to which authorization it belongs (it has no state)")]
    NoState,
    /// There is no code in it.
    #[error("there is no authorization code in the answer")]
    NoCode,
    /// Nobody began an authorization, or it is older than fifteen minutes, or it has failed already.
    #[error("no authorization is waiting for an answer")]
    NotPending,
    /// Another command began one after this.
    #[error("another authorization was begun after this one")]
    Superseded,
    /// The pending one did not end in time.
    #[error("no answer came within fifteen minutes")]
    TimedOut,
    /// The code was used or has expired.
    #[error("reteno refused the authorization code: it was used before or has expired")]
    CodeRefused,
    /// The code could not be exchanged for another reason.
    #[error("cannot exchange the authorization code")]
    Exchange(#[source] TokenError),
    /// The answer holds an access token alone: it could never be refreshed.
    #[error("reteno gave no refresh token")]
    NoRefreshToken,
    /// The tokens were received, but Reteno's API was not seen to accept them.
    #[error("{why}")]
    NotProven {
        /// What is done next.
        why: Unproven,
        /// The answer of the call that should have proven them.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tokens lead to an account that nobody allowed. Both names are for people; equal ones may be two accounts.
    #[error(
        "these tokens are for another account (\"{found}\") than the one authorized first (\"{expected}\"){}",
        of_one_name(found, expected)
    )]
    OtherAccount {
        /// The account the tokens lead to.
        found: String,
        /// The account that was authorized first.
        expected: String,
    },
    /// The tokens lead to another account, which was allowed, but this process sends to the first.
    #[error("these tokens are for another account (\"{found}\"), which takes over only while nothing is sent")]
    SenderRuns {
        /// The account the tokens lead to.
        found: String,
    },
    /// The vault failed.
    #[error("cannot keep the authorization")]
    Vault(#[source] VaultError),
    /// The lock was not had.
    #[error("cannot change the tokens")]
    Lock(#[source] LockError),
    /// The desk failed.
    #[error("cannot follow the authorization")]
    Desk(#[source] DeskError),
    /// The listener finished it, with this outcome.
    #[error("{message}")]
    FailedElsewhere {
        /// As the one that finished it said it.
        message: String,
        /// As the one that finished it said it.
        hint: String,
        /// As the one that finished it meant it.
        ending: Ending,
    },
    /// Standard input or output broke.
    #[error("cannot talk to the terminal")]
    Terminal(#[source] io::Error),
}

/// Why fresh tokens are not in force, by what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// Reteno cannot be asked for now: they are kept.
    #[error("cannot prove the new tokens at reteno's API for now")]
    ForNow,
    /// Not Reteno's API answers: they are kept until the configuration is mended.
    #[error("cannot prove the new tokens: reteno.api_url leads to something else than reteno's API")]
    Misdirected,
    /// Reteno's API does not take them: they are forgotten.
    #[error("reteno's API refuses the new tokens")]
    Refused,
}

/// Reteno gives no id of an account: where the names are equal, the users differ.
fn of_one_name(found: &str, expected: &str) -> &'static str {
    if found == expected { ": its name is the same, its user is not" } else { "" }
}

impl AuthorizeError {
    /// What the operator can do. `program` is how this program is called with its configuration.
    #[must_use]
    pub fn hint(&self, program: &str) -> String {
        match self {
            Self::Refused => format!(
                "run `{program} --authorize` again and grant access as a user who may connect apps to the account"
            ),
            Self::OtherError { .. } => format!(
                "compare reteno.client_id and reteno.redirect_uri with the app's page in Reteno, then run \
                 `{program} --authorize` again"
            ),
            Self::WrongState => format!("open the address printed last by `{program} --authorize`, not an older one"),
            Self::NoState => format!("paste the whole address of this page at the prompt of `{program} --authorize`"),
            Self::NoCode => {
                "paste the address at which the browser ended after access was granted, not the one printed".to_owned()
            }
            Self::NotPending | Self::Superseded | Self::TimedOut | Self::CodeRefused => {
                format!("run `{program} --authorize` and open the address it prints within fifteen minutes")
            }
            Self::Exchange(error) => error.hint().to_owned(),
            Self::NoRefreshToken => {
                "check reteno.token_url, and that the app is registered with a server part".to_owned()
            }
            Self::NotProven { why: Unproven::ForNow, .. } => format!(
                "what was granted is kept: run `{program} --authorize` in a few minutes, without a browser; a running \
                 daemon tries by itself"
            ),
            Self::NotProven { why: Unproven::Misdirected, .. } => {
                format!("what was granted is kept: mend reteno.api_url, then run `{program} --authorize`")
            }
            Self::NotProven { why: Unproven::Refused, .. } => {
                format!(
                    "give the app the scope \"Full access to API\" on its page in Reteno, then run `{program} --authorize`"
                )
            }
            Self::OtherAccount { .. } => format!(
                "authorize as the user who authorized the first account; or, to start afresh with this one, \
                 `{program} --authorize --new-account`: everything is then sent anew"
            ),
            Self::SenderRuns { .. } => {
                format!("what was granted is kept: stop the running reteno-sync, then run `{program} --authorize`")
            }
            Self::Vault(error) => error.hint().to_owned(),
            Self::Lock(error) => error.hint(),
            Self::Desk(error) => error.hint().to_owned(),
            Self::FailedElsewhere { hint, .. } => hint.clone(),
            Self::Terminal(_) => {
                format!("run `{program} authorize --auth-response URL` with the redirected address")
            }
        }
    }

    /// How a command ends for it.
    #[must_use]
    pub fn ending(&self) -> Ending {
        match self {
            Self::Exchange(TokenError::Temporary { .. } | TokenError::Uncertain { .. })
            | Self::NotProven { why: Unproven::ForNow, .. }
            | Self::SenderRuns { .. }
            | Self::Lock(LockError::Busy) => Ending::TryAgain,
            Self::Exchange(TokenError::InvalidClient)
            | Self::NotProven { why: Unproven::Misdirected, .. }
            | Self::OtherAccount { .. } => Ending::Configuration,
            Self::FailedElsewhere { ending, .. } => *ending,
            Self::Refused
            | Self::OtherError { .. }
            | Self::WrongState
            | Self::NoState
            | Self::NoCode
            | Self::NotPending
            | Self::Superseded
            | Self::TimedOut
            | Self::CodeRefused
            | Self::Exchange(
                TokenError::InvalidGrant | TokenError::OtherRefusal { .. } | TokenError::NotUnderstood { .. },
            )
            | Self::NotProven { why: Unproven::Refused, .. }
            | Self::NoRefreshToken
            | Self::Vault(_)
            | Self::Lock(LockError::Unusable { .. })
            | Self::Desk(_)
            | Self::Terminal(_) => Ending::Failed,
        }
    }

    /// Message, causes, hint and ending, as another process reads them.
    #[must_use]
    pub fn settled(&self, program: &str) -> Settled {
        Settled::Failed { message: super::chain(self), hint: self.hint(program), ending: self.ending() }
    }

    /// Is it told to whoever waits for the pending authorization? What a stranger's browser can cause must not be.
    #[must_use]
    pub fn settles(&self) -> bool {
        match self {
            Self::Refused
            | Self::OtherError { .. }
            | Self::CodeRefused
            | Self::Exchange(_)
            | Self::NoRefreshToken
            | Self::NotProven { .. }
            | Self::OtherAccount { .. }
            | Self::SenderRuns { .. }
            | Self::Vault(_)
            | Self::TimedOut
            | Self::FailedElsewhere { .. } => true,
            Self::WrongState
            | Self::NoState
            | Self::NoCode
            | Self::NotPending
            | Self::Superseded
            | Self::Lock(_)
            | Self::Desk(_)
            | Self::Terminal(_) => false,
        }
    }
}

impl From<TokenError> for AuthorizeError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::InvalidGrant => Self::CodeRefused,
            other @ (TokenError::InvalidClient
            | TokenError::OtherRefusal { .. }
            | TokenError::Temporary { .. }
            | TokenError::Uncertain { .. }
            | TokenError::NotUnderstood { .. }) => Self::Exchange(other),
        }
    }
}

impl From<VaultError> for AuthorizeError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl From<LockError> for AuthorizeError {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl From<DeskError> for AuthorizeError {
    fn from(error: DeskError) -> Self {
        Self::Desk(error)
    }
}

impl From<io::Error> for AuthorizeError {
    fn from(error: io::Error) -> Self {
        Self::Terminal(error)
    }
}
