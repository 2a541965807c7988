//! `explain KEY`: one contact's story. At rest only hashes are known; the record is read now, where the source can.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::checkpoint::{
    CallStory, Checkpoint, ConsentStory, ContactStory, DeedStory, HeldStory, RejectionRow, SourceRow,
};
use crate::config::Config;
use crate::contact::{Field, Personal, Region, Wanted, canonical_email, canonical_phone};
use crate::daemon::compose::Surroundings;
use crate::report;

use super::look_up::{Found, look_up};
use super::segments::FieldNames;
use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

/// Shorter figures are ids: the shortest international numbers have so many digits.
const PHONE_DIGITS_MIN: usize = 7;

pub(super) async fn explain(context: &Context, text: &str, offline: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let (known, shown) = find_one(&config, &around, text).await?;
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
        Some(source) => look_up((&config, &around), source, &key).await?,
    };
    if story.is_none()
        && rejections.is_empty()
        && erased_at.is_none()
        && matches!(found, Found::Missing | Found::NotRead(_))
    {
        return Err(unknown(&config, &shown));
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

/// A contact by its source and the CRM's id.
type Asked = (SourceRow, String);

/// The contact that is meant, where one is known, and what was asked for, in words.
async fn find_one(config: &Config, around: &Surroundings, text: &str) -> Result<(Option<Asked>, String), Failure> {
    let wanted = text.to_owned();
    let addresses = addresses(config, text);
    // an address is nobody's business but the operator's: it goes into no message
    let is_email = !addresses.is_empty() && text.contains('@');
    let shown = match (addresses.is_empty(), is_email) {
        (true, _) => format!("the id {text}"),
        (false, true) => "this e-mail".to_owned(),
        (false, false) => "this id or phone".to_owned(),
    };
    let find = move |checkpoint: &mut Checkpoint| match checkpoint.find_contacts(&wanted)? {
        found if found.is_empty() => checkpoint.find_contacts_by_address(&addresses),
        found => Ok(found),
    };
    let mut found = around.store.call(find).await?;
    if found.len() > 1 {
        let all: Vec<String> = found.iter().map(|(source, key)| format!("{}:{key}", source.name)).collect();
        let error = anyhow::anyhow!("several contacts have {shown}");
        return Err(Failure::of(Exit::Failed, error, Some(format!("say which: {}", all.join(", ")))));
    }
    let known = found.pop();
    if known.is_none() && is_email && !is_known_id(config, text) {
        // the CRM would be asked for it as an id, and write it into its log
        return Err(unknown(config, &shown));
    }
    Ok((known, shown))
}

/// Whether the text names a source, or a source tells its records apart by an address.
fn is_known_id(config: &Config, text: &str) -> bool {
    let names_source = text.split_once(':').is_some_and(|(name, _)| config.sources.iter().any(|s| s.name == name));
    names_source || config.sources.iter().any(|source| source.id_doubt().is_some())
}

fn unknown(config: &Config, shown: &str) -> Failure {
    let program = &config.program;
    let hint = format!(
        "give the CRM's id, source:id, an e-mail or a phone; `{program} rejected list` shows records without an id"
    );
    Failure::of(Exit::Failed, anyhow::anyhow!("no contact with {shown} is known"), Some(hint))
}

/// The addresses that an operator may mean: an e-mail, or a phone as any of the sources reads it.
fn addresses(config: &Config, text: &str) -> Vec<(Field, Wanted)> {
    let text = match text.split_once(':') {
        Some((name, rest)) if config.sources.iter().any(|source| source.name == name) => rest,
        Some(_) | None => text,
    };
    let value = |field: Field, text: &str| (field, Wanted::Value(Personal::new(text)));
    if text.contains('@') {
        return canonical_email(text).iter().map(|email| value(Field::Email, email)).collect();
    }
    let is_phone = text.chars().all(|sign| sign.is_ascii_digit() || "+-() .".contains(sign))
        && text.chars().filter(char::is_ascii_digit).count() >= PHONE_DIGITS_MIN;
    if !is_phone {
        return Vec::new();
    }
    let regions = config.sources.iter().flat_map(|source| &source.contact).map(|mapped| mapped.region.as_deref());
    let regions: BTreeSet<Option<&str>> = regions.chain([None]).collect();
    let phones = regions.iter().filter_map(|region| canonical_phone(text, region.and_then(Region::parse)).ok());
    phones.map(Cow::into_owned).collect::<BTreeSet<_>>().iter().map(|p| value(Field::Sms, p)).collect()
}

/// The source and the CRM's id that an operator means: `source:id`, or the id alone of the first source.
pub(super) fn guess_source(config: &Config, text: &str) -> (String, String) {
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
    for CallStory { import, call, posted_at, answer, session, refusal } in &story.calls {
        let session = session.as_ref().map_or(String::new(), |session| format!(" as {session}"));
        report::say(&format!("sent at {posted_at} by import {import} ({call}){session}; the answer: {answer}"));
        if let Some(refusal) = refusal {
            report::say(&format!("refused in it: {refusal}"));
        }
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
