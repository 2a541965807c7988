//! Pipedrive: persons of API v2, and what is left of v1. What stands here follows the vendor's pages and its SDK; where
//! they say nothing, the reading that hurts a careless client more.

mod registry;
mod view;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderName};
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::sandbox::reply::{self, JSON, Reply};

use super::calls::PipeCall;
use super::grants::{Asked, CrmTokens, Denied};
use super::options::{Dialect, Rates};
use super::people::CrmPerson;
use super::query::{NotANumber, Query};
use super::state::{Request, State};

pub(super) use self::view::hook_events;

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 500;
const IDS_MAX: usize = 100;
/// What `recents` reaches back.
const RECENT_FOR: std::time::Duration = std::time::Duration::from_hours(24 * 30);

/// Carries one call of Pipedrive's out.
pub(super) fn answer(state: &mut State, now: Timestamp, call: PipeCall, request: &Request) -> Reply {
    let found = match call {
        PipeCall::Persons => persons(state, request),
        PipeCall::Person => Ok(person(state, request)),
        PipeCall::Recents => recents(state, now, request),
        PipeCall::Fields => Ok(fields(&request.variable)),
        PipeCall::HookAdd => Ok(registry::add(state, now, request)),
        PipeCall::Hooks => Ok(registry::list(state)),
        PipeCall::HookRemove => Ok(registry::remove(state, request)),
        PipeCall::Token => Ok(token(state, now, request)),
    };
    found.unwrap_or_else(|NotANumber(name)| error(StatusCode::BAD_REQUEST, &format!("{name} must be a number")))
}

fn error(status: StatusCode, message: &str) -> Reply {
    let body = json!({
        "success": false, "error": message, "errorCode": status.as_u16(), "data": null, "additional_data": null,
    });
    reply::reply(status, JSON, body.to_string())
}

pub(super) fn unauthorized() -> Reply {
    error(StatusCode::UNAUTHORIZED, "unauthorized access")
}

pub(super) fn too_many(rates: &Rates) -> Reply {
    with_limits(error(StatusCode::TOO_MANY_REQUESTS, "request over limit"), 0, rates)
}

/// An answer with the headers that say how much of the two seconds is left.
pub(super) fn with_limits(mut answer: Reply, left: u32, rates: &Rates) -> Reply {
    let headers = [
        ("x-ratelimit-limit", rates.pipedrive_per_two_seconds.to_string()),
        ("x-ratelimit-remaining", left.to_string()),
        ("x-ratelimit-reset", "2".to_owned()),
    ];
    for (name, value) in headers {
        reply::put(&mut answer, HeaderName::from_static(name), &value);
    }
    answer
}

/// What rows are sorted by.
#[derive(Clone, Copy)]
struct Sort {
    by: fn(&CrmPerson) -> i64,
    descending: bool,
}

impl Sort {
    fn read(query: &Query) -> Option<Self> {
        let by = match query.get("sort_by") {
            None | Some("id") => |person: &CrmPerson| i64::try_from(person.id).unwrap_or(i64::MAX),
            Some("update_time") => |person: &CrmPerson| seconds(person.changed),
            Some("add_time") => |person: &CrmPerson| seconds(person.created),
            Some(_) => return None,
        };
        Some(Self { by, descending: query.get("sort_direction") == Some("desc") })
    }

    /// Ascending in whichever direction is asked.
    fn key(&self, person: &CrmPerson) -> (i64, u64) {
        let key = (self.by)(person);
        (if self.descending { -key } else { key }, person.id)
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(1000)
}

/// The list. Its cursor holds the place of the last row, so an edited row is seen again rather than lost.
fn persons(state: &State, request: &Request) -> Result<Reply, NotANumber> {
    let query = &request.query;
    let refuse = |message: &str| Ok(error(StatusCode::BAD_REQUEST, message));
    let limit = query.number("limit")?.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return refuse(&format!("limit must be between 1 and {LIMIT_MAX}"));
    }
    let Some(sort) = Sort::read(query) else { return refuse("sort_by must be id, update_time or add_time") };
    let ids = query.all("ids");
    if ids.len() > IDS_MAX {
        return refuse(&format!("At most {IDS_MAX} ids"));
    }
    let (Ok(since), Ok(until)) = (time(query, "updated_since"), time(query, "updated_until")) else {
        return refuse("updated_since and updated_until must be RFC 3339");
    };
    let Ok(after) = query.get("cursor").map(read_cursor).transpose() else { return refuse("cursor is not valid") };
    let kept = |person: &&CrmPerson| {
        let at = seconds(person.changed);
        (person.is_living() || state.options.lists_deleted)
            && since.is_none_or(|since| at >= since)
            && until.is_none_or(|until| at < until)
            && (ids.is_empty() || ids.contains(&person.id.to_string().as_str()))
    };
    let mut rows: Vec<((i64, u64), &CrmPerson)> =
        state.people.iter().filter(kept).map(|person| (sort.key(person), person)).collect();
    rows.retain(|(key, _)| after.is_none_or(|after| *key > after));
    rows.sort_unstable_by_key(|(key, _)| *key);
    let size = state.page_size(limit);
    let more = rows.len() > size;
    rows.truncate(size);
    let cursor = rows.last().filter(|_| more).map(|(key, _)| write_cursor(*key));
    let marketing = query.all("include_fields").contains(&"marketing_status");
    let data: Vec<Value> = rows.into_iter().map(|(_, person)| view::person(person, marketing)).collect();
    Ok(reply::ok(&json!({ "success": true, "data": data, "additional_data": { "next_cursor": cursor } })))
}

fn write_cursor((key, id): (i64, u64)) -> String {
    URL_SAFE_NO_PAD.encode(json!({ "after": [key, id] }).to_string())
}

fn read_cursor(cursor: &str) -> Result<(i64, u64), ()> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(drop)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(drop)?;
    let place = &value["after"];
    Ok((place[0].as_i64().ok_or(())?, place[1].as_u64().ok_or(())?))
}

/// A moment of a query in seconds.
fn time(query: &Query, name: &str) -> Result<Option<i64>, chrono::ParseError> {
    let parsed = query.get(name).map(chrono::DateTime::parse_from_rfc3339);
    Ok(parsed.transpose()?.map(|time| time.timestamp()))
}

fn person(state: &State, request: &Request) -> Reply {
    let person = request.variable.parse().ok().and_then(|id| state.people.get(id)).filter(|person| person.is_living());
    let marketing = request.query.all("include_fields").contains(&"marketing_status");
    person.map_or_else(
        || error(StatusCode::NOT_FOUND, "Person not found"),
        |person| reply::ok(&json!({ "success": true, "data": view::person(person, marketing) })),
    )
}

/// v1: what changed since a moment, deleted persons among it, of the last 30 days only.
fn recents(state: &State, now: Timestamp, request: &Request) -> Result<Reply, NotANumber> {
    let query = &request.query;
    let start = usize::try_from(query.number("start")?.unwrap_or(0)).unwrap_or(0);
    let limit = query.number("limit")?.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let plain = "%Y-%m-%d %H:%M:%S";
    let since = query.get("since_timestamp").unwrap_or_default();
    let Ok(from) = chrono::NaiveDateTime::parse_from_str(since, plain) else {
        return Ok(error(StatusCode::BAD_REQUEST, "since_timestamp must be YYYY-MM-DD HH:MM:SS"));
    };
    let from = from.and_utc().timestamp().max(seconds(now.minus(RECENT_FOR)));
    let moved = |person: &CrmPerson| seconds(person.deleted.unwrap_or(person.changed).max(person.changed));
    let mut rows: Vec<&CrmPerson> = state.people.iter().filter(|person| moved(person) >= from).collect();
    rows.sort_by_key(|person| (moved(person), person.id));
    let size = state.page_size(limit);
    let more = rows.len() > start + size;
    let rows: Vec<&CrmPerson> = rows.into_iter().skip(start).take(size).collect();
    let last = rows.last().map(|person| view::recent(person)["data"]["update_time"].clone());
    let mut paging = json!({ "start": start, "limit": limit, "more_items_in_collection": more });
    if more {
        paging["next_start"] = json!(start + size);
    }
    let data: Vec<Value> = rows.into_iter().map(view::recent).collect();
    let additional = json!({ "since_timestamp": since, "last_timestamp_on_page": last, "pagination": paging });
    Ok(reply::ok(&json!({ "success": true, "data": data, "additional_data": additional })))
}

fn fields(of: &str) -> Reply {
    let field = |id: u64, key: &str, name: &str, kind: &str| {
        json!({
            "id": id, "key": key, "name": name, "field_type": kind, "edit_flag": key.len() == 40,
            "mandatory_flag": false, "active_flag": true, "json_column_flag": false,
        })
    };
    let all = vec![
        field(9001, "id", "ID", "int"),
        field(9002, "name", "Name", "varchar"),
        field(9003, "update_time", "Update time", "date"),
        field(9004, view::TIER, "Tier", "varchar"),
        field(9005, view::LANGUAGE, "Language", "varchar"),
    ];
    let data = if of == "person" { all } else { Vec::new() };
    let paging = json!({ "start": 0, "limit": 100, "more_items_in_collection": false });
    reply::ok(&json!({ "success": true, "data": data, "additional_data": { "pagination": paging } }))
}

/// Form and HTTP Basic.
fn token(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    let form = Query::parse(&request.body);
    let text = |name: &str| form.get(name).map(str::to_owned);
    let basic = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = basic.and_then(|value| value.strip_prefix("Basic ")).and_then(|value| STANDARD.decode(value).ok());
    let basic = basic.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let (client_id, client_secret) = basic.split_once(':').unwrap_or_default();
    let asked = Asked {
        grant_type: text("grant_type").unwrap_or_default(),
        client_id: client_id.to_owned(),
        client_secret: client_secret.to_owned(),
        code: text("code"),
        refresh_token: text("refresh_token"),
        redirect_uri: text("redirect_uri"),
    };
    let State { grants, options, .. } = state;
    match grants.token(Dialect::Pipedrive, &asked, options, now) {
        Ok(CrmTokens { access_token, refresh_token, expires_in }) => reply::ok(&json!({
            "access_token": access_token,
            "token_type": "Bearer",
            "refresh_token": refresh_token,
            "scope": "contacts:read",
            "expires_in": expires_in,
            "api_domain": request.base,
        })),
        Err(why) => denied(why),
    }
}

fn denied(why: Denied) -> Reply {
    let (status, word) = match why {
        Denied::Client => (StatusCode::UNAUTHORIZED, "invalid_client"),
        Denied::Grant => (StatusCode::BAD_REQUEST, "invalid_grant"),
        Denied::RedirectUri | Denied::Malformed => (StatusCode::BAD_REQUEST, "invalid_request"),
    };
    let body = json!({"success": false, "message": "the token request was refused", "error": word});
    reply::reply(status, JSON, body.to_string())
}
