//! A CRM behind an HTTP API, read by its description: a new one costs a table in the configuration and no line of Rust.
//!
//! Data flows: description → request → answer → walk (page after page) → read (pages of items with their cursor). It
//! knows no CRM by name, writes nothing to one, and never puts a path, a query or a record into an error or a warning.

pub mod auth;
pub mod description;
mod fetch;
mod link;
mod needs;
mod pages;
mod place;
mod query;
mod reaction;
mod read;
pub mod records;
mod request;
pub mod template;
pub mod time;
mod traits;
mod walk;

pub use link::Link;

use std::sync::Arc;
use std::time::Duration;

use description::Deletes;

/// A CRM as a source.
#[derive(Debug, Clone)]
pub struct HttpSource {
    link: Arc<Link>,
}

impl HttpSource {
    /// The CRM behind `link`.
    #[must_use]
    pub fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// Whether each read begins at the beginning: its records have no change time that can be asked for.
    #[must_use]
    pub fn full_only(&self) -> bool {
        self.link.description().cursor.is_none()
    }

    /// So late it may show a change.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.link.description().cursor.as_ref().map_or(Duration::ZERO, |cursor| cursor.lag)
    }

    /// Whether records can be fetched by their ids.
    #[must_use]
    pub fn fetches(&self) -> bool {
        self.link.description().fetch.is_some()
    }

    /// A person asks for a read: what blocked us may be over.
    pub fn reopen(&self) {
        self.link.reopen();
    }

    /// How often everything is to be read, since nothing else shows who is deleted.
    #[must_use]
    pub fn snapshot_every(&self) -> Option<Duration> {
        let every = self.link.description().deletes.iter().filter_map(|(_, deletes)| match deletes {
            Deletes::Snapshot { every } => Some(*every),
            Deletes::Flag { .. } | Deletes::MergedIds { .. } | Deletes::Stream(_) | Deletes::List { .. } => None,
        });
        every.min()
    }
}
