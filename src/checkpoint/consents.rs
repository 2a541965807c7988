//! What a record says of consent, and the deeds that follow; and what may be taken back.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Consent, Contact, Field, FieldPrints, Fingerprint, Values, Wanted};
use crate::plan::SourceId;
use crate::plan::change::{Observation, Sides};
use crate::plan::consent::{ConsentAct, ConsentState, consent_after};
use crate::plan::deed::{DeedCause, DeedKind};
use crate::plan::guard::Verb;

use super::deeds::{NewDeed, drop_idle_deeds, store_deed};
use super::holds::{free_contact, free_contacts};
use super::incoming::PageMode;
use super::pages::Page;
use super::renewal::remember_told;
use super::rows::Row;
use super::{Attempt, Checkpoint, CheckpointError};

/// What sealed identities are bound to.
pub(super) const IDENTITY: &str = "identity of a contact";
/// The fields that a deed may need once the values are gone.
const IDENTITY_FIELDS: [Field; 3] = [Field::ExternalCustomerId, Field::Email, Field::Sms];
/// A raise that Reteno has not confirmed after so long is dropped: what was witnessed is no longer news then.
pub(super) const RAISE_AGE_MAX_MS: i64 = 60 * 60 * 1000;

impl Page<'_> {
    /// Seals who the contact is, where a deed may need it later.
    pub(super) fn keep_identity(&self, id: i64, contact: &Contact, row: Option<&Row>) -> Result<(), CheckpointError> {
        if !self.context.policy.keeps_identity() {
            return Ok(());
        }
        let told: Vec<_> =
            contact.fields.iter().filter(|(field, _)| IDENTITY_FIELDS.contains(field)).cloned().collect();
        if told.is_empty() {
            return Ok(());
        }
        if let Some(row) = row.filter(|row| row.has_identity) {
            let is_same = |(field, wanted): &(Field, Wanted)| {
                let print = self.hash.field(*field, wanted);
                row.known.sides.desired.get(*field).map_or(matches!(wanted, Wanted::Clear), |known| known == print)
            };
            if told.iter().all(is_same) {
                return Ok(());
            }
            let email = told.iter().find(|(field, _)| *field == Field::Email);
            if let Some((field, wanted)) = email {
                let address = self.hash.field(*field, wanted).to_u64().cast_signed();
                remember_told(self.transaction, "s.contact = ?1 AND s.address <> ?2", [id, address])?;
            }
        } else if let Some(row) = row {
            // a part would pass for the whole: what the record does not speak of comes with a full read
            let is_told = |field: &Field| told.iter().any(|(other, _)| other == field);
            let is_wanted = |field: &Field| row.known.sides.desired.get(*field).is_some();
            if IDENTITY_FIELDS.iter().any(|field| is_wanted(field) && !is_told(field)) {
                return Ok(());
            }
            self.statement("UPDATE deed SET not_before = 0 WHERE contact = ?1 AND identity IS NULL")?
                .execute([id])
                .attempt("store who a contact is")?;
        }
        let mut identity = self.load_identity(id)?.unwrap_or_default();
        identity.merge(Values::from(told));
        let sealed = self.sealer.seal(IDENTITY, &identity.encode(), self.random)?;
        self.statement("UPDATE contact SET identity = ?2 WHERE id = ?1")?
            .execute(params![id, sealed])
            .attempt("store who a contact is")
            .map(|_| ())
    }

    fn load_identity(&self, id: i64) -> Result<Option<Values>, CheckpointError> {
        let sealed: Option<Vec<u8>> = self
            .statement("SELECT identity FROM contact WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .attempt("read who a contact is")?;
        let Some(sealed) = sealed else { return Ok(None) };
        let plain = self.sealer.unseal(IDENTITY, &sealed)?;
        Values::decode(&plain).map(Some).map_err(super::unreadable("identity"))
    }

    /// Follows what a record says of consent.
    pub(super) fn record_consent(
        &mut self,
        id: i64,
        contact: &Contact,
        desired: &FieldPrints,
    ) -> Result<(), CheckpointError> {
        if !self.context.policy.has_consent {
            return Ok(());
        }
        let address = desired.get(Field::Email).filter(|print| !self.hash.is_clear(Field::Email, *print));
        let known = self.load_consent(id)?;
        let Some(address) = address else { return self.forget_consent(id, known.is_some()) };
        if contact.consent.is_none() {
            // what was told stays so
            remember_told(self.transaction, "s.contact = ?1", [id])?;
        }
        let (mut next, act) =
            consent_after(known.as_ref(), contact.consent, address, self.context.policy.forgets_consent);
        if self.context.mode == PageMode::Baseline {
            // what the CRM says is taken as what Reteno holds
            next.is_lowered = next.said == Some(Consent::No);
        }
        if known != Some(next) {
            self.store_consent(id, next)?;
        }
        if self.context.mode == PageMode::Baseline {
            return Ok(());
        }
        let deed = |kind, cause| NewDeed {
            contact: id,
            key: &contact.key,
            source: self.context.source,
            kind,
            cause,
            address,
            segment: 0,
            cycle: self.context.began,
            expires_at: (kind == DeedKind::Resubscribe).then(|| self.context.now + RAISE_AGE_MAX_MS),
        };
        match act {
            ConsentAct::None => Ok(()),
            ConsentAct::Lower { is_witnessed } => {
                drop_idle_deeds(self.transaction, id, DeedKind::Resubscribe, None)?;
                let cause = if is_witnessed { DeedCause::Witnessed } else { DeedCause::Sight };
                store_deed(self.transaction, &deed(DeedKind::Unsubscribe, cause))?;
                // one that was held is not any more
                if is_witnessed { free_contact(self.transaction, id) } else { Ok(()) }
            }
            ConsentAct::Raise => {
                drop_idle_deeds(self.transaction, id, DeedKind::Unsubscribe, Some(address))?;
                self.statement("DELETE FROM told WHERE contact = ?1 AND address = ?2")?
                    .execute([id, address.to_u64().cast_signed()])
                    .attempt("take back what was to be done")?;
                store_deed(self.transaction, &deed(DeedKind::Resubscribe, DeedCause::Witnessed))
            }
            ConsentAct::Withdraw => {
                let is_under_way = drop_idle_deeds(self.transaction, id, DeedKind::Unsubscribe, Some(address))?;
                // it went out before our eyes, so its end is as well witnessed
                if is_under_way {
                    return store_deed(self.transaction, &deed(DeedKind::Resubscribe, DeedCause::Witnessed));
                }
                Ok(())
            }
        }
    }

    /// Counts what a record would do to its contact's consent.
    pub(super) fn preview_consent(
        &mut self,
        contact: &Contact,
        observation: &Observation,
        (moved, row): (Option<&Sides>, Option<&Row>),
    ) -> Result<(), CheckpointError> {
        let policy = &self.context.policy;
        if !policy.has_consent || observation.is_void {
            return Ok(());
        }
        let desired = moved.or(row.map(|row| &row.known.sides)).map(|sides| &sides.desired);
        let address = desired.and_then(|desired| desired.get(Field::Email));
        let Some(address) = address.filter(|print| !self.hash.is_clear(Field::Email, *print)) else { return Ok(()) };
        let known = row.map(|row| self.load_consent(row.id)).transpose()?.flatten();
        let (_, act) = consent_after(known.as_ref(), contact.consent, address, policy.forgets_consent);
        let preview = &mut self.outcome.preview;
        match act {
            ConsentAct::None | ConsentAct::Withdraw => {}
            ConsentAct::Lower { is_witnessed: true } => preview.opt_outs += 1,
            ConsentAct::Lower { is_witnessed: false } => *preview.by_verb.entry(Verb::Unsubscribe).or_default() += 1,
            ConsentAct::Raise => preview.raises += 1,
        }
        Ok(())
    }

    pub(super) fn load_consent(&self, id: i64) -> Result<Option<ConsentState>, CheckpointError> {
        self.statement("SELECT said, address, lowered_at IS NOT NULL FROM consent WHERE contact = ?1")?
            .query_row([id], |row| {
                Ok(ConsentState {
                    said: said_of(row.get(0)?),
                    address: Fingerprint::from_u64(row.get::<_, i64>(1)?.cast_unsigned()),
                    is_lowered: row.get(2)?,
                })
            })
            .optional()
            .attempt("read a consent")
    }

    /// Without an address nothing is said of any.
    fn forget_consent(&self, id: i64, is_known: bool) -> Result<(), CheckpointError> {
        if is_known {
            self.statement("DELETE FROM consent WHERE contact = ?1")?.execute([id]).attempt("store a consent")?;
        }
        Ok(())
    }

    fn store_consent(&self, id: i64, state: ConsentState) -> Result<(), CheckpointError> {
        let said = match state.said {
            None => 0,
            Some(Consent::No) => 1,
            Some(Consent::Yes) => 2,
        };
        self.statement(
            "INSERT INTO consent (contact, said, address, lowered_at) VALUES (?1, ?2, ?3, iif(?4, ?5, NULL)) \
             ON CONFLICT (contact) DO UPDATE SET said = excluded.said, address = excluded.address, \
             lowered_at = iif(?4, coalesce(lowered_at, ?5), NULL)",
        )?
        .execute(params![id, said, state.address.to_u64().cast_signed(), state.is_lowered, self.context.now])
        .attempt("store a consent")
        .map(|_| ())
    }
}

const fn said_of(number: i64) -> Option<Consent> {
    match number {
        1 => Some(Consent::No),
        2 => Some(Consent::Yes),
        _ => None,
    }
}

/// A read that asked for opt-outs.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ConsentCycle {
    /// Its number.
    pub id: i64,
    /// The source's name.
    pub source: String,
    /// When it began.
    pub began: Timestamp,
    /// Opt-outs that were carried out because of it and can be taken back.
    pub opt_outs: u64,
}

impl Checkpoint {
    /// Notes how a source's records speak of consent. Where that is another way than before, all that they said is
    /// forgotten: everything is seen for the first time again, and what the old way asked for and nobody has sent is off.
    pub fn note_consent_mapping(&mut self, source: SourceId, mapping: Option<u64>) -> Result<(), CheckpointError> {
        const ACTION: &str = "store how a source speaks of consent";
        let wanted = mapping.map(u64::cast_signed);
        let known: Option<i64> = self
            .connection
            .query_row("SELECT consent_mapping FROM source WHERE id = ?1", [source.0], |row| row.get(0))
            .attempt(ACTION)?;
        if known == wanted {
            return Ok(());
        }
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        remember_told(&transaction, "c.source = ?1", [source.0])?;
        transaction
            .execute("UPDATE source SET consent_mapping = ?2 WHERE id = ?1", params![source.0, wanted])
            .and_then(|_| {
                // one that got no answer is not repeated
                transaction.execute(
                    "UPDATE deed SET expires_at = 0 WHERE source = ?1 AND kind = 'resubscribe' AND import IS NOT NULL",
                    [source.0],
                )
            })
            .and_then(|_| {
                transaction.execute(
                    "DELETE FROM consent WHERE contact IN (SELECT id FROM contact WHERE source = ?1)",
                    [source.0],
                )
            })
            .and_then(|_| {
                transaction.execute(
                    "DELETE FROM deed WHERE source = ?1 AND import IS NULL AND cause IN ('sight', 'witnessed') \
                     AND (kind = 'resubscribe' OR kind = 'unsubscribe' AND state <> 'due')",
                    [source.0],
                )
            })
            .attempt(ACTION)?;
        free_contacts(&transaction)?;
        transaction.commit().attempt(ACTION)
    }

    /// The reads whose opt-outs can be taken back, latest first.
    pub fn load_consent_cycles(&self) -> Result<Vec<ConsentCycle>, CheckpointError> {
        const ACTION: &str = "read opt-outs";
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT c.id, s.name, c.began, count(*) FROM opt_out o JOIN cycle c ON c.id = o.cycle \
                 JOIN source s ON s.id = c.source GROUP BY c.id ORDER BY c.id DESC",
            )
            .attempt(ACTION)?;
        let rows = query.query_map([], |row| {
            Ok(ConsentCycle {
                id: row.get(0)?,
                source: row.get(1)?,
                began: Timestamp(row.get(2)?),
                opt_outs: row.get::<_, i64>(3)?.cast_unsigned(),
            })
        });
        rows.and_then(Iterator::collect).attempt(ACTION)
    }

    /// Takes back the opt-outs of one read: those of addresses that nobody says no of, that no other read has asked to opt
    /// out, and that their contact still has. Gives back how many are raised, and how many are left as they are. One that is
    /// not confirmed within an hour can be taken back again. Who had opted out in Reteno by himself before that read is
    /// raised too: this program cannot see it.
    pub fn undo_opt_outs(&mut self, cycle: i64, now: Timestamp) -> Result<(u64, u64), CheckpointError> {
        const ACTION: &str = "take opt-outs back";
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let rows: Vec<(i64, i64)> = transaction
            .prepare_cached("SELECT contact, address FROM opt_out WHERE cycle = ?1")
            .and_then(|mut query| query.query_map([cycle], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .attempt(ACTION)?;
        let mut raised = 0;
        for (contact, address) in &rows {
            if !may_be_undone(&transaction, (*contact, *address), cycle)? {
                continue;
            }
            transaction
                .execute("DELETE FROM told WHERE address = ?1", [address])
                .and_then(|_| {
                    transaction
                        .prepare_cached(
                            "INSERT INTO deed (source, contact, key, kind, cause, address, identity, reteno_id, state, \
                             cycle, expires_at) \
                             SELECT source, id, key, 'resubscribe', 'witnessed', ?2, identity, reteno_id, 'due', ?3, ?4 \
                             FROM contact WHERE id = ?1 AND identity IS NOT NULL \
                             ON CONFLICT (contact, kind, address, segment) DO UPDATE SET expires_at = excluded.expires_at",
                        )?
                        .execute(params![contact, address, cycle, now.0 + RAISE_AGE_MAX_MS])
                })
                .map(|stored| raised += stored as u64)
                .attempt(ACTION)?;
        }
        transaction.commit().attempt(ACTION)?;
        Ok((raised, rows.len() as u64 - raised))
    }
}

/// Nobody else, and no later read, wants no mail to the address, none is about to be told, and the contact still has it.
fn may_be_undone(
    transaction: &Transaction<'_>,
    (contact, address): (i64, i64),
    cycle: i64,
) -> Result<bool, CheckpointError> {
    const ACTION: &str = "look whether an opt-out can be taken back";
    let desired: Option<Vec<u8>> = transaction
        .prepare_cached(
            "SELECT desired FROM contact WHERE id = ?1 \
             AND NOT EXISTS (SELECT 1 FROM consent WHERE address = ?2 AND said = 1) \
             AND NOT EXISTS (SELECT 1 FROM opt_out WHERE address = ?2 AND cycle <> ?3) \
             AND NOT EXISTS (SELECT 1 FROM deed WHERE address = ?2 AND kind = 'unsubscribe')",
        )
        .and_then(|mut query| query.query_row(params![contact, address, cycle], |row| row.get(0)).optional())
        .attempt(ACTION)?;
    let Some(desired) = desired else { return Ok(false) };
    let desired = FieldPrints::decode(&desired).map_err(super::unreadable("list of prints"))?;
    Ok(desired.get(Field::Email) == Some(Fingerprint::from_u64(address.cast_unsigned())))
}
