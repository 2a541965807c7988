//! Schedules on the days on which clocks change, and in all zones.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp(DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis())
}

fn schedule(text: &str, zone: Tz) -> Schedule {
    Schedule::parse(text, zone).unwrap()
}

/// The due moments from `from` (exclusive) to `to` (inclusive), UTC.
fn due(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
    let mut moments = Vec::new();
    let mut after = at(from);
    while let Some(next) = schedule.next_after(after).filter(|next| *next <= at(to)) {
        assert!(next > after, "{next} does not follow {after}");
        moments.push(DateTime::from_timestamp_millis(next.0).unwrap().format("%dT%H:%M:%S").to_string());
        after = next;
    }
    moments
}

const KYIV: Tz = chrono_tz::Europe::Kyiv;

// In Kyiv the clock goes from 03:00 to 04:00 at 2026-03-29T01:00Z and from 04:00 to 03:00 at 2026-10-25T01:00Z.

#[test]
fn plain_days_in_a_zone() {
    let nightly = schedule("30 3 * * *", KYIV);
    let moments = due(&nightly, "2026-01-01T00:00:00Z", "2026-01-03T23:00:00Z");
    assert_eq!(moments, ["01T01:30:00", "02T01:30:00", "03T01:30:00"]);
}

#[test]
fn nightly_run_in_the_hour_that_does_not_exist_runs_once_when_the_clock_has_jumped() {
    let nightly = schedule("30 3 * * *", KYIV);
    let moments = due(&nightly, "2026-03-28T00:00:00Z", "2026-03-30T23:00:00Z");
    assert_eq!(moments, ["28T01:30:00", "29T01:00:00", "30T00:30:00"]);
}

#[test]
fn nightly_run_in_the_hour_that_comes_twice_runs_once() {
    let nightly = schedule("30 3 * * *", KYIV);
    let moments = due(&nightly, "2026-10-24T00:00:00Z", "2026-10-26T23:00:00Z");
    assert_eq!(moments, ["24T00:30:00", "25T00:30:00", "26T01:30:00"]);
    // Also when the daemon starts between the two.
    let moments = due(&nightly, "2026-10-25T00:45:00Z", "2026-10-25T23:00:00Z");
    assert_eq!(moments, Vec::<String>::new());
}

#[test]
fn several_times_in_the_missing_hour_become_one() {
    let twice = schedule("0,30 3,4 * * *", KYIV);
    // 03:00, 03:30 and 04:00 are the same moment that day.
    assert_eq!(due(&twice, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z"), ["29T01:00:00", "29T01:30:00"]);
    let second = schedule("15 30 3 * * *", KYIV);
    assert_eq!(due(&second, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z"), ["29T01:00:00"]);
}

#[test]
fn frequent_runs_follow_real_time_over_both_changes() {
    let half_hourly = schedule("*/30 * * * *", KYIV);
    let spring = due(&half_hourly, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z");
    assert_eq!(spring, ["29T00:30:00", "29T01:00:00", "29T01:30:00", "29T02:00:00"]);
    let autumn = due(&half_hourly, "2026-10-24T23:30:00Z", "2026-10-25T02:00:00Z");
    assert_eq!(autumn, ["25T00:00:00", "25T00:30:00", "25T01:00:00", "25T01:30:00", "25T02:00:00"]);
    // An hourly run at :45 has no run for an hour that does not exist.
    let hourly = schedule("45 * * * *", KYIV);
    assert_eq!(due(&hourly, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"), ["29T00:45:00", "29T01:45:00"]);
}

#[test]
fn half_hour_changes_and_a_lost_day() {
    // Lord Howe moves by half an hour, on 2026-04-04T15:00Z back from 02:00 to 01:30.
    let frequent = schedule("*/15 * * * *", chrono_tz::Australia::Lord_Howe);
    let moments = due(&frequent, "2026-04-04T14:30:00Z", "2026-04-04T15:45:00Z");
    assert_eq!(moments, ["04T14:45:00", "04T15:00:00", "04T15:15:00", "04T15:30:00", "04T15:45:00"]);
    // Samoa had no 30 December 2011: its run comes as the day after begins, at 10:00Z.
    let daily = schedule("0 12 * * *", chrono_tz::Pacific::Apia);
    let moments = due(&daily, "2011-12-29T00:00:00Z", "2011-12-31T23:00:00Z");
    assert_eq!(moments, ["29T22:00:00", "30T10:00:00", "30T22:00:00", "31T22:00:00"]);
}

#[test]
fn either_restricted_day_is_due() {
    // 13th, or Friday: in February 2026 both fall together on the 13th.
    let either = schedule("0 0 13 * 5", chrono_tz::UTC);
    let moments = due(&either, "2026-02-28T00:00:00Z", "2026-03-20T23:00:00Z");
    assert_eq!(moments, ["06T00:00:00", "13T00:00:00", "20T00:00:00"]);
    let moments = due(&either, "2026-04-01T00:00:00Z", "2026-04-17T23:00:00Z");
    assert_eq!(moments, ["03T00:00:00", "10T00:00:00", "13T00:00:00", "17T00:00:00"]);
}

#[test]
fn sunday_is_sunday() {
    for sunday in ["0 0 * * 0", "0 0 * * 7", "0 0 * * SUN"] {
        let weekly = schedule(sunday, chrono_tz::UTC);
        // 4 January 2026 is a Sunday.
        assert_eq!(due(&weekly, "2026-01-01T00:00:00Z", "2026-01-11T23:00:00Z"), ["04T00:00:00", "11T00:00:00"]);
    }
}

#[test]
fn after_is_exclusive_to_the_millisecond() {
    let minutely = schedule("* * * * *", chrono_tz::UTC);
    let minute = at("2026-01-01T00:01:00Z");
    assert_eq!(minutely.next_after(Timestamp(minute.0 - 1)), Some(minute));
    assert_eq!(minutely.next_after(minute), Some(Timestamp(minute.0 + 60_000)));
    assert_eq!(minutely.next_after(Timestamp(minute.0 + 1)), Some(Timestamp(minute.0 + 60_000)));
}

#[test]
fn leap_days_come_and_impossible_days_are_refused() {
    let leap = schedule("0 0 29 2 *", chrono_tz::UTC);
    assert_eq!(leap.next_after(at("2026-01-01T00:00:00Z")), Some(at("2028-02-29T00:00:00Z")));
    assert_eq!(Schedule::parse("0 0 31 4 *", chrono_tz::UTC).unwrap_err(), ScheduleError::Never);
    assert_eq!(Schedule::parse("0 0 30 feb *", chrono_tz::UTC).unwrap_err(), ScheduleError::Never);
}

proptest! {
    /// Whatever the zone and the hour, a daily run happens once for each day of a year.
    #[test]
    fn daily_run_happens_once_a_day(zone in 0..chrono_tz::TZ_VARIANTS.len(), hour in 0_u32..24, minute in 0_u32..60) {
        const HOUR: i64 = 3_600_000;
        let zone = chrono_tz::TZ_VARIANTS[zone];
        let daily = schedule(&format!("{minute} {hour} * * *"), zone);
        let mut after = daily.next_after(at("2026-01-01T00:00:00Z")).unwrap();
        for day in 1..365 {
            let next = daily.next_after(after).unwrap();
            prop_assert!((22 * HOUR..=26 * HOUR).contains(&(next.0 - after.0)), "{zone} {hour}:{minute} day {day}");
            after = next;
        }
        prop_assert!(after >= at("2026-12-30T22:00:00Z") && after <= at("2027-01-01T02:00:00Z"), "{}", after);
    }

    /// A run that follows real time has the same distance everywhere but where an offset is not a multiple of it.
    #[test]
    fn frequent_runs_never_pause(zone in 0..chrono_tz::TZ_VARIANTS.len(), from in 1_760_000_000_i64..1_800_000_000) {
        let frequent = schedule("*/5 * * * *", chrono_tz::TZ_VARIANTS[zone]);
        let after = Timestamp(from * 1000);
        let next = frequent.next_after(after).unwrap();
        prop_assert!(next > after && next.0 - after.0 <= 300_000);
    }
}
