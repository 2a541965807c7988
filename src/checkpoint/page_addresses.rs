//! The addresses of a contact as a page finds and leaves them: who is sent with each is decided anew where they change.

use std::borrow::Cow;

use crate::contact::{Field, FieldPrints, Fingerprint, Fingerprinter};
use crate::plan::ContactId;
use crate::plan::identity::Rival;

use super::duplicates::{ADDRESSES, Duplicates, add_address};
use super::incoming::PageMode;
use super::pages::Page;
use super::removal::take_removed;
use super::rows::Row;
use super::siblings::wake_siblings;
use super::stuck::Stuck;
use super::{Attempt, CheckpointError};

impl Page<'_> {
    /// Notes which addresses a contact has now, and who is sent for each that it has come to or left. Says whether another
    /// one is sent in its place.
    pub(super) fn record_channels(
        &mut self,
        id: i64,
        row: Option<&Row>,
        now: &FieldPrints,
    ) -> Result<bool, CheckpointError> {
        let policy = &self.context.policy;
        let old =
            row.map(|row| addresses_of(&row.known.sides.desired, policy.shares_ids, self.hash)).unwrap_or_default();
        let new = addresses_of(now, policy.shares_ids, self.hash);
        let duplicates = self.duplicates();
        let is_settled = row.is_some_and(|row| match row.stuck {
            Stuck::No => true,
            // its other news may let it be sent, or not any more
            Stuck::Rejected | Stuck::Starved | Stuck::Shadowed | Stuck::Ended => false,
        });
        if old == new && is_settled {
            return Ok(false);
        }
        if let Some(row) = row.filter(|row| row.known.sides.desired == *now)
            && let Some(print) = row.blocked_by.filter(|print| self.is_unique(&new, *print))
        {
            let me = Rival { source: self.context.source, contact: ContactId(id) };
            if row.stuck == Stuck::Shadowed && duplicates.stays_blocked(&me, print)? {
                return Ok(true);
            }
        }
        if self.has_removed && take_removed(self.transaction, now, self.hash)? {
            self.statement("UPDATE contact SET restores = 1 WHERE id = ?1")?
                .execute([id])
                .attempt("store that a contact is restored")?;
        }
        for (_, print) in old.iter().filter(|address| !new.contains(address)) {
            duplicates.drop_address(ContactId(id), *print)?;
        }
        for (_, print) in &new {
            add_address(self.transaction, ContactId(id), *print)?;
        }
        if policy.shares_ids && old != new {
            wake_siblings(self.transaction, ContactId(id), now, self.hash)?;
        }
        duplicates.contend(ContactId(id))?;
        duplicates.is_blocked(ContactId(id))
    }

    /// Whether an address is one of those that only one contact may have. A baseline looks at each.
    fn is_unique(&self, addresses: &[(Field, Fingerprint)], print: Fingerprint) -> bool {
        let unique = &self.context.policy.unique;
        self.context.mode != PageMode::Baseline
            && addresses.iter().any(|(field, known)| *known == print && unique.contains(field))
    }

    /// A contact that counted as gone is there again: it has its addresses again.
    pub(super) fn contend_again(&self, id: i64, now: &FieldPrints) -> Result<(), CheckpointError> {
        let duplicates = self.duplicates();
        for (_, print) in addresses_of(now, self.context.policy.shares_ids, self.hash) {
            add_address(self.transaction, ContactId(id), print)?;
        }
        duplicates.contend(ContactId(id))
    }

    fn duplicates(&self) -> Duplicates<'_> {
        let policy = &self.context.policy;
        Duplicates {
            transaction: self.transaction,
            rule: policy.shared_channel,
            unique: Cow::Borrowed(&policy.unique),
            now: self.context.now,
        }
    }
}

/// The addresses that a contact has: they are kept for each, so that what ends one contact never silences another. Where
/// sources share ids, the external id is among them: by it the same contact of another source is found.
pub(super) fn addresses_of(prints: &FieldPrints, shares_ids: bool, hash: &Fingerprinter) -> Vec<(Field, Fingerprint)> {
    let has = |field: Field| {
        let print = prints.get(field).filter(|print| !print.is_unknown() && !hash.is_clear(field, *print));
        print.map(|print| (field, print))
    };
    let shared = shares_ids.then_some(Field::ExternalCustomerId);
    ADDRESSES.into_iter().chain(shared).filter_map(has).collect()
}
