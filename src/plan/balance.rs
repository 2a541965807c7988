//! The balance of a cycle: what became of every record that was read. It must add up.

use std::fmt;
use std::ops::AddAssign;

/// What observing one record came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// As it was, and Reteno holds it.
    Unchanged,
    /// It moved what the CRM wants, or is new.
    Changed,
    /// As it was, and still on its way to Reteno.
    Waiting,
    /// Came a second time in this cycle without news.
    Repeated,
    /// Older than what is already known.
    Stale,
    /// Left out by the source's filter.
    Filtered,
    /// Cannot be sent as it is, or was refused by Reteno and has not changed since.
    Rejected,
}

/// Counts of one cycle. `read` equals the sum of all but `gone`, `dropped_fields` and `created`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Balance {
    /// Records read.
    pub read: u64,
    /// See [`Seen::Unchanged`].
    pub unchanged: u64,
    /// See [`Seen::Changed`].
    pub changed: u64,
    /// See [`Seen::Waiting`].
    pub waiting: u64,
    /// See [`Seen::Repeated`].
    pub repeated: u64,
    /// See [`Seen::Stale`].
    pub stale: u64,
    /// See [`Seen::Filtered`].
    pub filtered: u64,
    /// See [`Seen::Rejected`].
    pub rejected: u64,
    /// Held by the guard.
    pub held: u64,
    /// Of `changed`: contacts new to this checkpoint.
    pub created: u64,
    /// Fields left out of contacts because their value is invalid; not among `read`.
    pub dropped_fields: u64,
    /// Contacts that a complete read lacked, or that the source says are deleted; not among `read`.
    pub gone: u64,
}

impl Balance {
    /// Counts one record.
    pub fn count(&mut self, seen: Seen) {
        self.read += 1;
        *match seen {
            Seen::Unchanged => &mut self.unchanged,
            Seen::Changed => &mut self.changed,
            Seen::Waiting => &mut self.waiting,
            Seen::Repeated => &mut self.repeated,
            Seen::Stale => &mut self.stale,
            Seen::Filtered => &mut self.filtered,
            Seen::Rejected => &mut self.rejected,
        } += 1;
    }

    /// So many of the changed contacts are held by the guard; those of an earlier read are not among them.
    pub fn hold(&mut self, contacts: u64) {
        let held = contacts.min(self.changed);
        self.changed -= held;
        self.held += held;
    }

    /// Whether every record read is accounted for exactly once.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.read
            == self.unchanged
                + self.changed
                + self.waiting
                + self.repeated
                + self.stale
                + self.filtered
                + self.rejected
                + self.held
    }
}

impl AddAssign for Balance {
    fn add_assign(&mut self, other: Self) {
        let Self {
            read,
            unchanged,
            changed,
            waiting,
            repeated,
            stale,
            filtered,
            rejected,
            held,
            created,
            dropped_fields,
            gone,
        } = other;
        self.read += read;
        self.unchanged += unchanged;
        self.changed += changed;
        self.waiting += waiting;
        self.repeated += repeated;
        self.stale += stale;
        self.filtered += filtered;
        self.rejected += rejected;
        self.held += held;
        self.created += created;
        self.dropped_fields += dropped_fields;
        self.gone += gone;
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "read {} = unchanged {} + changed {} + waiting {} + repeated {} + stale {} + filtered {} + rejected {} + held {}; gone {}, fields left out {}",
            self.read,
            self.unchanged,
            self.changed,
            self.waiting,
            self.repeated,
            self.stale,
            self.filtered,
            self.rejected,
            self.held,
            self.gone,
            self.dropped_fields
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_balance_adds_up_and_names_what_was_left_out() {
        let mut balance = Balance { gone: 4, dropped_fields: 3, ..Balance::default() };
        for seen in [Seen::Unchanged, Seen::Changed, Seen::Waiting, Seen::Repeated, Seen::Rejected, Seen::Rejected] {
            balance.count(seen);
        }
        assert!(balance.adds_up());
        assert_eq!(
            balance.to_string(),
            "read 6 = unchanged 1 + changed 1 + waiting 1 + repeated 1 + stale 0 + filtered 0 + rejected 2 + held 0; \
             gone 4, fields left out 3"
        );
    }
}
