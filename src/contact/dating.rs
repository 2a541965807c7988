//! Which change times of a CRM are believed. One that cannot be read, or lies ahead of the present, counts as none: it would
//! pass as the newest for ever, and every true change of its record as older. Knows no clock.

use std::time::Duration;

use super::moment::Moment;

/// So far the clocks of a CRM and of this machine may be apart.
const CLOCKS_APART: Duration = Duration::from_mins(5);
/// A time without a zone may be one of the wall clock of any zone: so far ahead of UTC it may be the present.
const ZONES_AHEAD: Duration = Duration::from_hours(14);

/// What a record says of when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dating {
    /// Nothing.
    Undated,
    /// Something that is no time.
    Unreadable,
    /// A moment.
    At(Moment),
}

/// Change times that were not believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DateFaults {
    /// They cannot be read; and where the first of them stood.
    unreadable: (u64, Option<String>),
    /// They lie ahead.
    ahead: (u64, Option<String>),
}

impl DateFaults {
    /// The change time, milliseconds, where it is believed: one later than `present` (milliseconds, with what the source may
    /// be late) is not. `place` is told of the first that is not.
    pub fn believe(&mut self, dating: Dating, present: i64, place: impl FnOnce() -> String) -> Option<i64> {
        let fault = match dating {
            Dating::Undated => return None,
            Dating::Unreadable => &mut self.unreadable,
            Dating::At(moment) => {
                let slack = match moment {
                    Moment::Instant { .. } => CLOCKS_APART,
                    Moment::Wall(_) | Moment::Day(_) => ZONES_AHEAD + CLOCKS_APART,
                };
                let latest = present.saturating_add(i64::try_from(slack.as_millis()).unwrap_or(i64::MAX));
                if moment.unix_millis() <= latest {
                    return Some(moment.unix_millis());
                }
                &mut self.ahead
            }
        };
        fault.0 += 1;
        fault.1.get_or_insert_with(place);
        None
    }

    /// Adds those of a later part of a read.
    pub fn add(&mut self, later: Self) {
        for (sum, (count, first)) in [(&mut self.unreadable, later.unreadable), (&mut self.ahead, later.ahead)] {
            sum.0 += count;
            sum.1 = sum.1.take().or(first);
        }
    }

    /// For the operator; nothing where each was believed.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let words = |(count, first): &(u64, Option<String>), what: &str, advice: &str| {
            let first = first.as_deref().unwrap_or_default();
            let records = if *count == 1 { "record has" } else { "records have" };
            (*count > 0)
                .then(|| format!("{count} {records} a change time {what} (first: {first}): it is ignored{advice}"))
        };
        let unreadable = words(&self.unreadable, "that cannot be read", "; check changed_at");
        unreadable.into_iter().chain(words(&self.ahead, "in the future", "")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_lie_ahead_or_cannot_be_read_count_as_none_and_are_told() {
        let present = Moment::parse("2026-11-30T12:00:00Z").unwrap().unix_millis();
        let rows = [
            ("2026-11-30T12:04:00Z", true),
            ("2026-11-30T12:06:00Z", false),
            // the wall clock of a zone that is ahead of UTC
            ("2026-12-01 02:00:00", true),
            ("2026-12-01 02:06:00", false),
            ("2099-01-01", false),
        ];
        let mut faults = DateFaults::default();
        for (text, is_believed) in rows {
            let moment = Moment::parse(text).unwrap();
            let believed = faults.believe(Dating::At(moment), present, || text.to_owned());
            assert_eq!(believed, is_believed.then(|| moment.unix_millis()), "{text}");
        }
        assert_eq!(faults.believe(Dating::Unreadable, present, || "line 9".to_owned()), None);
        assert_eq!(faults.believe(Dating::Undated, present, || "line 10".to_owned()), None);
        let mut sum = DateFaults::default();
        sum.add(faults);
        assert_eq!(
            sum.words(),
            [
                "1 record has a change time that cannot be read (first: line 9): it is ignored; check changed_at",
                "3 records have a change time in the future (first: 2026-11-30T12:06:00Z): it is ignored",
            ]
        );
        assert!(DateFaults::default().words().is_empty());
    }
}
