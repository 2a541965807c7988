//! How many requests the vendors allow, each by its own rule. Counts only; the dialects word the refusals.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;

use super::calls::{CrmCallKind, HubCall};
use super::options::{Dialect, Rates};

/// In this span refusals are counted as abuse.
const ABUSE_WINDOW: Duration = Duration::from_mins(1);
const DAY_MS: i64 = 86_400_000;

/// Why a request is refused before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// amoCRM: too many in a second.
    AmoCrm,
    /// amoCRM: went on after too many refusals.
    Blocked,
    /// HubSpot, by the name of its policy.
    HubSpot(&'static str),
    /// Pipedrive: too many in two seconds.
    Pipedrive,
}

/// Requests of the recent past.
#[derive(Debug, Default)]
pub(super) struct Limits {
    amocrm: VecDeque<Timestamp>,
    refusals: VecDeque<Timestamp>,
    blocked: bool,
    search: VecDeque<Timestamp>,
    hubspot: VecDeque<Timestamp>,
    /// The day counted and its requests.
    day: (i64, u32),
    pipedrive: VecDeque<Timestamp>,
}

impl Limits {
    /// Whether a request may pass now. One that may not is not counted.
    pub(super) fn admit(&mut self, kind: CrmCallKind, now: Timestamp, rates: &Rates) -> Result<(), Refusal> {
        match kind.dialect() {
            Some(Dialect::AmoCrm) => self.amocrm(now, rates),
            Some(Dialect::HubSpot) => self.hubspot(kind, now, rates),
            Some(Dialect::Pipedrive) => {
                let fits = fits(&mut self.pipedrive, now, Duration::from_secs(2), rates.pipedrive_per_two_seconds);
                if fits { Ok(()) } else { Err(Refusal::Pipedrive) }
            }
            None => Ok(()),
        }
    }

    fn amocrm(&mut self, now: Timestamp, rates: &Rates) -> Result<(), Refusal> {
        if self.blocked {
            return Err(Refusal::Blocked);
        }
        if fits(&mut self.amocrm, now, Duration::from_secs(1), rates.amocrm_per_second) {
            return Ok(());
        }
        if let Some(most) = rates.amocrm_abuse {
            self.blocked = !fits(&mut self.refusals, now, ABUSE_WINDOW, most);
        }
        Err(if self.blocked { Refusal::Blocked } else { Refusal::AmoCrm })
    }

    fn hubspot(&mut self, kind: CrmCallKind, now: Timestamp, rates: &Rates) -> Result<(), Refusal> {
        let day = now.0.div_euclid(DAY_MS);
        if self.day.0 != day {
            self.day = (day, 0);
        }
        if self.day.1 >= rates.hubspot_per_day {
            return Err(Refusal::HubSpot("DAILY"));
        }
        if kind == CrmCallKind::Hub(HubCall::Search)
            && !fits(&mut self.search, now, Duration::from_secs(1), rates.hubspot_search_per_second)
        {
            return Err(Refusal::HubSpot("SECONDLY"));
        }
        if !fits(&mut self.hubspot, now, Duration::from_secs(10), rates.hubspot_per_ten_seconds) {
            return Err(Refusal::HubSpot("TEN_SECONDLY_ROLLING"));
        }
        self.day.1 += 1;
        Ok(())
    }

    /// What is left of Pipedrive's two seconds.
    pub(super) fn pipedrive_left(&self, rates: &Rates) -> u32 {
        rates.pipedrive_per_two_seconds.saturating_sub(u32::try_from(self.pipedrive.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn block(&mut self) {
        self.blocked = true;
    }

    pub(super) fn lift(&mut self) {
        self.blocked = false;
        self.refusals.clear();
    }
}

/// Counts this moment if the span has room for it.
fn fits(seen: &mut VecDeque<Timestamp>, now: Timestamp, span: Duration, most: u32) -> bool {
    // A clock that was set back must not shut the door for as long.
    while seen.pop_front_if(|at| at.plus(span) <= now || *at > now).is_some() {}
    if seen.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
        return false;
    }
    seen.push_back(now);
    true
}
