//! What of a row may be sent, and how: the same for the look at what is due and for the intent.

use std::collections::BTreeSet;

use rusqlite::{Connection, Row, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints, Fingerprint, Fingerprinter};
use crate::plan::batch::{Flavor, Route};
use crate::plan::change::Sides;
use crate::plan::guard::is_key;
use crate::plan::upload::FileRules;
use crate::plan::{Lane, SourceId};

use super::due::WAIT_MAX;
use super::{Attempt, CheckpointError, unreadable};

/// What the operator has set about calls, as far as it decides which contacts go together.
#[derive(Clone, Debug, Default)]
pub struct SendRules {
    /// Sources whose new contacts go through the double opt-in.
    pub forms: BTreeSet<SourceId>,
    /// Contacts that were deleted in Reteno come back with what just changed.
    pub restores: bool,
    /// And with full reads.
    pub restores_in_full_reads: bool,
    /// New contacts start a workflow when they just came.
    pub fires: bool,
    /// And when a full read brought them.
    pub fires_in_full_reads: bool,
    /// First loads go as files now.
    pub files: Option<FileRules>,
    /// First loads wait.
    pub first_load_waits: bool,
}

/// The columns that [`Sendable::read`] reads, in its order, of a contact `c`.
pub(super) const COLUMNS: &str = "c.id, c.source, c.desired, c.acknowledged, c.reteno_id, c.lane, c.held, c.restores, \
                                  c.fired, c.told, c.uploaded, c.by_full_read, c.doubt, c.doubt_until";

/// What of a row may be sent.
#[derive(Debug)]
pub(super) struct Sendable {
    pub(super) sides: Sides,
    pub(super) reteno_id: Option<i64>,
    /// The fields of the next call.
    pub(super) mask: Vec<Field>,
    pub(super) flavor: Flavor,
}

impl Sendable {
    /// `None` where nothing may be sent now.
    pub(super) fn read(
        row: &Row<'_>,
        connection: &Connection,
        rules: &SendRules,
        hash: &Fingerprinter,
        now: Timestamp,
    ) -> Result<Option<Self>, CheckpointError> {
        let Some(sendable) = Self::decide(row, connection, rules, hash, now)? else { return Ok(None) };
        Ok((!sendable.is_gagged(connection)?).then_some(sendable))
    }

    /// Whether its address is written only after Reteno knows that it wants no e-mail.
    pub(super) fn is_gagged(&self, connection: &Connection) -> Result<bool, CheckpointError> {
        let address = self.sides.desired.get(Field::Email).filter(|_| self.mask.contains(&Field::Email));
        address.map_or(Ok(false), |address| is_gagged(connection, address))
    }

    /// The same, whatever its address waits for.
    pub(super) fn decide(
        row: &Row<'_>,
        connection: &Connection,
        rules: &SendRules,
        hash: &Fingerprinter,
        now: Timestamp,
    ) -> Result<Option<Self>, CheckpointError> {
        const ACTION: &str = "read a contact that is due";
        let prints = |place| -> Result<FieldPrints, CheckpointError> {
            let blob: Vec<u8> = row.get(place).attempt(ACTION)?;
            FieldPrints::decode(&blob).map_err(unreadable("list of prints"))
        };
        let sides = Sides { desired: prints(2)?, acknowledged: Some(prints(3)?) };
        let (id, held): (i64, i64) = (row.get(0).attempt(ACTION)?, row.get(6).attempt(ACTION)?);
        let mut due = sides.due();
        if held > 0 && !drop_held(connection, id, &sides, &mut due)? {
            return Ok(None);
        }
        if row
            .get::<_, Option<i64>>(13)
            .attempt(ACTION)?
            .is_some_and(|until| until > now.0 && until <= now.plus(WAIT_MAX).0)
        {
            let doubt = prints(12)?;
            due.retain(|field| doubt.get(*field).is_none_or(|print| sides.desired.get(*field) != Some(print)));
        }
        if due.is_empty() {
            return Ok(None);
        }
        let was_uploaded: bool = row.get(10).attempt(ACTION)?;
        let source = SourceId(row.get(1).attempt(ACTION)?);
        let traits = Traits {
            source,
            is_free: held == 0 && !was_uploaded,
            reteno_id: row.get(4).attempt(ACTION)?,
            lane: Lane::from_number(row.get(5).attempt(ACTION)?),
            restores: row.get(7).attempt(ACTION)?,
            has_fired: row.get(8).attempt(ACTION)?,
            is_told: row.get(9).attempt(ACTION)?,
            is_full: row.get(11).attempt(ACTION)?,
        };
        // a double opt-in is never sent twice
        let is_over = rules.forms.contains(&source) && traits.has_fired;
        Ok((!is_over).then(|| traits.decide(sides, &due, rules, hash)))
    }
}

struct Traits {
    source: SourceId,
    /// Nothing of it is held, it wants e-mails as far as is known, and no file carried it.
    is_free: bool,
    reteno_id: Option<i64>,
    lane: Lane,
    restores: bool,
    has_fired: bool,
    is_told: bool,
    /// A first load or a reconcile brought what is due, whatever lane it is in by now.
    is_full: bool,
}

impl Traits {
    fn decide(&self, sides: Sides, due: &[Field], rules: &SendRules, hash: &Fingerprinter) -> Sendable {
        let reteno_id = self.reteno_id;
        if rules.forms.contains(&self.source) {
            let flavor = Flavor { route: Route::Form, ..Flavor::default() };
            return Sendable { mask: due.to_vec(), sides, reteno_id, flavor };
        }
        let mask: Vec<Field> = due.iter().copied().filter(|field| field.is_bulk()).collect();
        if mask.is_empty() {
            let flavor = Flavor { route: Route::Categories, ..Flavor::default() };
            return Sendable { mask: due.to_vec(), sides, reteno_id, flavor };
        }
        let is_full = self.is_full;
        let known = sides.acknowledged.as_ref();
        let has_other_id = known.is_some_and(|known| known.get(Field::ExternalCustomerId).is_some());
        let membership = |field: Field| {
            let is_in = sides.desired.get(field).is_some_and(|print| !hash.is_clear(field, print));
            (field, is_in)
        };
        let is_new = !self.is_told && !self.restores;
        let fires = is_new && !self.has_fired && if is_full { rules.fires_in_full_reads } else { rules.fires };
        let is_filled = |field: &Field| {
            field.is_segment() || sides.desired.get(*field).is_some_and(|print| !hash.is_clear(*field, print))
        };
        // an uncertain answer would list all that are in a file: who starts a workflow goes by bulk
        let goes_as_file = (self.is_free && is_new && !fires && self.lane == Lane::FirstLoad)
            && rules.files.as_ref().is_some_and(|files| files.fits(self.source, &mask))
            && mask.iter().all(is_filled);
        let flavor = Flavor {
            route: if goes_as_file { Route::Upload } else { Route::Fields },
            segments: mask.iter().copied().filter(|field| field.is_segment()).map(membership).collect(),
            restores: self.restores || if is_full { rules.restores_in_full_reads } else { rules.restores },
            renames: mask.contains(&Field::ExternalCustomerId) && (reteno_id.is_some() || has_other_id)
                || moves_address(&sides, &mask, reteno_id, hash),
            fires,
        };
        Sendable { sides, reteno_id, mask, flavor }
    }
}

/// Whether a contact without an external id gets another address: Reteno would not find it by that, and make a second one. Where
/// Reteno's id is not known, another address of it that stays the same finds it.
fn moves_address(sides: &Sides, mask: &[Field], reteno_id: Option<i64>, hash: &Fingerprinter) -> bool {
    if sides.desired.get(Field::ExternalCustomerId).is_some_and(|id| !hash.is_clear(Field::ExternalCustomerId, id)) {
        return false;
    }
    let known = |field: Field| {
        let print = sides.acknowledged.as_ref().and_then(|known| known.get(field));
        print.filter(|print| !hash.is_clear(field, *print))
    };
    let moves = |field: &Field| mask.contains(field) && known(*field).is_some();
    let stays = |field: &Field| known(*field).is_some() && known(*field) == sides.desired.get(*field);
    let addresses = [Field::Email, Field::Sms];
    addresses.iter().any(moves) && (reteno_id.is_some() || !addresses.iter().any(stays))
}

/// Whoever wants no mail is unsubscribed before Reteno is told the address, also as another contact's.
pub(super) fn is_gagged(connection: &Connection, address: Fingerprint) -> Result<bool, CheckpointError> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM consent WHERE address = ?1 AND said = 1 AND lowered_at IS NULL)")
        .and_then(|mut query| query.query_row([address.to_u64().cast_signed()], |row| row.get(0)))
        .attempt("look who wants no mail")
}

/// Leaves out what is held; false where the contact as a whole is, or the key by which Reteno finds it.
fn drop_held(connection: &Connection, id: i64, sides: &Sides, due: &mut Vec<Field>) -> Result<bool, CheckpointError> {
    let items: Vec<(i64, i64)> = connection
        .prepare_cached("SELECT field, print FROM held WHERE contact = ?1")
        .and_then(|mut query| query.query_map(params![id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .attempt("read what is held of a contact")?;
    for (code, print) in items {
        let Some(field) = u32::try_from(code).ok().filter(|code| *code > 0).and_then(Field::from_code) else {
            return Ok(false);
        };
        let print = Fingerprint::from_u64(print.cast_unsigned());
        if sides.desired.get(field) != Some(print) {
            continue;
        }
        // a call names its contact by the key: with the one that is held Reteno would make another contact
        if is_key(sides, field) {
            return Ok(false);
        }
        due.retain(|other| *other != field);
    }
    Ok(true)
}
