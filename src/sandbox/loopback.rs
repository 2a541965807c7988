//! HTTP/1 on a loopback port, for whatever answers. An answer that is an error cuts the connection without a byte, which
//! is why this stands on hyper itself: a router always answers. It must never listen elsewhere.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// After a failed accept (no file descriptors left, as a rule): long enough not to spin, short enough not to be seen.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers requests. An error cuts the connection.
pub(super) trait Answers: Clone + Send + Sync + 'static {
    /// Answers one request; `stop` ends what waits.
    fn answer_over_http(
        &self,
        request: http::Request<Incoming>,
        stop: CancellationToken,
    ) -> impl Future<Output = io::Result<http::Response<Body>>> + Send;
}

/// A bound port; dropped, it takes no more connections and lets those it has finish.
#[derive(Debug)]
pub(super) struct Serving {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    stop: DropGuard,
}

impl Serving {
    /// Binds `address` (port 0 for a free one) and serves.
    pub(super) async fn begin(answers: impl Answers, address: SocketAddr) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the sandbox listens on loopback only"));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(accept(answers, listener, stop.clone()));
        Ok(Self { address, accepting, stop: stop.drop_guard() })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops and waits until the last answer is out.
    pub(super) async fn stop(self) {
        drop(self.stop);
        // It fails only where the runtime is going down, and then nothing is left to wait for.
        let _ = self.accepting.await;
    }
}

async fn accept(answers: impl Answers, listener: TcpListener, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(connections.spawn(serve(answers.clone(), stream, stop.clone()))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve(answers: impl Answers, stream: TcpStream, stop: CancellationToken) {
    let service = service_fn(|request| answers.answer_over_http(request, stop.clone()));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // How a connection ends is the client's business: a cut one is what a fault asked for.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
