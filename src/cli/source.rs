//! `source show` and `source test`: how a source is read, and what one page of it comes to.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, SourceConfig, SourceKind};
use crate::contact::{Catalog, Contact, DateFaults, Field, Mapped, ResolvedMapping, Wanted};
use crate::daemon::compose;
use crate::daemon::consents::unclear_consents;
use crate::report;
use crate::source::webhook::Verification;
use crate::source::{From, Item, Page, Source, SourceError, presets};

use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

/// Contacts that a test shows.
const SHOWN: usize = 3;

/// The source as all layers together say it; of a preset that nobody has configured its text.
pub(super) fn show(context: &Context, name: &str) -> Result<Exit, Failure> {
    let table = if Path::new(&context.config).exists() || presets::find(name).is_none() {
        let problems = |problems| Failure::of(Exit::Configuration, problems, None);
        config::effective_source(&context.config, session::variables(), name).map_err(problems)?
    } else {
        None
    };
    match (table, presets::find(name)) {
        (Some(table), _) => match context.output {
            Output::Json => report::say_json(&serde_json::json!(table)),
            Output::Text => {
                let text = toml::to_string_pretty(&toml::Table::from_iter([(
                    "source".to_owned(),
                    toml::Value::Table(toml::Table::from_iter([(name.to_owned(), toml::Value::Table(table))])),
                )]));
                report::say(text.unwrap_or_default().trim_end());
            }
        },
        (None, Some(preset)) => report::say(preset.trim_end()),
        (None, None) => {
            let hint = format!(
                "name a source of the configuration, or one of: {}",
                presets::names().collect::<Vec<_>>().join(", ")
            );
            return Err(Failure::of(Exit::Configuration, anyhow::anyhow!("there is no source {name}"), Some(hint)));
        }
    }
    Ok(Exit::Done)
}

/// What a test found.
struct Tried {
    /// The first contacts, each with its CRM id.
    contacts: Vec<(String, Vec<(Field, Wanted)>)>,
    records: u64,
    left_out: u64,
    deleted: u64,
    rejected: Vec<String>,
    /// Records whose consent is neither a yes nor a no, by the class of its value.
    unclear_consents: BTreeMap<&'static str, u64>,
    /// Change times that are not believed.
    date_faults: DateFaults,
    /// That its days are read on the clock of UTC.
    clock_doubt: Option<String>,
    /// Whether the page leads to another one, where that can be told.
    has_next: Option<bool>,
}

/// Reads one page, and shows what its first records become.
pub(super) async fn test(context: &Context, name: &str, show_values: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let chosen = session::choose(&config, Some(name))?;
    let around = session::open(&config, &Role::Beside)?;
    let catalog = match compose::connect(&config, &around, false) {
        Ok(account) => compose::load_catalog(&config, &account.client, &around.store).await?,
        Err(_) => Catalog::empty(),
    };
    let feed = session::build_feeds(&config, &chosen, &catalog, &around).await?.remove(0);
    let (items, has_next) = sample(&feed.source).await.map_err(|error| {
        let hint = error.hint().map(|hint| hint.replace("NAME", name));
        Failure::of(Exit::Failed, error, hint)
    })?;
    let clock_doubt = chosen[0].clock_doubt(&catalog);
    let present = around.clock.now().plus(feed.source.lag()).0;
    let tried = Tried { clock_doubt, has_next, ..try_items(&feed.mapping, items, present) };
    tell(context, name, &tried, show_values);
    if context.output == Output::Text {
        let words = webhook_words(&config, chosen[0]);
        if !words.is_empty() {
            report::say(&words);
        }
    }
    Ok(if tried.contacts.is_empty() && tried.records > 0 { Exit::Failed } else { Exit::Done })
}

/// The items of the first page; of an API also whether it leads to another one.
async fn sample(source: &Source) -> Result<(Vec<Item>, Option<bool>), SourceError> {
    let stop = CancellationToken::new();
    if let Source::Http(source) = source {
        return source.sample(&stop).await.map(|(page, has_next)| (page.items, Some(has_next)));
    }
    let (sender, mut pages) = mpsc::channel::<Page>(1);
    let first = async {
        let mut first = None;
        while let (None, Some(page)) = (&first, pages.recv().await) {
            first = Some(page).filter(|page| !page.items.is_empty());
        }
        stop.cancel();
        first
    };
    match tokio::join!(source.read(From::Beginning, sender, stop.clone()), first) {
        (_, Some(first)) => Ok((first.items, None)),
        (Ok(_) | Err(SourceError::Stopped), None) => Ok((Vec::new(), None)),
        (Err(error), None) => Err(error),
    }
}

fn try_items(mapping: &ResolvedMapping, items: Vec<Item>, present: i64) -> Tried {
    let mut tried = Tried {
        contacts: Vec::new(),
        records: 0,
        left_out: 0,
        deleted: 0,
        rejected: Vec::new(),
        unclear_consents: BTreeMap::new(),
        has_next: None,
        clock_doubt: None,
        date_faults: DateFaults::default(),
    };
    for item in items {
        match item {
            Item::Record { record, place } => {
                tried.records += 1;
                tried.date_faults.believe(mapping.dating(&record), present, || place.to_string());
                let mapped = mapping.map(&record);
                if let Ok(Mapped::Contact(Contact { unclear_consent: Some(class), .. })) = &mapped {
                    *tried.unclear_consents.entry(class.text()).or_default() += 1;
                }
                match mapped {
                    Ok(Mapped::Contact(contact)) if tried.contacts.len() < SHOWN => {
                        tried.contacts.push((contact.key, contact.fields));
                    }
                    Ok(Mapped::Contact(_)) => {}
                    Ok(Mapped::Filtered { .. }) => tried.left_out += 1,
                    Err(rejection) => {
                        let reasons: Vec<String> = rejection.reasons.iter().map(ToString::to_string).collect();
                        tried.rejected.push(format!("{place}: {}", reasons.join("; ")));
                    }
                }
            }
            Item::Deleted { .. } | Item::Pointed { is_deleted: true, .. } => tried.deleted += 1,
            Item::Pointed { is_deleted: false, .. } => {}
            Item::Malformed { place, reason } => tried.rejected.push(format!("{place}: {reason}")),
        }
    }
    tried
}

fn tell(context: &Context, name: &str, tried: &Tried, show_values: bool) {
    let shown = |wanted: &Wanted| match wanted {
        Wanted::Clear => "(empty)".to_owned(),
        // asked for, on a terminal of theirs: this is not a log
        Wanted::Value(value) if show_values => value.expose().to_owned(),
        Wanted::Value(value) => masked(value.expose()),
    };
    if context.output == Output::Json {
        let contacts: Vec<_> = tried
            .contacts
            .iter()
            .map(|(key, fields)| {
                let fields: serde_json::Map<String, serde_json::Value> =
                    fields.iter().map(|(field, wanted)| (field.to_string(), shown(wanted).into())).collect();
                serde_json::json!({ "key": key, "fields": fields })
            })
            .collect();
        report::say_json(&serde_json::json!({
            "source": name, "records": tried.records, "left_out": tried.left_out, "deleted": tried.deleted,
            "rejected": tried.rejected, "unclear_consents": tried.unclear_consents,
            "change_times": tried.date_faults.words(), "clock_doubt": tried.clock_doubt, "has_next": tried.has_next,
            "contacts": contacts,
        }));
        return;
    }
    report::say(&format!(
        "source {name}: {} records on the first page, {} of them left out by the filter, {} deleted, {} that cannot be sent",
        tried.records,
        tried.left_out,
        tried.deleted,
        tried.rejected.len()
    ));
    for (class, records) in &tried.unclear_consents {
        report::say(&unclear_consents(class, *records));
    }
    if let Some(doubt) = &tried.clock_doubt {
        report::say(doubt);
    }
    match tried.has_next {
        Some(true) => report::say("another page follows"),
        Some(false) => {
            report::say("no other page follows: if there are more contacts, see [pagination] next and has_more");
        }
        None => {}
    }
    for (key, fields) in &tried.contacts {
        let rows: Vec<_> = fields.iter().map(|(field, wanted)| vec![field.to_string(), shown(wanted)]).collect();
        report::say(&format!("\n{}", report::table(&["contact", key], &rows)));
    }
    for words in tried.date_faults.words() {
        report::say(&format!("\n{words}"));
    }
    for reason in tried.rejected.iter().take(SHOWN) {
        report::say(&format!("\ncannot be sent: {reason}"));
    }
    if !show_values && !tried.contacts.is_empty() {
        report::say("\nvalues are masked: --show-values shows them");
    }
}

/// The first letter and the length: enough to see that the right field is read.
fn masked(text: &str) -> String {
    let first: String = text.chars().take(1).collect();
    format!("{first}… ({} characters)", text.chars().count())
}

/// What to register in the CRM, so that it tells of changes at once.
fn webhook_words(config: &Config, source: &SourceConfig) -> String {
    let Some(webhook) = &source.webhook else {
        return match &source.kind {
            SourceKind::Http(_) => format!(
                "\nno webhook: with the secret of [source.{}.webhook] set, changes arrive at once (docs/crms.md)",
                source.name
            ),
            SourceKind::File(_) | SourceKind::Singer(_) | SourceKind::Webhook => String::new(),
        };
    };
    let base = config
        .listen
        .public_url
        .as_ref()
        .map_or_else(|| "https://YOUR-HOST".to_owned(), |url| url.as_str().trim_end_matches('/').to_owned());
    let token = if matches!(webhook.verification, Verification::PathToken(_)) { "/TOKEN" } else { "" };
    let mut words =
        format!("\nwebhook: register {base}/hooks/{}{token} in the CRM (docs/crms.md says where)", source.name);
    if !token.is_empty() {
        words += &["; TOKEN is that of [source.", &source.name, ".webhook]"].concat();
    }
    if config.listen.public_address.is_none() {
        words += "\nlisten.public_address is off: a reverse proxy must pass /hooks/ on to listen.address";
    }
    words
}
