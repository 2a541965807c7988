//! The HTTP servers on `[listen]`: the authorization callback and the health of the process; to strangers, files only.
//!
//! Knows nothing of OAuth, the checkpoint or a source: what a request means is handed in. Never logs a query.

pub mod callback;
pub mod exports;

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use callback::{Callback, Page};
pub use exports::Exports;

/// How long requests under way may take once the server is to stop; a connection that says nothing never ends.
const DRAIN_MAX: Duration = Duration::from_secs(5);

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
    /// The daemon's own word about itself.
    pub readiness: watch::Receiver<Readiness>,
}

/// All routes that `services` can answer. Hooks, metrics and the status page join here.
pub fn build_router(services: &Services) -> Router {
    let health = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(show_readiness))
        .with_state(services.readiness.clone());
    match &services.callback {
        Some(callback) => health.merge(callback::build_route(callback.clone())),
        None => health,
    }
}

/// Serves until `stop` is cancelled, then lets requests under way finish for a few seconds.
///
/// # Errors
/// Where the listening socket breaks.
pub async fn serve(listener: TcpListener, services: Services, stop: CancellationToken) -> std::io::Result<()> {
    serve_router(listener, build_router(&services), stop).await
}

/// Serves the public address, as [`serve`] does the other.
///
/// # Errors
/// Where the listening socket breaks.
pub async fn serve_public(listener: TcpListener, exports: Exports, stop: CancellationToken) -> std::io::Result<()> {
    serve_router(listener, exports::build_public_router(exports), stop).await
}

async fn serve_router(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let graceful = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        outcome = async { graceful.await } => outcome,
        () = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN_MAX).await;
        } => Ok(()),
    }
}

async fn show_readiness(State(readiness): State<watch::Receiver<Readiness>>) -> (StatusCode, String) {
    match &*readiness.borrow() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

#[cfg(test)]
mod tests;
