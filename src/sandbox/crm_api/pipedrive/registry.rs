//! Pipedrive's registration of webhooks: v1 of its API, for events of v2.

use http::StatusCode;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::sandbox::crm_api::hooks::Hook;
use crate::sandbox::crm_api::options::{CrmWebhook, Dialect};
use crate::sandbox::crm_api::state::{Request, State};
use crate::sandbox::reply::{self, JSON, Reply};

use super::error;

/// `POST /api/v1/webhooks`.
pub(super) fn add(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let (Some(url), Some(action)) = (text("subscription_url"), text("event_action")) else {
        return error(StatusCode::BAD_REQUEST, "subscription_url and event_action are required");
    };
    if !matches!(body["event_object"].as_str(), Some("person" | "*")) || body["version"] == "1.0" {
        return error(StatusCode::BAD_REQUEST, "this sandbox has events of persons in version 2.0");
    }
    let basic = text("http_auth_user").zip(text("http_auth_password"));
    let to = CrmWebhook { dialect: Dialect::Pipedrive, url, basic };
    let hook = show(state.hooks.add(to, Some(vec![action]), now));
    let body = json!({ "success": true, "data": hook });
    reply::reply(StatusCode::CREATED, JSON, body.to_string())
}

/// `GET /api/v1/webhooks`.
pub(super) fn list(state: &State) -> Reply {
    let hooks: Vec<Value> = state.hooks.of(Dialect::Pipedrive).map(show).collect();
    reply::ok(&json!({ "success": true, "data": hooks }))
}

/// `DELETE /api/v1/webhooks/{id}`.
pub(super) fn remove(state: &mut State, request: &Request) -> Reply {
    let named = |hook: &Hook| hook.to.dialect == Dialect::Pipedrive && hook.id.to_string() == request.variable;
    if state.hooks.remove(named) {
        reply::ok(&json!({ "success": true }))
    } else {
        error(StatusCode::NOT_FOUND, "Webhook not found")
    }
}

fn show(hook: &Hook) -> Value {
    json!({
        "id": hook.id,
        "company_id": super::view::COMPANY_ID,
        "subscription_url": hook.to.url,
        "event_action": hook.settings.first(),
        "event_object": "person",
        "version": "2.0",
        "is_active": u8::from(!hook.disabled),
        "http_auth_user": hook.to.basic.as_ref().map(|(user, _)| user),
        "add_time": super::view::moment(hook.made),
    })
}
