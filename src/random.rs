//! Randomness, handed to whoever needs it. The only file that may ask the system for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random bytes: the system's, or a seed for simulations that must replay exactly.
#[derive(Clone, Debug)]
pub struct Random(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    Seeded(Arc<AtomicU64>),
}

impl Random {
    /// The operating system's generator: for keys, states and tokens.
    #[must_use]
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// A repeatable sequence (SplitMix64): for simulations only, never for a secret.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Kind::Seeded(Arc::new(AtomicU64::new(seed))))
    }

    /// `N` random bytes.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: nothing secret may be made then.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for randomness")]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0_u8; N];
        match &self.0 {
            Kind::System => getrandom::fill(&mut out).expect("the operating system gives randomness"),
            Kind::Seeded(state) => {
                for chunk in out.chunks_mut(8) {
                    let word = split_mix(state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed));
                    chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
                }
            }
        }
        out
    }

    /// A fraction in `[0, 1)`, for jitter.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        let word = u64::from_le_bytes(self.bytes::<8>());
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let numerator = (word >> 11) as f64;
        numerator / 9_007_199_254_740_992.0
    }
}

fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
