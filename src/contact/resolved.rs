//! A mapping that knows the account's fields, and what it makes of a record.
//!
//! Decides about one record alone: whether older values stand in Reteno is for its caller to know.

use std::borrow::Cow;

use super::additional::AdditionalRule;
use super::categories::CategoriesRule;
use super::channels::canonical_email;
use super::consent::ConsentRule;
use super::dating::Dating;
use super::draft::Draft;
use super::field::{Field, MEMBER, Personal, Wanted};
use super::filter::Filter;
use super::mapping::{MappedZones, Mapping, OnInvalid, WriteRule};
use super::moment::{Moment, Zones};
use super::outcome::{Contact, DroppedField, Mapped, Reason, RecordRejection, Said, Unspoken};
use super::part::{halves, place_of_names};
use super::phones::{Region, canonical_phone};
use super::record::{Columns, Extent, Record, has_key_twice, holds_unreadable};
use super::refusal::{Checked, Refusal};
use super::rules::{
    canonical_first_name, canonical_id, canonical_language, canonical_last_name, canonical_line, canonical_time_zone,
};
use super::selector::{Read, Selector, View};

pub(super) const NOT_SCALAR: Refusal = Refusal::of("the value is an object, or cannot be read: no text or number");
const TWICE: Refusal = Refusal::of("one of its keys stands twice with different values");
const UNJUDGED: Refusal =
    Refusal::of("a value that the filter, consent, a segment or a category depends on cannot be read");
pub(super) const ROUNDED: Refusal =
    Refusal::of("the number has too many digits to be exact: the source has to write it as text, in quotes");
const NO_KEY: Refusal = Refusal::of("the record has no id");

/// A mapping ready for records.
#[derive(Debug, Clone)]
pub struct ResolvedMapping {
    key: Selector,
    /// In the order of fields, each once.
    resolved: Vec<ResolvedField>,
    fields: Vec<Field>,
    changed_at: Option<Selector>,
    filter: Option<Filter>,
    null_values: Vec<String>,
    zones: MappedZones,
    levels: Levels,
    segment_names: Vec<(Field, String)>,
}

/// What a contact is beside its values.
#[derive(Debug, Clone)]
pub(super) struct Levels {
    pub(super) consent: Option<ConsentRule>,
    pub(super) categories: Option<CategoriesRule>,
    /// In the order of fields, each once.
    pub(super) segments: Vec<ResolvedSegment>,
}

/// One segment with its condition.
#[derive(Debug, Clone)]
pub(super) struct ResolvedSegment {
    pub(super) field: Field,
    pub(super) name: String,
    pub(super) condition: Option<Filter>,
}

/// One field with its place and rule.
#[derive(Debug, Clone)]
pub(super) struct ResolvedField {
    pub(super) field: Field,
    pub(super) selector: Selector,
    pub(super) on_invalid: OnInvalid,
    pub(super) rule: Rule,
    pub(super) write: WriteRule,
}

/// The rule of a field.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    Id { prefix: String },
    Email,
    Phone(Option<Region>),
    FirstName,
    LastName,
    Line(usize),
    Language,
    TimeZone,
    Additional(AdditionalRule),
}

impl Rule {
    pub(super) fn canonical<'a>(&self, text: &'a str, zones: Zones) -> Checked<'a> {
        match self {
            Self::Id { prefix } if prefix.is_empty() => canonical_id(text),
            // The prefix counts towards the length.
            Self::Id { prefix } => {
                canonical_id(text)?;
                canonical_id(&format!("{prefix}{text}")).map(|id| Cow::Owned(id.into_owned()))
            }
            Self::Email => canonical_email(text),
            Self::Phone(region) => canonical_phone(text, *region),
            Self::FirstName => canonical_first_name(text),
            Self::LastName => canonical_last_name(text),
            Self::Line(length_max) => canonical_line(text, *length_max),
            Self::Language => canonical_language(text),
            Self::TimeZone => canonical_time_zone(text),
            Self::Additional(rule) => rule.canonical(text, zones),
        }
    }
}

impl ResolvedMapping {
    /// `resolved` is in the order of fields, each once.
    pub(super) fn of(mapping: &Mapping, resolved: Vec<ResolvedField>, levels: Levels) -> Self {
        let segment_names: Vec<_> =
            levels.segments.iter().map(|segment| (segment.field, segment.name.clone())).collect();
        let fields = resolved.iter().map(|resolved| resolved.field);
        let fields = fields.chain(levels.categories.iter().map(|_| Field::Subscriptions));
        let fields = fields.chain(levels.segments.iter().map(|segment| segment.field)).collect();
        let Mapping {
            key,
            changed_at,
            filter,
            null_values,
            zones,
            fields: _,
            consent: _,
            subscriptions: _,
            segments: _,
        } = mapping.clone();
        Self { key, resolved, fields, changed_at, filter, null_values, zones, levels, segment_names }
    }

    /// Every mapped field, in order; among them the set of categories and the segments.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// When a field may be written; `Always` for one without a rule.
    #[must_use]
    pub fn write_rule(&self, field: Field) -> WriteRule {
        let place = self.resolved.binary_search_by_key(&field, |resolved| resolved.field);
        place.map_or(WriteRule::Always, |place| self.resolved[place].write)
    }

    /// The segments with their names in Reteno, in the order of fields: a [`Field::Segment`] has only the number.
    #[must_use]
    pub fn segment_names(&self) -> &[(Field, String)] {
        &self.segment_names
    }

    /// Whether records say something of consent to e-mail.
    #[must_use]
    pub const fn has_consent(&self) -> bool {
        self.levels.consent.is_some()
    }

    /// The columns that it reads, for a source that has columns.
    #[must_use]
    pub fn columns(&self) -> Columns {
        let key: Option<Vec<String>> = self.key.columns().into_iter().map(|column| column.map(str::to_owned)).collect();
        let of_field = |field: &ResolvedField| {
            let name = field.field.to_string();
            field
                .selector
                .columns()
                .into_iter()
                .flatten()
                .map(move |column| (name.clone(), column.to_owned()))
                .collect()
        };
        let mut mapped: Vec<(String, String)> =
            self.resolved.iter().flat_map(|field| -> Vec<(String, String)> { of_field(field) }).collect();
        mapped.extend(self.levels.columns());
        let changed_at = self.changed_at.iter().flat_map(Selector::columns).flatten();
        mapped.extend(changed_at.map(|column| ("changed_at".to_owned(), column.to_owned())));
        let filter = self.filter.iter().flat_map(Filter::columns);
        mapped.extend(filter.map(|column| ("filter".to_owned(), column.clone())));
        Columns { key: key.unwrap_or_default(), mapped }
    }

    /// The whole mapping in words: places, rules, the kinds and allowed values of additional fields, the filter, consent, categories, segments. Equal
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
    /// older value, so with such a one the record passes; whether it has is for the caller to know, who asks
    /// [`Contact::reasons_against_making`] for one that is new.
    ///
    /// Segments are always set: their conditions are judged on the record as it comes (see [`Filter`], and
    /// [`ResolvedMapping::unspoken`] for records that may be partial). The set of categories is dropped where the record leaves a part of it open.
    pub fn map(&self, record: &Record) -> Result<Mapped, RecordRejection> {
        self.map_as(record, Extent::Whole)
    }

    /// Makes a contact of a record that may be partial. As [`ResolvedMapping::map`]; but where `timeZone` is mapped and
    /// the record lacks it, an earlier record may have said it, so instants of fields with a time are left out.
    pub fn map_partial(&self, record: &Record) -> Result<Mapped, RecordRejection> {
        self.map_as(record, Extent::Partial)
    }

    fn map_as(&self, record: &Record, extent: Extent) -> Result<Mapped, RecordRejection> {
        let view = View::of(record);
        let key = self.read_key(&view)?;
        let (said, unclear_consent) = self.read_said(&view);
        if let Some(text) = self.reason_against_judging(record) {
            return Err(RecordRejection { key: Some(key), reasons: vec![Reason { field: None, text }], said });
        }
        if self.filter.as_ref().is_some_and(|filter| !filter.keeps(&view)) {
            return Ok(Mapped::Filtered { key, said });
        }
        let zones = self.zones.of_contact(None, extent);
        let mut draft = Draft { fields: Vec::with_capacity(self.fields.len()), zones, ..Draft::default() };
        // consent, filter and segments are not read through it: there a false is a word like any other
        let values = if self.null_values.is_empty() { None } else { Some(View::with_nulls(record, &self.null_values)) };
        let values = values.as_ref().unwrap_or(&view);
        let of_name = self.place_of_names(values);
        for resolved in &self.resolved {
            let read =
                if let Some(place) = of_name.filter(|_| matches!(resolved.field, Field::FirstName | Field::LastName)) {
                    resolved.selector.read_at(place, values)
                } else if resolved.field.is_channel() {
                    resolved.selector.read_first_in(values)
                } else {
                    resolved.selector.read_in(values)
                };
            if resolved.field == Field::TimeZone {
                draft.zones = self.zones.of_contact(Some(&read), extent);
            }
            draft.add(resolved, read);
        }
        self.levels.add_to(&mut draft, &view);
        draft.check_channels();
        let Draft { fields, dropped, reasons, channels: _, zones: _ } = draft;
        if !reasons.is_empty() {
            return Err(RecordRejection { key: Some(key), reasons, said });
        }
        let Said { consent, changed_at } = said;
        Ok(Mapped::Contact(Contact { key, fields, changed_at, dropped, consent, unclear_consent }))
    }

    /// Where both halves of the name are read, of the places that are mapped for them; `None`: each where it stands.
    fn place_of_names(&self, view: &View<'_>) -> Option<usize> {
        let selector = |field| {
            let place = self.resolved.binary_search_by_key(&field, |resolved| resolved.field).ok()?;
            Some(&self.resolved[place].selector)
        };
        let (first, last) = halves(selector(Field::FirstName)?, selector(Field::LastName)?)?;
        place_of_names(first, last, view)
    }

    /// What it says of consent, and the class of a word that is neither a yes nor a no.
    fn read_said(&self, view: &View<'_>) -> (Said, Option<Refusal>) {
        let said = self.levels.consent.as_ref().map_or(Ok(None), |rule| rule.read(view));
        let (consent, unclear) = (said.unwrap_or(None), said.err());
        (Said { consent, changed_at: self.change_time_in(view) }, unclear)
    }

    /// A value that cannot be read costs its field; but one that leaves a contact out, out of a segment or without a consent
    /// costs the record.
    fn reason_against_judging(&self, record: &Record) -> Option<Refusal> {
        let Record::Json(value) = record else { return None };
        if !holds_unreadable(value) {
            return None;
        }
        if has_key_twice(value) {
            return Some(TWICE);
        }
        let levels = self.levels.columns();
        let columns = levels.iter().map(|(_, column)| column).chain(self.filter.iter().flat_map(Filter::columns));
        let is_unjudged = columns.filter_map(|column| value.get(column)).any(holds_unreadable);
        is_unjudged.then_some(UNJUDGED)
    }

    /// What of segments and consent the record does not speak of, where it may be a partial one: [`ResolvedMapping::map`]
    /// takes every record for a whole one.
    #[must_use]
    pub fn unspoken(&self, record: &Record) -> Unspoken {
        let view = View::of(record);
        let lacks = |condition: &Filter| condition.columns().iter().any(|key| view.json().get(key).is_none());
        let is_unspoken = |segment: &&ResolvedSegment| segment.condition.as_ref().is_some_and(lacks);
        let segments = self.levels.segments.iter().filter(is_unspoken).map(|segment| segment.field).collect();
        let consent = self.levels.consent.as_ref();
        Unspoken { segments, consent: consent.is_some_and(|rule| rule.is_absent(&view)) }
    }

    /// The CRM's id of a record alone, as of one that is deleted.
    pub fn read_id(&self, record: &Record) -> Result<String, RecordRejection> {
        self.read_key(&View::of(record))
    }

    /// The CRM's change time of a record, milliseconds, where it has one.
    #[must_use]
    pub fn read_change_time(&self, record: &Record) -> Option<i64> {
        self.change_time_in(&View::of(record))
    }

    fn change_time_in(&self, view: &View<'_>) -> Option<i64> {
        match self.dating_in(view) {
            Dating::At(moment) => Some(moment.unix_millis()),
            Dating::Undated | Dating::Unreadable => None,
        }
    }

    /// What a record says of when it was changed.
    #[must_use]
    pub fn dating(&self, record: &Record) -> Dating {
        self.dating_in(&View::of(record))
    }

    fn dating_in(&self, view: &View<'_>) -> Dating {
        match self.changed_at.as_ref().map(|selector| selector.read_in(view)) {
            Some(Read::Value(text)) => Moment::parse(&text).map_or(Dating::Unreadable, Dating::At),
            Some(Read::NotScalar | Read::Rounded) => Dating::Unreadable,
            Some(Read::Absent | Read::Empty) | None => Dating::Undated,
        }
    }

    fn read_key(&self, view: &View<'_>) -> Result<String, RecordRejection> {
        let checked = match self.key.read_in(view) {
            Read::Value(text) => canonical_id(&text).map(Cow::into_owned),
            Read::Absent | Read::Empty => Err(NO_KEY),
            Read::NotScalar => Err(NOT_SCALAR),
            Read::Rounded => Err(ROUNDED),
        };
        checked.map_err(|text| RecordRejection {
            key: None,
            reasons: vec![Reason { field: None, text }],
            said: Said::default(),
        })
    }
}

impl Levels {
    /// The set of categories and the segments, which stand behind all other fields.
    fn add_to(&self, draft: &mut Draft, view: &View<'_>) {
        let field = Field::Subscriptions;
        match self.categories.as_ref().and_then(|rule| rule.read(view)) {
            None => {}
            Some(Ok(wanted)) => draft.fields.push((field, wanted)),
            Some(Err(reason)) => draft.dropped.push(DroppedField { field, reason }),
        }
        for ResolvedSegment { field, name: _, condition } in &self.segments {
            let is_in = condition.as_ref().is_none_or(|condition| condition.keeps(view));
            let wanted = if is_in { Wanted::Value(Personal::new(MEMBER)) } else { Wanted::Clear };
            draft.fields.push((*field, wanted));
        }
    }

    /// What is read from which column.
    fn columns(&self) -> Vec<(String, String)> {
        let consent = self.consent.iter().flat_map(|rule| rule.selector.columns()).flatten();
        let consent = consent.map(|column| ("consent".to_owned(), column.to_owned()));
        let categories = self.categories.iter().flat_map(CategoriesRule::columns);
        let categories = categories.map(|column| (Field::Subscriptions.to_string(), column.to_owned()));
        let segments = self.segments.iter().flat_map(|segment| {
            let columns = segment.condition.iter().flat_map(Filter::columns);
            columns.map(|column| (format!("segment {:?}", segment.name), column.clone()))
        });
        consent.chain(categories).chain(segments).collect()
    }
}
