//! `authorize`: the one-time run that lets this program into the account. It works beside a daemon, which then serves
//! the callback and goes on with the new tokens by itself; only another account is taken over while nobody sends.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::CheckpointVault;
use crate::config::{AuthConfig, Config, SourceConfig};
use crate::daemon::alarm::Alarm;
use crate::daemon::compose::{self, Account, Surroundings};
use crate::daemon::crms::{CrmAccount, connect_crms, tell_crm};
use crate::daemon::listening::own_names;
use crate::listener::{self, Page, Readiness, Services};
use crate::oauth::conversation::callback_address;
use crate::oauth::token::Grant;
use crate::oauth::{
    App, AuthorizeError, Authorizer, Authorizers, Concluded, DeskError, Ending, Meeting, Origin, Party, run_authorize,
};
use crate::report;

use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

/// How long a refresh or a proof of another process is waited for before the kept grant is proven.
const PROOF_PATIENCE: Duration = Duration::from_mins(1);

/// What the command line asks for.
pub(super) struct Wish {
    /// The source whose CRM it is; Reteno where there is none.
    pub(super) source: Option<String>,
    /// The address that the browser was redirected to.
    pub(super) response: Option<String>,
    /// Whether another account may be taken over.
    pub(super) new_account: bool,
}

/// One authorization, and whoever else's answer may arrive meanwhile.
struct Run {
    authorizer: Arc<Authorizer>,
    all: Authorizers,
    desk: CheckpointVault,
}

pub(super) async fn authorize(context: &Context, wish: Wish) -> Result<Exit, Failure> {
    let Wish { source, response, new_account } = wish;
    let config = session::load_config(context)?;
    let chosen = session::choose(&config, source.as_deref())?;
    let (around, changes_account) = match source {
        // a CRM has no account that this checkpoint belongs to
        Some(_) => (session::open(&config, &Role::Beside)?, false),
        None => open(&config, response.is_some(), new_account).await?,
    };
    let account = compose::connect(&config, &around, changes_account)?;
    let crms = connect_crms(&config, &around);
    let all = Authorizers::of(Arc::clone(&account.authorizer), crms.iter().filter_map(|crm| crm.authorizer.clone()));
    let authorizer = match (&source, chosen.first()) {
        (Some(_), Some(chosen)) => crms
            .iter()
            .find(|crm| crm.source == chosen.name)
            .and_then(|crm| crm.authorizer.clone())
            .ok_or_else(|| needs_nobody(chosen))?,
        // an answer that is given belongs to what is pending, whoever's that is
        (None, _) if response.is_some() => Arc::clone(all.awaited(&account.desk).await.map_err(unreadable)?),
        (Some(_), None) | (None, _) => Arc::clone(&account.authorizer),
    };
    let run = Arc::new(Run { authorizer, all, desk: account.desk.clone() });
    let mut doors = Doors::default();
    let concluded = conclude(context, (&config, &around, &run), response, &mut doors).await;
    let crm = crms.iter().find(|crm| *run.authorizer.party() == Party::Crm(crm.source.clone()));
    let exit = match (concluded, crm) {
        (Ok(Concluded::Granted(grant)), None) => {
            session::tell_standing(&config, &around, &account).await?;
            tell(context, &account, &around, &grant).await?;
            Ok(Exit::Done)
        }
        (Ok(Concluded::Granted(grant)), Some(crm)) => {
            let alarm = Alarm::open(around.store.clone(), around.clock.clone());
            crm.refresher.look_again().await;
            tell_crm(crm, (&alarm, &around.clock), &config.program).await?;
            tell_source(context, crm, run.authorizer.app(), &grant);
            Ok(Exit::Done)
        }
        (Ok(Concluded::LeftOpen), _) => Ok(Exit::TryAgain),
        (Err(error), _) => Err(failure(error, run.authorizer.party(), &config)),
    };
    doors.close().await;
    exit
}

fn unreadable(error: DeskError) -> Failure {
    let hint = error.hint().to_owned();
    Failure::of(Exit::Failed, error, Some(hint))
}

/// A source in whose CRM no person can grant anything.
fn needs_nobody(source: &SourceConfig) -> Failure {
    let name = &source.name;
    let (why, hint) = match &source.auth {
        AuthConfig::None | AuthConfig::Header { .. } => (
            "its requests carry what the configuration says",
            format!(
                "nothing is to be done; for tokens that a person grants set kind = \"oauth2\" and grant = \
                 \"refresh_token\" in [source.{name}.auth]"
            ),
        ),
        AuthConfig::OAuth2(_) => (
            "its tokens are had without a person",
            format!(
                "see them with `status`; for a person's consent set grant = \"refresh_token\" in [source.{name}.auth]"
            ),
        ),
    };
    Failure::of(Exit::Configuration, anyhow::anyhow!("source {name} is not authorized by a person: {why}"), Some(hint))
}

/// Opens the checkpoint, and says whether another account may be taken over. That makes all that Reteno holds unknown,
/// so nobody may be sending: what is on its way for the old account would be taken for the new one's.
async fn open(config: &Config, answers: bool, new_account: bool) -> Result<(Surroundings, bool), Failure> {
    if !new_account {
        let around = session::open(config, &Role::Beside)?;
        let now = around.clock.now();
        let changes_account = around.store.call(move |checkpoint| {
            let is_kept = checkpoint.load_candidate()?.is_some_and(|kept| kept.allows_new_account);
            Ok(is_kept || (answers && checkpoint.pends_for_new_account(now)?))
        });
        if !changes_account.await? {
            return Ok((around, false));
        }
    }
    let opened = session::open(config, &Role::Sender("authorize --new-account"));
    let around = opened.map_err(|failure| {
        let hint = "stop it first, then run the same command again: another account is taken over while nobody sends";
        if failure.is_busy() { failure.hinted(hint.to_owned()) } else { failure }
    })?;
    if new_account {
        let random = around.random.clone();
        around.store.call(move |checkpoint| checkpoint.allow_new_account(&random)).await?;
    }
    Ok((around, true))
}

/// What was granted earlier and could not be proven then needs no person; else the answer that was given, or a
/// conversation.
async fn conclude(
    context: &Context,
    (config, around, run): (&Config, &Surroundings, &Arc<Run>),
    response: Option<String>,
    doors: &mut Doors,
) -> Result<Concluded, AuthorizeError> {
    match run.authorizer.prove_kept(&run.desk, PROOF_PATIENCE).await {
        Ok(Some(grant)) => return Ok(Concluded::Granted(grant)),
        Ok(None) => {}
        Err(error @ (AuthorizeError::NotProven { .. } | AuthorizeError::OtherAccount { .. }))
            if error.ending() != Ending::TryAgain =>
        {
            let hint = run.authorizer.party().hint(&config.program, &error);
            tracing::warn!(hint, "what was granted earlier is of no use: {:#}", anyhow::Error::new(error));
        }
        Err(error) => return Err(error),
    }
    match response {
        Some(text) => run.authorizer.complete(&run.desk, &text, Origin::Pasted).await.map(Concluded::Granted),
        None => converse(context, (config, around, run), doors).await,
    }
}

/// Serves the callback where nobody else does, and talks with the operator until it is done.
async fn converse(
    context: &Context,
    (config, around, run): (&Config, &Surroundings, &Arc<Run>),
    doors: &mut Doors,
) -> Result<Concluded, AuthorizeError> {
    let listening = match callback_address(run.authorizer.app().redirect_uri.url()) {
        Some(address) => doors.open(address, config, run).await,
        None => None,
    };
    let meeting = Meeting { listening, ssh_target: "USER@HOST".to_owned() };
    let input = BufReader::new(tokio::io::stdin());
    // stdout is the result's: where that is a document, the words for a person go elsewhere
    let mut output: Box<dyn Write> = match context.output {
        Output::Text => Box::new(std::io::stdout()),
        Output::Json => Box::new(std::io::stderr()),
    };
    run_authorize(&run.authorizer, &run.desk, &around.random, &meeting, (input, &mut *output)).await
}

/// The listener of this command, where it has one.
#[derive(Default)]
struct Doors {
    stop: CancellationToken,
    serving: Option<JoinHandle<std::io::Result<()>>>,
}

impl Doors {
    /// The address at which the callback is served: by us, or by the daemon whose configured listener has the port.
    async fn open(&mut self, address: SocketAddr, config: &Config, run: &Arc<Run>) -> Option<SocketAddr> {
        // taken: by the daemon of the same configuration, most likely; another program there means pasting
        let Ok(socket) = TcpListener::bind(address).await else {
            return config.listen.address.filter(|daemon| daemon.port() == address.port());
        };
        let run = Arc::clone(run);
        let callback = move |query: String| {
            let run = Arc::clone(&run);
            let page: futures_util::future::BoxFuture<'static, Page> = Box::pin(async move {
                let (page, _) = run.all.complete_callback(&run.desk, &query).await;
                Page { status: page.status, title: page.title.to_owned(), message: page.message, hint: page.hint }
            });
            page
        };
        let names = own_names(config);
        let (_, readiness) = watch::channel(Readiness::NotReady("authorizing only".to_owned()));
        let services = Services { callback: Some(Arc::new(callback)), hooks: None, metrics: None, readiness, names };
        self.serving = Some(tokio::spawn(listener::serve(socket, services, self.stop.clone())));
        Some(address)
    }

    /// Lets the last page reach its browser: it is still on its way when the command knows the outcome.
    async fn close(self) {
        self.stop.cancel();
        if let Some(serving) = self.serving {
            // how the listener ended no longer matters to anyone
            let _ended = serving.await;
        }
    }
}

async fn tell(context: &Context, account: &Account, around: &Surroundings, grant: &Grant) -> Result<(), Failure> {
    let name = around.store.call(|checkpoint| checkpoint.load_account()).await?.unwrap_or_default();
    let version = match account.client.version().await {
        Ok(version) => version.0,
        Err(_) => std::collections::BTreeMap::new(),
    };
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({
            "account": name,
            "version": version,
            "access_token_expires_at": grant.expires_at(),
            "refresh_token_expires_at": grant.refresh_token_expires_at(),
        })),
        Output::Text => {
            let mut rows = vec![
                vec!["account".to_owned(), name],
                vec!["access token ends".to_owned(), format!("{} (renewed by itself)", grant.expires_at())],
                vec![
                    "refresh token ends".to_owned(),
                    format!("{} unless used before", grant.refresh_token_expires_at()),
                ],
            ];
            rows.extend(version.into_iter().map(|(name, value)| vec![name, value]));
            report::say(&format!("authorized\n\n{}", report::table(&[], &rows)));
        }
    }
    Ok(())
}

/// What was granted by a CRM, in words or as a document.
fn tell_source(context: &Context, crm: &CrmAccount, app: &App, grant: &Grant) {
    let refresh_token_ends = app.refresh_token_expires_at(grant);
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({
            "source": crm.source,
            "base_url": grant.base_url,
            "scope": grant.scope,
            "access_token_expires_at": grant.expires_at(),
            "refresh_token_expires_at": refresh_token_ends,
        })),
        Output::Text => {
            let row = |name: &str, value: String| vec![name.to_owned(), value];
            let mut rows = vec![row("source", crm.source.clone())];
            rows.extend(grant.base_url.clone().map(|url| row("address", url)));
            rows.extend(grant.scope.clone().map(|scope| row("scope", scope)));
            rows.push(row("access token ends", format!("{} (renewed by itself)", grant.expires_at())));
            rows.extend(refresh_token_ends.map(|at| row("refresh token ends", format!("{at} unless used before"))));
            report::say(&format!("authorized\n\n{}", report::table(&[], &rows)));
        }
    }
}

fn failure(error: AuthorizeError, party: &Party, config: &Config) -> Failure {
    let hint = party.hint(&config.program, &error);
    let exit = match error.ending() {
        Ending::Failed => Exit::Failed,
        Ending::TryAgain => Exit::TryAgain,
        Ending::Configuration => Exit::Configuration,
    };
    match party {
        Party::Reteno => Failure::of(exit, error, Some(hint)),
        Party::Crm(_) => Failure::of(exit, anyhow::anyhow!(party.tell(&error)), Some(hint)),
    }
}
