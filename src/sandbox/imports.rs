//! Imports under way: when each part of one is applied, what its status says, and which contacts unfinished imports
//! hold. Applies lazily: [`Imports::due`] gives what is due, its caller writes it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::random::Random;

use super::contacts::{Search, Writing};
use super::draw;
use super::faults::{Applied, Effect};
use super::incoming::Incoming;
use super::options::{MappingValue, SandboxOptions};
use super::reply::one_or_many;
use super::wire::{ChannelKind, DedupeOn};

/// Keeps the draws of imports apart from all others.
const STREAM: u64 = 0x1000_0000;

/// One accepted import.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) session: String,
    accepted: Timestamp,
    begins: Timestamp,
    due: Timestamp,
    /// Emptied once the import has ended.
    pub(super) members: Vec<Incoming>,
    /// How many members the part that is applied at `begins` has; the rest follow at `due`.
    first_part: usize,
    pub(super) order: Order,
    fate: Fate,
    ended: bool,
    pub(super) mapping: Vec<(String, i64)>,
    mapping_fault: Option<Effect>,
    one_as_object: bool,
    body_sha256: String,
}

/// What a request wants done with its contacts.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) search: Search,
    pub(super) writing: Writing,
    pub(super) event_key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Finishes,
    Fails(Applied),
    Sticks,
}

/// A part of an import that is to be written now.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) import: usize,
    pub(super) members: Range<usize>,
    pub(super) at: Timestamp,
    /// Whether the import ends with this part, and how: `Some(true)` is FINISHED.
    pub(super) ends: Option<bool>,
}

/// An import that a new request runs into.
#[derive(Clone, Debug)]
pub(super) struct Earlier {
    pub(super) session: String,
    pub(super) shared: String,
    pub(super) body_sha256: String,
    pub(super) stuck: bool,
}

/// All imports since the start.
#[derive(Debug, Default)]
pub(super) struct Imports {
    pub(super) all: Vec<Import>,
    by_session: BTreeMap<String, usize>,
    /// (due, order of scheduling) → (import, whether it is the last part).
    agenda: BTreeMap<(Timestamp, u64), (usize, bool)>,
    scheduled: u64,
    /// Key of a contact → unfinished imports that hold it.
    held: BTreeMap<String, Vec<usize>>,
}

impl Imports {
    /// Takes an import in; returns its session id.
    pub(super) fn accept(
        &mut self,
        now: Timestamp,
        members: Vec<Incoming>,
        order: Order,
        request: Accepted<'_>,
    ) -> String {
        let number = self.all.len();
        let random = draw::sequence(request.options.seed, STREAM + u64::try_from(number).unwrap_or(0));
        let (delay, fate) = delay_and_fate(&random, request.options, request.fate.as_ref());
        let head_start = draw::within(&random, &(Duration::ZERO..=delay));
        let count = u64::try_from(members.len()).unwrap_or(u64::MAX);
        let first_part = if count < 2 { 0 } else { 1 + draw::below(&random, count - 1) };
        let session = draw::hex::<12>(&random);
        for key in members.iter().flat_map(Incoming::keys) {
            self.held.entry(key).or_default().push(number);
        }
        self.by_session.insert(session.clone(), number);
        self.all.push(Import {
            session: session.clone(),
            accepted: now,
            begins: now.plus(head_start),
            due: now.plus(delay),
            members,
            first_part: usize::try_from(first_part).unwrap_or(0),
            order,
            fate,
            ended: false,
            mapping: Vec::new(),
            mapping_fault: request.mapping_fault,
            one_as_object: request.options.readings.mapping_one_as_object && draw::below(&random, 2) == 0,
            body_sha256: request.body_sha256.to_owned(),
        });
        if fate != Fate::Sticks {
            self.schedule(number);
        }
        session
    }

    fn schedule(&mut self, number: usize) {
        let Some((begins, due)) = self.all.get(number).map(|import| (import.begins, import.due)) else { return };
        for (at, last) in [(begins, false), (due, true)] {
            self.scheduled += 1;
            self.agenda.insert((at, self.scheduled), (number, last));
        }
    }

    /// The next part that is due by `now`, in order of time; call until `None`.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Part> {
        let entry = self.agenda.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((at, _), (number, last)) = entry.remove_entry();
        let import = self.all.get(number)?;
        let (first, all) = (import.first_part, import.members.len());
        let members = match (import.fate, last) {
            (Fate::Finishes | Fate::Fails(Applied::All | Applied::Part), false) => 0..first,
            (Fate::Finishes | Fate::Fails(Applied::All), true) => first..all,
            (Fate::Fails(Applied::Part), true) | (Fate::Fails(Applied::Nothing) | Fate::Sticks, _) => 0..0,
        };
        let finishes = import.fate == Fate::Finishes;
        Some(Part { import: number, members, at, ends: last.then_some(finishes) })
    }

    /// Closes an import whose last part was written.
    pub(super) fn end(&mut self, number: usize) {
        let Some(import) = self.all.get_mut(number) else { return };
        import.ended = true;
        for key in std::mem::take(&mut import.members).iter().flat_map(Incoming::keys) {
            let Some(holders) = self.held.get_mut(&key) else { continue };
            holders.retain(|holder| *holder != number);
            if holders.is_empty() {
                self.held.remove(&key);
            }
        }
    }

    /// Lets every stuck import end at `now`.
    pub(super) fn release_stuck(&mut self, now: Timestamp) -> usize {
        let stuck: Vec<usize> = self
            .all
            .iter()
            .enumerate()
            .filter(|(_, import)| import.fate == Fate::Sticks)
            .map(|(number, _)| number)
            .collect();
        for number in &stuck {
            if let Some(import) = self.all.get_mut(*number) {
                (import.fate, import.begins, import.due) = (Fate::Finishes, now, now);
            }
            self.schedule(*number);
        }
        stuck.len()
    }

    /// How many imports have not ended.
    pub(super) fn unfinished(&self) -> usize {
        self.all.iter().filter(|import| !import.ended).count()
    }

    /// Unfinished imports that hold this contact, each once.
    pub(super) fn holding(&self, contact: &Incoming) -> Vec<Earlier> {
        let mut found: BTreeMap<usize, String> = BTreeMap::new();
        for key in contact.keys() {
            for holder in self.held.get(&key).into_iter().flatten() {
                found.entry(*holder).or_insert_with(|| key.clone());
            }
        }
        let earlier = found.into_iter().filter_map(|(number, shared)| {
            let import = self.all.get(number)?;
            let stuck = import.fate == Fate::Sticks;
            Some(Earlier { session: import.session.clone(), shared, body_sha256: import.body_sha256.clone(), stuck })
        });
        earlier.collect()
    }

    /// The body of `importstatus`; `None` for a session that was never given.
    pub(super) fn status(&self, session: &str, now: Timestamp) -> Option<Value> {
        let import = self.all.get(*self.by_session.get(session)?)?;
        if !import.ended {
            let (status, since) =
                if import.begins <= now { ("IMPORTING", import.begins) } else { ("STARTED", import.accepted) };
            return Some(json!({ "status": status, "timestamp": iso(since) }));
        }
        let timestamp = iso(import.due);
        match import.fate {
            Fate::Fails(_) => Some(
                json!({ "status": "ERROR", "timestamp": timestamp, "description": "Import failed: internal error" }),
            ),
            Fate::Finishes | Fate::Sticks => {
                let mut body = json!({ "status": "FINISHED", "timestamp": timestamp });
                if let (Some(mapping), Some(body)) = (import.mapping_value(), body.as_object_mut()) {
                    body.insert("mapping".to_owned(), mapping);
                }
                Some(body)
            }
        }
    }
}

/// What else an acceptance needs.
pub(super) struct Accepted<'a> {
    pub(super) options: &'a SandboxOptions,
    pub(super) fate: Option<Effect>,
    pub(super) mapping_fault: Option<Effect>,
    pub(super) body_sha256: &'a str,
}

impl Import {
    fn mapping_value(&self) -> Option<Value> {
        if matches!(self.mapping_fault, Some(Effect::OmitMapping)) {
            return None;
        }
        let pairs: Vec<Value> =
            self.mapping.iter().map(|(value, id)| json!({ "dedupeValue": value, "contactId": id })).collect();
        Some(if self.one_as_object { one_or_many(pairs) } else { Value::Array(pairs) })
    }

    /// Adds a written contact to the mapping, unless a fault leaves it out.
    pub(super) fn map(&mut self, contact: &Incoming, id: i64, value: MappingValue) {
        if let (Some(Effect::OmitFromMapping(ids)), Some(external_id)) = (&self.mapping_fault, &contact.external_id)
            && ids.contains(external_id)
        {
            return;
        }
        let stored = mapping_key(contact, id, self.order.search, value);
        // Pairs come in no particular order; where one goes follows from its id, so that a replay is the same.
        let place = usize::try_from(id.unsigned_abs().wrapping_mul(0x9e37_79b9) % 1009).unwrap_or(0);
        let place = place.checked_rem(self.mapping.len() + 1).unwrap_or(0);
        self.mapping.push((stored, id));
        let last = self.mapping.len() - 1;
        self.mapping.swap(place, last);
    }
}

/// The `dedupeValue` of a contact, in its stored form.
fn mapping_key(contact: &Incoming, id: i64, search: Search, value: MappingValue) -> String {
    let external_id = contact.external_id.as_deref();
    if let (Some(external_id), MappingValue::ExternalId) = (external_id, value) {
        return external_id.to_owned();
    }
    let by_property = match search.dedupe_on {
        DedupeOn::Email => contact.email(),
        DedupeOn::Sms => contact.phone(),
        DedupeOn::EmailOrSms => contact.email().or_else(|| contact.phone()),
        DedupeOn::Push => contact.first(ChannelKind::Mobilepush),
        DedupeOn::WebPush => contact.first(ChannelKind::Webpush),
        DedupeOn::Id => return id.to_string(),
        DedupeOn::ExternalCustomerId => external_id,
        DedupeOn::FieldId => {
            let field = search.field_id.and_then(|field| i32::try_from(field).ok());
            field.and_then(|field| contact.additional.get(&field)).map(String::as_str)
        }
    };
    by_property.or_else(|| contact.email()).or_else(|| contact.phone()).unwrap_or_default().to_owned()
}

fn delay_and_fate(random: &Random, options: &SandboxOptions, fault: Option<&Effect>) -> (Duration, Fate) {
    let drawn = draw::within(random, &options.import_delay);
    if let Some(Effect::DelayImport(delay)) = fault {
        return (*delay, Fate::Finishes);
    }
    if let Some(Effect::FailImport(applied)) = fault {
        return (drawn, Fate::Fails(*applied));
    }
    (drawn, if matches!(fault, Some(Effect::StickImport)) { Fate::Sticks } else { Fate::Finishes })
}

/// ISO 8601, as `ImportSessionStatus.timestamp` is described.
fn iso(at: Timestamp) -> String {
    chrono::DateTime::from_timestamp_millis(at.0)
        .map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string())
}
