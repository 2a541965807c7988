//! What an import's end means for each of its members.

use std::collections::BTreeMap;

use crate::contact::{Field, FieldPrints, Fingerprinter, Personal, Wanted};

use super::ContactId;
use super::answer::FailedContact;
use super::lock::{Lock, LockKind};

/// More than this share of a batch missing from a mapping means that the mapping is not understood, not that so many
/// contacts were deleted in Reteno: acknowledging or rejecting them on such ground would hide thousands.
const MISSING_MAX_PERCENT: usize = 5;
/// In a small batch a few missing contacts exceed any percentage and mean nothing.
const MISSING_ALWAYS_PLAUSIBLE: usize = 2;

/// A contact as an import carries it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its row.
    pub contact: ContactId,
    /// What it shares with no other call.
    pub locks: Vec<Lock>,
    /// The prints that it carries.
    pub carried: FieldPrints,
    /// Reteno named it in `failedContacts`, with this reason.
    pub failure: Option<String>,
}

impl Member {
    fn reteno_id(&self) -> Option<i64> {
        let lock = self.locks.iter().find(|lock| lock.kind == LockKind::RetenoId)?;
        Some(lock.hash.cast_signed())
    }

    /// The one that it is known to have in Reteno, and the one that it is to have.
    fn has_two_external_ids(&self) -> bool {
        self.locks.iter().filter(|lock| lock.kind == LockKind::ExternalId).count() > 1
    }
}

/// What becomes of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberOutcome {
    /// Reteno holds what was carried.
    Acknowledged {
        /// Reteno's id, where the mapping told it.
        reteno_id: Option<i64>,
    },
    /// Reteno refuses it, with this reason.
    Rejected(String),
    /// Reteno finished without it: deleted there, most likely.
    Skipped,
    /// Nobody knows: it is due in its newest state.
    Unknown,
}

/// The outcome of each member of an import.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcomes {
    /// One entry a member.
    pub members: Vec<(ContactId, MemberOutcome)>,
    /// The mapping names other contacts than the import carried: one alert.
    pub is_mapping_odd: bool,
}

/// Finds which members `failed` speaks of, by channel, id, key and at last by name; returns the reasons, and how many
/// entries no member (or more than one) answers to.
#[must_use]
pub fn match_failures(
    failed: &[FailedContact],
    members: &[Member],
    hash: &Fingerprinter,
) -> (Vec<(ContactId, String)>, usize) {
    let index = LockIndex::build(members);
    let mut found: BTreeMap<ContactId, String> = BTreeMap::new();
    let mut unmatched = 0;
    for failure in failed {
        let contact = index.find_failure(failure, hash).or_else(|| find_by_print(failure, members, hash));
        match contact {
            Some(contact) => {
                found.insert(contact, failure.error.clone());
            }
            None => unmatched += 1,
        }
    }
    (found.into_iter().collect(), unmatched)
}

/// Decides each member of a finished import. A mapping that names nobody is one; only where there is none at all do
/// finished members count as applied. `unmatched` is the number of refusals that named no member.
#[must_use]
pub fn outcomes_finished(
    members: &[Member],
    mapping: Option<&[(Personal, i64)]>,
    unmatched: usize,
    hash: &Fingerprinter,
) -> Outcomes {
    let index = LockIndex::build(members);
    let told: BTreeMap<ContactId, i64> = mapping
        .unwrap_or_default()
        .iter()
        .filter_map(|(value, id)| Some((index.find_value(value.expose(), hash)?, *id)))
        .collect();
    let names_others = mapping.is_some_and(|entries| !entries.is_empty()) && told.is_empty();
    let expected = members.iter().filter(|member| member.failure.is_none()).count();
    let missing =
        members.iter().filter(|member| member.failure.is_none() && !told.contains_key(&member.contact)).count();
    let beyond_failures = missing.saturating_sub(unmatched);
    let is_short = beyond_failures > MISSING_ALWAYS_PLAUSIBLE && beyond_failures * 100 > expected * MISSING_MAX_PERCENT;
    let is_mapping_odd = mapping.is_some() && ((names_others && expected > 0) || is_short);
    let decide = |member: &Member| match (&member.failure, told.get(&member.contact)) {
        (Some(reason), _) => MemberOutcome::Rejected(reason.clone()),
        (None, Some(id)) => MemberOutcome::Acknowledged { reteno_id: Some(*id) },
        (None, None) if is_mapping_odd => MemberOutcome::Unknown,
        (None, None) if unmatched > 0 && !told.is_empty() => {
            MemberOutcome::Rejected("refused by Reteno, which did not say which contact it refused".to_owned())
        }
        (None, None) if unmatched > 0 => MemberOutcome::Unknown,
        // also a mapping that names nobody: what was sent alone is missing from it
        (None, None) if mapping.is_some() => MemberOutcome::Skipped,
        (None, None) => MemberOutcome::Acknowledged { reteno_id: None },
    };
    let members = members.iter().map(|member| (member.contact, decide(member))).collect();
    Outcomes { members, is_mapping_odd }
}

/// What an import that finds contacts by Reteno's id, to give them another external id, has come to: one that it tells of
/// another id, or not at all, was not renamed. It is listed and not tried again: the next attempt would end alike.
pub fn reject_unrenamed(outcomes: &mut Outcomes, members: &[Member]) {
    const ELSEWHERE: &str = "its external id has changed, and Reteno did not rename the contact: the new id belongs to \
                             another contact there, so look for both in Reteno and merge them, or delete the older one";
    const NOWHERE: &str = "its external id has changed, and Reteno finished the import without renaming the contact: it was \
                           deleted there, or the new id belongs to another contact";
    for (contact, outcome) in &mut outcomes.members {
        let Some(member) = members.iter().find(|member| member.contact == *contact) else { continue };
        let known = member.reteno_id();
        match outcome {
            MemberOutcome::Acknowledged { reteno_id: Some(told) } if known.is_some_and(|known| known != *told) => {
                *outcome = MemberOutcome::Rejected(ELSEWHERE.to_owned());
            }
            // an import that has renamed nobody has no mapping at all
            MemberOutcome::Acknowledged { reteno_id: None } if member.has_two_external_ids() => {
                *outcome = MemberOutcome::Rejected(NOWHERE.to_owned());
            }
            MemberOutcome::Skipped => *outcome = MemberOutcome::Rejected(NOWHERE.to_owned()),
            MemberOutcome::Acknowledged { .. } | MemberOutcome::Rejected(_) | MemberOutcome::Unknown => {}
        }
    }
}

/// Decides each member of an import of which only the failures are known (ERROR, abandoned, refused).
#[must_use]
pub fn outcomes_unknown(members: &[Member]) -> Outcomes {
    let decide = |member: &Member| match &member.failure {
        Some(reason) => MemberOutcome::Rejected(reason.clone()),
        None => MemberOutcome::Unknown,
    };
    Outcomes { members: members.iter().map(|m| (m.contact, decide(m))).collect(), is_mapping_odd: false }
}

struct LockIndex(BTreeMap<Lock, ContactId>);

impl LockIndex {
    fn build(members: &[Member]) -> Self {
        Self(members.iter().flat_map(|member| member.locks.iter().map(|lock| (*lock, member.contact))).collect())
    }

    fn find(&self, kind: LockKind, field: Field, value: &str, hash: &Fingerprinter) -> Option<ContactId> {
        let print = hash.field(field, &Wanted::Value(Personal::new(value)));
        self.0.get(&Lock { kind, hash: print.to_u64() }).copied()
    }

    /// A `dedupeValue` comes in the stored form: an external id, an e-mail in lower case, or a phone as digits.
    fn find_value(&self, value: &str, hash: &Fingerprinter) -> Option<ContactId> {
        self.find(LockKind::ExternalId, Field::ExternalCustomerId, value, hash)
            .or_else(|| self.find(LockKind::Email, Field::Email, &value.to_lowercase(), hash))
            .or_else(|| self.find_phone(value, hash))
            .or_else(|| {
                // found by Reteno's id
                let id = value.parse::<i64>().ok()?;
                self.0.get(&Lock { kind: LockKind::RetenoId, hash: id.cast_unsigned() }).copied()
            })
    }

    fn find_phone(&self, value: &str, hash: &Fingerprinter) -> Option<ContactId> {
        let digits: String = value.chars().filter(char::is_ascii_digit).collect();
        (!digits.is_empty()).then(|| self.find(LockKind::Phone, Field::Sms, &format!("+{digits}"), hash)).flatten()
    }

    fn find_failure(&self, failure: &FailedContact, hash: &Fingerprinter) -> Option<ContactId> {
        let by_external = failure
            .external_customer_id
            .as_ref()
            .and_then(|id| self.find(LockKind::ExternalId, Field::ExternalCustomerId, id.expose(), hash));
        let by_id = || {
            let id = failure.id?;
            self.0.get(&Lock { kind: LockKind::RetenoId, hash: id.cast_unsigned() }).copied()
        };
        let by_channel = || {
            failure.channels.iter().find_map(|(kind, value)| match kind.as_str() {
                "email" => self.find(LockKind::Email, Field::Email, &value.expose().to_lowercase(), hash),
                "sms" | "viber" => self.find_phone(value.expose(), hash),
                _ => None,
            })
        };
        by_external.or_else(by_id).or_else(by_channel)
    }
}

/// By contact key, then by both names, and only where exactly one member answers.
fn find_by_print(failure: &FailedContact, members: &[Member], hash: &Fingerprinter) -> Option<ContactId> {
    let known = [
        (Field::ContactKey, &failure.contact_key),
        (Field::FirstName, &failure.first_name),
        (Field::LastName, &failure.last_name),
    ];
    let prints: Vec<_> = known
        .into_iter()
        .filter_map(|(field, value)| Some((field, hash.field(field, &Wanted::Value(value.clone()?)))))
        .collect();
    if prints.is_empty() {
        return None;
    }
    let mut answering = members
        .iter()
        .filter(|member| prints.iter().all(|(field, print)| member.carried.get(*field) == Some(*print)))
        .map(|member| member.contact);
    let only = answering.next()?;
    answering.next().is_none().then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash() -> Fingerprinter {
        Fingerprinter::from_key(&[7; 32])
    }

    fn member(key: &str) -> Member {
        let print = hash().field(Field::ExternalCustomerId, &Wanted::Value(Personal::new(key)));
        Member {
            contact: ContactId(key.bytes().fold(0, |sum, byte| sum * 256 + i64::from(byte))),
            locks: vec![Lock { kind: LockKind::ExternalId, hash: print.to_u64() }],
            carried: FieldPrints::default(),
            failure: None,
        }
    }

    /// What becomes of `contacts` (c0, c1, …) where the mapping names those in `named`, and whether that is odd.
    fn finish(contacts: usize, named: Option<&[&str]>, unmatched: usize) -> (Vec<MemberOutcome>, bool) {
        let members: Vec<Member> = (0..contacts).map(|number| member(&format!("c{number}"))).collect();
        let pairs = |named: &[&str]| named.iter().map(|key| (Personal::new(*key), 5)).collect::<Vec<_>>();
        let mapping = named.map(pairs);
        let outcomes = outcomes_finished(&members, mapping.as_deref(), unmatched, &hash());
        (outcomes.members.into_iter().map(|(_, outcome)| outcome).collect(), outcomes.is_mapping_odd)
    }

    fn names(from: usize, to: usize) -> Vec<String> {
        (from..to).map(|number| format!("c{number}")).collect()
    }

    #[test]
    fn whoever_a_mapping_lacks_is_skipped_and_without_a_mapping_all_are_applied() {
        use MemberOutcome::{Acknowledged, Skipped, Unknown};
        let known = Acknowledged { reteno_id: Some(5) };
        assert_eq!(finish(2, None, 0), (vec![Acknowledged { reteno_id: None }; 2], false));
        assert_eq!(finish(2, Some(&["c0"]), 0), (vec![known, Skipped], false));
        // it names nobody: few were deleted there, many would be too strange
        assert_eq!(finish(1, Some(&[]), 0), (vec![Skipped], false));
        assert_eq!(finish(2, Some(&[]), 0), (vec![Skipped; 2], false));
        assert_eq!(finish(3, Some(&[]), 0), (vec![Unknown; 3], true));
        // it names others, however few are missing
        assert_eq!(finish(1, Some(&["other"]), 0), (vec![Unknown], true));
        assert_eq!(finish(0, Some(&["other"]), 0), (vec![], false));
    }

    #[test]
    fn a_mapping_is_not_understood_where_more_than_two_and_more_than_a_twentieth_are_missing() {
        let is_odd = |contacts, missing| {
            let named = names(missing, contacts);
            let named: Vec<&str> = named.iter().map(String::as_str).collect();
            finish(contacts, Some(&named), 0).1
        };
        assert!(!is_odd(10, 2) && is_odd(10, 3));
        assert!(!is_odd(60, 3) && is_odd(60, 4));
        assert!(!is_odd(100, 5) && is_odd(100, 6));
    }

    #[test]
    fn refusals_that_name_nobody_are_put_down_to_those_whom_the_mapping_lacks() {
        use MemberOutcome::{Acknowledged, Unknown};
        let named = names(4, 10);
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        // four are missing, and two refusals named nobody: two are missing without a reason
        let (outcomes, is_odd) = finish(10, Some(&named), 2);
        assert!(!is_odd && outcomes[..4].iter().all(|outcome| matches!(outcome, MemberOutcome::Rejected(_))));
        assert_eq!(outcomes[4], Acknowledged { reteno_id: Some(5) });
        assert!(finish(10, Some(&named), 1).1, "three without a reason");
        // without a mapping, or with one that names nobody, nobody can tell
        assert_eq!(finish(2, None, 1), (vec![Unknown; 2], false));
        assert_eq!(finish(2, Some(&[]), 1), (vec![Unknown; 2], false));
    }
}
