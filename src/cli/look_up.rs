//! One contact's record as the CRM has it now, for people who ask about it: fetched by its id where the source can, else
//! found by reading all of it. Writes nothing.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, SourceConfig};
use crate::contact::{Catalog, Contact, Mapped, Record, ResolvedMapping};
use crate::daemon::compose::{self, Surroundings};
use crate::daemon::links::CrmLinks;
use crate::source::{Fetched, From, Item, Page, Place, Source};

use super::Failure;

/// What the source says of the contact now.
pub(super) enum Found {
    Contact(Box<Contact>),
    Filtered,
    Rejected(Vec<String>),
    Deleted,
    Missing,
    NotRead(String),
}

/// What `source` says of the contact `key` now.
pub(super) async fn look_up(
    (config, around): (&Config, &Surroundings),
    source: &SourceConfig,
    key: &str,
) -> Result<Found, Failure> {
    let catalog = match compose::connect(config, around, false) {
        Ok(account) => compose::load_catalog(config, &account.client, &around.store).await?,
        Err(_) => Catalog::empty(),
    };
    let links = CrmLinks::connect(config, around);
    let place = compose::Place { state_dir: &config.state_dir, clock: &around.clock, links: &links };
    let (feed, _) = compose::build_feed(source, config.identity, &catalog, place);
    Ok(if feed.source.fetches() {
        fetch(&feed.source, &feed.mapping, key).await
    } else {
        search(&feed.source, &feed.mapping, key).await
    })
}

async fn fetch(source: &Source, mapping: &ResolvedMapping, key: &str) -> Found {
    match source.fetch(&[key.to_owned()], &CancellationToken::new()).await {
        Ok(fetched) => {
            let of_record = |fetched: &Fetched| match fetched {
                Fetched::Record(record) => match_record(mapping, record, key),
                Fetched::Deleted(record) => {
                    mapping.read_id(record).is_ok_and(|other| other == key).then_some(Found::Deleted)
                }
                Fetched::Missing { .. } => None,
            };
            fetched.iter().find_map(of_record).unwrap_or(Found::Missing)
        }
        Err(error) => Found::NotRead(error.to_string()),
    }
}

/// Reads the source to its end: where a record comes twice, the one that counts may be the last.
async fn search(source: &Source, mapping: &ResolvedMapping, key: &str) -> Found {
    let (sender, mut pages) = mpsc::channel::<Page>(1);
    let search = async {
        let mut found = Found::Missing;
        while let Some(page) = pages.recv().await {
            for item in page.items {
                let next = match_item(mapping, &item, key);
                found = next.filter(|next| counts_over(next, &found, &item)).unwrap_or(found);
            }
        }
        found
    };
    match tokio::join!(source.read(From::Beginning, sender, CancellationToken::new()), search) {
        (Err(error), Found::Missing) => Found::NotRead(error.to_string()),
        (_, found) => found,
    }
}

/// What an item says of the contact; nothing where it is of another one.
fn match_item(mapping: &ResolvedMapping, item: &Item, key: &str) -> Option<Found> {
    match item {
        Item::Record { record, .. } => match_record(mapping, record, key),
        Item::Deleted { record, .. } => {
            mapping.read_id(record).is_ok_and(|other| other == key).then_some(Found::Deleted)
        }
        Item::Pointed { key: other, is_deleted, .. } => (*is_deleted && other == key).then_some(Found::Deleted),
        Item::Malformed { .. } => None,
    }
}

fn match_record(mapping: &ResolvedMapping, record: &Record, key: &str) -> Option<Found> {
    match mapping.map(record) {
        Ok(Mapped::Contact(contact)) => (contact.key == key).then(|| Found::Contact(Box::new(contact))),
        Ok(Mapped::Filtered { key: other, said: _ }) => (other == key).then_some(Found::Filtered),
        Err(rejection) => (rejection.key.as_deref() == Some(key))
            .then(|| Found::Rejected(rejection.reasons.iter().map(ToString::to_string).collect())),
    }
}

/// As in `sync`: of two contacts the one that was changed later; without that the first of a file and the last of a tap.
fn counts_over(next: &Found, found: &Found, item: &Item) -> bool {
    let (Item::Record { place, .. }
    | Item::Deleted { place, .. }
    | Item::Pointed { place, .. }
    | Item::Malformed { place, .. }) = item;
    let is_later_better = matches!(place, Place::Message(_) | Place::Answer { .. });
    match (found, next) {
        (Found::Contact(found), Found::Contact(next)) => match (found.changed_at, next.changed_at) {
            (Some(before), Some(after)) if before != after => after > before,
            (Some(_) | None, Some(_) | None) => is_later_better,
        },
        (Found::Contact(_), _) => is_later_better,
        (Found::Filtered | Found::Rejected(_) | Found::Deleted | Found::Missing | Found::NotRead(_), _) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::contact::{FieldMapping, FieldRef, MappedZones, Mapping, OnInvalid, Selector, Wanted, WriteRule};

    fn mapping() -> ResolvedMapping {
        let field = |name: &str, place: &str| FieldMapping {
            field: FieldRef::parse(name).unwrap(),
            selector: Selector::parse(place).unwrap(),
            on_invalid: OnInvalid::DropField,
            region: None,
            prefix: String::new(),
            write: WriteRule::Always,
        };
        let mapping = Mapping {
            key: Selector::parse("id").unwrap(),
            fields: vec![field("email", "mail")],
            changed_at: Some(Selector::parse("at").unwrap()),
            filter: None,
            consent: None,
            subscriptions: None,
            zones: MappedZones::default(),
            null_values: Vec::new(),
            segments: Vec::new(),
        };
        mapping.resolve(&Catalog::empty()).0
    }

    /// The last word on contact 7 after these records.
    fn said(place: Place, records: &[Value]) -> String {
        let mut found = Found::Missing;
        for record in records {
            let is_deleted = !record["gone"].is_null();
            let record = Record::Json(record.clone());
            let item = if is_deleted {
                Item::Deleted { record, place, is_current: false, deleted_at: None }
            } else {
                Item::Record { record, place }
            };
            let next = match_item(&mapping(), &item, "7");
            found = next.filter(|next| counts_over(next, &found, &item)).unwrap_or(found);
        }
        match found {
            Found::Contact(contact) => match &contact.fields[0].1 {
                Wanted::Value(value) => value.expose().to_owned(),
                Wanted::Clear => "(empty)".to_owned(),
            },
            Found::Rejected(reasons) => reasons.join("; "),
            Found::Deleted => "deleted".to_owned(),
            Found::Filtered | Found::Missing | Found::NotRead(_) => "nothing".to_owned(),
        }
    }

    #[test]
    fn the_record_that_counts_is_the_one_that_sync_takes() {
        let a = || json!({"id": 7, "mail": "a@example.com"});
        let b = || json!({"id": 7, "mail": "b@example.com"});
        let at = |mut record: Value, at: &str| {
            record["at"] = json!(at);
            record
        };
        let (deleted, bad) = (json!({"id": 7, "gone": true}), json!({"id": 7, "mail": ""}));
        let (line, message) = (Place::Line(2), Place::Message(2));
        let no_channel = "no valid e-mail address or phone number";
        let table = [
            (message, vec![a(), b(), json!({"id": 8, "mail": "c@example.com"})], "b@example.com"),
            (line, vec![a(), b()], "a@example.com"),
            // the change time decides
            (message, vec![at(a(), "2024-02-01"), at(b(), "2024-01-01")], "a@example.com"),
            (line, vec![at(a(), "2024-01-01"), at(b(), "2024-02-01")], "b@example.com"),
            // what a tap deletes is gone, what comes again is back
            (message, vec![a(), deleted.clone()], "deleted"),
            (message, vec![deleted, a()], "a@example.com"),
            // what cannot be used
            (message, vec![a(), bad.clone()], no_channel),
            (line, vec![bad.clone(), a()], "a@example.com"),
            (line, vec![a(), bad], "a@example.com"),
            (line, vec![json!({"id": 8, "mail": "c@example.com"})], "nothing"),
        ];
        for (place, records, wanted) in table {
            assert_eq!(said(place, &records), wanted, "{place} {records:?}");
        }
    }
}
