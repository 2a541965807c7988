//! Records by their ids. What was asked for and does not come is missing, but only in an answer that looked at the ids:
//! one that brings others ignores them, and says nothing of those that it lacks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::HttpSource;
use super::description::{Description, Fetch};
use super::link::{Ask, Link, Reply};
use super::records::{is_deleted, no_records, text};
use super::template::{Bindings, Variable};
use crate::contact::Record;
use crate::source::{Fetched, SourceError};

/// Statuses by which a CRM says that there is no such record, where one is asked for. Of many they say that there is no such
/// request: a wrong path must not make everybody missing.
pub(super) const MISSING: [u16; 2] = [404, 410];

impl HttpSource {
    /// The records with these ids, in any order; of each id one.
    pub async fn fetch(&self, keys: &[String], stop: &CancellationToken) -> Result<Vec<Fetched>, SourceError> {
        let description = self.link.description();
        let Some(fetch) = &description.fetch else { return Ok(Vec::new()) };
        let mut fetched = Vec::with_capacity(keys.len());
        for batch in keys.chunks(fetch.batch.max(1)) {
            fetched.extend(fetch_batch(&self.link, fetch, batch, stop).await?);
        }
        Ok(fetched)
    }
}

async fn fetch_batch(
    link: &Link,
    fetch: &Fetch,
    keys: &[String],
    stop: &CancellationToken,
) -> Result<Vec<Fetched>, SourceError> {
    let asked: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let mut found = BTreeMap::new();
    let mut left = keys.to_vec();
    // an answer may be cut at a limit of the CRM: who is missing is asked for again, until nobody more comes
    loop {
        let records = ask_for(link, fetch, left.clone(), stop).await?;
        take(link.description(), fetch, (&asked, records), &mut found)?;
        let before = left.len();
        left.retain(|key| !found.contains_key(key));
        if left.is_empty() || left.len() == before {
            break;
        }
    }
    let missing = left.into_iter().map(|key| Fetched::Missing { key });
    let records = found.into_values().map(|record| {
        if is_deleted(link.description(), &record) {
            Fetched::Deleted(Record::Json(record))
        } else {
            Fetched::Record(Record::Json(record))
        }
    });
    Ok(records.chain(missing).collect())
}

async fn ask_for(
    link: &Link,
    fetch: &Fetch,
    ids: Vec<String>,
    stop: &CancellationToken,
) -> Result<Vec<Value>, SourceError> {
    let bindings = Bindings { ids, page_size: Some(fetch.batch.max(1) as u64), ..Bindings::default() };
    let empty_statuses: &[u16] = if fetch.call.uses(Variable::Ids) { &[] } else { &MISSING };
    let ask = Ask {
        what: "fetch",
        call: &fetch.call,
        next_link: None,
        bindings,
        empty_statuses,
        records: Some(&fetch.records),
        paths: Vec::new(),
    };
    match link.ask(&ask, stop).await? {
        Reply::Answer(mut answer) => {
            let items = fetch.records.items(&mut answer).ok_or_else(|| no_records("fetch"))?;
            let records: Result<Vec<Option<Value>>, _> = items.iter().map(|item| fetch.records.record(item)).collect();
            // who cannot be read is not missing
            let records = records.map_err(|broken| SourceError::NotUnderstood {
                what: "fetch".to_owned(),
                reason: format!("a record of it cannot be read as JSON ({broken})"),
            })?;
            Ok(records.into_iter().flatten().collect())
        }
        Reply::Empty { is_told: true, .. } => Ok(Vec::new()),
        Reply::Empty { is_told: false, .. } => {
            let reason = "its error is ignored, and says nothing of the records that were asked for".to_owned();
            Err(SourceError::NotUnderstood { what: "fetch".to_owned(), reason })
        }
        Reply::Restart => {
            let reason = "its error asks to begin anew, which a fetch cannot".to_owned();
            Err(SourceError::NotUnderstood { what: "fetch".to_owned(), reason })
        }
    }
}

fn take(
    description: &Description,
    fetch: &Fetch,
    (asked, records): (&BTreeSet<&str>, Vec<Value>),
    found: &mut BTreeMap<String, Value>,
) -> Result<(), SourceError> {
    for record in records {
        // a list that stands for nothing, such as Odoo's false
        if !record.is_object() {
            continue;
        }
        let record = Record::Json(record);
        let key = text(&description.key, &record);
        let Record::Json(record) = record else { continue };
        match key {
            Some(key) if asked.contains(key.as_str()) || fetch.follows_merges => drop(found.insert(key, record)),
            Some(_) | None => {
                let reason = "it brings records that were not asked for: the CRM ignores the ids".to_owned();
                return Err(SourceError::NotUnderstood { what: "fetch".to_owned(), reason });
            }
        }
    }
    Ok(())
}
