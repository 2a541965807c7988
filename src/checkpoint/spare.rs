//! A place on the disk that is kept for a pair of tokens, for when the database cannot be written: by the time a new pair is
//! there, the old one is dead. The file is made once and only ever overwritten in place, which takes no room on a full disk.
//!
//! There are two places in it, used in turn: whatever goes wrong while one is written, the other keeps the pair before. Holds
//! only what is sealed; what cannot be opened counts as nothing.

use std::error::Error as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{Checkpoint, CheckpointError};
use crate::disk::{open_own, write_durably};
use crate::oauth::token::Grant;

/// One place. Tokens that are signed statements take some kilobytes; an answer with more than this is not known of.
const PLACE_BYTES: usize = 64 << 10;
const PLACES: u64 = 2;
/// Ends the name of a file that could not be read.
const UNREADABLE: &str = "spare-unreadable";
/// Before the length and what is sealed.
const MARK: &[u8; 8] = b"tokens-1";
const HEADER_BYTES: usize = MARK.len() + 4;

/// What is sealed in a place, opened: a grant, or nothing.
type Unseal<'a> = &'a dyn Fn(&[u8]) -> Option<Grant>;

/// The file of one authorization.
struct Spare(PathBuf);

impl Spare {
    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> CheckpointError {
        move |source| CheckpointError::File { action, path: self.0.clone(), source }
    }

    /// The pairs in it, each with its place.
    fn read(&self, unseal: Unseal<'_>) -> Result<Vec<(u64, Grant)>, CheckpointError> {
        let file = match open_own(&self.0, fs::OpenOptions::new().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("open")(error)),
        };
        let sealed = (0..PLACES).filter_map(|place| match read_place(&file, place) {
            Ok(sealed) => Some(Ok((place, unseal(&sealed?)?))),
            Err(error) => Some(Err(self.failed("read")(error))),
        });
        sealed.collect()
    }

    /// The same where nothing else depends on it: a file that cannot be read holds nothing that is known of.
    fn read_if_sound(&self, unseal: Unseal<'_>) -> Vec<(u64, Grant)> {
        self.read(unseal).unwrap_or_else(|error| {
            let cause = error.source().map(ToString::to_string);
            tracing::warn!(cause, "{error}: the tokens of the database are used");
            Vec::new()
        })
    }

    /// Proves that a pair can be written, by writing as much.
    fn prove(&self, unseal: Unseal<'_>, noise: &[u8]) -> Result<(), CheckpointError> {
        let found = match fs::symlink_metadata(&self.0) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.failed("look at")(error)),
        };
        let is_whole = found.as_ref().is_some_and(|found| found.len() == PLACES * PLACE_BYTES as u64);
        match self.read(unseal) {
            Ok(pairs) if is_whole => return self.write_at(free_place(&pairs), noise),
            Ok(_) => {}
            // what is in it may be the newest pair after all: it is kept
            Err(error) if found.is_some_and(|found| !found.is_dir()) => {
                let aside = self.0.with_extension(UNREADABLE);
                fs::rename(&self.0, &aside).map_err(self.failed("set aside"))?;
                let cause = error.source().map(ToString::to_string);
                tracing::warn!(cause, "{error}: it is kept as {}", aside.display());
            }
            Err(error) => return Err(error),
        }
        write_durably(&self.0, &noise.repeat(2)).map_err(self.failed("write"))
    }

    fn write(&self, sealed: &[u8], unseal: Unseal<'_>) -> Result<(), CheckpointError> {
        let length = u32::try_from(sealed.len()).ok().filter(|_| HEADER_BYTES + sealed.len() <= PLACE_BYTES);
        let too_long = io::Error::new(io::ErrorKind::FileTooLarge, "the tokens are longer than the place for them");
        let length = length.ok_or_else(|| self.failed("write")(too_long))?;
        self.write_at(
            free_place(&self.read_if_sound(unseal)),
            &[MARK.as_slice(), &length.to_be_bytes(), sealed].concat(),
        )
    }

    fn write_at(&self, place: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        let write = || {
            let file = open_own(&self.0, fs::OpenOptions::new().write(true))?;
            file.write_all_at(bytes, place * PLACE_BYTES as u64)?;
            file.sync_data()
        };
        write().map_err(self.failed("write"))
    }
}

/// The place that does not hold the newest pair.
fn free_place(pairs: &[(u64, Grant)]) -> u64 {
    pairs.iter().max_by_key(|(_, grant)| grant.serial).map_or(0, |(place, _)| (place + 1) % PLACES)
}

/// What stands sealed in a place, where anything was put there.
fn read_place(file: &File, place: u64) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER_BYTES];
    let start = place * PLACE_BYTES as u64;
    match file.read_exact_at(&mut header, start) {
        // it was cut: by us it never is
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let Some(length) = header.strip_prefix(MARK).and_then(|length| <[u8; 4]>::try_from(length).ok()) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(length) as usize;
    if HEADER_BYTES + length > PLACE_BYTES {
        return Ok(None);
    }
    let mut sealed = vec![0; length];
    match file.read_exact_at(&mut sealed, start + HEADER_BYTES as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(sealed)),
    }
}

impl Checkpoint {
    /// The newer one of the grant in the database and of what stands in the place that is kept for it.
    pub(super) fn newest_grant(&self, name: &str, stored: Option<Grant>, unseal: Unseal<'_>) -> Option<Grant> {
        let spare = self.spare(name).read_if_sound(unseal);
        spare.into_iter().map(|(_, grant)| grant).chain(stored).max_by_key(|grant| grant.serial)
    }

    /// Proves that the next pair of tokens can be kept, whatever becomes of the disk meanwhile.
    pub(super) fn reserve_grant(&self, name: &str, unseal: Unseal<'_>) -> Result<(), CheckpointError> {
        // noise: a file system that packs its data would keep no room for anything smoother
        let mut noise = self.seal("noise", &vec![0; PLACE_BYTES], &self.random)?;
        noise.truncate(PLACE_BYTES);
        self.spare(name).prove(unseal, &noise)
    }

    /// Stores a sealed pair; where the database does not take it, in the place that is kept for it. What is there is in force
    /// as if the database had it, until that takes a newer one.
    pub(super) fn store_sealed_grant(
        &self,
        (setting, name): (&str, &str),
        sealed: &[u8],
        unseal: Unseal<'_>,
    ) -> Result<(), CheckpointError> {
        let Err(error) = self.store_setting(setting, sealed) else { return Ok(()) };
        match self.spare(name).write(sealed, unseal) {
            Ok(()) => {
                tracing::warn!("{error}: the new tokens are kept beside it");
                Ok(())
            }
            // the cause is the same, or it is the lesser one
            Err(_) => Err(error),
        }
    }

    fn spare(&self, name: &str) -> Spare {
        Spare(self.dir.join(format!("{name}.spare")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use secrecy::{ExposeSecret, SecretString};

    use super::*;
    use crate::checkpoint::{CheckpointVault, GrantOwner, OpenOptions, SourceVault, Store};
    use crate::clock::Timestamp;
    use crate::oauth::{GrantVault, TokenAnswer};
    use crate::random::Random;

    /// Longer than what is free in a page of the database, as tokens that are signed statements are.
    fn grant(number: u64) -> Grant {
        let secret = |text: String| SecretString::from(text);
        let answer = TokenAnswer {
            access_token: secret(format!("access-{number}-{}", "x".repeat(9000))),
            refresh_token: None,
            expires_in: Duration::from_hours(1),
            scope: None,
            base_url: None,
        };
        Grant::first(secret("code".to_owned()), secret(format!("refresh-{number}")), &answer, Timestamp(1), number)
    }

    fn open(dir: &Path) -> Store {
        let options = OpenOptions {
            dir: dir.to_owned(),
            key: None,
            sender: None,
            create: true,
            now: Timestamp(1),
            import_age_max: Duration::from_hours(6),
        };
        Store::share(Checkpoint::open(&options, &Random::seeded(1)).unwrap().checkpoint)
    }

    fn vaults(store: &Store) -> Vec<std::sync::Arc<dyn GrantVault>> {
        let owner = |source: &str| GrantOwner { source: source.to_owned(), client_id: "app".to_owned() };
        let of_source = |source| SourceVault::on(store.clone(), Random::seeded(3), owner(source)).shared();
        vec![CheckpointVault::on(store.clone(), Random::seeded(2)).shared(), of_source("one"), of_source("two")]
    }

    async fn refresh_token(vault: &dyn GrantVault) -> String {
        vault.load().await.unwrap().unwrap().refresh_token.expose_secret().to_owned()
    }

    /// The database takes not one page more.
    async fn fill(store: &Store) {
        let fill = |checkpoint: &mut Checkpoint| {
            let pages = checkpoint.connection.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0));
            checkpoint.connection.pragma_update(None, "max_page_count", pages.unwrap()).unwrap();
            Ok(())
        };
        store.call(fill).await.unwrap();
    }

    #[tokio::test]
    async fn pairs_that_a_full_database_does_not_take_are_in_force_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        fill(&store).await;
        for (index, vault) in vaults(&store).iter().enumerate() {
            let number = 10 * index as u64;
            // as the file stands before the first refresh, nothing is kept for it
            assert!(vault.store(&grant(number)).await.is_err(), "the database is full");
            for next in number..number + 5 {
                vault.reserve().await.unwrap();
                if next > number {
                    assert_eq!(
                        refresh_token(&**vault).await,
                        format!("refresh-{}", next - 1),
                        "a proof spoils nothing"
                    );
                }
                vault.store(&grant(next)).await.unwrap();
                assert_eq!(refresh_token(&**vault).await, format!("refresh-{next}"));
            }
        }
        drop(store);
        let store = open(folder.path());
        for (index, vault) in vaults(&store).iter().enumerate() {
            assert_eq!(refresh_token(&**vault).await, format!("refresh-{}", 10 * index + 4));
            // there is room again
            vault.store(&grant(100)).await.unwrap();
            assert_eq!(refresh_token(&**vault).await, "refresh-100");
        }
        for entry in fs::read_dir(folder.path()).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(8).any(|window| window == b"refresh-"), "all of it is sealed");
        }
    }

    #[tokio::test]
    async fn a_pair_that_is_torn_while_it_is_written_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        fill(&store).await;
        let vault = CheckpointVault::on(store.clone(), Random::seeded(2)).shared();
        for number in [1, 2] {
            vault.reserve().await.unwrap();
            vault.store(&grant(number)).await.unwrap();
        }
        let path = folder.path().join("tokens.spare");
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 2 * PLACE_BYTES);
        bytes[PLACE_BYTES + 100] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(refresh_token(&*vault).await, "refresh-1");
    }

    /// Not of this user's rights.
    #[tokio::test]
    async fn a_full_disk_is_what_the_hint_speaks_of() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        fill(&store).await;
        let vault = CheckpointVault::on(store.clone(), Random::seeded(2));
        let refused = vault.shared().store(&grant(1)).await.unwrap_err();
        assert!(refused.hint().contains("make room"), "{}", refused.hint());
        let record = crate::oauth::PendingRecord {
            state_hash: crate::oauth::StateHash::of("s"),
            source: "x".repeat(9000),
            created_at: Timestamp(0),
            allows_new_account: false,
        };
        let refused = crate::oauth::AuthorizationDesk::open(&vault, record).await.unwrap_err();
        assert!(refused.hint().contains("make room"), "{}", refused.hint());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_leaves_the_pair_of_the_database_in_force() {
        let lay: [fn(&Path); 4] = [
            |path| fs::create_dir(path).unwrap(),
            |path| std::os::unix::fs::symlink("elsewhere", path).unwrap(),
            |path| {
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
            },
            |path| {
                fs::write(path, "of two names").unwrap();
                fs::hard_link(path, path.with_extension("other")).unwrap();
            },
        ];
        for (number, lay) in lay.into_iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let store = open(folder.path());
            let vault = CheckpointVault::on(store.clone(), Random::seeded(2)).shared();
            vault.store(&grant(1)).await.unwrap();
            let path = folder.path().join("tokens.spare");
            lay(&path);
            assert_eq!(refresh_token(&*vault).await, "refresh-1", "{number}");
            let is_directory = path.is_dir();
            assert_eq!(vault.reserve().await.is_err(), is_directory, "{number}");
            if !is_directory {
                assert_eq!(fs::symlink_metadata(&path).unwrap().len(), 2 * PLACE_BYTES as u64, "{number}");
                assert!(fs::symlink_metadata(path.with_extension(UNREADABLE)).is_ok(), "{number}: it is kept");
                fill(&store).await;
                vault.store(&grant(2)).await.unwrap();
                assert_eq!(refresh_token(&*vault).await, "refresh-2", "{number}");
            }
        }
    }

    #[tokio::test]
    async fn where_nothing_can_be_written_no_pair_is_promised() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let vault = CheckpointVault::on(store.clone(), Random::seeded(2)).shared();
        fs::create_dir(folder.path().join("tokens.spare")).unwrap();
        assert!(vault.reserve().await.is_err());
    }
}
