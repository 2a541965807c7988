//! How one contact's row moves: what the CRM wants (desired) and what Reteno is known to hold (acknowledged).
//!
//! Records move only `desired`, answers move only `acknowledged`; what differs is due. A field that `acknowledged` does
//! not list is unknown, and unknown differs from everything.

use crate::contact::{Field, FieldPrints, Fingerprint, Fingerprinter, Wanted};

use super::balance::Seen;

/// The two sides of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// Prints of what the CRM wants.
    pub desired: FieldPrints,
    /// Prints of what Reteno is known to hold; `None` where that is exactly what is desired.
    pub acknowledged: Option<FieldPrints>,
}

impl Sides {
    /// The fields to be written: desired, and not known to be held.
    #[must_use]
    pub fn due(&self) -> Vec<Field> {
        let Some(acknowledged) = &self.acknowledged else { return Vec::new() };
        self.desired.iter().filter(|(field, print)| acknowledged.get(*field) != Some(*print)).map(|(f, _)| f).collect()
    }

    /// What Reteno is known to hold, written out.
    #[must_use]
    pub fn known(&self) -> FieldPrints {
        self.acknowledged.clone().unwrap_or_else(|| self.desired.clone())
    }

    /// The same level with other knowledge, in its shortest form.
    #[must_use]
    pub fn with_known(&self, known: FieldPrints) -> Self {
        let settled = self.desired.iter().all(|(field, print)| known.get(field) == Some(print));
        Self { desired: self.desired.clone(), acknowledged: (!settled).then_some(known) }
    }

    /// The moment an import takes `fields`: nobody knows what Reteno holds of them until it has ended.
    #[must_use]
    pub fn submitted(&self, fields: &[Field]) -> Self {
        let mut known = self.known();
        for field in fields {
            known.remove(*field);
        }
        Self { desired: self.desired.clone(), acknowledged: Some(known) }
    }

    /// The import that carried `carried` has been applied. `doubtful` fields stay unknown: an older copy of another
    /// value may still land on them.
    #[must_use]
    pub fn applied(&self, carried: &FieldPrints, doubtful: &[Field]) -> Self {
        let mut known = self.known();
        for (field, print) in carried.iter() {
            if doubtful.contains(&field) {
                known.remove(field);
            } else {
                known.set(field, print);
            }
        }
        self.with_known(known)
    }

    /// The import certainly wrote nothing: what was known of the fields it `carried` is known again.
    #[must_use]
    pub fn refused(&self, carried: &FieldPrints, prior: &FieldPrints) -> Self {
        let mut known = self.known();
        for (field, _) in carried.iter() {
            match prior.get(field) {
                Some(print) => known.set(field, print),
                None => known.remove(field),
            }
        }
        self.with_known(known)
    }
}

/// When a record was asked for and what the CRM says of its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadStamp {
    /// The moment its read was asked for, milliseconds.
    pub asked_at: i64,
    /// The CRM's change time, where it has one.
    pub changed_at: Option<i64>,
}

/// What is known of a row when a record of it comes.
#[derive(Clone, Debug)]
pub struct Known {
    /// The two sides.
    pub sides: Sides,
    /// The stamp of the record last believed.
    pub stamp: ReadStamp,
    /// Reteno refused it and it has not changed since.
    pub is_rejected: bool,
    /// Its values are not at hand.
    pub is_starved: bool,
    /// This cycle has already seen it.
    pub is_repeated: bool,
    /// When a read began that showed the contact with a lower change time than the one believed, though it was asked for
    /// later.
    pub older_since: Option<i64>,
}

/// What a second record with one id means in one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twins {
    /// Its news: a tap may give a row again when it changed meanwhile.
    Later,
    /// A mistake in a snapshot, such as a file: the first counts, or the two would alternate for ever.
    Mistake,
}

/// By which way a record came, as far as it tells how old the record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// A read of the source, or a fetch of the record by its id, that began then.
    Asked {
        /// Milliseconds.
        began: i64,
    },
    /// The CRM sent it by itself, maybe not for the first time.
    Pushed,
}

/// What a record does to its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// For the balance.
    pub seen: Seen,
    /// The row's new level; `None`: it stays as it is.
    pub moved: Option<Sides>,
    /// The waiting values are to be replaced by this record's.
    pub takes_values: bool,
    /// It says nothing that counts: an older record than the one believed, or the second of a snapshot with this id.
    pub is_void: bool,
    /// It lost by the order of reads alone, or by a change time that contradicts that order, and differs: the record has to be
    /// read again.
    pub is_doubtful: bool,
    /// Its change time is lower than the one believed, though it was asked for later: the next such record counts.
    pub notes_older: bool,
}

impl Observation {
    const fn still(seen: Seen) -> Self {
        Self { seen, moved: None, takes_values: false, is_void: false, is_doubtful: false, notes_older: false }
    }

    fn void(seen: Seen) -> Self {
        Self { is_void: true, ..Self::still(seen) }
    }
}

/// What a record wants with the `fields` of it that count, seen from a row that wanted `before`: a field it does not
/// speak of stays as it was, a field that is no longer `mapped` goes.
#[must_use]
pub fn desired_after(
    before: &FieldPrints,
    fields: &[(Field, Wanted)],
    mapped: &[Field],
    hash: &Fingerprinter,
) -> FieldPrints {
    let mut next = before.clone();
    next.retain_fields(mapped);
    for (field, wanted) in fields {
        next.set(*field, hash.field(*field, wanted));
    }
    next
}

/// Decides what a record that wants `next` does to the row `known`.
#[must_use]
pub fn observe(known: Option<&Known>, next: FieldPrints, stamp: ReadStamp, twins: Twins, path: Path) -> Observation {
    let Some(known) = known else {
        let sides = Sides { desired: next, acknowledged: Some(FieldPrints::default()) };
        return Observation { moved: Some(sides), takes_values: true, ..Observation::still(Seen::Changed) };
    };
    let is_same = known.sides.desired == next;
    let age = age_of(known, stamp, path);
    if age != Age::Newer {
        let seen = if is_same { unmoved(known) } else { Seen::Stale };
        // between two reads only the CRM can tell which of two records holds now
        let is_doubtful = !is_same && age != Age::Older;
        let notes_older = !is_same && age == Age::Contradicted;
        return Observation { is_doubtful, notes_older, ..Observation::void(seen) };
    }
    let is_second = twins == Twins::Mistake && known.is_repeated && !is_changed_later(known.stamp, stamp);
    if is_second {
        return Observation::void(if is_same { unmoved(known) } else { Seen::Rejected });
    }
    if is_same {
        // a starved row gets its values back from any record that wants the same
        return Observation { takes_values: known.is_starved, ..Observation::still(unmoved(known)) };
    }
    let sides = Sides { acknowledged: None, desired: next }.with_known(known.sides.known());
    Observation { moved: Some(sides), takes_values: true, ..Observation::still(Seen::Changed) }
}

/// How old a record is beside the one believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It counts.
    Newer,
    /// The CRM says that it is older.
    Older,
    /// It was asked for before, and the CRM says nothing.
    AskedBefore,
    /// The CRM says that it is older, but it was asked for later: the end of summer time, a restored CRM, or an index that lags.
    Contradicted,
}

/// A lower change time does not move what is desired by itself: where such a record was asked for later, it counts when it
/// is seen once more in a later read. Without change times the later-asked read wins.
#[must_use]
pub fn age_of(known: &Known, came: ReadStamp, path: Path) -> Age {
    let believed = known.stamp;
    match (believed.changed_at, came.changed_at) {
        (Some(then), Some(now)) if now > then => Age::Newer,
        (Some(then), Some(now)) if now < then => match path {
            Path::Asked { began } if came.asked_at >= believed.asked_at => match known.older_since {
                Some(since) if since < began => Age::Newer,
                Some(_) | None => Age::Contradicted,
            },
            Path::Asked { .. } | Path::Pushed => Age::Older,
        },
        (Some(_) | None, Some(_) | None) if came.asked_at < believed.asked_at => Age::AskedBefore,
        (Some(_) | None, Some(_) | None) => Age::Newer,
    }
}

/// The CRM itself says that it is the newer one.
#[must_use]
pub fn is_changed_later(believed: ReadStamp, came: ReadStamp) -> bool {
    believed.changed_at.is_some_and(|believed| came.changed_at.is_some_and(|came| came > believed))
}

fn unmoved(known: &Known) -> Seen {
    if known.is_repeated {
        Seen::Repeated
    } else if known.is_rejected {
        Seen::Rejected
    } else if known.sides.acknowledged.is_some() {
        Seen::Waiting
    } else {
        Seen::Unchanged
    }
}

/// The prints of the fields `mask` in what is desired: what an import of that mask carries.
#[must_use]
pub fn carried(desired: &FieldPrints, mask: &[Field]) -> FieldPrints {
    let mut carried = desired.clone();
    carried.retain_fields(mask);
    carried
}

/// The fields of `carried` on which a ghost that carries `ghost` would put another value.
#[must_use]
pub fn doubtful_fields(carried: &FieldPrints, ghost: &FieldPrints) -> Vec<Field> {
    let differs = |(field, print): (Field, Fingerprint)| ghost.get(field).is_some_and(|other| other != print);
    carried.iter().filter(|entry| differs(*entry)).map(|(field, _)| field).collect()
}
