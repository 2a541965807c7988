//! `check`: the configuration, without a connection.

use super::{Context, Exit, Failure, Output, doubts, session};
use crate::config::MissingCredentials;
use crate::report;

pub(super) fn check(context: &Context) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    match config.reteno.credentials() {
        Ok(_) => {}
        // a systemd credential is there for the service alone
        Err(MissingCredentials::Secret) => {
            tracing::warn!("there is no client secret here: right only where the service gets it as a credential");
        }
        Err(missing @ (MissingCredentials::Id | MissingCredentials::Both)) => return Err(missing.into()),
    }
    let obstacles = config.upload_obstacles();
    let doubts = doubts::all(&config, &context.config);
    match context.output {
        Output::Text => {
            for (source, why) in &obstacles {
                report::say(&format!("source {source} is loaded by bulk, not uploaded: {why}"));
            }
            for doubt in &doubts {
                report::say(doubt);
            }
            report::say("ok");
        }
        Output::Json => report::say_json(&serde_json::json!({
            "ok": true,
            "sources": config.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(),
            "doubts": doubts,
            "upload_obstacles": obstacles.iter().map(|(source, why)| serde_json::json!({ "source": source, "why": why })).collect::<Vec<_>>(),
        })),
    }
    Ok(Exit::Done)
}
