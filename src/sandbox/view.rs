//! What can be read out of a sandbox. Each reading first applies whatever is due by the clock's present moment.

use std::collections::{BTreeMap, BTreeSet};

use super::Sandbox;
use super::contacts::Person;
use super::inspect::{AppliedChange, CallSeen, ConsentChange, Overlap, StoredContact, Tally};
use super::routes::CallKind;
use super::wire::ChannelKind;

impl Sandbox {
    /// Every contact, deleted ones included, by Reteno's id.
    #[must_use]
    pub fn contacts(&self) -> Vec<StoredContact> {
        self.advanced().contacts.iter().map(|(id, person)| stored(id, person)).collect()
    }

    /// The contact that bears an external id.
    #[must_use]
    pub fn contact_by_external_id(&self, external_id: &str) -> Option<StoredContact> {
        let state = self.advanced();
        let id = state.contacts.with_external_id(external_id)?;
        state.contacts.get(id).map(|person| stored(id, person))
    }

    /// Everything that was written into the contact that bears an external id, in order.
    #[must_use]
    pub fn applied_log(&self, external_id: &str) -> Vec<AppliedChange> {
        let state = self.advanced();
        let id = state.contacts.with_external_id(external_id);
        id.and_then(|id| state.contacts.get(id)).map(|person| person.log.clone()).unwrap_or_default()
    }

    /// Every request so far, in order of arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<CallSeen> {
        self.advanced().journal.calls.clone()
    }

    /// How many requests there were, by kind and status (`None`: lost before it was carried out).
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(CallKind, Option<u16>), u64> {
        let mut counts = BTreeMap::new();
        for call in &self.advanced().journal.calls {
            *counts.entry((call.kind, call.status)).or_default() += 1;
        }
        counts
    }

    /// Calls accepted for a contact while an earlier import that holds it was unapplied, in order.
    #[must_use]
    pub fn overlaps(&self) -> Vec<Overlap> {
        self.advanced().journal.overlaps.clone()
    }

    /// Totals since the start.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.advanced().journal.tally.clone()
    }

    /// Every address that gets no mail, lower case, whether a contact has it or not.
    #[must_use]
    pub fn unsubscribed(&self) -> BTreeSet<String> {
        self.advanced().consent.unsubscribed().clone()
    }

    /// Everything that was done to that list, in order, also what changed nothing.
    #[must_use]
    pub fn unsubscribe_log(&self) -> Vec<ConsentChange> {
        self.advanced().consent.log().to_vec()
    }

    /// The events made for new contacts, in order: (key of the event, external id of the contact or its e-mail).
    #[must_use]
    pub fn events_fired(&self) -> Vec<(String, String)> {
        self.advanced().journal.events_fired.clone()
    }

    /// Every authorization code and token that is in use, and every access token ever given: to look for them where they
    /// must not stand.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        self.advanced().grants.secrets()
    }

    /// How long an answer takes on its way, over a real socket.
    pub(super) fn answer_delay(&self) -> std::time::Duration {
        self.state().options.answer_delay
    }

    /// How many accepted imports have not ended.
    #[must_use]
    pub fn unfinished_imports(&self) -> usize {
        self.advanced().imports.unfinished()
    }
}

fn stored(id: i64, person: &Person) -> StoredContact {
    let first = |kind| person.channels.get(&kind).and_then(|values| values.first()).cloned();
    StoredContact {
        id,
        external_id: person.external_id.clone(),
        email: first(ChannelKind::Email),
        phone: first(ChannelKind::Sms),
        fields: person.fields.clone(),
        segments: person.segments.clone(),
        subscriptions: person.subscriptions.clone(),
        email_status: person.email_status.clone(),
        deleted: person.deleted,
    }
}
