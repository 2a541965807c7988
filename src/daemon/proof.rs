//! The first use of fresh tokens: they are kept as a candidate, proven by two harmless calls, and take effect only when
//! they lead to the account that this checkpoint belongs to.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use url::Url;

use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointVault};
use crate::http::Exchange;
use crate::oauth::token::Grant;
use crate::oauth::{GrantVault, VaultError};
use crate::reteno::{AccessTokens, Client, NoToken, RetenoError};

use super::compose::Surroundings;

/// Why fresh tokens did not take effect.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// They lead to another account.
    #[error("these tokens are for the account \"{found}\", and this checkpoint belongs to \"{expected}\"")]
    OtherAccount {
        /// The account the tokens lead to.
        found: String,
        /// The account that was authorized first.
        expected: String,
    },
    /// Reteno did not accept them, or did not answer.
    #[error("cannot prove the new tokens at Reteno's API")]
    NotProven(#[source] RetenoError),
    /// The checkpoint broke.
    #[error("cannot keep the new tokens")]
    Checkpoint(#[source] CheckpointError),
}

/// A vault that lets no grant in before it is proven.
pub struct ProvingVault {
    vault: CheckpointVault,
    exchange: Arc<dyn Exchange>,
    api_url: Url,
    around: Surroundings,
    import_age_max: Duration,
}

impl ProvingVault {
    /// Stands before `vault`; proves with calls below `api_url`.
    #[must_use]
    pub fn before(
        vault: CheckpointVault,
        exchange: Arc<dyn Exchange>,
        api_url: Url,
        around: Surroundings,
        import_age_max: Duration,
    ) -> Self {
        Self { vault, exchange, api_url, around, import_age_max }
    }

    async fn prove(&self, grant: &Grant) -> Result<(), ProofError> {
        let (candidate, random) = (grant.clone(), self.around.random.clone());
        let kept = self.around.store.call(move |checkpoint| checkpoint.store_candidate(&candidate, &random)).await;
        kept.map_err(ProofError::Checkpoint)?;
        let only = Arc::new(Only(grant.access_token.clone()));
        let (clock, random) = (self.around.clock.clone(), self.around.random.clone());
        let client = Client::new(Arc::clone(&self.exchange), self.api_url.clone(), only, clock, random);
        client.version().await.map_err(ProofError::NotProven)?;
        let info = client.account_info().await.map_err(ProofError::NotProven)?;
        let found = info.organisation_name.unwrap_or_else(|| "(without a name)".to_owned());
        let (name, now, age_max) = (found.clone(), self.around.clock.now(), self.import_age_max);
        let random = self.around.random.clone();
        let promote = move |checkpoint: &mut Checkpoint| checkpoint.promote_candidate(&name, now, (age_max, &random));
        let refused = self.around.store.call(promote).await;
        match refused.map_err(ProofError::Checkpoint)? {
            Some(expected) => Err(ProofError::OtherAccount { found, expected }),
            None => Ok(()),
        }
    }
}

impl GrantVault for ProvingVault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        self.vault.load()
    }

    fn store<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Result<(), VaultError>> {
        Box::pin(async move { self.prove(grant).await.map_err(|error| VaultError::Store(error.into())) })
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
