//! When a cycle is due: a Unix cron expression in a time zone. Reads no clock.
//!
//! Days on which the clock changes: a schedule with chosen hours runs once for each of its times, so a nightly run is
//! neither left out when its hour does not exist (it runs the moment the clock has jumped) nor doubled when its hour
//! comes twice (the first counts). A schedule that runs in every hour follows real time instead.

use std::str::FromStr;

use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, Offset, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

pub use super::cron_fields::ScheduleError;
use super::cron_fields::translate;
use crate::clock::Timestamp;

/// No zone's clock goes back further than this in one step today; bounds how far a search must look back.
const BACK_MAX: Duration = Duration::hours(3);

/// The longest time that a clock ever jumped over (a day, at the date line).
const GAP_MINUTES_MAX: u32 = 24 * 60;

/// A moment that recurs.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    zone: Tz,
    calendars: Vec<cron::Schedule>,
    every_hour: bool,
}

impl Schedule {
    /// Reads five fields of Unix cron, or six with seconds first, meant in `zone`.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, ScheduleError> {
        let translated = translate(text)?;
        let calendars = translated.expressions.iter().map(|expression| cron::Schedule::from_str(expression));
        // Lists of numbers within their bounds are always an expression; if the crate disagrees, nothing ever comes.
        let calendars = calendars.collect::<Result<Vec<_>, _>>().map_err(|_| ScheduleError::Never)?;
        let schedule = Self { text: text.to_owned(), zone, calendars, every_hour: translated.every_hour };
        // From the epoch every day of the calendar is still to come, so what finds none here never comes.
        schedule.next_after(Timestamp(0)).map(|_| schedule.clone()).ok_or(ScheduleError::Never)
    }

    /// The expression as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The zone it is meant in.
    #[must_use]
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first due moment later than `after`; `None` only beyond the end of the calendar (the year 2100).
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = DateTime::<Utc>::from_timestamp_millis(after.0)?;
        let mut local = self.search_from(after)?;
        let mut best: Option<DateTime<Utc>> = None;
        while let Some(next) = self.next_local(local) {
            local = next;
            let moments = self.moments(local);
            best = moments.iter().copied().filter(|moment| *moment > after).chain(best).min();
            // First moments never run backwards, so nothing earlier can follow.
            if moments.first().is_some_and(|first| *first > after) {
                break;
            }
        }
        best.map(|moment| Timestamp(moment.timestamp_millis()))
    }

    /// The local time to search from: earlier than `after`'s own where the clock is about to be set back, since times
    /// that it has already shown will come once more.
    fn search_from(&self, after: DateTime<Utc>) -> Option<NaiveDateTime> {
        let offset = |at: DateTime<Utc>| self.zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
        let local = after.with_timezone(&self.zone).naive_local().with_nanosecond(0)?;
        if self.every_hour && offset(after + BACK_MAX) < offset(after) {
            return local.checked_sub_signed(BACK_MAX);
        }
        Some(local)
    }

    fn next_local(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        // The calendars know no zone: local time is handed to them as if it were UTC, which has no gaps.
        let after = after.and_utc();
        self.calendars.iter().filter_map(|calendar| calendar.after(&after).next()).min().map(|next| next.naive_utc())
    }

    /// The moments at which a local time is due, in order: none, one or two.
    fn moments(&self, local: NaiveDateTime) -> Vec<DateTime<Utc>> {
        match self.zone.from_local_datetime(&local) {
            LocalResult::Single(moment) => vec![moment.to_utc()],
            LocalResult::Ambiguous(first, second) if self.every_hour => vec![first.to_utc(), second.to_utc()],
            LocalResult::Ambiguous(first, _) => vec![first.to_utc()],
            LocalResult::None if self.every_hour => Vec::new(),
            LocalResult::None => self.gap_end(local).into_iter().collect(),
        }
    }

    /// The first moment after a jump of the clock over `local`.
    fn gap_end(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        let minute = local.with_second(0)?;
        (1..=GAP_MINUTES_MAX)
            .find_map(|later| {
                let candidate = minute.checked_add_signed(Duration::minutes(i64::from(later)))?;
                self.zone.from_local_datetime(&candidate).earliest()
            })
            .map(|moment| moment.to_utc())
    }
}

#[cfg(test)]
mod tests;
