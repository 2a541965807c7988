//! What a source's item becomes for the checkpoint: mapped, left out, deleted or rejected.

use std::collections::BTreeSet;

use crate::checkpoint::{Incoming, Origin};
use crate::contact::{Contact, DateFaults, Dating, Field, Mapped, Record, RecordRejection, ResolvedMapping};
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
            let place = ("a record fetched by its id", present, Origin::Read);
            take_alone(mapping.map(&record), mapping.dating(&record), place, Incoming::Contact)
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

/// A record that came with its webhook, as JSON. It may hold only what has changed.
pub(super) fn map_pushed(mapping: &ResolvedMapping, text: &[u8], present: i64) -> Incoming {
    const PLACE: &str = "a record that a webhook brought";
    match serde_json::from_slice(text) {
        Ok(value) => {
            let record = Record::Json(value);
            let mapped = mapping.map_partial(&record);
            take_alone(mapped, mapping.dating(&record), (PLACE, present, Origin::Pushed), |contact| Incoming::Pushed {
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

fn take_alone(
    mapped: Result<Mapped, RecordRejection>,
    dating: Dating,
    (place, present, origin): (&str, i64, Origin),
    incoming: impl FnOnce(Contact) -> Incoming,
) -> Incoming {
    match mapped {
        Ok(Mapped::Contact(contact)) => {
            let changed_at = DateFaults::default().believe(dating, present, || place.to_owned());
            incoming(Contact { changed_at, ..contact })
        }
        Ok(Mapped::Filtered { key, said }) => Incoming::Filtered { key }.saying(said, origin),
        Err(rejection) => reject(rejection, place.to_owned(), origin),
    }
}

fn reject(rejection: RecordRejection, place: String, origin: Origin) -> Incoming {
    let reasons = reasons_of(&rejection);
    Incoming::Rejected { key: rejection.key, place, reasons }.saying(rejection.said, origin)
}

const fn origin_of(place: &Place) -> Origin {
    match place {
        Place::Line(_) => Origin::Line,
        Place::Message(_) | Place::Answer { .. } => Origin::Read,
    }
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
            Ok(Mapped::Filtered { key, said }) => Incoming::Filtered { key }.saying(said, origin_of(&place)),
            Err(rejection) => {
                let origin = origin_of(&place);
                reject(rejection, place.to_string(), origin)
            }
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

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use serde_json::json;

    use super::*;
    use crate::contact::{
        AdditionalField, Catalog, FieldKind, FieldMapping, FieldRef, MappedZones, Mapping, OnInvalid, Selector,
        WriteRule,
    };

    /// `timeZone`, and a field with a time.
    fn mapping() -> ResolvedMapping {
        let field = |name: &str, place: &str| FieldMapping {
            field: FieldRef::parse(name).unwrap(),
            selector: Selector::parse(place).unwrap(),
            on_invalid: OnInvalid::DropField,
            region: None,
            prefix: String::new(),
            write: WriteRule::Always,
        };
        let visit = AdditionalField {
            id: 1,
            key: "A.VISIT".to_owned(),
            name: "Visit".to_owned(),
            kind: FieldKind::DateTime,
            min: None,
            max: None,
            readonly: false,
        };
        let mapping = Mapping {
            key: Selector::parse("id").unwrap(),
            fields: vec![field("timeZone", "zone"), field("1", "visit")],
            changed_at: None,
            filter: None,
            consent: None,
            subscriptions: None,
            zones: MappedZones { source: None, account: Some(Tz::Europe__Kyiv) },
            null_values: Vec::new(),
            segments: Vec::new(),
        };
        mapping.resolve(&[visit].into_iter().collect::<Catalog>()).0
    }

    /// A fetched record without a zone has none; a pushed one may only not repeat it.
    #[test]
    fn only_a_pushed_record_waits_for_the_zone_of_its_contact() {
        let record = json!({"id": 7, "visit": "2024-05-31T22:30:00Z"});
        let Incoming::Pushed { contact, .. } = map_pushed(&mapping(), record.to_string().as_bytes(), 0) else {
            panic!("no pushed contact")
        };
        assert_eq!((contact.fields.len(), contact.dropped.len()), (0, 1));
        let fetched = Fetched::Record(Record::Json(record));
        let Incoming::Contact(contact) = map_fetched(&mapping(), fetched, &BTreeSet::new(), 0) else {
            panic!("no fetched contact")
        };
        assert_eq!((contact.fields.len(), contact.dropped.len()), (1, 0));
    }
}
