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

use crate::config::Config;
use crate::daemon::compose::{self, Account, Surroundings};
use crate::listener::{self, Page, Readiness, Services};
use crate::oauth::conversation::callback_address;
use crate::oauth::token::Grant;
use crate::oauth::{AuthorizeError, Concluded, Ending, Meeting, Origin, complete_callback, run_authorize};
use crate::report;

use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

/// How long a refresh or a proof of another process is waited for before the kept grant is proven.
const PROOF_PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn authorize(context: &Context, response: Option<String>, new_account: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let (around, changes_account) = open(&config, response.is_some(), new_account).await?;
    let account = Arc::new(compose::connect(&config, &around, changes_account)?);
    let mut doors = Doors::default();
    let concluded = conclude(context, (&config, &around, &account), response, &mut doors).await;
    let exit = match concluded {
        Ok(Concluded::Granted(grant)) => {
            session::tell_standing(&config, &around, &account).await?;
            tell(context, &account, &around, &grant).await?;
            Ok(Exit::Done)
        }
        Ok(Concluded::LeftOpen) => Ok(Exit::TryAgain),
        Err(error) => Err(failure(error, &config)),
    };
    doors.close().await;
    exit
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
    (config, around, account): (&Config, &Surroundings, &Arc<Account>),
    response: Option<String>,
    doors: &mut Doors,
) -> Result<Concluded, AuthorizeError> {
    match account.authorizer.prove_kept(&account.desk, PROOF_PATIENCE).await {
        Ok(Some(grant)) => return Ok(Concluded::Granted(grant)),
        Ok(None) => {}
        Err(error @ (AuthorizeError::NotProven { .. } | AuthorizeError::OtherAccount { .. }))
            if error.ending() != Ending::TryAgain =>
        {
            let hint = error.hint(&config.program);
            tracing::warn!(hint, "what was granted earlier is of no use: {:#}", anyhow::Error::new(error));
        }
        Err(error) => return Err(error),
    }
    match response {
        Some(text) => account.authorizer.complete(&account.desk, &text, Origin::Pasted).await.map(Concluded::Granted),
        None => converse(context, (config, around, account), doors).await,
    }
}

/// Serves the callback where nobody else does, and talks with the operator until it is done.
async fn converse(
    context: &Context,
    (config, around, account): (&Config, &Surroundings, &Arc<Account>),
    doors: &mut Doors,
) -> Result<Concluded, AuthorizeError> {
    let listening = match callback_address(&account.authorizer.app().redirect_uri) {
        Some(address) => doors.open(address, config, account).await,
        None => None,
    };
    let meeting = Meeting { listening, ssh_target: "USER@HOST".to_owned() };
    let input = BufReader::new(tokio::io::stdin());
    // stdout is the result's: where that is a document, the words for a person go elsewhere
    let mut output: Box<dyn Write> = match context.output {
        Output::Text => Box::new(std::io::stdout()),
        Output::Json => Box::new(std::io::stderr()),
    };
    run_authorize(&account.authorizer, &account.desk, &around.random, &meeting, (input, &mut *output)).await
}

/// The listener of this command, where it has one.
#[derive(Default)]
struct Doors {
    stop: CancellationToken,
    serving: Option<JoinHandle<std::io::Result<()>>>,
}

impl Doors {
    /// The address at which the callback is served: by us, or by the daemon whose configured listener has the port.
    async fn open(&mut self, address: SocketAddr, config: &Config, account: &Arc<Account>) -> Option<SocketAddr> {
        // taken: by the daemon of the same configuration, most likely; another program there means pasting
        let Ok(socket) = TcpListener::bind(address).await else {
            return config.listen.address.filter(|daemon| daemon.port() == address.port());
        };
        let account = Arc::clone(account);
        let callback = move |query: String| {
            let account = Arc::clone(&account);
            let page: futures_util::future::BoxFuture<'static, Page> = Box::pin(async move {
                let page = complete_callback(&account.authorizer, &account.desk, &query).await;
                Page { status: page.status, title: page.title.to_owned(), message: page.message, hint: page.hint }
            });
            page
        };
        let (_, readiness) = watch::channel(Readiness::NotReady("authorizing only".to_owned()));
        let services = Services { callback: Some(Arc::new(callback)), hooks: None, readiness };
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

fn failure(error: AuthorizeError, config: &Config) -> Failure {
    let hint = error.hint(&config.program);
    let exit = match error.ending() {
        Ending::Failed => Exit::Failed,
        Ending::TryAgain => Exit::TryAgain,
        Ending::Configuration => Exit::Configuration,
    };
    Failure::of(exit, error, Some(hint))
}
