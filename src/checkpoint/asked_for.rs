//! The contacts that a person asks for on a command line: by the CRM's id, or by an address. Reads only.

use rusqlite::{OptionalExtension, params};

use crate::contact::{Field, Wanted};

use super::reads::SourceRow;
use super::{Attempt, Checkpoint, CheckpointError};

impl Checkpoint {
    /// The contacts with one of these addresses, in canonical form: looked up by their keyed hashes, which is all that is
    /// known of an address at rest.
    pub fn find_contacts_by_address(
        &self,
        addresses: &[(Field, Wanted)],
    ) -> Result<Vec<(SourceRow, String)>, CheckpointError> {
        const ACTION: &str = "look an address up";
        let sources = self.load_sources()?;
        let mut contacts: Vec<(SourceRow, String)> = Vec::new();
        for (field, wanted) in addresses {
            let print = self.hash.field(*field, wanted).to_u64().cast_signed();
            let found: Vec<(i64, String)> = self
                .connection
                .prepare_cached(
                    "SELECT c.source, c.key FROM channel a JOIN contact c ON c.id = a.contact WHERE a.print = ?1 ORDER BY c.id",
                )
                .and_then(|mut query| query.query_map([print], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
                .attempt(ACTION)?;
            for (id, key) in found {
                let source = sources.iter().find(|source| source.id.0 == id);
                let is_known = contacts.iter().any(|(source, known)| source.id.0 == id && *known == key);
                contacts.extend(source.filter(|_| !is_known).map(|source| (source.clone(), key)));
            }
        }
        Ok(contacts)
    }

    /// The contacts that an operator may mean: by the CRM's id, with or without `source:` before it.
    pub fn find_contacts(&self, text: &str) -> Result<Vec<(SourceRow, String)>, CheckpointError> {
        let mut contacts = Vec::new();
        for source in self.load_sources()? {
            let key = text.strip_prefix(&format!("{}:", source.name)).unwrap_or(text);
            let found = self
                .connection
                .query_row("SELECT key FROM contact WHERE source = ?1 AND key = ?2", params![source.id.0, key], |row| {
                    row.get(0)
                })
                .optional()
                .attempt("look a contact up")?;
            contacts.extend(found.map(|key| (source, key)));
        }
        Ok(contacts)
    }
}
