//! The command line: what the words mean, and which code the process ends with.

mod approve;
mod authorize;
mod check;
mod consent;
mod crm_tokens;
mod demo;
mod doubts;
mod erased;
mod estimate;
mod exit;
mod explain;
mod look_up;
mod manual;
mod plan;
mod plan_words;
mod reconcile;
mod rejected;
mod run;
mod sandbox;
mod segments;
mod session;
mod source;
mod status;
mod sync;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::checkpoint::RejectionChoice;
use crate::config::PATH_DEFAULT;
use crate::daemon::cycle::Reach;
use crate::logging::{Log, LogFormat, Wish};
use crate::report;

pub use exit::{Exit, Failure};

/// Keeps the contacts of a Reteno account equal to a CRM.
#[derive(Debug, Parser)]
#[command(name = "reteno-sync", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, env = "RETENO_SYNC_CONFIG", default_value = PATH_DEFAULT, value_name = "FILE")]
    config: PathBuf,
    /// The same as the command `authorize`.
    #[arg(long)]
    authorize: bool,
    /// With --authorize: finish with the address that the browser was redirected to.
    #[arg(long, value_name = "URL", requires = "authorize")]
    auth_response: Option<String>,
    /// With --authorize: in the CRM of this source, in place of Reteno.
    #[arg(long, value_name = "NAME", requires = "authorize", conflicts_with = "new_account")]
    source: Option<String>,
    /// With --authorize: allow another account than the one authorized first.
    #[arg(long, requires = "authorize")]
    new_account: bool,
    /// More in the log (twice for everything).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Less in the log (twice for errors only).
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "verbose")]
    quiet: u8,
    /// How log lines look; the configuration's `log.format` otherwise.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// How results look.
    #[arg(long, global = true, default_value = "text", value_name = "FORMAT")]
    output: Output,
    /// No colours (also with the variable `NO_COLOR`).
    #[arg(long, global = true)]
    no_color: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// How results look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables for people.
    Text,
    /// One JSON document for programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon (also without any command).
    Run,
    /// One cycle of every source: reads, sends, waits until all is acknowledged or rejected.
    Sync {
        /// This source only.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// How long to wait for what was sent; what is still open then goes on at the next run.
        #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
        wait: Duration,
    },
    /// What `sync` would do: reads and decides, sends nothing, moves no cursor.
    Plan {
        /// This source only.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// End with code 10 when there is something to do.
        #[arg(long)]
        detailed_exitcode: bool,
    },
    /// What the guard holds; with --yes releases exactly what it shows.
    Approve {
        /// The number of a hold; without it all are listed.
        id: Option<i64>,
        /// Release it.
        #[arg(long, requires = "id")]
        yes: bool,
    },
    /// Sources, backlog, holds, imports, rejections, alerts and tokens.
    Status,
    /// One contact's story.
    Explain {
        /// The CRM's id, source:id, an e-mail or a phone; an address is compared by its keyed hash and stored nowhere.
        key: String,
        /// Do not read the source for its record.
        #[arg(long)]
        offline: bool,
    },
    /// What could not be sent, and why.
    Rejected {
        #[command(subcommand)]
        action: Option<RejectedAction>,
    },
    /// Opt-outs that were carried out, and taking those of one read back.
    Consent {
        #[command(subcommand)]
        action: Option<ConsentAction>,
    },
    /// Contacts that were erased for ever.
    Erased {
        #[command(subcommand)]
        action: ErasedAction,
    },
    /// Takes what the CRM says now as what Reteno holds; sends nothing.
    Baseline {
        /// This source only.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// Do it without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Reads a source whole, now: finds who is gone, and what was missed.
    Reconcile {
        /// This source only.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// How long to wait for what was sent, where no daemon runs.
        #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
        wait: Duration,
    },
    /// How a source is read, and what comes of it.
    Source {
        #[command(subcommand)]
        action: SourceAction,
    },
    /// Checks the configuration, without a connection; tells every problem at once.
    Check,
    /// The one-time authorization in Reteno, or in a CRM.
    Authorize {
        /// In the CRM of this source, in place of Reteno.
        #[arg(long, value_name = "NAME", conflicts_with = "new_account")]
        source: Option<String>,
        /// Finish with the address that the browser was redirected to.
        #[arg(long, value_name = "URL")]
        auth_response: Option<String>,
        /// Allow another account than the one authorized first: everything is then sent anew.
        #[arg(long)]
        new_account: bool,
    },
    /// Everything in one process against a built-in Reteno: no configuration, no account.
    Demo(demo::DemoArguments),
    /// A script that completes commands in your shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// The manual page.
    Man,
    /// A built-in Reteno on this machine, for rehearsals and tests.
    #[command(hide = true)]
    Sandbox(sandbox::SandboxArguments),
}

#[derive(Debug, Subcommand)]
enum RejectedAction {
    /// Lists them, and counts them by reason.
    List {
        /// Also those that are ignored.
        #[arg(long)]
        all: bool,
    },
    /// Hides entries until their reason changes; they do not make `sync` end with code 3.
    #[command(group(clap::ArgGroup::new("which").required(true)))]
    Ignore {
        /// The contact as it is listed, or source:contact; or the place of a record without an id.
        #[arg(group = "which")]
        key: Option<String>,
        /// All with exactly this reason.
        #[arg(long, value_name = "TEXT", group = "which")]
        reason: Option<String>,
    },
    /// Has what was refused tried again, with what the CRM says now: its source is read whole.
    Retry {
        /// The contact as it is listed, or source:contact; without it all that are not ignored.
        key: Option<String>,
    },
    /// Writes all of them as CSV; no values.
    Export {
        /// The file, or - for standard output.
        file: String,
    },
}

#[derive(Debug, Subcommand)]
enum ConsentAction {
    /// Lists the reads whose opt-outs can be taken back.
    List,
    /// Takes back what this program opted out because of one read, where nobody has asked for it since. Mend the mapping
    /// and read with it first.
    Undo {
        /// The number of the read, from the list.
        #[arg(long, value_name = "ID")]
        cycle: i64,
        /// Also those of whom it is not known that their record had said yes before: some may have left by Reteno's own link.
        #[arg(long)]
        also_unknown: bool,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
enum SourceAction {
    /// Prints the whole description in effect: preset, file and variables together. Secrets are not shown.
    Show {
        /// A source of the configuration, or a preset.
        name: String,
    },
    /// Reads one page, shows what three records become, and says what to register for webhooks. Sends nothing.
    Test {
        /// A source of the configuration.
        name: String,
        /// Shows the values themselves: people's data.
        #[arg(long)]
        show_values: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ErasedAction {
    /// Lets an erased contact come back when the CRM shows it.
    Lift {
        /// The CRM's id, or source:id.
        key: String,
    },
}

/// What every command is given.
pub(crate) struct Context {
    config: PathBuf,
    output: Output,
    /// Draws where a person looks.
    progress: report::Progress,
    log: Log,
}

/// Parses the command line of this process, does what it says, and returns the process's exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let (true, Some(command)) = (cli.authorize, &cli.command)
        && !matches!(command, Command::Authorize { .. })
    {
        let words = "--authorize is a command of its own: give it without another one";
        Cli::command().error(clap::error::ErrorKind::ArgumentConflict, words).exit();
    }
    let color = !cli.no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let progress =
        report::Progress::on_terminal(std::io::stderr().is_terminal() && cli.output == Output::Text && cli.quiet == 0);
    let context = Context {
        config: cli.config.clone(),
        output: cli.output,
        log: Log::start(Wish {
            bars: progress.bars(),
            format: cli.log_format,
            verbosity: i16::from(cli.verbose) - i16::from(cli.quiet),
            color: color && std::io::stderr().is_terminal(),
        }),
        progress,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::plain(anyhow::Error::new(error).context("cannot start the runtime")).tell(),
    };
    let done = runtime.block_on(dispatch(cli, &context));
    // a thread that reads standard input for ever must not hold the process
    runtime.shutdown_background();
    match done {
        Ok(exit) => exit.into(),
        Err(failure) if context.log.is_for_programs() => {
            failure.log();
            failure.exit().into()
        }
        Err(failure) => failure.tell(),
    }
}

async fn dispatch(cli: Cli, context: &Context) -> Result<Exit, Failure> {
    if cli.authorize {
        let wish = authorize::Wish { source: cli.source, response: cli.auth_response, new_account: cli.new_account };
        return authorize::authorize(context, wish).await;
    }
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => run::run(context).await,
        Command::Sync { source, wait } => Box::pin(sync::sync(context, source.as_deref(), wait, Reach::Changes)).await,
        Command::Reconcile { source, wait } => Box::pin(reconcile::reconcile(context, source.as_deref(), wait)).await,
        Command::Source { action: SourceAction::Show { name } } => source::show(context, &name),
        Command::Source { action: SourceAction::Test { name, show_values } } => {
            source::test(context, &name, show_values).await
        }
        Command::Plan { source, detailed_exitcode } => plan::plan(context, source.as_deref(), detailed_exitcode).await,
        Command::Status => status::status(context).await,
        Command::Explain { key, offline } => explain::explain(context, &key, offline).await,
        Command::Approve { id, yes } => approve::approve(context, id, yes).await,
        Command::Rejected { action } => dispatch_rejected(action, context).await,
        Command::Consent { action: Some(ConsentAction::List) | None } => consent::list(context).await,
        Command::Consent { action: Some(ConsentAction::Undo { cycle, also_unknown, yes }) } => {
            let reach = if also_unknown { consent::Reach::AlsoUnknown } else { consent::Reach::SaidYes };
            consent::undo(context, cycle, reach, yes).await
        }
        Command::Erased { action: ErasedAction::Lift { key } } => erased::lift(context, &key).await,
        Command::Baseline { source, yes } => sync::baseline(context, source.as_deref(), yes).await,
        Command::Check => check::check(context),
        Command::Authorize { source, auth_response, new_account } => {
            let wish = authorize::Wish { source, response: auth_response, new_account };
            authorize::authorize(context, wish).await
        }
        Command::Demo(arguments) => demo::demo(context, &arguments).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "reteno-sync", &mut script);
            report::say(String::from_utf8_lossy(&script).trim_end());
            Ok(Exit::Done)
        }
        Command::Man => {
            let page = manual::page(Cli::command())
                .map_err(|error| Failure::plain(anyhow::Error::new(error).context("cannot write the manual page")))?;
            report::say(page.trim_end());
            Ok(Exit::Done)
        }
        Command::Sandbox(arguments) => sandbox::serve(&arguments).await,
    }
}

async fn dispatch_rejected(action: Option<RejectedAction>, context: &Context) -> Result<Exit, Failure> {
    match action {
        None => rejected::list(context, false).await,
        Some(RejectedAction::List { all }) => rejected::list(context, all).await,
        Some(RejectedAction::Ignore { key, reason }) => {
            let by_key = key.map(RejectionChoice::Contact);
            let choice =
                by_key.or(reason.map(RejectionChoice::Reason)).expect("the command line demands one of the two");
            rejected::ignore(context, choice).await
        }
        Some(RejectedAction::Retry { key }) => rejected::retry(context, key).await,
        Some(RejectedAction::Export { file }) => rejected::export(context, &file).await,
    }
}
