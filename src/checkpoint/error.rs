//! What goes wrong with a checkpoint, and what repairs it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::disk;

use super::owner::name_of;

/// What goes wrong with a checkpoint, by what the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Another process holds the exclusive lock.
    #[error("cannot send: {holder} already uses {}", dir.display())]
    Busy {
        /// Which process, in its own words.
        holder: String,
        /// The state directory.
        dir: PathBuf,
    },
    /// The directory or a file in it cannot be made, read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// "create", "read", "write", "lock".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Root would leave files that the owner of the directory cannot use.
    #[error("cannot use {} as root: it belongs to user {user}", dir.display())]
    NotOwner {
        /// The state directory.
        dir: PathBuf,
        /// Its owner, as a command line names them.
        user: String,
    },
    /// There is no checkpoint yet.
    #[error("there is no checkpoint in {}", .0.display())]
    Missing(PathBuf),
    /// A newer program wrote it.
    #[error("the checkpoint has schema {found}, this program knows {known}")]
    Newer {
        /// The database's schema version.
        found: usize,
        /// The newest one this program knows.
        known: usize,
    },
    /// An older program wrote it, and it cannot be brought to the present schema now.
    #[error("the checkpoint has the older schema {found}, this program needs {known}{}", in_use(holder.as_deref()))]
    Older {
        /// The database's schema version.
        found: usize,
        /// The one this program needs.
        known: usize,
        /// The sender that runs; none where the disk is read-only.
        holder: Option<String>,
    },
    /// The file is not a database, or is damaged.
    #[error("the checkpoint {} is damaged", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// `SQLite`'s reason.
        #[source]
        source: rusqlite::Error,
    },
    /// The key that the prints were made with is not there.
    #[error("the key of the checkpoint is missing: {}", .0.display())]
    KeyMissing(PathBuf),
    /// The key is another one than the prints were made with.
    #[error("the key in {} is not the one this checkpoint was made with", .0.display())]
    KeyChanged(PathBuf),
    /// A sealed value does not open: it was written under another key or altered.
    #[error("cannot open the sealed {0} in the checkpoint")]
    Sealed(&'static str),
    /// A stored value that no version of this program wrote.
    #[error("the checkpoint holds an unreadable {what}")]
    Unreadable {
        /// Which value.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk of the state directory is full.
    #[error("the disk of the checkpoint is full: it cannot {action}")]
    NoRoom {
        /// What was attempted.
        action: &'static str,
        /// `SQLite`'s reason.
        #[source]
        source: rusqlite::Error,
    },
    /// The database refused.
    #[error("the checkpoint cannot {action}")]
    Database {
        /// What was attempted.
        action: &'static str,
        /// `SQLite`'s reason.
        #[source]
        source: rusqlite::Error,
    },
    /// The migrations do not apply.
    #[error("cannot bring the checkpoint to the present schema")]
    Migration(#[source] rusqlite_migration::Error),
}

impl CheckpointError {
    /// What repairs it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Busy { .. } => "stop it first, or let it do the work: one process sends".to_owned(),
            Self::File { path, source, .. } => file_hint(path, source),
            Self::NotOwner { user, .. } => format!("run the command as that user: {}", as_user(user)),
            Self::Missing(_) => {
                "authorize first (`--authorize`) and start the daemon or `sync`, or check state_dir".to_owned()
            }
            Self::Newer { .. } => "install the newer program again, or restore a backup made by this one".to_owned(),
            Self::Older { holder: Some(_), .. } => {
                "the process that runs is of an older version: restart it, or wait where it has only just started"
                    .to_owned()
            }
            Self::Older { holder: None, .. } => "mount the disk of the state directory writable".to_owned(),
            Self::Damaged { path, .. } => {
                format!("restore {} from a backup; nothing was deleted or changed", path.display())
            }
            Self::KeyMissing(path) | Self::KeyChanged(path) => {
                format!(
                    "put the original key back to {} (or its systemd credential): nothing is sent again then",
                    path.display()
                )
            }
            Self::Sealed(name) if is_of_tokens(name) => "run `reteno-sync --authorize`".to_owned(),
            Self::Sealed(_) | Self::Unreadable { .. } | Self::Migration(_) => {
                "restore a backup of the state directory".to_owned()
            }
            Self::NoRoom { .. } => "make room on the disk of the state directory".to_owned(),
            Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseBusy) => {
                    "another process (a backup, a command) holds the checkpoint's lock; try again".to_owned()
                }
                Some(rusqlite::ErrorCode::PermissionDenied | rusqlite::ErrorCode::CannotOpen) => {
                    "give this user the rights to the state directory and the files in it".to_owned()
                }
                Some(rusqlite::ErrorCode::ReadOnly) => {
                    "let this user write to the state directory, and see that its disk is not mounted read-only"
                        .to_owned()
                }
                Some(rusqlite::ErrorCode::SystemIoFailure) => {
                    "look at the disk of the state directory: the system's log says what is wrong with it".to_owned()
                }
                Some(_) | None => return None,
            },
        })
    }

    /// Whether another attempt may succeed: time mends it, or room on the disk does.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::NoRoom { .. } => true,
            Self::Database { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy),
            Self::File { source, .. } => is_full(source),
            Self::NotOwner { .. }
            | Self::Missing(_)
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Damaged { .. }
            | Self::KeyMissing(_)
            | Self::KeyChanged(_)
            | Self::Sealed(_)
            | Self::Unreadable { .. }
            | Self::Migration(_) => false,
        }
    }
}

/// Whether a new authorization replaces what is sealed under this name.
fn is_of_tokens(name: &str) -> bool {
    [super::vault::GRANT, super::vault::CANDIDATE].contains(&name)
}

fn in_use(holder: Option<&str>) -> String {
    holder.map_or_else(|| ", and its disk is read-only".to_owned(), |holder| format!(", and {holder} uses it"))
}

/// What repairs a file that cannot be made, read or written.
fn file_hint(path: &Path, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => match owner_of(path) {
            Some(user) => {
                format!(
                    "run the command as user {user}: {}; or give this user the rights to {}",
                    as_user(&user),
                    path.display()
                )
            }
            None => format!("give this user the rights to {}", path.display()),
        },
        _ => disk::hint(path, source),
    }
}

/// How a command is run as another user; in a shell a bare `#` would begin a comment.
fn as_user(user: &str) -> String {
    if user.starts_with('#') {
        format!("sudo -u '{user}' reteno-sync …")
    } else {
        format!("sudo -u {user} reteno-sync …")
    }
}

/// Another user than this one, whose file it is, or else whose directory it would be in.
fn owner_of(path: &Path) -> Option<String> {
    let owner = path.ancestors().find_map(|place| std::fs::metadata(place).ok())?.uid();
    let is_other = owner != 0 && owner != rustix::process::geteuid().as_raw();
    is_other.then(|| name_of(owner))
}

fn is_full(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What `SQLite` says of a full disk: also where it cannot make room for the file by which processes share the database,
/// which it only gives a number for.
pub(super) fn database_error(action: &'static str, source: rusqlite::Error) -> CheckpointError {
    let is_full = source.sqlite_error().is_some_and(|error| {
        error.code == rusqlite::ErrorCode::DiskFull || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    });
    if is_full { CheckpointError::NoRoom { action, source } } else { CheckpointError::Database { action, source } }
}

/// Names the attempted action of a database call.
pub(super) trait Attempt<T> {
    fn attempt(self, action: &'static str) -> Result<T, CheckpointError>;
}

impl<T> Attempt<T> for rusqlite::Result<T> {
    fn attempt(self, action: &'static str) -> Result<T, CheckpointError> {
        self.map_err(|source| database_error(action, source))
    }
}

/// A stored blob that does not decode.
pub(super) fn unreadable<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl Fn(E) -> CheckpointError {
    move |source| CheckpointError::Unreadable { what, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(code: i32) -> CheckpointError {
        database_error("be opened", rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
    }

    fn file(kind: io::ErrorKind) -> CheckpointError {
        CheckpointError::File { action: "write", path: "/state/generation".into(), source: kind.into() }
    }

    #[test]
    fn what_time_or_room_mends_is_told_from_what_a_person_must_mend() {
        use rusqlite::ffi;
        let cases = [
            (sqlite(ffi::SQLITE_BUSY), true, "lock"),
            (sqlite(ffi::SQLITE_FULL), true, "make room"),
            (sqlite(ffi::SQLITE_IOERR_SHMSIZE), true, "make room"),
            (file(io::ErrorKind::StorageFull), true, "make room"),
            (file(io::ErrorKind::QuotaExceeded), true, "quota"),
            (sqlite(ffi::SQLITE_IOERR_FSYNC), false, "system's log"),
            (sqlite(ffi::SQLITE_READONLY), false, "read-only"),
            (sqlite(ffi::SQLITE_CANTOPEN), false, "the rights"),
            (file(io::ErrorKind::PermissionDenied), false, "the rights to /state/generation"),
            (file(io::ErrorKind::ReadOnlyFilesystem), false, "read-only"),
            (file(io::ErrorKind::Other), false, "the system's log"),
        ];
        for (error, is_temporary, hint) in cases {
            assert_eq!(error.is_temporary(), is_temporary, "{error:?}");
            assert!(error.hint().is_some_and(|told| told.contains(hint)), "{error:?}: {:?}", error.hint());
            let speaks_of_rights = error.hint().is_some_and(|told| told.contains("the rights"));
            assert_eq!(speaks_of_rights, hint.starts_with("the rights"), "{error:?}");
        }
        for (name, is_of_tokens) in
            [("grant", true), ("grant under proof", true), ("waiting value", false), ("body of an upload", false)]
        {
            let hint = CheckpointError::Sealed(name).hint().unwrap();
            assert_eq!(hint.contains("--authorize"), is_of_tokens, "{name}: {hint}");
            assert_eq!(hint.contains("restore a backup"), !is_of_tokens, "{name}: {hint}");
        }
        assert_eq!(
            sqlite(ffi::SQLITE_IOERR_SHMSIZE).to_string(),
            "the disk of the checkpoint is full: it cannot be opened"
        );
    }
}
