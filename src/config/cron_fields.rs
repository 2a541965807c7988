//! Unix cron's notation, translated into the `cron` crate's. The crate numbers weekdays from 1 = Sunday, wants seconds
//! and joins day of month and day of week with *and*; Unix cron has 0 and 7 = Sunday and joins the two with *or* when
//! both are restricted. Knows no time.

use std::collections::BTreeSet;

/// Why text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five or six fields.
    #[error("it has {0} fields, not 5 or 6")]
    FieldCount(usize),
    /// A field that cannot be read.
    #[error("its {field} `{text}` {reason}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// The part of it that is wrong.
        text: String,
        /// In what way.
        reason: String,
    },
    /// A day that no year has.
    #[error("it never comes")]
    Never,
}

struct Kind {
    name: &'static str,
    first: u8,
    last: u8,
    /// Names for the values from `first` on.
    words: &'static [&'static str],
}

const SECOND: Kind = Kind { name: "second", first: 0, last: 59, words: &[] };
const MINUTE: Kind = Kind { name: "minute", first: 0, last: 59, words: &[] };
const HOUR: Kind = Kind { name: "hour", first: 0, last: 23, words: &[] };
const DAY: Kind = Kind { name: "day of month", first: 1, last: 31, words: &[] };
const MONTH: Kind = Kind {
    name: "month",
    first: 1,
    last: 12,
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// Sunday is 0 and 7.
const WEEKDAY: Kind =
    Kind { name: "day of week", first: 0, last: 7, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// A schedule in the crate's notation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Translated {
    /// One expression, or two of which either may match.
    pub(super) expressions: Vec<String>,
    /// It runs in every hour of the day.
    pub(super) every_hour: bool,
}

/// Translates five fields (minute, hour, day of month, month, day of week), or six with seconds before them.
pub(super) fn translate(text: &str) -> Result<Translated, ScheduleError> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let (second, rest) = match fields.as_slice() {
        rest if rest.len() == 5 => ("0", rest),
        [second, rest @ ..] if rest.len() == 5 => (*second, rest),
        _ => return Err(ScheduleError::FieldCount(fields.len())),
    };
    let [minute, hour, day, month, weekday] = rest else { return Err(ScheduleError::FieldCount(fields.len())) };
    let (second, minute, month) = (values(&SECOND, second)?, values(&MINUTE, minute)?, values(&MONTH, month)?);
    let (hours, days) = (values(&HOUR, hour)?, values(&DAY, day)?);
    let weekdays = values(&WEEKDAY, weekday)?.into_iter().map(|n| n % 7 + 1).collect();
    let expression = |days: Option<&BTreeSet<u8>>, weekdays: Option<&BTreeSet<u8>>| {
        let list = |values: Option<&BTreeSet<u8>>| values.map_or_else(|| "*".to_owned(), listed);
        let (second, minute, hour, month) = (listed(&second), listed(&minute), listed(&hours), listed(&month));
        format!("{second} {minute} {hour} {} {month} {} *", list(days), list(weekdays))
    };
    // cron(5): a field counts as restricted when it does not start with `*`.
    let expressions = if day.starts_with('*') || weekday.starts_with('*') {
        vec![expression(Some(&days), Some(&weekdays))]
    } else {
        vec![expression(Some(&days), None), expression(None, Some(&weekdays))]
    };
    Ok(Translated { expressions, every_hour: hours.len() == 24 })
}

fn listed(values: &BTreeSet<u8>) -> String {
    values.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
}

fn values(kind: &Kind, field: &str) -> Result<BTreeSet<u8>, ScheduleError> {
    let mut all = BTreeSet::new();
    for part in field.split(',') {
        let refuse = |reason: String| ScheduleError::Field { field: kind.name, text: part.to_owned(), reason };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (first, last) = bounds(kind, range).map_err(refuse)?;
        if step.is_some() && first == last {
            return Err(refuse(format!("has a step and no range; write {first}-{}/…", kind.last)));
        }
        let step = step.map_or(Ok(1), |step| step_of(kind, step)).map_err(refuse)?;
        all.extend((first..=last).step_by(step));
    }
    Ok(all)
}

fn step_of(kind: &Kind, text: &str) -> Result<usize, String> {
    let most = usize::from(kind.last - kind.first) + 1;
    match text.parse::<usize>() {
        Ok(step) if (1..=most).contains(&step) => Ok(step),
        Ok(_) | Err(_) => Err(format!("has a step that is not a number from 1 to {most}")),
    }
}

fn bounds(kind: &Kind, range: &str) -> Result<(u8, u8), String> {
    if range == "*" {
        return Ok((kind.first, kind.last));
    }
    let Some((first, last)) = range.split_once('-') else {
        let value = value(kind, range)?;
        return Ok((value, value));
    };
    let (first, last) = (value(kind, first)?, value(kind, last)?);
    // `FRI-SUN` ends with the Sunday that closes the week.
    let last = if kind.last == 7 && last == 0 && first > 0 { 7 } else { last };
    if last < first { Err("runs backwards; write two ranges".to_owned()) } else { Ok((first, last)) }
}

fn value(kind: &Kind, text: &str) -> Result<u8, String> {
    if let Some(place) = kind.words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
        return u8::try_from(place).map(|place| place + kind.first).map_err(|error| error.to_string());
    }
    let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    match text.parse::<u8>() {
        Ok(number) if digits && (kind.first..=kind.last).contains(&number) => Ok(number),
        Ok(_) | Err(_) if kind.words.is_empty() => Err(format!("is not {} to {}", kind.first, kind.last)),
        Ok(_) | Err(_) => {
            Err(format!("is neither {} to {} nor a name such as {}", kind.first, kind.last, kind.words[1]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> String {
        let translated = translate(text).unwrap();
        assert_eq!(translated.expressions.len(), 1, "{text}");
        translated.expressions[0].clone()
    }

    /// Only the named field; the others are those of `* * * * *`, cut away.
    fn field(text: &str, place: usize) -> String {
        one(text).split(' ').nth(place).unwrap().to_owned()
    }

    #[test]
    fn weekdays_are_unix_numbers_and_become_the_crates() {
        let cases = [
            // Sunday is 0 and 7 here, 1 there.
            ("0", "1"),
            ("7", "1"),
            ("sun", "1"),
            ("1", "2"),
            ("6", "7"),
            ("MON-FRI", "2,3,4,5,6"),
            ("1-5", "2,3,4,5,6"),
            ("5-7", "1,6,7"),
            ("FRI-SUN", "1,6,7"),
            ("0-7", "1,2,3,4,5,6,7"),
            ("*", "1,2,3,4,5,6,7"),
            ("Tue,sat", "3,7"),
            ("1-5/2", "2,4,6"),
            // 0, 2, 4 and 6.
            ("*/2", "1,3,5,7"),
        ];
        for (unix, crates) in cases {
            assert_eq!(field(&format!("0 0 * * {unix}"), 5), crates, "{unix}");
        }
    }

    #[test]
    fn lists_ranges_steps_and_names() {
        assert_eq!(field("*/15 * * * *", 1), "0,15,30,45");
        assert_eq!(field("5-59/20 * * * *", 1), "5,25,45");
        assert_eq!(field("1,2,10-12 * * * *", 1), "1,2,10,11,12");
        assert_eq!(field("0 0 * jan,MAR-5 *", 4), "1,3,4,5");
        assert_eq!(field("0 22-23,0-5 * * *", 2), "0,1,2,3,4,5,22,23");
        assert_eq!(field("* * * * *", 0), "0");
        assert_eq!(field("*/20 * * * * *", 0), "0,20,40");
    }

    #[test]
    fn two_restricted_days_mean_either() {
        let both = translate("0 3 1,15 * 1").unwrap().expressions;
        assert_eq!(both.len(), 2);
        assert!(both[0].starts_with("0 0 3 1,15 ") && both[0].ends_with(" * *"), "{both:?}");
        assert!(both[1].starts_with("0 0 3 * ") && both[1].ends_with(" 2 *"), "{both:?}");
        // A field that starts with a star does not count as restricted.
        assert_eq!(translate("0 3 */2 * 1").unwrap().expressions.len(), 1);
        assert_eq!(translate("0 3 1 * *").unwrap().expressions.len(), 1);
    }

    #[test]
    fn what_is_not_cron_is_refused_with_its_part() {
        let cases = [
            ("", "it has 0 fields, not 5 or 6"),
            ("* * * *", "it has 4 fields, not 5 or 6"),
            ("* * * * * * *", "it has 7 fields, not 5 or 6"),
            ("@daily", "it has 1 fields, not 5 or 6"),
            ("60 * * * *", "its minute `60` is not 0 to 59"),
            ("0,x * * * *", "its minute `x` is not 0 to 59"),
            ("* 24 * * *", "its hour `24` is not 0 to 23"),
            ("* * 0 * *", "its day of month `0` is not 1 to 31"),
            ("* * * 13 *", "its month `13` is neither 1 to 12 nor a name such as feb"),
            ("* * * * 8", "its day of week `8` is neither 0 to 7 nor a name such as mon"),
            ("*/0 * * * *", "its minute `*/0` has a step that is not a number from 1 to 60"),
            ("*/61 * * * *", "its minute `*/61` has a step that is not a number from 1 to 60"),
            ("5/15 * * * *", "its minute `5/15` has a step and no range; write 5-59/…"),
            ("30-10 * * * *", "its minute `30-10` runs backwards; write two ranges"),
            ("+5 * * * *", "its minute `+5` is not 0 to 59"),
            ("5, * * * *", "its minute `` is not 0 to 59"),
            ("1-2-3 * * * *", "its minute `1-2-3` is not 0 to 59"),
        ];
        for (text, expected) in cases {
            assert_eq!(translate(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
