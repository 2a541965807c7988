//! `[log]`: how much is logged, and in which form.

use serde::Deserialize;

use super::raw::Leaf;
use super::reader::Reader;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    level: Option<Leaf>,
    format: Option<Leaf>,
}

/// How to log. The command line's flags come before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// A level of importance, as in `tracing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What stops the program.
    Error,
    /// What wants an operator.
    Warn,
    /// Cycles and their balance.
    Info,
    /// Each call.
    Debug,
    /// Each decision.
    Trace,
}

impl LogLevel {
    const WORDS: [(&str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
    /// For the journal: it stamps the time itself, and reads the importance from a prefix.
    Journald,
}

impl LogFormat {
    const WORDS: [(&str, Self); 3] = [("text", Self::Text), ("json", Self::Json), ("journald", Self::Journald)];
}

pub(super) fn resolve(reader: &mut Reader, raw: &RawLog) -> Option<Log> {
    let level = reader.choice(raw.level.as_ref(), &LogLevel::WORDS, &[]);
    let format = reader.choice(raw.format.as_ref(), &LogFormat::WORDS, &[]);
    Some(Log { level: level?, format: format? })
}
