//! The canonical form of plain text: visible characters, single spaces, composed letters (NFC).
//!
//! Two systems that show the same name must give the same bytes here, or every sync would send it again. This file
//! knows no field and no limit.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

const NFC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfc();

/// One line: every run of white space and control characters becomes one space, invisible characters are removed,
/// letters are composed.
#[must_use]
pub fn single_line(value: &str) -> Cow<'_, str> {
    let value = value.trim();
    if is_plain_line(value) {
        return Cow::Borrowed(value);
    }
    let mut line = String::with_capacity(value.len());
    for character in value.chars().filter(|character| !is_invisible(*character)) {
        if !is_blank(character) {
            line.push(character);
        } else if !line.is_empty() && !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line.truncate(line.trim_end().len());
    Cow::Owned(composed(line))
}

/// Several lines: as [`single_line`] for each line; line breaks become `\n`, empty lines inside are kept.
#[must_use]
pub fn several_lines(value: &str) -> Cow<'_, str> {
    let value = value.trim();
    if !value.contains(is_line_break) {
        return single_line(value);
    }
    let unified = value.replace("\r\n", "\n");
    let lines: Vec<_> = unified.split(is_line_break).map(single_line).collect();
    Cow::Owned(lines.join("\n").trim().to_owned())
}

/// A word as it is compared: one line without case.
#[must_use]
pub fn folded(value: &str) -> String {
    single_line(value).to_lowercase()
}

/// Words to compare with: folded, without the empty ones.
#[must_use]
pub fn folded_words(words: &[String]) -> Vec<String> {
    words.iter().map(|word| folded(word)).filter(|word| !word.is_empty()).collect()
}

/// Length as Reteno may count it. Its documents say "characters"; UTF-16 units are the larger of the usual counts,
/// so that what passes here is not too long there.
#[must_use]
pub fn length(value: &str) -> usize {
    if value.is_ascii() { value.len() } else { value.encode_utf16().count() }
}

/// Whether a control or invisible character is inside.
#[must_use]
pub fn has_hidden_characters(value: &str) -> bool {
    value.chars().any(|character| character.is_control() || is_invisible(character))
}

fn composed(text: String) -> String {
    if text.is_ascii() {
        return text;
    }
    match NFC.normalize(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(normal) => normal,
    }
}

/// Whether a text is canonical at a glance: printable ASCII with single spaces, and letters of the Latin and Cyrillic
/// blocks below, which are composed already and have no combining mark among them. Nearly every value is.
fn is_plain_line(value: &str) -> bool {
    let mut after_space = false;
    value.chars().all(|character| {
        let double = after_space && character == ' ';
        after_space = character == ' ';
        !double && matches!(character, ' '..='~' | '\u{c0}'..='\u{2ff}' | '\u{400}'..='\u{482}' | '\u{48a}'..='\u{52f}')
    })
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() || character.is_control()
}

fn is_line_break(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

/// Zero-width spaces, soft hyphen and direction marks: they come with copy and paste and change nothing that is seen.
/// The zero-width joiners stay: scripts of India, Persian and emoji are written with them.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The glance must never let through what the long way would change.
    #[test]
    fn what_is_plain_at_a_glance_is_composed() {
        let mut plain = 0;
        for character in '\0'..=char::MAX {
            let text = format!("a{character}b");
            if is_plain_line(&text) {
                plain += 1;
                assert!(!is_invisible(character) && (character == ' ' || !is_blank(character)), "{character:?}");
                for neighbour in ["a", "и", "\u{ff}"] {
                    assert!(NFC.is_normalized(&format!("{neighbour}{character}{neighbour}")), "{character:?}");
                }
            }
        }
        assert_eq!(plain, 95 + 576 + 131 + 166);
    }

    #[test]
    fn equal_looks_give_equal_bytes() {
        let rows = [
            // plain text is left alone
            ("Kyiv", "Kyiv"),
            // outer white space, also a no-break space
            ("\u{a0} Kyiv \t", "Kyiv"),
            // runs of white space and line breaks
            ("Bila\r\n  Tserkva", "Bila Tserkva"),
            ("Bila\u{a0}\u{2003}Tserkva", "Bila Tserkva"),
            // a control character parts words, as a line break does
            ("Bila\u{1}Tserkva", "Bila Tserkva"),
            // zero-width characters, byte order mark and direction marks
            ("\u{feff}Ky\u{200b}iv\u{200e}", "Kyiv"),
            // decomposed й, as macOS and some exports write it
            ("Сергіи\u{306}", "Сергій"),
            // the joiner of an emoji family stays
            ("👩\u{200d}👧", "👩\u{200d}👧"),
            // nothing visible
            ("\u{200b}", ""),
        ];
        for (given, wanted) in rows {
            assert_eq!(single_line(given), wanted);
        }
    }

    #[test]
    fn lines_are_kept_where_they_are_allowed() {
        assert_eq!(several_lines(" a \r\n\r\n b  c\rd\n "), "a\n\nb c\nd");
    }

    #[test]
    fn length_counts_what_the_stricter_side_counts() {
        assert_eq!(length("abc"), 3);
        assert_eq!(length("їжа"), 3);
        assert_eq!(length("👩"), 2);
    }
}
