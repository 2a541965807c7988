//! Tokens and the pending authorization in the checkpoint: the tokens sealed, the pending one only as a hash.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::{OptionalExtension, params};
use secrecy::ExposeSecret;

use crate::clock::Timestamp;
use crate::oauth::token::Grant;
use crate::oauth::{AuthorizationDesk, DeskError, GrantVault, PendingRecord, Settled, StateHash, VaultError};
use crate::random::Random;

use super::{Attempt, Checkpoint, CheckpointError, Store, unreadable};

const GRANT: &str = "grant";
const CANDIDATE: &str = "grant under proof";

/// The vault and the desk of one authorization, on the checkpoint.
#[derive(Clone)]
pub struct CheckpointVault {
    store: Store,
    random: Random,
    allow_new_account: bool,
}

impl CheckpointVault {
    /// Keeps what Reteno's authorization gives in `store`. An authorization that is begun here may lead to another
    /// account than the first only with `allow_new_account`.
    #[must_use]
    pub fn on(store: Store, random: Random, allow_new_account: bool) -> Self {
        Self { store, random, allow_new_account }
    }

    /// The same as a vault to share.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn GrantVault> {
        Arc::new(self.clone())
    }
}

impl Checkpoint {
    /// The stored grant.
    pub fn load_grant(&self) -> Result<Option<Grant>, CheckpointError> {
        let Some(sealed) = self.load_setting::<Vec<u8>>(GRANT)? else { return Ok(None) };
        let text = String::from_utf8(self.unseal(GRANT, &sealed)?).map_err(|_| CheckpointError::Sealed(GRANT))?;
        Grant::from_sealed_form(&text).map(Some).map_err(unreadable("grant"))
    }

    /// Replaces the stored grant.
    pub fn store_grant(&mut self, grant: &Grant, random: &Random) -> Result<(), CheckpointError> {
        let form = grant.to_sealed_form();
        let sealed = self.seal(GRANT, form.expose_secret().as_bytes(), random)?;
        self.store_setting(GRANT, sealed)
    }

    /// The name of the account that was authorized first.
    pub fn load_account(&self) -> Result<Option<String>, CheckpointError> {
        self.load_setting("account")
    }

    /// The name of the account whose tokens were refused last.
    pub fn load_refused_account(&self) -> Result<Option<String>, CheckpointError> {
        self.load_setting("refused_account")
    }

    /// Keeps a fresh grant aside until it is proven: its code is spent, so it must not be lost.
    pub fn store_candidate(&mut self, grant: &Grant, random: &Random) -> Result<(), CheckpointError> {
        let sealed = self.seal(CANDIDATE, grant.to_sealed_form().expose_secret().as_bytes(), random)?;
        self.connection
            .execute("DELETE FROM setting WHERE name = 'refused_account'", [])
            .attempt("store the new tokens")?;
        self.store_setting(CANDIDATE, sealed)
    }

    /// Makes the candidate the grant, where it leads to the account `name` that this checkpoint belongs to, or to the
    /// first one, or to another that the operator asked for: then all that Reteno holds is unknown. Otherwise the
    /// candidate is dropped, and the expected name is returned.
    pub fn promote_candidate(
        &mut self,
        name: &str,
        now: Timestamp,
        (import_age_max, random): (Duration, &Random),
    ) -> Result<Option<String>, CheckpointError> {
        let known = self.load_account()?;
        let is_allowed: bool = self
            .connection
            .query_row("SELECT new_account FROM authorization", [], |row| row.get(0))
            .optional()
            .attempt("read the pending authorization")?
            .unwrap_or(false);
        if let Some(expected) = known.clone().filter(|known| known != name && !is_allowed) {
            self.connection
                .execute("DELETE FROM setting WHERE name = ?1", [CANDIDATE])
                .attempt("drop the new tokens")?;
            self.store_setting("refused_account", name)?;
            return Ok(Some(expected));
        }
        let is_fresh_start = is_allowed && known.is_some();
        if is_fresh_start {
            self.forget_acknowledged(now, import_age_max)?;
        }
        let sealed: Option<Vec<u8>> = self.load_setting(CANDIDATE)?;
        let text = self.unseal(CANDIDATE, &sealed.ok_or(CheckpointError::Sealed(CANDIDATE))?)?;
        let grant = self.seal(GRANT, &text, random)?;
        let transaction = self.connection.transaction().attempt("store the new tokens")?;
        transaction
            .execute("DELETE FROM setting WHERE name = ?1", [CANDIDATE])
            .and_then(|_| {
                let upsert = "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)";
                transaction.execute(upsert, params!["account", name])?;
                transaction.execute(upsert, params![GRANT, grant])
            })
            .attempt("store the new tokens")?;
        transaction.commit().attempt("store the new tokens")?;
        Ok(None)
    }

    /// The additional fields of the account, as they were told last.
    pub fn load_catalog<T: serde::de::DeserializeOwned>(&self) -> Result<Option<Vec<T>>, CheckpointError> {
        let Some(text) = self.load_setting::<String>("catalog")? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(unreadable("list of additional fields"))
    }

    /// Keeps the additional fields of the account.
    pub fn store_catalog<T: serde::Serialize>(&mut self, fields: &[T]) -> Result<(), CheckpointError> {
        let text = serde_json::to_string(fields).map_err(unreadable("list of additional fields"))?;
        self.store_setting("catalog", text)
    }

    fn load_pending(&self) -> Result<Option<(PendingRecord, Option<Settled>)>, CheckpointError> {
        let row: Option<(Vec<u8>, String, i64, Option<String>)> = self
            .connection
            .query_row("SELECT state_hash, source, created_at, outcome FROM authorization", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()
            .attempt("read the pending authorization")?;
        let Some((hash, source, created_at, outcome)) = row else { return Ok(None) };
        let Ok(hash) = <[u8; 32]>::try_from(hash) else { return Ok(None) };
        let record = PendingRecord { state_hash: StateHash(hash), source, created_at: Timestamp(created_at) };
        Ok(Some((record, outcome.map(|text| read_outcome(&text)))))
    }

    fn open_pending(&mut self, record: &PendingRecord, allow_new_account: bool) -> Result<(), CheckpointError> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO authorization (id, source, state_hash, created_at, new_account, outcome) \
                 VALUES (1, ?1, ?2, ?3, ?4, NULL)",
                params![record.source, record.state_hash.0, record.created_at.0, allow_new_account],
            )
            .attempt("store the pending authorization")
            .map(|_| ())
    }

    fn settle_pending(&mut self, outcome: &Settled) -> Result<(), CheckpointError> {
        self.connection
            .execute("UPDATE authorization SET outcome = ?1", [write_outcome(outcome)])
            .attempt("store the end of the authorization")
            .map(|_| ())
    }
}

/// One line: nothing for done, else the message and, after a line break, the hint.
fn write_outcome(outcome: &Settled) -> String {
    match outcome {
        Settled::Done => String::new(),
        Settled::Failed { message, hint } => format!("{}\n{hint}", message.replace('\n', " ")),
    }
}

fn read_outcome(text: &str) -> Settled {
    match text.split_once('\n') {
        Some((message, hint)) => Settled::Failed { message: message.to_owned(), hint: hint.to_owned() },
        None => Settled::Done,
    }
}

impl GrantVault for CheckpointVault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        Box::pin(async {
            self.store.call(|checkpoint| checkpoint.load_grant()).await.map_err(|error| VaultError::Load(error.into()))
        })
    }

    fn store<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Result<(), VaultError>> {
        let (grant, random) = (grant.clone(), self.random.clone());
        Box::pin(async move {
            self.store
                .call(move |checkpoint| checkpoint.store_grant(&grant, &random))
                .await
                .map_err(|error| VaultError::Store(error.into()))
        })
    }
}

impl AuthorizationDesk for CheckpointVault {
    fn pending(&self) -> BoxFuture<'_, Result<Option<PendingRecord>, DeskError>> {
        Box::pin(async {
            let row = self.store.call(|checkpoint| checkpoint.load_pending()).await;
            row.map(|row| row.map(|(record, _)| record)).map_err(|error| DeskError::Read(error.into()))
        })
    }

    fn open(&self, record: PendingRecord) -> BoxFuture<'_, Result<(), DeskError>> {
        let allow_new_account = self.allow_new_account;
        Box::pin(async move {
            self.store
                .call(move |checkpoint| checkpoint.open_pending(&record, allow_new_account))
                .await
                .map_err(|error| DeskError::Write(error.into()))
        })
    }

    fn settle(&self, outcome: Settled) -> BoxFuture<'_, Result<(), DeskError>> {
        Box::pin(async move {
            self.store
                .call(move |checkpoint| checkpoint.settle_pending(&outcome))
                .await
                .map_err(|error| DeskError::Write(error.into()))
        })
    }

    fn outcome(&self) -> BoxFuture<'_, Result<Option<Settled>, DeskError>> {
        Box::pin(async {
            let row = self.store.call(|checkpoint| checkpoint.load_pending()).await;
            row.map(|row| row.and_then(|(_, outcome)| outcome)).map_err(|error| DeskError::Read(error.into()))
        })
    }
}
