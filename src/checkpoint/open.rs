//! Opening a checkpoint: the directory, the lock, the key, the schema, and whether an older copy was put in its place.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use include_dir::{Dir, include_dir};
use rusqlite::{Connection, OptionalExtension};
use rusqlite_migration::Migrations;

use crate::clock::Timestamp;
use crate::contact::{Fingerprinter, derive};
use crate::disk::{open_kept, write_durably};
use crate::random::Random;

use super::error::database_error;
use super::owner::check_owner;
use super::read_only::{open_read_only, true_cause};
use super::rehearsal::remove_leftovers;
use super::sender_lock::SenderLock;
use super::{Attempt, Checkpoint, CheckpointError};

/// Files of the state directory.
pub(super) const DATABASE: &str = "reteno-sync.db";
pub(super) const KEY: &str = "key";
pub(super) const LOCK: &str = "lock";

static MIGRATIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/migrations");

/// How long a statement waits for another process's transaction. Longer than any of ours takes; much longer would keep
/// a stop waiting. The daemon waits on after it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How a checkpoint is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The state directory.
    pub dir: PathBuf,
    /// The key from a systemd credential; otherwise the file `key` in the directory, made at the first start.
    pub key: Option<[u8; 32]>,
    /// Takes the exclusive lock of the one process that sends, named so to whoever comes second.
    pub sender: Option<String>,
    /// Makes a checkpoint where there is none.
    pub create: bool,
    /// The present moment.
    pub now: Timestamp,
    /// How long a copy that nobody watches may still be applied, for imports found in a restored older checkpoint.
    pub import_age_max: Duration,
}

/// A checkpoint and what was found on opening it.
pub struct Opened {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// An older database was put in the place of this one: for a sender everything is unknown again.
    pub was_restored: bool,
}

impl Checkpoint {
    /// Opens the checkpoint of a state directory.
    pub fn open(options: &OpenOptions, random: &Random) -> Result<Opened, CheckpointError> {
        let path = options.dir.join(DATABASE);
        let is_there = path.try_exists().map_err(|source| CheckpointError::File {
            action: "look at",
            path: path.clone(),
            source,
        })?;
        if !options.create && !is_there {
            return Err(CheckpointError::Missing(options.dir.clone()));
        }
        check_owner(&options.dir)?;
        make_dir(&options.dir)?;
        let sender_lock = match &options.sender {
            Some(name) => {
                let lock = SenderLock::take(&options.dir, name)?;
                remove_leftovers(&options.dir);
                Some(lock)
            }
            None => None,
        };
        let mut connection = connect(&path, BUSY_TIMEOUT)?;
        let upgrade_lock = if sender_lock.is_none() { lock_older(&connection, &options.dir)? } else { None };
        migrate(&mut connection, &MIGRATIONS)?;
        let key = load_key(&mut connection, options, random)?;
        let hash = Fingerprinter::from_key(&key);
        let sealing_key = derive(&key, "reteno-sync seal v1");
        let is_sender = sender_lock.is_some();
        let mut checkpoint = Self {
            connection,
            hash,
            sealing_key,
            random: random.clone(),
            dir: options.dir.clone(),
            settled_changes: None,
            _sender_lock: sender_lock,
        };
        if is_sender || upgrade_lock.is_some() {
            checkpoint.seal_waiting()?;
        }
        drop(upgrade_lock);
        let was_restored = checkpoint.is_older_copy()?;
        if is_sender {
            checkpoint.take_over(was_restored, options)?;
        }
        Ok(Opened { checkpoint, was_restored })
    }

    /// Whether an older database was put in the place of the last one used here: it counts less than the file beside it,
    /// or that file is gone, as it is where only the database and its key were put back.
    fn is_older_copy(&self) -> Result<bool, CheckpointError> {
        let (beside, inside) = self.load_generations()?;
        Ok(beside.map_or(inside > 0, |beside| beside > inside))
    }

    /// Counts this start. Of an older copy all that Reteno holds is unknown.
    fn take_over(&mut self, was_restored: bool, options: &OpenOptions) -> Result<(), CheckpointError> {
        self.heed_clock(options.now, None)?;
        if was_restored {
            // told before it is done: a crash between the two must not leave it untold
            let text = "the checkpoint is an older copy than the last one used here: what Reteno holds is taken as \
                        unknown, and everything is read and sent again";
            let hint = "nothing, where you restored a backup; otherwise find out who replaced the file";
            self.raise_alert("restored", text, hint, options.now)?;
            self.forget_acknowledged(options.now, options.import_age_max)?;
        }
        self.read_graves(was_restored, options.now)?;
        self.count_generation()
    }

    pub(super) fn load_setting<T: rusqlite::types::FromSql>(&self, name: &str) -> Result<Option<T>, CheckpointError> {
        self.connection
            .query_row("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))
            .optional()
            .attempt("read a setting")
    }

    pub(super) fn store_setting(&self, name: &str, value: impl rusqlite::ToSql) -> Result<(), CheckpointError> {
        put_setting(&self.connection, name, value)
    }
}

pub(super) fn put_setting(
    connection: &Connection,
    name: &str,
    value: impl rusqlite::ToSql,
) -> Result<(), CheckpointError> {
    connection
        .execute(
            "INSERT INTO setting (name, value) VALUES (?1, ?2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            rusqlite::params![name, value],
        )
        .attempt("store a setting")
        .map(|_| ())
}

fn make_dir(dir: &Path) -> Result<(), CheckpointError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| CheckpointError::File {
        action: "create",
        path: dir.to_owned(),
        source,
    })
}

/// Opens a database of the state directory, made where there is none, and brings it to the present schema.
pub(super) fn open_database(
    path: &Path,
    migrations: &'static Dir<'static>,
    busy_timeout: Duration,
) -> Result<Connection, CheckpointError> {
    let mut connection = connect(path, busy_timeout)?;
    migrate(&mut connection, migrations)?;
    Ok(connection)
}

/// Opens a database of the state directory, made where there is none, in the schema that it has.
pub(super) fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection, CheckpointError> {
    // made by us first, so that it never exists with other rights
    match open_kept(path) {
        Ok(_) => open_writable(path, busy_timeout).map_err(|error| true_cause(path, error)),
        Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => open_read_only(path),
        Err(source) => Err(CheckpointError::File { action: "open", path: path.to_owned(), source }),
    }
}

fn open_writable(path: &Path, busy_timeout: Duration) -> Result<Connection, CheckpointError> {
    let damaged = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            CheckpointError::Damaged { path: path.to_owned(), source }
        }
        Some(_) | None => database_error("be opened", source),
    };
    let connection = Connection::open(path).map_err(damaged)?;
    connection.busy_timeout(busy_timeout).map_err(damaged)?;
    connection.set_prepared_statement_cache_capacity(64);
    // can only be chosen while there is nothing in it, and a file that is refused must not be touched
    let pages = connection.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).map_err(damaged)?;
    if pages == 0 {
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(damaged)?;
    }
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; \
             PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY;",
        )
        .map_err(damaged)?;
    Ok(connection)
}

/// The lock of the sender for as long as somebody who does not send brings an older schema to the present one: a daemon of
/// the older version must not run meanwhile, it would go on writing as that one does.
pub(super) fn lock_older(connection: &Connection, dir: &Path) -> Result<Option<SenderLock>, CheckpointError> {
    let (found, known) = schema_versions(connection, &MIGRATIONS)?;
    if found == 0 || found == known {
        return Ok(None);
    }
    if connection.is_readonly("main").attempt("tell whether it can be written")? {
        return Err(CheckpointError::Older { found, known, holder: None });
    }
    let name = format!("an upgrade of the checkpoint (process {})", std::process::id());
    match SenderLock::take(dir, &name) {
        Err(CheckpointError::Busy { holder, dir: _ }) => {
            Err(CheckpointError::Older { found, known, holder: Some(holder) })
        }
        taken => taken.map(Some),
    }
}

/// The schema of a database, and the newest one that this program knows.
pub(super) fn schema_versions(
    connection: &Connection,
    folder: &'static Dir<'static>,
) -> Result<(usize, usize), CheckpointError> {
    let known = folder.dirs().count();
    let found: u32 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).attempt("tell its schema version")?;
    let found = found as usize;
    if found > known { Err(CheckpointError::Newer { found, known }) } else { Ok((found, known)) }
}

fn migrate(connection: &mut Connection, folder: &'static Dir<'static>) -> Result<(), CheckpointError> {
    let migrations = Migrations::from_directory(folder).map_err(CheckpointError::Migration)?;
    schema_versions(connection, folder)?;
    migrations.to_latest(connection).map_err(migration_error)
}

/// A lock or a full disk is no fault of the schema.
fn migration_error(error: rusqlite_migration::Error) -> CheckpointError {
    match error {
        rusqlite_migration::Error::RusqliteError { query, err } => {
            match database_error("be brought to the present schema", err) {
                CheckpointError::Database { action: _, source } if !is_busy(&source) => {
                    CheckpointError::Migration(rusqlite_migration::Error::RusqliteError { query, err: source })
                }
                passing => passing,
            }
        }
        other => CheckpointError::Migration(other),
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}

/// Takes no write lock where the key is known already: whoever only looks waits for no writer.
fn load_key(connection: &mut Connection, options: &OpenOptions, random: &Random) -> Result<[u8; 32], CheckpointError> {
    let path = options.dir.join(KEY);
    let at_hand = |path: &Path| match options.key {
        Some(key) => Ok(Some(key)),
        None => read_key(path),
    };
    if let Some(check) = load_key_check(connection)? {
        let key = at_hand(&path)?.ok_or_else(|| CheckpointError::KeyMissing(path.clone()))?;
        let is_same = check == Fingerprinter::from_key(&key).key_check().cast_signed();
        return if is_same { Ok(key) } else { Err(CheckpointError::KeyChanged(path)) };
    }
    // two first starts at once must not make two keys
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt("be written")?;
    let key = match at_hand(&path)? {
        Some(key) => key,
        None if load_key_check(&transaction)?.is_some() => return Err(CheckpointError::KeyMissing(path)),
        None => {
            let key = random.bytes::<32>();
            let failed = |source| CheckpointError::File { action: "write", path: path.clone(), source };
            write_durably(&path, &key).map_err(failed)?;
            key
        }
    };
    let of_key = Fingerprinter::from_key(&key).key_check().cast_signed();
    match load_key_check(&transaction)? {
        Some(check) if check != of_key => return Err(CheckpointError::KeyChanged(path)),
        Some(_) => {}
        None => put_setting(&transaction, KEY_CHECK, of_key)?,
    }
    transaction.commit().attempt("store its key check")?;
    Ok(key)
}

const KEY_CHECK: &str = "key_check";

fn load_key_check(connection: &Connection) -> Result<Option<i64>, CheckpointError> {
    connection
        .query_row("SELECT value FROM setting WHERE name = ?1", [KEY_CHECK], |row| row.get(0))
        .optional()
        .attempt("read its key check")
}

fn read_key(path: &Path) -> Result<Option<[u8; 32]>, CheckpointError> {
    let error = |source| CheckpointError::File { action: "read", path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => {
            let length = std::io::Error::new(std::io::ErrorKind::InvalidData, "a key has 32 bytes");
            Ok(Some(bytes.try_into().map_err(|_| error(length))?))
        }
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(error(source)),
    }
}
