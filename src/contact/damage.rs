//! What spreadsheets and data frames leave of a value that they could not hold: shortened numbers, error words,
//! formulas. The value itself is lost, so none of these is ever an id or a number.

use super::refusal::Refusal;

const SHORTENED: Refusal =
    Refusal::of("a spreadsheet has shortened the number (as in 3.8E+11): its digits are lost; export it as text");
const ERROR_WORD: Refusal = Refusal::of("holds a spreadsheet's error (such as #N/A or #REF!), not a value");
const FORMULA: Refusal = Refusal::of("holds a formula (it begins with =), not a value; export it as text");
const WITH_FRACTION: Refusal = Refusal::of(
    "ends in .0, as spreadsheets and data frames write a number: the CRM's own id has none; export it as text",
);

/// The sign of damage that a text bears; `None` for one that bears none.
pub(super) fn damage_of(text: &str) -> Option<Refusal> {
    if text.starts_with('=') {
        Some(FORMULA)
    } else if is_error_word(text) {
        Some(ERROR_WORD)
    } else if is_shortened(text) {
        Some(SHORTENED)
    } else {
        None
    }
}

/// As [`damage_of`], for an id: a whole number with a fraction of zero stands beside the same number without it, and
/// would make a second contact.
pub(super) fn damage_of_id(text: &str) -> Option<Refusal> {
    let is_float = text.strip_suffix(".0").is_some_and(|whole| is_digits(whole.strip_prefix('-').unwrap_or(whole)));
    damage_of(text).or(is_float.then_some(WITH_FRACTION))
}

/// `3.80501E+11`, `3,8e11`, `38E+10`. Up to three digits before the point (engineering notation has three), and a
/// fraction or a plus: without either it may be an id (`12E4`), and so may a long run of digits with one e (a hash).
fn is_shortened(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return false };
    let (whole, fraction) = match mantissa.split_once(['.', ',']) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    is_digits(whole)
        && whole.len() <= 3
        && fraction.is_none_or(is_digits)
        && is_digits(unsigned)
        && unsigned.len() <= 3
        && (fraction.is_some() || exponent.starts_with('+'))
}

/// `#N/A`, `#REF!`, `#DIV/0!`, `#NAME?` in every language (`#Н/Д`, `#NV`, `#ССЫЛКА!`), `Err:502` of `LibreOffice`, and
/// the row of hashes of a column that is too narrow.
fn is_error_word(text: &str) -> bool {
    if text.strip_prefix("Err:").is_some_and(is_digits) {
        return true;
    }
    let Some(rest) = text.strip_prefix('#') else { return false };
    if !rest.is_empty() && rest.chars().all(|character| character == '#') {
        return true;
    }
    let is_word = |word: &str| {
        word.chars().any(char::is_alphabetic) && word.chars().all(|c| c.is_uppercase() || matches!(c, '/' | '0' | '_'))
    };
    match rest.strip_suffix(['!', '?']) {
        Some(word) => is_word(word),
        None => is_word(rest) && (rest.contains('/') || matches!(rest, "NV" | "GETTING_DATA")),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_seen() {
        // Excel, with either decimal point; pandas; Java and MySQL without a plus; engineering notation
        let shortened = "3.80501E+11 3,8E+11 3.80501e+11 3.80501E11 38E+10 380.5E+9 -3.8E+11 1E+05 3.8E-05".split(' ');
        // in the languages of the trade, and a column that was too narrow
        let errors = "#N/A #REF! #VALUE! #NAME? #DIV/0! #NULL! #NUM! #GETTING_DATA #SPILL! #Н/Д #ССЫЛКА! #ИМЯ? #ДЕЛ/0! \
                      #NV #BEZUG! #N/D! Err:502 ## ########";
        // also the one that keeps leading zeros
        let formulas = "=A1 =\"00123\" =1+1 =".split(' ');
        for text in shortened.chain(errors.split_whitespace()).chain(formulas) {
            assert!(damage_of(text).is_some() && damage_of_id(text).is_some(), "{text}");
        }
        for text in ["380501122330.0", "7.0", "-7.0"] {
            assert_eq!((damage_of(text), damage_of_id(text)), (None, Some(WITH_FRACTION)), "{text}");
        }
    }

    #[test]
    fn ids_are_left_alone() {
        let sound = "380501122330 7 -7 TV-12790 #17 # #A-1 #VIP #A 12E4 1E5 65e12345678901234567890a 123456e789012 \
                     1234E+11 E+11 3.E+11 3.8E+ 3.8E+1111 a=b Err: Error 3.8 1.01 a.0 .0 1.0.0";
        for text in sound.split_whitespace() {
            assert_eq!((damage_of(text), damage_of_id(text)), (None, None), "{text}");
        }
    }
}
