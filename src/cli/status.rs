//! `status`: sources, backlog, imports, rejections, alerts and tokens at a glance.

use crate::checkpoint::{CallKind, ImportState, OpenImport, StatusReport};
use crate::clock::Timestamp;
use crate::oauth::Condition;
use crate::oauth::token::Grant;
use crate::report;

use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

pub(super) async fn status(context: &Context) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let (status, grant, account) = around
        .store
        .call(|checkpoint| Ok((checkpoint.load_status()?, checkpoint.load_grant()?, checkpoint.load_account()?)))
        .await?;
    let now = around.clock.now();
    match context.output {
        Output::Json => report::say_json(&document(&status, grant.as_ref(), account.as_deref())),
        Output::Text => {
            let tokens = tokens(grant.as_ref(), &config.program, now);
            show(&status, tokens, account.as_deref(), now);
        }
    }
    Ok(Exit::Done)
}

fn document(status: &StatusReport, grant: Option<&Grant>, account: Option<&str>) -> serde_json::Value {
    let StatusReport {
        contacts,
        acknowledged,
        under_way,
        rejected,
        starved,
        lanes,
        oldest_open,
        imports,
        rejections,
        sources,
        alerts,
    } = status;
    serde_json::json!({
        "contacts": contacts,
        "acknowledged": acknowledged,
        "under_way": under_way,
        "rejected": rejected,
        "waiting_for_full_read": starved,
        "lanes": lanes,
        "oldest_unacknowledged_change": oldest_open,
        "imports": imports.iter().map(import_document).collect::<Vec<_>>(),
        "rejections": rejections,
        "sources": sources,
        "alerts": alerts,
        "account": account,
        "tokens": grant.map(|grant| serde_json::json!({
            "state": token_state(grant),
            "access_token_expires_at": grant.expires_at(),
            "refresh_token_expires_at": grant.refresh_token_expires_at(),
        })),
    })
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

fn token_state(grant: &Grant) -> &'static str {
    match grant.condition {
        Condition::Active => "authorized",
        Condition::NeedsAuthorization { .. } => "needs authorization",
    }
}

fn show(status: &StatusReport, tokens: String, account: Option<&str>, now: Timestamp) {
    for alert in &status.alerts {
        report::say(&format!("ALERT since {}: {}\n  hint: {}", alert.since, alert.text, alert.hint));
    }
    let ago = |time: Option<Timestamp>| {
        time.map_or("never".to_owned(), |time| format!("{} ago", report::span(now.since(time))))
    };
    let mut rows = vec![
        vec!["account".to_owned(), account.unwrap_or("not authorized yet").to_owned()],
        vec!["tokens".to_owned(), tokens],
        vec!["contacts".to_owned(), status.contacts.to_string()],
        vec!["acknowledged".to_owned(), status.acknowledged.to_string()],
        vec!["under way".to_owned(), format!("{} in {} imports", status.under_way, count_running(status))],
        vec!["rejected".to_owned(), format!("{} (see `reteno-sync rejected list`)", status.rejections)],
        vec!["oldest open change".to_owned(), status.oldest_open.map_or("none".to_owned(), |time| ago(Some(time)))],
    ];
    if status.starved > 0 {
        rows.push(vec!["waiting for a full read".to_owned(), status.starved.to_string()]);
    }
    for lane in &status.lanes {
        rows.push(vec![format!("waiting, {}", lane.lane), lane.contacts.to_string()]);
    }
    report::say(&report::table(&[], &rows));
    let sources: Vec<_> = status
        .sources
        .iter()
        .map(|source| {
            let state = match (&source.last_error, source.full_read_wanted) {
                (Some(error), _) => error.clone(),
                (None, true) => "the next cycle is a full read".to_owned(),
                (None, false) => "ok".to_owned(),
            };
            vec![source.name.clone(), ago(source.last_started_at), ago(source.last_ended_at), state]
        })
        .collect();
    report::say(&format!("\n{}", report::table(&["source", "began", "read to its end", "state"], &sources)));
    if !status.imports.is_empty() {
        let rows: Vec<_> = status.imports.iter().map(|import| import_cells(import, now)).collect();
        report::say(&format!("\n{}", report::table(&["import", "state", "contacts", "age", "next"], &rows)));
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
