//! How a CRM's requests are let in: nothing, a header that stays, or tokens that are renewed. Never shows either, and
//! never renews a token by itself: the refresher does, with its locks.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};

use crate::oauth::{self, Refresher};

/// What lets a source's requests in. Clones share the tokens.
#[derive(Clone)]
pub enum SourceAuth {
    /// Nothing is sent.
    None,
    /// The same header each time.
    Header {
        /// Its name.
        name: HeaderName,
        /// Its whole value.
        value: SecretString,
    },
    /// `Authorization` with an access token.
    OAuth2(Tokens),
}

/// The tokens of one source.
#[derive(Clone)]
pub struct Tokens {
    /// The source's name.
    pub source: String,
    /// Hands them out.
    pub refresher: Refresher,
    /// The word before one in the header.
    pub prefix: String,
    /// The statuses that ask for another one.
    pub refresh_on: Vec<u16>,
    /// The command by which a person grants access; `None` where no person can.
    pub command: Option<String>,
}

/// Why there is nothing to send a request with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// Nobody has granted access, or the CRM has ended it.
    #[error("the CRM of source {name} has not authorized this program")]
    NeedsAuthorization {
        /// The source's name.
        name: String,
        /// The command by which a person grants access.
        command: Option<String>,
    },
    /// Asking again later may help; no person is needed for now.
    #[error("cannot get an access token of source {name} for now: {why}")]
    Temporarily {
        /// The source's name.
        name: String,
        /// In words, without a secret.
        why: String,
    },
}

impl NoToken {
    /// What an operator can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NeedsAuthorization { command: Some(command), .. } => Some(format!("run `{command}`")),
            Self::NeedsAuthorization { name, command: None } | Self::Temporarily { name, .. } => {
                Some(format!("compare [source.{name}.auth] with the app's page in the CRM; `status` says more"))
            }
        }
    }

    /// Whether another attempt may succeed without anybody's help.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::NeedsAuthorization { .. } => false,
            Self::Temporarily { .. } => true,
        }
    }
}

impl SourceAuth {
    /// Puts into `headers` what lets a request in, and returns the token that was used, where it was one.
    pub async fn authorize(&self, headers: &mut HeaderMap) -> Result<Option<SecretString>, NoToken> {
        match self {
            Self::None => Ok(None),
            Self::Header { name, value } => {
                headers.insert(name.clone(), sensitive(value.expose_secret()));
                Ok(None)
            }
            Self::OAuth2(tokens) => {
                let token = tokens.refresher.access_token().await.map_err(|missing| tokens.explain(missing))?;
                tokens.insert(headers, &token);
                Ok(Some(token))
            }
        }
    }

    /// Whether an answer of this status asks for another token: then the same request is made once more, with what
    /// [`Self::refused`] gives.
    #[must_use]
    pub fn asks_again(&self, status: StatusCode) -> bool {
        match self {
            Self::None | Self::Header { .. } => false,
            Self::OAuth2(tokens) => tokens.refresh_on.contains(&status.as_u16()),
        }
    }

    /// Puts another token in the place of one that was answered with such a status, and returns it: a newer one where
    /// there is one, else the fruit of one refresh. Nothing is changed where there are no tokens.
    pub async fn refused(
        &self,
        token: &SecretString,
        headers: &mut HeaderMap,
    ) -> Result<Option<SecretString>, NoToken> {
        match self {
            Self::None | Self::Header { .. } => Ok(None),
            Self::OAuth2(tokens) => {
                let token = tokens.refresher.refused(token).await.map_err(|missing| tokens.explain(missing))?;
                tokens.insert(headers, &token);
                Ok(Some(token))
            }
        }
    }

    /// The host that the tokens are for, where their answer named one. Known once [`Self::authorize`] has been asked.
    #[must_use]
    pub fn base_url(&self) -> Option<String> {
        match self {
            Self::None | Self::Header { .. } => None,
            Self::OAuth2(tokens) => tokens.refresher.base_url(),
        }
    }
}

impl Tokens {
    fn insert(&self, headers: &mut HeaderMap, token: &SecretString) {
        headers.insert(header::AUTHORIZATION, sensitive(&format!("{} {}", self.prefix, token.expose_secret())));
    }

    fn explain(&self, missing: oauth::NoToken) -> NoToken {
        let name = self.source.clone();
        match missing {
            oauth::NoToken::NeedsAuthorization => NoToken::NeedsAuthorization { name, command: self.command.clone() },
            oauth::NoToken::Temporarily(why) => NoToken::Temporarily { name, why },
        }
    }
}

fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text)
        .expect("the configuration and the token endpoint take only characters that a header may hold");
    value.set_sensitive(true);
    value
}

impl fmt::Debug for SourceAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Header { name, .. } => write!(f, "Header({name}: ****)"),
            Self::OAuth2(tokens) => write!(f, "OAuth2({})", tokens.source),
        }
    }
}
