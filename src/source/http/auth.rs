//! How requests to a CRM are authorized. Stand-in until the real one is merged.
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::oauth::NoToken;

/// How requests of a source are authorized.
#[derive(Clone)]
pub enum SourceAuth {
    /// Not at all.
    None,
    /// By a header.
    Header {
        /// Its name.
        name: HeaderName,
        /// Its value.
        value: SecretString,
    },
}

impl SourceAuth {
    /// Sets the header.
    #[expect(clippy::unused_async, reason = "stand-in")]
    pub async fn authorize(&self, headers: &mut HeaderMap) -> Result<Option<SecretString>, NoToken> {
        if let Self::Header { name, value } = self
            && let Ok(mut value) = HeaderValue::from_str(value.expose_secret())
        {
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Ok(None)
    }

    /// Whether this status asks for another token.
    pub fn refreshes_on(&self, _status: u16) -> bool {
        false
    }

    /// The token was refused.
    #[expect(clippy::unused_async, reason = "stand-in")]
    pub async fn refused(&self, _token: &SecretString) -> Result<(), NoToken> {
        Ok(())
    }

    /// The address that came with the token.
    pub fn base_url(&self) -> Option<String> {
        None
    }
}
