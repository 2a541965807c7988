//! Dates and times as CRMs write them. Pure: reads no clock, knows no field.
//!
//! A form that can be read in two ways (`03/04/2024`) is not read at all.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// What a CRM wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A day without a time.
    Day(NaiveDate),
    /// A time on some wall clock: its zone is not said.
    Wall(NaiveDateTime),
    /// A point in time, with the wall clock it was written by.
    Instant {
        /// The wall clock of the zone it was written in.
        wall: NaiveDateTime,
        /// The point itself.
        at: DateTime<Utc>,
    },
}

impl Moment {
    /// Reads `yyyy-MM-dd`, `yyyy/MM/dd`, `dd.MM.yyyy` or `yyyyMMdd`, the first three with a time (`T` or a space,
    /// seconds and fraction optional) and a zone (`Z`, `UTC`, `±hh`, `±hhmm`, `±hh:mm`), and seconds or milliseconds
    /// since 1970: nine or ten digits are seconds, twelve to fourteen milliseconds. Eleven may be either (the years
    /// 1970 to 1973, or beyond 2286), so they are not read. `None` for all else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(moment) = epoch(text) {
            return Some(moment);
        }
        let (day, rest) = day(text)?;
        if rest.is_empty() {
            return Some(Self::Day(day));
        }
        let (time, zone) = time(rest.strip_prefix(['T', 't', ' '])?.trim_start())?;
        let wall = day.and_time(time);
        match Zone::parse(zone.trim_start())? {
            Zone::Unsaid => Some(Self::Wall(wall)),
            Zone::Minutes(minutes) => {
                let at = wall.checked_sub_signed(TimeDelta::minutes(minutes))?.and_utc();
                Some(Self::Instant { wall, at })
            }
        }
    }

    /// The day that a text means, of any age, such as one of birth. A time on a wall clock gives the day that is written,
    /// and so does midnight in any zone. Any other instant is on one day here and on another there: its day is that in
    /// `zone`.
    ///
    /// Nine and ten digits may be milliseconds of the first days of 1970, so they are only read where they are the
    /// first second of a day, in UTC or in `zone`, and not also, as milliseconds, the first of another one.
    pub fn read_day(text: &str, zone: Option<Tz>) -> Result<NaiveDate, NoDay> {
        let moment = Self::parse(text).ok_or(NoDay::NotUnderstood)?;
        let (wall, local) = match moment {
            Self::Day(day) => return Ok(day),
            Self::Wall(wall) => return Ok(wall.date()),
            Self::Instant { wall, at } => (wall, zone.map(|zone| at.with_timezone(&zone).naive_local())),
        };
        let digits = text.trim().trim_start_matches('-');
        if (EPOCH_DIGITS_MIN..MILLIS_DIGITS_MIN).contains(&digits.len()) && all_digits(digits) {
            let number: i64 = digits.parse().map_err(|_| NoDay::NotUnderstood)?;
            let is_first_second = [Some(wall), local].into_iter().flatten().any(is_midnight);
            if !is_first_second || number % (1000 * DAY_SECONDS) == 0 {
                return Err(NoDay::NotUnderstood);
            }
        }
        if is_midnight(wall) {
            return Ok(wall.date());
        }
        local.map(|local| local.date()).ok_or(NoDay::NoZone)
    }

    /// The time on the clock of `zone`, where it is known; a time that was written without a zone is on that clock
    /// already. `None` for a moment whose zone is not known here.
    #[must_use]
    pub fn local(self, zone: Option<Tz>) -> Option<NaiveDateTime> {
        match self {
            Self::Day(day) => Some(day.and_time(NaiveTime::MIN)),
            Self::Wall(wall) => Some(wall),
            Self::Instant { at, .. } => zone.map(|zone| at.with_timezone(&zone).naive_local()),
        }
    }

    /// The time in UTC; a wall clock of unknown zone is taken as UTC, a day as its first minute.
    #[must_use]
    pub fn utc(self) -> NaiveDateTime {
        match self {
            Self::Day(day) => day.and_time(NaiveTime::MIN),
            Self::Wall(wall) => wall,
            Self::Instant { at, .. } => at.naive_utc(),
        }
    }

    /// Milliseconds since 1970, by [`Moment::utc`].
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.utc().and_utc().timestamp_millis()
    }
}

/// The zones that moments are written down in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zones {
    /// For days; `None` where none is known.
    pub of_days: Option<Tz>,
    /// For times: the contact's. `Err` where it may have one that the (partial) record does not say.
    pub of_times: Result<Option<Tz>, ()>,
}

impl Default for Zones {
    fn default() -> Self {
        Self { of_days: None, of_times: Ok(None) }
    }
}

/// Why a text is no day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDay {
    /// No date, or one that can be read in two ways.
    NotUnderstood,
    /// An instant: it is on one day here and on another there.
    NoZone,
}

fn is_midnight(time: NaiveDateTime) -> bool {
    time.time() == NaiveTime::MIN
}

/// Digits below which a number is no time: it would lie before 1973, where no CRM record was changed, and shorter
/// numbers are versions or `yyyyMMdd`.
const EPOCH_DIGITS_MIN: usize = 9;
/// Up to this many digits a number means seconds (as milliseconds it would lie in the first 115 days of 1970). One more
/// would be the years 1970 to 1973 as milliseconds, and 2286 to 5138 as seconds: neither is surer than the other.
const SECONDS_DIGITS_MAX: usize = 10;
/// From this many digits on a number means milliseconds (as seconds it would lie after the year 5138).
const MILLIS_DIGITS_MIN: usize = 12;
/// More digits would be microseconds, which no CRM of ours writes.
const EPOCH_DIGITS_MAX: usize = 14;
const DAY_SECONDS: i64 = 86_400;

fn epoch(text: &str) -> Option<Moment> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !(EPOCH_DIGITS_MIN..=EPOCH_DIGITS_MAX).contains(&whole.len()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let number: i64 = whole.parse().ok()?;
    let millis = if whole.len() >= MILLIS_DIGITS_MIN {
        number
    } else if whole.len() > SECONDS_DIGITS_MAX {
        return None;
    } else {
        let thousandths: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
        number * 1000 + thousandths
    };
    let at = DateTime::from_timestamp_millis(sign * millis)?;
    let in_range = (1..=9999).contains(&at.year());
    in_range.then(|| Moment::Instant { wall: at.naive_utc(), at })
}

fn day(text: &str) -> Option<(NaiveDate, &str)> {
    let bytes = text.as_bytes();
    let mark = |place: usize| bytes.get(place).copied();
    let (year, month, day, end) = match (mark(4), mark(7), mark(2), mark(5)) {
        (Some(b'-'), Some(b'-'), _, _) | (Some(b'/'), Some(b'/'), _, _) => (0..4, 5..7, 8..10, 10),
        (_, _, Some(b'.'), Some(b'.')) => (6..10, 3..5, 0..2, 10),
        _ if text.len() == 8 => (0..4, 4..6, 6..8, 8),
        _ => return None,
    };
    let date = NaiveDate::from_ymd_opt(
        i32::try_from(number(text.get(year)?)?).ok()?,
        number(text.get(month)?)?,
        number(text.get(day)?)?,
    )?;
    (date.year() >= 1).then_some((date, text.get(end..)?))
}

fn time(text: &str) -> Option<(NaiveTime, &str)> {
    let hour = number(text.get(..2)?)?;
    let minute = number(text.get(2..)?.strip_prefix(':')?.get(..2)?)?;
    let mut rest = text.get(5..)?;
    let (mut second, mut millis) = (0, 0);
    if let Some(seconds) = rest.strip_prefix(':') {
        second = number(seconds.get(..2)?)?;
        rest = seconds.get(2..)?;
        if let Some(fraction) = rest.strip_prefix(['.', ',']) {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, zone) = fraction.split_at(digits);
            millis = number(format!("{fraction:0<3}").get(..3)?)?;
            rest = (digits > 0).then_some(zone)?;
        }
    }
    Some((NaiveTime::from_hms_milli_opt(hour, minute, second, millis)?, rest))
}

/// The zone of a written time.
enum Zone {
    Unsaid,
    /// Minutes ahead of UTC.
    Minutes(i64),
}

impl Zone {
    fn parse(zone: &str) -> Option<Self> {
        if zone.is_empty() {
            return Some(Self::Unsaid);
        }
        if ["z", "utc", "gmt"].iter().any(|name| zone.eq_ignore_ascii_case(name)) {
            return Some(Self::Minutes(0));
        }
        let (sign, digits) = match zone.split_at_checked(1)? {
            ("+", digits) => (1, digits),
            ("-", digits) => (-1, digits),
            _ => return None,
        };
        let hours = number(digits.get(..2)?)?;
        let minutes = match digits.get(2..)? {
            "" => 0,
            minutes => {
                let minutes = minutes.strip_prefix(':').unwrap_or(minutes);
                if minutes.len() == 2 { number(minutes)? } else { return None }
            }
        };
        (hours <= 15 && minutes <= 59).then(|| Self::Minutes(sign * i64::from(hours * 60 + minutes)))
    }
}

fn number(digits: &str) -> Option<u32> {
    if all_digits(digits) { digits.parse().ok() } else { None }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_forms_crms_write() {
        let rows = [
            // RFC 3339
            ("2024-05-06T07:08:09Z", 1_714_979_289_000),
            ("2024-05-06T07:08:09.5+03:00", 1_714_968_489_500),
            // PostgreSQL's text form: short zone, fraction of microseconds
            ("2024-05-06 07:08:09.123456+03", 1_714_968_489_123),
            ("2024-05-06 07:08:09 +0300", 1_714_968_489_000),
            // west of Greenwich
            ("2024-05-06T02:38:09-04:30", 1_714_979_289_000),
            // without a zone: UTC
            ("2024-05-06 07:08:09", 1_714_979_289_000),
            ("2024-05-06T07:08", 1_714_979_280_000),
            ("2024-05-06 07:08:09 UTC", 1_714_979_289_000),
            // a day is its first minute
            ("2024-05-06", 1_714_953_600_000),
            ("2024/05/06", 1_714_953_600_000),
            ("06.05.2024", 1_714_953_600_000),
            ("20240506", 1_714_953_600_000),
            // seconds, seconds with a fraction, milliseconds
            ("1714979289", 1_714_979_289_000),
            ("1714979289.25", 1_714_979_289_250),
            ("1714979289123", 1_714_979_289_123),
            ("-157766400", -157_766_400_000),
        ];
        for (text, millis) in rows {
            assert_eq!(Moment::parse(text).map(Moment::unix_millis), Some(millis), "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        let rows = [
            // month or day first
            "03/04/2024",
            // no such day
            "2024-02-30",
            // MySQL's empty date
            "0000-00-00",
            "0000-00-00 00:00:00",
            // a version number
            "17",
            // milliseconds of 1971, or seconds of the year 3170
            "37849600000",
            "-37849600000",
            "37849600000.5",
            // no such hour; no such zone
            "2024-05-06 25:00",
            "2024-05-06 07:08 Kyiv",
            "2024-05-06T07:08:09+99:00",
            // a fraction without digits
            "2024-05-06T07:08:09.",
            "tomorrow",
            "",
            // not cut inside a character
            "20240ї06",
            "2024-05-0ї",
        ];
        for text in rows {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_day_in_digits_is_read_where_it_can_be_only_one() {
        let rows = [
            // a birthday as seconds
            ("642556800", Some("1990-05-13")),
            ("-157766400", Some("1965-01-01")),
            ("1714953600", Some("2024-05-06")),
            // as milliseconds
            ("642556800000", Some("1990-05-13")),
            // with a fraction they are seconds
            ("642556800.0", Some("1990-05-13")),
            // the twelfth of January 1970 in milliseconds, or a day of 2000 in seconds
            ("950400000", None),
            // within a day: no day was meant, or in another unit or zone
            ("642556801", None),
            ("1714979289", None),
            ("37849600000", None),
            // other forms as ever
            ("20240506", Some("2024-05-06")),
            ("06.05.2024", Some("2024-05-06")),
        ];
        for (text, day) in rows {
            let read = Moment::read_day(text, None).ok().map(|day| day.to_string());
            assert_eq!(read.as_deref(), day, "{text}");
        }
    }

    /// A birthday that a CRM keeps as midnight of its own zone, written in UTC, is on the day before there.
    #[test]
    fn a_day_does_not_move_with_the_zone() {
        let (kyiv, berlin, new_york) = (Some(Tz::Europe__Kyiv), Some(Tz::Europe__Berlin), Some(Tz::America__New_York));
        let rows = [
            // midnight as it was written is a day
            ("1990-05-01T00:00:00+03:00", None, Ok("1990-05-01")),
            ("1980-06-02T00:00:00Z", None, Ok("1980-06-02")),
            ("1980-06-02T00:00:00Z", new_york, Ok("1980-06-02")),
            ("1980-06-02 00:00", None, Ok("1980-06-02")),
            ("1980-06-02", kyiv, Ok("1980-06-02")),
            // any other instant needs a zone
            ("1980-06-01T22:00:00Z", None, Err(NoDay::NoZone)),
            ("1980-06-01T22:00:00.000+0000", None, Err(NoDay::NoZone)),
            ("1980-06-01T22:00:00Z", kyiv, Ok("1980-06-02")),
            ("1980-06-01T22:00:00Z", berlin, Ok("1980-06-02")),
            ("1980-06-01T22:00:00Z", new_york, Ok("1980-06-01")),
            ("2024-05-06T23:30:00+03:00", None, Err(NoDay::NoZone)),
            ("2024-05-06T23:30:00+03:00", kyiv, Ok("2024-05-06")),
            // on a wall clock it is the day that is written, as MySQL and spreadsheets write it
            ("1980-06-01 22:00:00", None, Ok("1980-06-01")),
            ("2024-05-06 14:20:11", None, Ok("2024-05-06")),
            ("2024-05-06 14:20:11", new_york, Ok("2024-05-06")),
            ("1980-06-01 22:00:00", kyiv, Ok("1980-06-01")),
            // seconds and milliseconds since 1970
            ("642549600", None, Err(NoDay::NotUnderstood)),
            ("642546000", kyiv, Err(NoDay::NotUnderstood)),
            ("642542400", kyiv, Ok("1990-05-13")),
            ("642542400000", None, Err(NoDay::NoZone)),
            ("642542400000", kyiv, Ok("1990-05-13")),
            ("1714979289000", kyiv, Ok("2024-05-06")),
            ("03/04/2024", kyiv, Err(NoDay::NotUnderstood)),
        ];
        for (text, zone, wanted) in rows {
            let read = Moment::read_day(text, zone).map(|day| day.to_string());
            assert_eq!(read.as_deref().map_err(|no_day| *no_day), wanted, "{text} {zone:?}");
        }
    }
}
