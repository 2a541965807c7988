//! Where deliveries are looked at: on threads that serve no connection, so many at a time. Whoever has proven nothing yet has
//! one thread for small bodies and one for large ones, so that no stranger's large body is before anybody's small one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Deliveries of proven senders that are read at a time: they wait for each other rather than for the cores.
const PROVEN_MAX: usize = 2;
/// How long one waits for its turn. A sender that was not answered by then takes the delivery for lost.
const TURN_TIME_MAX: Duration = Duration::from_secs(5);

/// Too many were before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its turn did not come in time")]
pub(super) struct Crowded;

/// All lanes.
pub(super) struct Lanes {
    proven: Lane,
    small: Lane,
    large: Lane,
}

impl Lanes {
    pub(super) fn open() -> Self {
        let lane = |places| Lane(Arc::new(Semaphore::new(places)));
        Self { proven: lane(PROVEN_MAX), small: lane(1), large: lane(1) }
    }

    pub(super) fn of_proven(&self) -> &Lane {
        &self.proven
    }

    pub(super) fn of_strangers(&self, is_small: bool) -> &Lane {
        if is_small { &self.small } else { &self.large }
    }
}

/// So many at a time.
pub(super) struct Lane(Arc<Semaphore>);

impl Lane {
    /// Does the work in its turn. It goes on where nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Crowded> {
        let turn = tokio::time::timeout(TURN_TIME_MAX, Arc::clone(&self.0).acquire_owned()).await;
        let turn = turn.map_err(|_| Crowded)?.expect("nobody closes it");
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        match done.await {
            Ok(done) => Ok(done),
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_bodies_of_strangers_keep_nobody_waiting_but_each_other() {
        let lanes = Lanes::open();
        let (end, ended) = mpsc::channel::<()>();
        let large = lanes.of_strangers(false).run(move || ended.recv().is_ok());
        tokio::pin!(large);
        assert!(futures_util::poll!(&mut large).is_pending());
        let caller = std::thread::current().id();
        assert_eq!(lanes.of_strangers(true).run(move || std::thread::current().id() != caller).await, Ok(true));
        assert_eq!(lanes.of_proven().run(|| 1).await, Ok(1));
        let next = lanes.of_strangers(false).run(|| 2);
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        tokio::time::advance(TURN_TIME_MAX).await;
        assert_eq!(next.await, Err(Crowded));
        end.send(()).unwrap();
        assert_eq!(large.await, Ok(true));
    }
}
