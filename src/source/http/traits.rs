//! What a CRM turned out to do while it was read, beside what its description says. Decides nothing.

/// What a CRM turned out to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    /// The records came in the order of their times.
    pub(super) is_sorted: bool,
    /// None was older than what was asked for.
    pub(super) is_filtered: bool,
    /// It gives no more of a query that has no order, although there is more.
    pub(super) is_capped: bool,
    /// The CRM itself has shown where the list ends.
    pub(super) is_proven: bool,
    /// A record had a change time that could be read; `None` where there was no record.
    pub(super) has_times: Option<bool>,
}
