//! What `GET /metrics` shows: Prometheus' text format, prefix `reteno_sync_`. Labels name sources, causes and reasons, never
//! a person or a secret. A format of four lines takes no crate.

use std::fmt::Write;
use std::sync::Arc;

use crate::checkpoint::{InboxCount, Repaired, Store};
use crate::clock::{Clock, Timestamp};
use crate::listener::Metrics;
use crate::report;

use super::hooks::{HookCount, HookDesk};

/// The metrics, asked for anew with each request.
pub(super) fn build_metrics(store: &Store, hooks: Option<Arc<HookDesk>>, clock: &Clock) -> Metrics {
    let (store, clock) = (store.clone(), clock.clone());
    Arc::new(move || {
        let (store, hooks, clock) = (store.clone(), hooks.clone(), clock.clone());
        Box::pin(async move {
            let read = async {
                let waiting = match hooks.as_ref().and_then(|hooks| hooks.inbox()) {
                    Some(inbox) => inbox.count().await.unwrap_or_else(|error| {
                        tracing::error!("what waits in the inbox cannot be told: {}", report::chain(&error));
                        Vec::new()
                    }),
                    None => Vec::new(),
                };
                let repaired = store.call(|checkpoint| checkpoint.load_repaired()).await?;
                Ok::<_, crate::checkpoint::CheckpointError>((waiting, repaired))
            };
            match read.await {
                Ok((waiting, repaired)) => {
                    let deliveries = hooks.map(|hooks| hooks.count()).unwrap_or_default();
                    Some(render(&deliveries, &waiting, &repaired, clock.now()))
                }
                Err(error) => {
                    tracing::error!("the metrics cannot be told: {}", report::chain(&error));
                    None
                }
            }
        })
    })
}

/// Pure: the same counts give the same text.
#[must_use]
pub fn render(deliveries: &[HookCount], waiting: &[InboxCount], repaired: &[Repaired], now: Timestamp) -> String {
    let mut text = String::new();
    let accepted = deliveries.iter().map(|count| (vec![("source", count.source.as_str())], count.accepted));
    family(&mut text, ("hook_deliveries_total", "counter", "Deliveries of webhooks that were kept."), accepted);
    let refused = deliveries.iter().flat_map(|count| {
        let labels = |reason: &'static str| vec![("source", count.source.as_str()), ("reason", reason)];
        count.refused.iter().map(move |(reason, times)| (labels(reason.name()), *times))
    });
    family(&mut text, ("hook_refusals_total", "counter", "Deliveries of webhooks that were refused."), refused);
    let left_out = deliveries.iter().map(|count| (vec![("source", count.source.as_str())], count.left_out));
    let help = "Events of kept deliveries that could not be understood.";
    family(&mut text, ("hook_left_out_events_total", "counter", help), left_out);
    let unknown = deliveries.iter().map(|count| (vec![("source", count.source.as_str())], count.unknown));
    let help = "Events of kept deliveries whose word for what happened is not known; nothing is done about them.";
    family(&mut text, ("hook_unknown_events_total", "counter", help), unknown);
    let rows = waiting.iter().map(|count| (vec![("source", count.source.as_str())], count.rows));
    family(&mut text, ("inbox_events", "gauge", "Announced records that wait to be acted on."), rows);
    let ages = waiting.iter().map(|count| (vec![("source", count.source.as_str())], now.since(count.oldest).as_secs()));
    family(&mut text, ("inbox_oldest_seconds", "gauge", "Age of the oldest of them."), ages);
    let repairs =
        repaired.iter().map(|row| (vec![("source", row.source.as_str()), ("cause", row.cause.name())], row.contacts));
    let help = "Contacts that a later way of reading had to repair, by what had missed them.";
    family(&mut text, ("repaired_contacts_total", "counter", help), repairs);
    text
}

fn family<'a>(
    text: &mut String,
    (name, kind, help): (&str, &str, &str),
    samples: impl Iterator<Item = (Vec<(&'static str, &'a str)>, u64)>,
) {
    let name = format!("reteno_sync_{name}");
    // writing to a string cannot fail
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        // names of sources are a-z, 0-9, _ and -; the other labels are words of ours: nothing is to be escaped
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
    }
}
