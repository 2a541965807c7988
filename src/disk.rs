//! Files of our own in the state directory: opened without following links, made so that they are whole after a crash, and
//! the words for what the system says of them. Knows nothing of what is in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens a file that nobody but us should have made. A link would lead to a file of somebody else's, which we would write
/// into; a pipe would keep us waiting.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.mode(0o600).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() > 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file of its own"));
    }
    Ok(file)
}

/// Opens a file that is never cut or overwritten, made where there is none. The operator may have laid a link to another disk
/// in its place, or given it another name; only a pipe or the like is refused.
pub fn open_kept(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"))
    }
}

/// Whether a file that is open still is the one of that name.
pub fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a file so that it is whole after a crash: aside, synced, renamed, and the directory synced.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    // of an attempt that did not come to its end, or a link that somebody laid there
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// What repairs a file that cannot be made, read or written, by what the system said of it.
#[must_use]
pub fn hint(path: &Path, source: &io::Error) -> String {
    let is = |errno: Errno| source.raw_os_error() == Some(errno.raw_os_error());
    match source.kind() {
        io::ErrorKind::PermissionDenied => format!("give this user the rights to {}", path.display()),
        io::ErrorKind::StorageFull => "make room on the disk of the state directory".to_owned(),
        io::ErrorKind::QuotaExceeded => {
            "this user may write no more to the disk of the state directory: raise its quota".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("the disk of {} is mounted read-only: mount it writable", path.display())
        }
        io::ErrorKind::NotFound => format!("{} or its directory is missing: check `state_dir`", path.display()),
        io::ErrorKind::InvalidData => format!("restore {} from a backup", path.display()),
        io::ErrorKind::InvalidInput => {
            format!("{} must be a plain file without another name: look who made it so", path.display())
        }
        _ if is(Errno::LOOP) => {
            format!("{} is a symbolic link: look who made it, and move the file itself here", path.display())
        }
        _ => format!("look at {} and its disk: the system's log may say what is wrong", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_not_followed_and_what_it_leads_to_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("lock"));
        fs::write(&victim, "of somebody else").unwrap();
        symlink(&victim, &path).unwrap();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let error = open_own(&path, &mut options).unwrap_err();
        assert!(hint(&path, &error).contains("is a symbolic link"), "{error:?}");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        let error = open_own(&path, &mut options).unwrap_err();
        assert!(hint(&path, &error).contains("without another name"), "{error:?}");
        assert_eq!(fs::read(&victim).unwrap(), b"of somebody else");
    }

    #[test]
    fn no_hint_tells_anybody_to_remove_a_file() {
        let of_system = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for error in [of_system(Errno::LOOP), of_system(Errno::NXIO), io::ErrorKind::InvalidInput.into()] {
            assert!(!hint(Path::new("/state/reteno-sync.db"), &error).contains("remove"), "{error:?}");
        }
    }

    #[test]
    fn a_file_written_aside_does_not_go_through_a_link_that_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("generation"));
        fs::write(&victim, "of somebody else").unwrap();
        symlink(&victim, folder.path().join("generation.new")).unwrap();
        write_durably(&path, b"7").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"7");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read(&victim).unwrap(), b"of somebody else");
    }

    #[test]
    fn an_open_file_whose_name_leads_elsewhere_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        fs::write(&path, "").unwrap();
        let file = File::open(&path).unwrap();
        assert!(is_still_at(&file, &path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!is_still_at(&file, &path).unwrap());
        fs::write(&path, "").unwrap();
        // another file may be given the number of one that is gone, but not of one that is open
        assert!(!is_still_at(&file, &path).unwrap());
    }
}
