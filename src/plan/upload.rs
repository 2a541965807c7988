//! Which contacts of a first load go as a file, and when: Reteno's file has no list of fields, finds nobody by an external
//! id, and cannot tell "leave this alone" from "empty". Whatever does not fit goes by bulk.

use std::collections::{BTreeMap, BTreeSet};

use crate::contact::Field;

use super::SourceId;
use super::batch::{Candidate, Route};

/// Whose contacts may go as a file, and with which fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRules {
    /// The sources that may, and how many columns each of them maps.
    pub sources: BTreeMap<SourceId, usize>,
    /// The fields that have a column.
    pub columns: BTreeSet<Field>,
    /// The channels by which Reteno finds the contacts: one of them is enough.
    pub finders: Vec<Field>,
}

impl FileRules {
    /// Whether a contact with these due fields, all of them with values, can be a row: every mapped column filled, and none
    /// that a file lacks.
    #[must_use]
    pub fn fits(&self, source: SourceId, mask: &[Field]) -> bool {
        let mut fields = mask.iter().filter(|field| !field.is_segment());
        self.sources.get(&source) == Some(&fields.clone().count())
            && self.finders.iter().any(|finder| mask.contains(finder))
            && fields.all(|field| self.columns.contains(field))
    }
}

/// The bounds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBounds {
    /// A first load of fewer contacts goes by bulk.
    pub load_min: u64,
    /// Contacts in a file.
    pub contacts_max: usize,
    /// Bytes of a file.
    pub bytes_max: usize,
}

/// How a first load goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLoad {
    /// It waits until its size is known, or a file is full.
    Waits,
    /// What fits goes as files.
    AsFiles,
    /// All of it goes by bulk.
    ByBulk,
}

/// Decides for `waiting` contacts that are due in its lane, with `under_way` more in files that have not ended.
#[must_use]
pub fn plan_first_load(waiting: u64, under_way: u64, bounds: FileBounds, is_filling: bool) -> FirstLoad {
    if is_filling && waiting < bounds.contacts_max as u64 {
        FirstLoad::Waits
    } else if waiting > 0 && waiting.saturating_add(under_way) >= bounds.load_min {
        FirstLoad::AsFiles
    } else {
        FirstLoad::ByBulk
    }
}

/// Sends all by bulk where those that fit are too few; says whether files are left. `is_more`: there are more candidates
/// than could be looked at, and a full file is enough.
pub fn keep_files(candidates: &mut [Candidate], is_more: bool, under_way: u64, bounds: FileBounds) -> bool {
    let fitting = || candidates.iter().filter(|candidate| candidate.flavor.route == Route::Upload).count() as u64;
    let enough = if is_more { bounds.load_min.min(bounds.contacts_max as u64) } else { bounds.load_min };
    if fitting().saturating_add(under_way) >= enough {
        return true;
    }
    for candidate in candidates {
        if candidate.flavor.route == Route::Upload {
            candidate.flavor.route = Route::Fields;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRM: SourceId = SourceId(1);
    const BOUNDS: FileBounds = FileBounds { load_min: 100, contacts_max: 1000, bytes_max: 1 << 20 };

    #[test]
    fn only_a_whole_row_of_known_columns_with_a_finder_fits() {
        let rules = FileRules {
            sources: BTreeMap::from([(CRM, 3)]),
            columns: BTreeSet::from([Field::Email, Field::Sms, Field::Town, Field::Additional(9)]),
            finders: vec![Field::Email],
        };
        let vip = Field::segment("VIP");
        let rows: [(SourceId, &[Field], bool); 8] = [
            (CRM, &[Field::Email, Field::Town, Field::Additional(9)], true),
            // a segment is no column
            (CRM, &[Field::Email, Field::Town, Field::Additional(9), vip], true),
            // a column is empty, and a segment does not stand for it
            (CRM, &[Field::Email, Field::Town], false),
            (CRM, &[Field::Email, Field::Town, vip], false),
            // no column in any file
            (CRM, &[Field::ExternalCustomerId, Field::Email, Field::Town], false),
            // the account does not offer the field
            (CRM, &[Field::Email, Field::Town, Field::Additional(8)], false),
            // Reteno could not find it
            (CRM, &[Field::Sms, Field::Town, Field::Additional(9)], false),
            (SourceId(2), &[Field::Email, Field::Town, Field::Additional(9)], false),
        ];
        for (source, mask, fits) in rows {
            assert_eq!(rules.fits(source, mask), fits, "{source:?} {mask:?}");
        }
    }

    #[test]
    fn a_first_load_waits_for_its_size_and_a_small_one_goes_by_bulk() {
        let rows = [
            (50, 0, true, FirstLoad::Waits),
            (999, 0, true, FirstLoad::Waits),
            // a file is full
            (1000, 0, true, FirstLoad::AsFiles),
            (100, 0, false, FirstLoad::AsFiles),
            (99, 0, false, FirstLoad::ByBulk),
            // the rest of a load goes as it began
            (1, 99, false, FirstLoad::AsFiles),
            (0, 200, false, FirstLoad::ByBulk),
        ];
        for (waiting, under_way, is_filling, expected) in rows {
            let decided = plan_first_load(waiting, under_way, BOUNDS, is_filling);
            assert_eq!(decided, expected, "{waiting} {under_way} {is_filling}");
        }
    }
}
