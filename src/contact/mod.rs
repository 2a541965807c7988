//! Contacts in Reteno's words, valid by construction. Pure: knows no clock, no network, no database.

pub mod additional;
pub mod categories;
pub mod channels;
pub mod consent;
mod damage;
pub mod dating;
mod draft;
pub mod field;
pub mod filter;
pub mod fingerprint;
pub mod mapping;
pub mod moment;
mod numbering;
pub mod outcome;
pub mod part;
pub mod phones;
pub mod prints;
pub mod record;
pub mod refusal;
pub mod resolved;
pub mod rules;
pub mod selector;
pub mod text;
pub mod values;

#[cfg(test)]
mod tests;

pub use additional::{AdditionalField, Catalog, FieldKind};
pub use categories::{CategoryFlag, SubscriptionsMapping};
pub use channels::canonical_email;
pub use consent::ConsentMapping;
pub use dating::{DateFaults, Dating};
pub use field::{Field, MEMBER, Personal, Wanted};
pub use filter::Filter;
pub use fingerprint::{CANONICAL_VERSION, Fingerprint, Fingerprinter, derive};
pub use mapping::{
    FieldMapping, FieldProblem, FieldRef, MappedZones, Mapping, OnInvalid, SegmentMapping, UnknownField, WriteRule,
};
pub use moment::{Moment, NoDay, Zones};
pub use outcome::{Consent, Contact, DroppedField, Mapped, Reason, RecordRejection, Said, Unspoken};
pub use phones::{Region, canonical_phone};
pub use prints::{FieldPrints, PrintsError};
pub use record::{Columns, Header, KEY_TWICE, Record, Row, is_unreadable, unreadable_value};
pub use refusal::Refusal;
pub use resolved::ResolvedMapping;
pub use selector::{Read, Selector, SelectorError};
pub use values::{Values, ValuesError};
