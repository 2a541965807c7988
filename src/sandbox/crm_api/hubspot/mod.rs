//! HubSpot, CRM v3: search, lists, fetches, tokens. What stands here follows the vendor's pages; where they say
//! nothing, the reading that hurts a careless client more.

mod search;
mod view;

use http::StatusCode;
use http::header::HeaderName;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::sandbox::reply::{self, JSON, Reply};

use super::calls::HubCall;
use super::grants::{Asked, CrmTokens, Denied};
use super::options::Dialect;
use super::people::CrmPerson;
use super::query::{NotANumber, Query};
use super::state::{Request, State};

pub(super) use self::view::hook_events;

const LIST_LIMIT_DEFAULT: i64 = 10;
const LIST_LIMIT_MAX: i64 = 100;
const BATCH_MAX: usize = 100;
/// The recycle bin keeps a contact so long.
const ARCHIVED_FOR: std::time::Duration = std::time::Duration::from_hours(24 * 90);
const CORRELATION: &str = "00000000-0000-4000-8000-00000000cafe";

/// Carries one call of HubSpot's out.
pub(super) fn answer(state: &mut State, now: Timestamp, call: HubCall, request: &Request) -> Reply {
    match call {
        HubCall::Search => search::answer(state, now, request),
        HubCall::List => {
            list(state, now, request).unwrap_or_else(|NotANumber(name)| bad(&format!("{name} was not a valid integer")))
        }
        HubCall::Contact => contact(state, request),
        HubCall::Batch => batch(state, now, request),
        HubCall::Properties => properties(),
        // The old lists of properties are bare arrays.
        HubCall::Nothing if request.path.ends_with("/properties") => reply::ok(&json!([])),
        HubCall::Nothing => reply::ok(&json!({ "results": [] })),
        HubCall::Token => token(state, now, request),
    }
}

fn error(status: StatusCode, category: &str, message: &str) -> Reply {
    let body = json!({"status": "error", "message": message, "correlationId": CORRELATION, "category": category});
    reply::reply(status, JSON, body.to_string())
}

fn bad(message: &str) -> Reply {
    error(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
}

pub(super) fn unauthorized() -> Reply {
    error(StatusCode::UNAUTHORIZED, "EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired")
}

pub(super) fn too_many(policy: &str) -> Reply {
    let body = json!({
        "status": "error",
        "message": format!("You have reached your {} limit.", policy.to_lowercase()),
        "errorType": "RATE_LIMIT",
        "correlationId": CORRELATION,
        "policyName": policy,
    });
    let mut answer = reply::reply(StatusCode::TOO_MANY_REQUESTS, JSON, body.to_string());
    if policy != "SECONDLY" {
        // Search has no headers about its rate.
        reply::put(&mut answer, HeaderName::from_static("x-hubspot-ratelimit-interval-milliseconds"), "10000");
        reply::put(&mut answer, HeaderName::from_static("x-hubspot-ratelimit-remaining"), "0");
    }
    answer
}

/// By id, so no row slips; from which id on is in `after`.
fn list(state: &State, now: Timestamp, request: &Request) -> Result<Reply, NotANumber> {
    let query = &request.query;
    let limit = query.number("limit")?.unwrap_or(LIST_LIMIT_DEFAULT);
    if !(1..=LIST_LIMIT_MAX).contains(&limit) {
        return Ok(bad(&format!("Page size must be between 1 and {LIST_LIMIT_MAX}")));
    }
    let after = query.number("after")?.and_then(|after| u64::try_from(after).ok()).unwrap_or(0);
    let archived = query.get("archived") == Some("true");
    let size = state.page_size(limit);
    let asked = query.all("properties");
    let shown = |person: &&CrmPerson| match person.deleted {
        None => !archived,
        // A merged contact is in no bin.
        Some(at) => archived && person.merged_into.is_none() && at.plus(ARCHIVED_FOR) > now,
    };
    let mut rows: Vec<&CrmPerson> = state.people.from(after).filter(shown).take(size + 1).collect();
    let next = if rows.len() > size { rows.pop() } else { None };
    let results: Vec<Value> = rows.into_iter().map(|person| view::contact(person, &asked)).collect();
    let mut body = json!({ "results": results });
    if let Some(next) = next {
        let after = next.id.to_string();
        let link = format!("{}{}?{}", request.base, request.path, query.with("after", &after));
        body["paging"] = json!({ "next": { "after": after, "link": link } });
    }
    Ok(reply::ok(&body))
}

/// The person behind an id: by a reading, a merged one's id gives the survivor.
fn found(state: &State, id: &str) -> Option<CrmPerson> {
    let id = id.parse().ok()?;
    let person = if state.options.merged_ids_resolve { state.people.survivor(id) } else { state.people.get(id) };
    person.filter(|person| person.is_living()).cloned()
}

fn contact(state: &State, request: &Request) -> Reply {
    let asked = request.query.all("properties");
    found(state, &request.variable).map_or_else(
        || error(StatusCode::NOT_FOUND, "OBJECT_NOT_FOUND", "resource not found"),
        |person| reply::ok(&view::contact(&person, &asked)),
    )
}

/// 207 where some are missing, with their ids in `errors`.
fn batch(state: &State, now: Timestamp, request: &Request) -> Reply {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else { return bad("Invalid input JSON") };
    let words = |value: &Value| value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|id| id.to_string()));
    let inputs = body["inputs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: Vec<String> = inputs.iter().filter_map(|input| words(&input["id"])).collect();
    if ids.is_empty() || ids.len() > BATCH_MAX || ids.len() != inputs.len() {
        return bad(&format!("inputs must hold between 1 and {BATCH_MAX} ids"));
    }
    let asked: Vec<&str> = body["properties"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (mut results, mut missing) = (Vec::new(), Vec::new());
    for id in ids {
        match found(state, &id) {
            Some(person) => results.push(view::contact(&person, &asked)),
            None => missing.push(id),
        }
    }
    let at = view::moment(now);
    let mut body = json!({"status": "COMPLETE", "results": results, "startedAt": at, "completedAt": at});
    if missing.is_empty() {
        return reply::ok(&body);
    }
    body["numErrors"] = json!(1);
    body["errors"] = json!([{
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "message": "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid.",
        "context": { "ids": missing },
    }]);
    reply::reply(StatusCode::MULTI_STATUS, JSON, body.to_string())
}

fn properties() -> Reply {
    let rows: Vec<Value> = view::PROPERTIES
        .iter()
        .map(|(name, kind)| {
            json!({
                "name": name, "label": name, "type": kind, "fieldType": "text", "groupName": "contactinformation",
                "description": "", "options": [], "hidden": false, "hasUniqueValue": *name == "email",
            })
        })
        .collect();
    reply::ok(&json!({ "results": rows }))
}

/// Form only.
fn token(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    let form = Query::parse(&request.body);
    let text = |name: &str| form.get(name).map(str::to_owned);
    let asked = Asked::read(text);
    let State { grants, options, .. } = state;
    match grants.token(Dialect::HubSpot, &asked, options, now) {
        Ok(CrmTokens { access_token, refresh_token, expires_in }) => reply::ok(&json!({
            "token_type": "bearer",
            "refresh_token": refresh_token,
            "access_token": access_token,
            "expires_in": expires_in,
            "hub_id": view::PORTAL_ID,
            "scopes": ["crm.objects.contacts.read", "oauth"],
        })),
        Err(why) => denied(why),
    }
}

fn denied(why: Denied) -> Reply {
    let (error, status) = match why {
        Denied::Client => ("invalid_client", "BAD_CLIENT_ID"),
        Denied::RedirectUri => ("invalid_request", "MISMATCH_REDIRECT_URI_AUTH_CODE"),
        Denied::Grant => ("invalid_grant", "BAD_REFRESH_TOKEN"),
        Denied::Malformed => ("invalid_request", "BAD_GRANT_TYPE"),
    };
    let body = json!({
        "status": status,
        "message": "missing or unknown parameter of the token request",
        "correlationId": CORRELATION,
        "error": error,
        "error_description": "missing or unknown parameter of the token request",
    });
    reply::reply(StatusCode::BAD_REQUEST, JSON, body.to_string())
}
