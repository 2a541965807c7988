//! `POST /hooks/{source}` and `/hooks/{source}/{token}`: takes a delivery whole, within its bounds, and answers as told.
//!
//! What a delivery means, whether it is genuine and where it is kept is handed in; 200 is answered only after that has
//! said so. Never logs a path, a query, a header or a body: each may hold a secret or a person.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;

/// How long a body may take. A CRM's own server sends it in one piece; who takes longer holds a connection on purpose.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// After how many seconds a sender may come again when we are busy.
const RETRY_AFTER: &str = "5";

/// A delivery as it came.
pub struct Posted {
    /// The source that its path names.
    pub source: String,
    /// The rest of its path, where there is one: a secret.
    pub token: Option<String>,
    /// Path and query, byte for byte.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, or why there is none.
    pub body: Result<Bytes, NoBody>,
}

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBody {
    /// It is longer than the source allows.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// The connection broke.
    Broken,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// It is on disk.
    Kept,
    /// Nobody knows that the sender is who it says it is.
    Forged,
    /// It is not in the form that was agreed on.
    Malformed,
    /// It cannot be kept now.
    Busy,
    /// There was no body to look at.
    NoBody(NoBody),
}

/// The bound of a body, by the name of its source.
pub type BytesMax = Arc<dyn Fn(&str) -> Option<usize> + Send + Sync>;

/// Takes a delivery.
pub type Take = Arc<dyn Fn(Posted) -> BoxFuture<'static, Reception> + Send + Sync>;

/// Whoever takes deliveries.
#[derive(Clone)]
pub struct Hooks {
    /// How many bytes a delivery to this source may have; `None`: there is no such source, or it takes none.
    pub bytes_max: BytesMax,
    /// Takes one.
    pub take: Take,
}

pub(super) fn build_route(hooks: Hooks) -> Router {
    Router::new().route("/hooks/{source}", post(take)).route("/hooks/{source}/{token}", post(take)).with_state(hooks)
}

async fn take(State(hooks): State<Hooks>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().strip_prefix("/hooks/").unwrap_or_default();
    let (source, token) = path.split_once('/').map_or((path, None), |(source, token)| (source, Some(token.to_owned())));
    let Some(bytes_max) = (hooks.bytes_max)(source) else { return StatusCode::NOT_FOUND.into_response() };
    let target = parts.uri.path_and_query().map_or_else(|| parts.uri.path().to_owned(), ToString::to_string);
    let source = source.to_owned();
    let reading = read(body, announced_length(&parts.headers), bytes_max);
    let body = tokio::time::timeout(BODY_TIME_MAX, reading).await.unwrap_or(Err(NoBody::TooSlow));
    let posted = Posted { source, token, target, headers: parts.headers, body };
    // in a task of its own: a sender that goes away must not leave half of it done
    let taken = tokio::spawn((hooks.take)(posted)).await.unwrap_or(Reception::Busy);
    answer(taken)
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body, of which not a byte is read where its announced length is too much.
async fn read(body: Body, announced: Option<u64>, bytes_max: usize) -> Result<Bytes, NoBody> {
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return Err(NoBody::TooLarge);
    }
    let mut parts = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| NoBody::Broken)?;
        if whole.len() + part.len() > bytes_max {
            return Err(NoBody::TooLarge);
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

fn answer(taken: Reception) -> Response {
    let status = match taken {
        Reception::Kept => StatusCode::OK,
        Reception::Forged => StatusCode::UNAUTHORIZED,
        Reception::Malformed | Reception::NoBody(NoBody::Broken) => StatusCode::BAD_REQUEST,
        Reception::NoBody(NoBody::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Reception::NoBody(NoBody::TooSlow) => StatusCode::REQUEST_TIMEOUT,
        Reception::Busy => {
            return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)]).into_response();
        }
    };
    status.into_response()
}
