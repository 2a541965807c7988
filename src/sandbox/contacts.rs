//! The contacts that the sandbox holds, how a request's contact is found among them, and how its values are written.
//! Knows nothing of requests, imports or time beyond the moment it is handed.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;

use super::incoming::{Incoming, channel_of_field};
use super::inspect::AppliedChange;
use super::wire::{ChannelKind, DedupeOn, StandardField};

/// Ids start above 32 bits: Reteno's are `int64`, and a client that cuts them must be seen.
const FIRST_CONTACT_ID: i64 = 5_000_000_001;

/// One stored contact.
#[derive(Debug, Default)]
pub(super) struct Person {
    pub(super) external_id: Option<String>,
    pub(super) channels: BTreeMap<ChannelKind, Vec<String>>,
    /// Standard fields by their name in `contactFields`, additional ones by their number.
    pub(super) fields: BTreeMap<String, String>,
    pub(super) segments: BTreeSet<String>,
    /// Keys of subscription categories.
    pub(super) subscriptions: BTreeSet<String>,
    pub(super) email_status: Option<String>,
    pub(super) deleted: bool,
    /// Orders updates, also those of one millisecond.
    updated: u64,
    pub(super) log: Vec<AppliedChange>,
}

/// How contacts of one request are searched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    pub(super) dedupe_on: DedupeOn,
    pub(super) field_id: Option<i64>,
    pub(super) rename_by_id: bool,
    pub(super) restore_deleted: bool,
}

/// What a request writes into its contacts.
#[derive(Clone, Debug)]
pub(super) struct Writing {
    /// The standard fields to write.
    pub(super) standard: BTreeSet<StandardField>,
    /// Whether a listed standard field that the contact lacks is nulled.
    pub(super) wipe_standard: bool,
    /// The additional fields to write.
    pub(super) additional: BTreeSet<i32>,
    /// Whether a listed additional field that the contact lacks is nulled.
    pub(super) wipe_additional: bool,
    pub(super) segments: Vec<String>,
    pub(super) segments_exclude: Vec<String>,
}

/// Where a request's contact belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Known(i64),
    New,
    /// Deleted, and the request does not restore.
    Skipped,
    /// Sought by an id that no contact has.
    Nowhere,
}

/// All contacts.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    all: BTreeMap<i64, Person>,
    by_external_id: BTreeMap<String, i64>,
    by_channel: BTreeMap<(ChannelKind, String), BTreeSet<i64>>,
    updates: u64,
    /// How many were made: an id is never given twice, also when its contact is gone.
    made: i64,
}

impl Contacts {
    pub(super) fn get(&self, id: i64) -> Option<&Person> {
        self.all.get(&id)
    }

    /// For what stands beside the values that [`Contacts::write`] writes: segments, categories, status.
    pub(super) fn get_mut(&mut self, id: i64) -> Option<&mut Person> {
        self.all.get_mut(&id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Person> {
        self.all.values_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Person)> {
        self.all.iter().map(|(id, person)| (*id, person))
    }

    pub(super) fn with_external_id(&self, external_id: &str) -> Option<i64> {
        self.by_external_id.get(external_id).copied()
    }

    /// Deletes in the way that can be restored; false where there is no such contact.
    pub(super) fn delete(&mut self, id: i64) -> bool {
        self.all.get_mut(&id).map(|person| person.deleted = true).is_some()
    }

    /// Removes a contact for good: its external id and channels are nobody's then.
    pub(super) fn erase(&mut self, id: i64) -> bool {
        self.unindex(id);
        self.all.remove(&id).is_some()
    }

    /// Finds by external id first, then by what the request says.
    pub(super) fn find(&self, incoming: &Incoming, search: Search) -> Found {
        if search.dedupe_on == DedupeOn::Id && (search.rename_by_id || incoming.external_id.is_none()) {
            // No two contacts bear one external id: a rename onto another's is not carried out.
            let bearer = incoming.external_id.as_deref().and_then(|external_id| self.with_external_id(external_id));
            let known = incoming.id.filter(|id| self.all.contains_key(id) && bearer.is_none_or(|bearer| bearer == *id));
            return known.map_or(Found::Nowhere, |id| self.unless_deleted(id, search));
        }
        let Some(external_id) = &incoming.external_id else { return self.find_by_property(incoming, search) };
        if let Some(id) = self.with_external_id(external_id) {
            return self.unless_deleted(id, search);
        }
        let phone_first = search.dedupe_on == DedupeOn::Sms;
        let order =
            if phone_first { [ChannelKind::Sms, ChannelKind::Email] } else { [ChannelKind::Email, ChannelKind::Sms] };
        // A contact that bears another external id is somebody else, whatever its channels say.
        let joined = order.iter().find_map(|kind| self.latest(&self.bearing(*kind, incoming), true));
        joined.map_or(Found::New, |id| self.unless_deleted(id, search))
    }

    fn find_by_property(&self, incoming: &Incoming, search: Search) -> Found {
        let by = |kind| self.latest(&self.bearing(kind, incoming), false);
        let found = match search.dedupe_on {
            DedupeOn::Email => by(ChannelKind::Email),
            DedupeOn::Sms => by(ChannelKind::Sms),
            DedupeOn::EmailOrSms => by(ChannelKind::Email).or_else(|| by(ChannelKind::Sms)),
            DedupeOn::Push => by(ChannelKind::Mobilepush),
            DedupeOn::WebPush => by(ChannelKind::Webpush),
            DedupeOn::FieldId => self.with_field(incoming, search.field_id),
            DedupeOn::Id | DedupeOn::ExternalCustomerId => None,
        };
        found.map_or(Found::New, |id| self.unless_deleted(id, search))
    }

    fn unless_deleted(&self, id: i64, search: Search) -> Found {
        let deleted = self.all.get(&id).is_some_and(|person| person.deleted);
        if deleted && !search.restore_deleted { Found::Skipped } else { Found::Known(id) }
    }

    fn bearing(&self, kind: ChannelKind, incoming: &Incoming) -> BTreeSet<i64> {
        let values = incoming.channels.get(&kind).into_iter().flatten();
        values.filter_map(|value| self.by_channel.get(&(kind, value.clone()))).flatten().copied().collect()
    }

    fn with_field(&self, incoming: &Incoming, field: Option<i64>) -> Option<i64> {
        let field = i32::try_from(field?).ok()?;
        let value = incoming.additional.get(&field)?;
        let key = field.to_string();
        let bearing = self.iter().filter(|(_, person)| person.fields.get(&key) == Some(value)).map(|(id, _)| id);
        self.latest(&bearing.collect(), false)
    }

    /// The latest updated of `ids`, living ones first.
    fn latest(&self, ids: &BTreeSet<i64>, without_external_id: bool) -> Option<i64> {
        let people = ids.iter().filter_map(|id| self.all.get(id).map(|person| (*id, person)));
        let free = people.filter(|(_, person)| !without_external_id || person.external_id.is_none());
        free.max_by_key(|(_, person)| (!person.deleted, person.updated)).map(|(id, _)| id)
    }

    /// Makes an empty contact; [`Contacts::write`] fills it.
    pub(super) fn create(&mut self) -> i64 {
        let id = FIRST_CONTACT_ID + self.made;
        self.made += 1;
        self.all.insert(id, Person::default());
        id
    }

    /// Writes a contact's values; `new` says that [`Contacts::create`] just made it. Returns the e-mail addresses that it
    /// did not have before.
    pub(super) fn write(&mut self, id: i64, incoming: &Incoming, writing: &Writing, by: Change<'_>) -> Vec<String> {
        let before = self.emails(id);
        self.unindex(id);
        self.updates += 1;
        if let Some(person) = self.all.get_mut(&id) {
            person.updated = self.updates;
            person.deleted = false;
            let values = write_person(person, incoming, writing, by.new);
            person.log.push(AppliedChange { at: by.at, by: by.by.to_owned(), values });
        }
        self.index(id);
        self.emails(id).into_iter().filter(|email| !before.contains(email)).collect()
    }

    fn emails(&self, id: i64) -> Vec<String> {
        self.all.get(&id).and_then(|person| person.channels.get(&ChannelKind::Email)).cloned().unwrap_or_default()
    }

    fn unindex(&mut self, id: i64) {
        let Some(person) = self.all.get(&id) else { return };
        if let Some(external_id) = &person.external_id {
            self.by_external_id.remove(external_id);
        }
        for (kind, values) in &person.channels {
            for value in values {
                let key = (*kind, value.clone());
                let bearing = self.by_channel.entry(key.clone()).or_default();
                bearing.remove(&id);
                if bearing.is_empty() {
                    self.by_channel.remove(&key);
                }
            }
        }
    }

    fn index(&mut self, id: i64) {
        let Some(person) = self.all.get(&id) else { return };
        if let Some(external_id) = &person.external_id {
            self.by_external_id.insert(external_id.clone(), id);
        }
        for (kind, values) in &person.channels {
            for value in values {
                self.by_channel.entry((*kind, value.clone())).or_default().insert(id);
            }
        }
    }
}

/// Who writes, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub(super) at: Timestamp,
    /// The import's session id, or `call N`.
    pub(super) by: &'a str,
    pub(super) new: bool,
}

type Written = BTreeMap<String, Option<String>>;

fn write_person(person: &mut Person, incoming: &Incoming, writing: &Writing, new: bool) -> Written {
    let mut written = Written::new();
    for field in &writing.standard {
        if !incoming.dropped.contains(field) {
            write_standard(person, *field, incoming, writing.wipe_standard, &mut written);
        }
    }
    if let Some(external_id) = &incoming.external_id {
        person.external_id = Some(external_id.clone());
        written.insert(StandardField::ExternalCustomerId.name().to_owned(), Some(external_id.clone()));
    }
    for (kind, values) in &incoming.channels {
        // No contact exists without a channel, so a new one takes them all, listed or not.
        let unlisted = super::incoming::field_of_channel(*kind).is_none();
        if new || (unlisted && writing.standard.len() == StandardField::ALL.len()) {
            person.channels.insert(*kind, values.clone());
        }
    }
    for id in writing.additional.difference(&incoming.dropped_additional) {
        let value = incoming.additional.get(id);
        if value.is_some() || writing.wipe_additional {
            put(person, &id.to_string(), value, &mut written);
        }
    }
    person.segments.extend(writing.segments.iter().cloned());
    for segment in &writing.segments_exclude {
        person.segments.remove(segment);
    }
    written
}

fn write_standard(person: &mut Person, field: StandardField, incoming: &Incoming, wipe: bool, written: &mut Written) {
    if let Some(kind) = channel_of_field(field) {
        match incoming.channels.get(&kind) {
            Some(values) => {
                person.channels.insert(kind, values.clone());
                written.insert(field.name().to_owned(), Some(values.join(",")));
            }
            None if wipe => {
                person.channels.remove(&kind);
                written.insert(field.name().to_owned(), None);
            }
            None => {}
        }
        return;
    }
    match field {
        StandardField::OrdersInfo => {} // belongs to orders, which are no contact's value
        StandardField::ExternalCustomerId => {
            if wipe && incoming.external_id.is_none() {
                person.external_id = None;
                written.insert(field.name().to_owned(), None);
            }
        }
        StandardField::FirstName
        | StandardField::LastName
        | StandardField::Address
        | StandardField::Town
        | StandardField::Region
        | StandardField::Postcode
        | StandardField::LanguageCode
        | StandardField::TimeZone
        | StandardField::ContactKey
        | StandardField::Email
        | StandardField::Sms
        | StandardField::Mobilepush
        | StandardField::Webpush => {
            let value = incoming.standard.get(&field);
            if value.is_some() || wipe {
                put(person, field.name(), value, written);
            }
        }
    }
}

/// Stores a value; none, or an empty one, clears.
fn put(person: &mut Person, key: &str, value: Option<&String>, written: &mut Written) {
    let value = value.filter(|value| !value.is_empty()).cloned();
    match &value {
        Some(value) => drop(person.fields.insert(key.to_owned(), value.clone())),
        None => drop(person.fields.remove(key)),
    }
    written.insert(key.to_owned(), value);
}
