//! The HTTP servers on `[listen]`: the authorization callback, the health of the process and webhooks; to strangers, files
//! and webhooks only.
//!
//! Knows nothing of OAuth, the checkpoint or a source: what a request means is handed in. Never logs a query.

pub mod callback;
pub mod exports;
pub mod hooks;
mod hosts;
pub mod metrics;
mod places;
mod serve;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use callback::{Callback, Page};
pub use exports::Exports;
pub use hooks::{Admitted, Hooks, NoBody, Posted, PostedHead, Reception};
pub use metrics::Metrics;
pub use places::Standing;

/// May this process be sent work?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Not now, for this reason (shown to whoever asks; no secret).
    NotReady(String),
}

/// What the server answers from. Each part is what one route needs; a further route gets a further field.
#[derive(Clone)]
pub struct Services {
    /// Completes an authorization; without it `/callback` is not served.
    pub callback: Option<Callback>,
    /// Takes what CRMs announce; without it `/hooks/` is not served.
    pub hooks: Option<Hooks>,
    /// Tells the metrics; without it `/metrics` is not served.
    pub metrics: Option<Metrics>,
    /// The daemon's own word about itself.
    pub readiness: watch::Receiver<Readiness>,
    /// Names of hosts by which all but webhooks may be asked, beside IP addresses and local names.
    pub names: Arc<[String]>,
}

/// All routes that `services` can answer. The status page joins here.
pub fn build_router(services: &Services) -> Router {
    let health = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(show_readiness))
        .with_state(services.readiness.clone());
    let callback = services.callback.clone().map(callback::build_route);
    let hooks = services.hooks.clone().map(hooks::build_route);
    let metrics = services.metrics.clone().map(metrics::build_route);
    let private = [callback, metrics].into_iter().flatten().fold(health, Router::merge);
    // webhooks come by whatever name a CRM was given
    hooks.into_iter().fold(hosts::guard(private, &services.names), Router::merge)
}

/// Serves until `stop` is cancelled, then lets requests under way finish for a few seconds.
///
/// # Errors
/// Where the listening socket breaks.
pub async fn serve(listener: TcpListener, services: Services, stop: CancellationToken) -> std::io::Result<()> {
    serve::serve_router(listener, build_router(&services), stop).await
}

/// What strangers may reach, and nothing else.
#[derive(Clone)]
pub struct PublicServices {
    /// Hands out files.
    pub exports: Exports,
    /// Takes what CRMs announce.
    pub hooks: Option<Hooks>,
}

/// Serves the public address, as [`serve`] does the other.
///
/// # Errors
/// Where the listening socket breaks.
pub async fn serve_public(
    listener: TcpListener,
    services: PublicServices,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let exports = exports::build_route(services.exports);
    let router = services.hooks.map(hooks::build_route).into_iter().fold(exports, Router::merge);
    serve::serve_router(listener, router, stop).await
}

async fn show_readiness(State(readiness): State<watch::Receiver<Readiness>>) -> (StatusCode, String) {
    match &*readiness.borrow() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

#[cfg(test)]
mod tests;
