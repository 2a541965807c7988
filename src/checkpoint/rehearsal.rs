//! A copy of the checkpoint for a command that shows what a sender would do: there it does just that, and sends nothing.
//!
//! The copy lies in a directory of its own beside the database, which goes when the command ends. One that a killed
//! command left behind goes when the next sender, or the next such command, starts.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::Backup;
use tempfile::TempDir;

use super::error::database_error;
use super::open::{DATABASE, KEY, LOCK};
use super::{Attempt, Checkpoint, CheckpointError, generation, tombstones};

const PREFIX: &str = "plan-";
/// What stands beside the database and decides with it. The key may come from elsewhere.
const BESIDE: [&str; 3] = [KEY, generation::FILE, tombstones::FILE];

impl Checkpoint {
    /// Copies the checkpoint as it is at one moment, also beside a sender. Its pages are copied once: 0.3 s for a million
    /// contacts.
    pub fn copy_for_rehearsal(&self) -> Result<TempDir, CheckpointError> {
        remove_leftovers(&self.dir)?;
        let file_error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| CheckpointError::File { action, path, source }
        };
        let copy = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&self.dir);
        let copy = copy.map_err(file_error("make a directory in", &self.dir))?;
        for name in BESIDE {
            let from = self.dir.join(name);
            match fs::copy(&from, copy.path().join(name)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(CheckpointError::File { action: "copy", path: from, source }),
            }
        }
        let mut target = Connection::open(copy.path().join(DATABASE)).attempt("be copied")?;
        Backup::new(&self.connection, &mut target)
            .and_then(|backup| backup.step(-1))
            .map_err(|error| database_error("be copied", error))?;
        Ok(copy)
    }
}

/// Removes the copies of commands that were killed: nobody holds their lock.
pub(super) fn remove_leftovers(dir: &Path) -> Result<(), CheckpointError> {
    let found = || -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let is_copy = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
            if is_copy && entry.file_type()?.is_dir() && is_left(&entry.path())? {
                found.push(entry.path());
            }
        }
        Ok(found)
    };
    let left = found().map_err(|source| CheckpointError::File { action: "look into", path: dir.to_owned(), source })?;
    for path in left {
        match fs::remove_dir_all(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(CheckpointError::File { action: "remove", path, source }),
        }
    }
    Ok(())
}

/// A copy that is being made has no lock yet.
fn is_left(copy: &Path) -> io::Result<bool> {
    match File::open(copy.join(LOCK)) {
        Ok(lock) => Ok(lock.try_lock().is_ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
