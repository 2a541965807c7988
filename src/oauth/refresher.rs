//! Hands out the access token and keeps it fresh: one refresh at a time in this process and among processes.
//!
//! Never uses a pair before the vault has it, never asks for a person before the stored refresh token was refused,
//! and never lets a refresh be cut off half way because whoever wanted the token went away.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::chain;
use super::endpoint::TokenEndpoint;
use super::known::{BACKOFF_FIRST, Known, Retry, Setback};
use super::lock::{LockError, RefreshLock};
use super::party::Party;
use super::reaction::TokenError;
use super::standing::Standing;
use super::token::{Condition, Grant, NoToken};
use super::vault::{GrantVault, VaultError};
use crate::clock::{Clock, Timestamp};
use crate::random::Random;

/// A working grant is read anew this often, so that one stored by another process comes into use; each costs one row.
const REREAD_ACTIVE: Duration = Duration::from_secs(30);
/// The same while a person is awaited: the operator sees sending resume at once.
const REREAD_WAITING: Duration = Duration::from_secs(1);
/// How long a caller without any usable token waits for another process: longer than a token request may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long another process is waited for before a pair that could not be stored is stored: as a refresh takes.
const SAVE_PATIENCE: Duration = Duration::from_secs(5);
/// The idle refresh looks at least this often, so that a clock that was set is noticed.
const TICK_MAX: Duration = Duration::from_mins(10);

/// The code and the refresh token of a grant that has none.
const NONE: &str = "";

/// Owns the current grant of one authorization. Clones share it.
#[derive(Clone)]
pub struct Refresher(Arc<Inner>);

struct Inner {
    endpoint: TokenEndpoint,
    vault: Arc<dyn GrantVault>,
    lock: RefreshLock,
    clock: Clock,
    random: Random,
    /// Never held over an await.
    known: Mutex<Known>,
    /// Held by the one refresh of this process.
    flight: Arc<tokio::sync::Mutex<()>>,
}

/// What makes a refresh wanted.
enum Reason {
    /// Half of the lifetime is over.
    Due,
    /// This access token was answered with 401.
    Refused(SecretString),
}

impl Refresher {
    /// A refresher over `vault`; `lock_path` is the file that all processes of this state directory lock.
    #[must_use]
    pub fn new(
        endpoint: TokenEndpoint,
        vault: Arc<dyn GrantVault>,
        lock_path: PathBuf,
        clock: Clock,
        random: Random,
    ) -> Self {
        let lock = RefreshLock::new(lock_path);
        let known = Mutex::new(Known::of(endpoint.app().dialect.asks_nobody()));
        let flight = Arc::default();
        Self(Arc::new(Inner { endpoint, vault, lock, clock, random, known, flight }))
    }

    /// The access token to send with. Refreshes it first where half of its life is over; while another task or process
    /// does that, or it fails, the present token serves as long as it lives.
    pub async fn access_token(&self) -> Result<SecretString, NoToken> {
        self.0.reread_when_stale().await;
        self.0.refresh_if_due().await;
        self.0.hand_out()
    }

    /// The host that the present tokens are for, where an answer named one.
    #[must_use]
    pub fn base_url(&self) -> Option<String> {
        let told = self.0.known().grant.as_ref()?.base_url.clone()?;
        self.0.endpoint.app().may_name(&told).then_some(told)
    }

    /// The token to repeat a call with that was answered with 401 under `token`: a newer one where there is one,
    /// else the fruit of one refresh.
    pub async fn refused(&self, token: &SecretString) -> Result<SecretString, NoToken> {
        let inner = &self.0;
        // Another process may have refreshed, which can end the old access token.
        inner.reread().await;
        if inner.known().mark_refused(token) {
            let flight = inner.flight.clone().lock_owned().await;
            inner.refresh_in_task(Reason::Refused(token.clone()), PATIENCE, flight).await;
        } else {
            inner.refresh_if_due().await;
        }
        inner.hand_out()
    }

    /// Refreshes where it is due, also when nothing is sent (an unused refresh token dies), and says when to call
    /// again. With a person awaited that is a second: only the vault is read then.
    pub async fn tick(&self) -> Timestamp {
        self.0.reread_when_stale().await;
        self.0.refresh_if_due().await;
        self.0.next_tick()
    }

    /// The state of the authorization, as `status`, alerts and exit codes need it.
    pub async fn condition(&self) -> Standing {
        self.0.reread_when_stale().await;
        self.0.known().standing(self.0.endpoint.app())
    }

    /// Reads the vault at once: someone has just put a grant there.
    pub async fn look_again(&self) {
        self.0.reread().await;
    }

    /// Waits until no refresh of this process is under way: before the process ends, so that an answer on its way
    /// still reaches the vault; and stores what the vault did not take before.
    pub async fn quiesce(&self) {
        if self.saves_unstored().await {
            return;
        }
        let who = self.0.party().in_words();
        tracing::error!("the newest tokens of {who} are lost with this process: they could not be stored");
    }

    /// Tries once more to store a pair that the vault did not take; false where the vault still does not. While there is
    /// such a pair, it stands nowhere but in this process.
    pub async fn saves_unstored(&self) -> bool {
        let _flight = self.0.flight.lock().await;
        if self.0.known().unstored.is_none() {
            return true;
        }
        match self.0.save_unstored().await {
            Ok(()) => true,
            Err(setback) => {
                self.0.known().problem = Some(chain(&setback));
                false
            }
        }
    }
}

impl Inner {
    fn party(&self) -> &Party {
        self.endpoint.app().party()
    }

    /// Whoever refuses tokens, at the beginning of a problem.
    fn refuser(&self) -> String {
        match self.party() {
            Party::Reteno => "reteno".to_owned(),
            Party::Crm(_) => self.party().in_words(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is made of plain assignments, so a panic elsewhere leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reread_when_stale(&self) {
        let stale = {
            let known = self.known();
            let waiting = !known.grant.as_ref().is_some_and(|grant| grant.condition == Condition::Active);
            let every = if waiting { REREAD_WAITING } else { REREAD_ACTIVE };
            known.read_at.is_none_or(|read_at| read_at.elapsed() >= every)
        };
        if stale {
            self.reread().await;
        }
    }

    /// Takes over what the vault holds; what was known stays where it cannot be read.
    async fn reread(&self) {
        let outcome = self.vault.load().await;
        let mut known = self.known();
        known.read_at = Some(Instant::now());
        match outcome {
            Ok(stored) => known.adopt(stored),
            Err(error) => known.problem = Some(chain(&error)),
        }
    }

    async fn refresh_if_due(self: &Arc<Self>) {
        let now = self.clock.now();
        if !self.known().wants_refresh(now) {
            return;
        }
        if self.known().usable(now).is_some() {
            // Someone else is at it: the present token serves meanwhile.
            if let Ok(flight) = self.flight.clone().try_lock_owned() {
                self.refresh_in_task(Reason::Due, Duration::ZERO, flight).await;
            }
        } else {
            let flight = self.flight.clone().lock_owned().await;
            self.refresh_in_task(Reason::Due, PATIENCE, flight).await;
        }
    }

    /// In a task of its own: a caller that gives up while the answer is on its way would lose the new pair.
    async fn refresh_in_task(self: &Arc<Self>, reason: Reason, patience: Duration, flight: OwnedMutexGuard<()>) {
        let inner = self.clone();
        let task = tokio::spawn(async move {
            inner.refresh(&reason, patience).await;
            drop(flight);
        });
        // It only fails where the runtime ends or the task panicked: the state then says that nothing came of it.
        let _ = task.await;
    }

    async fn refresh(&self, reason: &Reason, patience: Duration) {
        if !self.is_still_wanted(reason) {
            return;
        }
        let had_failed = self.known().failures > 0;
        let outcome = self.refresh_under_lock(reason, patience).await;
        let mut known = self.known();
        match outcome {
            Ok(()) => known.note_success(had_failed, self.party()),
            // Another process is at it: no failure. Whoever waited in vain makes those behind it not wait as long.
            Err(Setback::Lock(LockError::Busy)) => {
                known.problem = Some(LockError::Busy.to_string());
                if !patience.is_zero() {
                    let again = Instant::now() + BACKOFF_FIRST;
                    known.retry = Some(Retry { alive: again, ended: again });
                }
            }
            Err(setback) => known.note_failure(&setback, self.party(), self.random.fraction()),
        }
    }

    /// Looked at again once the flight was had: whoever held it before may have done it, or failed.
    fn is_still_wanted(&self, reason: &Reason) -> bool {
        let mut known = self.known();
        if !known.wait_left(self.clock.now()).is_zero() {
            return false;
        }
        match reason {
            Reason::Due => known.wants_refresh(self.clock.now()),
            Reason::Refused(token) => {
                let present = known.grant.as_ref().is_some_and(|grant| grant.bears(token));
                let too_soon = !known.is_refusal_spaced();
                if present && too_soon {
                    let who = self.refuser();
                    known.problem = Some(format!("{who} refuses an access token that it has just issued"));
                }
                present && !too_soon
            }
        }
    }

    async fn refresh_under_lock(&self, reason: &Reason, patience: Duration) -> Result<(), Setback> {
        let _held = self.lock.acquire(patience).await?;
        let stored = self.vault.load().await?;
        let (present, unstored) = {
            let mut known = self.known();
            known.read_at = Some(Instant::now());
            known.adopt(stored);
            let wanted = match reason {
                Reason::Due => known.wants_refresh(self.clock.now()),
                Reason::Refused(token) => known.grant.as_ref().is_some_and(|grant| grant.bears(token)),
            };
            let present = known.grant.clone().filter(|grant| grant.condition == Condition::Active);
            // Another process has done it, or a person is needed.
            if !wanted || (present.is_none() && !known.wants_refresh(self.clock.now())) {
                return Ok(());
            }
            (present, known.unstored.take())
        };
        let serial = present.as_ref().map_or(1, |present| present.serial.saturating_add(1));
        if let Some(unstored) = unstored.filter(|unstored| unstored.serial == serial) {
            return Ok(self.store(unstored).await?);
        }
        // once it is asked for, the stored refresh token may be dead
        self.vault.reserve().await?;
        let was_refused = self.known().is_refused();
        let asks_nobody = self.known().asks_nobody();
        let asked = match &present {
            Some(present) if !asks_nobody => self.endpoint.refresh(present).await,
            Some(_) | None => self.endpoint.obtain().await,
        };
        match (asked, present) {
            (Ok(issued), present) => {
                if was_refused {
                    self.known().note_refused_refresh();
                }
                tracing::debug!("{} has renewed the tokens", self.party().in_words());
                let renewed = match present {
                    Some(present) => present.refreshed(&issued.answer, issued.sent),
                    None => Grant::first(NONE.into(), NONE.into(), &issued.answer, issued.sent, serial),
                };
                Ok(self.store(renewed).await?)
            }
            (Err(TokenError::InvalidGrant), Some(present)) if !asks_nobody => Ok(self.take_refusal(&present).await?),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Stores the pair that the vault did not take, unless another process has stored one meanwhile.
    async fn save_unstored(&self) -> Result<(), Setback> {
        let _held = self.lock.acquire(SAVE_PATIENCE).await?;
        let stored = self.vault.load().await?;
        let serial = stored.as_ref().map_or(0, |stored| stored.serial);
        let unstored = {
            let mut known = self.known();
            known.adopt(stored);
            known.unstored.take()
        };
        match unstored.filter(|unstored| unstored.serial > serial) {
            Some(unstored) => Ok(self.store(unstored).await?),
            None => Ok(()),
        }
    }

    /// Durable first, used after. What the vault does not take is kept aside: the old refresh token may be dead.
    async fn store(&self, grant: Grant) -> Result<(), VaultError> {
        let outcome = self.vault.store(&grant).await;
        let mut known = self.known();
        match outcome {
            Ok(()) => {
                known.refused = None;
                known.adopt(Some(grant));
                Ok(())
            }
            Err(error) => {
                known.unstored = Some(grant);
                Err(error)
            }
        }
    }

    /// The refresh token is dead, unless the vault has another one by now (a writer that knows no lock, a restored
    /// file).
    async fn take_refusal(&self, present: &Grant) -> Result<(), VaultError> {
        let stored = self.vault.load().await?;
        if stored.as_ref().is_none_or(|stored| stored.serial != present.serial) {
            self.known().adopt(stored);
            return Ok(());
        }
        let refused = present.refused(self.clock.now(), self.party().tell_token(&TokenError::InvalidGrant));
        self.vault.store(&refused).await?;
        self.known().adopt(Some(refused));
        Ok(())
    }

    fn hand_out(&self) -> Result<SecretString, NoToken> {
        let known = self.known();
        if let Some(grant) = known.usable(self.clock.now()) {
            return Ok(grant.access_token.clone());
        }
        let problem = known.problem.clone();
        match known.grant.as_ref().map(|grant| &grant.condition) {
            Some(Condition::Active) => {
                Err(NoToken::Temporarily(problem.unwrap_or_else(|| "the access token has ended".to_owned())))
            }
            Some(Condition::NeedsAuthorization { .. }) => Err(NoToken::NeedsAuthorization),
            None if known.asks_nobody() => {
                Err(NoToken::Temporarily(problem.unwrap_or_else(|| "no access token was had yet".to_owned())))
            }
            // Nothing is known and the vault cannot be read: a person could not help either.
            None => Err(problem.map_or(NoToken::NeedsAuthorization, NoToken::Temporarily)),
        }
    }

    fn next_tick(&self) -> Timestamp {
        let now = self.clock.now();
        let known = self.known();
        let backing_off = known.wait_left(now);
        let Some(grant) = known.grant.as_ref().filter(|grant| grant.condition == Condition::Active) else {
            return now.plus(if known.asks_nobody() { backing_off.max(REREAD_WAITING) } else { REREAD_WAITING });
        };
        // At least a second: where another process holds the lock, asking again at once would only spin.
        let wait = grant.refresh_due_at().since(now).max(backing_off).max(REREAD_WAITING);
        now.plus(wait.min(TICK_MAX))
    }
}
