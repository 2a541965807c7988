//! One attempt of a webhook as it goes over the wire: body, headers, signature. HubSpot's signatures are computed here
//! from its documents, apart from the code that is to check them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::sandbox::draw;

use super::hooks::Hooks;
use super::options::{CrmOptions, Dialect};
use super::outbox::{Parcel, Payload};

/// What HubSpot decodes in a URL before it signs it, and nothing else.
const DECODED: &[(&str, &str)] = &[
    ("%3A", ":"),
    ("%2F", "/"),
    ("%3F", "?"),
    ("%40", "@"),
    ("%21", "!"),
    ("%24", "$"),
    ("%27", "'"),
    ("%28", "("),
    ("%29", ")"),
    ("%2A", "*"),
    ("%2C", ","),
    ("%3B", ";"),
];

/// One request and the events it carries.
pub(super) struct Envelope {
    pub(super) parcels: Vec<Parcel>,
    pub(super) request: http::Request<Bytes>,
}

/// Packs what is due: HubSpot's events for one webhook travel together, the others' alone. What has no webhook any more
/// is dropped.
pub(super) fn pack(due: Vec<Parcel>, hooks: &Hooks, options: &CrmOptions, now: Timestamp) -> Vec<Envelope> {
    let mut groups: Vec<Vec<Parcel>> = Vec::new();
    for parcel in due {
        let joins = |group: &&mut Vec<Parcel>| {
            parcel.dialect == Dialect::HubSpot
                && group.len() < options.habits.batch_max.max(1)
                && group.first().is_some_and(|first| first.hook == parcel.hook)
        };
        match groups.iter_mut().find(joins) {
            Some(group) => group.push(parcel),
            None => groups.push(vec![parcel]),
        }
    }
    let seal = |parcels: Vec<Parcel>| Some(Envelope { request: request(&parcels, hooks, options, now)?, parcels });
    groups.into_iter().filter_map(seal).collect()
}

fn request(parcels: &[Parcel], hooks: &Hooks, options: &CrmOptions, now: Timestamp) -> Option<http::Request<Bytes>> {
    let hook = hooks.get(parcels.first()?.hook)?;
    let body = body(parcels, hook.id);
    let url = &hook.to.url;
    let mut request = http::Request::post(url);
    match hook.to.dialect {
        Dialect::AmoCrm => {
            request = request
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(USER_AGENT, "amoCRM-Webhooks/3.0");
        }
        Dialect::HubSpot => {
            let secret = &options.client_secret;
            request = request
                .header(CONTENT_TYPE, "application/json")
                .header(USER_AGENT, "HubSpot Connect 2.0 (http://dev.hubspot.com/) - WebHooks")
                .header("X-HubSpot-Signature-Version", "v1")
                .header("X-HubSpot-Signature", signature_v1(secret, &body))
                .header("X-HubSpot-Request-Timestamp", now.0.to_string())
                .header("X-HubSpot-Signature-v3", signature_v3(secret, url, &body, &now.0.to_string()));
        }
        Dialect::Pipedrive => {
            request = request.header(CONTENT_TYPE, "application/json").header(USER_AGENT, "Pipedrive Webhooks");
            if let Some((user, password)) = &hook.to.basic {
                request =
                    request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
            }
        }
    }
    request.body(Bytes::from(body)).ok()
}

/// The body of one attempt, whose number stands in the events of two vendors.
fn body(parcels: &[Parcel], hook: u64) -> String {
    let mut elements = Vec::new();
    for parcel in parcels {
        match &parcel.payload {
            Payload::Form(body) => return body.clone(),
            Payload::Whole(event) => {
                let mut event = event.clone();
                event["meta"]["attempt"] = json!(parcel.attempt);
                event["meta"]["webhook_id"] = json!(hook.to_string());
                return event.to_string();
            }
            Payload::Element(event) => {
                let mut event = event.clone();
                event["attemptNumber"] = json!(parcel.attempt - 1);
                elements.push(event);
            }
        }
    }
    Value::Array(elements).to_string()
}

/// Hex SHA-256 of the secret and the body.
pub(super) fn signature_v1(secret: &str, body: &str) -> String {
    draw::to_hex(&Sha256::digest(format!("{secret}{body}")))
}

/// Base64 of the HMAC-SHA-256 over method, URL, body and timestamp.
pub(super) fn signature_v3(secret: &str, url: &str, body: &str, timestamp: &str) -> String {
    let mut url = url.split('#').next().unwrap_or_default().to_owned();
    for (escape, plain) in DECODED {
        url = url.replace(escape, plain).replace(&escape.to_lowercase(), plain);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("an HMAC takes a key of any length");
    mac.update(format!("POST{url}{body}{timestamp}").as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_vendors_vectors() {
        let vectors = include_str!("../../../tests/fixtures/crm/hubspot/webhook_signature_vectors.json");
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (secret, body, at) =
            (text(&vectors["client_secret"]), text(&vectors["body"]), text(&vectors["timestamp_ms"]));
        assert_eq!(signature_v1(&secret, &body), text(&vectors["v1"]["X-HubSpot-Signature"]));
        for vector in vectors["v3"].as_array().unwrap() {
            let url = vector.get("uri").unwrap_or(&vector["uri_on_wire"]);
            assert_eq!(signature_v3(&secret, &text(url), &body, &at), text(&vector["X-HubSpot-Signature-v3"]), "{url}");
        }
    }
}
