//! `sandbox` (hidden): a built-in Reteno on this machine, and a CRM beside it where asked, for rehearsals and tests.
//! Keeps nothing on disk; ends with the process.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Clock;
use crate::http::socket::{HttpExchange, Timeouts};
use crate::report;
use crate::sandbox::crm_api::{CrmListening, CrmOptions, CrmSandbox, CrmWebhook, Dialect, HookHabits};
use crate::sandbox::{Sandbox, SandboxOptions};

use super::{Exit, Failure};

/// Between two looks at what webhooks are due.
const DELIVERY_PAUSE: Duration = Duration::from_millis(50);
/// Webhooks under way at once; a receiver that is slow must not hold the others up.
const DELIVERIES_AT_ONCE: usize = 16;
/// The shortest time that a vendor of the three waits for an answer (amoCRM).
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer to a webhook is not read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct SandboxArguments {
    /// Where it listens: an address of this machine's loopback.
    #[arg(long, default_value = "127.0.0.1:8499")]
    listen: SocketAddr,
    /// Decides every delay, order, id and token.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long an answer takes on its way.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    answer_delay: Duration,
    /// The callback address that is registered for its one app, and for the CRM's.
    #[arg(long, default_value = "http://127.0.0.1:8400/callback")]
    redirect_uri: String,
    /// Where a CRM listens that speaks amoCRM, `HubSpot` and Pipedrive; none without it.
    #[arg(long, value_name = "ADDRESS")]
    crm: Option<SocketAddr>,
    /// How many invented people the CRM has.
    #[arg(long, default_value_t = 100, requires = "crm")]
    people: usize,
    /// How long the CRM's access tokens live; without it as each vendor says.
    #[arg(long, value_parser = humantime::parse_duration, requires = "crm")]
    crm_token_lifetime: Option<Duration>,
    /// How long the CRM waits before it sends an event again; without it as each vendor does, minutes and more.
    #[arg(long, value_parser = humantime::parse_duration, requires = "crm")]
    crm_retry: Option<Duration>,
    /// Where one vendor's events go: amocrm=URL, hubspot=URL or pipedrive=URL.
    #[arg(long, value_name = "VENDOR=URL", value_parser = parse_webhook, requires = "crm")]
    crm_webhook: Vec<CrmWebhook>,
}

fn parse_webhook(text: &str) -> Result<CrmWebhook, String> {
    let (vendor, url) = text.split_once('=').ok_or("give it as VENDOR=URL")?;
    let dialect = match vendor {
        "amocrm" => Dialect::AmoCrm,
        "hubspot" => Dialect::HubSpot,
        "pipedrive" => Dialect::Pipedrive,
        _ => return Err("the vendor is amocrm, hubspot or pipedrive".to_owned()),
    };
    Ok(CrmWebhook { dialect, url: url.to_owned(), basic: None })
}

pub(super) async fn serve(arguments: &SandboxArguments) -> Result<Exit, Failure> {
    let SandboxArguments { listen, seed, redirect_uri, answer_delay, .. } = arguments;
    let options = SandboxOptions {
        seed: *seed,
        redirect_uri: redirect_uri.clone(),
        answer_delay: *answer_delay,
        ..SandboxOptions::default()
    };
    let (client_id, client_secret) = (options.client_id.clone(), options.client_secret.clone());
    let sandbox = Sandbox::new(options, Clock::system());
    let listening = sandbox.listen(*listen).await.map_err(|error| not_free(*listen, error, "--listen"))?;
    let crm = match arguments.crm {
        Some(address) => Some(serve_crm(arguments, address).await?),
        None => None,
    };
    report::say(&format!(
        "[reteno]\napi_url = \"{}\"\nauthorize_url = \"{}\"\ntoken_url = \"{}\"\nclient_id = \"{client_id}\"\nclient_secret = \"{client_secret}\"",
        listening.api_url(),
        listening.authorize_url(),
        listening.token_url()
    ));
    let stop = crate::daemon::lifecycle::stop_on_signals(Duration::from_secs(5))
        .map_err(|error| Failure::plain(anyhow::Error::new(error).context("cannot watch signals")))?;
    stop.soft.cancelled().await;
    listening.stop().await;
    if let Some((crm, delivering)) = crm {
        delivering.abort();
        crm.stop().await;
    }
    Ok(Exit::Done)
}

fn not_free(address: SocketAddr, error: std::io::Error, argument: &str) -> Failure {
    let hint = format!("give a free loopback address with {argument}");
    Failure::of(Exit::Failed, anyhow::Error::new(error).context(format!("cannot listen on {address}")), Some(hint))
}

/// The CRM, and the task that carries its webhooks.
async fn serve_crm(
    arguments: &SandboxArguments,
    address: SocketAddr,
) -> Result<(CrmListening, tokio::task::JoinHandle<()>), Failure> {
    let options = CrmOptions {
        seed: arguments.seed,
        redirect_uri: arguments.redirect_uri.clone(),
        webhooks: arguments.crm_webhook.clone(),
        access_token_lifetime: arguments.crm_token_lifetime,
        habits: HookHabits { retry_after: arguments.crm_retry, ..HookHabits::default() },
        ..CrmOptions::default()
    };
    let CrmOptions { client_id, client_secret, static_token, .. } = options.clone();
    let crm = CrmSandbox::new(options, Clock::system());
    crm.seed(arguments.people);
    let listening = crm.listen(address).await.map_err(|error| not_free(address, error, "--crm"))?;
    let base = listening.base_url();
    report::say(&format!(
        "# The CRM has {} people, for amoCRM, HubSpot and Pipedrive at once; what tests do is below {base}/sandbox/.\n\
         # base_url = \"{base}\"\n# token = \"{static_token}\"\n# client_id = \"{client_id}\"\n\
         # client_secret = \"{client_secret}\"\n# token_url = \"{base}/oauth2/access_token\" (amoCRM), \
         \"{base}/oauth/2026-03/token\" (HubSpot), \"{base}/oauth/token\" (Pipedrive)",
        arguments.people
    ));
    Ok((listening, tokio::spawn(deliver(crm))))
}

async fn deliver(crm: CrmSandbox) {
    let timeouts = Timeouts { connect: DELIVERY_TIMEOUT, read: DELIVERY_TIMEOUT, total: DELIVERY_TIMEOUT };
    let via = HttpExchange::new(timeouts, ANSWER_BYTES_MAX);
    loop {
        crm.deliver_due_by(&via, DELIVERIES_AT_ONCE).await;
        tokio::time::sleep(DELIVERY_PAUSE).await;
    }
}
