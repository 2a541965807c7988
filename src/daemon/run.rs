//! The daemon: reads each source on its schedule, sends, keeps the tokens alive, answers on its listener, and starts
//! anew with a changed configuration when asked to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::checkpoint::PageMode;
use crate::clock::Timestamp;
use crate::config::{Config, Schedule, SourceConfig};
use crate::contact::Catalog;
use crate::listener::Readiness;
use crate::source::HttpSource;

use super::alarm::Alarm;
use super::attend::{attend, watch_refusals};
use super::balance_log::log_counts;
use super::compose::{self, Account, Surroundings};
use super::crms::{connect_crms, end_gone_alerts, keep_crm_tokens};
use super::cycle::{CycleError, CycleParts, Reach, read_feed};
use super::feeds::{note_configured, prepare_feed, tell_read};
use super::hooks::{HookDesk, configured_hooks, end_gone_hooks};
use super::inbox_care::{keep_inbox, open_inbox};
use super::lifecycle::Stop;
use super::links::CrmLinks;
use super::listening::{bind, finish_callbacks, finish_refreshes, spawn_listeners};
use super::outlast::{Trouble, save_tokens};
use super::proof::LateProof;
use super::readiness::{keep_readiness, note_progress};
pub use super::run_error::RunError;
use super::sender::{Line, Sender, Until};
use super::standing::tell_standing;
use super::systemd::tell_status;

/// The account's additional fields are asked for again after this long: Reteno itself takes up to an hour to make a new
/// one known.
pub(super) const CATALOG_AGE_MAX: Duration = Duration::from_hours(1);
/// How often the checkpoint's generation is counted while the daemon runs, whatever it does.
const COUNTED_EVERY: Duration = Duration::from_hours(1);
/// How soon what a command has written is seen: contract.
const OTHERS_EVERY: Duration = Duration::from_secs(1);
/// The longest sleep towards a schedule: a clock that is set is noticed after so long.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Everything that the tasks of one configuration share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) around: Surroundings,
    pub(super) account: Account,
    pub(super) links: CrmLinks,
    pub(super) alarm: Alarm,
    pub(super) line: Line,
    /// Takes deliveries.
    pub(super) hooks: Option<Arc<HookDesk>>,
    pub(super) stop: Stop,
    trouble: Trouble,
    catalog: Mutex<Option<(tokio::time::Instant, Catalog)>>,
    /// Callbacks that are being answered.
    pub(super) callbacks: TaskTracker,
    /// Someone may have granted access.
    pub(super) granted: Notify,
    /// The daemon's word about itself.
    pub(super) ready: watch::Sender<Readiness>,
    /// Grows when Reteno has said the last word about contacts.
    pub(super) progress: watch::Sender<u64>,
    /// Grows when another process has written to the checkpoint.
    pub(super) others: watch::Sender<u64>,
}

/// Runs one configuration until `stop`; calls `started` once all that a start may fail at has succeeded.
pub async fn run_session(
    config: Config,
    around: Surroundings,
    stop: Stop,
    line: Line,
    started: impl FnOnce(),
) -> Result<(), RunError> {
    for doubt in config.sources.iter().filter_map(SourceConfig::doubt) {
        tracing::warn!("{doubt}");
    }
    let account = compose::connect(&config, &around, false)?;
    let around = Surroundings { crms: connect_crms(&config, &around), ..around };
    let tokens = save_tokens(&account, &around);
    let trouble = Trouble::of(around.store.clone(), line.clone(), stop.soft.clone(), tokens);
    let alarm = Alarm::open(around.store.clone(), around.clock.clone());
    let listener = bind(config.listen.address)?;
    let public = bind(config.listen.public_address)?;
    let links = CrmLinks::connect(&config, &around);
    let shared = Arc::new(Shared {
        hooks: configured_hooks(&config, &around),
        trouble,
        config,
        links,
        around,
        account,
        alarm,
        line,
        stop: stop.clone(),
        catalog: Mutex::default(),
        callbacks: TaskTracker::new(),
        granted: Notify::new(),
        others: watch::Sender::new(0),
        progress: watch::Sender::new(0),
        ready: watch::Sender::new(Readiness::NotReady("it is starting".to_owned())),
    });
    let mut tasks: JoinSet<Result<(), RunError>> = JoinSet::new();
    // a file is handed out for as long as the call about it is on the line
    let parked = CancellationToken::new();
    // before anything that may have to wait: senders are told to come again meanwhile
    spawn_listeners(&mut tasks, &shared, (listener, public), &parked);
    let prepared = match shared.trouble.outlast(|| prepare(&shared)).await {
        Ok(Some(sender)) => {
            spawn_readers(&mut tasks, &shared);
            spawn_keepers(&mut tasks, &shared);
            started();
            tasks.spawn(keep_sending(Arc::clone(&shared), sender, parked));
            Ok(())
        }
        // somebody may be granting access meanwhile: that comes to its end
        unprepared => {
            parked.cancel();
            stop.soft.cancel();
            unprepared.map(|_| ())
        }
    };
    let ended = end_of(&mut tasks, &stop).await;
    finish_callbacks(&shared).await;
    finish_refreshes(&shared).await;
    prepared.and(ended).and(settle_disk(&shared).await)
}

async fn settle_disk(shared: &Shared) -> Result<(), RunError> {
    match shared.around.store.call(crate::checkpoint::Checkpoint::settle_disk).await {
        // the next process does it
        Err(error) if error.is_temporary() => {
            tracing::warn!("{}", crate::report::chain(&error));
            Ok(())
        }
        settled => Ok(settled?),
    }
}

/// All that a start may fail at.
async fn prepare(shared: &Shared) -> Result<Sender, RunError> {
    let Shared { config, around, .. } = shared;
    end_gone_alerts(around).await?;
    end_gone_hooks(config, around).await?;
    note_configured(config, &around.store).await?;
    open_inbox(shared).await?;
    resume_sender(config, around, &shared.account, &shared.line).await
}

async fn resume_sender(
    config: &Config,
    around: &Surroundings,
    account: &Account,
    line: &Line,
) -> Result<Sender, RunError> {
    let resumed = Sender::resume(
        around.store.clone(),
        account.client.clone(),
        around.clock.clone(),
        around.random.clone(),
        (compose::send_settings(config), line.clone()),
    );
    Ok(resumed.await?)
}

/// Sends until the stop. A sender that could not write down what happened is given up like one that died: the next one
/// goes on where the checkpoint stands.
async fn keep_sending(shared: Arc<Shared>, first: Sender, parked: CancellationToken) -> Result<(), RunError> {
    let _parked = parked.drop_guard();
    let kept = Mutex::new(Some(first));
    let sending = shared.trouble.outlast(|| async {
        let kept = kept.lock().await.take();
        let mut sender = match kept {
            Some(sender) => sender,
            None => resume_sender(&shared.config, &shared.around, &shared.account, &shared.line).await?,
        };
        let counts = sender.watch_counts();
        tokio::select! {
            ended = sender.run(Until::Stopped, &shared.stop.soft) => ended.map(|_| ())?,
            () = log_counts(counts.clone()) => {}
            () = note_progress(counts, &shared.progress) => {}
        }
        Ok(())
    });
    sending.await.map(|_| ())
}

/// A task that begins anew where only a passing trouble of the checkpoint has ended it.
async fn outlast<F>(shared: Arc<Shared>, task: impl Fn(Arc<Shared>) -> F) -> Result<(), RunError>
where
    F: Future<Output = Result<(), RunError>>,
{
    shared.trouble.outlast(|| task(Arc::clone(&shared))).await.map(|_| ())
}

/// The tasks that keep what others need.
fn spawn_keepers(tasks: &mut JoinSet<Result<(), RunError>>, shared: &Arc<Shared>) {
    tasks.spawn(outlast(Arc::clone(shared), keep_tokens));
    for crm in &shared.around.crms {
        let crm = Arc::clone(crm);
        tasks.spawn(outlast(Arc::clone(shared), move |shared| {
            let (alarm, clock) = (shared.alarm.clone(), shared.around.clock.clone());
            let (program, stop) = (shared.config.program.clone(), shared.stop.soft.clone());
            let keep = keep_crm_tokens(Arc::clone(&crm), (alarm, clock), program, stop);
            async { Ok(keep.await?) }
        }));
    }
    tasks.spawn(outlast(Arc::clone(shared), count_hours));
    tasks.spawn(outlast(Arc::clone(shared), keep_inbox));
    tasks.spawn(outlast(Arc::clone(shared), keep_readiness));
    tasks.spawn(outlast(Arc::clone(shared), tell_status));
    tasks.spawn(outlast(Arc::clone(shared), watch_others));
}

/// Whatever brings records: cycles, and what is announced.
fn spawn_readers(tasks: &mut JoinSet<Result<(), RunError>>, shared: &Arc<Shared>) {
    for source in &shared.config.sources {
        let (read, heeded) = (source.clone(), source.clone());
        tasks.spawn(outlast(Arc::clone(shared), move |shared| follow_schedule(shared, read.clone())));
        tasks.spawn(outlast(Arc::clone(shared), move |shared| attend(shared, heeded.clone())));
    }
    if let Some(hooks) = &shared.hooks {
        let hooks = Arc::clone(hooks);
        tasks.spawn(outlast(Arc::clone(shared), move |shared| watch_refusals(shared, Arc::clone(&hooks))));
    }
}

/// The first task that breaks ends them all; a stop lets them end by themselves, until it is hard.
async fn end_of(tasks: &mut JoinSet<Result<(), RunError>>, stop: &Stop) -> Result<(), RunError> {
    let mut ended = Ok(());
    loop {
        let joined = tokio::select! {
            joined = tasks.join_next() => joined,
            () = stop.hard.cancelled() => None,
        };
        match joined {
            None => break,
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => {
                stop.soft.cancel();
                ended = ended.and(Err(error));
            }
            Some(Err(failure)) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
    tasks.shutdown().await;
    ended
}

/// Sees that a command wrote to the checkpoint, and wakes those whom it may concern.
async fn watch_others(shared: Arc<Shared>) -> Result<(), RunError> {
    let look = || shared.around.store.call(|checkpoint| checkpoint.data_version());
    let mut known = look().await?;
    loop {
        tokio::select! {
            () = tokio::time::sleep(OTHERS_EVERY) => {}
            () = shared.stop.soft.cancelled() => return Ok(()),
        }
        let now = look().await?;
        if now != known {
            known = now;
            shared.others.send_modify(|times| *times += 1);
            shared.line.nudge();
        }
    }
}

/// Reads one source whenever its schedules say so, at once where a time was missed while nobody ran, and at once where a
/// person has asked for a full read. What fails then waits for the schedule.
async fn follow_schedule(shared: Arc<Shared>, source: SourceConfig) -> Result<(), RunError> {
    let clock = &shared.around.clock;
    let name = source.name.clone();
    let row = shared.around.store.call(move |checkpoint| checkpoint.load_source(&name)).await?;
    let mut others = shared.others.subscribe();
    let mut last = row.last_ended_at.unwrap_or(Timestamp(0));
    let mut last_full = row.full_read_at.unwrap_or(last);
    let link = shared.links.find(&source.name);
    let every = link.and_then(HttpSource::snapshot_every);
    loop {
        let next_full = next_full_read(source.reconcile.as_ref(), every, last_full);
        let next = source.schedule.as_ref().and_then(|schedule| schedule.next_after(last));
        let now = clock.now();
        // noted before the clock was set back
        (last, last_full) = (last.min(now), last_full.min(now));
        let due = [next, next_full].into_iter().flatten().min();
        let is_asked = shared.around.store.call(move |checkpoint| checkpoint.take_read_request(row.id)).await?;
        if is_asked {
            tracing::info!(source = source.name, "a full read was asked for");
            if let Some(link) = link {
                // what blocked us may be over: a person has looked
                link.reopen();
            }
        } else if due.is_none_or(|due| due > now) {
            let pause = due.map_or(SLEEP_MAX, |due| due.since(now).min(SLEEP_MAX));
            tokio::select! {
                () = tokio::time::sleep(pause) => continue,
                changed = others.changed() => {
                    // whoever sends it lives as long as we do
                    changed.expect("the sender is in what this task shares");
                    continue;
                }
                () = shared.stop.soft.cancelled() => return Ok(()),
            }
        }
        let reach = if next_full.is_some_and(|at| at <= now) { Reach::Full } else { Reach::Changes };
        last = now;
        if reach == Reach::Full {
            last_full = now;
        }
        read_once(&shared, &source, reach).await?;
    }
}

/// By its own schedule, or because nothing else shows who is deleted.
fn next_full_read(reconcile: Option<&Schedule>, every: Option<Duration>, last: Timestamp) -> Option<Timestamp> {
    let by_schedule = reconcile.and_then(|schedule| schedule.next_after(last));
    by_schedule.into_iter().chain(every.map(|every| last.plus(every))).min()
}

/// One cycle: what goes wrong is the source's trouble and is told; only a broken checkpoint ends the daemon.
async fn read_once(shared: &Shared, source: &SourceConfig, reach: Reach) -> Result<(), RunError> {
    let catalog = fresh_catalog(shared).await?;
    let mut feed = prepare_feed(&shared.config, source, &catalog, (&shared.around, &shared.links)).await?;
    if source.webhook.is_some() {
        feed.inbox = shared.inbox();
    }
    let parts = CycleParts {
        store: &shared.around.store,
        clock: &shared.around.clock,
        line: &shared.line,
        stop: &shared.stop.soft,
        mode: PageMode::Apply,
        on_page: &|_| {},
    };
    let read = read_feed(&feed, reach, &parts).await;
    match read {
        Err(CycleError::Checkpoint(error)) => return Err(error.into()),
        Err(error) if shared.stop.soft.is_cancelled() => tracing::info!("{error}: stopped"),
        read => tell_read(&source.name, &read, &shared.alarm, &shared.config.program).await?,
    }
    Ok(())
}

pub(super) async fn fresh_catalog(shared: &Shared) -> Result<Catalog, RunError> {
    let mut kept = shared.catalog.lock().await;
    if let Some((asked_at, catalog)) = kept.as_ref()
        && asked_at.elapsed() < CATALOG_AGE_MAX
    {
        return Ok(catalog.clone());
    }
    let catalog = compose::load_catalog(&shared.config, &shared.account.client, &shared.around.store).await?;
    // an empty one may only mean that nobody has authorized yet
    *kept = (catalog.iter().next().is_some()).then(|| (tokio::time::Instant::now(), catalog.clone()));
    Ok(catalog)
}

/// Refreshes in time, also when nothing is sent, proves what could not be proven when it was granted, and tells when a
/// person is needed.
async fn keep_tokens(shared: Arc<Shared>) -> Result<(), RunError> {
    let mut proof = LateProof::begin(shared.around.random.clone());
    loop {
        let is_new = tokio::select! {
            is_new = proof.attempt(&shared.account) => is_new,
            () = shared.stop.soft.cancelled() => return Ok(()),
        };
        if is_new {
            shared.account.refresher.look_again().await;
            shared.line.nudge();
        }
        let next = shared.account.refresher.tick().await;
        tell_standing(&shared.account.refresher, &shared.alarm, &shared.config.program).await?;
        let pause = next.since(shared.around.clock.now()).clamp(Duration::from_millis(200), SLEEP_MAX);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.granted.notified() => {}
            () = shared.stop.soft.cancelled() => return Ok(()),
        }
    }
}

/// Counts the checkpoint's generation each hour, so that a copy of it that is older than an hour is recognised.
async fn count_hours(shared: Arc<Shared>) -> Result<(), RunError> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(COUNTED_EVERY) => {}
            () = shared.stop.soft.cancelled() => return Ok(()),
        }
        shared.around.store.call(crate::checkpoint::Checkpoint::count_generation).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_read_is_due_by_the_schedule_or_when_the_last_snapshot_is_too_old_whatever_comes_first() {
        let hour = Duration::from_hours(1);
        let nightly = Schedule::parse("0 3 * * *", chrono_tz::UTC).unwrap();
        let at = |hours: i64| Timestamp(hours * 3_600_000);
        assert_eq!(next_full_read(None, None, at(1)), None);
        assert_eq!(next_full_read(Some(&nightly), None, at(1)), Some(at(3)));
        assert_eq!(next_full_read(None, Some(hour), at(1)), Some(at(2)));
        assert_eq!(next_full_read(Some(&nightly), Some(hour), at(1)), Some(at(2)));
        assert_eq!(next_full_read(Some(&nightly), Some(24 * hour), at(1)), Some(at(3)));
    }
}
