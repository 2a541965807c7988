//! What the sources are to each other: whose contacts are the same, who owns which field of them, and whether they can
//! be sent at all.

use std::collections::BTreeMap;

use super::{FieldTarget, FieldText, SegmentText};
use crate::config::problem::KeyPath;
use crate::config::reader::Reader;
use crate::config::reteno::DedupeOn;
use crate::contact::Field;

/// A source among others.
pub(super) struct Member {
    pub(super) name: String,
    /// The names in its mapping, right or wrong; `None` where there is no mapping, which has been told.
    pub(super) named: Option<Vec<String>>,
    /// The prefix of the external id, where the mapping of that is right.
    pub(super) prefix: Option<String>,
    pub(super) shares_ids: bool,
    /// What it writes, as words, and the key that says so.
    pub(super) owned: Vec<(String, KeyPath)>,
    pub(super) segments: Vec<SegmentText>,
}

impl Member {
    fn key(&self, rest: &[&str]) -> KeyPath {
        rest.iter().fold(KeyPath::of(&["source", &self.name]), |key, name| key.child(name))
    }

    fn names(&self, field: Field) -> bool {
        // A mapping that is not there at all has been missed already.
        let Some(named) = &self.named else { return true };
        field.standard_name().is_some_and(|name| named.iter().any(|key| key == name))
    }
}

/// What a source writes, besides the external id.
pub(super) fn owned(
    section: &KeyPath,
    fields: &[FieldText],
    segments: &[SegmentText],
    has_subscriptions: bool,
) -> Vec<(String, KeyPath)> {
    let contact = section.child("contact");
    let mapped = fields.iter().filter_map(|field| match &field.target {
        FieldTarget::Standard(Field::ExternalCustomerId) => None,
        FieldTarget::Standard(field) => Some((field.to_string(), contact.child(field.standard_name()?))),
        FieldTarget::AdditionalId(id) => {
            let key = contact.child("fields").child(&id.to_string());
            Some((format!("additional field {id}"), key))
        }
        FieldTarget::AdditionalKey(name) => {
            Some((format!("additional field {name}"), contact.child("fields").child(name)))
        }
    });
    let segments = segments.iter().map(|segment| {
        let key = section.child("segments").child(&segment.name);
        (format!("segment {:?}", segment.name), key)
    });
    let subscriptions =
        has_subscriptions.then(|| ("subscription categories".to_owned(), section.child("subscriptions")));
    mapped.chain(segments).chain(subscriptions).collect()
}

pub(super) fn check(reader: &mut Reader, members: &[Member], dedupe_on: Option<DedupeOn>) {
    let mut sharing: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
    for member in members {
        if let Some(prefix) = &member.prefix {
            sharing.entry(prefix).or_default().push(member);
        }
    }
    for group in sharing.values() {
        if group.iter().all(|member| member.shares_ids) {
            check_channels(reader, group, dedupe_on);
            check_owners(reader, group);
        } else {
            check_prefixes(reader, group);
        }
    }
    for member in members {
        // Those that share were looked at together; with a prefix that is wrong nobody knows with whom.
        if !member.shares_ids {
            check_channels(reader, &[member], dedupe_on);
        }
        // Demanded by `dedupe_on` it has been missed already.
        if members.len() > 1
            && !member.names(Field::ExternalCustomerId)
            && dedupe_on != Some(DedupeOn::ExternalCustomerId)
        {
            let key = member.key(&["contact", "externalCustomerId"]);
            let problem = reader.problem(&key, "is missing: with several sources it tells their contacts apart");
            reader.push(problem.accepted(OWN_PREFIX));
        }
    }
    check_segments(reader, members);
}

const OWN_PREFIX: &str = "a prefix of its own: { path = \"…\", prefix = \"…-\" }";

/// Equal ids of two CRMs must not become one contact, unless both say that they mean the same people.
fn check_prefixes(reader: &mut Reader, group: &[&Member]) {
    let nobody_shares = group.iter().all(|member| !member.shares_ids);
    for (place, member) in group.iter().enumerate().filter(|(_, member)| !member.shares_ids) {
        let Some(other) = group.iter().find(|other| other.name != member.name) else { continue };
        // Two that say nothing are one mistake, not two.
        if nobody_shares && place == 0 {
            continue;
        }
        let key = member.key(&["contact", "externalCustomerId"]);
        let what = format!("has the same prefix as in source.{}: equal ids would become one contact", other.name);
        let problem =
            reader.problem(&key, what).value(format!("prefix = {:?}", member.prefix.as_deref().unwrap_or("")));
        reader.push(problem.accepted(format!("{OWN_PREFIX}, or shares_ids = true in both sources")));
    }
}

/// Sources of the same contacts: a field that two of them write would change with every read.
fn check_owners(reader: &mut Reader, group: &[&Member]) {
    let mut owners: BTreeMap<&str, &Member> = BTreeMap::new();
    for member in group {
        for (field, key) in &member.owned {
            if let Some(owner) = owners.get(field.as_str()) {
                let what =
                    format!("is a second owner of {field}: source.{} writes it too, for the same contacts", owner.name);
                let problem = reader.problem(key, what);
                reader.push(problem.accepted("each field in one of the sources that share their ids"));
            } else {
                owners.insert(field, member);
            }
        }
    }
}

/// The contacts of these sources, which are the same, need a channel, and what `dedupe_on` names.
fn check_channels(reader: &mut Reader, group: &[&Member], dedupe_on: Option<DedupeOn>) {
    let Some(first) = group.first() else { return };
    let has = |field: Field| group.iter().any(|member| member.names(field));
    let mut lacks = |member: &Member, field: &str, why: &str| {
        let key = member.key(&["contact"]);
        let problem = reader.problem(&key, why).accepted(format!("{field} = \"…\" in [{key}]"));
        reader.push(problem);
    };
    if !has(Field::Email) && !has(Field::Sms) {
        return lacks(first, "email or sms", "maps no channel, so no contact could be sent");
    }
    let why = "lacks the field that reteno.dedupe_on names";
    match dedupe_on {
        Some(DedupeOn::ExternalCustomerId) => {
            for member in group.iter().filter(|member| !member.names(Field::ExternalCustomerId)) {
                lacks(member, "externalCustomerId", why);
            }
        }
        Some(DedupeOn::Email) if !has(Field::Email) => lacks(first, "email", why),
        Some(DedupeOn::Sms) if !has(Field::Sms) => lacks(first, "sms", why),
        Some(DedupeOn::Email | DedupeOn::Sms | DedupeOn::EmailOrSms) | None => {}
    }
}

/// A segment is kept by the number of its name: two names with one number would be one segment.
fn check_segments(reader: &mut Reader, members: &[Member]) {
    let mut known: BTreeMap<Field, (&Member, &str)> = BTreeMap::new();
    for member in members {
        for segment in &member.segments {
            let (other, name) = *known.entry(Field::segment(&segment.name)).or_insert((member, &segment.name));
            if name != segment.name {
                let what = format!("cannot be told from the segment {name:?} of source.{}", other.name);
                let problem = reader.problem(&member.key(&["segments", &segment.name]), what);
                reader.push(problem.accepted("another name for one of the two, in Reteno too"));
            }
        }
    }
}
