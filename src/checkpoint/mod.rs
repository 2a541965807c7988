//! The checkpoint: what the CRM wants, what Reteno is known to hold, and what is under way, on disk.
//!
//! One module reaches the database, so that another can stand behind it. Every method is one transaction: rows and
//! cursor together, an intent before its call, an acknowledgement of all members at once. It never decides: the
//! transitions of a row come from `plan`. It never deletes a damaged file.

mod addresses;
mod alerts;
mod anew;
mod asked_for;
mod consents;
mod damage;
mod deeds;
mod doubtful;
mod due;
mod duplicates;
mod endings;
mod erasures;
mod error;
mod exports;
mod generation;
mod ghosts;
mod guard;
mod holds;
mod imports;
mod inbox;
mod inbox_rows;
mod incoming;
mod intents;
mod known_addresses;
mod learnt;
mod listing;
mod moments;
mod open;
mod outlook;
mod owner;
mod page_addresses;
mod pages;
mod passed;
mod raises;
mod read_only;
mod reads;
mod refusals;
mod rehearsal;
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
mod sender_lock;
mod settle;
mod settle_deeds;
mod shared;
mod sharing_rule;
mod siblings;
mod source_vault;
mod spare;
mod story;
mod stuck;
mod subjects;
mod survival;
mod tombstones;
mod undone;
mod vault;
mod waiting;
mod waits;
mod wanted;
mod weighed_deeds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::contact::Fingerprinter;
use crate::random::Random;

pub use alerts::Alert;
pub use deeds::{BegunDeeds, DeedSubject};
pub use due::{Due, MemberValues};
pub use error::CheckpointError;
use error::{Attempt, unreadable};
pub use exports::ExportLink;
pub use guard::{Verdict, Weighed};
pub use holds::{Approval, Approved, HeldItem, Hold};
pub use imports::{CallKind, ImportState, OpenImport};
pub use inbox::{Inbox, InboxCount, InboxError, InboxEvent, WaitingEvent};
pub use incoming::{Incoming, Origin, PageMode, PageOutcome, ReadContext, Repairs, Way};
pub use intents::{BegunImport, Letter};
pub use open::{OpenOptions, Opened};
pub use outlook::{DueContacts, DueGroup};
pub use reads::{ReadProof, SeenRows, SourceRow};
pub use rehearsal::Rehearsal;
pub use rejections::{RejectionKind, RejectionRow, UnclearConsent};
pub use repaired::Repaired;
pub use report::{DeedCount, DeedState, LaneCount, StatusReport};
pub use retired::{Configured, Retirement};
pub use retries::{RejectionChoice, Retried};
pub use sendable::SendRules;
pub use sender_lock::running_sender;
pub use settle::{Settlement, UnknownFate};
pub use settle_deeds::{DeedEnd, trouble_alert};
pub use source_vault::{GrantOwner, SourceVault};
pub use story::{CallStory, ConsentStory, ContactStory, DeedStory, FieldStory, HeldStory};
pub use undone::{ConsentCycle, KeptOptOuts};
pub use vault::{AccountIdentity, CheckpointVault, load_failed, store_failed};
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
    _sender_lock: Option<sender_lock::SenderLock>,
}

/// The checkpoint as async code sees it: one thread owns it and carries out one call after the other. What a call allocates,
/// and what mapping compiles for itself (patterns of phone numbers), exists once, and not once a thread of a pool.
#[derive(Clone)]
pub struct Store(Arc<Owner>);

type Job = Box<dyn FnOnce(&mut Checkpoint) + Send>;

/// The thread, for as long as anybody may ask it for something.
struct Owner {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Owner {
    /// Waits until the checkpoint is closed: whoever opens it next finds its lock free.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // every panic of a call is handed to its caller, so the thread ends by itself
            drop(thread.join());
        }
    }
}

impl Store {
    /// Takes the checkpoint over.
    #[must_use]
    pub fn share(mut checkpoint: Checkpoint) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::spawn(move || queue.into_iter().for_each(|job| job(&mut checkpoint)));
        Self(Arc::new(Owner { jobs: Some(jobs), thread: Some(thread) }))
    }

    /// Runs one transaction. A thread of the runtime waits for it, which keeps a paused (simulated) runtime from running
    /// ahead of the disk.
    ///
    /// # Panics
    /// Passes on a panic of `work`.
    pub async fn call<T, F>(&self, work: F) -> Result<T, CheckpointError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Checkpoint) -> Result<T, CheckpointError> + Send + 'static,
    {
        let owner = Arc::clone(&self.0);
        let ran = tokio::task::spawn_blocking(move || {
            let (answer, answered) = mpsc::sync_channel(1);
            let job = move |checkpoint: &mut Checkpoint| {
                // a panic inside a transaction rolls it back: the checkpoint is whole behind it
                let result = catch_unwind(AssertUnwindSafe(|| work(checkpoint)));
                // nobody waits any more only where the whole process ends
                drop(answer.send(result));
            };
            let jobs = owner.jobs.as_ref().expect("it is taken only when the last of its users is dropped");
            jobs.send(Box::new(job)).expect("the thread lives as long as its sender");
            answered.recv().expect("the thread answers every job")
        })
        .await;
        match ran {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
}

/// Free pages that are given back in one transaction (16 MB, some 100 ms), and transactions in one call. More would
/// keep a stop and other writers waiting; less would leave a big file for long.
const VACUUM_PAGES: i64 = 4000;
const VACUUM_PIECES_MAX: u32 = 5;

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
        // a first load leaves most of the file empty; a few free pages are taken again at once. In pieces: others write
        // between them, and what is left goes the next time
        let mut left = if free > pages / 4 { free } else { 0 };
        let mut pieces = 0;
        while left > 0 && pieces < VACUUM_PIECES_MAX {
            // a page a step
            self.connection
                .prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))
                .and_then(|mut vacuum| {
                    let mut steps = vacuum.query([])?;
                    while steps.next()?.is_some() {}
                    Ok(())
                })
                .attempt("give back its free pages")?;
            left = left.saturating_sub(VACUUM_PAGES);
            pieces += 1;
        }
        // somebody else who reads at this moment keeps it from being emptied: it is tried again
        let is_busy = number("PRAGMA wal_checkpoint(TRUNCATE)").attempt("empty its write-ahead log")?;
        self.settled_changes = (is_busy == 0 && left == 0).then_some(changes);
        self.connection.execute_batch("PRAGMA shrink_memory").attempt("give back memory")
    }
}
