//! What goes out by itself, counted by the calls that it goes into. Reads only: one pass over what is due.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::contact::Field;
use crate::plan::batch::Flavor;

use super::sendable::{COLUMNS, SendRules, Sendable};
use super::{Attempt, Checkpoint, CheckpointError};

/// Contacts that are shown as examples.
const SAMPLES_MAX: usize = 10;

/// What decides which contacts share a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueGroup {
    /// Reteno was never told of them.
    pub is_new: bool,
    /// The fields of the call.
    pub mask: Vec<Field>,
    /// What else holds for the call.
    pub flavor: Flavor,
    /// Their categories are due, which have a call of their own for each contact.
    pub has_categories: bool,
}

/// The contacts that go out by themselves.
#[derive(Clone, Debug, Default)]
pub struct DueContacts {
    /// How many, by their calls.
    pub groups: BTreeMap<DueGroup, u64>,
    /// The first few: the CRM's id, and the fields of the call.
    pub samples: Vec<(String, Vec<Field>)>,
}

impl Checkpoint {
    /// Counts the contacts whose fields go out by themselves, now or after a wait. One that is only created after Reteno
    /// knows that it wants no e-mail is among them, unless a person has to let that go out first.
    pub fn count_due(&self, now: Timestamp, rules: &SendRules) -> Result<DueContacts, CheckpointError> {
        const ACTION: &str = "count what is due";
        let mut query = self
            .connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS}, c.told = 0, c.key, EXISTS (SELECT 1 FROM deed d WHERE d.contact = c.id \
                   AND d.kind = 'unsubscribe' AND d.state = 'held') \
                 FROM contact c INDEXED BY contact_due JOIN waiting w ON w.contact = c.id \
                 WHERE c.acknowledged IS NOT NULL AND c.import IS NULL AND c.stuck = 0 AND c.judged = 1 ORDER BY c.id"
            ))
            .attempt(ACTION)?;
        let mut rows = query.query([]).attempt(ACTION)?;
        let mut due = DueContacts::default();
        while let Some(row) = rows.next().attempt(ACTION)? {
            let Some(sendable) = Sendable::decide(row, &self.connection, rules, &self.hash, now)? else { continue };
            let waits_for_a_person: bool = row.get(16).attempt(ACTION)?;
            if waits_for_a_person && sendable.is_gagged(&self.connection)? {
                continue;
            }
            let Sendable { sides, mask, flavor, .. } = sendable;
            if due.samples.len() < SAMPLES_MAX {
                due.samples.push((row.get(15).attempt(ACTION)?, mask.clone()));
            }
            let has_categories = sides.due().contains(&Field::Subscriptions);
            let group = DueGroup { is_new: row.get(14).attempt(ACTION)?, mask, flavor, has_categories };
            *due.groups.entry(group).or_default() += 1;
        }
        Ok(due)
    }
}
