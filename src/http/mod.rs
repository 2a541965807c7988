//! The seam between the program and the network: one request in, one bounded answer out.
//!
//! Everything that talks HTTP as a client (Reteno, OAuth, CRMs) goes through [`Exchange`], so that a simulation can
//! put the sandbox behind it without a socket. It never logs a body, a query or a header.

pub mod charset;
pub mod paced;
pub mod socket;

#[cfg(test)]
mod tests;

use std::error::Error as _;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Sends one request and reads its whole answer.
pub trait Exchange: Send + Sync {
    /// Performs `request` (absolute URI). The answer's body is complete, unpacked, bounded, and in UTF-8.
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, ExchangeError>>;
}

/// Why there is no answer, divided by the one thing that matters: may the server have acted on the request?
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The request certainly never left: the name did not resolve, the connection or TLS failed, the URL is refused.
    #[error("cannot reach {host}")]
    NotSent {
        /// Host and port only.
        host: String,
        /// The transport's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request may have been carried out: the connection broke or timed out after sending began, or the answer is
    /// longer than the bound.
    #[error("no answer from {host}")]
    Lost {
        /// Host and port only.
        host: String,
        /// The transport's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ExchangeError {
    /// The error with all its causes in one line, for an operator. It names the host, never a path, query or body.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            words.push_str(": ");
            words.push_str(&error.to_string());
            cause = error.source();
        }
        words
    }

    /// The command or key that repairs it, where one does.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotSent { .. } => Some("check the network, the name and a proxy between this machine and that host"),
            Self::Lost { .. } => None,
        }
    }
}
