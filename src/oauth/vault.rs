//! Where the grant is kept, seen from here: load and store, nothing else.
//!
//! Knows no file and no database: the checkpoint implements it (sealed), and [`super::MemoryVault`] for simulations.

use futures_util::future::BoxFuture;

use super::token::Grant;

/// Keeps the one grant of an authorization.
pub trait GrantVault: Send + Sync {
    /// The stored grant, as any process stored it last.
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>>;

    /// Proves that the next [`GrantVault::store`] will succeed, whatever becomes of the disk meanwhile: once a refresh is
    /// asked for, the stored refresh token may be dead.
    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>>;

    /// Replaces the stored grant. Durable before it returns: a new refresh token replaces the old one at Reteno, so
    /// losing it costs a new authorization by a person.
    fn store<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Result<(), VaultError>>;
}

/// Which half of a vault's work failed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The stored grant cannot be read.
    #[error("cannot read the stored tokens")]
    Load {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What mends it, where that is known.
        hint: Option<String>,
    },
    /// The grant cannot be written.
    #[error("cannot store the tokens")]
    Store {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What mends it, where that is known.
        hint: Option<String>,
    },
}

impl VaultError {
    /// What an operator can do.
    #[must_use]
    pub fn hint(&self) -> &str {
        let (Self::Load { hint, .. } | Self::Store { hint, .. }) = self;
        hint.as_deref().unwrap_or("look at the state directory (`state_dir`) and its disk")
    }
}
