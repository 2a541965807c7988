//! amoCRM's registration of webhooks: one for each destination.

use http::StatusCode;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::sandbox::crm_api::hooks::Hook;
use crate::sandbox::crm_api::options::{CrmWebhook, Dialect};
use crate::sandbox::crm_api::state::{Request, State};
use crate::sandbox::reply::{self, Reply};

use super::view::{ACCOUNT_ID, USER_ID, seconds};
use super::{hal, invalid};

/// `POST /api/v4/webhooks`.
pub(super) fn add(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some(destination) = body["destination"].as_str().filter(|url| url.starts_with("http")) else {
        return invalid("destination", "This value is not a valid URL");
    };
    let settings: Vec<String> =
        body["settings"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if settings.is_empty() {
        return invalid("settings", "This value should not be blank");
    }
    let to = CrmWebhook { dialect: Dialect::AmoCrm, url: destination.to_owned(), basic: None };
    let hook = state.hooks.add(to, Some(settings), now);
    reply::reply(StatusCode::CREATED, super::HAL, show(hook, &request.base).to_string())
}

/// `GET /api/v4/webhooks`.
pub(super) fn list(state: &State, request: &Request) -> Reply {
    let wanted = request.query.get("filter[destination]");
    let hooks = state.hooks.of(Dialect::AmoCrm).filter(|hook| wanted.is_none_or(|url| url == hook.to.url));
    let rows: Vec<Value> = hooks.map(|hook| show(hook, &request.base)).collect();
    let link = format!("{}/api/v4/webhooks", request.base);
    hal(&json!({
        "_total_items": rows.len(),
        "_links": { "self": { "href": link } },
        "_embedded": { "webhooks": rows },
    }))
}

/// `DELETE /api/v4/webhooks` with the destination in the body.
pub(super) fn remove(state: &mut State, request: &Request) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let url = body["destination"].as_str().unwrap_or_default();
    state.hooks.remove(|hook| hook.to.dialect == Dialect::AmoCrm && hook.to.url == url);
    super::nothing()
}

fn show(hook: &Hook, base: &str) -> Value {
    json!({
        "id": hook.id,
        "destination": hook.to.url,
        "created_at": seconds(hook.made),
        "updated_at": seconds(hook.made),
        "account_id": ACCOUNT_ID,
        "created_by": USER_ID,
        "sort": 10,
        "disabled": hook.disabled,
        "settings": hook.settings,
        "_links": { "self": { "href": format!("{base}/api/v4/webhooks") } },
    })
}
