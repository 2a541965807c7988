//! Tokens and the pending authorization in the checkpoint: the tokens sealed, the pending one only as a hash.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::{OptionalExtension, params};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::contact::Personal;
use crate::oauth::token::Grant;
use crate::oauth::{
    AuthorizationDesk, Candidate, DeskError, Ending, GrantVault, Noted, PendingRecord, Settled, StateHash, VaultError,
};
use crate::random::Random;

use super::{Attempt, Checkpoint, CheckpointError, Store, unreadable};

pub(super) const GRANT: &str = "grant";
pub(super) const CANDIDATE: &str = "grant under proof";
/// The file beside the database that is kept for the grant.
const SPARE: &str = "tokens";

/// The vault and the desk of one authorization, on the checkpoint.
#[derive(Clone)]
pub struct CheckpointVault {
    store: Store,
    random: Random,
}

impl CheckpointVault {
    /// Keeps what Reteno's authorization gives in `store`.
    #[must_use]
    pub fn on(store: Store, random: Random) -> Self {
        Self { store, random }
    }

    /// The same as a vault to share.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn GrantVault> {
        Arc::new(self.clone())
    }
}

/// An account as Reteno tells it, which has no id.
#[derive(Debug, Clone)]
pub struct AccountIdentity {
    /// What tells it from others. Only a keyed hash of it is stored.
    pub mark: Personal,
    /// What kind of mark that is: marks of different kinds are never equal.
    pub kind: &'static str,
    /// For people.
    pub name: String,
}

/// A kept grant as it is sealed.
#[derive(Serialize, Deserialize)]
struct CandidateForm {
    grant: String,
    state_hash: [u8; 32],
    allows_new_account: bool,
}

impl Checkpoint {
    /// The stored grant.
    pub fn load_grant(&self) -> Result<Option<Grant>, CheckpointError> {
        let stored = self.load_setting::<Vec<u8>>(GRANT)?.map(|sealed| self.open_grant(&sealed)).transpose()?;
        Ok(self.newest_grant(SPARE, stored, &|sealed| self.open_grant(sealed).ok()))
    }

    /// Replaces the stored grant.
    pub fn store_grant(&mut self, grant: &Grant, random: &Random) -> Result<(), CheckpointError> {
        let form = grant.to_sealed_form();
        let sealed = self.seal(GRANT, form.expose_secret().as_bytes(), random)?;
        self.store_sealed_grant((GRANT, SPARE), &sealed, &|sealed| self.open_grant(sealed).ok())
    }

    fn open_grant(&self, sealed: &[u8]) -> Result<Grant, CheckpointError> {
        let text = String::from_utf8(self.unseal(GRANT, sealed)?).map_err(|_| CheckpointError::Sealed(GRANT))?;
        Grant::from_sealed_form(&text).map_err(unreadable("grant"))
    }

    /// The name of the account that was authorized first.
    pub fn load_account(&self) -> Result<Option<String>, CheckpointError> {
        self.load_setting("account")
    }

    /// The name of the account that was authorized first, where it is another one than `found`.
    pub fn load_account_unlike(&self, found: &AccountIdentity) -> Result<Option<String>, CheckpointError> {
        let known: Option<i64> = self.load_setting("account mark")?;
        // an earlier version stored what the name alone comes to
        let by_name = self.hash.text("account", &found.name).cast_signed();
        if known.is_none_or(|known| known == self.mark_of(found) || known == by_name) {
            return Ok(None);
        }
        Ok(Some(self.load_account()?.unwrap_or_default()))
    }

    fn mark_of(&self, account: &AccountIdentity) -> i64 {
        self.hash.text(account.kind, account.mark.expose()).cast_signed()
    }

    /// Keeps a fresh grant aside until it is proven: its code is spent, so it must not be lost.
    pub fn store_candidate(&mut self, candidate: &Candidate, random: &Random) -> Result<(), CheckpointError> {
        let form = CandidateForm {
            grant: candidate.grant.to_sealed_form().expose_secret().to_owned(),
            state_hash: candidate.state_hash.0,
            allows_new_account: candidate.allows_new_account,
        };
        let text = serde_json::to_vec(&form).map_err(unreadable(CANDIDATE))?;
        let sealed = self.seal(CANDIDATE, &text, random)?;
        self.store_setting(CANDIDATE, sealed)
    }

    /// The grant that is kept aside.
    pub fn load_candidate(&self) -> Result<Option<Candidate>, CheckpointError> {
        let Some(sealed) = self.load_setting::<Vec<u8>>(CANDIDATE)? else { return Ok(None) };
        // one that another version kept is of no use: a person is asked then
        let Ok(form) = serde_json::from_slice(&self.unseal(CANDIDATE, &sealed)?) else { return Ok(None) };
        let CandidateForm { grant, state_hash, allows_new_account }: CandidateForm = form;
        let grant = Grant::from_sealed_form(&grant).map_err(unreadable(CANDIDATE))?;
        Ok(Some(Candidate { grant, state_hash: StateHash(state_hash), allows_new_account }))
    }

    /// Forgets the grant that is kept aside.
    pub fn drop_candidate(&mut self) -> Result<(), CheckpointError> {
        self.connection
            .execute("DELETE FROM setting WHERE name = ?1", [CANDIDATE])
            .attempt("drop the new tokens")
            .map(|_| ())
    }

    /// Puts a proven grant in force, in the place of the one kept aside, and returns it. Where `is_fresh_start`, all that
    /// Reteno holds is unknown from then on.
    pub fn promote_candidate(
        &mut self,
        grant: &Grant,
        account: &AccountIdentity,
        is_fresh_start: bool,
        (now, import_age_max): (Timestamp, Duration),
        random: &Random,
    ) -> Result<Grant, CheckpointError> {
        if is_fresh_start {
            // first: where the process dies in between, the kept grant says that it is to be done again
            self.forget_acknowledged(now, import_age_max)?;
            self.forget_telling()?;
        }
        // the grant in force may have been renewed since this one was kept
        let least = self.load_grant()?.map_or(0, |stored| stored.serial.saturating_add(1));
        let grant = Grant { serial: grant.serial.max(least), ..grant.clone() };
        let sealed = self.seal(GRANT, grant.to_sealed_form().expose_secret().as_bytes(), random)?;
        let mark = self.mark_of(account);
        let transaction = self.connection.transaction().attempt("store the new tokens")?;
        transaction
            .execute("DELETE FROM setting WHERE name = ?1", [CANDIDATE])
            .and_then(|_| {
                let upsert = "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)";
                transaction.execute(upsert, params!["account", account.name])?;
                transaction.execute(upsert, params!["account mark", mark])?;
                transaction.execute(upsert, params![GRANT, sealed])
            })
            .attempt("store the new tokens")?;
        transaction.commit().attempt("store the new tokens")?;
        Ok(grant)
    }

    /// The operator allows another account for the authorization that is pending and for the grant that is kept.
    pub fn allow_new_account(&mut self, random: &Random) -> Result<(), CheckpointError> {
        self.connection
            .execute("UPDATE authorization SET new_account = 1", [])
            .attempt("store the pending authorization")?;
        match self.load_candidate()? {
            Some(candidate) => self.store_candidate(&Candidate { allows_new_account: true, ..candidate }, random),
            None => Ok(()),
        }
    }

    /// Whether the authorization that is pending now may lead to another account.
    pub fn pends_for_new_account(&self, now: Timestamp) -> Result<bool, CheckpointError> {
        Ok(self.load_pending()?.is_some_and(|(record, settled)| {
            let is_over = match settled {
                Some(Settled::Failed { ending, .. }) => ending != Ending::TryAgain,
                Some(Settled::Done) => true,
                None => false,
            };
            record.allows_new_account && !is_over && !record.is_void(now)
        }))
    }

    /// The additional fields of the account, as they were told last.
    pub fn load_catalog<T: serde::de::DeserializeOwned>(&self) -> Result<Option<Vec<T>>, CheckpointError> {
        let Some(text) = self.load_setting::<String>("catalog")? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(unreadable("list of additional fields"))
    }

    /// Keeps the additional fields of the account.
    pub fn store_catalog<T: Serialize>(&mut self, fields: &[T]) -> Result<(), CheckpointError> {
        let text = serde_json::to_string(fields).map_err(unreadable("list of additional fields"))?;
        self.store_setting("catalog", text)
    }

    /// The keys of the account's subscription categories, as they were last told.
    pub fn load_categories(&self) -> Result<Option<BTreeSet<String>>, CheckpointError> {
        let Some(text) = self.load_setting::<String>("categories")? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(unreadable("list of categories"))
    }

    /// Keeps them for times when Reteno cannot be asked.
    pub fn store_categories(&mut self, keys: &BTreeSet<String>) -> Result<(), CheckpointError> {
        let text = serde_json::to_string(keys).map_err(unreadable("list of categories"))?;
        self.store_setting("categories", text)
    }

    fn load_pending(&self) -> Result<Option<Noted>, CheckpointError> {
        let row: Option<(Vec<u8>, PendingRecord, Option<String>)> = self
            .connection
            .query_row("SELECT state_hash, source, created_at, new_account, outcome FROM authorization", [], |row| {
                let record = PendingRecord {
                    state_hash: StateHash([0; 32]),
                    source: row.get(1)?,
                    created_at: Timestamp(row.get(2)?),
                    allows_new_account: row.get(3)?,
                };
                Ok((row.get(0)?, record, row.get(4)?))
            })
            .optional()
            .attempt("read the pending authorization")?;
        let Some((hash, record, outcome)) = row else { return Ok(None) };
        let Ok(hash) = <[u8; 32]>::try_from(hash) else { return Ok(None) };
        let record = PendingRecord { state_hash: StateHash(hash), ..record };
        Ok(Some((record, outcome.map(|text| read_outcome(&text)))))
    }

    fn open_pending(&mut self, record: &PendingRecord) -> Result<(), CheckpointError> {
        let PendingRecord { state_hash, source, created_at, allows_new_account } = record;
        self.connection
            .execute(
                "INSERT OR REPLACE INTO authorization (id, source, state_hash, created_at, new_account, outcome) \
                 VALUES (1, ?1, ?2, ?3, ?4, NULL)",
                params![source, state_hash.0, created_at.0, allows_new_account],
            )
            .attempt("store the pending authorization")
            .map(|_| ())
    }

    fn settle_pending(&mut self, state_hash: StateHash, outcome: &Settled) -> Result<(), CheckpointError> {
        self.connection
            .execute(
                "UPDATE authorization SET outcome = ?1 WHERE state_hash = ?2",
                params![write_outcome(outcome), state_hash.0],
            )
            .attempt("store the end of the authorization")
            .map(|_| ())
    }
}

/// Nothing for done, else three lines: the ending, the message, the hint.
fn write_outcome(outcome: &Settled) -> String {
    match outcome {
        Settled::Done => String::new(),
        Settled::Failed { message, hint, ending } => {
            let ending = match ending {
                Ending::Failed => "failed",
                Ending::TryAgain => "try again",
                Ending::Configuration => "configuration",
            };
            format!("{ending}\n{}\n{hint}", message.replace('\n', " "))
        }
    }
}

fn read_outcome(text: &str) -> Settled {
    let mut lines = text.splitn(3, '\n').map(str::to_owned);
    let (ending, message, hint) = (lines.next(), lines.next(), lines.next());
    let Some(message) = message else { return Settled::Done };
    let ending = match ending.as_deref() {
        Some("try again") => Ending::TryAgain,
        Some("configuration") => Ending::Configuration,
        Some(_) | None => Ending::Failed,
    };
    Settled::Failed { message, hint: hint.unwrap_or_default(), ending }
}

impl GrantVault for CheckpointVault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        Box::pin(async { self.store.call(|checkpoint| checkpoint.load_grant()).await.map_err(load_failed) })
    }

    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>> {
        Box::pin(async {
            let reserved = self
                .store
                .call(|checkpoint| checkpoint.reserve_grant(SPARE, &|sealed| checkpoint.open_grant(sealed).ok()));
            reserved.await.map_err(store_failed)
        })
    }

    fn store<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Result<(), VaultError>> {
        let (grant, random) = (grant.clone(), self.random.clone());
        Box::pin(async move {
            self.store.call(move |checkpoint| checkpoint.store_grant(&grant, &random)).await.map_err(store_failed)
        })
    }
}

fn desk_unread(error: CheckpointError) -> DeskError {
    let hint = error.hint();
    DeskError::Read { source: error.into(), hint }
}

fn desk_unwritten(error: CheckpointError) -> DeskError {
    let hint = error.hint();
    DeskError::Write { source: error.into(), hint }
}

/// The vault cannot be read, with what mends it.
pub fn load_failed(error: CheckpointError) -> VaultError {
    let hint = error.hint();
    VaultError::Load { source: error.into(), hint }
}

/// The vault cannot be written, with what mends it.
pub fn store_failed(error: CheckpointError) -> VaultError {
    let hint = error.hint();
    VaultError::Store { source: error.into(), hint }
}

impl AuthorizationDesk for CheckpointVault {
    fn pending(&self) -> BoxFuture<'_, Result<Option<Noted>, DeskError>> {
        Box::pin(async { self.store.call(|checkpoint| checkpoint.load_pending()).await.map_err(desk_unread) })
    }

    fn open(&self, record: PendingRecord) -> BoxFuture<'_, Result<(), DeskError>> {
        Box::pin(async move {
            self.store.call(move |checkpoint| checkpoint.open_pending(&record)).await.map_err(desk_unwritten)
        })
    }

    fn settle(&self, state_hash: StateHash, outcome: Settled) -> BoxFuture<'_, Result<(), DeskError>> {
        Box::pin(async move {
            self.store
                .call(move |checkpoint| checkpoint.settle_pending(state_hash, &outcome))
                .await
                .map_err(desk_unwritten)
        })
    }
}
