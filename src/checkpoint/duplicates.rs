//! Several contacts with one e-mail or phone: one is sent, the others are blocked by it and listed once for the address.
//!
//! Owns the tables `channel` (who has which address; only contacts that the CRM still has) and `duplicate` (who is sent with
//! an address that several have), and the column `contact.blocked_by`. A contact is sent where nobody with one of its
//! addresses is sent before it by the rule. Each change costs the same, however many contacts share the address: only who
//! comes, who leaves, who is sent and the first of those that wait are looked at.

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::contact::{Field, FieldPrints, Fingerprint};
use crate::plan::identity::{Rival, SharedChannel, outranks};
use crate::plan::{ContactId, SourceId};

use super::sharing_rule::load_rule;
use super::stuck::Stuck;
use super::wanted::{drop_rereadable, want_starved};
use super::{Attempt, CheckpointError, unreadable};

const ACTION: &str = "decide which contact is sent";
/// The fields that may be shared.
pub(super) const ADDRESSES: [Field; 2] = [Field::Email, Field::Sms];

/// Decides who is sent.
pub(super) struct Duplicates<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) rule: SharedChannel,
    /// The fields that only one contact may have.
    pub(super) unique: Cow<'a, [Field]>,
    pub(super) now: i64,
}

/// A contact, as far as it matters here.
struct Contender {
    rival: Rival,
    stuck: Stuck,
    blocked_by: Option<Fingerprint>,
    external_id: Option<Fingerprint>,
    addresses: Vec<(Field, Fingerprint)>,
}

impl Contender {
    /// Two rows with one external id are one contact.
    fn is_same(&self, other: &Self) -> bool {
        self.external_id.is_some() && self.external_id == other.external_id
    }

    const fn can_be_sent(&self) -> bool {
        match self.stuck {
            Stuck::No | Stuck::Starved | Stuck::Shadowed => true,
            Stuck::Rejected | Stuck::Ended => false,
        }
    }
}

/// What is still to be decided.
enum Open {
    /// Whether a contact is sent.
    Contact(ContactId),
    /// Who is sent with an address that nobody is sent with.
    Address(Fingerprint),
}

impl<'a> Duplicates<'a> {
    /// For what happens outside of a read.
    pub(super) fn of(transaction: &'a Transaction<'a>, now: i64) -> Result<Self, CheckpointError> {
        let (rule, unique) = load_rule(transaction)?;
        Ok(Self { transaction, rule, unique: Cow::Owned(unique), now })
    }

    /// A contact is gone from the CRM, or its row is no more: it has no address any more, and whoever waited for it may be
    /// sent.
    pub(super) fn leave(&self, contact: ContactId) -> Result<(), CheckpointError> {
        let Some(me) = self.load(contact)? else { return Ok(()) };
        let ids = me.external_id.map(|print| (Field::ExternalCustomerId, print));
        self.transaction
            .prepare_cached(
                "UPDATE contact SET blocked_by = NULL, stuck = iif(acknowledged IS NULL, 0, 2) \
                 WHERE id = ?1 AND blocked_by IS NOT NULL",
            )
            .and_then(|mut update| update.execute([contact.0]))
            .attempt(ACTION)?;
        for (_, print) in me.addresses.iter().copied().chain(ids) {
            self.drop_address(contact, print)?;
        }
        Ok(())
    }

    /// A contact cannot be sent any more, though the CRM has it: whoever waited for it may be sent.
    pub(super) fn give_way(&self, contact: ContactId) -> Result<(), CheckpointError> {
        let Some(me) = self.load(contact)? else { return Ok(()) };
        let mut open = Vec::new();
        self.release(&me, None, &mut open)?;
        self.settle(open)
    }

    /// Whether another contact is sent in its place.
    pub(super) fn is_blocked(&self, contact: ContactId) -> Result<bool, CheckpointError> {
        self.transaction
            .prepare_cached("SELECT blocked_by IS NOT NULL FROM contact WHERE id = ?1")
            .and_then(|mut query| query.query_row([contact.0], |row| row.get(0)))
            .attempt(ACTION)
    }

    /// The contact has the address no more.
    pub(super) fn drop_address(&self, contact: ContactId, print: Fingerprint) -> Result<(), CheckpointError> {
        let dropped = self
            .transaction
            .prepare_cached("DELETE FROM channel WHERE print = ?1 AND contact = ?2")
            .and_then(|mut delete| delete.execute(params![stored(print), contact.0]))
            .attempt(ACTION)?;
        if dropped == 0 {
            return Ok(());
        }
        let was_holder = self
            .transaction
            .prepare_cached("UPDATE duplicate SET holder = NULL WHERE print = ?1 AND holder = ?2")
            .and_then(|mut update| update.execute(params![stored(print), contact.0]))
            .attempt(ACTION)?;
        if was_holder > 0 {
            if let Some(me) = self.load(contact)? {
                self.pass_on(&me, print)?;
            }
            self.settle(vec![Open::Address(print)])?;
        }
        self.transaction
            .prepare_cached(
                "DELETE FROM duplicate WHERE print = ?1 \
                 AND NOT EXISTS (SELECT 1 FROM channel WHERE print = ?1 LIMIT 1 OFFSET 1)",
            )
            .and_then(|mut delete| delete.execute([stored(print)]))
            .attempt(ACTION)
            .map(|_| ())
    }

    /// Decides anew whether a contact is sent.
    pub(super) fn contend(&self, contact: ContactId) -> Result<(), CheckpointError> {
        self.settle(vec![Open::Contact(contact)])
    }

    fn settle(&self, mut open: Vec<Open>) -> Result<(), CheckpointError> {
        while let Some(next) = open.pop() {
            match next {
                Open::Contact(contact) => self.decide(contact, &mut open)?,
                Open::Address(print) => self.elect(print, &mut open)?,
            }
        }
        Ok(())
    }

    fn decide(&self, contact: ContactId, open: &mut Vec<Open>) -> Result<(), CheckpointError> {
        let Some(me) = self.load(contact)? else { return Ok(()) };
        if !me.can_be_sent() {
            self.release(&me, None, open)?;
            // it waits for no address any more
            return self.forget_block(contact);
        }
        let (mut taken, mut outranked) = (Vec::new(), Vec::new());
        for (_, print) in me.addresses.iter().filter(|(field, _)| self.unique.contains(field)) {
            let Some(holder) = self.holder(&me, *print)? else {
                taken.push(print);
                continue;
            };
            let is_first = outranks(&holder.rival, &me.rival, self.rule);
            match (holder.is_same(&me), is_first) {
                // the same contact of another source is sent with it already
                (true, true) => {}
                (true, false) => taken.push(print),
                (false, true) => return self.block(&me, *print, open),
                (false, false) => {
                    taken.push(print);
                    outranked.push((holder, *print));
                }
            }
        }
        for print in taken {
            self.transaction
                .prepare_cached("UPDATE duplicate SET holder = ?2, ignored = 0 WHERE print = ?1 AND holder IS NOT ?2")
                .and_then(|mut update| update.execute(params![stored(*print), contact.0]))
                .attempt(ACTION)?;
        }
        for (other, print) in outranked {
            self.block(&other, print, open)?;
        }
        if me.blocked_by.is_some() { self.let_out(contact) } else { Ok(()) }
    }

    /// Who is sent with an address, where that is another row.
    fn holder(&self, me: &Contender, print: Fingerprint) -> Result<Option<Contender>, CheckpointError> {
        let is_shared: bool = self
            .transaction
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM channel WHERE print = ?1 AND contact <> ?2)")
            .and_then(|mut query| query.query_row(params![stored(print), me.rival.contact.0], |row| row.get(0)))
            .attempt(ACTION)?;
        if !is_shared {
            return Ok(None);
        }
        let known: Option<Option<i64>> = self
            .transaction
            .prepare_cached("SELECT holder FROM duplicate WHERE print = ?1")
            .and_then(|mut query| query.query_row([stored(print)], |row| row.get(0)).optional())
            .attempt(ACTION)?;
        let holder = match known {
            Some(holder) => holder,
            None => self.note_shared(me, print)?,
        };
        let Some(holder) = holder.filter(|holder| *holder != me.rival.contact.0) else { return Ok(None) };
        self.load(ContactId(holder))
    }

    /// An address has come to be shared: whoever had it before is sent with it.
    fn note_shared(&self, me: &Contender, print: Fingerprint) -> Result<Option<i64>, CheckpointError> {
        self.transaction
            .prepare_cached(
                "INSERT INTO duplicate (print, holder, since) SELECT ?1, \
                 (SELECT min(c.id) FROM channel h JOIN contact c ON c.id = h.contact \
                  WHERE h.print = ?1 AND c.id <> ?2 AND c.stuck NOT IN (1, 3, 4)), ?3 RETURNING holder",
            )
            .and_then(|mut insert| {
                insert.query_row(params![stored(print), me.rival.contact.0, self.now], |row| row.get(0))
            })
            .attempt(ACTION)
    }

    /// The first of those that wait for an address is sent with it, where nothing else blocks it.
    fn elect(&self, print: Fingerprint, open: &mut Vec<Open>) -> Result<(), CheckpointError> {
        let is_taken: Option<bool> = self
            .transaction
            .prepare_cached("SELECT holder IS NOT NULL FROM duplicate WHERE print = ?1")
            .and_then(|mut query| query.query_row([stored(print)], |row| row.get(0)).optional())
            .attempt(ACTION)?;
        if is_taken != Some(false) {
            return Ok(());
        }
        if let Some(first) = self.first_waiting(print)? {
            // when something else blocks it, the next one is looked at
            open.push(Open::Address(print));
            open.push(Open::Contact(first));
        }
        Ok(())
    }

    fn first_waiting(&self, print: Fingerprint) -> Result<Option<ContactId>, CheckpointError> {
        let ends = if self.rule == SharedChannel::Newest { "max(c.id)" } else { "min(c.id)" };
        // few sources, many contacts: the index gives the first and the last of each source
        let sql = format!(
            "SELECT s.id, (SELECT {ends} FROM contact c INDEXED BY contact_blocked \
             WHERE c.blocked_by = ?1 AND c.source = s.id) AS first FROM source s WHERE first IS NOT NULL"
        );
        let waiting: Vec<Rival> = self
            .transaction
            .prepare_cached(&sql)
            .and_then(|mut query| {
                let rivals = query.query_map([stored(print)], |row| {
                    Ok(Rival { source: SourceId(row.get(0)?), contact: ContactId(row.get(1)?) })
                })?;
                rivals.collect()
            })
            .attempt(ACTION)?;
        let first = waiting.into_iter().reduce(|a, b| if outranks(&b, &a, self.rule) { b } else { a });
        Ok(first.map(|rival| rival.contact))
    }

    /// Another contact is sent with an address of this one: it is not sent, and leaves its other addresses to others.
    fn block(&self, me: &Contender, print: Fingerprint, open: &mut Vec<Open>) -> Result<(), CheckpointError> {
        if me.blocked_by == Some(print) && me.stuck == Stuck::Shadowed {
            return Ok(());
        }
        self.release(me, Some(print), open)?;
        self.transaction
            .prepare_cached("UPDATE contact SET blocked_by = ?2, stuck = 3, split = NULL WHERE id = ?1")
            .and_then(|mut update| update.execute(params![me.rival.contact.0, stored(print)]))
            .attempt(ACTION)?;
        drop_rereadable(self.transaction, me.rival.contact.0)
    }

    /// Nobody is sent any more with the addresses that the contact was sent with, but for `kept`, which another has taken. The
    /// same contact of another source goes on with them.
    fn release(&self, me: &Contender, kept: Option<Fingerprint>, open: &mut Vec<Open>) -> Result<(), CheckpointError> {
        for (_, print) in me.addresses.iter().filter(|(_, print)| Some(*print) != kept) {
            let released = self
                .transaction
                .prepare_cached("UPDATE duplicate SET holder = NULL WHERE print = ?1 AND holder = ?2")
                .and_then(|mut update| update.execute(params![stored(*print), me.rival.contact.0]))
                .attempt(ACTION)?;
            if released > 0 {
                self.pass_on(me, *print)?;
                open.push(Open::Address(*print));
            }
        }
        Ok(())
    }

    /// The same contact of another source goes on with an address that nobody is sent with any more.
    fn pass_on(&self, me: &Contender, print: Fingerprint) -> Result<(), CheckpointError> {
        let Some(id) = me.external_id else { return Ok(()) };
        self.transaction
            .prepare_cached(
                "UPDATE duplicate SET holder = (SELECT min(c.id) FROM channel i JOIN contact c ON c.id = i.contact \
                   WHERE i.print = ?1 AND c.id <> ?2 AND c.stuck NOT IN (1, 3, 4) \
                     AND EXISTS (SELECT 1 FROM channel h WHERE h.print = ?3 AND h.contact = c.id)) \
                 WHERE print = ?3 AND holder IS NULL",
            )
            .and_then(|mut update| update.execute(params![stored(id), me.rival.contact.0, stored(print)]))
            .attempt(ACTION)
            .map(|_| ())
    }

    fn forget_block(&self, contact: ContactId) -> Result<(), CheckpointError> {
        self.transaction
            .prepare_cached("UPDATE contact SET blocked_by = NULL WHERE id = ?1 AND blocked_by IS NOT NULL")
            .and_then(|mut update| update.execute([contact.0]))
            .attempt(ACTION)
            .map(|_| ())
    }

    /// Whether the contact that is sent with an address is sent before this one: nothing has changed for it.
    pub(super) fn stays_blocked(&self, me: &Rival, print: Fingerprint) -> Result<bool, CheckpointError> {
        let holder: Option<Rival> = self
            .transaction
            .prepare_cached(
                "SELECT c.source, c.id FROM duplicate d JOIN contact c ON c.id = d.holder WHERE d.print = ?1",
            )
            .and_then(|mut query| {
                let rival = |row: &rusqlite::Row<'_>| {
                    Ok(Rival { source: SourceId(row.get(0)?), contact: ContactId(row.get(1)?) })
                };
                query.query_row([stored(print)], rival).optional()
            })
            .attempt(ACTION)?;
        Ok(holder.is_some_and(|holder| outranks(&holder, me, self.rule)))
    }

    /// Nobody is sent in its place any more: its values are read again.
    fn let_out(&self, contact: ContactId) -> Result<(), CheckpointError> {
        self.transaction
            .prepare_cached(
                "UPDATE contact SET blocked_by = NULL, stuck = \
                 iif(acknowledged IS NULL OR EXISTS (SELECT 1 FROM waiting w WHERE w.contact = ?1), 0, 2), judged = \
                 iif(acknowledged IS NULL OR EXISTS (SELECT 1 FROM waiting w WHERE w.contact = ?1), judged, 0) \
                 WHERE id = ?1 AND stuck = 3",
            )
            .and_then(|mut update| update.execute([contact.0]))
            .attempt(ACTION)?;
        self.forget_block(contact)?;
        want_starved(self.transaction, contact.0)
    }

    fn load(&self, contact: ContactId) -> Result<Option<Contender>, CheckpointError> {
        let row: Option<(i64, i64, Option<i64>, Vec<u8>)> = self
            .transaction
            .prepare_cached("SELECT source, stuck, blocked_by, desired FROM contact WHERE id = ?1")
            .and_then(|mut query| {
                let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
                query.query_row([contact.0], row).optional()
            })
            .attempt(ACTION)?;
        let Some((source, stuck, blocked_by, desired)) = row else { return Ok(None) };
        let desired = FieldPrints::decode(&desired).map_err(unreadable("list of prints"))?;
        let address = |field: Field| desired.get(field).map(|print| (field, print));
        Ok(Some(Contender {
            rival: Rival { source: SourceId(source), contact },
            stuck: Stuck::from_number(stuck),
            blocked_by: blocked_by.map(|print| Fingerprint::from_u64(print.cast_unsigned())),
            external_id: desired.get(Field::ExternalCustomerId),
            addresses: ADDRESSES.into_iter().filter_map(address).collect(),
        }))
    }
}

/// Notes that a contact has an address; who is sent with it is not decided by that.
pub(super) fn add_address(
    transaction: &Transaction<'_>,
    contact: ContactId,
    print: Fingerprint,
) -> Result<(), CheckpointError> {
    transaction
        .prepare_cached("INSERT OR IGNORE INTO channel (print, contact) VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute(params![stored(print), contact.0]))
        .attempt("store an address")
        .map(|_| ())
}

/// Whether another contact that the CRM still has bears the same address or external id.
pub(super) fn is_shared(connection: &Connection, id: i64, print: Fingerprint) -> Result<bool, CheckpointError> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM channel WHERE print = ?1 AND contact <> ?2)")
        .and_then(|mut query| query.query_row(params![stored(print), id], |row| row.get(0)))
        .attempt("look for contacts with one address")
}

const fn stored(print: Fingerprint) -> i64 {
    print.to_u64().cast_signed()
}
