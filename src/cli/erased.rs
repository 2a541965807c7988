//! `erased lift`: lets an erased contact come back.

use crate::contact::Catalog;
use crate::daemon::compose;
use crate::daemon::links::CrmLinks;
use crate::report;

use super::explain::{Found, guess_source, look_up};
use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

pub(super) async fn lift(context: &Context, text: &str) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let (name, key) = guess_source(&config, text);
    let sources = around.store.call(|checkpoint| checkpoint.load_sources()).await?;
    let Some(source) = sources.into_iter().find(|source| source.name == name).map(|source| source.id) else {
        return Err(not_erased(text, None));
    };
    let wanted = key.clone();
    let mut lifted = around.store.call(move |checkpoint| checkpoint.lift_tombstone(source, &wanted)).await?;
    let mut unread = None;
    if lifted.is_none()
        && let Some(configured) = config.sources.iter().find(|source| source.name == name)
    {
        // it may be one that has come back under another id: only its record tells by what it is known
        let catalog = match compose::connect(&config, &around, false) {
            Ok(account) => compose::load_catalog(&config, &account.client, &around.store).await?,
            Err(_) => Catalog::empty(),
        };
        let (feed, _) = compose::build_feed(
            configured,
            config.identity,
            &catalog,
            compose::Place {
                state_dir: &config.state_dir,
                clock: &around.clock,
                links: &CrmLinks::connect(&config, &around),
            },
        );
        match look_up(&feed.source, &feed.mapping, &key).await {
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
    let Some(erased_at) = lifted else { return Err(not_erased(text, unread)) };
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

fn not_erased(text: &str, unread: Option<String>) -> Failure {
    let hint = match unread {
        Some(why) => format!("its record was not read ({why}): by that it might be known"),
        None => {
            "give SOURCE:KEY as the CRM had it; `reteno-sync rejected list` shows erased ones that came back".to_owned()
        }
    };
    Failure::of(Exit::Failed, anyhow::anyhow!("no contact {text} was erased"), Some(hint))
}
