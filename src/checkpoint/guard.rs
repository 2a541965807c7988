//! Weighs what a read has changed, before the first call of its kind goes out: what is too much is held.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, Transaction, params};

use crate::contact::{Field, FieldPrints, Fingerprint, Fingerprinter};
use crate::plan::SourceId;
use crate::plan::change::Sides;
use crate::plan::deed::DeedKind;
use crate::plan::guard::{Doubt, Guard, Harm, Heavy, Verb, Weight, harms_of, harms_of_mapping};

use super::holds::{Hold, hold_item};
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

pub(super) const ACTION: &str = "weigh what has changed";
pub(super) const HOUR_MS: i64 = 60 * 60 * 1000;
pub(super) const HOURS_COUNTED: i64 = 24;

/// What is weighed beside fields.
const GUARDED: [DeedKind; 5] =
    [DeedKind::Unsubscribe, DeedKind::Resubscribe, DeedKind::Detach, DeedKind::Delete, DeedKind::Erase];

/// What was weighed.
#[derive(Clone, Debug, Default)]
pub struct Weighed {
    /// What is held now and was not before.
    pub holds: Vec<Hold>,
    /// Of the contacts that were read: those that it holds.
    pub held: BTreeSet<i64>,
    /// What a changed mapping made due: contacts by their due fields.
    pub by_mapping: BTreeMap<Vec<Field>, u64>,
    /// What was decided of each verb, and of the values that are held.
    pub verdicts: Vec<Verdict>,
}

/// What the guard says of one verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What.
    pub verb: Verb,
    /// For one value over one field: the field.
    pub field: Option<Field>,
    /// How much.
    pub weight: Weight,
    /// It is held.
    pub holds: bool,
}

/// What all the changed rows of a source come to.
#[derive(Default)]
struct Scales {
    contacts: BTreeMap<Verb, u64>,
    values: BTreeMap<(Field, Fingerprint), u64>,
}

impl Checkpoint {
    /// Weighs what the source has changed and nobody has weighed yet, and lets it go out or holds it.
    pub fn weigh_changes(&mut self, source: SourceId, guard: &Guard, now: i64) -> Result<Weighed, CheckpointError> {
        self.weigh(source, guard, now, &Scope::All)
    }

    /// Weighs what changed of these records alone, and what was asked for by the page that was `began` then: a read that goes
    /// on meanwhile is weighed whole, at its end.
    pub fn weigh_records(
        &mut self,
        (source, began): (SourceId, i64),
        keys: &[String],
        guard: &Guard,
        now: i64,
    ) -> Result<Weighed, CheckpointError> {
        const ACTION: &str = "look which records changed";
        let (mut rows, mut contacts) = (Vec::new(), Vec::new());
        for key in keys {
            let found: Option<(i64, bool)> = self
                .connection
                .prepare_cached("SELECT id, judged = 0 FROM contact WHERE source = ?1 AND key = ?2")
                .and_then(|mut query| {
                    query.query_row(params![source.0, key], |row| Ok((row.get(0)?, row.get(1)?))).optional()
                })
                .attempt(ACTION)?;
            contacts.extend(found.map(|(id, _)| id));
            rows.extend(found.filter(|(_, is_unjudged)| *is_unjudged).map(|(id, _)| id));
        }
        self.weigh(source, guard, now, &Scope::Some { rows, contacts, began })
    }

    fn weigh(&mut self, source: SourceId, guard: &Guard, now: i64, scope: &Scope) -> Result<Weighed, CheckpointError> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).attempt(ACTION)?;
        let is_restored: bool = transaction
            .query_row("SELECT restored FROM source WHERE id = ?1", [source.0], |row| row.get(0))
            .attempt(ACTION)?;
        let guard = Guard { holds_all: guard.holds_all || is_restored, ..guard.clone() };
        let judge = Judge { transaction: &transaction, source, guard: &guard, hash: &self.hash, now, scope };
        let mut weighed = Weighed::default();
        let renames = judge.weigh_rows(&mut weighed)?;
        for kind in GUARDED {
            judge.weigh_deeds(kind, renames, &mut weighed)?;
        }
        if matches!(scope, Scope::Some { .. }) {
            return transaction.commit().attempt(ACTION).map(|()| weighed);
        }
        // once all of it has been read, it is as any other; whom that read lacked is gone by the next one only
        transaction
            .execute("UPDATE source SET mapping_is_new = 0 WHERE id = ?1 AND full_read_wanted = 0", [source.0])
            .and_then(|_| {
                let caught_up = "UPDATE source SET restored = 0 WHERE id = ?1 AND restored = 1 AND full_read_wanted = 0 \
                                 AND NOT EXISTS (SELECT 1 FROM contact WHERE source = ?1 AND sightings = 1)";
                transaction.execute(caught_up, [source.0])
            })
            .attempt(ACTION)?;
        transaction.execute("DELETE FROM passed WHERE hour < ?1", [now / HOUR_MS - HOURS_COUNTED]).attempt(ACTION)?;
        transaction.commit().attempt(ACTION)?;
        Ok(weighed)
    }
}

/// A row with changes that have not been weighed.
struct Unjudged {
    contact: i64,
    sides: Sides,
    /// What of it has been weighed before; the contact as a whole, where there is anything.
    weighed: Option<FieldPrints>,
}

pub(super) struct Judge<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) source: SourceId,
    pub(super) guard: &'a Guard,
    pub(super) hash: &'a Fingerprinter,
    pub(super) now: i64,
    scope: &'a Scope,
}

/// What is weighed.
enum Scope {
    /// All of the source that has not been.
    All,
    /// These changed rows, what the page of this moment asked for, and what an earlier one asked for about the same contacts:
    /// the process may have died before it was weighed.
    Some { rows: Vec<i64>, contacts: Vec<i64>, began: i64 },
}

impl Scope {
    /// The page whose deeds are weighed; `None`: all.
    const fn page(&self) -> Option<i64> {
        match self {
            Self::All => None,
            Self::Some { began, .. } => Some(*began),
        }
    }

    /// The contacts whose deeds are weighed whatever page asked for them, as a list in JSON.
    fn contacts(&self) -> String {
        match self {
            Self::All => "[]".to_owned(),
            Self::Some { contacts, .. } => format!("{contacts:?}"),
        }
    }
}

impl Judge<'_> {
    /// The page whose changes alone are weighed.
    pub(super) const fn page(&self) -> Option<i64> {
        self.scope.page()
    }

    /// The contacts whose deeds are weighed whatever page asked for them, as a list in JSON.
    pub(super) fn contacts(&self) -> String {
        self.scope.contacts()
    }

    /// Says whether keys are renamed.
    fn weigh_rows(&self, weighed: &mut Weighed) -> Result<bool, CheckpointError> {
        let is_mapping_new: bool = self
            .transaction
            .query_row("SELECT mapping_is_new FROM source WHERE id = ?1", [self.source.0], |row| row.get(0))
            .attempt(ACTION)?;
        let mut scales = Scales::default();
        let mut heavy = Heavy::default();
        let mut rows = 0_u64;
        self.each_row(is_mapping_new, |_, harms| {
            rows += 1;
            scales.add(harms);
            let of_mapping = harms.iter().filter(|harm| harm.verb == Verb::Mapping);
            let due: Vec<Field> = of_mapping.filter_map(|harm| harm.field).collect();
            if !due.is_empty() {
                *weighed.by_mapping.entry(due).or_default() += 1;
            }
            for harm in harms.iter().filter(|harm| harm.verb == Verb::Overwrite) {
                if let Some(field) = harm.field {
                    heavy.add((field, harm.print));
                }
            }
            Ok(())
        })?;
        let renames = scales.contacts.contains_key(&Verb::Rename);
        if rows == 0 {
            return Ok(renames);
        }
        scales.values = heavy.candidates();
        self.each_row(is_mapping_new, |_, harms| {
            for harm in harms.iter().filter(|harm| harm.verb == Verb::Overwrite) {
                if let Some(count) = harm.field.and_then(|field| scales.values.get_mut(&(field, harm.print))) {
                    *count += 1;
                }
            }
            Ok(())
        })?;
        let held = self.decide(&scales, renames, weighed)?;
        let mut items = Vec::new();
        self.each_row(is_mapping_new, |row, harms| {
            for (hold, harm) in held.iter().flat_map(|holding| holding.items(harms)) {
                weighed.held.insert(row.contact);
                items.push((hold, row.contact, harm));
            }
            self.note_weighed(row, harms)
        })?;
        for (hold, contact, harm) in items {
            hold_item(self.transaction, hold, contact, harm.field, harm.print)?;
        }
        match self.scope {
            Scope::All => self
                .transaction
                .execute("UPDATE contact SET judged = 1 WHERE source = ?1 AND judged = 0", [self.source.0])
                .attempt(ACTION)
                .map(|_| renames),
            Scope::Some { rows, .. } => {
                for row in rows {
                    self.transaction
                        .prepare_cached("UPDATE contact SET judged = 1 WHERE id = ?1")
                        .and_then(|mut update| update.execute([row]))
                        .attempt(ACTION)?;
                }
                Ok(renames)
            }
        }
    }

    /// Which verbs, and which values, are held; what is not is noted as passed.
    fn decide(&self, scales: &Scales, renames: bool, weighed: &mut Weighed) -> Result<Vec<Holding>, CheckpointError> {
        let known = self.count_known()?;
        let mut held = Vec::new();
        for (verb, fresh) in &scales.contacts {
            if *verb == Verb::Overwrite {
                continue;
            }
            let weight = Weight { fresh: *fresh, passed: self.count_passed(*verb, None)?, known, doubt: Doubt::Share };
            let weight = self.doubt(*verb, renames, weight)?;
            let holds = self.guard.holds(*verb, weight);
            weighed.verdicts.push(Verdict { verb: *verb, field: None, weight, holds });
            if holds {
                let (hold, is_new) = self.open_hold(*verb, None, weight)?;
                held.push(Holding { hold: hold.id, verb: *verb, value: None });
                weighed.holds.extend(is_new.then_some(hold));
            } else {
                self.note_passed(*verb, None, *fresh)?;
            }
        }
        for (value, fresh) in &scales.values {
            let passed = self.count_passed(Verb::Overwrite, Some(*value))?;
            let weight = Weight { fresh: *fresh, passed, known, doubt: Doubt::None };
            if self.guard.holds(Verb::Overwrite, weight) {
                let (hold, is_new) = self.open_hold(Verb::Overwrite, Some(*value), weight)?;
                held.push(Holding { hold: hold.id, verb: Verb::Overwrite, value: Some(*value) });
                weighed.verdicts.push(Verdict { verb: Verb::Overwrite, field: Some(value.0), weight, holds: true });
                weighed.holds.extend(is_new.then_some(hold));
            } else {
                self.note_passed(Verb::Overwrite, Some(*value), *fresh)?;
            }
        }
        Ok(held)
    }

    /// Remembers what of a row has been weighed, and forgets what it does not want any more: whether it is held, passed or
    /// approved, the same change is not counted again with the next one.
    fn note_weighed(&self, row: &Unjudged, harms: &[Harm]) -> Result<(), CheckpointError> {
        if row.weighed.is_none() && harms.is_empty() {
            return Ok(());
        }
        let due = row.sides.due();
        let mut weighed = row.weighed.clone().unwrap_or_default();
        let is_wanted =
            |field: &Field| weighed.get(*field).is_some() && weighed.get(*field) == row.sides.desired.get(*field);
        let kept: Vec<Field> = due.into_iter().filter(is_wanted).collect();
        weighed.retain_fields(&kept);
        for harm in harms {
            if let Some(field) = harm.field {
                weighed.set(field, harm.print);
            }
        }
        self.transaction
            .prepare_cached("UPDATE contact SET weighed = ?2 WHERE id = ?1")
            .and_then(|mut update| update.execute(params![row.contact, weighed.encode()]))
            .attempt(ACTION)
            .map(|_| ())
    }

    /// Visits every changed row of the source with what its changes come to, beside what has been weighed before.
    fn each_row(
        &self,
        is_mapping_new: bool,
        mut visit: impl FnMut(&Unjudged, &[Harm]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        // by their rows, so that those that a read has changed and nobody has weighed need not be visited
        let (which, some) = match self.scope {
            Scope::All => ("?2 IS NULL", None),
            Scope::Some { rows, .. } => ("id IN (SELECT value FROM json_each(?2))", Some(format!("{rows:?}"))),
        };
        let mut query = self
            .transaction
            .prepare_cached(&format!(
                "SELECT id, desired, acknowledged, told = 0 OR restores = 1, weighed FROM contact \
                 WHERE source = ?1 AND judged = 0 AND acknowledged IS NOT NULL AND {which}"
            ))
            .attempt(ACTION)?;
        let mut rows = query.query(params![self.source.0, some]).attempt(ACTION)?;
        while let Some(row) = rows.next().attempt(ACTION)? {
            let prints = |blob: Vec<u8>| FieldPrints::decode(&blob).map_err(unreadable("list of prints"));
            let acknowledged = prints(row.get(2).attempt(ACTION)?)?;
            let is_new: bool = row.get(3).attempt(ACTION)?;
            let sides = Sides { desired: prints(row.get(1).attempt(ACTION)?)?, acknowledged: Some(acknowledged) };
            let mut harms = harms_of(&sides, is_new, self.hash);
            if is_mapping_new && !is_new {
                harms.extend(harms_of_mapping(&sides));
            }
            let weighed = row.get::<_, Option<Vec<u8>>>(4).attempt(ACTION)?.map(prints).transpose()?;
            if let Some(weighed) = &weighed {
                let is_news = |harm: &Harm| harm.field.is_some_and(|field| weighed.get(field) != Some(harm.print));
                harms.retain(is_news);
            }
            visit(&Unjudged { contact: row.get(0).attempt(ACTION)?, sides, weighed }, &harms)?;
        }
        Ok(())
    }
}

/// What of a row a hold holds.
struct Holding {
    hold: i64,
    verb: Verb,
    value: Option<(Field, Fingerprint)>,
}

impl Holding {
    fn items(&self, harms: &[Harm]) -> Vec<(i64, Harm)> {
        let is_held = |harm: &&Harm| {
            harm.verb == self.verb
                && self.value.is_none_or(|(field, print)| harm.field == Some(field) && harm.print == print)
        };
        harms.iter().filter(is_held).map(|harm| (self.hold, *harm)).collect()
    }
}

impl Scales {
    fn add(&mut self, harms: &[Harm]) {
        let verbs: BTreeSet<Verb> = harms.iter().map(|harm| harm.verb).collect();
        for verb in verbs {
            *self.contacts.entry(verb).or_default() += 1;
        }
    }
}
