//! `rejected list`: what could not be sent, and why.

use std::collections::BTreeMap;

use crate::checkpoint::{RejectionKind, RejectionRow};
use crate::report;

use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

pub(super) async fn list(context: &Context) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let rows = around.store.call(|checkpoint| checkpoint.load_rejections()).await?;
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({ "rejections": rows })),
        Output::Text if rows.is_empty() => report::say("nothing is rejected"),
        Output::Text => {
            let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
            report::say(&report::table(&["source", "contact", "what", "field", "reason", "since"], &cells));
            report::say(&format!("\n{}", report::table(&["reason", "count"], &by_reason(&rows))));
        }
    }
    Ok(Exit::Done)
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
    vec![
        row.source.clone(),
        row.key.clone().or_else(|| row.place.clone()).unwrap_or_default(),
        what.to_owned(),
        row.field.clone().unwrap_or_default(),
        row.reason.clone(),
        row.seen_at.to_string(),
    ]
}

fn by_reason(rows: &[RejectionRow]) -> Vec<Vec<String>> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows {
        *counts.entry(&row.reason).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().map(|(reason, count)| vec![reason.to_owned(), count.to_string()]).collect()
}
