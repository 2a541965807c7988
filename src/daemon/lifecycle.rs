//! Signals, and what they ask for. The only file that knows them.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How a process is asked to end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Begin nothing new, finish what is under way, save.
    pub soft: CancellationToken,
    /// Do not wait any longer: what is under way is repeated by the next process.
    pub hard: CancellationToken,
}

impl Stop {
    /// A stop that belongs to this one and can also be asked for alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { soft: self.soft.child_token(), hard: self.hard.child_token() }
    }
}

/// TERM and INT ask for a soft stop; a second one, or the end of `patience`, for a hard one.
///
/// # Errors
/// Where the process may not watch signals.
pub fn stop_on_signals(patience: Duration) -> std::io::Result<Stop> {
    let stop = Stop::default();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ours = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        ours.soft.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = tokio::time::sleep(patience) => {}
        }
        ours.hard.cancel();
    });
    Ok(stop)
}
