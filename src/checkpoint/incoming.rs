//! The words of a page: what it may do, what it brings, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::contact::{Consent, Contact, Field, Said, Unspoken};
use crate::plan::balance::Balance;
use crate::plan::change::ReadStamp;
use crate::plan::policy::Policy;
use crate::plan::repair::{Earlier, RepairCause, cause_of_change};
use crate::plan::{Lane, SourceId};

/// What a page may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageMode {
    /// Moves rows.
    Apply,
    /// Takes what the CRM says as what Reteno holds.
    Baseline,
}

/// The read that a page belongs to.
#[derive(Clone, Debug)]
pub struct ReadContext {
    /// The source's row.
    pub source: SourceId,
    /// Its name.
    pub source_name: String,
    /// When the read began, milliseconds.
    pub began: i64,
    /// When this page was asked for, milliseconds.
    pub asked_at: i64,
    /// The present moment, milliseconds: what is noted as read after it was read before the clock was set back.
    pub now: i64,
    /// Every field that the source's mapping can speak of.
    pub mapped: Vec<Field>,
    /// The lane of contacts that it changes.
    pub lane: Lane,
    /// It reads the source from its beginning: what it does not say of a contact is not said anywhere.
    pub is_full: bool,
    /// Its cursors are stored page by page (not during a full read that has set the cursor aside).
    pub stores_cursor: bool,
    /// What it may do.
    pub mode: PageMode,
    /// What the operator lets the source do.
    pub policy: Arc<Policy>,
    /// By which way it comes.
    pub way: Way,
}

/// By which way a page comes.
#[derive(Clone, Debug)]
pub enum Way {
    /// A cycle reads the source. What it changes may be a repair of what an earlier way should have told.
    Cycle(Option<Repairs>),
    /// Somebody asked for these records alone, or they came by themselves: each is all that the source has of it.
    Announced {
        /// The source has never been read to its end: whom it makes belongs to the first load.
        is_first_load: bool,
    },
}

/// What a read may repair.
#[derive(Clone, Debug)]
pub struct Repairs {
    /// Which earlier way should have told it.
    pub earlier: Earlier,
    /// Records that are announced and not acted on yet: nothing was missed of them.
    pub announced: Arc<BTreeSet<String>>,
}

impl ReadContext {
    /// Why a change of this record comes only now, where it is a repair.
    pub(super) fn cause_of(&self, key: &str, known: Option<ReadStamp>, came: ReadStamp) -> Option<RepairCause> {
        match &self.way {
            Way::Cycle(Some(repairs)) if self.mode == PageMode::Apply && !repairs.announced.contains(key) => {
                cause_of_change(repairs.earlier, known, came, self.now)
            }
            Way::Cycle(_) | Way::Announced { .. } => None,
        }
    }

    /// What a record does not say is not said anywhere.
    pub(super) const fn has_whole_records(&self) -> bool {
        self.is_full || matches!(self.way, Way::Announced { .. })
    }

    /// The contacts that it makes are what the operator asked for.
    pub(super) const fn is_declared(&self) -> bool {
        matches!(self.lane, Lane::FirstLoad) || matches!(self.way, Way::Announced { is_first_load: true })
    }
}

/// A record after mapping.
#[derive(Debug)]
pub enum Incoming {
    /// A contact.
    Contact(Contact),
    /// A contact as the CRM sent it by itself, maybe not for the first time: when it was asked for says nothing of its age.
    Pushed {
        /// The contact.
        contact: Contact,
        /// What the record does not speak of: it stays as it is.
        unspoken: Unspoken,
    },
    /// A contact of a file, in which an id should stand once: of two that differ the first counts.
    Line {
        /// The contact.
        contact: Contact,
        /// The line on which it stands.
        line: u64,
    },
    /// Left out by the source's filter.
    Filtered {
        /// The CRM's id.
        key: String,
    },
    /// The CRM says it is deleted.
    Deleted {
        /// The CRM's id.
        key: String,
        /// Its own record says it, or it was said to be deleted, was asked for and is not there: that is both sightings; else it
        /// is one.
        is_confirmed: bool,
        /// The version of the record that it speaks of, by its change time, or the moment of the deletion, where that is known.
        changed_at: Option<i64>,
    },
    /// Something happened to it: its record is to be fetched.
    Pointed {
        /// The CRM's id.
        key: String,
    },
    /// It cannot become a contact.
    Rejected {
        /// The CRM's id, where it is known.
        key: Option<String>,
        /// Where it stood.
        place: String,
        /// Why, without values.
        reasons: Vec<(Option<Field>, String)>,
    },
    /// A record that is left out or cannot become a contact, and says that the person wants no mail.
    Refusing {
        /// When the CRM says that it was changed.
        changed_at: Option<i64>,
        /// By which way it came.
        origin: Origin,
        /// What else it is.
        record: Box<Incoming>,
    },
}

/// By which way a record came that is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was asked for: of several with one id the later one counts.
    Read,
    /// It is a line of a file, in which an id should stand once: of several the first one counts.
    Line,
    /// The CRM sent it by itself, maybe not for the first time.
    Pushed,
}

/// What became of a page.
#[derive(Clone, Debug, Default)]
pub struct PageOutcome {
    /// Counts of its records.
    pub balance: Balance,
    /// Contacts that it repaired, by what had missed them.
    pub repaired: BTreeMap<RepairCause, u64>,
    /// Of the rejected: those without a usable id, which may be anyone.
    pub unnamed: u64,
    /// Records whose consent is neither a yes nor a no, by the class of its value.
    pub unclear_consents: BTreeMap<&'static str, u64>,
}

impl Incoming {
    /// The same, where the record is not used and says something of consent: only a no counts there, since nothing shows of
    /// which address it says yes.
    #[must_use]
    pub fn saying(self, said: Said, origin: Origin) -> Self {
        match said {
            Said { consent: Some(Consent::No), changed_at } => {
                Self::Refusing { changed_at, origin, record: Box::new(self) }
            }
            Said { consent: Some(Consent::Yes) | None, .. } => self,
        }
    }

    /// The CRM's id, where it is known.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Contact(contact) | Self::Pushed { contact, .. } | Self::Line { contact, .. } => Some(&contact.key),
            Self::Filtered { key } | Self::Deleted { key, .. } | Self::Pointed { key } => Some(key),
            Self::Rejected { key, .. } => key.as_deref(),
            Self::Refusing { record, .. } => record.key(),
        }
    }
}
