//! `rejected`: what could not be sent, and why; what a person decides about it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::Context as _;

use crate::checkpoint::{RejectionChoice, RejectionKind, RejectionRow, Retried};
use crate::clock::Timestamp;
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
                say_groups(&rows, &config.program);
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
        writer.write_record(cells.map(|cell| inert(&cell)))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// A cell that a spreadsheet shows and never runs: ids come from outside. Line breaks and signs that are not seen, or turn
/// the writing round, are replaced.
fn inert(cell: &str) -> String {
    let cell = report::visible(cell).replace('\n', "\u{fffd}");
    // some spreadsheets pass over blanks before they look for a formula
    if cell.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']) {
        format!("'{cell}")
    } else {
        cell
    }
}

/// Lines of a list on anything that is no terminal.
const WIDTH: usize = 120;
/// So many contacts of a group are named: the export has all.
const NAMED_MAX: usize = 30;

/// What has the same reason.
struct Group<'a> {
    /// How many contacts and records.
    contacts: u64,
    /// Since when the first of them.
    since: Timestamp,
    /// Their ids, or where they stand.
    names: Vec<String>,
    row: &'a RejectionRow,
}

/// Equal reasons together, the most contacts first.
fn groups(rows: &[RejectionRow]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
    for row in rows {
        let same = (&row.source, row.kind.name(), &row.field, &row.reason, row.ignored);
        let empty = || Group { contacts: 0, since: row.seen_at, names: Vec::new(), row };
        let group = groups.entry(same).or_insert_with(empty);
        group.contacts += row.contacts;
        group.since = group.since.min(row.seen_at);
        group.names.push(match (&row.key, &row.place) {
            (Some(key), Some(place)) => format!("{key} ({place})"),
            (Some(name), None) | (None, Some(name)) => name.clone(),
            (None, None) => String::new(),
        });
    }
    let mut groups: Vec<Group<'_>> = groups.into_values().collect();
    for group in &mut groups {
        group.names.sort_by(|left, right| as_people_sort(left, right));
        group.names.retain(|name| !name.is_empty());
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.contacts));
    groups
}

fn say_groups(rows: &[RejectionRow], program: &str) {
    let width = report::width().unwrap_or(WIDTH);
    let indented = |text: &str| {
        let lines = report::wrap(text, width.saturating_sub(2));
        lines.iter().flat_map(|line| ["\n  ", line]).collect::<String>()
    };
    for Group { contacts, since, names, row } in groups(rows) {
        let count = if contacts == 1 { "1 contact".to_owned() } else { format!("{contacts} contacts") };
        let field = row.field.as_ref().map_or(String::new(), |field| format!(", {field}"));
        let ignored = if row.ignored { ", ignored" } else { "" };
        let head = format!("{count} of {}: {}{field}{ignored}, since {since}", row.source, what(row.kind));
        let mut named = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        if let Some(more @ 1..) = names.len().checked_sub(NAMED_MAX) {
            let _infallible = write!(named, " and {more} more: `{program} rejected export -` has all");
        }
        let reason = report::wrap(&report::visible(&row.reason), width).join("\n");
        report::say(&format!("{reason}{}{}\n", indented(&report::visible(&head)), indented(&report::visible(&named))));
    }
    report::say(&format!("{} in all", rows.iter().map(|row| row.contacts).sum::<u64>()));
}

const fn what(kind: RejectionKind) -> &'static str {
    match kind {
        RejectionKind::Record => "record not usable",
        RejectionKind::Field => "field left out",
        RejectionKind::Reteno => "refused by Reteno",
        RejectionKind::Skipped => "skipped by Reteno",
        RejectionKind::Shared => "another is sent",
        RejectionKind::Erased => "was erased",
        RejectionKind::Doubtful => "may have been sent",
        RejectionKind::Consent => "not raised",
    }
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

/// Numbers within a text count as numbers: k2 comes before k10.
fn as_people_sort(left: &str, right: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(bool, String)> {
        let mut parts: Vec<(bool, String)> = Vec::new();
        for sign in text.chars() {
            match parts.last_mut() {
                Some((is_number, part)) if *is_number == sign.is_ascii_digit() => part.push(sign),
                Some(_) | None => parts.push((sign.is_ascii_digit(), sign.to_string())),
            }
        }
        parts
    };
    // of any length, so by its digits
    let number = |digits: &str| {
        let digits = digits.trim_start_matches('0').to_owned();
        (digits.len(), digits)
    };
    let (left_parts, right_parts) = (parts(left), parts(right));
    let by_parts = left_parts.iter().zip(&right_parts).map(|(left, right)| match (left, right) {
        ((true, left), (true, right)) => number(left).cmp(&number(right)),
        ((_, left), (_, right)) => left.cmp(right),
    });
    by_parts
        .into_iter()
        .find(|order| *order != Ordering::Equal)
        .unwrap_or_else(|| left_parts.len().cmp(&right_parts.len()).then_with(|| left.cmp(right)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, reason: &str, contacts: u64) -> RejectionRow {
        RejectionRow {
            source: "crm".to_owned(),
            key: Some(key.to_owned()),
            place: None,
            kind: RejectionKind::Record,
            field: None,
            reason: reason.to_owned(),
            seen_at: Timestamp(contacts.cast_signed()),
            ignored: false,
            contacts,
        }
    }

    #[test]
    fn equal_reasons_are_one_group_and_its_ids_stand_as_people_sort_them() {
        let rows = [
            row("k10", "bad", 1),
            row("one", "other", 5),
            row("k2", "bad", 1),
            row("K1", "bad", 1),
            row("k1", "bad", 1),
        ];
        let shown: Vec<(u64, String)> =
            groups(&rows).into_iter().map(|group| (group.contacts, group.names.join(" "))).collect();
        assert_eq!(shown, [(5, "one".to_owned()), (4, "K1 k1 k2 k10".to_owned())]);
    }

    #[test]
    fn numbers_in_ids_count_as_numbers() {
        let mut ids = [
            "10",
            "9",
            "a10b2",
            "a10b1",
            "a9",
            "007",
            "7",
            "",
            "18446744073709551616",
            "18446744073709551617",
            "line 12",
            "line 3",
        ];
        ids.sort_by(|left, right| as_people_sort(left, right));
        let sorted = [
            "",
            "007",
            "7",
            "9",
            "10",
            "18446744073709551616",
            "18446744073709551617",
            "a9",
            "a10b1",
            "a10b2",
            "line 3",
            "line 12",
        ];
        assert_eq!(ids, sorted);
    }

    #[test]
    fn a_cell_never_runs_and_hides_nothing() {
        let cases = [
            ("=1+1", "'=1+1"),
            (" =1+1", "' =1+1"),
            ("\t=1+1", "\u{fffd}=1+1"),
            ("a\r\nb", "a\u{fffd}\u{fffd}b"),
            ("\u{1b}[2J", "\u{fffd}[2J"),
            ("\u{202e}x\u{2066}", "\u{fffd}x\u{fffd}"),
            ("\u{feff}=1", "\u{fffd}=1"),
            ("плюс", "плюс"),
        ];
        for (cell, shown) in cases {
            assert_eq!(inert(cell), shown, "{cell:?}");
        }
    }
}
