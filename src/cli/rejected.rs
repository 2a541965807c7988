//! `rejected`: what could not be sent, and why; what a person decides about it.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::Context as _;

use crate::checkpoint::{RejectionChoice, RejectionKind, RejectionRow, Retried};
use crate::report;

use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

pub(super) async fn list(context: &Context, all: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let every = around.store.call(|checkpoint| checkpoint.load_rejections()).await?;
    let hidden = if all { 0 } else { every.iter().filter(|row| row.ignored).count() };
    let rows: Vec<RejectionRow> = every.into_iter().filter(|row| all || !row.ignored).collect();
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({ "rejections": rows, "hidden": hidden })),
        Output::Text => {
            if rows.is_empty() {
                report::say("nothing is rejected");
            } else {
                let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
                report::say(&report::table(&["source", "contact", "what", "field", "reason", "since"], &cells));
                report::say(&format!("\n{}", report::table(&["reason", "count"], &reason_rows(&rows))));
            }
            if hidden > 0 {
                report::say(&format!("\n{hidden} more are ignored: --all shows them"));
            }
        }
    }
    Ok(Exit::Done)
}

pub(super) async fn ignore(context: &Context, choice: RejectionChoice) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let ignored = around.store.call(move |checkpoint| checkpoint.ignore_rejections(&choice)).await?;
    if ignored == 0 {
        return Err(nothing_such(&config.program));
    }
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({ "ignored": ignored })),
        Output::Text => report::say(&format!("{ignored} are ignored until their reason changes")),
    }
    Ok(Exit::Done)
}

pub(super) async fn retry(context: &Context, key: Option<String>) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let is_one = key.is_some();
    let retried = around.store.call(move |checkpoint| checkpoint.retry_rejected(key.as_deref())).await?;
    if is_one && retried == Retried::default() {
        return Err(nothing_such(&config.program));
    }
    let Retried { contacts, records, deeds, fetched, sources } = &retried;
    match context.output {
        Output::Json => report::say_json(&serde_json::json!(retried)),
        Output::Text => {
            report::say(&format!(
                "contacts to be read anew: {contacts}; records to be read again: {records}; opt-outs, deletions and the \
                 like that are due: {deeds}"
            ));
            if *fetched > 0 {
                report::say(&format!(
                    "{fetched} of them are fetched by themselves, by a running daemon at once, else by the next `{} sync`",
                    config.program
                ));
            }
            if !sources.is_empty() {
                report::say(&format!(
                    "all of {} is read, by a running daemon at once, else by the next `{} sync`",
                    sources.join(", "),
                    config.program
                ));
            }
        }
    }
    Ok(Exit::Done)
}

fn nothing_such(program: &str) -> Failure {
    let hint = format!("`{program} rejected list --all` shows contacts, places and reasons as they are to be given");
    Failure::of(Exit::Failed, anyhow::anyhow!("nothing of the kind is rejected"), Some(hint))
}

pub(super) async fn export(context: &Context, file: &str) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let rows = around.store.call(|checkpoint| checkpoint.load_rejections()).await?;
    let text = write_csv(&rows).map_err(|error| Failure::plain(error.context("cannot write the rejections as CSV")))?;
    if file == "-" {
        report::say(text.trim_end());
        return Ok(Exit::Done);
    }
    // ids of the CRM are in it
    let options = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    options
        .and_then(|mut open| open.write_all(text.as_bytes()).and_then(|()| open.sync_all()))
        .with_context(|| format!("cannot write {file}"))
        .map_err(Failure::plain)?;
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({ "file": file, "rejections": rows.len() })),
        Output::Text => report::say(&format!("{} rejections written to {file}", rows.len())),
    }
    Ok(Exit::Done)
}

fn write_csv(rows: &[RejectionRow]) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["source", "contact", "place", "kind", "field", "reason", "since", "ignored"])?;
    for row in rows {
        let RejectionRow { source, key, place, kind, field, reason, seen_at, ignored, contacts: _ } = row;
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        let cells = [
            source.clone(),
            optional(key),
            optional(place),
            kind.name().to_owned(),
            optional(field),
            reason.clone(),
            seen_at.to_string(),
            ignored.to_string(),
        ];
        writer.write_record(cells.map(inert))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// A cell that a spreadsheet shows and never runs: ids come from outside. Signs that are not seen, or turn the writing
/// round, are replaced.
fn inert(cell: String) -> String {
    let is_hidden = |sign: char| {
        sign.is_control() || matches!(sign, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let cell = if cell.contains(is_hidden) { cell.replace(is_hidden, "\u{fffd}") } else { cell };
    if cell.starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']) {
        format!("'{cell}")
    } else {
        cell
    }
}

fn cells(row: &RejectionRow) -> Vec<String> {
    let what = match row.kind {
        RejectionKind::Record => "record not usable",
        RejectionKind::Field => "field left out",
        RejectionKind::Reteno => "refused by Reteno",
        RejectionKind::Skipped => "skipped by Reteno",
        RejectionKind::Shared => "another is sent",
        RejectionKind::Erased => "was erased",
        RejectionKind::Doubtful => "may have been sent",
        RejectionKind::Consent => "not raised",
    };
    let ignored = if row.ignored { " (ignored)" } else { "" };
    vec![
        row.source.clone(),
        row.key.clone().or_else(|| row.place.clone()).unwrap_or_default(),
        format!("{what}{ignored}"),
        row.field.clone().unwrap_or_default(),
        row.reason.clone(),
        row.seen_at.to_string(),
    ]
}

/// The rows of a table.
pub(super) fn reason_rows(rows: &[RejectionRow]) -> Vec<Vec<String>> {
    by_reason(rows).into_iter().map(|(reason, count)| vec![reason.to_owned(), count.to_string()]).collect()
}

/// Contacts by the reason, the most frequent one first.
pub(super) fn by_reason(rows: &[RejectionRow]) -> Vec<(&str, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows {
        *counts.entry(&row.reason).or_default() += row.contacts;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
