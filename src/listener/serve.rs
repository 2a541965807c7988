//! Serving a router within bounds: so many connections, so long for a request's head, and a stop that waits a little.
//!
//! It stands on hyper itself, since what axum serves by has neither bound.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at a time; more wait in the system's queue. Far more than any CRM opens, and few enough that all of them
/// leave file descriptors for the checkpoint and for calls.
const CONNECTIONS_MAX: usize = 256;
/// How long the head of a request may take, and how long a connection may be silent between two.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);
/// How long requests under way may take once the server is to stop; a connection that says nothing never ends.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors left, as a rule): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn serve_router(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    // cancelled when this future is dropped, so that no connection outlives it
    let ended = CancellationToken::new();
    let _end = ended.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, stop, ended) = (router.clone(), stop.clone(), ended.clone());
        connections.spawn(async move {
            tokio::select! {
                () = serve_connection(stream, router, stop) => {}
                () = ended.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    // those that are still open then end with this future
    let _ = tokio::time::timeout(DRAIN_MAX, connections.wait()).await;
    Ok(())
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::debug!("a connection could not be taken ({error})");
            None
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    // an answer is one small packet: it must not wait for another
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // how a connection ends is the client's business
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
