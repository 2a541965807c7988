//! Acts on what webhooks announced and on records that are wanted again: fetches them by their ids, records them in the
//! live lane, has the guard weigh them, and clears exactly what it acted on.
//!
//! It acts at its own pace beside the cycles of the source, also during a first load. What it cannot do now stays where it
//! is; a crash between recording and clearing repeats a fetch, which is harmless. It never takes an event for the truth
//! where the source can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::backoff::Backoff;
use crate::checkpoint::{
    CheckpointError, Inbox, InboxEvent, Incoming, PageMode, ReadContext, Rereading, SeenRows, Store, WaitingEvent,
    WantedRecord, Way, Weighed,
};
use crate::clock::{Clock, Timestamp};
use crate::contact::ResolvedMapping;
use crate::plan::policy::Policy;
use crate::plan::{Lane, SourceId};
use crate::random::Random;
use crate::report;
use crate::source::{Fetched, SourceError};

use super::alarm::Alarm;
use super::cycle::Feed;
use super::feeds::tell_holds;
use super::inbox_care::Care;
use super::items::{age_of_pushed, map_fetched, map_pushed, reject_unreadable};
use super::sender::Line;

/// Records that are acted on at a time: one transaction, and a few requests of the source.
const BATCH: usize = 200;
/// The first wait after a failure.
const BACKOFF_FIRST: Duration = Duration::from_secs(2);
/// The longest one: so long the source may be back before it is noticed.
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// Failures in a row after which a person is told.
const FAILURES_UNTOLD: u32 = 3;

/// Asks a source for records by their ids.
pub type Fetch<'a> = Arc<dyn Fn(Vec<String>) -> BoxFuture<'a, Result<Vec<Fetched>, SourceError>> + Send + Sync + 'a>;

/// Whatever acting on hints works with.
#[derive(Clone)]
pub struct HintParts<'a> {
    /// The checkpoint.
    pub store: Store,
    /// What was announced; `None`: only wanted records are fetched.
    pub inbox: Option<Inbox>,
    /// The clock.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Told when there is something to send.
    pub line: Line,
    /// Asks the source; `None`: it cannot be asked.
    pub fetch: Option<Fetch<'a>>,
    /// How this program is called.
    pub program: String,
}

/// One source's hints.
pub struct Hints<'a> {
    parts: HintParts<'a>,
    name: String,
    source: SourceId,
    mapping: Arc<ResolvedMapping>,
    /// So late the source may show a change.
    lag: Duration,
    policy: Arc<Policy>,
    alarm: Alarm,
    care: Care,
    announced: Streak,
    wanted: Streak,
    has_succeeded: bool,
    /// Wanted records wait until then after a failure.
    rests_until: Option<tokio::time::Instant>,
    /// After failures wanted records are tried one by one, once all around: this key is the last that was tried.
    alone_after: Option<String>,
    /// The last turn was of announcements.
    owes_wanted: bool,
}

/// Failures in a row.
struct Streak {
    backoff: Backoff,
    failures: u32,
}

impl Streak {
    fn none(random: &Random) -> Self {
        Self { backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_MAX, random.clone()), failures: 0 }
    }

    /// One more: says how long to wait.
    fn lengthen(&mut self) -> Duration {
        self.failures += 1;
        self.backoff.next_wait()
    }

    /// Says whether there was one.
    fn end(&mut self) -> bool {
        self.backoff.reset();
        std::mem::take(&mut self.failures) > 0
    }
}

/// What is acted on together.
#[derive(Default)]
struct Batch {
    events: Vec<WaitingEvent>,
    wanted: Vec<WantedRecord>,
}

impl<'a> Hints<'a> {
    /// Takes the hints of a source up.
    pub async fn open(feed: &Feed, parts: HintParts<'a>) -> Result<Self, CheckpointError> {
        let (name, shape, consent_shape) = (feed.name.clone(), feed.shape.clone(), feed.consent_shape.clone());
        let rereading = if parts.fetch.is_some() { Rereading::ById } else { feed.rereading() };
        let source = parts.store.call(move |checkpoint| {
            let source = checkpoint.load_source(&name)?.id;
            checkpoint.note_rereading(source, rereading)?;
            // as a cycle does: what is read with another mapping is not what changed in the CRM
            // what was pushed cannot be read once more with it
            if !shape.is_empty() && rereading != Rereading::Never {
                let mapping = checkpoint.hash().text("mapping", &shape);
                checkpoint.note_mapping(source, mapping)?;
            }
            let consent = consent_shape.map(|shape| checkpoint.hash().text("consent", &shape));
            checkpoint.note_consent_mapping(source, consent)?;
            Ok(source)
        });
        let source = source.await?;
        let alarm = Alarm::open(parts.store.clone(), parts.clock.clone());
        Ok(Self {
            name: feed.name.clone(),
            source,
            mapping: Arc::clone(&feed.mapping),
            lag: feed.source.lag(),
            policy: Arc::clone(&feed.policy),
            care: Care::open(alarm.clone(), &parts.random),
            alarm,
            announced: Streak::none(&parts.random),
            wanted: Streak::none(&parts.random),
            has_succeeded: false,
            rests_until: None,
            alone_after: None,
            owes_wanted: false,
            parts,
        })
    }

    /// Acts once on what is due; false where nothing was.
    pub async fn act(&mut self) -> Result<bool, CheckpointError> {
        let batch = self.gather().await?;
        if batch.events.is_empty() && batch.wanted.is_empty() {
            return Ok(false);
        }
        let asked_at = self.parts.clock.now();
        match self.bring(&batch, asked_at).await {
            Ok((incoming, asked_at)) => {
                let keys: Vec<String> = incoming.iter().filter_map(|item| item.key().map(str::to_owned)).collect();
                self.record(incoming, keys, asked_at).await?;
                let is_wanted = !batch.wanted.is_empty();
                self.clear(batch).await?;
                self.succeed(is_wanted).await?;
            }
            Err(SourceError::Stopped) => return Ok(false),
            Err(error) => self.fail(batch, &error).await?,
        }
        Ok(true)
    }

    /// How long nothing is due, as far as it is known; `None`: until something is announced.
    pub async fn rest(&mut self) -> Result<Option<Duration>, CheckpointError> {
        let next = match &self.parts.inbox {
            Some(inbox) if self.care.rest().is_none() => {
                let next = inbox.next_due(&self.name).await;
                self.care.read(next).await?.flatten()
            }
            Some(_) | None => None,
        };
        let announced = next.map(|due| due.since(self.parts.clock.now()));
        let announced = self.care.rest().or(announced);
        let now = tokio::time::Instant::now();
        let wanted = self.rests_until.map(|until| until.saturating_duration_since(now));
        Ok([announced, wanted].into_iter().flatten().min())
    }

    /// What was cleared leaves the inbox's disk.
    pub async fn settle_disk(&mut self) -> Result<(), CheckpointError> {
        let Some(inbox) = &self.parts.inbox else { return Ok(()) };
        let settled = inbox.settle_disk().await;
        self.care.wrote(settled).await
    }

    async fn gather(&mut self) -> Result<Batch, CheckpointError> {
        // announcements may never end: what is wanted has every second turn
        if std::mem::take(&mut self.owes_wanted) {
            let wanted = self.gather_wanted().await?;
            if !wanted.is_empty() {
                return Ok(Batch { events: Vec::new(), wanted });
            }
        }
        let events = match &self.parts.inbox {
            Some(inbox) if self.care.rest().is_none() => {
                let due = inbox.due(&self.name, BATCH).await;
                self.care.read(due).await?.unwrap_or_default()
            }
            Some(_) | None => Vec::new(),
        };
        self.owes_wanted = !events.is_empty();
        let wanted = if events.is_empty() { self.gather_wanted().await? } else { Vec::new() };
        Ok(Batch { events, wanted })
    }

    /// Not together with events: neither could tell whose fault a failure is.
    async fn gather_wanted(&mut self) -> Result<Vec<WantedRecord>, CheckpointError> {
        let rests = self.rests_until.is_some_and(|until| until > tokio::time::Instant::now());
        if rests || self.parts.fetch.is_none() {
            return Ok(Vec::new());
        }
        let source = self.source;
        if let Some(after) = self.alone_after.clone() {
            let alone = self.parts.store.call(move |checkpoint| checkpoint.load_wanted(source, &after, 1)).await?;
            self.alone_after = alone.first().map(|record| record.key.clone());
            if !alone.is_empty() {
                return Ok(alone);
            }
        }
        self.parts.store.call(move |checkpoint| checkpoint.load_wanted(source, "", BATCH)).await
    }

    /// What the events come to, as records; with the moment from which that is known.
    async fn bring(&self, batch: &Batch, now: Timestamp) -> Result<(Vec<Incoming>, Timestamp), SourceError> {
        let mut incoming = Vec::new();
        let mut asked_at = now;
        let present = now.plus(self.lag).0;
        // whether a record is said to be deleted
        let mut hinted: BTreeMap<&str, bool> = BTreeMap::new();
        for waiting in &batch.events {
            match &waiting.event {
                InboxEvent::Hint { key, is_deleted } => *hinted.entry(key).or_default() |= is_deleted,
                InboxEvent::Whole { record, .. } => {
                    asked_at = asked_at.min(waiting.received_at);
                    incoming.push(map_pushed(&self.mapping, record, present));
                }
                InboxEvent::Unreadable { key } => incoming.push(reject_unreadable(key)),
                InboxEvent::WholeDeleted { key, record } => {
                    asked_at = asked_at.min(waiting.received_at);
                    let changed_at = record.as_deref().and_then(|record| age_of_pushed(&self.mapping, record));
                    incoming.push(Incoming::Deleted { key: key.clone(), is_confirmed: true, changed_at });
                }
            }
        }
        for WantedRecord { key, is_deleted, .. } in &batch.wanted {
            *hinted.entry(key).or_default() |= is_deleted;
        }
        if hinted.is_empty() {
            return Ok((incoming, asked_at));
        }
        let keys = hinted.keys().map(|key| (*key).to_owned()).collect();
        let fetched = match &self.parts.fetch {
            Some(fetch) => fetch(keys).await?,
            // a source that lost its fetch: its next reads tell
            None => Vec::new(),
        };
        let deleted: BTreeSet<&str> =
            hinted.iter().filter(|(_, is_deleted)| **is_deleted).map(|(key, _)| *key).collect();
        incoming.extend(fetched.into_iter().map(|fetched| map_fetched(&self.mapping, fetched, &deleted, present)));
        Ok((incoming, asked_at))
    }

    async fn record(
        &self,
        incoming: Vec<Incoming>,
        keys: Vec<String>,
        asked_at: Timestamp,
    ) -> Result<(), CheckpointError> {
        let (name, source, now) = (self.name.clone(), self.source, self.parts.clock.now());
        let (policy, mapped) = (Arc::clone(&self.policy), self.mapping.fields().to_vec());
        let weighed: Weighed = self
            .parts
            .store
            .call(move |checkpoint| {
                let is_first_load = !checkpoint.load_source(&name)?.first_load_done;
                let context = ReadContext {
                    source,
                    source_name: name,
                    began: asked_at.0,
                    asked_at: asked_at.0,
                    now: now.0,
                    mapped,
                    lane: Lane::Live,
                    is_full: false,
                    stores_cursor: false,
                    mode: PageMode::Apply,
                    policy: Arc::clone(&policy),
                    way: Way::Announced { is_first_load },
                };
                checkpoint.record_page(&context, &mut SeenRows::default(), incoming, None)?;
                checkpoint.weigh_records((source, asked_at.0), &keys, &policy.guard, now.0)
            })
            .await?;
        self.parts.line.nudge();
        tell_holds(&weighed.holds, &self.alarm, &self.parts.program).await
    }

    async fn clear(&mut self, batch: Batch) -> Result<(), CheckpointError> {
        let Batch { events, wanted } = batch;
        if let (Some(inbox), false) = (&self.parts.inbox, events.is_empty()) {
            let done = inbox.done(events.iter().map(|event| (event.id, event.seq)).collect()).await;
            self.care.wrote(done).await?;
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let source = self.source;
        self.parts.store.call(move |checkpoint| checkpoint.drop_wanted(source, &wanted)).await
    }

    async fn succeed(&mut self, is_wanted: bool) -> Result<(), CheckpointError> {
        let streak = if is_wanted { &mut self.wanted } else { &mut self.announced };
        // the first success also ends what an earlier process raised
        let is_news = streak.end() || !std::mem::replace(&mut self.has_succeeded, true);
        if is_wanted {
            self.rests_until = None;
        }
        let is_over = self.announced.failures + self.wanted.failures == 0;
        if is_news && is_over { self.alarm.end(&self.alert()).await } else { Ok(()) }
    }

    /// What was to be fetched waits, longer with each failure.
    async fn fail(&mut self, batch: Batch, error: &SourceError) -> Result<(), CheckpointError> {
        let is_wanted = !batch.wanted.is_empty();
        let streak = if is_wanted { &mut self.wanted } else { &mut self.announced };
        let (wait, failures) = (streak.lengthen(), streak.failures);
        // one that fails again and again waits by its own count, and is no news: the others end every streak
        let own_attempts = match batch.events.as_slice() {
            [alone] => alone.attempts,
            _ => 0,
        };
        let wait = wait.max(BACKOFF_FIRST.saturating_mul(1 << own_attempts.min(8)).min(BACKOFF_MAX));
        if is_wanted {
            self.rests_until = Some(tokio::time::Instant::now() + wait);
        }
        if batch.wanted.len() > 1 && failures >= FAILURES_UNTOLD {
            self.alone_after = Some(String::new());
        }
        if let (Some(inbox), false) = (&self.parts.inbox, batch.events.is_empty()) {
            let until = self.parts.clock.now().plus(wait);
            let postponed = inbox.postpone(batch.events.iter().map(|event| event.id).collect(), until).await;
            self.care.wrote(postponed).await?;
        }
        if failures == 1 && own_attempts < FAILURES_UNTOLD {
            tracing::warn!(
                source = self.name,
                "cannot fetch what was announced, and tries again: {}",
                report::chain(error)
            );
        }
        if failures >= FAILURES_UNTOLD {
            let text =
                format!("source {} cannot fetch what its webhook announced: {}", self.name, report::chain(error));
            let hint = error.hint().map_or_else(
                || "it is tried again, and nothing is lost; the source's own reads go on".to_owned(),
                |hint| hint.replace("NAME", &self.name),
            );
            self.alarm.raise(&self.alert(), &text, &hint).await?;
        }
        Ok(())
    }

    fn alert(&self) -> String {
        alert(&self.name)
    }
}

/// The alert of a source whose records cannot be fetched.
pub(super) fn alert(source: &str) -> String {
    format!("fetch-{source}")
}
