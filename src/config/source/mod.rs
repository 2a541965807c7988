//! `[source.NAME]`: one CRM, when it is read, and how its records become contacts. Opens nothing.

mod contact;
mod file;
mod singer;

use chrono_tz::Tz;
use serde::Deserialize;
use toml::Table;

pub use contact::{FieldTarget, FieldText, OnInvalidText};
pub(super) use contact::{field_keys, known_keys as contact_keys};
pub(super) use file::RawFile;
pub use file::{FileConfig, FileFormat};
pub(super) use singer::RawSinger;
pub use singer::{CatalogArgument, ReplicationMethod, SingerConfig};

use super::problem::KeyPath;
use super::raw::{self, Leaf};
use super::reader::Reader;
use super::reteno::DedupeOn;
use super::schedule::Schedule;
use crate::contact::Field;

/// A name becomes part of variables, of metrics' labels and of the path of a hook.
const NAME_CHARS_MAX: usize = 32;

/// The keys of every kind; `kind` decides which others there are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    kind: Option<Leaf>,
    schedule: Option<Leaf>,
    reconcile: Option<Leaf>,
    time_zone: Option<Leaf>,
    on_delete: Option<Leaf>,
    key: Option<Leaf>,
    changed_at: Option<Leaf>,
    filter: Option<Leaf>,
    contact: Option<Leaf>,
}

/// Keys of the design that no kind has yet.
const LATER_KEYS: [&str; 3] = ["shares_ids", "consent", "clear_at_first_sight"];

/// Where a value is in a record: a column's name or a JSON path (it begins with `$`); of several the first that is not
/// null. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorText(pub Vec<String>);

/// A source.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// 1 to 32 of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// What it is, and how it is reached.
    pub kind: SourceKind,
    /// When it is read; `None`: only when a command asks for it.
    pub schedule: Option<Schedule>,
    /// When it is read in full.
    pub reconcile: Option<Schedule>,
    /// The zone of both.
    pub time_zone: Tz,
    /// What happens to a contact that is gone.
    pub on_delete: OnDelete,
    /// The CRM's id of a record.
    pub key: SelectorText,
    /// When a record was changed.
    pub changed_at: Option<SelectorText>,
    /// A JSON path that a record must match.
    pub filter: Option<String>,
    /// The mapping, in Reteno's order of fields, then additional fields.
    pub contact: Vec<FieldText>,
}

/// The kinds of source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// CSV or JSON lines.
    File(FileConfig),
    /// A Singer tap.
    Singer(SingerConfig),
}

/// What happens to a contact that is gone from the CRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// Nothing.
    Keep,
}

impl OnDelete {
    const WORDS: [(&str, Self); 1] = [("keep", Self::Keep)];
    const LATER: [&str; 4] = ["detach", "unsubscribe", "delete", "erase"];
}

#[derive(Clone, Copy)]
enum Kind {
    File,
    Singer,
}

impl Kind {
    const WORDS: [(&str, Self); 2] = [("file", Self::File), ("singer", Self::Singer)];
    const LATER: [&str; 10] =
        ["http", "amocrm", "bitrix24", "creatio", "espocrm", "hubspot", "keycrm", "odoo", "pipedrive", "salesforce"];

    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::File => raw::known_keys::<RawFile>(),
            Self::Singer => raw::known_keys::<RawSinger>(),
        }
    }
}

impl SourceConfig {
    /// The mapping of one of Reteno's standard fields.
    #[must_use]
    pub fn field(&self, field: Field) -> Option<&FieldText> {
        find(&self.contact, field)
    }
}

fn find(fields: &[FieldText], field: Field) -> Option<&FieldText> {
    fields.iter().find(|mapped| mapped.target == FieldTarget::Standard(field))
}

/// What tells a source's contacts from those of another one.
struct Identity {
    name: String,
    /// The mapping names the external id, right or wrong.
    named: bool,
    /// Its prefix, where the mapping of the external id is right.
    prefix: Option<String>,
}

/// All sources, in the order of their names.
pub(super) fn resolve_all(reader: &mut Reader, table: Table, dedupe_on: Option<DedupeOn>) -> Vec<SourceConfig> {
    let key = KeyPath::of(&["source"]);
    let (mut sources, mut identities) = (Vec::new(), Vec::new());
    for (name, value) in table {
        let leaf = Leaf::of(key.child(&name), value);
        check_name(reader, &name, &leaf.key);
        if let Some(table) = reader.table(Some(&leaf)) {
            let (source, identity) = resolve(reader, &name, table, dedupe_on);
            sources.extend(source);
            identities.push(identity);
        }
    }
    check_prefixes(reader, &identities, dedupe_on);
    sources
}

fn check_name(reader: &mut Reader, name: &str, key: &KeyPath) {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(good) {
        let accepted = format!("1 to {NAME_CHARS_MAX} of a-z, 0-9, _ and -");
        let problem = reader.problem(key, "has a name that cannot be used").accepted(accepted);
        reader.push(problem);
    }
}

fn resolve(
    reader: &mut Reader,
    name: &str,
    table: Table,
    dedupe_on: Option<DedupeOn>,
) -> (Option<SourceConfig>, Identity) {
    let section = KeyPath::of(&["source", name]);
    let common = raw::known_keys::<RawSource>();
    let (own, mut rest): (Table, Table) = table.into_iter().partition(|(key, _)| common.contains(&key.as_str()));
    let raw: RawSource = reader.section(&section, own, &[]);
    for later in LATER_KEYS {
        if let Some(value) = rest.remove(later) {
            reader.not_yet(&Leaf::of(section.child(later), value), "to leave the key out");
        }
    }
    let kind = resolve_kind(reader, &section, &raw, rest);
    let time_zone = time_zone(reader, raw.time_zone.as_ref());
    let schedule = schedule(reader, raw.schedule.as_ref(), time_zone);
    let reconcile = self::schedule(reader, raw.reconcile.as_ref(), time_zone);
    let on_delete = reader.choice(raw.on_delete.as_ref(), &OnDelete::WORDS, &OnDelete::LATER);
    let changed_at = contact::selector(reader, raw.changed_at.as_ref(), "a column or JSONPath, or a list of them");
    let filter = filter(reader, raw.filter.as_ref());
    let fields = mapping(reader, &section, &raw, dedupe_on);
    let identity = Identity {
        name: name.to_owned(),
        // A mapping that is not there at all has been missed already.
        named: names_external_id(&raw).unwrap_or(true),
        prefix: find(&fields, Field::ExternalCustomerId).map(|mapped| mapped.prefix.clone()),
    };
    let key = key_of(reader, &section, &raw, &fields, dedupe_on);
    let source = || {
        Some(SourceConfig {
            name: name.to_owned(),
            kind: kind?,
            schedule,
            reconcile,
            time_zone: time_zone?,
            on_delete: on_delete?,
            key: key?,
            changed_at,
            filter,
            contact: fields,
        })
    };
    (source(), identity)
}

/// Whether the mapping names the external id; `None` where there is no mapping.
fn names_external_id(raw: &RawSource) -> Option<bool> {
    let mapping = raw.contact.as_ref()?.value.as_table()?;
    Some(mapping.contains_key(Field::ExternalCustomerId.standard_name()?))
}

fn resolve_kind(reader: &mut Reader, section: &KeyPath, raw: &RawSource, rest: Table) -> Option<SourceKind> {
    reader.required(raw.kind.as_ref(), &section.child("kind"), "\"file\" | \"singer\"");
    // Without a kind that exists nobody can say which other keys there are.
    let kind = reader.choice(raw.kind.as_ref(), &Kind::WORDS, &Kind::LATER)?;
    let (foreign, rest): (Table, Table) =
        rest.into_iter().partition(|(key, _)| !kind.keys().contains(&key.as_str()) && owner(key).is_some());
    for key in foreign.keys() {
        let what = format!("belongs to kind = \"{}\"", owner(key).unwrap_or_default());
        let problem = reader.problem(&section.child(key), what).hint("remove it, or change the kind");
        reader.push(problem);
    }
    let others = raw::known_keys::<RawSource>();
    match kind {
        Kind::File => {
            let raw: RawFile = reader.section(section, rest, others);
            file::resolve(reader, section, &raw).map(SourceKind::File)
        }
        Kind::Singer => {
            let raw: RawSinger = reader.section(section, rest, others);
            singer::resolve(reader, section, &raw).map(SourceKind::Singer)
        }
    }
}

/// The kind that has this key.
fn owner(key: &str) -> Option<&'static str> {
    Kind::WORDS.into_iter().find(|(_, kind)| kind.keys().contains(&key)).map(|(word, _)| word)
}

fn time_zone(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<Tz> {
    const ACCEPTED: &str = "a name of the tz database such as \"Europe/Kyiv\"";
    let text = reader.text(leaf, ACCEPTED)?;
    let leaf = leaf?;
    let Ok(zone) = text.parse::<Tz>() else {
        let mut problem =
            reader.problem(&leaf.key, "is not a time zone").value(leaf.value.to_string()).accepted(ACCEPTED);
        if let Some(name) = raw::nearest(text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())) {
            problem = problem.hint(format!("did you mean {name:?}?"));
        }
        reader.push(problem);
        return None;
    };
    Some(zone)
}

fn schedule(reader: &mut Reader, leaf: Option<&Leaf>, zone: Option<Tz>) -> Option<Schedule> {
    const ACCEPTED: &str = "Unix cron: minute hour day-of-month month day-of-week, with seconds before them if six";
    let text = reader.text(leaf, ACCEPTED)?;
    // With a wrong zone the expression is judged all the same.
    match Schedule::parse(text, zone.unwrap_or(Tz::UTC)) {
        Ok(schedule) => Some(schedule),
        Err(error) => reader.refuse(leaf?, format!("is not a schedule: {error}"), ACCEPTED),
    }
}

fn filter(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<String> {
    let text = reader.text(leaf, "a JSONPath such as \"$[?@.type == 'customer']\"")?;
    contact::json_path(reader, leaf?, text).map(|()| text.to_owned())
}

fn mapping(reader: &mut Reader, section: &KeyPath, raw: &RawSource, dedupe_on: Option<DedupeOn>) -> Vec<FieldText> {
    let key = section.child("contact");
    let Some(leaf) = reader.required(raw.contact.as_ref(), &key, "a table: Reteno's field = where it is in the record")
    else {
        return Vec::new();
    };
    // Fields that are there and wrong have their own problem; here it only counts that they were meant.
    let named: Vec<String> = leaf.value.as_table().map(|table| table.keys().cloned().collect()).unwrap_or_default();
    let has = |field: Field| field.standard_name().is_some_and(|name| named.iter().any(|key| key == name));
    let Some(table) = reader.table(raw.contact.as_ref()) else { return Vec::new() };
    let fields = contact::resolve(reader, &key, table);
    let mut lacks = |field: &str, why: &str| {
        let problem = reader.problem(&key, why).accepted(format!("{field} = \"…\" in [{key}]"));
        reader.push(problem);
    };
    if !has(Field::Email) && !has(Field::Sms) {
        lacks("email or sms", "maps no channel, so no contact could be sent");
        return fields;
    }
    match dedupe_on {
        Some(DedupeOn::ExternalCustomerId) if !has(Field::ExternalCustomerId) => {
            lacks("externalCustomerId", "lacks the field that reteno.dedupe_on names");
        }
        Some(DedupeOn::Email) if !has(Field::Email) => lacks("email", "lacks the field that reteno.dedupe_on names"),
        Some(DedupeOn::Sms) if !has(Field::Sms) => lacks("sms", "lacks the field that reteno.dedupe_on names"),
        Some(DedupeOn::ExternalCustomerId | DedupeOn::Email | DedupeOn::Sms | DedupeOn::EmailOrSms) | None => {}
    }
    fields
}

/// The CRM's id of a record: `key`, or else where the external id comes from.
fn key_of(
    reader: &mut Reader,
    section: &KeyPath,
    raw: &RawSource,
    fields: &[FieldText],
    dedupe_on: Option<DedupeOn>,
) -> Option<SelectorText> {
    const ACCEPTED: &str = "the column or JSONPath of the record's id in the CRM";
    if raw.key.is_some() {
        return contact::selector(reader, raw.key.as_ref(), ACCEPTED);
    }
    if let Some(mapped) = find(fields, Field::ExternalCustomerId) {
        return Some(mapped.paths.clone());
    }
    // Where the external id is wrong, or missing and demanded, that is a problem already; mending it gives the key.
    if names_external_id(raw) == Some(false) && dedupe_on != Some(DedupeOn::ExternalCustomerId) {
        let problem = reader.problem(&section.child("key"), "is missing, and externalCustomerId is not mapped");
        reader.push(problem.accepted(ACCEPTED));
    }
    None
}

/// With several sources equal ids of two CRMs must not become one contact.
fn check_prefixes(reader: &mut Reader, sources: &[Identity], dedupe_on: Option<DedupeOn>) {
    const ACCEPTED: &str = "a prefix of its own: { path = \"…\", prefix = \"…-\" }";
    if sources.len() < 2 {
        return;
    }
    for (place, source) in sources.iter().enumerate() {
        let key = KeyPath::of(&["source", &source.name, "contact", "externalCustomerId"]);
        // Demanded by `dedupe_on` it has been missed already.
        if !source.named && dedupe_on != Some(DedupeOn::ExternalCustomerId) {
            let problem = reader.problem(&key, "is missing: with several sources it tells their contacts apart");
            reader.push(problem.accepted(ACCEPTED));
        }
        let Some(prefix) = &source.prefix else { continue };
        if let Some(other) = sources[..place].iter().find(|other| other.prefix.as_ref() == Some(prefix)) {
            let what = format!("has the same prefix as in source.{}: equal ids would become one contact", other.name);
            let problem = reader.problem(&key, what).value(format!("prefix = {prefix:?}"));
            reader.push(problem.accepted(ACCEPTED));
        }
    }
}
