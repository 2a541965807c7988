//! `explain KEY`: one contact's story. At rest only hashes are known; the record is read now, where the source can.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{ContactStory, RejectionRow};
use crate::contact::{Catalog, Contact, Mapped, ResolvedMapping, Wanted};
use crate::daemon::compose;
use crate::report;
use crate::source::{From, Item, Page, Source};

use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

/// What the source says of the contact now.
enum Found {
    Contact(Box<Contact>),
    Filtered,
    Rejected(Vec<String>),
    Missing,
    NotRead(String),
}

pub(super) async fn explain(context: &Context, text: &str, offline: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let wanted = text.to_owned();
    let known = around.store.call(move |checkpoint| checkpoint.find_contact(&wanted)).await?;
    let named = known.as_ref().map(|(source, key)| (source.name.clone(), key.clone()));
    let (name, key) = named.unwrap_or_else(|| guess_source(&config, text));
    let (story, rejections) = {
        let (key, name) = (key.clone(), name.clone());
        around
            .store
            .call(move |checkpoint| {
                let story = match &known {
                    Some((source, key)) => checkpoint.load_story(source, key)?,
                    None => None,
                };
                Ok((story, checkpoint.load_rejections_of(&name, &key)?))
            })
            .await?
    };
    let found = match config.sources.iter().find(|source| source.name == name) {
        None => Found::NotRead(format!("source {name} is not configured")),
        Some(_) if offline => Found::NotRead("--offline".to_owned()),
        Some(source) => {
            let catalog = match compose::connect(&config, &around, false) {
                Ok(account) => compose::load_catalog(&account.client, &around.store).await?,
                Err(_) => Catalog::empty(),
            };
            let (feed, _) = compose::build_feed(source, &catalog, &config.state_dir, &around.clock);
            look_up(&feed.source, &feed.mapping, &key).await
        }
    };
    if story.is_none() && rejections.is_empty() && matches!(found, Found::Missing | Found::NotRead(_)) {
        let hint = "give the CRM's id, or source:id; `reteno-sync rejected list` shows records without one".to_owned();
        return Err(Failure::of(Exit::Failed, anyhow::anyhow!("nobody has heard of contact {text}"), Some(hint)));
    }
    match context.output {
        Output::Json => report::say_json(&document(&name, &key, story.as_ref(), &rejections, &found)),
        Output::Text => show(&name, &key, story.as_ref(), &rejections, &found),
    }
    Ok(Exit::Done)
}

fn guess_source(config: &crate::config::Config, text: &str) -> (String, String) {
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

/// Reads the source until the record comes by.
async fn look_up(source: &Source, mapping: &ResolvedMapping, key: &str) -> Found {
    let (sender, mut pages) = mpsc::channel::<Page>(1);
    let stop = CancellationToken::new();
    let search = async move {
        while let Some(page) = pages.recv().await {
            for item in page.items {
                let (Item::Record { record, .. } | Item::Deleted { record, .. }) = item else { continue };
                match mapping.map(&record) {
                    Ok(Mapped::Contact(contact)) if contact.key == key => return Found::Contact(Box::new(contact)),
                    Ok(Mapped::Filtered { key: other }) if other == key => return Found::Filtered,
                    Err(rejection) if rejection.key.as_deref() == Some(key) => {
                        return Found::Rejected(rejection.reasons.iter().map(ToString::to_string).collect());
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Found::Missing
    };
    let (read, found) = tokio::join!(source.read(From::Beginning, sender, stop.clone()), async {
        let found = search.await;
        stop.cancel();
        found
    });
    match (found, read) {
        (Found::Missing, Err(error)) => Found::NotRead(error.to_string()),
        (found, _) => found,
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

fn show(source: &str, key: &str, story: Option<&ContactStory>, rejections: &[RejectionRow], found: &Found) {
    report::say(&format!("contact {key} of source {source}\n"));
    match found {
        Found::Contact(contact) => {
            let rows: Vec<_> = contact.fields.iter().map(|(f, wanted)| vec![f.to_string(), shown(wanted)]).collect();
            report::say(&report::table(&["the CRM wants now", ""], &rows));
            for dropped in &contact.dropped {
                report::say(&format!("left out: {}: {}", dropped.field, dropped.reason));
            }
        }
        Found::Filtered => report::say("the source's filter leaves its record out"),
        Found::Rejected(reasons) => report::say(&format!("its record cannot be sent: {}", reasons.join("; "))),
        Found::Missing => report::say("the source does not have it now"),
        Found::NotRead(why) => report::say(&format!("its record was not read: {why}")),
    }
    if let Some(story) = story {
        let rows: Vec<_> = story.fields.iter().map(|field| vec![field.field.clone(), field.state.to_owned()]).collect();
        report::say(&format!("\n{}", report::table(&["Reteno's field", "state"], &rows)));
        let changed = story.changed_at.map_or(String::new(), |time| format!(", changed in the CRM at {time}"));
        let id = story.reteno_id.map_or("not told yet".to_owned(), |id| id.to_string());
        report::say(&format!("\nlast news read at {}{changed}; Reteno's id: {id}", story.read_at));
        if story.missing_reads > 0 {
            report::say(&format!("missing in the last {} complete reads of the source", story.missing_reads));
        }
        report::say(&format!("it waits for {}", story.waits_for));
    } else {
        report::say("\nthe checkpoint does not know it");
    }
    for row in rejections {
        let field = row.field.as_ref().map_or(String::new(), |field| format!("{field}: "));
        report::say(&format!("rejected since {}: {field}{}", row.seen_at, row.reason));
    }
}
