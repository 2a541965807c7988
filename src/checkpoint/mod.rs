//! The checkpoint: what the CRM wants, what Reteno is known to hold, and what is under way, on disk.
//!
//! One module reaches the database, so that another can stand behind it. Every method is one transaction: rows and
//! cursor together, an intent before its call, an acknowledgement of all members at once. It never decides: the
//! transitions of a row come from `plan`. It never deletes a damaged file.

mod addresses;
mod alerts;
mod anew;
mod consents;
mod deeds;
mod doubtful;
mod due;
mod duplicates;
mod endings;
mod exports;
mod forecast;
mod ghosts;
mod guard;
mod holds;
mod imports;
mod inbox;
mod inbox_rows;
mod incoming;
mod intents;
mod learnt;
mod listing;
mod open;
mod page_addresses;
mod pages;
mod passed;
mod raises;
mod reads;
mod rejections;
mod removal;
mod renewal;
mod repaired;
mod report;
mod requests;
mod retired;
mod retries;
mod rows;
mod seal;
mod sendable;
mod settle;
mod settle_deeds;
mod shared;
mod siblings;
mod source_vault;
mod story;
mod stuck;
mod subjects;
mod survival;
mod tombstones;
mod undone;
mod vault;
mod wanted;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use crate::contact::Fingerprinter;
use crate::random::Random;

pub use alerts::Alert;
pub use consents::ConsentCycle;
pub use deeds::{BegunDeeds, DeedSubject};
pub use due::{Due, MemberValues};
pub use exports::ExportLink;
pub use forecast::{Forecast, Gone};
pub use guard::Weighed;
pub use holds::{Approval, Approved, HeldItem, Hold};
pub use imports::{CallKind, ImportState, OpenImport};
pub use inbox::{Inbox, InboxCount, InboxError, InboxEvent, WaitingEvent};
pub use incoming::{Incoming, PageMode, PageOutcome, Preview, ReadContext, Repairs, Way};
pub use intents::{BegunImport, Letter};
pub use open::{OpenOptions, Opened};
pub use reads::{ReadProof, SeenRows, SourceRow};
pub use rejections::{RejectionKind, RejectionRow};
pub use repaired::Repaired;
pub use report::{DeedCount, DeedState, LaneCount, StatusReport};
pub use retired::{Configured, Retirement};
pub use retries::{RejectionChoice, Retried};
pub use sendable::SendRules;
pub use settle::{Settlement, UnknownFate};
pub use settle_deeds::{DeedEnd, trouble_alert};
pub use source_vault::{GrantOwner, SourceVault};
pub use story::{ConsentStory, ContactStory, DeedStory, FieldStory, HeldStory};
pub use undone::KeptOptOuts;
pub use vault::{AccountIdentity, CheckpointVault};
pub use wanted::{Rereading, WantedRecord};

/// An open checkpoint. Not shared: [`Store`] hands it from thread to thread.
pub struct Checkpoint {
    connection: Connection,
    hash: Fingerprinter,
    sealing_key: [u8; 32],
    random: Random,
    dir: PathBuf,
    /// How many changes this connection had made when the write-ahead log was last emptied.
    settled_changes: Option<u64>,
    /// Held as long as this process may send; the lock dies with the process.
    _sender_lock: Option<std::fs::File>,
}

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
        source: std::io::Error,
    },
    /// Root would leave files that the owner of the directory cannot use.
    #[error("cannot use {} as root: it belongs to user {owner}", dir.display())]
    NotOwner {
        /// The state directory.
        dir: PathBuf,
        /// Its owner's number.
        owner: u32,
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
            Self::File { path, .. } => format!("give this user the rights to {}", path.display()),
            Self::NotOwner { owner, .. } => format!("run the command as that user: sudo -u '#{owner}' reteno-sync …"),
            Self::Missing(_) => {
                "run `reteno-sync --authorize` and then the daemon or `reteno-sync sync`, or check state_dir".to_owned()
            }
            Self::Newer { .. } => "install the newer program again, or restore a backup made by this one".to_owned(),
            Self::Damaged { path, .. } => {
                format!("restore {} from a backup; nothing was deleted or changed", path.display())
            }
            Self::KeyMissing(path) | Self::KeyChanged(path) => {
                format!(
                    "put the original key back to {} (or its systemd credential): nothing is sent again then",
                    path.display()
                )
            }
            Self::Sealed(_) => "run `reteno-sync --authorize`".to_owned(),
            Self::Unreadable { .. } | Self::Migration(_) => "restore a backup of the state directory".to_owned(),
            Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => "make room on the disk of the state directory".to_owned(),
                Some(rusqlite::ErrorCode::DatabaseBusy) => "another command holds the checkpoint; try again".to_owned(),
                Some(_) | None => return None,
            },
        })
    }

    /// Whether another attempt may succeed without anybody's help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Database { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy),
            Self::File { .. }
            | Self::NotOwner { .. }
            | Self::Missing(_)
            | Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::KeyMissing(_)
            | Self::KeyChanged(_)
            | Self::Sealed(_)
            | Self::Unreadable { .. }
            | Self::Migration(_) => false,
        }
    }
}

/// Names the attempted action of a database call.
trait Attempt<T> {
    fn attempt(self, action: &'static str) -> Result<T, CheckpointError>;
}

impl<T> Attempt<T> for rusqlite::Result<T> {
    fn attempt(self, action: &'static str) -> Result<T, CheckpointError> {
        self.map_err(|source| CheckpointError::Database { action, source })
    }
}

/// A stored blob that does not decode.
fn unreadable<E: Into<Box<dyn std::error::Error + Send + Sync>>>(what: &'static str) -> impl Fn(E) -> CheckpointError {
    move |source| CheckpointError::Unreadable { what, source: source.into() }
}

/// The checkpoint as async code sees it: each call runs on a blocking thread, one at a time.
#[derive(Clone)]
pub struct Store(Arc<Mutex<Checkpoint>>);

impl Store {
    /// Takes the checkpoint over.
    #[must_use]
    pub fn share(checkpoint: Checkpoint) -> Self {
        Self(Arc::new(Mutex::new(checkpoint)))
    }

    /// Runs one transaction. Blocking threads keep a paused (simulated) runtime from running ahead of the disk.
    ///
    /// # Panics
    /// Passes on a panic of `work`.
    pub async fn call<T, F>(&self, work: F) -> Result<T, CheckpointError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Checkpoint) -> Result<T, CheckpointError> + Send + 'static,
    {
        let shared = Arc::clone(&self.0);
        let ran = tokio::task::spawn_blocking(move || {
            // a panic inside a transaction rolls it back: the checkpoint behind a poisoned lock is whole
            work(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await;
        match ran {
            Ok(result) => result,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
}

impl Checkpoint {
    /// The keyed hash that the prints of this checkpoint are made with.
    #[must_use]
    pub const fn hash(&self) -> &Fingerprinter {
        &self.hash
    }

    /// Moves the write-ahead log into the database and empties it, so that what was deleted is gone from the disk; gives
    /// back the pages that it took, and the memory that it was worked on in. For times when nothing is under way.
    pub fn settle_disk(&mut self) -> Result<(), CheckpointError> {
        let changes = self.connection.total_changes();
        if self.settled_changes == Some(changes) {
            return Ok(());
        }
        let number = |sql: &str| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let (pages, free) = number("PRAGMA page_count")
            .and_then(|pages| Ok((pages, number("PRAGMA freelist_count")?)))
            .attempt("count its pages")?;
        // a first load leaves most of the file empty; a few free pages are taken again at once
        if free > pages / 4 {
            // a page a step
            self.connection
                .prepare("PRAGMA incremental_vacuum")
                .and_then(|mut vacuum| {
                    let mut steps = vacuum.query([])?;
                    while steps.next()?.is_some() {}
                    Ok(())
                })
                .attempt("give back its free pages")?;
        }
        // somebody else who reads at this moment keeps it from being emptied: it is tried again
        let is_busy = number("PRAGMA wal_checkpoint(TRUNCATE)").attempt("empty its write-ahead log")?;
        self.settled_changes = (is_busy == 0).then_some(changes);
        self.connection.execute_batch("PRAGMA shrink_memory").attempt("give back memory")
    }
}
