//! A tap's working files: a config that it may rewrite, the catalog, and the state of one run.
//!
//! Owns their modes and lives: the directory is 0700, files 0600; the state file is gone when the run is over, since a
//! state may hold secrets. Files here are small, so blocking on them is fine.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use sha2::{Digest, Sha256};

use super::SingerOptions;
use crate::disk::{open_own, write_durably};
use crate::source::{Cursor, SourceError};

/// The working directory, with the config to pass to the tap. Held by one reader at a time: two taps would rewrite one
/// config, and one would remove the other's state.
pub(super) struct WorkDir {
    dir: PathBuf,
    config: PathBuf,
    /// Locked until this is dropped, or its process dies. A tap does not inherit it.
    lock: File,
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // A process that is being started this moment has a copy of the file until it is the other program: closing ours would
        // not free it. It fails only where there is no lock any more.
        let _ = self.lock.unlock();
    }
}

/// A state file that is removed when dropped.
pub(super) struct StateFile(PathBuf);

impl StateFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        // A tap may have removed it itself; whatever stays is removed by the next `open`, which does say why it cannot.
        let _ = fs::remove_file(&self.0);
    }
}

impl WorkDir {
    /// Makes or cleans the directory and settles which config the tap gets; [`SourceError::Busy`] where another reader
    /// holds it.
    pub(super) fn open(options: &SingerOptions) -> Result<Self, SourceError> {
        let dir = options.work_dir.clone();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed("create", &dir))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(failed("set the mode of", &dir))?;
        let lock = lock(&dir.join("lock"), &options.source_name)?;
        let state = dir.join("state.json");
        match fs::remove_file(&state) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove the left-over", &state)(error)),
        }
        let writable = rustix::fs::access(&options.config, Access::WRITE_OK).is_ok();
        let config = settle_config(&options.config, writable, &dir)?;
        Ok(Self { dir, config, lock })
    }

    /// The config that the tap may rewrite.
    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    pub(super) fn write_catalog(&self, text: &str) -> Result<PathBuf, SourceError> {
        let path = self.dir.join("catalog.json");
        write_private(&path, text.as_bytes())?;
        Ok(path)
    }

    /// The state for one run, unchanged.
    pub(super) fn write_state(&self, cursor: &Cursor) -> Result<StateFile, SourceError> {
        let file = StateFile(self.dir.join("state.json"));
        write_private(file.path(), cursor.as_text().as_bytes())?;
        Ok(file)
    }

    /// Makes sure that what the tap wrote into its config outlives a power cut: a rotated refresh token exists nowhere
    /// else.
    pub(super) fn keep_config(&self) -> Result<(), SourceError> {
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        sync(&self.config).map_err(failed("save", &self.config))?;
        let parent = self.config.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match sync(parent) {
            // A directory that may be passed but not read, as /etc may be: the file itself is saved.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced.map_err(failed("save", parent)),
        }
    }
}

/// The file stays when its lock is gone: were it removed, two readers could hold two locks.
fn lock(path: &Path, source_name: &str) -> Result<File, SourceError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = open_own(path, &mut options).map_err(failed("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let known = fs::read_to_string(path).unwrap_or_default();
            let reader = if known.is_empty() { "another process".to_owned() } else { known };
            return Err(SourceError::Busy { name: source_name.to_owned(), reader });
        }
        Err(TryLockError::Error(source)) => return Err(failed("lock", path)(source)),
    }
    file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id())).map_err(failed("write", path))?;
    Ok(file)
}

/// The given config where it can be written; else a copy, which is kept (with the tap's changes) until the given one
/// changes.
pub(super) fn settle_config(given: &Path, writable: bool, dir: &Path) -> Result<PathBuf, SourceError> {
    let content = fs::read(given).map_err(failed("read the tap's config", given))?;
    if writable {
        return Ok(given.to_owned());
    }
    let (copy, origin) = (dir.join("config.json"), dir.join("config.origin"));
    let print = hex(&Sha256::digest(&content));
    let known = match fs::read_to_string(&origin) {
        Ok(known) => Some(known),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("read", &origin)(error)),
    };
    if known.as_deref() != Some(&print) || !copy.exists() {
        // In this order: a crash in between only copies once more, before any tap has run on the copy.
        write_private(&copy, &content)?;
        write_private(&origin, print.as_bytes())?;
    }
    Ok(copy)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Writes a new file of mode 0600 and puts it in place at once.
fn write_private(path: &Path, content: &[u8]) -> Result<(), SourceError> {
    write_durably(path, content).map_err(failed("write", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    let path = path.to_owned();
    move |source| SourceError::Unreadable { action, path, source }
}
