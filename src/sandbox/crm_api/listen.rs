//! The sandbox CRM on a real loopback port, and what it answers there.

use std::io;
use std::net::SocketAddr;

use axum::body::{Body, to_bytes};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use crate::sandbox::loopback::{Answers, Serving};

use super::{CrmOutcome, CrmSandbox, admin};

/// What one request may hold at most; the vendors' bounds are below it.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A sandbox CRM that serves; dropped, it takes no more connections and lets those it has finish.
#[derive(Debug)]
pub struct CrmListening(Serving);

impl CrmListening {
    /// The bound address, with the real port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// For `base_url` of every dialect.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Stops and waits until the last answer is out.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

pub(super) async fn listen(sandbox: CrmSandbox, address: SocketAddr) -> io::Result<CrmListening> {
    Ok(CrmListening(Serving::begin(sandbox, address).await?))
}

impl Answers for CrmSandbox {
    async fn answer_over_http(
        &self,
        request: http::Request<Incoming>,
        _stop: CancellationToken,
    ) -> io::Result<http::Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(Body::new(body), BODY_BYTES_MAX).await.map_err(io::Error::other)?;
        let query = parts.uri.query().unwrap_or_default();
        if let Some(answer) = admin::answer(self, parts.uri.path(), query) {
            return Ok(answer.map(Body::from));
        }
        match self.answer(http::Request::from_parts(parts, body)) {
            CrmOutcome::Answer(answer) => Ok(answer.map(Body::from)),
            CrmOutcome::LostBefore | CrmOutcome::LostAfter => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault"))
            }
        }
    }
}
