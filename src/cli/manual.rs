//! The manual page: the whole command line, each command with its options, and what the exit codes want.

use std::io::Write;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Exit;

/// Every code that a command ends with, beside clap's own 2 for a wrong command line.
const CODES: [(Exit, &str); 7] = [
    (Exit::Done, "done"),
    (Exit::Failed, "failed: read the error: and hint: lines"),
    (Exit::Rejected, "done, but some contacts are rejected: see rejected list"),
    (Exit::Changes, "plan --detailed-exitcode: there is something to do"),
    (Exit::TryAgain, "temporary: run it again"),
    (Exit::NeedsAuthorization, "a person has to authorize"),
    (Exit::Configuration, "the configuration has to be changed"),
];

/// The page in roff.
///
/// # Errors
/// Only where writing to memory fails.
pub(super) fn page(mut command: clap::Command) -> std::io::Result<String> {
    command.build();
    let mut out = Vec::new();
    let top = Man::new(command.clone());
    top.render_title(&mut out)?;
    top.render_name_section(&mut out)?;
    top.render_synopsis_section(&mut out)?;
    top.render_description_section(&mut out)?;
    top.render_options_section(&mut out)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let mut heading = Roff::default();
        heading.control("SH", [format!("reteno-sync {}", sub.get_name()).as_str()]);
        heading.text([roman(sub.get_about().map(ToString::to_string).unwrap_or_default())]);
        heading.to_writer(&mut out)?;
        let own = sub.get_arguments().any(|argument| !argument.is_global_set() && argument.get_id() != "help");
        if own {
            // the section without its heading: it stands under the command's; what is common to all is told at the top
            let mut section = Vec::new();
            let is_common = |argument: &clap::Arg| argument.is_global_set() || argument.get_id() == "help";
            let own = sub.clone().mut_args(|argument| {
                let hidden = is_common(&argument);
                argument.hide(hidden)
            });
            Man::new(own).render_options_section(&mut section)?;
            let text = String::from_utf8_lossy(&section);
            out.write_all(text.replace(".SH OPTIONS\n", ".PP\n").as_bytes())?;
        }
    }
    let mut codes = Roff::default();
    codes.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in CODES {
        codes.control("TP", []);
        codes.text([bold(exit.code().to_string())]);
        codes.text([roman(meaning)]);
    }
    codes.to_writer(&mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
