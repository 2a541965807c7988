//! Consent to e-mail: what a record's word about it does.
//!
//! Lowering follows the level: whoever says no gets no mail. Raising is an edge: only a change from no to yes that this
//! program has witnessed, for one address. What is seen for the first time (of an address, of a mapping, of a contact that
//! returns) never raises.

use crate::contact::{Consent, Fingerprint};

/// What a contact's record last said of consent, and for which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsentState {
    /// What it said; `None`: nothing.
    pub said: Option<Consent>,
    /// The print of the address that it said it of.
    pub address: Fingerprint,
    /// Reteno was told of the no.
    pub is_lowered: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentAct {
    /// Nothing.
    None,
    /// The address is to get no mail, and a raise that waits is over.
    Lower {
        /// The record changed to no: it goes out whatever the guard says.
        is_witnessed: bool,
    },
    /// The address is to get mail again.
    Raise,
    /// A no that was never sent is over.
    Withdraw,
}

/// What a record that says `said` of `address` does to what is `known`. `is_anew`: what was known before does not count.
#[must_use]
pub fn consent_after(
    known: Option<&ConsentState>,
    said: Option<Consent>,
    address: Fingerprint,
    is_anew: bool,
) -> (ConsentState, ConsentAct) {
    let state = |is_lowered| ConsentState { said, address, is_lowered };
    if said == Some(Consent::No) && left_address(known, said, Some(address), is_anew).is_some() {
        return (state(false), ConsentAct::Lower { is_witnessed: true });
    }
    let before = known.filter(|known| !is_anew && known.address == address);
    let was_lowered = before.is_some_and(|before| before.is_lowered);
    match (before, said) {
        (None, Some(Consent::No)) => (state(false), ConsentAct::Lower { is_witnessed: false }),
        (None, Some(Consent::Yes) | None) => (state(false), ConsentAct::None),
        (Some(before), said) => match (before.said, said) {
            (Some(Consent::No), Some(Consent::No)) => (state(was_lowered), ConsentAct::None),
            (Some(Consent::Yes) | None, Some(Consent::No)) => (state(false), ConsentAct::Lower { is_witnessed: true }),
            (Some(Consent::No), Some(Consent::Yes)) if was_lowered => (state(false), ConsentAct::Raise),
            // Reteno never heard of the no, so there is nothing to take back: whoever opted out there has the last word
            (Some(Consent::No), Some(Consent::Yes)) => (state(false), ConsentAct::Withdraw),
            (Some(Consent::Yes) | None, Some(Consent::Yes) | None) | (Some(Consent::No), None) => {
                (state(was_lowered), ConsentAct::None)
            }
        },
    }
}

/// The address that a record leaves behind while it says no for the first time: whoever says so wants no mail to the old
/// address either. `address`: the one that it brings.
#[must_use]
pub fn left_address(
    known: Option<&ConsentState>,
    said: Option<Consent>,
    address: Option<Fingerprint>,
    is_anew: bool,
) -> Option<Fingerprint> {
    let before = known.filter(|_| !is_anew && said == Some(Consent::No))?;
    let is_news = before.said != Some(Consent::No) && address != Some(before.address);
    is_news.then_some(before.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Fingerprint = Fingerprint::from_u64(5);
    const OTHER: Fingerprint = Fingerprint::from_u64(6);
    const LOWER: ConsentAct = ConsentAct::Lower { is_witnessed: true };
    const LOWER_UNSEEN: ConsentAct = ConsentAct::Lower { is_witnessed: false };
    const NO: Option<Consent> = Some(Consent::No);
    const YES: Option<Consent> = Some(Consent::Yes);

    /// The acts of a history; every no is confirmed by Reteno before the next word.
    fn acts(words: &[(Option<Consent>, Fingerprint)], is_confirmed: bool) -> Vec<ConsentAct> {
        let mut known: Option<ConsentState> = None;
        words
            .iter()
            .map(|(said, address)| {
                let (mut state, act) = consent_after(known.as_ref(), *said, *address, false);
                state.is_lowered |= is_confirmed && state.said == NO;
                known = Some(state);
                act
            })
            .collect()
    }

    #[test]
    fn each_history_of_words_comes_to_its_acts() {
        use ConsentAct::{None as Nothing, Raise};
        let cases: &[(&[Option<Consent>], &[ConsentAct])] = &[
            // first sight never raises
            (&[YES], &[Nothing]),
            (&[None], &[Nothing]),
            (&[NO], &[LOWER_UNSEEN]),
            // witnessed both ways
            (&[YES, NO, YES], &[Nothing, LOWER, Raise]),
            (&[NO, YES, NO], &[LOWER_UNSEEN, Raise, LOWER]),
            // no, nothing said, yes is no witnessed raise
            (&[NO, None, YES], &[LOWER_UNSEEN, Nothing, Nothing]),
            (&[None, NO], &[Nothing, LOWER]),
            (&[NO, None, NO], &[LOWER_UNSEEN, Nothing, LOWER]),
            // the same word again is no news
            (&[NO, NO], &[LOWER_UNSEEN, Nothing]),
            (&[YES, YES], &[Nothing, Nothing]),
        ];
        for (words, expected) in cases {
            let history: Vec<_> = words.iter().map(|said| (*said, ADDRESS)).collect();
            assert_eq!(acts(&history, true), *expected, "{words:?}");
        }
    }

    #[test]
    fn another_address_is_seen_for_the_first_time() {
        assert_eq!(acts(&[(NO, ADDRESS), (YES, OTHER)], true), [LOWER_UNSEEN, ConsentAct::None]);
        // but a no that was not said before is witnessed, and of the address that was left, too
        assert_eq!(acts(&[(YES, ADDRESS), (NO, OTHER)], true), [ConsentAct::None, LOWER]);
        let known = |said| ConsentState { said, address: ADDRESS, is_lowered: false };
        assert_eq!(left_address(Some(&known(YES)), NO, Some(OTHER), false), Some(ADDRESS));
        assert_eq!(left_address(Some(&known(YES)), NO, None, false), Some(ADDRESS));
        assert_eq!(left_address(Some(&known(YES)), NO, Some(ADDRESS), false), None);
        assert_eq!(left_address(Some(&known(NO)), NO, Some(OTHER), false), None);
        assert_eq!(left_address(Some(&known(YES)), NO, Some(OTHER), true), None);
        assert_eq!(left_address(Some(&known(YES)), YES, Some(OTHER), false), None);
        // and back again
        let words = [(NO, ADDRESS), (NO, OTHER), (YES, ADDRESS)];
        assert_eq!(acts(&words, true), [LOWER_UNSEEN, LOWER_UNSEEN, ConsentAct::None]);
    }

    #[test]
    fn a_no_that_never_went_out_is_withdrawn_and_not_raised() {
        assert_eq!(acts(&[(YES, ADDRESS), (NO, ADDRESS), (YES, ADDRESS)], false)[2], ConsentAct::Withdraw);
    }

    #[test]
    fn a_changed_mapping_never_raises() {
        let known = ConsentState { said: NO, address: ADDRESS, is_lowered: true };
        assert_eq!(consent_after(Some(&known), YES, ADDRESS, true).1, ConsentAct::None);
        assert_eq!(consent_after(Some(&known), NO, ADDRESS, true).1, LOWER_UNSEEN);
    }
}
