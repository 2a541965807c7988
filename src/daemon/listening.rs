//! The daemon's listeners: what they are bound to, and what their routes are answered from.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{AuthConfig, Config, OAuthGrant};
use crate::listener::{self, Callback, Page, PublicServices, Readiness, Services};
use crate::oauth::Authorizers;

use super::exports::build_exports;
use super::hooks::HookDesk;
use super::metrics::build_metrics;
use super::run::{RunError, Shared};

/// Connections that may wait to be taken: whoever finds no room there tries again only after a second. The system may allow
/// fewer.
const BACKLOG: u32 = 4096;

/// A configured listener, where there is one.
pub fn bind(address: Option<SocketAddr>) -> Result<Option<TcpListener>, RunError> {
    let Some(address) = address else { return Ok(None) };
    listen(address).map(Some).map_err(|source| RunError::Listen { address, source })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // the port of a process that has just ended is free
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The listeners that are configured.
pub(super) fn spawn_listeners(
    tasks: &mut JoinSet<Result<(), RunError>>,
    shared: &Arc<Shared>,
    (private, public): (Option<TcpListener>, Option<TcpListener>),
    parked: &CancellationToken,
) {
    if let Some(listener) = private {
        tasks.spawn(serve_private(listener, Arc::clone(shared), shared.ready.subscribe()));
    }
    if let Some(listener) = public {
        let exports: listener::Exports = if shared.config.upload.contacts_min.is_some() {
            build_exports(&shared.around.store, &shared.around.clock)
        } else {
            Arc::new(|_| Box::pin(async { None }))
        };
        let services = PublicServices { exports, hooks: shared.hooks.as_ref().map(HookDesk::listen) };
        tasks.spawn(serve_public(listener, services, parked.clone()));
    }
}

/// Serves the public address until `stop`.
pub async fn serve_public(
    listener: TcpListener,
    services: PublicServices,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let address = bound_address(&listener);
    let served = listener::serve_public(listener, services, stop).await;
    served.map_err(|source| RunError::Listen { address, source })
}

/// The listener of this machine: health, the callback of an authorization, webhooks, metrics.
async fn serve_private(
    listener: TcpListener,
    shared: Arc<Shared>,
    readiness: watch::Receiver<Readiness>,
) -> Result<(), RunError> {
    let hooks = shared.hooks.as_ref().map(HookDesk::listen);
    let metrics = Some(build_metrics(&shared.around.store, shared.hooks.clone(), &shared.around.clock));
    let names = own_names(&shared.config);
    let services = Services { callback: Some(build_callback(&shared)), hooks, metrics, readiness, names };
    let address = bound_address(&listener);
    let served = listener::serve(listener, services, shared.stop.soft.clone()).await;
    served.map_err(|source| RunError::Listen { address, source })
}

/// Names of hosts that lead to the private address: those that are configured, and those that browsers are redirected to.
#[must_use]
pub fn own_names(config: &Config) -> Arc<[String]> {
    let of_sources = config.sources.iter().filter_map(|source| match &source.auth {
        AuthConfig::OAuth2(oauth) => match &oauth.grant {
            OAuthGrant::RefreshToken { redirect, .. } => redirect.as_ref(),
            OAuthGrant::ClientCredentials | OAuthGrant::JwtBearer { .. } => None,
        },
        AuthConfig::None | AuthConfig::Header { .. } => None,
    });
    let redirects = std::iter::once(&config.reteno.redirect).chain(of_sources);
    let hosts = redirects.filter_map(|redirect| redirect.url.host_str().map(str::to_owned));
    config.listen.names.iter().cloned().chain(hosts).collect()
}

fn bound_address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn build_callback(shared: &Arc<Shared>) -> Callback {
    let shared = Arc::clone(shared);
    let crms = shared.around.crms.iter().filter_map(|crm| crm.authorizer.clone());
    let authorizers = Authorizers::of(Arc::clone(&shared.account.authorizer), crms);
    Arc::new(move |query| {
        let (shared, tracker) = (Arc::clone(&shared), shared.callbacks.clone());
        let authorizers = authorizers.clone();
        Box::pin(tracker.track_future(async move {
            let (page, source) = authorizers.complete_callback(&shared.account.desk, &query).await;
            if let Some(crm) = shared.around.crms.iter().find(|crm| source.as_ref() == Some(&crm.source)) {
                crm.refresher.look_again().await;
                crm.granted.notify_one();
            } else {
                shared.account.refresher.look_again().await;
                shared.granted.notify_one();
                shared.line.nudge();
            }
            Page { status: page.status, title: page.title.to_owned(), message: page.message, hint: page.hint }
        }))
    })
}

/// A code that is being exchanged is spent, and its browser may be gone: its tokens are waited for as long as the stop
/// may take.
pub(super) async fn finish_callbacks(shared: &Shared) {
    shared.callbacks.close();
    if shared.callbacks.is_empty() {
        return;
    }
    tracing::info!("an authorization is being completed: the stop waits for it");
    tokio::select! {
        () = shared.callbacks.wait() => {}
        () = shared.stop.hard.cancelled() => tracing::warn!("an authorization could not be completed in time"),
    }
}

/// An answer on its way still reaches the vault.
pub(super) async fn finish_refreshes(shared: &Shared) {
    let quiet = async {
        shared.account.refresher.quiesce().await;
        for crm in &shared.around.crms {
            crm.refresher.quiesce().await;
        }
    };
    tokio::select! {
        () = quiet => {}
        () = shared.stop.hard.cancelled() => tracing::warn!("a refresh of the tokens could not be waited for"),
    }
}
