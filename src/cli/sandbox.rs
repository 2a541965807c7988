//! `sandbox` (hidden): a built-in Reteno on this machine, for rehearsals and tests. Keeps nothing on disk; ends with the
//! process.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Clock;
use crate::report;
use crate::sandbox::{Sandbox, SandboxOptions};

use super::{Exit, Failure};

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
    /// The callback address that is registered for its one app.
    #[arg(long, default_value = "http://127.0.0.1:8400/callback")]
    redirect_uri: String,
}

pub(super) async fn serve(arguments: &SandboxArguments) -> Result<Exit, Failure> {
    let SandboxArguments { listen, seed, redirect_uri, answer_delay } = arguments;
    let options = SandboxOptions {
        seed: *seed,
        redirect_uri: redirect_uri.clone(),
        answer_delay: *answer_delay,
        ..SandboxOptions::default()
    };
    let (client_id, client_secret) = (options.client_id.clone(), options.client_secret.clone());
    let sandbox = Sandbox::new(options, Clock::system());
    let listening = sandbox.listen(*listen).await.map_err(|error| {
        let hint = "give a free loopback address with --listen".to_owned();
        Failure::of(Exit::Failed, anyhow::Error::new(error).context(format!("cannot listen on {listen}")), Some(hint))
    })?;
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
    Ok(Exit::Done)
}
