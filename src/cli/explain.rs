//! `explain KEY`: one contact's story. At rest only hashes are known; the record is read now, where the source can.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{ConsentStory, ContactStory, DeedStory, HeldStory, RejectionRow};
use crate::contact::{Catalog, Contact, Mapped, ResolvedMapping, Wanted};
use crate::daemon::compose;
use crate::daemon::links::CrmLinks;
use crate::report;
use crate::source::{From, Item, Page, Place, Source};

use super::segments::FieldNames;
use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

/// What the source says of the contact now.
pub(super) enum Found {
    Contact(Box<Contact>),
    Filtered,
    Rejected(Vec<String>),
    Deleted,
    Missing,
    NotRead(String),
}

pub(super) async fn explain(context: &Context, text: &str, offline: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let wanted = text.to_owned();
    let mut found = around.store.call(move |checkpoint| checkpoint.find_contacts(&wanted)).await?;
    if found.len() > 1 {
        let all: Vec<String> = found.iter().map(|(source, key)| format!("{}:{key}", source.name)).collect();
        let error = anyhow::anyhow!("several contacts have the id {text}");
        return Err(Failure::of(Exit::Failed, error, Some(format!("say which: {}", all.join(", ")))));
    }
    let known = found.pop();
    let named = known.as_ref().map(|(source, key)| (source.name.clone(), key.clone()));
    let (name, key) = named.unwrap_or_else(|| guess_source(&config, text));
    let (story, rejections, erased_at) = {
        let (key, name) = (key.clone(), name.clone());
        around
            .store
            .call(move |checkpoint| {
                let story = match &known {
                    Some((source, key)) => checkpoint.load_story(source, key)?,
                    None => None,
                };
                let source = checkpoint.load_sources()?.into_iter().find(|source| source.name == name);
                let erased_at = match source {
                    Some(source) => checkpoint.erased_at(source.id, &key)?,
                    None => None,
                };
                Ok((story, checkpoint.load_rejections_of(&name, &key)?, erased_at))
            })
            .await?
    };
    let found = match config.sources.iter().find(|source| source.name == name) {
        None => Found::NotRead(format!("source {name} is not configured")),
        Some(_) if offline => Found::NotRead("--offline".to_owned()),
        Some(source) => {
            let catalog = match compose::connect(&config, &around, false) {
                Ok(account) => compose::load_catalog(&config, &account.client, &around.store).await?,
                Err(_) => Catalog::empty(),
            };
            let (feed, _) = compose::build_feed(
                source,
                config.identity,
                &catalog,
                compose::Place {
                    state_dir: &config.state_dir,
                    clock: &around.clock,
                    links: &CrmLinks::connect(&config, &around),
                },
            );
            look_up(&feed.source, &feed.mapping, &key).await
        }
    };
    if story.is_none()
        && rejections.is_empty()
        && erased_at.is_none()
        && matches!(found, Found::Missing | Found::NotRead(_))
    {
        let hint = "give the CRM's id, or source:id; `reteno-sync rejected list` shows records without one".to_owned();
        return Err(Failure::of(Exit::Failed, anyhow::anyhow!("nobody has heard of contact {text}"), Some(hint)));
    }
    match context.output {
        Output::Json => {
            let mut document = document(&name, &key, story.as_ref(), &rejections, &found);
            document["erased_at"] = serde_json::json!(erased_at);
            report::say_json(&document);
        }
        Output::Text => {
            show((&name, &key), &FieldNames::of(&config), story.as_ref(), &rejections, &found);
            if let Some(erased_at) = erased_at {
                report::say(&format!(
                    "it was erased at {erased_at} and is not sent again; `{} erased lift {name}:{key}` lets it come back",
                    config.program
                ));
            }
        }
    }
    Ok(Exit::Done)
}

/// The source and the CRM's id that an operator means: `source:id`, or the id alone of the first source.
pub(super) fn guess_source(config: &crate::config::Config, text: &str) -> (String, String) {
    match text.split_once(':') {
        Some((name, key)) if config.sources.iter().any(|source| source.name == name) => {
            (name.to_owned(), key.to_owned())
        }
        Some(_) | None => {
            let only = config.sources.first().map_or("", |source| source.name.as_str());
            (only.to_owned(), text.to_owned())
        }
    }
}

/// Reads the source to its end: where a record comes twice, the one that counts may be the last.
pub(super) async fn look_up(source: &Source, mapping: &ResolvedMapping, key: &str) -> Found {
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
        Item::Record { record, .. } => match mapping.map(record) {
            Ok(Mapped::Contact(contact)) => (contact.key == key).then(|| Found::Contact(Box::new(contact))),
            Ok(Mapped::Filtered { key: other }) => (other == key).then_some(Found::Filtered),
            Err(rejection) => (rejection.key.as_deref() == Some(key))
                .then(|| Found::Rejected(rejection.reasons.iter().map(ToString::to_string).collect())),
        },
        Item::Deleted { record, .. } => {
            mapping.read_id(record).is_ok_and(|other| other == key).then_some(Found::Deleted)
        }
        Item::Pointed { key: other, is_deleted, .. } => (*is_deleted && other == key).then_some(Found::Deleted),
        Item::Malformed { .. } => None,
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

fn document(
    source: &str,
    key: &str,
    story: Option<&ContactStory>,
    rejections: &[RejectionRow],
    found: &Found,
) -> serde_json::Value {
    let record = match found {
        Found::Contact(contact) => serde_json::json!({
            "fields": contact.fields.iter().map(|(field, wanted)| (field.to_string(), shown(wanted))).collect::<std::collections::BTreeMap<_, _>>(),
            "left_out": contact.dropped.iter().map(|dropped| format!("{}: {}", dropped.field, dropped.reason)).collect::<Vec<_>>(),
        }),
        Found::Filtered => serde_json::json!({ "state": "left out by the filter" }),
        Found::Rejected(reasons) => serde_json::json!({ "state": "not usable", "reasons": reasons }),
        Found::Deleted => serde_json::json!({ "state": "deleted in the CRM" }),
        Found::Missing => serde_json::json!({ "state": "the source does not have it" }),
        Found::NotRead(why) => serde_json::json!({ "state": "not read", "why": why }),
    };
    serde_json::json!({ "source": source, "key": key, "record": record, "checkpoint": story, "rejections": rejections })
}

fn shown(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Clear => "(empty)".to_owned(),
        // the operator asked for this contact, on a terminal of theirs: this is not a log
        Wanted::Value(value) => value.expose().to_owned(),
    }
}

fn show(
    (source, key): (&str, &str),
    names: &FieldNames,
    story: Option<&ContactStory>,
    rejections: &[RejectionRow],
    found: &Found,
) {
    report::say(&format!("contact {key} of source {source}\n"));
    match found {
        Found::Contact(contact) => {
            let rows: Vec<_> =
                contact.fields.iter().map(|(f, wanted)| vec![names.name(&f.to_string()), shown(wanted)]).collect();
            report::say(&report::table(&["the CRM wants now", ""], &rows));
            for dropped in &contact.dropped {
                report::say(&format!("left out: {}: {}", dropped.field, dropped.reason));
            }
        }
        Found::Filtered => report::say("the source's filter leaves its record out"),
        Found::Rejected(reasons) => report::say(&format!("its record cannot be sent: {}", reasons.join("; "))),
        Found::Deleted => report::say("it is deleted in the CRM"),
        Found::Missing => report::say("the source does not have it now"),
        Found::NotRead(why) => report::say(&format!("its record was not read: {why}")),
    }
    if let Some(story) = story {
        let rows: Vec<_> =
            story.fields.iter().map(|field| vec![names.name(&field.field), field.state.to_owned()]).collect();
        report::say(&format!("\n{}", report::table(&["Reteno's field", "state"], &rows)));
        let changed = story.changed_at.map_or(String::new(), |time| format!(", changed in the CRM at {time}"));
        let id = story.reteno_id.map_or("not told yet".to_owned(), |id| id.to_string());
        report::say(&format!("\nlast news read at {}{changed}; Reteno's id: {id}", story.read_at));
        if story.missing_reads > 0 {
            report::say(&format!("missing in the last {} complete reads of the source", story.missing_reads));
        }
        show_protections(story);
        report::say(&format!("it waits for {}", story.waits_for));
    } else {
        report::say("\nthe checkpoint does not know it");
    }
    for row in rejections {
        let field = row.field.as_ref().map_or(String::new(), |field| format!("{field}: "));
        report::say(&format!("rejected since {}: {field}{}", row.seen_at, row.reason));
    }
}

/// Consent, holds, and what is to be done besides writing fields.
fn show_protections(story: &ContactStory) {
    if let Some(ConsentStory { said, told_at, silenced_by }) = &story.consent {
        let told =
            told_at.map_or("Reteno was not told of a no".to_owned(), |at| format!("Reteno was told of the no at {at}"));
        report::say(&format!("its record said {said} to e-mail; {told}"));
        if let Some(other) = silenced_by {
            report::say(&format!("its address gets no mail all the same: contact {other} has it, and says no"));
        }
    }
    if let Some(status) = &story.email_status {
        report::say(&format!("Reteno said of its address when the form subscribed it: {status}"));
    }
    if story.restores {
        report::say("it was deleted in Reteno by this program, and comes back when it is sent");
    }
    for HeldStory { hold, verb, field } in &story.held {
        let what = field.as_ref().map_or("the contact as a whole", String::as_str);
        report::say(&format!("held: {what}, by hold {hold} ({verb})"));
    }
    for DeedStory { kind, state, cause: _, not_before } in &story.deeds {
        let when = not_before.map_or(String::new(), |time| format!(", not before {time}"));
        report::say(&format!("to be done: {kind} ({}{when})", state.name()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::contact::{FieldMapping, FieldRef, Mapping, OnInvalid, Record, Selector, WriteRule};

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
                Item::Deleted { record, place, is_current: false }
            } else {
                Item::Record { record, place }
            };
            let next = match_item(&mapping(), &item, "7");
            found = next.filter(|next| counts_over(next, &found, &item)).unwrap_or(found);
        }
        match found {
            Found::Contact(contact) => shown(&contact.fields[0].1),
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
