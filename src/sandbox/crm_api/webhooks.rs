//! The webhooks of a sandbox CRM as tests handle them: registering, carrying what is due, counting.

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::clock::Timestamp;
use crate::http::Exchange;

use super::options::{CrmWebhook, Dialect};
use super::outbox::{self, CrmDeliveries, CrmDelivery};
use super::state::State;
use super::{CrmSandbox, delivery};

impl CrmSandbox {
    /// Events from now on go to this webhook too.
    pub fn subscribe(&self, webhook: CrmWebhook) {
        let now = self.now();
        self.state().hooks.add(webhook, None, now);
    }

    /// Whether a webhook with this URL is there and still gets events.
    #[must_use]
    pub fn is_hook_enabled(&self, dialect: Dialect, url: &str) -> bool {
        self.state().hooks.of(dialect).any(|hook| hook.to.url == url && !hook.disabled)
    }

    /// When the next event is due; `None` where none waits.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.state().outbox.next_due()
    }

    /// Events that wait, for their first or a further attempt.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.state().outbox.waiting()
    }

    /// Totals of webhooks.
    #[must_use]
    pub fn deliveries(&self) -> CrmDeliveries {
        self.state().outbox.tally()
    }

    /// Every attempt so far, in order of its end.
    #[must_use]
    pub fn attempts(&self) -> Vec<CrmDelivery> {
        self.state().outbox.attempts()
    }

    /// Sends every event that is due, one after another; a bad answer, or none, has it tried again when its vendor
    /// would. Returns how many requests were made.
    pub async fn deliver_due(&self, via: &dyn Exchange) -> usize {
        self.deliver_due_by(via, 1).await
    }

    /// The same with at most `at_once` requests under way.
    pub async fn deliver_due_by(&self, via: &dyn Exchange, at_once: usize) -> usize {
        let now = self.now();
        let envelopes = {
            let State { outbox, hooks, options, .. } = &mut *self.state();
            delivery::pack(outbox.take_due(now, &options.habits), hooks, options, now)
        };
        let count = envelopes.len();
        let attempts = stream::iter(envelopes).map(|envelope| async move {
            let answer = via.exchange(envelope.request).await;
            let status = answer.ok().map(|answer| answer.status().as_u16());
            self.settle(envelope.parcels, status);
        });
        attempts.buffer_unordered(at_once.max(1)).collect::<Vec<()>>().await;
        count
    }

    fn settle(&self, parcels: Vec<outbox::Parcel>, status: Option<u16>) {
        let now = self.now();
        let State { outbox, hooks, options, .. } = &mut *self.state();
        for parcel in parcels {
            let good = outbox::is_good(parcel.dialect, status);
            hooks.answered(parcel.hook, good, parcel.attempt, now);
            outbox.settle(parcel, status, (now, &options.habits));
        }
    }
}
