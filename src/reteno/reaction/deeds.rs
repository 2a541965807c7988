//! What the answers mean to the calls that do one thing at once, to a double opt-in and to an upload. Pure, like the
//! table that it stands on.

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::plan::answer::{DeedAnswer, NotWritten, SubmitAnswer, SubscribeAnswer};
use crate::reteno::text;
use crate::reteno::wire;

use super::{Answer, Verdict, shape, verdict};

/// What the path of a call names: it decides what a 404 is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeedPath {
    /// A contact or a segment: 404 is about it.
    Named,
    /// Nothing that could be missing: 404 is about `reteno.api_url`.
    Fixed,
}

/// What an answer to a deed means: `emails/unsubscribed/add` and `delete`, `DELETE contact/{id}`, `PUT
/// contact/{id}/subscriptions`, `group/{id}/contacts/detach`. Their 2xx is any text or none; their 404 is an answer only
/// where Reteno itself gives it, since it says of a person that nothing is left to be done.
#[must_use]
pub fn react_deed(answer: &Answer, now: Timestamp, path: DeedPath) -> DeedAnswer {
    match verdict(answer, now) {
        Verdict::Carried { status, response } => react_done(response, status),
        Verdict::Refused { status, reason } => DeedAnswer::Refused { status, reason },
        Verdict::Missing { status, is_own } => match path {
            DeedPath::Named if is_own => DeedAnswer::NotThere,
            DeedPath::Named => DeedAnswer::Uncertain { cause: shape::not_retenos(status), retry_after: None },
            DeedPath::Fixed => DeedAnswer::NotWritten { cause: NotWritten::WrongAddress(status), retry_after: None },
        },
        // No document gives these calls a 409; whatever it says, it does not say that the thing is done.
        Verdict::Repeated { retry_after } => DeedAnswer::Uncertain {
            cause: "the same request was made within a minute (409)".to_owned(),
            retry_after: Some(retry_after),
        },
        Verdict::NotWritten { cause, retry_after } => DeedAnswer::NotWritten { cause, retry_after },
        Verdict::Uncertain { cause, retry_after } => DeedAnswer::Uncertain { cause, retry_after },
    }
}

pub(super) fn react_done(response: &Response<Bytes>, status: u16) -> DeedAnswer {
    let uncertain =
        |what: &str| DeedAnswer::Uncertain { cause: format!("status {status} with {what}"), retry_after: None };
    if shape::is_page(response) {
        return uncertain("a page of markup instead of JSON");
    }
    let Ok(json) = wire::parse(response.body()) else {
        let whole_text = String::from_utf8_lossy(response.body());
        // What is cut off may have been an error.
        if whole_text.trim_start().starts_with(['{', '[']) {
            return uncertain("JSON that is cut off");
        }
        return DeedAnswer::Done;
    };
    match error_in(&json) {
        Some(reason) => DeedAnswer::Refused { status, reason },
        None => DeedAnswer::Done,
    }
}

/// What a 2xx says against itself, cleaned.
pub(super) fn error_in(json: &Value) -> Option<String> {
    let said = ["errorMessage", "error"].into_iter().find_map(|key| wire::text(json.get(key)));
    if let Some(said) = said {
        return Some(text::clean(&said));
    }
    let listed = wire::one_or_many(json.get("errors")).first()?;
    let said = wire::text(Some(listed)).or_else(|| error_in(listed)).or_else(|| wire::text(listed.get("message")));
    Some(said.map_or_else(|| "errors without a message".to_owned(), |said| text::clean(&said)))
}

/// What an answer to `POST v1/contact/subscribe` means. It is never repeated by itself, so an answer without the id that
/// it promises is "may have been sent".
#[must_use]
pub fn react_subscribe(answer: &Answer, now: Timestamp) -> SubscribeAnswer {
    match verdict(answer, now) {
        Verdict::Carried { status, response } => react_subscribed(response.body(), status),
        Verdict::Refused { status, reason } => SubscribeAnswer::Refused { status, reason },
        Verdict::Missing { status, is_own: _ } => {
            SubscribeAnswer::NotWritten { cause: NotWritten::WrongAddress(status), retry_after: None }
        }
        Verdict::Repeated { retry_after: _ } => SubscribeAnswer::RepeatedWithinMinute,
        Verdict::NotWritten { cause, retry_after } => SubscribeAnswer::NotWritten { cause, retry_after },
        Verdict::Uncertain { cause, retry_after: _ } => SubscribeAnswer::Uncertain { cause },
    }
}

fn react_subscribed(body: &[u8], status: u16) -> SubscribeAnswer {
    let uncertain = |what: &str| SubscribeAnswer::Uncertain { cause: format!("status {status} with {what}") };
    let object = match wire::parse_object(body) {
        Ok(object) => object,
        Err(what) => return uncertain(&what),
    };
    if let Some(id) = wire::whole(object.get("id")) {
        return SubscribeAnswer::Taken {
            id,
            email_status: wire::text(object.get("emailStatus")).map(|status| text::clean(&status)),
            is_new: wire::text(object.get("new")).map(|word| word.eq_ignore_ascii_case("true")),
        };
    }
    match error_in(&object) {
        Some(reason) => SubscribeAnswer::Refused { status, reason },
        None => uncertain("JSON without an id"),
    }
}

/// What an answer to `POST v1/contacts/upload` means: `importId` is taken for a session.
#[must_use]
pub fn react_upload(answer: &Answer, now: Timestamp) -> SubmitAnswer {
    match verdict(answer, now) {
        Verdict::Carried { status, response } => react_uploaded(response.body(), status),
        Verdict::Refused { status, reason } => SubmitAnswer::Refused { status, reason },
        Verdict::Missing { status, is_own: _ } => {
            SubmitAnswer::NotWritten { cause: NotWritten::WrongAddress(status), retry_after: None }
        }
        Verdict::Repeated { retry_after } => SubmitAnswer::Uncertain {
            cause: "the same request was made within a minute (409)".to_owned(),
            retry_after: Some(retry_after),
        },
        Verdict::NotWritten { cause, retry_after } => SubmitAnswer::NotWritten { cause, retry_after },
        Verdict::Uncertain { cause, retry_after } => SubmitAnswer::Uncertain { cause, retry_after },
    }
}

fn react_uploaded(body: &[u8], status: u16) -> SubmitAnswer {
    let uncertain =
        |what: &str| SubmitAnswer::Uncertain { cause: format!("status {status} with {what}"), retry_after: None };
    let object = match wire::parse_object(body) {
        Ok(object) => object,
        Err(what) => return uncertain(&what),
    };
    // A dot segment cannot stand in a path, so such an import could never be asked about.
    let import = wire::text(object.get("importId")).filter(|import| !matches!(import.as_str(), "." | ".."));
    if let Some(session) = import {
        // An import has begun, whatever is said beside it: it tells itself how it ends.
        return SubmitAnswer::Accepted { session, failed: Vec::new() };
    }
    if let Some(reason) = error_in(&object) {
        return SubmitAnswer::Refused { status, reason };
    }
    let said_invalid = wire::text(object.get("valid")).is_some_and(|word| word.eq_ignore_ascii_case("false"));
    if said_invalid {
        let reason = wire::text(object.get("message"));
        let reason = reason.map_or_else(|| "the file is not valid".to_owned(), |reason| text::clean(&reason));
        return SubmitAnswer::Refused { status, reason };
    }
    uncertain("JSON without importId")
}
