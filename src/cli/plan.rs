//! `plan`: what `sync` would do. Reads and decides the same, writes nothing, sends nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::checkpoint::{PageMode, Preview, SendRules};
use crate::contact::{Catalog, Field};
use crate::daemon::compose;
use crate::daemon::cycle::CycleParts;
use crate::daemon::sender::Line;
use crate::report;

use super::session::{self, Role};
use super::sync::read_all;
use super::{Context, Exit, Failure, Output};

/// How long an import takes, for the estimate: Reteno says "up to minutes".
const IMPORT_USUAL: Duration = Duration::from_secs(30);

pub(super) async fn plan(context: &Context, source: Option<&str>, detailed: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let chosen = session::choose(&config, source)?;
    let (around, is_older_copy) = session::open_noting_age(&config, &Role::Beside)?;
    let catalog = match compose::connect(&config, &around, false) {
        Ok(account) => compose::load_catalog(&config, &account.client, &around.store).await?,
        Err(_) => Catalog::empty(),
    };
    let feeds = session::build_feeds(&config, &chosen, &catalog, &around).await?;
    let (stop, line) = (CancellationToken::new(), Line::default());
    let parts = CycleParts {
        store: &around.store,
        clock: &around.clock,
        line: &line,
        stop: &stop,
        mode: PageMode::Preview,
        on_page: &|_| {},
    };
    let mut preview = Preview::default();
    for (_, read) in read_all(&feeds, &parts, &context.progress).await {
        let report = read?;
        for warning in &report.warnings {
            tracing::warn!(source = report.source, "{warning}");
        }
        tracing::info!(source = report.source, "{}", report.balance);
        preview.add(report.preview);
    }
    let now = around.clock.now();
    let (waiting, _) = around.store.call(move |checkpoint| checkpoint.count_open(now, &SendRules::default())).await?;
    let verbs = Verbs::of(&preview, config.reteno.batch_contacts_max);
    show(context, &preview, &verbs, waiting, config.reteno.posts_in_flight);
    let is_work = is_older_copy || waiting > 0 || !preview.by_mask.is_empty();
    Ok(if detailed && is_work { Exit::Changes } else { Exit::Done })
}

/// Counts by what would happen.
struct Verbs {
    create: u64,
    update: u64,
    calls: u64,
    by_field: BTreeMap<Field, u64>,
}

impl Verbs {
    fn of(preview: &Preview, contacts_max: usize) -> Self {
        let mut verbs = Self { create: 0, update: 0, calls: 0, by_field: BTreeMap::new() };
        let mut by_mask: BTreeMap<&[Field], u64> = BTreeMap::new();
        for ((is_new, mask), count) in &preview.by_mask {
            if *is_new {
                verbs.create += count;
            } else {
                verbs.update += count;
            }
            *by_mask.entry(mask).or_default() += count;
            for field in mask {
                *verbs.by_field.entry(*field).or_default() += count;
            }
        }
        verbs.calls = by_mask.values().map(|count| count.div_ceil(contacts_max.max(1) as u64)).sum();
        verbs
    }

    fn time(&self, posts_in_flight: usize) -> Duration {
        let rounds = self.calls.div_ceil(posts_in_flight.max(1) as u64);
        IMPORT_USUAL.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
    }
}

fn show(context: &Context, preview: &Preview, verbs: &Verbs, waiting: u64, posts_in_flight: usize) {
    let names = |mask: &[Field]| mask.iter().map(ToString::to_string).collect::<Vec<_>>();
    let time = verbs.time(posts_in_flight);
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({
            "create": verbs.create,
            "update": verbs.update,
            "already_waiting": waiting,
            "calls": verbs.calls,
            "estimated_seconds": time.as_secs(),
            "fields": verbs.by_field.iter().map(|(field, count)| (field.to_string(), *count)).collect::<BTreeMap<_, _>>(),
            "samples": preview.samples.iter().map(|(key, mask)| serde_json::json!({"key": key, "fields": names(mask)})).collect::<Vec<_>>(),
        })),
        Output::Text => {
            let rows = [
                ("create", verbs.create),
                ("update", verbs.update),
                ("already waiting", waiting),
                ("calls", verbs.calls),
            ]
            .map(|(verb, count)| vec![verb.to_owned(), count.to_string()]);
            report::say(&report::table(&["contacts to", ""], &rows));
            if verbs.calls > 0 {
                report::say(&format!("about {} until Reteno has applied it", report::span(time)));
                let rows: Vec<_> =
                    verbs.by_field.iter().map(|(f, count)| vec![f.to_string(), count.to_string()]).collect();
                report::say(&format!("\n{}", report::table(&["field", "contacts"], &rows)));
                let rows: Vec<_> =
                    preview.samples.iter().map(|(key, mask)| vec![key.clone(), names(mask).join(", ")]).collect();
                report::say(&format!("\n{}", report::table(&["sample", "fields to be sent"], &rows)));
            }
        }
    }
}
