//! `status`: sources, backlog, holds, imports, rejections, alerts and tokens at a glance.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checkpoint::{
    CallKind, DeedCount, ImportState, InboxCount, LaneCount, OpenImport, Repaired, SourceRow, StatusReport,
    UnclearConsent, running_sender,
};
use crate::clock::Timestamp;
use crate::config::{Config, SourceConfig};
use crate::oauth::Condition;
use crate::oauth::token::Grant;
use crate::plan::repair::RepairCause;
use crate::report;

use super::approve;
use super::estimate::{DEED_MEMBERS, calls_of, time_of};
use super::session::{self, Role};
use super::{Context, Exit, Failure, Output, crm_tokens};

pub(super) async fn status(context: &Context) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let (status, announced) =
        around.store.call(|checkpoint| Ok((checkpoint.load_status()?, checkpoint.count_inbox()))).await?;
    // the rest is worth showing without it, and all the more
    let announced = announced.unwrap_or_else(|error| {
        tracing::warn!("what webhooks announced cannot be told: {}", report::chain(&error));
        Vec::new()
    });
    let (grant, account) =
        around.store.call(|checkpoint| Ok((checkpoint.load_grant()?, checkpoint.load_account()?))).await?;
    let crms = crm_tokens::load(&config, &around).await?;
    let now = around.clock.now();
    let sender = running_sender(&config.state_dir);
    let next_reads = if is_daemon(sender.as_deref()) { next_reads(&config, now) } else { BTreeMap::new() };
    match context.output {
        Output::Json => {
            let mut document = document(&config, &status, grant.as_ref(), account.as_deref());
            document["announced"] = serde_json::json!(announced);
            document["source_tokens"] = crm_tokens::document(&crms);
            document["daemon"] = serde_json::json!({ "runs": is_daemon(sender.as_deref()), "sender": sender });
            document["version"] = serde_json::json!(env!("CARGO_PKG_VERSION"));
            let sources = status.sources.iter().map(|source| source_document(source, &next_reads));
            document["sources"] = sources.collect();
            report::say_json(&document);
        }
        Output::Text => {
            let mut rows = vec![
                vec!["daemon".to_owned(), daemon(sender.as_deref())],
                vec!["account".to_owned(), account.as_deref().unwrap_or("not authorized yet").to_owned()],
                vec!["tokens".to_owned(), tokens(grant.as_ref(), &config.program, now)],
            ];
            rows.extend(crm_tokens::rows(&crms, &config.program, now));
            show(&config, &status, &next_reads, rows, now);
            show_announced(&announced, &status.repaired, now);
        }
    }
    Ok(Exit::Done)
}

/// Whether the process that sends is the daemon, and no command.
fn is_daemon(sender: Option<&str>) -> bool {
    sender.is_some_and(|sender| sender.starts_with("`reteno-sync run`"))
}

fn daemon(sender: Option<&str>) -> String {
    let mine = env!("CARGO_PKG_VERSION");
    match sender {
        None => "does not run".to_owned(),
        Some(other) if !is_daemon(Some(other)) => format!("does not run; {other} is sending"),
        Some(daemon) if daemon.ends_with(&format!("version {mine})")) => format!("runs: {daemon}"),
        Some(daemon) => format!("runs: {daemon}; this command is version {mine}: restart the service"),
    }
}

/// When a running daemon reads each source the next time, by the configuration as it is in the file now.
fn next_reads(config: &Config, now: Timestamp) -> BTreeMap<String, Timestamp> {
    let next = |source: &SourceConfig| {
        let schedules = [&source.schedule, &source.reconcile].into_iter().flatten();
        let next = schedules.filter_map(|schedule| schedule.next_after(now)).min()?;
        Some((source.name.clone(), next))
    };
    config.sources.iter().filter_map(next).collect()
}

/// A source with its times; of its cursor only whether there is one: it may hold what people are called.
fn source_document(source: &SourceRow, next_reads: &BTreeMap<String, Timestamp>) -> serde_json::Value {
    let mut document = serde_json::json!(source);
    document["next_read_at"] = serde_json::json!(next_reads.get(&source.name));
    document["has_cursor"] = serde_json::json!(source.cursor.is_some());
    document["has_all_until"] = serde_json::json!(source.covered_at);
    document
}

fn document(config: &Config, status: &StatusReport, grant: Option<&Grant>, account: Option<&str>) -> serde_json::Value {
    let StatusReport {
        contacts,
        acknowledged,
        under_way,
        rejected,
        starved,
        shadowed,
        ended,
        held,
        open,
        holds,
        deeds,
        lanes: _,
        in_calls,
        unjudged,
        oldest_open,
        imports,
        rejections,
        ignored,
        unclear_consents,
        sources: _,
        alerts,
        wanted,
        repaired,
    } = status;
    let lanes = lanes_to_empty(config, status);
    serde_json::json!({
        "contacts": contacts,
        "acknowledged": acknowledged,
        "under_way": under_way,
        "rejected": rejected,
        "waiting_for_full_read": starved,
        "another_is_sent": shadowed,
        "ended": ended,
        "held": held,
        "open": open,
        "holds": holds,
        "deeds": deeds,
        "lanes": lanes.iter().map(|(lane, time)| serde_json::json!({
            "lane": lane.lane, "contacts": lane.contacts, "deeds": lane.deeds, "estimated_seconds_to_empty": time.as_secs(),
        })).collect::<Vec<_>>(),
        "in_calls": in_calls,
        "not_weighed_yet": unjudged,
        "oldest_unacknowledged_change": oldest_open,
        "imports": imports.iter().map(import_document).collect::<Vec<_>>(),
        "rejections": rejections,
        "ignored_rejections": ignored,
        "unclear_consents": unclear_consents,
        "alerts": alerts,
        "waiting_for_fetch": wanted,
        "repaired": repaired.iter().map(repaired_document).collect::<Vec<_>>(),
        "account": account,
        "tokens": grant.map(|grant| serde_json::json!({
            "state": token_state(grant),
            "access_token_expires_at": grant.expires_at(),
            "refresh_token_expires_at": grant.refresh_token_expires_at(),
        })),
    })
}

fn repaired_document(repaired: &Repaired) -> serde_json::Value {
    let Repaired { source, cause, contacts, last_at } = repaired;
    serde_json::json!({ "source": source, "cause": cause.name(), "contacts": contacts, "last": last_at })
}

/// What webhooks announced and nobody has acted on, and what had to be repaired because nothing told of it in time.
fn show_announced(announced: &[InboxCount], repaired: &[Repaired], now: Timestamp) {
    if !announced.is_empty() {
        let cells = |count: &InboxCount| {
            vec![count.source.clone(), count.rows.to_string(), report::span(now.since(count.oldest))]
        };
        let rows: Vec<_> = announced.iter().map(cells).collect();
        report::say(&format!("\n{}", report::table(&["source", "announced and not fetched", "oldest"], &rows)));
    }
    if !repaired.is_empty() {
        let words = |cause: RepairCause| match cause {
            RepairCause::WebhookLost => "webhook_lost: a webhook should have announced it",
            RepairCause::PollMissed => "poll_missed: a read of changes should have brought it",
            RepairCause::Undated => "undated: its change time did not move",
            RepairCause::DeletionUnseen => "deletion_unseen: only its lack told",
        };
        let cells = |row: &Repaired| {
            let ago = format!("{} ago", report::span(now.since(row.last_at)));
            vec![row.source.clone(), words(row.cause).to_owned(), row.contacts.to_string(), ago]
        };
        let rows: Vec<_> = repaired.iter().map(cells).collect();
        report::say(&format!("\n{}", report::table(&["source", "repaired", "contacts", "last"], &rows)));
    }
}

fn import_document(import: &OpenImport) -> serde_json::Value {
    serde_json::json!({
        "id": import.id.0,
        "call": import.call.name(),
        "state": import.state,
        "session": import.session,
        "contacts": import.contacts,
        "since": import.created_at,
        "posts": import.posts,
        "next_check": import.check_at,
        "ghost_until": import.ghost_until,
    })
}

pub(super) fn token_state(grant: &Grant) -> &'static str {
    match grant.condition {
        Condition::Active => "authorized",
        Condition::NeedsAuthorization { .. } => "needs authorization",
    }
}

/// Each lane with the time until it is empty, about: what is in the lanes before it goes first.
fn lanes_to_empty<'a>(config: &Config, status: &'a StatusReport) -> Vec<(&'a LaneCount, Duration)> {
    let contacts_max = config.reteno.batch_contacts_max as u64;
    let mut calls = 0;
    let with_time = |lane: &'a LaneCount| {
        calls += calls_of(lane.contacts, contacts_max) + calls_of(lane.deeds, DEED_MEMBERS);
        (lane, time_of(calls, config.reteno.posts_in_flight))
    };
    status.lanes.iter().map(with_time).collect()
}

fn show(
    config: &Config,
    status: &StatusReport,
    next_reads: &BTreeMap<String, Timestamp>,
    mut rows: Vec<Vec<String>>,
    now: Timestamp,
) {
    for alert in &status.alerts {
        let text = format!("ALERT since {}: {}", alert.since, alert.text);
        let lines = report::wrap(&report::visible(&text), report::width().unwrap_or(usize::MAX));
        // a hint is copied to a shell: it stays one line
        report::say(&format!("{}\n  hint: {}", lines.join("\n  "), alert.hint));
    }
    let ago = |time: Option<Timestamp>| {
        time.map_or("never".to_owned(), |time| format!("{} ago", report::span(now.since(time))))
    };
    rows.extend([
        vec!["contacts".to_owned(), status.contacts.to_string()],
        vec!["acknowledged".to_owned(), status.acknowledged.to_string()],
        vec!["under way".to_owned(), format!("{} in {} imports", status.under_way, count_running(status))],
        vec!["waiting".to_owned(), status.open.to_string()],
        vec!["rejected".to_owned(), format!("{} (see `{} rejected list`)", status.rejections, config.program)],
        vec!["oldest open change".to_owned(), status.oldest_open.map_or("none".to_owned(), |time| ago(Some(time)))],
    ]);
    if status.starved > 0 {
        rows.push(vec!["waiting for a full read".to_owned(), status.starved.to_string()]);
    }
    if status.wanted > 0 {
        rows.push(vec!["to be fetched by id".to_owned(), status.wanted.to_string()]);
    }
    if status.held > 0 {
        rows.push(vec!["held".to_owned(), format!("{} (see `{} approve`)", status.held, config.program)]);
    }
    if status.shadowed > 0 {
        rows.push(vec!["another is sent".to_owned(), status.shadowed.to_string()]);
    }
    report::say(&report::table(&[], &rows));
    show_waiting(config, status);
    if !status.unclear_consents.is_empty() {
        let cells = |row: &UnclearConsent| vec![row.source.clone(), row.class.clone(), row.contacts.to_string()];
        let rows: Vec<_> = status.unclear_consents.iter().map(cells).collect();
        report::say(&format!("\n{}", report::table(&["source", "consent that is not understood", "contacts"], &rows)));
    }
    let sources: Vec<_> = status
        .sources
        .iter()
        .map(|source| {
            let next = next_reads.get(&source.name);
            let next = next.map_or("not planned".to_owned(), |at| format!("in {}", report::span(at.since(now))));
            let state = match (&source.last_error, source.full_read_wanted) {
                (Some(error), _) => error.clone(),
                (None, true) => "the next cycle is a full read".to_owned(),
                (None, false) => "ok".to_owned(),
            };
            let cells = [source.last_started_at, source.last_ended_at, source.covered_at].map(ago);
            let [began, ended, until] = cells;
            vec![source.name.clone(), began, ended, next, until, state]
        })
        .collect();
    let header = ["source", "began", "read to its end", "next read", "has all until", "state"];
    report::say(&format!("\n{}", report::table(&header, &sources)));
    if !status.imports.is_empty() {
        let rows: Vec<_> = status.imports.iter().map(|import| import_cells(import, now)).collect();
        report::say(&format!("\n{}", report::table(&["import", "state", "contacts", "age", "next"], &rows)));
    }
}

/// What waits, each as a table: holds, lanes, and what is to be done besides writing fields.
fn show_waiting(config: &Config, status: &StatusReport) {
    if !status.holds.is_empty() {
        report::say(&format!("\n{}", approve::table(&status.holds)));
    }
    if !status.lanes.is_empty() || status.open > 0 {
        let cells = |(lane, time): (&LaneCount, Duration)| {
            let deeds = if lane.deeds > 0 { lane.deeds.to_string() } else { String::new() };
            let time = format!("about {}", report::span(time));
            vec![lane.lane.clone(), lane.contacts.to_string(), deeds, time]
        };
        let mut rows: Vec<_> = lanes_to_empty(config, status).into_iter().map(cells).collect();
        let others = [("in a call", status.in_calls), ("not weighed yet", status.unjudged)];
        let line = |name: &str, count: u64| vec![name.to_owned(), count.to_string(), String::new(), String::new()];
        rows.extend(others.iter().filter(|(_, count)| *count > 0).map(|(name, count)| line(name, *count)));
        rows.push(line("all that waits", status.open));
        let header = ["lane", "contacts", "opt-outs, erasures", "empty in"];
        report::say(&format!("\n{}", report::table(&header, &rows)));
    }
    if !status.deeds.is_empty() {
        let cells = |deed: &DeedCount| {
            let DeedCount { kind, state, deeds } = deed;
            vec![kind.clone(), state.name().to_owned(), deeds.to_string()]
        };
        let rows: Vec<_> = status.deeds.iter().map(cells).collect();
        report::say(&format!("\n{}", report::table(&["to be done", "state", "contacts"], &rows)));
    }
}

fn count_running(status: &StatusReport) -> usize {
    status.imports.iter().filter(|import| import.state != ImportState::Ghost).count()
}

fn import_cells(import: &OpenImport, now: Timestamp) -> Vec<String> {
    let (state, next) = match import.state {
        ImportState::Intent if import.call == CallKind::Upload => {
            ("a file, not answered", import.repeat_at.map(|at| format!("sent again at {at}")))
        }
        ImportState::Submitted if import.call == CallKind::Upload => {
            ("a file in Reteno", import.check_at.map(|at| format!("asked for at {at}")))
        }
        ImportState::Intent => ("not answered", import.repeat_at.map(|at| format!("sent again at {at}"))),
        ImportState::Submitted => ("in Reteno", import.check_at.map(|at| format!("asked for at {at}"))),
        ImportState::Ghost => ("may still land", import.ghost_until.map(|at| format!("until {at}"))),
    };
    vec![
        import.id.0.to_string(),
        state.to_owned(),
        import.contacts.to_string(),
        report::span(now.since(import.created_at)),
        next.unwrap_or_default(),
    ]
}

fn tokens(grant: Option<&Grant>, program: &str, now: Timestamp) -> String {
    match grant {
        None => format!("none: run `{program} --authorize`"),
        Some(grant) => format!(
            "{}; access token ends in {}, refresh token in {}",
            token_state(grant),
            report::span(grant.expires_at().since(now)),
            report::span(grant.refresh_token_expires_at().since(now))
        ),
    }
}
