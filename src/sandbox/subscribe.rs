//! `POST v1/contact/subscribe`: double opt-in. New contacts are unconfirmed; known ones are updated except for the
//! channels they have; every call that is carried out starts a workflow.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::clock::Timestamp;

use super::contacts::{Found, Search, Writing};
use super::deeds;
use super::engine::{Request, State};
use super::incoming::{self, Incoming};
use super::reply::{Reply, bad_request, ok, repeated};
use super::rules;
use super::single::{self, Written};
use super::wire::{DedupeOn, StandardField, SubscribeContact};

/// The words of `emailStatus`, as its schema lists them.
const UNCONFIRMED: &str = "NEED_CONFIRMATION";
const KNOWN: &str = "ALREADY_SUBSCRIBED";
const UNSUBSCRIBED: &str = "BLACKLISTED";

pub(super) fn subscribe(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    if single::is_repeated(state, now, request) {
        return repeated();
    }
    let (wanted, contact) = match read(state, request) {
        Ok(read) => read,
        Err(reason) => return bad_request(&reason),
    };
    let by_id = contact.id.is_some() && contact.external_id.is_none();
    let dedupe_on = if by_id { DedupeOn::Id } else { DedupeOn::EmailOrSms };
    let search = Search { dedupe_on, field_id: None, rename_by_id: false, restore_deleted: true };
    let (id, new) = match state.contacts.find(&contact, search) {
        Found::Known(id) => (id, false),
        Found::New => (state.contacts.create(), true),
        Found::Skipped | Found::Nowhere => return bad_request("Contact not found"),
    };
    let writing = writing(state, id, &contact, wanted.groups);
    single::write(state, now, request, Written { id, new, contact: &contact, writing: &writing });
    state.journal.tally.workflows_started += 1;
    let status = status_of(state, id, new, &contact);
    if let Some(person) = state.contacts.get_mut(id) {
        person.subscriptions.extend(wanted.subscriptions);
        if new {
            person.email_status.clone_from(&status);
        }
    }
    let mut answer = Map::from_iter([("id".to_owned(), json!(id)), ("new".to_owned(), json!(new))]);
    answer.extend(status.map(|status| ("emailStatus".to_owned(), json!(status))));
    ok(&Value::Object(answer))
}

fn read(state: &State, request: &Request) -> Result<(SubscribeContact, Incoming), String> {
    let wanted: SubscribeContact =
        serde_json::from_slice(&request.body).map_err(|error| format!("Cannot read request: {error}"))?;
    deeds::known_categories(state, &wanted.subscriptions)?;
    if wanted.groups.iter().any(String::is_empty) {
        return Err("Empty segment name".to_owned());
    }
    if let Some(form) = &wanted.form_type {
        rules::form_type(form)?;
    }
    super::bulk::refuse_for(state, &wanted.contact)?;
    let contact = incoming::check(&wanted.contact, &state.catalogue, state.options.readings.bad_field)?;
    Ok((wanted, contact))
}

/// Every standard field, but no channel of a type that the contact has already.
fn writing(state: &State, id: i64, contact: &Incoming, groups: Vec<String>) -> Writing {
    let has = |field: StandardField| {
        let kind = incoming::channel_of_field(field);
        kind.is_some_and(|kind| state.contacts.get(id).is_some_and(|person| person.channels.contains_key(&kind)))
    };
    Writing {
        standard: StandardField::ALL.into_iter().filter(|field| !has(*field)).collect(),
        wipe_standard: state.options.readings.single_wipes_absent,
        additional: contact.additional.keys().copied().collect::<BTreeSet<_>>(),
        wipe_additional: false,
        segments: groups,
        segments_exclude: Vec::new(),
    }
}

/// None for a contact without an address.
fn status_of(state: &State, id: i64, new: bool, contact: &Incoming) -> Option<String> {
    let email = contact.email()?;
    let unconfirmed = state.contacts.get(id).is_some_and(|person| person.email_status.as_deref() == Some(UNCONFIRMED));
    let status = if state.consent.unsubscribed().contains(email) {
        UNSUBSCRIBED
    } else if new || unconfirmed {
        UNCONFIRMED
    } else {
        KNOWN
    };
    Some(status.to_owned())
}
