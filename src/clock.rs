//! The wall clock, handed to whoever needs it. The only file that may read the system's time.
//!
//! Waits inside the process use tokio's monotonic timer; a stored time is a [`Timestamp`]. A simulated clock follows
//! tokio's timer, so a paused runtime moves both together.

use std::fmt;
use std::time::Duration;

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// What programs read: RFC 3339 with milliseconds. Stored forms use [`millis`].
impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match chrono::DateTime::from_timestamp_millis(self.0) {
            Some(time) => serializer.serialize_str(&time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
            None => serializer.serialize_i64(self.0),
        }
    }
}

/// A timestamp as the number it is, for what is stored and read again: `#[serde(with = "millis")]`.
pub mod millis {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::clock::Timestamp;

    /// Writes the number.
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.0)
    }

    /// Reads the number.
    ///
    /// # Errors
    /// Where there is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp)
    }
}

impl Timestamp {
    /// This moment moved forward; stops at the end of time rather than wrapping.
    #[must_use]
    pub fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment moved back; stops at the beginning of time.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long from `earlier` to this moment; zero where `earlier` is later (a clock that was set back).
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Timestamp {
    /// Whether this end of a wait is still to come. One that lies further ahead than the longest wait of its kind was
    /// computed before the clock was set back, and is over.
    #[must_use]
    pub fn is_pending(self, now: Self, wait_max: Duration) -> bool {
        self > now && self <= now.plus(wait_max)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match chrono::DateTime::from_timestamp_millis(self.0) {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%d %H:%M:%SZ")),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the present moment comes from.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    Simulated { start: Timestamp, anchor: tokio::time::Instant },
}

impl Clock {
    /// The machine's wall clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock that stands at `start` now and moves with tokio's timer (paused in a simulation).
    #[must_use]
    pub fn simulated(start: Timestamp) -> Self {
        Self(Kind::Simulated { start, anchor: tokio::time::Instant::now() })
    }

    /// The present moment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Kind::System => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Kind::Simulated { start, anchor } => start.plus(anchor.elapsed()),
        }
    }
}
