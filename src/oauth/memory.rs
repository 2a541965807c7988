//! A vault and a desk that live in memory: for simulations and the demo. Never for a daemon: a restart would need a
//! person.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::desk::{AuthorizationDesk, DeskError, PendingRecord, Settled};
use super::token::Grant;
use super::vault::{GrantVault, VaultError};

/// A [`GrantVault`] that forgets with the process.
#[derive(Debug, Default)]
pub struct MemoryVault(Mutex<Option<Grant>>);

impl MemoryVault {
    /// A vault that holds `grant`.
    #[must_use]
    pub fn holding(grant: Grant) -> Self {
        Self(Mutex::new(Some(grant)))
    }
}

impl GrantVault for MemoryVault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        ready(Ok(held(&self.0).clone())).boxed()
    }

    fn store<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Result<(), VaultError>> {
        *held(&self.0) = Some(grant.clone());
        ready(Ok(())).boxed()
    }
}

/// An [`AuthorizationDesk`] that forgets with the process.
#[derive(Debug, Default)]
pub struct MemoryDesk(Mutex<Papers>);

#[derive(Debug, Default)]
struct Papers {
    pending: Option<PendingRecord>,
    outcome: Option<Settled>,
}

impl AuthorizationDesk for MemoryDesk {
    fn pending(&self) -> BoxFuture<'_, Result<Option<PendingRecord>, DeskError>> {
        ready(Ok(held(&self.0).pending.clone())).boxed()
    }

    fn open(&self, record: PendingRecord) -> BoxFuture<'_, Result<(), DeskError>> {
        *held(&self.0) = Papers { pending: Some(record), outcome: None };
        ready(Ok(())).boxed()
    }

    fn settle(&self, outcome: Settled) -> BoxFuture<'_, Result<(), DeskError>> {
        held(&self.0).outcome = Some(outcome);
        ready(Ok(())).boxed()
    }

    fn outcome(&self) -> BoxFuture<'_, Result<Option<Settled>, DeskError>> {
        ready(Ok(held(&self.0).outcome.clone())).boxed()
    }
}

/// The guarded value; a panic elsewhere cannot have left it half written, each change being one assignment.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
