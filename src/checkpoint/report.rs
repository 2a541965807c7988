//! What `status` shows. Reads only.

use crate::clock::Timestamp;
use crate::plan::Lane;
use crate::plan::deed::DeedKind;

use super::alerts::Alert;
use super::holds::Hold;
use super::imports::OpenImport;
use super::reads::SourceRow;
use super::rejections::UnclearConsent;
use super::repaired::Repaired;
use super::stuck::Stuck;
use super::{Attempt, Checkpoint, CheckpointError};

/// How many contacts wait in a lane.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LaneCount {
    /// The lane's name.
    pub lane: String,
    /// Contacts that are due and in no call.
    pub contacts: u64,
    /// Opt-outs and erasures that are due.
    pub deeds: u64,
}

/// How many things are to be done besides writing fields.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeedCount {
    /// What: "unsubscribe", "delete" …
    pub kind: String,
    /// What they wait for.
    pub state: DeedState,
    /// How many.
    pub deeds: u64,
}

/// What something that is to be done waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeedState {
    /// The end of the read that asked for it.
    Unjudged,
    /// A person: the guard holds it.
    Held,
    /// Its turn.
    Due,
    /// The answer to its call.
    UnderWay,
    /// Another attempt: Reteno refused it.
    Refused,
}

impl DeedState {
    const ALL: [Self; 5] = [Self::Unjudged, Self::Held, Self::Due, Self::UnderWay, Self::Refused];

    /// What users read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unjudged => "not weighed yet",
            Self::Held => "held",
            Self::Due => "due",
            Self::UnderWay => "under way",
            Self::Refused => "refused, tried again",
        }
    }

    /// The state of a deed `d`, as SQL that gives its place in [`Self::ALL`].
    pub(super) const SQL: &str = "CASE WHEN d.import IS NOT NULL THEN 3 WHEN d.state = 'unjudged' THEN 0 \
                                  WHEN d.state = 'held' THEN 1 WHEN d.attempts > 0 THEN 4 ELSE 2 END";

    pub(super) fn from_place(place: i64) -> Self {
        usize::try_from(place).ok().and_then(|place| Self::ALL.get(place)).copied().unwrap_or(Self::Due)
    }
}

/// The state of everything.
#[derive(Clone, Debug)]
pub struct StatusReport {
    /// Contacts known.
    pub contacts: u64,
    /// Of them: Reteno holds what the CRM wants.
    pub acknowledged: u64,
    /// Of them: in a call that has not ended.
    pub under_way: u64,
    /// Of them: rejected until they change.
    pub rejected: u64,
    /// Of them: their values come with the next full read.
    pub starved: u64,
    /// Of them: another contact with their e-mail or phone is sent in their place.
    pub shadowed: u64,
    /// Of them: gone from the CRM, and what was to be done about that is done.
    pub ended: u64,
    /// Contacts of which the guard holds anything: fields, or what is to be done about them. They wait for a person.
    pub held: u64,
    /// Contacts that differ, are not held, and go out by themselves.
    pub open: u64,
    /// The lists that the guard holds.
    pub holds: Vec<Hold>,
    /// What is to be done besides writing fields.
    pub deeds: Vec<DeedCount>,
    /// Due contacts by lane. With `in_calls` and `unjudged` they are `open`.
    pub lanes: Vec<LaneCount>,
    /// Of the open ones: in a call that has not ended.
    pub in_calls: u64,
    /// Of the open ones: the read that brought them has not ended, so the guard has not weighed them.
    pub unjudged: u64,
    /// When the oldest change that Reteno does not hold was read.
    pub oldest_open: Option<Timestamp>,
    /// Imports that may still do something.
    pub imports: Vec<OpenImport>,
    /// Rejected contacts and records, but for the ignored ones.
    pub rejections: u64,
    /// Entries of the list of rejections that an operator lets be.
    pub ignored: u64,
    /// Contacts whose consent is neither a yes nor a no.
    pub unclear_consents: Vec<UnclearConsent>,
    /// The sources.
    pub sources: Vec<SourceRow>,
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// Records that are to be fetched by their ids.
    pub wanted: u64,
    /// What a later way of reading had to repair.
    pub repaired: Vec<Repaired>,
}

impl Checkpoint {
    /// The state of everything.
    pub fn load_status(&self) -> Result<StatusReport, CheckpointError> {
        let count = |sql: &str| {
            self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).attempt("count").map(i64::cast_unsigned)
        };
        let contacts = count("SELECT count(*) FROM contact")?;
        let differ = count("SELECT count(*) FROM contact WHERE acknowledged IS NOT NULL")?;
        let stuck = |number: Stuck| {
            self.connection
                .prepare_cached("SELECT count(*) FROM contact WHERE acknowledged IS NOT NULL AND stuck = ?1")
                .and_then(|mut query| query.query_row([number.number()], |row| row.get::<_, i64>(0)))
                .attempt("count")
                .map(i64::cast_unsigned)
        };
        // by the entries, of which there are few: the column is in no index
        let waiting_for_approval = count(
            "SELECT count(*) FROM contact WHERE id IN (SELECT contact FROM held) AND acknowledged IS NOT NULL \
             AND stuck = 0 AND import IS NULL",
        )?;
        let (lanes, deeds) = (self.count_lanes()?, self.count_deeds()?);
        let open = stuck(Stuck::No)?.saturating_sub(waiting_for_approval);
        let in_calls =
            count("SELECT count(*) FROM contact WHERE import IS NOT NULL AND acknowledged IS NOT NULL AND stuck = 0")?;
        let in_lanes: u64 = lanes.iter().map(|(_, contacts)| contacts).sum();
        let oldest_open = self
            .connection
            .query_row(
                "SELECT min(read_at) FROM contact WHERE acknowledged IS NOT NULL AND stuck = 0 AND held = 0",
                [],
                |row| row.get::<_, Option<i64>>(0),
            )
            .attempt("look for the oldest open change")?;
        Ok(StatusReport {
            contacts,
            acknowledged: contacts - differ,
            under_way: count("SELECT count(*) FROM contact WHERE import IS NOT NULL")?,
            rejected: stuck(Stuck::Rejected)?,
            starved: stuck(Stuck::Starved)?,
            shadowed: stuck(Stuck::Shadowed)?,
            ended: stuck(Stuck::Ended)?,
            held: self.count_held()?,
            open,
            in_calls,
            unjudged: open.saturating_sub(in_lanes + in_calls),
            holds: self.load_holds()?,
            lanes: with_urgent(lanes, &deeds),
            deeds,
            oldest_open: oldest_open.map(Timestamp),
            imports: self.load_imports()?,
            rejections: self.count_rejected()?,
            ignored: count("SELECT count(*) FROM rejection WHERE ignored = 1")?,
            unclear_consents: self.count_unclear_consents()?,
            sources: self.load_sources()?,
            alerts: self.load_alerts()?,
            wanted: count("SELECT count(*) FROM wanted")?,
            repaired: self.load_repaired()?,
        })
    }

    /// Whether anything goes out by itself by now and is not acknowledged: fields, what else is to be done, or a call that has
    /// not ended. What waits for a time (a ghost's, a refusal's) or for a person is none of it. It costs a few looks, however
    /// many wait for a person.
    pub fn has_waiting(&self, now: Timestamp) -> Result<bool, CheckpointError> {
        self.connection
            .prepare_cached(HAS_WAITING)
            .and_then(|mut query| query.query_row([now.0], |row| row.get(0)))
            .attempt("look for what waits")
    }

    /// What is held is in no lane.
    fn count_lanes(&self) -> Result<Vec<(Lane, u64)>, CheckpointError> {
        const ACTION: &str = "count lanes";
        let by_lane = |sql: &str| {
            let mut query = self.connection.prepare_cached(sql).attempt(ACTION)?;
            let rows =
                query.query_map([], |row| Ok((Lane::from_number(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned())));
            rows.and_then(Iterator::collect::<Result<Vec<_>, _>>).attempt(ACTION)
        };
        let mut lanes = by_lane(
            "SELECT lane, count(*) FROM contact INDEXED BY contact_due \
             WHERE acknowledged IS NOT NULL AND import IS NULL AND stuck = 0 AND judged = 1 GROUP BY lane ORDER BY lane",
        )?;
        let held = by_lane(
            "SELECT lane, count(*) FROM contact WHERE id IN (SELECT contact FROM held) AND acknowledged IS NOT NULL \
             AND import IS NULL AND stuck = 0 AND judged = 1 GROUP BY lane",
        )?;
        for (lane, contacts) in &mut lanes {
            let held: u64 = held.iter().filter(|(other, _)| other == lane).map(|(_, held)| held).sum();
            *contacts = contacts.saturating_sub(held);
        }
        lanes.retain(|(_, contacts)| *contacts > 0);
        Ok(lanes)
    }

    fn count_deeds(&self) -> Result<Vec<DeedCount>, CheckpointError> {
        const ACTION: &str = "count what is to be done";
        let sql =
            format!("SELECT d.kind, {} AS place, count(*) FROM deed d GROUP BY 1, 2 ORDER BY 1, 2", DeedState::SQL);
        let mut query = self.connection.prepare_cached(&sql).attempt(ACTION)?;
        let rows = query.query_map([], |row| {
            let deeds = row.get::<_, i64>(2)?.cast_unsigned();
            Ok(DeedCount { kind: row.get(0)?, state: DeedState::from_place(row.get(1)?), deeds })
        });
        rows.and_then(Iterator::collect).attempt(ACTION)
    }
}

const HAS_WAITING: &str = "SELECT EXISTS (SELECT 1 FROM import WHERE state <> 'ghost') \
                           OR EXISTS (SELECT 1 FROM deed WHERE state = 'due' AND import IS NULL AND not_before <= ?1) \
                           OR EXISTS (SELECT 1 FROM contact INDEXED BY contact_ready WHERE acknowledged IS NOT NULL \
                             AND stuck = 0 AND held = 0 AND judged = 1 AND import IS NULL AND not_before <= ?1)";

/// Opt-outs and erasures that are due make the first lane.
fn with_urgent(lanes: Vec<(Lane, u64)>, deeds: &[DeedCount]) -> Vec<LaneCount> {
    let is_urgent = |deed: &&DeedCount| {
        let kind = DeedKind::from_name(&deed.kind);
        deed.state == DeedState::Due && matches!(kind, Some(DeedKind::Unsubscribe | DeedKind::Erase))
    };
    let urgent: u64 = deeds.iter().filter(is_urgent).map(|deed| deed.deeds).sum();
    let mut counts: std::collections::BTreeMap<Lane, u64> = lanes.into_iter().collect();
    if urgent > 0 {
        counts.entry(Lane::Protect).or_default();
    }
    let count = |(lane, contacts): (Lane, u64)| {
        let deeds = if lane == Lane::Protect { urgent } else { 0 };
        LaneCount { lane: lane.name().to_owned(), contacts, deeds }
    };
    counts.into_iter().map(count).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::checkpoint::OpenOptions;
    use crate::random::Random;

    /// Asked every few seconds: a walk over what the guard holds would take a second of each for a million contacts.
    #[test]
    fn whether_anything_waits_costs_one_look_however_much_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            dir: dir.path().to_owned(),
            key: None,
            sender: None,
            create: true,
            now: Timestamp(1),
            import_age_max: Duration::from_hours(6),
        };
        let mut checkpoint = Checkpoint::open(&options, &Random::seeded(1)).unwrap().checkpoint;
        let source = checkpoint.load_source("crm").unwrap().id;
        let add = |checkpoint: &Checkpoint, keys: std::ops::Range<u32>, held: i64| {
            for key in keys {
                let insert = "INSERT INTO contact (source, key, desired, acknowledged, read_at, lane, held) \
                              VALUES (?1, ?2, x'', x'', 0, 1, ?3)";
                checkpoint.connection.execute(insert, rusqlite::params![source.0, key.to_string(), held]).unwrap();
            }
        };
        let steps = |checkpoint: &Checkpoint| {
            let mut query = checkpoint.connection.prepare(HAS_WAITING).unwrap();
            let has_waiting: bool = query.query_row([10], |row| row.get(0)).unwrap();
            (has_waiting, query.get_status(rusqlite::StatementStatus::VmStep))
        };
        add(&checkpoint, 0..2000, 1);
        let (has_waiting, cost) = steps(&checkpoint);
        assert!(!has_waiting && cost < 100, "{cost}");
        add(&checkpoint, 2000..2001, 0);
        let (has_waiting, cost) = steps(&checkpoint);
        assert!(has_waiting && cost < 100, "{cost}");
        // until a ghost's time is over nothing can be acknowledged
        checkpoint.connection.execute("UPDATE contact SET not_before = 20", []).unwrap();
        assert!(!steps(&checkpoint).0);
        let deed = "INSERT INTO deed (source, contact, key, kind, cause, address, state, cycle) \
                    SELECT source, 1, '1', 'unsubscribe', 'sight', 7, 'unjudged', id FROM cycle";
        checkpoint.connection.execute("INSERT INTO cycle (source, began) VALUES (?1, 0)", [source.0]).unwrap();
        checkpoint.connection.execute(deed, []).unwrap();
        assert!(!steps(&checkpoint).0);
        checkpoint.connection.execute("UPDATE deed SET state = 'due'", []).unwrap();
        assert!(steps(&checkpoint).0, "an opt-out alone");
    }
}
