//! The lock of the one process that sends. It is on the state directory itself, and on a file in it that names the holder:
//! the file can be removed while it is locked, the directory cannot. Follows no link and makes no file shorter.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::Pid;

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
    let held = held_places(&fs::read_to_string("/proc/locks").ok()?);
    let is_held = [dir, file.as_path()].into_iter().any(|path| is_held(path, &held));
    let holder = fs::read_to_string(&file).unwrap_or_default();
    match holder.trim() {
        _ if !is_held => None,
        "" => Some("another process".to_owned()),
        holder => is_alive(holder).then(|| holder.to_owned()),
    }
}

/// Whether the process that a holder names runs; one that names none is taken to.
fn is_alive(holder: &str) -> bool {
    let number = holder.split_once("(process ").map(|(_, rest)| rest.split(|digit: char| !digit.is_ascii_digit()));
    let number = number.and_then(|mut parts| parts.next()?.parse().ok());
    number.and_then(Pid::from_raw).is_none_or(|process| rustix::process::test_kill_process(process) != Err(Errno::SRCH))
}

/// Where a file lies: the major and minor number of its device, and its inode.
type Place = (u32, u32, u64);

fn is_held(path: &Path, held: &BTreeSet<Place>) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    // btrfs, overlay and others give out a number of their own that the kernel's list does not know; it belongs to no device
    let is_of_a_device = major != 0;
    held.iter().any(|(held_major, held_minor, inode)| {
        *inode == metadata.ino()
            && if is_of_a_device { (major, minor) == (*held_major, *held_minor) } else { *held_major == 0 }
    })
}

/// The places that a list in the form of /proc/locks shows as locked by one process for itself alone. A process that is gone
/// holds none.
fn held_places(locks: &str) -> BTreeSet<Place> {
    let place = |line: &str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let is_ours = cells.get(1) == Some(&"FLOCK") && cells.get(3) == Some(&"WRITE");
        let mut numbers = cells.get(5).filter(|_| is_ours)?.split(':');
        let major = u32::from_str_radix(numbers.next()?, 16).ok()?;
        let minor = u32::from_str_radix(numbers.next()?, 16).ok()?;
        Some((major, minor, numbers.next()?.parse().ok()?))
    };
    locks.lines().filter_map(place).collect()
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
        assert_eq!(held_places(list), BTreeSet::from([(0xfe, 0, 41)]));
    }

    #[test]
    fn a_holder_that_is_gone_does_not_send() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = child.id();
        child.wait().unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (process, runs) in [(gone, false), (std::process::id(), true)] {
            let name = format!("`reteno-sync run` (process {process}, version 1)");
            let lock = SenderLock::take(folder.path(), &name).unwrap();
            assert_eq!(running_sender(folder.path()), runs.then_some(name));
            drop(lock);
        }
    }

    #[test]
    fn a_lock_on_the_same_number_of_another_device_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = fs::metadata(folder.path()).unwrap();
        let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
        let held = |major, minor| is_held(folder.path(), &BTreeSet::from([(major, minor, metadata.ino())]));
        assert!(held(major, minor));
        assert!(!held(major + 1, minor));
        // which of the numberless ones it is cannot be told
        assert_eq!(held(major, minor + 1), major == 0);
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
