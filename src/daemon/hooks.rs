//! What becomes of a delivery: proven and read by its source's description, kept in the inbox, counted; and who is told when
//! only refused ones come.
//!
//! Nothing of a body, a header or a path leaves here, not into a log, a count or an alert. It acts on nothing: see `hints`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use url::Url;

use crate::checkpoint::{CheckpointError, Inbox, InboxError, InboxEvent};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, SourceConfig};
use crate::listener::{Hooks, NoBody, Posted, Reception};
use crate::report;
use crate::source::webhook::{Delivery, Event, EventKind, Refused, Taken, Verification, Webhook};

use super::alarm::Alarm;
use super::compose::Surroundings;

/// Only refused deliveries for so long, and so many of them, are no accident: a secret was changed on one side.
const REFUSED_FOR: Duration = Duration::from_mins(15);
const REFUSED_TIMES: u64 = 5;

/// So many unknown words are told of: a CRM has few, and what comes after them is no news.
const WORDS_TOLD_MAX: usize = 16;

const UNPROVEN: &str = "compare the webhook's secret and address with those in the CRM; the log says why the first was refused. \
                        Reading goes on by schedule";
const UNKEPT: &str = "they cannot be written to inbox.db in the state directory: look at the space on its disk, and at the log. \
                      Senders are told to come again";

/// Takes deliveries for all sources that have a webhook.
pub struct HookDesk {
    hooks: BTreeMap<String, Hook>,
    inbox: Inbox,
    clock: Clock,
    /// How the world reaches the listener.
    public_url: Option<Url>,
}

struct Hook {
    webhook: Arc<Webhook>,
    /// Unknown words that were told of.
    words_told: Mutex<BTreeSet<String>>,
    tally: Tally,
}

/// Deliveries of a source since the start.
#[derive(Debug, Default)]
struct Tally {
    accepted: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
    /// Refused since the last that was accepted.
    in_a_row: AtomicU64,
    /// For which reasons: a bit each. A stranger's deliveries must not keep ours untold.
    told: AtomicU8,
    /// When the first of them came.
    refused_since: AtomicI64,
}

/// Why deliveries are refused. Its word is a label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody knows who sent it.
    Unverified,
    /// It is not in the agreed form.
    Malformed,
    /// It is too long.
    TooLarge,
    /// It came too slowly, or its connection broke.
    Incomplete,
    /// The inbox could not keep it.
    Busy,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Unverified, Self::Malformed, Self::TooLarge, Self::Incomplete, Self::Busy];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::Busy => "busy",
        }
    }

    const fn bit(self) -> u8 {
        1 << self.place()
    }

    const fn place(self) -> usize {
        match self {
            Self::Unverified => 0,
            Self::Malformed => 1,
            Self::TooLarge => 2,
            Self::Incomplete => 3,
            Self::Busy => 4,
        }
    }
}

/// The deliveries of one source since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCount {
    /// The source's name.
    pub source: String,
    /// Kept.
    pub accepted: u64,
    /// Refused, by reason, in the order of [`Reason::ALL`].
    pub refused: Vec<(Reason, u64)>,
}

impl HookDesk {
    /// Takes deliveries for these webhooks (by their sources' names) into `inbox`.
    #[must_use]
    pub fn open(hooks: Vec<(String, Arc<Webhook>)>, inbox: Inbox, clock: Clock, public_url: Option<Url>) -> Arc<Self> {
        let hook = |(name, webhook)| (name, Hook { webhook, words_told: Mutex::default(), tally: Tally::default() });
        Arc::new(Self { hooks: hooks.into_iter().map(hook).collect(), inbox, clock, public_url })
    }

    /// Whether a source has a webhook.
    #[must_use]
    pub fn has(&self, source: &str) -> bool {
        self.hooks.contains_key(source)
    }

    /// For the listener.
    #[must_use]
    pub fn listen(self: &Arc<Self>) -> Hooks {
        let (sizes, takes) = (Arc::clone(self), Arc::clone(self));
        Hooks {
            bytes_max: Arc::new(move |source| Some(sizes.hooks.get(source)?.webhook.body_bytes_max())),
            take: Arc::new(move |posted| {
                let desk = Arc::clone(&takes);
                Box::pin(async move { desk.take(posted).await })
            }),
        }
    }

    async fn take(&self, posted: Posted) -> Reception {
        // the listener has asked for the size of its bodies before
        let Some(hook) = self.hooks.get(&posted.source) else { return Reception::Malformed };
        match self.keep(&hook.webhook, &posted).await {
            Ok(()) => {
                if hook.tally.accept() {
                    tracing::info!(source = posted.source, "deliveries of the webhook are accepted again");
                }
                Reception::Kept
            }
            Err(trouble) => {
                if hook.tally.refuse(trouble.reason(), self.clock.now()) {
                    tracing::warn!(source = posted.source, "a delivery of the webhook is refused: {trouble}");
                }
                trouble.reception()
            }
        }
    }

    async fn keep(&self, webhook: &Webhook, posted: &Posted) -> Result<(), Trouble> {
        let body = posted.body.as_ref().map_err(|no_body| Trouble::NoBody(*no_body))?;
        let delivery = Delivery {
            method: "POST",
            path_token: posted.token.as_deref(),
            url: &self.url_of(posted),
            headers: &posted.headers,
            body,
            now: self.clock.now(),
        };
        let taken = webhook.receive(&delivery)?;
        self.tell_left_out(posted, &taken);
        let events: Vec<InboxEvent> = taken.events.into_iter().flat_map(inbox_events).collect();
        if events.is_empty() {
            // nothing that concerns the source: there is nothing to keep
            return Ok(());
        }
        self.inbox.store(&posted.source, delivery_id(webhook, posted), events).await?;
        Ok(())
    }

    /// What of an accepted delivery is not acted on. Words that the description does not know may be those of another version
    /// of the CRM: each is told once.
    fn tell_left_out(&self, posted: &Posted, taken: &Taken) {
        let source = &posted.source;
        if let (count, Some(reason)) = &taken.refused {
            tracing::warn!(source, "{count} events of a delivery of the webhook are left out: {reason}");
        }
        let Some((word, hook)) = taken.unknown_word.as_ref().zip(self.hooks.get(source)) else { return };
        // nothing else is done while it is held
        let mut told = hook.words_told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < WORDS_TOLD_MAX && told.insert(word.clone()) {
            tracing::warn!(
                source,
                "a delivery of the webhook speaks of {word:?} alone, which is not known: nothing is done"
            );
        }
    }

    /// The URL as the sender saw it: some sign it. Behind a proxy only the configuration knows it.
    fn url_of(&self, posted: &Posted) -> String {
        if let Some(public) = &self.public_url {
            return format!("{}{}", public.as_str().trim_end_matches('/'), posted.target);
        }
        let host = posted.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        format!("https://{host}{}", posted.target)
    }

    /// The deliveries of each source since the start.
    #[must_use]
    pub fn count(&self) -> Vec<HookCount> {
        let count = |(name, hook): (&String, &Hook)| HookCount {
            source: name.clone(),
            accepted: hook.tally.accepted.load(Ordering::Relaxed),
            refused: Reason::ALL
                .into_iter()
                .map(|reason| (reason, hook.tally.refused[reason.place()].load(Ordering::Relaxed)))
                .collect(),
        };
        self.hooks.iter().map(count).collect()
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

fn alert(source: &str) -> String {
    format!("hooks-{source}")
}

/// The inbox and the desk of the configured webhooks; neither where no source has one.
pub(super) async fn open_hooks(
    config: &Config,
    around: &Surroundings,
) -> Result<(Option<Inbox>, Option<Arc<HookDesk>>), CheckpointError> {
    let webhook = |source: &SourceConfig| Some((source.name.clone(), Arc::clone(source.webhook.as_ref()?)));
    let hooks: Vec<_> = config.sources.iter().filter_map(webhook).collect();
    // nobody else would end those of a webhook that is configured no more
    let kept: Vec<String> = hooks.iter().map(|(name, _)| alert(name)).collect();
    around.store.call(move |checkpoint| checkpoint.end_alerts_but(&alert(""), &kept)).await?;
    if hooks.is_empty() {
        return Ok((None, None));
    }
    let clock = around.clock.clone();
    let inbox = around.store.call(move |checkpoint| checkpoint.open_inbox(&clock)).await?;
    let desk = HookDesk::open(hooks, inbox.clone(), around.clock.clone(), config.listen.public_url.clone());
    Ok((Some(inbox), Some(desk)))
}

/// Why a delivery is not kept.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("its body was not taken")]
    NoBody(NoBody),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{}", report::chain(.0))]
    Inbox(#[from] InboxError),
}

impl Trouble {
    const fn reason(&self) -> Reason {
        match self {
            Self::NoBody(NoBody::TooLarge) | Self::Refused(Refused::TooLarge { .. }) => Reason::TooLarge,
            Self::NoBody(NoBody::TooSlow | NoBody::Broken) => Reason::Incomplete,
            Self::Refused(Refused::Unverified(_)) => Reason::Unverified,
            Self::Refused(Refused::Malformed(_)) => Reason::Malformed,
            Self::Inbox(_) => Reason::Busy,
        }
    }

    const fn reception(&self) -> Reception {
        match self {
            Self::NoBody(no_body) => Reception::NoBody(*no_body),
            Self::Refused(Refused::TooLarge { .. }) => Reception::NoBody(NoBody::TooLarge),
            Self::Refused(Refused::Unverified(_)) => Reception::Forged,
            Self::Refused(Refused::Malformed(_)) => Reception::Malformed,
            Self::Inbox(_) => Reception::Busy,
        }
    }
}

impl Tally {
    /// Counts one; true where others were refused before it.
    fn accept(&self) -> bool {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.told.store(0, Ordering::Relaxed);
        self.in_a_row.swap(0, Ordering::Relaxed) > 0
    }

    /// Counts one; true where it is the first for this reason since one was accepted.
    fn refuse(&self, reason: Reason, now: Timestamp) -> bool {
        self.refused[reason.place()].fetch_add(1, Ordering::Relaxed);
        if self.in_a_row.fetch_add(1, Ordering::Relaxed) == 0 {
            self.refused_since.store(now.0, Ordering::Relaxed);
        }
        let bit = reason.bit();
        self.told.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Whether some could not be kept since one was accepted.
    fn is_unkept(&self) -> bool {
        self.told.load(Ordering::Relaxed) & Reason::Busy.bit() != 0
    }

    fn refused_for(&self, now: Timestamp) -> Option<(u64, Duration)> {
        let times = self.in_a_row.load(Ordering::Relaxed);
        (times > 0).then(|| (times, now.since(Timestamp(self.refused_since.load(Ordering::Relaxed)))))
    }
}

/// The id of a delivery, where the sender has signed one with it.
fn delivery_id<'a>(webhook: &Webhook, posted: &'a Posted) -> Option<&'a str> {
    if !matches!(webhook.verification, Verification::Standard(_)) {
        return None;
    }
    let named = |name| posted.headers.get(name)?.to_str().ok();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once_until_a_delivery_is_accepted() {
        let tally = Tally::default();
        let refuse = |reason| tally.refuse(reason, Timestamp(1));
        assert!(refuse(Reason::Unverified) && !refuse(Reason::Unverified));
        assert!(!tally.is_unkept());
        // a full disk is told although a stranger was refused before
        assert!(refuse(Reason::Busy) && !refuse(Reason::Busy) && !refuse(Reason::Unverified));
        assert!(tally.is_unkept());
        assert!(tally.accept() && !tally.accept());
        assert!(refuse(Reason::Busy));
    }
}
