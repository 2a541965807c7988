//! A copy of the checkpoint for a command that shows what a sender would do: there it does just that, and sends nothing.
//!
//! The copy lies in a directory of its own beside the database, which goes when the command ends. One that a killed
//! command left behind goes when the next sender, or the next such command, starts.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::ffi::{self, Error as Code};
use tempfile::TempDir;

use crate::disk::open_own;

use super::error::database_error;
use super::open::{DATABASE, KEY};
use super::{Attempt, Checkpoint, CheckpointError, generation, tombstones};

const PREFIX: &str = "plan-";
/// Locked for as long as the copy is of use.
const OWNER: &str = "owner";
/// A copy is made and locked at once; one without an owner for longer was left behind in between.
const MADE_WITHIN: Duration = Duration::from_mins(1);
/// What stands beside the database and decides with it. The key may come from elsewhere.
const BESIDE: [&str; 3] = [KEY, generation::FILE, tombstones::FILE];
/// What a read may add to a copy, beside as much again as there is: a first load of some ten thousand contacts.
const ROOM_MIN: u64 = 64 * 1024 * 1024;

/// A copy of the checkpoint, in a directory that goes with this value.
#[derive(Debug)]
pub struct Rehearsal {
    directory: TempDir,
    _owner: File,
}

impl Rehearsal {
    /// The state directory of the copy.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Checkpoint {
    /// Copies the checkpoint as it is at one moment, also beside a sender: each page once, in one read. Where the disk has not
    /// room for three of it nothing is copied: the sender needs the room more.
    pub fn copy_for_rehearsal(&self) -> Result<Rehearsal, CheckpointError> {
        remove_leftovers(&self.dir);
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| CheckpointError::File { action, path, source }
        };
        prove_room(&self.dir).map_err(failed("copy the checkpoint in", &self.dir))?;
        let made =
            tempfile::Builder::new().prefix(PREFIX).permissions(Permissions::from_mode(0o700)).tempdir_in(&self.dir);
        let directory = made.map_err(failed("make a directory in", &self.dir))?;
        let create = |name: &str| {
            let path = directory.path().join(name);
            open_own(&path, OpenOptions::new().write(true).create_new(true)).map_err(failed("create", &path))
        };
        let owner = create(OWNER)?;
        owner.lock().map_err(failed("lock", directory.path()))?;
        for name in BESIDE {
            let from = self.dir.join(name);
            match fs::read(&from) {
                Ok(bytes) => create(name)?.write_all(&bytes).map_err(failed("write", directory.path()))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(CheckpointError::File { action: "read", path: from, source }),
            }
        }
        create(DATABASE)?;
        let mut target = Connection::open(directory.path().join(DATABASE)).attempt("be copied")?;
        let copied = Backup::new(&self.connection, &mut target).and_then(|backup| backup.step(-1));
        match copied.map_err(|error| database_error("be copied", error))? {
            StepResult::Done => Ok(Rehearsal { directory, _owner: owner }),
            // somebody else mends or closes it just now
            _ => Err(database_error("be copied", rusqlite::Error::SqliteFailure(Code::new(ffi::SQLITE_BUSY), None))),
        }
    }
}

fn prove_room(dir: &Path) -> io::Result<()> {
    let size = fs::metadata(dir.join(DATABASE))?.len();
    let disk = rustix::fs::statvfs(dir)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < size.saturating_mul(3) + ROOM_MIN { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Removes the copies of commands that were killed: nobody owns them. What cannot be removed is told, and is in nobody's way.
pub(super) fn remove_leftovers(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    for path in entries.filter(is_copy).map(|entry| entry.path()) {
        let removed = match is_left(&path) {
            Ok(true) => fs::remove_dir_all(&path),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {}
            // another command was faster
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("remove {}, which a killed `plan` has left: {error}", path.display()),
        }
    }
}

fn is_copy(entry: &fs::DirEntry) -> bool {
    let is_named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
    is_named && entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn is_left(copy: &Path) -> io::Result<bool> {
    match File::open(copy.join(OWNER)) {
        Ok(owner) => Ok(owner.try_lock().is_ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let age = fs::metadata(copy)?.modified()?.elapsed();
            // one of tomorrow may be made this moment, by a clock that was set back
            Ok(age.is_ok_and(|age| age >= MADE_WITHIN))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_command_left_goes_and_what_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let copy = |name: &str, owner: bool| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(DATABASE), "x").unwrap();
            owner.then(|| File::create(path.join(OWNER)).unwrap())
        };
        drop(copy("plan-killed", true));
        let used = copy("plan-used", true).unwrap();
        used.lock().unwrap();
        copy("plan-just-made", false);
        copy("plan-killed-at-once", false);
        let long_ago = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        File::open(dir.path().join("plan-killed-at-once")).unwrap().set_times(long_ago).unwrap();
        copy("taps", false);
        remove_leftovers(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["plan-just-made", "plan-used", "taps"]);
    }
}
