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

impl SharedChannel {
    const ALL: [Self; 3] = [Self::Oldest, Self::Newest, Self::FirstSource];

    /// Its word. It is stored: never change it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oldest => "oldest",
            Self::Newest => "newest",
            Self::FirstSource => "first_source",
        }
    }

    /// The rule of a stored word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// A contact that wants to be sent with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Where it comes from.
    pub source: SourceId,
    /// Its row.
    pub contact: ContactId,
}

/// Whether `first` is sent rather than `second`, where both can be sent and have one address. A strict order: of two
/// different contacts exactly one is sent.
#[must_use]
pub fn outranks(first: &Rival, second: &Rival, rule: SharedChannel) -> bool {
    match rule {
        SharedChannel::Oldest => first.contact < second.contact,
        SharedChannel::Newest => first.contact > second.contact,
        SharedChannel::FirstSource => (first.source, first.contact) < (second.source, second.contact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_a_strict_order_with_one_first() {
        let rival = |source, contact| Rival { source: SourceId(source), contact: ContactId(contact) };
        let rivals = [rival(2, 1), rival(1, 5), rival(1, 3)];
        for (rule, expected) in
            [(SharedChannel::Oldest, 1), (SharedChannel::Newest, 5), (SharedChannel::FirstSource, 3)]
        {
            for a in &rivals {
                for b in &rivals {
                    let is_one = a == b || outranks(a, b, rule) != outranks(b, a, rule);
                    assert!(is_one && !outranks(a, a, rule), "{rule:?} {a:?} {b:?}");
                }
            }
            let first = rivals.iter().find(|a| rivals.iter().all(|b| a == &b || outranks(a, b, rule)));
            assert_eq!(first.map(|rival| rival.contact), Some(ContactId(expected)), "{rule:?}");
        }
    }

    #[test]
    fn a_rules_word_comes_back_as_the_rule() {
        for rule in SharedChannel::ALL {
            assert_eq!(SharedChannel::from_name(rule.name()), Some(rule));
        }
    }
}
