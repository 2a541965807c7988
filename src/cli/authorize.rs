//! `authorize`: the one-time run that lets this program into the account. It works beside a daemon, which then serves
//! the callback and goes on with the new tokens by itself.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::daemon::compose::{self, Account, Surroundings};
use crate::listener::{self, Page, Readiness, Services};
use crate::oauth::conversation::callback_address;
use crate::oauth::token::Grant;
use crate::oauth::{AuthorizeError, Concluded, Meeting, Origin, complete_callback, run_authorize};
use crate::report;

use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

pub(super) async fn authorize(context: &Context, response: Option<String>, new_account: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Beside)?;
    let account = Arc::new(compose::connect(&config, &around, new_account)?);
    let concluded = match response {
        Some(text) => account.authorizer.complete(&account.desk, &text, Origin::Pasted).await.map(Concluded::Granted),
        None => converse(&config, &around, &account).await,
    };
    match concluded {
        Ok(Concluded::Granted(grant)) => {
            tell(context, &account, &around, &grant).await?;
            Ok(Exit::Done)
        }
        Ok(Concluded::LeftOpen) => Ok(Exit::TryAgain),
        Err(error) => Err(failure(error, &around).await?),
    }
}

/// Serves the callback where nobody else does, and talks with the operator until it is done.
async fn converse(config: &Config, around: &Surroundings, account: &Arc<Account>) -> Result<Concluded, AuthorizeError> {
    let stop = CancellationToken::new();
    let _ends_listening = stop.clone().drop_guard();
    let listening = match callback_address(&account.authorizer.app().redirect_uri) {
        Some(address) => listen(address, config, account, &stop).await,
        None => None,
    };
    let meeting = Meeting { listening, ssh_target: "USER@HOST".to_owned() };
    let input = BufReader::new(tokio::io::stdin());
    let mut output = std::io::stdout();
    run_authorize(&account.authorizer, &account.desk, &around.random, &meeting, (input, &mut output)).await
}

/// The address at which the callback is served: by us, or by the daemon whose configured listener has the port.
async fn listen(
    address: SocketAddr,
    config: &Config,
    account: &Arc<Account>,
    stop: &CancellationToken,
) -> Option<SocketAddr> {
    match TcpListener::bind(address).await {
        Ok(socket) => {
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
            let services = Services { callback: Some(Arc::new(callback)), readiness };
            tokio::spawn(listener::serve(socket, services, stop.clone()));
            Some(address)
        }
        // taken: by the daemon of the same configuration, most likely; another program there means pasting
        Err(_) => config.listen.address.filter(|daemon| daemon.port() == address.port()),
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

/// Another account is a matter of configuration; everything else has the error's own hint.
async fn failure(error: AuthorizeError, around: &Surroundings) -> Result<Failure, Failure> {
    let refused = around.store.call(|checkpoint| checkpoint.load_refused_account()).await?;
    if refused.is_some() && matches!(error, AuthorizeError::Vault(_) | AuthorizeError::FailedElsewhere { .. }) {
        let hint = "authorize as a user of the first account; or, to start afresh with this one, \
                    `reteno-sync --authorize --new-account`: everything is then sent anew"
            .to_owned();
        return Ok(Failure::of(Exit::Configuration, error, Some(hint)));
    }
    let hint = error.hint().into_owned();
    let exit = match &error {
        AuthorizeError::Exchange(cause) if cause.retry_after().is_some() => Exit::TryAgain,
        AuthorizeError::Refused
        | AuthorizeError::OtherError { .. }
        | AuthorizeError::WrongState
        | AuthorizeError::NoState
        | AuthorizeError::NoCode
        | AuthorizeError::NotPending
        | AuthorizeError::Superseded
        | AuthorizeError::TimedOut
        | AuthorizeError::CodeRefused
        | AuthorizeError::Exchange(_)
        | AuthorizeError::NoRefreshToken
        | AuthorizeError::Vault(_)
        | AuthorizeError::Lock(_)
        | AuthorizeError::Desk(_)
        | AuthorizeError::FailedElsewhere { .. }
        | AuthorizeError::Terminal(_) => Exit::Failed,
    };
    Ok(Failure::of(exit, error, Some(hint)))
}
