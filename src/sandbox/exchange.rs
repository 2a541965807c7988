//! The sandbox behind the program's own seam: no socket, no time passes, the same order always.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::http::{Exchange, ExchangeError};

use super::{Outcome, Sandbox, upload};

/// An exchange that ends in a sandbox of this process.
pub(super) struct InProcess {
    sandbox: Sandbox,
}

impl InProcess {
    pub(super) fn new(sandbox: Sandbox) -> Self {
        Self { sandbox }
    }
}

impl Exchange for InProcess {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, ExchangeError>> {
        let host = request.uri().authority().map_or_else(|| "sandbox".to_owned(), ToString::to_string);
        // Inside the future: like a connection, nothing happens before it is polled.
        async move {
            upload::fetch(&self.sandbox, request.uri().path(), request.body()).await;
            match self.sandbox.answer(request) {
                Outcome::Answer(answer) => Ok(answer),
                Outcome::Held(held) => Ok(held.released().await),
                Outcome::Refused => {
                    Err(ExchangeError::NotSent { host, source: "connection refused by a fault".into() })
                }
                Outcome::LostBefore => Err(ExchangeError::Lost { host, source: "request lost by a fault".into() }),
                Outcome::LostAfter => Err(ExchangeError::Lost { host, source: "answer lost by a fault".into() }),
            }
        }
        .boxed()
    }
}
