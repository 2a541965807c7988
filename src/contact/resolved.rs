//! A mapping that knows the account's fields, and what it makes of a record.
//!
//! Decides about one record alone: whether older values stand in Reteno is for its caller to know.

use std::borrow::Cow;

use super::additional::AdditionalRule;
use super::channels::{Region, canonical_email, canonical_phone};
use super::field::{Field, Personal, Wanted};
use super::mapping::{Filter, OnInvalid};
use super::moment::Moment;
use super::outcome::{Contact, DroppedField, Mapped, Reason, RecordRejection};
use super::record::Record;
use super::refusal::{Checked, Refusal};
use super::rules::{canonical_id, canonical_language, canonical_line, canonical_name, canonical_time_zone};
use super::selector::{Read, Selector, View};

const NOT_SCALAR: Refusal = Refusal::of("the value is an object, not a text or number");
const NO_CHANNEL: Refusal = Refusal::of("no valid e-mail address or phone number");
const NO_KEY: Refusal = Refusal::of("the record has no id");
const EMPTY_EXTERNAL_ID: Refusal = Refusal::of("the id is empty");

/// A mapping ready for records.
#[derive(Debug, Clone)]
pub struct ResolvedMapping {
    key: Selector,
    /// In the order of fields, each once.
    resolved: Vec<ResolvedField>,
    fields: Vec<Field>,
    changed_at: Option<Selector>,
    filter: Option<Filter>,
}

/// One field with its place and rule.
#[derive(Debug, Clone)]
pub(super) struct ResolvedField {
    pub(super) field: Field,
    pub(super) selector: Selector,
    pub(super) on_invalid: OnInvalid,
    pub(super) rule: Rule,
}

/// The rule of a field.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    Id { prefix: String },
    Email,
    Phone(Option<Region>),
    Name,
    Line(usize),
    Language,
    TimeZone,
    Additional(AdditionalRule),
}

impl Rule {
    pub(super) fn canonical<'a>(&self, text: &'a str) -> Checked<'a> {
        match self {
            Self::Id { prefix } if prefix.is_empty() => canonical_id(text),
            // The prefix counts towards the length.
            Self::Id { prefix } => {
                canonical_id(text)?;
                canonical_id(&format!("{prefix}{text}")).map(|id| Cow::Owned(id.into_owned()))
            }
            Self::Email => canonical_email(text),
            Self::Phone(region) => canonical_phone(text, *region),
            Self::Name => canonical_name(text),
            Self::Line(length_max) => canonical_line(text, *length_max),
            Self::Language => canonical_language(text),
            Self::TimeZone => canonical_time_zone(text),
            Self::Additional(rule) => rule.canonical(text),
        }
    }
}

/// How the mapped channels of one record fared.
#[derive(Default)]
struct Channels {
    absent: usize,
    valid: usize,
    without_value: usize,
}

/// The fields of one record as they are read.
#[derive(Default)]
struct Draft {
    fields: Vec<(Field, Wanted)>,
    dropped: Vec<DroppedField>,
    reasons: Vec<Reason>,
    channels: Channels,
}

impl ResolvedMapping {
    pub(super) fn of(
        key: Selector,
        resolved: Vec<ResolvedField>,
        changed_at: Option<Selector>,
        filter: Option<Filter>,
    ) -> Self {
        let fields = resolved.iter().map(|resolved| resolved.field).collect();
        Self { key, resolved, fields, changed_at, filter }
    }

    /// Every mapped field, in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The whole mapping in words: places, rules, the kinds and allowed values of additional fields, the filter. Equal
    /// for mappings that make the same of every record; holds configuration only, no personal data.
    #[must_use]
    pub fn shape(&self) -> String {
        // the derived form names every part, so that none can be forgotten; other versions of this program may word it
        // differently, which costs one full read
        format!("{self:?}")
    }

    /// Makes a contact of a record.
    ///
    /// A record without an id is rejected, whatever the filter. A value that breaks a rule costs the field or the
    /// contact, as mapped. An external id that is there and empty counts as one that breaks a rule.
    ///
    /// A record is rejected when *every* mapped channel is spoken of and none holds a valid value: Reteno refuses a
    /// contact without one. A channel that the record does not speak of (a partial record of a webhook) may have an
    /// older value, so with such a one the record passes; its caller knows what is acknowledged.
    pub fn map(&self, record: &Record) -> Result<Mapped, RecordRejection> {
        let view = View::of(record);
        let key = self.read_key(&view)?;
        if self.filter.as_ref().is_some_and(|filter| !filter.keeps(&view)) {
            return Ok(Mapped::Filtered { key });
        }
        let mut draft = Draft { fields: Vec::with_capacity(self.resolved.len()), ..Draft::default() };
        for resolved in &self.resolved {
            draft.add(resolved, resolved.selector.read_in(&view));
        }
        draft.check_channels();
        let Draft { fields, dropped, reasons, channels: _ } = draft;
        if !reasons.is_empty() {
            return Err(RecordRejection { key: Some(key), reasons });
        }
        let changed_at = self.changed_at.as_ref().and_then(|selector| match selector.read_in(&view) {
            Read::Value(text) => Moment::parse(&text).map(Moment::unix_millis),
            Read::Absent | Read::Empty | Read::NotScalar => None,
        });
        Ok(Mapped::Contact(Contact { key, fields, changed_at, dropped }))
    }

    /// The CRM's id of a record alone, as of one that is deleted.
    pub fn read_id(&self, record: &Record) -> Result<String, RecordRejection> {
        self.read_key(&View::of(record))
    }

    fn read_key(&self, view: &View<'_>) -> Result<String, RecordRejection> {
        let checked = match self.key.read_in(view) {
            Read::Value(text) => canonical_id(&text).map(Cow::into_owned),
            Read::Absent | Read::Empty => Err(NO_KEY),
            Read::NotScalar => Err(NOT_SCALAR),
        };
        checked.map_err(|text| RecordRejection { key: None, reasons: vec![Reason { field: None, text }] })
    }
}

impl Draft {
    fn add(&mut self, resolved: &ResolvedField, read: Read<'_>) {
        let field = resolved.field;
        let checked = match read {
            Read::Absent => {
                self.channels.absent += usize::from(is_channel(field));
                return;
            }
            Read::Empty if field == Field::ExternalCustomerId => Err(EMPTY_EXTERNAL_ID),
            Read::Empty => Ok(Wanted::Clear),
            Read::NotScalar => Err(NOT_SCALAR),
            Read::Value(text) => canonical_value(&resolved.rule, text),
        };
        if is_channel(field) {
            match &checked {
                Ok(Wanted::Value(_)) => self.channels.valid += 1,
                Ok(Wanted::Clear) | Err(_) => self.channels.without_value += 1,
            }
        }
        match (checked, resolved.on_invalid) {
            (Ok(wanted), _) => self.fields.push((field, wanted)),
            (Err(reason), OnInvalid::DropField) => self.dropped.push(DroppedField { field, reason }),
            (Err(text), OnInvalid::Reject) => self.reasons.push(Reason { field: Some(field), text }),
        }
    }

    /// Adds the rejection of a record without any channel: what is wrong with each, or that there is none.
    fn check_channels(&mut self) {
        let Channels { absent, valid, without_value } = self.channels;
        if valid > 0 || absent > 0 || without_value == 0 {
            return;
        }
        let refused = self.reasons.iter().any(|reason| reason.field.is_some_and(is_channel));
        let invalid: Vec<_> = self.dropped.iter().filter(|dropped| is_channel(dropped.field)).collect();
        if invalid.is_empty() && !refused {
            self.reasons.push(Reason { field: None, text: NO_CHANNEL });
        }
        self.reasons.extend(invalid.iter().map(|dropped| Reason { field: Some(dropped.field), text: dropped.reason }));
    }
}

/// The canonical value, without copying a text that is owned and canonical already.
fn canonical_value(rule: &Rule, text: Cow<'_, str>) -> Result<Wanted, Refusal> {
    let canonical = match rule.canonical(&text)? {
        Cow::Owned(canonical) => canonical,
        Cow::Borrowed(canonical) if canonical.len() == text.len() => text.into_owned(),
        Cow::Borrowed(canonical) => canonical.to_owned(),
    };
    Ok(Wanted::Value(Personal::new(canonical)))
}

/// Reteno mails and texts to these; a contact needs one of them.
const fn is_channel(field: Field) -> bool {
    match field {
        Field::Email | Field::Sms => true,
        Field::ExternalCustomerId
        | Field::FirstName
        | Field::LastName
        | Field::Address
        | Field::Town
        | Field::Region
        | Field::Postcode
        | Field::LanguageCode
        | Field::TimeZone
        | Field::ContactKey
        | Field::Additional(_) => false,
    }
}
