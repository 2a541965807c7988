//! Finding the one contact that makes Reteno refuse a batch, and knowing when no contact is at fault.
//!
//! A refused batch is sent again in halves, deepest first, one batch of its mask (set of fields) at a time. A contact is
//! rejected only on proof: a batch of the same mask succeeded after the contact's first refusal. When two different
//! contacts are refused alone and nothing succeeded in between, the mask itself is at fault (a field that Reteno does
//! not know, an outage): the mask pauses, and nobody is rejected.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
/// An import that ends in ERROR says nothing of its contact: it is rejected only where this lasts so long. Shorter, and
/// a trouble of Reteno's own rejects people; longer, and a contact that breaks imports is named late.
const ERRORS_LAST_MIN: Duration = Duration::from_hours(1);
/// Refusals that lie further back than this count for nothing: the contact or its mask went out in other ways since.
const SUSPECT_AGE_MAX: Duration = Duration::from_hours(24);
/// Before a lone contact is tried again. Long enough for its sibling to go first.
const LONE_RETRY: Duration = Duration::from_secs(2);

/// How a batch came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Reteno refused it for what it holds.
    Refused,
    /// Reteno took it and could not carry it out.
    Error,
}

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

/// What is known of each mask in trouble. It outlives the process, both what counts against a contact and what is a reason
/// to wait: the one without the other would reject innocents after a restart.
#[derive(Debug, Default)]
pub struct Halving {
    masks: BTreeMap<Vec<Field>, Health>,
    last_part: i64,
    has_changed: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Health {
    successes: u64,
    /// Since when its batches go one at a time.
    suspect_since: Option<i64>,
    /// Contacts refused alone.
    suspects: BTreeMap<i64, Suspect>,
    paused_until: Option<i64>,
    pauses: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Suspect {
    /// Successes of its mask before its first refusal.
    before: u64,
    /// When it was first refused alone.
    since: i64,
    refusals: u32,
}

impl Halving {
    /// `last_part` is the highest part number that the checkpoint holds, `saved` what [`Halving::take_changes`] gave
    /// last. What cannot be read, and masks that nothing was heard of for long, are found out again.
    #[must_use]
    pub fn restored(last_part: i64, saved: Option<&str>, now: Timestamp) -> Self {
        let stored: Vec<(Vec<u32>, Health)> =
            saved.and_then(|saved| serde_json::from_str(saved).ok()).unwrap_or_default();
        let fields = |codes: &[u32]| codes.iter().map(|code| Field::from_code(*code)).collect::<Option<Vec<_>>>();
        let masks = stored
            .into_iter()
            .filter(|(_, health)| health.last_moment().is_pending(now.minus(SUSPECT_AGE_MAX), SUSPECT_AGE_MAX * 2))
            .filter_map(|(codes, health)| Some((fields(&codes)?, health)))
            .collect();
        Self { masks, last_part, has_changed: false }
    }

    /// What is to be kept for the next process, where it has changed since this was last asked.
    pub fn take_changes(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.has_changed) {
            return None;
        }
        let codes = |mask: &[Field]| mask.iter().map(|field| field.code()).collect::<Vec<u32>>();
        let all: Vec<(Vec<u32>, &Health)> = self.masks.iter().map(|(mask, health)| (codes(mask), health)).collect();
        serde_json::to_string(&all).ok()
    }

    /// The masks that pause, or were refused again after they did.
    pub fn refused_masks(&self) -> impl Iterator<Item = &[Field]> {
        self.masks.iter().filter(|(_, health)| health.pauses > 0).map(|(mask, _)| mask.as_slice())
    }

    /// Whether batches of `mask` may go at `now`.
    #[must_use]
    pub fn gate(&self, mask: &[Field], now: Timestamp) -> Gate {
        match self.masks.get(mask) {
            Some(Health { paused_until: Some(until), .. }) if Timestamp(*until).is_pending(now, PAUSE_MAX) => {
                Gate::Closed(Timestamp(*until))
            }
            Some(Health { suspect_since: Some(_), .. }) => Gate::OneAtATime,
            Some(_) | None => Gate::Open,
        }
    }

    /// Whether a call of `mask` that began at `begun` is the one whose outcome is waited for. An older one, which may
    /// hang for hours, says nothing and stands in nobody's way.
    #[must_use]
    pub fn waits_for(&self, mask: &[Field], begun: Timestamp) -> bool {
        self.masks.get(mask).and_then(|health| health.suspect_since).is_some_and(|since| begun.0 >= since)
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
            .filter_map(|health| health.paused_until.map(Timestamp))
            .filter(|until| until.is_pending(now, PAUSE_MAX))
            .min()
    }

    /// Two new part numbers, that of the first half first.
    pub fn split(&mut self) -> (i64, i64) {
        self.last_part += 2;
        (self.last_part, self.last_part - 1)
    }

    /// A batch of `mask` was applied, and `contacts` with it: a pause of it has thereby ended.
    pub fn succeeded(&mut self, mask: &[Field], contacts: &[ContactId]) {
        let Some(health) = self.masks.get_mut(mask) else { return };
        health.successes += 1;
        health.suspect_since = None;
        health.paused_until = None;
        health.pauses = 0;
        for contact in contacts {
            health.suspects.remove(&contact.0);
        }
        if health.suspects.is_empty() {
            self.masks.remove(mask);
        }
        self.has_changed = true;
    }

    /// A batch of `mask` with `members` came to nothing as a whole.
    pub fn failed(&mut self, mask: &[Field], members: &[ContactId], failure: Failure, now: Timestamp) -> Verdict {
        self.has_changed = true;
        self.masks.entry(mask.to_vec()).or_default().suspect_since.get_or_insert(now.0);
        let [contact] = members else {
            let (first, second) = self.split();
            return Verdict::Split { first, second };
        };
        let health = self.masks.entry(mask.to_vec()).or_default();
        let suspect = health.count(*contact, now);
        let lasts = match failure {
            Failure::Refused => true,
            Failure::Error => {
                suspect.refusals >= LONE_REFUSALS_MAX && now.since(Timestamp(suspect.since)) >= ERRORS_LAST_MIN
            }
        };
        if suspect.before < health.successes && lasts {
            return health.reject(*contact);
        }
        let in_doubt = health.suspects.values().filter(|other| other.before == health.successes).count();
        if in_doubt > 1 {
            return health.pause(now);
        }
        if suspect.refusals >= LONE_REFUSALS_MAX && lasts && health.pauses == 0 {
            return health.reject(*contact);
        }
        Verdict::Again(LONE_RETRY * 4_u32.pow((suspect.refusals - 1).min(5)))
    }
}

impl Health {
    /// Counts a refusal of a contact alone.
    fn count(&mut self, contact: ContactId, now: Timestamp) -> Suspect {
        let fresh = Suspect { before: self.successes, since: now.0, refusals: 0 };
        let suspect = self.suspects.entry(contact.0).or_insert(fresh);
        // one from before the clock was set back tells nothing, either
        if suspect.since > now.0 || now.since(Timestamp(suspect.since)) > SUSPECT_AGE_MAX {
            *suspect = fresh;
        }
        suspect.refusals += 1;
        *suspect
    }

    fn reject(&mut self, contact: ContactId) -> Verdict {
        self.suspects.remove(&contact.0);
        self.suspect_since = None;
        Verdict::Reject
    }

    fn pause(&mut self, now: Timestamp) -> Verdict {
        let until = now.plus((PAUSE_FIRST * 2_u32.pow(self.pauses.min(16))).min(PAUSE_MAX));
        self.suspects.clear();
        self.paused_until = Some(until.0);
        self.pauses += 1;
        Verdict::Pause { until, is_news: self.pauses == 1 }
    }

    /// When something was last heard or decided of it.
    fn last_moment(&self) -> Timestamp {
        let known = self.suspects.values().map(|suspect| suspect.since);
        let moments = known.chain(self.suspect_since).chain(self.paused_until);
        Timestamp(moments.max().unwrap_or(i64::MIN))
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
                halving.succeeded(&MASK, &members);
                continue;
            }
            match halving.failed(&MASK, &members, Failure::Refused, NOW) {
                Verdict::Split { first, second } => {
                    let (a, b) = members.split_at(members.len() / 2);
                    parts.insert(first, a.to_vec());
                    parts.insert(second, b.to_vec());
                }
                Verdict::Again(_) => later.push(members[0]),
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

    fn refuse(halving: &mut Halving, contact: i64, now: Timestamp) -> Verdict {
        halving.failed(&MASK, &[ContactId(contact)], Failure::Refused, now)
    }

    #[test]
    fn a_pause_grows_is_news_once_and_ends_with_a_success() {
        let mut halving = Halving::default();
        let refuse_two = |halving: &mut Halving, now| {
            refuse(halving, 1, now);
            refuse(halving, 2, now)
        };
        let Verdict::Pause { until, is_news: true } = refuse_two(&mut halving, NOW) else { panic!("no pause") };
        assert_eq!(halving.gate(&MASK, NOW), Gate::Closed(until));
        assert_eq!(halving.gate(&MASK, until), Gate::OneAtATime);
        let Verdict::Pause { until: later, is_news: false } = refuse_two(&mut halving, until) else {
            panic!("no pause")
        };
        assert!(later.since(until) > until.since(NOW));
        halving.succeeded(&MASK, &[]);
        assert_eq!(halving.gate(&MASK, NOW), Gate::Open);
    }

    #[test]
    fn whoever_is_refused_alone_after_a_pause_is_not_to_blame() {
        let mut halving = Halving::default();
        refuse(&mut halving, 1, NOW);
        assert!(matches!(refuse(&mut halving, 2, NOW), Verdict::Pause { .. }));
        for minutes in 1..20 {
            let now = NOW.plus(Duration::from_mins(minutes));
            assert!(matches!(refuse(&mut halving, 1, now), Verdict::Again(_)), "{minutes}");
        }
        // something got through: then it is
        halving.succeeded(&MASK, &[ContactId(2)]);
        assert_eq!(refuse(&mut halving, 1, NOW.plus(Duration::from_mins(20))), Verdict::Reject);
    }

    #[test]
    fn imports_that_end_in_error_for_a_short_time_reject_nobody() {
        let mut halving = Halving::default();
        let (mut now, mut verdict, mut tries) = (NOW, Verdict::Again(Duration::ZERO), 0);
        while let Verdict::Again(wait) = verdict {
            now = now.plus(wait);
            verdict = halving.failed(&MASK, &[ContactId(1)], Failure::Error, now);
            tries += 1;
            assert!(tries < 20, "it ends");
        }
        assert_eq!(verdict, Verdict::Reject);
        assert!(now.since(NOW) >= ERRORS_LAST_MIN && now.since(NOW) < 3 * ERRORS_LAST_MIN, "{now:?}");
        assert!(tries <= 10, "{tries} imports for it");
        // also where others got through meanwhile
        let mut halving = Halving::default();
        for second in 0..30 {
            let now = NOW.plus(Duration::from_secs(second));
            let verdict = halving.failed(&MASK, &[ContactId(1)], Failure::Error, now);
            assert!(matches!(verdict, Verdict::Again(_)), "{second}");
            halving.succeeded(&MASK, &[ContactId(2)]);
        }
    }

    #[test]
    fn what_was_refused_once_and_then_taken_starts_anew() {
        let mut halving = Halving::default();
        assert!(matches!(refuse(&mut halving, 1, NOW), Verdict::Again(_)));
        halving.succeeded(&MASK, &[ContactId(1)]);
        assert!(matches!(refuse(&mut halving, 1, NOW), Verdict::Again(_)));
        // and so does what was refused long ago
        let mut halving = Halving::default();
        refuse(&mut halving, 1, NOW);
        halving.succeeded(&MASK, &[ContactId(2)]);
        let later = NOW.plus(SUSPECT_AGE_MAX + Duration::from_secs(1));
        assert!(matches!(refuse(&mut halving, 1, later), Verdict::Again(_)));
    }

    #[test]
    fn the_next_process_knows_both_the_refusals_and_the_pauses() {
        let restart = |halving: &mut Halving, now| Halving::restored(0, halving.take_changes().as_deref(), now);
        let mut halving = Halving::default();
        refuse(&mut halving, 1, NOW);
        let mut halving = restart(&mut halving, NOW);
        let Verdict::Pause { until, .. } = refuse(&mut halving, 2, NOW) else { panic!("no pause") };
        let mut halving = restart(&mut halving, NOW);
        assert_eq!(halving.gate(&MASK, NOW), Gate::Closed(until));
        assert_eq!(halving.refused_masks().collect::<Vec<_>>(), [&MASK[..]]);
        for _ in 0..4 {
            assert!(matches!(refuse(&mut halving, 1, until), Verdict::Again(_)));
            halving = restart(&mut halving, until);
        }
        // after a long time without any word all of it is forgotten, and so it is where the clock was set back for long
        let text = {
            refuse(&mut halving, 1, until);
            halving.take_changes()
        };
        assert_eq!(halving.take_changes(), None, "nothing has changed since");
        for now in [until.plus(SUSPECT_AGE_MAX * 2), until.minus(SUSPECT_AGE_MAX * 3)] {
            assert_eq!(Halving::restored(0, text.as_deref(), now).gate(&MASK, now), Gate::Open);
        }
        assert_eq!(Halving::restored(0, Some("no state"), NOW).gate(&MASK, NOW), Gate::Open);
    }
}
