//! Serving a router within bounds: so many connections, so long for each step of a request and its answer, and a stop that
//! waits a little.
//!
//! It stands on hyper itself, since what axum serves by has no such bounds.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::places::{Place, Places, Standing};

/// How long the head of a request may take, and how long a connection may be silent between two.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);
/// A client that takes nothing of its answer for so long holds a connection on purpose.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes that are read ahead, and so the longest head: four times what other servers take.
const BUFFER_MAX: usize = 64 << 10;
/// A client that is answered before it has sent all must be let finish, or the system cuts the answer off: so long, and so
/// many bytes.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 2 << 20;
/// How long requests under way may take once the server is to stop; a connection that says nothing never ends.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors left, as a rule): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn serve_router(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let places = Places::of_this_process();
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
        let (router, standing) = (router.clone(), place.standing());
        let (leave, stop, ended) = (place.leave(), stop.clone(), ended.clone());
        connections.spawn(async move {
            let mut serving = pin!(serve_connection(stream, (router, standing), stop));
            // a request that is there already is taken before its connection may be told to leave
            if futures_util::poll!(&mut serving).is_pending() {
                place.expose();
                tokio::select! {
                    () = serving => {}
                    () = leave.cancelled() => {}
                    () = ended.cancelled() => {}
                }
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

/// The next connection, with a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Places>) -> Option<(TcpStream, Place)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            let place = places.enter(peer.ip()).await;
            Some((stream, place))
        }
        Err(error) => {
            tracing::debug!("a connection could not be taken ({error})");
            places.make_room();
            None
        }
    }
}

async fn serve_connection(stream: TcpStream, (router, standing): (Router, Standing), stop: CancellationToken) {
    // an answer is one small packet: it must not wait for another
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(standing.clone());
        service.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(BUFFER_MAX);
    let stream = TokioIo::new(Written { stream, waits: None });
    let mut connection = builder.serve_connection(stream, service);
    let mut stopping = pin!(stop.cancelled());
    let mut is_stopping = false;
    // how a connection ends is the client's business
    let ended = std::future::poll_fn(|context| {
        if !is_stopping && stopping.as_mut().poll(context).is_ready() {
            is_stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        connection.poll_without_shutdown(context)
    });
    if ended.await.is_ok() {
        let stream = connection.into_parts().io.into_inner().stream;
        let _ = tokio::time::timeout(LINGER_MAX, linger(stream)).await;
    }
}

/// Ends our side, and lets the client end its own.
async fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

/// A connection that breaks where its client takes nothing of what is written for too long.
struct Written {
    stream: TcpStream,
    /// The end of the wait for a client that takes nothing at the moment.
    waits: Option<Pin<Box<Sleep>>>,
}

impl Written {
    fn bounded<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let wait =
            self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIME_MAX)));
        wait.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Written {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Written {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.bounded(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock moves by itself whenever everything waits.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_of_its_answer_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut written = Written { stream, waits: None };
        let began = Instant::now();
        let error = written.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), WRITE_TIME_MAX.as_secs());
        drop(client);
    }
}
