//! Turns a planned batch into a call: the intent with its exact body is on disk before anything is sent.

use std::time::Duration;

use bytes::Bytes;

use crate::checkpoint::{BegunImport, CallKind, CheckpointError, MemberValues, OpenImport, Settlement, UnknownFate};
use crate::clock::Timestamp;
use crate::contact::{Field, Personal};
use crate::plan::batch::{Batch, Route};
use crate::plan::outcome::MemberOutcome;
use crate::plan::{ContactId, Lane};
use crate::reteno::body::{BodyError, BulkContact, BulkRequest, DedupeOn, bulk_body, contact_body};
use crate::reteno::lists::subscriptions_body;
use crate::reteno::start::subscribe_body;

use super::sender::Sender;
use super::sending::{RestoreDeleted, SendSettings};

/// Live changes of more contacts than this go by bulk even where single calls are allowed.
const SINGLES_MAX: usize = 10;
/// How long one part of a refused batch is waited for before the next goes: imports take minutes.
pub(super) const PROBE_AGE_MAX: Duration = Duration::from_mins(10);

impl Sender {
    /// Whether a call's outcome is to tell what is at fault in its mask. One that got no answer, or that Reteno keeps for
    /// long, tells nothing soon: the others go on meanwhile.
    pub(super) fn is_awaited_probe(&self, import: &OpenImport, now: Timestamp) -> bool {
        let is_clear = import.posts <= 1 && import.ghost_until.is_none();
        is_clear
            && now.since(import.created_at) < PROBE_AGE_MAX
            && self.halving.waits_for(&import.mask, import.created_at)
    }

    /// Says whether any call was begun.
    pub(super) async fn begin(&mut self, batch: Batch, now: Timestamp) -> Result<bool, CheckpointError> {
        match batch.flavor.route {
            Route::Categories => self.begin_categories(batch, now).await,
            Route::Form => self.begin_form(batch, now).await,
            Route::Upload => self.begin_upload(batch, now).await,
            Route::Fields => {
                let by_single_calls = self.settings.restore_deleted == RestoreDeleted::Live
                    && batch.lane == Lane::Live
                    && batch.contacts.len() <= SINGLES_MAX
                    && batch.flavor.segments.is_empty()
                    && !batch.flavor.fires;
                if by_single_calls { self.begin_singles(batch, now).await } else { self.begin_bulk(batch, now).await }
            }
        }
    }

    async fn begin_singles(&mut self, batch: Batch, now: Timestamp) -> Result<bool, CheckpointError> {
        let mut has_begun = false;
        for contact in &batch.contacts {
            let (contact, only) = (*contact, Batch { contacts: vec![*contact], ..batch.clone() });
            let known = self.store.call(move |checkpoint| checkpoint.load_single(contact)).await?;
            match known {
                // an empty channel cannot be expressed in a single call
                None => has_begun |= self.begin_bulk(only, now).await?,
                Some(call) => {
                    has_begun |=
                        self.begin_lone(call, only, now, |member| contact_body(member.values.as_slice())).await?;
                }
            }
        }
        Ok(has_begun)
    }

    /// A call about one contact.
    async fn begin_lone(
        &mut self,
        call: CallKind,
        batch: Batch,
        now: Timestamp,
        body: impl Fn(&MemberValues) -> Bytes + Send + 'static,
    ) -> Result<bool, CheckpointError> {
        let rules = self.rules.clone();
        let build = move |members: &[MemberValues]| Ok::<_, BodyError>(members.first().map_or_else(Bytes::new, body));
        let begun =
            self.store.call(move |checkpoint| checkpoint.begin_import(call, &batch, &rules, now, build)).await?;
        match begun {
            Ok(Some(begun)) => Ok(self.send(call, begun, now).await? == Sent::Posted),
            Ok(None) | Err(_) => Ok(false),
        }
    }

    /// The set of a contact's categories is replaced by Reteno's id of it; one that is not known is found out first.
    async fn begin_categories(&mut self, batch: Batch, now: Timestamp) -> Result<bool, CheckpointError> {
        let mut has_begun = false;
        for contact in &batch.contacts {
            let (contact, only) = (*contact, Batch { contacts: vec![*contact], ..batch.clone() });
            let id = self.store.call(move |checkpoint| checkpoint.load_reteno_id(contact)).await?;
            let Some(id) = id else {
                self.store.call(move |checkpoint| checkpoint.want_id(contact, now)).await?;
                continue;
            };
            has_begun |= self
                .begin_lone(CallKind::Categories(id), only, now, |member| {
                    let keys = member.values.value(Field::Subscriptions).map_or("", Personal::expose);
                    let keys: Vec<&str> = keys.split(',').filter(|key| !key.is_empty()).collect();
                    subscriptions_body(&keys)
                })
                .await?;
        }
        Ok(has_begun)
    }

    /// New contacts of a form go through the double opt-in, one by one.
    async fn begin_form(&mut self, batch: Batch, now: Timestamp) -> Result<bool, CheckpointError> {
        let mut has_begun = false;
        for contact in &batch.contacts {
            let only = Batch { contacts: vec![*contact], ..batch.clone() };
            let forms = self.forms.clone();
            has_begun |= self
                .begin_lone(CallKind::Subscribe, only, now, move |member| {
                    let options = forms.get(&member.source).cloned().unwrap_or_default();
                    subscribe_body(member.values.as_slice(), &options)
                })
                .await?;
        }
        Ok(has_begun)
    }

    async fn begin_bulk(&mut self, batch: Batch, now: Timestamp) -> Result<bool, CheckpointError> {
        let mut has_begun = false;
        let mut parts = vec![batch.contacts.clone()];
        while let Some(part) = parts.pop() {
            let shape = Shape::of(&batch, &self.settings);
            let (part_batch, rules) = (Batch { contacts: part.clone(), ..batch.clone() }, self.rules.clone());
            let begun = self
                .store
                .call(move |checkpoint| {
                    checkpoint.begin_import(CallKind::Bulk, &part_batch, &rules, now, |members| shape.build(members))
                })
                .await?;
            match begun {
                Ok(Some(begun)) => match self.send(CallKind::Bulk, begun, now).await? {
                    Sent::Posted => has_begun = true,
                    Sent::TakenBack { others } => parts.extend((!others.is_empty()).then_some(others)),
                },
                Ok(None) => {}
                // contacts with different channels and only additional fields due find no field in common
                Err(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([first.to_vec(), second.to_vec()]);
                }
                Err(error) => {
                    let reason = match error {
                        BodyError::MissingId => "its external id has changed, and Reteno's id of it is not known: \
                                                 give it the new external id in Reteno by hand"
                            .to_owned(),
                        BodyError::ContactCount(_) | BodyError::MissingField(_) | BodyError::NoAnchor => {
                            format!("cannot {error}")
                        }
                    };
                    for contact in part {
                        let reason = reason.clone();
                        self.store.call(move |checkpoint| checkpoint.reject_contact(contact, &reason, now)).await?;
                    }
                }
            }
        }
        Ok(has_begun)
    }

    /// Sends what is written down, unless a member has an identity that another call or another member has: a page has given
    /// it to it meanwhile, or another source tells it. Then the call is taken back, and begun anew without such members, which
    /// wait.
    pub(super) async fn send(
        &mut self,
        call: CallKind,
        begun: BegunImport,
        now: Timestamp,
    ) -> Result<Sent, CheckpointError> {
        let BegunImport { import, body, members } = begun;
        let others = self.locks.part_members(&members);
        if others.len() < members.len() {
            let members = members.iter().map(|(contact, _)| (*contact, MemberOutcome::Unknown)).collect();
            let settlement = Settlement { members, fate: UnknownFate::Release, wrote_nothing: true, ghost_until: None };
            self.store.call(move |checkpoint| checkpoint.settle_import(import, &settlement, now)).await?;
            return Ok(Sent::TakenBack { others });
        }
        self.locks.take(import, members.into_iter().flat_map(|(_, locks)| locks));
        self.post(import, call, body);
        Ok(Sent::Posted)
    }
}

/// What became of a call that was begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way.
    Posted,
    /// It is not.
    TakenBack {
        /// Its members that stand in nobody's way: fewer than it had.
        others: Vec<ContactId>,
    },
}

/// What a bulk request says besides its contacts.
pub(super) struct Shape {
    pub(super) mask: Vec<Field>,
    dedupe_on: DedupeOn,
    pub(super) restores: bool,
    pub(super) enters: Vec<String>,
    pub(super) leaves: Vec<String>,
    pub(super) event_key: Option<String>,
}

impl Shape {
    pub(super) fn of(batch: &Batch, settings: &SendSettings) -> Self {
        let names = |wanted: bool| {
            let chosen = batch.flavor.segments.iter().filter(|(_, is_in)| *is_in == wanted);
            chosen.filter_map(|(field, _)| settings.segment_names.get(field).cloned()).collect()
        };
        Self {
            mask: batch.mask.iter().copied().filter(|field| !field.is_segment()).collect(),
            dedupe_on: if batch.flavor.renames { DedupeOn::Id } else { settings.dedupe_on },
            restores: batch.flavor.restores,
            enters: names(true),
            leaves: names(false),
            event_key: settings.event_key.clone().filter(|_| batch.flavor.fires),
        }
    }

    fn build(&self, members: &[MemberValues]) -> Result<Bytes, BodyError> {
        let contacts: Vec<BulkContact<'_>> = members
            .iter()
            .map(|member| BulkContact { id: member.reteno_id, fields: member.values.as_slice() })
            .collect();
        bulk_body(&BulkRequest {
            contacts: &contacts,
            dedupe_on: self.dedupe_on,
            mask: &self.mask,
            restore_deleted: self.restores,
            group_names: &self.enters,
            group_names_exclude: &self.leaves,
            event_key_for_new_contacts: self.event_key.as_deref(),
        })
    }
}
