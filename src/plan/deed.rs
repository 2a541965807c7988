//! What is to be done about contacts besides writing their fields, and which of it goes into one call.

use std::collections::{BTreeMap, BTreeSet};

use super::ContactId;
use super::guard::Verb;
use super::lock::{Lock, LockSet};
use super::policy::Ending;

/// Ids that Reteno takes in one `detach`; addresses are bounded alike, though Reteno names no bound for them.
const MEMBERS_MAX: usize = 500;

/// A deed's row in the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeedId(pub i64);

/// What is to be done. Its word is stored: never change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeedKind {
    /// The address gets no more mail.
    Unsubscribe,
    /// The address gets mail again.
    Resubscribe,
    /// The contact leaves a segment.
    Detach,
    /// The contact is deleted; it can be restored.
    Delete,
    /// The contact is erased for ever.
    Erase,
    /// Reteno's id of the contact is to be found out.
    Learn,
}

impl DeedKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Unsubscribe, Self::Resubscribe, Self::Detach, Self::Delete, Self::Erase, Self::Learn];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsubscribe => "unsubscribe",
            Self::Resubscribe => "resubscribe",
            Self::Detach => "detach",
            Self::Delete => "delete",
            Self::Erase => "erase",
            Self::Learn => "learn",
        }
    }

    /// The deed of a stored word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What the guard counts it under; learning does no harm in numbers.
    #[must_use]
    pub const fn verb(self) -> Option<Verb> {
        match self {
            Self::Unsubscribe => Some(Verb::Unsubscribe),
            Self::Detach => Some(Verb::Detach),
            Self::Delete => Some(Verb::Delete),
            Self::Erase => Some(Verb::Erase),
            Self::Resubscribe => Some(Verb::Resubscribe),
            Self::Learn => None,
        }
    }

    /// Whether the guard weighs it before it may go out: every raise, and of the rest what no record has witnessed.
    #[must_use]
    pub const fn is_guarded(self, cause: DeedCause) -> bool {
        match self {
            Self::Resubscribe => true,
            Self::Unsubscribe | Self::Detach | Self::Delete | Self::Erase => cause.is_guarded(),
            Self::Learn => false,
        }
    }

    /// Whether an older copy of the database must be noticed after it: made again, it would mail somebody who has opted
    /// out since, or end somebody who has come back.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        match self {
            Self::Unsubscribe | Self::Resubscribe | Self::Delete | Self::Erase => true,
            Self::Detach | Self::Learn => false,
        }
    }

    /// Which go first: opt-outs, then raises, which are dropped after an hour, then erasures.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::Unsubscribe => 0,
            Self::Resubscribe => 1,
            Self::Erase => 2,
            Self::Detach | Self::Delete | Self::Learn => 3,
        }
    }

    /// What a contact that is gone comes to.
    #[must_use]
    pub const fn of_ending(ending: Ending) -> Option<Self> {
        match ending {
            Ending::Keep => None,
            Ending::Detach => Some(Self::Detach),
            Ending::Unsubscribe => Some(Self::Unsubscribe),
            Ending::Delete => Some(Self::Delete),
            Ending::Erase => Some(Self::Erase),
        }
    }
}

/// Why a deed is to be done. Its word is stored: never change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeedCause {
    /// A record changed so before our eyes: the guard lets it pass.
    Witnessed,
    /// A record said so at first sight.
    Sight,
    /// The contact is gone from the CRM.
    Gone,
    /// It was done before, and something may have undone it: the guard has judged it then.
    Again,
}

impl DeedCause {
    const ALL: [Self; 4] = [Self::Witnessed, Self::Sight, Self::Gone, Self::Again];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Witnessed => "witnessed",
            Self::Sight => "sight",
            Self::Gone => "gone",
            Self::Again => "again",
        }
    }

    /// The cause of a stored word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// Whether the guard counts it.
    #[must_use]
    const fn is_guarded(self) -> bool {
        match self {
            Self::Sight | Self::Gone => true,
            Self::Witnessed | Self::Again => false,
        }
    }
}

/// A deed that may be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDeed {
    /// Its row.
    pub id: DeedId,
    /// Whom it is about.
    pub contact: ContactId,
    /// What.
    pub kind: DeedKind,
    /// Reteno's id of the segment, for [`DeedKind::Detach`]; else 0.
    pub group: u64,
    /// Reteno's id of the contact, where it is known.
    pub reteno_id: Option<i64>,
    /// It was refused together with others, so it goes alone.
    pub is_alone: bool,
    /// What no other unfinished call may share; empty where it does not wait for any.
    pub locks: Vec<Lock>,
}

/// One call that does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeedCall {
    /// What it does.
    pub kind: DeedKind,
    /// The segment it is about; else 0.
    pub group: u64,
    /// By Reteno's ids; else by what the CRM calls the contacts.
    pub by_id: bool,
    /// Whom it is about: at least one.
    pub deeds: Vec<DeedId>,
}

/// Gathers deeds into at most `calls_max` calls, first come first served. What shares a lock with an unfinished call, or
/// with a call of this round, waits; an opt-out never waits.
#[must_use]
pub fn plan_deeds(due: &[DueDeed], held: &LockSet, calls_max: usize) -> Vec<DeedCall> {
    let mut calls: Vec<DeedCall> = Vec::new();
    let mut open: BTreeMap<(DeedKind, u64, bool), usize> = BTreeMap::new();
    let mut taken: BTreeSet<Lock> = BTreeSet::new();
    let mut seen: BTreeSet<(DeedKind, ContactId)> = BTreeSet::new();
    for deed in due {
        let waits = deed.kind != DeedKind::Unsubscribe
            && (!held.is_free(&deed.locks) || deed.locks.iter().any(|lock| taken.contains(lock)));
        // a call names a contact once
        if waits || !seen.insert((deed.kind, deed.contact)) {
            continue;
        }
        let is_single = deed.is_alone || matches!(deed.kind, DeedKind::Delete | DeedKind::Erase);
        let key = (deed.kind, deed.group, deed.reteno_id.is_some());
        let place = open.get(&key).copied().filter(|place| !is_single && calls[*place].deeds.len() < MEMBERS_MAX);
        match place {
            Some(place) => calls[place].deeds.push(deed.id),
            None if calls.len() >= calls_max => continue,
            None => {
                if !is_single {
                    open.insert(key, calls.len());
                }
                let by_id = deed.reteno_id.is_some();
                calls.push(DeedCall { kind: deed.kind, group: deed.group, by_id, deeds: vec![deed.id] });
            }
        }
        if deed.kind != DeedKind::Unsubscribe {
            taken.extend(deed.locks.iter().copied());
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::super::ImportId;
    use super::super::lock::LockKind;
    use super::*;

    fn deed(id: i64, kind: DeedKind) -> DueDeed {
        let locks = vec![Lock { kind: LockKind::Email, hash: id.cast_unsigned() }];
        DueDeed { id: DeedId(id), contact: ContactId(id), kind, group: 0, reteno_id: Some(id), is_alone: false, locks }
    }

    #[test]
    fn opt_outs_go_together_and_wait_for_nobody() {
        let due: Vec<_> = (1..=501).map(|id| deed(id, DeedKind::Unsubscribe)).collect();
        let mut held = LockSet::default();
        held.take(ImportId(1), due[0].locks.clone());
        let calls = plan_deeds(&due, &held, 8);
        assert_eq!(calls.iter().map(|call| call.deeds.len()).collect::<Vec<_>>(), [500, 1]);
    }

    #[test]
    fn raising_waits_for_what_is_under_way() {
        let due = [deed(1, DeedKind::Resubscribe), deed(2, DeedKind::Resubscribe)];
        let mut held = LockSet::default();
        held.take(ImportId(1), due[0].locks.clone());
        let calls = plan_deeds(&due, &held, 8);
        assert_eq!(calls.iter().map(|call| call.deeds.clone()).collect::<Vec<_>>(), [vec![DeedId(2)]]);
    }

    #[test]
    fn of_two_with_one_address_the_later_waits_for_the_next_round() {
        let mut due = [deed(1, DeedKind::Delete), deed(2, DeedKind::Resubscribe), deed(3, DeedKind::Resubscribe)];
        due[1].locks = due[0].locks.clone();
        let calls = plan_deeds(&due, &LockSet::default(), 8);
        assert_eq!(calls.iter().map(|call| call.deeds.clone()).collect::<Vec<_>>(), [[DeedId(1)], [DeedId(3)]]);
    }

    #[test]
    fn deletions_go_one_by_one_and_at_most_so_many_at_once() {
        let due: Vec<_> = (1..=5).map(|id| deed(id, DeedKind::Delete)).collect();
        let calls = plan_deeds(&due, &LockSet::default(), 3);
        assert_eq!(calls.len(), 3);
        assert!(calls.iter().all(|call| call.deeds.len() == 1));
    }

    #[test]
    fn a_refused_one_goes_alone_and_segments_do_not_mix() {
        let mut due: Vec<_> = (1..=4).map(|id| deed(id, DeedKind::Detach)).collect();
        due[1].is_alone = true;
        due[2].group = 9;
        due[3].reteno_id = None;
        assert_eq!(plan_deeds(&due, &LockSet::default(), 8).len(), 4);
    }
}
