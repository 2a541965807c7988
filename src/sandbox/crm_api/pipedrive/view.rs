//! How Pipedrive shows a person: v2 of its API, v1's inline form, and the v2 webhook.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::sandbox::crm_api::outbox::{Event, Payload};
use crate::sandbox::crm_api::people::{Change, CrmPerson, Deed};

pub(super) const COMPANY_ID: u64 = 77_001;
const OWNER_ID: u64 = 123;
/// The key of the custom field that holds the tier.
pub(super) const TIER: &str = "9dc80c50d78a15643bfc4ca79d76156a73a1ca0e";
/// The key of the custom field that holds the language.
pub(super) const LANGUAGE: &str = "1f3a5b7c9d1f3a5b7c9d1f3a5b7c9d1f3a5b7c9d";

/// RFC 3339 to the second, as v2 has it.
pub(super) fn moment(at: Timestamp) -> String {
    written(at, "%Y-%m-%dT%H:%M:%SZ")
}

fn written(at: Timestamp, format: &str) -> String {
    let time = chrono::DateTime::from_timestamp_millis(at.0);
    time.map_or_else(String::new, |time| time.format(format).to_string())
}

/// Addresses or phones: the private one is primary, and second where there is one at work.
fn channels(work: Option<&String>, own: &str, label: &str) -> Vec<Value> {
    let own = (!own.is_empty()).then(|| json!({"value": own, "primary": true, "label": label}));
    let primary = own.is_none();
    let work = work.map(|value| json!({"value": value, "primary": primary, "label": "work"}));
    work.into_iter().chain(own).collect()
}

/// A person as v2 gives it.
pub(super) fn person(person: &CrmPerson, with_marketing: bool) -> Value {
    let text = |value: &String| if value.is_empty() { Value::Null } else { json!(value) };
    let mut shown = json!({
        "id": person.id,
        "name": person.name(),
        "first_name": person.first_name,
        "last_name": person.last_name,
        "owner_id": OWNER_ID,
        "org_id": null,
        "add_time": moment(person.created),
        "update_time": moment(person.changed),
        "emails": channels(person.other_email.as_ref(), &person.email, "home"),
        "phones": channels(person.other_phone.as_ref(), &person.phone, "mobile"),
        "is_deleted": !person.is_living(),
        "visible_to": 3,
        "label_ids": [],
        "picture_id": null,
        "custom_fields": { TIER: text(&person.tier), LANGUAGE: text(&person.language) },
        "postal_address": {
            "value": text(&person.town),
            "country": null,
            "admin_area_level_1": null,
            "admin_area_level_2": null,
            "locality": text(&person.town),
            "sublocality": null,
            "route": null,
            "street_number": null,
            "subpremise": null,
            "postal_code": null,
        },
        "notes": null,
        "im": [],
        "birthday": null,
        "job_title": null,
    });
    if with_marketing {
        shown["marketing_status"] = json!(match person.opt_out {
            None => "no_consent",
            Some(true) => "unsubscribed",
            Some(false) => "subscribed",
        });
    }
    shown
}

/// A person as v1 gives it among recent changes.
pub(super) fn recent(person: &CrmPerson) -> Value {
    let plain = "%Y-%m-%d %H:%M:%S";
    json!({
        "item": "person",
        "id": person.id,
        "data": {
            "id": person.id,
            "company_id": COMPANY_ID,
            "owner_id": {
                "id": OWNER_ID, "name": "Sales User", "email": "sales@example.com", "has_pic": 0, "pic_hash": null,
                "active_flag": true, "value": OWNER_ID,
            },
            "org_id": null,
            "name": person.name(),
            "first_name": person.first_name,
            "last_name": person.last_name,
            "active_flag": person.is_living(),
            "phone": channels(person.other_phone.as_ref(), &person.phone, "mobile"),
            "email": channels(person.other_email.as_ref(), &person.email, "home"),
            "update_time": written(person.changed, plain),
            "add_time": written(person.created, plain),
            "visible_to": "3",
            TIER: person.tier,
        },
    })
}

/// What Pipedrive's webhooks tell of a deed.
pub(in crate::sandbox::crm_api) fn hook_events(change: &Change, number: u64) -> Vec<Event> {
    let after = &change.after;
    let (action, merge) = match change.deed {
        Deed::Added => ("create", None),
        Deed::Edited | Deed::Restored => ("change", None),
        Deed::Merged { loser } => ("change", Some(("merged_from_id", loser))),
        Deed::Deleted | Deed::Erased => ("delete", after.merged_into.map(|winner| ("merged_to_id", winner))),
    };
    let before = change.before.as_ref().map(|before| person(before, false));
    let now = person(after, false);
    let (data, previous) = if action == "delete" {
        (Value::Null, before.unwrap_or_default())
    } else {
        (now.clone(), before.map_or(Value::Null, |before| differing(&before, &now)))
    };
    let mut meta = json!({
        "action": action,
        "entity": "person",
        "company_id": COMPANY_ID.to_string(),
        "correlation_id": format!("00000000-0000-4000-8000-{:012}", number * 2),
        "entity_id": after.id.to_string(),
        "id": format!("00000000-0000-4000-8000-{:012}", number * 2 + 1),
        "is_bulk_edit": false,
        "timestamp": written(change.at, "%Y-%m-%dT%H:%M:%S%.3fZ"),
        "type": "general",
        "user_id": OWNER_ID.to_string(),
        "version": "2.0",
        "webhook_id": "0",
        "webhook_owner_id": OWNER_ID.to_string(),
        "change_source": "app",
        "attempt": 1,
        "host": "examplecrm.pipedrive.com",
        "permitted_user_ids": [OWNER_ID.to_string()],
    });
    if let Some((name, other)) = merge {
        meta[name] = json!(other.to_string());
    }
    let payload = Payload::Whole(json!({ "data": data, "previous": previous, "meta": meta }));
    vec![Event { setting: action, payload, person: after.id }]
}

/// The former values of what is different now.
fn differing(before: &Value, now: &Value) -> Value {
    let former = before.as_object().into_iter().flatten();
    former
        .filter(|(name, value)| now.get(name.as_str()) != Some(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
