//! Gathering items into pages, and sending a page without outliving a stop. Knows nothing of what the items mean.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Cursor, Item, Page, SourceError};
use crate::clock::Timestamp;

/// Most items in a page. As many as one bulk call to Reteno may carry, so that a page is about one transaction and one
/// call; more would hold the checkpoint's writer longer, fewer would cost a sync to disk more often.
pub const PAGE_ITEMS_MAX: usize = 3000;

/// Size in bytes, as read, at which a page is closed whatever it holds. Large records (notes, attachments as base64)
/// would otherwise make a page of hundreds of megabytes. One item may exceed it; it then ends its page.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The page that is being filled.
#[derive(Debug)]
pub(super) struct Gather {
    asked_at: Timestamp,
    items: Vec<Item>,
    bytes: usize,
    cursor: Option<Cursor>,
}

impl Gather {
    pub(super) fn new(asked_at: Timestamp) -> Self {
        Self { asked_at, items: Vec::new(), bytes: 0, cursor: None }
    }

    /// Adds an item that was `bytes` long in the source.
    pub(super) fn push(&mut self, item: Item, bytes: usize) {
        self.items.push(item);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Everything pushed so far is covered by this cursor.
    pub(super) fn mark(&mut self, cursor: Cursor) {
        self.cursor = Some(cursor);
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.cursor.is_none()
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= PAGE_ITEMS_MAX || self.bytes >= PAGE_BYTES_MAX
    }

    /// The page, if it says anything; the next one begins empty.
    pub(super) fn take(&mut self) -> Option<Page> {
        if self.is_empty() {
            return None;
        }
        self.bytes = 0;
        let items = std::mem::take(&mut self.items);
        Some(Page { items, cursor: self.cursor.take(), asked_at: self.asked_at })
    }
}

/// Sends a page; a stop or a dropped receiver ends the waiting.
pub(super) async fn send(pages: &mpsc::Sender<Page>, page: Page, stop: &CancellationToken) -> Result<(), SourceError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(SourceError::Stopped),
        sent = pages.send(page) => sent.map_err(|_| SourceError::Stopped),
    }
}
