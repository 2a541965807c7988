//! How long sending takes, about: from the number of calls, how many are under way at once, and what an import takes.

use std::time::Duration;

/// How long an import takes: Reteno says "up to minutes".
const IMPORT_USUAL: Duration = Duration::from_secs(30);
/// Addresses or ids in one call that writes no fields.
pub(super) const DEED_MEMBERS: u64 = 500;

/// Calls that so many contacts take, so many in each.
pub(super) fn calls_of(contacts: u64, contacts_max: u64) -> u64 {
    contacts.div_ceil(contacts_max.max(1))
}

/// About how long so many calls take.
pub(super) fn time_of(calls: u64, posts_in_flight: usize) -> Duration {
    let rounds = calls.div_ceil(posts_in_flight.max(1) as u64);
    IMPORT_USUAL.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_full_batches_and_rounds_are_as_wide_as_the_line() {
        let table = [(0, 0), (1, 30), (8 * 3000, 30), (8 * 3000 + 1, 60), (1_000_000, 42 * 30)];
        for (contacts, seconds) in table {
            assert_eq!(time_of(calls_of(contacts, 3000), 8).as_secs(), seconds, "{contacts}");
        }
    }
}
