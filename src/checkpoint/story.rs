//! What `explain` shows of one contact. Reads only.

use rusqlite::{OptionalExtension, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints};
use crate::plan::Lane;

use super::reads::SourceRow;
use super::report::DeedState;
use super::stuck::Stuck;
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

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
    /// What its record said of e-mail, where it spoke of it.
    pub consent: Option<ConsentStory>,
    /// The calls that carry it or may still be applied, the oldest first. What has ended is known by its outcome only: the
    /// state of each field, the rejections, and when Reteno was told of a no.
    pub calls: Vec<CallStory>,
    /// What the guard holds of it.
    pub held: Vec<HeldStory>,
    /// What is to be done about it besides writing fields.
    pub deeds: Vec<DeedStory>,
    /// What Reteno said of its address when a form subscribed it.
    pub email_status: Option<String>,
    /// It was deleted in Reteno by us: it comes back when it is sent.
    pub restores: bool,
    /// In one line: what it waits for.
    pub waits_for: String,
}

/// What a contact's record said of e-mail.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ConsentStory {
    /// "yes", "no" or "nothing".
    pub said: &'static str,
    /// When Reteno was last told of the no.
    pub told_at: Option<Timestamp>,
    /// Another contact (source and the CRM's id) with the same address that says no: it gets no mail because of that.
    pub silenced_by: Option<String>,
}

/// A call that carries a contact.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CallStory {
    /// The import's number.
    pub import: i64,
    /// Which call of Reteno's.
    pub call: String,
    /// When its body last went out.
    pub posted_at: Timestamp,
    /// How Reteno answered it.
    pub answer: &'static str,
    /// Reteno's name of the import, once told.
    pub session: Option<String>,
    /// Why Reteno refused this contact in it, where it did.
    pub refusal: Option<String>,
}

/// Something of a contact that the guard holds.
#[derive(Clone, Debug, serde::Serialize)]
pub struct HeldStory {
    /// The number of the list.
    pub hold: i64,
    /// What it would do.
    pub verb: String,
    /// Reteno's field; `None`: the contact as a whole.
    pub field: Option<String>,
}

/// Something that is to be done about a contact.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DeedStory {
    /// What.
    pub kind: String,
    /// What it waits for.
    pub state: DeedState,
    /// Why it is to be done: "witnessed", "sight", "gone", "again".
    pub cause: String,
    /// Not before this moment.
    pub not_before: Option<Timestamp>,
}

impl Checkpoint {
    /// What is known of one contact.
    pub fn load_story(&self, source: &SourceRow, key: &str) -> Result<Option<ContactStory>, CheckpointError> {
        type Prints = (Vec<u8>, Option<Vec<u8>>, i64, i64, Doubts);
        let found: Option<(ContactStory, Prints)> = self
            .connection
            .query_row(
                "SELECT reteno_id, read_at, changed_at, lane, import, not_before, attempts, sightings, desired, \
                 acknowledged, stuck, id, email_status, restores, older_read IS NOT NULL, \
                 EXISTS (SELECT 1 FROM rejection r WHERE r.source = ?1 AND r.key = ?2 AND r.kind IN ('record', 'erased')) \
                 FROM contact WHERE source = ?1 AND key = ?2",
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
                        consent: None,
                        calls: Vec::new(),
                        held: Vec::new(),
                        deeds: Vec::new(),
                        email_status: row.get(12)?,
                        restores: row.get(13)?,
                        waits_for: String::new(),
                    };
                    let doubts = Doubts { is_contradicted: row.get(14)?, is_refused: row.get(15)? };
                    Ok((story, (row.get(8)?, row.get(9)?, row.get(10)?, row.get(11)?, doubts)))
                },
            )
            .optional()
            .attempt("read a contact")?;
        let Some((mut story, (desired, acknowledged, stuck, id, doubts))) = found else { return Ok(None) };
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
        story.consent = self.load_consent_story(id)?;
        story.calls = self.load_call_story(id)?;
        story.held = self.load_held_story(id)?;
        story.deeds = self.load_deed_story(id)?;
        story.waits_for = waits_for(&story, acknowledged.is_none(), Stuck::from_number(stuck), doubts);
        Ok(Some(story))
    }

    /// The standing rejections of one contact.
    pub fn load_rejections_of(&self, source: &str, key: &str) -> Result<Vec<super::RejectionRow>, CheckpointError> {
        let mut all = self.load_listed(Some((source, key)))?;
        all.extend(self.load_shared_of(source, key)?);
        Ok(all)
    }

    fn load_consent_story(&self, contact: i64) -> Result<Option<ConsentStory>, CheckpointError> {
        self.connection
            .query_row(
                "SELECT c.said, c.lowered_at, (SELECT s.name || ':' || k.key FROM consent o \
                   JOIN contact k ON k.id = o.contact JOIN source s ON s.id = k.source \
                   WHERE o.address = c.address AND o.said = 1 AND o.contact <> c.contact LIMIT 1) \
                 FROM consent c WHERE c.contact = ?1",
                [contact],
                |row| {
                    let said = match row.get::<_, i64>(0)? {
                        1 => "no",
                        2 => "yes",
                        _ => "nothing",
                    };
                    let told_at = row.get::<_, Option<i64>>(1)?.map(Timestamp);
                    Ok(ConsentStory { said, told_at, silenced_by: row.get(2)? })
                },
            )
            .optional()
            .attempt("read a consent")
    }

    fn load_call_story(&self, contact: i64) -> Result<Vec<CallStory>, CheckpointError> {
        const ACTION: &str = "read which calls carry a contact";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT i.id, i.call, i.posted_at, i.state, i.session, m.failure FROM import i CROSS JOIN member m \
                 ON m.import = i.id AND m.contact = ?1 ORDER BY i.id",
            )
            .attempt(ACTION)?;
        let rows = query.query_map([contact], |row| {
            let answer = match row.get::<_, String>(3)?.as_str() {
                "intent" => "no answer yet",
                "submitted" => "taken, not applied yet",
                _ => "none that is certain: it may still be applied",
            };
            Ok(CallStory {
                import: row.get(0)?,
                call: row.get(1)?,
                posted_at: Timestamp(row.get(2)?),
                answer,
                session: row.get(4)?,
                refusal: row.get(5)?,
            })
        });
        rows.and_then(Iterator::collect).attempt(ACTION)
    }

    fn load_held_story(&self, contact: i64) -> Result<Vec<HeldStory>, CheckpointError> {
        const ACTION: &str = "read what is held of a contact";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT h.id, h.verb, i.field FROM (SELECT hold, field FROM held WHERE contact = ?1 \
                 UNION SELECT hold, 0 FROM deed WHERE contact = ?1 AND hold IS NOT NULL) i \
                 JOIN hold h ON h.id = i.hold ORDER BY h.id, i.field",
            )
            .attempt(ACTION)?;
        let rows = query.query_map([contact], |row| {
            let code: i64 = row.get(2)?;
            let field = u32::try_from(code).ok().filter(|code| *code > 0).and_then(Field::from_code);
            Ok(HeldStory { hold: row.get(0)?, verb: row.get(1)?, field: field.map(|field| field.to_string()) })
        });
        rows.and_then(Iterator::collect).attempt(ACTION)
    }

    fn load_deed_story(&self, contact: i64) -> Result<Vec<DeedStory>, CheckpointError> {
        const ACTION: &str = "read what is to be done about a contact";
        let sql = format!(
            "SELECT d.kind, {}, d.cause, d.not_before FROM deed d WHERE d.contact = ?1 ORDER BY d.id",
            DeedState::SQL
        );
        let mut query = self.connection.prepare_cached(&sql).attempt(ACTION)?;
        let rows = query.query_map([contact], |row| {
            Ok(DeedStory {
                kind: row.get(0)?,
                state: DeedState::from_place(row.get(1)?),
                cause: row.get(2)?,
                not_before: Some(row.get::<_, i64>(3)?).filter(|time| *time > 0).map(Timestamp),
            })
        });
        rows.and_then(Iterator::collect).attempt(ACTION)
    }
}

/// Why the record that was read last may say something else than what Reteno is known to hold.
#[derive(Clone, Copy)]
struct Doubts {
    /// It has a lower change time than the one believed, though it was asked for later.
    is_contradicted: bool,
    /// It could not be used.
    is_refused: bool,
}

fn waits_for(story: &ContactStory, is_acknowledged: bool, stuck: Stuck, doubts: Doubts) -> String {
    match (is_acknowledged && stuck != Stuck::Shadowed, story.deeds.first()) {
        (true, Some(deed)) => return format!("what is to be done about it: {}", deed.kind),
        (true, None) if doubts.is_refused => {
            return "a record that can be used: the last one is refused, and Reteno holds what the one before said"
                .to_owned();
        }
        (true, None) if doubts.is_contradicted => {
            return "a second look: the record that was read last has a lower change time than the one that is believed; it \
                    counts when it is read once more"
                .to_owned();
        }
        (true, None) => return "nothing: Reteno holds what the CRM wants".to_owned(),
        (false, Some(_) | None) => {}
    }
    match (stuck, story.import) {
        (Stuck::Rejected, _) => "a change in the CRM: Reteno refused it as it is".to_owned(),
        (Stuck::Starved, _) => "a full read of its source, which brings its values back".to_owned(),
        (Stuck::Shadowed, _) => "nothing: another contact with its e-mail or phone is sent in its place".to_owned(),
        (Stuck::Ended, _) => {
            "its record: it is gone from the CRM, and what was to be done about that is done".to_owned()
        }
        (Stuck::No, Some(import)) => format!("the end of import {import}"),
        (Stuck::No, None) => match (story.held.first(), story.not_before) {
            (Some(held), _) => format!("a person: `approve {}` shows what is held", held.hold),
            (None, Some(time)) => format!("{time}, to be sent again"),
            (None, None) => format!("its turn in lane {}", story.lane),
        },
    }
}
