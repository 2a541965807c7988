//! Reteno's rules for standard fields, and their canonical forms.
//!
//! Where Reteno's documents leave a rule open, the stricter reading is taken: a field that is left out and listed is
//! repaired sooner than a contact that is refused in a batch.

use std::borrow::Cow;

use chrono_tz::{TZ_VARIANTS, Tz};
use oxilangtag::LanguageTag;

use super::damage::{damage_of, damage_of_id};
use super::refusal::{Checked, NOTHING_VISIBLE, Refusal};
use super::text::{length, single_line};

const NAME_LENGTH_MAX: usize = 40;
const NAME_DIGITS_MAX: usize = 3;
/// Words longer than this are "long" in Reteno's rule; a dot may stand only after the others.
const SHORT_WORD_LETTERS_MAX: usize = 3;
const NAME_LONG_WORDS_MAX: usize = 3;
const NAME_SHORT_WORDS_MAX: usize = 3;
/// Reteno documents no limit for ids; longer ones are a mistake in the mapping rather than an id.
const ID_LENGTH_MAX: usize = 255;
/// Reteno documents no limit for the address; this is its limit for additional text fields.
pub const ADDRESS_LENGTH_MAX: usize = 1_000;
/// As for the address, for town and region: no documented limit, this is the usual width of such a column.
pub const PLACE_LENGTH_MAX: usize = 255;
/// No country's postal codes come near this.
pub const POSTCODE_LENGTH_MAX: usize = 32;

/// An id (external customer id, contact key): taken as it stands, since it must equal what others hold; refused where a
/// spreadsheet has damaged it.
pub fn canonical_id(text: &str) -> Checked<'_> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err(Refusal::of("the id holds a control character"));
    }
    if length(text) > ID_LENGTH_MAX {
        return Err(Refusal::of("the id is longer than 255 characters"));
    }
    if text.is_empty() {
        return Err(Refusal::of("the id is empty"));
    }
    // what a spreadsheet leaves of an id may be anyone's
    match damage_of_id(text) {
        Some(damage) => Err(damage),
        None => Ok(Cow::Borrowed(text)),
    }
}

/// Free text in one line, up to a length.
pub fn canonical_line(text: &str, length_max: usize) -> Checked<'_> {
    let line = single_line(text);
    if line.is_empty() {
        return Err(NOTHING_VISIBLE);
    }
    if let Some(damage) = damage_of(&line) {
        return Err(damage);
    }
    if length(&line) > length_max { Err(Refusal::of("the text is too long for the field")) } else { Ok(line) }
}

/// An RFC 5646 tag in its usual case: `uk`, `en-US`. An underscore counts as a hyphen.
pub fn canonical_language(text: &str) -> Checked<'_> {
    const NO_TAG: Refusal = Refusal::of("the language is not an RFC 5646 tag such as uk or en-US");
    const NO_LANGUAGE: Refusal =
        Refusal::of("the language is no code of ISO 639 (ua is a country; its language is uk)");
    let text = text.trim();
    if LANGUAGES.binary_search(&text).is_ok() {
        return Ok(Cow::Borrowed(text));
    }
    let tag = LanguageTag::parse_and_normalize(&text.replace('_', "-")).map_err(|_| NO_TAG)?;
    // Longer words are well-formed by the RFC ("english"), yet no language has such a code.
    let language = tag.primary_language();
    let is_code = (2..=3).contains(&language.len()) && language.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !is_code {
        return Err(NO_TAG);
    }
    // Countries are written where languages belong: `ua` and `cz` are well-formed, and no language.
    if language.len() == 2 && LANGUAGES.binary_search(&language).is_err() {
        return Err(NO_LANGUAGE);
    }
    Ok(Cow::Owned(tag.into_inner()))
}

/// The two-letter codes of ISO 639, with those that the registry of RFC 5646 keeps for old data (`iw`, `sh` …). Sorted.
/// Three letters are not looked up: there are eight thousand of them, and nobody takes them for a country.
#[rustfmt::skip]
const LANGUAGES: [&str; 190] = [
    "aa", "ab", "ae", "af", "ak", "am", "an", "ar", "as", "av", "ay", "az", "ba", "be", "bg", "bh", "bi", "bm", "bn",
    "bo", "br", "bs", "ca", "ce", "ch", "co", "cr", "cs", "cu", "cv", "cy", "da", "de", "dv", "dz", "ee", "el", "en",
    "eo", "es", "et", "eu", "fa", "ff", "fi", "fj", "fo", "fr", "fy", "ga", "gd", "gl", "gn", "gu", "gv", "ha", "he",
    "hi", "ho", "hr", "ht", "hu", "hy", "hz", "ia", "id", "ie", "ig", "ii", "ik", "in", "io", "is", "it", "iu", "iw",
    "ja", "ji", "jv", "jw", "ka", "kg", "ki", "kj", "kk", "kl", "km", "kn", "ko", "kr", "ks", "ku", "kv", "kw", "ky",
    "la", "lb", "lg", "li", "ln", "lo", "lt", "lu", "lv", "mg", "mh", "mi", "mk", "ml", "mn", "mo", "mr", "ms", "mt",
    "my", "na", "nb", "nd", "ne", "ng", "nl", "nn", "no", "nr", "nv", "ny", "oc", "oj", "om", "or", "os", "pa", "pi",
    "pl", "ps", "pt", "qu", "rm", "rn", "ro", "ru", "rw", "sa", "sc", "sd", "se", "sg", "sh", "si", "sk", "sl", "sm",
    "sn", "so", "sq", "sr", "ss", "st", "su", "sv", "sw", "ta", "te", "tg", "th", "ti", "tk", "tl", "tn", "to", "tr",
    "ts", "tt", "tw", "ty", "ug", "uk", "ur", "uz", "ve", "vi", "vo", "wa", "wo", "xh", "yi", "yo", "za", "zh", "zu",
];

/// A name of the tz database in its own spelling. An older name of a zone (`Europe/Kiev`) stays: Reteno may know only
/// that one.
pub fn canonical_time_zone(text: &str) -> Checked<'_> {
    let text = text.trim();
    if text.parse::<Tz>().is_ok() {
        return Ok(Cow::Borrowed(text));
    }
    TZ_VARIANTS
        .iter()
        .map(|zone| zone.name())
        .find(|name| name.eq_ignore_ascii_case(text))
        .map(Cow::Borrowed)
        .ok_or(Refusal::of("the time zone is not a tz database name such as Europe/Kyiv"))
}

/// A first name: as a last name, and with at most three words longer than three letters and three shorter ones.
pub fn canonical_first_name(text: &str) -> Checked<'_> {
    let name = canonical_last_name(text)?;
    let letters = |word: &str| word.strip_suffix('.').unwrap_or(word).chars().count();
    let short_words = name.split(' ').filter(|word| letters(word) <= SHORT_WORD_LETTERS_MAX).count();
    let long_words = name.split(' ').count() - short_words;
    if long_words > NAME_LONG_WORDS_MAX || short_words > NAME_SHORT_WORDS_MAX {
        return Err(Refusal::of("the name has more than three long or three short words"));
    }
    Ok(name)
}

/// A last name. Reteno's rule: at most 40 characters; letters of any alphabet and up to three digits; apostrophes and
/// hyphens inside words only; one dot after a word of up to three letters; not digits and signs alone.
pub fn canonical_last_name(text: &str) -> Checked<'_> {
    let name = straight_apostrophes(single_line(text));
    if name.is_empty() {
        return Err(NOTHING_VISIBLE);
    }
    if length(&name) > NAME_LENGTH_MAX {
        return Err(Refusal::of("the name is longer than 40 characters"));
    }
    if name.chars().filter(|character| character.is_numeric()).count() > NAME_DIGITS_MAX {
        return Err(Refusal::of("the name has more than three digits"));
    }
    name.split(' ').try_for_each(check_word)?;
    if name.chars().any(is_letter) { Ok(name) } else { Err(Refusal::of("the name has no letters")) }
}

/// The typographic apostrophes are missing from Reteno's list; the plain one says the same.
fn straight_apostrophes(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.contains(['\u{2018}', '\u{2019}']) { Cow::Owned(name.replace(['\u{2018}', '\u{2019}'], "'")) } else { name }
}

/// Unicode counts some apostrophes (U+02BC and kin) as letters, since alphabets have them; Reteno does not.
fn is_letter(character: char) -> bool {
    character.is_alphabetic() && !is_apostrophe(character)
}

fn check_word(word: &str) -> Result<(), Refusal> {
    let (word, dotted) = match word.strip_suffix('.') {
        Some(word) => (word, true),
        None => (word, false),
    };
    let mut length = 0;
    let mut joint = true; // the start of a word counts as one: no apostrophe or hyphen may stand there
    for character in word.chars() {
        length += 1;
        if is_letter(character) || character.is_numeric() || is_mark(character) {
            joint = false;
        } else if character != '-' && !is_apostrophe(character) {
            return Err(Refusal::of(if character == '.' {
                "the name has a dot elsewhere than after a short word"
            } else {
                "the name holds a sign that names may not hold"
            }));
        } else if joint {
            return Err(Refusal::of("the name has an apostrophe or hyphen outside of a word"));
        } else {
            joint = true;
        }
    }
    match (dotted, joint) {
        (true, true) if length == 0 => Err(Refusal::of("the name has a dot elsewhere than after a short word")),
        (_, true) => Err(Refusal::of("the name has an apostrophe or hyphen outside of a word")),
        (true, false) if length > SHORT_WORD_LETTERS_MAX => {
            Err(Refusal::of("the name has a dot elsewhere than after a short word"))
        }
        (true | false, false) => Ok(()),
    }
}

/// The apostrophes of Reteno's list.
fn is_apostrophe(character: char) -> bool {
    matches!(
        character,
        '\'' | '`' | '\u{b4}' | '\u{2b9}' | '\u{2bb}'
            ..='\u{2bf}'
                | '\u{2c8}'
                | '\u{2ca}'
                | '\u{2ee}'
                | '\u{384}'
                | '\u{55a}'
                | '\u{1fbd}'
                | '\u{1fbf}'
                | '\u{201b}'
                | '\u{2032}'
                | '\u{2035}'
                | '\u{a78b}'
                | '\u{a78c}'
                | '\u{ff07}'
    )
}

/// Signs that belong to the letter before them and that `is_alphabetic` leaves out: accents without a composed form,
/// Hebrew and Arabic vowel points, the vowel killers and tone signs of southern Asia, and joiners between them.
fn is_mark(character: char) -> bool {
    matches!(
        character,
        '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5bd}' | '\u{64b}'..='\u{65f}' | '\u{93c}' | '\u{94d}' | '\u{9bc}'
            | '\u{9cd}' | '\u{a4d}' | '\u{acd}' | '\u{b4d}' | '\u{bcd}' | '\u{c4d}' | '\u{ccd}' | '\u{d4d}'
            | '\u{dca}' | '\u{e3a}' | '\u{e47}'..='\u{e4e}' | '\u{1039}' | '\u{103a}' | '\u{200c}' | '\u{200d}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_reteno_takes() {
        let forty = "Абвгґдеєжз Абвгґдеєжз Абвгґдеєжз Абв Вгґ";
        let rows = [
            ("Олена", "Олена"),
            // spaces and invisible characters
            ("  Anna \u{a0} Maria ", "Anna Maria"),
            // an apostrophe inside a word, plain and typographic
            ("Д'яченко", "Д'яченко"),
            ("Д\u{2019}яченко", "Д'яченко"),
            ("O\u{2bc}Brien", "O\u{2bc}Brien"),
            ("Мар\u{2bc}яна", "Мар\u{2bc}яна"),
            // hyphens inside words
            ("Нечуй-Левицький", "Нечуй-Левицький"),
            // a dot after a word of up to three letters
            ("Smith Jr.", "Smith Jr."),
            ("J. R. Tolkien", "J. R. Tolkien"),
            // up to three digits
            ("John 123", "John 123"),
            // three long and three short words
            ("Maria Anna Sofia de la O", "Maria Anna Sofia de la O"),
            // decomposed letters are composed before they are counted
            ("И\u{306}осип", "Йосип"),
            // letters of any alphabet, with their marks
            ("अर्जुन", "अर्जुन"),
            ("محمّد", "محمّد"),
            ("王小明", "王小明"),
            // exactly 40
            (forty, forty),
        ];
        for (given, wanted) in rows {
            assert_eq!(canonical_first_name(given).as_deref(), Ok(wanted));
            assert_eq!(canonical_last_name(given).as_deref(), Ok(wanted));
        }
    }

    #[test]
    fn names_that_reteno_refuses() {
        let outside = "the name has an apostrophe or hyphen outside of a word";
        let dot = "the name has a dot elsewhere than after a short word";
        let sign = "the name holds a sign that names may not hold";
        let rows = [
            // 41 characters
            ("Абвгґдеєжзиіїйклмнопрстуфхцчшщьюяабвгґдеє", "the name is longer than 40 characters"),
            ("John 1234", "the name has more than three digits"),
            // digits or signs alone
            ("123", "the name has no letters"),
            ("1-2", "the name has no letters"),
            // apostrophes and hyphens at an edge, alone or doubled
            ("-Anna", outside),
            ("Anna-", outside),
            ("'Anna'", outside),
            ("Anna - Maria", outside),
            ("Anna--Maria", outside),
            // an apostrophe is no letter, also where Unicode has it as one
            ("\u{2bc}Анна", outside),
            ("Анна\u{2bb}", outside),
            ("O\u{2bc}-Brien", outside),
            ("1\u{2bc}1", "the name has no letters"),
            // dots
            ("Anna.", dot),
            ("Jr..", dot),
            ("A.B", dot),
            (".", dot),
            ("A-.", outside),
            // other signs
            ("Anna (VIP)", sign),
            ("Smith, John", sign),
            ("Anna_Maria", sign),
            ("a@example.com", sign),
            ("Anna 😀", sign),
            // nothing that can be seen
            ("\u{200b}", "holds no visible character"),
        ];
        for (given, wanted) in rows {
            assert_eq!(canonical_first_name(given), Err(Refusal::of(wanted)), "{given}");
            assert_eq!(canonical_last_name(given), Err(Refusal::of(wanted)), "{given}");
        }
    }

    #[test]
    fn only_first_names_have_few_words() {
        for name in ["Anna Maria Sofia Vira", "A B C D"] {
            let words = Err(Refusal::of("the name has more than three long or three short words"));
            assert_eq!(canonical_first_name(name), words, "{name}");
            assert_eq!(canonical_last_name(name).as_deref(), Ok(name));
        }
    }

    #[test]
    fn languages() {
        let rows = [
            ("uk", Some("uk")),
            ("UK", Some("uk")),
            ("en-us", Some("en-US")),
            ("en_US", Some("en-US")),
            ("zh-hant-tw", Some("zh-Hant-TW")),
            ("ast", Some("ast")),
            ("zu", Some("zu")),
            ("aa", Some("aa")),
            // countries
            ("ua", None),
            ("UA", None),
            ("ua-UA", None),
            ("cz", None),
            ("us", None),
            // well-formed words that are no code
            ("english", None),
            ("Ukrainian", None),
            ("x-private", None),
            ("i-klingon", None),
            ("1", None),
        ];
        for (given, wanted) in rows {
            assert_eq!(canonical_language(given).ok().as_deref(), wanted, "{given}");
        }
        assert!(LANGUAGES.is_sorted() && canonical_language("ua").unwrap_err().text().contains("uk"));
    }

    #[test]
    fn time_zones() {
        let rows = [
            ("Europe/Kyiv", Some("Europe/Kyiv")),
            ("europe/kyiv", Some("Europe/Kyiv")),
            // an older name of the same zone stays
            ("Europe/Kiev", Some("Europe/Kiev")),
            ("utc", Some("UTC")),
            // offsets and Windows names are no tz names
            ("+03:00", None),
            ("FLE Standard Time", None),
        ];
        for (given, wanted) in rows {
            assert_eq!(canonical_time_zone(given).ok().as_deref(), wanted, "{given}");
        }
    }

    #[test]
    fn lines_and_ids() {
        assert_eq!(canonical_line("Khreshchatyk 1,\napt.  2", 30).as_deref(), Ok("Khreshchatyk 1, apt. 2"));
        assert_eq!(canonical_line("їїїї", 4).as_deref(), Ok("їїїї"));
        assert_eq!(canonical_line("їїїїї", 4), Err(Refusal::of("the text is too long for the field")));
        assert_eq!(canonical_id(" TV-12 790 ").as_deref(), Ok("TV-12 790"));
        assert_eq!(canonical_id("TV\t12"), Err(Refusal::of("the id holds a control character")));
        assert_eq!(canonical_id(" "), Err(Refusal::of("the id is empty")));
        for damaged in ["3.80501E+11", " #N/A ", "=B2"] {
            assert!(canonical_id(damaged).is_err(), "{damaged}");
            assert!(canonical_line(damaged, 30).is_err(), "{damaged}");
        }
        assert!(canonical_id("17.0").is_err());
        assert_eq!(canonical_line("17.0", 30).as_deref(), Ok("17.0"));
        assert!(canonical_id(&"7".repeat(255)).is_ok());
        assert!(canonical_id(&"7".repeat(256)).is_err());
    }
}
