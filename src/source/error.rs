//! Why a read did not come to its end. The text never carries a record's content: places, names of columns and streams.
//! A tap's own last words, redacted, stand beside it for the log.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::http::auth::NoToken;
use crate::clock::Timestamp;
use crate::http::ExchangeError;

/// What broke, by what has to be done about it. Pages sent before it stand.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Asked to stop, or the receiver of the pages is gone. Nothing to repair.
    #[error("the read was stopped")]
    Stopped,
    /// Another process reads it, or another command of ours: a tap's working files serve one at a time.
    #[error("source {name} is being read by {reader}")]
    Busy {
        /// The source's name.
        name: String,
        /// Who reads it, in its own words.
        reader: String,
    },
    /// A file or directory cannot be used.
    #[error("cannot {action} {}", path.display())]
    Unreadable {
        /// The verb: open, read, write …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A directory, pipe or device where a file is needed.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// The file holds nothing: an export that failed looks like this, so it is no full read of nobody.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The first line of a table cannot be its header.
    #[error("the first line of {} is no header: {reason}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Why, without the line's content.
        reason: String,
    },
    /// The file is not in the encoding that is configured: every name in it would be garbled.
    #[error("{} is UTF-8, but the configured encoding is {stated}; the file was not read", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// As configured.
        stated: &'static str,
    },
    /// The table lacks the column of the record's id, so nobody in it can be told from another.
    #[error("{} has no column {column:?}, which holds the record's id{}", path.display(), similar(nearest.as_ref()))]
    NoKeyColumn {
        /// The file.
        path: PathBuf,
        /// The column as configured.
        column: String,
        /// A column of a similar name.
        nearest: Option<String>,
    },
    /// The delimiter cannot delimit.
    #[error("byte {delimiter} cannot be the delimiter of a table")]
    Delimiter {
        /// The byte.
        delimiter: u8,
    },
    /// The thread that reads the file died.
    #[error("the reading thread of {} died", path.display())]
    Worker {
        /// The file.
        path: PathBuf,
        /// How it died.
        #[source]
        source: tokio::task::JoinError,
    },
    /// The tap cannot be started.
    #[error("cannot start the tap {command}")]
    Start {
        /// The program, without its arguments.
        command: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The tap ended with a failure. The cursor stays at the last page sent: the next read goes on from there.
    #[error("the tap {command} failed ({outcome})")]
    TapFailed {
        /// The program, without its arguments.
        command: String,
        /// `exit code N` or `killed by signal N`.
        outcome: String,
        /// Its exit code, where it had one.
        code: Option<i32>,
        /// The last lines it wrote to stderr, redacted.
        stderr: Vec<String>,
    },
    /// The tap said nothing for too long and was killed.
    #[error("the tap {command} gave no sign of life for {} and was killed", seconds(*idle))]
    Hung {
        /// The program, without its arguments.
        command: String,
        /// How long it was waited for.
        idle: Duration,
        /// The last lines it wrote to stderr, redacted.
        stderr: Vec<String>,
    },
    /// The tap's output breaks the Singer specification in a way that leaves no sure meaning.
    #[error("message {message} of the tap cannot be followed: {reason}")]
    Protocol {
        /// Its line of stdout, from 1.
        message: u64,
        /// Why, without its content.
        reason: String,
    },
    /// The tap writes batch files in a form that is not read here.
    #[error("message {message} of the tap points to batch files in the form {form}, which is not read here")]
    BatchForm {
        /// Its line of stdout, from 1.
        message: u64,
        /// Format and compression.
        form: String,
    },
    /// The catalog, given or discovered, is not one.
    #[error("the catalog {origin} cannot be used: {reason}")]
    Catalog {
        /// The catalog's path, or `that the tap discovered`.
        origin: String,
        /// Why.
        reason: String,
    },
    /// A CRM did not answer, several times.
    #[error("no answer to {what}")]
    NoAnswer {
        /// What was asked: `the list`, `fetch`, …
        what: String,
        /// The connection's trouble.
        #[source]
        source: ExchangeError,
    },
    /// A CRM's answer is an error.
    #[error("{what} was answered with status {status}{}", by_rule(rule.as_ref()))]
    Answer {
        /// What was asked.
        what: String,
        /// The status.
        status: u16,
        /// The rule of the description that says so.
        rule: Option<String>,
    },
    /// A CRM's answer is none of those that its description tells of.
    #[error("the answer to {what} is not understood: {reason}")]
    NotUnderstood {
        /// What was asked.
        what: String,
        /// Why, without its content.
        reason: String,
    },
    /// The description makes no request.
    #[error("{what} cannot be asked for: {reason}")]
    Call {
        /// What was to be asked.
        what: String,
        /// Why.
        reason: String,
    },
    /// What the description demands before a read does not hold.
    #[error("the preflight of the source does not hold")]
    Preflight,
    /// The CRM gives no more records of one moment.
    #[error("{what} has more records of one moment than the CRM gives")]
    Stuck {
        /// The list.
        what: String,
    },
    /// The list is not in the order of change times.
    #[error("{what} is not sorted by change time, as its description says")]
    NotSorted {
        /// The list.
        what: String,
    },
    /// The CRM has blocked us.
    #[error("the CRM has blocked this source (errors.{rule}): nobody asks it before {until}")]
    Halted {
        /// The rule that said so.
        rule: String,
        /// It is asked again then.
        until: Timestamp,
    },
    /// The CRM asks for a long pause.
    #[error("the CRM wants no more requests before {until}")]
    Limited {
        /// It is asked again then.
        until: Timestamp,
    },
    /// The stream is not in the catalog.
    #[error("the tap has no stream {stream:?}; {}", offered(nearest))]
    NoStream {
        /// What was asked for.
        stream: String,
        /// Names that it has, the most similar first.
        nearest: Vec<String>,
    },
    /// There is no token to ask the CRM with.
    #[error(transparent)]
    NoToken(#[from] NoToken),
}

impl SourceError {
    /// The last lines that a tap wrote to its log, redacted. For our log only: no redaction is certain.
    #[must_use]
    pub fn last_words(&self) -> &[String] {
        match self {
            Self::TapFailed { stderr, .. } | Self::Hung { stderr, .. } => stderr,
            _ => &[],
        }
    }

    /// Whether another attempt may succeed without anybody's help.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Limited { .. } => true,
            Self::NoToken(missing) => missing.is_temporary(),
            _ => false,
        }
    }

    /// Whether a person has to authorize this program in the CRM.
    #[must_use]
    pub const fn needs_authorization(&self) -> bool {
        matches!(self, Self::NoToken(NoToken::NeedsAuthorization { .. }))
    }

    /// What an operator can do, where a command or a key repairs it.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::NoToken(missing) => return missing.hint().map(Cow::Owned),
            Self::NoAnswer { source, .. } => source.hint(),
            Self::Stopped | Self::Worker { .. } | Self::Protocol { .. } | Self::Limited { .. } => None,
            Self::Answer { status: 401 | 403, .. } => {
                Some("see the secret of this source, and the rights of its user in the CRM")
            }
            Self::Answer { .. } | Self::NotUnderstood { .. } | Self::Call { .. } => {
                Some("try it with `reteno-sync source test NAME`, and compare the description with the CRM's documents")
            }
            Self::Preflight => {
                Some("see [source.NAME.preflight] and the page of this CRM: an option is not switched on")
            }
            Self::Stuck { .. } => Some(
                "read it without order (cursor.ordered = false), or raise pagination.max_records if the CRM gives more",
            ),
            Self::NotSorted { .. } => {
                Some("sort the list by the change time in its request, or set cursor.ordered = false")
            }
            Self::Halted { .. } => Some("ask the CRM's support, or wait; restart the daemon to try at once"),

            Self::Busy { .. } => Some("try again when it has ended"),
            Self::NoKeyColumn { .. } => Some("set key of this source to the column, and check its delimiter"),
            Self::Unreadable { source, .. } => Some(file_hint(source.kind())),
            Self::NotAFile { .. } => Some("set path to a file; a pipe or directory cannot be read again"),
            Self::Empty { .. } => {
                Some("write exports to a temporary name and rename them; a table of nobody still has its header")
            }
            Self::Header { .. } => {
                Some("check delimiter and encoding of this source, and that line 1 names the columns")
            }
            Self::Encoding { .. } => {
                Some("set encoding of this source to \"utf-8\", or have the file written as before")
            }
            Self::Delimiter { .. } => Some("set delimiter to one ASCII character, such as \",\", \";\" or a tab"),
            Self::Start { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("let the daemon's user execute the tap's program")
            }
            Self::Start { .. } => Some("set command to the tap's full path, as in [\"/opt/taps/bin/tap-postgres\"]"),
            Self::TapFailed { .. } => Some("run the tap's command by hand, as the daemon's user, with the same config"),
            Self::Hung { .. } => Some("raise idle_timeout if this tap may be silent for longer"),
            Self::BatchForm { .. } => {
                Some("remove batch_config from the tap's configuration, so that it sends records")
            }
            Self::Catalog { .. } => {
                Some("run the tap with --discover by hand, and set catalog to a file of its output")
            }
            Self::NoStream { .. } => Some("set stream to one of the tap's names, exactly as spelt there"),
        };
        hint.map(Cow::Borrowed)
    }
}

/// What repairs a file or directory that cannot be used.
const fn file_hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "it is missing: correct the path in the configuration, or have the file written there"
        }
        io::ErrorKind::PermissionDenied => "the daemon's user needs read access (and write access to its state_dir)",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on its disk",
        io::ErrorKind::ReadOnlyFilesystem => "its disk is mounted read-only: mount it writable",
        _ => "look at the file and its disk: the system's log may say what is wrong",
    }
}

/// A name that is similar enough to be meant. Others are not shown: a file without a header has people there.
pub(super) fn similar(nearest: Option<&String>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; a similar one is {nearest:?}"))
}

fn seconds(wait: Duration) -> String {
    format!("{} s", wait.as_secs_f64())
}

fn offered(nearest: &[String]) -> String {
    if nearest.is_empty() { "it offers none at all".to_owned() } else { format!("it offers {}", nearest.join(", ")) }
}

fn by_rule(rule: Option<&String>) -> String {
    rule.map_or_else(String::new, |rule| format!(" (errors.{rule})"))
}
