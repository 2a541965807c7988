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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, ready};

    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::http::{Exchange, ExchangeError};
    use crate::oauth::token::Grant;
    use crate::oauth::{
        AnswerShape, App, Basis, ClientAuth, Dialect, MemoryVault, Party, TokenAnswer, TokenBody, TokenEndpoint,
    };
    use crate::random::Random;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    /// Gives `fresh` and the host for whatever is asked.
    struct Server;

    impl Exchange for Server {
        fn exchange(&self, _: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, ExchangeError>> {
            let body = Bytes::from_static(br#"{"access_token":"fresh","host":"https://api.example"}"#);
            ready(Ok(http::Response::new(body))).boxed()
        }
    }

    fn tokens(vault: MemoryVault, folder: &tempfile::TempDir) -> SourceAuth {
        let clock = Clock::simulated(Timestamp(1_000));
        let path = serde_json_path::JsonPath::parse("$.host").ok();
        let lifetime_default = Duration::from_hours(1);
        let dialect = Dialect {
            party: Party::Crm("crm".to_owned()),
            basis: Basis::Consent { repeats_code: false },
            body: TokenBody::Form,
            scope: None,
            extra: Vec::new(),
            authorize_extra: Vec::new(),
            answer: AnswerShape { is_crm: true, lifetime_default, base_url: path, error: None },
            refresh_token_lifetime: None,
        };
        let url = |text: &str| url::Url::parse(text).unwrap();
        let client = ("id".to_owned(), &secret("s"));
        let page = url("https://a.example/authorize");
        let app = App::new(client, ClientAuth::Params, page, url("https://a.example/token"), "https://b.example/cb");
        let endpoint = TokenEndpoint::new(Arc::new(Server), Arc::new(app.unwrap().speaking(dialect)), clock.clone());
        let lock = folder.path().join("refresh-crm.lock");
        let refresher = Refresher::new(endpoint, Arc::new(vault), lock, clock, Random::seeded(1));
        SourceAuth::OAuth2(Tokens {
            source: "crm".to_owned(),
            refresher,
            prefix: "Zoho-oauthtoken".to_owned(),
            refresh_on: vec![401, 403],
            command: Some("prog --authorize --source crm".to_owned()),
        })
    }

    fn granted() -> MemoryVault {
        let answer = TokenAnswer {
            access_token: secret("first"),
            refresh_token: None,
            expires_in: Duration::from_hours(1),
            scope: None,
            base_url: None,
        };
        MemoryVault::holding(Grant::first(secret("C"), secret("R"), &answer, Timestamp(1_000), 1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_static_header_is_marked_as_secret_and_never_shown() {
        let auth = SourceAuth::Header { name: HeaderName::from_static("x-api-key"), value: secret("hunter2") };
        let mut headers = HeaderMap::new();
        assert!(auth.authorize(&mut headers).await.unwrap().is_none());
        assert_eq!(headers["x-api-key"], "hunter2");
        assert!(headers["x-api-key"].is_sensitive() && !format!("{headers:?} {auth:?}").contains("hunter2"));
        assert!(!auth.asks_again(StatusCode::UNAUTHORIZED));
        assert!(SourceAuth::None.authorize(&mut headers).await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_replaced_in_the_request_and_brings_its_host() {
        let folder = tempfile::tempdir().unwrap();
        let auth = tokens(granted(), &folder);
        let mut headers = HeaderMap::new();
        let first = auth.authorize(&mut headers).await.unwrap().unwrap();
        assert_eq!(headers[header::AUTHORIZATION], "Zoho-oauthtoken first");
        assert!(headers[header::AUTHORIZATION].is_sensitive());
        assert_eq!(auth.base_url(), None);
        let statuses = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
        assert_eq!(statuses.map(|status| auth.asks_again(status)), [true, true, false]);
        auth.refused(&first, &mut headers).await.unwrap().unwrap();
        assert_eq!(headers[header::AUTHORIZATION], "Zoho-oauthtoken fresh");
        assert_eq!(auth.base_url().as_deref(), Some("https://api.example"));
    }

    #[tokio::test(start_paused = true)]
    async fn without_tokens_the_hint_is_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let missing = tokens(MemoryVault::default(), &folder).authorize(&mut HeaderMap::new()).await.unwrap_err();
        assert_eq!(missing.to_string(), "the CRM of source crm has not authorized this program");
        assert_eq!(missing.hint().as_deref(), Some("run `prog --authorize --source crm`"));
        assert!(!missing.is_temporary());
        let told = crate::source::SourceError::from(missing);
        assert!(told.needs_authorization() && told.hint().unwrap().contains("--source crm"));
    }
}
