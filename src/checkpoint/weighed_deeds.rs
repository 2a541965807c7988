//! Weighs what is to be done besides writing fields: how many opt-outs, raises, detaches, deletions and erasures are let pass.

use rusqlite::params;

use crate::contact::{Field, Fingerprint};
use crate::plan::Lane;
use crate::plan::deed::DeedKind;
use crate::plan::guard::{Doubt, Weight};

use super::consents::RAISE_AGE_MAX_MS;
use super::guard::{ACTION, Judge, Verdict, Weighed};
use super::holds::hold_item;
use super::{Attempt, CheckpointError};

/// Of a deed `d` of source `?1`: it is of the page `?3`, where there is one, or about one of the contacts `?4`.
const OF_PAGE: &str = "(?3 IS NULL OR d.cycle = (SELECT id FROM cycle WHERE source = ?1 AND began = ?3) \
                       OR d.contact IN (SELECT value FROM json_each(?4)))";

/// How many contacts something is newly to be done about.
struct Fresh {
    all: u64,
    /// Of them: gone from the CRM. Whoever is to be ended does not count as there any more, and is of those that there were.
    ended: u64,
    /// Of them: seen for the first time, in a declared first load.
    declared: u64,
}

impl Judge<'_> {
    pub(super) fn weigh_deeds(
        &self,
        kind: DeedKind,
        renames: bool,
        weighed: &mut Weighed,
    ) -> Result<(), CheckpointError> {
        let Some(verb) = kind.verb() else { return Ok(()) };
        let Fresh { all: fresh, ended, declared } = self.count_fresh(kind)?;
        if fresh == 0 {
            return Ok(());
        }
        let passed = self.count_passed(verb, None)?;
        let known = self.count_known()? + ended + if ended > 0 { passed } else { 0 };
        // an opt-out of first sight protects the person: a few are never held
        let doubt = if kind == DeedKind::Unsubscribe && ended == 0 { Doubt::None } else { Doubt::Share };
        let weight = self.doubt(verb, renames, Weight { fresh, passed, known, doubt })?;
        // those of a declared first load protect people, too, and are not counted; unless most say no, as by a mapping that is
        // the wrong way round
        if kind == DeedKind::Unsubscribe && declared == fresh && !self.guard.holds_all && !self.do_most_say_no()? {
            return self.release_deeds(kind);
        }
        let holds = self.guard.holds(verb, weight);
        weighed.verdicts.push(Verdict { verb, field: None, weight, holds });
        if !holds {
            self.note_passed(verb, None, fresh)?;
            return self.release_deeds(kind);
        }
        let (hold, is_new) = self.open_hold(verb, None, weight)?;
        if kind == DeedKind::Unsubscribe {
            weighed.held.extend(self.hold_addresses(hold.id)?);
        }
        self.transaction
            .execute(
                &format!(
                    "UPDATE deed AS d SET state = 'held', hold = ?5 \
                     WHERE source = ?1 AND kind = ?2 AND state = 'unjudged' AND {OF_PAGE}"
                ),
                params![self.source.0, kind.name(), self.page(), self.contacts(), hold.id],
            )
            .attempt(ACTION)?;
        weighed.holds.extend(is_new.then_some(hold));
        Ok(())
    }

    fn count_fresh(&self, kind: DeedKind) -> Result<Fresh, CheckpointError> {
        self.transaction
            .prepare_cached(&format!(
                "SELECT count(DISTINCT d.contact), count(DISTINCT iif(d.cause = 'gone', d.contact, NULL)), \
                 count(DISTINCT iif(d.cause = 'sight' AND c.told = 0 AND c.lane = ?5, d.contact, NULL)) \
                 FROM deed d LEFT JOIN contact c ON c.id = d.contact \
                 WHERE d.source = ?1 AND d.kind = ?2 AND d.state = 'unjudged' AND {OF_PAGE}"
            ))
            .and_then(|mut query| {
                let lane = Lane::FirstLoad.number();
                query.query_row(params![self.source.0, kind.name(), self.page(), self.contacts(), lane], |row| {
                    let count = |place| row.get::<_, i64>(place).map(i64::cast_unsigned);
                    Ok(Fresh { all: count(0)?, ended: count(1)?, declared: count(2)? })
                })
            })
            .attempt(ACTION)
    }

    /// Whether more than half of those contacts of the source whose records speak of consent say no. Looks at all of them: a
    /// first load is weighed once, at its end.
    fn do_most_say_no(&self) -> Result<bool, CheckpointError> {
        self.transaction
            .prepare_cached(
                "SELECT 2 * count(iif(s.said = 1, 1, NULL)) > count(*) FROM consent s JOIN contact c ON c.id = s.contact \
                 WHERE c.source = ?1 AND s.said <> 0",
            )
            .and_then(|mut query| query.query_row([self.source.0], |row| row.get(0)))
            .attempt(ACTION)
    }

    /// While an opt-out is held, its contact is neither made nor given the address. Those that come to the list now, not all
    /// that stand on it: it may grow for long. Returns the contacts.
    fn hold_addresses(&self, hold: i64) -> Result<Vec<i64>, CheckpointError> {
        let contacts: Vec<(i64, i64, bool)> = self
            .transaction
            .prepare_cached(&format!(
                "SELECT d.contact, d.address, c.told = 0 FROM deed d JOIN contact c ON c.id = d.contact \
                 WHERE d.source = ?1 AND d.kind = ?2 AND d.state = 'unjudged' AND d.cause = 'sight' AND {OF_PAGE}"
            ))
            .and_then(|mut query| {
                let kind = DeedKind::Unsubscribe.name();
                let of = params![self.source.0, kind, self.page(), self.contacts()];
                query.query_map(of, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
            })
            .attempt(ACTION)?;
        for (contact, address, is_new) in &contacts {
            let (contact, address, is_new) = (*contact, *address, *is_new);
            let (field, print) = if is_new {
                (None, Fingerprint::UNKNOWN)
            } else {
                (Some(Field::Email), Fingerprint::from_u64(address.cast_unsigned()))
            };
            hold_item(self.transaction, hold, contact, field, print)?;
        }
        Ok(contacts.into_iter().map(|(contact, _, _)| contact).collect())
    }

    fn release_deeds(&self, kind: DeedKind) -> Result<(), CheckpointError> {
        self.transaction
            .execute(
                &format!(
                    "UPDATE deed AS d SET state = 'due', expires_at = iif(kind = 'resubscribe', ?5, NULL) \
                     WHERE source = ?1 AND kind = ?2 AND state = 'unjudged' AND {OF_PAGE}"
                ),
                params![self.source.0, kind.name(), self.page(), self.contacts(), self.now + RAISE_AGE_MAX_MS],
            )
            .attempt(ACTION)
            .map(|_| ())
    }
}
