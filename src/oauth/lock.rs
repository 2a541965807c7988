//! The lock that lets one process at a time change the grant: an advisory lock on a file, released by the system when
//! its holder dies. Never deletes the file (two processes could then hold two locks) and never writes into it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::disk::{self, is_still_at, open_own};

/// How often a held lock is tried again: a refresh takes a fraction of a second.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// The lock file of a state directory, by convention `<state_dir>/refresh.lock`.
#[derive(Debug, Clone)]
pub struct RefreshLock {
    path: PathBuf,
}

/// The lock, held until this is dropped.
#[derive(Debug)]
pub struct HeldLock {
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it: try again later.
    #[error("another process is changing the tokens")]
    Busy,
    /// The file cannot be opened or locked.
    #[error("cannot lock {}", .path.display())]
    Unusable {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl LockError {
    /// What an operator can do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Busy => "wait a minute and run the same command again".to_owned(),
            Self::Unusable { path, source } => disk::hint(path, source),
        }
    }
}

impl RefreshLock {
    /// A lock on the file `path`, which is made when it is first needed.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Waits up to `patience` for the lock; zero tries once.
    pub async fn acquire(&self, patience: Duration) -> Result<HeldLock, LockError> {
        let began = Instant::now();
        loop {
            match self.attempt().await {
                Err(LockError::Busy) if began.elapsed() < patience => tokio::time::sleep(RETRY_EVERY).await,
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&self) -> Result<HeldLock, LockError> {
        let path = self.path.clone();
        let outcome = tokio::task::spawn_blocking(move || lock_now(&path)).await;
        outcome
            .unwrap_or_else(|join| Err(LockError::Unusable { path: self.path.clone(), source: io::Error::other(join) }))
    }
}

fn lock_now(path: &Path) -> Result<HeldLock, LockError> {
    let unusable = |source| LockError::Unusable { path: path.to_owned(), source };
    let file = open_own(path, OpenOptions::new().create(true).truncate(false).write(true)).map_err(unusable)?;
    match file.try_lock() {
        // one that was removed since it was opened locks nobody out: the next attempt finds the new one
        Ok(()) if !is_still_at(&file, path).map_err(unusable)? => Err(LockError::Busy),
        Ok(()) => Ok(HeldLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(LockError::Busy),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_holder_at_a_time_and_the_next_when_it_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refresh.lock");
        let (first, second) = (RefreshLock::new(path.clone()), RefreshLock::new(path));
        let held = first.acquire(Duration::ZERO).await.unwrap();
        assert!(matches!(second.acquire(Duration::ZERO).await, Err(LockError::Busy)));
        assert!(matches!(second.acquire(Duration::from_secs(5)).await, Err(LockError::Busy)));
        let waiting = tokio::spawn(async move { second.acquire(Duration::from_secs(5)).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(held);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_missing_directory_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("refresh.lock");
        let error = RefreshLock::new(path.clone()).acquire(Duration::ZERO).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot lock {}", path.display()));
    }
}
