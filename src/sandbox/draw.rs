//! Draws from the sandbox's seed. Every purpose has its own sequence, so that one more request of one kind does not
//! move the draws of another.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::random::Random;

/// The sequence for one purpose (`stream`) of one sandbox (`seed`).
pub(super) fn sequence(seed: u64, stream: u64) -> Random {
    // Two different odd multipliers keep neighbouring seeds and streams from walking the same sequence.
    Random::seeded(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ stream.wrapping_mul(0xaf25_1af3_b0f0_25b5))
}

/// A whole number in `0..bound`; 0 where `bound` is 0.
pub(super) fn below(random: &Random, bound: u64) -> u64 {
    u64::from_le_bytes(random.bytes::<8>()).checked_rem(bound).unwrap_or(0)
}

/// A duration within `range`, in whole milliseconds.
pub(super) fn within(random: &Random, range: &RangeInclusive<Duration>) -> Duration {
    let span = range.end().saturating_sub(*range.start()).as_millis();
    let span = u64::try_from(span).unwrap_or(u64::MAX - 1);
    *range.start() + Duration::from_millis(below(random, span.saturating_add(1)))
}

/// `2 × N` lower-case hex digits.
pub(super) fn hex<const N: usize>(random: &Random) -> String {
    to_hex(&random.bytes::<N>())
}

/// Lower-case hex digits of `bytes`.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Puts `items` into a drawn order.
pub(super) fn shuffle<T>(random: &Random, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let bound = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
        let other = usize::try_from(below(random, bound)).unwrap_or(0);
        items.swap(last, other);
    }
}
