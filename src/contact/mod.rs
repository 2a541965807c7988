//! Contacts in Reteno's words, valid by construction. Pure: knows no clock, no network, no database.

pub mod field;
pub mod fingerprint;
pub mod record;

pub use field::{Field, Personal, Wanted};
pub use fingerprint::*;
pub use record::{Record, Row};
