//! What a source's item becomes for the checkpoint: mapped, left out, deleted or rejected.

use crate::checkpoint::Incoming;
use crate::contact::{Mapped, ResolvedMapping};
use crate::source::{Item, Place};

/// Pure: the same item and mapping give the same.
pub(super) fn map_item(mapping: &ResolvedMapping, item: Item) -> Incoming {
    match item {
        Item::Record { record, place } => match mapping.map(&record) {
            Ok(Mapped::Contact(contact)) => match place {
                Place::Line(line) => Incoming::Line { contact, line },
                Place::Message(_) | Place::Answer { .. } => Incoming::Contact(contact),
            },
            Ok(Mapped::Filtered { key }) => Incoming::Filtered { key },
            Err(rejection) => Incoming::Rejected {
                key: rejection.key,
                place: place.to_string(),
                reasons: rejection.reasons.iter().map(|reason| (reason.field, reason.text.to_string())).collect(),
            },
        },
        Item::Deleted { record, place, is_current } => match mapping.read_id(&record) {
            Ok(key) => Incoming::Deleted { key, is_confirmed: is_current },
            Err(rejection) => Incoming::Rejected {
                key: None,
                place: place.to_string(),
                reasons: rejection.reasons.iter().map(|reason| (reason.field, reason.text.to_string())).collect(),
            },
        },
        Item::Pointed { key, is_deleted: true, place: _ } => Incoming::Deleted { key, is_confirmed: false },
        Item::Pointed { key, is_deleted: false, place: _ } => Incoming::Pointed { key },
        Item::Malformed { place, reason } => {
            Incoming::Rejected { key: None, place: place.to_string(), reasons: vec![(None, reason)] }
        }
    }
}
