//! One call at a time for a contact: what two unfinished calls may never share.
//!
//! Reteno applies imports in any order, and joins contacts by external id, id, e-mail and phone; so two calls that
//! share any of them could overwrite each other in the wrong order.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::contact::{Field, Fingerprinter};

use super::change::Sides;
use super::{ContactId, ImportId};

/// Which identity a lock stands for. The number is stored: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKind {
    /// `externalCustomerId`.
    ExternalId,
    /// Reteno's contact id.
    RetenoId,
    /// The e-mail channel.
    Email,
    /// The phone channel.
    Phone,
}

impl LockKind {
    const ALL: [Self; 4] = [Self::ExternalId, Self::RetenoId, Self::Email, Self::Phone];

    const fn number(self) -> u8 {
        match self {
            Self::ExternalId => 1,
            Self::RetenoId => 2,
            Self::Email => 3,
            Self::Phone => 4,
        }
    }
}

/// One identity of a contact, as a keyed hash (Reteno's id as it is). A collision costs a wait, never an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lock {
    /// What it stands for.
    pub kind: LockKind,
    /// The keyed hash.
    pub hash: u64,
}

/// The identities that a call about a contact touches: those it is to have, and the address and phone it is known to
/// have, which the call takes from it. A print of an identity field is already a keyed hash of its value, so equal
/// addresses have equal locks; an empty one identifies nobody.
#[must_use]
pub fn locks_of(sides: &Sides, reteno_id: Option<i64>, hash: &Fingerprinter) -> Vec<Lock> {
    let fields = [
        (LockKind::ExternalId, Field::ExternalCustomerId),
        (LockKind::Email, Field::Email),
        (LockKind::Phone, Field::Sms),
    ];
    let known = sides.acknowledged.as_ref();
    let mut locks: Vec<Lock> = Vec::with_capacity(4);
    for (kind, field) in fields {
        let prints = [sides.desired.get(field), known.and_then(|known| known.get(field))];
        for print in prints.into_iter().flatten() {
            let lock = Lock { kind, hash: print.to_u64() };
            if !print.is_unknown() && !hash.is_clear(field, print) && !locks.contains(&lock) {
                locks.push(lock);
            }
        }
    }
    locks.extend(reteno_id.map(|id| Lock { kind: LockKind::RetenoId, hash: id.cast_unsigned() }));
    locks
}

/// The stored form: one byte of kind and eight of hash for each.
#[must_use]
pub fn encode_locks(locks: &[Lock]) -> Vec<u8> {
    locks.iter().flat_map(|lock| std::iter::once(lock.kind.number()).chain(lock.hash.to_le_bytes())).collect()
}

/// Reads the stored form; bytes that no version wrote are passed over, since a missing lock of an old import can only
/// come from a newer schema, which is refused at the start.
#[must_use]
pub fn decode_locks(bytes: &[u8]) -> Vec<Lock> {
    let (entries, _) = bytes.as_chunks::<9>();
    entries
        .iter()
        .filter_map(|[kind, hash @ ..]| {
            let kind = LockKind::ALL.into_iter().find(|known| known.number() == *kind)?;
            Some(Lock { kind, hash: u64::from_le_bytes(*hash) })
        })
        .collect()
}

/// The locks of all unfinished imports, counted: where two came to hold the same one (a page gave a contact the address
/// of another while both were on their way), the end of the first does not free it for a third.
#[derive(Debug, Default)]
pub struct LockSet {
    held: BTreeMap<Lock, usize>,
    by_import: BTreeMap<ImportId, Vec<Lock>>,
    /// What calls about these contacts really touch, where that is more than could be told when they were planned (an
    /// address that another source tells), for as long as another call holds any of it.
    collided: BTreeMap<ContactId, Vec<Lock>>,
}

impl LockSet {
    /// Whether none of `locks` is held.
    #[must_use]
    pub fn is_free(&self, locks: &[Lock]) -> bool {
        locks.iter().all(|lock| !self.held.contains_key(lock))
    }

    /// Whether a call about a contact, with these locks as far as they can be told, may be planned.
    #[must_use]
    pub fn is_free_for(&self, contact: ContactId, locks: &[Lock]) -> bool {
        self.is_free(locks) && self.collided.get(&contact).is_none_or(|real| self.is_free(real))
    }

    /// The members of a call that share nothing with an unfinished call, nor with a member before them. The others wait
    /// until what they touch is free.
    pub fn part_members(&mut self, members: &[(ContactId, Vec<Lock>)]) -> Vec<ContactId> {
        let (mut apart, mut taken) = (Vec::new(), BTreeSet::<Lock>::new());
        for (contact, locks) in members {
            if self.is_free(locks) && locks.iter().all(|lock| !taken.contains(lock)) {
                taken.extend(locks);
                apart.push(*contact);
                self.collided.remove(contact);
            } else {
                self.collided.insert(*contact, locks.clone());
            }
        }
        apart
    }

    /// Takes `locks` for an import.
    pub fn take(&mut self, import: ImportId, locks: impl IntoIterator<Item = Lock>) {
        let owned = self.by_import.entry(import).or_default();
        for lock in locks {
            *self.held.entry(lock).or_default() += 1;
            owned.push(lock);
        }
    }

    /// Gives back all that an import held.
    pub fn release(&mut self, import: ImportId) {
        for lock in self.by_import.remove(&import).unwrap_or_default() {
            let Entry::Occupied(mut holders) = self.held.entry(lock) else { continue };
            *holders.get_mut() -= 1;
            if *holders.get() == 0 {
                holders.remove();
            }
        }
    }

    /// Gives back what imports hold that are not among `unfinished`: another process may have ended them.
    pub fn retain_imports(&mut self, unfinished: &BTreeSet<ImportId>) {
        let ended: Vec<ImportId> = self.by_import.keys().filter(|id| !unfinished.contains(id)).copied().collect();
        for import in ended {
            self.release(import);
        }
        let held = &self.held;
        self.collided.retain(|_, locks| locks.iter().any(|lock| held.contains_key(lock)));
    }
}

#[cfg(test)]
mod tests {
    use crate::contact::{Fingerprint, Personal, Wanted};

    use super::*;

    #[test]
    fn stored_locks_come_back_as_they_were() {
        let locks = [Lock { kind: LockKind::Email, hash: 7 }, Lock { kind: LockKind::RetenoId, hash: u64::MAX }];
        assert_eq!(decode_locks(&encode_locks(&locks)), locks);
    }

    #[test]
    fn an_address_locks_as_it_is_to_be_and_as_it_was_and_an_empty_one_never() {
        let hash = Fingerprinter::from_key(&[7; 32]);
        let email = |text: &str| hash.field(Field::Email, &Wanted::Value(Personal::new(text)));
        let sides = |wanted, known| Sides {
            desired: [(Field::Email, wanted), (Field::Sms, hash.field(Field::Sms, &Wanted::Clear))]
                .into_iter()
                .collect(),
            acknowledged: Some([(Field::Email, known)].into_iter().collect()),
        };
        let lock = |print: Fingerprint| Lock { kind: LockKind::Email, hash: print.to_u64() };
        let (old, new) = (email("old@example.com"), email("new@example.com"));
        assert_eq!(locks_of(&sides(new, old), None, &hash), [lock(new), lock(old)]);
        assert_eq!(locks_of(&sides(new, new), None, &hash), [lock(new)]);
        let cleared = hash.field(Field::Email, &Wanted::Clear);
        assert_eq!(locks_of(&sides(cleared, old), None, &hash), [lock(old)]);
    }

    #[test]
    fn one_shared_identity_is_enough_to_wait() {
        let mut set = LockSet::default();
        let email = Lock { kind: LockKind::Email, hash: 7 };
        set.take(ImportId(1), [email]);
        assert!(!set.is_free(&[Lock { kind: LockKind::ExternalId, hash: 1 }, email]));
        assert!(
            set.is_free(&[Lock { kind: LockKind::Phone, hash: 7 }]),
            "an equal hash of another kind is another identity"
        );
        set.release(ImportId(1));
        assert!(set.is_free(&[email]));
    }

    #[test]
    fn only_who_collides_waits_until_what_it_touches_is_free() {
        let mut set = LockSet::default();
        let [one, two, held] = [1, 2, 3].map(|hash| Lock { kind: LockKind::Email, hash });
        set.take(ImportId(1), [held]);
        let members = [
            (ContactId(1), vec![one, one]),
            (ContactId(2), vec![held]),
            (ContactId(3), vec![two, one]),
            (ContactId(4), vec![two]),
        ];
        assert_eq!(set.part_members(&members), [ContactId(1), ContactId(4)], "what collides with itself is alone");
        set.take(ImportId(2), [one, two]);
        assert!(!set.is_free_for(ContactId(2), &[]) && !set.is_free_for(ContactId(3), &[]));
        assert!(set.is_free_for(ContactId(5), &[]));
        set.retain_imports(&BTreeSet::from([ImportId(1)]));
        assert!(!set.is_free_for(ContactId(2), &[]) && set.is_free_for(ContactId(3), &[]));
        set.retain_imports(&BTreeSet::new());
        assert!(set.is_free_for(ContactId(2), &[]) && set.collided.is_empty());
    }

    #[test]
    fn the_end_of_one_call_frees_nothing_that_another_holds_too() {
        let mut set = LockSet::default();
        let email = Lock { kind: LockKind::Email, hash: 7 };
        set.take(ImportId(1), [email, email]);
        set.take(ImportId(2), [email]);
        set.release(ImportId(1));
        assert!(!set.is_free(&[email]));
        set.release(ImportId(2));
        assert!(set.is_free(&[email]));
    }
}
