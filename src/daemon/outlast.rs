//! The daemon outlasts what time or room mends: a backup that holds the database's lock, a disk that is full. Its tasks
//! wait, under one alert, and begin anew where they stood in the checkpoint. Nothing ends a process that alone has the newest
//! tokens.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sd_notify::NotifyState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{Checkpoint, CheckpointError, Store};
use crate::oauth::Refresher;
use crate::report::chain;

use super::compose::{Account, Surroundings};
use super::line::Line;
use super::run_error::RunError;
use super::systemd::tell_systemd;

/// The first wait before it is tried whether the checkpoint can be written again, and the longest.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// A trouble that comes back so soon is the same one: it is not told again.
const SAME_FOR: Duration = Duration::from_mins(5);
/// The alert's name. It stands in the log and in systemd's status: the checkpoint cannot be written meanwhile.
const ALERT: &str = "checkpoint-waits";

/// What stands in the way of the checkpoint, for all tasks of a session together.
pub(super) struct Trouble {
    store: Store,
    line: Line,
    stop: CancellationToken,
    told: Mutex<Told>,
    tokens: Tokens,
}

/// Stores tokens that could not be stored, and says whether none are left that only this process has.
pub(super) type Tokens = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

#[derive(Default)]
struct Told {
    is_standing: bool,
    last: Option<Instant>,
}

/// Stores tokens that could not be stored when they came, of all who give us any.
pub(super) fn save_tokens(account: &Account, around: &Surroundings) -> Tokens {
    let crms = around.crms.iter().map(|crm| crm.refresher.clone());
    let all: Arc<[Refresher]> = std::iter::once(account.refresher.clone()).chain(crms).collect();
    Box::new(move || {
        let all = Arc::clone(&all);
        Box::pin(async move {
            let saved = all.iter().map(Refresher::saves_unstored);
            futures_util::future::join_all(saved).await.into_iter().all(|is_saved| is_saved)
        })
    })
}

impl Trouble {
    pub(super) fn of(store: Store, line: Line, stop: CancellationToken, tokens: Tokens) -> Self {
        Self { store, line, stop, told: Mutex::default(), tokens }
    }

    /// Does `task` again and again for as long as only a passing trouble of the checkpoint ends it; `None` where a stop
    /// was asked for meanwhile.
    pub(super) async fn outlast<T, F>(&self, mut task: impl FnMut() -> F) -> Result<Option<T>, RunError>
    where
        F: Future<Output = Result<T, RunError>>,
    {
        loop {
            match task().await {
                Err(RunError::Checkpoint(error)) if error.is_temporary() || !(self.tokens)().await => {
                    if !self.wait(&error).await? {
                        return Ok(None);
                    }
                }
                ended => return ended.map(Some),
            }
        }
    }

    /// Waits until the checkpoint can be written; says whether it can, and not that a stop was asked for.
    async fn wait(&self, error: &CheckpointError) -> Result<bool, RunError> {
        self.tell(error);
        let mut wait = WAIT_FIRST;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return Ok(false),
            }
            // it turns, though it cannot do anything
            self.line.beats.fetch_add(1, Ordering::Relaxed);
            match self.store.call(Checkpoint::prove_writable).await {
                Ok(()) => break,
                Err(error) if error.is_temporary() => wait = (wait * 2).min(WAIT_MAX),
                Err(error) if (self.tokens)().await => return Err(error.into()),
                Err(_) => wait = WAIT_MAX,
            }
        }
        self.tell_end();
        Ok(true)
    }

    fn tell(&self, error: &CheckpointError) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = told.is_standing || told.last.is_some_and(|last| last.elapsed() < SAME_FOR);
        told.is_standing = true;
        told.last = Some(Instant::now());
        if !is_same {
            let text = format!("everything waits for the checkpoint: {}", chain(error));
            let hint = error.hint().unwrap_or_default();
            tracing::error!(alert = ALERT, hint, "{text}");
            tell_systemd(&[NotifyState::Status(&text)]);
        }
    }

    fn tell_end(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut told.is_standing) {
            told.last = Some(Instant::now());
            tracing::info!(alert = ALERT, "the checkpoint can be written again: work goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::checkpoint::OpenOptions;
    use crate::clock::Timestamp;
    use crate::random::Random;

    fn trouble(dir: &tempfile::TempDir, stop: &CancellationToken) -> Trouble {
        let options = OpenOptions {
            dir: dir.path().to_owned(),
            key: None,
            sender: None,
            create: true,
            now: Timestamp(0),
            import_age_max: Duration::from_hours(6),
        };
        let store = Store::share(Checkpoint::open(&options, &Random::seeded(1)).unwrap().checkpoint);
        Trouble::of(store, Line::default(), stop.clone(), Box::new(|| Box::pin(async { true })))
    }

    fn broken(kind: ErrorKind) -> RunError {
        let path = "generation".into();
        RunError::Checkpoint(CheckpointError::File { action: "write", path, source: kind.into() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_begins_anew_until_the_trouble_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let trouble = trouble(&dir, &CancellationToken::new());
        let attempts = AtomicU32::new(0);
        let ended = trouble.outlast(|| async {
            match attempts.fetch_add(1, Ordering::Relaxed) {
                0..3 => Err(broken(ErrorKind::StorageFull)),
                _ => Ok("done"),
            }
        });
        assert_eq!(ended.await.unwrap(), Some("done"));
        assert_eq!(attempts.into_inner(), 4);
        assert_eq!(trouble.line.beats.load(Ordering::Relaxed), 3, "the watchdog sees that it turns");
        assert!(!trouble.told.lock().unwrap().is_standing);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waiting_cannot_mend_ends_it_and_so_does_a_stop() {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let trouble = trouble(&dir, &stop);
        let refused = trouble.outlast(|| async { Err::<(), _>(broken(ErrorKind::PermissionDenied)) }).await;
        assert!(refused.is_err());
        let ending = trouble.outlast(|| async {
            stop.cancel();
            Err::<(), _>(broken(ErrorKind::StorageFull))
        });
        assert_eq!(ending.await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_ends_a_process_that_alone_has_the_newest_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        let tokens: Tokens = Box::new(move || {
            let tried = counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { tried >= 3 })
        });
        let trouble = Trouble { tokens, ..trouble(&dir, &CancellationToken::new()) };
        let refused = trouble.outlast(|| async { Err::<(), _>(broken(ErrorKind::PermissionDenied)) }).await;
        assert!(refused.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 4, "it goes on until they are stored");
    }
}
