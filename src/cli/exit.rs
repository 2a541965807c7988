//! How a command ends: the exit codes that scripts and systemd rely on, and the words for a failure.

use std::io::Write;
use std::process::ExitCode;

use crate::checkpoint::CheckpointError;

/// The exit codes of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Done, but some contacts are rejected.
    Rejected,
    /// What is left waits for a person: the guard holds it.
    Held,
    /// There is something to do (`plan --detailed-exitcode`).
    Changes,
    /// Temporary: try again.
    TryAgain,
    /// A person has to authorize.
    NeedsAuthorization,
    /// The configuration has to be changed.
    Configuration,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Rejected => 3,
            Self::Held => 4,
            Self::Changes => 10,
            Self::TryAgain => 75,
            Self::NeedsAuthorization => 77,
            Self::Configuration => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command failed, what repairs it, and the code it ends with.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// A failure with its code and hint.
    pub fn of(exit: Exit, error: impl Into<anyhow::Error>, hint: Option<String>) -> Self {
        Self { exit, error: error.into(), hint }
    }

    /// What the checkpoint said, where it was the checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&CheckpointError> {
        self.error.downcast_ref()
    }

    /// A failure that nobody has a hint for.
    #[must_use]
    pub fn plain(error: anyhow::Error) -> Self {
        Self { exit: Exit::Failed, error, hint: None }
    }

    /// Logs the failure, for a log that programs read.
    pub(super) fn log(&self) {
        tracing::error!(hint = self.hint, "{:#}", self.error);
    }

    /// The code that the process ends with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether another process holds the lock of the one that sends.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.error.downcast_ref(), Some(CheckpointError::Busy { .. }))
    }

    /// The same with a hint that fits better.
    #[must_use]
    pub fn hinted(self, hint: String) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// Prints the failure to stderr and returns its code.
    #[must_use]
    pub fn tell(&self) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        // where stderr is closed nobody is there to be told
        let _told = writeln!(stderr, "error: {:#}", self.error);
        if let Some(hint) = &self.hint {
            let _told = writeln!(stderr, "hint: {hint}");
        }
        self.exit.into()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        let exit = if error.is_temporary() { Exit::TryAgain } else { Exit::Failed };
        let hint = error.hint();
        Self::of(exit, error, hint)
    }
}

impl From<crate::daemon::cycle::CycleError> for Failure {
    fn from(error: crate::daemon::cycle::CycleError) -> Self {
        let exit = match (error.needs_authorization(), error.is_temporary()) {
            (true, _) => Exit::NeedsAuthorization,
            (false, true) => Exit::TryAgain,
            (false, false) => Exit::Failed,
        };
        let hint = error.hint();
        Self::of(exit, error, hint)
    }
}

impl From<crate::config::MissingCredentials> for Failure {
    fn from(error: crate::config::MissingCredentials) -> Self {
        let hint = error.hint().to_owned();
        Self::of(Exit::Configuration, error, Some(hint))
    }
}
