//! What a source's item becomes for the checkpoint: mapped, left out, deleted or rejected.

use std::collections::BTreeSet;

use crate::checkpoint::Incoming;
use crate::contact::{Contact, DateFaults, Field, Mapped, Record, RecordRejection, ResolvedMapping};
use crate::source::{Fetched, Item, Place};

/// A record that was fetched by its id. `deleted`: those that were said to be deleted, which a fetch that does not find them
/// confirms.
pub(super) fn map_fetched(
    mapping: &ResolvedMapping,
    fetched: Fetched,
    deleted: &BTreeSet<&str>,
    present: i64,
) -> Incoming {
    match fetched {
        Fetched::Record(record) => {
            map_alone(mapping, &record, ("a record fetched by its id", present), Incoming::Contact)
        }
        Fetched::Deleted(record) => match mapping.read_id(&record) {
            Ok(key) => Incoming::Deleted {
                is_confirmed: deleted.contains(key.as_str()),
                key,
                changed_at: mapping.read_change_time(&record),
            },
            Err(rejection) => Incoming::Rejected {
                key: None,
                place: "a deleted record fetched by its id".to_owned(),
                reasons: reasons_of(&rejection),
            },
        },
        // who is asked for and is not there is gone now
        Fetched::Missing { key } => {
            Incoming::Deleted { is_confirmed: deleted.contains(key.as_str()), key, changed_at: None }
        }
    }
}

/// A record that came whole, as JSON.
pub(super) fn map_pushed(mapping: &ResolvedMapping, text: &[u8], present: i64) -> Incoming {
    const PLACE: &str = "a record that a webhook brought";
    match serde_json::from_slice(text) {
        Ok(value) => {
            let record = Record::Json(value);
            map_alone(mapping, &record, (PLACE, present), |contact| Incoming::Pushed {
                contact,
                unspoken: mapping.unspoken(&record),
            })
        }
        Err(_) => {
            Incoming::Rejected { key: None, place: PLACE.to_owned(), reasons: vec![(None, "is not JSON".to_owned())] }
        }
    }
}

/// The change time of a record that came with its deletion, as JSON.
pub(super) fn age_of_pushed(mapping: &ResolvedMapping, text: &[u8]) -> Option<i64> {
    mapping.read_change_time(&Record::Json(serde_json::from_slice(text).ok()?))
}

/// A record that came whole, and was sealed with another key. It says nothing of its contact, not even that it is there.
pub(super) fn reject_unreadable(key: &str) -> Incoming {
    let reason = "was sealed with another key, and is lost: the CRM has to send it once more".to_owned();
    Incoming::Rejected {
        key: None,
        place: format!("the record {key} that a webhook brought"),
        reasons: vec![(None, reason)],
    }
}

fn map_alone(
    mapping: &ResolvedMapping,
    record: &Record,
    (place, present): (&str, i64),
    incoming: impl FnOnce(Contact) -> Incoming,
) -> Incoming {
    match mapping.map(record) {
        Ok(Mapped::Contact(contact)) => {
            let changed_at = DateFaults::default().believe(mapping.dating(record), present, || place.to_owned());
            incoming(Contact { changed_at, ..contact })
        }
        Ok(Mapped::Filtered { key, said }) => Incoming::Filtered { key }.saying(said),
        Err(rejection) => reject(rejection, place.to_owned()),
    }
}

fn reject(rejection: RecordRejection, place: String) -> Incoming {
    let reasons = reasons_of(&rejection);
    Incoming::Rejected { key: rejection.key, place, reasons }.saying(rejection.said)
}

fn reasons_of(rejection: &RecordRejection) -> Vec<(Option<Field>, String)> {
    rejection.reasons.iter().map(|reason| (reason.field, reason.text.to_string())).collect()
}

/// A page's items, and the change times in it that are not believed.
pub(super) fn map_items(mapping: &ResolvedMapping, items: Vec<Item>, present: i64) -> (Vec<Incoming>, DateFaults) {
    let mut faults = DateFaults::default();
    let incoming = items.into_iter().map(|item| map_item(mapping, item, present, &mut faults)).collect();
    (incoming, faults)
}

/// Pure: the same item, mapping and present (milliseconds, with the source's lag) give the same. Change times that are not
/// believed are added to `faults`.
fn map_item(mapping: &ResolvedMapping, item: Item, present: i64, faults: &mut DateFaults) -> Incoming {
    match item {
        Item::Record { record, place } => match mapping.map(&record) {
            Ok(Mapped::Contact(contact)) => {
                let changed_at = faults.believe(mapping.dating(&record), present, || place.to_string());
                let contact = Contact { changed_at, ..contact };
                match place {
                    Place::Line(line) => Incoming::Line { contact, line },
                    Place::Message(_) | Place::Answer { .. } => Incoming::Contact(contact),
                }
            }
            Ok(Mapped::Filtered { key, said }) => Incoming::Filtered { key }.saying(said),
            Err(rejection) => reject(rejection, place.to_string()),
        },
        Item::Deleted { record, place, is_current, deleted_at } => match mapping.read_id(&record) {
            Ok(key) => {
                let changed_at = mapping.read_change_time(&record).max(deleted_at);
                Incoming::Deleted { key, is_confirmed: is_current, changed_at }
            }
            Err(rejection) => {
                Incoming::Rejected { key: None, place: place.to_string(), reasons: reasons_of(&rejection) }
            }
        },
        Item::Pointed { key, is_deleted: true, place: _, changed_at } => {
            Incoming::Deleted { key, is_confirmed: false, changed_at }
        }
        Item::Pointed { key, is_deleted: false, place: _, changed_at: _ } => Incoming::Pointed { key },
        Item::Malformed { place, reason } => {
            Incoming::Rejected { key: None, place: place.to_string(), reasons: vec![(None, reason)] }
        }
    }
}
