//! A source made ready to be read, and what is told of a read: the same for the daemon and for commands that run once.

use std::collections::BTreeMap;

use crate::checkpoint::{CheckpointError, Configured, Hold, Retirement, Store};
use crate::config::{Config, SourceConfig};
use crate::contact::{Catalog, Field, FieldProblem};
use crate::report;
use crate::reteno::body::BATCH_CONTACTS_MAX;
use crate::source::SourceError;

use super::alarm::Alarm;
use super::compose::{self, Place, Surroundings};
use super::cycle::{CycleError, CycleReport, Feed};
use super::links::CrmLinks;
use super::mapping::build_configured;

/// Notes which sources are configured: the contacts of others count for nobody any more, and those of one that is configured
/// again do; and stores which addresses they have, where an older program or another configuration did not. Costs nothing
/// where nothing has changed; else some milliseconds for each 500 contacts, in a transaction each.
pub async fn note_configured(config: &Config, store: &Store) -> Result<(), CheckpointError> {
    let configured = build_configured(&config.sources, config.identity);
    note_retired(&configured, store).await?;
    let mut next = Some(0);
    while let Some(after) = next {
        let configured = configured.clone();
        next = store.call(move |checkpoint| checkpoint.store_known_addresses(&configured, after)).await?;
    }
    Ok(())
}

async fn note_retired(configured: &Configured, store: &Store) -> Result<(), CheckpointError> {
    let mut after = 0;
    loop {
        let configured = configured.clone();
        after = match store.call(move |checkpoint| checkpoint.note_configured(&configured, after)).await? {
            Retirement::Done => return Ok(()),
            Retirement::After(last) => last,
            Retirement::Source { name, is_retired: true } => {
                tracing::warn!(
                    source = name,
                    "the source is not configured any more: its contacts stay in Reteno as they are, and nothing more is \
                     sent of it"
                );
                0
            }
            Retirement::Source { name, is_retired: false } => {
                tracing::info!(source = name, "the source is configured again: all of it is read once");
                0
            }
        };
    }
}

/// The feed of a source; what the account does not offer as it is mapped is an alert.
pub async fn prepare_feed(
    config: &Config,
    source: &SourceConfig,
    catalog: &Catalog,
    (around, links): (&Surroundings, &CrmLinks),
) -> Result<Feed, CheckpointError> {
    let alarm = Alarm::open(around.store.clone(), around.clock.clone());
    let (feed, unknown) = compose::build_feed(
        source,
        config.identity,
        catalog,
        Place { state_dir: &config.state_dir, clock: &around.clock, links },
    );
    let alert = format!("fields-of-{}", source.name);
    // without any list of fields nothing can be said of them
    let is_known = catalog.iter().next().is_some();
    let unknown: Vec<_> =
        unknown.into_iter().filter(|field| is_known || field.problem == FieldProblem::UnknownCategory).collect();
    match unknown.first() {
        Some(first) => {
            let all = unknown.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ");
            let text = format!("source {} maps fields that the account does not offer so: {all}", source.name);
            alarm.raise(&alert, &text, first.problem.hint()).await?;
        }
        None => alarm.end(&alert).await?,
    }
    tell_form(source, catalog, &alarm).await?;
    Ok(feed)
}

/// A form that names a category which the account lacks: Reteno would refuse each of its contacts.
async fn tell_form(source: &SourceConfig, catalog: &Catalog, alarm: &Alarm) -> Result<(), CheckpointError> {
    let alert = format!("form-{}", source.name);
    let named = source.form.iter().flat_map(|form| &form.subscriptions);
    let unknown: Vec<&str> = named
        .filter(|key| catalog.categories().is_some_and(|known| !known.contains(*key)))
        .map(String::as_str)
        .collect();
    if unknown.is_empty() {
        return alarm.end(&alert).await;
    }
    let text = format!(
        "the form of source {} names subscription categories that the account lacks: {}; Reteno refuses its contacts",
        source.name,
        unknown.join(", ")
    );
    let hint = "compare the keys in [source.NAME.form] subscriptions with those in Reteno";
    alarm.raise(&alert, &text, hint).await
}

/// Logs what a read came to, and raises or ends the alert of its source. One that was held by another reader is no
/// trouble: the next cycle reads.
pub async fn tell_read(
    name: &str,
    read: &Result<CycleReport, CycleError>,
    alarm: &Alarm,
    program: &str,
) -> Result<(), CheckpointError> {
    let alert = format!("source-{name}");
    if let Err(CycleError::Source { holds, .. }) = read {
        tell_holds(holds, alarm, program).await?;
    }
    match read {
        Ok(report) => {
            for warning in &report.warnings {
                tracing::warn!(source = name, "{warning}");
            }
            tracing::info!(source = name, full = report.is_full, "{}", report.balance);
            if let Some(words) = words_of_mapping(&report.by_mapping) {
                tracing::info!(source = name, "{words}");
            }
            tell_holds(&report.holds, alarm, program).await?;
            tell_times(name, report, alarm).await?;
            alarm.end(&alert).await
        }
        Err(CycleError::Source { source, .. }) if source.is_temporary() => {
            tracing::info!(source = name, "{source}");
            Ok(())
        }
        Err(error) => {
            let hint = error.hint().unwrap_or_else(|| "the other sources go on; this one is tried again".to_owned());
            alarm.raise(&alert, &report::chain(error), &hint).await
        }
    }
}

/// While change times are not believed, an older record is not told from a newer one by them: `status` shows it until a
/// read of everything has none.
async fn tell_times(name: &str, report: &CycleReport, alarm: &Alarm) -> Result<(), CheckpointError> {
    let alert = format!("times-{name}");
    let words = report.date_faults.words();
    if !words.is_empty() {
        let hint = "compare changed_at of this source with its records, and the CRM's clock with this machine's";
        return alarm.raise(&alert, &format!("source {name}: {}", words.join("; ")), hint).await;
    }
    if report.is_full { alarm.end(&alert).await } else { Ok(()) }
}

/// What a changed mapping made due; `None` where it is nothing.
fn words_of_mapping(by_mapping: &BTreeMap<Vec<Field>, u64>) -> Option<String> {
    let mut by_field: BTreeMap<Field, u64> = BTreeMap::new();
    let (mut contacts, mut calls) = (0, 0);
    for (fields, count) in by_mapping {
        contacts += count;
        calls += count.div_ceil(BATCH_CONTACTS_MAX as u64);
        for field in fields {
            *by_field.entry(*field).or_default() += count;
        }
    }
    let fields: Vec<String> = by_field.iter().map(|(field, count)| format!("{field} of {count}")).collect();
    (contacts > 0).then(|| {
        format!(
            "the mapping has changed: {contacts} contacts become due ({}), in {calls} calls at least",
            fields.join(", ")
        )
    })
}

/// Each list that the guard holds is an alert of its own.
pub(super) async fn tell_holds(holds: &[Hold], alarm: &Alarm, program: &str) -> Result<(), CheckpointError> {
    for hold in holds {
        let text = format!("held: source {} would {}", hold.source, hold.reason);
        let approve = format!("{program} approve {}", hold.id);
        let hint = format!("look at it with `{approve}`, release it with `{approve} --yes`");
        alarm.raise(&format!("hold-{}", hold.id), &text, &hint).await?;
    }
    Ok(())
}

/// What a tap wrote to its log before it died goes to ours, redacted, and nowhere else: the database and the alerts name
/// the outcome only.
pub(super) fn tell_last_words(name: &str, error: &SourceError) {
    let words = error.last_words();
    if let Some(last) = words.last() {
        tracing::warn!(source = name, "the tap's last words: {last}");
    }
    for line in words {
        tracing::debug!(source = name, "the tap: {line}");
    }
}
