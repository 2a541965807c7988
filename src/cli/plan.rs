//! `plan`: what `sync` would do. It does the same on a copy of the checkpoint, up to the calls: there it sends nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::checkpoint::{
    Checkpoint, DeedCount, DeedState, DueContacts, DueGroup, OpenOptions, PageMode, RejectionRow, SendRules, Store,
};
use crate::config::Config;
use crate::contact::{Catalog, Field};
use crate::daemon::attend::fetch_wanted;
use crate::daemon::compose::{self, Surroundings};
use crate::daemon::cycle::{CycleParts, CycleReport, Feed, Reach};
use crate::daemon::feeds::note_configured;
use crate::daemon::lifecycle::{self, Stop};
use crate::daemon::sender::Line;
use crate::plan::balance::Balance;
use crate::plan::batch::Route;
use crate::plan::deed::DeedKind;

use super::estimate::{DEED_MEMBERS, calls_of, time_of};
use super::plan_words::show;
use super::segments::FieldNames;
use super::session::{self, Role};
use super::sync::read_all;
use super::{Context, Exit, Failure};

pub(super) async fn plan(context: &Context, source: Option<&str>, detailed: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let chosen = session::choose(&config, source)?;
    let Stop { soft: stop, .. } = lifecycle::stop_on_signals(config.shutdown_timeout)
        .map_err(|error| Failure::plain(anyhow::Error::new(error).context("cannot watch signals")))?;
    let around = session::with_crms(&config, session::open(&config, &Role::Beside)?);
    let catalog = match compose::connect(&config, &around, false) {
        Ok(account) => compose::load_catalog(&config, &account.client, &around.store).await?,
        Err(_) => Catalog::empty(),
    };
    // tokens are renewed in the checkpoint itself: those of the copy are lost with it
    let feeds = session::build_feeds(&config, &chosen, &catalog, &around).await?;
    let now = around.clock.now();
    let (waiting, _) = around.store.call(move |checkpoint| checkpoint.count_open(now, &SendRules::default())).await?;
    let directory = around.store.call(|checkpoint| checkpoint.copy_for_rehearsal()).await?;
    let copy = Surroundings { store: open_copy(&config, &around, directory.path())?, ..around.clone() };
    note_configured(&config, &copy.store).await?;
    let mut outlook = Outlook { waiting, names: FieldNames::of(&config), ..Outlook::default() };
    let read = read((context, &config), &feeds, &copy, &stop).await;
    session::finish_refreshes(&around, None).await;
    for report in read? {
        outlook.add(&feeds, report);
    }
    let settings = compose::send_settings(&config);
    let due = copy.store.call(move |checkpoint| {
        let mut rules = settings.rules();
        for (name, _) in &settings.forms {
            rules.forms.insert(checkpoint.load_source(name)?.id);
        }
        let due = checkpoint.count_due(now, &rules)?;
        Ok((due, checkpoint.load_status()?.deeds, checkpoint.load_rejections()?))
    });
    let (contacts, deeds, rejections) = due.await?;
    outlook.rejections = rejections.into_iter().filter(|row| !row.ignored).collect();
    outlook.add_deeds(&deeds);
    outlook.add_contacts(contacts, config.reteno.batch_contacts_max as u64);
    show(context, &outlook, config.reteno.posts_in_flight);
    let is_work = outlook.calls > 0 || outlook.verdicts.iter().any(|verdict| verdict.holds) || waiting > 0;
    Ok(if detailed && is_work { Exit::Changes } else { Exit::Done })
}

/// Opens the copy as a sender does: an older copy is taken for what it is there, too.
fn open_copy(config: &Config, around: &Surroundings, directory: &std::path::Path) -> Result<Store, Failure> {
    let options = OpenOptions {
        dir: directory.to_owned(),
        key: session::load_key()?,
        sender: Some(format!("`reteno-sync plan` (process {})", std::process::id())),
        create: false,
        now: around.clock.now(),
        import_age_max: config.reteno.import_age_max,
    };
    Ok(Store::share(Checkpoint::open(&options, &around.random)?.checkpoint))
}

/// Reads as `sync` does.
async fn read(
    (context, config): (&Context, &Config),
    feeds: &[Feed],
    copy: &Surroundings,
    stop: &CancellationToken,
) -> Result<Vec<CycleReport>, Failure> {
    let line = Line::default();
    let parts = CycleParts {
        store: &copy.store,
        clock: &copy.clock,
        line: &line,
        stop,
        mode: PageMode::Apply,
        on_page: &|_| {},
    };
    let mut reports = Vec::new();
    for (_, read) in read_all(feeds, Reach::Changes, &parts, &context.progress).await {
        let report = read?;
        for warning in &report.warnings {
            tracing::warn!(source = report.source, "{warning}");
        }
        reports.push(report);
    }
    for feed in feeds {
        fetch_wanted(feed, copy, (&line, stop), &config.program).await?;
    }
    Ok(reports)
}

/// Contacts and calls of one field.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FieldLoad {
    pub(super) contacts: u64,
    pub(super) calls: u64,
}

/// What the guard says of one verb of one source.
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
    /// What became of each source's records.
    pub(super) balances: Vec<(String, Balance)>,
    pub(super) create: u64,
    pub(super) update: u64,
    /// Of the contacts and of what else is to be done: so many waited before.
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
    /// The first few contacts, with the fields of their calls.
    pub(super) samples: Vec<(String, Vec<Field>)>,
    /// What cannot be sent, and why.
    pub(super) rejections: Vec<RejectionRow>,
    /// What fields are called to people.
    pub(super) names: FieldNames,
}

impl Outlook {
    fn add(&mut self, feeds: &[Feed], report: CycleReport) {
        self.gone += report.balance.gone;
        if let Some(feed) = feeds.iter().find(|feed| feed.name == report.source) {
            self.verdicts.extend(verdicts(feed, &report));
        }
        if !report.by_mapping.is_empty() {
            self.mapping_changes.push(mapping_change(&report));
        }
        self.balances.push((report.source, report.balance));
    }

    fn add_deeds(&mut self, deeds: &[DeedCount]) {
        for DeedCount { kind, state, deeds } in deeds {
            let Some(kind) = DeedKind::from_name(kind).filter(|_| *state != DeedState::Held) else { continue };
            *self.deeds.entry(name_of(kind)).or_default() += deeds;
            self.calls += calls_of(*deeds, if takes_many(kind) { DEED_MEMBERS } else { 1 });
        }
    }

    fn add_contacts(&mut self, contacts: DueContacts, batch_contacts_max: u64) {
        for (DueGroup { is_new, mask, flavor, has_categories }, count) in contacts.groups {
            *(if is_new { &mut self.create } else { &mut self.update }) += count;
            self.events += if flavor.fires { count } else { 0 };
            // categories have a call of their own for each contact
            let mut singles = if has_categories { count } else { 0 };
            let calls = match flavor.route {
                Route::Form => {
                    self.opt_ins += count;
                    singles = 0;
                    count
                }
                Route::Categories => 0,
                Route::Fields | Route::Upload => calls_of(count, batch_contacts_max),
            };
            self.calls += calls + singles;
            let of_categories = (singles > 0).then_some(&Field::Subscriptions);
            for field in mask.iter().filter(|field| field.is_bulk() || singles == 0).chain(of_categories) {
                let load = self.by_field.entry(*field).or_default();
                load.contacts += count;
                load.calls += if *field == Field::Subscriptions { singles } else { calls };
            }
        }
        self.samples = contacts.samples;
    }

    pub(super) fn time(&self, posts_in_flight: usize) -> Duration {
        time_of(self.calls, posts_in_flight)
    }
}

/// What users call it.
const fn name_of(kind: DeedKind) -> &'static str {
    match kind {
        DeedKind::Unsubscribe => "unsubscribe",
        DeedKind::Resubscribe => "subscribe again",
        DeedKind::Detach => "detach from segments",
        DeedKind::Delete => "delete",
        DeedKind::Erase => "erase",
        DeedKind::Learn => "ask for Reteno's id",
    }
}

/// Whether one call does it to many contacts.
const fn takes_many(kind: DeedKind) -> bool {
    match kind {
        DeedKind::Unsubscribe | DeedKind::Resubscribe | DeedKind::Detach | DeedKind::Learn => true,
        DeedKind::Delete | DeedKind::Erase => false,
    }
}

fn verdicts<'a>(feed: &'a Feed, report: &'a CycleReport) -> impl Iterator<Item = Verdict> + 'a {
    report.verdicts.iter().map(|verdict| {
        let bound = feed.policy.guard.bound(verdict.verb);
        let what = match verdict.field {
            Some(field) => format!("{} {field} with one value", verdict.verb.name()),
            None => verdict.verb.name().to_owned(),
        };
        Verdict {
            source: report.source.clone(),
            what,
            contacts: verdict.weight.fresh,
            passed: verdict.weight.passed,
            limit: format!("{} or {} %", bound.contacts, bound.percent),
            holds: verdict.holds,
        }
    })
}

fn mapping_change(report: &CycleReport) -> MappingChange {
    let mut change = MappingChange { source: report.source.clone(), contacts: 0, fields: BTreeMap::new() };
    for (fields, count) in &report.by_mapping {
        change.contacts += count;
        for field in fields {
            *change.fields.entry(*field).or_default() += count;
        }
    }
    change
}
