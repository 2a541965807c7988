//! `check`: the configuration, without a connection.

use super::{Context, Exit, Failure, Output, session};
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
    for (_, why) in config.upload_obstacles() {
        tracing::warn!("its first load goes by bulk: {why}");
    }
    match context.output {
        Output::Text => report::say("ok"),
        Output::Json => report::say_json(&serde_json::json!({
            "ok": true,
            "not_uploaded": config.upload_obstacles().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "sources": config.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(),
        })),
    }
    Ok(Exit::Done)
}
