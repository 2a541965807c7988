//! `GET /exports/{token}.csv`: the files that Reteno fetches. Only on the public address.
//!
//! Never logs a path: who knows it may fetch the file. Whatever is not there is answered alike.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;

use super::places::Standing;

/// Gives the file behind a token, where it may be handed out.
pub type Exports = Arc<dyn Fn(String) -> BoxFuture<'static, Option<std::fs::File>> + Send + Sync>;

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

pub(super) fn build_route(exports: Exports) -> Router {
    Router::new().route("/exports/{file}", get(hand_out)).with_state(exports)
}

async fn hand_out(State(exports): State<Exports>, request: Request) -> Response {
    let name = request.uri().path().strip_prefix("/exports/").unwrap_or_default();
    // also what is no name of a file takes the way that a wrong token takes
    let token = name.strip_suffix(".csv").unwrap_or_default();
    let Some(file) = exports(token.to_owned()).await else {
        // a guess is not listened to any further
        return (StatusCode::NOT_FOUND, [(header::CONNECTION, "close")]).into_response();
    };
    if let Some(standing) = request.extensions().get::<Standing>() {
        standing.prove();
    }
    let Ok(size) = file.metadata().map(|metadata| metadata.len()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers: [(HeaderName, String); 4] = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    let chunks = futures_util::stream::try_unfold(tokio::fs::File::from_std(file), async |mut file| {
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
    });
    (headers, Body::from_stream(chunks)).into_response()
}
