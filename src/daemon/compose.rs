//! Makes the parts from the configuration, and bridges the words of one to the words of another.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use secrecy::SecretString;

use crate::checkpoint::{CheckpointError, CheckpointVault, Store};
use crate::clock::Clock;
use crate::config::{self, Config, MissingCredentials, SourceConfig, SourceKind};
use crate::contact::{AdditionalField, Catalog, Field, FieldKind, FieldProblem, UnknownField};
use crate::http::Exchange;
use crate::http::paced::Paced;
use crate::http::socket::{HttpExchange, Timeouts};
use crate::oauth::{App, Authorizer, ClientAuth, Mandate, Refresher, TokenEndpoint};
use crate::plan::upload::FileBounds;
use crate::random::Random;
use crate::reteno::body::DedupeOn;
use crate::reteno::start::SubscribeOptions;
use crate::reteno::wire::{CatalogField, FieldKind as WireKind};
use crate::reteno::{AccessTokens, Client, NoToken, RetenoError};
use crate::source::{FileSource, Format, SingerOptions, SingerSource, Source, singer};

use super::crms::CrmAccount;
pub use super::crms::connect_source;
use super::cycle::Feed;
use super::links::CrmLinks;
use super::mapping::{build_ending, build_mapping, build_policy};
use super::proof::{AccountChange, ProvingVault};
use super::sender::{RestoreDeleted, SendSettings, UploadSettings};

/// No answer of Reteno's is longer: the mapping of 3000 contacts takes about 200 KB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Reteno's bound on a file is 100 MB.
const FILE_BYTES_MAX: usize = 100_000_000;
/// More in one file would take hundreds of megabytes of memory while it is written; fewer are more calls.
const FILE_CONTACTS_MAX: usize = 50_000;
/// How long a tap may take to end after TERM; below systemd's own patience.
const TAP_GRACE: std::time::Duration = std::time::Duration::from_secs(10);

/// What every part needs.
#[derive(Clone)]
pub struct Surroundings {
    /// The checkpoint.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// The CRMs whose tokens this process keeps; a source that is not among them gets tokens of its own.
    pub crms: Vec<Arc<CrmAccount>>,
}

/// One account of Reteno's, ready to be called.
pub struct Account {
    /// The client.
    pub client: Arc<Client>,
    /// The tokens.
    pub refresher: Refresher,
    /// Completes an authorization.
    pub authorizer: Arc<Authorizer>,
    /// Where a pending authorization is noted.
    pub desk: CheckpointVault,
}

/// Builds the client, the refresher and the authorizer of the configured account. `allow_new_account`: what is
/// authorized may lead to another account than the first; only where nobody sends, and this process holds the lock.
pub fn connect(config: &Config, around: &Surroundings, allow_new_account: bool) -> Result<Account, MissingCredentials> {
    let reteno = &config.reteno;
    let timeouts =
        Timeouts { connect: reteno.connect_timeout, read: reteno.read_timeout, total: reteno.request_timeout };
    let wire: Arc<dyn Exchange> = Arc::new(HttpExchange::new(timeouts, ANSWER_BYTES_MAX));
    let app = Arc::new(build_app(reteno)?);
    let rate = NonZeroU32::new(reteno.requests_per_second).unwrap_or(NonZeroU32::MIN);
    let paced: Arc<dyn Exchange> = Arc::new(Paced::new(Arc::clone(&wire), rate));
    let endpoint = TokenEndpoint::new(wire, app, around.clock.clone());
    let desk = CheckpointVault::on(around.store.clone(), around.random.clone());
    let lock_path = config.state_dir.join("refresh.lock");
    let refresher =
        Refresher::new(endpoint.clone(), desk.shared(), lock_path.clone(), around.clock.clone(), around.random.clone());
    let prover = ProvingVault::before(
        desk.clone(),
        Arc::clone(&paced),
        reteno.api_url.clone(),
        around.clone(),
        AccountChange { is_possible: allow_new_account, import_age_max: reteno.import_age_max },
    );
    let mandate =
        Mandate { source: "reteno".to_owned(), allows_new_account: allow_new_account, program: config.program.clone() };
    let authorizer = Authorizer::new(endpoint, Arc::new(prover), lock_path, around.clock.clone(), mandate);
    let tokens = Arc::new(Tokens(refresher.clone()));
    let client = Client::new(paced, reteno.api_url.clone(), tokens, around.clock.clone(), around.random.clone());
    Ok(Account { client: Arc::new(client), refresher, authorizer: Arc::new(authorizer), desk })
}

fn build_app(reteno: &config::Reteno) -> Result<App, MissingCredentials> {
    let credentials = reteno.credentials()?;
    let auth = match credentials.client_auth {
        config::ClientAuth::Basic => ClientAuth::Basic,
        config::ClientAuth::Params => ClientAuth::Params,
    };
    let client = (credentials.client_id, &credentials.client_secret);
    let urls = (reteno.authorize_url.clone(), reteno.token_url.clone());
    let app = App::new(client, auth, urls.0, urls.1, &reteno.redirect.text);
    Ok(app.expect("the configuration has parsed the same text as a URL"))
}

struct Tokens(Refresher);

impl AccessTokens for Tokens {
    fn access_token(&self) -> BoxFuture<'_, Result<SecretString, NoToken>> {
        Box::pin(async { self.0.access_token().await.map_err(translate) })
    }

    fn refused<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<SecretString, NoToken>> {
        Box::pin(async { self.0.refused(token).await.map_err(translate) })
    }
}

fn translate(missing: crate::oauth::NoToken) -> NoToken {
    match missing {
        crate::oauth::NoToken::NeedsAuthorization => NoToken::NeedsAuthorization,
        crate::oauth::NoToken::Temporarily(why) => NoToken::Temporarily(why),
    }
}

/// What the operator may set about sending, as the sender takes it.
#[must_use]
pub fn send_settings(config: &Config) -> SendSettings {
    let reteno = &config.reteno;
    SendSettings {
        program: config.program.clone(),
        dedupe_on: match reteno.dedupe_on {
            config::DedupeOn::ExternalCustomerId => DedupeOn::ExternalCustomerId,
            config::DedupeOn::Email => DedupeOn::Email,
            config::DedupeOn::Sms => DedupeOn::Sms,
            config::DedupeOn::EmailOrSms => DedupeOn::EmailOrSms,
        },
        restore_deleted: match reteno.restore_deleted {
            config::RestoreDeleted::Never => RestoreDeleted::Never,
            config::RestoreDeleted::Live => RestoreDeleted::Live,
            config::RestoreDeleted::Always => RestoreDeleted::Always,
        },
        restore_in_full_reads: reteno.restore_in_full_reads,
        event_key: reteno.new_contacts_event.clone(),
        event_in_full_reads: reteno.new_contacts_event_in_full_reads,
        segment_names: config
            .sources
            .iter()
            .flat_map(|source| &source.segments)
            .map(|segment| (Field::segment(&segment.name), segment.name.clone()))
            .collect(),
        endings: config.sources.iter().map(|source| (source.name.clone(), build_ending(source.on_delete))).collect(),
        forms: config.sources.iter().filter_map(form_of).collect(),
        upload: upload_settings(config),
        batch_contacts_max: reteno.batch_contacts_max,
        batch_bytes_max: reteno.batch_bytes_max,
        posts_in_flight: reteno.posts_in_flight,
        import_age_max: reteno.import_age_max,
        import_poll_first: reteno.import_poll_first,
        import_poll_max: reteno.import_poll_max,
    }
}

/// Files, where the configuration asks for them.
fn upload_settings(config: &Config) -> Option<UploadSettings> {
    let load_min = config.upload.contacts_min?;
    let public_url = config.listen.public_url.as_ref()?.to_string();
    config.listen.public_address?;
    let obstacles = config.upload_obstacles();
    let may = |source: &&SourceConfig| obstacles.iter().all(|(name, _)| *name != source.name);
    Some(UploadSettings {
        bounds: FileBounds { load_min, contacts_max: FILE_CONTACTS_MAX, bytes_max: FILE_BYTES_MAX },
        link_lifetime: config.upload.link_lifetime,
        public_url,
        sources: config.sources.iter().filter(may).map(|source| (source.name.clone(), source.contact.len())).collect(),
    })
}

fn form_of(source: &SourceConfig) -> Option<(String, SubscribeOptions)> {
    let form = source.form.as_ref()?;
    let config::FormText { form_type, groups, subscriptions } = form.clone();
    Some((source.name.clone(), SubscribeOptions { form_type, groups, subscriptions }))
}

/// The account's additional fields: asked for, and kept for times when Reteno cannot be asked.
pub async fn load_catalog(config: &Config, client: &Client, store: &Store) -> Result<Catalog, CheckpointError> {
    let fields = match client.address_books().await {
        Ok(fields) => {
            let kept = fields.clone();
            store.call(move |checkpoint| checkpoint.store_catalog(&kept)).await?;
            fields
        }
        Err(error) => {
            let known = store.call(|checkpoint| checkpoint.load_catalog::<CatalogField>()).await?;
            let used = if known.is_some() { "the list of the last time is used" } else { "they are sent as text" };
            tell_old_list("additional fields", &error, used);
            known.unwrap_or_default()
        }
    };
    let catalog: Catalog = fields.into_iter().map(catalog_entry).collect();
    let names_categories = |source: &SourceConfig| {
        source.subscriptions.is_some() || source.form.as_ref().is_some_and(|form| !form.subscriptions.is_empty())
    };
    if !config.sources.iter().any(names_categories) {
        return Ok(catalog);
    }
    Ok(match load_categories(client, store).await? {
        Some(categories) => catalog.with_categories(categories),
        None => catalog,
    })
}

/// The keys of the account's subscription categories: asked for, and kept for times when Reteno cannot be asked.
async fn load_categories(client: &Client, store: &Store) -> Result<Option<BTreeSet<String>>, CheckpointError> {
    match client.subscriptions().await {
        Ok(categories) => {
            let keys: BTreeSet<String> = categories.into_iter().map(|category| category.key).collect();
            let kept = keys.clone();
            store.call(move |checkpoint| checkpoint.store_categories(&kept)).await?;
            Ok(Some(keys))
        }
        Err(error) => {
            tell_old_list("subscription categories", &error, "those of the last time are used");
            store.call(|checkpoint| checkpoint.load_categories()).await
        }
    }
}

/// Before anybody has authorized nothing can be asked for and nothing is sent: that is an alert of its own.
fn tell_old_list(what: &str, error: &RetenoError, used: &str) {
    match error {
        RetenoError::NeedsAuthorization { .. } => tracing::debug!("cannot ask for the {what} ({error}): {used}"),
        RetenoError::Forbidden { .. }
        | RetenoError::WrongAddress { .. }
        | RetenoError::Temporary { .. }
        | RetenoError::Refused { .. }
        | RetenoError::NotBuilt { .. }
        | RetenoError::NotUnderstood { .. } => tracing::warn!("cannot ask for the {what} ({error}): {used}"),
    }
}

fn catalog_entry(field: CatalogField) -> AdditionalField {
    let kind = match field.kind.clone() {
        WireKind::Text => FieldKind::Text,
        WireKind::TextArea => FieldKind::TextArea,
        WireKind::Number => FieldKind::Number,
        WireKind::Decimal => FieldKind::Decimal,
        WireKind::Date => FieldKind::Date,
        WireKind::DateTime => FieldKind::DateTime,
        WireKind::Choice => FieldKind::Combobox(field.allowed_values.clone()),
        WireKind::Choices => FieldKind::CheckboxList(field.allowed_values.clone()),
        WireKind::Tags => FieldKind::Tags,
        WireKind::Unknown(name) => FieldKind::Unknown(name),
    };
    AdditionalField {
        id: field.id,
        key: field.key(),
        name: field.name,
        kind,
        min: field.min,
        max: field.max,
        readonly: field.read_only,
    }
}

/// Where a source is read.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Where a tap keeps its working files.
    pub state_dir: &'a Path,
    /// The clock.
    pub clock: &'a Clock,
    /// The CRMs.
    pub links: &'a CrmLinks,
}

/// A source with its mapping, and the mapped fields that the account does not offer as configured.
#[must_use]
pub fn build_feed(
    source: &SourceConfig,
    identity: config::Identity,
    catalog: &Catalog,
    place: Place<'_>,
) -> (Feed, Vec<UnknownField>) {
    let (mapping, unknown) = build_mapping(source).resolve(catalog);
    let has_additional = mapping.fields().iter().any(|field| matches!(field, Field::Additional(_)))
        || unknown.iter().any(|field| field.problem != FieldProblem::UnknownCategory);
    let has_categories = mapping.fields().contains(&Field::Subscriptions);
    let is_known =
        (catalog.iter().next().is_some() || !has_additional) && (catalog.categories().is_some() || !has_categories);
    let feed = Feed {
        name: source.name.clone(),
        source: build_source(source, place).expecting(mapping.columns()),
        shape: if is_known { mapping.shape() } else { String::new() },
        policy: Arc::new(build_policy(source, identity, &mapping)),
        consent_shape: source.consent.as_ref().map(|consent| format!("{consent:?}")),
        mapping: Arc::new(mapping),
        inbox: None,
    };
    (feed, unknown)
}

fn build_source(source: &SourceConfig, Place { state_dir, clock, links }: Place<'_>) -> Source {
    match &source.kind {
        SourceKind::File(file) => {
            let format = match file.format {
                config::FileFormat::Csv { delimiter } => Format::Csv { delimiter, encoding: file.encoding },
                config::FileFormat::JsonLines => Format::JsonLines,
            };
            Source::File(FileSource::new(file.path.clone(), format, clock.clone()))
        }
        SourceKind::Singer(tap) => {
            let options = SingerOptions {
                source_name: source.name.clone(),
                command: std::iter::once(tap.program.clone()).chain(tap.arguments.iter().cloned()).collect(),
                config: tap.config.clone(),
                catalog: tap.catalog.clone(),
                stream: tap.stream.clone(),
                replication_key: tap.replication_key.clone(),
                replication_method: tap.replication_method.map(|method| match method {
                    config::ReplicationMethod::Incremental => singer::ReplicationMethod::Incremental,
                    config::ReplicationMethod::FullTable => singer::ReplicationMethod::FullTable,
                }),
                catalog_argument: match tap.catalog_argument {
                    config::CatalogArgument::Catalog => singer::CatalogArgument::Catalog,
                    config::CatalogArgument::Properties => singer::CatalogArgument::Properties,
                },
                idle_timeout: tap.idle_timeout,
                term_grace: TAP_GRACE,
                line_bytes_max: tap.line_bytes_max,
                work_dir: state_dir.join("taps").join(&source.name),
                working_directory: tap.working_directory.clone(),
                pass_environment: tap.pass_environment.clone(),
            };
            Source::Singer(Box::new(SingerSource::new(options, clock.clone())))
        }
        SourceKind::Webhook => Source::Pushed,
        SourceKind::Http(_) => Source::Http(links.find(&source.name).expect("every such source was connected").clone()),
    }
}
