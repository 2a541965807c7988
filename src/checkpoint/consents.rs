//! What a record says of consent, and the deeds that follow.

use rusqlite::{OptionalExtension, params};

use crate::contact::{Consent, Contact, Field, FieldPrints, Fingerprint, Values, Wanted};
use crate::plan::SourceId;
use crate::plan::consent::{ConsentAct, ConsentState, consent_after, left_address};
use crate::plan::deed::{DeedCause, DeedKind};

use super::deeds::{NewDeed, drop_idle_deeds, store_deed};
use super::holds::{free_contact, free_contacts};
use super::incoming::PageMode;
use super::pages::Page;
use super::renewal::{keep_told, remember_told};
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

    /// What the contact's record last said; nothing where records of the source do not speak of consent.
    pub(super) fn load_heard(&self, id: i64) -> Result<Heard, CheckpointError> {
        if self.context.policy.has_consent { self.load_consent(id) } else { Ok(Heard::default()) }
    }

    /// A record says no for the first time, and brings another address than before, or none: the old one gets no more mail
    /// either. To be called while who the contact was still stands.
    pub(super) fn leave_address(
        &self,
        (id, contact): (i64, &Contact),
        heard: &Heard,
        desired: &FieldPrints,
    ) -> Result<(), CheckpointError> {
        if self.context.mode == PageMode::Baseline {
            return Ok(());
        }
        let (known, said) = (heard.state.as_ref(), contact.consent);
        let left = left_address(known, said, self.address_of(desired), self.context.policy.forgets_consent);
        let Some(address) = left else { return Ok(()) };
        drop_idle_deeds(self.transaction, id, DeedKind::Resubscribe, None)?;
        store_deed(
            self.transaction,
            &self.consent_deed((id, &contact.key), (DeedKind::Unsubscribe, DeedCause::Witnessed), address, heard),
        )?;
        keep_told(self.transaction, id, address)?;
        free_contact(self.transaction, id)
    }

    pub(super) fn address_of(&self, desired: &FieldPrints) -> Option<Fingerprint> {
        desired.get(Field::Email).filter(|print| !self.hash.is_clear(Field::Email, *print))
    }

    fn consent_deed<'a>(
        &self,
        (contact, key): (i64, &'a str),
        (kind, cause): (DeedKind, DeedCause),
        address: Fingerprint,
        heard: &Heard,
    ) -> NewDeed<'a> {
        NewDeed {
            contact,
            key,
            source: self.context.source,
            kind,
            cause,
            address,
            segment: 0,
            cycle: self.context.began,
            said_before: heard.before(address),
        }
    }

    /// Follows what a record says of consent.
    pub(super) fn record_consent(
        &mut self,
        (id, key): (i64, &str),
        said: Option<Consent>,
        heard: &Heard,
        desired: &FieldPrints,
    ) -> Result<ConsentAct, CheckpointError> {
        if !self.context.policy.has_consent {
            return Ok(ConsentAct::None);
        }
        let known = heard.state;
        let Some(address) = self.address_of(desired) else {
            return self.forget_consent(id, known.is_some()).map(|()| ConsentAct::None);
        };
        if said.is_none() {
            // what was told stays so
            remember_told(self.transaction, "s.contact = ?1", [id])?;
        }
        let (mut next, act) = consent_after(known.as_ref(), said, address, self.context.policy.forgets_consent);
        if self.context.mode == PageMode::Baseline {
            // what the CRM says is taken as what Reteno holds
            next.is_lowered = next.said == Some(Consent::No);
        }
        if known != Some(next) {
            self.store_consent(id, next)?;
        }
        if self.context.mode == PageMode::Baseline {
            return Ok(ConsentAct::None);
        }
        let deed = |kind, cause| self.consent_deed((id, key), (kind, cause), address, heard);
        match act {
            ConsentAct::None => {}
            ConsentAct::Lower { is_witnessed } => {
                drop_idle_deeds(self.transaction, id, DeedKind::Resubscribe, None)?;
                let cause = if is_witnessed { DeedCause::Witnessed } else { DeedCause::Sight };
                store_deed(self.transaction, &deed(DeedKind::Unsubscribe, cause))?;
                // one that was held is not any more
                if is_witnessed {
                    free_contact(self.transaction, id)?;
                }
            }
            ConsentAct::Raise => {
                drop_idle_deeds(self.transaction, id, DeedKind::Unsubscribe, Some(address))?;
                self.statement("DELETE FROM told WHERE contact = ?1 AND address = ?2")?
                    .execute([id, address.to_u64().cast_signed()])
                    .attempt("take back what was to be done")?;
                store_deed(self.transaction, &deed(DeedKind::Resubscribe, DeedCause::Witnessed))?;
            }
            ConsentAct::Withdraw => {
                let is_under_way = drop_idle_deeds(self.transaction, id, DeedKind::Unsubscribe, Some(address))?;
                // it went out before our eyes, so its end is as well witnessed
                if is_under_way {
                    store_deed(self.transaction, &deed(DeedKind::Resubscribe, DeedCause::Witnessed))?;
                }
            }
        }
        Ok(act)
    }

    pub(super) fn load_consent(&self, id: i64) -> Result<Heard, CheckpointError> {
        let heard = self
            .statement(
                "SELECT said, address, lowered_at IS NOT NULL, is_forgotten, said_before FROM consent WHERE contact = ?1",
            )?
            .query_row([id], |row| {
                let address = Fingerprint::from_u64(row.get::<_, i64>(1)?.cast_unsigned());
                if row.get(3)? {
                    let remembered = said_of(row.get(4)?).map(|said| (said, address));
                    return Ok(Heard { state: None, remembered });
                }
                let state = ConsentState { said: said_of(row.get(0)?), address, is_lowered: row.get(2)? };
                Ok(Heard { state: Some(state), remembered: None })
            })
            .optional()
            .attempt("read a consent")?;
        Ok(heard.unwrap_or_default())
    }

    /// Without an address nothing is said of any.
    fn forget_consent(&self, id: i64, is_known: bool) -> Result<(), CheckpointError> {
        if is_known {
            self.statement("DELETE FROM consent WHERE contact = ?1")?.execute([id]).attempt("store a consent")?;
        }
        Ok(())
    }

    fn store_consent(&self, id: i64, state: ConsentState) -> Result<(), CheckpointError> {
        self.statement(
            "INSERT INTO consent (contact, said, address, lowered_at) VALUES (?1, ?2, ?3, iif(?4, ?5, NULL)) \
             ON CONFLICT (contact) DO UPDATE SET \
             said_before = iif(is_forgotten = 1 OR said = excluded.said, said_before, said), is_forgotten = 0, \
             said = excluded.said, address = excluded.address, lowered_at = iif(?4, coalesce(lowered_at, ?5), NULL)",
        )?
        .execute(params![
            id,
            number_of(state.said),
            state.address.to_u64().cast_signed(),
            state.is_lowered,
            self.context.now
        ])
        .attempt("store a consent")
        .map(|_| ())
    }
}

/// What a contact's record last said of consent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// What counts of it; `None`: the next word is heard for the first time.
    pub(super) state: Option<ConsentState>,
    /// What it said, and of which address, while records of the source spoke of consent in another way.
    remembered: Option<(Consent, Fingerprint)>,
}

impl Heard {
    /// What it said before its next word, which is of this address.
    fn before(&self, address: Fingerprint) -> Option<Consent> {
        let remembered = || self.remembered.filter(|(_, of)| *of == address).map(|(said, _)| said);
        self.state.map_or_else(remembered, |state| state.said)
    }
}

pub(super) const fn number_of(said: Option<Consent>) -> i64 {
    match said {
        None => 0,
        Some(Consent::No) => 1,
        Some(Consent::Yes) => 2,
    }
}

pub(super) const fn said_of(number: i64) -> Option<Consent> {
    match number {
        1 => Some(Consent::No),
        2 => Some(Consent::Yes),
        _ => None,
    }
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
                // what was said stays known to those who take opt-outs back; a no that Reteno was never to be told of is none
                transaction.execute(
                    "UPDATE consent SET said_before = CASE WHEN is_forgotten = 1 OR said = 1 AND lowered_at IS NULL \
                       AND NOT EXISTS (SELECT 1 FROM deed d WHERE d.contact = consent.contact \
                         AND d.kind = 'unsubscribe' AND d.state = 'due') THEN said_before ELSE said END, \
                     said = 0, lowered_at = NULL, is_forgotten = 1 \
                     WHERE contact IN (SELECT id FROM contact WHERE source = ?1)",
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
}
