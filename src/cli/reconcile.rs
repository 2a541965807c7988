//! `reconcile`: everything of a source is read now, by the running daemon or by this command.

use std::time::Duration;

use crate::daemon::cycle::Reach;
use crate::report;

use super::session::{self, Role};
use super::{Context, Exit, Failure, Output, sync};

pub(super) async fn reconcile(context: &Context, source: Option<&str>, wait: Duration) -> Result<Exit, Failure> {
    let done = Box::pin(sync::sync(context, source, wait, Reach::Full)).await;
    match done {
        Err(failure) if failure.is_busy() => ask_daemon(context, source).await,
        done => done,
    }
}

/// Somebody else sends: it reads, as soon as it sees the request.
async fn ask_daemon(context: &Context, source: Option<&str>) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let names: Vec<String> = session::choose(&config, source)?.into_iter().map(|source| source.name.clone()).collect();
    let around = session::open(&config, &Role::Reader)?;
    let asked = names.clone();
    around
        .store
        .call(move |checkpoint| {
            for name in &asked {
                let row = checkpoint.load_source(name)?;
                checkpoint.ask_for_full_read(row.id)?;
            }
            Ok(())
        })
        .await?;
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({ "asked": names })),
        Output::Text => report::say(&format!(
            "all of {} is read by the running daemon now, or by the next `sync`; see `status`",
            names.join(", ")
        )),
    }
    Ok(Exit::Done)
}
