//! The sandbox on a real loopback port, and what it answers there.

use std::io;
use std::net::SocketAddr;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::loopback::{Answers, Serving};
use super::{Outcome, Sandbox, admin, upload};

/// What one request may hold at most before the sandbox stops reading; its own bound answers 413 below this.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A sandbox that serves; dropped, it takes no more connections and lets those it has finish.
#[derive(Debug)]
pub struct Listening(Serving);

impl Listening {
    /// The bound address, with the real port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// For `reteno.api_url`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}/api", self.address())
    }

    /// For `reteno.authorize_url`.
    #[must_use]
    pub fn authorize_url(&self) -> String {
        format!("http://{}/uaa/oauth/authorize", self.address())
    }

    /// For `reteno.token_url`.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("http://{}/uaa/oauth/token", self.address())
    }

    /// The sandbox CRM's table as JSON lines.
    #[must_use]
    pub fn crm_url(&self) -> String {
        format!("http://{}/crm/contacts.jsonl", self.address())
    }

    /// Stops and waits until the last answer is out.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

pub(super) async fn listen(sandbox: Sandbox, address: SocketAddr) -> io::Result<Listening> {
    let serving = Serving::begin(sandbox.clone(), address).await?;
    if sandbox.downloader().is_none() {
        sandbox.set_downloader(upload::over_http());
    }
    Ok(Listening(serving))
}

impl Answers for Sandbox {
    async fn answer_over_http(
        &self,
        request: http::Request<Incoming>,
        stop: CancellationToken,
    ) -> io::Result<http::Response<Body>> {
        let cut = || io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault");
        let (parts, body) = request.into_parts();
        let body: Bytes = to_bytes(Body::new(body), BODY_BYTES_MAX).await.map_err(io::Error::other)?;
        if let Some(answer) = admin::answer(self, parts.uri.path()) {
            return Ok(answer.map(Body::from));
        }
        upload::fetch(self, parts.uri.path(), &body).await;
        let outcome = self.answer(http::Request::from_parts(parts, body));
        tokio::time::sleep(self.answer_delay()).await;
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
}
