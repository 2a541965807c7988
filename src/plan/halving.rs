//! Finding the one contact that makes Reteno refuse a batch, and knowing when no contact is at fault.
//!
//! A refused batch is sent again in halves, deepest first, one batch of its mask (set of fields) at a time. A contact is
//! rejected only on proof: a batch of the same mask succeeded after the contact's first refusal. When two different
//! contacts are refused alone and nothing succeeded in between, the mask itself is at fault (a field that Reteno does
//! not know, an outage): the mask pauses, and nobody is rejected.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::contact::Field;

use super::ContactId;

/// The first pause of a mask. Shorter ones repeat some 25 refused calls too often; longer ones make an operator who has
/// just mended the cause wait.
const PAUSE_FIRST: Duration = Duration::from_mins(1);
/// The longest pause of a mask: one probe an hour finds out that the cause is gone.
const PAUSE_MAX: Duration = Duration::from_hours(1);
/// A contact that is refused alone this often, with no other contact of its mask in doubt, is rejected without proof:
/// where only one contact has such a mask there is nobody to prove it.
const LONE_REFUSALS_MAX: u32 = 3;
/// Before a lone contact is tried again. Long enough for its sibling to go first.
const LONE_RETRY: Duration = Duration::from_secs(2);

/// Whether batches of a mask may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// As many as there is room for.
    Open,
    /// One at a time: its outcome decides what is at fault.
    OneAtATime,
    /// None before this moment.
    Closed(Timestamp),
}

/// What is to be done with the members of a batch that was refused or ended in ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send again in two parts: the first half under `first`, the rest under `second`.
    Split {
        /// Part number of the first half; the higher one, since parts go highest first.
        first: i64,
        /// Part number of the rest.
        second: i64,
    },
    /// Send this contact again after a while.
    Again(Duration),
    /// It is this contact's fault.
    Reject,
    /// It is nobody's fault: the mask pauses. `is_news` on the first pause of a trouble.
    Pause {
        /// Until then.
        until: Timestamp,
        /// Whether an alert is due.
        is_news: bool,
    },
}

/// What is known of each mask in this process. Lost at a restart: then a refused mask is simply found out again.
#[derive(Debug, Default)]
pub struct Halving {
    masks: BTreeMap<Vec<Field>, Health>,
    last_part: i64,
}

#[derive(Debug, Default)]
struct Health {
    successes: u64,
    /// Since when its batches go one at a time.
    suspect_since: Option<Timestamp>,
    /// Contacts refused alone, each with the number of successes before its first refusal.
    suspects: BTreeMap<ContactId, u64>,
    paused_until: Option<Timestamp>,
    pauses: u32,
}

impl Halving {
    /// `last_part` is the highest part number that the checkpoint holds.
    #[must_use]
    pub fn from_last_part(last_part: i64) -> Self {
        Self { masks: BTreeMap::new(), last_part }
    }

    /// Whether batches of `mask` may go at `now`.
    #[must_use]
    pub fn gate(&self, mask: &[Field], now: Timestamp) -> Gate {
        match self.masks.get(mask) {
            Some(Health { paused_until: Some(until), .. }) if until.is_pending(now, PAUSE_MAX) => Gate::Closed(*until),
            Some(Health { suspect_since: Some(_), .. }) => Gate::OneAtATime,
            Some(_) | None => Gate::Open,
        }
    }

    /// Whether a call of `mask` that began at `begun` is the one whose outcome is waited for. An older one, which may
    /// hang for hours, says nothing and stands in nobody's way.
    #[must_use]
    pub fn waits_for(&self, mask: &[Field], begun: Timestamp) -> bool {
        self.masks.get(mask).and_then(|health| health.suspect_since).is_some_and(|since| begun >= since)
    }

    /// How many contacts of a mask are worth looking at, for the masks that may not be sent freely: none of a paused one,
    /// one batch of a suspect one.
    #[must_use]
    pub fn bounds(&self, now: Timestamp, contacts_max: usize) -> BTreeMap<Vec<Field>, usize> {
        let bound = |mask: &Vec<Field>| match self.gate(mask, now) {
            Gate::Open => None,
            Gate::OneAtATime => Some(contacts_max),
            Gate::Closed(_) => Some(0),
        };
        self.masks.keys().filter_map(|mask| Some((mask.clone(), bound(mask)?))).collect()
    }

    /// The earliest end of a pause.
    #[must_use]
    pub fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        self.masks
            .values()
            .filter_map(|health| health.paused_until)
            .filter(|until| until.is_pending(now, PAUSE_MAX))
            .min()
    }

    /// Two new part numbers, that of the first half first.
    pub fn split(&mut self) -> (i64, i64) {
        self.last_part += 2;
        (self.last_part, self.last_part - 1)
    }

    /// A batch of `mask` was applied: a pause of it has thereby ended.
    pub fn succeeded(&mut self, mask: &[Field]) {
        let Some(health) = self.masks.get_mut(mask) else { return };
        health.successes += 1;
        health.suspect_since = None;
        health.paused_until = None;
        health.pauses = 0;
    }

    /// A batch of `mask` with `members` was refused as a whole. `attempts` counts earlier refusals of a lone member.
    pub fn failed(&mut self, mask: &[Field], members: &[ContactId], attempts: u32, now: Timestamp) -> Verdict {
        self.masks.entry(mask.to_vec()).or_default().suspect_since.get_or_insert(now);
        let [contact] = members else {
            let (first, second) = self.split();
            return Verdict::Split { first, second };
        };
        let health = self.masks.entry(mask.to_vec()).or_default();
        let before = *health.suspects.entry(*contact).or_insert(health.successes);
        if before < health.successes {
            health.suspects.remove(contact);
            health.suspect_since = None;
            return Verdict::Reject;
        }
        let in_doubt = health.suspects.values().filter(|before| **before == health.successes).count();
        if in_doubt > 1 {
            return health.pause(now);
        }
        if attempts + 1 >= LONE_REFUSALS_MAX && health.pauses == 0 {
            health.suspects.remove(contact);
            health.suspect_since = None;
            return Verdict::Reject;
        }
        Verdict::Again(LONE_RETRY * 4_u32.pow(attempts.min(5)))
    }
}

impl Health {
    fn pause(&mut self, now: Timestamp) -> Verdict {
        let until = now.plus((PAUSE_FIRST * 2_u32.pow(self.pauses.min(16))).min(PAUSE_MAX));
        self.suspects.clear();
        self.paused_until = Some(until);
        self.pauses += 1;
        Verdict::Pause { until, is_news: self.pauses == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [Field; 1] = [Field::Town];
    const NOW: Timestamp = Timestamp(0);

    /// Sends `contacts` through halving against a Reteno that refuses every batch holding one of `bad`, or every batch.
    /// Returns the rejected contacts, the calls it took, and whether the mask was paused.
    fn run(contacts: i64, bad: &[i64], all_fail: bool) -> (Vec<i64>, usize, bool) {
        let mut halving = Halving::default();
        let mut parts: BTreeMap<i64, Vec<ContactId>> = BTreeMap::new();
        parts.insert(0, (0..contacts).map(ContactId).collect());
        let mut attempts: BTreeMap<ContactId, u32> = BTreeMap::new();
        let (mut rejected, mut later, mut calls) = (Vec::new(), Vec::new(), 0);
        loop {
            let Some((_, members)) = parts.pop_last() else {
                if later.is_empty() {
                    return (rejected, calls, false);
                }
                for (place, contact) in (1..).zip(later.drain(..)) {
                    parts.insert(-place, vec![contact]);
                }
                continue;
            };
            calls += 1;
            assert!(calls < 1000, "halving ends");
            if !all_fail && !members.iter().any(|contact| bad.contains(&contact.0)) {
                halving.succeeded(&MASK);
                continue;
            }
            let tries = members.first().and_then(|contact| attempts.get(contact)).copied().unwrap_or(0);
            match halving.failed(&MASK, &members, tries, NOW) {
                Verdict::Split { first, second } => {
                    let (a, b) = members.split_at(members.len() / 2);
                    parts.insert(first, a.to_vec());
                    parts.insert(second, b.to_vec());
                }
                Verdict::Again(_) => {
                    *attempts.entry(members[0]).or_default() += 1;
                    later.push(members[0]);
                }
                Verdict::Reject => rejected.push(members[0].0),
                Verdict::Pause { .. } => return (rejected, calls, true),
            }
        }
    }

    #[test]
    fn one_bad_contact_is_found_and_nobody_else_is_rejected() {
        let (rejected, calls, paused) = run(3000, &[1234], false);
        assert_eq!((rejected, paused), (vec![1234], false));
        assert!(calls <= 30, "{calls} calls");
    }

    #[test]
    fn bad_contacts_in_both_halves_are_found_too() {
        let (mut rejected, _, paused) = run(3000, &[0, 2999, 1500], false);
        rejected.sort_unstable();
        assert_eq!((rejected, paused), (vec![0, 1500, 2999], false));
    }

    #[test]
    fn when_everything_is_refused_nobody_is_rejected_and_the_mask_pauses() {
        let (rejected, calls, paused) = run(3000, &[], true);
        assert_eq!((rejected, paused), (vec![], true));
        assert!(calls <= 15, "{calls} calls");
    }

    #[test]
    fn a_lone_contact_is_rejected_after_three_refusals() {
        assert_eq!(run(1, &[0], false), (vec![0], 3, false));
    }

    #[test]
    fn a_pause_grows_is_news_once_and_ends_with_a_success() {
        let mut halving = Halving::default();
        let refuse_two = |halving: &mut Halving, now| {
            halving.failed(&MASK, &[ContactId(1)], 0, now);
            halving.failed(&MASK, &[ContactId(2)], 0, now)
        };
        let Verdict::Pause { until, is_news: true } = refuse_two(&mut halving, NOW) else { panic!("no pause") };
        assert_eq!(halving.gate(&MASK, NOW), Gate::Closed(until));
        assert_eq!(halving.gate(&MASK, until), Gate::OneAtATime);
        let Verdict::Pause { until: later, is_news: false } = refuse_two(&mut halving, until) else {
            panic!("no pause")
        };
        assert!(later.since(until) > until.since(NOW));
        halving.succeeded(&MASK);
        assert_eq!(halving.gate(&MASK, NOW), Gate::Open);
    }
}
