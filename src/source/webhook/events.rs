//! From a decoded body to events: which contacts it names, and what became of each. It gives records no meaning.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Number, Value};
use serde_json_path::JsonPath;

use super::{Event, EventKind, Refused, Taken};

/// A delivery that names more is no hint but a flood; the senders known batch by 50 or 100.
const EVENTS_MAX: usize = 10_000;

/// No CRM has longer ids, and each is stored.
const KEY_BYTES_MAX: usize = 256;

/// What an event asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The contact may have changed: fetch it.
    Fetch,
    /// The event holds the contact as it is now; only with `webhook.record`.
    Upsert,
    /// The contact is deleted.
    Delete,
    /// Nothing.
    Ignore,
}

/// Where the events of a body are. All paths but `events` begin at the event.
#[derive(Debug)]
pub struct Reading {
    /// The events.
    pub events: JsonPath,
    /// Whom they are about.
    pub ids: Ids,
    /// The id of the contact that took the place of this one, where there is one.
    pub merged_into: Option<JsonPath>,
    /// The whole record of an [`Action::Upsert`]. With it a deletion needs no look.
    pub record: Option<JsonPath>,
}

/// Whom an event is about, and what it asks for.
#[derive(Debug)]
pub enum Ids {
    /// Ids at one place, and the action of all of them; an event whose action counts has one id at least.
    One {
        /// Where they are.
        id: JsonPath,
        /// What it asks for.
        action: ActionRule,
    },
    /// The place tells the action; an event may have ids at none of the places. A path leaves out what is no contact.
    ByAction(Vec<(Action, JsonPath)>),
}

/// How an event tells what it asks for.
#[derive(Debug)]
pub enum ActionRule {
    /// Always this.
    Fixed(Action),
    /// By a word in it. Words that are not listed ask for nothing: a hook may be told more than was meant for it.
    Told {
        /// Where the word is.
        path: JsonPath,
        /// The words that count.
        actions: BTreeMap<String, Action>,
    },
}

impl Reading {
    /// The events, without those that ask for nothing. Refused where none of them can be understood.
    pub(super) fn take(&self, body: &Value) -> Result<Taken, Refused> {
        let (mut taken, mut first, mut understood) = (Taken::default(), None, 0_u64);
        let mut unknown = Unknown::default();
        for event in self.events.query(body) {
            let before = taken.events.len();
            match self.take_event(event, &mut unknown, &mut taken.events) {
                Ok(()) => understood += 1,
                Err(refused) if taken.events.len() >= EVENTS_MAX => return Err(refused),
                Err(refused) => {
                    taken.events.truncate(before);
                    taken.refused.0 += 1;
                    first.get_or_insert(refused);
                }
            }
        }
        match first {
            Some(refused) if understood == 0 => return Err(refused),
            Some(refused) => taken.refused.1 = Some(refused.to_string()),
            None => {}
        }
        taken.unknown = unknown.count;
        taken.unknown_word = unknown.word.filter(|_| !unknown.has_known);
        Ok(taken)
    }

    fn take_event(&self, event: &Value, unknown: &mut Unknown, events: &mut Vec<Event>) -> Result<(), Refused> {
        match &self.ids {
            Ids::One { id, action } => {
                let action = action.of(event, unknown)?;
                self.read(event, (action, id), true, events)
            }
            Ids::ByAction(all) => {
                unknown.has_known = true;
                all.iter().try_for_each(|(action, id)| self.read(event, (*action, id), false, events))
            }
        }
    }

    fn read(
        &self,
        event: &Value,
        (action, id): (Action, &JsonPath),
        needs_id: bool,
        events: &mut Vec<Event>,
    ) -> Result<(), Refused> {
        if action == Action::Ignore {
            return Ok(());
        }
        let keys = keys(event, id)?;
        if keys.is_empty() && needs_id {
            return Err(malformed("an event has no id"));
        }
        let keys_count = keys.len();
        for key in keys {
            if events.len() == EVENTS_MAX {
                return Err(malformed("it has more events than a delivery may have"));
            }
            let kind = self.kind(event, action, &key, keys_count)?;
            events.push(Event { key, kind });
        }
        Ok(())
    }

    fn kind(&self, event: &Value, action: Action, key: &str, keys: usize) -> Result<EventKind, Refused> {
        let winner = match &self.merged_into {
            Some(path) => self::keys(event, path)?.into_iter().find(|winner| winner != key),
            None => None,
        };
        Ok(match (action, winner) {
            (Action::Fetch | Action::Delete, Some(winner)) => EventKind::MergedInto { winner },
            (Action::Delete, None) if self.record.is_some() => {
                EventKind::WholeDeleted { record: self.record(event, keys).ok() }
            }
            (Action::Delete, None) => EventKind::Deleted,
            (Action::Upsert, _) => EventKind::Whole(self.record(event, keys)?),
            (Action::Fetch | Action::Ignore, _) => EventKind::Changed,
        })
    }

    fn record(&self, event: &Value, keys: usize) -> Result<Value, Refused> {
        let found = self.record.as_ref().and_then(|path| path.query(event).exactly_one().ok());
        match found {
            Some(record @ Value::Object(_)) if keys == 1 => Ok(record.clone()),
            Some(Value::Object(_)) => Err(malformed("an event has one record and several ids")),
            Some(_) | None => Err(malformed("an event does not hold one record")),
        }
    }
}

/// Words of a delivery that the description does not know.
#[derive(Default)]
struct Unknown {
    count: u64,
    /// The first of them, where it looks like one.
    word: Option<String>,
    /// Another one is known.
    has_known: bool,
}

/// Longer ones are no words for what happened.
const WORD_BYTES_MAX: usize = 48;

impl ActionRule {
    fn of(&self, event: &Value, unknown: &mut Unknown) -> Result<Action, Refused> {
        match self {
            Self::Fixed(action) => {
                unknown.has_known = true;
                Ok(*action)
            }
            Self::Told { path, actions } => {
                let word = path.query(event).exactly_one().ok().and_then(scalar);
                let word = word.ok_or_else(|| malformed("an event does not tell its action"))?;
                let known = actions.get(&word).copied();
                unknown.has_known |= known.is_some();
                unknown.count += u64::from(known.is_none());
                // it is shown, so it must be a word of a program and nobody's name or address
                let is_of_word = |letter: char| letter.is_ascii_alphabetic() || matches!(letter, '.' | '_' | ':' | '-');
                if known.is_none() && word.len() <= WORD_BYTES_MAX && word.chars().all(is_of_word) {
                    unknown.word.get_or_insert(word);
                }
                Ok(known.unwrap_or(Action::Ignore))
            }
        }
    }
}

/// The ids at a place, each once, in their order. Null and blank are none.
fn keys(event: &Value, path: &JsonPath) -> Result<Vec<String>, Refused> {
    let (mut keys, mut seen) = (Vec::new(), BTreeSet::new());
    for node in path.query(event) {
        // Some senders give one id or a list of them at the same place.
        let nodes = node.as_array().map_or(std::slice::from_ref(node), Vec::as_slice);
        for node in nodes.iter().filter(|node| !node.is_null()) {
            let key = scalar(node).ok_or_else(|| malformed("an id is neither text nor a number"))?;
            if key.len() > KEY_BYTES_MAX {
                return Err(malformed("an id is longer than an id can be"));
            }
            if !key.is_empty() && seen.insert(key.clone()) {
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

/// A text without outer blanks, or a number, as a selector of records reads it.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(plain(number)),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `1.0` and `1` are one id; no exponent.
fn plain(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => format!("{}", float + 0.0), // -0.0 + 0.0 is 0.0
        _ => number.to_string(),
    }
}

fn malformed(what: &str) -> Refused {
    Refused::Malformed(what.to_owned())
}
