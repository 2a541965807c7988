//! The forms an answer of the sandbox takes. Errors come as JSON, text or HTML, as Reteno's do.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde_json::{Value, json};

/// A whole answer.
pub(super) type Reply = Response<Bytes>;

pub(super) const JSON: &str = "application/json; charset=UTF-8";
pub(super) const TEXT: &str = "text/plain; charset=UTF-8";
pub(super) const HTML: &str = "text/html; charset=UTF-8";

/// An answer with a body of the given type.
pub(super) fn reply(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Reply {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    put(&mut answer, CONTENT_TYPE, content_type);
    answer
}

/// Sets a header; a value that cannot be one is left out.
pub(super) fn put(answer: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// 200 with JSON.
pub(super) fn ok(body: &Value) -> Reply {
    reply(StatusCode::OK, JSON, body.to_string())
}

/// 400 with a JSON reason.
pub(super) fn bad_request(reason: &str) -> Reply {
    reply(StatusCode::BAD_REQUEST, JSON, json!({"errorCode": 3, "message": reason}).to_string())
}

/// 401 as the resource server gives it.
pub(super) fn unauthorized() -> Reply {
    let body = json!({"error": "invalid_token", "error_description": "The access token is unknown or has expired"});
    let mut answer = reply(StatusCode::UNAUTHORIZED, JSON, body.to_string());
    put(&mut answer, WWW_AUTHENTICATE, "Bearer realm=\"oauth\", error=\"invalid_token\"");
    answer
}

/// 404 of the API itself: what the path names is not there.
pub(super) fn missing() -> Reply {
    reply(StatusCode::NOT_FOUND, JSON, json!({"errorCode": 7, "message": "Not found"}).to_string())
}

/// 404 as a servlet container's page: the path leads nowhere.
pub(super) fn not_found() -> Reply {
    page(StatusCode::NOT_FOUND, "Not found", "<p>The requested resource is not available.</p>")
}

/// 405, as text.
pub(super) fn wrong_method() -> Reply {
    reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method not allowed")
}

/// 409 for a body that was carried out within the last minute.
pub(super) fn repeated() -> Reply {
    reply(StatusCode::CONFLICT, TEXT, "Repeated request within 1 minute")
}

/// 413.
pub(super) fn too_large() -> Reply {
    page(StatusCode::PAYLOAD_TOO_LARGE, "Request entity too large", "")
}

/// 415, as a page.
pub(super) fn unsupported_media() -> Reply {
    page(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type", "")
}

/// 429 with `Retry-After: 1`.
pub(super) fn too_many() -> Reply {
    let mut answer = reply(StatusCode::TOO_MANY_REQUESTS, TEXT, "More than 200 requests per 1 second");
    put(&mut answer, RETRY_AFTER, "1");
    answer
}

/// 302 to `location`.
pub(super) fn redirect(location: &str) -> Reply {
    let mut answer = reply(StatusCode::FOUND, TEXT, "");
    put(&mut answer, LOCATION, location);
    answer
}

/// An error of the OAuth token endpoint (RFC 6749, 5.2).
pub(super) fn oauth_error(status: StatusCode, error: &str, description: &str) -> Reply {
    let body = json!({"error": error, "error_description": description}).to_string();
    let mut answer = reply(status, JSON, body);
    if status == StatusCode::UNAUTHORIZED {
        put(&mut answer, WWW_AUTHENTICATE, "Basic realm=\"oauth\"");
    }
    answer
}

/// A small HTML page; `inner` is HTML already.
pub(super) fn page(status: StatusCode, title: &str, inner: &str) -> Reply {
    let body =
        format!("<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1>{inner}</body></html>");
    reply(status, HTML, body)
}

/// A list in the form that Reteno's XML roots left behind: one element stands alone, several are an array.
pub(super) fn one_or_many(mut items: Vec<Value>) -> Value {
    if items.len() == 1 { items.swap_remove(0) } else { Value::Array(items) }
}
