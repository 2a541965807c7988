//! Why an authorization run ended without a grant, each with its message and its hint. Never quotes what was pasted.

use std::borrow::Cow;
use std::io;

use super::desk::{DeskError, Settled};
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
    },
    /// Standard input or output broke.
    #[error("cannot talk to the terminal")]
    Terminal(#[source] io::Error),
}

impl AuthorizeError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Refused => {
                "run `reteno-sync --authorize` again and grant access as a user who may connect apps to the account"
            }
            Self::OtherError { .. } => {
                "compare reteno.client_id and reteno.redirect_uri with the app's page in Reteno, then run \
                 `reteno-sync --authorize` again"
            }
            Self::WrongState => "open the address printed last by `reteno-sync --authorize`, not an older one",
            Self::NoState => "paste the whole address of this page at the prompt of `reteno-sync --authorize`",
            Self::NoCode => {
                "paste the address at which the browser ended after access was granted, not the one printed"
            }
            Self::NotPending | Self::Superseded | Self::TimedOut | Self::CodeRefused => {
                "run `reteno-sync --authorize` and open the address it prints within fifteen minutes"
            }
            Self::Exchange(error) => error.hint(),
            Self::NoRefreshToken => "check reteno.token_url, and that the app is registered with a server part",
            Self::Vault(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::Desk(_) => "make the state directory (`state_dir`) readable and writable for this user",
            Self::FailedElsewhere { hint, .. } => return Cow::Borrowed(hint),
            Self::Terminal(_) => "run `reteno-sync authorize --auth-response URL` with the redirected address",
        })
    }

    /// Message, causes and hint, as another process reads them.
    #[must_use]
    pub fn settled(&self) -> Settled {
        Settled::Failed { message: super::chain(self), hint: self.hint().into_owned() }
    }

    /// Does it end the pending authorization? What a stranger's browser can cause must not.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused
            | Self::OtherError { .. }
            | Self::CodeRefused
            | Self::Exchange(_)
            | Self::NoRefreshToken
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
