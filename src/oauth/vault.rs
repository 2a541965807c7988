//! Where the grant is kept, seen from here: load and store, nothing else.
//!
//! Knows no file and no database: the checkpoint implements it (sealed), and [`super::MemoryVault`] for simulations.

use futures_util::future::BoxFuture;

use super::token::Grant;

/// Keeps the one grant of an authorization.
pub trait GrantVault: Send + Sync {
    /// The stored grant, as any process stored it last.
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>>;

    /// Replaces the stored grant. Durable before it returns: a new refresh token replaces the old one at Reteno, so
    /// losing it costs a new authorization by a person.
    fn store<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Result<(), VaultError>>;
}

/// Which half of a vault's work failed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The stored grant cannot be read.
    #[error("cannot read the stored tokens")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The grant cannot be written.
    #[error("cannot store the tokens")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl VaultError {
    /// What an operator can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Load(_) => "the state directory (`state_dir`) must be readable by this user",
            Self::Store(_) => {
                "make the state directory (`state_dir`) writable for this user and see that its disk has room"
            }
        }
    }
}
