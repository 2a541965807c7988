//! Change times as a CRM writes and asks for them. Pure: reads no clock.
//!
//! Inside they are microseconds since 1970, UTC: fine enough for every CRM. Written for a request they are cut to the
//! unit of its form, never rounded up: an earlier start reads a record twice, a later one loses it.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::contact::Moment;

const SECOND: i64 = 1_000_000;
const MILLISECOND: i64 = 1_000;

/// A moment of a CRM, microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeTime(pub i64);

impl ChangeTime {
    /// A moment of a clock.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(at.0.saturating_mul(MILLISECOND))
    }

    /// In milliseconds since 1970.
    #[must_use]
    pub const fn unix_millis(self) -> i64 {
        self.0.div_euclid(MILLISECOND)
    }

    /// Moved back.
    #[must_use]
    pub fn minus(self, span: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Moved forward.
    #[must_use]
    pub fn plus(self, span: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// How a moment is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// Seconds since 1970, a number.
    UnixSeconds,
    /// Milliseconds since 1970, a number.
    UnixMillis,
    /// The same as text (`HubSpot`).
    UnixMillisText,
    /// RFC 3339 and its relatives; written in UTC with `Z`, in whole seconds.
    Rfc3339,
    /// A pattern of `strftime`; without an offset in it, on the wall clock of a zone.
    Strftime {
        /// The pattern.
        pattern: String,
        /// The wall clock.
        zone: Tz,
    },
}

impl TimeFormat {
    /// The format of a word of the configuration; `None` for a pattern that `strftime` does not know.
    #[must_use]
    pub fn parse(word: &str, zone: Tz) -> Option<Self> {
        Some(match word {
            "unix_s" => Self::UnixSeconds,
            "unix_ms" => Self::UnixMillis,
            "unix_ms_string" => Self::UnixMillisText,
            "rfc3339" => Self::Rfc3339,
            pattern => {
                let is_pattern = pattern.contains('%') && StrftimeItems::new(pattern).all(|item| item != Item::Error);
                return is_pattern.then(|| Self::Strftime { pattern: pattern.to_owned(), zone });
            }
        })
    }

    /// The smallest step that it can write, in microseconds.
    #[must_use]
    pub fn unit(&self) -> i64 {
        match self {
            Self::UnixSeconds | Self::Rfc3339 => SECOND,
            Self::UnixMillis | Self::UnixMillisText => MILLISECOND,
            Self::Strftime { zone, .. } => {
                // the shortest step from a midnight of the zone that shows: a pattern may have no seconds, or days only
                let midnight = zone.with_ymd_and_hms(2024, 1, 1, 0, 0, 0).earliest();
                let midnight = ChangeTime(midnight.map_or(0, |at| at.timestamp_micros()));
                let shows = |step: &i64| self.write(midnight) != self.write(ChangeTime(midnight.0 + step));
                [MILLISECOND, SECOND, 60 * SECOND, 3600 * SECOND].into_iter().find(shows).unwrap_or(24 * 3600 * SECOND)
            }
        }
    }

    /// Reads what a record holds; `None` for what is no moment.
    #[must_use]
    pub fn read(&self, text: &str) -> Option<ChangeTime> {
        let whole = |unit: i64| text.parse::<i64>().ok()?.checked_mul(unit).map(ChangeTime);
        match self {
            Self::UnixSeconds => whole(SECOND),
            Self::UnixMillis | Self::UnixMillisText => whole(MILLISECOND),
            Self::Rfc3339 => match Moment::parse(text)? {
                Moment::Instant { at, .. } => Some(ChangeTime(at.timestamp_micros())),
                Moment::Wall(wall) => Some(ChangeTime(wall.and_utc().timestamp_micros())),
                Moment::Day(day) => Some(ChangeTime(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())),
            },
            Self::Strftime { pattern, zone } => {
                if let Ok(at) = DateTime::parse_from_str(text, pattern) {
                    return Some(ChangeTime(at.timestamp_micros()));
                }
                let wall = NaiveDateTime::parse_from_str(text, pattern).ok()?;
                // of an hour that comes twice the earlier one: a record is read twice rather than not at all
                zone.from_local_datetime(&wall).earliest().map(|at| ChangeTime(at.timestamp_micros()))
            }
        }
    }

    /// Writes a moment, cut to the unit.
    #[must_use]
    pub fn write(&self, at: ChangeTime) -> Value {
        match self {
            Self::UnixSeconds => Value::from(at.0.div_euclid(SECOND)),
            Self::UnixMillis => Value::from(at.0.div_euclid(MILLISECOND)),
            Self::UnixMillisText => Value::String(at.0.div_euclid(MILLISECOND).to_string()),
            Self::Rfc3339 => Value::String(utc(at).format("%Y-%m-%dT%H:%M:%SZ").to_string()),
            Self::Strftime { pattern, zone } => Value::String(utc(at).with_timezone(zone).format(pattern).to_string()),
        }
    }
}

/// Beyond the years that a calendar knows it is the beginning of time: everything is read.
fn utc(at: ChangeTime) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_form_reads_what_it_writes_and_never_a_later_moment() {
        let at = ChangeTime(1_795_251_605_123_456);
        #[rustfmt::skip]
        let rows = [
            ("unix_s", Tz::UTC, json!(1_795_251_605)),
            ("unix_ms", Tz::UTC, json!(1_795_251_605_123_i64)),
            ("unix_ms_string", Tz::UTC, json!("1795251605123")),
            ("rfc3339", Tz::UTC, json!("2026-11-21T09:00:05Z")),
            ("%Y-%m-%d %H:%M:%S", Tz::UTC, json!("2026-11-21 09:00:05")),
            ("%Y-%m-%d %H:%M:%S", chrono_tz::Europe::Kyiv, json!("2026-11-21 11:00:05")),
            ("%Y-%m-%dT%H:%M:%S%.3f%z", Tz::UTC, json!("2026-11-21T09:00:05.123+0000")),
        ];
        for (word, zone, written) in rows {
            let format = TimeFormat::parse(word, zone).unwrap();
            assert_eq!(format.write(at), written, "{word}");
            let text = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
            let read = format.read(&text).unwrap();
            assert!(read <= at && at.0 - read.0 < format.unit(), "{word}: {read:?}");
        }
    }

    #[test]
    fn the_unit_is_the_shortest_step_that_a_pattern_shows() {
        let rows = [
            ("%Y-%m-%dT%H:%M:%S%.3f%z", MILLISECOND),
            ("%Y-%m-%d %H:%M:%S", SECOND),
            ("%Y-%m-%d %H:%M", 60 * SECOND),
            ("%Y-%m-%dT%H", 3600 * SECOND),
            ("%Y-%m-%d", 24 * 3600 * SECOND),
        ];
        for (zone, (pattern, unit)) in [Tz::UTC, chrono_tz::Atlantic::Azores, chrono_tz::Asia::Kolkata]
            .iter()
            .flat_map(|zone| rows.map(|row| (zone, row)))
        {
            assert_eq!(TimeFormat::parse(pattern, *zone).unwrap().unit(), unit, "{pattern} {zone}");
        }
    }

    #[test]
    fn vendors_times_are_read() {
        let rfc3339 = TimeFormat::Rfc3339;
        let nine = Some(ChangeTime(1_795_251_605_000_000));
        for text in [
            "2026-11-21T09:00:05Z",
            "2026-11-21T11:00:05+02:00",
            "2026-11-21T09:00:05.000+0000",
            "2026-11-21T09:00:05.000000Z",
        ] {
            assert_eq!(rfc3339.read(text), nine, "{text}");
        }
        assert_eq!(rfc3339.read("soon"), None);
        // the hour that comes twice
        let kyiv = TimeFormat::parse("%Y-%m-%d %H:%M:%S", chrono_tz::Europe::Kyiv).unwrap();
        assert_eq!(kyiv.write(kyiv.read("2026-10-25 03:30:00").unwrap()), json!("2026-10-25 03:30:00"));
        for word in ["%Q", "soon", ""] {
            assert_eq!(TimeFormat::parse(word, Tz::UTC), None, "{word}");
        }
    }
}
