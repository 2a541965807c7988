//! What every kind of proof accepts and refuses, what events a body holds, and that nothing hostile gets through.

mod proofs;
mod reading;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json_path::JsonPath;

use super::*;

/// A request that can be changed.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: String,
    path_token: Option<String>,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    now: Timestamp,
}

impl Request {
    pub(super) fn of(body: &str) -> Self {
        Self {
            method: "POST".to_owned(),
            path_token: None,
            url: "https://sync.example.com/hooks/crm".to_owned(),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
            now: Timestamp(1_795_165_206_000),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn to(&self, webhook: &Webhook) -> Result<Vec<Event>, Refused> {
        let headers: HeaderMap = self
            .headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let head = Head {
            method: &self.method,
            path_token: self.path_token.as_deref(),
            url: &self.url,
            headers: &headers,
            now: self.now,
        };
        let early = webhook.prove_head(&head);
        let taken = webhook.receive(&Delivery { head, body: &self.body });
        // what the head alone refuses is refused whatever the body is, and for the same reason
        if let Err(refused) = early {
            assert_eq!(taken.as_ref().map(|_| ()), Err(&refused));
        }
        taken.map(|taken| taken.events)
    }
}

pub(super) fn path(text: &str) -> JsonPath {
    JsonPath::parse(text).unwrap()
}

/// A hook whose body is one event, or a list of them, that asks to fetch `id`.
pub(super) fn hook(verification: Verification) -> Webhook {
    Webhook {
        body: BodyKind::Json,
        body_bytes_max: BODY_BYTES_DEFAULT,
        verification,
        requirements: Vec::new(),
        reading: Reading {
            events: path("$"),
            ids: Ids::One { id: path("$..id"), action: ActionRule::Fixed(Action::Fetch) },
            merged_into: None,
            record: None,
        },
    }
}
