//! A vault and a desk that live in memory: for simulations and the demo. Never for a daemon: a restart would need a
//! person.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::admission::{Admission, Candidate};
use super::authorize_error::AuthorizeError;
use super::desk::{AuthorizationDesk, DeskError, Noted, PendingRecord, Settled, StateHash};
use super::token::Grant;
use super::vault::{GrantVault, VaultError};

/// A [`GrantVault`] that forgets with the process, and takes every fresh grant for proven.
#[derive(Debug, Default)]
pub struct MemoryVault {
    grant: Mutex<Option<Grant>>,
    candidate: Mutex<Option<Candidate>>,
}

impl MemoryVault {
    /// A vault that holds `grant`.
    #[must_use]
    pub fn holding(grant: Grant) -> Self {
        Self { grant: Mutex::new(Some(grant)), candidate: Mutex::default() }
    }
}

impl GrantVault for MemoryVault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        ready(Ok(held(&self.grant).clone())).boxed()
    }

    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>> {
        ready(Ok(())).boxed()
    }

    fn store<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Result<(), VaultError>> {
        *held(&self.grant) = Some(grant.clone());
        ready(Ok(())).boxed()
    }
}

impl Admission for MemoryVault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        GrantVault::load(self)
    }

    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>> {
        ready(Ok(())).boxed()
    }

    fn keep<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<(), VaultError>> {
        *held(&self.candidate) = Some(candidate.clone());
        ready(Ok(())).boxed()
    }

    fn kept(&self) -> BoxFuture<'_, Result<Option<Candidate>, VaultError>> {
        ready(Ok(held(&self.candidate).clone())).boxed()
    }

    fn admit<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<Grant, AuthorizeError>> {
        *held(&self.grant) = Some(candidate.grant.clone());
        *held(&self.candidate) = None;
        ready(Ok(candidate.grant.clone())).boxed()
    }
}

/// An [`AuthorizationDesk`] that forgets with the process.
#[derive(Debug, Default)]
pub struct MemoryDesk(Mutex<Option<Noted>>);

impl AuthorizationDesk for MemoryDesk {
    fn pending(&self) -> BoxFuture<'_, Result<Option<Noted>, DeskError>> {
        ready(Ok(held(&self.0).clone())).boxed()
    }

    fn open(&self, record: PendingRecord) -> BoxFuture<'_, Result<(), DeskError>> {
        *held(&self.0) = Some((record, None));
        ready(Ok(())).boxed()
    }

    fn settle(&self, state_hash: StateHash, outcome: Settled) -> BoxFuture<'_, Result<(), DeskError>> {
        if let Some((_, settled)) = held(&self.0).as_mut().filter(|(record, _)| record.state_hash == state_hash) {
            *settled = Some(outcome);
        }
        ready(Ok(())).boxed()
    }
}

/// The guarded value; a panic elsewhere cannot have left it half written, each change being one assignment.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
