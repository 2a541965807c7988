//! Damaged files beside the database: each is set aside under another name and kept, work goes on without it, and an alert
//! stands for as long as it lies there. Never removes one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::clock::Timestamp;

use super::{Checkpoint, CheckpointError};

/// Between the name of a file that was set aside and when that was.
const MARK: &str = ".damaged-";

/// Gives a file another name as well, so that one of its own can take its place. One name, however often its place cannot
/// be taken.
pub(super) fn set_aside(path: &Path, now: Timestamp) -> Result<(), CheckpointError> {
    let failed = |source| CheckpointError::File { action: "set aside", path: path.to_owned(), source };
    let file_name = path.file_name().unwrap_or_default().display().to_string();
    let dir = path.parent().unwrap_or(Path::new("."));
    for known in names_set_aside(dir, &file_name).map_err(failed)? {
        if is_same(path, &dir.join(known)).map_err(failed)? {
            return Ok(());
        }
    }
    let aside = path.with_file_name(format!("{file_name}{MARK}{}", now.0));
    match fs::hard_link(path, &aside) {
        // of an attempt at the same moment that did not come to its end
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked.map_err(failed)?,
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

/// Whether both names are those of one file.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let place = |path| fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    Ok(place(one)? == place(other)?)
}

/// What of a file was set aside and still lies there, oldest first.
fn names_set_aside(dir: &Path, file: &str) -> io::Result<Vec<String>> {
    let beginning = format!("{file}{MARK}");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().into_string().ok();
        // a write-ahead log goes with its database
        found.extend(
            name.filter(|name| name.starts_with(&beginning) && !name.ends_with("-wal") && !name.ends_with("-shm")),
        );
    }
    found.sort();
    Ok(found)
}

/// The same for a database, which makes a new one when it is opened next; its write-ahead log goes with it.
pub(super) fn set_aside_database(path: &Path, now: Timestamp) -> Result<(), CheckpointError> {
    for ending in ["-shm", "-wal", ""] {
        let file = path.with_file_name(format!("{}{ending}", path.file_name().unwrap_or_default().display()));
        let failed = |source| CheckpointError::File { action: "set aside", path: file.clone(), source };
        let aside =
            path.with_file_name(format!("{}{MARK}{}{ending}", path.file_name().unwrap_or_default().display(), now.0));
        match fs::rename(&file, aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(failed)?,
        }
    }
    Ok(())
}

/// Whether a database says that its file is no sound database.
pub(super) fn is_damage(error: &CheckpointError) -> bool {
    let is = |source: &rusqlite::Error| {
        matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    };
    match error {
        CheckpointError::Damaged { .. } => true,
        CheckpointError::Database { source, .. }
        | CheckpointError::Migration(rusqlite_migration::Error::RusqliteError { err: source, .. }) => is(source),
        CheckpointError::Busy { .. }
        | CheckpointError::File { .. }
        | CheckpointError::NotOwner { .. }
        | CheckpointError::Missing(_)
        | CheckpointError::Newer { .. }
        | CheckpointError::Older { .. }
        | CheckpointError::KeyMissing(_)
        | CheckpointError::KeyChanged(_)
        | CheckpointError::Sealed(_)
        | CheckpointError::Unreadable { .. }
        | CheckpointError::NoRoom { .. }
        | CheckpointError::Migration(_) => false,
    }
}

impl Checkpoint {
    /// Raises the alert `name` for what of `file` was set aside, or ends it where none of it lies there any more. `loss` says
    /// what may be lost.
    pub(super) fn tell_set_aside(
        &mut self,
        (name, file): (&str, &str),
        loss: &str,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let failed = |source| CheckpointError::File { action: "look into", path: self.dir.clone(), source };
        let aside = names_set_aside(&self.dir, file).map_err(failed)?;
        if aside.is_empty() {
            return self.end_alert(name).map(|_| ());
        }
        let text = format!("{file} was damaged and is set aside as {}: {loss}", aside.join(", "));
        let hint =
            "look at the disk of the state directory; the alert ends at the first start after that file is moved away";
        if self.raise_alert(name, &text, hint, now)? {
            tracing::error!(alert = name, hint, "{text}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The disk is full, and every start tries again.
    #[test]
    fn a_file_whose_place_cannot_be_taken_gets_one_other_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tombstones.log");
        for (content, names) in [("one", 1), ("another", 2)] {
            fs::write(dir.path().join("new"), content).unwrap();
            fs::rename(dir.path().join("new"), &path).unwrap();
            for attempt in 0..3 {
                set_aside(&path, Timestamp(10 * names + attempt)).unwrap();
            }
            let found = names_set_aside(dir.path(), "tombstones.log").unwrap();
            assert_eq!(found.len(), usize::try_from(names).unwrap(), "{found:?}");
        }
    }
}
