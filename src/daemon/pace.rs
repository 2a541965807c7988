//! When sending may go on after something stood in its way, and how the sender's pace is set.

use std::time::Duration;

use crate::backoff::{Backoff, RETRY_AFTER_MAX};
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

/// A pause of sending.
#[derive(Debug)]
pub struct Pause {
    /// Nothing new goes out before: our own guess, which a success corrects.
    until: Option<Timestamp>,
    /// The same, where the call certainly did nothing.
    refused_until: Option<Timestamp>,
    /// Nothing at all goes out before: Reteno asked for it, of the whole account.
    asked: Option<Timestamp>,
    standstill: Option<Standstill>,
    stands_since: Option<Timestamp>,
    last_success: Option<Timestamp>,
    backoff: Backoff,
}

impl Pause {
    /// Nothing stands in the way.
    #[must_use]
    pub fn none(random: Random) -> Self {
        let backoff = Backoff::new(WAIT_FIRST, WAIT_MAX, random);
        Self {
            until: None,
            refused_until: None,
            asked: None,
            standstill: None,
            stands_since: None,
            last_success: None,
            backoff,
        }
    }

    /// The same, where an earlier process was asked for peace.
    #[must_use]
    pub fn asked_until(self, asked: Option<Timestamp>) -> Self {
        Self { asked, ..self }
    }

    /// Until when Reteno has asked for peace, also where that is over.
    #[must_use]
    pub const fn asked(&self) -> Option<Timestamp> {
        self.asked
    }

    /// When something new may go out; `None`: now.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        pending(self.until, now).max(pending(self.asked, now))
    }

    /// When an opt-out may go out; `None`: now. What got no answer may be about its batch alone, and does not stand in its way.
    #[must_use]
    pub fn until_for_opt_outs(&self, now: Timestamp) -> Option<Timestamp> {
        pending(self.refused_until, now).max(pending(self.asked, now))
    }

    /// When anything may go out, also a repeat or a question for an import; `None`: now. Without a token none is worth
    /// trying, and while Reteno asks for peace none is polite.
    #[must_use]
    pub fn until_for_all(&self, now: Timestamp) -> Option<Timestamp> {
        let without_token = match &self.standstill {
            Some(Standstill::NeedsAuthorization) => self.until,
            Some(Standstill::Passing(_) | Standstill::NeedsPerson(_)) | None => None,
        };
        pending(without_token, now).max(pending(self.asked, now))
    }

    /// Whether it is not known that there is a token: no call has got through yet, or the last one lacked one.
    #[must_use]
    pub fn may_lack_token(&self) -> bool {
        self.last_success.is_none() || self.standstill == Some(Standstill::NeedsAuthorization)
    }

    /// Whether any call of this process has got through after `moment`.
    #[must_use]
    pub fn has_succeeded_since(&self, moment: Timestamp) -> bool {
        self.last_success.is_some_and(|last| last > moment)
    }

    /// Reteno asks for peace, in an answer about something else.
    pub fn heed(&mut self, retry_after: Option<Duration>, now: Timestamp) {
        if let Some(wait) = asked_wait(retry_after) {
            self.asked = pending(self.asked, now).max(Some(now.plus(wait)));
        }
    }

    /// What stands in the way, until a call succeeds.
    #[must_use]
    pub const fn standstill(&self) -> Option<&Standstill> {
        self.standstill.as_ref()
    }

    /// Since when something stands in the way.
    #[must_use]
    pub const fn stands_since(&self) -> Option<Timestamp> {
        self.stands_since
    }

    /// A call got through: what stood in the way is gone, but for a time that Reteno asked for. Says whether that is
    /// news: the first success of this process, or the first after a standstill.
    pub fn lift(&mut self, now: Timestamp) -> bool {
        self.until = None;
        self.refused_until = None;
        self.backoff.reset();
        let stood = self.standstill.take().is_some();
        self.stands_since = None;
        self.last_success.replace(now).is_none() || stood
    }

    /// A call certainly did nothing, for a reason that lies outside of it. Says when to try again.
    pub fn begin(&mut self, cause: &NotWritten, retry_after: Option<Duration>, now: Timestamp) -> Timestamp {
        let (standstill, wait) = match cause {
            NotWritten::Unreachable(text) => (Standstill::Passing(text.clone()), self.growing_wait(now)),
            NotWritten::RateLimited => {
                (Standstill::Passing("Reteno answers 429: too many requests".to_owned()), self.growing_wait(now))
            }
            NotWritten::NeedsAuthorization => (Standstill::NeedsAuthorization, WAIT_FOR_GRANT),
            NotWritten::Forbidden(text) => (Standstill::NeedsPerson(text.clone()), WAIT_FOR_PERSON),
            NotWritten::WrongAddress(status) => {
                (Standstill::NeedsPerson(format!("reteno.api_url answers {status}")), WAIT_FOR_PERSON)
            }
        };
        let until = self.hold(standstill, (retry_after, wait), now);
        self.refused_until = Some(until);
        until
    }

    /// A call got no answer. Says when to repeat it.
    pub fn doubt(&mut self, cause: &str, retry_after: Option<Duration>, now: Timestamp) -> Timestamp {
        let wait = self.growing_wait(now);
        self.hold(Standstill::Passing(cause.to_owned()), (retry_after, wait), now)
    }

    /// Calls that were on the line together fail together: that is one step, not one for each.
    fn growing_wait(&mut self, now: Timestamp) -> Duration {
        match self.until(now) {
            Some(until) => until.since(now),
            None => self.backoff.next_wait(),
        }
    }

    fn hold(
        &mut self,
        standstill: Standstill,
        (retry_after, wait): (Option<Duration>, Duration),
        now: Timestamp,
    ) -> Timestamp {
        self.heed(retry_after, now);
        let until = now.plus(asked_wait(retry_after).unwrap_or(wait));
        self.until = pending(self.until, now).max(Some(until));
        self.standstill = Some(standstill);
        self.stands_since.get_or_insert(now);
        until
    }
}

/// A moment that is still to come; one that was computed before the clock was set back is none.
fn pending(until: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    until.filter(|until| until.is_pending(now, RETRY_AFTER_MAX))
}

/// A `Retry-After` of nothing, or of a moment gone by on our clock, asks for nothing: our own growing waits hold.
pub(super) fn asked_wait(retry_after: Option<Duration>) -> Option<Duration> {
    retry_after.filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(0);
    const HALF_MINUTE: Duration = Duration::from_secs(30);

    #[test]
    fn what_reteno_asked_for_outlives_the_success_of_another_call() {
        let mut pause = Pause::none(Random::seeded(1));
        let until = pause.begin(&NotWritten::RateLimited, Some(HALF_MINUTE), NOW);
        assert_eq!(until, NOW.plus(HALF_MINUTE));
        assert!(pause.lift(NOW));
        assert_eq!((pause.until(NOW), pause.until_for_all(NOW)), (Some(until), Some(until)));
        assert_eq!((pause.until(until), pause.until_for_all(until)), (None, None));
    }

    #[test]
    fn a_guess_of_ours_ends_with_a_success_and_holds_new_calls_only() {
        let mut pause = Pause::none(Random::seeded(1));
        pause.doubt("no answer", None, NOW);
        assert!(pause.until(NOW).is_some() && pause.until_for_all(NOW).is_none());
        assert!(pause.lift(NOW), "it is news");
        assert_eq!(pause.until(NOW), None);
        assert!(!pause.lift(NOW), "once");
    }

    #[test]
    fn an_empty_retry_after_leaves_our_own_growing_waits() {
        let mut pause = Pause::none(Random::seeded(1));
        let mut now = NOW;
        let waits: Vec<Duration> = (0..6)
            .map(|_| {
                let until = pause.begin(&NotWritten::RateLimited, Some(Duration::ZERO), now);
                until.since(std::mem::replace(&mut now, until))
            })
            .collect();
        assert!(waits[0] > Duration::ZERO && waits[5] > 4 * waits[0], "{waits:?}");
        assert_eq!(pause.until_for_all(NOW), None);
    }

    #[test]
    fn calls_that_fail_together_are_one_failure() {
        let mut pause = Pause::none(Random::seeded(1));
        let first = pause.doubt("no answer", None, NOW);
        assert!((0..7).all(|_| pause.doubt("no answer", None, NOW) == first));
    }

    #[test]
    fn a_clock_that_is_set_back_ends_the_wait() {
        let mut pause = Pause::none(Random::seeded(1));
        pause.begin(&NotWritten::RateLimited, Some(HALF_MINUTE), Timestamp(86_400_000));
        assert_eq!(pause.until(NOW), None);
        // and the next one holds
        let until = pause.begin(&NotWritten::RateLimited, Some(HALF_MINUTE), NOW);
        assert_eq!((pause.until(NOW), pause.until_for_all(NOW)), (Some(until), Some(until)));
    }

    #[test]
    fn without_a_token_nothing_is_tried() {
        let mut pause = Pause::none(Random::seeded(1));
        let until = pause.begin(&NotWritten::NeedsAuthorization, None, NOW);
        assert_eq!(pause.until_for_all(NOW), Some(until));
    }
}
