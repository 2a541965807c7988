//! What `status` and `explain` show. Reads only.

use rusqlite::{OptionalExtension, params};

use crate::clock::Timestamp;
use crate::contact::FieldPrints;
use crate::plan::Lane;

use super::alerts::Alert;
use super::imports::OpenImport;
use super::reads::SourceRow;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// How many contacts wait in a lane.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LaneCount {
    /// The lane's name.
    pub lane: String,
    /// Contacts that are due and in no call.
    pub contacts: u64,
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
    /// Due contacts by lane.
    pub lanes: Vec<LaneCount>,
    /// When the oldest change that Reteno does not hold was read.
    pub oldest_open: Option<Timestamp>,
    /// Imports that may still do something.
    pub imports: Vec<OpenImport>,
    /// Rejected contacts and records.
    pub rejections: u64,
    /// The sources.
    pub sources: Vec<SourceRow>,
    /// The alerts.
    pub alerts: Vec<Alert>,
}

/// One field of a contact's story.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FieldStory {
    /// Reteno's field.
    pub field: String,
    /// "acknowledged", "due" (Reteno holds another value) or "unknown".
    pub state: &'static str,
}

/// One contact's story.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ContactStory {
    /// The source's name.
    pub source: String,
    /// The CRM's id.
    pub key: String,
    /// Reteno's id, once known.
    pub reteno_id: Option<i64>,
    /// Each field.
    pub fields: Vec<FieldStory>,
    /// When it was last read with news.
    pub read_at: Timestamp,
    /// The CRM's change time of that record.
    pub changed_at: Option<Timestamp>,
    /// The lane it waits in.
    pub lane: String,
    /// The import that carries it.
    pub import: Option<i64>,
    /// Not before this moment.
    pub not_before: Option<Timestamp>,
    /// Refusals of it alone.
    pub attempts: u32,
    /// Complete reads in a row that lacked it.
    pub missing_reads: u32,
    /// In one line: what it waits for.
    pub waits_for: String,
}

impl Checkpoint {
    /// The state of everything.
    pub fn load_status(&self) -> Result<StatusReport, CheckpointError> {
        let count = |sql: &str| {
            self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).attempt("count").map(i64::cast_unsigned)
        };
        let contacts = count("SELECT count(*) FROM contact")?;
        let open = count("SELECT count(*) FROM contact WHERE acknowledged IS NOT NULL")?;
        let oldest_open = self
            .connection
            .query_row("SELECT min(read_at) FROM contact WHERE acknowledged IS NOT NULL AND stuck = 0", [], |row| {
                row.get::<_, Option<i64>>(0)
            })
            .attempt("look for the oldest open change")?;
        Ok(StatusReport {
            contacts,
            acknowledged: contacts - open,
            under_way: count("SELECT count(*) FROM contact WHERE import IS NOT NULL")?,
            rejected: count("SELECT count(*) FROM contact WHERE acknowledged IS NOT NULL AND stuck = 1")?,
            starved: count("SELECT count(*) FROM contact WHERE acknowledged IS NOT NULL AND stuck = 2")?,
            lanes: self.count_lanes()?,
            oldest_open: oldest_open.map(Timestamp),
            imports: self.load_imports()?,
            rejections: self.count_rejected()?,
            sources: self.load_sources()?,
            alerts: self.load_alerts()?,
        })
    }

    fn count_lanes(&self) -> Result<Vec<LaneCount>, CheckpointError> {
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT lane, count(*) FROM contact INDEXED BY contact_due \
                 WHERE acknowledged IS NOT NULL AND import IS NULL AND stuck = 0 AND judged = 1 GROUP BY lane ORDER BY lane",
            )
            .attempt("count lanes")?;
        let rows = query.query_map([], |row| {
            let lane = Lane::from_number(row.get(0)?).name().to_owned();
            Ok(LaneCount { lane, contacts: row.get::<_, i64>(1)?.cast_unsigned() })
        });
        rows.and_then(Iterator::collect).attempt("count lanes")
    }

    /// What is known of one contact.
    pub fn load_story(&self, source: &SourceRow, key: &str) -> Result<Option<ContactStory>, CheckpointError> {
        type Prints = (Vec<u8>, Option<Vec<u8>>, i64);
        let found: Option<(ContactStory, Prints)> = self
            .connection
            .query_row(
                "SELECT reteno_id, read_at, changed_at, lane, import, not_before, attempts, sightings, desired, \
                 acknowledged, stuck FROM contact WHERE source = ?1 AND key = ?2",
                params![source.id.0, key],
                |row| {
                    let story = ContactStory {
                        source: source.name.clone(),
                        key: key.to_owned(),
                        reteno_id: row.get(0)?,
                        fields: Vec::new(),
                        read_at: Timestamp(row.get(1)?),
                        changed_at: row.get::<_, Option<i64>>(2)?.map(Timestamp),
                        lane: Lane::from_number(row.get(3)?).name().to_owned(),
                        import: row.get(4)?,
                        not_before: Some(row.get::<_, i64>(5)?).filter(|time| *time > 0).map(Timestamp),
                        attempts: row.get(6)?,
                        missing_reads: row.get(7)?,
                        waits_for: String::new(),
                    };
                    Ok((story, (row.get(8)?, row.get(9)?, row.get(10)?)))
                },
            )
            .optional()
            .attempt("read a contact")?;
        let Some((mut story, (desired, acknowledged, stuck))) = found else { return Ok(None) };
        let desired = FieldPrints::decode(&desired).map_err(unreadable("list of prints"))?;
        let acknowledged =
            acknowledged.map(|blob| FieldPrints::decode(&blob)).transpose().map_err(unreadable("list of prints"))?;
        story.fields = desired
            .iter()
            .map(|(field, print)| {
                let known = acknowledged.as_ref().map_or(Some(print), |known| known.get(field));
                let state = match known {
                    Some(known) if known == print => "acknowledged",
                    Some(_) => "due",
                    None => "unknown",
                };
                FieldStory { field: field.to_string(), state }
            })
            .collect();
        story.waits_for = waits_for(&story, acknowledged.is_none(), stuck);
        Ok(Some(story))
    }

    /// The standing rejections of one contact.
    pub fn load_rejections_of(&self, source: &str, key: &str) -> Result<Vec<super::RejectionRow>, CheckpointError> {
        let all = self.load_rejections()?;
        Ok(all.into_iter().filter(|row| row.source == source && row.key.as_deref() == Some(key)).collect())
    }
}

fn waits_for(story: &ContactStory, is_acknowledged: bool, stuck: i64) -> String {
    if is_acknowledged {
        return "nothing: Reteno holds what the CRM wants".to_owned();
    }
    match (stuck, story.import, story.not_before) {
        (1, _, _) => "a change in the CRM: Reteno refused it as it is".to_owned(),
        (2, _, _) => "a full read of its source, which brings its values back".to_owned(),
        (_, Some(import), _) => format!("the end of import {import}"),
        (_, None, Some(time)) => format!("{time}, to be sent again"),
        (_, None, None) => format!("its turn in lane {}", story.lane),
    }
}
