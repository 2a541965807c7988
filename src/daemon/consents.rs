//! What a read says of consents that are not understood. Decides nothing about any of them.

use std::collections::BTreeMap;

/// Records whose consent is neither a yes nor a no, by the class of its value.
#[derive(Debug, Default)]
pub(super) struct UnclearConsents(BTreeMap<&'static str, u64>);

impl UnclearConsents {
    pub(super) fn add(&mut self, page: BTreeMap<&'static str, u64>) {
        for (class, records) in page {
            *self.0.entry(class).or_default() += records;
        }
    }

    /// One line for each class.
    pub(super) fn words(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(class, records)| unclear_consents(class, *records))
    }
}

/// What is told of consents of one class that are not understood: each may be an opt-out in a word that nobody
/// configured.
#[must_use]
pub fn unclear_consents(class: &str, records: u64) -> String {
    format!(
        "the consent of {records} records is {class}: nothing was done about it; name the value under yes, no or neither in \
         the consent section of the source"
    )
}
