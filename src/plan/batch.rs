//! Which contacts go together in the next calls.
//!
//! Reteno's `contactFields` holds for a whole request and wipes a listed field that a contact lacks; so a batch holds
//! only contacts with the same set of due fields (their mask).

use std::collections::{BTreeMap, BTreeSet};

use crate::contact::Field;

use super::halving::Gate;
use super::lock::{Lock, LockSet};
use super::{ContactId, Lane};

/// Which call a contact goes into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// One that writes fields.
    #[default]
    Fields,
    /// The one that replaces the set of its categories, once nothing else is due.
    Categories,
    /// The double opt-in of a form's new contact.
    Form,
    /// A file with others of a first load.
    Upload,
}

/// What holds for a whole request besides its mask: only contacts that agree in all of it go together.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flavor {
    /// Which call.
    pub route: Route,
    /// The segments that the contacts enter (true) or leave.
    pub segments: Vec<(Field, bool)>,
    /// Contacts that were deleted in Reteno come back.
    pub restores: bool,
    /// They are found by Reteno's id, since the external id changes.
    pub renames: bool,
    /// Contacts that are new to Reteno start a workflow there.
    pub fires: bool,
}

/// A contact that is due, without its values.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its row.
    pub contact: ContactId,
    /// Its lane.
    pub lane: Lane,
    /// The part of a halved batch that it goes with.
    pub part: Option<i64>,
    /// The fields to be written.
    pub mask: Vec<Field>,
    /// What else must be the same in a call.
    pub flavor: Flavor,
    /// What no other unfinished call may share.
    pub locks: Vec<Lock>,
    /// How many bytes it adds to a body, at most.
    pub bytes: usize,
}

/// What belongs into one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The fields to be written.
    pub mask: Vec<Field>,
    /// What else holds for all members.
    pub flavor: Flavor,
    /// The members, in the order of the candidates.
    pub contacts: Vec<ContactId>,
    /// The first lane among its members.
    pub lane: Lane,
}

/// The bounds of a planning round.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Contacts in a call (Reteno takes 3000).
    pub contacts_max: usize,
    /// Bytes of a body.
    pub bytes_max: usize,
    /// Contacts in a file.
    pub file_contacts_max: usize,
    /// Bytes of a file.
    pub file_bytes_max: usize,
    /// Calls that may be started now.
    pub batches_max: usize,
    /// Of them, calls of the bulk lanes: imports that hang must not shut out what just changed.
    pub bulk_batches_max: usize,
    /// More contacts for the bulk lanes are expected soon: those lanes send full batches only.
    pub is_filling: bool,
    /// The same for every lane: a command that runs once wants the fewest calls, not the earliest.
    pub gathers_all: bool,
    /// It is the turn of the last lane: a small share of the rounds begins there, so that none starves.
    pub lowest_first: bool,
}

/// Each so-manieth round begins with the last lane. More often would slow down what just changed; less often would leave
/// a first load standing for as long as changes keep coming.
pub const RESERVED_ROUND: u64 = 8;

struct Group {
    batch: Batch,
    bytes: usize,
    is_bulk: bool,
}

/// Gathers `candidates` (in lane order) into batches, first come first served. `held` are the locks of unfinished
/// calls, `gate` says whether a mask may be sent, `busy` the masks that have a call under way.
pub fn plan_batches(
    candidates: &[Candidate],
    held: &LockSet,
    limits: Limits,
    gate: impl Fn(&[Field]) -> Gate,
    busy: &BTreeSet<Vec<Field>>,
) -> Vec<Batch> {
    let mut open: BTreeMap<(&[Field], &Flavor, Option<i64>), Group> = BTreeMap::new();
    let mut taken: BTreeSet<Lock> = BTreeSet::new();
    let mut probes: BTreeMap<&[Field], Option<i64>> = BTreeMap::new();
    let mut done: Vec<Group> = Vec::new();
    let last = candidates.iter().map(|candidate| candidate.lane).max().filter(|_| limits.lowest_first);
    let (favoured, others): (Vec<_>, Vec<_>) = candidates.iter().partition(|candidate| Some(candidate.lane) == last);
    for candidate in favoured.into_iter().chain(others) {
        let mask = candidate.mask.as_slice();
        if !held.is_free_for(candidate.contact, &candidate.locks)
            || candidate.locks.iter().any(|lock| taken.contains(lock))
        {
            continue;
        }
        match gate(mask) {
            Gate::Open => {}
            Gate::Closed(_) => continue,
            Gate::OneAtATime if busy.contains(mask) => continue,
            Gate::OneAtATime => {
                if *probes.entry(mask).or_insert(candidate.part) != candidate.part {
                    continue;
                }
            }
        }
        if done.len() >= limits.batches_max {
            break;
        }
        let is_probe = probes.contains_key(mask);
        let key = (mask, &candidate.flavor, candidate.part);
        let is_overfull = open.get(&key).is_some_and(|group| {
            limits.is_full(&group.batch) || group.bytes + candidate.bytes > limits.of(&group.batch).1
        });
        if is_overfull && is_probe {
            continue;
        }
        if is_overfull {
            done.extend(open.remove(&key));
        }
        let group = open.entry(key).or_insert_with(|| Group::begin(candidate));
        group.add(candidate);
        taken.extend(candidate.locks.iter().copied());
    }
    let is_ready =
        |group: &Group| !limits.is_filling || !(group.is_bulk || limits.gathers_all) || limits.is_full(&group.batch);
    done.extend(open.into_values().filter(is_ready));
    let mut batches: Vec<Batch> = done.into_iter().map(|group| group.batch).collect();
    batches.sort_by_key(|batch| (Some(batch.lane) != last, batch.lane, batch.contacts.first().copied()));
    let mut bulk = 0;
    batches.retain(|batch| {
        bulk += usize::from(batch.lane.is_bulk());
        !batch.lane.is_bulk() || bulk <= limits.bulk_batches_max
    });
    batches.truncate(limits.batches_max);
    batches
}

impl Limits {
    /// Contacts and bytes of a call.
    const fn of(&self, batch: &Batch) -> (usize, usize) {
        match batch.flavor.route {
            Route::Upload => (self.file_contacts_max, self.file_bytes_max),
            Route::Fields | Route::Categories | Route::Form => (self.contacts_max, self.bytes_max),
        }
    }

    const fn is_full(&self, batch: &Batch) -> bool {
        batch.contacts.len() >= self.of(batch).0
    }
}

impl Group {
    fn begin(candidate: &Candidate) -> Self {
        let (mask, flavor) = (candidate.mask.clone(), candidate.flavor.clone());
        let batch = Batch { mask, flavor, contacts: Vec::new(), lane: candidate.lane };
        Self { batch, bytes: 0, is_bulk: candidate.lane.is_bulk() }
    }

    fn add(&mut self, candidate: &Candidate) {
        self.batch.contacts.push(candidate.contact);
        self.batch.lane = self.batch.lane.min(candidate.lane);
        self.is_bulk &= candidate.lane.is_bulk();
        self.bytes += candidate.bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lock::LockKind;
    use super::*;

    fn candidate(id: i64, mask: &[Field]) -> Candidate {
        let locks = vec![Lock { kind: LockKind::ExternalId, hash: id.cast_unsigned() }];
        let flavor = Flavor::default();
        Candidate {
            contact: ContactId(id),
            lane: Lane::FirstLoad,
            part: None,
            mask: mask.to_vec(),
            flavor,
            locks,
            bytes: 10,
        }
    }

    fn limits(contacts_max: usize, batches_max: usize, is_filling: bool) -> Limits {
        let bulk_batches_max = batches_max;
        Limits {
            contacts_max,
            bytes_max: 1000,
            file_contacts_max: 4,
            file_bytes_max: 1000,
            batches_max,
            bulk_batches_max,
            is_filling,
            gathers_all: false,
            lowest_first: false,
        }
    }

    fn plan(candidates: &[Candidate], limits: Limits, gate: Gate) -> Vec<Vec<i64>> {
        plan_batches(candidates, &LockSet::default(), limits, |_| gate, &BTreeSet::new())
            .into_iter()
            .map(|batch| batch.contacts.into_iter().map(|contact| contact.0).collect())
            .collect()
    }

    #[test]
    fn only_contacts_with_the_same_due_fields_share_a_batch() {
        let all = [candidate(1, &[Field::Town]), candidate(2, &[Field::Email]), candidate(3, &[Field::Town])];
        assert_eq!(plan(&all, limits(10, 9, false), Gate::Open), [vec![1, 3], vec![2]]);
    }

    #[test]
    fn members_of_one_batch_never_share_an_identity() {
        let mut all = [candidate(1, &[Field::Town]), candidate(2, &[Field::Town])];
        let shared = Lock { kind: LockKind::Email, hash: 9 };
        for candidate in &mut all {
            candidate.locks.push(shared);
        }
        assert_eq!(plan(&all, limits(10, 9, false), Gate::Open), [vec![1]]);
    }

    #[test]
    fn while_a_source_is_read_bulk_lanes_wait_for_full_batches_and_live_ones_go() {
        let mut all = [1, 2, 3, 4, 5].map(|id| candidate(id, &[Field::Town]));
        assert_eq!(plan(&all, limits(2, 9, true), Gate::Open), [vec![1, 2], vec![3, 4]]);
        all[4].lane = Lane::Live;
        assert_eq!(plan(&all[4..], limits(2, 9, true), Gate::Open), [vec![5]]);
        let once = Limits { gathers_all: true, ..limits(2, 9, true) };
        assert_eq!(plan(&all[4..], once, Gate::Open), Vec::<Vec<i64>>::new());
    }

    #[test]
    fn bulk_lanes_leave_room_for_what_just_changed() {
        let mut all = [1, 2, 3].map(|id| candidate(id, &[Field::Town]));
        all[2].lane = Lane::Live;
        all.sort_by_key(|candidate| candidate.lane);
        let bounds = |bulk_batches_max| Limits { bulk_batches_max, ..limits(1, 9, false) };
        assert_eq!(plan(&all, bounds(1), Gate::Open), [vec![3], vec![1]]);
        assert_eq!(plan(&all, bounds(0), Gate::Open), [vec![3]]);
    }

    #[test]
    fn lanes_go_in_strict_order_but_each_has_its_turn() {
        let mut all = [1, 2, 3].map(|id| candidate(id, &[Field::Town]));
        all[0].lane = Lane::Live;
        all[1].lane = Lane::Retry;
        assert_eq!(plan(&all, limits(1, 1, false), Gate::Open), [vec![1]]);
        assert_eq!(plan(&all, limits(1, 2, false), Gate::Open), [vec![1], vec![2]]);
        let turn = |batches_max| Limits { lowest_first: true, ..limits(1, batches_max, false) };
        assert_eq!(plan(&all, turn(1), Gate::Open), [vec![3]]);
        assert_eq!(plan(&all, turn(2), Gate::Open), [vec![3], vec![1]]);
    }

    #[test]
    fn a_suspect_mask_sends_one_part_at_a_time() {
        let mut all = [1, 2, 3].map(|id| candidate(id, &[Field::Town]));
        all[0].part = Some(7);
        assert_eq!(plan(&all, limits(10, 9, false), Gate::OneAtATime), [vec![1]]);
        let busy = BTreeSet::from([vec![Field::Town]]);
        let none = plan_batches(&all, &LockSet::default(), limits(10, 9, false), |_| Gate::OneAtATime, &busy);
        assert_eq!(none, []);
        assert_eq!(plan(&all, limits(10, 9, false), Gate::Closed(crate::clock::Timestamp(1))), Vec::<Vec<i64>>::new());
    }

    #[test]
    fn a_body_stays_below_the_byte_bound_but_a_large_contact_still_goes() {
        let mut all = [1, 2, 3].map(|id| candidate(id, &[Field::Town]));
        for candidate in &mut all {
            candidate.bytes = 600;
        }
        all[2].bytes = 5000;
        assert_eq!(plan(&all, limits(10, 9, false), Gate::Open), [vec![1], vec![2], vec![3]]);
    }

    #[test]
    fn a_file_has_bounds_of_its_own() {
        let mut all: Vec<Candidate> = (1..=6).map(|id| candidate(id, &[Field::Town])).collect();
        for candidate in &mut all[..5] {
            candidate.flavor.route = Route::Upload;
        }
        assert_eq!(plan(&all, limits(2, 9, false), Gate::Open), [vec![1, 2, 3, 4], vec![5], vec![6]]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_nothing_doubled(masks in prop::collection::vec(0_usize..3, 0..200), size in 1_usize..20) {
            let fields = [Field::Town, Field::Email, Field::Region];
            let all: Vec<_> = (0_i64..).zip(&masks).map(|(id, mask)| candidate(id, &[fields[*mask]])).collect();
            let batches = plan(&all, limits(size, usize::MAX, false), Gate::Open);
            prop_assert!(batches.iter().all(|batch| !batch.is_empty() && batch.len() <= size));
            let mut sent: Vec<i64> = batches.into_iter().flatten().collect();
            sent.sort_unstable();
            prop_assert_eq!(sent, all.iter().map(|candidate| candidate.contact.0).collect::<Vec<_>>());
        }
    }
}
