//! What the commands have in common: the configuration, the checkpoint, the account, the sources.

use std::path::Path;

use crate::checkpoint::{Checkpoint, OpenOptions, Store};
use crate::clock::Clock;
use crate::config::{self, Config, SourceConfig};
use crate::contact::Catalog;
use crate::daemon::alarm::Alarm;
use crate::daemon::compose::{self, Account, Surroundings};
use crate::daemon::crms::{connect_crms, renew_and_tell};
use crate::daemon::cycle::Feed;
use crate::daemon::feeds::prepare_feed;
use crate::daemon::links::CrmLinks;
use crate::daemon::standing;
use crate::random::Random;
use crate::reteno::NoToken;

use super::{Context, Exit, Failure};

/// The configuration, or every problem of it.
pub(super) fn load_config(context: &Context) -> Result<Config, Failure> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let config = config::load(&context.config, variables(), credentials.as_deref().map(Path::new))
        .map_err(|problems| Failure::of(Exit::Configuration, problems, None))?;
    context.log.adopt(&config.log);
    Ok(config)
}

/// The variables of this process that may be configuration.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    // of other programs' variables not even the encoding is our business; a value of ours that is no text will not be
    // one of those accepted
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

/// As whom a command opens the checkpoint.
pub(super) enum Role<'a> {
    /// As the one process that sends, named so to a second one.
    Sender(&'a str),
    /// Beside a sender, making a checkpoint where there is none.
    Beside,
    /// Beside a sender, only where there is one.
    Reader,
}

/// Opens the checkpoint.
pub(super) fn open(config: &Config, role: &Role<'_>) -> Result<Surroundings, Failure> {
    let (clock, random) = (Clock::system(), Random::system());
    let options = OpenOptions {
        dir: config.state_dir.clone(),
        key: load_key()?,
        sender: match role {
            Role::Sender(command) => Some(format!(
                "`reteno-sync {command}` (process {}, version {})",
                std::process::id(),
                env!("CARGO_PKG_VERSION")
            )),
            Role::Beside | Role::Reader => None,
        },
        create: !matches!(role, Role::Reader),
        now: clock.now(),
        import_age_max: config.reteno.import_age_max,
    };
    let opened = Checkpoint::open(&options, &random)?;
    let around = Surroundings { store: Store::share(opened.checkpoint), clock, random, crms: Vec::new() };
    match role {
        _ if !opened.was_restored => {}
        Role::Sender(_) => {
            tracing::error!(
                alert = "restored",
                "the checkpoint is an older copy than the last one used here: everything is read and sent again"
            );
        }
        Role::Beside | Role::Reader => {
            tracing::warn!(
                "the checkpoint is an older copy than the last one used here: the next `run` or `sync` takes what Reteno \
                 holds as unknown, and sends everything again"
            );
        }
    }
    Ok(around)
}

/// The checkpoint's key from systemd, where the unit has one.
pub(super) fn load_key() -> Result<Option<[u8; 32]>, Failure> {
    let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
    let path = Path::new(&dir).join("reteno_sync_key");
    match std::fs::read(&path) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
            Ok(key) => Ok(Some(key)),
            Err(_) => Err(Failure::of(
                Exit::Configuration,
                anyhow::anyhow!("the credential reteno_sync_key is not a key"),
                Some("it must be exactly 32 bytes, as from `head -c 32 /dev/urandom`".to_owned()),
            )),
        },
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::plain(anyhow::Error::new(error).context(format!("cannot read {}", path.display())))),
    }
}

/// The account, ready to send: without tokens the command ends with the code that says so. Where a person has to act, the
/// alert stands from now on, also while the access token still serves.
pub(super) async fn connect_authorized(config: &Config, around: &Surroundings) -> Result<Account, Failure> {
    let account = compose::connect(config, around, false)?;
    let token = account.refresher.access_token().await;
    tell_standing(config, around, &account).await?;
    match token {
        Ok(_) => Ok(account),
        Err(crate::oauth::NoToken::NeedsAuthorization) => Err(needs_authorization(config)),
        Err(crate::oauth::NoToken::Temporarily(why)) => {
            Err(Failure::of(Exit::TryAgain, NoToken::Temporarily(why), None))
        }
    }
}

/// Raises or ends the alert that a person has to authorize.
pub(super) async fn tell_standing(config: &Config, around: &Surroundings, account: &Account) -> Result<(), Failure> {
    let alarm = Alarm::open(around.store.clone(), around.clock.clone());
    Ok(standing::tell_standing(&account.refresher, &alarm, &config.program).await?)
}

/// How one-shot commands end without tokens.
pub(super) fn needs_authorization(config: &Config) -> Failure {
    let hint = format!("run `{} --authorize`", config.program);
    Failure::of(Exit::NeedsAuthorization, anyhow::anyhow!("Reteno has not authorized this program"), Some(hint))
}

/// The same, with the CRMs whose tokens this process keeps: each has one refresher, which is waited for at the end.
pub(super) fn with_crms(config: &Config, around: Surroundings) -> Surroundings {
    Surroundings { crms: connect_crms(config, &around), ..around }
}

/// Waits until no refresh is under way and every pair is stored.
pub(super) async fn finish_refreshes(around: &Surroundings, account: Option<&Account>) {
    if let Some(account) = account {
        account.refresher.quiesce().await;
    }
    for crm in &around.crms {
        crm.refresher.quiesce().await;
    }
}

/// The configured sources, or the one that is named.
pub(super) fn choose<'a>(config: &'a Config, name: Option<&str>) -> Result<Vec<&'a SourceConfig>, Failure> {
    let Some(name) = name else { return Ok(config.sources.iter().collect()) };
    let chosen = config.sources.iter().find(|source| source.name == name);
    chosen.map(|source| vec![source]).ok_or_else(|| {
        let known = config.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
        Failure::of(
            Exit::Configuration,
            anyhow::anyhow!("there is no source {name}"),
            Some(format!("the configuration has: {known}")),
        )
    })
}

/// The feeds of `sources`; what the account does not offer is told.
pub(super) async fn build_feeds(
    config: &Config,
    sources: &[&SourceConfig],
    catalog: &Catalog,
    around: &Surroundings,
) -> Result<Vec<Feed>, Failure> {
    let links = CrmLinks::connect(config, around);
    let mut feeds = Vec::new();
    for source in sources {
        renew_and_tell(config, source, around).await?;
        feeds.push(prepare_feed(config, source, catalog, (around, &links)).await?);
    }
    Ok(feeds)
}
