//! What people do in a sandbox CRM, for tests to call. Each deed is told to webhooks and lists as the vendors tell it;
//! what a deed does to a person is [`super::people`]'s.

use crate::clock::Timestamp;

use super::options::Dialect;
use super::people::{Change, CrmPerson, Deed};
use super::state::State;
use super::{CrmSandbox, amocrm};

/// What people do in the CRM. Each deed is told to webhooks and lists as the vendors tell it.
impl CrmSandbox {
    /// `count` people who were there before: no webhook tells of them.
    pub fn seed(&self, count: usize) {
        let now = self.now();
        let mut state = self.state();
        let State { people, index, options, .. } = &mut *state;
        people.seed(count, now);
        if !options.index_lag.is_zero() {
            index.fill(people.living());
        }
    }

    /// A new person; its id.
    pub fn add(&self) -> u64 {
        let now = self.now();
        let mut state = self.state();
        let change = state.people.add(now);
        state.note(&change);
        change.after.id
    }

    /// `count` new people in one millisecond, as an import makes them; their ids.
    pub fn import_same_second(&self, count: usize) -> Vec<u64> {
        let now = self.now();
        let mut state = self.state();
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            let change = state.people.add(now);
            state.note(&change);
            ids.push(change.after.id);
        }
        ids
    }

    /// Moves a person to another town and tier; false where there is none alive.
    pub fn edit(&self, id: u64) -> bool {
        self.deed(|state, now| state.people.edit(id, now))
    }

    /// Edits `count` drawn people without a flaw; their ids, in order.
    pub fn edit_many(&self, count: usize) -> Vec<u64> {
        let ids = self.state().people.draw(count);
        for id in &ids {
            self.edit(*id);
        }
        ids
    }

    /// Whatever `by` does to a living person counts as an edit; false where there is none.
    pub fn change(&self, id: u64, by: impl FnOnce(&mut CrmPerson)) -> bool {
        self.deed(|state, now| state.people.change(id, now, by))
    }

    /// The person wants no mailings.
    pub fn opt_out(&self, id: u64) -> bool {
        self.change(id, |person| person.opt_out = Some(true))
    }

    /// The person wants mailings again.
    pub fn opt_in(&self, id: u64) -> bool {
        self.change(id, |person| person.opt_out = Some(false))
    }

    /// Deletes a person, who can be restored.
    pub fn delete(&self, id: u64) -> bool {
        self.deed(|state, now| state.people.delete(id, now, Deed::Deleted))
    }

    /// Deletes `count` drawn people without a flaw; their ids, in order.
    pub fn delete_many(&self, count: usize) -> Vec<u64> {
        let ids = self.state().people.draw(count);
        for id in &ids {
            self.delete(*id);
        }
        ids
    }

    /// Deletes a person for good, at that person's own request.
    pub fn erase(&self, id: u64) -> bool {
        self.deed(|state, now| state.people.delete(id, now, Deed::Erased))
    }

    /// Brings a deleted person back.
    pub fn restore(&self, id: u64) -> bool {
        self.deed(|state, now| state.people.restore(id, now, state.options.restore_moves_time))
    }

    /// Merges `loser` into `winner`, who keeps its own values; false where one of them is not alive.
    pub fn merge(&self, loser: u64, winner: u64) -> bool {
        let now = self.now();
        let mut state = self.state();
        let Some((end, gain)) = state.people.merge(loser, winner, now) else { return false };
        state.note(&end);
        state.note(&gain);
        true
    }

    /// amoCRM: a company is edited, of which its webhook tells under `contacts` too.
    pub fn edit_company(&self, id: u64) {
        let now = self.now();
        let event = amocrm::company_event(id, "Приклад ТОВ", now);
        let State { outbox, hooks, options, .. } = &mut *self.state();
        outbox.queue(Dialect::AmoCrm, &event, hooks, (now, &options.habits));
    }

    fn deed(&self, act: impl FnOnce(&mut State, Timestamp) -> Option<Change>) -> bool {
        let now = self.now();
        let mut state = self.state();
        let change = act(&mut state, now);
        change.is_some_and(|change| {
            state.note(&change);
            true
        })
    }
}
