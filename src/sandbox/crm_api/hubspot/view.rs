//! How HubSpot shows a contact: all properties as strings, those asked for and a few always; and its webhook events.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::sandbox::crm_api::outbox::{Event, Payload};
use crate::sandbox::crm_api::people::{Change, CrmPerson, Deed};

pub(super) const PORTAL_ID: u64 = 1_234_567;
const APP_ID: u64 = 1_160_452;
/// Properties that come unasked.
const ALWAYS: &[&str] = &["createdate", "hs_object_id", "lastmodifieddate"];
/// Properties that come where none are asked for.
const DEFAULT: &[&str] = &["email", "firstname", "lastname"];
/// Properties of the account's contacts: name and type.
pub(super) const PROPERTIES: &[(&str, &str)] = &[
    ("address", "string"),
    ("city", "string"),
    ("country", "string"),
    ("createdate", "datetime"),
    ("email", "string"),
    ("firstname", "string"),
    ("hs_additional_emails", "enumeration"),
    ("hs_email_optout", "bool"),
    ("hs_language", "enumeration"),
    ("hs_merged_object_ids", "enumeration"),
    ("hs_object_id", "number"),
    ("interests", "enumeration"),
    ("lastmodifieddate", "datetime"),
    ("lastname", "string"),
    ("loyalty_tier", "string"),
    ("mobilephone", "string"),
    ("phone", "string"),
    ("state", "string"),
    ("zip", "string"),
];
/// What moves with every write, so that no event tells of it.
const SILENT: &[&str] = &["lastmodifieddate", "hs_merged_object_ids"];

/// RFC 3339 with milliseconds.
pub(super) fn moment(at: Timestamp) -> String {
    let time = chrono::DateTime::from_timestamp_millis(at.0);
    time.map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// A property's value; `None` where it has none, or is no property.
pub(super) fn property(person: &CrmPerson, name: &str) -> Option<String> {
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    match name {
        "city" => text(&person.town),
        "createdate" => Some(moment(person.created)),
        "email" => text(&person.email),
        "firstname" => text(&person.first_name),
        "hs_additional_emails" => person.other_email.clone(),
        "hs_email_optout" => person.opt_out.map(|value| value.to_string()),
        "hs_language" => text(&person.language),
        "hs_merged_object_ids" => {
            let ids: Vec<String> = person.merged.iter().map(ToString::to_string).collect();
            (!ids.is_empty()).then(|| ids.join(";"))
        }
        "hs_object_id" => Some(person.id.to_string()),
        "lastmodifieddate" => Some(moment(person.changed)),
        "lastname" => text(&person.last_name),
        "loyalty_tier" => text(&person.tier),
        "mobilephone" => text(&person.phone),
        "phone" => person.other_phone.clone(),
        _ => None,
    }
}

/// The value of a property that is a number or a moment (in milliseconds).
pub(super) fn number(person: &CrmPerson, name: &str) -> Option<i64> {
    match name {
        "createdate" => Some(person.created.0),
        "hs_object_id" => i64::try_from(person.id).ok(),
        "lastmodifieddate" => Some(person.changed.0),
        _ => None,
    }
}

/// A contact with the properties asked for; an unset one is null.
pub(super) fn contact(person: &CrmPerson, asked: &[&str]) -> Value {
    let more = if asked.is_empty() { DEFAULT } else { asked };
    let known = |name: &&&str| PROPERTIES.iter().any(|(known, _)| known == *name);
    let names = ALWAYS.iter().chain(more.iter().filter(known));
    let properties: BTreeMap<&str, Option<String>> = names.map(|name| (*name, property(person, name))).collect();
    let mut contact = json!({
        "id": person.id.to_string(),
        "properties": properties,
        "createdAt": moment(person.created),
        "updatedAt": moment(person.changed),
        "archived": !person.is_living(),
    });
    if let Some(at) = person.deleted {
        contact["archivedAt"] = json!(moment(at));
    }
    contact
}

/// What HubSpot's webhooks tell of a deed: one event for each property that an edit moved. A merge tells of itself and
/// of the other contact's deletion, never of the properties it moved.
pub(in crate::sandbox::crm_api) fn hook_events(change: &Change, number: u64) -> Vec<Event> {
    let person = &change.after;
    let event = |place: u64, subscription: u64, kind: &'static str, more: Value| {
        let mut event = json!({
            "eventId": 3_816_279_340_u64 + number * 16 + place,
            "subscriptionId": subscription,
            "portalId": PORTAL_ID,
            "appId": APP_ID,
            "occurredAt": change.at.0,
            "subscriptionType": kind,
            "attemptNumber": 0,
            "objectId": person.id,
            "changeSource": "CRM_UI",
        });
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        Event { setting: kind, payload: Payload::Element(event), person: person.id }
    };
    match change.deed {
        Deed::Added => vec![event(0, 25, "contact.creation", json!({"changeFlag": "NEW"}))],
        Deed::Edited => {
            let moved = moved(change);
            let told = |((name, value), place): (&(&str, String), u64)| {
                let more = json!({"propertyName": name, "propertyValue": value, "sourceId": "userId:77"});
                event(place, 22, "contact.propertyChange", more)
            };
            moved.iter().zip(0..).map(told).collect()
        }
        Deed::Deleted => vec![event(0, 26, "contact.deletion", json!({"changeFlag": "DELETED"}))],
        Deed::Erased => vec![
            event(0, 28, "contact.privacyDeletion", json!({"changeFlag": "DELETED"})),
            event(1, 26, "contact.deletion", json!({"changeFlag": "DELETED"})),
        ],
        Deed::Restored => vec![event(0, 29, "contact.restore", json!({"changeFlag": "RESTORED"}))],
        Deed::Merged { loser } => {
            let more = json!({
                "primaryObjectId": person.id,
                "mergedObjectIds": [loser],
                "newObjectId": person.id,
                "numberOfPropertiesMoved": 0,
                "changeFlag": "MERGED",
            });
            vec![event(0, 27, "contact.merge", more)]
        }
    }
}

/// The properties that an edit moved, with their new values.
fn moved(change: &Change) -> Vec<(&'static str, String)> {
    let Some(before) = &change.before else { return Vec::new() };
    let telling = PROPERTIES.iter().map(|(name, _)| *name).filter(|name| !SILENT.contains(name));
    let moved = telling.filter(|name| property(before, name) != property(&change.after, name));
    moved.map(|name| (name, property(&change.after, name).unwrap_or_default())).collect()
}
