//! Keeps all requests of one account within its rate. It delays, and never drops, repeats or reorders.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Semaphore;

use super::{Exchange, ExchangeError};

/// An [`Exchange`] that lets at most so many requests begin in any one second.
///
/// The budget belongs to the value: every task that calls the same account shares one `Arc<Paced>`, then repeats and
/// polls count too. Requests begin in the order in which they asked.
pub struct Paced {
    inner: Arc<dyn Exchange>,
    limiter: RateLimiter<NotKeyed, InMemoryState, TimerClock, NoOpMiddleware<Nanos>>,
    clock: TimerClock,
    /// A queue, not a lock over data: only its head waits for the limiter, the others keep their place. Without it
    /// all would wake at once and the youngest could win.
    queue: Semaphore,
}

impl Paced {
    /// Lets `requests_per_second` begin in any one second, a twentieth of them (at least one) at once.
    ///
    /// The limiter adds the burst to what it refills, so the refill is slower by the burst: a budget that were
    /// exceeded in the first second already would answer with 429 where the account's limit is set as the budget.
    /// Without any burst the timer's resolution of a millisecond would cost a fifth of a rate of 200.
    #[must_use]
    pub fn new(inner: Arc<dyn Exchange>, requests_per_second: NonZeroU32) -> Self {
        Self::within(inner, quota(requests_per_second))
    }

    /// Lets one request begin every `period`, and `burst` at once after a rest.
    #[must_use]
    pub fn every(inner: Arc<dyn Exchange>, period: Duration, burst: NonZeroU32) -> Self {
        Self::within(inner, quota_of(period, burst))
    }

    fn within(inner: Arc<dyn Exchange>, quota: Quota) -> Self {
        let clock = TimerClock { anchor: tokio::time::Instant::now() };
        Self { inner, limiter: RateLimiter::direct_with_clock(quota, clock), clock, queue: Semaphore::new(1) }
    }

    async fn wait_for_turn(&self) {
        // The semaphore is never closed; if it were, the limiter below would still hold the rate.
        let _place = self.queue.acquire().await.ok();
        while let Err(not_until) = self.limiter.check() {
            tokio::time::sleep(not_until.wait_time_from(self.clock.now())).await;
        }
    }
}

impl Exchange for Paced {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, ExchangeError>> {
        Box::pin(async move {
            self.wait_for_turn().await;
            self.inner.exchange(request).await
        })
    }
}

fn quota(requests_per_second: NonZeroU32) -> Quota {
    let burst = NonZeroU32::new(requests_per_second.get() / 20).unwrap_or(NonZeroU32::MIN);
    let refilled = requests_per_second.get() - burst.get() + 1;
    quota_of(Duration::from_secs(1) / refilled, burst)
}

fn quota_of(period: Duration, burst: NonZeroU32) -> Quota {
    let period = period.max(Duration::from_nanos(1));
    Quota::with_period(period).expect("the period is at least a nanosecond").allow_burst(burst)
}

/// Tokio's timer as the limiter's clock, so that a simulation which moves the timer moves the limiter too.
#[derive(Clone, Copy)]
struct TimerClock {
    anchor: tokio::time::Instant,
}

impl governor::clock::Clock for TimerClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(u64::try_from(self.anchor.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
