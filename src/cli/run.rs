//! `run`: the daemon in its process, with signals and systemd.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::checkpoint::CheckpointError;
use crate::config::Config;
use crate::daemon::alarm::Alarm;
use crate::daemon::closed::Closed;
use crate::daemon::compose::Surroundings;
use crate::daemon::lifecycle::{self, Stop};
use crate::daemon::listening::bind;
use crate::daemon::run::{RunError, run_session};
use crate::daemon::sender::Line;
use crate::daemon::systemd::{feed_watchdog, tell_systemd};

use crate::report;

use super::session::{self, Role};
use super::{Context, Exit, Failure};

/// How soon it is tried again to open a checkpoint that waits for room.
const OPENED_EVERY: Duration = Duration::from_secs(2);

pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let mut config = session::load_config(context)?;
    let stop = lifecycle::stop_on_signals(config.shutdown_timeout).map_err(signals_failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(signals_failed)?;
    let line = Line::default();
    let watchdog = tokio::spawn(feed_watchdog(line.beats()));
    let Some(around) = open(&config, &stop, &line).await? else { return Ok(Exit::Done) };
    Alarm::open(around.store.clone(), around.clock.clone()).repeat().await?;
    loop {
        let session = stop.child();
        let sources = config.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
        let started = move || {
            tracing::info!("reteno-sync {} is running; sources: {sources}", env!("CARGO_PKG_VERSION"));
            tell_systemd(&[NotifyState::Ready]);
        };
        let running = async {
            let ended = run_session(config.clone(), around.clone(), session.clone(), line.clone(), started).await;
            // whatever ended it, nobody waits for a reload of it any more
            session.soft.cancel();
            ended
        };
        let reloading = await_reload((context, &around), &config, &mut hang_up, &session);
        let (ended, next) = tokio::join!(running, reloading);
        ended.map_err(failure)?;
        match next {
            Some(next) if !stop.soft.is_cancelled() => config = next,
            Some(_) | None => break,
        }
    }
    watchdog.abort();
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// Opens the checkpoint. Where its disk is full, or a backup holds its lock, the daemon waits for it, and its listeners
/// tell senders to come again; `None` where a stop was asked for meanwhile.
async fn open(config: &Config, stop: &Stop, line: &Line) -> Result<Option<Surroundings>, Failure> {
    let mut closed = None;
    loop {
        let refused = match session::open(config, &Role::Sender("run")) {
            Ok(around) => {
                if let Some(closed) = closed {
                    Closed::end(closed).await;
                    tracing::info!("the checkpoint can be opened again");
                }
                return Ok(Some(around));
            }
            Err(refused) => refused,
        };
        let waits = |error: &CheckpointError| error.is_temporary() && !matches!(error, CheckpointError::Busy { .. });
        let Some(error) = refused.checkpoint().filter(|error| waits(error)) else { return Err(refused) };
        if closed.is_none() {
            let text = format!("everything waits for the checkpoint: {}", report::chain(error));
            tracing::error!(hint = error.hint().unwrap_or_default(), "{text}");
            tell_systemd(&[NotifyState::Ready, NotifyState::Status(&text)]);
            closed = Some(Closed::open(config, text).map_err(failure)?);
        }
        line.beats().fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            () = tokio::time::sleep(OPENED_EVERY) => {}
            () = stop.soft.cancelled() => return Ok(None),
        }
    }
}

/// The alert that the file is another one than the daemon works by.
const NOT_RELOADED: &str = "configuration";

/// Waits for a HUP with a configuration that can take over, and then ends the session. A bad file keeps the old one, under
/// an alert that stands until a good one is loaded.
async fn await_reload(
    (context, around): (&Context, &Surroundings),
    old: &Config,
    hang_up: &mut Signal,
    session: &Stop,
) -> Option<Config> {
    let alarm = Alarm::open(around.store.clone(), around.clock.clone());
    // what runs now was read from the file as it is
    end_alert(&alarm).await;
    loop {
        tokio::select! {
            _ = hang_up.recv() => {}
            () = session.soft.cancelled() => {
                tell_systemd(&[NotifyState::Stopping]);
                return None;
            }
        }
        tell_systemd(&[NotifyState::Reloading]);
        match load_next(context, old) {
            Ok(next) => {
                tracing::info!("starting anew with the configuration as it is now");
                session.soft.cancel();
                return Some(next);
            }
            Err(failure) => {
                let text = not_reloaded(&failure.to_string());
                tracing::error!("the old configuration stays: {failure}");
                let hint = format!("mend the file (`{} check`), then `systemctl reload` or send HUP", old.program);
                tell_systemd(&[NotifyState::Ready, NotifyState::Status(&text)]);
                let now = around.clock.now();
                let raised =
                    around.store.call(move |checkpoint| checkpoint.raise_alert(NOT_RELOADED, &text, &hint, now)).await;
                if let Err(error) = raised {
                    tracing::error!("{}", report::chain(&error));
                }
            }
        }
    }
}

async fn end_alert(alarm: &Alarm) {
    if let Err(error) = alarm.end(NOT_RELOADED).await {
        // it stands too long; that is no reason to stop
        tracing::error!("{}", report::chain(&error));
    }
}

/// In one line, with the first problem.
fn not_reloaded(failure: &str) -> String {
    const CHARS_MAX: usize = 300;
    let lines: Vec<&str> = failure.lines().map(str::trim).filter(|line| !line.is_empty()).take(2).collect();
    let text = format!("the configuration was not reloaded, the old one stays: {}", lines.join(": "));
    text.chars().take(CHARS_MAX).collect()
}

/// A configuration that can take over: whole, with all that a start asks for.
fn load_next(context: &Context, old: &Config) -> Result<Config, Failure> {
    let next = session::load_config(context)?;
    if next.state_dir != old.state_dir {
        let error = anyhow::anyhow!("state_dir cannot change while running: restart instead");
        return Err(Failure::of(Exit::Configuration, error, None));
    }
    next.reteno.credentials()?;
    let addresses =
        [(next.listen.address, old.listen.address), (next.listen.public_address, old.listen.public_address)];
    for (next, old) in addresses {
        if next != old {
            // given back at once: the new session takes it when the old one has ended
            drop(bind(next).map_err(failure)?);
        }
    }
    Ok(next)
}

fn signals_failed(error: std::io::Error) -> Failure {
    Failure::plain(anyhow::Error::new(error).context("cannot watch signals"))
}

pub(super) fn failure(error: RunError) -> Failure {
    let hint = error.hint();
    let exit = match &error {
        // a command that authorizes may hold the port for some minutes
        RunError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => Exit::TryAgain,
        RunError::Credentials(_) | RunError::Listen { .. } => Exit::Configuration,
        RunError::Checkpoint(error) if error.is_temporary() => Exit::TryAgain,
        RunError::Checkpoint(_) => Exit::Failed,
    };
    Failure::of(exit, error, hint)
}
