//! Several contacts with one e-mail or phone: one is sent, the others wait in its shadow and are listed.

use std::collections::BTreeSet;

use rusqlite::{Transaction, params};

use crate::contact::{Field, FieldPrints, Fingerprint, Fingerprinter};
use crate::plan::identity::{SharedChannel, winner_of};
use crate::plan::policy::Policy;
use crate::plan::{ContactId, SourceId};

use super::endings::SIGHTINGS_NEEDED;
use super::pages::Page;
use super::rejections::{RejectionKind, forget_rejections, record_rejection};
use super::siblings::wake_siblings;
use super::stuck::Stuck;
use super::wanted::want_starved;
use super::{Attempt, CheckpointError, unreadable};

/// A contact that has a channel.
struct Rival {
    id: ContactId,
    source: SourceId,
    source_name: String,
    key: String,
    stuck: Stuck,
    external_id: Option<Fingerprint>,
}

impl Page<'_> {
    /// Notes which channels a contact has now, and who is sent for each that it has come to or left. Says whether another
    /// one is sent in its place.
    pub(super) fn record_channels(
        &mut self,
        id: i64,
        before: Option<&FieldPrints>,
        now: &FieldPrints,
        was_shadowed: bool,
    ) -> Result<bool, CheckpointError> {
        let policy = &self.context.policy;
        let old: BTreeSet<Fingerprint> =
            before.map(|prints| channels_of(prints, policy, self.hash)).unwrap_or_default();
        let new = channels_of(now, policy, self.hash);
        let court = Court { transaction: self.transaction, rule: policy.shared_channel, now: self.context.now };
        if old == new {
            // its other news do not let it out
            return if was_shadowed { court.settle(ContactId(id)) } else { Ok(false) };
        }
        for print in old.difference(&new) {
            self.statement("DELETE FROM channel WHERE print = ?1 AND contact = ?2")?
                .execute(params![print.to_u64().cast_signed(), id])
                .attempt("store a channel")?;
        }
        for print in new.difference(&old) {
            self.statement("INSERT OR IGNORE INTO channel (print, contact) VALUES (?1, ?2)")?
                .execute(params![print.to_u64().cast_signed(), id])
                .attempt("store a channel")?;
        }
        if policy.shares_ids {
            wake_siblings(self.transaction, ContactId(id), now, self.hash)?;
        }
        let mut is_shadowed = false;
        let changed: BTreeSet<Fingerprint> = old.symmetric_difference(&new).copied().collect();
        let mut affected = court.affected(&changed)?;
        affected.insert(ContactId(id));
        for contact in affected {
            let lost = court.settle(contact)?;
            is_shadowed |= lost && contact.0 == id;
        }
        Ok(is_shadowed)
    }

    /// A contact that counted as gone is there again: who is sent for its channels is decided anew.
    pub(super) fn contend_again(&self, now: &FieldPrints) -> Result<(), CheckpointError> {
        let policy = &self.context.policy;
        let court = Court { transaction: self.transaction, rule: policy.shared_channel, now: self.context.now };
        court.settle_all(&channels_of(now, policy, self.hash))
    }
}

/// A contact is gone from the CRM: those in its shadow come out.
pub(super) fn yield_channels(
    transaction: &Transaction<'_>,
    desired: &FieldPrints,
    rule: SharedChannel,
    now: i64,
) -> Result<(), CheckpointError> {
    let prints = [Field::Email, Field::Sms].into_iter().filter_map(|field| desired.get(field)).collect();
    Court { transaction, rule, now }.settle_all(&prints)
}

/// Forgets the channels of a contact that is no more, and lets those in its shadow out.
pub(super) fn leave_channels(
    transaction: &Transaction<'_>,
    contact: ContactId,
    rule: SharedChannel,
    now: i64,
) -> Result<(), CheckpointError> {
    const ACTION: &str = "forget a channel";
    let prints: BTreeSet<Fingerprint> = {
        // few contacts leave for ever, so that no index pays for this
        let mut query = transaction.prepare_cached("SELECT print FROM channel WHERE contact = ?1").attempt(ACTION)?;
        let rows = query.query_map([contact.0], |row| row.get::<_, i64>(0)).attempt(ACTION)?;
        rows.map(|print| print.map(|print| Fingerprint::from_u64(print.cast_unsigned())))
            .collect::<Result<_, _>>()
            .attempt(ACTION)?
    };
    if prints.is_empty() {
        return Ok(());
    }
    transaction.execute("DELETE FROM channel WHERE contact = ?1", [contact.0]).attempt(ACTION)?;
    Court { transaction, rule, now }.settle_all(&prints)
}

/// The channels that only one contact may have; and the external id, where other sources may have the same contact.
fn channels_of(prints: &FieldPrints, policy: &Policy, hash: &Fingerprinter) -> BTreeSet<Fingerprint> {
    let has = |field: &Field| prints.get(*field).filter(|print| !print.is_unknown() && !hash.is_clear(*field, *print));
    let shared = policy.shares_ids.then_some(&Field::ExternalCustomerId);
    policy.unique.iter().chain(shared).filter_map(has).collect()
}

/// Decides who is sent.
struct Court<'a> {
    transaction: &'a Transaction<'a>,
    rule: SharedChannel,
    now: i64,
}

impl Court<'_> {
    /// The contacts with any of these channels, where there is more than one or one that is in a shadow.
    fn affected(&self, prints: &BTreeSet<Fingerprint>) -> Result<BTreeSet<ContactId>, CheckpointError> {
        let mut affected = BTreeSet::new();
        for print in prints {
            let rivals = self.rivals(*print)?;
            if rivals.len() > 1 || rivals.iter().any(|rival| rival.stuck == Stuck::Shadowed) {
                affected.extend(rivals.iter().map(|rival| rival.id));
            }
        }
        Ok(affected)
    }

    fn settle_all(&self, prints: &BTreeSet<Fingerprint>) -> Result<(), CheckpointError> {
        for contact in self.affected(prints)? {
            self.settle(contact)?;
        }
        Ok(())
    }

    /// Those that are gone from the CRM do not count.
    fn rivals(&self, print: Fingerprint) -> Result<Vec<Rival>, CheckpointError> {
        const ACTION: &str = "look for contacts with one channel";
        let mut query = self
            .transaction
            .prepare_cached(
                "SELECT c.id, c.source, s.name, c.key, c.stuck, c.desired FROM channel h JOIN contact c ON c.id = h.contact \
                 JOIN source s ON s.id = c.source WHERE h.print = ?1 AND c.stuck <> 4 AND c.sightings < ?2",
            )
            .attempt(ACTION)?;
        let mut rows = query.query(params![print.to_u64().cast_signed(), SIGHTINGS_NEEDED]).attempt(ACTION)?;
        let mut rivals = Vec::new();
        while let Some(row) = rows.next().attempt(ACTION)? {
            let desired: Vec<u8> = row.get(5).attempt(ACTION)?;
            let desired = FieldPrints::decode(&desired).map_err(unreadable("list of prints"))?;
            rivals.push(Rival {
                id: ContactId(row.get(0).attempt(ACTION)?),
                source: SourceId(row.get(1).attempt(ACTION)?),
                source_name: row.get(2).attempt(ACTION)?,
                key: row.get(3).attempt(ACTION)?,
                stuck: Stuck::from_number(row.get(4).attempt(ACTION)?),
                external_id: desired.get(Field::ExternalCustomerId),
            });
        }
        Ok(rivals)
    }

    fn prints(&self, contact: ContactId) -> Result<Vec<Fingerprint>, CheckpointError> {
        const ACTION: &str = "read a contact's channels";
        let desired: Vec<u8> = self
            .transaction
            .prepare_cached("SELECT desired FROM contact WHERE id = ?1")
            .and_then(|mut query| query.query_row([contact.0], |row| row.get(0)))
            .attempt(ACTION)?;
        let desired = FieldPrints::decode(&desired).map_err(unreadable("list of prints"))?;
        Ok([Field::Email, Field::Sms].into_iter().filter_map(|field| desired.get(field)).collect())
    }

    /// Who is sent in a contact's place, where that is another one. Two rows with one external id are one contact.
    fn winner_over(&self, contact: ContactId) -> Result<Option<Rival>, CheckpointError> {
        for print in self.prints(contact)? {
            let rivals = self.rivals(print)?;
            let pairs: Vec<_> = rivals.iter().map(|rival| (rival.source, rival.id)).collect();
            let Some(winner) = winner_of(&pairs, self.rule) else { continue };
            let mine = rivals.iter().find(|rival| rival.id == contact).and_then(|rival| rival.external_id);
            let found = rivals.into_iter().find(|rival| rival.id == winner && rival.id != contact);
            match found {
                Some(rival) if rival.external_id.is_none() || rival.external_id != mine => return Ok(Some(rival)),
                Some(_) | None => {}
            }
        }
        Ok(None)
    }

    /// Puts a contact into the shadow of another, or lets it out. Says whether it is in one.
    fn settle(&self, contact: ContactId) -> Result<bool, CheckpointError> {
        const ACTION: &str = "store which contact is sent";
        let (source, key, stuck): (i64, String, i64) = self
            .transaction
            .prepare_cached("SELECT source, key, stuck FROM contact WHERE id = ?1")
            .and_then(|mut query| query.query_row([contact.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))))
            .attempt(ACTION)?;
        let was_shadowed = Stuck::from_number(stuck) == Stuck::Shadowed;
        if let Some(winner) = self.winner_over(contact)? {
            self.shadow(contact, (SourceId(source), &key), &winner, was_shadowed)?;
            return Ok(true);
        }
        if was_shadowed {
            self.let_out(contact, SourceId(source), &key)?;
        }
        Ok(false)
    }

    fn shadow(
        &self,
        contact: ContactId,
        (source, key): (SourceId, &str),
        winner: &Rival,
        was_shadowed: bool,
    ) -> Result<(), CheckpointError> {
        let reason = format!(
            "has the same e-mail or phone as {} of source {}, which is sent in its place",
            winner.key, winner.source_name
        );
        let what = (RejectionKind::Shared, None, reason.as_str());
        record_rejection(self.transaction, source, (Some(key), None), what, self.now)?;
        if was_shadowed {
            return Ok(());
        }
        self.transaction
            .execute("DELETE FROM waiting WHERE contact = ?1", [contact.0])
            .and_then(|_| {
                self.transaction.execute("UPDATE contact SET stuck = 3, split = NULL WHERE id = ?1", [contact.0])
            })
            .attempt("store which contact is sent")
            .map(|_| ())
    }

    /// Nobody is sent in its place any more: its values are read again.
    fn let_out(&self, contact: ContactId, source: SourceId, key: &str) -> Result<(), CheckpointError> {
        forget_rejections(self.transaction, source, key, &[RejectionKind::Shared])?;
        self.transaction
            .execute(
                "UPDATE contact SET stuck = iif(acknowledged IS NULL, 0, 2), \
                 judged = iif(acknowledged IS NULL, judged, 0) WHERE id = ?1",
                [contact.0],
            )
            .attempt("store which contact is sent")?;
        want_starved(self.transaction, contact.0)
    }
}
