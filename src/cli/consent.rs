//! `consent list` and `consent undo`: opt-outs that a read has asked for in error, taken back.

use crate::checkpoint::{ConsentCycle, KeptOptOuts};
use crate::report;

use super::session::{self, Role};
use super::{Context, Exit, Failure, Output};

pub(super) async fn list(context: &Context) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let cycles = around.store.call(|checkpoint| checkpoint.load_consent_cycles()).await?;
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({ "cycles": cycles })),
        Output::Text if cycles.is_empty() => report::say("no opt-out can be taken back"),
        Output::Text => {
            let cells = |cycle: &ConsentCycle| {
                let ConsentCycle { id, source, began, opt_outs } = cycle;
                vec![id.to_string(), source.clone(), began.to_string(), opt_outs.to_string()]
            };
            let rows: Vec<_> = cycles.iter().map(cells).collect();
            report::say(&report::table(&["cycle", "source", "read at", "opt-outs"], &rows));
            report::say(&format!("\n{}", how(&config.program)));
        }
    }
    Ok(Exit::Done)
}

fn how(program: &str) -> String {
    format!(
        "where a mapping told no for yes: mend it and read with it (`{program} sync`, or the daemon), and only then take \
         the opt-outs back with `{program} consent undo --cycle ID --yes`"
    )
}

/// Whose opt-outs are taken back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Of those whose record had said yes before.
    SaidYes,
    /// And of those of whom that is not known.
    AlsoUnknown,
}

pub(super) async fn undo(context: &Context, cycle: i64, reach: Reach, yes: bool) -> Result<Exit, Failure> {
    let config = session::load_config(context)?;
    let around = session::open(&config, &Role::Reader)?;
    let before = around.store.call(move |checkpoint| checkpoint.load_kept_opt_outs(cycle)).await?;
    let Some(before) = before.filter(|before| before.all > 0) else {
        let hint = format!("`{} consent list` shows the cycles that have any", config.program);
        let error = anyhow::anyhow!("cycle {cycle} has no opt-out that could be taken back");
        return Err(Failure::of(Exit::Failed, error, Some(hint)));
    };
    if !yes {
        let KeptOptOuts { all, says_no, other_read, not_sent, said_no_before, unknown_before } = before;
        let unknown = match reach {
            Reach::SaidYes => 0,
            Reach::AlsoUnknown => unknown_before,
        };
        let free = all - says_no - other_read - not_sent - said_no_before - unknown_before + unknown;
        let warning = match unknown {
            0 => String::new(),
            _ => {
                format!("; of {unknown} of them no record had said yes before: some may have left by Reteno's own link")
            }
        };
        let error = anyhow::anyhow!("this would let {free} of {all} addresses get mail again{warning}");
        return Err(Failure::of(Exit::Failed, error, Some(how(&config.program))));
    }
    let now = around.clock.now();
    let (raised, kept, after) = around
        .store
        .call(move |checkpoint| {
            let (raised, kept) = match reach {
                Reach::SaidYes => checkpoint.undo_opt_outs(cycle, now)?,
                Reach::AlsoUnknown => checkpoint.undo_opt_outs_also_unknown(cycle, now)?,
            };
            Ok((raised, kept, checkpoint.load_kept_opt_outs(cycle)?.unwrap_or_default()))
        })
        .await?;
    tell(context, (cycle, raised, kept), after, &config.program);
    Ok(Exit::Done)
}

fn tell(context: &Context, (cycle, raised, kept): (i64, u64, u64), after: KeptOptOuts, program: &str) {
    let KeptOptOuts { all, says_no, other_read, not_sent, said_no_before, unknown_before } = after;
    // what neither was raised nor stands any more has lost its contact
    let gone = kept.saturating_sub(all);
    match context.output {
        Output::Json => report::say_json(&serde_json::json!({
            "cycle": cycle,
            "raised": raised,
            "kept": kept,
            "kept_because": {
                "a_record_says_no": says_no,
                "opted_out_in_another_read": other_read,
                "opt_out_not_sent_yet": not_sent,
                "record_said_no_before": said_no_before,
                "not_known_to_have_said_yes": unknown_before,
                "contact_not_known_any_more": gone,
            },
        })),
        Output::Text => {
            report::say(&format!("{raised} addresses get mail again, {kept} stay as they are"));
            let reasons = [
                (says_no, "a record says no of the address"),
                (other_read, "another read opted the address out, too"),
                (not_sent, "an opt-out of the address is still to be sent"),
                (said_no_before, "the record had said no before that read, too"),
                (unknown_before, "no record is known to have said yes before (--also-unknown raises them, too)"),
                (gone, "the contact is not known any more"),
            ];
            let rows: Vec<_> = reasons
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, why)| vec![why.to_owned(), count.to_string()])
                .collect();
            if !rows.is_empty() {
                report::say(&format!("\n{}", report::table(&["why they stay", "addresses"], &rows)));
            }
            if raised > 0 {
                report::say(&format!(
                    "\na running daemon tells Reteno at once; without one `{program} sync` has to within an hour"
                ));
            }
            if says_no > 0 {
                report::say(&format!("\nwhere those say so by a wrong mapping: {}", how(program)));
            }
        }
    }
}
