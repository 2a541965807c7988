//! `POST v1/contacts` and `GET v1/importstatus/{session}`: what is refused at once, what fails contact by contact, and
//! what is taken in.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value, json};

use crate::clock::Timestamp;

use super::contacts::{Search, Writing};
use super::engine::{Request, State};
use super::facts::ADDRESS_BOOK_ID;
use super::faults::{Effect, Slot};
use super::imports::{Accepted, Order};
use super::incoming::{self, Incoming};
use super::inspect::Overlap;
use super::reply::{Reply, bad_request, missing, ok, one_or_many, page};
use super::routes::CallKind;
use super::rules;
use super::wire::{BulkUpdate, ChannelKind, DedupeOn, FailedContact, StandardField, WireContact};

/// Reteno's bound on one request.
const CONTACTS_MAX: usize = 3000;

/// `POST v1/contacts`.
pub(super) fn submit(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    let update: BulkUpdate = match serde_json::from_slice(&request.body) {
        Ok(update) => update,
        Err(error) => return bad_request(&format!("Cannot read request: {error}")),
    };
    let ids = || update.contacts.iter().filter_map(|contact| contact.external_customer_id.as_ref());
    if ids().any(|id| state.jammed.contains(id)) {
        return page(StatusCode::BAD_GATEWAY, "Bad gateway", "");
    }
    if let Err(reason) = refuse_whole(state, &update) {
        return bad_request(&reason);
    }
    let (members, failed) = divide(state, &update.contacts, update.dedupe_on, update.field_id);
    let all_failed = members.is_empty();
    state.journal.received(update.contacts.len(), failed.iter().map(|(_, reason)| reason));
    let failed: Vec<Value> = failed
        .iter()
        .filter_map(|(contact, reason)| serde_json::to_value(FailedContact::of(contact, reason)).ok())
        .collect();
    let mut answer = serde_json::Map::new();
    if !failed.is_empty() {
        answer.insert("failedContacts".to_owned(), one_or_many(failed));
    }
    if !all_failed || state.options.readings.session_when_all_fail {
        let session = accept(state, now, members, order(state, &update), request);
        let omitted = state.faults.strike(CallKind::SubmitContacts, Slot::Content);
        if !matches!(omitted, Some(Effect::OmitSessionId)) {
            answer.insert("asyncSessionId".to_owned(), json!(session));
        }
    }
    ok(&Value::Object(answer))
}

/// `GET v1/importstatus/{session}`.
pub(super) fn import_status(state: &mut State, now: Timestamp, session: &str) -> Reply {
    let Some(mut body) = state.imports.status(session, now) else { return missing() };
    if let (Some(Effect::UnknownStatus(status)), Some(body)) =
        (state.faults.strike(CallKind::ImportStatus, Slot::Content), body.as_object_mut())
    {
        body.insert("status".to_owned(), json!(status));
        body.remove("mapping");
    }
    ok(&body)
}

/// What fails the whole request.
fn refuse_whole(state: &State, update: &BulkUpdate) -> Result<(), String> {
    if update.contacts.is_empty() {
        return Err("contacts is empty".to_owned());
    }
    if update.contacts.len() > CONTACTS_MAX {
        return Err(format!("More than {CONTACTS_MAX} contacts"));
    }
    let unknown = |id: i64| Err(format!("Unknown field id {id}"));
    if let Some(id) = update.custom_fields_ids.iter().flatten().find(|id| !state.catalogue.contains_key(id)) {
        return unknown(i64::from(*id));
    }
    if update.dedupe_on == DedupeOn::FieldId {
        let Some(id) = update.field_id else { return Err("fieldId is required".to_owned()) };
        if !i32::try_from(id).is_ok_and(|id| state.catalogue.contains_key(&id)) {
            return unknown(id);
        }
    }
    if let Some(key) = &update.event_key_for_new_contacts {
        rules::event_key(key)?;
    }
    if update.group_names.iter().chain(&update.group_names_exclude).any(String::is_empty) {
        return Err("Empty segment name".to_owned());
    }
    update.contacts.iter().try_for_each(|contact| refuse_for(state, contact))
}

/// What one contact can do to the whole request.
pub(super) fn refuse_for(state: &State, contact: &WireContact) -> Result<(), String> {
    if let Some(id) = incoming::unknown_field(contact, &state.catalogue) {
        return Err(format!("Unknown field id {id}"));
    }
    if contact.address_book_id.is_some_and(|id| id != ADDRESS_BOOK_ID) {
        return Err("Unknown addressBookId".to_owned());
    }
    if contact.external_customer_id.as_ref().is_some_and(|id| state.poisoned.contains(id)) {
        return Err("Bad request".to_owned());
    }
    Ok(())
}

type Failure = (WireContact, String);

/// Checked contacts, and those that fail with their reasons.
pub(super) fn divide(
    state: &State,
    contacts: &[WireContact],
    dedupe_on: DedupeOn,
    field_id: Option<i64>,
) -> (Vec<Incoming>, Vec<Failure>) {
    let mut members = Vec::with_capacity(contacts.len());
    let mut failed = Vec::new();
    for contact in contacts {
        let checked = incoming::check(contact, &state.catalogue, state.options.readings.bad_field);
        match checked.and_then(|incoming| sought(incoming, dedupe_on, field_id)) {
            Ok(incoming) => members.push(incoming),
            Err(reason) => failed.push((contact.clone(), reason)),
        }
    }
    (members, failed)
}

/// A contact must carry what it is to be found by.
fn sought(contact: Incoming, dedupe_on: DedupeOn, field_id: Option<i64>) -> Result<Incoming, String> {
    let field = field_id.and_then(|id| i32::try_from(id).ok());
    let carries = match dedupe_on {
        DedupeOn::Email => contact.email().is_some(),
        DedupeOn::Sms => contact.phone().is_some(),
        DedupeOn::EmailOrSms => contact.email().or_else(|| contact.phone()).is_some(),
        DedupeOn::Push => contact.first(ChannelKind::Mobilepush).is_some(),
        DedupeOn::WebPush => contact.first(ChannelKind::Webpush).is_some(),
        DedupeOn::Id => contact.id.is_some(),
        DedupeOn::ExternalCustomerId => false,
        DedupeOn::FieldId => field.is_some_and(|field| contact.additional.contains_key(&field)),
    };
    if carries || contact.external_id.is_some() { Ok(contact) } else { Err("Contact has no dedupe value".to_owned()) }
}

fn order(state: &State, update: &BulkUpdate) -> Order {
    let readings = &state.options.readings;
    let listed = |fields: &Vec<StandardField>| fields.iter().copied().collect::<BTreeSet<_>>();
    Order {
        search: Search {
            dedupe_on: update.dedupe_on,
            field_id: update.field_id,
            rename_by_id: readings.rename_by_id,
            restore_deleted: update.restore_deleted,
        },
        writing: Writing {
            standard: update.contact_fields.as_ref().map_or_else(|| StandardField::ALL.into(), listed),
            wipe_standard: true,
            additional: update.custom_fields_ids.iter().flatten().copied().collect(),
            wipe_additional: readings.wipe_listed_additional,
            segments: update.group_names.clone(),
            segments_exclude: update.group_names_exclude.clone(),
        },
        event_key: update.event_key_for_new_contacts.clone(),
    }
}

/// Begins an import of what [`super::engine::State::advance`] is to apply; returns its session.
pub(super) fn accept(
    state: &mut State,
    now: Timestamp,
    members: Vec<Incoming>,
    order: Order,
    request: &Request,
) -> String {
    let earlier: Vec<_> = members.iter().flat_map(|member| state.imports.holding(member)).collect();
    let accepted = Accepted {
        options: &state.options,
        fate: state.faults.strike(request.kind, Slot::ImportFate),
        mapping_fault: state.faults.strike(request.kind, Slot::Mapping),
        body_sha256: &request.body_sha256,
    };
    let session = state.imports.accept(now, members, order, accepted);
    state.journal.accepted(&request.body_sha256);
    for earlier in earlier {
        state.journal.overlaps.push(Overlap {
            at: now,
            shared: earlier.shared,
            earlier: earlier.session,
            later: session.clone(),
            identical: earlier.body_sha256 == request.body_sha256,
            earlier_stuck: earlier.stuck,
        });
    }
    session
}
