//! Why the daemon ends by itself, and what repairs it.

use std::net::SocketAddr;

use crate::checkpoint::CheckpointError;
use crate::config::MissingCredentials;

/// Why the daemon cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The account is not configured.
    #[error(transparent)]
    Credentials(#[from] MissingCredentials),
    /// A listener's address cannot be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// `listen.address`, or `listen.public_address`.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The checkpoint broke.
    #[error("the daemon cannot go on without its checkpoint")]
    Checkpoint(#[from] CheckpointError),
}

impl RunError {
    /// What repairs it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Credentials(error) => Some(error.hint().to_owned()),
            Self::Listen { .. } => Some(
                "set listen.address, or listen.public_address, to a free port of this machine, or to \"off\"; redirect_uri \
                 must agree"
                    .to_owned(),
            ),
            Self::Checkpoint(error) => error.hint(),
        }
    }
}
