//! What an answer of a CRM means: the description's rules first, then what HTTP says. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::description::{ErrorAction, ErrorRule};
use super::needs::{Needs, needs};
use crate::backoff::retry_after;
use crate::clock::Timestamp;
use crate::http::ExchangeError;
use crate::json::{self, ANSWER_VALUES_MAX, Broken, Kept, Split};
use crate::source::SourceError;

/// No wait that an answer asks for is taken as longer: a number in another unit would stop the source for good.
const WAIT_MAX: Duration = Duration::from_hours(24);

/// What is done next.
#[derive(Debug)]
pub(super) enum Reaction {
    /// It is an answer.
    Answer {
        /// The body; where the records are read one by one, with those alone that a path is asked for.
        body: Value,
        /// The records.
        records: Option<Vec<Bytes>>,
    },
    /// There is nothing: by the CRM's word, or since a rule ignores its error.
    Empty {
        /// It is the CRM's word.
        is_told: bool,
    },
    /// The query begins anew at the last seen change time.
    Restart,
    /// A rule says that the access token is dead.
    Reauthorize(SourceError),
    /// Not allowed: with another access token perhaps.
    Refused(SourceError),
    /// It may pass.
    Retry(SourceError),
    /// The whole source waits.
    Pause(Wait),
    /// Nobody asks for some hours.
    Halt(Wait),
}

/// How long, by the answer and by the rule.
#[derive(Debug, Default)]
pub(super) struct Wait {
    /// The rule's name, or the status.
    pub(super) name: String,
    pub(super) told: Option<Duration>,
    pub(super) rule: Option<Duration>,
}

/// What was asked.
pub(super) struct Asked<'a> {
    /// For people.
    pub(super) what: &'a str,
    /// Statuses that mean that there is nothing.
    pub(super) empty_statuses: &'a [u16],
    /// The keys that lead to the list of records, where they are read one by one.
    pub(super) keys: Option<&'a [String]>,
    /// What the body will be asked for, beside what the rules ask it.
    pub(super) paths: &'a [&'a JsonPath],
}

/// Reads what came of a request.
pub(super) fn react(
    outcome: Result<Response<Bytes>, ExchangeError>,
    rules: &[ErrorRule],
    asked: &Asked<'_>,
    now: Timestamp,
) -> Reaction {
    let what = asked.what.to_owned();
    let response = match outcome {
        Ok(response) => response,
        Err(source) => return Reaction::Retry(SourceError::NoAnswer { what, source }),
    };
    let status = response.status().as_u16();
    let read = read_body(&response, rules, asked);
    let body = read.as_ref().ok().map(|(body, _)| body);
    if let Some(rule) = rules.iter().find(|rule| strikes(rule, status, body)) {
        return by_rule(rule, (what, status), (&response, body), now);
    }
    if asked.empty_statuses.contains(&status) || status == 204 {
        return Reaction::Empty { is_told: true };
    }
    if status == 304 {
        // nothing has changed, which is not that there is nothing
        return Reaction::Empty { is_told: false };
    }
    let refused = SourceError::Answer { what: what.clone(), status, rule: None };
    match status {
        200..=299 => match read {
            Ok((body, records)) => Reaction::Answer { body, records },
            // a proxy's page looks like this, too
            Err(broken) => Reaction::Retry(SourceError::NotUnderstood { what, reason: reason_of(&response, &broken) }),
        },
        429 => {
            let told = retry_after(response.headers(), now);
            Reaction::Pause(Wait { name: "status 429".to_owned(), told, rule: None })
        }
        408 | 425 | 500..=599 => Reaction::Retry(refused),
        _ => Reaction::Refused(refused),
    }
}

/// The body and its records. An error is read whole: its list, if it is one, holds no records. So is an answer where a path
/// that is asked of it looks through the records.
fn read_body(
    response: &Response<Bytes>,
    rules: &[ErrorRule],
    asked: &Asked<'_>,
) -> Result<(Value, Option<Vec<Bytes>>), Broken> {
    let (body, status) = (response.body(), response.status());
    let Some(keys) = asked.keys.filter(|_| status.is_success()) else {
        return Ok((json::read(body, ANSWER_VALUES_MAX)?, None));
    };
    let rules = rules.iter().filter(|rule| rule.status == status.as_u16());
    let of_rules = rules.flat_map(|rule| rule.body.iter().map(|(path, _)| path).chain(&rule.wait_path));
    let needs = needs(asked.paths.iter().copied().chain(of_rules), keys);
    let kept = match needs {
        Needs::Ends(kept) => kept,
        Needs::All => Kept::default(),
    };
    let Split { envelope, records } = json::split(body, keys, kept)?;
    let body_read = if needs == Needs::All { json::read(body, ANSWER_VALUES_MAX)? } else { envelope };
    Ok((body_read, records.map(|places| places.into_iter().map(|place| body.slice(place)).collect())))
}

/// Why an answer cannot be read, by what it is in rather than by its first byte.
fn reason_of(response: &Response<Bytes>, broken: &Broken) -> String {
    let encoding = response.headers().get(http::header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    match encoding {
        Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => {
            let known = ["x-gzip", "compress", "gzip, gzip", "dcb", "dcz"];
            let name = known.into_iter().find(|known| encoding.eq_ignore_ascii_case(known)).unwrap_or("an unknown way");
            format!("its body is packed in a way that this program does not know ({name})")
        }
        Some(_) | None => format!("it cannot be read as JSON ({broken})"),
    }
}

fn strikes(rule: &ErrorRule, status: u16, body: Option<&Value>) -> bool {
    let is_of_body = |(path, equals): &(JsonPath, Value)| {
        body.is_some_and(|body| path.query(body).iter().any(|found| *found == equals))
    };
    rule.status == status && rule.body.as_ref().is_none_or(is_of_body)
}

fn by_rule(
    rule: &ErrorRule,
    (what, status): (String, u16),
    (response, body): (&Response<Bytes>, Option<&Value>),
    now: Timestamp,
) -> Reaction {
    let wait = || Wait { name: rule.name.clone(), told: told_wait(rule, response, body, now), rule: rule.wait };
    let error = || SourceError::Answer { what, status, rule: Some(rule.name.clone()) };
    match rule.action {
        ErrorAction::Retry => Reaction::Retry(error()),
        ErrorAction::RateLimited => Reaction::Pause(wait()),
        ErrorAction::Reauthorize => Reaction::Reauthorize(error()),
        ErrorAction::RestartAtCursor => Reaction::Restart,
        ErrorAction::Ignore => Reaction::Empty { is_told: false },
        ErrorAction::FailRun => Reaction::Refused(error()),
        ErrorAction::HaltSource => Reaction::Halt(wait()),
    }
}

fn told_wait(rule: &ErrorRule, response: &Response<Bytes>, body: Option<&Value>, now: Timestamp) -> Option<Duration> {
    let by_header = rule.wait_header.as_ref().and_then(|name| response.headers().get(name));
    let by_header = by_header.and_then(|value| value.to_str().ok()).and_then(|text| seconds(text, now));
    let by_body = || {
        let found = rule.wait_path.as_ref()?.query(body?).first()?;
        match found {
            Value::String(text) => seconds(text, now),
            Value::Number(number) => seconds(&number.to_string(), now),
            _ => None,
        }
    };
    by_header.or_else(by_body).or_else(|| retry_after(response.headers(), now)).map(|wait| wait.min(WAIT_MAX))
}

/// Seconds to wait, or the moment until when, in seconds since 1970 (Bitrix24's `operating_reset_at`).
fn seconds(text: &str, now: Timestamp) -> Option<Duration> {
    const AS_MOMENT: f64 = 1_000_000_000.0;
    let number: f64 = text.trim().parse().ok()?;
    if number.is_nan() || number < 0.0 {
        return None;
    }
    if number >= AS_MOMENT {
        #[expect(clippy::cast_possible_truncation, reason = "a float that is cast stops at the bounds of the integer")]
        let until = Timestamp((number * 1000.0) as i64);
        return Some(until.since(now));
    }
    Some(Duration::from_secs_f64(number))
}
