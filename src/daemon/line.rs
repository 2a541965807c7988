//! What the sender and those who read sources share: a nudge, a pulse, and whether more is to be expected.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Notify, watch};

/// Shared between the sender and those who read sources.
#[derive(Clone)]
pub struct Line {
    pub(super) nudge: Arc<Notify>,
    pub(super) beats: Arc<AtomicU64>,
    pub(super) gathers_all: bool,
    filling: watch::Sender<usize>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            nudge: Arc::new(Notify::new()),
            beats: Arc::default(),
            gathers_all: false,
            filling: watch::Sender::new(0),
        }
    }
}

impl Line {
    /// The line of a command that runs once: while its sources are read, no lane sends less than full batches.
    #[must_use]
    pub fn of_one_run() -> Self {
        Self { gathers_all: true, ..Self::default() }
    }

    /// There may be something new to send.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// More contacts for the bulk lanes are to be expected as long as the guard lives.
    #[must_use]
    pub fn fill(&self) -> Filling {
        self.filling.send_modify(|readers| *readers += 1);
        Filling(self.clone())
    }

    /// Grows with each turn of the sender's loop.
    #[must_use]
    pub fn beats(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.beats)
    }

    pub(super) fn is_filling(&self) -> bool {
        *self.filling.borrow() > 0
    }
}

/// A source is being read.
pub struct Filling(Line);

impl Drop for Filling {
    fn drop(&mut self) {
        self.0.filling.send_modify(|readers| *readers -= 1);
        self.0.nudge();
    }
}
