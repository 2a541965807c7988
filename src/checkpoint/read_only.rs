//! A database on a disk that is mounted read-only, for who only looks: opened without making any file beside it.

use std::io;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use url::Url;

use super::CheckpointError;
use super::error::database_error;

/// Opens it so that nothing is written. Changes that stand only in its write-ahead log are seen where the index of that log
/// was left too, which is so after a crash.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, CheckpointError> {
    let failed = |source| database_error("be opened", source);
    // the log lies beside the file itself, where a link leads to it
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let log = path.with_file_name(format!("{}-wal", path.file_name().unwrap_or_default().display()));
    let has_log = log.metadata().is_ok_and(|log| log.len() > 0);
    if has_log {
        match open_as(path, "mode=ro") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
                tracing::warn!("the write-ahead log of {} cannot be read: what is shown may be old", path.display());
            }
            opened => return opened.map_err(failed),
        }
    }
    open_as(path, "immutable=1").map_err(failed)
}

fn open_as(path: &Path, how: &str) -> rusqlite::Result<Connection> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut address = Url::from_file_path(absolute).map_err(|()| rusqlite::Error::InvalidPath(path.to_owned()))?;
    address.set_query(Some(how));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(address.as_str(), flags)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;")?;
    // opens the file, and the log
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

/// Why `SQLite` could not open a database, or a file beside it, where the system says it of another file there too: its own
/// word is only that it could not.
pub(super) fn true_cause(path: &Path, error: CheckpointError) -> CheckpointError {
    let cannot_open = matches!(&error, CheckpointError::Database { source, .. }
        if source.sqlite_error_code() == Some(ErrorCode::CannotOpen));
    let probe = || -> io::Result<()> { tempfile::tempfile_in(path.parent().unwrap_or(Path::new("."))).map(|_| ()) };
    match cannot_open.then(probe) {
        Some(Err(source)) => CheckpointError::File { action: "make files beside", path: path.to_owned(), source },
        Some(Ok(())) | None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::checkpoint::open::lock_older;
    use crate::checkpoint::{Checkpoint, OpenOptions};
    use crate::clock::Timestamp;
    use crate::random::Random;

    fn files(dir: &Path) -> BTreeSet<std::ffi::OsString> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    /// After a clean end, and as a crash leaves it: with the last changes in the log.
    #[test]
    fn a_look_makes_no_file_and_sees_the_last_changes() {
        let dir = tempfile::Builder::new().prefix("a b%20?").tempdir().unwrap();
        let options = OpenOptions {
            dir: dir.path().to_owned(),
            key: None,
            sender: None,
            create: true,
            now: Timestamp(0),
            import_age_max: Duration::from_hours(6),
        };
        let path = dir.path().join("reteno-sync.db");
        for is_crash in [false, true] {
            let mut checkpoint = Checkpoint::open(&options, &Random::seeded(1)).unwrap().checkpoint;
            checkpoint.store_setting("probe", i64::from(is_crash)).unwrap();
            if is_crash {
                std::mem::forget(checkpoint);
            } else {
                checkpoint.settle_disk().unwrap();
                drop(checkpoint);
            }
            let before = files(dir.path());
            let seen: i64 = open_read_only(&path)
                .unwrap()
                .query_row("SELECT value FROM setting WHERE name = 'probe'", [], |row| row.get(0))
                .unwrap();
            assert_eq!((seen, files(dir.path())), (i64::from(is_crash), before), "{is_crash}");
        }
    }

    #[test]
    fn an_older_schema_on_such_a_disk_is_told_as_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reteno-sync.db");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
        let connection = open_read_only(&path).unwrap();
        let refused = lock_older(&connection, dir.path()).err().unwrap();
        assert!(matches!(refused, CheckpointError::Older { found: 7, holder: None, .. }), "{refused:?}");
        assert!(refused.hint().unwrap().contains("writable"));
        assert!(!dir.path().join("lock").exists());
    }

    #[test]
    fn a_database_that_cannot_be_opened_names_the_systems_reason() {
        let cannot =
            || database_error("be opened", rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(14), None));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(true_cause(&dir.path().join("db"), cannot()), CheckpointError::Database { .. }));
        let told = true_cause(&dir.path().join("absent").join("db"), cannot());
        assert!(told.hint().unwrap().contains("missing"), "{told:?}");
    }
}
