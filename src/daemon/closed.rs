//! What the listeners answer while the checkpoint cannot be opened: that the sender should come again. It reads no body and
//! knows no source.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::listener::{self, Hooks, PublicServices, Readiness, Reception, Services};

use super::listening::{bind, own_names};
use super::run_error::RunError;

/// The listeners of a daemon that cannot work yet.
pub struct Closed {
    stop: CancellationToken,
    listeners: JoinSet<std::io::Result<()>>,
}

impl Closed {
    /// Listens on what is configured.
    pub fn open(config: &Config, reason: String) -> Result<Self, RunError> {
        let (listen, names) = (&config.listen, own_names(config));
        let (stop, mut listeners) = (CancellationToken::new(), JoinSet::new());
        let hooks = Hooks {
            admit: Arc::new(|_| Err(Reception::Busy)),
            take: Arc::new(|_| Box::pin(async { Reception::Busy })),
        };
        if let Some(listener) = bind(listen.address)? {
            let (_, readiness) = watch::channel(Readiness::NotReady(reason));
            let services = Services { callback: None, hooks: Some(hooks.clone()), metrics: None, readiness, names };
            listeners.spawn(listener::serve(listener, services, stop.clone()));
        }
        if let Some(listener) = bind(listen.public_address)? {
            let exports: listener::Exports = Arc::new(|_| Box::pin(async { None }));
            let services = PublicServices { exports, hooks: Some(hooks) };
            listeners.spawn(listener::serve_public(listener, services, stop.clone()));
        }
        Ok(Self { stop, listeners })
    }

    /// Gives the addresses free.
    pub async fn end(mut self) {
        self.stop.cancel();
        while self.listeners.join_next().await.is_some() {}
    }
}
