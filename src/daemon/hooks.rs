//! What becomes of a delivery: proven and read by its source's description, kept in the inbox, counted; and who is told when
//! only refused ones come.
//!
//! Nothing of a body, a header or a path leaves here, not into a log, a count or an alert. It acts on nothing: see `hints`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use url::Url;

use crate::checkpoint::{CheckpointError, Inbox, InboxError, InboxEvent};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, SourceConfig};
use crate::listener::{Admitted, Hooks, NoBody, Posted, PostedHead, Reception};
use crate::report;
use crate::source::webhook::{Delivery, Event, EventKind, Head, Proof, Refused, Taken, Verification, Webhook};

use super::alarm::Alarm;
use super::compose::Surroundings;
use super::hook_lanes::{Crowded, Lanes};
use super::hook_tally::Tally;
pub use super::hook_tally::{HookCount, Reason};

/// Only refused deliveries for so long, and so many of them, are no accident: a secret was changed on one side.
const REFUSED_FOR: Duration = Duration::from_mins(15);
const REFUSED_TIMES: u64 = 5;

/// So many unknown words are told of: a CRM has few, and what comes after them is no news.
const WORDS_TOLD_MAX: usize = 16;

const UNPROVEN: &str = "compare the webhook's secret and address with those in the CRM; the log has each cause once, also those of \
                        strangers who post to the address. Reading goes on by schedule";
const UNKEPT: &str = "they cannot be written to inbox.db in the state directory: look at the space on its disk, and at the log. \
                      Senders are told to come again";

/// Takes deliveries for all sources that have a webhook.
pub struct HookDesk {
    hooks: BTreeMap<String, Hook>,
    /// Empty until it could be opened: senders are told to come again.
    inbox: OnceLock<Inbox>,
    lanes: Lanes,
    /// It was said that a delivery came to a hook that there is not.
    is_stray_told: AtomicBool,
    clock: Clock,
    /// How the world reaches the listener.
    public_url: Option<Url>,
}

struct Hook {
    webhook: Arc<Webhook>,
    /// Unknown words that were told of.
    words_told: Mutex<BTreeSet<String>>,
    tally: Tally,
    /// Why deliveries were not proven, since one was accepted: what the log has said. The causes are our own few words.
    causes_told: Mutex<BTreeSet<&'static str>>,
}

impl Hook {
    fn causes(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        // nothing else is done while it is held
        self.causes_told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HookDesk {
    /// Takes deliveries for these webhooks (by their sources' names), once there is an inbox.
    #[must_use]
    pub fn open(hooks: Vec<(String, Arc<Webhook>)>, clock: Clock, public_url: Option<Url>) -> Arc<Self> {
        let hook = |(name, webhook)| {
            (
                name,
                Hook { webhook, words_told: Mutex::default(), tally: Tally::default(), causes_told: Mutex::default() },
            )
        };
        Arc::new(Self {
            hooks: hooks.into_iter().map(hook).collect(),
            inbox: OnceLock::new(),
            lanes: Lanes::open(),
            is_stray_told: AtomicBool::new(false),
            clock,
            public_url,
        })
    }

    /// What is accepted from now on is kept in this inbox. A second one is not taken.
    pub fn fill(&self, inbox: Inbox) {
        // there is one inbox beside a checkpoint: whoever opened it first opened the same
        let _ = self.inbox.set(inbox);
    }

    /// The inbox, once it could be opened.
    #[must_use]
    pub fn inbox(&self) -> Option<&Inbox> {
        self.inbox.get()
    }

    /// Whether a source has a webhook.
    #[must_use]
    pub fn has(&self, source: &str) -> bool {
        self.hooks.contains_key(source)
    }

    /// For the listener.
    #[must_use]
    pub fn listen(self: &Arc<Self>) -> Hooks {
        let (admits, takes) = (Arc::clone(self), Arc::clone(self));
        Hooks {
            admit: Arc::new(move |head| admits.admit(head)),
            take: Arc::new(move |posted| {
                let desk = Arc::clone(&takes);
                Box::pin(async move { desk.take(posted).await })
            }),
        }
    }

    /// Whether the body of a delivery is read at all: what can be known without it is known here.
    fn admit(&self, head: &PostedHead) -> Result<Admitted, Reception> {
        let Some(hook) = self.hooks.get(&head.source) else {
            // its name is a stranger's word
            if !self.is_stray_told.swap(true, Ordering::Relaxed) {
                tracing::warn!("a delivery came for a source that has no webhook: look at the addresses in the CRM");
            }
            return Err(Reception::Forged);
        };
        match hook.webhook.prove_head(&head_at(head, &self.url_of(head), self.clock.now())) {
            Ok(proof) => {
                let bytes_max = hook.webhook.body_bytes_max();
                Ok(Admitted { bytes_max, is_proven: proof == Proof::Given })
            }
            Err(refused) => Err(self.refuse(hook, &head.source, &refused.into())),
        }
    }

    async fn take(&self, posted: Posted) -> Reception {
        let source = posted.head.source.clone();
        // it was admitted, so that there is one
        let Some(hook) = self.hooks.get(&source) else { return Reception::Forged };
        match self.keep(hook, posted).await {
            Ok(()) => {
                if hook.tally.accept() {
                    hook.causes().clear();
                    tracing::info!(source, "deliveries of the webhook are accepted again");
                }
                Reception::Kept
            }
            Err(trouble) => self.refuse(hook, &source, &trouble),
        }
    }

    fn refuse(&self, hook: &Hook, source: &str, trouble: &Trouble) -> Reception {
        let is_first = hook.tally.refuse(trouble.reason(), self.clock.now());
        // each cause of its own: a stranger's does not hide what is wrong with the CRM's
        let is_news = match trouble {
            Trouble::Refused(Refused::Unverified(cause)) => hook.causes().insert(cause),
            _ => is_first,
        };
        if is_news {
            tracing::warn!(source, "a delivery of the webhook is refused: {trouble}");
        }
        trouble.reception()
    }

    async fn keep(&self, hook: &Hook, posted: Posted) -> Result<(), Trouble> {
        let (no_body, is_proven) = (posted.body.as_ref().err().copied(), posted.is_proven);
        if let Some(no_body) = no_body {
            return Err(Trouble::NoBody { no_body, is_proven });
        }
        let posted = Arc::new(posted);
        let taken = self.look_at(&hook.webhook, &posted).await?;
        let (source, webhook) = (&posted.head.source, &hook.webhook);
        tell_left_out(hook, source, &taken);
        let events: Vec<InboxEvent> = taken.events.into_iter().flat_map(inbox_events).collect();
        if events.is_empty() {
            // nothing that concerns the source: there is nothing to keep
            return Ok(());
        }
        let inbox = self.inbox.get().ok_or(Trouble::NoInbox)?;
        inbox.store(source, delivery_id(webhook, &posted.head), events).await?;
        Ok(())
    }

    /// Proves a delivery by its raw bytes and reads it then, on threads that serve no connection; what is not proven yet has
    /// few of them.
    async fn look_at(&self, webhook: &Arc<Webhook>, posted: &Arc<Posted>) -> Result<Taken, Trouble> {
        let url = self.url_of(&posted.head);
        let (work, body) = ((Arc::clone(webhook), Arc::clone(posted)), posted.body.clone().unwrap_or_default());
        let (now, raw) = (self.clock.now(), body.clone());
        let prove = move || {
            let (webhook, posted) = &work;
            webhook.prove_raw(&Delivery { head: head_at(&posted.head, &url, now), body: &raw })
        };
        let strange = self.lanes.of_strangers(posted.is_small());
        let (lane, proof) = if posted.is_proven {
            (self.lanes.of_proven(), Proof::Given)
        } else {
            let proof = tokio::select! {
                proof = strange.run(prove) => proof,
                () = posted.gone.cancelled() => Err(Crowded),
            };
            match proof?? {
                Proof::Given => (self.lanes.of_proven(), Proof::Given),
                Proof::Open => (strange, Proof::Open),
            }
        };
        if proof == Proof::Given {
            posted.standing.prove();
        }
        let (reader, whole) = (Arc::clone(webhook), Arc::clone(posted));
        let taken = lane.run(move || reader.read(&whole.head.headers, &body, proof)).await??;
        if webhook.proves() {
            posted.standing.prove();
        }
        Ok(taken)
    }

    /// The URL as the sender saw it: some sign it. Behind a proxy only the configuration knows it.
    fn url_of(&self, head: &PostedHead) -> String {
        if let Some(public) = &self.public_url {
            return format!("{}{}", public.as_str().trim_end_matches('/'), head.target);
        }
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        format!("https://{host}{}", head.target)
    }

    /// The deliveries of each source since the start.
    #[must_use]
    pub fn count(&self) -> Vec<HookCount> {
        self.hooks.iter().map(|(name, hook)| hook.tally.count(name)).collect()
    }

    /// Raises an alert where only refused deliveries have come for a while, and ends it once one is accepted.
    pub async fn tell(&self, alarm: &Alarm) -> Result<(), CheckpointError> {
        for (name, hook) in &self.hooks {
            let alert = alert(name);
            match hook.tally.refused_for(self.clock.now()) {
                None => alarm.end(&alert).await?,
                Some((times, span)) if times >= REFUSED_TIMES && span >= REFUSED_FOR => {
                    let text = format!("the webhook of source {name}: every delivery has been refused, {times} by now");
                    let hint = if hook.tally.is_unkept() { UNKEPT } else { UNPROVEN };
                    alarm.raise(&alert, &text, hint).await?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// What of an accepted delivery is not acted on. Words that the description does not know may be those of another version
/// of the CRM: each is told once.
fn tell_left_out(hook: &Hook, source: &str, taken: &Taken) {
    hook.tally.pass_over(taken.refused.0, taken.unknown);
    if let (count, Some(reason)) = &taken.refused {
        tracing::warn!(source, "{count} events of a delivery of the webhook are left out: {reason}");
    }
    let Some(word) = &taken.unknown_word else { return };
    // nothing else is done while it is held
    let mut told = hook.words_told.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() < WORDS_TOLD_MAX && told.insert(word.clone()) {
        tracing::warn!(
            source,
            "a delivery of the webhook speaks of {word:?} alone, which is not known: nothing is done"
        );
    }
}

/// A delivery's head for its webhook.
fn head_at<'a>(head: &'a PostedHead, url: &'a str, now: Timestamp) -> Head<'a> {
    Head { method: "POST", path_token: head.token.as_deref(), url, headers: &head.headers, now }
}

fn alert(source: &str) -> String {
    format!("hooks-{source}")
}

/// The desk of the configured webhooks, without an inbox yet; none where no source has one.
pub(super) fn configured_hooks(config: &Config, around: &Surroundings) -> Option<Arc<HookDesk>> {
    let webhook = |source: &SourceConfig| Some((source.name.clone(), Arc::clone(source.webhook.as_ref()?)));
    let hooks: Vec<_> = config.sources.iter().filter_map(webhook).collect();
    let public_url = config.listen.public_url.clone();
    (!hooks.is_empty()).then(|| HookDesk::open(hooks, around.clock.clone(), public_url))
}

/// Ends the alerts of webhooks that are configured no more: nobody else would.
pub(super) async fn end_gone_hooks(config: &Config, around: &Surroundings) -> Result<(), CheckpointError> {
    let hooked = config.sources.iter().filter(|source| source.webhook.is_some());
    let kept: Vec<String> = hooked.map(|source| alert(&source.name)).collect();
    around.store.call(move |checkpoint| checkpoint.end_alerts_but(&alert(""), &kept)).await
}

/// Why a delivery is not kept.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("its body was not taken")]
    NoBody { no_body: NoBody, is_proven: bool },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{}", report::chain(.0))]
    Inbox(#[from] InboxError),
    #[error("the inbox is not open")]
    NoInbox,
    #[error("too many deliveries are to be looked at")]
    Crowded(#[from] Crowded),
}

impl Trouble {
    const fn reason(&self) -> Reason {
        match self {
            Self::NoBody { no_body: NoBody::TooLarge, .. } | Self::Refused(Refused::TooLarge { .. }) => {
                Reason::TooLarge
            }
            Self::NoBody { no_body: NoBody::TooSlow | NoBody::Broken, .. } => Reason::Incomplete,
            Self::Refused(Refused::Unverified(_)) => Reason::Unverified,
            Self::Refused(Refused::Malformed(_)) => Reason::Malformed,
            Self::Inbox(_) | Self::NoInbox => Reason::Busy,
            Self::Crowded(_) | Self::NoBody { no_body: NoBody::NoRoom, .. } => Reason::Crowded,
        }
    }

    fn reception(&self) -> Reception {
        match self {
            Self::Crowded(_) | Self::Inbox(_) | Self::NoInbox | Self::NoBody { no_body: NoBody::NoRoom, .. } => {
                Reception::Busy
            }
            // as where there is no such hook
            Self::NoBody { is_proven: false, .. } | Self::Refused(Refused::Unverified(_)) => Reception::Forged,
            Self::NoBody { no_body, is_proven: true } => Reception::NoBody(*no_body),
            Self::Refused(Refused::TooLarge { .. }) => Reception::NoBody(NoBody::TooLarge),
            Self::Refused(Refused::Malformed(what)) => Reception::Malformed(what.clone()),
        }
    }
}

/// The id of a delivery, where the sender has signed one with it.
fn delivery_id<'a>(webhook: &Webhook, head: &'a PostedHead) -> Option<&'a str> {
    if !matches!(webhook.verification, Verification::Standard(_)) {
        return None;
    }
    let named = |name| head.headers.get(name)?.to_str().ok();
    named("webhook-id").or_else(|| named("svix-id"))
}

fn inbox_events(event: Event) -> Vec<InboxEvent> {
    let Event { key, kind } = event;
    match kind {
        EventKind::Changed => vec![InboxEvent::Hint { key, is_deleted: false }],
        EventKind::Deleted => vec![InboxEvent::Hint { key, is_deleted: true }],
        EventKind::MergedInto { winner } => {
            vec![InboxEvent::Hint { key, is_deleted: true }, InboxEvent::Hint { key: winner, is_deleted: false }]
        }
        EventKind::Whole(record) => vec![InboxEvent::Whole { key, record: record.to_string().into_bytes() }],
        EventKind::WholeDeleted { record } => {
            vec![InboxEvent::WholeDeleted { key, record: record.map(|record| record.to_string().into_bytes()) }]
        }
    }
}
