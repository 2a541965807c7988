//! Sources, their cursors, and what a complete read proves.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::params;

use crate::clock::Timestamp;
use crate::plan::SourceId;
use crate::plan::policy::Policy;
use crate::plan::repair::{Earlier, cause_of_lack};

use super::endings::mark_missing;
use super::rejections::{Superseded, forget_superseded};
use super::repaired::add_repaired;
use super::requests::forget_read_request;
use super::{Attempt, Checkpoint, CheckpointError};

/// So many gone contacts are marked in one transaction, some tenths of a second: whoever waits for the database does not notice.
const MARKED_AT_ONCE: usize = 1000;
/// And so many rows are looked at.
const LOOKED_AT_AT_ONCE: usize = 200_000;

/// The rows that a read has seen: three bits a row at most, so that a million contacts cost 250 KB and no write.
#[derive(Debug, Default, Clone)]
pub struct SeenRows {
    /// The source speaks of them.
    seen: Bits,
    /// Of these: a record told what they are to be.
    told: Bits,
    /// Of these: a line that is not used said no.
    refusing: Bits,
}

#[derive(Debug, Default, Clone)]
struct Bits {
    words: Vec<u64>,
    count: u64,
}

impl SeenRows {
    /// The source speaks of a row: with a record, one that cannot be used, or one that says it is deleted; false where
    /// it did before.
    pub fn see(&mut self, row: i64) -> bool {
        self.seen.insert(row)
    }

    /// A record says what the row is to be; false where one did before.
    pub fn tell(&mut self, row: i64) -> bool {
        self.seen.insert(row);
        self.told.insert(row)
    }
}

impl SeenRows {
    /// A line of a file that is not used says that the person of a row wants no mail.
    pub(super) fn refuse(&mut self, row: i64) {
        self.refusing.insert(row);
    }

    /// Whether a record of this read has said what the row is to be.
    pub(super) fn has_told(&self, row: i64) -> bool {
        self.told.contains(row)
    }

    /// Whether one did; `None`: none did of any row.
    pub(super) fn has_refused(
        &self,
        row: impl FnOnce() -> Result<Option<i64>, CheckpointError>,
    ) -> Result<bool, CheckpointError> {
        if self.refusing.count == 0 {
            return Ok(false);
        }
        Ok(row()?.is_some_and(|row| self.refusing.contains(row)))
    }
}

impl Bits {
    fn insert(&mut self, row: i64) -> bool {
        let row = usize::try_from(row).unwrap_or(0);
        let (word, bit) = (row / 64, 1_u64 << (row % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(is_new);
        is_new
    }

    fn contains(&self, row: i64) -> bool {
        let row = usize::try_from(row).unwrap_or(0);
        self.words.get(row / 64).is_some_and(|word| word & (1 << (row % 64)) != 0)
    }
}

/// What a read that came to its end proves.
#[derive(Clone, Debug)]
pub struct ReadProof {
    /// What the operator lets the source do.
    pub policy: Arc<Policy>,
    /// When it began.
    pub began: Timestamp,
    /// It began at the beginning of the source.
    pub from_beginning: bool,
    /// Such a read brought records, and none that could not be read: every value that the source still has.
    pub has_values: bool,
    /// Every record of the source was seen, so what was not seen is gone.
    pub is_full: bool,
    /// Which earlier way should have told what is gone, where it is to be counted.
    pub earlier: Option<Earlier>,
}

/// A source as the checkpoint knows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SourceRow {
    /// Its row.
    #[serde(skip)]
    pub id: SourceId,
    /// Its name in the configuration.
    pub name: String,
    /// Where its reading goes on: the source's own words, not shown.
    #[serde(skip)]
    pub cursor: Option<String>,
    /// Values are missing that only a full read brings back.
    pub full_read_wanted: bool,
    /// It has been read to its end once.
    pub first_load_done: bool,
    /// When its last cycle began.
    pub last_started_at: Option<Timestamp>,
    /// When a cycle last read to its end.
    pub last_ended_at: Option<Timestamp>,
    /// When one that began at the source's beginning did.
    pub full_read_at: Option<Timestamp>,
    /// Why the last cycle did not.
    pub last_error: Option<String>,
    /// When the last cycle that read to its end began.
    #[serde(skip)]
    pub covered_at: Option<Timestamp>,
    /// Its mapping changed, or it comes from an older copy, and not all of it has been read since.
    #[serde(skip)]
    pub is_catching_up: bool,
}

impl Checkpoint {
    /// The row of a source, made where there is none.
    ///
    /// # Panics
    /// Never: the row it looks for has just been made.
    pub fn load_source(&mut self, name: &str) -> Result<SourceRow, CheckpointError> {
        self.connection.execute("INSERT OR IGNORE INTO source (name) VALUES (?1)", [name]).attempt("store a source")?;
        let found = self.load_sources()?.into_iter().find(|row| row.name == name);
        Ok(found.expect("the row was made above"))
    }

    /// Every source it has ever read.
    pub fn load_sources(&self) -> Result<Vec<SourceRow>, CheckpointError> {
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT id, name, cursor, full_read_wanted, first_load_done, last_started_at, last_ended_at, last_error, \
                   covered_at, mapping_is_new = 1 OR restored = 1, full_read_at \
                 FROM source ORDER BY id",
            )
            .attempt("read sources")?;
        let rows = query.query_map([], |row| {
            Ok(SourceRow {
                id: SourceId(row.get(0)?),
                name: row.get(1)?,
                cursor: row.get(2)?,
                full_read_wanted: row.get::<_, i64>(3)? > 0,
                first_load_done: row.get(4)?,
                last_started_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
                last_ended_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
                last_error: row.get(7)?,
                full_read_at: row.get::<_, Option<i64>>(10)?.map(Timestamp),
                covered_at: row.get::<_, Option<i64>>(8)?.map(Timestamp),
                is_catching_up: row.get(9)?,
            })
        });
        rows.and_then(Iterator::collect).attempt("read sources")
    }

    /// A cycle of the source begins. A full read that was wanted and ends before its end is still wanted at the next cycle.
    /// A scheduled one is not: it must not take the place of reading changes. A first load goes on from its cursor.
    pub fn begin_read(&mut self, source: SourceId, is_full: bool, now: Timestamp) -> Result<(), CheckpointError> {
        self.connection
            .execute(
                "UPDATE source SET last_started_at = ?2, full_read_wanted = \
                 iif(?3 AND full_read_wanted > 0, 2, full_read_wanted), full_began_at = iif(?3, ?2, full_began_at) WHERE id = ?1",
                params![source.0, now.0, is_full],
            )
            .attempt("store the start of a read")?;
        if is_full { forget_read_request(&self.connection, source) } else { Ok(()) }
    }

    /// Whether a source was read with another mapping than this before: then all its records are to be read once.
    fn is_other_mapping(&self, source: SourceId, mapping: u64) -> Result<bool, CheckpointError> {
        self.connection
            .query_row("SELECT mapping FROM source WHERE id = ?1", [source.0], |row| row.get::<_, Option<i64>>(0))
            .attempt("read which mapping a source is read with")
            .map(|known| known.is_some_and(|known| known != mapping.cast_signed()))
    }

    /// Notes with which mapping a source is about to be read; says whether it is another one than before. Then a record
    /// that has not changed may want something else, so all are read once, and what was rejected is tried again.
    pub fn note_mapping(&mut self, source: SourceId, mapping: u64) -> Result<bool, CheckpointError> {
        const ACTION: &str = "store which mapping a source is read with";
        let is_other = self.is_other_mapping(source, mapping)?;
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        transaction
            .execute(
                "UPDATE source SET mapping_is_new = max(mapping_is_new, mapping IS NOT NULL AND mapping <> ?2), \
                 mapping = ?2 WHERE id = ?1",
                [source.0, mapping.cast_signed()],
            )
            .attempt(ACTION)?;
        if is_other {
            transaction
                .execute("UPDATE source SET full_read_wanted = 1 WHERE id = ?1", [source.0])
                .and_then(|_| {
                    transaction.execute(
                        "UPDATE contact SET stuck = 2 WHERE source = ?1 AND stuck = 1 AND acknowledged IS NOT NULL",
                        [source.0],
                    )
                })
                .and_then(|_| {
                    let woken = "DELETE FROM rejection WHERE source = ?1 AND kind IN ('reteno', 'skipped')";
                    transaction.execute(woken, [source.0])
                })
                .attempt(ACTION)?;
        }
        transaction.commit().attempt(ACTION)?;
        Ok(is_other)
    }

    /// A cycle of the source failed; what its pages brought stays.
    pub fn fail_read(&mut self, source: SourceId, error: &str) -> Result<(), CheckpointError> {
        self.connection
            .execute("UPDATE source SET last_error = ?2 WHERE id = ?1", params![source.0, error])
            .attempt("store the failure of a read")
            .map(|_| ())
    }

    /// One step of marking what a complete read did not see, unless another path saw it after the read began: rows behind
    /// `after`. Gives how many are gone, and where the next step goes on. What a crash leaves unmarked is marked by the next
    /// read; what it left marked was missing in a complete read all the same.
    pub fn mark_gone(
        &mut self,
        source: SourceId,
        (proof, seen): (&ReadProof, &SeenRows),
        after: i64,
        now: Timestamp,
    ) -> Result<(u64, Option<i64>), CheckpointError> {
        const ACTION: &str = "look for gone contacts";
        if !proof.is_full || after == 0 && count_contacts(&self.connection, source)? == seen.seen.count {
            return Ok((0, None));
        }
        let (missing, next) = self.find_missing((source, after), (proof, seen), now)?;
        if missing.is_empty() {
            return Ok((0, next));
        }
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let ended = mark_missing(&transaction, &missing, &proof.policy, (source, proof.began.0, now.0))?;
        if let Some(earlier) = proof.earlier {
            add_repaired(&transaction, source, &BTreeMap::from([(cause_of_lack(earlier), ended)]), now.0)?;
        }
        transaction.commit().attempt(ACTION)?;
        Ok((missing.len() as u64, next))
    }

    /// Through the table from its beginning to its end: the index of the source would ask for each row by itself, and sort all
    /// their numbers in memory.
    fn find_missing(
        &self,
        (source, after): (SourceId, i64),
        (proof, seen): (&ReadProof, &SeenRows),
        now: Timestamp,
    ) -> Result<(Vec<i64>, Option<i64>), CheckpointError> {
        const ACTION: &str = "look for gone contacts";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT id FROM contact WHERE +source = ?1 AND (read_at < ?2 OR read_at > ?3) AND id > ?4 ORDER BY id",
            )
            .attempt(ACTION)?;
        let mut rows = query.query(params![source.0, proof.began.0, now.0, after]).attempt(ACTION)?;
        let mut missing = Vec::new();
        let mut looked_at = 0;
        while let Some(row) = rows.next().attempt(ACTION)? {
            let id: i64 = row.get(0).attempt(ACTION)?;
            if !seen.seen.contains(id) {
                missing.push(id);
            }
            looked_at += 1;
            if missing.len() == MARKED_AT_ONCE || looked_at == LOOKED_AT_AT_ONCE {
                return Ok((missing, Some(id)));
            }
        }
        Ok((missing, None))
    }

    /// The source was read to its end. Where every record was seen, the rows that were not are counted as gone, unless
    /// another path saw them after the read began; returns how many are, those among them that [`Self::mark_gone`] has not
    /// marked yet. `cursor` is one that was set aside until now.
    pub fn finish_read(
        &mut self,
        source: SourceId,
        proof: &ReadProof,
        seen: &SeenRows,
        cursor: Option<&str>,
        now: Timestamp,
    ) -> Result<u64, CheckpointError> {
        let (mut gone, mut next) = (0, Some(0));
        while let Some(after) = next {
            let marked;
            (marked, next) = self.mark_gone(source, (proof, seen), after, now)?;
            gone += marked;
        }
        self.end_read(source, proof, cursor, now)?;
        Ok(gone)
    }

    /// Notes that the source was read to its end, once what is gone is marked.
    pub fn end_read(
        &mut self,
        source: SourceId,
        proof: &ReadProof,
        cursor: Option<&str>,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .attempt("end a read")?;
        let superseded = match (proof.has_values, proof.from_beginning) {
            (true, _) => Superseded::All,
            (false, true) => Superseded::Places,
            (false, false) => Superseded::OldPlaces,
        };
        forget_superseded(&transaction, source, superseded, proof.began)?;
        // one that was asked for while it read is still wanted; a load that brought nobody was none
        transaction
            .execute(
                "UPDATE source SET last_ended_at = ?2, last_error = NULL, covered_at = ?5, cursor = coalesce(?3, cursor), \
                 first_load_done = max(first_load_done, EXISTS (SELECT 1 FROM contact WHERE source = ?1)), \
                 full_read_wanted = iif(?4 AND full_read_wanted = 2, 0, full_read_wanted), \
                 full_read_at = iif(?6, ?2, full_read_at) WHERE id = ?1",
                params![source.0, now.0, cursor, proof.has_values, proof.began.0, proof.from_beginning],
            )
            .and_then(|_| {
                // all is read again: a restored database has caught up. A source that is read no more does not count
                let over = "DELETE FROM alert WHERE name = 'restored' AND NOT EXISTS \
                            (SELECT 1 FROM source WHERE full_read_wanted > 0 AND last_started_at >= alert.since)";
                transaction.execute(over, [])
            })
            .attempt("store the end of a read")?;
        transaction.commit().attempt("end a read")
    }

    /// How many contacts of a source are known.
    pub fn count_contacts(&self, source: SourceId) -> Result<u64, CheckpointError> {
        count_contacts(&self.connection, source)
    }
}

fn count_contacts(connection: &rusqlite::Connection, source: SourceId) -> Result<u64, CheckpointError> {
    connection
        .query_row("SELECT count(*) FROM contact WHERE source = ?1", [source.0], |row| row.get::<_, i64>(0))
        .attempt("count contacts")
        .map(i64::cast_unsigned)
}
