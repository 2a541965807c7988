//! Turns a planned batch into a call: the intent with its exact body is on disk before anything is sent.

use std::collections::BTreeSet;

use crate::checkpoint::{BegunImport, CallKind, CheckpointError, MemberValues, Settlement, UnknownFate};
use crate::clock::Timestamp;
use crate::contact::Field;
use crate::plan::batch::Batch;
use crate::plan::outcome::MemberOutcome;
use crate::plan::{ContactId, Lane};
use crate::reteno::body::{BodyError, BulkContact, BulkRequest, DedupeOn, bulk_body, contact_body};

use super::sender::Sender;
use super::sending::RestoreDeleted;

/// Live changes of more contacts than this go by bulk even where single calls are allowed.
const SINGLES_MAX: usize = 10;

impl Sender {
    /// Says whether any call was begun.
    pub(super) async fn begin(&mut self, batch: Batch, now: Timestamp) -> Result<bool, CheckpointError> {
        let by_single_calls = self.settings.restore_deleted == RestoreDeleted::Live
            && batch.lane == Lane::Live
            && batch.contacts.len() <= SINGLES_MAX;
        if !by_single_calls {
            return self.begin_bulk(batch.mask, batch.contacts, now).await;
        }
        let mut has_begun = false;
        for contact in batch.contacts {
            let known = self.store.call(move |checkpoint| checkpoint.load_single(contact)).await?;
            match known {
                // an empty channel cannot be expressed in a single call
                None => has_begun |= self.begin_bulk(batch.mask.clone(), vec![contact], now).await?,
                Some(call) => {
                    let build = |members: &[MemberValues]| {
                        Ok::<_, BodyError>(
                            members.first().map_or_else(bytes::Bytes::new, |m| contact_body(m.values.as_slice())),
                        )
                    };
                    let begun = self
                        .store
                        .call(move |checkpoint| checkpoint.begin_import(call, &[], &[contact], now, build))
                        .await?;
                    if let Ok(Some(begun)) = begun {
                        has_begun |= self.send(call, begun, now).await?;
                    }
                }
            }
        }
        Ok(has_begun)
    }

    async fn begin_bulk(
        &mut self,
        mask: Vec<Field>,
        contacts: Vec<ContactId>,
        now: Timestamp,
    ) -> Result<bool, CheckpointError> {
        let mut has_begun = false;
        let mut parts = vec![contacts];
        while let Some(part) = parts.pop() {
            let (dedupe_on, restore_deleted) =
                (self.settings.dedupe_on, self.settings.restore_deleted == RestoreDeleted::Always);
            let (mask, members) = (mask.clone(), part.clone());
            let begun = self
                .store
                .call(move |checkpoint| {
                    checkpoint.begin_import(CallKind::Bulk, &mask, &members, now, |members| {
                        build_body(members, &mask, dedupe_on, restore_deleted)
                    })
                })
                .await?;
            match begun {
                Ok(Some(begun)) => has_begun |= self.send(CallKind::Bulk, begun, now).await?,
                Ok(None) => {}
                // contacts with different channels and only additional fields due find no field in common
                Err(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([first.to_vec(), second.to_vec()]);
                }
                Err(error) => {
                    let reason = format!("cannot {error}");
                    for contact in part {
                        let reason = reason.clone();
                        self.store.call(move |checkpoint| checkpoint.reject_contact(contact, &reason, now)).await?;
                    }
                }
            }
        }
        Ok(has_begun)
    }

    /// Sends what is written down, unless a page has meanwhile given a member an identity that another call holds: then
    /// it is taken back, and planned anew.
    async fn send(&mut self, call: CallKind, begun: BegunImport, now: Timestamp) -> Result<bool, CheckpointError> {
        let BegunImport { import, body, locks, contacts } = begun;
        let distinct: BTreeSet<_> = locks.iter().collect();
        if distinct.len() < locks.len() || !self.locks.is_free(&locks) {
            let members = contacts.iter().map(|contact| (*contact, MemberOutcome::Unknown)).collect();
            let settlement = Settlement { members, fate: UnknownFate::Release, wrote_nothing: true, ghost_until: None };
            self.store.call(move |checkpoint| checkpoint.settle_import(import, &settlement, now)).await?;
            return Ok(false);
        }
        self.locks.take(import, locks);
        self.post(import, call, body);
        Ok(true)
    }
}

fn build_body(
    members: &[MemberValues],
    mask: &[Field],
    dedupe_on: DedupeOn,
    restore_deleted: bool,
) -> Result<bytes::Bytes, BodyError> {
    let contacts: Vec<BulkContact<'_>> =
        members.iter().map(|member| BulkContact { id: member.reteno_id, fields: member.values.as_slice() }).collect();
    bulk_body(&BulkRequest {
        contacts: &contacts,
        dedupe_on,
        mask,
        restore_deleted,
        group_names: &[],
        group_names_exclude: &[],
        event_key_for_new_contacts: None,
    })
}
