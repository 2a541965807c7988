//! What a test in another process may see of the sandbox, over its own listener: `GET /sandbox/contacts.jsonl`,
//! `GET /sandbox/unsubscribed.json` and `GET /sandbox/calls.json`. These are no calls of Reteno's and are not counted as such.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Sandbox;
use super::inspect::StoredContact;
use super::reply::{self, JSON, Reply};
use super::routes::CallKind;

/// The answer to a request below `/sandbox/`; `None` for any other path.
pub(super) fn answer(sandbox: &Sandbox, path: &str) -> Option<Reply> {
    match path {
        "/sandbox/contacts.jsonl" => {
            let lines: Vec<String> = sandbox.contacts().iter().map(|contact| line(contact).to_string()).collect();
            Some(reply::reply(http::StatusCode::OK, JSON, lines.join("\n") + "\n"))
        }
        "/sandbox/unsubscribed.json" => Some(reply::ok(&json!(sandbox.unsubscribed()))),
        "/sandbox/calls.json" => Some(reply::ok(&calls(sandbox))),
        _ => None,
    }
}

fn line(contact: &StoredContact) -> Value {
    let StoredContact { id, external_id, email, phone, fields, segments, subscriptions, email_status, deleted } =
        contact;
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(id));
    for (name, value) in
        [("externalCustomerId", external_id), ("email", email), ("sms", phone), ("emailStatus", email_status)]
    {
        if let Some(value) = value {
            object.insert(name.to_owned(), json!(value));
        }
    }
    let (additional, standard): (BTreeMap<&String, &String>, BTreeMap<&String, &String>) =
        fields.iter().partition(|(name, _)| name.chars().all(|c| c.is_ascii_digit()));
    object.extend(standard.into_iter().map(|(name, value)| (name.clone(), json!(value))));
    object.insert("fields".to_owned(), json!(additional));
    if !segments.is_empty() {
        object.insert("segments".to_owned(), json!(segments));
    }
    if !subscriptions.is_empty() {
        object.insert("subscriptions".to_owned(), json!(subscriptions));
    }
    if *deleted {
        object.insert("deleted".to_owned(), json!(true));
    }
    Value::Object(object)
}

fn calls(sandbox: &Sandbox) -> Value {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for ((kind, _), count) in sandbox.counts() {
        *counts.entry(kind.name()).or_default() += count;
    }
    let overlaps = sandbox.overlaps();
    let identical = overlaps.iter().filter(|overlap| overlap.identical).count();
    json!({
        "calls": counts,
        "contacts_carried": sandbox.tally().contacts_received,
        "bodies_repeated": sandbox.tally().bodies_repeated,
        "overlaps": { "identical": identical, "different": overlaps.len() - identical },
    })
}

impl CallKind {
    /// A stable word for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SubmitContacts => "submit_contacts",
            Self::ImportStatus => "import_status",
            Self::UpsertContact => "upsert_contact",
            Self::UpdateContact => "update_contact",
            Self::DeleteContact => "delete_contact",
            Self::EraseContact => "erase_contact",
            Self::SetSubscriptions => "set_subscriptions",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Resubscribe => "resubscribe",
            Self::Detach => "detach",
            Self::Upload => "upload",
            Self::AddressBooks => "address_books",
            Self::Subscriptions => "subscriptions",
            Self::AccountInfo => "account_info",
            Self::Version => "version",
            Self::Authorize => "authorize",
            Self::TokenExchange => "token_exchange",
            Self::TokenRefresh => "token_refresh",
            Self::Crm => "crm",
            Self::Other => "other",
        }
    }
}
