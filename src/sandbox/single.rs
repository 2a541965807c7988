//! `POST v1/contact` and `PUT v1/contact/{id}`: carried out at once, always restoring, and refused with 409 when the
//! same body comes again within a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use crate::clock::Timestamp;

use super::bulk::refuse_for;
use super::contacts::{Change, Found, Search, Writing};
use super::engine::{Request, State};
use super::incoming::{self, Incoming};
use super::inspect::Overlap;
use super::reply::{JSON, Reply, bad_request, missing, ok, repeated, reply};
use super::wire::{DedupeOn, StandardField, WireContact};

/// "Repeated request within 1 minute", counted from the request that was carried out.
const REPEAT_WINDOW: Duration = Duration::from_mins(1);

/// When each body was carried out: (method and path, SHA-256 of the body) → moment.
pub(super) type CarriedOut = BTreeMap<(String, String), Timestamp>;

/// `POST v1/contact`.
pub(super) fn upsert(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    let contact = match read(state, now, request) {
        Ok(contact) => contact,
        Err(answer) => return *answer,
    };
    let by_id = contact.id.is_some() && contact.external_id.is_none();
    let dedupe_on = if by_id { DedupeOn::Id } else { DedupeOn::EmailOrSms };
    let search = Search { dedupe_on, field_id: None, rename_by_id: false, restore_deleted: true };
    let (id, new) = match state.contacts.find(&contact, search) {
        Found::Known(id) => (id, false),
        Found::New => (state.contacts.create(), true),
        Found::Skipped | Found::Nowhere => return bad_request("Contact not found"),
    };
    let writing = whole(state, &contact);
    write(state, now, request, Written { id, new, contact: &contact, writing: &writing });
    ok(&json!({ "id": id }))
}

/// `PUT v1/contact/{id}`.
pub(super) fn update(state: &mut State, now: Timestamp, request: &Request, id: &str) -> Reply {
    let Some(id) = id.parse::<i64>().ok().filter(|id| state.contacts.get(*id).is_some()) else { return missing() };
    let contact = match read(state, now, request) {
        Ok(contact) => contact,
        Err(answer) => return *answer,
    };
    let bearer = contact.external_id.as_deref().and_then(|external_id| state.contacts.with_external_id(external_id));
    if bearer.is_some_and(|bearer| bearer != id) {
        return bad_request("externalCustomerId belongs to another contact");
    }
    let writing = whole(state, &contact);
    write(state, now, request, Written { id, new: false, contact: &contact, writing: &writing });
    reply(StatusCode::OK, JSON, "")
}

/// Whether the same was carried out within the last minute.
pub(super) fn is_repeated(state: &State, now: Timestamp, request: &Request) -> bool {
    state.carried_out.get(&fingerprint(request)).is_some_and(|at| now.since(*at) < REPEAT_WINDOW)
}

/// Everything that refuses a single call before it is carried out.
fn read(state: &State, now: Timestamp, request: &Request) -> Result<Incoming, Box<Reply>> {
    if is_repeated(state, now, request) {
        return Err(Box::new(repeated()));
    }
    let contact: WireContact = serde_json::from_slice(&request.body)
        .map_err(|error| Box::new(bad_request(&format!("Cannot read request: {error}"))))?;
    refuse_for(state, &contact).map_err(|reason| Box::new(bad_request(&reason)))?;
    incoming::check(&contact, &state.catalogue, state.options.readings.bad_field)
        .map_err(|reason| Box::new(bad_request(&reason)))
}

/// What `POST v1/contact` and `PUT v1/contact/{id}` write.
fn whole(state: &State, contact: &Incoming) -> Writing {
    Writing {
        standard: StandardField::ALL.into(),
        wipe_standard: state.options.readings.single_wipes_absent,
        additional: contact.additional.keys().copied().collect::<BTreeSet<_>>(),
        wipe_additional: false,
        segments: Vec::new(),
        segments_exclude: Vec::new(),
    }
}

/// What a call writes, and into whom.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) id: i64,
    /// The contact was made by this call.
    pub(super) new: bool,
    pub(super) contact: &'a Incoming,
    pub(super) writing: &'a Writing,
}

/// Writes a contact at once, counts it, and remembers the body for a minute.
pub(super) fn write(state: &mut State, now: Timestamp, request: &Request, written: Written<'_>) {
    let Written { id, new, contact, writing } = written;
    let by = format!("call {}", request.number);
    for earlier in state.imports.holding(contact) {
        state.journal.overlaps.push(Overlap {
            at: now,
            shared: earlier.shared,
            earlier: earlier.session,
            later: by.clone(),
            identical: false,
            earlier_stuck: earlier.stuck,
        });
    }
    let addresses = state.contacts.write(id, contact, writing, Change { at: now, by: &by, new });
    if state.options.readings.create_resubscribes {
        state.consent.note_new_addresses(now, &addresses, &by);
    }
    state.journal.tally.contacts_written += 1;
    state.journal.tally.contacts_created += u64::from(new);
    state.carried_out.retain(|_, at| now.since(*at) < REPEAT_WINDOW);
    state.carried_out.insert(fingerprint(request), now);
}

fn fingerprint(request: &Request) -> (String, String) {
    (format!("{} {}", request.method, request.path), request.body_sha256.clone())
}
