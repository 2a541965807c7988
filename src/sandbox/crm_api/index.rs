//! HubSpot's search index, which sees a write some time after it was made. Holds copies of people; the truth is never
//! changed here.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;

use super::options::Late;
use super::people::CrmPerson;

/// What the search sees. With no lag it holds nothing and is not asked.
#[derive(Debug, Default)]
pub(super) struct Index {
    shown: BTreeMap<u64, CrmPerson>,
    /// Writes on their way: from when they are seen, and what they are.
    coming: VecDeque<(Timestamp, CrmPerson)>,
}

impl Index {
    /// People who were there before the first write.
    pub(super) fn fill<'a>(&mut self, people: impl Iterator<Item = &'a CrmPerson>) {
        self.shown = people.map(|person| (person.id, person.clone())).collect();
        self.coming.clear();
    }

    /// A write, seen after `lag`.
    pub(super) fn note(&mut self, person: &CrmPerson, now: Timestamp, lag: Duration, late: Late) {
        if late == Late::Nowhere {
            self.shown.remove(&person.id);
        }
        self.coming.push_back((now.plus(lag), person.clone()));
    }

    /// Lets arrive what is due.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some((_, person)) = self.coming.pop_front_if(|(at, _)| *at <= now) {
            if person.is_living() {
                self.shown.insert(person.id, person);
            } else {
                self.shown.remove(&person.id);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CrmPerson> {
        self.shown.values()
    }
}
