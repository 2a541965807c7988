//! `POST v1/contacts/upload`: a file of contacts behind a link. The file is fetched before the call is carried out, since
//! that takes an await and the sandbox's state must not be held over one; then it becomes an import like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::http::Exchange;
use crate::http::socket::{HttpExchange, Timeouts};

use super::Sandbox;
use super::bulk;
use super::contacts::{Search, Writing};
use super::draw;
use super::engine::{Request, State};
use super::faults::{Effect, Slot};
use super::imports::Order;
use super::options::AdditionalField;
use super::reply::{Reply, bad_request, ok};
use super::routes::{CallKind, UPLOAD_PATH};
use super::rules;
use super::wire::{Address, Channel, ChannelKind, DedupeOn, FieldValue, FileUpdate, StandardField, WireContact};

/// Reteno's bound on a file.
const FILE_BYTES_MAX: usize = 100 * 1024 * 1024;
/// Keeps the draws of file ids apart from all others.
const STREAM: u64 = 0x4000_0000;
/// How long a download may take: a hundred megabytes from the same machine, and a link that leads nowhere.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), read: Duration::from_secs(15), total: Duration::from_mins(2) };

/// Gives what stands behind a link, or says why nothing does.
pub type Downloader = dyn Fn(String) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync;

/// Files that were fetched for calls not yet carried out, by link.
pub(super) type Files = BTreeMap<String, Result<Bytes, String>>;

/// Fetches over the network, as Reteno does: TLS, or this machine itself.
pub(super) fn over_http() -> Arc<Downloader> {
    let exchange = HttpExchange::new(TIMEOUTS, FILE_BYTES_MAX + 1);
    Arc::new(move |link| {
        let exchange = exchange.clone();
        async move {
            let request = http::Request::get(link).body(Bytes::new()).map_err(|_| "not a link".to_owned())?;
            if !matches!(request.uri().scheme_str(), Some("http" | "https")) {
                return Err("not a link".to_owned());
            }
            let answer = exchange.exchange(request).await.map_err(|error| error.in_words())?;
            if answer.status() == http::StatusCode::OK {
                Ok(answer.into_body())
            } else {
                Err(format!("status {}", answer.status().as_u16()))
            }
        }
        .boxed()
    })
}

/// Fetches the file of an upload that is about to be carried out; does nothing for any other request.
pub(super) async fn fetch(sandbox: &Sandbox, path: &str, body: &Bytes) {
    if path != UPLOAD_PATH || sandbox.state().faults.will_strike(CallKind::Upload, Slot::Instead) {
        return;
    }
    let Ok(FileUpdate { link, .. }) = serde_json::from_slice(body) else { return };
    let Some(downloader) = sandbox.downloader() else { return };
    let file = downloader(link.clone()).await;
    sandbox.state().files.insert(link, file);
}

/// `POST v1/contacts/upload`.
pub(super) fn submit(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    let update: FileUpdate = match serde_json::from_slice(&request.body) {
        Ok(update) => update,
        Err(error) => return bad_request(&format!("Cannot read request: {error}")),
    };
    if let Err(reason) = refuse_whole(&update) {
        return bad_request(&reason);
    }
    let file = state.files.remove(&update.link).unwrap_or_else(|| Err("nobody fetched it".to_owned()));
    let file_id = draw::hex::<8>(&draw::sequence(state.options.seed, STREAM.wrapping_add(request.number)));
    let mut answer = Map::from_iter([("fileId".to_owned(), json!(file_id))]);
    let table = file
        .map_err(|reason| format!("Cannot download file: {reason}"))
        .and_then(|file| read_table(&file, &state.options.additional_fields, update.dedupe_on));
    match table {
        Ok(table) => {
            answer.insert("valid".to_owned(), json!(true));
            let session = accept(state, now, &update, &table, request);
            if !matches!(state.faults.strike(CallKind::Upload, Slot::Content), Some(Effect::OmitSessionId)) {
                answer.insert("importId".to_owned(), json!(session));
            }
        }
        Err(reason) => {
            answer.insert("valid".to_owned(), json!(false));
            answer.insert("message".to_owned(), json!(reason));
        }
    }
    ok(&Value::Object(answer))
}

fn refuse_whole(update: &FileUpdate) -> Result<(), String> {
    match update.dedupe_on {
        DedupeOn::Email | DedupeOn::Sms | DedupeOn::EmailOrSms | DedupeOn::Id => {}
        DedupeOn::Push | DedupeOn::WebPush | DedupeOn::ExternalCustomerId | DedupeOn::FieldId => {
            return Err("Unknown dedupeOn".to_owned());
        }
    }
    if !update.link.starts_with("https://") && !update.link.starts_with("http://") {
        return Err("Cannot read link".to_owned());
    }
    if update.group_names.iter().chain(&update.group_names_exclude).any(String::is_empty) {
        return Err("Empty segment name".to_owned());
    }
    update.event_key_for_new_contacts.as_deref().map_or(Ok(()), rules::event_key)
}

fn accept(state: &mut State, now: Timestamp, update: &FileUpdate, table: &Table, request: &Request) -> String {
    let (members, failed) = bulk::divide(state, &table.contacts, update.dedupe_on, None);
    state.journal.received(table.contacts.len(), failed.iter().map(|(_, reason)| reason));
    state.journal.tally.files_accepted += 1;
    let listed = table.columns.iter();
    let order = Order {
        search: Search {
            dedupe_on: update.dedupe_on,
            field_id: None,
            rename_by_id: state.options.readings.rename_by_id,
            restore_deleted: update.restore_deleted,
        },
        // A cell cannot say "leave this alone": an empty one clears.
        writing: Writing {
            standard: listed.clone().filter_map(|column| column.standard()).collect(),
            wipe_standard: true,
            additional: listed.filter_map(|column| column.additional()).collect(),
            wipe_additional: true,
            segments: update.group_names.clone(),
            segments_exclude: update.group_names_exclude.clone(),
        },
        event_key: update.event_key_for_new_contacts.clone(),
    };
    bulk::accept(state, now, members, order, request)
}

/// A file that was read.
struct Table {
    columns: Vec<Column>,
    contacts: Vec<WireContact>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Standard(StandardField),
    Additional(i32),
    ContactId,
    /// "The fields that are not found in the system remain empty."
    Unknown,
}

impl Column {
    /// By the names that Reteno documents, and `KEY_PROFILE.KEY_CUSTOMFIELD`.
    fn named(name: &str, catalogue: &[AdditionalField]) -> Self {
        Self::Standard(match name {
            "First name" => StandardField::FirstName,
            "Last name" => StandardField::LastName,
            "Address" => StandardField::Address,
            "Region" => StandardField::Region,
            "City" => StandardField::Town,
            "Postcode" => StandardField::Postcode,
            "Email" => StandardField::Email,
            "SMS" => StandardField::Sms,
            "Language code" => StandardField::LanguageCode,
            "Timezone" => StandardField::TimeZone,
            "Contact ID" => return Self::ContactId,
            _ => {
                let is_named = |field: &&AdditionalField| format!("{}.{}", field.profile_key, field.field_key) == name;
                return catalogue.iter().find(is_named).map_or(Self::Unknown, |field| Self::Additional(field.id));
            }
        })
    }

    const fn standard(self) -> Option<StandardField> {
        match self {
            Self::Standard(field) => Some(field),
            Self::Additional(_) | Self::ContactId | Self::Unknown => None,
        }
    }

    const fn additional(self) -> Option<i32> {
        match self {
            Self::Additional(id) => Some(id),
            Self::Standard(_) | Self::ContactId | Self::Unknown => None,
        }
    }
}

fn read_table(file: &[u8], catalogue: &[AdditionalField], dedupe_on: DedupeOn) -> Result<Table, String> {
    if file.len() > FILE_BYTES_MAX {
        return Err("File is larger than 100 MB".to_owned());
    }
    let text = std::str::from_utf8(file).map_err(|_| "File is not UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let broken = |error: csv::Error| format!("Cannot read file: {error}");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns: Vec<Column> =
        reader.headers().map_err(broken)?.iter().map(|name| Column::named(name, catalogue)).collect();
    let distinct: BTreeSet<String> = reader.headers().map_err(broken)?.iter().map(str::to_owned).collect();
    if distinct.len() < columns.len() {
        return Err("A column stands there twice".to_owned());
    }
    let has = |field| columns.contains(&Column::Standard(field));
    let is_searchable = match dedupe_on {
        DedupeOn::Email => has(StandardField::Email),
        DedupeOn::Sms => has(StandardField::Sms),
        DedupeOn::EmailOrSms => has(StandardField::Email) || has(StandardField::Sms),
        DedupeOn::Id => columns.contains(&Column::ContactId),
        DedupeOn::Push | DedupeOn::WebPush | DedupeOn::ExternalCustomerId | DedupeOn::FieldId => false,
    };
    if !is_searchable {
        return Err("File has no column for dedupeOn".to_owned());
    }
    let mut contacts = Vec::new();
    for row in reader.records() {
        contacts.push(contact(&columns, &row.map_err(broken)?));
    }
    if contacts.is_empty() { Err("File is empty".to_owned()) } else { Ok(Table { columns, contacts }) }
}

/// One row; a bad Contact ID is none.
fn contact(columns: &[Column], row: &csv::StringRecord) -> WireContact {
    let cell = |column: Column| {
        let place = columns.iter().position(|known| *known == column)?;
        row.get(place).filter(|cell| !cell.is_empty()).map(str::to_owned)
    };
    let standard = |field| cell(Column::Standard(field));
    let channel = |field, kind| {
        let value = standard(field)?;
        Some(Channel { kind, value, device: None, web_push_subscription: None })
    };
    let email = channel(StandardField::Email, ChannelKind::Email);
    let fields = columns.iter().filter_map(|column| column.additional()).filter_map(|id| {
        let value = cell(Column::Additional(id))?;
        Some(FieldValue { id, value })
    });
    WireContact {
        channels: email.into_iter().chain(channel(StandardField::Sms, ChannelKind::Sms)).collect(),
        first_name: standard(StandardField::FirstName),
        last_name: standard(StandardField::LastName),
        address: Some(Address {
            region: standard(StandardField::Region),
            town: standard(StandardField::Town),
            address: standard(StandardField::Address),
            postcode: standard(StandardField::Postcode),
        }),
        fields: Some(fields.collect()),
        address_book_id: None,
        id: cell(Column::ContactId).and_then(|id| id.parse().ok()),
        external_customer_id: None,
        contact_key: None,
        language_code: standard(StandardField::LanguageCode),
        time_zone: standard(StandardField::TimeZone),
    }
}
