//! `[source.NAME]`: one CRM, when it is read, and how its records become contacts. Opens nothing.

mod auth;
mod consent;
mod contact;
mod doubts;
mod file;
mod form;
pub(super) mod http;
mod kind;
mod on_delete;
mod scope;
mod segments;
mod singer;
mod subscriptions;
mod times;
mod together;
mod tokens;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use serde::Deserialize;
use toml::Table;

pub use auth::AuthConfig;
pub(super) use auth::RawAuth;
pub use consent::ConsentText;
pub(super) use consent::{RawAnswer, RawConsent};
pub use contact::{FieldTarget, FieldText, OnInvalidText, WriteRule};
pub(super) use contact::{field_keys, known_keys as contact_keys};
pub(super) use file::RawFile;
pub use file::{FileConfig, FileFormat};
pub use form::FormText;
pub(super) use form::RawForm;
pub use on_delete::OnDelete;
pub use scope::{FilledText, Scope};
pub(super) use segments::RawSegment;
pub use segments::SegmentText;
pub(super) use singer::RawSinger;
pub use singer::{CatalogArgument, ReplicationMethod, SingerConfig};
pub use subscriptions::{CategoryText, SubscriptionsText};
pub(super) use subscriptions::{RawCategory, RawSubscriptions};
pub use tokens::{OAuthClientAuth, OAuthConfig, OAuthGrant, TokenBody};

use super::guard::{self, Guard, RawGuard};
use super::problem::KeyPath;
use super::raw::{self, Leaf};
use super::reader::Reader;
use super::reteno::{DedupeOn, RestoreDeleted};
use super::schedule::Schedule;
use crate::contact::{Field, MappedZones};
use crate::source::http::description::Description;
use crate::source::webhook::Webhook;
pub(super) use times::time_zone;
use together::Member;
pub(super) use webhook::{RawHmac, RawRequirement, RawWebhook};

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
    quiet_for: Option<Leaf>,
    on_delete: Option<Leaf>,
    shares_ids: Option<Leaf>,
    clear_at_first_sight: Option<Leaf>,
    guard: Option<Leaf>,
    consent: Option<Leaf>,
    subscriptions: Option<Leaf>,
    segments: Option<Leaf>,
    form: Option<Leaf>,
    key: Option<Leaf>,
    changed_at: Option<Leaf>,
    filter: Option<Leaf>,
    null_values: Option<Leaf>,
    contact: Option<Leaf>,
    vars: Option<Leaf>,
    secrets: Option<Leaf>,
    auth: Option<Leaf>,
    webhook: Option<Leaf>,
}

/// Keys of a source that hold sections.
pub(super) const SECTIONS: [&str; 10] =
    ["contact", "guard", "consent", "subscriptions", "segments", "form", "vars", "secrets", "auth", "webhook"];

/// Longer ones would hold back what a person expects to see at once.
const QUIET_MAX: Duration = Duration::from_mins(10);

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
    /// The zone of both: UTC where none is set.
    pub time_zone: Tz,
    /// The zone of its records' days and the account's of times; none is ever taken for granted.
    pub zones: MappedZones,
    /// How long a contact must have rested in the CRM before it is sent; zero: not at all.
    pub quiet_for: Duration,
    /// What happens to a contact that is gone. With [`OnDelete::Detach`] a segment has a group id; with
    /// [`OnDelete::Unsubscribe`] the e-mail is mapped.
    pub on_delete: OnDelete,
    /// Its ids are those of the other sources with the same prefix, and each of their fields has one owner.
    pub shares_ids: bool,
    /// A field that is empty in the CRM is emptied in Reteno also where the contact was never seen before.
    pub clear_at_first_sight: bool,
    /// The bounds of this source, whole.
    pub guard: Guard,
    /// The CRM's id of a record.
    pub key: SelectorText,
    /// When a record was changed.
    pub changed_at: Option<SelectorText>,
    /// A JSON path that a record must match.
    pub filter: Option<String>,
    /// Values of fields by which the CRM means that there is none.
    pub null_values: Vec<String>,
    /// The mapping, in Reteno's order of fields, then additional fields.
    pub contact: Vec<FieldText>,
    /// Who wants e-mails; with it the e-mail is mapped.
    pub consent: Option<ConsentText>,
    /// The subscription categories, where the CRM owns them.
    pub subscriptions: Option<SubscriptionsText>,
    /// The segments, in the order of their names.
    pub segments: Vec<SegmentText>,
    /// A form of double opt-in: with it there are no consent, no subscriptions, and `on_delete` keeps.
    pub form: Option<FormText>,
    /// The values that its other keys may name.
    pub scope: Scope,
    /// How its requests are let in.
    pub auth: AuthConfig,
    /// What the CRM posts to us; with it records can be fetched by their ids, or come whole.
    pub webhook: Option<Arc<Webhook>>,
}

/// The kinds of source.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// CSV or JSON lines.
    File(FileConfig),
    /// A Singer tap.
    Singer(SingerConfig),
    /// A CRM's API by its description, which may be a preset.
    Http(Arc<Description>),
    /// A system that only pushes: it has a webhook with whole records, and no schedule.
    Webhook,
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

/// What sources depend on; each part `None` where it is wrong, which has been told.
#[derive(Clone, Copy)]
pub(super) struct Account {
    pub(super) dedupe_on: Option<DedupeOn>,
    pub(super) restore_deleted: Option<RestoreDeleted>,
    pub(super) guard: Option<Guard>,
    pub(super) time_zone: Option<Tz>,
}

/// All sources, in the order of their names, without those that are wrong.
pub(super) fn resolve_all(reader: &mut Reader, table: Table, account: Account) -> Vec<SourceConfig> {
    let key = KeyPath::of(&["source"]);
    let (mut sources, mut members) = (Vec::new(), Vec::new());
    for (name, value) in table {
        let leaf = Leaf::of(key.child(&name), value);
        check_name(reader, &name, &leaf.key);
        if let Some(table) = reader.table(Some(&leaf)) {
            let (source, member) = resolve(reader, &name, table, account);
            sources.extend(source);
            members.push(member);
        }
    }
    together::check(reader, &members, account.dedupe_on);
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

fn resolve(reader: &mut Reader, name: &str, table: Table, account: Account) -> (Option<SourceConfig>, Member) {
    let section = KeyPath::of(&["source", name]);
    let common = raw::known_keys::<RawSource>();
    let (own, rest): (Table, Table) = table.into_iter().partition(|(key, _)| common.contains(&key.as_str()));
    let raw: RawSource = reader.section(&section, own, &[]);
    let scope = scope::resolve(reader, name, raw.vars.as_ref(), raw.secrets.as_ref());
    let auth = auth::resolve(reader, raw.auth.as_ref(), &scope);
    let own_zone = time_zone(reader, raw.time_zone.as_ref());
    let time_zone = if raw.time_zone.is_some() { own_zone } else { Some(Tz::UTC) };
    let schedule = times::schedule(reader, raw.schedule.as_ref(), time_zone);
    let reconcile = times::schedule(reader, raw.reconcile.as_ref(), time_zone);
    let quiet_for = reader.duration(raw.quiet_for.as_ref(), Duration::ZERO..=QUIET_MAX);
    let changed_at = contact::selector(reader, raw.changed_at.as_ref(), "a column or JSONPath, or a list of them");
    let filter = filter(reader, raw.filter.as_ref());
    let null_values = null_values(reader, raw.null_values.as_ref());
    let fields = mapping(reader, &section, &raw);
    let key = key_of(reader, &section, &raw, &fields, account.dedupe_on);
    let kind = kind::resolve(reader, &section, &raw, (rest, key.as_ref(), &scope));
    let webhook = webhook::resolve_for(reader, &section, raw.webhook.as_ref(), (&scope, kind.as_ref()));
    let shares_ids = reader.flag(raw.shares_ids.as_ref());
    let clear_at_first_sight = reader.flag(raw.clear_at_first_sight.as_ref());
    let driven = driven(reader, &section, &raw, account);
    let segments = driven.segments.clone().unwrap_or_default();
    let member = Member {
        name: name.to_owned(),
        named: raw.contact.as_ref().and_then(|leaf| leaf.value.as_table()).map(|table| table.keys().cloned().collect()),
        prefix: find(&fields, Field::ExternalCustomerId).map(|mapped| mapped.prefix.clone()),
        shares_ids: shares_ids == Some(true),
        owned: together::owned(&section, &fields, &segments, driven.subscriptions.is_some()),
        segments,
    };
    let source = || {
        Some(SourceConfig {
            name: name.to_owned(),
            kind: kind?,
            schedule,
            reconcile,
            time_zone: time_zone?,
            zones: MappedZones { source: own_zone, account: account.time_zone },
            quiet_for: quiet_for?,
            on_delete: driven.on_delete?,
            shares_ids: shares_ids?,
            clear_at_first_sight: clear_at_first_sight?,
            guard: driven.guard?,
            key: key?,
            changed_at,
            filter,
            null_values: null_values?,
            contact: fields,
            consent: driven.consent,
            subscriptions: driven.subscriptions,
            segments: driven.segments?,
            form: driven.form,
            scope,
            auth: auth?,
            webhook: webhook.map(Arc::new),
        })
    };
    (source(), member)
}

/// What a source drives beside the fields of its contacts.
struct Driven {
    on_delete: Option<OnDelete>,
    guard: Option<Guard>,
    consent: Option<ConsentText>,
    subscriptions: Option<SubscriptionsText>,
    /// `None` where one is wrong.
    segments: Option<Vec<SegmentText>>,
    form: Option<FormText>,
}

fn driven(reader: &mut Reader, section: &KeyPath, raw: &RawSource, account: Account) -> Driven {
    let maps_email = names(raw, Field::Email).unwrap_or(true);
    let on_delete = reader.choice(raw.on_delete.as_ref(), &on_delete::WORDS, &[]);
    let consent = consent::resolve(reader, &section.child("consent"), raw.consent.as_ref(), maps_email);
    let subscriptions = subscriptions::resolve(reader, &section.child("subscriptions"), raw.subscriptions.as_ref());
    let segments = segments::resolve(reader, raw.segments.as_ref());
    let form = form::resolve(reader, &section.child("form"), raw, on_delete, account.restore_deleted);
    if let (Some(leaf), Some(on_delete), Some(segments)) = (&raw.on_delete, on_delete, &segments) {
        let can_detach = segments.iter().any(|segment| segment.group_id.is_some());
        on_delete::check(reader, leaf, on_delete, (can_detach, maps_email));
    }
    let guard = match &raw.guard {
        Some(leaf) => reader.table(Some(leaf)).and_then(|table| {
            let raw: RawGuard = reader.section(&leaf.key, table, &[]);
            guard::resolve(reader, &raw, account.guard)
        }),
        None => account.guard,
    };
    Driven { on_delete, guard, consent, subscriptions, segments, form }
}

/// Whether the mapping names the field, right or wrong; `None` where there is no mapping.
fn names(raw: &RawSource, field: Field) -> Option<bool> {
    let mapping = raw.contact.as_ref()?.value.as_table()?;
    Some(mapping.contains_key(field.standard_name()?))
}

fn filter(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<String> {
    let text = reader.text(leaf, "a JSONPath such as \"$[?@.type == 'customer']\"")?;
    contact::json_path(reader, leaf?, text).map(|()| text.to_owned())
}

fn null_values(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<Vec<String>> {
    let Some(leaf) = leaf else { return Some(Vec::new()) };
    let texts: Option<Vec<String>> = leaf.value.as_array().and_then(|items| {
        let text = |item: &toml::Value| match item {
            toml::Value::String(text) => Some(text.trim().to_owned()),
            toml::Value::Boolean(_) | toml::Value::Integer(_) => Some(item.to_string()),
            _ => None,
        };
        items.iter().map(text).collect()
    });
    match texts {
        Some(texts) => Some(texts),
        None => reader.refuse(leaf, "is no list of values", "such as [false, \"\", \"0000-00-00\"]"),
    }
}

fn mapping(reader: &mut Reader, section: &KeyPath, raw: &RawSource) -> Vec<FieldText> {
    let key = section.child("contact");
    reader.required(raw.contact.as_ref(), &key, "a table: Reteno's field = where it is in the record");
    match reader.table(raw.contact.as_ref()) {
        Some(table) => contact::resolve(reader, &key, table),
        None => Vec::new(),
    }
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
    if names(raw, Field::ExternalCustomerId) == Some(false) && dedupe_on != Some(DedupeOn::ExternalCustomerId) {
        let problem = reader.problem(&section.child("key"), "is missing, and externalCustomerId is not mapped");
        reader.push(problem.accepted(ACCEPTED));
    }
    None
}
