//! What webhooks announced, durable before it is answered, until somebody has acted on it.
//!
//! A database of its own, with its own connection: a page of 3000 rows or a vacuum holds the checkpoint for a second and
//! more, and a CRM that is not answered within one (Odoo) or two (amoCRM) takes its delivery for lost. Nothing in here is
//! needed to understand the checkpoint, nor the other way round: rows are acted on there first, and cleared here then, so
//! a crash in between repeats them harmlessly.
//!
//! Hints of one record are one row, whatever their number. Whole records stand sealed, each as a row, in the order in which
//! they came. Never answers before the commit; never keeps what was acted on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use include_dir::{Dir, include_dir};
use rusqlite::{Connection, params};
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, Timestamp};

use super::damage::{is_damage, set_aside_database};
use super::inbox_rows::{Disk, count};
use super::open::{connect, open_database, schema_versions};
use super::seal::Sealer;
use super::{Attempt, Checkpoint, CheckpointError};

static MIGRATIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/migrations_inbox");

/// Its file in the state directory.
const FILE: &str = "inbox.db";
/// Deliveries that may wait for the disk. At 200 a second that is five seconds' worth: whoever comes then would not be
/// answered in time anyway, and is told to come again.
const WAITING_MAX: usize = 1000;
/// What waits takes no more room than this: a CRM that announces without end, or somebody who may announce, must not fill
/// the disk of the checkpoint. Some four million hints.
const BYTES_MAX: u64 = 512 << 20;
/// How long another process's transaction is waited for: shorter than the patience of any sender.
const BUSY_TIMEOUT: Duration = Duration::from_millis(400);
/// Ids of deliveries are remembered for as long as a sender may repeat one.
const DELIVERIES_KEPT: Duration = Duration::from_hours(72);

/// What failed so often with others is tried alone, so that one record cannot hold up the others.
pub(super) const ATTEMPTS_TOGETHER: u32 = 3;

/// One thing that a delivery says.
#[derive(Clone, PartialEq, Eq)]
pub enum InboxEvent {
    /// A record changed, or is said to be deleted: it is to be fetched.
    Hint {
        /// The CRM's id.
        key: String,
        /// It is said to be deleted.
        is_deleted: bool,
    },
    /// The record as it is, as JSON text.
    Whole {
        /// The CRM's id.
        key: String,
        /// The record.
        record: Vec<u8>,
    },
    /// The CRM's only word that a record is deleted.
    WholeDeleted {
        /// The CRM's id.
        key: String,
        /// What the CRM still tells of the record, as JSON text.
        record: Option<Vec<u8>>,
    },
    /// A record that another key than this checkpoint's sealed, and nobody can read any more. Only ever taken out.
    Unreadable {
        /// The CRM's id.
        key: String,
    },
}

impl std::fmt::Debug for InboxEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hint { key, is_deleted } => write!(f, "Hint({key}, deleted: {is_deleted})"),
            Self::Whole { key, record } => write!(f, "Whole({key}, {} bytes)", record.len()),
            Self::WholeDeleted { key, record: _ } => write!(f, "WholeDeleted({key})"),
            Self::Unreadable { key } => write!(f, "Unreadable({key})"),
        }
    }
}

/// A row that waits to be acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingEvent {
    /// Its row.
    pub id: i64,
    /// The events that it stood for when it was looked at.
    pub seq: i64,
    /// What it says.
    pub event: InboxEvent,
    /// When the first of its events came.
    pub received_at: Timestamp,
    /// How often it was acted on in vain.
    pub attempts: u32,
}

/// What waits of one source.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InboxCount {
    /// The source's name.
    pub source: String,
    /// Rows.
    pub rows: u64,
    /// When the oldest of them came.
    pub oldest: Timestamp,
}

/// Why an event is not in the inbox.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InboxError {
    /// Too many wait for the disk, or somebody else holds the database: the sender should come again.
    #[error("the inbox is busy")]
    Busy,
    /// What was announced is not acted on, or faster announced than acted on.
    #[error("the inbox is full: {BYTES_MAX} bytes wait in it")]
    Full,
    /// The database refused.
    #[error("the inbox cannot be used")]
    Broken(#[source] Arc<CheckpointError>),
}

impl From<CheckpointError> for InboxError {
    fn from(error: CheckpointError) -> Self {
        if error.is_temporary() { Self::Busy } else { Self::Broken(Arc::new(error)) }
    }
}

/// The inbox, shared by those who fill and those who empty it.
#[derive(Clone)]
pub struct Inbox(Arc<Parts>);

struct Parts {
    bytes_max: u64,
    disk: Mutex<Disk>,
    queue: Mutex<Queue>,
    clock: Clock,
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct Queue {
    letters: Vec<Letter>,
    /// Somebody takes letters out, and goes on until there are none.
    is_writing: bool,
}

/// A delivery that waits for its commit.
pub(super) struct Letter {
    pub(super) source: String,
    /// The delivery's own id.
    pub(super) id: Option<String>,
    pub(super) events: Vec<InboxEvent>,
    pub(super) at: Timestamp,
    answer: oneshot::Sender<Result<(), InboxError>>,
}

impl Checkpoint {
    /// Opens the inbox beside this checkpoint, made where there is none; what it seals opens with the same key. A damaged one
    /// is set aside: what was announced in it is found by reading every source once, where it can be read.
    pub fn open_inbox(&mut self, clock: &Clock) -> Result<Inbox, CheckpointError> {
        let path = self.dir.join(FILE);
        let connection = match open_sound(&path) {
            Err(error) if is_damage(&error) => {
                // first: were it set aside and this not stored, nobody would read
                self.ask_for_full_reads()?;
                set_aside_database(&path, clock.now())?;
                open_sound(&path)?
            }
            opened => opened?,
        };
        let loss = "changes and deletions that webhooks told and that were not acted on; every source that can be read is read \
                    once, what a source only pushes is lost";
        self.tell_set_aside(("inbox-set-aside", FILE), loss, clock.now())?;
        let disk = Disk { connection, sealer: Sealer::of(&self.sealing_key), random: self.random.clone() };
        Ok(Inbox(Arc::new(Parts {
            bytes_max: BYTES_MAX,
            disk: Mutex::new(disk),
            queue: Mutex::default(),
            clock: clock.clone(),
            news: watch::Sender::new(0),
        })))
    }

    /// What waits in the inbox beside this checkpoint, by source; nothing where there is none. For who only looks.
    pub fn count_inbox(&self) -> Result<Vec<InboxCount>, CheckpointError> {
        let path = self.dir.join(FILE);
        if !path.exists() {
            return Ok(Vec::new());
        }
        // in the schema that it has: a daemon of an earlier version may be at work in it
        let counted = connect(&path, BUSY_TIMEOUT).and_then(|inbox| match schema_versions(&inbox, &MIGRATIONS)? {
            (0, _) => Ok(Vec::new()),
            (_, _) => count(&inbox),
        });
        match counted {
            Err(error) if is_damage(&error) => {
                tracing::warn!(
                    "what waits in {FILE} cannot be told, it is damaged: a daemon sets it aside when it starts"
                );
                Ok(Vec::new())
            }
            counted => counted,
        }
    }
}

/// Opens the inbox and looks through all its pages; there are few while deliveries are acted on, and 512 MB take some seconds.
fn open_sound(path: &Path) -> Result<Connection, CheckpointError> {
    const ACTION: &str = "look through the inbox";
    let inbox = open_database(path, &MIGRATIONS, BUSY_TIMEOUT)?;
    let found: String = inbox.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).attempt(ACTION)?;
    if found == "ok" {
        return Ok(inbox);
    }
    let source = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(CheckpointError::Damaged { path: path.to_owned(), source: rusqlite::Error::SqliteFailure(source, Some(found)) })
}

impl Inbox {
    /// Keeps what a delivery said; returns once it is on disk. All that wait at the same time share one commit. `id` is the
    /// delivery's own: one that came before is not kept again.
    pub async fn store(&self, source: &str, id: Option<&str>, events: Vec<InboxEvent>) -> Result<(), InboxError> {
        let (answer, stored) = oneshot::channel();
        let letter =
            Letter { source: source.to_owned(), id: id.map(str::to_owned), events, at: self.0.clock.now(), answer };
        let is_first = {
            let mut queue = lock(&self.0.queue);
            if queue.letters.len() >= WAITING_MAX {
                return Err(InboxError::Busy);
            }
            queue.letters.push(letter);
            !std::mem::replace(&mut queue.is_writing, true)
        };
        if is_first {
            // a blocking thread, as for the checkpoint: it keeps a simulated runtime from running ahead of the disk
            let parts = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || parts.write_all());
        }
        stored.await.unwrap_or(Err(InboxError::Busy))
    }

    /// Grows when something was kept.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    /// What is to be acted on now, in the order of arrival: all that may be tried together, or else one that has failed too often
    /// for that.
    pub async fn due(&self, source: &str, limit: usize) -> Result<Vec<WaitingEvent>, CheckpointError> {
        let (source, now) = (source.to_owned(), self.0.clock.now());
        self.call(move |disk| disk.load_due(&source, now, limit)).await
    }

    /// When the next of a source's rows is due; `None` where nothing waits.
    pub async fn next_due(&self, source: &str) -> Result<Option<Timestamp>, CheckpointError> {
        let (source, now) = (source.to_owned(), self.0.clock.now());
        self.call(move |disk| {
            disk.connection
                .prepare_cached("SELECT min(iif(set_at > ?2, ?2, due_at)) FROM event WHERE source = ?1")
                .and_then(|mut query| query.query_row(params![source, now.0], |row| row.get::<_, Option<i64>>(0)))
                .attempt("look for what was announced")
                .map(|due| due.map(Timestamp))
        })
        .await
    }

    /// These were acted on. What was announced again since stays.
    pub async fn done(&self, rows: Vec<(i64, i64)>) -> Result<(), CheckpointError> {
        self.call(move |disk| {
            disk.write(|transaction| {
                let mut clear = transaction.prepare_cached("DELETE FROM event WHERE id = ?1 AND seq = ?2")?;
                rows.iter().try_for_each(|(id, seq)| clear.execute([id, seq]).map(|_| ()))
            })
        })
        .await
    }

    /// These could not be acted on: they are due again then.
    pub async fn postpone(&self, rows: Vec<i64>, until: Timestamp) -> Result<(), CheckpointError> {
        let now = self.0.clock.now();
        self.call(move |disk| {
            disk.write(|transaction| {
                let mut postpone = transaction.prepare_cached(
                    "UPDATE event SET due_at = ?2, set_at = ?3, attempts = attempts + 1 WHERE id = ?1",
                )?;
                rows.iter().try_for_each(|id| postpone.execute([*id, until.0, now.0]).map(|_| ()))
            })
        })
        .await
    }

    /// What waits, by source.
    pub async fn count(&self) -> Result<Vec<InboxCount>, CheckpointError> {
        self.call(|disk| count(&disk.connection)).await
    }

    /// The records of a source that are announced and not acted on yet, at most so many of them.
    pub async fn announced(&self, source: &str, limit: usize) -> Result<BTreeSet<String>, CheckpointError> {
        const ACTION: &str = "look for what was announced";
        let source = source.to_owned();
        self.call(move |disk| {
            disk.connection
                .prepare_cached("SELECT key FROM event WHERE source = ?1 LIMIT ?2")
                .and_then(|mut query| {
                    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                    query.query_map(params![source, limit], |row| row.get(0))?.collect()
                })
                .attempt(ACTION)
        })
        .await
    }

    /// Empties the write-ahead log, so that what was cleared is gone from the disk, and forgets old deliveries. For times
    /// when nothing waits.
    pub async fn settle_disk(&self) -> Result<(), CheckpointError> {
        let oldest = self.0.clock.now().minus(DELIVERIES_KEPT);
        self.call(move |disk| {
            disk.connection
                .execute("DELETE FROM delivery WHERE received_at < ?1", [oldest.0])
                .and_then(|_| disk.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
                .attempt("settle the inbox")
        })
        .await
    }

    async fn call<T, F>(&self, work: F) -> Result<T, CheckpointError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Disk) -> Result<T, CheckpointError> + Send + 'static,
    {
        let parts = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&mut lock(&parts.disk))).await {
            Ok(result) => result,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
}

impl Parts {
    fn store(&self, letters: &[Letter]) -> Result<(), InboxError> {
        let mut disk = lock(&self.disk);
        if disk.bytes()? > self.bytes_max {
            // what waits goes before who came: to act on a delivery twice is harmless
            disk.write(|transaction| transaction.execute("DELETE FROM delivery", []).map(|_| ()))?;
            if disk.bytes()? > self.bytes_max {
                return Err(InboxError::Full);
            }
        }
        Ok(disk.store(letters)?)
    }

    /// Commits all that waits, group by group, until nothing does.
    fn write_all(&self) {
        let _unstuck = Unstuck(self);
        loop {
            let letters = {
                let mut queue = lock(&self.queue);
                queue.is_writing = !queue.letters.is_empty();
                std::mem::take(&mut queue.letters)
            };
            if letters.is_empty() {
                return;
            }
            let stored = self.store(&letters);
            if stored.is_ok() {
                self.news.send_modify(|times| *times += 1);
            }
            for letter in letters {
                // whoever does not wait any more has gone away, and comes again
                let _ = letter.answer.send(stored.clone());
            }
        }
    }
}

/// Where the writer dies of a panic, those who wait are refused, and the next one writes again.
struct Unstuck<'a>(&'a Parts);

impl Drop for Unstuck<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *lock(&self.0.queue) = Queue::default();
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // a panic inside a transaction rolls it back
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::OpenOptions;
    use crate::random::Random;

    #[tokio::test(start_paused = true)]
    async fn a_flood_fills_the_inbox_and_not_the_disk_and_ids_of_deliveries_give_way() {
        let dir = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            dir: dir.path().to_owned(),
            key: None,
            sender: None,
            create: true,
            now: Timestamp(0),
            import_age_max: Duration::from_hours(6),
        };
        let mut checkpoint = Checkpoint::open(&options, &Random::seeded(1)).unwrap().checkpoint;
        let mut inbox = checkpoint.open_inbox(&Clock::simulated(Timestamp(0))).unwrap();
        let empty = lock(&inbox.0.disk).bytes().unwrap();
        Arc::get_mut(&mut inbox.0).unwrap().bytes_max = empty + (16 << 10);
        let hint = |key: String| InboxEvent::Hint { key, is_deleted: false };
        for round in 0..4 {
            let ids: Vec<String> = (0..300).map(|number| format!("{round}-{number}")).collect();
            let stored = ids.iter().map(|id| inbox.store("crm", Some(id), vec![hint("1".to_owned())]));
            for stored in futures_util::future::join_all(stored).await {
                stored.unwrap();
            }
        }
        assert_eq!(inbox.count().await.unwrap()[0].rows, 1);
        let flood = (0..2000).map(|number| hint(number.to_string())).collect();
        inbox.store("crm", None, flood).await.unwrap();
        assert!(matches!(inbox.store("crm", None, vec![hint("x".to_owned())]).await, Err(InboxError::Full)));
        // acted on: there is room again
        tokio::time::advance(Duration::from_secs(1)).await;
        let rows = inbox.due("crm", 5000).await.unwrap().iter().map(|row| (row.id, row.seq)).collect();
        inbox.done(rows).await.unwrap();
        inbox.store("crm", None, vec![hint("x".to_owned())]).await.unwrap();
    }

    /// A daemon of an earlier version is at work in it.
    #[tokio::test(start_paused = true)]
    async fn who_only_counts_leaves_the_schema_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            dir: dir.path().to_owned(),
            key: None,
            sender: None,
            create: true,
            now: Timestamp(0),
            import_age_max: Duration::from_hours(6),
        };
        let checkpoint = Checkpoint::open(&options, &Random::seeded(1)).unwrap().checkpoint;
        let earlier = Connection::open(dir.path().join(FILE)).unwrap();
        assert_eq!(checkpoint.count_inbox().unwrap(), [], "a file that is being made");
        earlier.execute_batch(include_str!("../../migrations_inbox/01-events/up.sql")).unwrap();
        earlier.pragma_update(None, "user_version", 1).unwrap();
        assert_eq!(checkpoint.count_inbox().unwrap(), []);
        let schema: i64 = earlier.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(schema, 1);
    }
}
