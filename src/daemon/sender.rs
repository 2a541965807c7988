//! The one sender: takes what is due, keeps several calls under way, and asks for the end of each import.
//!
//! It holds no queue: what is due stands in the checkpoint, what is under way stands there too, and a new sender goes on
//! where the last one died. What each answer means is decided in `plan`; `answers.rs` writes it down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::checkpoint::{CallKind, CheckpointError, ImportState, OpenImport, SendRules, Store};
use crate::clock::{Clock, Timestamp};
use crate::contact::{Field, Fingerprinter};
use crate::plan::answer::NotWritten;
use crate::plan::batch::{Limits, RESERVED_ROUND, plan_batches};
use crate::plan::halving::Halving;
use crate::plan::lock::LockSet;
use crate::plan::{ImportId, SourceId};
use crate::random::Random;
use crate::reteno::Client;
use crate::reteno::start::SubscribeOptions;

use super::alarm::Alarm;
use super::calls::{Done, perform, take_up};
use super::endings::mask_alert;
use super::exports::Exports;
use super::pace::{Pause, Standstill};

pub use super::line::{Filling, Line};
pub use super::sending::{Ended, RestoreDeleted, SendCounts, SendSettings, Until, UploadSettings};

/// Imports that Reteno may work on at the same time. More would only lengthen its queue and our set of locks (about
/// 20 MB for all of them); fewer would leave the line idle while imports take minutes.
const IMPORTS_OPEN_MAX: usize = 32;
/// Of them, so many only for what just changed: a first load whose imports hang must not shut it out.
const IMPORTS_RESERVED: usize = 8;
/// Batches that are not full wait at most this long for a source that is read on and on.
const GATHER_MAX: Duration = Duration::from_mins(5);
/// Live changes are gathered to at most ten posts a second.
const GATHER: Duration = Duration::from_millis(100);
/// How long after its time an import counts as overdue: the request itself may have taken this long.
pub(super) const REQUEST_SLACK: Duration = Duration::from_mins(5);
/// The first wait before the same body goes out again after a lost answer.
const REPEAT_FIRST: Duration = Duration::from_secs(2);
/// The longest sleep of the loop: well below any watchdog, so that an idle sender still shows that it turns.
const TURN_MAX: Duration = Duration::from_secs(10);
const REPEAT_MAX: Duration = Duration::from_mins(5);

/// See the module's text.
pub struct Sender {
    pub(super) store: Store,
    pub(super) client: Arc<Client>,
    pub(super) clock: Clock,
    pub(super) hash: Fingerprinter,
    pub(super) settings: SendSettings,
    pub(super) rules: SendRules,
    pub(super) forms: BTreeMap<SourceId, SubscribeOptions>,
    pub(super) alarm: Alarm,
    pub(super) halving: Halving,
    pub(super) locks: LockSet,
    pub(super) pause: Pause,
    /// What the checkpoint holds of the time that Reteno has asked for.
    pub(super) stored_asked: Option<Timestamp>,
    pub(super) repeat: Backoff,
    pub(super) counts: watch::Sender<SendCounts>,
    pub(super) exports: Exports,
    line: Line,
    /// Imports with a request on the line, and whether it is a post.
    pub(super) busy: BTreeMap<ImportId, bool>,
    requests: JoinSet<Done>,
    last_round: Option<Timestamp>,
    /// Rounds in which calls were begun.
    rounds: u64,
    /// When batches last went out that were not full.
    last_gathered: Option<Timestamp>,
    pub(super) disk_settled_at: Option<Timestamp>,
    /// When the loop last turned, and when that was last noted in the checkpoint.
    pub(super) turned_at: Timestamp,
    pub(super) noted_at: Timestamp,
    /// In a run that ends by itself: since when nothing is read any more.
    read_to_end_at: Option<Timestamp>,
}

impl Sender {
    /// A sender that goes on where the last one ended: what it had sent without an answer is doubtful.
    pub async fn resume(
        store: Store,
        client: Arc<Client>,
        clock: Clock,
        random: Random,
        (settings, line): (SendSettings, Line),
    ) -> Result<Self, CheckpointError> {
        let age_max = settings.import_age_max;
        let now = clock.now();
        let endings = settings.endings.clone();
        let form_names: Vec<String> = settings.forms.iter().map(|(name, _)| name.clone()).collect();
        let (hash, (halving, asked), locks, form_ids, dir) = store
            .call(move |checkpoint| {
                for (name, ending) in &endings {
                    checkpoint.drop_other_endings(name, *ending)?;
                }
                let mut form_ids = Vec::new();
                for name in &form_names {
                    form_ids.push(checkpoint.load_source(name)?.id);
                }
                let locks = take_up(checkpoint, now, age_max)?;
                let halving = Halving::restored(checkpoint.last_part()?, checkpoint.load_halving()?.as_deref(), now);
                let refused: Vec<String> = halving.refused_masks().map(mask_alert).collect();
                checkpoint.end_alerts_but("mask-", &refused)?;
                let waits = (halving, checkpoint.load_asked_until()?);
                Ok((checkpoint.hash().clone(), waits, locks, form_ids, checkpoint.exports_dir()))
            })
            .await?;
        let forms: BTreeMap<SourceId, SubscribeOptions> =
            form_ids.into_iter().zip(settings.forms.iter().map(|(_, options)| options.clone())).collect();
        let exports = Exports::at(dir, random.clone());
        let rules = SendRules { forms: forms.keys().copied().collect(), ..settings.rules() };
        let mut sender = Self {
            rules,
            forms,
            alarm: Alarm::open(store.clone(), clock.clone()),
            store,
            client,
            clock,
            hash,
            settings,
            halving,
            locks,
            pause: Pause::none(random.clone()).asked_until(asked),
            stored_asked: asked,
            repeat: Backoff::new(REPEAT_FIRST, REPEAT_MAX, random),
            counts: watch::Sender::new(SendCounts::default()),
            exports,
            line,
            busy: BTreeMap::new(),
            requests: JoinSet::new(),
            last_round: None,
            rounds: 0,
            last_gathered: Some(now),
            disk_settled_at: None,
            turned_at: now,
            noted_at: now,
            read_to_end_at: None,
        };
        sender.leave_all_doubtful().await?;
        sender.adopt_exports().await?;
        Ok(sender)
    }

    /// What was sent so far, as it changes.
    #[must_use]
    pub fn watch_counts(&self) -> watch::Receiver<SendCounts> {
        self.counts.subscribe()
    }

    /// Sends until `until`, or until `stop`: then the requests on the line are waited for, not longer than they take.
    pub async fn run(&mut self, until: Until, stop: &CancellationToken) -> Result<Ended, CheckpointError> {
        self.read_to_end_at = None;
        loop {
            if stop.is_cancelled() {
                return self.park(Ended::Stopped).await;
            }
            if self.deadline(until).is_some_and(|deadline| self.clock.now() >= deadline) {
                return self.park(Ended::StillOpen).await;
            }
            self.line.beats.fetch_add(1, Ordering::Relaxed);
            let wake = self.advance().await?;
            if let Some(ended) = self.ended(until).await? {
                return self.park(ended).await;
            }
            self.wait(wake, until, stop).await?;
        }
    }

    /// One round: starts all that may be started now, and says when the next thing is due.
    async fn advance(&mut self) -> Result<Option<Timestamp>, CheckpointError> {
        let now = self.clock.now();
        self.heed_clock(now).await?;
        // without a token nothing is begun: an intent that cannot go out would be written and taken back at every turn
        if self.pause.may_lack_token() && !self.client.has_token().await {
            self.pause.begin(&NotWritten::NeedsAuthorization, None, now);
        }
        let mut wake = self.pause.until(now);
        let imports = self
            .store
            .call(move |checkpoint| checkpoint.forget_ghosts(now).and_then(|()| checkpoint.load_imports()))
            .await?;
        self.settle_disk(&imports, now).await?;
        self.sweep_exports(&imports, now).await?;
        let unfinished = imports.iter().filter(|import| import.state != ImportState::Ghost).map(|import| import.id);
        self.locks.retain_imports(&unfinished.collect());
        let quiet_until = self.pause.until_for_all(now);
        for import in imports.iter().filter(|import| import.state != ImportState::Ghost) {
            if self.busy.contains_key(&import.id) || quiet_until.is_some() {
                continue;
            }
            let due_at = match import.state {
                ImportState::Intent => import.repeat_at,
                ImportState::Submitted => import.check_at,
                ImportState::Ghost => None,
            };
            match due_at.filter(|at| *at > now && *at < now.plus(self.settings.import_age_max * 2)) {
                Some(later) => wake = earliest(wake, Some(later)),
                None => self.resume_import(import, now).await?,
            }
        }
        let has_deeds = self.begin_deeds(&imports, now).await?;
        let fresh = self.begin_batches(&imports, now).await?.or_else(|| has_deeds.then(|| now.plus(GATHER)));
        let next_due = self.store.call(move |checkpoint| checkpoint.next_due_at(now)).await?;
        Ok([fresh, next_due, self.halving.next_opening(now)].into_iter().fold(wake, earliest))
    }

    /// Posts an unanswered body again, or asks for a submitted import.
    async fn resume_import(&mut self, import: &OpenImport, now: Timestamp) -> Result<(), CheckpointError> {
        match (import.state, import.session.clone()) {
            (ImportState::Submitted, Some(session)) => {
                self.busy.insert(import.id, false);
                self.counts.send_modify(|counts| counts.checks += 1);
                let (client, id) = (Arc::clone(&self.client), import.id);
                self.requests.spawn(async move { Done::Checked(id, client.import_status(&session).await) });
            }
            (ImportState::Intent, _) => {
                let id = import.id;
                if import.link.is_some_and(|link| link.until <= now) {
                    return self.give_up(import, "its link is over", now).await;
                }
                if self.stop_late_raises(import, now).await? {
                    return Ok(());
                }
                let body = self.store.call(move |checkpoint| checkpoint.repeat_import(id, now)).await?;
                if let Some(body) = body {
                    self.counts.send_modify(|counts| counts.repeats += 1);
                    self.post(id, import.call, body);
                }
            }
            (ImportState::Submitted | ImportState::Ghost, _) => {}
        }
        Ok(())
    }

    pub(super) fn post(&mut self, import: ImportId, call: CallKind, body: bytes::Bytes) {
        self.busy.insert(import, !call.is_deed());
        let client = Arc::clone(&self.client);
        self.requests.spawn(async move { perform(&client, import, call, body).await });
    }

    /// Starts new calls; says when to look again where only the pace stands in the way.
    async fn begin_batches(
        &mut self,
        imports: &[OpenImport],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, CheckpointError> {
        let posting = self.busy.values().filter(|is_post| **is_post).count();
        let open = imports.iter().filter(|import| import.state != ImportState::Ghost).count();
        let free = |posts: usize, imports: usize| posts.saturating_sub(posting).min(imports.saturating_sub(open));
        let slots = free(self.settings.posts_in_flight, IMPORTS_OPEN_MAX);
        let bulk_posts = self.settings.posts_in_flight.saturating_sub(1).max(1);
        if slots == 0 || self.pause.until(now).is_some() {
            return Ok(None);
        }
        if let Some(next) =
            self.last_round.map(|last| last.plus(GATHER)).filter(|next| *next > now && *next <= now.plus(GATHER))
        {
            return Ok(Some(next));
        }
        let is_filling = self.line.is_filling() && !self.has_gathered_long(now);
        let in_files = self.plan_files(imports, is_filling).await?;
        let at_most = self.halving.bounds(now, self.settings.batch_contacts_max);
        let mut due = self.load_due(at_most, now).await?;
        let bounds = self.keep_files(&mut due, in_files);
        let limits = Limits {
            contacts_max: self.settings.batch_contacts_max,
            bytes_max: self.settings.batch_bytes_max,
            batches_max: slots,
            bulk_batches_max: free(bulk_posts, IMPORTS_OPEN_MAX - IMPORTS_RESERVED),
            file_contacts_max: bounds.contacts_max,
            file_bytes_max: bounds.bytes_max,
            is_filling: is_filling && !due.is_more,
            gathers_all: self.line.gathers_all,
            lowest_first: self.rounds % RESERVED_ROUND == RESERVED_ROUND - 1,
        };
        let sending = imports.iter().filter(|import| import.state != ImportState::Ghost);
        let probes = sending.filter(|import| self.is_awaited_probe(import, now));
        let busy: BTreeSet<Vec<Field>> = probes.map(|import| import.mask.clone()).collect();
        let batches = plan_batches(&due.candidates, &self.locks, limits, |mask| self.halving.gate(mask, now), &busy);
        let mut is_more = false;
        for batch in batches {
            is_more |= self.begin(batch, now).await?;
        }
        if is_more {
            self.last_round = Some(now);
            self.rounds += 1;
        }
        if is_more && !limits.is_filling {
            self.last_gathered = Some(now);
        }
        // whatever did not fit comes with the next round; a full house is woken by an answer
        Ok(is_more.then(|| now.plus(GATHER)))
    }

    /// A source that never ends must not keep the others' last contacts waiting; a command that runs once waits.
    fn has_gathered_long(&self, now: Timestamp) -> bool {
        !self.line.gathers_all
            && !self.last_gathered.is_some_and(|last| last.plus(GATHER_MAX).is_pending(now, GATHER_MAX))
    }

    /// When the run ends at the latest: what it may take counts from the end of all reading.
    fn deadline(&mut self, until: Until) -> Option<Timestamp> {
        match until {
            Until::Stopped => None,
            Until::Drained(_) if self.line.is_filling() => {
                self.read_to_end_at = None;
                None
            }
            Until::Drained(wait) => Some(self.read_to_end_at.get_or_insert(self.clock.now()).plus(wait)),
        }
    }

    /// Whether the run is over. Only what a person or a ghost stands in the way of may be left.
    async fn ended(&mut self, until: Until) -> Result<Option<Ended>, CheckpointError> {
        if until == Until::Stopped || !self.requests.is_empty() {
            return Ok(None);
        }
        if self.pause.standstill() == Some(&Standstill::NeedsAuthorization) {
            return Ok(Some(Ended::NeedsAuthorization));
        }
        let now = self.clock.now();
        if self.line.is_filling() {
            return Ok(None);
        }
        let rules = self.rules.clone();
        let (open, active) = self.store.call(move |checkpoint| checkpoint.count_open(now, &rules)).await?;
        Ok(match (open, active) {
            (0, _) => Some(Ended::Drained),
            (_, 0) => Some(Ended::StillOpen),
            (_, _) => None,
        })
    }

    async fn wait(
        &mut self,
        wake: Option<Timestamp>,
        until: Until,
        stop: &CancellationToken,
    ) -> Result<(), CheckpointError> {
        let deadline = self.deadline(until);
        let now = self.clock.now();
        let pause =
            earliest(wake, deadline).map_or(TURN_MAX, |at| at.since(now).clamp(Duration::from_millis(1), TURN_MAX));
        let line = self.line.clone();
        tokio::select! {
            Some(done) = self.requests.join_next() => self.record(done).await?,
            () = line.nudge.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
        while let Some(done) = self.requests.try_join_next() {
            self.record(done).await?;
        }
        Ok(())
    }

    /// Waits for the answers on the line, so that as little as possible stays in doubt. No longer than a request takes.
    async fn park(&mut self, ended: Ended) -> Result<Ended, CheckpointError> {
        while let Some(done) = self.requests.join_next().await {
            self.record(done).await?;
        }
        self.sweep_now().await?;
        Ok(ended)
    }

    async fn record(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<(), CheckpointError> {
        self.record_answer(done).await?;
        self.store_waits().await
    }

    async fn record_answer(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<(), CheckpointError> {
        match done {
            Ok(Done::Posted(import, answer)) => self.record_submit(import, answer).await,
            Ok(Done::Single(import, answer)) => self.record_single(import, answer).await,
            Ok(Done::Started(import, answer)) => self.record_started(import, answer).await,
            Ok(Done::Deed(import, answer)) => self.record_deed(import, answer).await,
            Ok(Done::Checked(import, answer)) => self.record_check(import, answer).await,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
