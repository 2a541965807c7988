//! `GET /metrics`: hands out the text that it is given. Only on the address of this machine.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;

/// Gives the metrics as they are now, in Prometheus' text format; `None` where they cannot be told.
pub type Metrics = Arc<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>;

pub(super) fn build_route(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(show)).with_state(metrics)
}

async fn show(State(metrics): State<Metrics>) -> Response {
    match metrics().await {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
