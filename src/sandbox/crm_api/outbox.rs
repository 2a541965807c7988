//! Events on their way to their webhooks: queued when something happens, taken when due, tried again by each vendor's
//! ladder. Decides and counts; the sending itself is [`super::delivery`]'s.

use std::time::Duration;

use serde_json::Value;

use crate::clock::Timestamp;
use crate::random::Random;
use crate::sandbox::draw;

use super::hooks::Hooks;
use super::options::{CrmOptions, Dialect, HookHabits};
use super::people::Change;
use super::{amocrm, hubspot, pipedrive};

/// Keeps these draws apart from all others.
const STREAM: u64 = 0x4300_0000;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
/// Waits before the second and later attempts, in seconds, as the vendors document them.
const AMOCRM_LADDER: &[u64] = &[5 * MINUTE, 15 * MINUTE, 15 * MINUTE];
/// amoCRM's fifth attempt comes only after 499 or a server's error.
const AMOCRM_LAST: u64 = HOUR;
/// HubSpot promises ten retries within 24 hours, not at which times.
const HUBSPOT_LADDER: &[u64] =
    &[MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 6 * HOUR, 7 * HOUR];
const PIPEDRIVE_LADDER: &[u64] = &[3, 30, 150];

/// What one event carries.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    /// amoCRM: the whole body.
    Form(String),
    /// HubSpot: one element of the array that is sent.
    Element(Value),
    /// Pipedrive: the whole body.
    Whole(Value),
}

/// One event for one webhook.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) hook: u64,
    pub(super) dialect: Dialect,
    pub(super) payload: Payload,
    /// Whom it is about.
    pub(super) person: u64,
    /// The coming attempt, from 1.
    pub(super) attempt: u32,
    due: Timestamp,
}

/// Totals of webhooks since the start, one event at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrmDeliveries {
    /// Events that happened while a webhook was there for them.
    pub queued: u64,
    /// Those that the habits lost.
    pub lost: u64,
    /// Those that the habits doubled.
    pub doubled: u64,
    /// Attempts.
    pub attempts: u64,
    /// Attempts that were answered well.
    pub accepted: u64,
    /// Events given up after the last attempt.
    pub given_up: u64,
    /// Events that happened while their webhook was disabled or banned.
    pub unheard: u64,
}

/// One attempt for one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrmDelivery {
    /// When it ended.
    pub at: Timestamp,
    /// Whose event.
    pub dialect: Dialect,
    /// Whom it is about.
    pub person: u64,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The receiver's answer; `None` where it gave none.
    pub status: Option<u16>,
}

/// All events that are on their way.
#[derive(Debug)]
pub(super) struct Outbox {
    random: Random,
    waiting: Vec<Parcel>,
    attempts: Vec<CrmDelivery>,
    tally: CrmDeliveries,
    /// Events so far, for ids.
    count: u64,
}

/// An event for the webhooks of one vendor: what it is called there, and what it carries.
pub(super) struct Event {
    pub(super) setting: &'static str,
    pub(super) payload: Payload,
    pub(super) person: u64,
}

impl Outbox {
    pub(super) fn new(seed: u64) -> Self {
        let random = draw::sequence(seed, STREAM);
        Self { random, waiting: Vec::new(), attempts: Vec::new(), tally: CrmDeliveries::default(), count: 0 }
    }

    /// Queues what each vendor tells of a deed.
    pub(super) fn note(&mut self, change: &Change, hooks: &Hooks, options: &CrmOptions) {
        for dialect in [Dialect::AmoCrm, Dialect::HubSpot, Dialect::Pipedrive] {
            if hooks.of(dialect).next().is_none() {
                continue;
            }
            let number = self.count;
            let events = match dialect {
                Dialect::AmoCrm => amocrm::hook_events(change),
                Dialect::HubSpot => hubspot::hook_events(change, number),
                Dialect::Pipedrive => pipedrive::hook_events(change, number),
            };
            for event in events {
                self.queue(dialect, &event, hooks, (change.at, &options.habits));
            }
        }
    }

    /// Queues one event for every webhook of a vendor that wants it.
    pub(super) fn queue(&mut self, dialect: Dialect, event: &Event, hooks: &Hooks, on: (Timestamp, &HookHabits)) {
        let (now, habits) = on;
        self.count += 1;
        for hook in hooks.of(dialect) {
            if !hook.takes(now, event.setting) {
                self.tally.unheard += u64::from(hook.disabled || hook.takes(Timestamp(i64::MAX), event.setting));
                continue;
            }
            self.tally.queued += 1;
            if self.one_in(habits.lose_one_in) {
                self.tally.lost += 1;
                continue;
            }
            let twice = self.one_in(habits.duplicate_one_in);
            self.tally.doubled += u64::from(twice);
            for _ in 0..=u8::from(twice) {
                self.waiting.push(Parcel {
                    hook: hook.id,
                    dialect,
                    payload: event.payload.clone(),
                    person: event.person,
                    attempt: 1,
                    due: now.plus(draw::within(&self.random, &habits.delay)),
                });
            }
        }
    }

    fn one_in(&self, many: u64) -> bool {
        many > 0 && draw::below(&self.random, many) == 0
    }

    /// What is due, in order of time or a drawn one, and no longer here.
    pub(super) fn take_due(&mut self, now: Timestamp, habits: &HookHabits) -> Vec<Parcel> {
        let (mut due, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|parcel| parcel.due <= now);
        self.waiting = waiting;
        if habits.disorder {
            draw::shuffle(&self.random, &mut due);
        } else {
            due.sort_by_key(|parcel| parcel.due);
        }
        due
    }

    /// An attempt's end: `status` is the receiver's, `None` where it gave none.
    pub(super) fn settle(&mut self, mut parcel: Parcel, status: Option<u16>, on: (Timestamp, &HookHabits)) {
        let (now, habits) = on;
        self.tally.attempts += 1;
        let Parcel { dialect, person, attempt, .. } = parcel;
        self.attempts.push(CrmDelivery { at: now, dialect, person, attempt, status });
        if is_good(parcel.dialect, status) {
            self.tally.accepted += 1;
            return;
        }
        match next_wait(parcel.dialect, parcel.attempt, status) {
            Some(wait) => {
                parcel.attempt += 1;
                parcel.due = now.plus(habits.retry_after.unwrap_or(wait));
                self.waiting.push(parcel);
            }
            None => self.tally.given_up += 1,
        }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.iter().map(|parcel| parcel.due).min()
    }

    pub(super) const fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn attempts(&self) -> Vec<CrmDelivery> {
        self.attempts.clone()
    }

    pub(super) fn tally(&self) -> CrmDeliveries {
        self.tally.clone()
    }
}

/// Whether a vendor is content with an answer.
pub(super) const fn is_good(dialect: Dialect, status: Option<u16>) -> bool {
    match (dialect, status) {
        (Dialect::AmoCrm, Some(status)) => status >= 100 && status < 300,
        (Dialect::HubSpot | Dialect::Pipedrive, Some(status)) => status >= 200 && status < 300,
        (_, None) => false,
    }
}

/// How long until the attempt after `attempt`; `None`: there is none.
fn next_wait(dialect: Dialect, attempt: u32, status: Option<u16>) -> Option<Duration> {
    let ladder = match dialect {
        Dialect::AmoCrm => AMOCRM_LADDER,
        Dialect::HubSpot => HUBSPOT_LADDER,
        Dialect::Pipedrive => PIPEDRIVE_LADDER,
    };
    let place = usize::try_from(attempt).ok()?.checked_sub(1)?;
    let last = || {
        let on_error = status.is_none_or(|status| status == 499 || status >= 500);
        (dialect == Dialect::AmoCrm && place == ladder.len() && on_error).then_some(AMOCRM_LAST)
    };
    ladder.get(place).copied().or_else(last).map(Duration::from_secs)
}
