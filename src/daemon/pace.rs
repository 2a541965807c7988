//! When sending may go on after something stood in its way, and how the sender's pace is set.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::clock::Timestamp;
use crate::plan::answer::NotWritten;
use crate::random::Random;

/// The first wait after a failure that is nobody's fault.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest wait for a network or a server to come back. Longer would leave changes lying around after an outage.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// How often it is tried whether a person has mended the configuration or the app's rights on Reteno's side.
const WAIT_FOR_PERSON: Duration = Duration::from_mins(1);
/// How soon an authorization that a person has just given is noticed.
const WAIT_FOR_GRANT: Duration = Duration::from_secs(1);

/// Why nothing new is sent at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standstill {
    /// It goes on by itself: no network, no answer, too many requests.
    Passing(String),
    /// A person has to authorize.
    NeedsAuthorization,
    /// A person has to change the app's rights or the configuration.
    NeedsPerson(String),
}

/// A pause of all new sending.
#[derive(Debug)]
pub struct Pause {
    until: Option<Timestamp>,
    standstill: Option<Standstill>,
    backoff: Backoff,
}

impl Pause {
    /// Nothing stands in the way.
    #[must_use]
    pub fn none(random: Random) -> Self {
        Self { until: None, standstill: None, backoff: Backoff::new(WAIT_FIRST, WAIT_MAX, random) }
    }

    /// When sending may go on; `None`: now.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| *until > now)
    }

    /// What stands in the way, until a call succeeds.
    #[must_use]
    pub const fn standstill(&self) -> Option<&Standstill> {
        self.standstill.as_ref()
    }

    /// A call got through. Says what had stood in the way.
    pub fn lift(&mut self) -> Option<Standstill> {
        self.until = None;
        self.backoff.reset();
        self.standstill.take()
    }

    /// A call certainly did nothing, for a reason that lies outside of it. Says when to try again.
    pub fn begin(&mut self, cause: &NotWritten, retry_after: Option<Duration>, now: Timestamp) -> Timestamp {
        let (standstill, wait) = match cause {
            NotWritten::Unreachable(text) => (Standstill::Passing(text.clone()), self.backoff.next_wait()),
            NotWritten::RateLimited => {
                (Standstill::Passing("Reteno answers 429: too many requests".to_owned()), self.backoff.next_wait())
            }
            NotWritten::NeedsAuthorization => (Standstill::NeedsAuthorization, WAIT_FOR_GRANT),
            NotWritten::Forbidden(text) => (Standstill::NeedsPerson(text.clone()), WAIT_FOR_PERSON),
            NotWritten::WrongAddress(status) => {
                (Standstill::NeedsPerson(format!("reteno.api_url answers {status}")), WAIT_FOR_PERSON)
            }
        };
        self.hold(standstill, retry_after.unwrap_or(wait), now)
    }

    /// A call got no answer. Says when to repeat it.
    pub fn doubt(&mut self, cause: &str, retry_after: Option<Duration>, now: Timestamp) -> Timestamp {
        let wait = self.backoff.next_wait();
        self.hold(Standstill::Passing(cause.to_owned()), retry_after.unwrap_or(wait), now)
    }

    fn hold(&mut self, standstill: Standstill, wait: Duration, now: Timestamp) -> Timestamp {
        let until = now.plus(wait);
        self.until = self.until.max(Some(until));
        self.standstill = Some(standstill);
        until
    }
}
