//! The way to one CRM: its rate, its authorization, its clock, and whether it has blocked us. One for each source and
//! process, shared by all who read it.
//!
//! It asks until there is an answer that means something: waits where the CRM says so, tries again what may pass, renews
//! a token once. It never names a path, a query or a body in an error: they may hold secrets and people.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Response, StatusCode, header};
use tokio_util::sync::CancellationToken;

use bytes::Bytes;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::auth::SourceAuth;
use super::description::{Call, Description};
use super::reaction::{Asked, Reaction, Wait, react};
use super::records::RecordsPath;
use super::request::build_request;
use super::template::Bindings;
use crate::backoff::Backoff;
use crate::clock::{Clock, Timestamp};
use crate::http::Exchange;
use crate::http::paced::Paced;
use crate::random::Random;
use crate::source::SourceError;

/// Attempts at one request that fails in a way that may pass: about a minute with their waits. A schedule comes again.
const ATTEMPTS_MAX: u32 = 6;
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// What the CRM asks us to wait is waited for within a read up to this; longer ends the read, and the next one waits.
const PATIENCE: Duration = Duration::from_mins(10);
/// The pause where a CRM says that it is too much, and not for how long.
const PAUSE_DEFAULT: Duration = Duration::from_secs(10);
/// How long a source that was blocked is left alone, where its description does not say it.
const HALT_DEFAULT: Duration = Duration::from_hours(6);
/// Longer than any wait, with its share of chance: an end further ahead comes of a clock that was set back.
const CLOSED_MAX: Duration = Duration::from_hours(48);
/// However short the waits that it asks for, a CRM that refuses again and again is left alone for up to so many seconds:
/// two to this power.
const PAUSES_GROWTH_MAX: u32 = 6;

/// The way to one CRM.
pub struct Link {
    description: Arc<Description>,
    exchange: Arc<dyn Exchange>,
    auth: SourceAuth,
    clock: Clock,
    random: Random,
    /// How far the CRM's clock is ahead of ours, milliseconds.
    skew: AtomicI64,
    /// Never held over an await.
    closed: Mutex<Option<Closed>>,
}

/// Nobody may ask until then.
#[derive(Clone)]
struct Closed {
    until: Timestamp,
    /// The rule that said so; `None`: a pause.
    halted_by: Option<String>,
}

/// An answer that means something.
pub(super) struct Answer {
    /// The body; where its records are read one by one, their list holds those alone that the paths of the question need.
    pub(super) body: Value,
    /// The records as they stand in the body, where they are read one by one and there is a list of them.
    pub(super) records: Option<Vec<Bytes>>,
    /// The address that gave it. It may hold people and secrets.
    pub(super) address: String,
    /// The moment before it was asked for.
    pub(super) asked_at: Timestamp,
}

/// The way to the next page, as an answer gave it.
#[derive(Clone, Copy)]
pub(super) struct NextLink<'a> {
    pub(super) text: &'a str,
    /// The address that gave the answer: a relative link is relative to it.
    pub(super) from: &'a str,
}

/// What came of a request.
pub(super) enum Reply {
    /// An answer.
    Answer(Answer),
    /// There is nothing.
    Empty {
        /// The moment before it was asked for.
        asked_at: Timestamp,
        /// The CRM says it by a status that means it; else it is an error that the operator's rules leave out of account,
        /// which proves nothing.
        is_told: bool,
    },
    /// The query has to begin anew at the last seen change time.
    Restart,
}

/// What is asked, and how its answers are read.
pub(super) struct Ask<'a> {
    /// For people: `the list`, `fetch`, `deletes.archived`.
    pub(super) what: &'a str,
    pub(super) call: &'a Call,
    /// The address, where the last answer gave it.
    pub(super) next_link: Option<NextLink<'a>>,
    pub(super) bindings: Bindings,
    pub(super) empty_statuses: &'a [u16],
    /// Where the answer has its records.
    pub(super) records: Option<&'a RecordsPath>,
    /// What the answer's body will be asked for.
    pub(super) paths: Vec<&'a JsonPath>,
}

impl Link {
    /// A way to the CRM of `description` over `exchange`, which it paces by itself.
    #[must_use]
    pub fn new(
        description: Arc<Description>,
        exchange: Arc<dyn Exchange>,
        auth: SourceAuth,
        clock: Clock,
        random: Random,
    ) -> Self {
        let exchange = match &description.rate_limit {
            Some(limit) => {
                let period = limit.per / limit.requests.get();
                Arc::new(Paced::every(exchange, period, limit.burst)) as Arc<dyn Exchange>
            }
            None => exchange,
        };
        Self { description, exchange, auth, clock, random, skew: AtomicI64::new(0), closed: Mutex::default() }
    }

    /// What the CRM is like.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Our clock.
    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A moment of our clock by the CRM's, as far as it was told. One that says it is later is not believed: a proxy
    /// with a wrong clock or zone would move the cursor into the future, and all that is changed until then were lost.
    pub(super) fn by_server(&self, ours: Timestamp) -> Timestamp {
        Timestamp(ours.0.saturating_add(self.skew.load(Ordering::Relaxed).min(0)))
    }

    fn closed(&self) -> MutexGuard<'_, Option<Closed>> {
        // one assignment each: a panic elsewhere leaves nothing half done
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until there is an answer that means something.
    pub(super) async fn ask(&self, ask: &Ask<'_>, stop: &CancellationToken) -> Result<Reply, SourceError> {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX, self.random.clone());
        let (mut failures, mut pauses, mut is_renewed, mut waited) = (0, 0, false, Duration::ZERO);
        loop {
            self.pass(stop, &mut waited).await?;
            let mut authorization = HeaderMap::new();
            let token = self.auth.authorize(&mut authorization).await.map_err(SourceError::NoToken)?;
            // the host may have come with the token
            let bindings = Bindings { base_url: self.auth.base_url(), ..ask.bindings.clone() };
            let request = build_request(&self.description.base_url, ask, &bindings)?;
            let (mut parts, body) = request.into_parts();
            parts.headers.extend(authorization);
            let (asked_at, address) = (self.clock.now(), parts.uri.to_string());
            let outcome = tokio::select! {
                outcome = self.exchange.exchange(http::Request::from_parts(parts, body)) => outcome,
                () = stop.cancelled() => return Err(SourceError::Stopped),
            };
            if let Ok(response) = &outcome {
                self.note_time(response);
            }
            let status = outcome.as_ref().map_or(StatusCode::OK, Response::status);
            let keys = ask.records.and_then(RecordsPath::keys);
            let asked = Asked { what: ask.what, empty_statuses: ask.empty_statuses, keys, paths: &ask.paths };
            let reaction = react(outcome, &self.description.errors, &asked, self.clock.now());
            match reaction {
                Reaction::Answer { body, records } => {
                    return Ok(Reply::Answer(Answer { body, records, address, asked_at }));
                }
                Reaction::Empty { is_told } => return Ok(Reply::Empty { asked_at, is_told }),
                Reaction::Restart => return Ok(Reply::Restart),
                Reaction::Reauthorize(error) if is_renewed => return Err(error),
                Reaction::Refused(error) if is_renewed || !self.auth.asks_again(status) => return Err(error),
                Reaction::Reauthorize(error) | Reaction::Refused(error) => {
                    is_renewed = true;
                    let Some(token) = &token else { return Err(error) };
                    // the next turn takes the newer one
                    self.auth.refused(token, &mut HeaderMap::new()).await.map_err(SourceError::NoToken)?;
                }
                Reaction::Retry(error) => {
                    failures += 1;
                    if failures == ATTEMPTS_MAX {
                        return Err(error);
                    }
                    rest(backoff.next_wait(), stop).await?;
                }
                Reaction::Pause(wait) => {
                    self.pause(&wait, pauses);
                    pauses += 1;
                }
                Reaction::Halt(wait) => return Err(self.halt(&wait)),
            }
        }
    }

    /// Waits while the CRM asks us to; where that is long, or it has blocked us, nobody is asked.
    async fn pass(&self, stop: &CancellationToken, waited: &mut Duration) -> Result<(), SourceError> {
        loop {
            let Some(closed) = self.closed().clone() else { return Ok(()) };
            let now = self.clock.now();
            if !closed.until.is_pending(now, CLOSED_MAX) {
                *self.closed() = None;
                return Ok(());
            }
            let left = closed.until.since(now);
            if let Some(rule) = closed.halted_by {
                return Err(SourceError::Halted { rule, until: closed.until });
            }
            if *waited + left > PATIENCE {
                return Err(SourceError::Limited { until: closed.until });
            }
            *waited += left;
            rest(left, stop).await?;
        }
    }

    /// After so many others of the same request.
    fn pause(&self, wait: &Wait, others: u32) {
        let least = Duration::from_secs(1 << others.min(PAUSES_GROWTH_MAX));
        let pause = wait.told.or(wait.rule).unwrap_or(PAUSE_DEFAULT).max(least);
        let until = self.clock.now().plus(pause.mul_f64(1.0 + self.random.fraction() / 10.0));
        *self.closed() = Some(Closed { until, halted_by: None });
    }

    fn halt(&self, wait: &Wait) -> SourceError {
        let until = self.clock.now().plus(wait.told.or(wait.rule).unwrap_or(HALT_DEFAULT));
        *self.closed() = Some(Closed { until, halted_by: Some(wait.name.clone()) });
        SourceError::Halted { rule: wait.name.clone(), until }
    }

    /// An operator asks for a read: what blocked us may be over.
    pub fn reopen(&self) {
        *self.closed() = None;
    }

    fn note_time(&self, response: &Response<Bytes>) {
        if let Some(server) = date_of(response.headers()) {
            let ahead = server.0.saturating_sub(self.clock.now().0);
            // a date has whole seconds, and was written before it came: less than two seconds are no difference
            self.skew.store(if ahead.abs() < 2_000 { 0 } else { ahead }, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

fn date_of(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    chrono::DateTime::parse_from_rfc2822(text).ok().map(|at| Timestamp(at.timestamp_millis()))
}

async fn rest(wait: Duration, stop: &CancellationToken) -> Result<(), SourceError> {
    tokio::select! {
        () = tokio::time::sleep(wait) => Ok(()),
        () = stop.cancelled() => Err(SourceError::Stopped),
    }
}
