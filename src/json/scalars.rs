//! Numbers and texts of JSON: what can be kept exactly, and what cannot. Pure.

use serde_json::{Number, Value};

use super::Letters;
use crate::contact::unreadable_value;

/// A fraction of up to so many digits is what a float was written as: the float is kept, since conditions compare numbers.
const FLOAT_DIGITS_MAX: usize = 17;
/// From here on a float does not hold each whole number.
const FLOAT_WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
pub(super) const NO_NUMBER: &str = "it is no number (NaN or infinite)";
const HALF_LETTER: &str = "it holds half a letter (one of a pair of surrogates)";
pub(super) const NO_LETTERS: &str = "it holds bytes that are not UTF-8";

/// A number; what a float or a whole number of 64 bits cannot hold is text, so that it stays exact.
pub(super) fn number(word: &str) -> Option<Value> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let (whole, rest) = digits.split_at(digits.bytes().take_while(u8::is_ascii_digit).count());
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    if rest.is_empty() {
        let number = word.parse::<i64>().map(Number::from).or_else(|_| word.parse::<u64>().map(Number::from));
        return Some(number.map_or_else(|_| Value::String(word.to_owned()), Value::Number));
    }
    let (fraction, power) = match rest.split_once(['e', 'E']) {
        Some((fraction, power)) => (fraction, Some(power.strip_prefix(['+', '-']).unwrap_or(power))),
        None => (rest, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let decimals = fraction.strip_prefix('.');
    if decimals.map_or(!fraction.is_empty(), |decimals| !is_digits(decimals))
        || power.is_some_and(|power| !is_digits(power))
    {
        return None;
    }
    let Some(number) = word.parse::<f64>().ok().filter(|number| number.is_finite()) else {
        return Some(unreadable_value(NO_NUMBER));
    };
    let written = [whole, decimals.unwrap_or_default()].concat();
    let is_held = written.trim_matches('0').len() <= FLOAT_DIGITS_MAX;
    let kept =
        if is_held && (power.is_some() || number.abs() < FLOAT_WHOLE_MAX) { Number::from_f64(number) } else { None };
    Some(kept.map_or_else(|| Value::String(word.to_owned()), Value::Number))
}

/// The text of what stands between quotes; the error is of an invalid escape.
pub(super) fn unescape(raw: &[u8]) -> Result<Letters, &'static str> {
    const NO_ESCAPE: &str = "an invalid escape";
    let (mut out, mut at, mut fault) = (Vec::with_capacity(raw.len()), 0, None);
    while let Some(byte) = raw.get(at) {
        at += 1;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let escape = raw.get(at).ok_or(NO_ESCAPE)?;
        at += 1;
        let letter = match escape {
            b'"' | b'\\' | b'/' => char::from(*escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = unit(raw, at).ok_or(NO_ESCAPE)?;
                at += 4;
                let second = if raw[at..].starts_with(b"\\u") { unit(raw, at + 2) } else { None };
                let pair = [first, second.unwrap_or_default()];
                if let Some(Ok(letter)) = char::decode_utf16(pair).next() {
                    at += if letter.len_utf16() == 2 { 6 } else { 0 };
                    letter
                } else {
                    fault = Some(HALF_LETTER);
                    char::REPLACEMENT_CHARACTER
                }
            }
            _ => return Err(NO_ESCAPE),
        };
        out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(match fault {
        Some(fault) => Err(fault),
        None => String::from_utf8(out).map_err(|_| NO_LETTERS),
    })
}

/// Four hexadecimal digits.
fn unit(raw: &[u8], at: usize) -> Option<u16> {
    let digits = raw.get(at..at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}
