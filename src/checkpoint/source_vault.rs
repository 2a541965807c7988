//! A CRM's tokens in the checkpoint, sealed, one grant a source. Nothing has to be proven before they take effect: a CRM
//! has no account that this checkpoint belongs to.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rusqlite::params;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::oauth::token::Grant;
use crate::oauth::{Admission, AuthorizeError, Candidate, GrantVault, StateHash, VaultError};
use crate::random::Random;

use super::{Attempt, Checkpoint, CheckpointError, Store, unreadable};

const GRANT: &str = "grant";
const CANDIDATE: &str = "grant under proof";

/// Whose tokens: the source, and the app they were given to. Those of another app are as good as none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantOwner {
    /// The source's name.
    pub source: String,
    /// The app's id at the CRM.
    pub client_id: String,
}

/// The vault of one CRM, on the checkpoint.
#[derive(Clone)]
pub struct SourceVault {
    store: Store,
    random: Random,
    owner: GrantOwner,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Form {
    client_id: String,
    grant: String,
    /// Of a grant under proof only.
    #[serde(default)]
    state_hash: [u8; 32],
}

impl Checkpoint {
    /// The grant of a source, where it was given to the same app.
    pub fn load_source_grant(&self, owner: &GrantOwner) -> Result<Option<Grant>, CheckpointError> {
        Ok(self.load_form(GRANT, owner)?.map(|(grant, _)| grant))
    }

    /// Replaces it.
    pub fn store_source_grant(
        &mut self,
        owner: &GrantOwner,
        grant: &Grant,
        random: &Random,
    ) -> Result<(), CheckpointError> {
        let sealed = self.seal_form(GRANT, owner, (grant, StateHash([0; 32])), random)?;
        self.store_setting(&setting(GRANT, owner), sealed)
    }

    /// Keeps a fresh grant aside until it is in force: its code is spent, so it must not be lost.
    pub fn store_source_candidate(
        &mut self,
        owner: &GrantOwner,
        candidate: &Candidate,
        random: &Random,
    ) -> Result<(), CheckpointError> {
        let Candidate { grant, state_hash, allows_new_account: _ } = candidate;
        let sealed = self.seal_form(CANDIDATE, owner, (grant, *state_hash), random)?;
        self.store_setting(&setting(CANDIDATE, owner), sealed)
    }

    /// The grant that is kept aside.
    pub fn load_source_candidate(&self, owner: &GrantOwner) -> Result<Option<Candidate>, CheckpointError> {
        let kept = self.load_form(CANDIDATE, owner)?;
        Ok(kept.map(|(grant, state_hash)| Candidate { grant, state_hash, allows_new_account: false }))
    }

    /// Puts a fresh grant in force, in the place of the one kept aside, and returns it.
    pub fn promote_source_candidate(
        &mut self,
        owner: &GrantOwner,
        grant: &Grant,
        random: &Random,
    ) -> Result<Grant, CheckpointError> {
        // the grant in force may have been renewed since this one was kept
        let least = self.load_source_grant(owner)?.map_or(0, |stored| stored.serial.saturating_add(1));
        let grant = Grant { serial: grant.serial.max(least), ..grant.clone() };
        let sealed = self.seal_form(GRANT, owner, (&grant, StateHash([0; 32])), random)?;
        let transaction = self.connection.transaction().attempt("store the new tokens")?;
        transaction
            .execute("DELETE FROM setting WHERE name = ?1", [setting(CANDIDATE, owner)])
            .and_then(|_| {
                let upsert = "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)";
                transaction.execute(upsert, params![setting(GRANT, owner), sealed])
            })
            .attempt("store the new tokens")?;
        transaction.commit().attempt("store the new tokens")?;
        Ok(grant)
    }

    fn load_form(&self, name: &'static str, owner: &GrantOwner) -> Result<Option<(Grant, StateHash)>, CheckpointError> {
        let Some(sealed) = self.load_setting::<Vec<u8>>(&setting(name, owner))? else { return Ok(None) };
        let text = self.unseal_at(name, &setting(name, owner), &sealed)?;
        let form: Form = serde_json::from_slice(&text).map_err(unreadable(name))?;
        if form.client_id != owner.client_id {
            return Ok(None);
        }
        let grant = Grant::from_sealed_form(&form.grant).map_err(unreadable(name))?;
        Ok(Some((grant, StateHash(form.state_hash))))
    }

    fn seal_form(
        &self,
        name: &'static str,
        owner: &GrantOwner,
        (grant, state_hash): (&Grant, StateHash),
        random: &Random,
    ) -> Result<Vec<u8>, CheckpointError> {
        let form = Form {
            client_id: owner.client_id.clone(),
            grant: grant.to_sealed_form().expose_secret().to_owned(),
            state_hash: state_hash.0,
        };
        let text = serde_json::to_vec(&form).map_err(unreadable(name))?;
        self.seal_at(name, &setting(name, owner), &text, random)
    }
}

fn setting(name: &str, owner: &GrantOwner) -> String {
    format!("{name} of {}", owner.source)
}

impl SourceVault {
    /// Keeps the tokens of `owner` in `store`.
    #[must_use]
    pub fn on(store: Store, random: Random, owner: GrantOwner) -> Self {
        Self { store, random, owner }
    }

    /// The same as a vault to share.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn GrantVault> {
        Arc::new(self.clone())
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Checkpoint, &GrantOwner) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let owner = self.owner.clone();
        let read = self.store.call(move |checkpoint| read(checkpoint, &owner)).await;
        read.map_err(|error| VaultError::Load(error.into()))
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Checkpoint, &GrantOwner, &Random) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let (owner, random) = (self.owner.clone(), self.random.clone());
        let written = self.store.call(move |checkpoint| write(checkpoint, &owner, &random)).await;
        written.map_err(|error| VaultError::Store(error.into()))
    }
}

impl GrantVault for SourceVault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        Box::pin(self.read(|checkpoint, owner| checkpoint.load_source_grant(owner)))
    }

    fn store<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Result<(), VaultError>> {
        let grant = grant.clone();
        Box::pin(self.write(move |checkpoint, owner, random| checkpoint.store_source_grant(owner, &grant, random)))
    }
}

impl Admission for SourceVault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        GrantVault::load(self)
    }

    fn keep<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<(), VaultError>> {
        let kept = candidate.clone();
        Box::pin(self.write(move |checkpoint, owner, random| checkpoint.store_source_candidate(owner, &kept, random)))
    }

    fn kept(&self) -> BoxFuture<'_, Result<Option<Candidate>, VaultError>> {
        Box::pin(self.read(|checkpoint, owner| checkpoint.load_source_candidate(owner)))
    }

    fn admit<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<Grant, AuthorizeError>> {
        let grant = candidate.grant.clone();
        Box::pin(async move {
            let admitted =
                self.write(move |checkpoint, owner, random| checkpoint.promote_source_candidate(owner, &grant, random));
            Ok(admitted.await?)
        })
    }
}
