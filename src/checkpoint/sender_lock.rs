//! The lock of the one process that sends. It is on the state directory itself, and on a file in it that names the holder:
//! the file can be removed while it is locked, the directory cannot. Follows no link and makes no file shorter.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::io::Errno;

use crate::disk::open_own;

use super::CheckpointError;
use super::open::LOCK;

/// The holder's name stands in so many bytes, the rest are spaces: it is written over the one before, which takes no room on
/// a full disk.
const NAME_BYTES: usize = 120;

/// Held until this is dropped, at the latest until the process dies.
pub(super) struct SenderLock {
    _dir: File,
    _file: File,
}

impl SenderLock {
    /// Takes the lock for a process of this name.
    pub(super) fn take(dir: &Path, name: &str) -> Result<Self, CheckpointError> {
        let path = dir.join(LOCK);
        let failed = |action: &'static str| {
            let path = path.clone();
            move |source: io::Error| CheckpointError::File { action, path, source }
        };
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = open_own(&path, &mut options).map_err(failed("open"))?;
        let opened = File::open(dir).map_err(failed("open the directory of"))?;
        let is_free = match opened.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            // some network file systems lock no directories: there the file has to do
            Err(TryLockError::Error(error)) if locks_no_directories(&error) => true,
            Err(TryLockError::Error(source)) => return Err(failed("lock the directory of")(source)),
        };
        let is_free = is_free
            && match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
            };
        if !is_free {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(failed("read"))?;
            let holder = match holder.trim() {
                // its file was removed while it ran
                "" => "another process".to_owned(),
                holder => holder.to_owned(),
            };
            return Err(CheckpointError::Busy { holder, dir: dir.to_owned() });
        }
        let line = format!("{name:<NAME_BYTES$}\n");
        file.write_all_at(line.as_bytes(), 0).map_err(failed("write"))?;
        Ok(Self { _dir: opened, _file: file })
    }
}

/// The process that holds the lock of this state directory, in its own words; `None` where none does. Looks into the
/// kernel's list: to try the lock would keep a sender out that starts in this moment.
#[must_use]
pub fn running_sender(dir: &Path) -> Option<String> {
    let file = dir.join(LOCK);
    let inode = |path: &Path| fs::metadata(path).map(|metadata| metadata.ino()).ok();
    let held = held_inodes(&fs::read_to_string("/proc/locks").ok()?);
    let is_held = [inode(dir), inode(&file)].into_iter().flatten().any(|inode| held.contains(&inode));
    is_held.then(|| match fs::read_to_string(&file).unwrap_or_default().trim() {
        "" => "another process".to_owned(),
        holder => holder.to_owned(),
    })
}

/// The inodes that a list in the form of /proc/locks shows as locked by one process for itself alone.
fn held_inodes(locks: &str) -> BTreeSet<u64> {
    let inode = |line: &str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let is_ours = cells.get(1) == Some(&"FLOCK") && cells.get(3) == Some(&"WRITE");
        let place = cells.get(5).filter(|_| is_ours)?;
        place.rsplit_once(':')?.1.parse().ok()
    };
    locks.lines().filter_map(inode).collect()
}

fn locks_no_directories(error: &io::Error) -> bool {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    is(Errno::BADF) || is(Errno::OPNOTSUPP) || is(Errno::INVAL) || is(Errno::NOLCK)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_second_sender_is_refused_also_where_the_lock_file_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let first = SenderLock::take(folder.path(), "the first").unwrap();
        match SenderLock::take(folder.path(), "the second").err() {
            Some(CheckpointError::Busy { holder, .. }) => assert_eq!(holder, "the first"),
            other => panic!("{other:?}"),
        }
        fs::remove_file(folder.path().join("lock")).unwrap();
        let second = SenderLock::take(folder.path(), "the second").err();
        assert!(matches!(second, Some(CheckpointError::Busy { .. })), "{second:?}");
        drop(first);
        SenderLock::take(folder.path(), "the third").unwrap();
        assert!(fs::read_to_string(folder.path().join("lock")).unwrap().starts_with("the third "));
    }

    #[test]
    fn who_sends_is_seen_without_taking_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(running_sender(folder.path()), None);
        let first = SenderLock::take(folder.path(), "the first").unwrap();
        assert_eq!(running_sender(folder.path()).as_deref(), Some("the first"));
        drop(first);
        assert_eq!(running_sender(folder.path()), None);
        let list = "1: FLOCK  ADVISORY  WRITE 7 fe:00:41 0 EOF\n2: POSIX  ADVISORY  WRITE 7 fe:00:42 0 EOF\n\
                    3: FLOCK  ADVISORY  READ 7 fe:00:43 0 EOF\n4: -> FLOCK  ADVISORY  WRITE 8 fe:00:44 0 EOF\n5: odd\n";
        assert_eq!(held_inodes(list), BTreeSet::from([41]));
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_refused_and_its_target_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "of somebody else").unwrap();
        symlink(&victim, folder.path().join("lock")).unwrap();
        let error = SenderLock::take(folder.path(), "a sender").err().unwrap();
        assert!(error.hint().unwrap().contains("symbolic link"), "{:?}", error.hint());
        assert_eq!(fs::read(&victim).unwrap(), b"of somebody else");
    }

    #[test]
    fn a_shorter_name_leaves_nothing_of_a_longer_one() {
        let folder = tempfile::tempdir().unwrap();
        drop(SenderLock::take(folder.path(), "a rather long name").unwrap());
        drop(SenderLock::take(folder.path(), "short").unwrap());
        assert_eq!(fs::read_to_string(folder.path().join("lock")).unwrap().trim(), "short");
    }
}
