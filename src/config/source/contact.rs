//! `[source.NAME.contact]`: Reteno's field = where it is in the record. Paths are checked as far as text allows; what
//! a record holds is the mapping's business.

use serde::Deserialize;
use toml::{Table, Value};

use super::SelectorText;
use crate::config::problem::KeyPath;
use crate::config::raw::{self, Leaf};
use crate::config::reader::Reader;
use crate::contact::Field;

/// The key that holds the additional fields.
const FIELDS: &str = "fields";

/// Reteno's ids are signed numbers of 32 bits.
const ADDITIONAL_ID_MAX: u32 = i32::MAX.unsigned_abs();

/// Longer ones leave no room for an id that a person can still read.
const PREFIX_CHARS_MAX: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawField {
    path: Option<Leaf>,
    prefix: Option<Leaf>,
    region: Option<Leaf>,
    on_invalid: Option<Leaf>,
    write: Option<Leaf>,
}

/// One field of the mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldText {
    /// Reteno's field.
    pub target: FieldTarget,
    /// Where its value is, the first that is not null; at least one.
    pub paths: SelectorText,
    /// What is put before the value; only for the external id, empty for none.
    pub prefix: String,
    /// The country of phones without one, as ISO 3166-1 alpha-2; only for the phone.
    pub region: Option<String>,
    /// What an invalid value costs; the mapping's own default where it is not set.
    pub on_invalid: Option<OnInvalidText>,
    /// When the field is written; always for the external id.
    pub write: WriteRule,
}

/// A field of Reteno's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldTarget {
    /// By its name.
    Standard(Field),
    /// An additional field by its number.
    AdditionalId(u32),
    /// An additional field by its key (`PROFILE.FIELD`), whose number Reteno's `addressbooks` tells.
    AdditionalKey(String),
}

/// What an invalid value costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInvalidText {
    /// The field is left out.
    DropField,
    /// The contact is rejected.
    Reject,
}

impl OnInvalidText {
    const WORDS: [(&str, Self); 2] = [("drop_field", Self::DropField), ("reject", Self::Reject)];
}

/// When a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteRule {
    /// Whenever the CRM changes it.
    Always,
    /// Only for contacts new to this checkpoint: it may overwrite what a contact that is in Reteno already has.
    AtFirstSight,
    /// Values are written; empty ones never are.
    NeverClear,
}

impl WriteRule {
    const WORDS: [(&str, Self); 3] =
        [("always", Self::Always), ("at_first_sight", Self::AtFirstSight), ("never_clear", Self::NeverClear)];
}

const FORMS: &str = "a column or JSONPath, a list of them, or { path = …, on_invalid = \"drop_field\" | \"reject\" }";

/// The names of the keys of `[source.NAME.contact]`.
pub(in crate::config) fn known_keys() -> Vec<&'static str> {
    Field::STANDARD.into_iter().filter_map(Field::standard_name).chain([FIELDS]).collect()
}

/// The fields, in Reteno's order, then the additional fields.
pub(super) fn resolve(reader: &mut Reader, section: &KeyPath, table: Table) -> Vec<FieldText> {
    let known = known_keys();
    let mut fields = Vec::new();
    let mut additional = None;
    // `false` takes a field away that a preset maps
    for (name, value) in table.into_iter().filter(|(_, value)| *value != Value::Boolean(false)) {
        let leaf = Leaf::of(section.child(&name), value);
        let standard = Field::STANDARD.into_iter().find(|field| field.standard_name() == Some(name.as_str()));
        match standard {
            Some(field) => fields.extend(field_of(reader, FieldTarget::Standard(field), &leaf)),
            None if name == FIELDS => additional = reader.table(Some(&leaf)),
            None => unknown_field(reader, &leaf, &known),
        }
    }
    fields.sort_by_key(|field: &FieldText| match &field.target {
        FieldTarget::Standard(field) => Some(*field),
        FieldTarget::AdditionalId(_) | FieldTarget::AdditionalKey(_) => None,
    });
    for (name, value) in additional.unwrap_or_default() {
        let leaf = Leaf::of(section.child(FIELDS).child(&name), value);
        if let Some(target) = additional_target(reader, &name, &leaf) {
            fields.extend(field_of(reader, target, &leaf));
        }
    }
    fields
}

fn unknown_field(reader: &mut Reader, leaf: &Leaf, known: &[&str]) {
    if leaf.key.last().parse::<u32>().is_ok() {
        let section = leaf.key.parent().unwrap_or_default().child(FIELDS);
        let problem = reader.problem(&leaf.key, "is not a known key");
        reader.push(problem.hint(format!("additional fields belong into [{section}]")));
        return;
    }
    // What a person may call a phone; Reteno's word for the channel is not the first that comes to mind.
    if ["phone", "mobile", "tel", "telephone"].contains(&leaf.key.last()) {
        let problem = reader.problem(&leaf.key, "is not a known key");
        reader.push(problem.hint("Reteno's name for the phone channel is `sms`"));
        return;
    }
    reader.unknown(&leaf.key, known.iter().copied());
}

fn additional_target(reader: &mut Reader, name: &str, leaf: &Leaf) -> Option<FieldTarget> {
    let accepted = format!("Reteno's numeric id (1 to {ADDITIONAL_ID_MAX}) or a key as \"PROFILE.FIELD\"");
    if name.chars().all(|c| c.is_ascii_digit()) {
        return match name.parse() {
            // Only one way of writing a number, so that no field is mapped twice.
            Ok(id) if (1..=ADDITIONAL_ID_MAX).contains(&id) && !name.starts_with('0') => {
                Some(FieldTarget::AdditionalId(id))
            }
            Ok(_) | Err(_) => {
                let problem = reader.problem(&leaf.key, "is not the id of an additional field").accepted(accepted);
                reader.push(problem);
                None
            }
        };
    }
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() == 2 && parts.iter().all(|part| !part.trim().is_empty()) {
        return Some(FieldTarget::AdditionalKey(name.to_owned()));
    }
    let mut problem =
        reader.problem(&leaf.key, "is neither the id nor the key of an additional field").accepted(accepted);
    if let (Value::Table(inner), [profile]) = (&leaf.value, parts.as_slice())
        && let Some(field) = inner.keys().next()
    {
        problem = problem.hint(format!("put the key in quotes: \"{profile}.{field}\" = …"));
    }
    reader.push(problem);
    None
}

fn field_of(reader: &mut Reader, target: FieldTarget, leaf: &Leaf) -> Option<FieldText> {
    let raw = match &leaf.value {
        Value::Table(table) => reader.section::<RawField>(&leaf.key, table.clone(), &[]),
        _ => RawField { path: Some(leaf.clone()), prefix: None, region: None, on_invalid: None, write: None },
    };
    reader.required(raw.path.as_ref(), &leaf.key.child("path"), "a column or JSONPath, or a list of them");
    let paths = selector(reader, raw.path.as_ref(), FORMS);
    let prefix = prefix(reader, &target, raw.prefix.as_ref());
    let region = region(reader, &target, raw.region.as_ref());
    let on_invalid = reader.choice(raw.on_invalid.as_ref(), &OnInvalidText::WORDS, &[]);
    let write = write_rule(reader, &target, raw.write.as_ref());
    // A wrong prefix is no prefix of "": the field as a whole is not there then.
    let prefix = if raw.prefix.is_some() { prefix? } else { String::new() };
    Some(FieldText { target, paths: paths?, prefix, region, on_invalid, write: write? })
}

/// One or several names of columns or JSON paths of RFC 9535 (those that begin with `$`).
pub(super) fn selector(reader: &mut Reader, leaf: Option<&Leaf>, accepted: &str) -> Option<SelectorText> {
    let leaf = leaf?;
    let texts: Option<Vec<&str>> = match &leaf.value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let texts = texts.filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.trim().is_empty()));
    let Some(texts) = texts else { return reader.refuse(leaf, "names no column and no path", accepted) };
    let mut good = true;
    for text in &texts {
        // of a function like first_word($.name) what stands in it
        let inner =
            text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).filter(|rest| rest.starts_with('$'));
        let text = inner.filter(|_| !text.starts_with('$')).unwrap_or(text);
        if text.starts_with('$') {
            good &= json_path(reader, leaf, text).is_some();
        }
    }
    good.then(|| SelectorText(texts.into_iter().map(str::to_owned).collect()))
}

/// Text that is a JSON path of RFC 9535.
pub(super) fn json_path(reader: &mut Reader, leaf: &Leaf, text: &str) -> Option<()> {
    match serde_json_path::JsonPath::parse(text) {
        Ok(_) => Some(()),
        Err(error) => {
            let what = format!("is not a JSONPath, from character {} on", error.position());
            reader.refuse(leaf, what, "a JSONPath of RFC 9535 such as \"$.emails[0].value\"")
        }
    }
}

fn prefix(reader: &mut Reader, target: &FieldTarget, leaf: Option<&Leaf>) -> Option<String> {
    let accepted = format!("text of at most {PREFIX_CHARS_MAX} characters without blanks, such as \"crm-\"");
    let text = reader.text(leaf, &accepted)?;
    let leaf = leaf?;
    if *target != FieldTarget::Standard(Field::ExternalCustomerId) {
        return reader.refuse(leaf, "has a meaning for externalCustomerId only", "no prefix");
    }
    let blank = |c: char| c.is_whitespace() || c.is_control();
    if text.contains(blank) || text.chars().count() > PREFIX_CHARS_MAX {
        return reader.refuse(leaf, "is not a prefix", accepted);
    }
    Some(text.to_owned())
}

fn write_rule(reader: &mut Reader, target: &FieldTarget, leaf: Option<&Leaf>) -> Option<WriteRule> {
    let Some(leaf) = leaf else { return Some(WriteRule::Always) };
    if *target == FieldTarget::Standard(Field::ExternalCustomerId) {
        return reader.refuse(leaf, "has no meaning for externalCustomerId: every call carries it", "no write");
    }
    reader.choice(Some(leaf), &WriteRule::WORDS, &[])
}

fn region(reader: &mut Reader, target: &FieldTarget, leaf: Option<&Leaf>) -> Option<String> {
    const ACCEPTED: &str = "the two letters of a country such as \"UA\"";
    let text = reader.text(leaf, ACCEPTED)?;
    let leaf = leaf?;
    if *target != FieldTarget::Standard(Field::Sms) {
        return reader.refuse(leaf, "has a meaning for sms only", "no region");
    }
    let known = |text: &str| text.parse::<phonenumber::country::Id>().is_ok();
    if known(text) {
        return Some(text.to_owned());
    }
    let mut problem = reader.problem(&leaf.key, "is not a country").value(leaf.value.to_string()).accepted(ACCEPTED);
    let capitals = text.to_ascii_uppercase();
    if known(&capitals) {
        problem = problem.hint(format!("did you mean {capitals:?}?"));
    }
    reader.push(problem);
    None
}

/// The names of the keys of a field that is written as a table.
pub(in crate::config) fn field_keys() -> &'static [&'static str] {
    raw::known_keys::<RawField>()
}
