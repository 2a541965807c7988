//! amoCRM's list of events, from which deletions, restorations and merges are polled; newest first.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::sandbox::crm_api::people::{Change, Deed};
use crate::sandbox::crm_api::query::NotANumber;
use crate::sandbox::crm_api::state::{Request, State};
use crate::sandbox::reply::Reply;

use super::view::{ACCOUNT_ID, USER_ID, seconds};

/// Events in a page at most, unlike the other lists.
const LIMIT_MAX: i64 = 100;

/// What the list keeps.
#[derive(Debug, Default)]
pub(in crate::sandbox::crm_api) struct Events(Vec<Kept>);

#[derive(Debug)]
struct Kept {
    kind: &'static str,
    contact: u64,
    at: Timestamp,
}

impl Events {
    /// Keeps what the list tells of a deed. A merge is told of the survivor; its payload is not documented, so it has
    /// none, and the other contact only is not there any more.
    pub(in crate::sandbox::crm_api) fn note(&mut self, change: &Change) {
        let kind = match change.deed {
            Deed::Deleted | Deed::Erased if change.after.merged_into.is_some() => return,
            Deed::Deleted | Deed::Erased => "contact_deleted",
            Deed::Restored => "contact_restored",
            Deed::Merged { .. } => "entity_merged",
            Deed::Added => "contact_added",
            Deed::Edited => return,
        };
        self.0.push(Kept { kind, contact: change.after.id, at: change.at });
    }
}

/// `GET /api/v4/events`.
pub(super) fn list(state: &State, request: &Request) -> Result<Reply, NotANumber> {
    let query = &request.query;
    let (size, number) = match super::paging(state, query, LIMIT_MAX)? {
        Ok(paging) => paging,
        Err(answer) => return Ok(answer),
    };
    let from = query.number("filter[created_at][from]")?;
    let to = query.number("filter[created_at][to]")?;
    let (kinds, entities) = (query.all("filter[type]"), query.all("filter[entity]"));
    let kept = |event: &&(u64, &Kept)| {
        let (_, Kept { kind, at, .. }) = event;
        (kinds.is_empty() || kinds.contains(kind))
            && (entities.is_empty() || entities.contains(&"contact"))
            && from.is_none_or(|from| seconds(*at) >= from)
            && to.is_none_or(|to| seconds(*at) <= to)
    };
    let newest_first = (1..).zip(&state.events.0).collect::<Vec<_>>().into_iter().rev();
    let kept = newest_first.filter(|event| kept(&event)).skip((number - 1).saturating_mul(size)).take(size);
    let rows = kept.map(|(place, event)| show(place, event, &request.base)).collect();
    Ok(super::listing(request, ("events", rows), number, size))
}

fn show(place: u64, event: &Kept, base: &str) -> Value {
    let id = format!("01kasandbox{place:015}");
    // Who was added has a note that says so; the others have no values.
    let after = if event.kind == "contact_added" { json!([{ "note": { "id": place } }]) } else { json!([]) };
    json!({
        "id": id,
        "type": event.kind,
        "entity_id": event.contact,
        "entity_type": "contact",
        "created_by": USER_ID,
        "created_at": seconds(event.at),
        "value_after": after,
        "value_before": [],
        "account_id": ACCOUNT_ID,
        "_links": { "self": { "href": format!("{base}/api/v4/events/{id}") } },
        "_embedded": { "entity": {
            "id": event.contact,
            "_links": { "self": { "href": format!("{base}/api/v4/contacts/{}", event.contact) } },
        } },
    })
}
