//! Why a value cannot be sent: words that never hold the value.

use std::borrow::Cow;
use std::fmt;

/// The rule that a value breaks, in words for an operator. Built from constants only, so that no personal value can
/// get into a log or a listing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Refusal(&'static str);

impl Refusal {
    /// A refusal in these words: lower case, without full stop.
    #[must_use]
    pub const fn of(rule: &'static str) -> Self {
        Self(rule)
    }

    /// The words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({:?})", self.0)
    }
}

/// A value in canonical form (borrowed where it already was in it), or the rule that it breaks.
pub type Checked<'a> = Result<Cow<'a, str>, Refusal>;

/// A value that is there and holds nothing but invisible characters.
pub const NOTHING_VISIBLE: Refusal = Refusal::of("holds no visible character");
