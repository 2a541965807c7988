//! Raising and ending alerts: each is stored once, logged once when it begins and once when it ends, and by each process
//! that starts while it stands.

use crate::checkpoint::{Alert, CheckpointError, Store};
use crate::clock::Clock;

/// Where alerts go.
#[derive(Clone)]
pub struct Alarm {
    store: Store,
    clock: Clock,
}

impl Alarm {
    /// Alerts are kept in `store`.
    #[must_use]
    pub fn open(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Raises the alert `name` where it does not stand already.
    pub async fn raise(&self, name: &str, text: &str, hint: &str) -> Result<(), CheckpointError> {
        let now = self.clock.now();
        let (owned_name, owned_text, owned_hint) = (name.to_owned(), text.to_owned(), hint.to_owned());
        let is_news = self
            .store
            .call(move |checkpoint| checkpoint.raise_alert(&owned_name, &owned_text, &owned_hint, now))
            .await?;
        if is_news {
            tracing::error!(alert = name, hint, "{text}");
        }
        Ok(())
    }

    /// Logs each alert that stands: whoever starts a process looks at its log, not at that of an earlier one.
    pub async fn repeat(&self) -> Result<(), CheckpointError> {
        for Alert { name, text, hint, since } in self.store.call(|checkpoint| checkpoint.load_alerts()).await? {
            tracing::error!(alert = name, hint, "since {since}: {text}");
        }
        Ok(())
    }

    /// Ends the alert `name` where it stands.
    pub async fn end(&self, name: &str) -> Result<(), CheckpointError> {
        let owned = name.to_owned();
        if self.store.call(move |checkpoint| checkpoint.end_alert(&owned)).await? {
            tracing::info!(alert = name, "the alert has ended");
        }
        Ok(())
    }
}
