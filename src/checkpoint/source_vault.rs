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

use super::vault::{load_failed, store_failed};
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
        let stored = self.load_form(GRANT, owner)?.map(|(grant, _)| grant);
        Ok(self.newest_grant(&spare(owner), stored, &|sealed| self.open_source_grant(owner, sealed)))
    }

    /// What is sealed as a grant of `owner`; `None` where it is anything else.
    fn open_source_grant(&self, owner: &GrantOwner, sealed: &[u8]) -> Option<Grant> {
        self.open_form(GRANT, owner, sealed).ok().flatten().map(|(grant, _)| grant)
    }

    /// Replaces it.
    pub fn store_source_grant(
        &mut self,
        owner: &GrantOwner,
        grant: &Grant,
        random: &Random,
    ) -> Result<(), CheckpointError> {
        let sealed = self.seal_form(GRANT, owner, (grant, StateHash([0; 32])), random)?;
        let unseal = |sealed: &[u8]| self.open_source_grant(owner, sealed);
        self.store_sealed_grant((&setting(GRANT, owner), &spare(owner)), &sealed, &unseal)
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
        self.open_form(name, owner, &sealed)
    }

    fn open_form(
        &self,
        name: &'static str,
        owner: &GrantOwner,
        sealed: &[u8],
    ) -> Result<Option<(Grant, StateHash)>, CheckpointError> {
        let text = self.unseal_at(name, &setting(name, owner), sealed)?;
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

/// The file beside the database that is kept for a source's grant.
fn spare(owner: &GrantOwner) -> String {
    format!("tokens-{}", owner.source)
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
        read.map_err(load_failed)
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Checkpoint, &GrantOwner, &Random) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let (owner, random) = (self.owner.clone(), self.random.clone());
        let written = self.store.call(move |checkpoint| write(checkpoint, &owner, &random)).await;
        written.map_err(store_failed)
    }
}

impl GrantVault for SourceVault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        Box::pin(self.read(|checkpoint, owner| checkpoint.load_source_grant(owner)))
    }

    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>> {
        Box::pin(self.write(|checkpoint, owner, _| {
            checkpoint.reserve_grant(&spare(owner), &|sealed| checkpoint.open_source_grant(owner, sealed))
        }))
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

    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>> {
        Box::pin(self.write(|checkpoint, _, _| checkpoint.prove_room()))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::SecretString;

    use super::*;
    use crate::checkpoint::OpenOptions;
    use crate::clock::Timestamp;
    use crate::oauth::TokenAnswer;

    fn grant(access_token: &str, serial: u64) -> Grant {
        let secret = |text: &str| SecretString::from(text.to_owned());
        let answer = TokenAnswer {
            access_token: secret(access_token),
            refresh_token: None,
            expires_in: Duration::from_hours(1),
            scope: None,
            base_url: Some("https://api.example".to_owned()),
        };
        Grant::first(secret("code"), secret("hunter2-refresh"), &answer, Timestamp(1), serial)
    }

    fn owner(source: &str, client_id: &str) -> GrantOwner {
        GrantOwner { source: source.to_owned(), client_id: client_id.to_owned() }
    }

    fn open(dir: &std::path::Path) -> Checkpoint {
        let options = OpenOptions {
            dir: dir.to_owned(),
            key: None,
            sender: None,
            create: true,
            now: Timestamp(1),
            import_age_max: Duration::from_hours(6),
        };
        Checkpoint::open(&options, &Random::seeded(1)).unwrap().checkpoint
    }

    fn access(checkpoint: &Checkpoint, owner: &GrantOwner) -> Option<String> {
        checkpoint.load_source_grant(owner).unwrap().map(|grant| grant.access_token.expose_secret().to_owned())
    }

    #[test]
    fn each_source_has_its_own_grant_beside_retenos_and_none_is_readable_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let random = Random::seeded(2);
        let (one, two) = (owner("one", "app"), owner("two", "app"));
        {
            let mut checkpoint = open(folder.path());
            checkpoint.store_grant(&grant("of-reteno", 1), &random).unwrap();
            checkpoint.store_source_grant(&one, &grant("hunter2-one", 1), &random).unwrap();
            checkpoint.store_source_grant(&two, &grant("hunter2-two", 1), &random).unwrap();
        }
        let checkpoint = open(folder.path());
        assert_eq!(access(&checkpoint, &one).as_deref(), Some("hunter2-one"));
        assert_eq!(access(&checkpoint, &two).as_deref(), Some("hunter2-two"));
        assert_eq!(checkpoint.load_grant().unwrap().unwrap().access_token.expose_secret(), "of-reteno");
        let kept = checkpoint.load_source_grant(&one).unwrap().unwrap();
        assert_eq!(kept.base_url.as_deref(), Some("https://api.example"));
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
        }
    }

    #[test]
    fn a_grant_put_in_the_place_of_another_source_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (mut checkpoint, random) = (open(folder.path()), Random::seeded(2));
        checkpoint.store_source_grant(&owner("one", "app"), &grant("a", 1), &random).unwrap();
        let moved =
            "INSERT INTO setting (name, value) SELECT 'grant of two', value FROM setting WHERE name = 'grant of one'";
        checkpoint.connection.execute(moved, []).unwrap();
        assert!(matches!(checkpoint.load_source_grant(&owner("two", "app")), Err(CheckpointError::Sealed(_))));
    }

    #[test]
    fn the_grant_of_another_app_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let (mut checkpoint, random) = (open(folder.path()), Random::seeded(2));
        checkpoint.store_source_grant(&owner("one", "app"), &grant("a", 1), &random).unwrap();
        assert_eq!(access(&checkpoint, &owner("one", "other app")), None);
        assert_eq!(access(&checkpoint, &owner("one", "app")).as_deref(), Some("a"));
    }

    #[test]
    fn a_kept_grant_takes_the_place_of_the_one_in_force_whatever_was_renewed_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let (mut checkpoint, random) = (open(folder.path()), Random::seeded(2));
        let one = owner("one", "app");
        let candidate =
            Candidate { grant: grant("new", 2), state_hash: StateHash::of("state"), allows_new_account: false };
        checkpoint.store_source_candidate(&one, &candidate, &random).unwrap();
        checkpoint.store_source_grant(&one, &grant("renewed", 5), &random).unwrap();
        let kept = checkpoint.load_source_candidate(&one).unwrap().unwrap();
        assert_eq!((kept.state_hash, access(&checkpoint, &one).as_deref()), (StateHash::of("state"), Some("renewed")));
        let promoted = checkpoint.promote_source_candidate(&one, &kept.grant, &random).unwrap();
        assert_eq!((promoted.serial, access(&checkpoint, &one).as_deref()), (6, Some("new")));
        assert!(checkpoint.load_source_candidate(&one).unwrap().is_none());
    }
}
