//! `erased lift`: lets an erased contact come back.

use crate::config::Config;
use crate::report;

use super::explain::guess_source;
use super::look_up::{Found, look_up};
use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

pub(super) async fn lift(context: &Context, text: &str) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let (name, key) = guess_source(&config, text);
    let sources = around.store.call(|checkpoint| checkpoint.load_sources()).await?;
    let Some(source) = sources.into_iter().find(|source| source.name == name).map(|source| source.id) else {
        return Err(not_erased(&config, text, None));
    };
    let wanted = key.clone();
    let mut lifted = around.store.call(move |checkpoint| checkpoint.lift_tombstone(source, &wanted)).await?;
    let mut unread = None;
    if lifted.is_none()
        && let Some(configured) = config.sources.iter().find(|source| source.name == name)
    {
        // it may be one that has come back under another id: only its record tells by what it is known
        match look_up((&config, &around), configured, &key).await? {
            Found::Contact(contact) => {
                let name = name.clone();
                let lift =
                    around.store.call(move |checkpoint| checkpoint.lift_tombstones_of((source, &name), &contact));
                lifted = lift.await?;
            }
            Found::NotRead(why) => unread = Some(why),
            Found::Filtered | Found::Rejected(_) | Found::Deleted | Found::Missing => {}
        }
    }
    let Some(erased_at) = lifted else { return Err(not_erased(&config, text, unread)) };
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({ "source": name, "key": key, "erased_at": erased_at })),
        Output::Text => report::say(&format!(
            "contact {key} of source {name}, erased at {erased_at}, may come back: all of the source is read, by a running \
             daemon at once, else by the next `{} sync`",
            config.program
        )),
    }
    Ok(Exit::Done)
}

fn not_erased(config: &Config, text: &str, unread: Option<String>) -> Failure {
    let hint = match unread {
        Some(why) => format!("its record was not read ({why}): by that it might be known"),
        None => format!(
            "give SOURCE:KEY as the CRM had it; `{} rejected list` shows erased ones that came back",
            config.program
        ),
    };
    Failure::of(Exit::Failed, anyhow::anyhow!("no contact {text} was erased"), Some(hint))
}
