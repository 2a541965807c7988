//! The daemon outlasts an inbox that cannot be opened, read or written: senders are told to come again, polling goes on, and
//! a person is told. Nothing of it ends the process; what the checkpoint itself says still does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::checkpoint::{CheckpointError, Inbox};
use crate::random::Random;
use crate::report;

use super::alarm::Alarm;
use super::run::{RunError, Shared};

/// The first wait after a failure, and the longest: so long the inbox may be usable again before it is noticed.
const WAIT_FIRST: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_mins(1);
/// Another process may hold the inbox for a moment: so many failures in a row are no moment.
const FAILURES_UNTOLD: u32 = 3;
/// The alert's name.
const ALERT: &str = "inbox";

/// The inbox as one who uses it again and again meets it.
pub(super) struct Care {
    alarm: Alarm,
    backoff: Backoff,
    failures: u32,
    rests_until: Option<Instant>,
    /// A write has succeeded since the last failure, or since the start.
    is_sound: bool,
}

impl Care {
    pub(super) fn open(alarm: Alarm, random: &Random) -> Self {
        let backoff = Backoff::new(WAIT_FIRST, WAIT_MAX, random.clone());
        Self { alarm, backoff, failures: 0, rests_until: None, is_sound: false }
    }

    /// How long the inbox is let be after a failure.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.rests_until.map(|until| until.saturating_duration_since(Instant::now())).filter(|rest| !rest.is_zero())
    }

    /// What was read; `None` where it could not be.
    pub(super) async fn read<T>(&mut self, read: Result<T, CheckpointError>) -> Result<Option<T>, CheckpointError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) => self.fail(&error).await.map(|()| None),
        }
    }

    /// Notes whether something could be written: only that shows that the inbox is sound.
    pub(super) async fn wrote(&mut self, wrote: Result<(), CheckpointError>) -> Result<(), CheckpointError> {
        let Err(error) = wrote else {
            self.backoff.reset();
            (self.failures, self.rests_until) = (0, None);
            return if std::mem::replace(&mut self.is_sound, true) { Ok(()) } else { self.alarm.end(ALERT).await };
        };
        self.fail(&error).await
    }

    async fn fail(&mut self, error: &CheckpointError) -> Result<(), CheckpointError> {
        self.failures += 1;
        self.is_sound = false;
        self.rests_until = Some(Instant::now() + self.backoff.next_wait());
        if error.is_temporary() && self.failures < FAILURES_UNTOLD { Ok(()) } else { raise(&self.alarm, error).await }
    }
}

async fn raise(alarm: &Alarm, error: &CheckpointError) -> Result<(), CheckpointError> {
    let text = format!("what webhooks announce cannot be kept or acted on: {}", report::chain(error));
    let hint = error.hint().unwrap_or_else(|| "look at inbox.db in the state directory, and at its disk".to_owned());
    alarm.raise(ALERT, &text, &format!("{hint}. Senders are told to come again; reading goes on by schedule")).await
}

/// Opens the inbox, where a source has a webhook; one that cannot be opened is tried again by [`keep_inbox`].
pub(super) async fn open_inbox(shared: &Shared) -> Result<(), CheckpointError> {
    let Some(hooks) = &shared.hooks else { return Ok(()) };
    let clock = shared.around.clock.clone();
    // what the checkpoint itself cannot do is another trouble
    let opened = shared.around.store.call(move |checkpoint| Ok(checkpoint.open_inbox(&clock))).await?;
    match opened {
        Ok(inbox) => {
            hooks.fill(inbox);
            // whoever waits for what is announced looks for it now
            shared.others.send_modify(|times| *times += 1);
            Ok(())
        }
        Err(error) => raise(&shared.alarm, &error).await,
    }
}

/// Tries to open the inbox until it is open.
pub(super) async fn keep_inbox(shared: Arc<Shared>) -> Result<(), RunError> {
    let mut backoff = Backoff::new(WAIT_FIRST, WAIT_MAX, shared.around.random.clone());
    while shared.hooks.is_some() && shared.inbox().is_none() {
        tokio::select! {
            () = tokio::time::sleep(backoff.next_wait()) => {}
            () = shared.stop.soft.cancelled() => return Ok(()),
        }
        open_inbox(&shared).await?;
    }
    Ok(())
}

impl Shared {
    /// What webhooks announced, where a source has one and it could be opened.
    pub(super) fn inbox(&self) -> Option<Inbox> {
        self.hooks.as_ref()?.inbox().cloned()
    }
}
