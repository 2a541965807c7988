//! The first use of fresh tokens: they are kept as a candidate, proven by two harmless calls, and take effect only when
//! they lead to the account that this checkpoint belongs to, or to another that the operator asked for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::time::Instant;
use url::Url;

use crate::backoff::Backoff;
use crate::checkpoint::{AccountIdentity, Checkpoint, CheckpointError, CheckpointVault, load_failed, store_failed};
use crate::contact::Personal;
use crate::http::Exchange;
use crate::oauth::token::Grant;
use crate::oauth::{Admission, AuthorizeError, Candidate, GrantVault, LockError, Unproven, VaultError};
use crate::random::Random;
use crate::reteno::wire::AccountInfo;
use crate::reteno::{AccessTokens, Client, NoToken, RetenoError};

use super::compose::{Account, Surroundings};

/// The first wait before a grant that could not be proven is proven again.
const PROOF_FIRST: Duration = Duration::from_secs(5);
/// The longest one: an operator who waits for sending to begin should not wait longer for us than for Reteno.
const PROOF_MAX: Duration = Duration::from_mins(5);

/// A vault that lets no grant in before it is proven.
pub struct ProvingVault {
    vault: CheckpointVault,
    exchange: Arc<dyn Exchange>,
    api_url: Url,
    around: Surroundings,
    changes: AccountChange,
}

/// What taking over another account needs to know.
#[derive(Debug, Clone, Copy)]
pub struct AccountChange {
    /// Whether this process may do it: nobody sends meanwhile, since it holds the sender's lock and sends nothing.
    pub is_possible: bool,
    /// How long a copy that nobody watches may still be applied.
    pub import_age_max: Duration,
}

impl ProvingVault {
    /// Stands before `vault`; proves with calls below `api_url`.
    #[must_use]
    pub fn before(
        vault: CheckpointVault,
        exchange: Arc<dyn Exchange>,
        api_url: Url,
        around: Surroundings,
        changes: AccountChange,
    ) -> Self {
        Self { vault, exchange, api_url, around, changes }
    }

    /// Asks Reteno to whom the tokens lead, and acts on it.
    async fn prove(&self, candidate: &Candidate) -> Result<Grant, AuthorizeError> {
        let account = match self.identify(&candidate.grant).await {
            Ok(account) => account,
            Err(error) => return Err(self.unproven(error).await?),
        };
        let wanted = account.clone();
        let first = self.around.store.call(move |checkpoint| checkpoint.load_account_unlike(&wanted)).await;
        let first = first.map_err(unreadable)?;
        let is_fresh_start = match first {
            Some(expected) if !candidate.allows_new_account => {
                self.forget().await?;
                return Err(AuthorizeError::OtherAccount { found: account.name, expected });
            }
            Some(_) if !self.changes.is_possible => return Err(AuthorizeError::SenderRuns { found: account.name }),
            Some(_) => true,
            None => false,
        };
        let (grant, random) = (candidate.grant.clone(), self.around.random.clone());
        let when = (self.around.clock.now(), self.changes.import_age_max);
        let promoted = self
            .around
            .store
            .call(move |checkpoint| checkpoint.promote_candidate(&grant, &account, is_fresh_start, when, &random));
        promoted.await.map_err(unwritable)
    }

    /// The two calls.
    async fn identify(&self, grant: &Grant) -> Result<AccountIdentity, RetenoError> {
        let only = Arc::new(Only(grant.access_token.clone()));
        let (clock, random) = (self.around.clock.clone(), self.around.random.clone());
        let client = Client::new(Arc::clone(&self.exchange), self.api_url.clone(), only, clock, random);
        client.version().await?;
        Ok(account_identity(client.account_info().await?))
    }

    /// What the failed calls mean for the tokens; refused ones are forgotten.
    async fn unproven(&self, error: RetenoError) -> Result<AuthorizeError, AuthorizeError> {
        let why = match &error {
            RetenoError::Temporary { .. } => Unproven::ForNow,
            RetenoError::WrongAddress { .. } | RetenoError::NotBuilt { .. } | RetenoError::NotUnderstood { .. } => {
                Unproven::Misdirected
            }
            RetenoError::NeedsAuthorization { .. } | RetenoError::Forbidden { .. } | RetenoError::Refused { .. } => {
                self.forget().await?;
                Unproven::Refused
            }
        };
        Ok(AuthorizeError::NotProven { why, source: error.into() })
    }

    async fn forget(&self) -> Result<(), AuthorizeError> {
        self.around.store.call(Checkpoint::drop_candidate).await.map_err(unwritable)
    }
}

/// What Reteno tells of an account tells it from others as it came, not as it is shown: names that are addresses look alike
/// there. Two organisations may have one name, so the user counts too; without a name there is only the user.
fn account_identity(info: AccountInfo) -> AccountIdentity {
    let AccountInfo { organisation_name, organisation, user_email } = info;
    let name = organisation_name.unwrap_or_else(|| "(without a name)".to_owned());
    match (organisation, user_email) {
        (Some(organisation), Some(user)) => {
            let mark = Personal::new(format!("{}\n{}", organisation.expose(), user.expose().to_lowercase()));
            AccountIdentity { mark, kind: "account and user", name }
        }
        (Some(mark), None) => AccountIdentity { mark, kind: "account", name },
        // an answer with neither is not taken for one
        (None, user) => {
            AccountIdentity { mark: user.unwrap_or_else(|| Personal::new("")), kind: "account owner", name }
        }
    }
}

fn unreadable(error: CheckpointError) -> AuthorizeError {
    AuthorizeError::Vault(load_failed(error))
}

fn unwritable(error: CheckpointError) -> AuthorizeError {
    AuthorizeError::Vault(store_failed(error))
}

impl Admission for ProvingVault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        self.vault.load()
    }

    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>> {
        Box::pin(async { self.around.store.call(Checkpoint::prove_room).await.map_err(store_failed) })
    }

    fn keep<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<(), VaultError>> {
        let (candidate, random) = (candidate.clone(), self.around.random.clone());
        Box::pin(async move {
            let kept = self.around.store.call(move |checkpoint| checkpoint.store_candidate(&candidate, &random)).await;
            kept.map_err(store_failed)
        })
    }

    fn kept(&self) -> BoxFuture<'_, Result<Option<Candidate>, VaultError>> {
        Box::pin(async {
            let kept = self.around.store.call(|checkpoint| checkpoint.load_candidate()).await;
            kept.map_err(load_failed)
        })
    }

    fn admit<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<Grant, AuthorizeError>> {
        Box::pin(self.prove(candidate))
    }
}

/// The daemon's part: a grant that could not be proven when it was given is proven again, ever more rarely.
pub struct LateProof {
    backoff: Backoff,
    not_before: Instant,
    told: Option<String>,
}

impl LateProof {
    /// The first attempt may be made at once.
    #[must_use]
    pub fn begin(random: Random) -> Self {
        Self { backoff: Backoff::new(PROOF_FIRST, PROOF_MAX, random), not_before: Instant::now(), told: None }
    }

    /// Proves what is kept, where there is something and its time has come; says whether a new grant is in force. To
    /// give it up half way is harmless: it stays kept.
    pub async fn attempt(&mut self, account: &Account) -> bool {
        if Instant::now() < self.not_before {
            return false;
        }
        let Account { authorizer, desk, .. } = account;
        match authorizer.prove_kept(desk, Duration::ZERO).await {
            Ok(Some(_)) => {
                tracing::info!("what was granted earlier is proven and in use");
                self.backoff.reset();
                self.told = None;
                true
            }
            // another process is at it
            Ok(None) | Err(AuthorizeError::Lock(LockError::Busy)) => false,
            Err(error) => {
                self.not_before = Instant::now() + self.backoff.next_wait();
                self.tell(error, &authorizer.mandate().program);
                false
            }
        }
    }

    /// Once for each change.
    fn tell(&mut self, error: AuthorizeError, program: &str) {
        let hint = error.hint(program);
        let text = format!("{:#}", anyhow::Error::new(error));
        if self.told.as_ref() != Some(&text) {
            tracing::warn!(hint, "{text}");
            self.told = Some(text);
        }
    }
}

/// The access token under proof: refused is refused, it is seconds old.
struct Only(SecretString);

impl AccessTokens for Only {
    fn access_token(&self) -> BoxFuture<'_, Result<SecretString, NoToken>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn refused<'a>(&'a self, _: &'a SecretString) -> BoxFuture<'a, Result<SecretString, NoToken>> {
        Box::pin(async { Err(NoToken::NeedsAuthorization) })
    }
}
