//! The daemon's tasks about webhooks: for each source one that acts on what was announced, and one that tells a person when
//! only refused deliveries come.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::checkpoint::{CheckpointError, Inbox};
use crate::config::SourceConfig;

use super::compose::Surroundings;
use super::cycle::Feed;
use super::feeds::prepare_feed;
use super::hints::{Fetch, HintParts, Hints, alert};
use super::hooks::HookDesk;
use super::line::Line;
use super::run::{CATALOG_AGE_MAX, RunError, Shared, fresh_catalog};

/// How soon a record that this process itself wants again is looked for.
const WANTED_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether only refused deliveries come.
const REFUSALS_EVERY: Duration = Duration::from_mins(1);
/// What was acted on leaves the inbox's write-ahead log after at most so long.
const SETTLES_EVERY: Duration = Duration::from_mins(1);

/// Acts on what is announced of one source, for as long as the daemon runs. A broken source is its own trouble and is
/// told; only a broken checkpoint ends the daemon.
pub(super) async fn attend(shared: Arc<Shared>, source: SourceConfig) -> Result<(), RunError> {
    let stop = shared.stop.soft.clone();
    loop {
        let catalog = fresh_catalog(&shared).await?;
        let feed = prepare_feed(&shared.config, &source, &catalog, (&shared.around, &shared.links)).await?;
        let parts = parts_of(&shared, &feed, &stop);
        let inbox = parts.inbox.clone();
        let hints = Hints::open(&feed, parts).await?;
        let has_hook = shared.hooks.as_ref().is_some_and(|hooks| hooks.has(&source.name));
        if !feed.source.fetches() && !has_hook {
            // it stands for ever where an earlier configuration could fetch
            shared.alarm.end(&alert(&source.name)).await?;
            return Ok(());
        }
        // the mapping is made anew with the account's fields as they are then
        attend_with(&shared, (hints, inbox), tokio::time::Instant::now() + CATALOG_AGE_MAX).await?;
        if stop.is_cancelled() {
            return Ok(());
        }
    }
}

/// `inbox` is the one that the hints are read from.
async fn attend_with(
    shared: &Shared,
    (mut hints, inbox): (Hints<'_>, Option<Inbox>),
    until: tokio::time::Instant,
) -> Result<(), RunError> {
    let mut others = shared.others.subscribe();
    let mut news = inbox.as_ref().map(Inbox::watch);
    let mut settled_at = tokio::time::Instant::now();
    while !shared.stop.soft.is_cancelled() && tokio::time::Instant::now() < until {
        if inbox.is_none() && shared.inbox().is_some() {
            // it could be opened meanwhile
            return Ok(());
        }
        // before it is looked: what comes while it acts must wake it
        if let Some(news) = &mut news {
            news.borrow_and_update();
        }
        if hints.act().await? {
            continue;
        }
        let rest = hints.rest().await?;
        // also while something waits that cannot be acted on: it may do so for ever
        if settled_at.elapsed() >= SETTLES_EVERY {
            settled_at = tokio::time::Instant::now();
            hints.settle_disk().await?;
        }
        tokio::select! {
            () = tokio::time::sleep(rest.map_or(WANTED_EVERY, |rest| rest.min(WANTED_EVERY))) => {}
            // what waits already is due before what comes now
            () = announced(&mut news), if rest.is_none() => {}
            changed = others.changed() => changed.expect("the sender is in what this task shares"),
            () = shared.stop.soft.cancelled() => {}
        }
    }
    Ok(())
}

async fn announced(news: &mut Option<tokio::sync::watch::Receiver<u64>>) {
    let changed = match news {
        Some(news) => news.changed().await.is_ok(),
        None => false,
    };
    // nobody announces anything any more
    if !changed {
        std::future::pending::<()>().await;
    }
}

fn parts_of<'a>(shared: &Shared, feed: &'a Feed, stop: &CancellationToken) -> HintParts<'a> {
    HintParts {
        store: shared.around.store.clone(),
        inbox: shared.inbox(),
        clock: shared.around.clock.clone(),
        random: shared.around.random.clone(),
        line: shared.line.clone(),
        fetch: fetch_of(feed, stop),
        program: shared.config.program.clone(),
    }
}

/// Asks the source of a feed, where it can be asked.
#[must_use]
pub fn fetch_of<'a>(feed: &'a Feed, stop: &CancellationToken) -> Option<Fetch<'a>> {
    let stop = stop.clone();
    feed.source.fetches().then(|| -> Fetch<'a> {
        Arc::new(move |keys| {
            let stop = stop.clone();
            Box::pin(async move { feed.source.fetch(&keys, &stop).await })
        })
    })
}

/// Fetches the records of a feed that are wanted again, for a command that runs once; what fails is left for the next time.
pub async fn fetch_wanted(
    feed: &Feed,
    around: &Surroundings,
    (line, stop): (&Line, &CancellationToken),
    program: &str,
) -> Result<(), CheckpointError> {
    let Some(fetch) = fetch_of(feed, stop) else { return Ok(()) };
    let parts = HintParts {
        store: around.store.clone(),
        inbox: None,
        clock: around.clock.clone(),
        random: around.random.clone(),
        line: line.clone(),
        fetch: Some(fetch),
        program: program.to_owned(),
    };
    let mut hints = Hints::open(feed, parts).await?;
    while hints.act().await? {}
    Ok(())
}

/// Tells a person when only refused deliveries come.
pub(super) async fn watch_refusals(shared: Arc<Shared>, hooks: Arc<HookDesk>) -> Result<(), RunError> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(REFUSALS_EVERY) => {}
            () = shared.stop.soft.cancelled() => return Ok(()),
        }
        hooks.tell(&shared.alarm).await?;
    }
}
