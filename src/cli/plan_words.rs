//! How `plan` says what it found.

use std::collections::BTreeMap;

use crate::contact::Field;
use crate::report;

use super::estimate::time_of;
use super::plan::{MappingChange, Outlook, Verdict};
use super::rejected::{by_reason, reason_rows};
use super::segments::FieldNames;
use super::{Context, Output};

pub(super) fn show(context: &Context, outlook: &Outlook, posts_in_flight: usize) {
    match context.output {
        Output::Json => report::say_json(&document(outlook, posts_in_flight)),
        Output::Text => say(outlook, posts_in_flight),
    }
}

fn names(names: &FieldNames, mask: &[Field]) -> Vec<String> {
    mask.iter().map(|field| names.name(&field.to_string())).collect()
}

fn document(outlook: &Outlook, posts_in_flight: usize) -> serde_json::Value {
    let Outlook { balances, create, update, waiting, gone, deeds, calls, by_field, .. } = outlook;
    let fields: BTreeMap<_, _> =
        by_field.iter().map(|(field, load)| (outlook.names.name(&field.to_string()), load.contacts)).collect();
    let loads: BTreeMap<_, _> = by_field
        .iter()
        .map(|(field, load)| {
            let seconds = time_of(load.calls, posts_in_flight).as_secs();
            let load = serde_json::json!({
                "contacts": load.contacts, "calls": load.calls, "estimated_seconds": seconds,
            });
            (outlook.names.name(&field.to_string()), load)
        })
        .collect();
    let change = |change: &MappingChange| {
        let fields: BTreeMap<_, _> =
            change.fields.iter().map(|(f, count)| (outlook.names.name(&f.to_string()), *count)).collect();
        serde_json::json!({ "source": change.source, "contacts": change.contacts, "fields": fields })
    };
    let verdict = |verdict: &Verdict| {
        let Verdict { source, what, contacts, passed, limit, holds } = verdict;
        serde_json::json!({
            "source": source, "what": what, "contacts": contacts, "passed_in_24_hours": passed, "limit": limit,
            "would_hold": holds,
        })
    };
    serde_json::json!({
        "create": create,
        "update": update,
        "already_waiting": waiting,
        "gone": gone,
        "deeds": deeds,
        "calls": calls,
        "estimated_seconds": outlook.time(posts_in_flight).as_secs(),
        "fields": fields,
        "by_field": loads,
        "guard": outlook.verdicts.iter().map(verdict).collect::<Vec<_>>(),
        "mapping_changes": outlook.mapping_changes.iter().map(change).collect::<Vec<_>>(),
        "events": outlook.events,
        "double_opt_ins": outlook.opt_ins,
        "sources": balances.iter().map(|(source, balance)| {
            serde_json::json!({ "source": source, "balance": balance })
        }).collect::<Vec<_>>(),
        "rejections": by_reason(&outlook.rejections).into_iter().map(|(reason, contacts)| {
            serde_json::json!({ "reason": reason, "contacts": contacts })
        }).collect::<Vec<_>>(),
        "samples": outlook.samples.iter().map(|(key, mask)| {
            serde_json::json!({ "key": key, "fields": names(&outlook.names, mask) })
        }).collect::<Vec<_>>(),
    })
}

fn say(outlook: &Outlook, posts_in_flight: usize) {
    let mut rows: Vec<Vec<String>> = [("create contacts", outlook.create), ("update contacts", outlook.update)]
        .into_iter()
        .chain(outlook.deeds.iter().map(|(deed, count)| (*deed, *count)))
        .chain([
            ("waiting before this read", outlook.waiting),
            ("gone from the CRM", outlook.gone),
            ("rejected", outlook.rejections.iter().map(|row| row.contacts).sum()),
            ("calls to Reteno", outlook.calls),
        ])
        .map(|(verb, count)| vec![verb.to_owned(), count.to_string()])
        .collect();
    for (what, count) in [("events for new contacts", outlook.events), ("double opt-ins", outlook.opt_ins)] {
        if count > 0 {
            rows.push(vec![what.to_owned(), count.to_string()]);
        }
    }
    report::say(&report::table(&["sync would", "count"], &rows));
    for change in &outlook.mapping_changes {
        let fields: Vec<_> = change
            .fields
            .iter()
            .map(|(field, count)| format!("{} of {count}", outlook.names.name(&field.to_string())))
            .collect();
        report::say(&format!(
            "the mapping of source {} has changed: {} contacts become due ({})",
            change.source,
            change.contacts,
            fields.join(", ")
        ));
    }
    if !outlook.verdicts.is_empty() {
        let cells = |verdict: &Verdict| {
            let Verdict { source, what, contacts, passed, limit, holds } = verdict;
            let words = if *holds { "would hold it" } else { "lets it pass" };
            vec![
                source.clone(),
                what.clone(),
                contacts.to_string(),
                passed.to_string(),
                limit.clone(),
                words.to_owned(),
            ]
        };
        let rows: Vec<_> = outlook.verdicts.iter().map(cells).collect();
        let header = ["source", "would", "contacts", "in the last 24 h", "limit", "the guard"];
        report::say(&format!("\n{}", report::table(&header, &rows)));
    }
    if !outlook.rejections.is_empty() {
        let table = report::table(&["cannot be sent, because", "contacts"], &reason_rows(&outlook.rejections));
        report::say(&format!("\n{table}"));
    }
    if outlook.calls > 0 {
        say_fields(outlook, posts_in_flight);
    }
}

fn say_fields(outlook: &Outlook, posts_in_flight: usize) {
    report::say(&format!("about {} until Reteno has applied it", report::span(outlook.time(posts_in_flight))));
    let rows: Vec<_> = outlook
        .by_field
        .iter()
        .map(|(field, load)| {
            let time = format!("about {}", report::span(time_of(load.calls, posts_in_flight)));
            vec![outlook.names.name(&field.to_string()), load.contacts.to_string(), load.calls.to_string(), time]
        })
        .collect();
    if !rows.is_empty() {
        report::say(&format!("\n{}", report::table(&["field", "contacts", "calls", "takes"], &rows)));
    }
    let samples = &outlook.samples;
    let rows: Vec<_> =
        samples.iter().map(|(key, mask)| vec![key.clone(), names(&outlook.names, mask).join(", ")]).collect();
    if !rows.is_empty() {
        report::say(&format!("\n{}", report::table(&["sample", "fields to be sent"], &rows)));
    }
}
