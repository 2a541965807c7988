//! Parts of a text: the halves of a name that a CRM keeps in one field.

use super::selector::{Read, Selector, View};

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `first_word(…)`: up to the first blank.
    FirstWord,
    /// `other_words(…)`: what follows the first word; nothing where there is only one.
    OtherWords,
}

impl Part {
    const WORDS: [(&'static str, Self); 2] = [("first_word", Self::FirstWord), ("other_words", Self::OtherWords)];

    /// The part and the place that a text like `first_word($.name)` names.
    pub(super) fn split(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once('(')?;
        let (_, part) = Self::WORDS.into_iter().find(|(known, _)| *known == word)?;
        Some((part, rest.strip_suffix(')')?))
    }

    pub(super) fn of(self, text: &str) -> Option<&str> {
        match self {
            Self::FirstWord => text.split_whitespace().next(),
            Self::OtherWords => {
                text.split_once(char::is_whitespace).map(|(_, rest)| rest.trim()).filter(|rest| !rest.is_empty())
            }
        }
    }
}

/// The places of two names of one person, first and last, where both are lists of equal length of which one pair of
/// places holds the halves of one text: `["$.first_name", "first_word($.name)"]` and `["$.last_name", "other_words($.name)"]`. They are read together.
pub(super) fn halves<'a>(first: &'a Selector, last: &'a Selector) -> Option<(&'a [Selector], &'a [Selector])> {
    let (Selector::FirstOf(first), Selector::FirstOf(last)) = (first, last) else { return None };
    let are_halves = |(one, other): (&Selector, &Selector)| match (one, other) {
        (Selector::Part(part, text), Selector::Part(rest, other)) => part != rest && text == other,
        _ => false,
    };
    let has_halves = first.iter().zip(last).any(are_halves);
    (first.len() == last.len() && first.len() > 1 && has_halves).then_some((first, last))
}

/// Which of the places of [`halves`] counts for both: the first at which either name stands. So a last name that stands
/// alone does not become the first name, too.
pub(super) fn place_of_names(first: &[Selector], last: &[Selector], view: &View<'_>) -> Option<usize> {
    let has_value = |selector: &Selector| matches!(selector.read_in(view), Read::Value(_));
    first.iter().zip(last).position(|(first, last)| has_value(first) || has_value(last))
}
