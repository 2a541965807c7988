//! The one sender: takes what is due, keeps several calls under way, and asks for the end of each import.
//!
//! It holds no queue: what is due stands in the checkpoint, what is under way stands there too, and a new sender goes on
//! where the last one died. What each answer means is decided in `plan`; `answers.rs` writes it down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::checkpoint::{BegunImport, CallKind, CheckpointError, ImportState, MemberValues, OpenImport, Store};
use crate::clock::{Clock, Timestamp};
use crate::contact::{Field, Fingerprinter};
use crate::plan::answer::{ImportAnswer, SingleAnswer, SubmitAnswer};
use crate::plan::batch::{Batch, Limits, plan_batches};
use crate::plan::halving::Halving;
use crate::plan::lock::LockSet;
use crate::plan::{ContactId, ImportId, Lane};
use crate::random::Random;
use crate::reteno::Client;
use crate::reteno::body::{BodyError, BulkContact, BulkRequest, DedupeOn, bulk_body, contact_body};

use super::alarm::Alarm;
use super::pace::{Pause, Standstill};

/// Imports that Reteno may work on at the same time. More would only lengthen its queue and our set of locks (about
/// 20 MB for all of them); fewer would leave the line idle while imports take minutes.
const IMPORTS_OPEN_MAX: usize = 32;
/// Live changes are gathered to at most ten posts a second.
const GATHER: Duration = Duration::from_millis(100);
/// Contacts looked at in one planning round: enough to fill every free slot.
const CANDIDATES_MAX: usize = 24_000;
/// Live changes of more contacts than this go by bulk even where single calls are allowed.
const SINGLES_MAX: usize = 10;
/// How long after its time an import counts as overdue: the request itself may have taken this long.
pub(super) const REQUEST_SLACK: Duration = Duration::from_secs(300);
/// Reteno may not know an import right after it named it; after this long it never will.
const MISSING_MAX: Duration = Duration::from_secs(600);
/// The first wait before the same body goes out again after a lost answer.
const REPEAT_FIRST: Duration = Duration::from_secs(2);
/// The longest sleep of the loop: well below any watchdog, so that an idle sender still shows that it turns.
const TURN_MAX: Duration = Duration::from_secs(10);
const REPEAT_MAX: Duration = Duration::from_secs(300);

/// What the operator may set about sending.
#[derive(Clone, Debug)]
pub struct SendSettings {
    /// How Reteno finds a contact without an external id.
    pub dedupe_on: DedupeOn,
    /// What happens to contacts that were deleted in Reteno.
    pub restore_deleted: RestoreDeleted,
    /// Contacts in a call.
    pub batch_contacts_max: usize,
    /// Bytes of a body.
    pub batch_bytes_max: usize,
    /// Posts under way at the same time.
    pub posts_in_flight: usize,
    /// After this long an import is given up, and for as long again it may still be applied.
    pub import_age_max: Duration,
    /// The first wait before an import is asked for.
    pub import_poll_first: Duration,
    /// The longest.
    pub import_poll_max: Duration,
}

/// Whether contacts that were deleted in Reteno come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreDeleted {
    /// No call restores.
    Never,
    /// Live changes go by single calls, which restore.
    Live,
    /// Every call restores.
    Always,
}

/// What was sent and what came of it, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SendCounts {
    /// Calls that carried contacts.
    pub posts: u64,
    /// Of them: bodies that went out before.
    pub repeats: u64,
    /// Questions for an import's state.
    pub checks: u64,
    /// Contacts carried by new calls.
    pub sent: u64,
    /// Contacts acknowledged.
    pub acknowledged: u64,
    /// Contacts rejected by Reteno.
    pub rejected: u64,
}

/// Shared between the sender and those who read sources.
#[derive(Clone)]
pub struct Line {
    nudge: Arc<Notify>,
    beats: Arc<AtomicU64>,
    filling: watch::Sender<usize>,
}

impl Default for Line {
    fn default() -> Self {
        Self { nudge: Arc::new(Notify::new()), beats: Arc::default(), filling: watch::Sender::new(0) }
    }
}

impl Line {
    /// There may be something new to send.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// More contacts for the bulk lanes are to be expected as long as the guard lives.
    #[must_use]
    pub fn fill(&self) -> Filling {
        self.filling.send_modify(|readers| *readers += 1);
        Filling(self.clone())
    }

    /// Grows with each turn of the sender's loop.
    #[must_use]
    pub fn beats(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.beats)
    }

    fn is_filling(&self) -> bool {
        *self.filling.borrow() > 0
    }
}

/// A source is being read.
pub struct Filling(Line);

impl Drop for Filling {
    fn drop(&mut self) {
        self.0.filling.send_modify(|readers| *readers -= 1);
        self.0.nudge();
    }
}

/// When a sender's run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When nothing is read, due or under way any more; at the latest at this moment.
    Drained(Timestamp),
    /// When it is stopped.
    Stopped,
}

/// Why a sender's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is acknowledged or rejected.
    Drained,
    /// What is left waits for the time of a ghost to be over, or the deadline came.
    StillOpen,
    /// A person has to authorize before it can go on.
    NeedsAuthorization,
    /// It was stopped.
    Stopped,
}

pub(super) enum Done {
    Posted(ImportId, SubmitAnswer),
    Single(ImportId, SingleAnswer),
    Checked(ImportId, ImportAnswer),
}

/// See the module's text.
pub struct Sender {
    pub(super) store: Store,
    pub(super) client: Arc<Client>,
    pub(super) clock: Clock,
    pub(super) hash: Fingerprinter,
    pub(super) settings: SendSettings,
    pub(super) alarm: Alarm,
    pub(super) halving: Halving,
    pub(super) locks: LockSet,
    pub(super) pause: Pause,
    pub(super) repeat: Backoff,
    pub(super) counts: watch::Sender<SendCounts>,
    line: Line,
    /// Imports with a request on the line, and whether it is a post.
    pub(super) busy: BTreeMap<ImportId, bool>,
    requests: JoinSet<Done>,
    last_round: Option<Timestamp>,
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
        let (hash, last_part, held) = store
            .call(move |checkpoint| {
                let mut held = Vec::new();
                for import in checkpoint.load_imports()? {
                    if import.state == ImportState::Intent {
                        let ghost_until = import.posted_at.plus(age_max + REQUEST_SLACK);
                        checkpoint.doubt_import(import.id, now, Some(ghost_until))?;
                    }
                    if import.state != ImportState::Ghost {
                        let members = checkpoint.load_members(import.id)?;
                        held.push((import.id, members.into_iter().flat_map(|m| m.locks).collect::<Vec<_>>()));
                    }
                }
                Ok((checkpoint.hash().clone(), checkpoint.last_part()?, held))
            })
            .await?;
        let mut locks = LockSet::default();
        for (import, owned) in held {
            locks.take(import, owned);
        }
        Ok(Self {
            alarm: Alarm::open(store.clone(), clock.clone()),
            store,
            client,
            clock,
            hash,
            settings,
            halving: Halving::from_last_part(last_part),
            locks,
            pause: Pause::none(random.clone()),
            repeat: Backoff::new(REPEAT_FIRST, REPEAT_MAX, random),
            counts: watch::Sender::new(SendCounts::default()),
            line,
            busy: BTreeMap::new(),
            requests: JoinSet::new(),
            last_round: None,
        })
    }

    /// What was sent so far, as it changes.
    #[must_use]
    pub fn watch_counts(&self) -> watch::Receiver<SendCounts> {
        self.counts.subscribe()
    }

    /// Sends until `until`, or until `stop`: then the requests on the line are waited for, not longer than they take.
    pub async fn run(&mut self, until: Until, stop: &CancellationToken) -> Result<Ended, CheckpointError> {
        loop {
            if stop.is_cancelled() {
                return self.park().await;
            }
            self.line.beats.fetch_add(1, Ordering::Relaxed);
            let wake = self.advance().await?;
            if let Some(ended) = self.ended(until).await? {
                return Ok(ended);
            }
            self.wait(wake, until, stop).await?;
        }
    }

    /// One round: starts all that may be started now, and says when the next thing is due.
    async fn advance(&mut self) -> Result<Option<Timestamp>, CheckpointError> {
        let now = self.clock.now();
        let mut wake = self.pause.until(now);
        let imports = self
            .store
            .call(move |checkpoint| checkpoint.forget_ghosts(now).and_then(|()| checkpoint.load_imports()))
            .await?;
        let unfinished = imports.iter().filter(|import| import.state != ImportState::Ghost).map(|import| import.id);
        self.locks.retain_imports(&unfinished.collect());
        for import in imports.iter().filter(|import| import.state != ImportState::Ghost) {
            if self.busy.contains_key(&import.id) {
                continue;
            }
            if self.is_overdue(import, now) {
                self.abandon(import, now).await?;
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
        let fresh = self.begin_batches(&imports, now).await?;
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
                let body = self.store.call(move |checkpoint| checkpoint.repeat_import(id, now)).await?;
                self.counts.send_modify(|counts| counts.repeats += 1);
                self.post(id, import.call, body);
            }
            (ImportState::Submitted | ImportState::Ghost, _) => {}
        }
        Ok(())
    }

    fn post(&mut self, import: ImportId, call: CallKind, body: bytes::Bytes) {
        self.busy.insert(import, true);
        self.counts.send_modify(|counts| counts.posts += 1);
        let client = Arc::clone(&self.client);
        self.requests.spawn(async move {
            match call {
                CallKind::Bulk => Done::Posted(import, client.submit_contacts(body).await),
                CallKind::Upsert => Done::Single(import, client.upsert_contact(body).await),
                CallKind::Update(id) => Done::Single(import, client.update_contact(id, body).await),
            }
        });
    }

    /// Starts new calls; says when to look again where only the pace stands in the way.
    async fn begin_batches(
        &mut self,
        imports: &[OpenImport],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, CheckpointError> {
        let posting = self.busy.values().filter(|is_post| **is_post).count();
        let open = imports.iter().filter(|import| import.state != ImportState::Ghost).count();
        let slots = self.settings.posts_in_flight.saturating_sub(posting).min(IMPORTS_OPEN_MAX.saturating_sub(open));
        if slots == 0 || self.pause.until(now).is_some() {
            return Ok(None);
        }
        if let Some(next) =
            self.last_round.map(|last| last.plus(GATHER)).filter(|next| *next > now && *next <= now.plus(GATHER))
        {
            return Ok(Some(next));
        }
        let due = self.store.call(move |checkpoint| checkpoint.load_due(now, CANDIDATES_MAX)).await?;
        let limits = Limits {
            contacts_max: self.settings.batch_contacts_max,
            bytes_max: self.settings.batch_bytes_max,
            batches_max: slots,
            is_filling: self.line.is_filling() && !due.is_more,
        };
        let sending = imports.iter().filter(|import| import.state != ImportState::Ghost);
        let busy: BTreeSet<Vec<Field>> = sending.map(|import| import.mask.clone()).collect();
        let batches = plan_batches(&due.candidates, &self.locks, limits, |mask| self.halving.gate(mask, now), &busy);
        let is_more = !batches.is_empty();
        for batch in batches {
            self.begin(batch, now).await?;
        }
        if is_more {
            self.last_round = Some(now);
        }
        // whatever did not fit comes with the next round; a full house is woken by an answer
        Ok(is_more.then(|| now.plus(GATHER)))
    }

    async fn begin(&mut self, batch: Batch, now: Timestamp) -> Result<(), CheckpointError> {
        let by_single_calls = self.settings.restore_deleted == RestoreDeleted::Live
            && batch.lane == Lane::Live
            && batch.contacts.len() <= SINGLES_MAX;
        if !by_single_calls {
            return self.begin_bulk(batch.mask, batch.contacts, now).await;
        }
        for contact in batch.contacts {
            let known = self.store.call(move |checkpoint| checkpoint.load_single(contact)).await?;
            match known {
                // an empty channel cannot be expressed in a single call
                None => self.begin_bulk(batch.mask.clone(), vec![contact], now).await?,
                Some(call) => {
                    let build = |members: &[MemberValues]| {
                        Ok::<_, BodyError>(
                            members.first().map_or_else(bytes::Bytes::new, |m| contact_body(m.values.as_slice())),
                        )
                    };
                    let begun = self
                        .store
                        .call(move |checkpoint| checkpoint.begin_import(call, &[], &[contact], now, build))
                        .await?;
                    if let Ok(Some(begun)) = begun {
                        self.send(call, begun, 1);
                    }
                }
            }
        }
        Ok(())
    }

    async fn begin_bulk(
        &mut self,
        mask: Vec<Field>,
        contacts: Vec<ContactId>,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let mut parts = vec![contacts];
        while let Some(part) = parts.pop() {
            let (dedupe_on, restore_deleted) =
                (self.settings.dedupe_on, self.settings.restore_deleted == RestoreDeleted::Always);
            let (mask, members) = (mask.clone(), part.clone());
            let begun = self
                .store
                .call(move |checkpoint| {
                    checkpoint.begin_import(CallKind::Bulk, &mask, &members, now, |members| {
                        build_body(members, &mask, dedupe_on, restore_deleted)
                    })
                })
                .await?;
            match begun {
                Ok(Some(begun)) => self.send(CallKind::Bulk, begun, part.len() as u64),
                Ok(None) => {}
                // contacts with different channels and only additional fields due find no field in common
                Err(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([first.to_vec(), second.to_vec()]);
                }
                Err(error) => {
                    let hint = "report this: a contact that cannot be expressed should have been rejected before";
                    self.alarm.raise("body", &format!("cannot {error}"), hint).await?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, call: CallKind, begun: BegunImport, contacts: u64) {
        let BegunImport { import, body, locks, mask: _ } = begun;
        self.locks.take(import, locks);
        self.counts.send_modify(|counts| counts.sent += contacts);
        self.post(import, call, body);
    }

    fn is_overdue(&self, import: &OpenImport, now: Timestamp) -> bool {
        let is_missing = import.missing_since.is_some_and(|since| now.since(since) >= MISSING_MAX);
        import.state == ImportState::Submitted
            && (is_missing || now.since(import.posted_at) >= self.settings.import_age_max)
    }

    /// Whether the run is over. Only what a person or a ghost stands in the way of may be left.
    async fn ended(&mut self, until: Until) -> Result<Option<Ended>, CheckpointError> {
        let Until::Drained(deadline) = until else { return Ok(None) };
        if !self.requests.is_empty() {
            return Ok(None);
        }
        if self.pause.standstill() == Some(&Standstill::NeedsAuthorization) {
            return Ok(Some(Ended::NeedsAuthorization));
        }
        let now = self.clock.now();
        if now >= deadline {
            return Ok(Some(Ended::StillOpen));
        }
        if self.line.is_filling() {
            return Ok(None);
        }
        let (open, active) = self.store.call(move |checkpoint| checkpoint.count_open(now)).await?;
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
        let deadline = match until {
            Until::Drained(deadline) => Some(deadline),
            Until::Stopped => None,
        };
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

    /// Waits for the answers on the line, so that as little as possible stays in doubt. The caller bounds the wait.
    async fn park(&mut self) -> Result<Ended, CheckpointError> {
        while let Some(done) = self.requests.join_next().await {
            self.record(done).await?;
        }
        Ok(Ended::Stopped)
    }

    async fn record(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<(), CheckpointError> {
        match done {
            Ok(Done::Posted(import, answer)) => self.record_submit(import, answer).await,
            Ok(Done::Single(import, answer)) => self.record_single(import, answer).await,
            Ok(Done::Checked(import, answer)) => self.record_check(import, answer).await,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
}

fn build_body(
    members: &[MemberValues],
    mask: &[Field],
    dedupe_on: DedupeOn,
    restore_deleted: bool,
) -> Result<bytes::Bytes, BodyError> {
    let contacts: Vec<BulkContact<'_>> =
        members.iter().map(|member| BulkContact { id: member.reteno_id, fields: member.values.as_slice() }).collect();
    bulk_body(&BulkRequest {
        contacts: &contacts,
        dedupe_on,
        mask,
        restore_deleted,
        group_names: &[],
        group_names_exclude: &[],
    })
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
