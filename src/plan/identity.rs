//! Several CRM contacts with one e-mail or phone: one is sent, the others are listed.
//!
//! The rule looks only at what never changes (the order of arrival, the source), so that nothing alternates.

use super::{ContactId, SourceId};

/// Which of several contacts with one channel is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedChannel {
    /// The one that this program has known longest.
    #[default]
    Oldest,
    /// The one that came last.
    Newest,
    /// The one of the source that comes first; in it, the one that has been known longest.
    FirstSource,
}

/// Which of `rivals` is sent; `None` where there is none.
#[must_use]
pub fn winner_of(rivals: &[(SourceId, ContactId)], rule: SharedChannel) -> Option<ContactId> {
    let ids = rivals.iter().map(|(_, contact)| *contact);
    match rule {
        SharedChannel::Oldest => ids.min(),
        SharedChannel::Newest => ids.max(),
        SharedChannel::FirstSource => rivals.iter().min().map(|(_, contact)| *contact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_one_winner_whatever_the_order_of_the_rivals() {
        let rivals = [(SourceId(2), ContactId(1)), (SourceId(1), ContactId(5)), (SourceId(1), ContactId(3))];
        let reversed: Vec<_> = rivals.iter().rev().copied().collect();
        for (rule, expected) in
            [(SharedChannel::Oldest, 1), (SharedChannel::Newest, 5), (SharedChannel::FirstSource, 3)]
        {
            assert_eq!(winner_of(&rivals, rule), Some(ContactId(expected)));
            assert_eq!(winner_of(&reversed, rule), Some(ContactId(expected)));
        }
        assert_eq!(winner_of(&[], SharedChannel::Oldest), None);
    }
}
