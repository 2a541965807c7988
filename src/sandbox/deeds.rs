//! The calls that do one thing to contacts that are known: delete, erase, leave a segment, replace the subscription
//! categories. Carried out at once.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::json;

use super::engine::{Request, State};
use super::reply::{JSON, Reply, TEXT, bad_request, missing, ok, reply};
use super::wire::{ModifyContacts, Subscriptions};

/// Reteno's bound on one detach.
const DETACH_IDS_MAX: usize = 500;

/// Whether the query of a deletion asks for an erasure.
pub(super) fn erases(query: &str) -> bool {
    url::form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "erase" && value == "true")
}

/// `DELETE v1/contact/{id}` or `DELETE v1/contact?externalCustomerId=`: restorable, and done again without complaint.
pub(super) fn delete(state: &mut State, request: &Request, id: &str) -> Reply {
    let known = url::form_urlencoded::parse(request.query.as_bytes()).all(|(name, value)| match &*name {
        "erase" => matches!(&*value, "true" | "false"),
        "externalCustomerId" => id.is_empty(),
        _ => false,
    });
    if !known {
        return bad_request("Cannot read the query");
    }
    let id = match named(state, request, id) {
        Ok(id) => id,
        Err(reason) => return bad_request(reason),
    };
    let person = id.and_then(|id| state.contacts.get(id).map(|person| (id, person.deleted)));
    let Some((id, deleted)) = person else { return missing() };
    if !deleted {
        state.contacts.delete(id);
        state.journal.tally.contacts_deleted += 1;
    }
    reply(StatusCode::OK, JSON, "")
}

/// The same with `erase=true`: also of a deleted contact.
pub(super) fn erase(state: &mut State, request: &Request, id: &str) -> Reply {
    let id = match named(state, request, id) {
        Ok(id) => id,
        Err(reason) => return bad_request(reason),
    };
    if !id.is_some_and(|id| state.contacts.erase(id)) {
        return missing();
    }
    state.journal.tally.contacts_erased += 1;
    reply(StatusCode::OK, JSON, "\"\"")
}

/// Whom a deletion names: by Reteno's id in its path, or by the external id in its query.
fn named(state: &State, request: &Request, id: &str) -> Result<Option<i64>, &'static str> {
    if !id.is_empty() {
        return Ok(id.parse().ok());
    }
    let external_id = url::form_urlencoded::parse(request.query.as_bytes())
        .find(|(name, value)| name == "externalCustomerId" && !value.is_empty())
        .map(|(_, value)| value.into_owned());
    match external_id {
        Some(external_id) => Ok(state.contacts.with_external_id(&external_id)),
        None => Err("externalCustomerId is required"),
    }
}

/// `POST v1/group/{id}/contacts/detach`. Without any id it takes everybody out, as Reteno's words have it.
pub(super) fn detach(state: &mut State, request: &Request, group: &str) -> Reply {
    let name = group.parse::<u64>().ok().and_then(|group| state.options.groups.get(&group).cloned());
    let Some(name) = name else { return missing() };
    let contacts: ModifyContacts = match serde_json::from_slice(&request.body) {
        Ok(contacts) => contacts,
        Err(error) => return bad_request(&format!("Cannot read request: {error}")),
    };
    let ModifyContacts { contact_ids, external_customer_ids } = contacts;
    if contact_ids.is_some() && external_customer_ids.is_some() {
        return bad_request("Either contactIds or externalCustomerIds");
    }
    let ids: Vec<i64> = contact_ids.unwrap_or_default();
    let external_ids: Vec<String> = external_customer_ids.unwrap_or_default();
    if ids.len().max(external_ids.len()) > DETACH_IDS_MAX {
        return bad_request(&format!("More than {DETACH_IDS_MAX} ids"));
    }
    if ids.is_empty() && external_ids.is_empty() {
        for person in state.contacts.iter_mut() {
            person.segments.remove(&name);
        }
        *state.journal.tally.segments_emptied.entry(name).or_default() += 1;
        return reply(StatusCode::OK, TEXT, "OK");
    }
    let named = external_ids.iter().filter_map(|id| state.contacts.with_external_id(id)).collect::<Vec<_>>();
    // Whoever is not known, or not in the segment, is passed over.
    for id in ids.into_iter().chain(named) {
        let left = state.contacts.get_mut(id).is_some_and(|person| person.segments.remove(&name));
        state.journal.tally.contacts_detached += u64::from(left);
    }
    reply(StatusCode::OK, TEXT, "OK")
}

/// `PUT v1/contact/{id}/subscriptions`: the whole set, which may be empty. It does not bring a deleted contact back.
pub(super) fn set_subscriptions(state: &mut State, request: &Request, id: &str) -> Reply {
    let living = |id: &i64| state.contacts.get(*id).is_some_and(|person| !person.deleted);
    let Some(id) = id.parse::<i64>().ok().filter(living) else { return missing() };
    let Subscriptions { subscriptions } = match serde_json::from_slice(&request.body) {
        Ok(subscriptions) => subscriptions,
        Err(error) => return bad_request(&format!("Cannot read request: {error}")),
    };
    if let Err(reason) = known_categories(state, &subscriptions) {
        return bad_request(&reason);
    }
    if let Some(person) = state.contacts.get_mut(id) {
        person.subscriptions = subscriptions.into_iter().collect::<BTreeSet<_>>();
    }
    state.journal.tally.subscriptions_replaced += 1;
    ok(&json!("OK"))
}

/// Refuses a key that is no category's.
pub(super) fn known_categories(state: &State, keys: &[String]) -> Result<(), String> {
    let known = |key: &String| state.options.subscription_categories.iter().any(|category| category.key == *key);
    keys.iter().find(|key| !known(key)).map_or(Ok(()), |key| Err(format!("Unknown subscription category {key}")))
}
