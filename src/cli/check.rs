//! `check`: the configuration, without a connection.

use super::{Context, Exit, Failure, Output, session};
use crate::report;

pub(super) fn check(context: &Context) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    match context.output {
        Output::Text => report::say("ok"),
        Output::Json => report::say_json(&serde_json::json!({
            "ok": true,
            "sources": config.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(),
        })),
    }
    Ok(Exit::Done)
}
