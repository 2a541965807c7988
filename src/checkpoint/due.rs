//! What is due: contacts whose desired state Reteno is not known to hold and that no call carries.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::params;

use crate::clock::Timestamp;
use crate::contact::{Field, Values};
use crate::plan::batch::Candidate;
use crate::plan::lock::locks_of;
use crate::plan::{ContactId, Lane, SourceId};

use super::seal::SEAL_BYTES;
use super::sendable::{COLUMNS, SendRules, Sendable};
use super::{Attempt, Checkpoint, CheckpointError};

/// A stored time further ahead than this is due now: no wait of ours is longer, so the clock was set back.
pub(super) const WAIT_MAX: Duration = Duration::from_hours(360);

/// Each lane may count on one part in so many of what is looked at in one round.
const RESERVED_SHARE: usize = 8;

/// What a body holds besides the values, at most, for one contact: names of fields, brackets.
const BODY_OVERHEAD: usize = 400;

/// A contact that goes into a call, with its values.
#[derive(Debug)]
pub struct MemberValues {
    /// Its row.
    pub contact: ContactId,
    /// Where it comes from.
    pub source: SourceId,
    /// All its waiting values: the due ones, and those that identify it.
    pub values: Values,
    /// Reteno's id, where it is known.
    pub reteno_id: Option<i64>,
    /// Earlier refusals of it alone.
    pub attempts: u32,
}

/// The contacts that may be sent now, and when the next ones may.
#[derive(Debug)]
pub struct Due {
    /// In the order of their lanes.
    pub candidates: Vec<Candidate>,
    /// There are more of them than were asked for.
    pub is_more: bool,
}

/// A look at what is due.
struct Search<'a> {
    now: Timestamp,
    at_most: &'a BTreeMap<Vec<Field>, usize>,
    rules: &'a SendRules,
    taken: BTreeMap<Vec<Field>, usize>,
}

impl Search<'_> {
    /// Whether one more contact of this mask is wanted.
    fn takes(&mut self, mask: &[Field]) -> bool {
        let Some(bound) = self.at_most.get(mask) else { return true };
        let taken = self.taken.entry(mask.to_vec()).or_default();
        if *taken == *bound {
            return false;
        }
        *taken += 1;
        true
    }
}

impl Checkpoint {
    /// The first `limit` contacts that are due, in the order of their lanes; some room is left for each lower one, or a lane
    /// that never runs dry would hide them. Of a mask in `at_most` only that many are taken, so that fields which may not
    /// be sent now do not keep others from being seen.
    pub fn load_due(
        &self,
        now: Timestamp,
        limit: usize,
        at_most: &BTreeMap<Vec<Field>, usize>,
        rules: &SendRules,
    ) -> Result<Due, CheckpointError> {
        let share = limit / RESERVED_SHARE;
        let mut due = Due { candidates: Vec::new(), is_more: false };
        let mut search = Search { now, at_most, rules, taken: BTreeMap::new() };
        for (place, lane) in Lane::ALL.into_iter().enumerate() {
            if lane == Lane::FirstLoad && rules.first_load_waits {
                continue;
            }
            let lanes_after = Lane::ALL.len() - 1 - place;
            let room = (limit - due.candidates.len()).saturating_sub(share * lanes_after);
            self.load_due_of(lane, room, &mut search, &mut due)?;
        }
        Ok(due)
    }

    fn load_due_of(
        &self,
        lane: Lane,
        room: usize,
        search: &mut Search<'_>,
        due: &mut Due,
    ) -> Result<(), CheckpointError> {
        const ACTION: &str = "look for what is due";
        let mut query = self
            .connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS}, c.split, length(w.vals) - {SEAL_BYTES} \
                 FROM contact c INDEXED BY contact_due JOIN waiting w ON w.contact = c.id \
                 WHERE c.acknowledged IS NOT NULL AND c.import IS NULL AND c.stuck = 0 AND c.judged = 1 AND c.lane = ?3 \
                   AND (c.not_before <= ?1 OR c.not_before > ?2) \
                 ORDER BY c.split DESC, c.id"
            ))
            .attempt(ACTION)?;
        let now = search.now;
        let mut rows = query.query(params![now.0, now.plus(WAIT_MAX).0, lane.number()]).attempt(ACTION)?;
        let mut found = 0;
        while let Some(row) = rows.next().attempt(ACTION)? {
            if found == room {
                due.is_more = true;
                return Ok(());
            }
            let Some(sendable) = Sendable::read(row, &self.connection, search.rules, &self.hash, now)? else {
                continue;
            };
            let Sendable { sides, reteno_id, mask, flavor } = sendable;
            if !search.takes(&mask) {
                continue;
            }
            found += 1;
            due.candidates.push(Candidate {
                contact: ContactId(row.get(0).attempt(ACTION)?),
                lane,
                part: row.get(14).attempt(ACTION)?,
                locks: locks_of(&sides, reteno_id, &self.hash),
                mask,
                flavor,
                bytes: BODY_OVERHEAD + usize::try_from(row.get::<_, i64>(15).attempt(ACTION)?).unwrap_or(0) * 2,
            });
        }
        Ok(())
    }

    /// How many contacts of first loads wait for their turn.
    pub fn count_first_load(&self) -> Result<u64, CheckpointError> {
        self.connection
            .query_row(
                "SELECT count(*) FROM contact INDEXED BY contact_due \
                 WHERE lane = ?1 AND acknowledged IS NOT NULL AND import IS NULL AND stuck = 0 AND judged = 1",
                [Lane::FirstLoad.number()],
                |row| row.get::<_, i64>(0),
            )
            .attempt("count a first load")
            .map(i64::cast_unsigned)
    }

    /// When the next waiting contact becomes due.
    pub fn next_due_at(&self, now: Timestamp) -> Result<Option<Timestamp>, CheckpointError> {
        self.connection
            .query_row(
                "SELECT min(at) FROM (SELECT min(not_before) AS at FROM contact INDEXED BY contact_due \
                 WHERE acknowledged IS NOT NULL AND import IS NULL AND stuck = 0 AND judged = 1 AND not_before > ?1 \
                 UNION ALL SELECT min(doubt_until) FROM contact INDEXED BY contact_doubt WHERE doubt_until > ?1 \
                 UNION ALL SELECT min(not_before) FROM deed WHERE state = 'due' AND import IS NULL AND not_before > ?1)",
                [now.0],
                |row| row.get::<_, Option<i64>>(0),
            )
            .attempt("look for what is due next")
            .map(|time| time.map(Timestamp))
    }

    /// How many contacts Reteno is not known to hold in their desired state, and deeds that are to be done, leaving out
    /// those that are rejected or wait for a full read; the second count leaves out those, too, that wait only for a
    /// ghost to pass, or for a person. A change that rests for its quiet time is not one of them.
    pub fn count_open(&self, now: Timestamp, rules: &SendRules) -> Result<(u64, u64), CheckpointError> {
        let (open, active): (i64, i64) = self
            .connection
            .query_row(
                "SELECT count(*), count(*) FILTER (WHERE import IS NOT NULL \
                   OR held = 0 AND (not_before <= ?1 OR split IS NOT NULL OR attempts > 0 OR NOT EXISTS \
                     (SELECT 1 FROM import i CROSS JOIN member m ON m.import = i.id AND m.contact = contact.id \
                      WHERE i.state = 'ghost'))) \
                 FROM contact WHERE acknowledged IS NOT NULL AND stuck = 0",
                [now.0],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .attempt("count what is open")?;
        let (deeds, active_deeds): (i64, i64) = self
            .connection
            .query_row(
                "SELECT count(*), count(*) FILTER (WHERE import IS NOT NULL OR state = 'due' AND not_before <= ?1) FROM deed",
                [now.0],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .attempt("count what is to be done")?;
        let mut active = (active + active_deeds).cast_unsigned();
        if active == 0 && open > 0 {
            // what is harmless of a held contact may still be due
            active = self.load_due(now, 1, &BTreeMap::new(), rules)?.candidates.len() as u64;
        }
        Ok(((open + deeds).cast_unsigned(), active))
    }

    /// Reteno's id of a contact, where it is known.
    pub fn load_reteno_id(&self, contact: ContactId) -> Result<Option<i64>, CheckpointError> {
        self.connection
            .query_row("SELECT reteno_id FROM contact WHERE id = ?1", [contact.0], |row| row.get(0))
            .attempt("read Reteno's id of a contact")
    }

    /// The highest number of a part of a halved batch.
    pub fn last_part(&self) -> Result<i64, CheckpointError> {
        self.connection
            .query_row("SELECT coalesce(max(split), 0) FROM contact", [], |row| row.get(0))
            .attempt("read the parts of halved batches")
    }
}
