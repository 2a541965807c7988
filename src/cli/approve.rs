//! `approve`: what the guard holds, and its release. It writes to the checkpoint only, so it works beside a daemon, which
//! sends what was released within a second.

use crate::checkpoint::{Approval, Approved, HeldItem, Hold};
use crate::report;

use super::segments::FieldNames;
use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

/// Entries of a list that are shown to a person; a program is given all.
const ITEMS_SHOWN: usize = 100;

pub(super) async fn approve(context: &Context, id: Option<i64>, yes: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let holds = around.store.call(|checkpoint| checkpoint.load_holds()).await?;
    let Some(id) = id else {
        list(context, &holds, &config.program);
        return Ok(Exit::Done);
    };
    let Some(hold) = holds.iter().find(|hold| hold.id == id) else { return Err(unknown(id, &holds)) };
    if !yes {
        // what comes from now on goes on another list
        let items = around.store.call(move |checkpoint| {
            checkpoint.note_seen(&[id])?;
            checkpoint.load_held_items(id, u32::MAX)
        });
        show(context, hold, &name_items(items.await?, &FieldNames::of(&config)), &config.program);
        return Ok(Exit::Done);
    }
    let now = around.clock.now();
    let approval = around.store.call(move |checkpoint| {
        let approval = checkpoint.approve_hold(id)?;
        checkpoint.start_raises(now)?;
        Ok(approval)
    });
    match approval.await? {
        Approval::Released(approved) => {
            tell(context, hold, approved, &config.program);
            Ok(Exit::Done)
        }
        // it may have lapsed, or somebody else was faster
        Approval::Unknown => Err(unknown(id, &[])),
        Approval::Unseen => {
            let error = anyhow::anyhow!("more has come to hold {id} since it was told: nothing was released");
            let hint = format!("look at its list first: `{} approve {id}`", config.program);
            Err(Failure::of(Exit::Failed, error, Some(hint)))
        }
    }
}

fn unknown(id: i64, holds: &[Hold]) -> Failure {
    let numbers = holds.iter().map(|hold| hold.id.to_string()).collect::<Vec<_>>().join(", ");
    let hint = match holds {
        [] => "nothing is held under it now: it was released, or the CRM has changed back".to_owned(),
        _ => format!("held are: {numbers}"),
    };
    Failure::of(Exit::Failed, anyhow::anyhow!("there is no hold {id}"), Some(hint))
}

fn list(context: &Context, holds: &[Hold], program: &str) {
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({ "holds": holds })),
        Output::Text if holds.is_empty() => report::say("nothing is held"),
        Output::Text => {
            report::say(&table(holds));
            report::say(&format!(
                "\nlook at one with `{program} approve ID`, release it with `{program} approve ID --yes`"
            ));
        }
    }
}

/// The lists that the guard holds, as a table.
pub(super) fn table(holds: &[Hold]) -> String {
    let rows: Vec<Vec<String>> = holds
        .iter()
        .map(|hold| {
            let Hold { id, source, verb, reason, created_at, contacts } = hold;
            vec![
                id.to_string(),
                source.clone(),
                verb.clone(),
                contacts.to_string(),
                created_at.to_string(),
                reason.clone(),
            ]
        })
        .collect();
    report::table(&["hold", "source", "what", "contacts", "since", "reason"], &rows)
}

/// Segments by their names.
fn name_items(items: Vec<HeldItem>, names: &FieldNames) -> Vec<HeldItem> {
    let named = |item: HeldItem| HeldItem { field: item.field.map(|field| names.name(&field)), ..item };
    items.into_iter().map(named).collect()
}

fn show(context: &Context, hold: &Hold, items: &[HeldItem], program: &str) {
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({ "hold": hold, "items": items, "count": items.len() })),
        Output::Text => {
            report::say(&format!("{}\n", table(std::slice::from_ref(hold))));
            let cells = |item: &HeldItem| {
                vec![item.key.clone(), item.field.clone().unwrap_or_else(|| "the contact as a whole".to_owned())]
            };
            let rows: Vec<_> = items.iter().take(ITEMS_SHOWN).map(cells).collect();
            report::say(&report::table(&["contact", "field"], &rows));
            if items.len() > ITEMS_SHOWN {
                report::say(&format!("the first {ITEMS_SHOWN} of {}; all of them with --output json", items.len()));
            }
            report::say(&format!("\nrelease exactly these with `{program} approve {} --yes`", hold.id));
        }
    }
}

fn tell(context: &Context, hold: &Hold, approved: Approved, program: &str) {
    let Approved { released, lapsed } = approved;
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({
            "hold": hold.id, "released": released, "lapsed": lapsed,
        })),
        Output::Text => {
            report::say(&format!("released {released}, lapsed {lapsed} (the CRM wants something else by now)"));
            report::say(&format!("a running daemon sends it at once; without one `{program} sync` does"));
        }
    }
}
