//! The people of the sandbox CRM and what happens to them. Each deed gives back what changed, from which the others
//! (events, webhooks, the late index) are told; nothing here knows a vendor.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::sandbox::crm::{self, Flaw};
use crate::sandbox::draw;

/// The first id that is given.
const FIRST_ID: u64 = 1001;
/// Between two invented people's last changes, so that some of them share a second.
const SPACING: Duration = Duration::from_millis(700);
/// From an invented person's creation to the last change.
const AGE: Duration = Duration::from_hours(24 * 40);
/// Keeps these draws apart from all others.
const STREAM: u64 = 0x4000_0000;

/// A person as the CRM knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrmPerson {
    /// The CRM's id; HubSpot shows it as a string.
    pub id: u64,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// The private e-mail address; empty for none.
    pub email: String,
    /// The mobile phone as typed; empty for none.
    pub phone: String,
    /// A second address, at work.
    pub other_email: Option<String>,
    /// A second phone, at work.
    pub other_phone: Option<String>,
    /// Town.
    pub town: String,
    /// Language tag.
    pub language: String,
    /// Loyalty tier, a custom field of the account; empty for none.
    pub tier: String,
    /// Whether mailings are refused; `None`: the CRM says nothing.
    pub opt_out: Option<bool>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed; vendors that count in seconds show the second.
    pub changed: Timestamp,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
    /// Whom it was merged into; it is deleted then too.
    pub merged_into: Option<u64>,
    /// Who was merged into it.
    pub merged: Vec<u64>,
    /// What is wrong with it, for tests.
    pub flaw: Option<Flaw>,
}

impl CrmPerson {
    /// Whether lists show it.
    #[must_use]
    pub const fn is_living(&self) -> bool {
        self.deleted.is_none()
    }

    /// Both names, as people read them.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name).trim().to_owned()
    }
}

/// What happened to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Added,
    Edited,
    Deleted,
    /// Deleted for good at the person's own request.
    Erased,
    Restored,
    /// Took another one over, which `other` is.
    Merged {
        loser: u64,
    },
}

/// One deed with the person before and after it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) deed: Deed,
    pub(super) at: Timestamp,
    pub(super) before: Option<CrmPerson>,
    pub(super) after: CrmPerson,
}

/// Everybody, by id.
#[derive(Debug)]
pub(super) struct People {
    seed: u64,
    all: BTreeMap<u64, CrmPerson>,
    /// The id of the next person; never one that somebody had.
    next: u64,
    /// How many of the seed's people were used up.
    invented: usize,
    flawed: bool,
    edits: u64,
}

impl People {
    pub(super) fn new(seed: u64, flawed: bool) -> Self {
        Self { seed, all: BTreeMap::new(), next: FIRST_ID, invented: 0, flawed, edits: 0 }
    }

    pub(super) fn get(&self, id: u64) -> Option<&CrmPerson> {
        self.all.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CrmPerson> {
        self.all.values()
    }

    pub(super) fn living(&self) -> impl Iterator<Item = &CrmPerson> {
        self.all.values().filter(|person| person.is_living())
    }

    /// People from `id` on, in order of id.
    pub(super) fn from(&self, id: u64) -> impl Iterator<Item = &CrmPerson> {
        self.all.range(id..).map(|(_, person)| person)
    }

    /// Whoever `id` has become by merges.
    pub(super) fn survivor(&self, id: u64) -> Option<&CrmPerson> {
        let mut person = self.get(id)?;
        while let Some(next) = person.merged_into {
            person = self.get(next)?;
        }
        Some(person)
    }

    /// `count` people who were there before: no events tell of them.
    pub(super) fn seed(&mut self, count: usize, now: Timestamp) {
        let spacing = i64::try_from(SPACING.as_millis()).unwrap_or(1);
        let rest = |number: usize| i64::try_from(count - number).unwrap_or(0).saturating_mul(spacing);
        for number in 0..count {
            let at = Timestamp(now.0.saturating_sub(rest(number)));
            self.invent(at.minus(AGE), at);
        }
    }

    pub(super) fn add(&mut self, now: Timestamp) -> Change {
        let after = self.invent(now, now);
        Change { deed: Deed::Added, at: now, before: None, after }
    }

    fn invent(&mut self, created: Timestamp, changed: Timestamp) -> CrmPerson {
        let row = loop {
            self.invented += 1;
            let row = crm::invented(self.seed, self.invented);
            if self.flawed || row.flaw.is_none() {
                break row;
            }
        };
        let number = u64::try_from(self.invented).unwrap_or(u64::MAX);
        let at_work = number.is_multiple_of(5);
        let person = CrmPerson {
            id: self.next,
            first_name: row.first_name,
            last_name: row.last_name,
            email: row.email,
            phone: row.phone,
            other_email: at_work.then(|| format!("office.{number}@work.example.org")),
            other_phone: at_work.then(|| format!("+38044{}", 1_000_000 + number % 9_000_000)),
            town: row.city,
            language: row.lang,
            tier: row.tier,
            opt_out: None,
            created,
            changed,
            deleted: None,
            merged_into: None,
            merged: Vec::new(),
            flaw: row.flaw,
        };
        self.next += 1;
        self.all.insert(person.id, person.clone());
        person
    }

    /// Moves a living person to another town and tier.
    pub(super) fn edit(&mut self, id: u64, now: Timestamp) -> Option<Change> {
        self.change(id, now, |person| {
            let town = if person.town == "Полтава" { "Чернівці" } else { "Полтава" };
            town.clone_into(&mut person.town);
            let tier = if person.tier == "gold" { "platinum" } else { "gold" };
            tier.clone_into(&mut person.tier);
        })
    }

    /// Whatever `by` does to a living person.
    pub(super) fn change(&mut self, id: u64, now: Timestamp, by: impl FnOnce(&mut CrmPerson)) -> Option<Change> {
        let person = self.all.get_mut(&id).filter(|person| person.is_living())?;
        let before = person.clone();
        by(person);
        person.changed = now.max(person.changed);
        Some(Change { deed: Deed::Edited, at: now, before: Some(before), after: person.clone() })
    }

    /// Ids of `count` living people without a flaw, drawn, in order.
    pub(super) fn draw(&mut self, count: usize) -> Vec<u64> {
        self.edits += 1;
        let mut ids: Vec<u64> = self.living().filter(|person| person.flaw.is_none()).map(|person| person.id).collect();
        draw::shuffle(&draw::sequence(self.seed, STREAM.wrapping_add(self.edits)), &mut ids);
        ids.truncate(count);
        ids.sort_unstable();
        ids
    }

    pub(super) fn delete(&mut self, id: u64, now: Timestamp, deed: Deed) -> Option<Change> {
        let person = self.all.get_mut(&id).filter(|person| person.is_living())?;
        let before = person.clone();
        person.deleted = Some(now);
        let after = person.clone();
        if deed == Deed::Erased {
            self.all.remove(&id);
        }
        Some(Change { deed, at: now, before: Some(before), after })
    }

    /// Brings a deleted person back, who counts as changed then or not.
    pub(super) fn restore(&mut self, id: u64, now: Timestamp, moves_time: bool) -> Option<Change> {
        let person = self.all.get_mut(&id).filter(|person| !person.is_living() && person.merged_into.is_none())?;
        let before = person.clone();
        person.deleted = None;
        if moves_time {
            person.changed = now.max(person.changed);
        }
        Some(Change { deed: Deed::Restored, at: now, before: Some(before), after: person.clone() })
    }

    /// The loser's end (a deletion, of which not every vendor tells) and the winner's gain.
    pub(super) fn merge(&mut self, loser: u64, winner: u64, now: Timestamp) -> Option<(Change, Change)> {
        if loser == winner || !self.get(winner).is_some_and(CrmPerson::is_living) {
            return None;
        }
        let mut end = self.delete(loser, now, Deed::Deleted)?;
        if let Some(person) = self.all.get_mut(&loser) {
            person.merged_into = Some(winner);
            end.after = person.clone();
        }
        let ids = std::iter::once(loser).chain(end.after.merged.iter().copied()).collect::<Vec<_>>();
        let mut gain = self.change(winner, now, |person| person.merged.extend(ids))?;
        gain.deed = Deed::Merged { loser };
        Some((end, gain))
    }
}
