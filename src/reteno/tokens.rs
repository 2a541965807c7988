//! Where the client gets its access token from. Knows nothing of how one is obtained.

use futures_util::future::BoxFuture;
use secrecy::SecretString;

/// Hands out access tokens. The implementation refreshes, stores, and lets only one refresh run at a time.
pub trait AccessTokens: Send + Sync {
    /// The token to use now; refreshed before it expires.
    fn access_token(&self) -> BoxFuture<'_, Result<SecretString, NoToken>>;

    /// Reteno answered 401 to `token`: refreshes once and gives a newer one. Where a newer one is there already
    /// (another call was refused a moment ago), that is given without a refresh.
    fn refused<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<SecretString, NoToken>>;
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// Only a person can help: there are none yet, or the refresh token is dead.
    #[error("authorization is needed")]
    NeedsAuthorization,
    /// The token host cannot be reached, or the tokens cannot be stored, for now. In words for an operator, without
    /// secrets.
    #[error("no access token for now: {0}")]
    Temporarily(String),
}

impl NoToken {
    /// The command that repairs it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NeedsAuthorization => Some("run `reteno-sync authorize`"),
            Self::Temporarily(_) => None,
        }
    }
}
