//! `plan`: what `sync` would do. Reads and decides the same, writes nothing, sends nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::checkpoint::{PageMode, Preview, SendRules};
use crate::config::Config;
use crate::contact::{Catalog, Field};
use crate::daemon::compose;
use crate::daemon::cycle::{CycleParts, CycleReport, Feed, Reach};
use crate::daemon::sender::{Line, SendSettings};
use crate::plan::Lane;
use crate::plan::guard::Verb;

use super::estimate::{DEED_MEMBERS, calls_of, time_of};
use super::plan_words::show;
use super::segments::FieldNames;
use super::session::{self, Role};
use super::sync::read_all;
use super::{Context, Exit, Failure};

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
    let mut outlook = Outlook { names: FieldNames::of(&config), ..Outlook::default() };
    for (feed, (_, read)) in feeds.iter().zip(read_all(&feeds, Reach::Changes, &parts, &context.progress).await) {
        let report = read?;
        for warning in &report.warnings {
            tracing::warn!(source = report.source, "{warning}");
        }
        tracing::info!(source = report.source, "{}", report.balance);
        outlook.add(&config, feed, report);
    }
    outlook.close(&config);
    let now = around.clock.now();
    (outlook.waiting, _) =
        around.store.call(move |checkpoint| checkpoint.count_open(now, &SendRules::default())).await?;
    show(context, &outlook, config.reteno.posts_in_flight);
    let is_work = is_older_copy || outlook.waiting > 0 || !outlook.is_empty();
    Ok(if detailed && is_work { Exit::Changes } else { Exit::Done })
}

/// Contacts and calls of one field.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FieldLoad {
    pub(super) contacts: u64,
    pub(super) calls: u64,
}

/// What the guard would say of one verb of one source.
pub(super) struct Verdict {
    pub(super) source: String,
    pub(super) what: String,
    pub(super) contacts: u64,
    pub(super) passed: u64,
    pub(super) limit: String,
    pub(super) holds: bool,
}

/// What a changed mapping makes due of contacts that are known.
pub(super) struct MappingChange {
    pub(super) source: String,
    pub(super) contacts: u64,
    pub(super) fields: BTreeMap<Field, u64>,
}

/// What would come of a `sync`.
#[derive(Default)]
pub(super) struct Outlook {
    pub(super) preview: Preview,
    pub(super) create: u64,
    pub(super) update: u64,
    pub(super) waiting: u64,
    pub(super) gone: u64,
    /// Opt-outs, deletions and the like, by what users call them.
    pub(super) deeds: BTreeMap<&'static str, u64>,
    pub(super) calls: u64,
    pub(super) by_field: BTreeMap<Field, FieldLoad>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) mapping_changes: Vec<MappingChange>,
    /// New contacts for which Reteno would make an event, and those that would get the double opt-in.
    pub(super) events: u64,
    pub(super) opt_ins: u64,
    /// What fields are called to people.
    pub(super) names: FieldNames,
    /// Contacts by set of fields, of all sources but forms.
    masks: BTreeMap<Vec<Field>, u64>,
}

impl Outlook {
    fn add(&mut self, config: &Config, feed: &Feed, report: CycleReport) {
        let settings = compose::send_settings(config);
        let mut created = 0;
        for ((is_new, mask), count) in &report.preview.by_mask {
            *(if *is_new { &mut created } else { &mut self.update }) += count;
            for field in mask {
                self.by_field.entry(*field).or_default().contacts += count;
            }
            if feed.policy.is_form {
                self.opt_ins += count;
                self.calls += count;
            } else {
                *self.masks.entry(mask.clone()).or_default() += count;
            }
        }
        self.create += created;
        self.gone += report.balance.gone;
        if !feed.policy.is_form && fires(&settings, &report) {
            self.events += created;
        }
        self.add_deeds(&report.preview);
        self.verdicts.extend(verdicts(feed, &report));
        if report.is_mapping_new && report.preview.by_mask.keys().any(|(is_new, _)| !is_new) {
            self.mapping_changes.push(mapping_change(&report));
        }
        self.preview.add(report.preview);
    }

    fn add_deeds(&mut self, preview: &Preview) {
        let of_verb = |verb: Verb| preview.by_verb.get(&verb).copied().unwrap_or(0);
        let deeds = [
            ("unsubscribe", preview.opt_outs + of_verb(Verb::Unsubscribe)),
            ("subscribe again", preview.raises),
            ("delete", of_verb(Verb::Delete)),
            ("erase", of_verb(Verb::Erase)),
        ];
        for (deed, count) in deeds.into_iter().filter(|(_, count)| *count > 0) {
            *self.deeds.entry(deed).or_default() += count;
        }
    }

    /// Counts the calls, once everything has been added.
    fn close(&mut self, config: &Config) {
        for (mask, count) in &self.masks {
            // categories have a call of their own for each contact
            let singles = if mask.contains(&Field::Subscriptions) { *count } else { 0 };
            let bulk = if mask.iter().any(|field| field.is_bulk()) {
                calls_of(*count, config.reteno.batch_contacts_max as u64)
            } else {
                0
            };
            self.calls += bulk + singles;
            for field in mask {
                let calls = if *field == Field::Subscriptions { singles } else { bulk };
                self.by_field.entry(*field).or_default().calls += calls;
            }
        }
        for (deed, count) in &self.deeds {
            let in_a_call = if matches!(*deed, "delete" | "erase") { 1 } else { DEED_MEMBERS };
            self.calls += calls_of(*count, in_a_call);
        }
    }

    fn is_empty(&self) -> bool {
        self.preview.by_mask.is_empty() && self.deeds.is_empty()
    }

    pub(super) fn time(&self, posts_in_flight: usize) -> Duration {
        time_of(self.calls, posts_in_flight)
    }
}

fn fires(settings: &SendSettings, report: &CycleReport) -> bool {
    let rules = settings.rules();
    if report.lane.is_some_and(Lane::is_bulk) { rules.fires_in_full_reads } else { rules.fires }
}

fn verdicts<'a>(feed: &'a Feed, report: &'a CycleReport) -> impl Iterator<Item = Verdict> + 'a {
    report.forecasts.iter().map(|forecast| {
        let bound = feed.policy.guard.bound(forecast.verb);
        let what = match forecast.field {
            Some(field) => format!("{} {field} with one value", forecast.verb.name()),
            None => forecast.verb.name().to_owned(),
        };
        Verdict {
            source: report.source.clone(),
            what,
            contacts: forecast.weight.fresh,
            passed: forecast.weight.passed,
            limit: format!("{} or {} %", bound.contacts, bound.percent),
            holds: forecast.holds,
        }
    })
}

fn mapping_change(report: &CycleReport) -> MappingChange {
    let mut change = MappingChange { source: report.source.clone(), contacts: 0, fields: BTreeMap::new() };
    for ((_, mask), count) in report.preview.by_mask.iter().filter(|((is_new, _), _)| !is_new) {
        change.contacts += count;
        for field in mask {
            *change.fields.entry(*field).or_default() += count;
        }
    }
    change
}
