//! The sandbox on a real loopback port. A lost request or answer cuts the connection without a byte of an answer, which
//! is why this stands on hyper itself: a router always answers.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::admin;
use super::{Outcome, Sandbox, upload};

/// What one request may hold at most before the sandbox stops reading; its own bound answers 413 below this.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// After a failed accept (no file descriptors left, as a rule): long enough not to spin, short enough not to be seen.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A sandbox that serves; dropped, it takes no more connections and lets those it has finish.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    stop: DropGuard,
}

impl Listening {
    /// The bound address, with the real port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `reteno.api_url`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// For `reteno.authorize_url`.
    #[must_use]
    pub fn authorize_url(&self) -> String {
        format!("http://{}/uaa/oauth/authorize", self.address)
    }

    /// For `reteno.token_url`.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("http://{}/uaa/oauth/token", self.address)
    }

    /// The sandbox CRM's table as JSON lines.
    #[must_use]
    pub fn crm_url(&self) -> String {
        format!("http://{}/crm/contacts.jsonl", self.address)
    }

    /// Stops and waits until the last answer is out.
    pub async fn stop(self) {
        drop(self.stop);
        // It fails only where the runtime is going down, and then nothing is left to wait for.
        let _ = self.accepting.await;
    }
}

pub(super) async fn listen(sandbox: Sandbox, address: SocketAddr) -> io::Result<Listening> {
    if !address.ip().is_loopback() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the sandbox listens on loopback only"));
    }
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    if sandbox.downloader().is_none() {
        sandbox.set_downloader(upload::over_http());
    }
    let stop = CancellationToken::new();
    let accepting = tokio::spawn(accept(sandbox, listener, stop.clone()));
    Ok(Listening { address, accepting, stop: stop.drop_guard() })
}

async fn accept(sandbox: Sandbox, listener: TcpListener, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(connections.spawn(serve(sandbox.clone(), stream, stop.clone()))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve(sandbox: Sandbox, stream: TcpStream, stop: CancellationToken) {
    let service = service_fn(|request| answer(&sandbox, request, &stop));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // How a connection ends is the client's business: a cut one is what a fault asked for.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// An error cuts the connection.
async fn answer(
    sandbox: &Sandbox,
    request: http::Request<Incoming>,
    stop: &CancellationToken,
) -> io::Result<http::Response<Body>> {
    let cut = || io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault");
    let (parts, body) = request.into_parts();
    let body: Bytes = to_bytes(Body::new(body), BODY_BYTES_MAX).await.map_err(io::Error::other)?;
    if let Some(answer) = admin::answer(sandbox, parts.uri.path()) {
        return Ok(answer.map(Body::from));
    }
    upload::fetch(sandbox, parts.uri.path(), &body).await;
    let outcome = sandbox.answer(http::Request::from_parts(parts, body));
    tokio::time::sleep(sandbox.answer_delay()).await;
    let answer = match outcome {
        Outcome::Answer(answer) => answer,
        Outcome::Refused | Outcome::LostBefore | Outcome::LostAfter => return Err(cut()),
        Outcome::Held(held) => tokio::select! {
            answer = held.released() => answer,
            () = stop.cancelled() => return Err(cut()),
        },
    };
    Ok(answer.map(Body::from))
}
