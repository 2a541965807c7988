//! `sync` and `baseline`: one cycle of each source, to its end.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{Alert, CheckpointError, DeedState, PageMode, StatusReport};
use crate::config::Config;
use crate::daemon::alarm::Alarm;
use crate::daemon::attend::fetch_wanted;
use crate::daemon::compose::{self, Account, Surroundings};
use crate::daemon::cycle::{CycleError, CycleParts, CycleReport, Feed, Reach, read_feed};
use crate::daemon::exports::build_exports;
use crate::daemon::feeds::{note_configured, tell_read};
use crate::daemon::lifecycle::{self, Stop};
use crate::daemon::listening::{bind, serve_public};
use crate::daemon::run::RunError;
use crate::daemon::sender::{Ended, Line, SendCounts, Sender, Until};
use crate::daemon::standing::{OUTAGE_ALERT, TOKEN_REFUSED_ALERT};
use crate::listener::PublicServices;
use crate::plan::balance::Balance;
use crate::report::{self, Progress};

use super::run::failure;
use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

pub(super) async fn sync(
    context: &Context,
    source: Option<&str>,
    wait: Duration,
    reach: Reach,
) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let chosen = session::choose(&config, source)?;
    let command = if reach == Reach::Full { "reconcile" } else { "sync" };
    let around = open_sender(&config, command).await?;
    let account = session::connect_authorized(&config, &around).await?;
    let catalog = compose::load_catalog(&config, &account.client, &around.store).await?;
    let feeds = session::build_feeds(&config, &chosen, &catalog, &around).await?;
    let settings = compose::send_settings(&config);
    let public = if settings.upload.is_some() { bind(config.listen.public_address).map_err(failure)? } else { None };
    let Stop { soft: stop, hard } = lifecycle::stop_on_signals(config.shutdown_timeout)
        .map_err(|error| Failure::plain(anyhow::Error::new(error).context("cannot watch signals")))?;
    let line = Line::of_one_run();
    let mut sender = Sender::resume(
        around.store.clone(),
        account.client.clone(),
        around.clock.clone(),
        around.random.clone(),
        (settings, line.clone()),
    )
    .await?;
    let counts = sender.watch_counts();
    let progress = context.progress.clone();
    let parts = CycleParts {
        store: &around.store,
        clock: &around.clock,
        line: &line,
        stop: &stop,
        mode: PageMode::Apply,
        on_page: &|_| {},
    };
    // from before the first page on there is more to come
    let filling = line.fill();
    let reading = async {
        let read = read_all(&feeds, reach, &parts, &progress).await;
        let fetched = Box::pin(fetch_all(&feeds, &around, (&line, &stop), &config.program)).await;
        drop(filling);
        (read, fetched)
    };
    let drawing = draw_counts(&progress, counts.clone());
    let handing_out = hand_out(public, &around);
    let ran = tokio::select! {
        Err(error) = handing_out => Err(failure(error)),
        ((reports, fetched), ended) = async { tokio::join!(reading, sender.run(Until::Drained(wait), &stop)) } => {
            fetched.and(ended).map(|ended| (reports, ended)).map_err(Failure::from)
        }
        () = drawing => Ok((Vec::new(), Ended::Stopped)),
        () = hard.cancelled() => Ok((Vec::new(), Ended::Stopped)),
    };
    // whatever has ended it: a pair that is on its way is the only one that works
    tokio::select! {
        () = session::finish_refreshes(&around, Some(&account)) => {}
        () = hard.cancelled() => {}
    }
    let (reports, ended) = ran?;
    if ended == Ended::StillOpen {
        sender.tell_outage().await?;
    }
    tell_reads(&reports, &around, &config.program).await?;
    session::tell_standing(&config, &around, &account).await?;
    let status = take_status(&around).await?;
    let sent = *counts.borrow();
    conclude(context, &config, reports, (&ended, sent), &status)
}

async fn open_sender(config: &Config, command: &'static str) -> Result<Surroundings, Failure> {
    let around = session::with_crms(config, session::open(config, &Role::Sender(command))?);
    Alarm::open(around.store.clone(), around.clock.clone()).repeat().await?;
    note_configured(config, &around.store).await?;
    Ok(around)
}

/// Fetches the records that are wanted again.
async fn fetch_all(
    feeds: &[Feed],
    around: &Surroundings,
    (line, stop): (&Line, &CancellationToken),
    program: &str,
) -> Result<(), CheckpointError> {
    for feed in feeds {
        fetch_wanted(feed, around, (line, stop), program).await?;
    }
    Ok(())
}

/// Hands files out for as long as the command runs: never ends by itself.
async fn hand_out(public: Option<tokio::net::TcpListener>, around: &Surroundings) -> Result<(), RunError> {
    match public {
        Some(public) => {
            let exports = build_exports(&around.store, &around.clock);
            // webhooks are the daemon's: where none runs, reading finds what they would have announced
            serve_public(public, PublicServices { exports, hooks: None }, CancellationToken::new()).await
        }
        None => std::future::pending().await,
    }
}

/// Baseline: what the CRM says now counts as what Reteno holds.
pub(super) async fn baseline(context: &Context, source: Option<&str>, yes: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let chosen = session::choose(&config, source)?;
    if !yes {
        let hint = "add --yes when Reteno really holds what the CRM says: differences will not be sent".to_owned();
        let error = anyhow::anyhow!("baseline takes everything in the CRM as held by Reteno, without sending it");
        return Err(Failure::of(Exit::Failed, error, Some(hint)));
    }
    let around = open_sender(&config, "baseline").await?;
    let catalog = match compose::connect(&config, &around, false) {
        Ok(Account { client, .. }) => compose::load_catalog(&config, &client, &around.store).await?,
        Err(_) => crate::contact::Catalog::empty(),
    };
    let feeds = session::build_feeds(&config, &chosen, &catalog, &around).await?;
    let stop = CancellationToken::new();
    let line = Line::default();
    let parts = CycleParts {
        store: &around.store,
        clock: &around.clock,
        line: &line,
        stop: &stop,
        mode: PageMode::Baseline,
        on_page: &|_| {},
    };
    let reports = read_all(&feeds, Reach::Changes, &parts, &context.progress).await;
    session::finish_refreshes(&around, None).await;
    tell_reads(&reports, &around, &config.program).await?;
    let status = take_status(&around).await?;
    conclude(context, &config, reports, (&Ended::Drained, SendCounts::default()), &status)
}

/// Logs what the reads came to, and raises or ends the alerts of their sources.
async fn tell_reads(
    reports: &[(String, Result<CycleReport, CycleError>)],
    around: &Surroundings,
    program: &str,
) -> Result<(), CheckpointError> {
    let alarm = Alarm::open(around.store.clone(), around.clock.clone());
    for (name, read) in reports {
        tell_read(name, read, &alarm, program).await?;
    }
    Ok(())
}

async fn take_status(around: &Surroundings) -> Result<StatusReport, Failure> {
    let status = around.store.call(|checkpoint| {
        checkpoint.settle_disk()?;
        checkpoint.load_status()
    });
    Ok(status.await?)
}

/// Reads every feed, one after the other; a broken one does not keep the others from being read.
pub(super) async fn read_all(
    feeds: &[Feed],
    reach: Reach,
    parts: &CycleParts<'_>,
    progress: &Progress,
) -> Vec<(String, Result<CycleReport, CycleError>)> {
    let mut reports = Vec::new();
    for feed in feeds {
        let bar = progress.line(&feed.name);
        bar.set_message("reading");
        let on_page =
            |balance: &Balance| bar.set_message(format!("read {}, changed {}", balance.read, balance.changed));
        let read = read_feed(feed, reach, &CycleParts { on_page: &on_page, ..*parts }).await;
        // what came of it is printed with the result
        bar.finish_and_clear();
        reports.push((feed.name.clone(), read));
    }
    reports
}

async fn draw_counts(progress: &Progress, mut counts: watch::Receiver<SendCounts>) {
    let bar = progress.line("Reteno");
    loop {
        let now = *counts.borrow_and_update();
        bar.set_message(format!("sent {}, acknowledged {}, rejected {}", now.sent, now.acknowledged, now.rejected));
        if counts.changed().await.is_err() {
            // nobody sends any more: the other side of the select ends the command
            std::future::pending::<()>().await;
        }
    }
}

fn conclude(
    context: &Context,
    config: &Config,
    reports: Vec<(String, Result<CycleReport, CycleError>)>,
    (ended, sent): (&Ended, SendCounts),
    status: &StatusReport,
) -> Result<Exit, Failure> {
    let mut failed = None;
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    for (name, read) in reports {
        let (balance, error) = match read {
            Ok(report) => (report.balance, None),
            Err(error) => {
                let partial = match &error {
                    CycleError::Source { balance, .. } => **balance,
                    CycleError::Checkpoint(_) => Balance::default(),
                };
                (partial, Some(error))
            }
        };
        rows.push(balance_row(&name, &balance));
        documents.push(serde_json::json!({
            "source": name,
            "balance": balance,
            "error": error.as_ref().map(|error| report::chain(error)),
        }));
        failed = failed.or(error);
    }
    show(context, &rows, &documents, sent, status);
    if let Some(error) = failed {
        return Err(error.into());
    }
    exit_of(config, ended, status)
}

fn show(
    context: &Context,
    rows: &[Vec<String>],
    documents: &[serde_json::Value],
    sent: SendCounts,
    status: &StatusReport,
) {
    match context.output {
        Output::Text => {
            let held = if status.held > 0 { format!("; held {}", status.held) } else { String::new() };
            let deeds = if sent.deeds > 0 {
                format!("; opt-outs, deletions and the like {}", sent.deeds)
            } else {
                String::new()
            };
            let header = [
                "source",
                "read",
                "unchanged",
                "changed",
                "waiting",
                "repeated",
                "stale",
                "filtered",
                "rejected",
                "held",
                "gone",
                "fields left out",
            ];
            report::say(&report::table(&header, rows));
            report::say(&format!(
                "sent {} contacts in {} calls: acknowledged {}, rejected {}; open {}{held}{deeds}",
                sent.sent, sent.posts, sent.acknowledged, sent.rejected, status.open
            ));
        }
        Output::Json => report::say_json(&serde_json::json!({
            "sources": documents,
            "sent": sent,
            "open": status.open,
            "held": status.held,
            "holds": status.holds,
            "rejections": status.rejections,
        })),
    }
}

fn exit_of(config: &Config, ended: &Ended, status: &StatusReport) -> Result<Exit, Failure> {
    match ended {
        Ended::NeedsAuthorization => Err(session::needs_authorization(config)),
        Ended::StillOpen if is_only_held(status) && !is_read_missing(status) => Err(held(config, status)),
        Ended::StillOpen | Ended::Stopped => {
            let words = open_words(status);
            let stops_all = |alert: &&Alert| [OUTAGE_ALERT, TOKEN_REFUSED_ALERT].contains(&alert.name.as_str());
            let (error, hint) = if let Some(alert) = status.alerts.iter().find(stops_all) {
                (anyhow::anyhow!("{words}: {}", alert.text), alert.hint.clone())
            } else {
                let hint = format!("they go on at the next run; `{} status` shows what they wait for", config.program);
                (anyhow::anyhow!("{words}"), hint)
            };
            Err(Failure::of(Exit::TryAgain, error, Some(hint)))
        }
        Ended::Drained if is_read_missing(status) => {
            let error = anyhow::anyhow!("{} contacts wait for a full read of their source", status.starved);
            Err(Failure::of(Exit::TryAgain, error, Some("the next cycle is one".to_owned())))
        }
        // of what is held nothing may be left to send: a contact that is rejected, too
        Ended::Drained if !status.holds.is_empty() => Err(held(config, status)),
        Ended::Drained if status.rejections > 0 => {
            tracing::warn!("{} contacts are rejected: see `{} rejected list`", status.rejections, config.program);
            Ok(Exit::Rejected)
        }
        Ended::Drained => Ok(Exit::Done),
    }
}

/// Contacts wait for a full read that is still to come.
fn is_read_missing(status: &StatusReport) -> bool {
    status.starved > 0 && (status.wanted > 0 || status.sources.iter().any(|source| source.full_read_wanted))
}

/// All that is left waits for a person to approve it.
fn is_only_held(status: &StatusReport) -> bool {
    status.held > 0 && status.open == 0 && status.deeds.iter().all(|deed| deed.state == DeedState::Held)
}

fn held(config: &Config, status: &StatusReport) -> Failure {
    let error = anyhow::anyhow!("{} contacts are held by the guard", status.held);
    let first = status.holds.first().map_or(String::new(), |hold| format!(" {}", hold.id));
    let program = &config.program;
    let hint = format!("`{program} approve` lists what is held and why, `{program} approve{first} --yes` releases it");
    Failure::of(Exit::Held, error, Some(hint))
}

fn open_words(status: &StatusReport) -> String {
    let deeds: u64 = status.deeds.iter().filter(|deed| deed.state != DeedState::Held).map(|deed| deed.deeds).sum();
    match (status.open, deeds) {
        (open, 0) => format!("{open} contacts are not acknowledged yet"),
        (0, deeds) => format!("{deeds} opt-outs, deletions and the like are not done yet"),
        (open, deeds) => {
            format!("{open} contacts are not acknowledged, and {deeds} opt-outs, deletions and the like not done yet")
        }
    }
}

fn balance_row(name: &str, balance: &Balance) -> Vec<String> {
    let Balance {
        read,
        unchanged,
        changed,
        waiting,
        repeated,
        stale,
        filtered,
        rejected,
        held,
        created: _,
        dropped_fields,
        gone,
    } = balance;
    let figures = [read, unchanged, changed, waiting, repeated, stale, filtered, rejected, held, gone, dropped_fields];
    std::iter::once(name.to_owned()).chain(figures.into_iter().map(ToString::to_string)).collect()
}
