//! What is wrong with a configuration, said so that an operator can mend it at once. Holds words, never a secret:
//! whoever builds a [`Problem`] has already masked the value.

use std::fmt;
use std::path::{Path, PathBuf};

/// The place of a key in the configuration: `reteno.client_id`, `source.crm.contact.email`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(transparent)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    /// A path of these segments, outermost first.
    #[must_use]
    pub fn of(segments: &[&str]) -> Self {
        Self(segments.iter().map(ToString::to_string).collect())
    }

    /// This path and one segment more.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let mut segments = self.0.clone();
        segments.push(name.to_owned());
        Self(segments)
    }

    /// This path without its last segment; `None` for the top.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// The innermost segment; empty for the top.
    #[must_use]
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// The segments, outermost first.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// The environment variable that sets this key.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}{}", super::env::PREFIX, self.0.join("__").to_uppercase())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(".")?;
            }
            let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if !segment.is_empty() && segment.chars().all(bare) {
                f.write_str(segment)?;
            } else {
                write!(f, "{segment:?}")?;
            }
        }
        Ok(())
    }
}

/// Where a problem is. The order is the order in which problems are shown: the file from its top, then variables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file; line and column count from 1, where they are known.
    File {
        /// As it was named on the command line.
        path: PathBuf,
        /// The line of the key.
        line: Option<usize>,
        /// Only for text that is not TOML.
        column: Option<usize>,
    },
    /// An environment variable.
    Variable(String),
}

impl Place {
    /// A file as a whole.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self::File { path: path.to_owned(), line: None, column: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => {
                write!(f, "{}", path.display())?;
                for number in [line, column].into_iter().flatten() {
                    write!(f, ":{number}")?;
                }
                Ok(())
            }
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong, with all that is needed to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key, where it is about one.
    pub key: Option<KeyPath>,
    /// What is wrong, so that it reads on after the key.
    pub what: String,
    /// The offending value as TOML; `****` for a secret.
    pub value: Option<String>,
    /// What would be taken instead.
    pub accepted: Option<String>,
    /// The key or command that repairs it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of the whole `place`.
    #[must_use]
    pub fn at(place: Place, what: impl Into<String>) -> Self {
        Self { place, key: None, what: what.into(), value: None, accepted: None, hint: None }
    }

    /// About this key.
    #[must_use]
    pub fn key(mut self, key: &KeyPath) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Shows this value: the caller has masked what must not be seen.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Says what would be taken.
    #[must_use]
    pub fn accepted(mut self, accepted: impl Into<String>) -> Self {
        self.accepted = Some(accepted.into());
        self
    }

    /// Says what repairs it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, what, value, accepted, hint } = self;
        match key {
            Some(key) => write!(f, "{place}: {key} {what}")?,
            None => write!(f, "{place}: {what}")?,
        }
        for (label, text) in [("value:    ", value), ("accepted: ", accepted), ("hint:     ", hint)] {
            if let Some(text) = text {
                write!(f, "\n  {label}{text}")?;
            }
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration, at least one problem. `Display` prints one block each.
#[derive(Debug)]
pub struct ConfigProblems(Vec<Problem>);

impl ConfigProblems {
    /// The problems in the order of the file, then those of variables.
    pub(super) fn sorted(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|left, right| left.place.cmp(&right.place));
        Self(problems)
    }

    /// The problems, in the order in which they are shown.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 problem in the configuration")?,
            count => write!(f, "{count} problems in the configuration")?,
        }
        for problem in &self.0 {
            write!(f, "\n\n{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblems {}
