//! OAuth 2.0 against Reteno and CRMs: the authorization run, the stored grant, its refresh.
//!
//! Owns how a token is asked for, kept fresh and handed out. Never prints, logs or puts into a URL a code, a token or
//! the client's secret; never uses a new token before it is durably stored; never discards one for a transport error.

pub mod admission;
pub mod authorize;
mod authorize_error;
mod authorizers;
pub mod conversation;
pub mod desk;
pub mod dialect;
pub mod endpoint;
mod known;
pub mod lock;
pub mod memory;
pub mod party;
pub mod reaction;
pub mod refresher;
pub mod response;
mod standing;
pub mod token;
pub mod vault;

#[cfg(test)]
mod tests;

pub use admission::{Admission, Candidate};
pub use authorize::{Authorizer, CallbackPage, Mandate, PendingAuthorization, complete_callback};
pub use authorize_error::{AuthorizeError, Unproven};
pub use authorizers::Authorizers;
pub use conversation::{Concluded, Meeting, run_authorize};
pub use desk::{AuthorizationDesk, DeskError, Ending, Noted, PendingRecord, Settled, StateHash};
pub use dialect::{AnswerShape, Basis, Dialect, Statement, TokenBody};
pub use endpoint::{App, ClientAuth, TokenEndpoint};
pub use lock::{LockError, RefreshLock};
pub use memory::{MemoryDesk, MemoryVault};
pub use party::Party;
pub use reaction::{TokenAnswer, TokenError, react_token};
pub use refresher::Refresher;
pub use response::{Origin, read_response};
pub use standing::Standing;
pub use token::{Condition, Grant, NoToken};
pub use vault::{GrantVault, VaultError};

/// An error and its causes in one line, for texts that outlive the error value.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
