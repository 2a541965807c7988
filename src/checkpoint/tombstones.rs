//! Tombstones of erased contacts: keyed hashes by which a return is recognised, in the database and in a file beside it
//! that is only ever appended to, so that an older copy of the database does not forget them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rusqlite::{OptionalExtension, Transaction, params};
use rustix::io::Errno;

use crate::clock::Timestamp;
use crate::contact::{Contact, Field, FieldPrints, Fingerprint, Fingerprinter};
use crate::disk::{open_own, write_durably};
use crate::plan::SourceId;
use crate::plan::deed::{DeedCause, DeedKind};

use super::damage::set_aside;
use super::deeds::{NewDeed, store_deed};
use super::endings::drop_values;
use super::pages::Page;
use super::removal::forget_contact;
use super::requests::ask_for_read;
use super::{Attempt, Checkpoint, CheckpointError};

/// Beside the database.
pub(super) const FILE: &str = "tombstones.log";
/// Ends a line that was torn.
const SPOILT: char = '!';
/// Of a hash in the file.
const HASH_DIGITS: usize = 16;

/// The hashes of one contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grave {
    /// Of source and CRM id: it names the grave.
    pub(super) id: i64,
    /// Of external id, e-mail and phone.
    pub(super) prints: Vec<i64>,
}

impl Grave {
    pub(super) fn of(source: &str, key: &str, prints: &FieldPrints, hash: &Fingerprinter) -> Self {
        let fields = [Field::ExternalCustomerId, Field::Email, Field::Sms];
        let known = fields
            .into_iter()
            .filter_map(|field| prints.get(field).filter(|print| !print.is_unknown() && !hash.is_clear(field, *print)));
        Self { id: grave_of(source, key, hash), prints: known.map(|print| print.to_u64().cast_signed()).collect() }
    }
}

fn grave_of(source: &str, key: &str, hash: &Fingerprinter) -> i64 {
    hash.text("grave", &format!("{}\u{0}{source}{key}", source.len())).cast_signed()
}

/// Writes a grave into the database; says whether it was not there.
pub(super) fn bury(transaction: &Transaction<'_>, grave: &Grave, erased_at: i64) -> Result<bool, CheckpointError> {
    let mut insert = transaction
        .prepare_cached("INSERT OR IGNORE INTO tombstone (hash, grave, erased_at) VALUES (?1, ?2, ?3)")
        .attempt("store a tombstone")?;
    let is_new = insert.execute(params![grave.id, grave.id, erased_at]).attempt("store a tombstone")? > 0;
    for hash in &grave.prints {
        insert.execute(params![hash, grave.id, erased_at]).attempt("store a tombstone")?;
    }
    Ok(is_new)
}

impl Page<'_> {
    /// When the contact was erased, by any of what it is known by.
    pub(super) fn find_tombstone(&self, contact: &Contact) -> Result<Option<Timestamp>, CheckpointError> {
        if !self.has_tombstones {
            return Ok(None);
        }
        let prints = self.hash.fields(&contact.fields);
        let grave = Grave::of(&self.context.source_name, &contact.key, &prints, self.hash);
        let mut query = self.statement("SELECT erased_at FROM tombstone WHERE hash = ?1")?;
        for hash in std::iter::once(&grave.id).chain(&grave.prints) {
            let found: Option<i64> =
                query.query_row([hash], |row| row.get(0)).optional().attempt("look for a tombstone")?;
            if let Some(erased_at) = found {
                return Ok(Some(Timestamp(erased_at)));
            }
        }
        Ok(None)
    }
}

impl Checkpoint {
    /// Lets an erased contact come back; says when it was erased, or `None` where it was not.
    pub fn lift_tombstone(&mut self, source: SourceId, key: &str) -> Result<Option<Timestamp>, CheckpointError> {
        let grave = self.grave_in(source, key)?;
        let Some(erased_at) = self.find_grave(grave)? else { return Ok(None) };
        self.lift_graves(source, &[grave])?;
        Ok(Some(erased_at))
    }

    /// The same for a contact that has come back under another id: with the external id, e-mail or phone of one that was
    /// erased.
    pub fn lift_tombstones_of(
        &mut self,
        (source, name): (SourceId, &str),
        contact: &Contact,
    ) -> Result<Option<Timestamp>, CheckpointError> {
        let grave = Grave::of(name, &contact.key, &self.hash.fields(&contact.fields), &self.hash);
        let mut graves = Vec::new();
        let mut last = None;
        for hash in std::iter::once(&grave.id).chain(&grave.prints) {
            let found: Option<(i64, i64)> = self
                .connection
                .query_row("SELECT grave, erased_at FROM tombstone WHERE hash = ?1", [hash], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()
                .attempt("look for a tombstone")?;
            if let Some((grave, erased_at)) = found {
                graves.push(grave);
                last = last.max(Some(Timestamp(erased_at)));
            }
        }
        if !graves.is_empty() {
            self.lift_graves(source, &graves)?;
        }
        Ok(last)
    }

    fn lift_graves(&mut self, source: SourceId, graves: &[i64]) -> Result<(), CheckpointError> {
        const ACTION: &str = "lift a tombstone";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        for grave in graves {
            transaction.execute("DELETE FROM tombstone WHERE grave = ?1", [grave]).attempt(ACTION)?;
        }
        // whoever still may not come back is listed again by the read
        let forget = "DELETE FROM rejection WHERE source = ?1 AND kind = 'erased' AND ignored = 0";
        transaction.execute(forget, [source.0]).attempt(ACTION)?;
        // what would be done once more when a late copy may have landed is off
        let pending: Vec<(i64, String, String)> = transaction
            .prepare_cached(
                "SELECT d.id, s.name, d.key FROM deed d JOIN source s ON s.id = d.source \
                 WHERE d.source = ?1 AND d.kind = 'erase' AND d.import IS NULL",
            )
            .and_then(|mut query| {
                query.query_map([source.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
            })
            .attempt(ACTION)?;
        for (deed, name, key) in pending {
            if graves.contains(&grave_of(&name, &key, &self.hash)) {
                transaction.execute("DELETE FROM deed WHERE id = ?1", [deed]).attempt(ACTION)?;
            }
        }
        ask_for_read(&transaction, source)?;
        // first in the file: the next start reads it, and would erase anew whom only the database had let back
        for grave in graves {
            append(&self.dir.join(FILE), &format!("lifted {grave:016x}\n"))?;
        }
        transaction.commit().attempt(ACTION)
    }

    /// When a contact was erased.
    pub fn erased_at(&self, source: SourceId, key: &str) -> Result<Option<Timestamp>, CheckpointError> {
        self.find_grave(self.grave_in(source, key)?)
    }

    fn find_grave(&self, grave: i64) -> Result<Option<Timestamp>, CheckpointError> {
        self.connection
            .query_row("SELECT erased_at FROM tombstone WHERE hash = ?1", [grave], |row| row.get(0))
            .optional()
            .attempt("look for a tombstone")
            .map(|time| time.map(Timestamp))
    }

    fn grave_in(&self, source: SourceId, key: &str) -> Result<i64, CheckpointError> {
        let name: String = self
            .connection
            .query_row("SELECT name FROM source WHERE id = ?1", [source.0], |row| row.get(0))
            .attempt("read a source")?;
        Ok(grave_of(&name, key, &self.hash))
    }

    /// Appends a grave to the file beside the database, durably. Comes before the database's own entry: a grave that
    /// only the file knows is read at the next start.
    pub(super) fn append_grave(&self, grave: &Grave, now: Timestamp) -> Result<(), CheckpointError> {
        append(&self.dir.join(FILE), &line_of(grave, now.0))
    }

    /// Notes that the erasure is complete.
    pub(super) fn close_grave(&self, source: SourceId, key: &str) -> Result<(), CheckpointError> {
        append(&self.dir.join(FILE), &format!("done {:016x}\n", self.grave_in(source, key)?))
    }

    /// Takes over what only the file knows: an older copy of the database was put in place. A file that cannot be read, or
    /// not all of it, is set aside; the new one has what could be read and what the database knows.
    pub(super) fn read_graves(&mut self, is_older_copy: bool, now: Timestamp) -> Result<(), CheckpointError> {
        let path = self.dir.join(FILE);
        let text = match fs::read(&path) {
            // what is no text is no line of ours
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(String::new()),
            Err(error) if is_damaged(&error) => None,
            Err(source) => return Err(CheckpointError::File { action: "read", path, source }),
        };
        // the last one is only whole with its end: what it says has else not happened
        let text = text.as_deref();
        let (whole, broken): (Vec<&str>, Vec<&str>) = text
            .unwrap_or_default()
            .split_inclusive('\n')
            .filter(|line| *line != "\n")
            .partition(|line| line.strip_suffix('\n').is_some_and(|line| read_line(line).is_some()));
        let is_damaged = text.is_none() || !broken.is_empty();
        let lines = if is_damaged && !is_older_copy {
            // a line that is lost may have let somebody back, and this database knows it
            let known = self.load_graves()?;
            whole.into_iter().filter(|line| grave_named(line).is_some_and(|grave| known.contains_key(&grave))).collect()
        } else {
            whole
        };
        self.take_over_graves(&lines, now)?;
        if is_damaged {
            set_aside(&path, now)?;
            let text = self.write_graves(&lines)?;
            write_durably(&path, text.as_bytes()).map_err(|source| CheckpointError::File {
                action: "write",
                path,
                source,
            })?;
        }
        let loss = "who was erased may not be known to an older copy of the checkpoint; what the checkpoint and the other \
                    lines know stands in a new file";
        self.tell_set_aside(("tombstones", FILE), loss, now)
    }

    /// The lines of a new file: those given, and what only the database knows.
    fn write_graves(&self, lines: &[&str]) -> Result<String, CheckpointError> {
        let erased = |line: &&str| line.starts_with("erased ").then(|| grave_named(line)).flatten();
        let named: BTreeSet<i64> = lines.iter().filter_map(erased).collect();
        let only_here = self.load_graves()?.into_iter().filter(|(grave, _)| !named.contains(grave));
        let only_here = only_here.map(|(id, (erased_at, prints))| line_of(&Grave { id, prints }, erased_at));
        Ok(lines.iter().map(|line| (*line).to_owned()).chain(only_here).collect())
    }

    /// The graves in the database: when each was erased, and its hashes.
    fn load_graves(&self) -> Result<BTreeMap<i64, (i64, Vec<i64>)>, CheckpointError> {
        const ACTION: &str = "read the tombstones";
        let mut query = self
            .connection
            .prepare_cached("SELECT grave, hash, erased_at FROM tombstone ORDER BY grave, hash")
            .attempt(ACTION)?;
        let mut rows = query.query([]).attempt(ACTION)?;
        let mut graves: BTreeMap<i64, (i64, Vec<i64>)> = BTreeMap::new();
        while let Some(row) = rows.next().attempt(ACTION)? {
            let (grave, hash): (i64, i64) = (row.get(0).attempt(ACTION)?, row.get(1).attempt(ACTION)?);
            let (_, prints) = graves.entry(grave).or_insert((row.get(2).attempt(ACTION)?, Vec::new()));
            if hash != grave {
                prints.push(hash);
            }
        }
        Ok(graves)
    }

    fn take_over_graves(&mut self, lines: &[&str], now: Timestamp) -> Result<(), CheckpointError> {
        const ACTION: &str = "read the tombstones beside the checkpoint";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        // those that the database does not know, and whether their erasure is complete
        let mut news: BTreeMap<i64, bool> = BTreeMap::new();
        for line in lines.iter().filter_map(|line| read_line(line.trim_end())) {
            match line {
                Line::Erased(grave, erased_at) => {
                    if bury(&transaction, &grave, erased_at)? {
                        news.insert(grave.id, false);
                    }
                }
                Line::Done(grave) => {
                    news.entry(grave).and_modify(|is_done| *is_done = true);
                }
                Line::Lifted(grave) => {
                    news.remove(&grave);
                    transaction.execute("DELETE FROM tombstone WHERE grave = ?1", [grave]).attempt(ACTION)?;
                }
            }
        }
        if !news.is_empty() {
            erase_known(&transaction, &news, &self.hash, now)?;
        }
        transaction.commit().attempt(ACTION)
    }
}

/// Contacts of an older copy that were erased since: whoever is gone from Reteno goes from here, too; whose erasure was
/// under way is erased anew, once the guard lets it.
fn erase_known(
    transaction: &Transaction<'_>,
    graves: &BTreeMap<i64, bool>,
    hash: &Fingerprinter,
    now: Timestamp,
) -> Result<(), CheckpointError> {
    const ACTION: &str = "take over the tombstones beside the checkpoint";
    let mut query = transaction
        .prepare_cached("SELECT c.id, c.source, s.name, c.key FROM contact c JOIN source s ON s.id = c.source")
        .attempt(ACTION)?;
    let mut rows = query.query([]).attempt(ACTION)?;
    let mut erased = Vec::new();
    while let Some(row) = rows.next().attempt(ACTION)? {
        let (source, name, key): (i64, String, String) =
            (row.get(1).attempt(ACTION)?, row.get(2).attempt(ACTION)?, row.get(3).attempt(ACTION)?);
        if let Some(is_done) = graves.get(&grave_of(&name, &key, hash)) {
            erased.push((row.get(0).attempt(ACTION)?, SourceId(source), key, *is_done));
        }
    }
    for (contact, source, key, is_done) in erased {
        if is_done {
            forget_contact(transaction, contact, (source, &key), now)?;
            continue;
        }
        let deed = NewDeed {
            contact,
            key: &key,
            source,
            kind: DeedKind::Erase,
            cause: DeedCause::Gone,
            address: Fingerprint::UNKNOWN,
            segment: 0,
            cycle: now.0,
            said_before: None,
        };
        store_deed(transaction, &deed)?;
        drop_values(transaction, contact)?;
    }
    Ok(())
}

/// Whether it is the file that is at fault, and not who may read it.
fn is_damaged(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// Whom a line is about.
fn grave_named(line: &str) -> Option<i64> {
    match read_line(line.trim_end())? {
        Line::Erased(Grave { id: grave, .. }, _) | Line::Done(grave) | Line::Lifted(grave) => Some(grave),
    }
}

fn line_of(grave: &Grave, erased_at: i64) -> String {
    let prints: Vec<String> = grave.prints.iter().map(|print| format!("{print:016x}")).collect();
    format!("erased {erased_at} {:016x} {}\n", grave.id, prints.join(" "))
}

enum Line {
    Erased(Grave, i64),
    Done(i64),
    Lifted(i64),
}

fn read_line(line: &str) -> Option<Line> {
    // a shorter one was torn: its erasure had not begun, and is written again
    let number = |word: &str| {
        let is_whole = word.len() == HASH_DIGITS;
        is_whole.then(|| u64::from_str_radix(word, 16).ok().map(u64::cast_signed)).flatten()
    };
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    match words.next()? {
        "erased" => {
            let erased_at = words.next()?.parse().ok()?;
            let id = number(words.next()?)?;
            let prints = words.map(number).collect::<Option<_>>()?;
            Some(Line::Erased(Grave { id, prints }, erased_at))
        }
        "done" => number(words.next()?).map(Line::Done),
        "lifted" => number(words.next()?).map(Line::Lifted),
        _ => None,
    }
}

fn append(path: &Path, line: &str) -> Result<(), CheckpointError> {
    let write = || -> io::Result<()> {
        let mut file = open_own(path, fs::OpenOptions::new().read(true).append(true).create(true))?;
        let length = file.metadata()?.len();
        // a line that was torn must not take this one with it, nor become whole by it: what it says has not happened
        let is_torn = length > 0 && {
            let mut last = [0];
            file.seek(io::SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            last != *b"\n"
        };
        let line = if is_torn { format!("{SPOILT}\n{line}") } else { line.to_owned() };
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
            // nobody acts on it now; where it cannot be taken back either, the error that is told is the first one
            drop(file.set_len(length).and_then(|()| file.sync_all()));
        })
    };
    write().map_err(|source| CheckpointError::File { action: "append to", path: path.to_owned(), source })
}
