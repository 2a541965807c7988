//! What mapping a record yields: a contact, a record left out, or a rejection with its reasons.

use super::field::{Field, Wanted};
use super::refusal::Refusal;

pub(super) const NO_CHANNEL: Refusal = Refusal::of("no valid e-mail address or phone number");

/// A contact in Reteno's words. Every value is canonical and within Reteno's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The CRM's id, without prefix.
    pub key: String,
    /// What the record speaks of, in the order of fields. A mapped field that is not listed is absent from the record,
    /// or was dropped.
    pub fields: Vec<(Field, Wanted)>,
    /// When the CRM says the record was changed, in milliseconds since 1970; `None` where it does not say, or not in a
    /// form that is understood.
    pub changed_at: Option<i64>,
    /// Fields whose value breaks a rule: they are not sent, and listed.
    pub dropped: Vec<DroppedField>,
    /// What the record says of mails to the address; `None`: nothing, which is never yes and never no.
    pub consent: Option<Consent>,
    /// The record has a value where consent stands, and it is neither a yes nor a no: which class of value it is. It may
    /// be an opt-out in another word, so it is told.
    pub unclear_consent: Option<Refusal>,
}

/// What a record says of the contact's consent to e-mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// The person wants no mail.
    No,
    /// The person wants mail.
    Yes,
}

impl Contact {
    /// Why a contact that is not known yet cannot be made of this: Reteno refuses one without any channel, so it takes
    /// a value in one of those that are `mapped`. Empty where nothing speaks against it.
    #[must_use]
    pub fn reasons_against_making(&self, mapped: &[Field]) -> Vec<Reason> {
        let has_channel =
            self.fields.iter().any(|(field, wanted)| field.is_channel() && matches!(wanted, Wanted::Value(_)));
        if has_channel || !mapped.iter().any(|field| field.is_channel()) {
            return Vec::new();
        }
        let invalid = self.dropped.iter().filter(|dropped| dropped.field.is_channel());
        let reasons: Vec<Reason> =
            invalid.map(|dropped| Reason { field: Some(dropped.field), text: dropped.reason }).collect();
        if reasons.is_empty() { vec![Reason { field: None, text: NO_CHANNEL }] } else { reasons }
    }
}

/// What a partial record does not speak of, although the mapping reads it there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unspoken {
    /// Segments of which it lacks what their conditions test.
    pub segments: Vec<Field>,
    /// It lacks the place of the consent: that is neither an answer nor an empty one.
    pub consent: bool,
}

/// A field that is not sent because of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DroppedField {
    /// The field.
    pub field: Field,
    /// The rule that the value breaks.
    pub reason: Refusal,
}

/// A record that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapped {
    /// To be kept equal.
    Contact(Contact),
    /// Left out by the source's filter.
    Filtered {
        /// The CRM's id.
        key: String,
        /// What it says nevertheless.
        said: Said,
    },
}

/// What a record that is not used says nevertheless: whoever says no wants no mail, whatever else is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    /// Of mails to the contact's address.
    pub consent: Option<Consent>,
    /// When the CRM says it was changed.
    pub changed_at: Option<i64>,
}

/// A record that cannot become a contact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("map a record: {}", summary(.reasons))]
pub struct RecordRejection {
    /// The CRM's id; `None` where the record has none that can be used.
    pub key: Option<String>,
    /// Why, at least one.
    pub reasons: Vec<Reason>,
    /// What it says nevertheless.
    pub said: Said,
}

/// One reason of a rejection. Holds no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// The field it is about; `None` for the record as a whole.
    pub field: Option<Field>,
    /// The rule that is broken.
    pub text: Refusal,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.field {
            Some(field) => write!(f, "{field}: {}", self.text),
            None => self.text.fmt(f),
        }
    }
}

fn summary(reasons: &[Reason]) -> String {
    reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join("; ")
}
