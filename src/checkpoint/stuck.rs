//! Why a contact that differs is not due.

/// See the module's text. Its number is stored: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stuck {
    /// It is due.
    No,
    /// Reteno refused it: until it changes.
    Rejected,
    /// Its values are not at hand: until its record is read again.
    Starved,
    /// Another contact with its channel is sent in its place.
    Shadowed,
    /// It is gone from the CRM, and what was to be done about that is done: until its record comes back.
    Ended,
}

impl Stuck {
    const ALL: [Self; 5] = [Self::No, Self::Rejected, Self::Starved, Self::Shadowed, Self::Ended];

    pub(super) const fn number(self) -> i64 {
        match self {
            Self::No => 0,
            Self::Rejected => 1,
            Self::Starved => 2,
            Self::Shadowed => 3,
            Self::Ended => 4,
        }
    }

    /// The CHECK constraint of the table allows no other numbers.
    pub(super) fn from_number(number: i64) -> Self {
        Self::ALL.into_iter().find(|stuck| stuck.number() == number).unwrap_or(Self::No)
    }
}
