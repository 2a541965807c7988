//! The files that Reteno fetches from us: written for one upload, handed out to who knows its token, and gone with it.
//!
//! A file's name is the hash of its token: nobody learns a token from the directory, the database or a log.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::checkpoint::{CallKind, CheckpointError, ExportLink, ImportState, OpenImport, Store};
use crate::clock::{Clock, Timestamp};
use crate::listener::Exports as Exporter;
use crate::random::Random;
use crate::report;

/// 32 random bytes in base64 without padding.
const TOKEN_CHARS: usize = 43;
/// Questions for a file that the checkpoint is asked at a time.
const ASKED_AT_ONCE: usize = 2;

/// The files on disk.
pub(super) struct Exports {
    dir: PathBuf,
    random: Random,
    names: BTreeSet<String>,
    /// Nothing could be written here: first loads go by bulk from then on.
    pub(super) is_broken: bool,
}

impl Exports {
    /// Files below this directory; what an earlier process left there is looked up by [`Exports::adopt`].
    pub(super) fn at(dir: PathBuf, random: Random) -> Self {
        Self { dir, random, names: BTreeSet::new(), is_broken: false }
    }

    /// Takes over what an earlier process left: it is swept like our own. A directory that is not there holds nothing.
    pub(super) fn adopt(&mut self) -> std::io::Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            self.names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(())
    }

    /// A token that nobody can guess, and the link that is known by its hash.
    pub(super) fn draw(&self, until: Timestamp) -> (String, ExportLink) {
        let token = URL_SAFE_NO_PAD.encode(self.random.bytes::<32>());
        let hash = hash_of(&token);
        (token, ExportLink { hash, until })
    }

    /// The path of a file that is about to be written: from now on it is swept.
    pub(super) fn claim(&mut self, link: &ExportLink) -> PathBuf {
        let name = name_of(&link.hash);
        let path = self.dir.join(&name);
        self.names.insert(name);
        path
    }

    /// Deletes every file that no unfinished import needs any more.
    pub(super) fn sweep(&mut self, imports: &[OpenImport], now: Timestamp) -> std::io::Result<()> {
        let is_needed = |import: &&OpenImport| import.call == CallKind::Upload && import.state != ImportState::Ghost;
        let links = imports.iter().filter(is_needed).filter_map(|import| import.link);
        let needed: BTreeSet<String> = links.filter(|link| link.until > now).map(|link| name_of(&link.hash)).collect();
        for name in self.names.difference(&needed).cloned().collect::<Vec<_>>() {
            match fs::remove_file(self.dir.join(&name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            self.names.remove(&name);
        }
        Ok(())
    }
}

/// Writes a file that only this user can read, and that is whole after a crash.
pub(super) fn write_file<E: From<std::io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<fs::File>) -> Result<(), E>,
) -> Result<(), E> {
    let dir = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut writer = BufWriter::new(file);
    fill(&mut writer)?;
    writer.flush()?;
    writer.get_ref().sync_all()?;
    fs::File::open(dir)?.sync_all()?;
    Ok(())
}

/// Hands the files out at the public address. Whoever guesses at a token waits for those before: a question that has begun goes
/// on though nobody listens any more, and holds a thread until the checkpoint has time for it.
#[must_use]
pub fn build_exports(store: &Store, clock: &Clock) -> Exporter {
    let (store, clock) = (store.clone(), clock.clone());
    let (turns, is_told) = (Arc::new(Semaphore::new(ASKED_AT_ONCE)), Arc::new(AtomicBool::new(false)));
    Arc::new(move |token| {
        let (store, clock, turns, is_told) = (store.clone(), clock.clone(), Arc::clone(&turns), Arc::clone(&is_told));
        Box::pin(async move {
            if !is_token(&token) {
                return None;
            }
            // nobody closes it
            let turn = turns.acquire_owned().await.ok()?;
            // in a task of its own, so that the turn lasts as long as the question
            let asked = tokio::spawn(async move {
                let _turn = turn;
                open_export(&store, &clock, &token).await
            });
            match asked.await {
                Ok(Ok(file)) => {
                    is_told.store(false, Ordering::Relaxed);
                    file
                }
                Ok(Err(error)) => {
                    // once, however many ask
                    if !is_told.swap(true, Ordering::Relaxed) {
                        tracing::error!("a file cannot be handed out: {}", report::chain(&error));
                    }
                    None
                }
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            }
        })
    })
}

/// What no file can be behind: the checkpoint is not asked.
fn is_token(text: &str) -> bool {
    text.len() == TOKEN_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The file behind a token, while its import is unfinished and its time not over. Compared are hashes: how long it takes
/// says nothing of how near a guess is.
pub async fn open_export(store: &Store, clock: &Clock, token: &str) -> Result<Option<fs::File>, CheckpointError> {
    let (hash, now) = (hash_of(token), clock.now());
    store
        .call(move |checkpoint| {
            let path = checkpoint.exports_dir().join(name_of(&hash));
            if !checkpoint.is_export_alive(&hash, now)? {
                return Ok(None);
            }
            match fs::File::open(&path) {
                Ok(file) => Ok(Some(file)),
                Err(error) => {
                    tracing::warn!("a file that Reteno asks for cannot be read ({error})");
                    Ok(None)
                }
            }
        })
        .await
}

fn hash_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn name_of(hash: &[u8; 32]) -> String {
    format!("{}.csv", URL_SAFE_NO_PAD.encode(hash))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::checkpoint::{Checkpoint, OpenOptions};
    use crate::clock::Timestamp;

    /// A question that has begun cannot be taken back: without a bound as many threads would wait as there are guesses.
    #[tokio::test(flavor = "multi_thread")]
    async fn guesses_of_strangers_who_leave_again_hold_few_threads_while_the_checkpoint_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            dir: dir.path().to_owned(),
            key: None,
            sender: None,
            create: true,
            now: Timestamp(1),
            import_age_max: std::time::Duration::from_hours(6),
        };
        let store = Store::share(Checkpoint::open(&options, &Random::seeded(1)).unwrap().checkpoint);
        let exports = build_exports(&store, &Clock::simulated(Timestamp(1)));
        let (end, ended) = mpsc::channel::<()>();
        let busy = tokio::spawn(async move { store.call(move |_| Ok(ended.recv().is_ok())).await });
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        while alive() < 1 {
            tokio::task::yield_now().await;
        }
        let before = alive();
        for guess in 0..200 {
            let mut asked = exports(format!("{guess:A>43}"));
            assert!(futures_util::poll!(&mut asked).is_pending());
            assert!(alive() <= before + ASKED_AT_ONCE, "{}", alive());
        }
        for no_token in ["", "x", "../key", &"A".repeat(44), &"%".repeat(43)] {
            assert!(exports(no_token.to_owned()).await.is_none(), "answered without the checkpoint");
        }
        end.send(()).unwrap();
        assert!(busy.await.unwrap().unwrap());
        assert!(exports("A".repeat(43)).await.is_none());
    }
}
