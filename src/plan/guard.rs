//! The guard: how much harm goes out without a person having looked at it.
//!
//! It counts contacts, for each verb and source, over a read and over the last 24 hours, before the first call of that
//! kind goes out. What is too much is held; the rest goes on.

use std::collections::BTreeMap;

use crate::contact::{Field, Fingerprint, Fingerprinter};

use super::change::Sides;

/// So few contacts are always let through: in a small CRM any percentage is exceeded by a day's work.
const ALWAYS_LET_THROUGH: u64 = 10;
/// So few where ten are more than half of the source, or where the read is doubtful: one contact is a person's own work.
const LET_THROUGH_IN_DOUBT: u64 = 1;
/// How many values are watched at the same time: each that exceeds its share of 1/257 is among them.
const VALUES_WATCHED: usize = 256;

/// What may do harm in numbers. Its word is stored: never change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Deleting contacts in Reteno.
    Delete,
    /// Erasing them for ever.
    Erase,
    /// Unsubscribing addresses, where no record witnessed it.
    Unsubscribe,
    /// Taking contacts out of segments.
    Detach,
    /// Emptying fields.
    Clear,
    /// Writing one value over one field in very many contacts.
    Overwrite,
    /// Making contacts, outside of a first load.
    Create,
    /// What a changed mapping makes of contacts that have not changed.
    Mapping,
    /// Giving addresses mail again after their record said no.
    Resubscribe,
    /// Changing the key by which Reteno tells contacts apart: where it does not follow, each is there twice.
    Rename,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 10] = [
        Self::Delete,
        Self::Erase,
        Self::Unsubscribe,
        Self::Detach,
        Self::Clear,
        Self::Overwrite,
        Self::Create,
        Self::Mapping,
        Self::Resubscribe,
        Self::Rename,
    ];

    /// Its word, in the configuration, in the checkpoint and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Erase => "erase",
            Self::Unsubscribe => "unsubscribe",
            Self::Detach => "detach",
            Self::Clear => "clear",
            Self::Overwrite => "overwrite",
            Self::Create => "create",
            Self::Mapping => "mapping",
            Self::Resubscribe => "resubscribe",
            Self::Rename => "rename",
        }
    }

    /// Whether it takes something away that only a person could give back.
    #[must_use]
    pub const fn is_harm(self) -> bool {
        match self {
            Self::Delete
            | Self::Erase
            | Self::Unsubscribe
            | Self::Detach
            | Self::Clear
            | Self::Resubscribe
            | Self::Rename => true,
            Self::Overwrite | Self::Create | Self::Mapping => false,
        }
    }

    /// The verb of a stored word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }
}

/// How many contacts a verb may touch: held when there are more than either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Contacts.
    pub contacts: u64,
    /// Per cent of the source's contacts.
    pub percent: u8,
}

/// The bounds of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// It holds anything at all.
    pub is_on: bool,
    /// It holds all that does harm: an older checkpoint was put in place, and what it says may be long over.
    pub holds_all: bool,
    /// One for each verb, in the order of [`Verb::ALL`].
    pub bounds: [Bound; Verb::ALL.len()],
}

impl Default for Guard {
    fn default() -> Self {
        let bound = |contacts, percent| Bound { contacts, percent };
        Self {
            is_on: true,
            holds_all: false,
            bounds: [
                bound(500, 5),
                bound(500, 5),
                bound(500, 5),
                bound(500, 5),
                bound(1000, 5),
                bound(5000, 20),
                bound(20_000, 20),
                bound(50_000, 100),
                bound(100, 1),
                bound(100, 1),
            ],
        }
    }
}

/// What a verb is about to touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Contacts of this read.
    pub fresh: u64,
    /// Contacts that it was let through for in the last 24 hours.
    pub passed: u64,
    /// Contacts that the source has now: those that are gone are not among them.
    pub known: u64,
    /// What speaks against letting a few pass.
    pub doubt: Doubt,
}

impl Weight {
    /// So few that their share matters only in doubt.
    #[must_use]
    pub const fn is_few(&self) -> bool {
        self.fresh.saturating_add(self.passed) <= ALWAYS_LET_THROUGH
    }
}

/// What speaks against letting a few pass without regard to their share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing.
    #[default]
    None,
    /// They may be more than half of the source.
    Share,
    /// The same read also rejected records or renamed keys: what it lacks may stand there under another name.
    Read,
}

impl Guard {
    /// The bound of a verb.
    #[must_use]
    pub fn bound(&self, verb: Verb) -> Bound {
        let [delete, erase, unsubscribe, detach, clear, overwrite, create, mapping, resubscribe, rename] = self.bounds;
        match verb {
            Verb::Delete => delete,
            Verb::Erase => erase,
            Verb::Unsubscribe => unsubscribe,
            Verb::Detach => detach,
            Verb::Clear => clear,
            Verb::Overwrite => overwrite,
            Verb::Create => create,
            Verb::Mapping => mapping,
            Verb::Resubscribe => resubscribe,
            Verb::Rename => rename,
        }
    }

    /// Whether so much is to be held.
    #[must_use]
    pub fn holds(&self, verb: Verb, weight: Weight) -> bool {
        if !self.is_on || weight.fresh == 0 {
            return false;
        }
        if self.holds_all && verb.is_harm() {
            return true;
        }
        let Bound { contacts, percent } = self.bound(verb);
        let touched = weight.fresh.saturating_add(weight.passed);
        let always = match weight.doubt {
            Doubt::None => ALWAYS_LET_THROUGH,
            // those of this read: what one contact does again and again is not the whole source
            Doubt::Share if weight.fresh.saturating_mul(2) <= weight.known => ALWAYS_LET_THROUGH,
            Doubt::Share | Doubt::Read => LET_THROUGH_IN_DOUBT,
        };
        touched > always
            && (touched > contacts || u128::from(touched) * 100 > u128::from(weight.known) * u128::from(percent))
    }
}

/// One thing that a row is about to do, and that the guard counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Harm {
    /// What it is.
    pub verb: Verb,
    /// The field; `None`: the contact as a whole.
    pub field: Option<Field>,
    /// What the field is wanted to be.
    pub print: Fingerprint,
}

/// What the changes of a row come to. `is_new`: Reteno has never been told of the contact.
#[must_use]
pub fn harms_of(sides: &Sides, is_new: bool, hash: &Fingerprinter) -> Vec<Harm> {
    let mut harms = Vec::new();
    if is_new {
        harms.push(Harm { verb: Verb::Create, field: None, print: Fingerprint::UNKNOWN });
    }
    for field in sides.due() {
        let Some(print) = sides.desired.get(field) else { continue };
        let known = sides.acknowledged.as_ref().and_then(|known| known.get(field));
        let is_known = known.is_some();
        let is_renamed = is_key(sides, field) && known.is_some_and(|known| !hash.is_clear(field, known));
        let verb = match (hash.is_clear(field, print), field.is_segment()) {
            (false, false) if is_renamed => Verb::Rename,
            (true, true) => Verb::Detach,
            (true, false) => Verb::Clear,
            (false, false) if is_known => Verb::Overwrite,
            // entering a segment, or a value where none was known, takes nothing away
            (false, true | false) => continue,
        };
        harms.push(Harm { verb, field: Some(field), print });
    }
    harms
}

/// Whether Reteno tells the contact apart by this field: by its external id, and without one by its address.
#[must_use]
pub fn is_key(sides: &Sides, field: Field) -> bool {
    let has = |field| {
        sides.desired.get(field).is_some()
            || sides.acknowledged.as_ref().is_some_and(|known| known.get(field).is_some())
    };
    [Field::ExternalCustomerId, Field::Email, Field::Sms].into_iter().find(|key| has(*key)) == Some(field)
}

/// What a row comes to of which nothing but the mapping may have changed: each of its due fields.
#[must_use]
pub fn harms_of_mapping(sides: &Sides) -> Vec<Harm> {
    let print = |field| sides.desired.get(field).unwrap_or(Fingerprint::UNKNOWN);
    sides.due().into_iter().map(|field| Harm { verb: Verb::Mapping, field: Some(field), print: print(field) }).collect()
}

/// Finds the values that are written over the same field in many contacts, in bounded memory (Misra and Gries): whatever
/// exceeds 1/257 of all is among those found, and is counted exactly in a second pass.
#[derive(Debug, Default)]
pub struct Heavy(BTreeMap<(Field, Fingerprint), u64>);

impl Heavy {
    /// Sees one change.
    pub fn add(&mut self, value: (Field, Fingerprint)) {
        if let Some(count) = self.0.get_mut(&value) {
            *count += 1;
        } else if self.0.len() < VALUES_WATCHED {
            self.0.insert(value, 1);
        } else {
            self.0.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// The values that may be frequent, each with a count of none yet.
    #[must_use]
    pub fn candidates(self) -> BTreeMap<(Field, Fingerprint), u64> {
        self.0.into_keys().map(|value| (value, 0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::{Personal, Wanted};

    fn weight(fresh: u64, passed: u64, known: u64) -> Weight {
        Weight { fresh, passed, known, doubt: Doubt::Share }
    }

    #[test]
    fn a_bound_holds_by_number_and_by_share_and_over_a_day() {
        let guard = Guard::default();
        let cases = [
            // a handful is never held, whatever the share
            (weight(10, 0, 20), false),
            // unless it is more than half of all that there is
            (weight(10, 0, 19), true),
            (weight(6, 0, 6), true),
            (weight(2, 0, 3), true),
            (weight(1, 4, 2), false),
            // but one contact is a person's own work
            (weight(1, 0, 1), false),
            (weight(11, 0, 20), true),
            // 5 % of 1000
            (weight(50, 0, 1000), false),
            (weight(51, 0, 1000), true),
            // 500 of very many
            (weight(500, 0, 1_000_000), false),
            (weight(501, 0, 1_000_000), true),
            // one at a time
            (weight(1, 500, 1_000_000), true),
            (weight(1, 499, 1_000_000), false),
            // nothing new is nothing to hold
            (weight(0, 9_000, 1_000), false),
        ];
        for (weight, held) in cases {
            assert_eq!(guard.holds(Verb::Delete, weight), held, "{weight:?}");
        }
        let off = Guard { is_on: false, ..Guard::default() };
        assert!(!off.holds(Verb::Delete, weight(1000, 0, 1000)));
    }

    #[test]
    fn after_a_restore_all_that_does_harm_is_held() {
        let guard = Guard { holds_all: true, ..Guard::default() };
        for verb in [Verb::Delete, Verb::Erase, Verb::Unsubscribe, Verb::Detach, Verb::Clear] {
            assert!(guard.holds(verb, weight(1, 0, 1000)), "{verb:?}");
        }
        assert!(!guard.holds(Verb::Overwrite, weight(1, 0, 1000)));
    }

    #[test]
    fn what_a_row_does_is_counted_by_what_it_takes_away() {
        let hash = Fingerprinter::from_key(&[7; 32]);
        let print = |field, value: &str| match value {
            "" => hash.field(field, &Wanted::Clear),
            value => hash.field(field, &Wanted::Value(Personal::new(value))),
        };
        let vip = Field::segment("VIP");
        let sides = Sides {
            desired: [
                (Field::FirstName, print(Field::FirstName, "Ann")),
                (Field::LastName, print(Field::LastName, "")),
                (Field::Town, print(Field::Town, "Kyiv")),
                (vip, print(vip, "")),
            ]
            .into_iter()
            .collect(),
            acknowledged: Some(
                [
                    (Field::FirstName, print(Field::FirstName, "Anna")),
                    (Field::LastName, print(Field::LastName, "Black")),
                    (vip, print(vip, crate::contact::MEMBER)),
                ]
                .into_iter()
                .collect(),
            ),
        };
        let verbs: Vec<_> = harms_of(&sides, false, &hash).iter().map(|harm| (harm.verb, harm.field)).collect();
        // the town has no known value that would be lost
        assert_eq!(
            verbs,
            [
                (Verb::Overwrite, Some(Field::FirstName)),
                (Verb::Clear, Some(Field::LastName)),
                (Verb::Detach, Some(vip))
            ]
        );
        assert_eq!(harms_of(&sides, true, &hash)[0].verb, Verb::Create);
    }

    #[test]
    fn a_frequent_value_is_found_among_many_others() {
        let mut heavy = Heavy::default();
        for number in 1..=100_000_u64 {
            let value = if number % 100 == 0 { 7 } else { number + 1000 };
            heavy.add((Field::Town, Fingerprint::from_u64(value)));
        }
        assert!(heavy.candidates().contains_key(&(Field::Town, Fingerprint::from_u64(7))));
    }
}
