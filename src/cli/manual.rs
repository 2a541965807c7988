//! The manual page: the whole command line, each command with its options, and what the exit codes want.

use std::io::Write;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Exit;

/// Every code that a command ends with, beside clap's own 2 for a wrong command line.
const CODES: [(u8, &str); 9] = [
    (Exit::Done.code(), "done"),
    (Exit::Failed.code(), "failed: read the error: and hint: lines"),
    (2, "wrong usage: see --help"),
    (Exit::Rejected.code(), "done, but some contacts are rejected: see rejected list"),
    (Exit::Held.code(), "held by the guard: see approve"),
    (Exit::Changes.code(), "plan --detailed-exitcode: there is something to do"),
    (Exit::TryAgain.code(), "temporary: run it again"),
    (Exit::NeedsAuthorization.code(), "a person has to authorize"),
    (Exit::Configuration.code(), "the configuration has to be changed"),
];

fn shown(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}

/// A command with its options, and then those below it.
fn write_command(out: &mut Vec<u8>, name: &str, command: &clap::Command) -> std::io::Result<()> {
    let mut heading = Roff::default();
    heading.control("SH", [name]);
    heading.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
    heading.to_writer(out)?;
    if command.get_arguments().any(|argument| !argument.is_global_set() && argument.get_id() != "help") {
        // the section without its heading: it stands under the command's; what is common to all is told at the top
        let mut section = Vec::new();
        let is_common = |argument: &clap::Arg| argument.is_global_set() || argument.get_id() == "help";
        let own = command.clone().mut_args(|argument| {
            let hidden = is_common(&argument);
            argument.hide(hidden)
        });
        Man::new(own).render_options_section(&mut section)?;
        let text = String::from_utf8_lossy(&section);
        out.write_all(text.replace(".SH OPTIONS\n", ".PP\n").as_bytes())?;
    }
    shown(command).try_for_each(|sub| write_command(out, &format!("{name} {}", sub.get_name()), sub))
}

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
    for sub in shown(&command) {
        write_command(&mut out, &format!("reteno-sync {}", sub.get_name()), sub)?;
    }
    let mut codes = Roff::default();
    codes.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in CODES {
        codes.control("TP", []);
        codes.text([bold(code.to_string())]);
        codes.text([roman(meaning)]);
    }
    codes.to_writer(&mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
