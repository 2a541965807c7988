//! The sandbox CRM behind the program's own seam: no socket, no time passes, the same order always.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::http::{Exchange, ExchangeError};

use super::{CrmOutcome, CrmSandbox};

/// An exchange that ends in a sandbox CRM of this process.
pub(super) struct InProcess {
    sandbox: CrmSandbox,
}

impl InProcess {
    pub(super) fn new(sandbox: CrmSandbox) -> Self {
        Self { sandbox }
    }
}

impl Exchange for InProcess {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, ExchangeError>> {
        let host = request.uri().authority().map_or_else(|| "crm".to_owned(), ToString::to_string);
        // Inside the future: like a connection, nothing happens before it is polled.
        async move {
            match self.sandbox.answer(request) {
                CrmOutcome::Answer(answer) => Ok(answer),
                CrmOutcome::LostBefore => Err(ExchangeError::Lost { host, source: "request lost by a fault".into() }),
                CrmOutcome::LostAfter => Err(ExchangeError::Lost { host, source: "answer lost by a fault".into() }),
            }
        }
        .boxed()
    }
}
