//! Whose answer it is, as far as its form tells: Reteno's API speaks JSON, gateways and proxies in front of it speak in
//! pages and plain text. Pure.

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use crate::reteno::{text, wire};

/// Whether the answer is JSON, by its header or by its body. Every call of Reteno's document answers so.
pub(super) fn is_json(response: &Response<Bytes>) -> bool {
    if is_page(response) {
        return false;
    }
    // a status alone, as some gateways give it, is a number
    let is_said = matches!(wire::parse(response.body()), Ok(Value::Object(_) | Value::Array(_) | Value::String(_)));
    is_said || media_type(response).is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}

/// Whether the answer is a page of markup, by its header or by its body.
pub(super) fn is_page(response: &Response<Bytes>) -> bool {
    let is_markup = |kind: &str| {
        let kind = kind.to_ascii_lowercase();
        kind.ends_with("/html") || kind.ends_with("/xml") || kind.ends_with("+xml")
    };
    text::is_page(&String::from_utf8_lossy(response.body())) || media_type(response).is_some_and(is_markup)
}

/// Of a 404 or 410 that Reteno did not give.
pub(super) fn not_retenos(status: u16) -> String {
    format!("status {status} in another form than Reteno's")
}

fn media_type(response: &Response<Bytes>) -> Option<&str> {
    let value = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}
