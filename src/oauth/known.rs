//! What the refresher of this process knows between two reads of the vault, and what follows from it. Does no I/O.

use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::chain;
use super::lock::LockError;
use super::party::Party;
use super::reaction::TokenError;
use super::token::{Condition, Grant};
use super::vault::VaultError;
use crate::clock::Timestamp;

/// A token that is refused although it is this fresh is not mended by yet another refresh. The spacing doubles while
/// fresh tokens go on being refused: each refresh kills a refresh token, and none of them helps.
const REFUSED_SPACING_FIRST: Duration = Duration::from_secs(30);
/// The longest spacing, so that sending comes back within a quarter of an hour of Reteno's mending. Also how long
/// tokens must have served for a refusal to be the first of a new kind.
const REFUSED_SPACING_MAX: Duration = Duration::from_mins(15);
/// First wait after a failed refresh; doubled each time.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(5);
/// Longest wait after a failed refresh while the access token lives: half a lifetime is left for hundreds of attempts.
const BACKOFF_ALIVE_MAX: Duration = Duration::from_mins(15);
/// Longest wait once nothing can be sent any more.
const BACKOFF_ENDED_MAX: Duration = Duration::from_mins(1);
/// A longer `Retry-After` is not believed.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// When a refresh may be tried again after a failed one.
pub(super) struct Retry {
    /// While the access token can be used.
    pub(super) alive: Instant,
    /// Once it cannot.
    pub(super) ended: Instant,
}

/// What this process knows between two reads of the vault.
#[derive(Default)]
pub(super) struct Known {
    pub(super) grant: Option<Grant>,
    pub(super) read_at: Option<Instant>,
    pub(super) failures: u32,
    pub(super) retry: Option<Retry>,
    pub(super) problem: Option<String>,
    /// An access token that Reteno answered with 401: not handed out again unless a refresh confirms it.
    pub(super) refused: Option<SecretString>,
    /// When a refusal last led to a refresh.
    refused_refresh_at: Option<Instant>,
    /// How many refreshes in a row a refusal led to.
    refused_refreshes: u32,
    /// A pair that was received, but that the vault did not take: stored before anything else is tried.
    pub(super) unstored: Option<Grant>,
    /// Tokens are had without any person, and so also where there was none yet.
    asks_nobody: bool,
}

/// What stopped a refresh for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Setback {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Known {
    /// Nothing yet. `asks_nobody`: tokens are had without any person.
    pub(super) fn of(asks_nobody: bool) -> Self {
        Self { asks_nobody, ..Self::default() }
    }

    /// Takes over what the vault holds. A changed grant starts with a clean slate: what failed was another's.
    pub(super) fn adopt(&mut self, stored: Option<Grant>) {
        // a person was needed under an earlier configuration
        let stored = match stored {
            Some(grant) if self.asks_nobody => Some(Grant { condition: Condition::Active, ..grant }),
            stored => stored,
        };
        let identity = |grant: &Option<Grant>| grant.as_ref().map(|grant| (grant.authorized_at, grant.serial));
        let (known, found) = (identity(&self.grant), identity(&stored));
        if known == found {
            // A problem without a failed refresh was the vault's, which has just been read, or a brake's.
            self.problem = self.problem.take().filter(|_| self.failures > 0);
            return;
        }
        let same_run = known.map(|(authorized_at, _)| authorized_at) == found.map(|(authorized_at, _)| authorized_at);
        *self = Self {
            grant: stored,
            read_at: self.read_at,
            refused: self.refused.take(),
            refused_refresh_at: self.refused_refresh_at.filter(|_| same_run),
            refused_refreshes: if same_run { self.refused_refreshes } else { 0 },
            unstored: self.unstored.take().filter(|_| same_run),
            asks_nobody: self.asks_nobody,
            ..Self::default()
        };
    }

    /// Whether tokens are had without any person.
    pub(super) const fn asks_nobody(&self) -> bool {
        self.asks_nobody
    }

    /// Notes that Reteno refused `token`; false where it is not the present one.
    pub(super) fn mark_refused(&mut self, token: &SecretString) -> bool {
        let present = self.grant.as_ref().is_some_and(|grant| grant.bears(token));
        if present {
            self.refused = Some(token.clone());
            if self.refused_refresh_at.is_none_or(|at| at.elapsed() >= REFUSED_SPACING_MAX) {
                self.refused_refreshes = 0;
            }
        }
        present
    }

    /// Notes that a refusal leads to a refresh now.
    pub(super) fn note_refused_refresh(&mut self) {
        self.refused_refresh_at = Some(Instant::now());
        self.refused_refreshes = self.refused_refreshes.saturating_add(1);
    }

    /// May a refusal lead to another refresh already?
    pub(super) fn is_refusal_spaced(&self) -> bool {
        let doublings = self.refused_refreshes.saturating_sub(1);
        let spacing = REFUSED_SPACING_FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(REFUSED_SPACING_MAX);
        self.refused_refreshes == 0 || self.refused_refresh_at.is_none_or(|at| at.elapsed() >= spacing)
    }

    /// Is the present access token one that Reteno refused?
    pub(super) fn is_refused(&self) -> bool {
        let (Some(grant), Some(token)) = (&self.grant, &self.refused) else { return false };
        grant.bears(token)
    }

    /// The grant whose access token may be sent.
    pub(super) fn usable(&self, now: Timestamp) -> Option<&Grant> {
        let grant = self.grant.as_ref().filter(|grant| !grant.is_expired(now))?;
        (!self.is_refused()).then_some(grant)
    }

    /// How long no refresh may be tried after a failed one; zero where it may be now. Shorter from the moment at which
    /// nothing can be sent any more.
    pub(super) fn wait_left(&self, now: Timestamp) -> Duration {
        let usable = self.usable(now).is_some();
        let until = self.retry.as_ref().map(|retry| if usable { retry.alive } else { retry.ended });
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Is a refresh due, possible and not to be waited for?
    pub(super) fn wants_refresh(&self, now: Timestamp) -> bool {
        let Some(grant) = self.grant.as_ref().filter(|grant| grant.condition == Condition::Active) else {
            return self.asks_nobody && self.grant.is_none() && self.wait_left(now).is_zero();
        };
        let refused_and_spaced = self.is_refused() && self.is_refusal_spaced();
        self.wait_left(now).is_zero() && (grant.is_due(now) || refused_and_spaced)
    }

    pub(super) fn note_success(&mut self, had_failed: bool, party: &Party) {
        let active = self.grant.as_ref().is_some_and(|grant| grant.condition == Condition::Active);
        if had_failed && active {
            tracing::info!("the refresh of {} works again", tokens_of(party));
        }
        self.failures = 0;
        self.retry = None;
        self.problem = None;
    }

    pub(super) fn note_failure(&mut self, setback: &Setback, party: &Party, fraction: f64) {
        let problem = setback.tell(party);
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!(hint = setback.hint(party), "{problem}");
        }
        let wait = |longest| backoff(self.failures, fraction, longest, setback.retry_after());
        let (alive, ended) = (wait(BACKOFF_ALIVE_MAX), wait(BACKOFF_ENDED_MAX));
        self.retry = Some(Retry { alive: Instant::now() + alive, ended: Instant::now() + ended });
        self.failures = self.failures.saturating_add(1);
        self.problem = Some(problem);
    }
}

impl Setback {
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Token(error) => error.retry_after(),
            Self::Lock(_) | Self::Vault(_) => None,
        }
    }

    fn tell(&self, party: &Party) -> String {
        match self {
            Self::Token(error) => party.tell_token(error),
            Self::Vault(_) | Self::Lock(_) => chain(self),
        }
    }

    fn hint(&self, party: &Party) -> String {
        match self {
            Self::Token(error) => party.token_hint(error),
            Self::Vault(error) => error.hint().to_owned(),
            Self::Lock(error) => error.hint(),
        }
    }
}

/// The tokens that one party gives, within a sentence.
fn tokens_of(party: &Party) -> String {
    match party {
        Party::Reteno => "Reteno's tokens".to_owned(),
        Party::Crm(source) => format!("the tokens of source {source}"),
    }
}

/// The wait after one more failure when there were `failures` before: doubled each time, spread over its upper half by
/// `fraction` in `[0, 1)`. The server's own word is a lower bound.
fn backoff(failures: u32, fraction: f64, longest: Duration, retry_after: Option<Duration>) -> Duration {
    let whole = BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(longest);
    let spread = whole.mul_f64(0.5 + fraction / 2.0);
    spread.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_the_servers_word_wins() {
        let seconds = |failures, fraction, ended, retry_after: Option<u64>| {
            let ended = if ended { BACKOFF_ENDED_MAX } else { BACKOFF_ALIVE_MAX };
            backoff(failures, fraction, ended, retry_after.map(Duration::from_secs)).as_secs_f64()
        };
        #[rustfmt::skip]
        let rows = [
            (seconds(0, 0.0, false, None), 2.5),
            (seconds(0, 1.0, false, None), 5.0),
            (seconds(3, 1.0, false, None), 40.0),
            (seconds(30, 1.0, false, None), 900.0),
            (seconds(u32::MAX, 1.0, false, None), 900.0),
            (seconds(30, 1.0, true, None), 60.0),
            (seconds(0, 0.0, false, Some(120)), 120.0),
            (seconds(30, 1.0, false, Some(1)), 900.0),
            (seconds(0, 0.0, false, Some(1_000_000)), 3600.0),
        ];
        for (place, (actual, expected)) in rows.into_iter().enumerate() {
            assert!((actual - expected).abs() < 1e-6, "row {place}: {actual} is not {expected}");
        }
    }
}
