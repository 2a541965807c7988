//! The one-time authorization: the address to open, and what is done with the answer.
//!
//! Every way of completing it (listener, terminal, script; command or daemon) ends in [`Authorizer::complete`], under
//! the lock that refreshes take: so a code is exchanged once, and a refresh under way cannot overwrite a new grant.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oauth2::basic::BasicClient;
use oauth2::{AuthorizationCode, CsrfToken};
use secrecy::SecretString;
use url::Url;

use super::authorize_error::AuthorizeError;
use super::desk::{AuthorizationDesk, PendingRecord, Settled, StateHash};
use super::endpoint::{App, TokenEndpoint};
use super::lock::{LockError, RefreshLock};
use super::response::{Origin, read_response};
use super::token::Grant;
use super::vault::GrantVault;
use crate::clock::Clock;
use crate::random::Random;

/// Longer than a refresh under way in another process may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// An authorization that a person is to grant. `Debug` redacts the state only by type; the URL carries it, and is meant
/// for the operator alone.
#[derive(Debug, Clone)]
pub struct PendingAuthorization {
    /// To be opened in a browser.
    pub url: Url,
    /// What the answer must carry.
    pub state: CsrfToken,
}

impl PendingAuthorization {
    /// The address of Reteno's page for `app`, with a fresh state.
    #[must_use]
    pub fn begin(app: &App, random: &Random) -> Self {
        let client = BasicClient::new(app.client_id.clone())
            .set_auth_uri(app.authorize_url.clone())
            .set_redirect_uri(app.redirect_uri.clone());
        let (url, state) = client.authorize_url(|| CsrfToken::new(hex(&random.bytes::<32>()))).url();
        Self { url, state }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("four bits are one hexadecimal digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Turns answers into stored grants.
pub struct Authorizer {
    endpoint: TokenEndpoint,
    vault: Arc<dyn GrantVault>,
    lock: RefreshLock,
    clock: Clock,
    source: String,
}

impl Authorizer {
    /// Authorizes `source` (`reteno`, or a source's name). `lock_path` is the one given to the refresher.
    #[must_use]
    pub fn new(
        endpoint: TokenEndpoint,
        vault: Arc<dyn GrantVault>,
        lock_path: PathBuf,
        clock: Clock,
        source: String,
    ) -> Self {
        Self { endpoint, vault, lock: RefreshLock::new(lock_path), clock, source }
    }

    /// The app that asks for access.
    #[must_use]
    pub fn app(&self) -> &App {
        self.endpoint.app()
    }

    /// The clock that ages pending authorizations.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The stored grant.
    pub async fn stored(&self) -> Result<Option<Grant>, AuthorizeError> {
        Ok(self.vault.load().await?)
    }

    /// Begins an authorization and notes it at the desk, in place of any earlier one. What would stop its end for sure
    /// (a state directory that cannot be written) stops its beginning: before a person is bothered.
    pub async fn begin(
        &self,
        desk: &dyn AuthorizationDesk,
        random: &Random,
    ) -> Result<(PendingAuthorization, PendingRecord), AuthorizeError> {
        match self.lock.acquire(Duration::ZERO).await {
            Ok(_) | Err(LockError::Busy) => {}
            Err(error @ LockError::Unusable { .. }) => return Err(error.into()),
        }
        let pending = PendingAuthorization::begin(self.app(), random);
        let record = PendingRecord {
            state_hash: StateHash::of(pending.state.secret()),
            source: self.source.clone(),
            created_at: self.clock.now(),
        };
        desk.open(record.clone()).await?;
        Ok((pending, record))
    }

    /// Reads an answer, exchanges its code, stores the grant and settles the pending authorization. An answer to one
    /// that is done already (a reloaded page) gives the stored grant and exchanges nothing.
    pub async fn complete(
        &self,
        desk: &dyn AuthorizationDesk,
        text: &str,
        origin: Origin,
    ) -> Result<Grant, AuthorizeError> {
        let _held = self.lock.acquire(PATIENCE).await?;
        let record =
            desk.pending().await?.filter(|record| self.is_waiting(record)).ok_or(AuthorizeError::NotPending)?;
        let outcome = match desk.outcome().await? {
            Some(Settled::Failed { .. }) => return Err(AuthorizeError::NotPending),
            Some(Settled::Done) => {
                read_response(text, &record.state_hash, origin)?;
                return self.stored().await?.ok_or(AuthorizeError::NotPending);
            }
            None => match read_response(text, &record.state_hash, origin) {
                Ok(code) => self.finish(code).await,
                Err(error) => Err(error),
            },
        };
        match &outcome {
            Ok(_) => desk.settle(Settled::Done).await?,
            Err(error) if error.is_final() => desk.settle(error.settled()).await?,
            Err(_) => {}
        }
        outcome
    }

    fn is_waiting(&self, record: &PendingRecord) -> bool {
        record.source == self.source && !record.is_void(self.clock.now())
    }

    /// Exchanges and stores; the caller holds the lock.
    async fn finish(&self, code: AuthorizationCode) -> Result<Grant, AuthorizeError> {
        // Before the exchange: where the vault cannot even be read, the code is not spent for nothing.
        let serial = self.vault.load().await?.map_or(1, |stored| stored.serial.saturating_add(1));
        let issued = self.endpoint.exchange_code(&code).await?;
        let refresh_token = issued.answer.refresh_token.clone().ok_or(AuthorizeError::NoRefreshToken)?;
        let code = SecretString::from(code.into_secret());
        let grant = Grant::first(code, refresh_token, &issued.answer, issued.sent, serial);
        self.vault.store(&grant).await?;
        Ok(grant)
    }
}

/// What the browser is shown. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackPage {
    /// HTTP status.
    pub status: u16,
    /// One of three headings: done, refused, failed.
    pub title: &'static str,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Completes a callback: the same for a daemon's listener and a command's own. `query` is the raw query string.
///
/// To be run in a task of its own: a browser that goes away must not cut the exchange off half way.
pub async fn complete_callback(authorizer: &Authorizer, desk: &dyn AuthorizationDesk, query: &str) -> CallbackPage {
    match authorizer.complete(desk, query, Origin::Callback).await {
        Ok(_) => CallbackPage {
            status: 200,
            title: "Authorization done",
            message: "reteno-sync may now update contacts in Reteno.".to_owned(),
            hint: Some("You can close this page.".to_owned()),
        },
        Err(error) => CallbackPage::failed(&error),
    }
}

impl CallbackPage {
    fn failed(error: &AuthorizeError) -> Self {
        let (status, title) = match error {
            AuthorizeError::Refused => (403, "Access refused"),
            AuthorizeError::OtherError { .. }
            | AuthorizeError::WrongState
            | AuthorizeError::NoState
            | AuthorizeError::NoCode
            | AuthorizeError::CodeRefused => (400, "Authorization failed"),
            AuthorizeError::NotPending | AuthorizeError::Superseded | AuthorizeError::TimedOut => {
                (410, "Authorization failed")
            }
            AuthorizeError::Exchange(_) | AuthorizeError::NoRefreshToken => (502, "Authorization failed"),
            AuthorizeError::Vault(_)
            | AuthorizeError::Lock(_)
            | AuthorizeError::Desk(_)
            | AuthorizeError::FailedElsewhere { .. }
            | AuthorizeError::Terminal(_) => (500, "Authorization failed"),
        };
        Self { status, title, message: super::chain(error), hint: Some(error.hint().into_owned()) }
    }
}
