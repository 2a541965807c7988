//! What a record says beside its fields: that it is deleted, and who was merged into it. Pure.

use serde_json::Value;

use super::description::{Deletes, Description};
use super::walk::Found;
use crate::contact::{Read, Record, Selector};
use crate::source::{Item, Place};

/// Whether a record says of itself that it is deleted.
pub(super) fn is_deleted(description: &Description, record: &Value) -> bool {
    description.deletes.iter().any(|(_, deletes)| match deletes {
        Deletes::Flag { path, equals, .. } => path.query(record).iter().any(|found| *found == equals),
        Deletes::MergedIds { .. } | Deletes::Stream(_) | Deletes::List { .. } | Deletes::Snapshot { .. } => false,
    })
}

/// The items of a record: itself, whom it was merged into, and those who were merged into it.
pub(super) fn items_of(description: &Description, found: Found, place: Place) -> Vec<Item> {
    let Found { record, id, .. } = found;
    let is_deleted = is_deleted(description, &record);
    let record = Record::Json(record);
    let mut items = Vec::with_capacity(1);
    for (_, deletes) in &description.deletes {
        match deletes {
            Deletes::Flag { merged_into: Some(selector), .. } if is_deleted => {
                let winner = text(selector, &record);
                items.extend(winner.map(|key| Item::Pointed { key, is_deleted: false, place }));
            }
            Deletes::MergedIds { path, separator } => {
                let merged = text(path, &record).unwrap_or_default();
                let keys = merged.split(separator.as_str()).map(str::trim).filter(|key| !key.is_empty());
                let others = keys.filter(|key| Some(*key) != id.as_deref());
                items.extend(others.map(|key| Item::Pointed { key: key.to_owned(), is_deleted: true, place }));
            }
            Deletes::Flag { .. } | Deletes::Stream(_) | Deletes::List { .. } | Deletes::Snapshot { .. } => {}
        }
    }
    items.push(if is_deleted {
        Item::Deleted { record, place, is_current: true }
    } else {
        Item::Record { record, place }
    });
    items
}

/// The text at a place of a record.
pub(super) fn text(selector: &Selector, record: &Record) -> Option<String> {
    match selector.read(record) {
        Read::Value(text) => Some(text.into_owned()),
        Read::Absent | Read::Empty | Read::NotScalar => None,
    }
}
