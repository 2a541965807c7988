//! When a source is read: its schedules, and the zone they are in.

use chrono_tz::Tz;

use crate::config::raw::{self, Leaf};
use crate::config::reader::Reader;
use crate::config::schedule::Schedule;

pub(in crate::config) fn time_zone(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<Tz> {
    const ACCEPTED: &str = "a name of the tz database such as \"Europe/Kyiv\"";
    let text = reader.text(leaf, ACCEPTED)?;
    let leaf = leaf?;
    let Ok(zone) = text.parse::<Tz>() else {
        let mut problem =
            reader.problem(&leaf.key, "is not a time zone").value(leaf.value.to_string()).accepted(ACCEPTED);
        if let Some(name) = raw::nearest(text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())) {
            problem = problem.hint(format!("did you mean {name:?}?"));
        }
        reader.push(problem);
        return None;
    };
    Some(zone)
}

pub(super) fn schedule(reader: &mut Reader, leaf: Option<&Leaf>, zone: Option<Tz>) -> Option<Schedule> {
    const ACCEPTED: &str = "Unix cron: minute hour day-of-month month day-of-week, with seconds before them if six";
    let text = reader.text(leaf, ACCEPTED)?;
    // With a wrong zone the expression is judged all the same.
    match Schedule::parse(text, zone.unwrap_or(Tz::UTC)) {
        Ok(schedule) => Some(schedule),
        Err(error) => reader.refuse(leaf?, format!("is not a schedule: {error}"), ACCEPTED),
    }
}
