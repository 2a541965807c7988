//! What the operator lets a source do: the same values for the daemon, for `plan` and for tests. Holds no contact.

use std::time::Duration;

use crate::contact::{Contact, Field, FieldPrints, Wanted, WriteRule};

use super::guard::Guard;
use super::identity::SharedChannel;

/// What the records of a source may do.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// How much harm goes out unasked.
    pub guard: Guard,
    /// What happens to a contact that is gone.
    pub ending: Ending,
    /// Reteno's ids of the segments that a gone contact leaves.
    pub groups: Vec<u64>,
    /// Its records speak of consent.
    pub has_consent: bool,
    /// They speak of it in another way than before: what they said does not count.
    pub forgets_consent: bool,
    /// Fields that are not simply kept equal.
    pub write_rules: Vec<(Field, WriteRule)>,
    /// An empty field is cleared also where no value was ever seen.
    pub clear_at_first_sight: bool,
    /// A change waits this long for the next one.
    pub quiet_for: Duration,
    /// Which of several contacts with one channel is sent.
    pub shared_channel: SharedChannel,
    /// The channels that only one contact may have.
    pub unique: Vec<Field>,
    /// Other sources may have the same contacts, under the same external ids.
    pub shares_ids: bool,
    /// A double opt-in form: its contacts are subscribed once; what changes later is not sent.
    pub is_form: bool,
}

impl Policy {
    /// Whether external id, e-mail and phone are to be kept, sealed: what unsubscribes or deletes needs them later, and so
    /// does another source of the same contacts that has no channel of its own.
    #[must_use]
    pub fn keeps_identity(&self) -> bool {
        self.has_consent || self.ending != Ending::Keep || self.shares_ids
    }

    fn rule(&self, field: Field) -> WriteRule {
        self.write_rules.iter().find(|(ruled, _)| *ruled == field).map_or(WriteRule::Always, |(_, rule)| *rule)
    }
}

/// What happens to a contact that is gone from the CRM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    #[default]
    Keep,
    /// It leaves the segments that the configuration names with their ids.
    Detach,
    /// Its address gets no more mail.
    Unsubscribe,
    /// It is deleted in Reteno, where it can be restored.
    Delete,
    /// It is erased in Reteno, for ever, and never sent again.
    Erase,
}

/// The fields of a record that count, seen from a row that wanted `before` (`None`: the contact is new). `is_made`: a call may
/// have made the contact in Reteno.
#[must_use]
pub fn fields_that_count(
    contact: &Contact,
    before: Option<&FieldPrints>,
    is_made: bool,
    policy: &Policy,
) -> Vec<(Field, Wanted)> {
    let counts = |field: Field, wanted: &Wanted| {
        let is_seen = before.is_some_and(|before| before.get(field).is_some());
        let is_allowed = match (policy.rule(field), wanted) {
            (WriteRule::Always, _) | (WriteRule::NeverClear, Wanted::Value(_)) => true,
            (WriteRule::NeverClear, Wanted::Clear) => false,
            (WriteRule::AtFirstSight, _) => !is_made,
        };
        // an empty field is a wish only where a value was seen before
        let is_cleared_unseen = policy.clear_at_first_sight && !field.is_segment();
        is_allowed && (is_seen || is_cleared_unseen || matches!(wanted, Wanted::Value(_)))
    };
    contact.fields.iter().filter(|(field, wanted)| counts(*field, wanted)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::Personal;

    #[test]
    fn an_empty_field_that_was_never_seen_is_a_wish_only_where_the_operator_says_so_and_never_leaves_a_segment() {
        let vip = Field::segment("VIP");
        let fields = vec![
            (Field::FirstName, Wanted::Value(Personal::new("Ann"))),
            (Field::Town, Wanted::Clear),
            (vip, Wanted::Clear),
        ];
        let contact = Contact {
            key: "ann".to_owned(),
            fields,
            changed_at: None,
            dropped: Vec::new(),
            consent: None,
            unclear_consent: None,
        };
        for (clear_at_first_sight, wanted) in
            [(false, vec![Field::FirstName]), (true, vec![Field::FirstName, Field::Town])]
        {
            let policy = Policy { clear_at_first_sight, ..Policy::default() };
            let counted = fields_that_count(&contact, None, false, &policy);
            assert_eq!(counted.into_iter().map(|(field, _)| field).collect::<Vec<_>>(), wanted);
        }
    }
}
