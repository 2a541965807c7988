//! What systemd is told: that the daemon is ready, how much is done, and that it still turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use super::run::{RunError, Shared};

/// How old systemd's status line may be: it counts the contacts, which takes a moment with very many.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Says in systemd's status line how much is done and what waits, as it changes.
pub(super) async fn tell_status(shared: Arc<Shared>) -> Result<(), RunError> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let mut told = String::new();
    loop {
        let status = shared.around.store.call(|checkpoint| checkpoint.load_status()).await?;
        let alerts = match status.alerts.as_slice() {
            [] => String::new(),
            [only] => format!("; {}", only.text),
            [first, others @ ..] => format!("; {} (and {} more alerts)", first.text, others.len()),
        };
        let now = format!(
            "{} contacts: {} acknowledged, {} waiting, {} held, {} rejected{alerts}",
            status.contacts,
            status.acknowledged,
            status.open + status.starved,
            status.held,
            status.rejected
        );
        if now != told {
            tell_systemd(&[NotifyState::Status(&now)]);
            told = now;
        }
        tokio::select! {
            () = tokio::time::sleep(STATUS_EVERY) => {}
            () = shared.stop.soft.cancelled() => return Ok(()),
        }
    }
}

/// Tells systemd, where it listens, how the daemon is.
pub fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot tell systemd ({error})");
    }
}

/// Feeds systemd's watchdog for as long as the sender's loop turns. A timer alone would also feed it for a hung process.
pub async fn feed_watchdog(beats: Arc<AtomicU64>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut seen = beats.load(Ordering::Relaxed).wrapping_sub(1);
    loop {
        let now = beats.load(Ordering::Relaxed);
        if now != seen {
            seen = now;
            tell_systemd(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(limit / 3).await;
    }
}
