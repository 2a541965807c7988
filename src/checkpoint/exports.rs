//! Links to files that Reteno fetches: known by the hash of their token only, alive while their import is.

use std::path::PathBuf;

use rusqlite::{Transaction, params};

use crate::clock::Timestamp;
use crate::plan::ImportId;

use super::{Attempt, Checkpoint, CheckpointError};

/// What the body of a call is sealed as; the first that were sealed had a link in them.
pub(super) const BODY: &str = "body of an upload";

/// A link to a file, without its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportLink {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// Nothing is handed out after it.
    pub until: Timestamp,
}

impl ExportLink {
    pub(super) fn store(self, transaction: &Transaction<'_>, import: ImportId) -> Result<(), CheckpointError> {
        transaction
            .execute(
                "UPDATE import SET link = ?2, link_until = ?3 WHERE id = ?1",
                params![import.0, self.hash, self.until.0],
            )
            .and_then(|_| {
                transaction.execute(
                    "UPDATE contact SET uploaded = 1 WHERE id IN (SELECT contact FROM member WHERE import = ?1)",
                    [import.0],
                )
            })
            .attempt("store a link")
            .map(|_| ())
    }
}

/// Somebody in them is being erased: no file that holds the contact is handed out from now on.
pub(super) fn end_links(transaction: &Transaction<'_>, contact: i64) -> Result<(), CheckpointError> {
    transaction
        .execute(
            "UPDATE import SET link_until = 0 \
             WHERE link IS NOT NULL AND EXISTS (SELECT 1 FROM member m WHERE m.import = import.id AND m.contact = ?1)",
            [contact],
        )
        .attempt("end a link")
        .map(|_| ())
}

/// Nobody has refused the file of an upload, and nobody has fetched it: its contacts may go into another.
pub(super) fn forget_upload(transaction: &Transaction<'_>, import: ImportId) -> Result<(), CheckpointError> {
    transaction
        .execute(
            "UPDATE contact SET uploaded = 0 WHERE EXISTS (SELECT 1 FROM import WHERE id = ?1 AND call = 'upload') \
             AND id IN (SELECT contact FROM member WHERE import = ?1)",
            [import.0],
        )
        .attempt("store that no file was taken")
        .map(|_| ())
}

impl Checkpoint {
    /// Where the files are.
    #[must_use]
    pub fn exports_dir(&self) -> PathBuf {
        self.dir.join("exports")
    }

    /// Whether the file behind a token with this hash may be handed out: its import is unfinished, and its time not over.
    pub fn is_export_alive(&self, hash: &[u8; 32], now: Timestamp) -> Result<bool, CheckpointError> {
        self.connection
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM import WHERE link = ?1 AND link_until > ?2 AND state <> 'ghost')",
                params![hash, now.0],
                |row| row.get(0),
            )
            .attempt("look for a link")
    }
}
