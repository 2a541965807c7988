//! `POST /hooks/{source}` and `/hooks/{source}/{token}`: takes a delivery whole, within its bounds, and answers as told.
//!
//! What a delivery means, whether it is genuine and where it is kept is handed in; 200 is answered only after that has
//! said so. A body is read only where nothing before it speaks against the sender. Never logs a path, a query, a header or a
//! body: each may hold a secret or a person.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::places::{Room, SMALL_BYTES, Standing};

/// How long a body may take. A CRM's own server sends it in one piece; who takes longer holds a connection on purpose.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// After how many seconds a sender may come again when we are busy.
const RETRY_AFTER: &str = "5";
/// Whoever has proven nothing learns nothing: not which part of a proof was wrong, nor whether there is such a hook.
const UNPROVEN: &str = "there is no such webhook, or the delivery does not prove who sends it\n";

/// What of a delivery comes before its body.
pub struct PostedHead {
    /// The source that its path names.
    pub source: String,
    /// The rest of its path, where there is one: a secret.
    pub token: Option<String>,
    /// Path and query, byte for byte.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
}

/// A delivery as it came.
pub struct Posted {
    /// What came before the body.
    pub head: PostedHead,
    /// Its body, or why there is none.
    pub body: Result<Bytes, NoBody>,
    /// Its head has proven who sends it.
    pub is_proven: bool,
    /// To be told where the body proves who sends it.
    pub standing: Standing,
    /// Cancelled once the connection is gone: until a delivery is proven nothing more is done for it then.
    pub gone: CancellationToken,
    /// Until it is dropped the body takes its part of the room for strangers.
    _room: Room,
}

impl Posted {
    /// Whether its body is one of many that may be looked at in a moment.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.body.as_ref().is_ok_and(|body| body.len() <= SMALL_BYTES)
    }
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
    /// Strangers have taken all the room for large ones.
    NoRoom,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reception {
    /// It is on disk.
    Kept,
    /// Nobody knows that the sender is who it says it is.
    Forged,
    /// It is not in the form that was agreed on: what is wrong, without anything of its body.
    Malformed(String),
    /// It cannot be kept now.
    Busy,
    /// There was no body to look at.
    NoBody(NoBody),
}

/// A delivery whose body may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// How many bytes it may have.
    pub bytes_max: usize,
    /// The head alone has proven who sends it.
    pub is_proven: bool,
}

/// Looks at what comes before a body; an answer where that is enough to refuse it.
pub type Admit = Arc<dyn Fn(&PostedHead) -> Result<Admitted, Reception> + Send + Sync>;

/// Takes a delivery.
pub type Take = Arc<dyn Fn(Posted) -> BoxFuture<'static, Reception> + Send + Sync>;

/// Whoever takes deliveries.
#[derive(Clone)]
pub struct Hooks {
    /// Says whether a body is to be read.
    pub admit: Admit,
    /// Takes a delivery that was admitted.
    pub take: Take,
}

pub(super) fn build_route(hooks: Hooks) -> Router {
    Router::new().route("/hooks/{source}", post(take)).route("/hooks/{source}/{token}", post(take)).with_state(hooks)
}

async fn take(State(hooks): State<Hooks>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().strip_prefix("/hooks/").unwrap_or_default();
    let (source, token) = path.split_once('/').map_or((path, None), |(source, token)| (source, Some(token.to_owned())));
    let source = source.to_owned();
    let target = parts.uri.path_and_query().map_or_else(|| parts.uri.path().to_owned(), ToString::to_string);
    let standing = parts.extensions.get::<Standing>().cloned().unwrap_or_default();
    let head = PostedHead { source, token, target, headers: parts.headers };
    let admitted = match (hooks.admit)(&head) {
        Ok(admitted) => admitted,
        Err(reception) => return answer(reception),
    };
    if admitted.is_proven {
        standing.prove();
    }
    let room = standing.take_in();
    let reading = read(body, announced_length(&head.headers), (admitted.bytes_max, &room));
    let body = tokio::time::timeout(BODY_TIME_MAX, reading).await.unwrap_or(Err(NoBody::TooSlow));
    room.finish();
    let _heard = standing.hear();
    let gone = CancellationToken::new();
    let _gone = gone.clone().drop_guard();
    let posted = Posted { head, body, is_proven: admitted.is_proven, standing, gone, _room: room };
    // in a task of its own: a sender that goes away must not leave half of it done
    let taken = tokio::spawn((hooks.take)(posted)).await.unwrap_or(Reception::Busy);
    answer(taken)
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body, of which not a byte is read where its announced length is too much.
async fn read(body: Body, announced: Option<u64>, (bytes_max, room): (usize, &Room)) -> Result<Bytes, NoBody> {
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
        if !room.grow(whole.len() + part.len()) {
            return Err(NoBody::NoRoom);
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

fn answer(taken: Reception) -> Response {
    // who is refused unproven is not listened to any further
    let close: [(HeaderName, &str); 1] = [(header::CONNECTION, "close")];
    match taken {
        Reception::Kept => StatusCode::OK.into_response(),
        Reception::Forged => (StatusCode::UNAUTHORIZED, close, UNPROVEN).into_response(),
        Reception::Malformed(what) => (StatusCode::BAD_REQUEST, format!("{what}\n")).into_response(),
        Reception::NoBody(NoBody::Broken) => StatusCode::BAD_REQUEST.into_response(),
        Reception::NoBody(NoBody::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, close).into_response(),
        Reception::NoBody(NoBody::TooSlow) => (StatusCode::REQUEST_TIMEOUT, close).into_response(),
        Reception::Busy | Reception::NoBody(NoBody::NoRoom) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)]).into_response()
        }
    }
}
