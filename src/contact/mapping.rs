//! A source's mapping as it is configured, and its resolution against the account's additional fields.
//!
//! Says which field comes from where; applying it to records is `resolved.rs`.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::additional::{AdditionalRule, Catalog};
use super::categories::{CategoriesRule, SubscriptionsMapping};
use super::consent::{ConsentMapping, ConsentRule};
use super::field::Field;
use super::filter::Filter;
use super::moment::Zones;
use super::phones::Region;
use super::record::Extent;
use super::resolved::{Levels, ResolvedField, ResolvedMapping, ResolvedSegment, Rule};
use super::rules::{ADDRESS_LENGTH_MAX, PLACE_LENGTH_MAX, POSTCODE_LENGTH_MAX, canonical_time_zone};
use super::selector::{Read, Selector};

/// Reteno's ids are 32-bit signed numbers.
const FIELD_ID_MAX: u32 = i32::MAX.cast_unsigned();

/// How records of one source become contacts.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Where the CRM's id stands.
    pub key: Selector,
    /// The mapped fields.
    pub fields: Vec<FieldMapping>,
    /// Where the CRM says when the record was changed.
    pub changed_at: Option<Selector>,
    /// Which records are wanted; all without one.
    pub filter: Option<Filter>,
    /// Values of fields by which the CRM means that there is none (Odoo's `false`).
    pub null_values: Vec<String>,
    /// The zones that moments are written down in.
    pub zones: MappedZones,
    /// Where consent to e-mail stands.
    pub consent: Option<ConsentMapping>,
    /// Where the subscription categories stand. They are then the CRM's: each write replaces the whole set.
    pub subscriptions: Option<SubscriptionsMapping>,
    /// The static segments that contacts are put into, and leave.
    pub segments: Vec<SegmentMapping>,
}

/// The time zones of a source's records, as they are configured. Reteno keeps a day without a zone, and a time in the
/// contact's; neither is ever taken as UTC by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MappedZones {
    /// Where the CRM is: the midnights of its days are there.
    pub source: Option<Tz>,
    /// Where contacts without a time zone of their own are.
    pub account: Option<Tz>,
}

impl MappedZones {
    /// The zones of one contact, whose own may be mapped.
    pub(super) fn of_contact(self, own: Option<&Read<'_>>, extent: Extent) -> Zones {
        let own = match (own, extent) {
            // an earlier record may have said it, and Reteno keeps times in that
            (Some(Read::Absent), Extent::Partial) => Err(()),
            (Some(Read::Value(text)), _) => Ok(canonical_time_zone(text).ok().and_then(|name| name.parse::<Tz>().ok())),
            // CRMs leave empty keys out
            (Some(Read::Absent), Extent::Whole) | (Some(Read::Empty | Read::NotScalar | Read::Rounded) | None, _) => {
                Ok(None)
            }
        };
        let of_days = self.source.or(own.ok().flatten()).or(self.account);
        Zones { of_days, of_times: own.map(|own| own.or(self.account)) }
    }
}

/// A static segment and who belongs to it.
#[derive(Debug, Clone)]
pub struct SegmentMapping {
    /// Its name in Reteno.
    pub name: String,
    /// Contacts belong to it while this holds; always without one.
    pub condition: Option<Filter>,
}

/// Where one field comes from.
#[derive(Debug, Clone)]
pub struct FieldMapping {
    /// The field.
    pub field: FieldRef,
    /// Where its value stands.
    pub selector: Selector,
    /// What a value that breaks a rule costs.
    pub on_invalid: OnInvalid,
    /// For phones: the country of numbers without country code.
    pub region: Option<Region>,
    /// For `externalCustomerId`: put before the value, so that two sources share no id. Empty for none.
    pub prefix: String,
    /// When it may be written.
    pub write: WriteRule,
}

/// When a field may be written: who owns it, the CRM or those who work in Reteno.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteRule {
    /// Whenever the CRM's value changes.
    #[default]
    Always,
    /// Only for a contact that is new to the checkpoint. It may overwrite what a contact that is already in Reteno has.
    AtFirstSight,
    /// Whenever it changes, but never to nothing.
    NeverClear,
}

/// A field as it is named in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldRef {
    /// A standard field, or an additional one by its id.
    Known(Field),
    /// An additional field by `PROFILE.FIELD`: its id is looked up.
    Key(String),
}

impl FieldRef {
    /// Reads a name: Reteno's name of a standard field, the numeric id or the `PROFILE.FIELD` key of an additional
    /// one. `None` for anything else.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim();
        if let Some(field) = Field::STANDARD.into_iter().find(|field| field.standard_name() == Some(name)) {
            return Some(Self::Known(field));
        }
        if let Ok(id) = name.parse::<u32>() {
            return (1..=FIELD_ID_MAX).contains(&id).then_some(Self::Known(Field::Additional(id)));
        }
        let (profile, field) = name.split_once('.')?;
        (!profile.is_empty() && !field.is_empty()).then(|| Self::Key(name.to_owned()))
    }
}

/// What a value that breaks a rule costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalid {
    /// The field is not sent, and listed; Reteno keeps what it holds.
    DropField,
    /// The contact is rejected.
    Reject,
}

impl OnInvalid {
    /// Without a word in the configuration: the contact is rejected for a bad external id (it would become another
    /// contact), else the field is dropped. Whatever is set here, a record that is left without any valid channel is
    /// rejected (see [`ResolvedMapping::map`]).
    #[must_use]
    pub const fn default_for(field: Field) -> Self {
        match field {
            Field::ExternalCustomerId => Self::Reject,
            Field::Email
            | Field::Sms
            | Field::FirstName
            | Field::LastName
            | Field::Address
            | Field::Town
            | Field::Region
            | Field::Postcode
            | Field::LanguageCode
            | Field::TimeZone
            | Field::ContactKey
            | Field::Additional(_)
            | Field::Subscriptions
            | Field::Segment(_) => Self::DropField,
        }
    }
}

/// A mapped field that the account does not offer as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// As configured: an id, a key, or the name of a field or segment.
    pub name: String,
    /// What is wrong, and what was done.
    pub problem: FieldProblem,
}

/// What is wrong with a mapped field, and what was done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldProblem {
    /// The account has no additional field with the id, or not yet (a field takes up to an hour to become known):
    /// mapped as text.
    UnknownId,
    /// The account has no additional field with the key, so its id is not known: left out.
    UnknownKey,
    /// Reteno lets no one write the field: left out.
    ReadOnly,
    /// The field is mapped twice: the first counts, this one is left out.
    MappedTwice,
    /// The account has no subscription category with the key: where a record says yes to it, its categories are not
    /// sent.
    UnknownCategory,
}

impl FieldProblem {
    /// How to repair it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::UnknownId => {
                "compare the id with the contact fields in Reteno; a field made just now is known within an hour"
            }
            Self::UnknownKey => "write the key as PROFILE.FIELD, as Reteno shows it, or use the numeric id",
            Self::ReadOnly => "remove the field from the mapping",
            Self::UnknownCategory => {
                "compare the key with the subscription categories in Reteno; upper and lower case count"
            }
            Self::MappedTwice => "map the field once; several places are given as a list, the first value wins",
        }
    }
}

impl Mapping {
    /// Looks the additional fields and the categories up and prepares the mapping for records. What is unknown is
    /// returned beside it.
    #[must_use]
    pub fn resolve(&self, catalog: &Catalog) -> (ResolvedMapping, Vec<UnknownField>) {
        let mut unknown = Vec::new();
        let fields = self.resolve_fields(catalog, &mut unknown);
        let levels = Levels {
            consent: self.consent.as_ref().map(ConsentRule::of),
            categories: self.subscriptions.as_ref().map(|mapping| CategoriesRule::of(mapping, catalog)),
            segments: self.resolve_segments(&mut unknown),
        };
        let keys = levels.categories.iter().flat_map(CategoriesRule::unknown_keys);
        let problem = FieldProblem::UnknownCategory;
        unknown.extend(keys.map(|key| UnknownField { name: key.to_owned(), problem }));
        let fields = fields.into_values().collect();
        (ResolvedMapping::of(self, fields, levels), unknown)
    }

    fn resolve_fields(&self, catalog: &Catalog, unknown: &mut Vec<UnknownField>) -> BTreeMap<Field, ResolvedField> {
        let mut resolved = BTreeMap::new();
        for mapping in &self.fields {
            let (field, additional) = match resolve_field(&mapping.field, catalog) {
                Ok(found) => found,
                Err(problem) => {
                    unknown.push(problem);
                    continue;
                }
            };
            if resolved.contains_key(&field) {
                unknown.push(UnknownField { name: name_of(&mapping.field), problem: FieldProblem::MappedTwice });
                continue;
            }
            if let (Field::Additional(_), None) = (field, &additional) {
                unknown.push(UnknownField { name: name_of(&mapping.field), problem: FieldProblem::UnknownId });
            }
            let rule = rule_for(field, mapping, additional);
            let selector = mapping.selector.clone();
            let (on_invalid, write) = (mapping.on_invalid, mapping.write);
            resolved.insert(field, ResolvedField { field, selector, on_invalid, rule, write });
        }
        resolved
    }

    /// In the order of fields, each once.
    fn resolve_segments(&self, unknown: &mut Vec<UnknownField>) -> Vec<ResolvedSegment> {
        let mut resolved = BTreeMap::new();
        for SegmentMapping { name, condition } in &self.segments {
            let field = Field::segment(name);
            if resolved.contains_key(&field) {
                unknown.push(UnknownField { name: name.clone(), problem: FieldProblem::MappedTwice });
                continue;
            }
            resolved.insert(field, ResolvedSegment { field, name: name.clone(), condition: condition.clone() });
        }
        resolved.into_values().collect()
    }
}

fn resolve_field(reference: &FieldRef, catalog: &Catalog) -> Result<(Field, Option<AdditionalRule>), UnknownField> {
    let problem = |problem| UnknownField { name: name_of(reference), problem };
    let found = match reference {
        FieldRef::Known(Field::Additional(id)) => catalog.by_id(*id),
        // their places are configured apart
        FieldRef::Known(Field::Subscriptions | Field::Segment(_)) => return Err(problem(FieldProblem::UnknownKey)),
        FieldRef::Known(field) => return Ok((*field, None)),
        FieldRef::Key(key) => Some(catalog.by_key(key).ok_or_else(|| problem(FieldProblem::UnknownKey))?),
    };
    match (reference, found) {
        (_, Some(field)) if field.readonly => Err(problem(FieldProblem::ReadOnly)),
        (_, Some(field)) => Ok((Field::Additional(field.id), Some(AdditionalRule::of(field)))),
        (FieldRef::Known(field), None) => Ok((*field, None)),
        (FieldRef::Key(_), None) => Err(problem(FieldProblem::UnknownKey)),
    }
}

fn name_of(reference: &FieldRef) -> String {
    match reference {
        FieldRef::Known(Field::Additional(id)) => id.to_string(),
        FieldRef::Known(field) => field.to_string(),
        FieldRef::Key(key) => key.clone(),
    }
}

fn rule_for(field: Field, mapping: &FieldMapping, additional: Option<AdditionalRule>) -> Rule {
    match field {
        Field::ExternalCustomerId => Rule::Id { prefix: mapping.prefix.clone() },
        Field::ContactKey => Rule::Id { prefix: String::new() },
        Field::Email => Rule::Email,
        Field::Sms => Rule::Phone(mapping.region),
        Field::FirstName => Rule::FirstName,
        Field::LastName => Rule::LastName,
        Field::Address => Rule::Line(ADDRESS_LENGTH_MAX),
        Field::Town | Field::Region => Rule::Line(PLACE_LENGTH_MAX),
        Field::Postcode => Rule::Line(POSTCODE_LENGTH_MAX),
        Field::LanguageCode => Rule::Language,
        Field::TimeZone => Rule::TimeZone,
        Field::Additional(_) | Field::Subscriptions | Field::Segment(_) => {
            Rule::Additional(additional.unwrap_or_else(AdditionalRule::untyped))
        }
    }
}
