//! What each answer of Reteno means: one total table, pure. It performs nothing and reads no clock.
//!
//! The line that matters runs between "certainly wrote nothing" and "may have written": in doubt the second. Only
//! Reteno's own word settles anything: an answer in another shape (a gateway's page) is no answer.

mod deeds;
mod shape;

use std::time::Duration;

use bytes::Bytes;
use http::Response;

use crate::backoff;
use crate::clock::Timestamp;
use crate::http::ExchangeError;
use crate::plan::answer::{DeedAnswer, ImportAnswer, NotWritten, SingleAnswer, SubmitAnswer};
use crate::reteno::RetenoError;
use crate::reteno::text;
use crate::reteno::wire::{self, ImportStatus, SubmitResult};

pub use self::deeds::{DeedPath, react_deed, react_subscribe, react_upload};

/// What an [`crate::http::Exchange`] gave.
pub type Answer = Result<Response<Bytes>, ExchangeError>;

/// For how long Reteno refuses the same body again (409), counted from the first.
pub const REPEAT_REFUSED_FOR: Duration = Duration::from_mins(1);

/// An answer by what it proves, before it is known which call it belongs to.
#[derive(Debug)]
enum Verdict<'a> {
    /// 2xx: the body tells.
    Carried { status: u16, response: &'a Response<Bytes> },
    /// A 4xx that blames the request itself.
    Refused { status: u16, reason: String },
    /// 404 or 410: no such address, or no such object behind it. Only where `is_own` does Reteno itself say so.
    Missing { status: u16, is_own: bool },
    /// 409: the same body again within a minute.
    Repeated { retry_after: Duration },
    /// Certainly nothing written, and the request is not to blame.
    NotWritten { cause: NotWritten, retry_after: Option<Duration> },
    /// Perhaps carried out.
    Uncertain { cause: String, retry_after: Option<Duration> },
}

/// The one table from statuses to verdicts.
fn verdict(answer: &Answer, now: Timestamp) -> Verdict<'_> {
    let response = match answer {
        Ok(response) => response,
        Err(error @ ExchangeError::NotSent { .. }) => return not_written(NotWritten::Unreachable(error.in_words())),
        Err(error @ ExchangeError::Lost { .. }) => {
            return Verdict::Uncertain { cause: error.in_words(), retry_after: None };
        }
    };
    let retry_after = backoff::retry_after(response.headers(), now);
    let reason = || text::reason(response.body());
    match response.status().as_u16() {
        status @ 200..=299 => Verdict::Carried { status, response },
        401 => not_written(NotWritten::NeedsAuthorization),
        status @ (404 | 410) => Verdict::Missing { status, is_own: shape::is_json(response) },
        // A proxy between us and Reteno wants something; the request never came through.
        407 => not_written(NotWritten::Unreachable("a proxy wants authentication (407)".to_owned())),
        409 => Verdict::Repeated { retry_after: retry_after.unwrap_or_default().max(REPEAT_REFUSED_FOR) },
        429 => Verdict::NotWritten { cause: NotWritten::RateLimited, retry_after },
        // A body that came in too slowly for the server may have come in whole for the one behind it.
        status @ (408 | 500..=599) => {
            Verdict::Uncertain { cause: format!("status {status}: {}", reason()), retry_after }
        }
        // 405 and 421: not a place that takes this call. Redirects are not followed: a token goes nowhere else.
        status @ (100..=199 | 300..=399 | 405 | 421) => not_written(NotWritten::WrongAddress(status)),
        // Whoever says it, a smaller body is the remedy.
        status @ 413 => Verdict::Refused { status, reason: reason() },
        // A gateway's page. Some gateways look at the answer and replace it, so the call may have been carried out.
        status if shape::is_page(response) => {
            Verdict::Uncertain { cause: format!("status {status}: a page of markup instead of JSON"), retry_after }
        }
        // 402 and 451 are about the account too: nothing in the request can mend them.
        402 | 403 | 451 => not_written(NotWritten::Forbidden(reason())),
        // 400, 415, 422, and what HTTP calls the client's fault without saying more. Statuses from 600 on are in
        // no standard: whoever answers so has refused.
        status => Verdict::Refused { status, reason: reason() },
    }
}

const fn not_written(cause: NotWritten) -> Verdict<'static> {
    Verdict::NotWritten { cause, retry_after: None }
}

/// What an answer to `POST v1/contacts` means.
#[must_use]
pub fn react_submit(answer: &Answer, now: Timestamp) -> SubmitAnswer {
    match verdict(answer, now) {
        Verdict::Carried { status, response } => react_submitted(response.body(), status),
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

fn react_submitted(body: &[u8], status: u16) -> SubmitAnswer {
    let result = match SubmitResult::read(body) {
        Ok(result) => result,
        Err(what) => {
            return SubmitAnswer::Uncertain { cause: format!("status {status} with {what}"), retry_after: None };
        }
    };
    match result {
        // Work has begun, whatever is said beside it: the import tells how it ends.
        SubmitResult { session: Some(session), failed, error_message: _ } => SubmitAnswer::Accepted { session, failed },
        SubmitResult { session: None, failed: _, error_message: Some(reason) } => {
            SubmitAnswer::Refused { status, reason }
        }
        SubmitResult { session: None, failed, error_message: None } => match failed.first() {
            // Contacts are refused by name and no import was begun for the others: sent again as it is, the batch
            // would be refused for ever, so it is to be halved.
            Some(first) => SubmitAnswer::Refused { status, reason: first.error.clone() },
            None => SubmitAnswer::Uncertain {
                cause: format!("status {status} without asyncSessionId and errorMessage"),
                retry_after: None,
            },
        },
    }
}

/// What an answer to `GET v1/importstatus/{session}` means.
#[must_use]
pub fn react_import(answer: &Answer, now: Timestamp) -> ImportAnswer {
    let unreachable = |cause: String, retry_after| ImportAnswer::Unreachable { cause, retry_after };
    match verdict(answer, now) {
        Verdict::Carried { status: http_status, response } => match ImportStatus::read(response.body()) {
            Ok(status) => react_import_status(status),
            Err(what) => unreachable(format!("status {http_status} with {what}"), None),
        },
        Verdict::Missing { status: _, is_own: true } => ImportAnswer::Missing,
        Verdict::Missing { status, is_own: false } => unreachable(shape::not_retenos(status), None),
        Verdict::NotWritten { cause: NotWritten::NeedsAuthorization, .. } => ImportAnswer::NeedsAuthorization,
        Verdict::NotWritten { cause, retry_after } => unreachable(in_words(&cause), retry_after),
        Verdict::Refused { status, reason } => unreachable(format!("refused with status {status}: {reason}"), None),
        Verdict::Repeated { retry_after } => unreachable("refused as repeated (409)".to_owned(), Some(retry_after)),
        Verdict::Uncertain { cause, retry_after } => unreachable(cause, retry_after),
    }
}

fn react_import_status(answer: ImportStatus) -> ImportAnswer {
    let ImportStatus { status, description, mapping } = answer;
    match status.as_str() {
        "STARTED" | "IMPORTING" => ImportAnswer::Running,
        "FINISHED" => ImportAnswer::Finished { mapping },
        "ERROR" => ImportAnswer::Failed { description: description.unwrap_or_else(|| "no reason given".to_owned()) },
        _ => ImportAnswer::UnknownStatus(text::clean(&status)),
    }
}

/// What an answer to `POST v1/contact` means: a 2xx counts as written only with the id that it promises.
#[must_use]
pub fn react_upsert(answer: &Answer, now: Timestamp) -> SingleAnswer {
    react_single(answer, now, None)
}

/// What an answer to `PUT v1/contact/{id}` means. Its 2xx is any text, so only markup, JSON that is cut off and an error
/// say otherwise; 404 is about this contact, not about the address.
#[must_use]
pub fn react_update(answer: &Answer, now: Timestamp, id: i64) -> SingleAnswer {
    react_single(answer, now, Some(id))
}

fn react_single(answer: &Answer, now: Timestamp, known_id: Option<i64>) -> SingleAnswer {
    match verdict(answer, now) {
        Verdict::Carried { status, response } => match known_id {
            Some(id) => react_updated(response, status, id),
            None => react_upserted(response.body(), status),
        },
        Verdict::Refused { status, reason } => SingleAnswer::Refused { status, reason },
        Verdict::Missing { status, is_own: true } if known_id.is_some() => {
            SingleAnswer::Refused { status, reason: "reteno does not know the contact's id".to_owned() }
        }
        Verdict::Missing { status, is_own: false } if known_id.is_some() => {
            SingleAnswer::Uncertain { cause: shape::not_retenos(status), retry_after: None }
        }
        Verdict::Missing { status, is_own: _ } => {
            SingleAnswer::NotWritten { cause: NotWritten::WrongAddress(status), retry_after: None }
        }
        Verdict::Repeated { retry_after } => SingleAnswer::RepeatedWithinMinute { retry_after },
        Verdict::NotWritten { cause, retry_after } => SingleAnswer::NotWritten { cause, retry_after },
        Verdict::Uncertain { cause, retry_after } => SingleAnswer::Uncertain { cause, retry_after },
    }
}

fn react_updated(response: &Response<Bytes>, status: u16, id: i64) -> SingleAnswer {
    match deeds::react_done(response, status) {
        DeedAnswer::Done => SingleAnswer::Written { id },
        DeedAnswer::NotThere => {
            SingleAnswer::Refused { status, reason: "reteno does not know the contact's id".to_owned() }
        }
        DeedAnswer::Refused { status, reason } => SingleAnswer::Refused { status, reason },
        DeedAnswer::NotWritten { cause, retry_after } => SingleAnswer::NotWritten { cause, retry_after },
        DeedAnswer::Uncertain { cause, retry_after } => SingleAnswer::Uncertain { cause, retry_after },
    }
}

fn react_upserted(body: &[u8], status: u16) -> SingleAnswer {
    let uncertain =
        |what: &str| SingleAnswer::Uncertain { cause: format!("status {status} with {what}"), retry_after: None };
    let object = match wire::parse_object(body) {
        Ok(object) => object,
        Err(what) => return uncertain(&what),
    };
    if let Some(reason) = deeds::error_in(&object) {
        return SingleAnswer::Refused { status, reason };
    }
    match wire::whole(object.get("id")) {
        Some(id) => SingleAnswer::Written { id },
        None => uncertain("JSON without an id"),
    }
}

/// What an answer to one of the reads about the account means; `read` understands its body.
pub fn react_read<T>(
    answer: &Answer,
    now: Timestamp,
    call: &'static str,
    read: fn(&[u8]) -> Result<T, String>,
) -> Result<T, RetenoError> {
    match verdict(answer, now) {
        Verdict::Carried { status: _, response } => {
            read(response.body()).map_err(|cause| RetenoError::NotUnderstood { call, cause })
        }
        Verdict::Refused { status, reason } => Err(RetenoError::Refused { call, status, reason }),
        Verdict::Missing { status, is_own: _ } => Err(RetenoError::WrongAddress { call, status }),
        Verdict::Repeated { retry_after } => Err(RetenoError::Temporary {
            call,
            cause: "refused as repeated (409)".to_owned(),
            retry_after: Some(retry_after),
        }),
        Verdict::NotWritten { cause, retry_after } => Err(match cause {
            NotWritten::NeedsAuthorization => RetenoError::NeedsAuthorization { call },
            NotWritten::Forbidden(reason) => RetenoError::Forbidden { call, reason },
            NotWritten::WrongAddress(status) => RetenoError::WrongAddress { call, status },
            NotWritten::Unreachable(_) | NotWritten::RateLimited => {
                RetenoError::Temporary { call, cause: in_words(&cause), retry_after }
            }
        }),
        Verdict::Uncertain { cause, retry_after } => Err(RetenoError::Temporary { call, cause, retry_after }),
    }
}

/// Whether an answer refuses the token that went with it.
#[must_use]
pub fn is_unauthorized(answer: &Answer) -> bool {
    answer.as_ref().is_ok_and(|response| response.status() == http::StatusCode::UNAUTHORIZED)
}

pub(super) fn in_words(cause: &NotWritten) -> String {
    match cause {
        NotWritten::Unreachable(words) => words.clone(),
        NotWritten::RateLimited => "too many requests (429)".to_owned(),
        NotWritten::NeedsAuthorization => "authorization is needed".to_owned(),
        NotWritten::Forbidden(reason) => format!("not allowed: {reason}"),
        NotWritten::WrongAddress(status) => format!("reteno.api_url answered with status {status}"),
    }
}

#[cfg(test)]
mod tests;
