//! amoCRM and Kommo, API v4: HAL pages, 204 for nothing, problem+json for errors. What stands here follows the vendor's
//! pages; where they say nothing, the reading that hurts a careless client more.

mod events;
mod registry;
mod view;

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::sandbox::reply::{self, Reply};

use super::calls::AmoCall;
use super::grants::{Asked, CrmTokens, Denied};
use super::options::Dialect;
use super::page;
use super::people::CrmPerson;
use super::query::{NotANumber, Query};
use super::state::{Request, State};

pub(super) use self::events::Events;
use self::view::{ACCOUNT_ID, SUBDOMAIN, USER_ID, seconds};
pub(super) use self::view::{company_event, hook_events};

const HAL: &str = "application/hal+json";
const PROBLEM: &str = "application/problem+json";
const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 250;

/// Carries one call of amoCRM's out.
pub(super) fn answer(state: &mut State, now: Timestamp, call: AmoCall, request: &Request) -> Reply {
    let found = match call {
        AmoCall::Contacts => contacts(state, request),
        AmoCall::Contact => Ok(contact(state, request)),
        AmoCall::Account => Ok(account(state, request)),
        AmoCall::Fields => Ok(fields(request)),
        AmoCall::Events => events::list(state, request),
        AmoCall::HookAdd => Ok(registry::add(state, now, request)),
        AmoCall::Hooks => Ok(registry::list(state, request)),
        AmoCall::HookRemove => Ok(registry::remove(state, request)),
        AmoCall::Token => Ok(token(state, now, request)),
    };
    found.unwrap_or_else(|NotANumber(name)| invalid(&name, "This value should be of type int"))
}

/// 200 with HAL.
fn hal(body: &Value) -> Reply {
    reply::reply(StatusCode::OK, HAL, body.to_string())
}

/// 204, of which no byte may be read as JSON.
fn nothing() -> Reply {
    let mut answer = reply::reply(StatusCode::NO_CONTENT, HAL, "");
    answer.headers_mut().remove(http::header::CONTENT_TYPE);
    answer
}

fn problem(status: StatusCode, title: &str, detail: &str, more: &[(&str, Value)]) -> Reply {
    let kind = format!("https://httpstatus.es/{}", status.as_u16());
    let mut body = json!({"title": title, "type": kind, "status": status.as_u16(), "detail": detail});
    for (name, value) in more {
        body[*name] = value.clone();
    }
    reply::reply(status, PROBLEM, body.to_string())
}

fn invalid(name: &str, detail: &str) -> Reply {
    let path = name.replace('[', ".").replace(']', "");
    let errors = json!([{"request_id": "0", "errors": [{"code": "InvalidType", "path": path, "detail": detail}]}]);
    problem(StatusCode::BAD_REQUEST, "Bad Request", "Request validation failed", &[("validation-errors", errors)])
}

pub(super) fn unauthorized() -> Reply {
    problem(StatusCode::UNAUTHORIZED, "Unauthorized", "Invalid or expired access token", &[])
}

pub(super) fn too_many(retry_after: Duration) -> Reply {
    let wait = [("retry_after", json!(retry_after.as_secs()))];
    problem(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", "Request limit exceeded", &wait)
}

pub(super) fn blocked() -> Reply {
    problem(StatusCode::FORBIDDEN, "Forbidden", "The account is blocked for too many requests", &[])
}

/// `limit` and `page` of a list; an answer where they cannot be.
fn paging(state: &State, query: &Query, limit_max: i64) -> Result<Result<(usize, usize), Reply>, NotANumber> {
    let limit = query.number("limit")?.unwrap_or(LIMIT_DEFAULT);
    let number = query.number("page")?.unwrap_or(1);
    if !(1..=limit_max).contains(&limit) {
        return Ok(Err(invalid("limit", &format!("This value should be between 1 and {limit_max}"))));
    }
    let Some(number) = usize::try_from(number).ok().filter(|number| *number > 0) else {
        return Ok(Err(invalid("page", "This value should be greater than 0")));
    };
    Ok(Ok((state.page_size(limit), number)))
}

/// A page of `name`; the link to the next one is given after every full page, also where the next holds nothing.
fn listing(request: &Request, (name, rows): (&str, Vec<Value>), number: usize, size: usize) -> Reply {
    if rows.is_empty() {
        return nothing();
    }
    let link = |number: usize| {
        let query = request.query.with("page", &number.to_string());
        json!({ "href": format!("{}{}?{query}", request.base, request.path) })
    };
    let mut links = json!({ "self": link(number) });
    if rows.len() == size {
        links["next"] = link(number + 1);
    }
    hal(&json!({ "_page": number, "_links": links, "_embedded": { name: rows } }))
}

fn contacts(state: &State, request: &Request) -> Result<Reply, NotANumber> {
    let query = &request.query;
    let (size, number) = match paging(state, query, LIMIT_MAX)? {
        Ok(paging) => paging,
        Err(answer) => return Ok(answer),
    };
    // Read before the plan is asked: a filter that is ignored is still a filter that can be read.
    let from = query.number("filter[updated_at][from]")?;
    let to = query.number("filter[updated_at][to]")?;
    // An exclusive bound is the inclusive one a second further in.
    let inside = i64::from(state.options.exclusive_bounds);
    let ids = query.all("filter[id]");
    let kept = |person: &&CrmPerson| {
        let at = seconds(person.changed);
        !state.options.api_filter
            || (from.is_none_or(|from| at >= from + inside)
                && to.is_none_or(|to| at <= to - inside)
                && (ids.is_empty() || ids.iter().any(|id| *id == person.id.to_string())))
    };
    let (by_change, direction) = match (query.get("order[updated_at]"), query.get("order[id]")) {
        (Some(direction), _) => (true, direction),
        (None, Some(direction)) => (false, direction),
        (None, None) => (false, "asc"),
    };
    let key = |person: &CrmPerson| {
        if by_change { seconds(person.changed) } else { i64::try_from(person.id).unwrap_or(i64::MAX) }
    };
    let keyed = state.people.living().filter(kept).map(|person| (key(person), person.id)).collect();
    let order = state.order(direction.eq_ignore_ascii_case("desc"));
    let chosen = page::cut(keyed, (number - 1).saturating_mul(size), size, &order);
    let link = format!("?page={number}&limit={size}");
    let rows = chosen.into_iter().filter_map(|id| state.people.get(id));
    let rows = rows.map(|person| view::contact(person, &state.options, &request.base, &link)).collect();
    Ok(listing(request, ("contacts", rows), number, size))
}

fn contact(state: &State, request: &Request) -> Reply {
    let id = request.variable.parse().ok();
    let person = id.and_then(|id| state.people.get(id)).filter(|person| person.is_living());
    person.map_or_else(nothing, |person| hal(&view::contact(person, &state.options, &request.base, "")))
}

fn account(state: &State, request: &Request) -> Reply {
    let mut body = json!({
        "id": ACCOUNT_ID,
        "name": "Example CRM",
        "subdomain": SUBDOMAIN,
        "current_user_id": USER_ID,
        "country": "UA",
        "customers_mode": "disabled",
        "is_unsorted_on": true,
        "is_loss_reason_enabled": true,
        "is_helpbot_enabled": false,
        "is_technical_account": false,
        "contact_name_display_order": 1,
        "_links": { "self": { "href": format!("{}/api/v4/account", request.base) } },
    });
    if request.query.all("with").contains(&"is_api_filter_enabled") {
        body["is_api_filter_enabled"] = json!(state.options.api_filter);
    }
    hal(&body)
}

fn fields(request: &Request) -> Reply {
    let described = [
        (view::PHONE, "multitext", Some("PHONE"), Some(json!(["WORK", "WORKDD", "MOB", "FAX", "HOME", "OTHER"]))),
        (view::EMAIL, "multitext", Some("EMAIL"), Some(json!(["WORK", "PRIV", "OTHER"]))),
        (view::LANGUAGE, "select", None, Some(json!(["uk", "en", "pl", "de", "es"]))),
        (view::OPT_OUT, "checkbox", None, None),
        (view::ADDRESS, "smart_address", None, None),
        (view::TIER, "text", None, None),
    ];
    let count = described.len();
    let rows: Vec<Value> = described
        .into_iter()
        .zip(1_u64..)
        .map(|(((id, name), kind, code, words), sort)| {
            let words = words.as_ref().and_then(Value::as_array).map(|words| {
                let words = words.iter().zip(1_u64..);
                words
                    .map(|(word, place)| json!({"id": id + place, "value": word, "sort": place * 2}))
                    .collect::<Vec<_>>()
            });
            json!({
                "id": id, "name": name, "type": kind, "account_id": ACCOUNT_ID, "code": code, "sort": sort * 2,
                "is_api_only": false, "enums": words, "group_id": null, "required_statuses": [],
                "is_deletable": code.is_none(), "is_predefined": code.is_some(), "entity_type": "contacts",
                "remind": null,
            })
        })
        .collect();
    let link = format!("{}{}?{}", request.base, request.path, request.query.with("page", "1"));
    hal(&json!({
        "_total_items": count, "_page": 1, "_page_count": 1,
        "_links": { "self": { "href": link } },
        "_embedded": { "custom_fields": rows },
    }))
}

/// `POST /oauth2/access_token`: JSON only. The words of its errors are those of the PHP library behind it (unconfirmed).
fn token(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else { return denied(Denied::Malformed) };
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let asked = Asked::read(text);
    let State { grants, options, .. } = state;
    match grants.token(Dialect::AmoCrm, &asked, options, now) {
        Ok(CrmTokens { access_token, refresh_token, expires_in }) => reply::ok(&json!({
            "token_type": "Bearer",
            "expires_in": expires_in,
            "server_time": seconds(now),
            "access_token": access_token,
            "refresh_token": refresh_token,
        })),
        Err(why) => denied(why),
    }
}

fn denied(why: Denied) -> Reply {
    let (status, hint) = match why {
        Denied::Client => (StatusCode::UNAUTHORIZED, "Client authentication failed"),
        Denied::RedirectUri => (StatusCode::BAD_REQUEST, "Check the `redirect_uri` parameter"),
        Denied::Grant => (StatusCode::UNAUTHORIZED, "Token has been revoked"),
        Denied::Malformed => (StatusCode::BAD_REQUEST, "Check the `grant_type` parameter"),
    };
    let body = json!({
        "hint": hint,
        "title": "Некорректный запрос",
        "type": "https://developers.amocrm.ru/v3/errors/OAuthProblemJson",
        "status": status.as_u16(),
        "detail": "В запросе отсутствует ряд параметров или параметры невалидны",
    });
    reply::reply(status, PROBLEM, body.to_string())
}
