//! What lies between a code that was exchanged and a grant in force: the fresh grant is kept, proven, admitted.
//!
//! Knows no API and no account: whoever implements it asks Reteno to whom the tokens lead. A kept grant is never lost
//! for a network's sake: its code is spent.

use futures_util::future::BoxFuture;

use super::authorize_error::AuthorizeError;
use super::desk::StateHash;
use super::token::Grant;
use super::vault::VaultError;

/// A grant that was received and is not proven yet.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The tokens.
    pub grant: Grant,
    /// The authorization that it ends.
    pub state_hash: StateHash,
    /// Whether the operator allows it to lead to another account than the one authorized first.
    pub allows_new_account: bool,
}

/// Lets fresh grants into a vault.
pub trait Admission: Send + Sync {
    /// The grant in force.
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>>;

    /// Proves that a fresh grant can be kept: its code is spent once it is asked for.
    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>>;

    /// Keeps a fresh grant aside, in place of an earlier one. Durable before it returns.
    fn keep<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<(), VaultError>>;

    /// The grant that was kept and is neither in force nor refused.
    fn kept(&self) -> BoxFuture<'_, Result<Option<Candidate>, VaultError>>;

    /// Proves a kept grant and puts it in force. One that Reteno refuses, or that leads to an account nobody allowed,
    /// is forgotten; any other stays kept.
    fn admit<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<Grant, AuthorizeError>>;
}
