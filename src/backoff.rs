//! How long to wait before asking again. Computes; the caller sleeps.
//!
//! The only module that names the `backoff` crate, which brings the growth of the waits. Its own clock and generator
//! are kept out: a simulation must replay, so time stands still for it and the jitter comes from [`Random`].

use std::fmt;
use std::time::Duration;

use ::backoff::backoff::Backoff as _;
use ::backoff::exponential::ExponentialBackoff;

use crate::clock::Timestamp;
use crate::random::Random;

/// The longest `Retry-After` that is believed. A longer one (a wrong clock at their side, a date in the next year)
/// would stop sending for good; at worst the request is refused once an hour.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// More doublings than any wait needs to reach its largest value; bounds the loop of [`Backoff::for_attempt`].
const DOUBLINGS_MAX: u32 = 64;

/// Waits that double from `initial` to `max`, each shortened by chance to between half and all of it, so that many
/// who failed together do not return together. In whole milliseconds.
pub struct Backoff {
    steps: ExponentialBackoff<Still>,
    random: Random,
}

impl Backoff {
    /// `max` bounds every wait, also the first.
    #[must_use]
    pub fn new(initial: Duration, max: Duration, random: Random) -> Self {
        let now = tokio::time::Instant::now().into_std();
        let initial = initial.min(max);
        let steps = ExponentialBackoff {
            current_interval: initial,
            initial_interval: initial,
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: max,
            start_time: now,
            max_elapsed_time: None,
            clock: Still(now),
        };
        Self { steps, random }
    }

    /// The next wait; the one after it is twice as long.
    pub fn next_wait(&mut self) -> Duration {
        let wait = step(&mut self.steps);
        jittered(wait, &self.random)
    }

    /// Back to `initial`: something succeeded.
    pub fn reset(&mut self) {
        self.steps.reset();
    }

    /// The wait after `failures` failures in a row (1 for the first; 0 counts as 1), for attempts that are counted
    /// in the checkpoint and survive a restart. Does not move [`next_wait`](Self::next_wait).
    #[must_use]
    pub fn for_attempt(&self, failures: u32) -> Duration {
        let mut steps = self.steps.clone();
        steps.reset();
        let mut wait = step(&mut steps);
        for _ in 1..failures.min(DOUBLINGS_MAX) {
            wait = step(&mut steps);
        }
        jittered(wait, &self.random)
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff")
            .field("initial", &self.steps.initial_interval)
            .field("max", &self.steps.max_interval)
            .field("current", &self.steps.current_interval)
            .finish_non_exhaustive()
    }
}

fn step(steps: &mut ExponentialBackoff<Still>) -> Duration {
    let max = steps.max_interval;
    // Without a `max_elapsed_time` there is always a next wait.
    let wait = steps.next_backoff().unwrap_or(max);
    // The crate adds up to a nanosecond of its own chance even at factor 0: whole milliseconds drop it.
    Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

fn jittered(wait: Duration, random: &Random) -> Duration {
    let shortened = wait.mul_f64(0.5 + random.fraction() / 2.0);
    Duration::from_millis(u64::try_from(shortened.as_millis()).unwrap_or(u64::MAX))
}

/// A clock that stands still: the crate asks it although nothing here depends on elapsed time.
#[derive(Clone)]
struct Still(std::time::Instant);

impl ::backoff::Clock for Still {
    fn now(&self) -> std::time::Instant {
        self.0
    }
}

/// What `Retry-After` asks for: seconds or an HTTP date (RFC 9110 §5.6.7, all three forms), at most
/// [`RETRY_AFTER_MAX`]; zero for a date gone by. Some servers write seconds with a fraction, which is rounded up. `None`
/// where the header is absent or is neither, and for a date where `now` is not known.
#[must_use]
pub fn retry_after(headers: &http::HeaderMap, now: impl Into<Option<Timestamp>>) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match whole_seconds(value) {
        Some(seconds) => Duration::from_secs(seconds),
        None => http_date(value)?.since(now.into()?),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Decimal seconds, rounded up.
fn whole_seconds(value: &str) -> Option<u64> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    // Only digits, so a failure means more seconds than fit.
    let seconds: u64 = whole.parse().unwrap_or(u64::MAX);
    Some(seconds.saturating_add(u64::from(fraction.bytes().any(|digit| digit != b'0'))))
}

/// A moment as HTTP headers write it.
#[must_use]
pub fn http_date(value: &str) -> Option<Timestamp> {
    let value = value.trim().trim_end_matches(" GMT");
    ["%a, %d %b %Y %H:%M:%S", "%A, %d-%b-%y %H:%M:%S", "%a %b %e %H:%M:%S %Y"]
        .into_iter()
        .find_map(|form| chrono::NaiveDateTime::parse_from_str(value, form).ok())
        .map(|date| Timestamp(date.and_utc().timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(10), Random::seeded(7))
    }

    #[test]
    fn waits_double_up_to_the_largest_and_keep_at_least_half() {
        let mut backoff = backoff();
        for whole in [1, 2, 4, 8, 10, 10, 10] {
            let (wait, whole) = (backoff.next_wait(), Duration::from_secs(whole));
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
    }

    #[test]
    fn one_seed_gives_the_same_waits_each_time() {
        let (mut one, mut two) = (backoff(), backoff());
        for _ in 0..50 {
            assert_eq!(one.next_wait(), two.next_wait());
        }
    }

    #[test]
    fn jitter_spreads_equal_waits() {
        let backoff = backoff();
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| backoff.for_attempt(10)).collect();
        assert!(waits.len() > 15, "{waits:?}");
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = backoff();
        for _ in 0..5 {
            let _ = backoff.next_wait();
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_secs(1));
    }

    #[test]
    fn counted_attempts_wait_as_long_as_waits_in_a_row_and_leave_those_alone() {
        let mut backoff = backoff();
        for (failures, whole) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (u32::MAX, 10)] {
            let (wait, whole) = (backoff.for_attempt(failures), Duration::from_secs(whole));
            assert!(wait >= whole / 2 && wait <= whole, "{failures}: {wait:?}");
        }
        assert!(backoff.next_wait() <= Duration::from_secs(1));
    }

    #[test]
    fn the_largest_wait_bounds_the_first_too() {
        let mut backoff = Backoff::new(Duration::from_secs(9), Duration::from_secs(2), Random::seeded(1));
        assert!(backoff.next_wait() <= Duration::from_secs(2));
    }

    #[test]
    fn retry_after_in_every_form() {
        // 1994-11-06 08:49:00 UTC, 37 seconds before the date of RFC 9110's examples.
        let now = Timestamp(784_111_740_000);
        let cases = [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 5 ", Some(5)),
            ("7200", Some(3600)),                          // capped
            ("99999999999999999999999", Some(3600)),       // does not fit
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),   // IMF-fixdate
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),  // RFC 850
            ("Sun Nov  6 08:49:37 1994", Some(37)),        // asctime
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some(0)),    // gone by
            ("Mon, 06 Nov 1995 08:49:37 GMT", Some(3600)), // capped
            // a fraction, rounded up: to come back early would be refused again
            ("7.5", Some(8)),
            ("0.493", Some(1)),
            ("299.997", Some(300)),
            ("7.0", Some(7)),
            ("0.0", Some(0)),
            ("7200.5", Some(3600)),
            ("18446744073709551615.5", Some(3600)),
            ("-5", None),
            ("-0.5", None),
            ("1.", None),
            (".5", None),
            ("1.5.2", None),
            ("1,5", None),
            ("1e3", None),
            ("soon", None),
            ("", None),
        ];
        for (value, seconds) in cases {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::RETRY_AFTER, value.parse().expect("a header value"));
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(retry_after(&http::HeaderMap::new(), now), None);
        // without a clock only seconds can be read
        for (value, seconds) in [("7.5", Some(8)), ("Sun, 06 Nov 1994 08:49:37 GMT", None)] {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::RETRY_AFTER, value.parse().expect("a header value"));
            assert_eq!(retry_after(&headers, None), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
