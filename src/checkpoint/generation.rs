//! The counter by which an older copy of the database is recognised: in the database and in a file beside it, which only
//! ever grows.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::disk::{open_own, write_durably};

use super::{Checkpoint, CheckpointError};

/// The file beside the database.
pub(super) const FILE: &str = "generation";
/// The setting that counts starts, hours, and calls that cannot be taken back.
pub(super) const GENERATION: &str = "generation";

impl Checkpoint {
    /// Counts a start, or an hour, beside the database and in it, so that an older copy is recognised when it comes back.
    /// The database counts first: a crash between the two leaves it ahead, which is harmless; only a database that was
    /// put back is behind.
    pub fn count_generation(&mut self) -> Result<(), CheckpointError> {
        let next = self.next_generation()?;
        self.store_setting(GENERATION, next.cast_signed())?;
        self.write_generation(next)
    }

    /// The number that is counted next.
    pub(super) fn next_generation(&self) -> Result<u64, CheckpointError> {
        let (beside, inside) = self.load_generations()?;
        Ok(beside.unwrap_or(0).max(inside) + 1)
    }

    /// Writes the counter beside the database, with one fsync.
    pub(super) fn write_generation(&self, next: u64) -> Result<(), CheckpointError> {
        write_counter(&self.dir.join(FILE), next)
    }

    /// Lets the counter beside the database catch up with the one in it: an earlier attempt may have failed in between.
    pub(super) fn even_generations(&self) -> Result<(), CheckpointError> {
        let (beside, inside) = self.load_generations()?;
        if beside.is_some_and(|beside| beside < inside) { self.write_generation(inside) } else { Ok(()) }
    }

    /// The counter beside the database, where there is one that can be read, and the one in it.
    pub(super) fn load_generations(&self) -> Result<(Option<u64>, u64), CheckpointError> {
        let path = self.dir.join(FILE);
        let beside = match fs::read(&path) {
            Ok(bytes) => read_counter(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(CheckpointError::File { action: "read", path, source }),
        };
        Ok((beside, self.load_setting::<i64>(GENERATION)?.map_or(0, i64::cast_unsigned)))
    }
}

/// A number of the counter file, with its line's end. There are two lines, written in turn: a crash in the middle of one
/// leaves the other.
const COUNTER_LINE: usize = 21;

/// The counter of a file: the highest number in it. One that holds none counts as none.
fn read_counter(bytes: &[u8]) -> Option<u64> {
    bytes.chunks(COUNTER_LINE).filter_map(|line| str::from_utf8(line).ok()?.trim().parse().ok()).max()
}

/// Writes the counter in its place, which takes one fsync; a file that is not there or has another form is made anew.
fn write_counter(path: &Path, next: u64) -> Result<(), CheckpointError> {
    let line = format!("{next:020}\n");
    let write = || -> std::io::Result<bool> {
        let file = match open_own(path, fs::OpenOptions::new().write(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() != 2 * COUNTER_LINE as u64 {
            return Ok(false);
        }
        file.write_all_at(line.as_bytes(), next % 2 * COUNTER_LINE as u64)?;
        file.sync_data()?;
        Ok(true)
    };
    let failed = |source| CheckpointError::File { action: "write", path: path.to_owned(), source };
    if write().map_err(failed)? { Ok(()) } else { write_durably(path, line.repeat(2).as_bytes()).map_err(failed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_survives_what_tears_one_of_its_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("generation");
        let read = || read_counter(&fs::read(&path).unwrap());
        fs::write(&path, "41").unwrap();
        assert_eq!(read(), Some(41), "as an earlier version wrote it");
        for next in 42..46 {
            write_counter(&path, next).unwrap();
            assert_eq!(read(), Some(next));
            assert_eq!(fs::metadata(&path).unwrap().len(), 42);
        }
        // the next one is torn
        let mut torn = fs::read(&path).unwrap();
        torn[..COUNTER_LINE].fill(0xff);
        assert_eq!(read_counter(&torn), Some(45));
        assert_eq!(read_counter(b"no number"), None);
    }
}
