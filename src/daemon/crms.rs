//! The CRMs that want tokens: built from the configuration, kept alive while the daemon runs, told of by alerts.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json_path::JsonPath;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{CheckpointError, CheckpointVault, GrantOwner, SourceVault};
use crate::clock::Clock;
use crate::config::{self, AuthConfig, Config, FilledText, OAuthClientAuth, OAuthConfig, OAuthGrant, SourceConfig};
use crate::http::socket::{HttpExchange, Timeouts};
use crate::oauth::{
    AnswerShape, App, Authorizer, Basis, ClientAuth, Condition, Dialect, Mandate, Party, Refresher, Standing,
    Statement, TokenBody, TokenEndpoint,
};
use crate::source::http::auth::{SourceAuth, Tokens};

use super::alarm::Alarm;
use super::compose::Surroundings;

/// No answer of a token endpoint is longer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The longest sleep until the tokens are looked at again: a clock that is set is noticed after so long.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// One CRM that wants tokens.
pub struct CrmAccount {
    /// The source's name.
    pub source: String,
    /// The tokens.
    pub refresher: Refresher,
    /// Completes an authorization; `None` where tokens are had without any person.
    pub authorizer: Option<Arc<Authorizer>>,
    /// Where a pending authorization is noted.
    pub desk: CheckpointVault,
    /// Someone may have granted access.
    pub granted: Notify,
}

/// The CRMs of the configuration that want tokens, in the order of their sources.
#[must_use]
pub fn connect_crms(config: &Config, around: &Surroundings) -> Vec<Arc<CrmAccount>> {
    let wants_tokens = |source: &SourceConfig| match &source.auth {
        AuthConfig::None | AuthConfig::Header { .. } => None,
        AuthConfig::OAuth2(oauth) => Some(Arc::new(connect_crm(config, (source, oauth), around))),
    };
    config.sources.iter().filter_map(wants_tokens).collect()
}

fn connect_crm(config: &Config, (source, oauth): (&SourceConfig, &OAuthConfig), around: &Surroundings) -> CrmAccount {
    let app = Arc::new(build_app(&source.name, oauth, &config.reteno.redirect.text));
    let reteno = &config.reteno;
    let timeouts =
        Timeouts { connect: reteno.connect_timeout, read: reteno.read_timeout, total: reteno.request_timeout };
    let wire = Arc::new(HttpExchange::new(timeouts, ANSWER_BYTES_MAX));
    let asks_nobody = app.dialect.asks_nobody();
    let endpoint = TokenEndpoint::new(wire, app, around.clock.clone());
    let vault = SourceVault::on(around.store.clone(), around.random.clone(), owner(source, oauth));
    let lock_path = config.state_dir.join(format!("refresh-{}.lock", source.name));
    let (clock, random) = (around.clock.clone(), around.random.clone());
    let refresher = Refresher::new(endpoint.clone(), vault.shared(), lock_path.clone(), clock.clone(), random.clone());
    let mandate = Mandate { source: source.name.clone(), allows_new_account: false, program: config.program.clone() };
    let authorizer =
        (!asks_nobody).then(|| Arc::new(Authorizer::new(endpoint, Arc::new(vault), lock_path, clock, mandate)));
    CrmAccount {
        source: source.name.clone(),
        refresher,
        authorizer,
        desk: CheckpointVault::on(around.store.clone(), random),
        granted: Notify::new(),
    }
}

/// Whose tokens a source's are.
#[must_use]
pub fn owner(source: &SourceConfig, oauth: &OAuthConfig) -> GrantOwner {
    GrantOwner { source: source.name.clone(), client_id: oauth.client_id.expose().to_owned() }
}

/// What lets the requests of a source in: with the tokens that this process keeps, where it keeps them.
#[must_use]
pub fn connect_source(config: &Config, source: &SourceConfig, around: &Surroundings) -> SourceAuth {
    match &source.auth {
        AuthConfig::None => SourceAuth::None,
        AuthConfig::Header { name, value } => SourceAuth::Header { name: name.clone(), value: value.clone() },
        AuthConfig::OAuth2(oauth) => {
            let kept = around.crms.iter().find(|crm| crm.source == source.name).cloned();
            let crm = kept.unwrap_or_else(|| Arc::new(connect_crm(config, (source, oauth), around)));
            let command = crm.authorizer.as_ref().map(|_| command(&source.name, &config.program));
            SourceAuth::OAuth2(Tokens {
                source: source.name.clone(),
                refresher: crm.refresher.clone(),
                prefix: oauth.prefix.clone(),
                refresh_on: oauth.refresh_on.clone(),
                command,
            })
        }
    }
}

/// The command by which a person lets this program into the CRM of `source`.
#[must_use]
pub fn command(source: &str, program: &str) -> String {
    Party::Crm(source.to_owned()).command(program)
}

fn build_app(name: &str, oauth: &OAuthConfig, redirect: &str) -> App {
    let path = |text: &String| JsonPath::parse(text).expect("the configuration has read the same path");
    let extra = |(name, value): &(String, FilledText)| (name.clone(), value.clone().into_secret());
    // of no meaning where nobody is asked
    let nobody = (&oauth.token_url, oauth.token_url.as_str(), Vec::new());
    let (basis, (authorize_url, redirect, authorize_extra)) = match &oauth.grant {
        OAuthGrant::RefreshToken { authorize_url, authorize_extra, redirect: own } => {
            let redirect = own.as_ref().map_or(redirect, |own| &own.text);
            (Basis::Consent { repeats_code: false }, (authorize_url, redirect, authorize_extra.clone()))
        }
        OAuthGrant::ClientCredentials => (Basis::ClientCredentials, nobody),
        OAuthGrant::JwtBearer { subject, audience, key } => {
            let issuer = oauth.client_id.expose().to_owned();
            let statement =
                Statement { issuer, subject: subject.clone(), audience: audience.clone(), key: Arc::clone(key) };
            (Basis::Statement(statement), nobody)
        }
    };
    let dialect = Dialect {
        party: Party::Crm(name.to_owned()),
        basis,
        body: match oauth.token_body {
            config::TokenBody::Form => TokenBody::Form,
            config::TokenBody::Json => TokenBody::Json,
            config::TokenBody::Query => TokenBody::Query,
        },
        scope: oauth.scope.clone(),
        extra: oauth.extra.iter().map(extra).collect(),
        authorize_extra,
        answer: AnswerShape {
            is_crm: true,
            lifetime_default: oauth.access_token_lifetime,
            base_url: oauth.base_url_path.as_ref().map(path),
            error: oauth.error_path.as_ref().map(path),
        },
        refresh_token_lifetime: oauth.refresh_token_lifetime,
    };
    let auth = match oauth.client_auth {
        OAuthClientAuth::Body => ClientAuth::Params,
        OAuthClientAuth::Basic => ClientAuth::Basic,
    };
    let none = SecretString::default();
    let client = (oauth.client_id.expose().to_owned(), oauth.client_secret.as_ref().unwrap_or(&none));
    let app = App::new(client, auth, authorize_url.clone(), oauth.token_url.clone(), redirect);
    app.expect("the configuration has parsed the same text as a URL").speaking(dialect)
}

/// Ends the alerts of tokens that the configuration wants no more.
pub async fn end_gone_alerts(around: &Surroundings) -> Result<(), CheckpointError> {
    let kept: Vec<String> = around.crms.iter().map(|crm| alert(&crm.source)).collect();
    around.store.call(move |checkpoint| checkpoint.end_alerts_but(&alert(""), &kept)).await
}

/// The alert of a source's tokens.
fn alert(source: &str) -> String {
    format!("tokens-{source}")
}

/// Refreshes a CRM's tokens in time, also when nothing is read, and tells when a person is needed.
pub async fn keep_crm_tokens(
    crm: Arc<CrmAccount>,
    (alarm, clock): (Alarm, Clock),
    program: String,
    stop: CancellationToken,
) -> Result<(), CheckpointError> {
    loop {
        put_in_force(&crm).await;
        let next = crm.refresher.tick().await;
        tell_crm(&crm, (&alarm, &clock), &program).await?;
        let pause = next.since(clock.now()).clamp(Duration::from_millis(200), SLEEP_MAX);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = crm.granted.notified() => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// What was granted just before the process died is in force from now on.
async fn put_in_force(crm: &CrmAccount) {
    let Some(authorizer) = &crm.authorizer else { return };
    match authorizer.prove_kept(&crm.desk, Duration::ZERO).await {
        Ok(Some(_)) => crm.refresher.look_again().await,
        Ok(None) => {}
        // the next turn tries again; what lasts is told by whoever reads the vault
        Err(error) => tracing::debug!(source = crm.source, "{}", authorizer.party().tell(&error)),
    }
}

/// For commands that run once: renews the tokens of this source where that is due, and raises or ends its alert, also
/// while the present token still serves.
pub async fn renew_and_tell(
    config: &Config,
    source: &SourceConfig,
    around: &Surroundings,
) -> Result<(), CheckpointError> {
    let AuthConfig::OAuth2(oauth) = &source.auth else { return Ok(()) };
    let kept = around.crms.iter().find(|crm| crm.source == source.name).cloned();
    let crm = kept.unwrap_or_else(|| Arc::new(connect_crm(config, (source, oauth), around)));
    put_in_force(&crm).await;
    crm.refresher.tick().await;
    if !around.crms.iter().any(|kept| Arc::ptr_eq(kept, &crm)) {
        // nobody else waits for it
        crm.refresher.quiesce().await;
    }
    let alarm = Alarm::open(around.store.clone(), around.clock.clone());
    tell_crm(&crm, (&alarm, &around.clock), &config.program).await
}

/// Raises or ends the alert of a CRM's tokens, by what the refresher knows.
pub async fn tell_crm(
    crm: &CrmAccount,
    (alarm, clock): (&Alarm, &Clock),
    program: &str,
) -> Result<(), CheckpointError> {
    let (name, source) = (alert(&crm.source), &crm.source);
    let grant = format!("run `{}`", command(source, program));
    let mend = format!("check the network, and compare [source.{source}.auth] with the app's page in the CRM");
    match crm.refresher.condition().await {
        Standing::Unauthorized => {
            let text = format!("the CRM of source {source} has not authorized this program: it is not read");
            alarm.raise(&name, &text, &grant).await
        }
        Standing::Granted {
            condition: Condition::NeedsAuthorization { reason, .. }, access_token_expires_at, ..
        } => {
            let text = format!(
                "the tokens of source {source} cannot be renewed ({reason}): its reads end at {access_token_expires_at} \
                 at the latest"
            );
            alarm.raise(&name, &text, &grant).await
        }
        // its reads fail until it is mended, and no person can grant anything
        Standing::Unknown { problem } if crm.authorizer.is_none() => {
            alarm.raise(&name, &format!("source {source} gets no access token: {problem}"), &mend).await
        }
        Standing::Granted { problem: Some(problem), access_token_expires_at, .. }
            if access_token_expires_at <= clock.now() =>
        {
            alarm.raise(&name, &format!("source {source} gets no new access token: {problem}"), &mend).await
        }
        Standing::Granted { condition: Condition::Active, .. } => alarm.end(&name).await,
        // nothing is known: what stands, stands
        Standing::Unknown { .. } => Ok(()),
    }
}
