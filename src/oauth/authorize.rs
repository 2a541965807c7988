//! The one-time authorization: the address to open, and what is done with the answer.
//!
//! Every way of completing it (listener, terminal, script; command or daemon) ends in [`Authorizer::complete`], under
//! the lock that refreshes take: so a code is exchanged once, and a refresh under way cannot overwrite a new grant.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oauth2::basic::BasicClient;
use oauth2::{AuthorizationCode, CsrfToken, Scope};
use secrecy::SecretString;
use url::Url;

use super::admission::{Admission, Candidate};
use super::authorize_error::{AuthorizeError, Unproven};
use super::desk::{AuthorizationDesk, Ending, PendingRecord, Settled, StateHash};
use super::endpoint::{App, TokenEndpoint};
use super::lock::{LockError, RefreshLock};
use super::party::Party;
use super::response::{Origin, read_response};
use super::token::Grant;
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
    /// The address of the page on which a person grants `app` access, with a fresh state.
    #[must_use]
    pub fn begin(app: &App, random: &Random) -> Self {
        let client = BasicClient::new(app.client_id.clone())
            .set_auth_uri(app.authorize_url.clone())
            .set_redirect_uri(app.redirect_uri.clone());
        let mut page = client.authorize_url(|| CsrfToken::new(hex(&random.bytes::<32>())));
        if let Some(scope) = &app.dialect.scope {
            page = page.add_scope(Scope::new(scope.clone()));
        }
        for (name, value) in &app.dialect.authorize_extra {
            page = page.add_extra_param(name.clone(), value.clone());
        }
        let (url, state) = page.url();
        Self { url, state }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("four bits are one hexadecimal digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// What the operator asked for.
#[derive(Debug, Clone)]
pub struct Mandate {
    /// Who is authorized against: `reteno`, or a source's name.
    pub source: String,
    /// Whether it may lead to another account than the one authorized first.
    pub allows_new_account: bool,
    /// How this program is called with its configuration, for hints that can be copied.
    pub program: String,
}

/// Turns answers into stored grants.
pub struct Authorizer {
    endpoint: TokenEndpoint,
    vault: Arc<dyn Admission>,
    lock: RefreshLock,
    clock: Clock,
    mandate: Mandate,
}

impl Authorizer {
    /// Authorizes as `mandate` says. `lock_path` is the one given to the refresher.
    #[must_use]
    pub fn new(
        endpoint: TokenEndpoint,
        vault: Arc<dyn Admission>,
        lock_path: PathBuf,
        clock: Clock,
        mandate: Mandate,
    ) -> Self {
        Self { endpoint, vault, lock: RefreshLock::new(lock_path), clock, mandate }
    }

    /// The app that asks for access.
    #[must_use]
    pub fn app(&self) -> &App {
        self.endpoint.app()
    }

    /// Who gives the tokens.
    #[must_use]
    pub fn party(&self) -> &Party {
        self.app().party()
    }

    /// The clock that ages pending authorizations.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What the operator asked for.
    #[must_use]
    pub fn mandate(&self) -> &Mandate {
        &self.mandate
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
            source: self.mandate.source.clone(),
            created_at: self.clock.now(),
            allows_new_account: self.mandate.allows_new_account,
        };
        desk.open(record.clone()).await?;
        Ok((pending, record))
    }

    /// Reads an answer, exchanges its code, proves and stores the grant and settles the pending authorization. An answer
    /// to one that is done already (a reloaded page) gives the stored grant and exchanges nothing; an answer to one
    /// whose grant is kept proves that.
    pub async fn complete(
        &self,
        desk: &dyn AuthorizationDesk,
        text: &str,
        origin: Origin,
    ) -> Result<Grant, AuthorizeError> {
        let _held = self.lock.acquire(PATIENCE).await?;
        let waiting = desk.pending().await?.filter(|(record, _)| self.is_waiting(record));
        let (record, outcome) = waiting.ok_or(AuthorizeError::NotPending)?;
        let kept = self.vault.kept().await?.filter(|kept| kept.state_hash == record.state_hash);
        let is_over = match &outcome {
            Some(Settled::Failed { ending, .. }) => *ending != Ending::TryAgain && kept.is_none(),
            Some(Settled::Done) | None => false,
        };
        if is_over {
            return Err(AuthorizeError::NotPending);
        }
        if outcome == Some(Settled::Done) {
            // only an answer that bears the state belongs to what is done; any other would be told to have worked
            read_response(text, &record.state_hash, Origin::Callback)?;
            return self.stored().await?.ok_or(AuthorizeError::NotPending);
        }
        let read = read_response(text, &record.state_hash, origin);
        let granted = match (read, kept) {
            (Ok(_), Some(kept)) => self.vault.admit(&kept).await,
            (Ok(code), None) => self.exchange_and_admit(code, &record).await,
            (Err(error), _) => Err(error),
        };
        self.note(desk, record.state_hash, &granted).await?;
        granted
    }

    /// Proves a grant that was received earlier and could not be proven then (Reteno was away, the process died), in
    /// place of asking a person again. `None`: there is none.
    pub async fn prove_kept(
        &self,
        desk: &dyn AuthorizationDesk,
        patience: Duration,
    ) -> Result<Option<Grant>, AuthorizeError> {
        if self.vault.kept().await?.is_none() {
            return Ok(None);
        }
        let _held = self.lock.acquire(patience).await?;
        // another process may have done it meanwhile
        let Some(kept) = self.vault.kept().await? else { return Ok(None) };
        let granted = self.vault.admit(&kept).await;
        self.note(desk, kept.state_hash, &granted).await?;
        granted.map(Some)
    }

    fn is_waiting(&self, record: &PendingRecord) -> bool {
        record.source == self.mandate.source && !record.is_void(self.clock.now())
    }

    /// The caller holds the lock.
    async fn exchange_and_admit(
        &self,
        code: AuthorizationCode,
        record: &PendingRecord,
    ) -> Result<Grant, AuthorizeError> {
        // Before the exchange: where the vault cannot be read or written, the code is not spent for nothing.
        let serial = self.vault.load().await?.map_or(1, |stored| stored.serial.saturating_add(1));
        self.vault.reserve().await?;
        let issued = self.endpoint.exchange_code(&code).await?;
        let refresh_token = issued.answer.refresh_token.clone().ok_or(AuthorizeError::NoRefreshToken)?;
        let code = SecretString::from(code.into_secret());
        let grant = Grant::first(code, refresh_token, &issued.answer, issued.sent, serial);
        let PendingRecord { state_hash, allows_new_account, .. } = *record;
        let candidate = Candidate { grant, state_hash, allows_new_account };
        self.vault.keep(&candidate).await?;
        self.vault.admit(&candidate).await
    }

    async fn note(
        &self,
        desk: &dyn AuthorizationDesk,
        state_hash: StateHash,
        granted: &Result<Grant, AuthorizeError>,
    ) -> Result<(), AuthorizeError> {
        match granted {
            Ok(_) => desk.settle(state_hash, Settled::Done).await?,
            Err(error) if error.settles() => {
                desk.settle(state_hash, self.party().settled(&self.mandate.program, error)).await?;
            }
            Err(_) => {}
        }
        Ok(())
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
            message: match authorizer.party() {
                Party::Reteno => "reteno-sync may now update contacts in Reteno.".to_owned(),
                Party::Crm(source) => format!("reteno-sync may now read the CRM of source {source}."),
            },
            hint: Some("You can close this page.".to_owned()),
        },
        Err(error) => CallbackPage::failed(&error, authorizer),
    }
}

impl CallbackPage {
    fn failed(error: &AuthorizeError, authorizer: &Authorizer) -> Self {
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
            AuthorizeError::OtherAccount { .. } | AuthorizeError::SenderRuns { .. } => (409, "Authorization failed"),
            AuthorizeError::NotProven { why: Unproven::ForNow, .. } => (503, "Authorization failed"),
            AuthorizeError::Exchange(_)
            | AuthorizeError::NoRefreshToken
            | AuthorizeError::NotProven { why: Unproven::Misdirected | Unproven::Refused, .. } => {
                (502, "Authorization failed")
            }
            AuthorizeError::Vault(_)
            | AuthorizeError::Lock(_)
            | AuthorizeError::Desk(_)
            | AuthorizeError::FailedElsewhere { .. }
            | AuthorizeError::Terminal(_) => (500, "Authorization failed"),
        };
        let (party, program) = (authorizer.party(), &authorizer.mandate.program);
        Self { status, title, message: party.tell(error), hint: Some(party.hint(program, error)) }
    }
}
