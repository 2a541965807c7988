//! `run`: the daemon in its process, with signals and systemd.

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::daemon::lifecycle::{self, Stop};
use crate::daemon::run::{RunError, feed_watchdog, run_session, tell_systemd};
use crate::daemon::sender::Line;

use super::session::{self, Role};
use super::{Context, Exit, Failure};

pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let mut config = session::load_config(context)?;
    let around = session::open(&config, &Role::Sender("run")).await?;
    let stop = lifecycle::stop_on_signals(config.shutdown_timeout).map_err(signals_failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(signals_failed)?;
    let line = Line::default();
    let watchdog = tokio::spawn(feed_watchdog(line.beats()));
    loop {
        let session = stop.child();
        let running = run_session(config.clone(), around.clone(), session.clone(), line.clone());
        let sources = config.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
        tracing::info!("reteno-sync {} is running; sources: {sources}", env!("CARGO_PKG_VERSION"));
        tell_systemd(&[NotifyState::Ready, NotifyState::Status(&format!("running; sources: {sources}"))]);
        let reloading = await_reload(context, &config, &mut hang_up, &session);
        let (ended, next) = tokio::join!(running, reloading);
        ended.map_err(failure)?;
        match next {
            Some(next) if !stop.soft.is_cancelled() => config = next,
            Some(_) | None => break,
        }
    }
    watchdog.abort();
    tell_systemd(&[NotifyState::Stopping]);
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// Waits for a HUP with a configuration that can take over, and then ends the session. A bad file keeps the old one.
async fn await_reload(context: &Context, old: &Config, hang_up: &mut Signal, session: &Stop) -> Option<Config> {
    loop {
        tokio::select! {
            _ = hang_up.recv() => {}
            () = session.soft.cancelled() => return None,
        }
        tell_systemd(&[NotifyState::Reloading]);
        match session::load_config(context) {
            Ok(next) if next.state_dir == old.state_dir => {
                tracing::info!("the configuration has changed: starting anew with it");
                session.soft.cancel();
                return Some(next);
            }
            Ok(_) => {
                tracing::error!("state_dir cannot change while running: the old configuration stays; restart instead");
            }
            Err(failure) => tracing::error!("the old configuration stays: {failure}"),
        }
        tell_systemd(&[NotifyState::Ready]);
    }
}

fn signals_failed(error: std::io::Error) -> Failure {
    Failure::plain(anyhow::Error::new(error).context("cannot watch signals"))
}

fn failure(error: RunError) -> Failure {
    let hint = error.hint();
    let exit = match &error {
        RunError::Credentials(_) | RunError::Listen { .. } => Exit::Configuration,
        RunError::Checkpoint(_) => Exit::Failed,
    };
    Failure::of(exit, error, hint)
}
